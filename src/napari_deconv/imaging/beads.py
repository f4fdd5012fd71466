"""Bead stack -> measured Psf.

`find_beads` says what each bead is good for, `with_fate` lets the user decide otherwise, and
`measure_psf` makes one PSF of those that are used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .bead_average import Array, aligned, averaged, radial_mean, without_ball
from .bead_finding import FATES, Bead, beads_in, find_beads, measured_at, with_fate
from .bead_image import BeadImage, shifted
from .grid import Grid
from .optics import Optics
from .psf import Psf
from .psf_image import core_centroid, without_background
from .resolution import fwhm_um
from .value import InputError, require, require_number

__all__ = ["FATES", "Bead", "MeasuredPsf", "find_beads", "measure_psf", "with_fate"]

#: Diameter of a bead that can be divided out, at the most, in widths of its image to the side.
LARGEST = 1.1
#: Pixels of a width, to the side: microscopes that sample enough have more.
NARROW = 1.5
#: What the user can do, by the fate that most beads have met.
ADVICE = {
    "saturated": "take the beads again with less light or a shorter exposure",
    "clipped": "take a larger stack, with planes above and below the beads",
    "doubled": "take beads that lie further apart, or a smaller box",
    "dim": "take the beads again with more light, or brighter ones",
    "left out": "use at least one of them",
}


@dataclass(frozen=True, eq=False)
class MeasuredPsf:
    """A PSF made of beads, and what became of each of them.

    Parameters
    ----------
    psf : Psf
        On the voxels of the bead image; `notes` as below.
    beads : tuple of Bead
        All beads with their final fates and positions.
    fwhm_um : tuple of float or None
        Full widths at half maximum of the PSF, (z, y, x) or (y, x); None where the stack ends
        before.
    notes : tuple of str
        What was done, as sentences.
    """

    psf: Psf
    beads: tuple[Bead, ...]
    fwhm_um: tuple[float | None, ...]
    notes: tuple[str, ...]


def measure_psf(
    image: npt.ArrayLike,
    grid: Grid | None,
    *,
    beads: Sequence[Bead] | None = None,
    box_um: float | tuple[float, ...] | None = None,
    bead_diameter_um: float = 0.0,
    radial_average: bool = False,
    optics: Optics | None = None,
) -> MeasuredPsf:
    """Measure the PSF on an image of beads.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Counts.
    grid : Grid
        Voxel size of the image.
    beads : sequence of Bead, optional
        What `find_beads` gave, with fates changed at will: those "used" are taken. A bead
        added by hand needs its position alone. By default they are found.
    box_um : float or tuple of float, optional
        Full size of the box around a bead; by default 10 x 20 x 20 of its widths.
    bead_diameter_um : float
        Diameter of a bead, to be divided out; 0 leaves it in.
    radial_average : bool
        Whether to average around the optical axis.
    optics : Optics, optional
        Helps to tell a bead's width where most of the bright spots are none.

    Returns
    -------
    MeasuredPsf
        Unit sum, centre at n//2, cropped to 99.9 % of the light.

    Raises
    ------
    InputError
        If no bead can be used, with what to do; if the bead is too large to be divided out; or
        for what `find_beads` raises.

    Notes
    -----
    Beads are registered by correlation with their mean and shifted in Fourier space, averaged
    with their squared signal to noise as weights; a bead unlike the others is left out, never
    half of them. Light is kept only where it stands above the noise. A uniform ball's transform
    is 3 (sin q - q cos q)/q^3, q = pi D |k|.
    """
    require_number("The diameter of the beads in um", bead_diameter_um, least=0)
    prepared = BeadImage.of(image, grid, box_um=box_um, optics=optics)
    known = beads_in(prepared) if beads is None else tuple(beads)
    _require_beads(known, prepared)
    found = aligned(prepared, [_complete(prepared, bead) for bead in known])
    block = _at_centre(averaged(prepared, found), prepared.widths)
    signal, _ = without_background(block, "auto")
    spacing = prepared.grid.spacing_um
    if bead_diameter_um:
        _require_small(bead_diameter_um, _widths(signal, spacing))
        signal = np.where(signal > 0, without_ball(signal, spacing, bead_diameter_um), 0)
    if radial_average:
        signal = radial_mean(signal, spacing)
    notes = _notes(prepared, found.beads, bead_diameter_um, radial_average)
    psf = Psf(np.maximum(signal, 0), spacing, notes).cropped()
    widths = tuple(None if math.isnan(w) else w for w in fwhm_um(psf))
    psf = replace(psf, notes=(*psf.notes, *_notes_on_widths(widths, spacing)))
    return MeasuredPsf(psf, found.beads, widths, psf.notes)


def _require_beads(beads: Sequence[Bead], image: BeadImage) -> None:
    """Raise `InputError` where there is no bead to use, with why and what to do."""
    require(
        bool(beads),
        "No bead stands above the noise of this image; check that it is the bead stack, and its "
        "channel",
    )
    for bead in beads:
        fits = len(bead.position) == image.data.ndim and all(
            -0.5 <= p <= n - 0.5 for p, n in zip(bead.position, image.data.shape, strict=True)
        )
        require(fits, "The beads are those of another image; find them again on this one")
    fates = Counter(bead.fate for bead in beads)
    if fates["used"]:
        return
    (commonest, _), *_ = fates.most_common(1)
    counts = ", ".join(f"{fates[fate]} {fate}" for fate in FATES if fates[fate])
    subject = (
        "The only bead found cannot" if len(beads) == 1 else f"None of the {len(beads)} beads can"
    )
    raise InputError(f"{subject} be used ({counts}); {ADVICE[commonest]}")


def _complete(image: BeadImage, bead: Bead) -> Bead:
    """Return the bead, measured where it was added by hand."""
    if bead.peak > 0 and bead.snr > 0:
        return bead
    place = tuple(
        min(max(round(p), 0), n - 1) for p, n in zip(bead.position, image.data.shape, strict=True)
    )
    found = measured_at(image, place)
    require(
        bead.fate != "used" or (found.peak > 0 and found.snr > 0),
        f"There is no light at {place}, where a bead was added; mark it elsewhere",
    )
    return replace(found, fate=bead.fate, reason=bead.reason)


def _at_centre(block: Array, widths: Sequence[float]) -> Array:
    """Return the mean bead with the centroid of its core at n//2, as far as it was measured."""
    box = np.nan_to_num(block[_measured(block, widths)])
    require(bool((box > 0).any()), "The beads that are used show no light above their background")
    for _ in range(2):
        centroid = core_centroid(np.maximum(box, 0))
        box = shifted(box, [n // 2 - c for n, c in zip(box.shape, centroid, strict=True)])
    return box


def _measured(block: Array, widths: Sequence[float]) -> tuple[slice, ...]:
    """Return the centred odd box to whose faces the column around each axis is known."""
    known = ~np.isnan(block)
    middle = [n // 2 for n in block.shape]
    core = [
        slice(max(m - math.ceil(w), 0), m + math.ceil(w) + 1)
        for m, w in zip(middle, widths, strict=True)
    ]
    window = []
    for axis, m in enumerate(middle):
        others = tuple(a for a in range(block.ndim) if a != axis)
        column = known[(*core[:axis], slice(None), *core[axis + 1 :])].mean(axis=others) > 0.5
        both = column[m::-1] & column[m : 2 * m + 1]
        reach = len(both) if both.all() else max(int(np.argmin(both)), 1)
        window.append(slice(m - reach + 1, m + reach))
    return tuple(window)


def _widths(signal: Array, spacing: tuple[float, ...]) -> tuple[float, ...]:
    return fwhm_um(Psf(np.maximum(signal, 0), spacing))


def _require_small(diameter: float, widths: tuple[float, ...]) -> None:
    """Raise `InputError` where a bead is too large to see the PSF through it."""
    lateral = min((w for w in widths[-2:] if not math.isnan(w)), default=0.0)
    require(
        diameter <= LARGEST * lateral,
        f"Beads of {diameter:g} um are too large: their image is {lateral:.3g} um wide, mostly the "
        "bead itself, and its diameter cannot be divided out; take smaller beads, or correct it",
    )


def _notes_on_widths(
    widths: tuple[float | None, ...], spacing: tuple[float, ...]
) -> tuple[str, ...]:
    pixels = [w / step for w, step in zip(widths[-2:], spacing[-2:], strict=True) if w is not None]
    if not pixels or min(pixels) >= NARROW:
        return ()
    return (
        f"PSF: only {min(pixels):.2g} pixels wide: look whether what was found are beads, and no "
        "hot pixels",
    )


def _notes(
    image: BeadImage, beads: Sequence[Bead], diameter: float, radial: bool
) -> tuple[str, ...]:
    fates = Counter(bead.fate for bead in beads)
    others = "".join(f", {fates[fate]} {fate}" for fate in FATES[1:] if fates[fate])
    notes = [f"PSF: mean of {fates['used']} of {len(beads)} beads{others}"]
    if fates["used"] == 1:
        notes.append("PSF: measured on one bead alone; the mean of several has less noise")
    if image.mended:
        notes.append(f"PSF: {image.mended} hot pixels of the bead image were replaced")
    if diameter:
        notes.append(f"PSF: the beads' diameter of {diameter:g} um was divided out")
    if radial:
        notes.append("PSF: averaged around the optical axis")
    return tuple(notes)
