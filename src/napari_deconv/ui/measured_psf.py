"""What the docks for measured PSFs share: names, layers, and the optics to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QScrollArea, QWidget

from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.value import InputError

from .exchange import DECONVOLVE, PSF, exchange_of
from .layers import KEY, MEASURED
from .optics_panel import OpticsPanel


def is_measured(layer: Any) -> bool:
    """Return whether a layer was made by `show_measured`."""
    return isinstance(layer, Image) and MEASURED in layer.metadata.get(KEY, {})


def show_measured(
    viewer: Viewer,
    name: str,
    data: npt.NDArray[np.floating[Any]],
    place: dict[str, Any],
    entry: dict[str, Any],
) -> str:
    """Show samples in the layer of this name, made where there is none; return its name.

    Parameters
    ----------
    viewer : Viewer
        Where to show them.
    name : str
        Of the layer; one that this function did not make is left alone.
    data : ndarray, (Z, Y, X) or (Y, X)
        Intensities.
    place : dict
        Scale, translation and so on, as napari takes them.
    entry : dict
        What the layer's metadata keep of where they come from.
    """
    limits = (float(data.min()), float(data.max()))
    old = next(
        (found for found in viewer.layers if found.name == name and is_measured(found)), None
    )
    if old is not None and old.ndim == data.ndim:
        old.data = data
        for key, value in place.items():
            setattr(old, key, value)
        old.contrast_limits_range = limits
        old.contrast_limits = limits
        old.metadata = {**old.metadata, KEY: {MEASURED: entry}}
        return name
    made = Image(
        data,
        name=name,
        colormap="inferno",
        gamma=0.5,
        contrast_limits=limits,
        metadata={KEY: {MEASURED: entry}},
        **place,
    )
    viewer.add_layer(made)
    return str(made.name)


def reveal(column: QScrollArea, widget: QWidget) -> None:
    """Scroll to a widget that was just shown, once it has its place."""
    # The column owns the timer, and takes it along.
    timer = QTimer(column)
    timer.setSingleShot(True)
    timer.timeout.connect(lambda: column.ensureWidgetVisible(widget, 0, 400))
    timer.timeout.connect(timer.deleteLater)
    timer.start(50)


def optics_at_hand(viewer: Viewer) -> tuple[Optics, str] | None:
    """Return the optics of the dock "PSF", else of "Deconvolve", and which it was; else None."""
    for name in (PSF, DECONVOLVE):
        dock = exchange_of(viewer).dock(name)
        panel = dock.findChild(OpticsPanel) if dock is not None else None
        # Behind another source of the PSF, the panel of "Deconvolve" tells nothing.
        if dock is None or panel is None or not panel.isVisibleTo(dock):
            continue
        try:
            return panel.value(), name
        except InputError:
            continue  # What is half typed compares with nothing.
    return None
