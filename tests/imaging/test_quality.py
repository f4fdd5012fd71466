"""How near a result is to a truth: against the formulas themselves, and known spectra."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.fft import fftn, ifftn
from scipy.ndimage import gaussian_filter

from napari_deconv.imaging import quality
from napari_deconv.imaging.quality import (
    Quality,
    fit_of,
    fitted,
    fourier_shell_correlation,
    nrmse,
    psnr,
    quality_of,
    ssim,
)
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]
SHAPES = [(37, 41), (19, 23, 17), (5, 20, 21), (1, 24, 23)]


def pair(shape: tuple[int, ...], level: float = 500.0) -> tuple[Array, Array]:
    """Return a noisy result and its truth, both smooth, with a high background."""
    rng = np.random.default_rng(len(shape))
    truth = level + 3000 * gaussian_filter(rng.random(shape), 1.5)
    return truth + rng.normal(0, 60, shape), truth


# -- errors of voxels -------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("piece", [1 << 21, 300])
def test_the_figures_are_those_of_their_formulas(
    shape: tuple[int, ...], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "PIECE", piece)
    result, truth = pair(shape)
    error = np.sqrt(np.mean((result - truth) ** 2))
    assert psnr(result, truth) == pytest.approx(20 * np.log10(np.ptp(truth) / error), rel=1e-12)
    assert nrmse(result, truth) == pytest.approx(error / np.sqrt(np.mean(truth**2)), rel=1e-12)


def test_the_range_is_that_of_the_truth() -> None:
    truth = np.array([[0.0, 100.0], [50.0, 50.0]])
    assert psnr(truth + 10, truth) == pytest.approx(20)
    assert psnr(truth, truth + 1e6) == pytest.approx(20 * math.log10(1e-4))
    assert psnr(np.zeros((2, 2)), truth) == pytest.approx(
        20 * math.log10(100 / math.sqrt(15000 / 4))
    )
    assert nrmse(np.zeros((2, 2)), truth) == pytest.approx(1)


def test_nothing_differs() -> None:
    _, truth = pair((20, 22))
    assert psnr(truth, truth) == math.inf
    found = quality_of(truth, truth, (0.1, 0.1))
    assert (found.psnr_db, found.nrmse, found.scale, found.offset) == (None, 0, 1, 0)
    assert found.ssim == pytest.approx(1, abs=1e-12)
    assert Quality.from_json(found.to_json()) == found


def test_whole_numbers_do_not_overflow() -> None:
    truth = np.array([[0, 200], [100, 50]], np.uint8)
    result = np.array([[255, 200], [100, 50]], np.uint8)
    assert psnr(result, truth) == pytest.approx(20 * math.log10(200 / (255 / 2)))
    assert psnr(truth, result.astype(np.uint16)) == pytest.approx(20 * math.log10(205 / (255 / 2)))


# -- scale and offset -------------------------------------------------------------------


def test_scale_and_offset_are_found() -> None:
    result, truth = pair((19, 23, 17))
    line = fit_of(result, truth)
    scale, offset = np.polyfit(result.ravel(), truth.ravel(), 1)
    assert line == pytest.approx((scale, offset), rel=1e-9)
    np.testing.assert_allclose(fitted(result, truth), scale * result + offset, rtol=1e-9)


def test_units_do_not_matter_where_they_are_fitted() -> None:
    result, truth = pair((13, 23, 17))
    other = 0.02 * result - 40
    assert psnr(other, truth, fit=True) == pytest.approx(psnr(result, truth, fit=True), rel=1e-9)
    assert nrmse(other, truth, fit=True) == pytest.approx(nrmse(result, truth, fit=True), rel=1e-9)
    assert ssim(other, truth, fit=True) == pytest.approx(ssim(result, truth, fit=True), rel=1e-9)
    assert psnr(other, truth) < psnr(result, truth) - 10
    assert quality_of(other, truth).scale == pytest.approx(50 * fit_of(result, truth).scale)
    as_it_is = quality_of(other, truth, fit=False)
    assert (as_it_is.scale, as_it_is.psnr_db) == (1, psnr(other, truth))


def test_a_constant_result_becomes_the_mean() -> None:
    _, truth = pair((20, 22))
    flat = np.full(truth.shape, 1234.567)  # of which the mean is another number, by rounding
    line = fit_of(flat, truth)
    assert line.scale == 0
    assert line.offset == pytest.approx(truth.mean())
    found = quality_of(flat, truth, (0.1, 0.1))
    assert found.shells is not None
    assert set(found.shells.correlations) == {0.0}


# -- structural similarity --------------------------------------------------------------


def plain_ssim(x: Array, y: Array) -> float:
    """Return the mean of the formula over all windows that lie inside, written out."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    for _ in range(x.ndim - 1):
        weights = np.multiply.outer(weights, np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2))
    weights = weights / weights.sum()
    c1, c2 = (0.01 * np.ptp(y)) ** 2, (0.03 * np.ptp(y)) ** 2
    found = []
    for start in np.ndindex(*(n - 10 for n in x.shape)):
        box = tuple(slice(i, i + 11) for i in start)
        a, b = x[box], y[box]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        shared = (weights * (a - mean_a) * (b - mean_b)).sum()
        found.append(
            (2 * mean_a * mean_b + c1)
            * (2 * shared + c2)
            / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    return float(np.mean(found))


@pytest.mark.parametrize("shape", [(31, 26), (14, 19, 13)])
@pytest.mark.parametrize("piece", [1 << 21, 300])
@pytest.mark.parametrize("level", [0.0, 1e5])
def test_ssim_is_that_of_its_formula(
    shape: tuple[int, ...], piece: int, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "PIECE", piece)
    result, truth = pair(shape, level)
    expected = plain_ssim(result, truth)
    assert 0.1 < expected < 0.99
    assert ssim(result, truth) == pytest.approx(expected, rel=1e-10)


def test_ssim_of_a_plane_is_that_of_a_volume_of_one_plane() -> None:
    result, truth = pair((30, 31))
    assert ssim(result[None], truth[None]) == pytest.approx(ssim(result, truth), rel=1e-12)


def test_ssim_of_thin_and_small_images() -> None:
    result, truth = pair((4, 40, 40))
    assert 0 < ssim(result, truth) < 1
    assert ssim(truth[:, :3, :3], truth[:, :3, :3]) == pytest.approx(1)


def test_contrast_turned_around_is_negative() -> None:
    truth = 20 + np.random.default_rng(0).normal(0, 1, (40, 40))
    assert ssim(40 - truth, truth) < -0.9


# -- Fourier shells ---------------------------------------------------------------------

#: Images of one physical size with fine and with coarse z, and a plane.
GRIDS = [((128, 128), (0.1, 0.1)), ((24, 96, 96), (0.4, 0.1, 0.1)), ((64, 64, 64), (0.1, 0.1, 0.1))]


def blurred_noise(
    shape: tuple[int, ...], spacing: tuple[float, ...], sigma_um: float, seed: int = 0
) -> Array:
    """Return white noise of variance 1, blurred by a Gaussian that is round in um."""
    noise = np.random.default_rng(seed).normal(size=shape)
    f = np.meshgrid(*map(np.fft.fftfreq, shape, spacing), indexing="ij")
    transfer = np.exp(-2 * (np.pi * sigma_um) ** 2 * sum(np.square(axis) for axis in f))
    real: Array = ifftn(fftn(noise) * transfer).real
    return real


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_an_image_agrees_with_itself(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).normal(5, 1, shape)
    found = fourier_shell_correlation(image, -2 + 3 * image, spacing)
    np.testing.assert_allclose(found.correlations, 1, rtol=1e-12)
    assert found.resolution_um is None
    assert found.frequencies_per_um[-1] == pytest.approx(5)
    turned = fourier_shell_correlation(image, -image, spacing)
    np.testing.assert_allclose(turned.correlations, -1, rtol=1e-12)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_independent_noise_does_not_agree(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    a, b = np.random.default_rng(0).normal(100, 1, (2, *shape))
    found = fourier_shell_correlation(a, b, spacing)
    loss = math.prod(1.31 for n in shape)
    sigmas = np.array(found.correlations) * np.sqrt(np.array(found.voxels) / loss)
    assert np.abs(sigmas).max() < 3.5  # the highest of up to 64 shells
    assert np.mean(np.abs(sigmas) < 3) > 0.97
    assert sigmas.std() == pytest.approx(1, abs=0.3)
    assert found.resolution_um is not None
    assert found.resolution_um > 2


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_all_voxels_are_in_a_shell_of_their_frequency(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    image = np.random.default_rng(0).normal(size=shape)
    found = fourier_shell_correlation(image, image, spacing)
    f = np.meshgrid(*map(np.fft.fftfreq, shape, spacing), indexing="ij")
    radius = np.sqrt(sum(np.square(axis) for axis in f))
    step = 1 / (shape[-1] * spacing[-1])
    expected = [int((np.rint(radius / step) == k).sum()) for k in range(1, shape[-1] // 2 + 1)]
    assert list(found.voxels) == expected
    np.testing.assert_allclose(found.frequencies_per_um, step * np.arange(1, len(expected) + 1))


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
@pytest.mark.parametrize("noise", [0.3, 0.1])
def test_the_resolution_of_a_known_signal_in_known_noise(
    shape: tuple[int, ...], spacing: tuple[float, ...], noise: float
) -> None:
    """The correlation is S / (S + N): it is 1/7 where the signal has a sixth of the noise."""
    sigma_um = 0.1
    signal = blurred_noise(shape, spacing, sigma_um)
    grain = noise * np.random.default_rng(1).normal(size=(2, *shape))
    found = fourier_shell_correlation(signal + grain[0], 7 - 3 * (-signal - grain[1]), spacing)
    f = math.sqrt(math.log(6 / noise**2)) / (2 * math.pi * sigma_um)
    assert found.resolution_um == pytest.approx(1 / f, rel=0.05)


def test_with_a_truth_the_correlation_is_the_square_root() -> None:
    shape, spacing = GRIDS[2]
    signal = blurred_noise(shape, spacing, 0.1)
    a, b = signal + 0.1 * np.random.default_rng(1).normal(size=(2, *shape))
    halves = np.array(fourier_shell_correlation(a, b, spacing).correlations[4:20])
    truth = fourier_shell_correlation(a, signal, spacing).correlations[4:20]
    np.testing.assert_allclose(np.square(truth), halves, atol=0.03)


def test_half_a_bit() -> None:
    shape, spacing = (64, 64, 64), (0.1, 0.1, 0.1)
    signal = blurred_noise(shape, spacing, 0.1)
    a, b = signal + 0.1 * np.random.default_rng(1).normal(size=(2, *shape))
    found = fourier_shell_correlation(a, b, spacing, threshold="half-bit")
    # Of endless voxels the threshold is 0.2071 / 1.2071, where the noise has 4.83 times the signal.
    f = math.sqrt(math.log(4.83 / 0.1**2)) / (2 * math.pi * 0.1)
    assert found.resolution_um == pytest.approx(1 / f, rel=0.05)
    assert found.thresholds[-1] == pytest.approx(0.2071 / 1.2071, rel=0.2)
    assert all(x > y for x, y in zip(found.thresholds, found.thresholds[1:], strict=False))
    # Van Heel and Schatz 2005, at the one shell whose count is known by hand.
    assert found.voxels[0] == 18
    loss = quality._loss([quality._window(64)] * 3)
    root = math.sqrt(18 / loss)
    assert found.thresholds[0] == pytest.approx((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))


def test_the_first_crossing_is_taken_between_two_shells() -> None:
    f, threshold = np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 0.5)
    crossing = quality._crossing
    assert crossing(f, np.array([0.9, 0.6, 0.2, 0.9]), threshold) == pytest.approx(1 / 2.25)
    assert crossing(f, np.array([0.9, 0.6, 0.5, 0.9]), threshold) is None
    assert crossing(f, np.array([0.0, 0.6, 0.6, 0.6]), threshold) == pytest.approx(1 / 0.5)


def test_borders_do_not_correlate() -> None:
    """Both fall off towards one side: the jump to the other is in both, and no detail."""
    ramp = np.linspace(0, 20, 128)
    a, b = ramp + np.random.default_rng(0).normal(size=(2, 128, 128))
    found = fourier_shell_correlation(a, b, (0.1, 0.1))
    assert abs(np.mean(found.correlations[16:32])) < 0.05
    assert abs(np.mean(found.correlations[32:])) < 0.02


def test_a_plane_is_a_volume_of_one_plane() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 32, 48))
    flat = fourier_shell_correlation(a, b, (0.2, 0.1))
    thick = fourier_shell_correlation(a[None], b[None], (0.05, 0.2, 0.1))
    np.testing.assert_allclose(thick.correlations, flat.correlations, atol=1e-12)
    assert thick.voxels == flat.voxels


# -- in words, and what is refused ------------------------------------------------------


def test_all_figures_are_said() -> None:
    result, truth = pair((40, 44))
    found = quality_of(2 * result, truth, (0.1, 0.1))
    assert found.resolution_um is not None
    said = found.in_words()
    for part in (f"PSNR {found.psnr_db:.2f} dB", f"SSIM {found.ssim:.4f}", "the result times 0."):
        assert part in said
    assert said.endswith(f"FSC below 1/7 at {found.resolution_um:.3g} um")
    assert "FSC" not in quality_of(result, truth).in_words()
    assert Quality.from_json(found.to_json()) == found


FLAT, BAD = np.full((8, 8), 3.0), np.where(np.eye(8), np.nan, 1.0)
RISING = np.arange(64.0).reshape(8, 8)


@pytest.mark.parametrize(
    ("result", "truth", "sentence"),
    [
        (RISING, RISING[1:], r"The result has the shape \(8, 8\), the truth \(7, 8\); crop or pad"),
        (RISING, FLAT, "The truth is 3 in every voxel, so that errors"),
        (RISING, BAD, "The truth holds 8 NaN or infinite values; replace them"),
        (BAD, RISING, "The result holds 8 NaN or infinite values; replace them"),
        (RISING * 1j, RISING, "The result holds complex128, not real numbers"),
        (RISING[0], RISING[0], r"Images of two or three axes .* not of shape \(8,\)"),
        (RISING[:0], RISING[:0], r"Images of two or three axes with voxels"),
    ],
)
def test_what_cannot_be_compared_is_refused(result: Array, truth: Array, sentence: str) -> None:
    for figure in (psnr, nrmse, ssim, fitted, fit_of, quality_of):
        with pytest.raises(InputError, match=sentence):
            figure(result, truth)


def test_shells_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="A voxel size of 3 numbers does not fit images of 2 axes"):
        fourier_shell_correlation(RISING, RISING, (0.1, 0.1, 0.1))
    with pytest.raises(InputError, match="The y spacing in um must be greater than 0"):
        fourier_shell_correlation(RISING, RISING, (0.0, 0.1))
    with pytest.raises(InputError, match=r"The threshold '0\.5' is not known; choose 1/7 or half-"):
        fourier_shell_correlation(RISING, RISING, (0.1, 0.1), threshold="0.5")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too small for Fourier shells"):
        fourier_shell_correlation(RISING[:3, :3], RISING[:3, :3], (0.1, 0.1))
    with pytest.raises(InputError, match="The second image is 3 in every voxel"):
        fourier_shell_correlation(RISING, FLAT, (0.1, 0.1))
