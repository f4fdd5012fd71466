"""Open napari on files, with the dock: `python -m napari_deconv.ui RAW RESTORED`."""

from __future__ import annotations

import sys

import napari
from napari.layers import Image

from napari_deconv.files.reading import read_stack

from .deconvolve_dock import DeconvolveDock
from .layers import contrast_limits, layers_of_stack


def show(paths: list[str]) -> napari.Viewer:
    """Return a viewer with a layer for each file, the last one on top, and the dock."""
    viewer = napari.Viewer(title="napari-deconv")
    for path in paths:
        for data, state, _ in layers_of_stack(read_stack(path)):
            limits = {"contrast_limits": contrast_limits(data)} if data.dtype.kind == "f" else {}
            viewer.add_layer(Image(data, **state, **limits))
    dock = DeconvolveDock(viewer)
    # The raw stack is what one restores, though it lies below.
    dock.image.layer.setCurrentText(viewer.layers[0].name)
    viewer.window.add_dock_widget(dock, name="Deconvolve")
    return viewer


if __name__ == "__main__":
    show(sys.argv[1:])
    napari.run()
