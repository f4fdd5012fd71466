"""What changes in a layer that was chosen: its scale and its units."""

from __future__ import annotations

from napari.layers import Layer
from qtpy.QtCore import QObject, Signal


class Watched(QObject):
    """Follows one layer at a time; signal: `changed()`, of its scale or units."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._layer: Layer | None = None

    def follow(self, layer: Layer | None) -> None:
        """Follow this layer from now on, or none."""
        if self._layer is not None:
            for name in ("scale", "units"):
                getattr(self._layer.events, name).disconnect(self._tell)
        self._layer = layer
        if layer is not None:
            for name in ("scale", "units"):
                getattr(layer.events, name).connect(self._tell)

    def _tell(self, event: object = None) -> None:
        self.changed.emit()
