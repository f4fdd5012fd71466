"""What a run will take, said before it starts."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import memory_needed_bytes
from napari_deconv.planning import forecast, plan
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHORT, LONG = RichardsonLucy(4), RichardsonLucy(40)
PSF = Psf(np.ones((3, 5, 5)))
VOLUME = Stack(np.ones((5, 12, 14)), "ZYX")
MOVIE = Stack(np.ones((2, 3, 5, 12, 14)), "TCZYX")


def test_the_forecast_follows_from_shapes_and_iterations() -> None:
    engine = CpuEngine()
    one = forecast(VOLUME, SHORT, PSF.shape, engine)
    assert one.work_shape == SHORT.work_shape((5, 12, 14), PSF.shape)
    assert one.blocks == 1
    assert one.memory_bytes == memory_needed_bytes(VOLUME, SHORT, PSF.shape)
    assert 2**24 < one.free_bytes < 2**45
    assert 0 < one.seconds < 1
    many = forecast(MOVIE, SHORT, PSF.shape, engine)
    assert many.blocks == 6
    assert many.seconds == pytest.approx(6 * one.seconds)
    longer = forecast(VOLUME, LONG, PSF.shape, engine)
    assert longer.seconds == pytest.approx(one.seconds * LONG.transforms / SHORT.transforms)


def test_the_plan_is_what_would_run() -> None:
    made = plan(MOVIE, Recipe(PSF, SHORT, engine="cpu"))
    assert made.psf is PSF
    assert made.engine == f"{CpuEngine().device} (as chosen)"
    assert made.forecast.blocks == 6


def test_a_plan_that_cannot_run_is_refused() -> None:
    with pytest.raises(InputError, match="The engine 'gpu' is not known"):
        plan(VOLUME, Recipe(PSF, SHORT, engine="gpu"))
