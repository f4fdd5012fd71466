"""The brightness of an image: of its parts as of the whole, and no hot pixel's."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.imaging.brightness import BIN, RANK, brightest_bins, brightness_of, merged


def test_it_is_that_of_bins_one_by_one() -> None:
    image = np.random.default_rng(0).poisson(30, (7, 22, 19))
    means = [
        image[z : z + 2, y : y + 4, x : x + 4].mean()
        for z in range(0, 6, 2)
        for y in range(0, 20, 4)
        for x in range(0, 16, 4)
    ]
    assert brightest_bins(image) == pytest.approx(sorted(means)[::-1][:RANK])
    assert brightness_of(image) == pytest.approx(sorted(means)[-RANK])


def test_parts_that_begin_at_a_bin_make_the_whole() -> None:
    image = np.random.default_rng(1).poisson(30, (9, 40, 50)).astype(np.uint16)
    cuts = [
        (slice(0, 4), slice(4, 9)),
        (slice(0, 24), slice(24, 40)),
        (slice(0, 48), slice(48, 50)),
    ]
    image[:, :, 48:] = 1000  # narrower than a bin: it does not count, in parts as in the whole
    places = [(z, y, x) for z in cuts[0] for y in cuts[1] for x in cuts[2]]
    found = [brightest_bins(image[place], image.shape) for place in places]
    assert merged(*found)[-1] == brightness_of(image) < 100


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 7, 9), (2, 4, 4), (1, 1, 1)])
def test_small_images_have_one(shape: tuple[int, ...]) -> None:
    assert brightness_of(np.full(shape, 7, np.uint8)) == 7


def test_hot_pixels_are_no_light_and_a_blurred_point_is() -> None:
    image = np.full((12, 64, 64), 10.0)
    image[3, 8, 8] = image[9, 50, 41] = 60_000
    image[5, 30, 30] = 60_000
    assert brightness_of(image) == 10
    z, y, x = np.ogrid[:12, :64, :64]
    image += 100 * np.exp(-((z - 6) ** 2) / 8 - ((y - 33) ** 2 + (x - 21) ** 2) / 4)
    image[image > 1000] = 10
    assert 15 < brightness_of(image) < 110
    assert BIN[-1] == 4
