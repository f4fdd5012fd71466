"""Noise and background, estimated from simulated images of which both are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_deconv.imaging.noise import (
    SAMPLE,
    background_level,
    noise_beneath,
    noise_sigma,
    sampled,
)

Array = npt.NDArray[np.float64]


def camera(expected: Array, read_noise: float, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Return what a camera records: photons, read noise, whole numbers."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(expected) + rng.normal(0, read_noise, expected.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def cells(shape: tuple[int, ...], filled: float, brightness: float, seed: int = 1) -> Array:
    """Return blurred blobs that cover about `filled` of a volume, without a background."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3.0)
    inside = field > np.quantile(field, 1 - filled)
    blurred: Array = brightness * ndimage.gaussian_filter(inside.astype(float), 1.5)
    return blurred


# -- noise -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "read_noise"), [(100.0, 0.0), (100.0, 5.0), (20.0, 8.0), (2000, 3)]
)
@pytest.mark.parametrize("shape", [(12, 64, 64), (200, 200)])
def test_the_noise_of_a_flat_field(shape: tuple[int, ...], level: float, read_noise: float) -> None:
    """Photons, read noise, and the rounding to whole numbers add up."""
    image = camera(np.full(shape, level), read_noise)
    expected = math.sqrt(level + read_noise**2 + 1 / 12)
    assert noise_sigma(image) == pytest.approx(expected, rel=0.06)


def test_smooth_structure_is_no_noise() -> None:
    rng = np.random.default_rng(0)
    smooth = cells((10, 96, 96), 0.1, 150)
    assert smooth.max() > 120
    assert noise_sigma(smooth + rng.normal(0, 4, smooth.shape)) == pytest.approx(4, rel=0.1)


def test_noise_scales_with_the_counts_and_ignores_an_offset() -> None:
    image = np.random.default_rng(0).normal(100, 5, (6, 40, 40))
    assert noise_sigma(3 * image + 1000) == pytest.approx(3 * noise_sigma(image), rel=1e-9)


@pytest.mark.parametrize("shape", [(4, 8, 9), (8, 9), (5, 1, 40), (5, 40, 1)])
def test_a_constant_has_no_noise(shape: tuple[int, ...]) -> None:
    assert noise_sigma(np.full(shape, 123.0)) == 0


@pytest.mark.parametrize("shape", [(1, 300, 300), (4000, 1, 30), (4000, 30, 1)])
def test_axes_of_one_voxel_are_left_out(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(50, 5, shape)
    assert noise_sigma(image) == pytest.approx(5, rel=0.05)


def test_a_large_image_is_sampled_plane_by_plane() -> None:
    """Planes that differ in level, and more voxels than are looked at."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 5, (40, 256, 256)).astype(np.float32)
    image += 1000 * np.arange(40, dtype=np.float32)[:, None, None]
    assert image.size > 2 * SAMPLE
    assert noise_sigma(image) == pytest.approx(5, rel=0.02)


def test_of_large_planes_all_are_looked_at() -> None:
    """The first ones of a stack are dim: their noise is not that of the others."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 5, (6, 1100, 1100)).astype(np.float32)
    image[0] /= 50
    seen = sampled(image)
    assert SAMPLE / 2 < seen.size <= SAMPLE
    # The median of all: less than that of five planes alone.
    assert noise_sigma(image) == pytest.approx(3.9, rel=0.05)
    assert noise_sigma(image[::-1]) == pytest.approx(3.9, rel=0.05)


def test_boxes_of_a_large_image_lie_all_over_it() -> None:
    """Each octant has its share of them."""
    image = np.arange(40 * 300 * 320).reshape(40, 300, 320)
    z, y, x = np.unravel_index(sampled(image).astype(int)[:, 0, 0], image.shape)
    octants = (z >= 20) * 4 + (y >= 118) * 2 + (x >= 128)
    shares = np.bincount(octants, minlength=8) / len(octants)
    assert 0.09 < shares.min() <= shares.max() < 0.16
    assert set(range(40)) == set(z)


# -- background ------------------------------------------------------------------------


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


def points_of_light(photons: float, part: float = 0.002) -> Array:
    rng = np.random.default_rng(1)
    light = ndimage.gaussian_filter((rng.random((8, 128, 128)) < part) * 1.0, 1.5)
    return np.asarray(rng.poisson(10 + photons * light / light.max()), float)


@pytest.mark.parametrize("photons", [10, 100, 1000, 10000])
@pytest.mark.parametrize("part", [0.0005, 0.002])
def test_what_was_recorded_hides_no_noise(photons: float, part: float) -> None:
    assert noise_beneath(points_of_light(photons, part)) == 1


@pytest.mark.parametrize("photons", [10, 100])
@pytest.mark.parametrize(
    "changed",
    [
        lambda image: ndimage.median_filter(image, (1, 3, 3)),
        lambda image: ndimage.gaussian_filter(image, (0, 0.7, 0.7)),
        lambda image: ndimage.shift(image, (0, 0.4, 0.3), order=1),
    ],
    ids=["median", "Gaussian", "moved"],
)
def test_what_was_filtered_or_moved_does(changed: Any, photons: float) -> None:
    assert 6 < noise_beneath(changed(points_of_light(photons))) <= 50


@pytest.mark.parametrize("order", [0, 1])
def test_what_was_turned_within_filled_borders_does_where_it_was_interpolated(order: Any) -> None:
    turned = ndimage.rotate(100 + points_of_light(100), 30, axes=(1, 2), order=order)
    assert (turned == 0).mean() > 0.25
    assert (noise_beneath(turned) > 1.5) == (order == 1)


@pytest.mark.parametrize("image", [np.zeros((3, 40, 40)), np.ones((9, 9)), np.zeros((1, 1))])
def test_what_has_no_noise_hides_none(image: Array) -> None:
    assert noise_beneath(image) == 1
