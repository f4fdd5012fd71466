"""A PSF from the image of one point: a bead, or the file of another program.

`psf_from_image` removes the background, centres, resamples to the voxels of the data, and crops
to the energy. What it did, and what looked odd, is said in `Psf.notes`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import interpolate, ndimage

from .grid import Grid
from .psf import ENERGY_KEPT, Psf, with_light
from .value import InputError, require, require_number

NO_POINT = "The PSF image shows no point above its background; check the image and its background"


def psf_from_image(
    image: npt.ArrayLike,
    spacing_um: tuple[float, ...] | None,
    grid: Grid | None,
    *,
    background: float | Literal["auto"] = "auto",
    energy: float = ENERGY_KEPT,
) -> Psf:
    """Make a PSF on the voxels of `grid` from the image of one point.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        The measured (or elsewhere computed) point spread function; need not be centred.
    spacing_um : tuple of float or None
        Voxel size of `image`; None when unknown, then taken to be that of `grid`.
    grid : Grid or None
        Voxel size of the data; None keeps the voxels of `image`.
    background : float or "auto"
        Counts to subtract; "auto" takes the mean of the dark voxels around the point, and
        nothing when the image is already scaled (sum or maximum of 1), as computed PSFs are.
    energy : float
        Part of the light to keep when cropping.

    Returns
    -------
    Psf
        float32, unit sum, centre at n//2, with notes on what was done.

    Raises
    ------
    InputError
        If the image holds no usable point.

    Notes
    -----
    In z the PSF is sampled at the new planes, as a stack samples the focus; in y and x the
    samples are averaged over the new pixel where that is at least 1.5 times as large, as a
    camera pixel does.
    """
    array = with_light(np.squeeze(np.asarray(image))).astype(np.float64)
    steps = _source_steps(spacing_um, grid, array.ndim)
    notes = _saturation(np.asarray(image))
    if spacing_um is None and grid is not None:
        notes.append(f"PSF: voxel size unknown, taken to be the data's, {grid.describe()}")
    signal, level = without_background(array, background)
    if level:
        notes.append(f"PSF: background of {level:.4g} counts removed")
    centre = core_centroid(signal)
    offset = [c - n // 2 for c, n in zip(centre, signal.shape, strict=True)]
    if max(map(abs, offset)) > 0.05:
        moved = ", ".join(f"{value:+.2f}" for value in offset)
        notes.append(f"PSF: was off its centre by ({moved}) voxels, centred")
    target = _target_steps(steps, grid, array.ndim)
    notes += _contradictions(steps, target)
    notes += [*_cut_off(signal, centre), *_crowd(signal)]
    psf = Psf(_resampled(signal, centre, steps, target), target if spacing_um or grid else None)
    psf = psf.cropped(energy)
    if psf.samples.size == 1 < np.count_nonzero(signal):
        data, own = (Grid(spacing_um=sides).describe() for sides in (target, steps))
        raise InputError(
            f"On the voxels of the image, {data}, the PSF is a single voxel, as its own are {own}: "
            "nothing would be restored. Check both voxel sizes and their units"
        )
    return psf.with_notes(*notes)


def without_background(
    array: npt.NDArray[np.float64], background: float | Literal["auto"]
) -> tuple[npt.NDArray[np.float64], float]:
    """Return the point alone and the level removed.

    Noise around zero must not be rectified into a pedestal of light, so only voxels joined
    to the peak where the smoothed signal stands above the noise around it are kept.
    """
    if background != "auto":
        require_number("The PSF's background", background)
        level = float(background)
    elif abs(array.sum() - 1) < 0.01 or array.max() == 1:
        level = 0.0
    else:
        level = float(np.median(array))
    around = np.ones(array.shape, bool)
    # The second pass knows the point, and takes level and noise from what lies around it.
    for _ in range(2):
        measured, noise = dark_level(array[around])
        if background == "auto" and level:
            level = measured
        point = _point(array - level, noise if level else 0.0)
        around = ~point
        if not around.any():
            break
    signal = np.where(point, np.maximum(array - level, 0), 0)
    require(bool(signal.any()), NO_POINT)
    return signal, level


def dark_level(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation of the dark values: all but outliers beyond 3 sigma.

    The median alone would not do: where counts are few it is a whole number, and the median
    deviation from it often zero.
    """
    centre = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - centre)))
    if not spread:
        spread = float(values[values <= np.percentile(values, 95)].std())
    for _ in range(3):
        near = values[np.abs(values - centre) <= 3 * spread]
        if not near.size:
            break
        centre, spread = float(near.mean()), float(near.std())
    return centre, spread


def _point(signal: npt.NDArray[np.float64], noise: float) -> npt.NDArray[np.bool_]:
    """Return the voxels joined to the peak that stand above the noise; all without noise."""
    if not noise:
        return np.ones(signal.shape, bool)
    smooth = ndimage.gaussian_filter(signal, 1.0)
    # A Gaussian of one voxel leaves 1/(2 sqrt(pi)) of white noise's variance on each axis.
    floor = 4 * noise * (2 * np.sqrt(np.pi)) ** (-signal.ndim / 2)
    labels, _ = ndimage.label(smooth > floor)
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    require(smooth[peak] > 3 * floor, NO_POINT)
    found: npt.NDArray[np.bool_] = labels == labels[peak]
    return found


