"""An image of beads, made ready to be searched and cut.

`BeadImage.of` checks the image, mends its hot pixels, takes off the plane through its
background, and measures what the search needs: the noise, and the width that most beads have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .grid import Grid
from .optics import Optics
from .psf_image import dark_level
from .resolution import nyquist_um
from .value import InputError, require, require_number

Float = npt.NDArray[np.floating[Any]]
Slices = tuple[slice, ...]

#: Full width at half maximum of a Gaussian of unit sigma.
GAUSSIAN_FWHM = 2 * math.sqrt(2 * math.log(2))

#: Maxima below this many times the noise are noise: about one in three million voxels.
CANDIDATE_NOISE = 5.0

#: In widths (FWHM): half of the core, which the image must hold, and half of the box around a
#: bead where none is given, in z and in y, x.
CORE, REACH = 0.75, (5.0, 10.0, 10.0)

#: A maximum of less than this part of a bead's height harms it as little as a side lobe.
HARMLESS = 0.1


def shifted(block: Float, by: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return a block moved by parts of a voxel: exact for what is sampled well.

    The Fourier transform of the block continued by its mirror image has no jump at the
    borders, so that nothing comes around from the other side.
    """
    moved = np.asarray(block, np.float64)
    for axis, step in enumerate(by):
        n = moved.shape[axis]
        if n == 1 or step == 0:
            continue
        mirrored = np.concatenate([moved, np.flip(moved, axis)], axis)
        phase = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * n) * step)
        phase = phase.reshape([-1 if a == axis else 1 for a in range(moved.ndim)])
        back = np.fft.irfft(np.fft.rfft(mirrored, axis=axis) * phase, 2 * n, axis=axis)
        moved = np.take(back, np.arange(n), axis)
    return moved


@dataclass(frozen=True, eq=False)
class BeadImage:
    """An image of beads, made ready to be searched and cut.

    Parameters
    ----------
    raw : ndarray
        The image as given.
    data : ndarray, float32
        Without hot pixels, and without the plane through its background.
    grid : Grid
        Voxel size.
    mended : int
        Number of hot pixels.
    noise : float
        Standard deviation of the dark voxels.
    top : float
        The highest value, hot pixels apart.
    widths : tuple of float
        What most beads measure at half maximum, voxels.
    half : tuple of int
        Half of the box around a bead, voxels.
    """

    raw: npt.NDArray[Any]
    data: npt.NDArray[np.float32]
    grid: Grid
    mended: int
    noise: float
    top: float
    widths: tuple[float, ...]
    half: tuple[int, ...]

    @classmethod
    def of(
        cls,
        image: npt.ArrayLike,
        grid: Grid | None,
        *,
        box_um: float | tuple[float, ...] | None = None,
        optics: Optics | None = None,
    ) -> BeadImage:
        """Check and prepare an image; `InputError` where it cannot show beads."""
        raw = np.asarray(image)
        known = _require_image(raw, grid)
        data, mended = _without_hot_pixels(raw)
        top = float(data.max())
        data -= smooth_background(data, degree=1)
        noise = dark_level(sample(data))[1]
        widths = _typical_widths(data, noise, known, optics)
        # Beyond the length of the image a box holds nothing.
        half = tuple(
            min(h, n) for h, n in zip(_half_box(known, widths, box_um), raw.shape, strict=True)
        )
        return cls(raw, data, known, mended, noise, top, widths, half)

    def around(self, place: Sequence[float], half: Sequence[float]) -> Slices:
        """Return the part of the image within `half` voxels of the voxel at `place`."""
        return tuple(
            slice(max(round(p) - math.ceil(h), 0), min(round(p) + math.ceil(h) + 1, n))
            for p, h, n in zip(place, half, self.data.shape, strict=True)
        )

    def distance(self, one: Sequence[float], other: Sequence[float]) -> float:
        """Return the distance between two places in widths of a bead."""
        return math.hypot(*((a - b) / w for a, b, w in zip(one, other, self.widths, strict=True)))


