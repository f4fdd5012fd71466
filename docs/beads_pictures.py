"""Pictures of the docks "PSF from beads" and "Fit optics", on the bundled real beads.

`make pictures` runs this through pictures.py, in an X server in memory on Linux.
"""

from __future__ import annotations

import napari
from dock_pictures import rest, shoot, wait
from napari.layers import Image

from napari_deconv.files.samples import widefield_psf
from napari_deconv.imaging.optics import Optics
from napari_deconv.ui.beads_dock import BeadsDock
from napari_deconv.ui.fit_dock import FitDock
from napari_deconv.ui.layers import LayerTuple, layers_of_stack
from napari_deconv.ui.samples import confocal_beads

SIZE = (1280, 1060)
#: What is known of the microscope that took the bundled bead.
WIDEFIELD = Optics(na=0.85, emission_nm=520, immersion_index=1.0)


def open_viewer(layers: list[LayerTuple]) -> napari.Viewer:
    """Return a viewer with these layers."""
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*SIZE)
    for data, state, _ in layers:
        viewer.add_layer(Image(data, **state))
    return viewer


def picture_of_beads() -> None:
    """Find the beads of the real confocal stack, leave one out, average the others."""
    viewer = open_viewer(confocal_beads())
    dock = BeadsDock(viewer)
    viewer.window.add_dock_widget(dock, name="PSF from beads")
    rest(1)
    dock.find_button.click()
    wait(lambda: not dock.finding.running)
    dock.beads.toggle(2)
    dock.running.run_button.click()
    wait(lambda: not dock.averaging.running)
    print(f"beads: {dock.beads.counts.text()}; {dock.result.widths.text()}")
    viewer.reset_view()
    shoot(viewer, "beads_dock.png")
    dock.stop()
    viewer.close()


def picture_of_fit() -> None:
    """Fit NA and depth to the real widefield bead."""
    viewer = open_viewer(layers_of_stack(widefield_psf(), gamma=0.5))
    dock = FitDock(viewer)
    viewer.window.add_dock_widget(dock, name="Fit optics")
    dock.optics.setValue(WIDEFIELD)
    dock.free.setValue(("na", "depth_um"))
    rest(1)
    dock.running.run_button.click()
    wait(lambda: not dock.job.running)
    assert dock.result is not None
    print(f"fit: {dock.result.fit.describe()}")
    viewer.reset_view()
    shoot(viewer, "fit_dock.png")
    dock.stop()
    viewer.close()


if __name__ == "__main__":
    picture_of_beads()
    picture_of_fit()
