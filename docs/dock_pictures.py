"""Pictures of the real dock: opened on the real stack, run, cancelled, run again, exported.

`make pictures` runs this through pictures.py, in an X server in memory on Linux.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from napari.layers import Image
from PIL import Image as Picture
from qtpy.QtWidgets import QApplication

from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.files.reading import read_stack
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui import deconvolve_dock
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.method_panel import Settings
from napari_deconv.ui.preferences import Preferences
from napari_deconv.ui.psf_panel import PsfLayer
from napari_deconv.ui.samples import light_sheet_cell

#: Memory that is not enough to restore the bundled stack as a whole.
LITTLE_BYTES = 122_000_000
IMAGES = Path(__file__).parent / "images"
SIZE = (1280, 860)


def wait(until: Callable[[], bool], seconds: float = 120) -> None:
    """Serve the viewer's events until a condition holds."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the dock did not get there in time")
        QApplication.processEvents()
        time.sleep(0.002)


def rest(seconds: float) -> None:
    """Serve the viewer's events for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def shoot(viewer: napari.Viewer, name: str) -> None:
    """Write the whole window as a small PNG."""
    rest(0.5)
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    IMAGES.mkdir(exist_ok=True)
    few_colors(Picture.fromarray(pixels[..., :3])).save(IMAGES / name, optimize=True)


def few_colors(picture: Picture.Image) -> Picture.Image:
    """Return a picture of 256 colours, those of small bright parts among them."""
    return picture.quantize(
        256, method=Picture.Quantize.MAXCOVERAGE, kmeans=2, dither=Picture.Dither.NONE
    )


def open_dock() -> tuple[napari.Viewer, DeconvolveDock]:
    """Return a viewer with the bundled stack and its bead, and the dock set to use them."""
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*SIZE)
    for data, state, _ in light_sheet_cell():
        viewer.add_layer(Image(data, **state))
    viewer.layers[0].contrast_limits = (95, 600)
    dock = DeconvolveDock(viewer)
    viewer.window.add_dock_widget(dock, name="Deconvolve")
    rest(1)
    viewer.reset_view()
    viewer.dims.set_point(0, 9.0)  # um: the bead beside it has finer steps
    dock.psf.setValue(PsfLayer(viewer.layers[1].name))
    dock.method.setValue(Settings(RichardsonLucy.automatic(iterations=40)))
    wait(lambda: "FWHM" in dock.psf.summary.text() and "GB" in dock.running.forecast.text())
    return viewer, dock


def longest_waits(dock: DeconvolveDock) -> tuple[float, float]:
    """Run to the end; return the longest time without events served: in the run, at its end.

    At its end napari adds the new layer, with its controls and its place on the canvas.
    """
    dock.running.run_button.click()
    last, waits = time.perf_counter(), [0.0]
    while dock.job.running:
        QApplication.processEvents()
        now = time.perf_counter()
        waits.append(now - last)
        last = now
        time.sleep(0.001)
    return max(waits[:-1]), waits[-1]


def show_tiles(viewer: napari.Viewer, dock: DeconvolveDock) -> None:
    """Take a picture of a layer that fills, with too little memory for the whole; end the run."""
    usual = deconvolve_dock.read_preferences
    little = Preferences(memory_fraction=LITTLE_BYTES / free_memory_bytes())
    deconvolve_dock.read_preferences = lambda: little
    dock._settings_changed()
    wait(lambda: " tiles" in dock.running.forecast.text())
    dock.running.run_button.click()
    wait(lambda: dock.filling.part > 0.5)
    rest(0.5)
    shoot(viewer, "dock_tiles.png")
    dock.running.cancel_button.click()
    wait(lambda: not dock.job.running)
    print(f"in tiles: {dock.running.state.text()!r}")
    viewer.layers.remove(viewer.layers[-1])
    deconvolve_dock.read_preferences = usual


def main() -> None:
    """Walk the whole road once, and take the pictures on the way."""
    viewer, dock = open_dock()
    dock.running.run_button.click()
    wait(lambda: len(dock.curve.value()) >= 12)
    shoot(viewer, "dock_running.png")
    dock.running.cancel_button.click()
    wait(lambda: not dock.job.running)
    print(f"cancelled: {dock.running.state.text()!r}, {len(viewer.layers)} layers")
    running, ending = longest_waits(dock)
    print(f"run again: the viewer waited {1e3 * running:.0f} ms at most while it ran,")
    print(f"           {1e3 * ending:.0f} ms for napari to add the layer")
    print(f"           {dock.running.state.text()}")
    shoot(viewer, "dock.png")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "restored.ome.tif"
        dock.keeping.export(str(path))
        wait(lambda: not dock.keeping.exporting.running)
        same = np.array_equal(read_stack(path).data, viewer.layers[-1].data)
        print(f"exported {path.name}, {path.stat().st_size / 1e6:.1f} MB, same voxels: {same}")
    viewer.layers.remove(viewer.layers[-1])
    show_tiles(viewer, dock)
    viewer.close()


if __name__ == "__main__":
    main()
