"""What each modality makes of the light of a point: on radii, at heights.

Every modality is put together from the same pupil (`pupil.py`): `Light` gives the intensity of one
wavelength over height and radius, `RESPONSES` combine excitation, detection, pinhole and sheet.
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
from .optics import Optics
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

Real = npt.NDArray[np.floating[Any]]

#: Radial samples per lambda/NA, that of a widefield microscope that would resolve as much.
RADIAL_SAMPLES = 16


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
    radial_um = width_um(optics) / RADIAL_SAMPLES
    best = 0.0
    while step > 1e-6:
        axis = RESPONSES[optics.modality](Light(optics, heights, radial_um), 1)
        best = float(heights[axis[:, 0, 0].argmax()])
        heights, step = best + step * np.linspace(-1, 1, 25), step / 12
    return best


class Light:
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


def _widefield(light: Light, count: int) -> Real:
    return light.of(light.optics.emission_nm, count)


def _confocal(light: Light, count: int) -> Real:
    optics = light.optics
    detected = light.through(optics.pinhole_radius_um, optics.emission_nm, count)
    return light.of(_excitation_nm(optics), count) * detected


def _spinning_disk(light: Light, count: int) -> Real:
    optics, excitation = light.optics, _excitation_nm(light.optics)
    radius = optics.pinhole_radius_um
    # The pinholes lie on triangles: each owns sqrt(3)/2 of the square of their distance.
    cell = math.sqrt(3) / 2 * (optics.pinhole_spacing_um / optics.magnification) ** 2
    spot = light.through(radius, excitation, count, times=2)
    own_cell = light.through(math.sqrt(cell / math.pi), excitation, count)
    evenly = (light.of_planes(excitation) / cell)[:, None, None]
    excited = spot + np.maximum(evenly - own_cell, 0)
    return light.of(optics.emission_nm, count) * excited


def _two_photon(light: Light, count: int) -> Real:
    return light.of(_excitation_nm(light.optics), count) ** 2


def _light_sheet(light: Light, count: int) -> Real:
    return _widefield(light, count) * _sheet(light)[:, None, None]


def _sheet(light: Light) -> Real:
    """Return the sheet's intensity at the heights; it lies where the detection is in focus."""
    distance = light.heights - focal_shift_um(light.optics)
    return np.asarray(np.exp2(-((2 * distance / light.optics.sheet_fwhm_um) ** 2)))


def _effective_sted(light: Light, count: int) -> Real:
    optics = light.optics
    doughnut = light.of(optics.depletion_nm, count, DOUGHNUT)
    # The saturation is that of the brightest place, in focus and without aberrations.
    plain = replace(optics, modality="widefield", emission_nm=optics.depletion_nm, zernike_rad=())
    focused = Light(plain, np.array([focal_shift_um(plain)]), light.radial_um)
    width = math.ceil(optics.depletion_nm / 1000 / optics.na / light.radial_um)
    brightest = float(focused.of(optics.depletion_nm, width, DOUGHNUT).max())
    return _confocal(light, count) / (1 + optics.saturation * doughnut / brightest)


RESPONSES: dict[str, Callable[[Light, int], Real]] = {
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


def width_um(optics: Optics) -> float:
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


def light_of_planes(optics: Optics, heights: Real, reach_um: float) -> Real:
    """Return all the light of each plane, (Z,): known, or summed up to a radius."""
    step_um = width_um(optics) / (RADIAL_SAMPLES / 2)
    light = Light(optics, heights, step_um)
    if optics.modality == "widefield":
        return light.of_planes(optics.emission_nm)
    if optics.modality == "light-sheet":
        return light.of_planes(optics.emission_nm) * _sheet(light)
    count = 2 + math.ceil(reach_um / step_um)
    rings = RESPONSES[optics.modality](light, count).mean(axis=2)
    circles: Real = 2 * math.pi * step_um**2 * np.arange(rings.shape[1])
    return product(rings, circles)
