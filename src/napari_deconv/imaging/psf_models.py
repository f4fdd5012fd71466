"""Optics -> Psf: what a microscope makes of a point, on the voxels of a grid.

`compute_psf` is the model: `modalities` give the light on radii, `psf_box` the size of its box, and
`polar.on_pixels` averages over pixels.
"""

from __future__ import annotations

import math

import numpy as np

from . import polar
from .grid import Grid
from .modalities import (
    RADIAL_SAMPLES,
    RESPONSES,
    Light,
    Real,
    focal_shift_um,
    light_of_planes,
    width_um,
)
from .optics import Optics
from .psf import Psf
from .psf_box import LAST_PLANE_KEEPS, affordable_box, reach_um
from .resolution import nyquist_um
from .value import require

#: Times Nyquist from where voxels earn a note, and where pixels must be a wrong unit.
UNDERSAMPLED, MEANINGLESS = 1.5, 32.0


def compute_psf(
    optics: Optics, grid: Grid, shape: tuple[int, ...] | None = None, *, focus_um: float = 0.0
) -> Psf:
    """Return the point spread function of `optics` on the voxels of `grid`.

    Parameters
    ----------
    optics : Optics
        The microscope, and the depth of the emitter.
    grid : Grid
        Voxel size in micrometres; (y, x) alone gives the plane of best focus.
    shape : tuple of int, optional
        (Z, Y, X) or (Y, X), as the grid. By default odd sizes that keep 95 % of the light of
        the last plane, as far as practical for deconvolution.
    focus_um : float
        By how much the middle plane is focused deeper than the brightest one.

    Returns
    -------
    Psf
        float32, unit sum, brightest at n//2 of each axis; planes ascend as the stage focuses
        deeper. `light_kept` is the part of the last plane's light that is in the box; `notes`
        tell the focal shift removed, light outside the box, coarse voxels.

    Raises
    ------
    InputError
        If the shape does not fit the grid, or the pixels are absurdly coarse.

    Notes
    -----
    An isotropic dipole at depth d below the coverslip has, with the focus z deeper than
    nominal and at radius r, the intensity |I0|^2 + 2 |I1|^2 + |I2|^2, where

    Im = int_0^asin(NA/ni) sqrt(cos t) sin t a_m(t) J_m(k ni r sin t) exp(i k W) dt,
    W = d (Cs - ni^2/ns cos t) - z ni cos t,  Cs = sqrt(ns^2 - (ni sin t)^2),

    a_0, a_2 = ts +- tp Cs/ns, a_1 = tp ni/ns sin t, with Fresnel's transmissions ts, tp from
    immersion to coverslip to sample, which by reciprocity stand for the way back (Gibson and
    Lanni 1991, doi:10.1364/JOSAA.8.001601; Aguet et al. 2009, doi:10.1364/OE.17.006829;
    Richards and Wolf 1959, doi:10.1098/rspa.1959.0200). Beyond the critical angle Cs is
    imaginary: that light fades with depth. Coverslip and immersion other than those of the
    design add to W as the sample does. Aberrations multiply the pupil, and make it depend on
    the azimuth.

    The same holds, backwards, for the light that excites, h_ex. With h_em for the emission
    and D for the mean over the pinhole's disk in the sample:

    - widefield: h_em
    - confocal: h_ex D h_em
    - spinning disk: h_em (D D h_ex + E/cell - D' h_ex), E the light of a plane of h_ex, cell
      the area of the disk that belongs to one pinhole, D' the mean over a disk of that area:
      the last two terms are the cross-talk of the other pinholes
    - two-photon: h_ex^2
    - light sheet: h_em exp(-4 ln 2 z^2/FWHM^2)
    - effective STED: h_ex D h_em / (1 + S v), v the doughnut scaled to a maximum of 1

    The scalar model has a pupil of constant amplitude (with matched media the Airy pattern in
    focus); the Gaussian one has the vectorial model's curvature at the peak (the reasoning of
    Zhang et al. 2007, doi:10.1364/AO.46.001819).

    Light is averaged over the pixel and sampled in z, as camera and stack do.
    `focal_shift_um` is removed, so that restored objects stay in their planes. The error,
    against dense double quadrature, is below 1e-4 of the peak.

    Examples
    --------
    >>> optics = Optics(na=1.4, emission_nm=520, immersion_index=1.515)
    >>> compute_psf(optics, Grid(spacing_um=(0.2, 0.1, 0.1)), (9, 31, 32)).shape
    (9, 31, 32)
    """
    _require_sane(optics, grid, shape)
    box = affordable_box(optics, grid) if shape is None else tuple(map(int, shape))
    planes, rows, columns = (1, *box)[-3:]
    step_um, *pixels_um = (0.0, *grid.spacing_um)[-3:]
    pixel_um = (pixels_um[0], pixels_um[1])
    shift = focal_shift_um(optics)
    heights = shift + focus_um + step_um * (np.arange(planes) - planes // 2)
    # Steps that divide the pixel: few pixel maps serve all positions of a slider.
    resolved = max(pixel_um) / width_um(optics)
    radial_um = max(pixel_um) / math.ceil(RADIAL_SAMPLES * resolved)
    count = polar.radii_for((rows, columns), pixel_um, radial_um)
    light = Light(optics, heights, radial_um)
    points = 3 + math.ceil(3 * resolved)
    rings = RESPONSES[optics.modality](light, count).astype(np.float32, copy=False)
    samples = polar.on_pixels(rings, (rows, columns), pixel_um, radial_um, points)
    ends = samples[[0, -1]].sum(axis=(1, 2), dtype=np.float64) * math.prod(pixel_um)
    whole = light_of_planes(optics, heights[[0, -1]], reach_um(optics, grid))
    kept = min(float((ends / whole).min()), 1.0)
    notes = _notes(optics, grid, shift, kept) + _displaced(optics, samples, focus_um)
    return Psf(samples.reshape(box), grid.spacing_um, notes, kept)


def _require_sane(optics: Optics, grid: Grid, shape: object) -> None:
    """Raise `InputError` for pixels of a wrong unit and for a shape that does not fit."""
    pixel, finest = max(grid.spacing_um[-2:]), nyquist_um(optics)[1]
    require(
        pixel <= MEANINGLESS * finest,
        f"A pixel of {pixel:g} um is more than {MEANINGLESS:g} times what NA {optics.na:g} at "
        f"{optics.emission_nm:g} nm asks for, {finest:.3g} um; check the voxel size and its unit",
    )
    sizes = shape if isinstance(shape, (tuple, list)) else ()
    whole = [isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes]
    require(
        shape is None or (len(sizes) == grid.ndim and all(whole) and min(sizes) > 0),
        f"The shape of a PSF on a {grid.axes} grid is {grid.ndim} positive whole numbers, "
        f"not {shape!r}",
    )


def _notes(optics: Optics, grid: Grid, shift: float, kept: float) -> tuple[str, ...]:
    """Return sentences on the focal shift, the light outside the box, and coarse voxels."""
    notes = []
    if abs(shift) >= 0.005:
        notes.append(f"PSF: brightest {shift:+.2f} um from nominal focus, centred there")
    if kept < LAST_PLANE_KEEPS:
        notes.append(f"PSF: the last plane keeps {100 * kept:.0f} % of its light in the box")
    steps = (max(grid.spacing_um[-2:]), *grid.spacing_um[:-2])
    for axes, step, limit in zip(("y, x", "z"), steps, nyquist_um(optics)[::-1], strict=False):
        if step > UNDERSAMPLED * limit:
            notes.append(
                f"PSF: the voxels in {axes} ({step:.3g} um) are {step / limit:.1f} times Nyquist's "
                f"{limit:.3g} um; detail between the two is lost to the sampling"
            )
    return tuple(notes)


def _displaced(optics: Optics, samples: Real, focus_um: float) -> tuple[str, ...]:
    """Return a sentence where aberrations carry the brightest voxel away from the centre."""
    if not any(optics.zernike_rad) or focus_um:
        return ()
    brightest = np.unravel_index(samples.argmax(), samples.shape)
    off = [int(at) - n // 2 for at, n in zip(brightest, samples.shape, strict=True)]
    if not any(off):
        return ()
    voxels = ", ".join(f"{step:+d}" for step in off)
    return (f"PSF: its aberrations displace the brightest voxel by ({voxels}) in z, y, x",)
