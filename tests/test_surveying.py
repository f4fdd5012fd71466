"""What decides for a whole block, and from which voxels."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pytest
from scipy.signal import fftconvolve

from napari_deconv.engines import open_engine
from napari_deconv.imaging.noise import SAMPLE
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended
from napari_deconv.surveying import background_in, background_of, regions_of_background
from napari_deconv.tiling import settling


@pytest.mark.parametrize("shape", [(24, 256, 300), (3, 700, 900), (1200, 1100), (2, 3, 400_000)])
def test_the_background_is_that_of_the_voxels_wherever_they_lie(shape: tuple[int, ...]) -> None:
    """Dark at one side, light at the other: what is looked at decides what is found."""
    rng, axes = np.random.default_rng(0), "ZYX"[-len(shape) :]
    image = rng.poisson(np.linspace(20, 60, shape[-1]) * np.ones(shape))
    found = background_of(Stack(image, axes), (), "auto")
    lazy = da.from_array(image, chunks=tuple(max(n // 3, 1) for n in shape))
    assert background_of(Stack(lazy, axes), (), "auto") == found
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


def test_tiles_of_a_movie_are_settled_by_its_brightest_image() -> None:
    """A first image may be dark; what it would decide is not for the others."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[-3:4, -4:5, -4:5]
    psf = Psf(np.exp(-(z**2 + y**2 + x**2) / 4))
    light = np.zeros((8, 48, 48))
    light[4, 10:40:6, 10:40:6] = 3000
    seen = fftconvolve(light, psf.samples, "same")
    frames = rng.poisson(100 + np.stack([np.zeros_like(seen), seen]))
    method = RichardsonLucy.automatic()
    counts = []
    for movie in (frames, frames[1:]):
        parts = (Stack(movie, "TZYX"), method, "auto", (psf,), open_engine("cpu"), 0, 1e-3)
        settled = ended(settling(*parts, in_tiles=True))
        (decided,) = settled.methods
        assert isinstance(decided, RichardsonLucy)
        counts.append(decided.iterations)
        assert list(settled.backgrounds) == [(t,) for t in range(len(movie))]
    assert counts[0] == counts[1]


def test_an_image_fades_and_its_background_with_it() -> None:
    rng = np.random.default_rng(0)
    movie = Stack(np.stack([rng.poisson(n, (6, 64, 64)) for n in (130, 115, 100)]), "TZYX")
    for time, level in enumerate((130, 115, 100)):
        found = background_of(movie, (time,), "auto")
        assert found == pytest.approx(level, abs=2)
        assert background_in(movie.data[time], "auto") == found