def _require_image(raw: npt.NDArray[Any], grid: Grid | None) -> Grid:
    require(
        raw.dtype.kind in "buif" and raw.ndim in (2, 3) and raw.size > 0,
        f"Beads are measured on an image of two or three dimensions, not on {raw.dtype} of the "
        f"shape {raw.shape}; choose one channel and one time point",
    )
    if grid is None:
        raise InputError("The voxel size of the bead image is unknown; give it in um")
    require(
        grid.ndim == raw.ndim,
        f"A voxel size of {grid.ndim} numbers does not fit an image of {raw.ndim} dimensions",
    )
    require(
        raw.ndim == 2 or raw.shape[0] > 1,
        "The image is a single plane, so the PSF along z cannot be measured on it; take a "
        "z stack of the beads, or give the plane as (Y, X) for a two-dimensional PSF",
    )
    require(
        raw.dtype.kind != "f" or bool(np.isfinite(raw).all()),
        "The bead image holds NaN or infinite values; mend or crop it before use",
    )
    return grid


def _without_hot_pixels(raw: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], int]:
    """Return the image as float32 without single bright pixels, and how many there were.

    A pixel is hot where it exceeds the highest of its eight neighbours in the plane by three
    times what these differ among each other, and by 8 sigma. A bead of two pixels at half
    maximum, sampled just as Nyquist asks, exceeds them by twice that difference.
    """
    data = raw.astype(np.float32)
    if min(raw.shape[-2:]) < 3:
        return data, 0
    limit = 8 * dark_level(sample(data))[1]
    window = (1,) * (raw.ndim - 2) + (3, 3)
    suspects = np.argwhere(data - ndimage.uniform_filter(data, window) > limit / 2)
    # Neighbours beyond a border are those on the other side of the pixel.
    around = np.stack(
        [
            data[
                (
                    *suspects.T[:-2],
                    *(
                        np.where((s + d < 0) | (s + d >= n), s - d, s + d)
                        for s, d, n in zip(suspects.T[-2:], step, raw.shape[-2:], strict=True)
                    ),
                )
            ]
            for step in itertools.product((-1, 0, 1), repeat=2)
            if step != (0, 0)
        ]
    )
    value = data[tuple(suspects.T)]
    excess = value - around.max(axis=0, initial=0)
    hot = excess > np.maximum(3 * np.ptp(around, axis=0), limit)
    data[tuple(suspects[hot].T)] = np.median(around[:, hot], axis=0)
    return data, int(hot.sum())


