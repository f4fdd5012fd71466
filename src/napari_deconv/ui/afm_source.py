"""What the dock "AFM" works on: the heights of a layer, or of one frame, and the tip."""

from __future__ import annotations

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_deconv.afm.blind_tip import BlindTip
from napari_deconv.afm.gradient_tip import GradientTip
from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.tips import Tip, TipShape, centred_tip
from napari_deconv.imaging.value import require
from napari_deconv.surfaces import AnyTip, SurfaceRecipe, TipFile, read_tip

from . import height_layers
from .heights_panel import NO_HEIGHTS, HeightsPanel
from .tip_panel import TipLayer, TipPanel


class AfmSource:
    """Reads the layer that a `HeightsPanel` names."""

    def __init__(self, viewer: Viewer, panel: HeightsPanel) -> None:
        self.viewer, self.panel = viewer, panel
        self._kept: tuple[tuple[object, ...], HeightMap] | None = None

    def layer(self) -> Image:
        """Return the layer that is chosen.

        Raises
        ------
        InputError
            If it is gone.
        """
        name = self.panel.layer.currentText()
        require(name in self.viewer.layers, NO_HEIGHTS)
        return self.viewer.layers[name]

    def height_map(self) -> HeightMap:
        """Return all heights of the layer, in nm.

        Raises
        ------
        InputError
            If the unit or the pixel size is not known, or the layer holds no heights.
        """
        choice = self.panel.value()
        return height_layers.heights_of_layer(self.layer(), choice.unit, choice.pixel_nm)

    def frame(self) -> tuple[tuple[object, ...], HeightMap]:
        """Return what tells the frame that the viewer shows from others, and its heights.

        They are kept while sliders move.

        Raises
        ------
        InputError
            As `height_map`.
        """
        choice, layer = self.panel.value(), self.layer()
        is_movie = layer.ndim == 3 and not layer.multiscale and not layer.rgb
        number = 0
        if is_movie:
            here = layer.world_to_data(self.viewer.dims.point[-3:])[0]
            number = int(np.clip(round(float(here)), 0, layer.data.shape[0] - 1))
        key = (layer.name, id(layer.data), number, choice)
        if self._kept is None or self._kept[0] != key:
            one = layer
            if is_movie:
                one = Image(np.asarray(layer.data[number]), name=layer.name)
            heights = height_layers.heights_of_layer(one, choice.unit, choice.pixel_nm)
            self._kept = (key, heights)
        return self._kept


class TipSource:
    """Reads the tip that a `TipPanel` describes."""

    def __init__(self, viewer: Viewer, panel: TipPanel, heights: HeightsPanel) -> None:
        self.viewer, self.panel, self.heights = viewer, panel, heights

    def known(self) -> TipShape | Tip | None:
        """Return the shape, or the tip of a layer or a file; None where it is to be estimated.

        Raises
        ------
        InputError
            If there is no such layer or file, or it holds no tip.
        """
        value = self.panel.value()
        if isinstance(value, TipLayer):
            layer = self._layer(value.name)
            pixel = height_layers.pixel_nm_of(layer) or self.heights.value().pixel_nm
            return centred_tip(height_layers.tip_of_layer(layer), pixel)
        if isinstance(value, TipFile):
            return read_tip(value.path)
        return None if isinstance(value, BlindTip | GradientTip) else value

    def named(self) -> AnyTip:
        """Return the tip as a recipe names it: of a layer, how it was estimated, or its name."""
        value = self.panel.value()
        if not isinstance(value, TipLayer):
            return value
        how = height_layers.origin_of_tip(self._layer(value.name))
        return TipFile(f"layer {value.name}") if how is None else SurfaceRecipe.from_dict(how).tip

    def _layer(self, name: str) -> Image:
        require(name in self.viewer.layers, f"There is no layer {name!r} any more")
        return self.viewer.layers[name]
