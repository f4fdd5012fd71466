"""Optics -> Psf: what a microscope makes of a point, on the voxels of a grid.

`compute_psf` is the model. Every modality is put together from the same pupil (`pupil.py`):
`_Light` gives the intensity of one wavelength over height and radius, `_RESPONSES` combine
excitation, detection, pinhole and sheet, and `polar.on_pixels` averages over pixels.
`focal_shift_um` says what the optics do to the focus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import polar
from .blas import product
from .grid import Grid
from .optics import Optics
from .psf import Psf
from .pupil import (
    DOUGHNUT,
    UNPOLARIZED,
    Parts,
    gaussian_widths_um,
    intensity,
    pupil_of,
    ray_foci_um,
)
from .resolution import nyquist_um
from .value import require

Real = npt.NDArray[np.floating[Any]]

#: Radial samples per lambda/NA, that of a widefield microscope that would resolve as much.
RADIAL_SAMPLES = 16

#: Part of the light that the automatic box keeps in its last plane, in the focal plane, and
#: of all that lies within its reach along z.
LAST_PLANE_KEEPS, FOCAL_PLANE_KEEPS, PLANES_KEEP = 0.95, 0.99, 0.99

#: The automatic box reaches at most this often lambda/(n (1 - cos)) and lambda/NA to each
#: side, or that many pixels if more: NA 1.4, 520 nm, 0.2/0.1 um give 63 x 101 x 101 voxels.
AXIAL_REACH, LATERAL_REACH, PIXEL_REACH = 11.0, 13.4, 50
MOST_PLANES, MOST_PIXELS = 63, 101  # but never more to each side than these

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
    box = _affordable_box(optics, grid) if shape is None else tuple(map(int, shape))
    planes, rows, columns = (1, *box)[-3:]
    step_um, *pixels_um = (0.0, *grid.spacing_um)[-3:]
    pixel_um = (pixels_um[0], pixels_um[1])
    shift = focal_shift_um(optics)
    heights = shift + focus_um + step_um * (np.arange(planes) - planes // 2)
    # Steps that divide the pixel: few pixel maps serve all positions of a slider.
    resolved = max(pixel_um) / _width_um(optics)
    radial_um = max(pixel_um) / math.ceil(RADIAL_SAMPLES * resolved)
    count = polar.radii_for((rows, columns), pixel_um, radial_um)
    light = _Light(optics, heights, radial_um)
    points = 3 + math.ceil(3 * resolved)
    rings = _RESPONSES[optics.modality](light, count).astype(np.float32, copy=False)
    samples = polar.on_pixels(rings, (rows, columns), pixel_um, radial_um, points)
    ends = samples[[0, -1]].sum(axis=(1, 2), dtype=np.float64) * math.prod(pixel_um)
    whole = _light_of_planes(optics, heights[[0, -1]], _reach_um(optics, grid))
    kept = min(float((ends / whole).min()), 1.0)
    notes = _notes(optics, grid, shift, kept) + _displaced(optics, samples, focus_um)
    return Psf(samples.reshape(box), grid.spacing_um, notes, kept)


@lru_cache(maxsize=64)
def focal_shift_um(optics: Optics) -> float:
    """Return how far from the nominal (paraxial) focus the PSF is brightest on its axis.

    Returns
    -------
    float
        Micrometres of stage movement, positive for a focus deeper in the sample; 0 where all
        media are those of the objective's design. Aberrations given by Zernike terms are left
        where they put the light.

    Notes
    -----
    For small NA it tends to d (ni/ns) (ni^2/ns^2 - 1) NA^2/(4 ni^2), half the shift of the
    marginal rays; for large NA the profile has several maxima: the highest is taken.

    Examples
    --------
    >>> oil_into_water = Optics(na=1.2, emission_nm=520, sample_index=1.33, depth_um=2)
    >>> round(focal_shift_um(oil_into_water), 2)
    0.24
    """
    if any(optics.zernike_rad):
        return focal_shift_um(replace(optics, zernike_rad=()))
    if optics.modality == "light-sheet":
        # The sheet lies where the detection is sharpest.
        return focal_shift_um(replace(optics, modality="widefield"))
    if optics.model == "gaussian" or _is_as_designed(optics):
        return 0.0
    foci = ray_foci_um(optics)
    length = 2 * nyquist_um(replace(optics, modality="widefield"))[0]
    first, last = min(0, *foci) - 2 * length, max(0, *foci) + 2 * length
    heights, step = np.arange(first, last, length / 12), length / 12
    radial_um = _width_um(optics) / RADIAL_SAMPLES
    best = 0.0
    while step > 1e-6:
        axis = _RESPONSES[optics.modality](_Light(optics, heights, radial_um), 1)
        best = float(heights[axis[:, 0, 0].argmax()])
        heights, step = best + step * np.linspace(-1, 1, 25), step / 12
    return best


class _Light:
    """Intensities of `optics` at given heights, (Z,), on radii 0, 1, 2, ... times a step."""

    def __init__(self, optics: Optics, heights: Real, radial_um: float) -> None:
        self.optics, self.heights, self.radial_um = optics, heights, radial_um
        # The shorter the wave, the more an aberration turns it.
        shortest = min(optics.emission_nm, _excitation_nm(optics))
        aberrated = any(optics.zernike_rad)
        self.angles = pupil_of(optics, shortest, heights, 0.0).angles if aberrated else 1

    def of(self, wavelength_nm: float, count: int, parts: Parts = UNPOLARIZED) -> Real:
        """Return the intensity of a wavelength on `count` radii, (Z, count, A)."""
        return self.through(0.0, wavelength_nm, count, parts=parts)

    def through(
        self,
        radius_um: float,
        wavelength_nm: float,
        count: int,
        *,
        times: int = 1,
        parts: Parts = UNPOLARIZED,
    ) -> Real:
        """Return the intensity of a wavelength, averaged over disks of a radius, some times."""
        # A product is finer than its factors: those are computed on their own, coarser, radii.
        own_um = wavelength_nm / 1000 / self.optics.na / RADIAL_SAMPLES
        factor = max(1, math.floor(own_um / self.radial_um + 1e-6))
        step_um = factor * self.radial_um
        sizes = [polar.coarser(count, factor)]
        for _ in range(times if radius_um else 0):
            sizes.append(polar.radii_around(sizes[-1], radius_um, step_um))
        found = self._sampled(wavelength_nm, step_um * np.arange(sizes.pop()), parts)
        while sizes:
            found = polar.through_disk(found, step_um, radius_um, sizes.pop())
        return polar.refined(found, factor, count)

    def _sampled(self, wavelength_nm: float, radii: Real, parts: Parts) -> Real:
        """Return the intensity of a wavelength at these radii, (Z, R, A)."""
        pupil = pupil_of(self.optics, wavelength_nm, self.heights, float(radii[-1]))
        if self.optics.model != "gaussian":
            return intensity(pupil, self.heights, radii, self.angles, parts)
        sigma_z, sigma_r = gaussian_widths_um(pupil)
        square = (radii / sigma_r) ** 2
        rings: Real = np.exp(-square / 2) * (square if parts is DOUGHNUT else 1)
        along: Real = np.exp(-((self.heights / sigma_z) ** 2) / 2)
        return along[:, None, None] * rings[:, None]

    def of_planes(self, wavelength_nm: float) -> Real:
        """Return all the light of each plane, (Z,), in units of intensity times um^2."""
        pupil = pupil_of(self.optics, wavelength_nm, self.heights, 0.0)
        if self.optics.model != "gaussian":
            return np.full(len(self.heights), pupil.light)
        area_um2 = 2 * math.pi * gaussian_widths_um(pupil)[1] ** 2
        along: Real = self.of(wavelength_nm, 1)[:, 0, 0]
        return area_um2 * along


def _widefield(light: _Light, count: int) -> Real:
    return light.of(light.optics.emission_nm, count)


def _confocal(light: _Light, count: int) -> Real:
    optics = light.optics
    detected = light.through(optics.pinhole_radius_um, optics.emission_nm, count)
    return light.of(_excitation_nm(optics), count) * detected


def _spinning_disk(light: _Light, count: int) -> Real:
    optics, excitation = light.optics, _excitation_nm(light.optics)
    radius = optics.pinhole_radius_um
    # The pinholes lie on triangles: each owns sqrt(3)/2 of the square of their distance.
    cell = math.sqrt(3) / 2 * (optics.pinhole_spacing_um / optics.magnification) ** 2
    spot = light.through(radius, excitation, count, times=2)
    own_cell = light.through(math.sqrt(cell / math.pi), excitation, count)
    evenly = (light.of_planes(excitation) / cell)[:, None, None]
    excited = spot + np.maximum(evenly - own_cell, 0)
    return light.of(optics.emission_nm, count) * excited


def _two_photon(light: _Light, count: int) -> Real:
    return light.of(_excitation_nm(light.optics), count) ** 2


def _light_sheet(light: _Light, count: int) -> Real:
    return _widefield(light, count) * _sheet(light)[:, None, None]


def _sheet(light: _Light) -> Real:
    """Return the sheet's intensity at the heights; it lies where the detection is in focus."""
    distance = light.heights - focal_shift_um(light.optics)
    return np.asarray(np.exp2(-((2 * distance / light.optics.sheet_fwhm_um) ** 2)))