def sample(data: Float) -> npt.NDArray[np.float64]:
    """Return up to about 200 000 voxels, spread over the image; noise needs no more."""
    flat = data.ravel()
    # A step that shares no factor with the usual row lengths, or whole columns would be missed.
    step = max(flat.size // 200_000, 1)
    return flat[:: step + (step > 1 and step % 2 == 0)].astype(np.float64)


def smooth_background(data: npt.NDArray[np.float32], degree: int) -> npt.NDArray[np.float32]:
    """Return the polynomial of `degree` through the dark voxels, in the shape of the image."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1) for n in data.shape]
    powers = [p for p in itertools.product(range(degree + 1), repeat=data.ndim) if sum(p) <= degree]
    step = max(round((data.size / 30_000) ** (1 / data.ndim)), 1)
    coarse = [axis[::step] for axis in axes]
    values = data[(slice(None, None, step),) * data.ndim].ravel().astype(np.float64)

    def term(places: Sequence[Float], power: tuple[int, ...]) -> Float:
        factors = np.ix_(*places)
        product: Float = math.prod(f**p for f, p in zip(factors, power, strict=True))  # type: ignore[assignment]
        return product

    shape = tuple(len(c) for c in coarse)
    terms = np.stack([np.broadcast_to(term(coarse, p), shape).ravel() for p in powers], axis=1)
    dark = np.ones(values.shape, bool)
    coefficients: Float = np.zeros(len(powers))
    for _ in range(8):
        # The normal equations are small, and singular where two planes cannot tell a parabola.
        normal = terms[dark].T @ terms[dark]
        coefficients = np.linalg.lstsq(normal, terms[dark].T @ values[dark], rcond=1e-9)[0]
        residual = values - terms @ coefficients
        level, spread = dark_level(residual)
        dark = np.abs(residual - level) <= 2.5 * spread
        if not spread or dark.sum() < 4 * len(powers):
            break
    surface = np.zeros(data.shape, np.float32)
    for c, p in zip(coefficients, powers, strict=True):
        surface += np.float32(c) * term(axes, p).astype(np.float32)
    return surface


def _typical_widths(
    data: npt.NDArray[np.float32], noise: float, grid: Grid, optics: Optics | None
) -> tuple[float, ...]:
    """Return the median width of the brightest spots in voxels; those near theory, if known."""
    gentle = (0.5, 1.0, 1.0)[-data.ndim :]
    smooth = ndimage.gaussian_filter(data - smooth_background(data, degree=2), gentle)
    spans = _spans_of_spots(smooth, CANDIDATE_NOISE * noise)
    if not len(spans):
        return (3.0,) * data.ndim
    if optics is not None:
        spans = _near_theory(spans, grid, optics)
    widths = []
    for column, sigma, n in zip(spans.T, gentle, data.shape, strict=True):
        known = column[np.isfinite(column)]
        width = float(np.median(known)) if known.size else float(n)
        widths.append(math.sqrt(max(width**2 - (GAUSSIAN_FWHM * sigma) ** 2, 1.0)))
    return tuple(widths)


def _spans_of_spots(smooth: Float, floor: float) -> Float:
    """Return the widths of the 30 brightest spots, (N, ndim); the halo of one is no other."""
    left = smooth.copy()
    spots: list[tuple[tuple[int, ...], float, tuple[float, ...]]] = []
    for _ in range(30):
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(left)), left.shape))
        height = float(left[place])
        if not height > max(floor, 0):
            break
        spans = _half_maximum_spans(smooth, place)
        if not any(
            height < HARMLESS * brighter
            and all(
                abs(a - b) < REACH[-1] * s
                for a, b, s in zip(place[-2:], other[-2:], wide[-2:], strict=True)
            )
            for other, brighter, wide in spots
        ):
            spots.append((place, height, spans))
        reach = [
            2 * s + 2 if math.isfinite(s) else n for s, n in zip(spans, left.shape, strict=True)
        ]
        window = [
            slice(max(int(p - r), 0), int(p + r) + 1) for p, r in zip(place, reach, strict=True)
        ]
        left[tuple(window)] = -np.inf
    return np.array([spans for *_, spans in spots])


def _near_theory(spans: Float, grid: Grid, optics: Optics) -> Float:
    """Return the rows of `spans` whose lateral widths are those of `optics`; all if none is."""
    # A widefield Airy disc measures 0.51 lambda/NA, 2.04 times Nyquist's pixel.
    lateral = 2.04 * nyquist_um(optics)[1] / np.array(grid.spacing_um[-2:])
    ratio = spans[:, -2:] / np.hypot(lateral, GAUSSIAN_FWHM)
    near = ((ratio > 0.7) & (ratio < 2)).all(axis=1)
    return spans[near] if near.any() else spans


def _half_maximum_spans(smooth: Float, place: Sequence[Any]) -> tuple[float, ...]:
    """Return the widths at half the value at `place` along each axis; nan where it never falls."""
    spans = []
    for axis in range(smooth.ndim):
        line = smooth[(*place[:axis], slice(None), *place[axis + 1 :])]
        centre, half = int(place[axis]), line[place[axis]] / 2
        sides = []
        for way in (line[centre::-1], line[centre:]):
            below = np.flatnonzero(way < half)
            if below.size:
                i = int(below[0])
                sides.append(i - 1 + float((way[i - 1] - half) / (way[i - 1] - way[i])))
        spans.append(2 * sum(sides) / len(sides) if sides else math.nan)
    return tuple(spans)


def _half_box(
    grid: Grid, widths: tuple[float, ...], box_um: float | tuple[float, ...] | None
) -> tuple[int, ...]:
    least = [max(math.ceil(2 * CORE * w), 2) for w in widths]
    if box_um is None:
        reach = REACH[-grid.ndim :]
        return tuple(max(math.ceil(r * w), n) for r, w, n in zip(reach, widths, least, strict=True))
    sizes = tuple(box_um) if isinstance(box_um, (tuple, list)) else (float(box_um),) * grid.ndim
    require(
        len(sizes) == grid.ndim,
        f"The box around a bead has {grid.ndim} sizes in um, one an axis, not {box_um!r}",
    )
    for size in sizes:
        require_number("The box around a bead in um", size, above=0)
    half = tuple(round(s / step / 2) for s, step in zip(sizes, grid.spacing_um, strict=True))
    for axis, h, width, step in zip(grid.axes.lower(), half, widths, grid.spacing_um, strict=True):
        require(
            h >= max(CORE * width, 1),
            f"A box of {2 * h * step:.3g} um in {axis} cuts the beads, which measure "
            f"{width * step:.3g} um there at half maximum; take a box of at least "
            f"{3 * width * step:.2g} um",
        )
    return half
