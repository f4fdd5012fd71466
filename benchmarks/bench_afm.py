"""How long reconstruction and the estimates of tips take; bench_docks.py has the sliders.

A simulated image of 512 x 512 pixels. The figures to read are the medians, in milliseconds; what is
compiled is compiled before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_deconv.afm.blind_tip import BlindTip, blind_tip
from napari_deconv.afm.gradient_tip import GradientTip, gradient_tip
from napari_deconv.afm.morphology import certainty, dilate, erode, reconstructed
from napari_deconv.afm.simulated import imaged, surface_of
from napari_deconv.afm.tips import Paraboloid, SphereCone, Tip, tip_of

PIXEL, NOISE = (1.0, 1.0), 0.2


def cone(side: int) -> Tip:
    half = side // 2 + 1
    return tip_of(SphereCone(6.0, 20.0), PIXEL, 1e3, (half, half))


def image(side: int = 512) -> np.ndarray:
    random = np.random.default_rng(3)
    parts = [surface_of(kind, (side, side), PIXEL, random) for kind in ("particles", "filaments")]
    surface = np.maximum(*parts)
    tip = tip_of(SphereCone(6.0, 20.0), PIXEL, float(np.ptp(surface)), (side, side))
    return imaged(surface, tip, NOISE, random)


@pytest.mark.parametrize(
    "work",
    [
        lambda heights: reconstructed(heights, Paraboloid(8.0), PIXEL),
        lambda heights: erode(heights, cone(33).heights_nm),
        lambda heights: dilate(heights, cone(33).heights_nm),
        lambda heights: certainty(heights, cone(33).heights_nm),
    ],
    ids=["paraboloid", "cone 33 x 33", "dilation 33 x 33", "certainty 33 x 33"],
)
def test_reconstruction(benchmark: Any, work: Callable[[Any], Any]) -> None:
    heights = image()
    work(heights)
    benchmark.group = "reconstruction, 512 x 512"
    benchmark.pedantic(work, args=(heights,), rounds=10)


@pytest.mark.parametrize("by", ["partial", "full"])
def test_blind_tip(benchmark: Any, by: Any) -> None:
    heights, settings = image(), BlindTip((21, 21), by, 6 * NOISE)
    blind_tip(heights[:64, :64], PIXEL, settings, NOISE)
    benchmark.group = "blind tip 21 x 21, 512 x 512, one threshold"
    benchmark.pedantic(blind_tip, args=(heights, PIXEL, settings, NOISE), rounds=3)


def test_differentiable_tip(benchmark: Any) -> None:
    whole = image(240)
    frames = np.stack(
        [whole[y : y + 30, x : x + 30] for y in (0, 60, 120, 180) for x in range(0, 200, 40)]
    )
    settings = GradientTip((15, 15), starts=16)
    gradient_tip(frames[:4], PIXEL, GradientTip((15, 15), starts=2, steps=20), NOISE)
    benchmark.group = "differentiable tip 15 x 15, 20 frames of 30 x 30, 16 starts"
    benchmark.pedantic(gradient_tip, args=(frames, PIXEL, settings, NOISE), rounds=1)
