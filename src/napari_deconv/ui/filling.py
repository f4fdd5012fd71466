"""The layer that fills while a run goes on: each tile is seen as soon as it is finished.

A `Canvas` holds what is seen: the voxels of the result themselves, or an overview where the
result goes into a file and may be larger than memory. `Filling` shows a canvas as a layer.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_deconv.files.pyramid import level_shape
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import percent

from . import layers

#: Milliseconds between two pictures at least; and the part of the time that drawing may take.
REFRESH_MS, DRAWING = 200, 0.2
#: What an overview takes at most.
OVERVIEW_BYTES = 2**26

Float = npt.NDArray[np.float32]
Place = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Canvas:
    """What is seen of a result while it is made.

    Parameters
    ----------
    array : ndarray of float32
        In the axes of the restored stack; zeros where nothing is finished.
    placement : Placement
        Where the result lies.
    shape : tuple of int
        Of the result.
    factors : tuple of int
        Voxels of the result along each axis that make one of `array`.
    """

    array: Float
    placement: layers.Placement
    shape: tuple[int, ...]
    factors: tuple[int, ...]
    _added: set[str] = field(default_factory=set)

    @classmethod
    def whole(cls, array: Float, placement: layers.Placement) -> Canvas:
        """Return a canvas of the result's own voxels, which the run writes."""
        return cls(array, placement, array.shape, (1,) * array.ndim)

    @classmethod
    def overview(
        cls, stack: Stack, placement: layers.Placement, most_bytes: int | None = None
    ) -> Canvas:
        """Return a canvas of the means of blocks of voxels, which `add` fills."""
        factors = overview_factors(stack, most_bytes or OVERVIEW_BYTES)
        array = np.zeros(level_shape(stack.shape, factors), np.float32)
        return cls(array, placement, stack.shape, factors)

    def add(self, place: Place, block: npt.NDArray[Any]) -> None:
        """Add the voxels of a finished tile to an overview, once.

        A block of voxels that tiles share becomes its mean when the last of them is there.
        """
        place = self._slices(place)
        if repr(place) in self._added:
            return
        self._added.add(repr(place))
        means = np.asarray(block).reshape([s.stop - s.start for s in place])
        for axis, (piece, n, factor) in enumerate(
            zip(place, self.shape, self.factors, strict=True)
        ):
            if factor > 1:
                means = _means(means, axis, piece, n, factor)
        self.array[self.seen(place)] += means

    def seen(self, place: Place) -> Place:
        """Return the place of `array` where a place of the result is seen."""
        return tuple(
            slice(s.start // factor, -(-s.stop // factor))
            for s, factor in zip(self._slices(place), self.factors, strict=True)
        )

    def part(self, place: Place) -> float:
        """Return what part of the result a place is."""
        voxels = math.prod(s.stop - s.start for s in self._slices(place))
        return float(voxels / math.prod(self.shape))

    def _slices(self, place: Place) -> Place:
        ends = (slice(p, p + 1) if isinstance(p, int) else p for p in place)
        return tuple(slice(*s.indices(n)[:2]) for s, n in zip(ends, self.shape, strict=True))


def overview_factors(stack: Stack, most_bytes: int) -> tuple[int, ...]:
    """Return by how much an overview of at most `most_bytes` is smaller on each axis.

    The axis with the shortest voxels is halved until it fits; times and channels all stay.

    Examples
    --------
    >>> overview_factors(Stack(np.zeros((8, 400, 200)), "ZYX"), 4 * 8 * 100 * 50)
    (1, 4, 4)
    """
    first = len(stack.axes) - len(stack.spatial_axes)
    steps = stack.grid.spacing_um if stack.grid else (2.0**30, 1.0, 1.0)[-len(stack.spatial_axes) :]
    factors = [1] * len(stack.axes)
    while 4 * math.prod(level_shape(stack.shape, tuple(factors))) > most_bytes:
        sizes = {
            axis: factors[axis] * steps[axis - first]
            for axis in range(len(stack.axes) - 1, first - 1, -1)
            if factors[axis] < stack.shape[axis]
        }
        if not sizes:
            break
        factors[min(sizes, key=lambda axis: sizes[axis])] *= 2
    return tuple(factors)


def _means(block: npt.NDArray[Any], axis: int, piece: slice, n: int, factor: int) -> Float:
    """Return what a piece of an axis of `n` voxels adds to the means of every `factor` of them."""
    firsts = np.arange(piece.start // factor, -(-piece.stop // factor)) * factor
    sums = np.add.reduceat(block, np.maximum(firsts - piece.start, 0), axis=axis, dtype=np.float32)
    counts = np.minimum(firsts + factor, n) - firsts
    sums /= counts.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(block.ndim)])
    return sums