def core_centroid(signal: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return the centroid of the core: voxels above half the maximum around the peak."""
    smooth = ndimage.gaussian_filter(signal, 0.7)
    labels, _ = ndimage.label(smooth > 0.5 * smooth.max())
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    core = np.where(labels == labels[peak], smooth - 0.5 * smooth.max(), 0)
    return tuple(float(c) for c in ndimage.center_of_mass(core))


def _saturation(image: npt.NDArray[Any]) -> list[str]:
    """Return a note where more voxels share the highest count than a symmetric peak has."""
    shared = int(np.count_nonzero(image == image.max())) if image.dtype.kind in "ui" else 0
    if shared <= 2**image.ndim:
        return []
    return [
        f"PSF: {shared} voxels share the highest value, {image.max()}; it looks saturated, "
        "and so wider than it is. Take it with less light"
    ]


def _cut_off(signal: npt.NDArray[np.float64], centre: tuple[float, ...]) -> list[str]:
    """Return a note where the largest box around the centre leaves light out."""
    box = tuple(
        slice(max(math.ceil(2 * c - n + 1 - 1e-6), 0), math.floor(2 * c + 1e-6) + 1)
        for c, n in zip(centre, signal.shape, strict=True)
    )
    lost = 1 - float(signal[box].sum() / signal.sum())
    if lost < 0.01:
        return []
    return [
        f"PSF: it lies so near the border of its image that {100 * lost:.2g} % of its light "
        "was cut off to centre it. Take a larger image around it"
    ]


def _source_steps(
    spacing_um: tuple[float, ...] | None, grid: Grid | None, ndim: int
) -> tuple[float, ...]:
    """Return the voxel size of a PSF's image: its own, else the data's, else ones."""
    known = Grid(spacing_um=spacing_um) if spacing_um is not None else grid
    if known is None:
        return (1.0,) * ndim
    require(
        spacing_um is None or known.ndim >= ndim,
        f"The PSF image has {ndim} dimensions, its voxel size {known.ndim}",
    )
    return ((1.0,) * ndim + known.spacing_um)[-ndim:]


def _target_steps(steps: tuple[float, ...], grid: Grid | None, ndim: int) -> tuple[float, ...]:
    if grid is None:
        return steps
    if grid.ndim >= ndim:
        return grid.spacing_um[-ndim:]
    return (steps[0], *grid.spacing_um)


def _contradictions(steps: tuple[float, ...], target: tuple[float, ...]) -> list[str]:
    notes = []
    for axis, source, wanted in zip("zyx"[-len(steps) :], steps, target, strict=True):
        if source > 1.05 * wanted:
            notes.append(
                f"PSF: its voxels in {axis} ({source:.4g} um) are coarser than the data's "
                f"({wanted:.4g} um); it was interpolated and cannot sharpen below its own voxels"
            )
        elif abs(source - wanted) > 1e-3 * wanted:
            notes.append(f"PSF: resampled in {axis} from {source:.4g} to {wanted:.4g} um")
    return notes


def _resampled(
    signal: npt.NDArray[np.float64],
    centre: tuple[float, ...],
    steps: tuple[float, ...],
    target: tuple[float, ...],
) -> npt.NDArray[np.float64]:
    """Return `signal` on the target voxels, odd in size, its `centre` in the middle."""
    result = signal
    for axis, (middle, step, wanted) in enumerate(zip(centre, steps, target, strict=True)):
        n, ratio = result.shape[axis], wanted / step
        if n == 1:
            continue
        # The largest centred odd box that the image fills; beyond it nothing was measured.
        half = max(int(np.floor(min(middle, n - 1 - middle) / ratio + 1e-6)), 0)
        where = middle + np.arange(-half, half + 1) * ratio
        if np.allclose(where, np.rint(where), atol=1e-3) and abs(ratio - 1) < 1e-3:
            result = np.take(result, np.rint(where).astype(int), axis)
            continue
        lateral = axis >= signal.ndim - 2
        parts = max(round(ratio), 1) if lateral else 1
        inside = (np.arange(parts) + 0.5) / parts - 0.5
        spline = interpolate.make_interp_spline(np.arange(n), result, k=min(3, n - 1), axis=axis)
        fine = np.clip(where[:, None] + inside * ratio, 0, n - 1).ravel()
        sampled = np.moveaxis(spline(fine), axis, -1)
        averaged = sampled.reshape(*sampled.shape[:-1], len(where), parts).mean(-1)
        result = np.moveaxis(averaged, -1, axis)
    return np.maximum(result, 0)


def _crowd(signal: npt.NDArray[np.float64]) -> list[str]:
    """Return a note where there are several points about as bright as the brightest."""
    smooth = ndimage.gaussian_filter(signal, 1.0)
    _, count = ndimage.label(smooth > 0.5 * smooth.max())
    if count == 1:
        return []
    return [f"PSF: its image shows {count} bright points; crop it to one, or the result has ghosts"]
