"""What a PSF is like, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.modalities import focal_shift_um
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_box import LAST_PLANE_KEEPS
from napari_deconv.imaging.psf_models import UNDERSAMPLED, compute_psf
from napari_deconv.imaging.resolution import fwhm_um, nyquist_um


@dataclass(frozen=True, eq=False)
class Report:
    """A whole PSF and what was measured on it.

    Parameters
    ----------
    optics, grid : Optics, Grid
        What it was computed for.
    psf : Psf
        All of it, in the box that deconvolution uses.
    fwhm_um : tuple of float
        (z, y, x) or (y, x); nan where the box is too small to tell.
    nyquist_um : tuple of float
        (axial, lateral).
    focal_shift_um : float
        By how much it is brightest deeper than nominal.
    """

    optics: Optics
    grid: Grid
    psf: Psf
    fwhm_um: tuple[float, ...]
    nyquist_um: tuple[float, float]
    focal_shift_um: float

    def numbers(self) -> list[str]:
        """Return widths, sampling and focal shift, a line each."""
        widths = ["?" if math.isnan(w) else f"{w:.3g}" for w in self.fwhm_um]
        sizes = [f"{w} um in {a}" for w, a in zip(widths, "zyx"[-len(widths) :], strict=True)]
        if widths[-1] == widths[-2]:
            sizes[-2:] = [f"{widths[-1]} um in x, y"]
        axial, lateral = self.nyquist_um
        steps = [("pixel", max(self.grid.spacing_um[-2:]), lateral)]
        limits = f"{1000 * lateral:.0f} nm in x, y"
        if self.grid.ndim == 3:
            steps.append(("z step", self.grid.spacing_um[0], axial))
            limits += f", {1000 * axial:.0f} nm in z"
        words = [f"{name} {_fineness(step / limit)}" for name, step, limit in steps]
        if all(step <= limit for _, step, limit in steps):
            words = ["voxels fine enough"]
        lines = [f"FWHM {', '.join(sizes[::-1])}", f"Nyquist {limits}: {', '.join(words)}"]
        if self.psf.light_kept is not None:
            lines.append(f"{100 * self.psf.light_kept:.0f} % of the last plane's light in the box")
        if self.focal_shift_um:
            lines.append(f"Focal shift {self.focal_shift_um:+.2f} um")
        return lines

    def warnings(self) -> list[str]:
        """Return what the user should know, a sentence each."""
        optics = self.optics
        sentences = [note.removeprefix("PSF: ") for note in self.psf.notes]
        # The shift and the light stand among the numbers.
        told = ("from nominal focus", "last plane keeps")
        sentences = [s for s in sentences if not any(words in s for words in told)]
        sentences = [f"{s[:1].upper()}{s[1:]}" for s in sentences]
        kept = self.psf.light_kept
        if kept is not None and kept < LAST_PLANE_KEEPS:
            sentences.append(
                f"{100 * (1 - kept):.0f} % of the light of the outermost planes lies beyond the "
                "box: what is far from focus is restored less well"
            )
        if optics.na >= optics.medium_index:
            sentences.append(
                f"NA {optics.na:g} is not below the sample's index: light beyond NA "
                f"{optics.medium_index:g} fades with depth"
            )
        if optics.depth_um > 0 and optics.medium_index != optics.immersion_index:
            sentences.append(
                f"Immersion {optics.immersion_index:g} and sample {optics.medium_index:g} differ: "
                "the PSF grows with depth, and this one holds at "
                f"{optics.depth_um:g} um only"
            )
        return sentences


def report_on(optics: Optics, grid: Grid) -> Report:
    """Return the whole PSF of `optics` on `grid`, measured; `InputError` where refused."""
    psf = compute_psf(optics, grid)
    return Report(optics, grid, psf, fwhm_um(psf), nyquist_um(optics), focal_shift_um(optics))


def _fineness(ratio: float) -> str:
    """Return how fine voxels are, from their size over Nyquist's.

    Examples
    --------
    >>> _fineness(0.9), _fineness(1.2), _fineness(2)
    ('fine enough', 'a little coarse', 'too coarse')
    """
    if ratio <= 1:
        return "fine enough"
    return "a little coarse" if ratio <= UNDERSAMPLED else "too coarse"
