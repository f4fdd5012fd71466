"""What a layer's file knows and its reader did not pass on: voxel size, axes, optics."""

from __future__ import annotations

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_deconv.files.reading import read_header
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError

from . import layers
from .jobs import Latest


class Headers(QObject):
    """Reads the header of a layer's file in a thread.

    Signal: `found(name, header, axes)`, with the layer's name and its axes in its own order,
    where the file is of the layer's shape.
    """

    found = Signal(str, object, str)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self._latest = Latest(0, self)
        self._latest.ready.connect(self._read)

    @property
    def running(self) -> bool:
        """Whether a header is being read."""
        return self._latest.running

    def ask(self, layer: Image) -> None:
        """Read the header of a layer's file, if it came from one."""
        name, path = layer.name, layer.source.path
        if path:
            self._latest.request(lambda: (name, read_header(path)))

    def stop(self) -> None:
        """Forget what was asked for."""
        self._latest.stop()

    def _read(self, result: tuple[str, Stack] | InputError) -> None:
        if isinstance(result, InputError):
            return  # The layer came from elsewhere; there is nothing to add.
        name, header = result
        if name in self.viewer.layers:
            axes = layers.axes_like(self.viewer.layers[name], header)
            if axes is not None:
                self.found.emit(name, header, axes)
