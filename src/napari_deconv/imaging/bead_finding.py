"""The beads in an image: where they are, and which of them can show the PSF.

`find_beads` needs no threshold: noise and background come from the dark voxels, the width of a
bead from the brightest of them (`BeadImage`). Each bead gets a fate and the reason for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .bead_image import (
    CANDIDATE_NOISE,
    CORE,
    GAUSSIAN_FWHM,
    HARMLESS,
    BeadImage,
    Slices,
    sample,
    shifted,
    smooth_background,
)
from .grid import Grid
from .noise import noise_sigma
from .optics import Optics
from .psf import Psf
from .psf_image import core_centroid, dark_level
from .resolution import fwhm_um
from .value import Value, require

FATES = ("used", "left out", "saturated", "clipped", "doubled", "dim")

#: Least signal to noise of the whole bead. White noise leaves the place of a Gaussian bead
#: uncertain by sqrt(2) sigma/SNR (Cramer-Rao), so at 10 it widens the mean by 1 %.
LEAST_SNR = 10.0

#: What is fainter is not even called a dim bead: noise on the halo of others reaches 7.
FAINTEST_SNR = 7.5

#: Beads looked at, brightest first; a stack with more is no stack of beads.
MOST_BEADS = 500

#: A neighbour within so many widths (FWHM) of a bead mixes with its core.
NEAR = 2.5

#: A bead this much wider than most is two beads, a clump, or out of focus; a maximum this much
#: narrower is noise or a hot pixel.
TOO_WIDE, TOO_NARROW = 1.4, 0.6


@dataclass(frozen=True)
class Bead(Value):
    """One bead of an image, and what becomes of it.

    Parameters
    ----------
    position : tuple of float
        Centre in voxels, (z, y, x) or (y, x).
    fate : str
        One of `FATES`; "used" for the beads that a PSF is made of.
    reason : str
        Why it is not used, as a sentence; empty for "used".
    peak, background : float
        Counts of its brightest voxel above the background, and the background there.
    snr : float
        Signal to noise of the whole bead: its fitted height over the uncertainty of that.
    fwhm_um : tuple of float or None
        Full widths at half maximum, (z, y, x) or (y, x); None where the image ends before.
    """

    position: tuple[float, ...]
    fate: str = "used"
    reason: str = ""
    peak: float = 0.0
    background: float = 0.0
    snr: float = 0.0
    fwhm_um: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        require(self.fate in FATES, f"The fate {self.fate!r} is not one of {', '.join(FATES)}")
        object.__setattr__(self, "position", tuple(float(p) for p in self.position))


def with_fate(beads: Sequence[Bead], index: int, fate: str) -> tuple[Bead, ...]:
    """Return `beads` with the fate of one changed by the user.

    Examples
    --------
    >>> beads = with_fate((Bead((3, 4)), Bead((9, 9))), 1, "left out")
    >>> [bead.fate for bead in beads], beads[1].reason
    (['used', 'left out'], 'Marked by hand')
    """
    require(
        0 <= index < len(beads), f"There is no bead {index}: the image shows {len(beads)} of them"
    )
    reason = "" if fate == "used" else "Marked by hand"
    changed = replace(beads[index], fate=fate, reason=reason)
    return (*beads[:index], changed, *beads[index + 1 :])


def find_beads(
    image: npt.ArrayLike,
    grid: Grid | None,
    *,
    box_um: float | tuple[float, ...] | None = None,
    optics: Optics | None = None,
) -> tuple[Bead, ...]:
    """Find the beads of an image and say which can be used to measure the PSF.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Counts.
    grid : Grid
        Voxel size of the image.
    box_um : float or tuple of float, optional
        Full size of the box around a bead; by default 10 x 20 x 20 of its widths.
    optics : Optics, optional
        Helps to tell a bead's width where most of the bright spots are none.

    Returns
    -------
    tuple of Bead
        Brightest first; empty where nothing stands above the noise.

    Raises
    ------
    InputError
        If the image has one plane only, holds NaN, or does not fit the grid.

    Notes
    -----
    Maxima above 5 sigma of the smoothed image are beads, but for noise and for the side lobes
    of brighter ones. "saturated": its top is flat at the highest value; "clipped": its core
    leaves the image; "doubled": another bead within 2.5 widths, or itself 1.4 times as wide as
    most; "dim": a signal to noise below 10.
    """
    return beads_in(BeadImage.of(image, grid, box_um=box_um, optics=optics))


def beads_in(image: BeadImage) -> tuple[Bead, ...]:
    """Return the beads of a prepared image with their fates, brightest first."""
    measured = ((measured_at(image, place), place) for place in _places(image))
    judged = [_judged(image, bead, place) for bead, place in measured if not _is_noise(image, bead)]
    return _apart(image, _of_usual_width(judged, image.grid))


def _places(image: BeadImage) -> list[tuple[int, ...]]:
    """Return the voxels of the maxima above the noise that are no side lobes of brighter ones."""
    flat = image.data - smooth_background(image.data, degree=2)
    # Narrower than the bead, so that two beads apart stay two.
    smooth = ndimage.gaussian_filter(
        flat, [0.6 * w / GAUSSIAN_FWHM for w in image.widths], mode="nearest"
    )
    # Plane by plane: a lamp that flickers makes no beads of one plane's noise.
    planes = smooth.reshape(-1, *smooth.shape[-2:])
    levels, noises = np.array([dark_level(sample(plane)) for plane in planes]).T
    smooth -= levels.astype(np.float32).reshape((*smooth.shape[:-2], 1, 1))
    noise = noises.astype(np.float32).reshape((*smooth.shape[:-2], 1, 1))
    # Without any noise, rounding must not pass for beads.
    floor = np.maximum(CANDIDATE_NOISE * noise, 1e-3 * smooth.max())
    window = [2 * math.ceil(0.5 * w) + 1 for w in image.widths]
    maxima = np.argwhere((smooth == ndimage.maximum_filter(smooth, window)) & (smooth > floor))
    heights = smooth[tuple(maxima.T)]
    kept: list[tuple[int, ...]] = []
    kept_heights: list[float] = []
    for i in np.argsort(-heights, kind="stable")[: 4 * MOST_BEADS]:
        place = tuple(int(p) for p in maxima[i])
        if len(kept) < MOST_BEADS and not any(
            _is_lobe(image, place, other, float(heights[i]) / height)
            for other, height in zip(kept, kept_heights, strict=True)
        ):
            kept.append(place)
            kept_heights.append(float(heights[i]))
    return kept


def _is_lobe(image: BeadImage, place: Sequence[int], other: Sequence[int], ratio: float) -> bool:
    """Return whether a maximum belongs to the PSF of a brighter one, `ratio` of its height.

    Rings and flares are below 1 % outside the box, below 2 % in it, and below 10 % near the
    core; on the axis, spherical aberration makes lobes of nearly half.
    """
    apart = [abs(a - b) for a, b in zip(place, other, strict=True)]
    if ratio < 0.02:
        boxes = 2 if ratio < 0.01 else 1
        return all(a <= boxes * h for a, h in zip(apart, image.half, strict=True))
    lateral = math.hypot(*(a / w for a, w in zip(apart[-2:], image.widths[-2:], strict=True)))
    on_axis = len(apart) == 3 and lateral < 1 and ratio < 0.5 and apart[0] <= image.half[0]
    return on_axis or (ratio < HARMLESS and image.distance(place, other) < 4)


def measured_at(image: BeadImage, place: tuple[int, ...]) -> Bead:
    """Return the bead at a voxel: its centre, height, background, noise and widths."""
    core = image.around(place, [max(CORE * w, 1) for w in image.widths])
    light = np.maximum(image.data[core], 0).astype(np.float64)
    centre = [float(p) for p in place]
    if light.any():
        centre = [c.start + i for c, i in zip(core, core_centroid(light), strict=True)]
    box = image.around(place, [max(2.5 * w, 3) for w in image.widths])
    level, local_noise = dark_level(image.data[box].ravel().astype(np.float64))
    block = image.data[box] - level
    offsets = np.ix_(*(np.arange(b.start, b.stop) - c for b, c in zip(box, centre, strict=True)))
    square = sum((o * GAUSSIAN_FWHM / w) ** 2 for o, w in zip(offsets, image.widths, strict=True))
    template = np.exp(-np.asarray(square) / 2)
    energy = float((template**2).sum())
    height = float((template * block).sum()) / energy
    # Counts are at best photons: the light of the bead itself is noisy too, in the mean of the
    # template by about half its height.
    shot = max(height, 0) / 2 if np.array_equal(image.raw[core], np.rint(image.raw[core])) else 0.0
    # On the halo of another bead the noise is that of the halo, pixel by pixel.
    dark = max(min(local_noise, image.noise or local_noise), noise_sigma(image.data[box]))
    noise = math.hypot(dark, math.sqrt(shot))
    middle = tuple(round(c - b.start) for b, c in zip(box, centre, strict=True))
    toward = [b.start + m - c for b, m, c in zip(box, middle, centre, strict=True)]
    below = float(np.median(image.raw[core].astype(np.float64) - image.data[core])) + level
    return Bead(
        tuple(centre),
        peak=float(image.data[core].max()) - level,
        background=below,
        snr=height * math.sqrt(energy) / noise if noise else 1e6,
        fwhm_um=_widths_um(image, shifted(block, toward), middle),
    )


def _widths_um(
    image: BeadImage, block: npt.NDArray[np.float64], middle: tuple[int, ...]
) -> tuple[float | None, ...]:
    """Return the widths at half maximum through `middle`, which become the centre of a PSF.

    A bead of many voxels is smoothed by a Gaussian of a quarter of its width, which is then
    subtracted in quadrature: between single voxels noise alone may cross the half maximum.
    """
    spacing = image.grid.spacing_um
    sigmas = [0.1 * w if w > 6 else 0.0 for w in image.widths]
    smooth = ndimage.gaussian_filter(block, sigmas)
    half = [max(m, n - 1 - m) for m, n in zip(middle, block.shape, strict=True)]
    centred = np.zeros([2 * h + 1 for h in half])
    inside = tuple(
        slice(h - m, h - m + n) for h, m, n in zip(half, middle, block.shape, strict=True)
    )
    centred[inside] = np.maximum(smooth, 0)
    if not centred.any():
        return (None,) * len(spacing)
    found = fwhm_um(Psf(centred, spacing))
    blurred = (GAUSSIAN_FWHM * sigma * step for sigma, step in zip(sigmas, spacing, strict=True))
    # Beyond the image there are zeros, at which a half maximum would be none of the bead's.
    within = (
        2 * step * (min(m, n - 1 - m) + 0.5)
        for step, m, n in zip(spacing, middle, block.shape, strict=True)
    )
    return tuple(
        math.sqrt(width**2 - blur**2) if blur < width < most else None
        for width, blur, most in zip(found, blurred, within, strict=True)
    )


def _is_noise(image: BeadImage, bead: Bead) -> bool:
    """Return whether a maximum is no bead: too faint, faint at the border, or too narrow."""
    depth = min(min(p, n - 1 - p) for p, n in zip(bead.position, image.data.shape, strict=True))
    if bead.snr < (FAINTEST_SNR if depth >= 1 else 2 * LEAST_SNR):
        return True
    usual = (w * step for w, step in zip(image.widths, image.grid.spacing_um, strict=True))
    lateral = list(zip(bead.fwhm_um, usual, strict=True))[-2:]
    ratios = [width / most for width, most in lateral if width is not None]
    return bool(ratios) and math.prod(ratios) < TOO_NARROW ** len(ratios)


def _judged(image: BeadImage, bead: Bead, place: tuple[int, ...]) -> Bead:
    """Return the bead with the fate that it has by itself."""
    core = image.around(place, [max(CORE * w, 1) for w in image.widths])
    flat = _flat_top(image, core, bead.peak)
    if flat:
        return replace(
            bead,
            fate="saturated",
            reason=f"{flat} of its voxels have the highest value, {image.top:g}; it looks "
            "wider than it is. Take it with less light",
        )
    for axis, p, w, n in zip(
        image.grid.axes.lower(), bead.position, image.widths, image.data.shape, strict=True
    ):
        if min(p, n - 1 - p) < max(CORE * w, 1):
            where = "focus" if axis == "z" else "core"
            return replace(
                bead,
                fate="clipped",
                reason=f"Its {where} is too near the border of the image in {axis}",
            )
    if bead.snr < LEAST_SNR:
        return replace(
            bead,
            fate="dim",
            reason=f"Its signal to noise, {bead.snr:.1f}, is below {LEAST_SNR:g}",
        )
    if None in bead.fwhm_um[-2:]:
        reason = "Its light does not fall to one half around it: a clump, a halo, or out of focus"
        return replace(bead, fate="doubled", reason=reason)
    return bead


def _flat_top(image: BeadImage, core: Slices, peak: float) -> int:
    """Return how many voxels of a core share the highest value, 0 where that is chance.

    At the highest value of the type two voxels are enough. At that of the image there must be
    more than a symmetric peak has, and as many as lie in the tenth below: of a low peak many
    voxels share a count by rounding.
    """
    values, top = image.raw[core], image.top
    count = int((values >= top).sum())
    if values.dtype.kind in "ui" and top >= np.iinfo(values.dtype).max and count >= 2:
        return count
    near = int((values >= top - 0.1 * peak).sum())
    coarse = values.dtype.kind != "f" and peak < 40
    return count if count > 2**values.ndim and 2 * count > near and not coarse else 0


def _of_usual_width(beads: list[Bead], grid: Grid) -> list[Bead]:
    """Return the beads, those much wider than most as "doubled"."""
    good = [bead.fwhm_um for bead in beads if bead.fate == "used"]
    if len(good) < 3:
        return beads
    table = np.array([[math.nan if w is None else w for w in row] for row in good])
    usual = [
        float(np.median(c[np.isfinite(c)])) if np.isfinite(c).any() else math.inf for c in table.T
    ]
    result = []
    for bead in beads:
        for axis, width, most in zip(grid.axes.lower(), bead.fwhm_um, usual, strict=True):
            if bead.fate == "used" and width is not None and width > TOO_WIDE * most:
                bead = replace(
                    bead,
                    fate="doubled",
                    reason=f"It is {width / most:.1f} times as wide in {axis} as most: two beads "
                    "in one, a clump, or out of focus",
                )
        result.append(bead)
    return result


def _apart(image: BeadImage, beads: list[Bead]) -> tuple[Bead, ...]:
    """Return the beads, those with a neighbour in their core as "doubled"."""
    result = []
    for bead in beads:
        near = [
            image.distance(bead.position, other.position)
            for other in beads
            if other is not bead and other.peak > HARMLESS * bead.peak
        ]
        if bead.fate == "used" and near and min(near) < NEAR:
            bead = replace(
                bead,
                fate="doubled",
                reason=f"Another bead is {min(near):.1f} widths away, and adds its light",
            )
        result.append(bead)
    return tuple(result)
