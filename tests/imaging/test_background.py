"""The background, estimated from simulated images of which it is known."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_deconv.imaging.background import background_level
from napari_deconv.imaging.noise import SAMPLE, noise_sigma

from .recorded import camera, cells


@pytest.mark.parametrize("level", [5.0, 20.0, 100.0, 500.0])
@pytest.mark.parametrize("filled", [0.02, 0.1, 0.3])
def test_the_background_of_a_sparse_image(filled: float, level: float) -> None:
    """Within 0.6 of the noise of one voxel."""
    image = camera(cells((12, 96, 96), filled, 400) + level, 2.0)
    assert background_level(image) == pytest.approx(level, abs=0.6 * math.sqrt(level + 4))


@pytest.mark.parametrize("level", [20.0, 100.0, 500.0])
def test_the_background_of_a_dense_image(level: float) -> None:
    """Hardly any voxel shows it pure, so it comes out high: by at most 1.2 of the noise."""
    image = camera(cells((12, 96, 96), 0.6, 400) + level, 2.0)
    assert 0 < background_level(image) - level < 1.2 * math.sqrt(level + 4)


def test_where_all_is_bright_it_is_never_above_the_median() -> None:
    image = camera(cells((12, 96, 96), 0.95, 400) + 50, 2.0)
    assert 50 < background_level(image) <= np.median(image)


def test_a_dense_image_without_any_dark_part_stays_in_its_range() -> None:
    image = np.random.default_rng(0).uniform(100, 200, (10, 64, 64))
    assert 100 <= background_level(image) <= 150


def test_of_few_photons_the_most_frequent_counts_are_found() -> None:
    """Of a Poisson distribution with mean 3, those are 2 and 3."""
    level = background_level(np.random.default_rng(0).poisson(3.0, (10, 64, 64)))
    assert 1.5 <= level <= 3.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_the_type_does_not_matter(dtype: npt.DTypeLike) -> None:
    image = camera(np.full((8, 64, 64), 100.0), 0)
    assert background_level(image.astype(dtype)) == background_level(image)
    assert noise_sigma(image.astype(dtype)) == noise_sigma(image)


@pytest.mark.parametrize("value", [0, 7, 1000.5])
def test_a_constant_is_its_own_background(value: float) -> None:
    assert background_level(np.full((4, 8, 9), value)) == pytest.approx(value, abs=0.5)


def test_it_is_never_negative_and_gives_the_same_twice() -> None:
    image = np.random.default_rng(0).normal(-20, 3, (8, 32, 32))
    assert background_level(image) == 0
    counts = camera(np.full((8, 64, 64), 10.0), 1)
    assert background_level(counts) == background_level(counts.copy())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_handful_of_voxels_has_a_background_too(count: int) -> None:
    level = background_level(np.arange(10.0, 10 + count).reshape(1, -1))
    assert 9.5 <= level <= 10 + count


def test_a_large_image_is_sampled() -> None:
    image = camera(np.full((40, 256, 256), 100.0), 3)
    assert image.size > 2 * SAMPLE
    assert background_level(image) == pytest.approx(100, abs=2)


@pytest.mark.parametrize("level", [20, 80, 800])
@pytest.mark.parametrize("offset", [0, 100])
def test_an_object_that_fills_most_of_the_field_is_no_background(level: int, offset: int) -> None:
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    light = np.where(x**2 + y**2 < 0.9, level, 0) * np.ones((6, 1, 1))
    counts = offset + np.random.default_rng(0).poisson(light + 1)
    assert background_level(counts) == pytest.approx(offset + 1, abs=1)


@pytest.mark.parametrize("part", [0.08, 0.13, 0.6])
def test_what_was_masked_has_its_background_taken_off(part: float) -> None:
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    counts = np.random.default_rng(0).poisson(300, (6, 128, 128)).astype(float)
    counts[:, x**2 + y**2 > 4 * part / np.pi] = 0
    assert background_level(counts) == 0


@pytest.mark.parametrize("columns", [8, 20])
def test_borders_that_were_filled_are_no_background(columns: int) -> None:
    counts = np.random.default_rng(0).poisson(100, (6, 96, 96))
    counts[..., :columns] = 0
    assert background_level(counts) == pytest.approx(100, abs=4)


@pytest.mark.parametrize("level", [20, 100, 1000])
def test_the_level_of_what_is_flat_is_its_mean(level: int) -> None:
    for seed in range(3):
        counts = np.random.default_rng(seed).poisson(level, (8, 128, 128))
        assert background_level(counts) == pytest.approx(level, abs=0.2 * np.sqrt(level))


@pytest.mark.parametrize("level", [3, 10, 30])
def test_the_level_of_few_photons_beside_sparse_light_is_their_mean(level: int) -> None:
    """Within a twentieth of the noise: counts of few photons are skewed, which is no light."""
    points = np.random.default_rng(1).random((24, 96, 96)) < 2e-4
    light = ndimage.gaussian_filter(points * 1.0, 2.0)
    for seed in range(3):
        counts = np.random.default_rng(seed).poisson(level + 20 * light / light.max())
        assert background_level(counts) == pytest.approx(level, abs=0.05 * math.sqrt(level))


@pytest.mark.parametrize("offset", [0, 100])
def test_light_that_lies_over_all_of_the_image_is_no_background(offset: int) -> None:
    """As in a thick sample: below all but a hundredth, and not far below what all voxels see."""
    rng = np.random.default_rng(2)
    haze = ndimage.gaussian_filter(rng.random((16, 128, 128)), (2, 8, 8), mode="wrap")
    haze = 20 + 200 * (haze - haze.min()) / np.ptp(haze)
    level = background_level(offset + rng.poisson(haze)) - offset
    assert 15 < level < np.quantile(haze, 0.01)


def test_where_most_voxels_caught_no_photon_there_is_no_background() -> None:
    counts = np.random.default_rng(0).poisson(0.2, (6, 64, 64))
    assert background_level(counts) == 0


def test_dead_pixels_all_over_the_image_are_no_background() -> None:
    rng = np.random.default_rng(0)
    counts = 100 + rng.poisson(20, (4, 64, 64))
    counts[rng.random(counts.shape) < 0.15] = 0  # hardly a square is without one
    assert background_level(counts) == pytest.approx(120, abs=2)
