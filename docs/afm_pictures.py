"""Take the picture of the dock "AFM" in napari, with the simulated sample.

python docs/afm_pictures.py (needs a screen: in memory, `xvfb-run -a -s '-screen 0 1920x1200x24'`)
"""

from __future__ import annotations

from typing import Any

import napari
from dock_pictures import SIZE, shoot, wait

from napari_deconv.ui.afm_dock import AfmDock
from napari_deconv.ui.samples import simulated_afm
from napari_deconv.ui.tip_panel import TipLayer


def main() -> None:
    """Reconstruct the sample with its tip, measure its objects, and take a picture."""
    viewer: Any = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*SIZE)
    for data, state, _ in simulated_afm():
        viewer.add_layer(napari.layers.Image(data, **state))
    dock = AfmDock(viewer)
    viewer.window.add_dock_widget(dock, name="AFM", area="right")
    dock.tip.setValue(TipLayer("simulated AFM tip"))
    wait(lambda: "live surface" in viewer.layers)
    dock.reconstruct()
    wait(lambda: not dock.job.running)
    dock.measure()
    wait(lambda: not dock.job.running)
    dock.objects.expand()
    source = dock.source.layer().name
    for layer in viewer.layers:
        layer.visible = layer.name in (source, f"{source} surface")
    viewer.layers[f"{source} surface"].contrast_limits = viewer.layers[source].contrast_limits
    viewer.grid.enabled = True
    viewer.reset_view()
    print(dock.told.text())
    shoot(viewer, "afm_dock.png")
    dock.stop()
    wait(lambda: not dock.live.running)
    viewer.close()


if __name__ == "__main__":
    main()
