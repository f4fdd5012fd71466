"""The widefield PSF against first principles, brute force, and an independent program."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special
from scipy.interpolate import RectBivariateSpline

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.modalities import focal_shift_um
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import fwhm_um, nyquist_um
from napari_deconv.imaging.value import InputError

from .psf_reference import brute_force, brute_pixels

Array = npt.NDArray[np.float64]

OIL = Optics(na=1.4, emission_nm=520, immersion_index=1.515)
WATER = Optics(na=1.2, emission_nm=500, immersion_index=1.333)


def oil_into_water(na: float, depth_um: float, sample_index: float = 1.333) -> Optics:
    return Optics(na=na, emission_nm=520, sample_index=sample_index, depth_um=depth_um)


def samples_of(optics: Optics, spacing: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    return compute_psf(optics, Grid(spacing_um=spacing), shape).samples.astype(np.float64)


REGIMES = {
    "oil": (OIL, (0.2, 0.1, 0.1), (63, 101, 101)),
    "oil, NA close to the oil's index": (
        Optics(na=1.514, emission_nm=520),
        (0.2, 0.05, 0.05),
        (31, 41, 41),
    ),
    "NA above the sample's index": (oil_into_water(1.4, 0), (0.2, 0.1, 0.1), (32, 64, 64)),
    "the same, 20 um deep": (oil_into_water(1.4, 20), (0.2, 0.1, 0.1), (63, 101, 101)),
    "NA just below the sample's index": (oil_into_water(1.33, 20), (0.2, 0.1, 0.1), (31, 64, 64)),
    "NA equal to the sample's index": (oil_into_water(1.333, 5), (0.2, 0.1, 0.1), (31, 64, 64)),
    "water into glycerol": (
        Optics(na=1.2, emission_nm=520, immersion_index=1.333, sample_index=1.46, depth_um=20),
        (0.2, 0.1, 0.1),
        (31, 64, 64),
    ),
    "fine voxels": (WATER, (0.05, 0.02, 0.02), (31, 128, 128)),
    "coarse voxels": (oil_into_water(1.4, 5), (1.0, 0.5, 0.5), (15, 31, 31)),
    "oblong voxels": (oil_into_water(1.2, 5), (0.3, 0.08, 0.2), (21, 65, 48)),
    "air": (Optics(na=0.1, emission_nm=600, immersion_index=1.0), (20.0, 2.0, 1.5), (11, 65, 64)),
    "thin glass": (
        Optics(na=1.4, emission_nm=520, coverslip_index=1.38, design_coverslip_index=1.38),
        (0.2, 0.1, 0.1),
        (31, 41, 41),
    ),
    "a coverslip 10 um too thick": (
        Optics(na=1.2, emission_nm=520, immersion_index=1.333, coverslip_um=180),
        (0.2, 0.1, 0.1),
        (31, 41, 41),
    ),
    "water under an oil objective": (
        Optics(
            na=1.2,
            emission_nm=520,
            immersion_index=1.333,
            design_immersion_index=1.34,
            working_distance_um=300,
        ),
        (0.2, 0.1, 0.1),
        (31, 41, 41),
    ),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_within_1e_4_of_brute_force(regime: str) -> None:
    optics, spacing, shape = REGIMES[regime]
    centre = np.array(shape) // 2
    random = np.random.default_rng(7)
    chosen = np.array([[0, 0], [0, 1], [1, 1], [centre[1], centre[2]]])
    pixels = np.concatenate((chosen, random.integers(0, centre[1:] + 1, (6, 2))))
    planes = np.array([0, *random.integers(0, shape[0], 3), centre[0], shape[0] - 1])
    heights = optics.depth_um + focal_shift_um(optics) + (planes - centre[0]) * spacing[0]
    expected = brute_pixels(optics, heights, pixels, (spacing[1], spacing[2]))
    samples = samples_of(optics, spacing, shape)
    found = samples[planes[:, None], centre[1] - pixels[:, 0], centre[2] - pixels[:, 1]]
    error = found / found[4, 0] - expected / expected[4, 0]
    assert np.abs(error).max() < 1e-4


@pytest.mark.parametrize("optics", [OIL, oil_into_water(1.4, 20), oil_into_water(1.33, 20)])
def test_the_reference_has_converged(optics: Optics) -> None:
    heights, radii = optics.depth_um + np.array([-6.0, 0.0, 1.0, 6.0]), np.array([0.0, 0.3, 7.0])
    coarse, fine = (brute_force(optics, heights, radii, panels) for panels in (40, 80))
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=1e-7 * fine.max())


def test_agrees_with_psf_generator() -> None:
    n, step, fine, planes = 15, 0.1, 5, 5
    with warnings.catch_warnings():
        # Whatever that program and torch warn of on import is not ours to mend.
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        propagators = pytest.importorskip("psf_generator.propagators")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        points = fine * (n + 2) + 1
        settings: dict[str, Any] = {
            "n_pix_pupil": 401,
            "n_pix_psf": points,
            "wavelength": 520,
            "na": 1.4,
            "n_i": 1.515,
            "n_i0": 1.515,
            "apod_factor": True,
            # Its pitch is n/(n - 1) of what is asked, and its range that of n planes, floored.
            "pix_size": 1000 * step / fine * (points - 1) / points,
            "n_defocus": planes,
            "defocus_step": 160,
        }
        field = [
            propagators.VectorialSphericalPropagator(e0x=x, e0y=1 - x, **settings)
            for x in (1.0, 0.0)
        ]
        total = sum((f.compute_focus_field().abs() ** 2).sum(dim=1).numpy() for f in field)
    finally:
        torch.set_default_dtype(before)
    place = (np.arange(points) - (points - 1) / 2) * step / fine
    edges = [(i - n / 2) * step for i in range(n + 1)]
    expected = np.empty((planes, n, n))
    for plane, image in zip(expected, np.asarray(total, np.float64), strict=True):
        spline = RectBivariateSpline(place, place, image, kx=5, ky=5)
        for y, x in np.ndindex(n, n):
            plane[y, x] = spline.integral(edges[y], edges[y + 1], edges[x], edges[x + 1])
    # It knows no glass between sample and oil: glass of the same index.
    glass: dict[str, Any] = {"coverslip_index": 1.515, "design_coverslip_index": 1.515}
    matched = Optics(na=1.4, emission_nm=520, immersion_index=1.515, **glass)
    found = samples_of(matched, (0.2, step, step), (planes, n, n))
    expected /= expected.sum()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    "optics",
    [
        OIL,
        oil_into_water(1.3, 2, 1.33),  # light beyond the critical angle it takes otherwise
        oil_into_water(1.2, 5, 1.33),
        Optics(na=0.8, emission_nm=520, immersion_index=1.0, sample_index=1.33, depth_um=10),
    ],
)
def test_agrees_with_psfmodels_the_better_the_finer_it_samples(optics: Optics) -> None:
    psfmodels = pytest.importorskip("psfmodels")
    depth, n = optics.depth_um, 31
    heights = depth + focal_shift_um(optics) + 0.2 * (np.arange(9) - 4)
    parameters = {
        "NA": optics.na,
        "ns": optics.medium_index,
        "ni": optics.immersion_index,
        "ni0": optics.immersion_index,
        "ng": 1.5255,
        "ng0": 1.5255,
    }
    found = samples_of(optics, (0.2, 0.1, 0.1), (9, n, n))
    errors = []
    for oversampling in (3, 15):
        expected = psfmodels.vectorial_psf(
            heights, nx=n, dxy=0.1, pz=depth, wvl=0.52, params={**parameters, "sf": oversampling}
        )
        errors.append(float(np.abs(found - expected / expected.sum()).max() / found.max()))
    assert errors[0] < 1.2e-2
    assert errors[1] < 1e-3


# --- first principles ---------------------------------------------------------------------


def _airy_error(na: float) -> float:
    optics = Optics(na=na, emission_nm=500, immersion_index=1.0)
    pixel = 0.5 / na / 20
    found = samples_of(optics, (pixel, pixel), (65, 65))
    node, weight = np.polynomial.legendre.leggauss(6)
    place = (np.arange(65)[:, None] - 32 + node / 2).ravel() * pixel
    v = 2 * np.pi * na / 0.5 * np.hypot(place[:, None], place) + 1e-30
    airy = ((2 * special.j1(v) / v) ** 2).reshape(65, 6, 65, 6)
    expected = np.einsum("yaxb,a,b->yx", airy, weight, weight) / 4
    expected /= expected.sum()
    return float(np.abs(found - expected).max() / expected.max())


def test_low_na_focal_plane_is_airys() -> None:
    assert _airy_error(0.01) < 5e-5
    # What is left is the vectorial part, which grows with NA^2.
    assert _airy_error(0.2) / _airy_error(0.1) == pytest.approx(4, rel=0.1)


def test_low_na_axis_is_sinc_squared() -> None:
    optics = Optics(na=0.02, emission_nm=500, immersion_index=1.0)
    axial, lateral = nyquist_um(optics)
    spacing = (axial / 4, lateral / 100, lateral / 100)
    found = samples_of(optics, spacing, (41, 1, 1))[:, 0, 0]
    expected = np.sinc((np.arange(41) - 20) * spacing[0] / (2 * axial)) ** 2
    np.testing.assert_allclose(found / found.max(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("optics", [WATER, oil_into_water(1.2, 3), oil_into_water(1.4, 0)])
def test_every_plane_holds_the_same_light(optics: Optics) -> None:
    step = nyquist_um(optics)[1]
    light = samples_of(optics, (0.3, step, step), (5, 701, 701)).sum(axis=(1, 2))
    np.testing.assert_allclose(light, light.mean(), rtol=1e-4)


@pytest.mark.parametrize("optics", [OIL, WATER])
def test_matched_media_give_a_psf_symmetric_in_z(optics: Optics) -> None:
    samples = samples_of(optics, (0.2, 0.1, 0.1), (31, 33, 33))
    np.testing.assert_allclose(samples, samples[::-1], rtol=0, atol=2e-6 * samples.max())


def test_mismatch_breaks_the_symmetry_towards_the_deep() -> None:
    axis = samples_of(oil_into_water(1.2, 10), (0.2, 0.1, 0.1), (31, 5, 5))[:, 2, 2]
    # Marginal rays of oil into water meet deeper than paraxial ones, up to 4.6 um here.
    assert axis[15 + 7 :].sum() > 2 * axis[: 15 - 6].sum()


def test_only_ratios_of_lengths_matter() -> None:
    spacing, shape = (0.2, 0.1, 0.1), (21, 33, 32)
    optics = oil_into_water(1.4, 5)
    twice = Optics(na=1.4, emission_nm=1040, sample_index=1.333, depth_um=10)
    once = samples_of(optics, spacing, shape)
    larger = samples_of(twice, (0.4, 0.2, 0.2), shape)
    np.testing.assert_allclose(once, larger, rtol=0, atol=1e-5 * once.max())
    assert focal_shift_um(twice) == pytest.approx(2 * focal_shift_um(optics), abs=1e-5)


def test_in_matched_media_neither_depth_nor_the_designs_glass_matters() -> None:
    spacing, shape = (0.2, 0.1, 0.1), (15, 21, 21)
    plain = samples_of(OIL, spacing, shape)
    glass: dict[str, Any] = {"coverslip_um": 500, "design_coverslip_um": 500}
    thick = Optics(na=1.4, emission_nm=520, depth_um=30, sample_index=1.515, **glass)
    np.testing.assert_allclose(samples_of(thick, spacing, shape), plain, rtol=0, atol=1e-9)


def test_no_light_outside_the_optical_transfer_functions_support() -> None:
    optics, shape, spacing = WATER, (95, 141, 141), (0.15, 0.08, 0.08)
    samples = samples_of(optics, spacing, shape)
    for axis, n in enumerate(shape):
        place = [1, 1, 1]
        place[axis] = n
        samples = samples * np.hanning(n + 2)[1:-1].reshape(place)
    otf = np.abs(np.fft.fftn(samples))
    otf /= otf[0, 0, 0]
    kz, ky, kx = (np.fft.fftfreq(n, step) for n, step in zip(shape, spacing, strict=True))
    kr = np.hypot(ky[:, None], kx)
    # The window smears the support by a few samples of the spectrum.
    slack_r, slack_z = (3 / (n * step) for n, step in ((141, 0.08), (95, 0.15)))
    whole, aperture = 1.333 / 0.5, 1.2 / 0.5
    trial = np.clip(kr + np.linspace(-slack_r, slack_r, 13)[:, None, None], 0, 2 * aperture)
    height = np.sqrt(whole**2 - (aperture - trial) ** 2) - math.sqrt(whole**2 - aperture**2)
    inside = np.abs(kz)[:, None, None] <= height.max(axis=0) + slack_z
    inside &= kr <= 2 * aperture + slack_r
    assert otf[~inside].max() < 1e-5
    cone = ~inside & (kr < aperture / 2)
    assert cone.sum() > 1000
    assert (~inside & (kr > 2 * aperture)).sum() > 1000
    assert otf[inside].mean() > 1e-3


@pytest.mark.parametrize(("na", "within"), [(0.1, 0.01), (0.2, 0.03)])
@pytest.mark.parametrize(("ni", "ns"), [(1.515, 1.33), (1.33, 1.46)])
def test_low_na_focal_shift_is_half_the_marginal_rays(
    na: float, within: float, ni: float, ns: float
) -> None:
    optics = Optics(na=na, emission_nm=520, immersion_index=ni, sample_index=ns, depth_um=40)
    formula = 40 * (ni / ns) * (ni**2 / ns**2 - 1) * na**2 / (4 * ni**2)
    assert focal_shift_um(optics) == pytest.approx(formula, rel=within)


@pytest.mark.parametrize(
    ("na", "depth_um", "shift_um"),
    [
        (1.2, 2, 0.240),
        (1.2, 5, 0.588),
        (1.2, 10, 0.838),
        (1.2, 20, 1.136),
        (1.4, 2, 0.363),
        (1.4, 5, 0.602),
    ],
)
def test_oil_into_water_has_the_known_focal_shifts(
    na: float, depth_um: float, shift_um: float
) -> None:
    assert focal_shift_um(oil_into_water(na, depth_um, 1.33)) == pytest.approx(shift_um, abs=0.003)


@pytest.mark.parametrize("na", [0.8, 1.2, 1.4, 1.49])
@pytest.mark.parametrize("depth_um", [3, 10, 20])
def test_the_focal_shift_is_the_highest_maximum_of_the_axis(na: float, depth_um: float) -> None:
    optics = oil_into_water(na, depth_um)
    heights = np.linspace(-3, 6, 901)
    axis = brute_force(optics, depth_um + heights, np.zeros(1))[:, 0]
    assert focal_shift_um(optics) == pytest.approx(heights[axis.argmax()], abs=0.006)


def test_without_mismatch_or_depth_the_focus_is_nominal() -> None:
    assert focal_shift_um(OIL) == 0
    assert focal_shift_um(oil_into_water(1.4, 0)) == 0


@pytest.mark.parametrize("shape", [(9, 33, 33), (8, 32, 34), (9, 32, 33)])
@pytest.mark.parametrize("optics", [OIL, oil_into_water(1.49, 20)])
def test_centred_at_half_the_size_for_odd_and_even(
    shape: tuple[int, int, int], optics: Optics
) -> None:
    samples = samples_of(optics, (0.3, 0.1, 0.1), shape)
    centre = [n // 2 for n in shape]
    assert np.isfinite(samples).all()
    assert list(np.unravel_index(samples.argmax(), shape)) == centre
    # The first row and column of an even size have no partner on the other side.
    paired = samples[:, 1 - shape[1] % 2 :, 1 - shape[2] % 2 :]
    for axis in (1, 2):
        profile = paired.sum(axis=tuple({0, 1, 2} - {axis}))
        where = np.arange(len(profile)) + 1 - shape[axis] % 2
        assert profile @ where / profile.sum() == pytest.approx(centre[axis], abs=1e-6)


# --- what the function promises beside the physics ------------------------------------------


def test_samples_are_float32_of_unit_sum_with_the_grids_spacing() -> None:
    psf = compute_psf(OIL, Grid(spacing_um=(0.2, 0.1, 0.1)), (9, 16, 17))
    assert psf.samples.dtype == np.float32
    assert psf.samples.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert psf.spacing_um == (0.2, 0.1, 0.1)


def test_a_plane_is_the_focal_plane_of_the_volume() -> None:
    optics = oil_into_water(1.4, 10)
    plane = samples_of(optics, (0.1, 0.12), (31, 32))
    volume = samples_of(optics, (0.25, 0.1, 0.12), (6, 31, 32))[3]
    np.testing.assert_allclose(plane, volume / volume.sum(), rtol=0, atol=1e-6 * plane.max())


def test_the_shift_removed_is_told() -> None:
    grid = Grid(spacing_um=(0.3, 0.1, 0.1))
    notes = compute_psf(oil_into_water(1.4, 2, 1.33), grid, (5, 9, 9)).notes
    assert "PSF: brightest +0.36 um from nominal focus, centred there" in notes
    assert not any("nominal" in note for note in compute_psf(OIL, grid, (5, 9, 9)).notes)


def _light_told(psf: Psf) -> list[int]:
    return [int(note.split()[5]) for note in psf.notes if "last plane keeps" in note]


def test_the_usual_box() -> None:
    psf = compute_psf(OIL, Grid(spacing_um=(0.2, 0.1, 0.1)))
    assert psf.shape == (63, 101, 101)
    assert len(_light_told(psf)) == 1


@pytest.mark.parametrize("spacing", [(0.1, 0.1), (0.05, 0.04), (1.0, 0.3, 0.2), (9.0, 0.1, 0.1)])
@pytest.mark.parametrize(
    "optics", [OIL, WATER, Optics(na=0.3, emission_nm=520, immersion_index=1.0)]
)
def test_a_chosen_box_is_odd_practical_and_honest(
    optics: Optics, spacing: tuple[float, ...]
) -> None:
    psf = compute_psf(optics, Grid(spacing_um=spacing))
    assert len(psf.shape) == len(spacing)
    assert all(n % 2 == 1 and n <= 203 for n in psf.shape)
    # The last plane again, in a wide box, as the plane one large step from the focus.
    step = [spacing[0] * (psf.shape[0] // 2)] if len(spacing) == 3 else []
    wide = (2, 801, 801)[-len(spacing) :]
    last = samples_of(optics, (*step, *spacing[-2:]), wide).reshape(-1, 801, 801)[0]
    crop = tuple(slice(400 - n // 2, 400 + n // 2 + 1) for n in psf.shape[-2:])
    kept = last[crop].sum() / last.sum()
    assert _light_told(psf) == [] if kept > 0.955 else _light_told(psf)[0] <= 100 * kept + 1


def test_the_light_of_the_last_plane_is_told_rightly() -> None:
    spacing = (0.5, 0.1, 0.1)
    (told,) = _light_told(compute_psf(OIL, Grid(spacing_um=spacing), (13, 61, 61)))
    last = samples_of(OIL, (3.0, 0.1, 0.1), (2, 1001, 1001))[0]
    assert told == pytest.approx(100 * last[470:531, 470:531].sum() / last.sum(), abs=0.7)
    # The disk of 3 um in that plane holds 0.481 of the light.
    y, x = (np.arange(1001) - 500) * 0.1, (np.arange(1001) - 500) * 0.1
    assert last[np.hypot(y[:, None], x) < 3].sum() / last.sum() == pytest.approx(0.481, abs=0.005)


@pytest.mark.parametrize(
    ("spacing", "coarse"),
    [
        ((0.3, 0.1, 0.1), []),
        ((0.6, 0.1, 0.1), ["z"]),
        ((0.3, 0.1, 0.2), ["y, x"]),
        ((0.2, 0.2), ["y, x"]),
        ((1.0, 0.3, 0.3), ["y, x", "z"]),
    ],
)
def test_coarse_voxels_are_told(spacing: tuple[float, ...], coarse: list[str]) -> None:
    psf = compute_psf(OIL, Grid(spacing_um=spacing), (3, 65, 65)[-len(spacing) :])
    told = [note for note in psf.notes if "Nyquist" in note]
    assert [note.split(" in ")[1].split(" (")[0] for note in told] == coarse


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [
        ((0.2, 0.1, 0.1), (31, 31)),
        ((0.1, 0.1), (9, 31, 31)),
        ((0.1, 0.1), (31, 0)),
        ((0.1, 0.1), (31, -31)),
        ((0.1, 0.1), (31, 31.0)),
        ((0.1, 0.1), (True, 31)),
        ((0.1, 0.1), 31),
        ((0.1, 0.1), "31"),
        ((0.1, 0.1), ()),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(spacing: tuple[float, ...], shape: Any) -> None:
    with pytest.raises(InputError, match=f"{len(spacing)} positive whole numbers"):
        compute_psf(OIL, Grid(spacing_um=spacing), shape)


@pytest.mark.parametrize("shape", [None, (31, 31)])
def test_nanometres_taken_for_micrometres_are_refused(shape: tuple[int, ...] | None) -> None:
    with pytest.raises(InputError, match=r"A pixel of 100 um .* check the voxel size and its unit"):
        compute_psf(OIL, Grid(spacing_um=(100, 100)), shape)


def test_nyquist() -> None:
    axial, lateral = nyquist_um(OIL)
    assert lateral == pytest.approx(0.520 / 5.6)
    assert axial == pytest.approx(0.520 / 2 / (1.515 - math.sqrt(1.515**2 - 1.4**2)))
    low = nyquist_um(Optics(na=1e-6, emission_nm=500, immersion_index=1.0))[0]
    assert low == pytest.approx(0.5 / 1e-12, rel=1e-6)


def test_full_widths_at_half_maximum() -> None:
    fine = compute_psf(OIL, Grid(spacing_um=(0.05, 0.02, 0.02)), (31, 41, 41))
    assert fwhm_um(fine) == pytest.approx((0.508, 0.211, 0.211), abs=0.002)
    usual = compute_psf(OIL, Grid(spacing_um=(0.15, 0.05, 0.07)), (15, 31, 31))
    assert fwhm_um(usual) == pytest.approx((0.508, 0.211, 0.211), abs=0.015)


def test_widths_that_the_box_cuts_are_unknown() -> None:
    cut = compute_psf(OIL, Grid(spacing_um=(0.1, 0.1, 0.1)), (1, 2, 21))
    assert np.isnan(fwhm_um(cut)[:2]).all()
    assert fwhm_um(cut)[2] == pytest.approx(0.22, abs=0.02)
    with pytest.raises(InputError, match="no voxel size"):
        fwhm_um(Psf(np.ones((3, 3))))
