"""The camera, from the noise of an image: its gain and its offset."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_deconv.imaging.camera import Camera, camera_of
from napari_deconv.imaging.value import InputError


def counts(gain: float, offset: float, photons: float, *, read_noise: float = 0.0) -> np.ndarray:
    """Return blurred dots as a camera records them."""
    rng = np.random.default_rng(2)
    dots = np.where(rng.random((8, 128, 128)) > 0.995, 1.0, 0.0)
    light = gaussian_filter(dots, 2.5)
    caught = rng.poisson(2 + photons * light / light.max()) + rng.normal(0, read_noise, light.shape)
    return np.asarray(np.rint(offset + gain * caught))


@pytest.mark.parametrize("photons", [30, 300, 3000])
@pytest.mark.parametrize(("gain", "offset"), [(0.8, 100), (1.0, 0), (2.2, 100), (8.0, 400)])
def test_gain_and_offset_are_found(gain: float, offset: float, photons: float) -> None:
    found = camera_of(counts(gain, offset, photons), read_noise=0)
    assert found is not None
    assert found.gain == pytest.approx(gain, rel=0.1)
    assert found.offset == pytest.approx(offset, abs=1.5 * gain + 0.5)


@pytest.mark.parametrize("part", [0.001, 0.01, 0.1])
def test_saturated_voxels_tell_of_no_camera(part: float) -> None:
    image = counts(2.2, 100, 300)
    found = camera_of(np.minimum(image, np.quantile(image, 1 - part)), read_noise=0)
    assert found is not None
    assert found.gain == pytest.approx(2.2, rel=0.15)
    assert found.offset == pytest.approx(100, abs=6)


@pytest.mark.parametrize("part", [0.0005, 0.001, 0.002])
@pytest.mark.parametrize("photons", [30, 300])
def test_hot_pixels_tell_of_no_camera(part: float, photons: float) -> None:
    image, rng = counts(2.2, 100, photons), np.random.default_rng(1)
    hot = rng.random(image.shape) < part
    image[hot] += rng.exponential(300, hot.sum())
    found = camera_of(image, read_noise=0)
    assert found is not None
    assert found.gain == pytest.approx(2.2, rel=0.15)
    assert found.offset == pytest.approx(100, abs=5)


def test_with_little_light_chance_does_not_lower_the_gain() -> None:
    """One image tells it to a quarter, of either sign; by its own noise it would be half."""
    gains, offsets = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        light = np.maximum(gaussian_filter(rng.normal(size=(12, 128, 128)), (1, 3, 3)) - 0.1, 0)
        caught = rng.poisson(0.5 + 8 * light / light.max()) + rng.normal(0, 1, light.shape)
        found = camera_of(np.rint(100 + 2.2 * caught), read_noise=1)
        assert found is not None
        gains.append(found.gain)
        offsets.append(found.offset)
    assert np.abs(np.array(gains) / 2.2 - 1).max() < 0.25
    assert np.median(gains) == pytest.approx(2.2, rel=0.1)
    assert np.median(offsets) == pytest.approx(100, abs=1)


def test_a_single_plane_tells_the_gain() -> None:
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    light = 300 * np.exp(-3 * (x**2 + y**2))
    found = camera_of(100 + 2.2 * np.random.default_rng(0).poisson(light), read_noise=0)
    assert found is not None
    assert found.gain == pytest.approx(2.2, rel=0.1)


@pytest.mark.parametrize("columns", [8, 32, 64])
def test_borders_that_were_filled_tell_of_no_camera(columns: int) -> None:
    image = counts(2.2, 100, 300)
    image[..., :columns] = 0
    found = camera_of(image, read_noise=0)
    assert found is not None
    assert found.gain == pytest.approx(2.2, rel=0.1)
    assert found.offset == pytest.approx(100, abs=4)


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_the_gain_of_a_small_plane_is_found_roughly(gain: float) -> None:
    light = np.outer(np.geomspace(2, 120, 64), np.ones(48))
    for seed in range(8):
        caught = np.random.default_rng(seed).poisson(light)
        found = camera_of(gain * caught, read_noise=0)
        assert found is not None
        assert gain / 1.6 < found.gain < 1.6 * gain


def test_read_noise_that_is_known_does_not_move_the_offset() -> None:
    image = counts(2.0, 100, 300, read_noise=3)
    found, naive = camera_of(image, read_noise=3), camera_of(image, read_noise=0)
    assert found is not None
    assert naive is not None
    assert found.offset == pytest.approx(100, abs=3)
    assert naive.offset == pytest.approx(100 - 2 * 9, abs=3)


@pytest.mark.parametrize(
    "image",
    [
        np.full((4, 64, 64), 7),
        np.zeros((2, 2)),
        np.random.default_rng(0).normal(100, 5, (8, 128, 128)),
        np.random.default_rng(0).poisson(0.3, (8, 128, 128)),
        np.random.default_rng(0).poisson(9, (1, 20, 20)),
        np.where(np.arange(128) == 5, np.nan, counts(2.0, 100, 300)),
    ],
    ids=["constant", "four pixels", "read noise alone", "flat light", "too few", "not finite"],
)
def test_where_the_noise_tells_nothing_there_is_no_camera(image: np.ndarray) -> None:
    assert camera_of(image) is None


def test_a_camera_is_checked() -> None:
    with pytest.raises(InputError, match="gain in counts a photon"):
        Camera(gain=0)
    with pytest.raises(InputError, match="read noise in photons"):
        Camera(read_noise=-1)


def test_recorded_counts_have_the_mean_and_the_noise_of_the_camera() -> None:
    camera = Camera(gain=2.5, offset=100.0, read_noise=3.0)
    counts = camera.recorded(np.full(200_000, 40.0), np.random.default_rng(0))
    assert counts.mean() == pytest.approx(100 + 2.5 * 40, abs=0.2)
    assert counts.var() == pytest.approx(2.5**2 * (40 + 3.0**2), rel=0.02)
