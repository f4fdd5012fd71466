"""How alike two images are, frequency by frequency: against known spectra."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.fft import fftn, ifftn

from napari_deconv.imaging import shell_correlation
from napari_deconv.imaging.shell_correlation import fourier_shell_correlation
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]
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
    loss = shell_correlation._loss([shell_correlation._window(64)] * 3)
    root = math.sqrt(18 / loss)
    assert found.thresholds[0] == pytest.approx((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))


def test_the_first_crossing_is_taken_between_two_shells() -> None:
    f, threshold = np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 0.5)
    crossing = shell_correlation._crossing
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


def test_shells_that_make_no_sense_are_refused() -> None:
    rising, flat = np.arange(64.0).reshape(8, 8), np.full((8, 8), 3.0)
    with pytest.raises(InputError, match="A voxel size of 3 numbers does not fit images of 2 axes"):
        fourier_shell_correlation(rising, rising, (0.1, 0.1, 0.1))
    with pytest.raises(InputError, match="The y spacing in um must be greater than 0"):
        fourier_shell_correlation(rising, rising, (0.0, 0.1))
    with pytest.raises(InputError, match=r"The threshold '0\.5' is not known; choose 1/7 or half-"):
        fourier_shell_correlation(rising, rising, (0.1, 0.1), threshold="0.5")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too small for Fourier shells"):
        fourier_shell_correlation(rising[:3, :3], rising[:3, :3], (0.1, 0.1))
    with pytest.raises(InputError, match="The second image is 3 in every voxel"):
        fourier_shell_correlation(rising, flat, (0.1, 0.1))
