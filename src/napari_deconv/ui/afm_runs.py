"""What the dock "AFM" runs in its thread: generators of `Step` that return what is shown."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.afm.blind_tip import BlindTip, Sweep, swept, thresholds_of
from napari_deconv.afm.features import Feature, measured, segmented
from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.tip_fit import fit_tip
from napari_deconv.afm.tips import Tip
from napari_deconv.imaging.value import InputError, require
from napari_deconv.restoration.restorer import Restorer, Step
from napari_deconv.surfaces import (
    Surface,
    SurfaceRecipe,
    found_tip,
    prepared_heights,
    reconstruction,
)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A tip that was estimated, a sweep of thresholds if there was one, a word on both, and how."""

    tip: Tip
    sweep: Sweep | None
    words: str
    recipe: SurfaceRecipe


def reconstructing(
    heights: HeightMap, recipe: SurfaceRecipe, tip: Tip | None
) -> Generator[Step, None, Surface]:
    """Reconstruct with the tip of the recipe, or with one that is at hand."""
    return (yield from reconstruction(heights, recipe, tip=tip))


def estimating(heights: HeightMap, recipe: SurfaceRecipe) -> Generator[Step, None, Estimate]:
    """Estimate the tip of heights, and fit a cone to it."""
    flat = yield from prepared_heights(heights, recipe)
    noise, sweep = flat.noise_nm, None
    wanted = recipe.tip
    thresholds = thresholds_of(wanted, noise) if isinstance(wanted, BlindTip) else []
    if isinstance(wanted, BlindTip) and thresholds:
        image = flat.heights
        sweep = yield from swept(image.heights_nm, image.pixel_nm, wanted, thresholds, noise)
        tip = sweep.tip
    else:
        tip = yield from found_tip(flat, recipe)
    try:
        words = fit_tip(tip).in_words()
    except InputError:
        words = "no cone fits the tip"
    return Estimate(tip, sweep, f"tip estimated: {words}; noise {noise:.2g} nm", recipe)


def measuring(
    made: Surface, labels: npt.NDArray[Any] | None
) -> Generator[Step, None, list[Feature]]:
    """Measure the objects of one image; without labels, those above Otsu's level."""
    require(
        not made.prepared.is_movie,
        "Objects are measured in one image; take a frame out of the movie first",
    )
    heights = made.prepared.heights_nm
    yield Step(0, 1, "finding objects")
    marked = segmented(heights) if labels is None else labels
    return (
        yield from measured(
            heights, marked, made.tip, noise_nm=made.noise_nm, certainty=made.certain
        )
    )


def as_convolutions(made: Surface) -> Generator[Step, None, dict[str, npt.NDArray[np.float64]]]:
    """Restore the first frame's heights, or all, as if the tip had blurred them."""
    from napari_deconv.afm.as_convolution import blind_as_convolution, restored_as_convolution
    from napari_deconv.engines import open_engine
    from napari_deconv.restoration.richardson_lucy import RichardsonLucy
    from napari_deconv.restoration.wiener import Wiener

    engine, heights, tip = open_engine("cpu"), made.prepared.heights_nm, made.tip
    cut = replace(tip, heights_nm=_within(tip.heights_nm, heights.shape[-2:]))
    results: dict[str, npt.NDArray[np.float64]] = {}
    methods: dict[str, Restorer] = {"Richardson-Lucy": RichardsonLucy(30), "Wiener": Wiener()}
    for number, (name, method) in enumerate(methods.items()):
        yield Step(number, 3, f"{name}, as a convolution")
        found = restored_as_convolution(heights, cut, method, engine)
        results[f"as convolution, {name} (approximation)"] = found
    yield Step(2, 3, "blind Richardson-Lucy, as a convolution")
    sides = (min(cut.shape[0], heights.shape[-2]), min(cut.shape[1], heights.shape[-1]))
    blind, _ = blind_as_convolution(heights, sides, 30, engine)
    results["as convolution, blind (approximation)"] = blind
    return results


def _within(tip: npt.NDArray[np.float64], sides: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the middle of a tip, no larger than an image, of odd sides."""
    keep = []
    for n, most in zip(tip.shape, sides, strict=True):
        half = min(n // 2, (most - 1) // 2, n - 1 - n // 2)
        keep.append(slice(n // 2 - half, n // 2 + half + 1))
    return tip[tuple(keep)]
