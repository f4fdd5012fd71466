"""Where the docks of one viewer meet without knowing each other.

A dock announces itself under its name and listens; another emits a wish. `open_dock` brings
a dock into sight, and opens it where it is not open yet.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from napari.viewer import Viewer
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics

PLUGIN = "napari-deconv"
DECONVOLVE, PSF, BEADS, FIT = "Deconvolve", "PSF", "PSF from beads", "Fit optics"
FOLDER, LEARN, AFM = "Deconvolve a folder", "Learn", "AFM"


class Exchange(QObject):
    """The wishes of one viewer's docks.

    Signals: `opticsWished(Optics)` and `psfLayerWished(name)` ask the dock "Deconvolve" to use
    a PSF, `editWished(Optics, Grid | None)` asks the dock "PSF" to edit one, and
    `fitWished(name)` the dock "Fit optics" to fit the PSF in a layer.
    """

    opticsWished = Signal(object)
    psfLayerWished = Signal(str)
    editWished = Signal(object, object)
    fitWished = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._docks: WeakValueDictionary[str, QWidget] = WeakValueDictionary()

    def announce(self, name: str, dock: QWidget) -> None:
        """Tell that a dock of this name is there and listens."""
        self._docks[name] = dock

    def leave(self, dock: QWidget) -> None:
        """Tell that a dock is gone."""
        for name in [name for name, found in self._docks.items() if found is dock]:
            del self._docks[name]

    def dock(self, name: str) -> QWidget | None:
        """Return the dock of this name, None where there is none."""
        found = self._docks.get(name)
        return found if found is not None and isalive(found) else None  # type: ignore[no-untyped-call]


_exchanges: WeakKeyDictionary[Any, Exchange] = WeakKeyDictionary()


def exchange_of(viewer: Viewer) -> Exchange:
    """Return the exchange of a viewer, the same one for all its docks."""
    # Plugins may be handed a proxy, and each of them another one.
    whole = getattr(viewer, "__wrapped__", viewer)
    if whole not in _exchanges:
        _exchanges[whole] = Exchange()
    return _exchanges[whole]


def wish_optics(viewer: Viewer, optics: Optics) -> None:
    """Ask the dock "Deconvolve" to use these optics; the dock "PSF" stays in front."""
    if exchange_of(viewer).dock(DECONVOLVE) is None:
        open_dock(viewer, DECONVOLVE)
        _lift(exchange_of(viewer).dock(PSF))
    exchange_of(viewer).opticsWished.emit(optics)


def wish_psf_layer(viewer: Viewer, name: str) -> None:
    """Ask the dock "Deconvolve" to take its PSF from a layer."""
    open_dock(viewer, DECONVOLVE)
    exchange_of(viewer).psfLayerWished.emit(name)


def wish_edit(viewer: Viewer, optics: Optics, grid: Grid | None) -> None:
    """Ask the dock "PSF" to edit these optics on these voxels."""
    open_dock(viewer, PSF)
    exchange_of(viewer).editWished.emit(optics, grid)


def wish_fit(viewer: Viewer, name: str) -> None:
    """Ask the dock "Fit optics" to fit the PSF in a layer."""
    open_dock(viewer, FIT)
    exchange_of(viewer).fitWished.emit(name)


def open_dock(viewer: Viewer, name: str) -> None:
    """Bring a dock of this plugin to the front; open it where it is not open."""
    found = exchange_of(viewer).dock(name)
    if found is None:
        viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=True)
    else:
        _lift(found)


def _lift(widget: QWidget | None) -> None:
    """Bring the frame around a dock to the front of its tabs."""
    while widget is not None and not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    if widget is not None:
        widget.show()
        widget.raise_()
