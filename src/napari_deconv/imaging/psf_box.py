"""The automatic box of a PSF: sizes that hold its light as far as that is practical."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

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
from .resolution import nyquist_um

#: Part of the light that the automatic box keeps in its last plane, in the focal plane, and
#: of all that lies within its reach along z.
LAST_PLANE_KEEPS, FOCAL_PLANE_KEEPS, PLANES_KEEP = 0.95, 0.99, 0.99

#: The automatic box reaches at most this often lambda/(n (1 - cos)) and lambda/NA to each
#: side, or that many pixels if more: NA 1.4, 520 nm, 0.2/0.1 um give 63 x 101 x 101 voxels.
AXIAL_REACH, LATERAL_REACH, PIXEL_REACH = 11.0, 13.4, 50
MOST_PLANES, MOST_PIXELS = 63, 101  # but never more to each side than these


def affordable_box(optics: Optics, grid: Grid) -> tuple[int, ...]:
    """Return odd sizes that hold the light of the last plane as far as that is practical."""
    axial_um, _ = nyquist_um(replace(optics, modality="widefield"))
    step_um, *pixels_um = (math.inf, *grid.spacing_um)[-3:]
    reach = reach_um(optics, grid)
    most = min(math.ceil(AXIAL_REACH * 2 * axial_um / step_um), MOST_PLANES)
    shift, half_planes = focal_shift_um(optics), 0
    if most:
        heights = shift + step_um * np.arange(-most, most + 1)
        half_planes = _planes_kept(light_of_planes(optics, heights, reach))
    # The radius that holds enough light of the outermost planes and of the focal plane.
    half_um = half_planes * step_um if half_planes else 0.0
    heights = shift + half_um * np.array((-1, 0, 1))
    radial_um = width_um(optics) / RADIAL_SAMPLES
    light = Light(optics, heights, radial_um)
    rings = RESPONSES[optics.modality](light, 1 + math.ceil(reach / radial_um)).mean(axis=2)
    inside = 2 * math.pi * radial_um**2 * (np.arange(rings.shape[1]) * rings).cumsum(axis=1)
    wanted = np.array((LAST_PLANE_KEEPS, FOCAL_PLANE_KEEPS, LAST_PLANE_KEEPS))
    lacking = inside < (wanted * light_of_planes(optics, heights, reach))[:, None]
    needed = min(radial_um * lacking.sum(axis=1).max(), reach) - 1e-9
    halves = [min(math.ceil(needed / pixel), MOST_PIXELS) for pixel in pixels_um]
    return tuple(2 * half + 1 for half in (half_planes, *halves)[-grid.ndim :])


def reach_um(optics: Optics, grid: Grid) -> float:
    """Return how far from the axis light is looked for."""
    width_um = optics.emission_nm / 1000 / optics.na
    return max(LATERAL_REACH * width_um, PIXEL_REACH * max(grid.spacing_um[-2:]))


def _planes_kept(light: Real) -> int:
    """Return how many planes to each side of the middle one keep `PLANES_KEEP` of the light."""
    half = len(light) // 2
    within = np.cumsum((light + light[::-1])[half:]) - light[half]
    return min(int((within < PLANES_KEEP * within[-1]).sum()), half)
