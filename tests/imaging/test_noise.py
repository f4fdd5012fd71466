"""Noise, estimated from simulated images of which it is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_deconv.imaging.noise import (
    SAMPLE,
    noise_beneath,
    noise_sigma,
    sampled,
)

from .recorded import camera, cells

Array = npt.NDArray[np.float64]


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
@pytest.mark.parametrize("fill", [0, 110])  # apart from all counts, and amid them
def test_what_was_turned_within_filled_borders_does_where_it_was_interpolated(
    fill: float, order: Any
) -> None:
    image = 100 + points_of_light(100)
    turned = ndimage.rotate(image, 30, axes=(1, 2), order=order, cval=fill)
    assert (turned == fill).mean() > 0.25
    assert (noise_beneath(turned) > 1.5) == (order == 1)
    if order == 0:
        # Of whole numbers, it is known to a step of them.
        assert noise_sigma(turned) == pytest.approx(noise_sigma(image), abs=0.8)


@pytest.mark.parametrize("image", [np.zeros((3, 40, 40)), np.ones((9, 9)), np.zeros((1, 1))])
def test_what_has_no_noise_hides_none(image: Array) -> None:
    assert noise_beneath(image) == 1