def _effective_sted(light: _Light, count: int) -> Real:
    optics = light.optics
    doughnut = light.of(optics.depletion_nm, count, DOUGHNUT)
    # The saturation is that of the brightest place, in focus and without aberrations.
    plain = replace(optics, modality="widefield", emission_nm=optics.depletion_nm, zernike_rad=())
    focused = _Light(plain, np.array([focal_shift_um(plain)]), light.radial_um)
    width = math.ceil(optics.depletion_nm / 1000 / optics.na / light.radial_um)
    brightest = float(focused.of(optics.depletion_nm, width, DOUGHNUT).max())
    return _confocal(light, count) / (1 + optics.saturation * doughnut / brightest)


_RESPONSES: dict[str, Callable[[_Light, int], Real]] = {
    "widefield": _widefield,
    "confocal": _confocal,
    "spinning-disk": _spinning_disk,
    "two-photon": _two_photon,
    "light-sheet": _light_sheet,
    "effective-sted": _effective_sted,
}


def _excitation_nm(optics: Optics) -> float:
    """Return the wavelength that excites; `Optics` sees to it that there is one."""
    return float(optics.excitation_nm or optics.emission_nm)


def _width_um(optics: Optics) -> float:
    """Return lambda/NA of a widefield microscope that would resolve as much."""
    return 4 * nyquist_um(optics)[1]


