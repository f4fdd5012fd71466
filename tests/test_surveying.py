"""What decides for a whole block, and from which voxels."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest

from napari_deconv.imaging.noise import SAMPLE
from napari_deconv.imaging.stack import Stack
from napari_deconv.surveying import background_of, regions_of_background


@pytest.mark.parametrize("shape", [(24, 256, 300), (3, 700, 900), (1200, 1100), (2, 3, 400_000)])
def test_the_background_is_that_of_the_voxels_wherever_they_lie(shape: tuple[int, ...]) -> None:
    """Dark at one side, light at the other: what is looked at decides what is found."""
    rng, axes = np.random.default_rng(0), "ZYX"[-len(shape) :]
    image = rng.poisson(np.linspace(20, 60, shape[-1]) * np.ones(shape))
    found = background_of(Stack(image, axes), 0, "auto")
    lazy = da.from_array(image, chunks=tuple(max(n // 3, 1) for n in shape))
    assert background_of(Stack(lazy, axes), 0, "auto") == found
    assert 18 < found < 40


@pytest.mark.parametrize("shape", [(400, 900, 800), (2, 4000, 3000), (5000, 4000), (64, 3, 90_000)])
def test_a_background_is_looked_for_in_many_places_of_few_voxels(shape: tuple[int, ...]) -> None:
    regions = regions_of_background(shape)
    assert sum(math.prod(region.shape) for region in regions) <= SAMPLE
    for axis, n in enumerate(shape):
        starts = [region.start[axis] for region in regions]
        ends = [region.start[axis] + region.shape[axis] for region in regions]
        assert min(starts) <= n / 4
        assert n * 3 / 4 <= max(ends) <= n
