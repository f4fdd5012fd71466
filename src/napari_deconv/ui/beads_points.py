"""The layer of points on an image of beads: their fates by colour and symbol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Points
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deconv.imaging.beads import Bead

from .block_panel import Block

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """How a fate is shown: colour, symbol on the image, and the same symbol as text."""

    color: str
    symbol: str
    sign: str


#: Colours that are told apart whatever one's colour vision (Okabe and Ito 2008).
LOOKS = {
    "used": Look("#009E73", "disc", "●"),
    "left out": Look("#999999", "x", "✖"),
    "saturated": Look("#D55E00", "star", "★"),
    "clipped": Look("#E69F00", "square", "■"),
    "doubled": Look("#CC79A7", "diamond", "◆"),
    "dim": Look("#56B4E9", "triangle_up", "▲"),
}
#: In focus, points are so many widths of a bead across, but as many pixels at least.
WIDTHS, LEAST_PIXELS = 3.0, 6.0
#: They are seen from so many widths above and below, but from this many planes at most, where
#: they are this part of the size.
REACH, MOST_PLANES, FAR = 2.0, 20, 0.3


class BeadPoints(QObject):
    """Keeps the points layer of a block of beads.

    A bead has a point in each plane near its focus, smaller the further away: napari shows a
    point in its own plane only, unless it shows images as means of planes too.

    Signals: `picked(index)` for a bead that was clicked, `removed(indices)` for beads whose
    points were deleted; `show` brings these back, as they are now judged.
    """

    picked = Signal(int)
    removed = Signal(object)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Any = None
        self._block: Block | None = None
        # Which bead a point is of, and how far from its focus, part of the reach.
        self._bead = np.empty(0, int)
        self._away = np.empty(0)
        self._gone: tuple[int, ...] = ()
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.timeout.connect(lambda: self.removed.emit(self._gone))

    @property
    def layer(self) -> Any:
        """The layer while it is in the viewer, else None."""
        there = self._layer is not None and self._layer in self._viewer.layers
        return self._layer if there else None

    def show(self, block: Block, beads: Sequence[Bead]) -> None:
        """Show beads: anew for another block, else with the fates that they have now."""
        places, self._bead, self._away = _places(block, beads)
        layer = self.layer
        if layer is None or block is not self._block or len(layer.data) != len(places):
            self.remove()
            self._block = block
            if beads:
                self._add(block, beads, places)
            return
        if not np.array_equal(layer.data, places):
            with layer.events.data.blocker(self._data_changed):
                layer.data = places
        looks = self._looks(beads)
        layer.border_color, layer.face_color = looks["border_color"], looks["face_color"]
        layer.symbol, layer.features = looks["symbol"], looks["features"]

    def select(self, index: int) -> None:
        """Mark the points of a bead, and move the viewer to the plane in which it is in focus."""
        layer, own = self.layer, np.flatnonzero(self._bead == index)
        if layer is None or not own.size:
            return
        layer.selected_data = set(own.tolist())
        focus = own[np.argmin(np.abs(self._away[own]))]
        world, dims = layer.data_to_world(layer.data[focus]), self._viewer.dims
        for axis in dims.not_displayed:
            place = axis - (dims.ndim - layer.ndim)
            if place >= 0:
                dims.set_point(axis, world[place])

    def remove(self) -> None:
        """Remove the layer, and follow it no longer."""
        layer = self.layer
        self.leave()
        if layer is not None:
            self._viewer.layers.remove(layer)

    def leave(self) -> None:
        """Let the layer stay as it is, and follow it no longer."""
        self._again.stop()
        if self._layer is not None:
            self._layer.events.data.disconnect(self._data_changed)
            self._layer.mouse_drag_callbacks.remove(self._clicked)
        self._layer = None

    def _add(self, block: Block, beads: Sequence[Bead], places: Float) -> None:
        state = block.placement.layer
        names = ("scale", "translate", "rotate", "shear", "units", "axis_labels", "affine")
        size = _size(beads, block)
        above = [-0.7 * size if axis == "Y" else 0.0 for axis in block.choice.axes]
        layer = Points(
            places,
            name=f"{block.choice.name} beads",
            size=size * (1 - (1 - FAR) * np.abs(self._away)),
            border_width=0.08,
            text={"string": "{bead}", "color": "white", "size": 10, "translation": above},
            **self._looks(beads),
            **{name: state[name] for name in names},
        )
        layer.events.data.connect(self._data_changed)
        layer.mouse_drag_callbacks.append(self._clicked)
        self._layer = layer
        self._viewer.add_layer(layer)

    def _looks(self, beads: Sequence[Bead]) -> dict[str, Any]:
        """Return colours, symbols and features of the points."""
        shown = [beads[index] for index in self._bead]
        looks = [LOOKS[bead.fate] for bead in shown]
        rgb = np.array(
            [[int(look.color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for look in looks]
        )
        ones = np.ones(len(looks))
        return {
            "border_color": np.column_stack((rgb, ones)),
            # The bead is seen through it.
            "face_color": np.column_stack((rgb, 0.1 * ones)),
            "symbol": [look.symbol for look in looks],
            "features": {
                "bead": self._bead + 1,
                "fate": [bead.fate for bead in shown],
                "reason": [bead.reason for bead in shown],
            },
        }

    def _clicked(self, layer: Any, event: Any) -> None:
        """Tell which bead was clicked; works while the mouse moves the camera."""
        index = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        if index is not None and index < self._bead.size:
            self.picked.emit(int(self._bead[index]))

    def _data_changed(self, event: Any) -> None:
        """Take a deleted point as a bead to leave out; added and moved ones are no beads."""
        action = str(getattr(event.action, "value", event.action))
        if action in ("added", "removed", "changed"):
            points = [i for i in event.data_indices if i < self._bead.size]
            self._gone = tuple({int(self._bead[i]) for i in points}) if action == "removed" else ()
            # The layer is still at work.
            self._again.start(0)


def _places(block: Block, beads: Sequence[Bead]) -> tuple[Float, npt.NDArray[np.int_], Float]:
    """Return points of the layer, of which bead each is, and how far from its focus, -1 to 1."""
    deep = [bead.fwhm_um[0] or 0.0 for bead in beads if len(bead.fwhm_um) == 3]
    reach, grid = 0, block.choice.grid
    if block.axes == "ZYX" and grid is not None:
        known = [width for width in deep if width]
        widths = float(np.median(known)) / grid.spacing_um[0] if known else 1.0
        reach = min(math.ceil(REACH * widths), MOST_PLANES)
    places, own, away = [], [], []
    for index, bead in enumerate(beads):
        for step in range(-reach, reach + 1):
            place = list(bead.position)
            if reach:
                place[0] = round(place[0]) + step
            if 0 <= place[0] < block.data.shape[0] or not reach:
                places.append(place)
                own.append(index)
                away.append(step / max(reach, 1))
    return block.points(places), np.array(own, int), np.array(away)


def _size(beads: Sequence[Bead], block: Block) -> float:
    """Return how many pixels a point is across in focus."""
    widths = [w for bead in beads for w in bead.fwhm_um[-2:] if w is not None]
    if not widths or block.choice.grid is None:
        return 2 * LEAST_PIXELS
    pixel = block.choice.grid.spacing_um[-1]
    return max(WIDTHS * float(np.median(widths)) / pixel, LEAST_PIXELS)
