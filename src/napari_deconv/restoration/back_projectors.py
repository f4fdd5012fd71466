"""Filters that correct an estimate without blurring the misfit once more; see `unmatched`.

Both undo the blur as Wiener's filter does, up to where the PSF passes anything. That of Wiener and
Butterworth knows the resolution along each axis (Guo et al. 2020, doi 10.1038/s41587-020-0560-x).
The masked one finds the frequencies that are passed in the transfer function itself, which are no
ellipsoid where a sheet or an interference shapes them (OMW; Ruan et al. 2024, doi
10.1038/s41592-024-02475-4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from .blur import transfer_function
from .pieces import Float, cut
from .reach import core_widths
from .transforms import Complex

Double = npt.NDArray[np.float64]

#: Of Wiener's filter: the power of the noise over that of the object.
NOISE = 0.1
#: Of Butterworth's: what is left at the resolution, and how suddenly it falls off.
AT_CUTOFF, ORDER = 0.1, 10
#: Squares of the cutoff beyond which nothing is left, and powers would be too large for a float32.
FAR = 1e3
#: Of the mask: it holds that part of the transfer function's sum, with the frequencies between; and
#: from that part of the way to its rim on it falls off, as Hann's window does.
HELD, FALLS_FROM, ROUNDING = 0.9, 0.8, 1e-4
#: Directions in which the rim of the mask is looked for, beside the axes: in a volume, in a plane.
DIRECTIONS = {3: 60, 2: 16}
#: Voxels of a spectrum that are worked on together, and those that are held against all faces.
BLOCK, TOGETHER = 1 << 18, 1 << 14


def wiener_butterworth(psf: Float, shape: tuple[int, ...]) -> Complex:
    """Return the transfer function on the grid of `shape` whose conjugate is the filter's.

    Parameters
    ----------
    psf : ndarray of float32
        Centre n//2, of unit sum.
    shape : tuple of int
    """
    transfer = transfer_function(psf, shape)
    # Frequencies in parts of the cutoff, the inverse of the width at half maximum.
    first, *others = (
        (step * width) ** 2 for step, width in zip(_steps(shape), core_widths(psf), strict=True)
    )
    within = np.asarray(sum(np.ix_(*others)), np.float32)
    for planes in cut(shape[0], max(1, BLOCK // within.size)):
        beyond = within + first[planes].reshape(-1, *[1] * within.ndim).astype(np.float32)
        fall_off = np.sqrt(1 + (1 / AT_CUTOFF**2 - 1) * np.minimum(beyond, FAR) ** ORDER)
        _undo(transfer[planes], 1 / fall_off)
    return transfer


def masked_wiener(psf: Float, shape: tuple[int, ...]) -> Complex:
    """Return the same of the filter that is masked; see `wiener_butterworth`."""
    transfer = transfer_function(psf, shape)
    extents, faces = rim_of(psf)
    first, *others = _steps(shape)
    # Beyond the box around the mask there is nothing.
    within = [np.abs(step) < most for step, most in zip(others, extents[1:], strict=True)]
    inside = np.ix_(*map(np.flatnonzero, within))
    near = [step[part] for step, part in zip(others, within, strict=True)]
    sides = [len(steps) for steps in near]
    points = np.stack([axis.ravel() for axis in np.meshgrid(*near, indexing="ij")])
    points = points.astype(np.float32)
    along, across = faces[:, :1].astype(np.float32), faces[:, 1:].astype(np.float32)
    for number, height in enumerate(first):
        plane = transfer[number]
        window = np.zeros(plane.shape, np.float32)
        if abs(height) < extents[0]:
            kept = np.empty(points.shape[1], np.float32)
            for part in cut(len(kept), TOGETHER):
                far = across @ points[:, part] + along * np.float32(height)
                kept[part] = hann(np.abs(far).max(0))
            window[inside] = kept.reshape(sides)
        _undo(plane, window)
    return transfer


def rim_of(psf: Float) -> tuple[Double, Double]:
    """Return how far the mask of a PSF reaches, and its rim.

    Returns
    -------
    extents : ndarray, (D,)
        In cycles a voxel, along each axis.
    faces : ndarray, (F, D)
        A frequency k lies inside where ``abs(faces @ k) < 1``.
    """
    strength = np.abs(np.fft.fftshift(np.fft.fftn(psf.astype(np.float64))))
    # Opposite frequencies are as strong but for rounding.
    held = _connected(strength >= (1 - ROUNDING) * _least_of(strength, HELD))
    sides = np.array(strength.shape)
    points = (np.argwhere(held) - sides // 2) / sides
    # A frequency stands for those around it, half of the way to the next.
    around = 0.5 / sides
    # Half a cycle a voxel has no sign, by which a face would tell one side from the other.
    extents = np.minimum(np.abs(points).max(0) + around, 0.5)
    # Directions are spread evenly where the mask is about as wide in all of them.
    wide = np.linalg.cholesky(points.T @ points / len(points) + np.diag(around**2))
    ways = directions(len(sides)) @ np.linalg.inv(wide)
    reach = np.abs(points @ ways.T).max(0) + np.abs(ways) @ around
    return extents, np.concatenate([np.diag(1 / extents), ways / reach[:, None]])


@cache
def directions(axes: int) -> Double:
    """Return unit vectors that are spread evenly, opposite ones once."""
    count = DIRECTIONS[axes]
    number = np.arange(count) + 0.5
    if axes == 2:
        angle = math.pi * number / count
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    # On a spiral over half of the sphere, by the golden angle.
    height, turn = number / count, math.pi * (3 - math.sqrt(5)) * number
    ring = np.sqrt(1 - height**2)
    return np.stack([height, ring * np.cos(turn), ring * np.sin(turn)], 1)


def hann(far: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the window at parts of the way to the rim."""
    fall = np.clip((far - FALLS_FROM) / (1 - FALLS_FROM), 0, 1)
    window: npt.NDArray[np.floating] = 0.5 + 0.5 * np.cos(math.pi * fall)
    return window


def _least_of(strength: Double, part: float) -> float:
    """Return the least of the strongest values that make up a part of the sum."""
    ordered = np.sort(strength.ravel())[::-1]
    sums = np.cumsum(ordered)
    return float(ordered[min(int(np.searchsorted(sums, part * sums[-1])), len(ordered) - 1)])


def _connected(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return what of a mask hangs together with its centre: noise lies scattered."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    found: npt.NDArray[np.bool_] = labels == labels[tuple(n // 2 for n in mask.shape)]
    return found


def _steps(shape: tuple[int, ...]) -> list[npt.NDArray[np.floating]]:
    """Return the frequencies of a half spectrum along each axis, in cycles a voxel."""
    return [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]


def _undo(transfer: Complex, window: npt.NDArray[np.floating]) -> None:
    """Turn a transfer function into that of the filter, in its place."""
    power = transfer.real**2 + transfer.imag**2
    transfer *= (1 + NOISE) / (power + NOISE) * window


#: Each back projector that is not the adjoint.
BACK_PROJECTORS: dict[str, Callable[[Float, tuple[int, ...]], Complex]] = {
    "wiener-butterworth": wiener_butterworth,
    "otf-masked-wiener": masked_wiener,
}
