"""The reconstructed surface that follows the sliders, where it is fast enough to follow."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.viewer import Viewer

from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.morphology import erosion, radii_of, tip_for
from napari_deconv.afm.preparing import Preparation, noise_nm, prepare
from napari_deconv.afm.tips import Tip, TipShape
from napari_deconv.restoration.stepping import ended
from napari_deconv.surfaces import fitted_tip

from . import height_layers
from .layers import KEY, PREVIEW

Double = npt.NDArray[np.float64]

#: Name and mark of the layer that follows the sliders.
LIVE = "live surface"
#: Pixels times pixels of the tip above which a surface does not follow the sliders.
MOST_WORK = 3e9
#: What places a layer, and may change while it is shown.
MOVED = ("scale", "translate", "rotate", "shear", "affine")
#: Answers that took less are given where the slider is served.
QUICK_S = 0.02


@dataclass(frozen=True, eq=False)
class Wish:
    """What is to be seen: one frame, how it is prepared, and a tip that is known.

    Parameters
    ----------
    key : tuple
        What tells this image from others, and frames from frames.
    frame : HeightMap
        One image, (Y, X).
    steps : tuple of Preparation
    tip : TipShape, Tip or None
        None shows the prepared heights.
    """

    key: tuple[object, ...]
    frame: HeightMap
    steps: tuple[Preparation, ...]
    tip: TipShape | Tip | None


@dataclass(frozen=True, eq=False)
class Live:
    """What came of a wish."""

    prepared: Double
    noise_nm: float
    tip: Tip | None
    surface: Double | None
    note: str = ""


class LiveSurface:
    """Answers wishes, in any thread; keeps the heights that were prepared last."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], Double, float] | None = None
        self._lock = Lock()
        # What the last answer was about, and how long it took.
        self._last: tuple[object, float] = (None, math.inf)

    def is_quick(self, wish: Wish) -> bool:
        """Return whether an answer takes no longer than a thread does to start."""
        kept, (about, seconds) = self._kept, self._last
        is_prepared = kept is not None and kept[0] == (*wish.key, wish.steps)
        return is_prepared and about is type(wish.tip) and seconds < QUICK_S

    def __call__(self, wish: Wish) -> Live:
        """Return what comes of a wish."""
        started = time.perf_counter()
        found = self._answer(wish)
        self._last = (type(wish.tip), time.perf_counter() - started)
        return found

    def _answer(self, wish: Wish) -> Live:
        heights, noise = self._prepared(wish)
        if wish.tip is None:
            return Live(heights, noise, None, None)
        frame = replace(wish.frame, heights_nm=heights)
        shape = None if isinstance(wish.tip, Tip) else wish.tip
        if isinstance(wish.tip, Tip):
            tip = fitted_tip(wish.tip, frame)
        else:
            tip = tip_for(wish.tip, heights, frame.pixel_nm)
        touching = int(np.isfinite(tip.heights_nm).sum())
        if radii_of(shape) is None and touching * heights.size > MOST_WORK:
            note = f"The tip covers {touching} pixels: too many to follow the sliders; press Run"
            return Live(heights, noise, tip, None, note)
        return Live(heights, noise, tip, ended(erosion(heights, tip, shape)))

    def _prepared(self, wish: Wish) -> tuple[Double, float]:
        with self._lock:
            key = (*wish.key, wish.steps)
            if self._kept is None or self._kept[0] != key:
                heights = prepare(wish.frame.heights_nm, wish.steps)
                self._kept = (key, heights, noise_nm(heights))
            return self._kept[1], self._kept[2]


def show_live(viewer: Viewer, source: Image, heights: Double) -> None:
    """Show a frame in place over its source, in the layer that follows the sliders."""
    place = height_layers.place_of(source, 2)
    shown = _live_layer(viewer)
    if shown is not None and shown.data.shape == heights.shape:
        shown.data = heights
        if shown.metadata[KEY]["of"] == source.name and shown.units == place["units"]:
            for name in MOVED:
                setattr(shown, name, place[name])
            return
    hide_live(viewer)
    entry = {PREVIEW: LIVE, height_layers.MADE: LIVE, "of": source.name}
    limits = height_layers.height_limits(heights)
    looks = {"name": LIVE, "colormap": height_layers.COLORMAP, "contrast_limits": limits}
    viewer.add_layer(Image(heights, **looks, **place, metadata={"z_unit": "nm", KEY: entry}))


def hide_live(viewer: Viewer) -> None:
    """Take the layer that follows the sliders away."""
    shown = _live_layer(viewer)
    if shown is not None:
        viewer.layers.remove(shown)


def _live_layer(viewer: Viewer) -> Any:
    marked = (layer for layer in viewer.layers if layer.metadata.get(KEY, {}).get(PREVIEW) == LIVE)
    return next(marked, None)
