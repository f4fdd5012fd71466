"""Panel for what is measured: one volume or plane of an image layer of a viewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtWidgets import QWidget

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, require

from . import layers, regions
from .headers import Headers
from .image_panel import ImageChoice, ImagePanel


@dataclass(frozen=True, eq=False)
class Block:
    """One volume or plane of a layer, and where it is in it.

    Parameters
    ----------
    choice : ImageChoice
        Layer, axes and voxel size, as in the panel.
    data : array, (Z, Y, X) or (Y, X)
        Voxels; numpy or dask.
    leading : dict of str to int
        Time point and channel, where the layer has them.
    placement : Placement
        Where the layer lies.
    """

    choice: ImageChoice
    data: Any
    leading: dict[str, int]
    placement: layers.Placement

    @property
    def axes(self) -> str:
        """'ZYX' or 'YX'."""
        return "ZYX"[-self.data.ndim :]

    def points(self, positions: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
        """Return places in the block, (N, 3) or (N, 2), as points of the layer."""
        columns = {axis: [p[i] for p in positions] for i, axis in enumerate(self.axes)}
        columns |= {axis: [index] * len(positions) for axis, index in self.leading.items()}
        return np.array([columns[axis] for axis in self.choice.axes], float).T


class BlockPanel(ImagePanel):
    """Offers the image layers of a viewer, newest first, with their axes and voxel sizes.

    Of a layer with more axes, the block is that at the position of the viewer's sliders.
    """

    def __init__(
        self, viewer: Viewer, offered: Callable[[Image], bool], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._offered = viewer, offered
        self.axes.setToolTip("The layer's axes; of T and C, what the viewer shows is measured")
        self._events = [
            getattr(viewer.layers.events, name)
            for name in ("inserted", "removed", "reordered", "renamed")
        ]
        for event in self._events:
            event.connect(self._layers_changed)
        self.headers = Headers(viewer, self)
        self.headers.found.connect(self._header_found)
        self.layerChosen.connect(self._layer_chosen)
        self._layer_chosen("")
        self._layers_changed()

    def block(self) -> Block:
        """Return the block as chosen, not yet read.

        Raises
        ------
        InputError
            If there is no such layer, or if it is no image of numbers with z, y and x.
        """
        choice = self.value()
        require(choice.name in self._viewer.layers, "Open or choose an image layer first")
        layer = self._viewer.layers[choice.name]
        stack = layers.stack_of_layer(layer, choice.axes, choice.grid)
        here = regions.point_of(layer, choice.axes, self._viewer.dims.point)
        leading = {}
        for axis, n, place in zip(stack.axes, stack.shape, here, strict=True):
            if axis in "TC":
                leading[axis] = min(max(round(place), 0), n - 1)
        data = stack.data[tuple(leading.values())]
        return Block(choice, data, leading, layers.Placement.of(layer, choice.axes))

    def refusal(self) -> str:
        """Return why nothing can be measured in what is chosen, or nothing."""
        choice = self.value()
        if choice.name not in self._viewer.layers:
            return "Open an image first"
        return "" if choice.grid is not None else "Enter the voxel size of the image first"

    def choose(self, name: str) -> None:
        """Choose a layer by name; ignored where it is not offered."""
        self.layer.setCurrentText(name)

    def stop(self) -> None:
        """Follow the viewer no longer."""
        for event in self._events:
            event.disconnect(self._layers_changed)
        self._events = []
        self.headers.stop()
        self.watched.follow(None)

    def _layers_changed(self, event: object = None) -> None:
        found = [la for la in layers.newest_first(self._viewer) if isinstance(la, Image)]
        self.layer.set_layers([layer.name for layer in found if self._offered(layer)])

    def _layer_chosen(self, name: str) -> None:
        """Show what the chosen layer knows; without a name, its voxel size for other axes."""
        chosen = name or self.layer.currentText()
        if chosen not in self._viewer.layers:
            self.show_nothing()
            return
        layer = self._viewer.layers[chosen]
        try:
            if name:
                self.watched.follow(layer)
                choices = layers.axes_choices(layer.ndim)
                self.show_layer(layer.data.shape, choices, layers.axes_of(layer))
            grid = layers.grid_of(layer, self.axes.currentText())
            # Other axes of the same layer: what was typed still holds.
            if name or grid is not None:
                self.show_grid(grid)
            if name and grid is None:
                self.headers.ask(layer)
        except InputError as error:
            self.show_nothing(layer.data.shape, str(error))

    def _header_found(self, name: str, header: Stack, axes: str) -> None:
        """Show the voxel size that the layer's file knows and its reader did not pass on."""
        if name == self.layer.currentText() and header.grid is not None:
            layer = self._viewer.layers[name]
            self.show_layer(layer.data.shape, layers.axes_choices(layer.ndim), axes)
            self.show_grid(header.grid, "from the file")
