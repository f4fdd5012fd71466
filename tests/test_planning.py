"""What a run will take, said before it starts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.planning import CARRIED, plan
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

SHORT, LONG = RichardsonLucy(4), RichardsonLucy(40)
PSF = Psf(np.ones((3, 5, 5)))
VOLUME = Stack(np.ones((5, 12, 14)), "ZYX")
MOVIE = Stack(np.ones((2, 3, 5, 12, 14)), "TCZYX")


def test_the_forecast_follows_from_shapes_and_iterations() -> None:
    one = plan(VOLUME, Recipe(PSF, SHORT, engine="cpu")).forecast
    assert one.work_shape == SHORT.work_shape((5, 12, 14), PSF.shape)
    assert (one.blocks, one.tiles) == (1, 1)
    assert one.memory_bytes > 4 * (SHORT.volumes * 5 * 12 * 14 + VOLUME.data.size)
    assert 2**24 < one.free_bytes < 2**45
    assert 0 < one.seconds < 1
    many = plan(MOVIE, Recipe(PSF, SHORT, engine="cpu")).forecast
    assert (many.blocks, many.tiles) == (6, 6)
    assert many.seconds == pytest.approx(6 * one.seconds)
    longer = plan(VOLUME, Recipe(PSF, LONG, engine="cpu")).forecast
    carried = CARRIED * math.prod(one.work_shape)
    assert longer.seconds - carried == pytest.approx(
        (one.seconds - carried) * LONG.transforms / SHORT.transforms
    )


@pytest.mark.parametrize(
    ("shape", "least", "most"), [((5, 12, 14), 6, 8), ((64, 1200, 1200), 1, 1.1)]
)
def test_of_a_large_image_only_a_part_is_looked_at_before(
    shape: tuple[int, ...], least: float, most: float
) -> None:
    stack = Stack(np.broadcast_to(np.float32(1), shape), "ZYX")
    automatic = RichardsonLucy.automatic()
    methods = automatic, replace(automatic, automatic_stop=False)
    looking, plain = (
        plan(stack, Recipe(PSF, method, engine="cpu"), memory_bytes=2**34).forecast.seconds
        for method in methods
    )
    assert least * plain < looking < most * plain


def test_less_memory_means_more_tiles_and_no_more_than_that() -> None:
    large = Stack(np.broadcast_to(np.float32(1), (24, 1200, 1200)), "ZYX")
    for method in (SHORT, Wiener(), RichardsonLucy(4, "biggs-andrews")):
        recipe = Recipe(PSF, method, engine="cpu")
        whole = plan(large, recipe, memory_bytes=2**34).forecast
        tiled = plan(large, recipe, memory_bytes=2**28 + 4 * 24 * 1200**2).forecast
        assert whole.tiles == 1 < tiled.tiles
        assert tiled.memory_bytes <= 2**28 + 4 * 24 * 1200**2 < whole.memory_bytes
        assert tiled.reads_twice
        into_file = plan(large, recipe, memory_bytes=2**28, into_file=True).forecast
        assert into_file.tiles == tiled.tiles
        assert into_file.memory_bytes <= 2**28


def test_the_plan_is_what_would_run() -> None:
    made = plan(MOVIE, Recipe(PSF, SHORT, engine="cpu"))
    assert made.psf is PSF
    assert made.engine == f"{CpuEngine().device} (as chosen)"
    assert made.forecast.blocks == 6


def test_a_plan_that_cannot_run_is_refused() -> None:
    with pytest.raises(InputError, match="The engine 'gpu' is not known"):
        plan(VOLUME, Recipe(PSF, SHORT, engine="gpu"))