def _is_as_designed(optics: Optics) -> bool:
    """Return whether all light comes to one focus: the media are those of the design."""
    glass = (optics.coverslip_um, optics.coverslip_index)
    return (
        (optics.depth_um == 0 or optics.medium_index == optics.immersion_index)
        and glass == (optics.design_coverslip_um, optics.design_coverslip_index)
        and optics.design_immersion_index in (None, optics.immersion_index)
    )


def _light_of_planes(optics: Optics, heights: Real, reach_um: float) -> Real:
    """Return all the light of each plane, (Z,): known, or summed up to a radius."""
    step_um = _width_um(optics) / (RADIAL_SAMPLES / 2)
    light = _Light(optics, heights, step_um)
    if optics.modality == "widefield":
        return light.of_planes(optics.emission_nm)
    if optics.modality == "light-sheet":
        return light.of_planes(optics.emission_nm) * _sheet(light)
    count = 2 + math.ceil(reach_um / step_um)
    rings = _RESPONSES[optics.modality](light, count).mean(axis=2)
    circles: Real = 2 * math.pi * step_um**2 * np.arange(rings.shape[1])
    return product(rings, circles)


def _affordable_box(optics: Optics, grid: Grid) -> tuple[int, ...]:
    """Return odd sizes that hold the light of the last plane as far as that is practical."""
    axial_um, _ = nyquist_um(replace(optics, modality="widefield"))
    step_um, *pixels_um = (math.inf, *grid.spacing_um)[-3:]
    reach = _reach_um(optics, grid)
    most = min(math.ceil(AXIAL_REACH * 2 * axial_um / step_um), MOST_PLANES)
    shift, half_planes = focal_shift_um(optics), 0
    if most:
        heights = shift + step_um * np.arange(-most, most + 1)
        half_planes = _planes_kept(_light_of_planes(optics, heights, reach))
    # The radius that holds enough light of the outermost planes and of the focal plane.
    half_um = half_planes * step_um if half_planes else 0.0
    heights = shift + half_um * np.array((-1, 0, 1))
    radial_um = _width_um(optics) / RADIAL_SAMPLES
    light = _Light(optics, heights, radial_um)
    rings = _RESPONSES[optics.modality](light, 1 + math.ceil(reach / radial_um)).mean(axis=2)
    inside = 2 * math.pi * radial_um**2 * (np.arange(rings.shape[1]) * rings).cumsum(axis=1)
    wanted = np.array((LAST_PLANE_KEEPS, FOCAL_PLANE_KEEPS, LAST_PLANE_KEEPS))
    lacking = inside < (wanted * _light_of_planes(optics, heights, reach))[:, None]
    needed = min(radial_um * lacking.sum(axis=1).max(), reach) - 1e-9
    halves = [min(math.ceil(needed / pixel), MOST_PIXELS) for pixel in pixels_um]
    return tuple(2 * half + 1 for half in (half_planes, *halves)[-grid.ndim :])


def _reach_um(optics: Optics, grid: Grid) -> float:
    """Return how far from the axis light is looked for."""
    width_um = optics.emission_nm / 1000 / optics.na
    return max(LATERAL_REACH * width_um, PIXEL_REACH * max(grid.spacing_um[-2:]))


def _planes_kept(light: Real) -> int:
    """Return how many planes to each side of the middle one keep `PLANES_KEEP` of the light."""
    half = len(light) // 2
    within = np.cumsum((light + light[::-1])[half:]) - light[half]
    return min(int((within < PLANES_KEEP * within[-1]).sum()), half)


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
