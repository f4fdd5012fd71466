"""The pupil in double precision, from first principles."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import j1

from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.pupil import DOUGHNUT, UNPOLARIZED, Parts, intensity, pupil_of

from .psf_reference import brute_force

Array = npt.NDArray[np.float64]

OIL = Optics(na=1.4, emission_nm=520)
RADII = np.linspace(0, 1.2, 60)
HEIGHTS = np.linspace(-3, 3, 25)


def profile(
    optics: Optics, heights: Array = HEIGHTS, radii: Array = RADII, parts: Parts = UNPOLARIZED
) -> Array:
    """Return the intensity, (Z, R); up to 64 radii are computed in double precision."""
    pupil = pupil_of(optics, optics.emission_nm, heights, float(radii[-1]))
    found = intensity(pupil, heights, radii, parts=parts)
    assert found.dtype == np.float64
    return np.asarray(found[..., 0])


@pytest.mark.parametrize("na", [0.2, 0.95, 1.4])
def test_the_scalar_focal_plane_is_airys(na: float) -> None:
    optics = Optics(na=na, emission_nm=520, model="scalar")
    v = 2 * np.pi * na / 0.52 * RADII + 1e-30
    found = profile(optics, np.zeros(1))[0]
    np.testing.assert_allclose(found / found[0], (2 * j1(v) / v) ** 2, rtol=0, atol=4.5e-8)


def test_the_axis_without_apodization_is_sinc_squared() -> None:
    optics = Optics(na=1.4, emission_nm=520, model="scalar")
    pupil = pupil_of(optics, 520, HEIGHTS, 0.0)
    even = replace(pupil, amplitudes=pupil.amplitudes / pupil.axial)
    found = intensity(even, HEIGHTS, np.zeros(1))[:, 0, 0]
    lift = 1.515 - math.sqrt(1.515**2 - 1.4**2)
    expected = np.sinc(HEIGHTS * lift / 0.52) ** 2
    np.testing.assert_allclose(found / found[12], expected, rtol=0, atol=2.4e-13)


@pytest.mark.parametrize("na", [0.3, 1.2, 1.514])
def test_matched_media_are_symmetric_about_the_focus(na: float) -> None:
    found = profile(Optics(na=na, emission_nm=520))
    np.testing.assert_allclose(found, found[::-1], rtol=0, atol=6e-13 * found.max())


def test_only_ratios_of_lengths_matter() -> None:
    deep = Optics(na=1.4, emission_nm=520, sample_index=1.333, depth_um=5)
    twice = replace(deep, emission_nm=1040, depth_um=10)
    found, doubled = profile(deep), profile(twice, 2 * HEIGHTS, 2 * RADII)
    found, doubled = found / found.max(), doubled / doubled.max()
    np.testing.assert_allclose(found, doubled, rtol=0, atol=9e-14)


@pytest.mark.parametrize(
    "changed",
    [
        {"coverslip_um": 150},
        {"design_coverslip_um": 190},
        {"working_distance_um": 500},
        {"depth_um": 40},
    ],
)
def test_in_matched_media_no_thickness_matters(changed: dict[str, Any]) -> None:
    matched: dict[str, Any] = {
        "na": 1.4,
        "emission_nm": 520,
        "coverslip_index": 1.515,
        "design_coverslip_index": 1.515,
        "design_immersion_index": 1.515,
    }
    plain = profile(Optics(**matched))
    found = profile(Optics(**{**matched, **changed}))
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-11 * plain.max())


def test_beyond_the_critical_angle_light_is_finite_and_fades_with_depth() -> None:
    light = []
    for depth in (0.0, 0.2, 2.0):
        optics = Optics(na=1.49, emission_nm=520, sample_index=1.333, depth_um=depth)
        assert np.isfinite(profile(optics)).all()
        light.append(pupil_of(optics, 520, HEIGHTS, 0.0).light)
    below = pupil_of(Optics(na=1.333, emission_nm=520, sample_index=1.333), 520, HEIGHTS, 0.0).light
    # What remains deep in the sample is what an aperture of the sample's index takes in.
    assert light[0] > light[1] > light[2] == pytest.approx(below, rel=0.02)


def test_the_doughnut_is_dark_on_its_axis_and_as_computed_densely() -> None:
    radii = np.linspace(0, 1, 21)
    found = profile(OIL, np.array([0.0, 0.6]), radii, DOUGHNUT)
    expected = brute_force(OIL, np.array([0.0, 0.6]), radii, turn=1)
    assert (found[:, 0] < 1e-12 * found.max()).all()
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), rtol=0, atol=1e-9)


def test_all_of_a_planes_light_is_that_of_the_pupil() -> None:
    optics = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
    pupil = pupil_of(optics, 520, np.array([0.0, 4.0]), 60.0)
    radii = np.linspace(0, 60, 4001)
    rings = intensity(pupil, np.array([0.0, 4.0]), radii)[..., 0].astype(np.float64)
    light = 2 * np.pi * np.trapezoid(rings * radii, radii, axis=1)
    np.testing.assert_allclose(light, pupil.light, rtol=3e-3)
