"""Zernike aberrations against their definition, a dense double integral, and Marechal's rule."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.imaging.aberrations import harmonics, order_of, phase, zernike
from napari_deconv.imaging.catalogue import ABERRATIONS
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf

Array = npt.NDArray[np.float64]

WATER = Optics(na=1.2, emission_nm=520, immersion_index=1.333)


def term(index: int, value: float) -> tuple[float, ...]:
    return (*(0.0,) * index, value)


def samples_of(optics: Optics, spacing: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    return compute_psf(optics, Grid(spacing_um=spacing), shape).samples.astype(np.float64)


def test_the_order_is_that_of_osa_and_ansi() -> None:
    found = [order_of(index) for index in range(10)]
    assert found[:6] == [(0, 0), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2)]
    assert found[6:] == [(3, -3), (3, -1), (3, 1), (3, 3)]
    assert [ABERRATIONS[i] for i in (4, 7, 12)] == ["defocus", "vertical coma", "spherical"]


def test_the_polynomials_are_orthonormal_over_the_disk() -> None:
    node, weight = np.polynomial.legendre.leggauss(20)
    rho, share = (node[:, None] + 1) / 2, (weight * (node + 1) / 2)[:, None]
    phi = 2 * np.pi / 64 * np.arange(64)
    values = np.array([zernike(index, rho, phi) for index in range(28)])
    products = np.einsum("iqa,jqa,qa->ij", values, values, np.broadcast_to(share, (20, 64))) / 64
    np.testing.assert_allclose(products, np.eye(28), atol=1e-12)


def test_the_series_over_the_azimuth_is_the_aberration() -> None:
    coefficients = (0.0, 0.3, -0.2, 0.5, 0.1, -0.4, 0.0, 0.6, 0.0, 0.2, 0.0, 0.0, 0.7)
    rho, phi = np.linspace(0, 1, 7), np.linspace(0, 6, 11)
    orders, series = harmonics(coefficients, rho)
    found = np.einsum("mq,ma->qa", series, np.exp(1j * np.outer(orders, phi)))
    expected = np.exp(1j * phase(coefficients, rho[:, None], phi))
    np.testing.assert_allclose(found, expected, atol=5e-5)  # some terms below 1e-5 are left out
    assert harmonics(term(12, 1.0), rho)[0] == (0,)


def dense(optics: Optics, heights: Array, points: Array) -> Array:
    """Intensity, (Z, P), at points (y, x) in um of matched media, by a dense double sum."""
    ni, k = optics.immersion_index, 2000 * np.pi / optics.emission_nm
    node, weight = np.polynomial.legendre.leggauss(80)
    theta = math.asin(optics.na / ni) * (node[:, None] + 1) / 2
    phi = 2 * np.pi / 128 * np.arange(128)
    s, c = np.sin(theta), np.cos(theta)
    ng = optics.coverslip_index
    gg = np.sqrt(ng**2 - (ni * s) ** 2)
    t_s = 4 * ni * c * gg / (ni * c + gg) ** 2
    t_p = 4 * ni * c * gg / ((ng * c + ni / ng * gg) * (ni / ng * gg + ng * c))
    pupil = weight[:, None] * np.sqrt(c) * s
    pupil = pupil * np.exp(1j * phase(optics.zernike_rad, ni * s / optics.na, phi))
    cos, sin = np.cos(phi), np.sin(phi)
    # Light polarized along x and along y, each with three components in the sample.
    fields = [
        (t_p * c * cos**2 + t_s * sin**2, (t_p * c - t_s) * cos * sin, -t_p * s * cos),
        ((t_p * c - t_s) * cos * sin, t_p * c * sin**2 + t_s * cos**2, -t_p * s * sin),
    ]
    result = np.zeros((len(heights), len(points)))
    for plane, z in zip(result, heights, strict=True):
        for place, (y, x) in enumerate(points):
            wave = pupil * np.exp(-1j * k * ni * (z * c + s * (x * cos + y * sin)))
            plane[place] = sum(abs((wave * f).sum()) ** 2 for pair in fields for f in pair)
    return result


CASES = {
    "coma": term(8, 0.8),
    "coma the other way": term(7, -0.8),
    "astigmatism": term(5, 1.1),
    "oblique astigmatism and trefoil": (0.0, 0.0, 0.0, 0.7, 0.0, 0.0, 0.5, 0.0, 0.0, 0.3),
    "spherical": term(12, 1.0),
    "everything": (0.2, 0.1, -0.2, 0.3, 0.2, -0.3, 0.2, 0.4, 0.3, -0.2, 0.1, 0.1, 0.5, 0.1, 0.1),
}


@pytest.mark.parametrize("case", CASES)
def test_within_1e_4_of_a_dense_double_sum(case: str) -> None:
    optics = replace(WATER, zernike_rad=CASES[case])
    shape, spacing = (5, 32, 33), (0.4, 0.08, 0.06)
    centre = np.array(shape) // 2
    pixels = np.array([[0, 0], [1, -2], [-3, 2], [5, 1], [-9, -7], [2, 12], [-16, -16]])
    node, weight = np.polynomial.legendre.leggauss(5)
    y = (pixels[:, 0, None, None] + node[:, None] / 2) * spacing[1]
    x = (pixels[:, 1, None, None] + node[None, :] / 2) * spacing[2]
    points = np.stack(np.broadcast_arrays(y, x), axis=-1).reshape(-1, 2)
    heights = np.array([-2, 0, 1]) * spacing[0]
    fine = dense(optics, heights, points).reshape(3, len(pixels), 5, 5)
    expected = np.einsum("zpyx,y,x->zp", fine, weight, weight)
    samples = samples_of(optics, spacing, shape)
    planes = centre[0] + np.array([-2, 0, 1])
    found = samples[planes[:, None], centre[1] + pixels[:, 0], centre[2] + pixels[:, 1]]
    scale = (found * expected).sum() / (expected**2).sum()
    assert np.abs(found - scale * expected).max() < 1e-4 * samples.max()


def test_tilt_displaces_and_defocus_refocuses() -> None:
    optics = Optics(na=0.3, emission_nm=500, immersion_index=1.0)
    tilted = samples_of(replace(optics, zernike_rad=(0, 0.0, 1.5)), (0.1, 0.1), (81, 81))
    plain = samples_of(optics, (0.1, 0.1), (81, 81))
    centroid = (tilted.sum(0) - plain.sum(0)) @ np.arange(81)
    # The phase 2 a rho along x is that of a point at 2 a/(k NA).
    assert tilted.argmax() == 40 * 81 + 48
    assert centroid * 0.1 == pytest.approx(2 * 1.5 / (2 * np.pi / 0.5 * 0.3), rel=0.15)
    defocused = samples_of(replace(optics, zernike_rad=term(4, 0.5)), (0.25, 0.5, 0.5), (41, 1, 1))
    # sqrt(3) (2 rho^2 - 1) a against k z NA^2/2 rho^2: z = -4 sqrt(3) a/(k NA^2).
    expected = -4 * math.sqrt(3) * 0.5 / (2 * np.pi / 0.5 * 0.3**2)
    assert (defocused[:, 0, 0].argmax() - 20) * 0.25 == pytest.approx(expected, abs=0.13)


@pytest.mark.parametrize("index", [3, 5, 7, 9, 12])
def test_a_small_aberration_dims_the_peak_by_marechals_rule(index: int) -> None:
    optics = Optics(na=0.3, emission_nm=500, immersion_index=1.0)
    spacing, shape = (0.05, 0.05), (301, 301)
    plain = samples_of(optics, spacing, shape)[150, 150]
    aberrated = samples_of(replace(optics, zernike_rad=term(index, 0.3)), spacing, shape)
    assert aberrated[150, 150] / plain == pytest.approx(math.exp(-(0.3**2)), abs=0.01)


@pytest.mark.parametrize("index", [5, 6, 8, 12])
def test_it_keeps_the_light_of_each_plane(index: int) -> None:
    optics = Optics(na=0.8, emission_nm=520, immersion_index=1.0, zernike_rad=term(index, 0.7))
    planes = samples_of(optics, (0.5, 0.2, 0.2), (3, 101, 100)).sum(axis=(1, 2))
    np.testing.assert_allclose(planes, planes.mean(), rtol=2e-3)


def test_the_excitation_sees_the_same_path() -> None:
    aberration = term(5, 0.6)
    optics = Optics(
        "two-photon",
        na=1.0,
        emission_nm=500,
        excitation_nm=1000,
        zernike_rad=aberration,
        immersion_index=1.333,
    )
    found = samples_of(optics, (0.5, 0.1, 0.1), (5, 21, 21))
    alone = replace(optics, modality="widefield", emission_nm=1000.0, zernike_rad=term(5, 0.3))
    squared = samples_of(alone, (0.5, 0.02, 0.02), (5, 105, 105)) ** 2
    expected = squared.reshape(5, 21, 5, 21, 5).sum(axis=(2, 4))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=0, atol=2e-3 * found.max())


def test_aberrations_are_told_where_they_move_the_peak() -> None:
    psf = compute_psf(
        replace(WATER, zernike_rad=term(2, 2.0)), Grid(spacing_um=(0.3, 0.1, 0.1)), (5, 21, 21)
    )
    assert any("aberrations displace" in note for note in psf.notes)