class Filling(QObject):
    """Shows a canvas as a layer from the first finished tile on; used in the GUI thread.

    A user may delete the layer, or set its contrast, at any time; both hold.
    """

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer: Image | None = None
        self.tiles, self.part = 0, 0.0
        self._canvas: Canvas | None = None
        self._fresh: list[Place] = []
        self._limits: tuple[float, float] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._show)

    def begin(self, canvas: Canvas) -> None:
        """Follow a new run; the layer of the one before stays as it is."""
        self._timer.stop()
        self._canvas, self.layer, self._limits = canvas, None, None
        self._fresh, self.tiles, self.part = [], 0, 0.0

    def tile_finished(self, place: Place) -> None:
        """Show what is finished at a place of the result, soon."""
        if self._canvas is None:
            return
        self.tiles += 1
        self.part += self._canvas.part(place)
        self._fresh.append(self._canvas.seen(place))
        # What one tile makes whole is shown as the result.
        if not self._timer.isActive() and self.part < 1 - 1e-9:
            self._timer.start()

    def complete(self, data: Any, state: dict[str, Any]) -> None:
        """Let the layer be the result; add it where none was there, or it was deleted."""
        shown = self._shown()
        self._forget()
        if shown is None:
            self.viewer.add_layer(Image(data, **state))
        elif state.get("multiscale"):
            self._replace(shown, data, state)
        else:
            shown.data = data
            shown.metadata = state["metadata"]
            if self._limits_are_ours(shown):
                shown.contrast_limits = state["contrast_limits"]

    def leave_off(self) -> str:
        """Keep what is finished of a run that was ended; return it in words, or nothing."""
        if self._timer.isActive():
            self._show()
        is_kept = self._canvas is not None and self._shown() is not None
        self.stop()
        tiles = "1 finished tile" if self.tiles == 1 else f"{self.tiles} finished tiles"
        return f"{tiles}, {percent(self.part)} of the result" if is_kept else ""

    def stop(self) -> None:
        """Follow the run no longer; its layer is named for what it is."""
        if self._canvas is not None and (shown := self._shown()) is not None:
            shown.name = f"{shown.name} (unfinished)"
        self._forget()

    def _forget(self) -> None:
        self._timer.stop()
        self._canvas = None

    def _shown(self) -> Image | None:
        """Return the layer, if there is one that nobody deleted."""
        return self.layer if self.layer is not None and self.layer in self.viewer.layers else None

    def _show(self) -> None:
        canvas, started = self._canvas, time.perf_counter()
        if canvas is None or not self._fresh:
            return
        limits = self._wider(canvas)
        if self.layer is None:
            data, state, _ = layers.filling_layer(canvas.array, canvas.placement, canvas.factors)
            self.layer = Image(data, **state, contrast_limits=limits)
            self.viewer.add_layer(self.layer)
        elif (shown := self._shown()) is not None:
            if self._limits_are_ours(shown):
                shown.contrast_limits = limits
            shown.refresh(extent=False)
        self._limits = limits
        # Slow drawing, as of volumes, must not hold up the viewer.
        took_ms = 1e3 * (time.perf_counter() - started)
        self._timer.setInterval(int(max(REFRESH_MS, took_ms / DRAWING)))

    def _wider(self, canvas: Canvas) -> tuple[float, float]:
        """Return the limits so far, widened to show the tiles that came since."""
        fresh, self._fresh = self._fresh, []
        found = [layers.contrast_limits(_sample(canvas.array[place])) for place in fresh]
        lows, highs = zip(*found, *([self._limits] if self._limits else []), strict=True)
        return min(lows), max(highs)

    def _limits_are_ours(self, shown: Image) -> bool:
        return self._limits is not None and np.allclose(shown.contrast_limits, self._limits)

    def _replace(self, shown: Image, data: Any, state: dict[str, Any]) -> None:
        """Put the result in the place of its overview, with the looks that the user gave it."""
        looks = {
            name: getattr(shown, name)
            for name in ("colormap", "gamma", "opacity", "blending", "visible", "interpolation2d")
        }
        if not self._limits_are_ours(shown):
            looks["contrast_limits"] = shown.contrast_limits
        index = self.viewer.layers.index(shown)
        self.viewer.layers.remove(shown)
        self.layer = Image(data, **(state | looks | {"name": shown.name}))
        self.viewer.layers.insert(index, self.layer)


def _sample(block: Float) -> Float:
    """Return about `layers.QUICKLY` of the voxels, without copying the others."""
    step = math.ceil((block.size / layers.QUICKLY) ** (1 / max(block.ndim, 1)))
    return block[tuple(slice(None, None, min(step, n)) for n in block.shape)]
