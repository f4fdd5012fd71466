"""The live preview: a region of the chosen layer, restored as the settings change.

`LivePreview` follows the newest wish: the first look at once, then iterations on a small part,
and after a rest the exact result. Each stage has a thread of its own, so that no slider waits
for an iteration. It shows them as a layer in place over the
raw data, outlined by a rectangle that can be moved; a click moves it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deconv.imaging.region import SHOWN, Region, region_around
from napari_deconv.methods import restorer_of
from napari_deconv.previewing import Frame

from . import regions
from .jobs import Stream
from .preview_stages import Previews, Shown, Wanted, Wish, shown_of

#: Milliseconds of quiet after which iterations begin, and after those the exact result: so a
#: slider that is being dragged shares the processor with neither.
PAUSE_MS, REST_MS = 40, 700
#: Milliseconds between two answers to the viewer's dimension sliders.
FOLLOW_MS = 60
#: Most pixels to a side of a rectangle that the user draws.
MOST_PIXELS = 256
#: Held, it hides the preview.
KEY = "B"


class LivePreview(QObject):
    """Restores a region of a layer while its settings change.

    Signals: `shown(Shown)` for each picture, `said(text)` for what is seen, `closed()` where
    the user removed the layer.
    """

    shown = Signal(object)
    said = Signal(str)
    closed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer: Image | None = None
        self.outline: Shapes | None = None
        self.region: Region | None = None
        self._wish: Wish | None = None
        self._block: tuple[int, ...] = ()
        self._previews = Previews()
        self.first, self.quick, self.exact = Stream(self), Stream(self), Stream(self)
        self._pause = self._timer(PAUSE_MS, self._iterate)
        self._rest = self._timer(REST_MS, self._refine)
        self._follow = self._timer(FOLLOW_MS, self._dims_moved)
        for stream in (self.first, self.quick, self.exact):
            stream.item.connect(self._show)
            stream.failed.connect(self.said)
        self.first.ended.connect(self._first_seen)
        self.quick.ended.connect(self._quick_seen)

    def _timer(self, delay_ms: int, answer: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(delay_ms)
        timer.timeout.connect(answer)
        return timer

    @property
    def active(self) -> bool:
        """Whether anything is followed."""
        return self._wish is not None

    @property
    def running(self) -> bool:
        """Whether a thread is at work, or will be after a rest."""
        streams = (self.first, self.quick, self.exact)
        return any(s.running for s in streams) or self._pause.isActive() or self._rest.isActive()

    # -- following ------------------------------------------------------------------------

    def follow(self, wish: Wish) -> None:
        """Preview this from now on."""
        before, self._wish = self._wish, wish
        if before is None:
            self._listen()
        if before is None or before.voxels != wish.voxels:
            self.region, self._previews = None, Previews()
            self._take_away()  # They have the scale of another image.
        self._restart()

    def stop(self) -> None:
        """End the preview, and take its layers away."""
        if self._wish is None:
            return
        self._wish = self.region = None
        for timer in (self._pause, self._rest, self._follow):
            timer.stop()
        for stream in (self.first, self.quick, self.exact):
            stream.stop()
        self._previews = Previews()  # What still runs keeps the old one until its next step.
        self._deafen()
        self._take_away()

    def _take_away(self) -> None:
        """Remove the layers of the preview."""
        shown, self.layer, self.outline = (self.layer, self.outline), None, None
        for layer in shown:
            if layer is not None and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    def move_to(self, centre: tuple[float, ...]) -> None:
        """Move the region around a voxel, (z, y, x) or (y, x) of the stack."""
        if self._wish is not None:
            shape = self.region.shape if self.region else SHOWN
            self.region = region_around(centre, self._wish.stack.spatial_shape, shape)
            self._restart()

    def _is_there(self, wish: Wish) -> bool:
        return wish.layer in self.viewer.layers

    def _restart(self) -> None:
        """Ask for the quick frames of the wish as it is now."""
        wish = self._wish
        if wish is None or not self._is_there(wish):
            return
        block, position = self._position(wish)
        if self.region is None:
            self.region = region_around(position, wish.stack.spatial_shape)
        self._block, region, previews = block, self.region, self._previews
        self._draw_outline(wish, region)
        self._pause.stop()
        self._rest.stop()
        self.quick.stop()
        self.exact.stop()

        def work() -> Generator[Shown | None, None, Wanted]:
            recipe = wish.recipe()
            wanted = Wanted(wish.stack, block, region, recipe, previews.psf(recipe, wish.stack))
            preview = previews.preview("first", wanted)
            frame = preview.first_frame(region, wanted.psf, restorer_of(recipe.method))
            yield shown_of(frame, preview, wanted)
            return wanted

        self.first.request(work)

    def _first_seen(self, wanted: Wanted) -> None:
        """Iterate after a pause, if no newer wish comes."""
        self._wanted = wanted
        self._pause.start()

    def _iterate(self) -> None:
        """Do some iterations on a small part."""
        wanted, previews = self._wanted, self._previews

        def work() -> Generator[Shown | None, None, Frame | None]:
            preview, last = previews.preview("quick", wanted), None
            for last in preview.quick_frames(
                wanted.region, wanted.psf, restorer_of(wanted.recipe.method)
            ):
                yield shown_of(last, preview, wanted)
            return last

        self.quick.request(work)

    def _quick_seen(self, last: Frame | None) -> None:
        """Go on after a rest, unless these frames were exact."""
        self._seen = 0 if last is None else last.iterations
        if last is None or last.kind != "full":
            self._rest.start()

    def _refine(self) -> None:
        """Compute what a run gives there."""
        wanted, previews, seen = self._wanted, self._previews, self._seen

        def work() -> Generator[Shown | None, None, None]:
            preview = previews.preview("exact", wanted)
            method = restorer_of(wanted.recipe.method)
            for frame in preview.exact_frames(wanted.region, wanted.psf, method, seen):
                yield shown_of(frame, preview, wanted)

        self.exact.request(work)

    # -- showing --------------------------------------------------------------------------

    def _show(self, shown: Shown | None) -> None:
        wish = self._wish
        if shown is None or wish is None or not self._is_there(wish):
            return
        frame = shown.frame
        self.said.emit(frame.note)
        is_here = (frame.region, shown.block) == (self.region, self._block)
        if frame.data is not None and is_here:
            self._place(wish, frame.region, frame.data)
        self.shown.emit(shown)

    def _place(self, wish: Wish, region: Region, restored: npt.NDArray[np.float32]) -> None:
        """Show a region in place over its source, with the contrast of a result."""
        first = (*self._block, *region.start)
        data, state = regions.region_layer(wish.layer, wish.axes, restored, first)
        if self.layer is None:
            with _kept_selection(self.viewer):
                self.layer = self.viewer.add_layer(Image(data, **state))
            return
        # The place first: napari draws what it holds at each change.
        if tuple(self.layer.translate) != tuple(state["translate"]):
            self.layer.visible, was_visible = False, self.layer.visible
            self.layer.data, self.layer.translate = data, state["translate"]
            self.layer.visible = was_visible
        else:
            self.layer.data = data
        self.layer.contrast_limits = state["contrast_limits"]

    def _draw_outline(self, wish: Wish, region: Region) -> None:
        """Outline the region by a rectangle that the user can move."""
        corners = regions.region_corners(region)
        if self.outline is None:
            state = regions.outline_state(wish.layer, wish.axes)
            with _kept_selection(self.viewer):
                self.outline = self.viewer.add_layer(Shapes([corners], **state))
            self.outline.events.data.connect(self._outline_moved)
        elif not np.array_equal(self.outline.data[-1], corners):
            with self.outline.events.data.blocker(self._outline_moved):
                self.outline.data = [corners]

    def _outline_moved(self, event: Any = None) -> None:
        """Follow the rectangle that the user moved, resized, or drew anew."""
        action = str(getattr(event, "action", "changed"))
        if self.region is None or self._wish is None or self.outline is None:
            return
        if action.endswith("ing") or not len(self.outline.data):
            return
        low, high = regions.box_of(self.outline)
        shape = tuple(
            int(np.clip(round(b - a), 8, MOST_PIXELS)) for a, b in zip(low, high, strict=True)
        )
        middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        depth = len(self.region.shape) - 2
        centre = tuple(s + n / 2 for s, n in zip(self.region.start, self.region.shape, strict=True))
        self.region = replace(self.region, shape=(*self.region.shape[:depth], *shape))
        self.move_to((*centre[:depth], *middle))

    # -- listening ------------------------------------------------------------------------

    def _listen(self) -> None:
        self.viewer.dims.events.current_step.connect(self._dims_changed)
        self.viewer.layers.events.removed.connect(self._layer_removed)
        self.viewer.mouse_drag_callbacks.append(self._clicked)
        self.viewer.bind_key(KEY, self._hidden, overwrite=True)

    def _deafen(self) -> None:
        self.viewer.dims.events.current_step.disconnect(self._dims_changed)
        self.viewer.layers.events.removed.disconnect(self._layer_removed)
        with suppress(ValueError):
            self.viewer.mouse_drag_callbacks.remove(self._clicked)
        self.viewer.bind_key(KEY, None, overwrite=True)

    def _dims_changed(self, event: object = None) -> None:
        self._follow.start()

    def _dims_moved(self) -> None:
        """Follow the plane and the block that the viewer shows."""
        wish, region = self._wish, self.region
        if wish is None or region is None or not self._is_there(wish):
            return
        block, position = self._position(wish)
        centre = [s + n / 2 for s, n in zip(region.start, region.shape, strict=True)]
        outside = len(centre) == 3 and not 0 <= position[0] - region.start[0] < region.shape[0]
        if outside:
            self.move_to((position[0], *centre[1:]))
        elif block != self._block:
            self._restart()

    def _position(self, wish: Wish) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return the block and the voxel of the stack that the viewer shows."""
        point = regions.shown_point(self.viewer, wish.layer, wish.axes)
        depth = len(wish.stack.axes) - len(wish.stack.spatial_axes)
        counts = zip(point[:depth], wish.stack.shape[:depth], strict=True)
        block = tuple(int(np.clip(round(p), 0, n - 1)) for p, n in counts)
        return block, point[depth:]

    def _clicked(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """Move the region where the user clicks; a drag still moves the camera."""
        yield
        dragged = False
        while event.type == "mouse_move":
            dragged = True
            yield
        wish = self._wish
        if dragged or wish is None or not self._is_there(wish):
            return
        if self.outline is not None and self.viewer.layers.selection.active == self.outline:
            return  # The click is for the rectangle.
        point = regions.point_of(wish.layer, wish.axes, event.position)
        self.move_to(point[-len(wish.stack.spatial_axes) :])

    def _hidden(self, viewer: Viewer) -> Iterator[None]:
        """Hide the preview while the key is held."""
        if self.layer is not None:
            self.layer.visible = False
        yield
        if self.layer is not None:
            self.layer.visible = True

    def _layer_removed(self, event: Any) -> None:
        """End with the source, and where the user removes the preview."""
        if self._wish is None:
            return
        # By ==: plugins may be handed proxies of layers, which are equal to them, not the same.
        if any(event.value == one for one in (self.layer, self.outline, self._wish.layer)):
            self.stop()
            self.closed.emit()


@contextmanager
def _kept_selection(viewer: Viewer) -> Iterator[None]:
    """Keep the selected layers while a layer is added."""
    selection = viewer.layers.selection
    before, active = set(selection), selection.active
    yield
    selection.clear()
    selection.update(before)
    selection.active = active
