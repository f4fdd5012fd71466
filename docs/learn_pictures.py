"""Take the pictures of the dock "Learn" in napari: while it learns, and with its result.

python docs/learn_pictures.py (needs a screen: in memory, `xvfb-run -a -s '-screen 0 1920x1200x24'`)

The training is the preset "quick" on the light-sheet cell with its bead: minutes, and how many of
them passed until the stack was restored is printed. With a folder as argument the model is kept
there, for `learn_figure.py`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
from dock_pictures import SIZE, shoot, wait

from napari_deconv.ui.learn_dock import LearnDock
from napari_deconv.ui.learn_panel import LearnChoice
from napari_deconv.ui.samples import light_sheet_cell

#: The first picture is taken after so many steps.
SEEN_AFTER = 500
#: Seconds that a training may take at most.
LONG = 3600
CELL, BEAD = "light-sheet cell", "light-sheet bead (PSF)"


def main() -> None:
    """Train, take a picture on the way, restore, and take a picture of what came of it."""
    viewer: Any = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*SIZE)
    for data, state, _ in light_sheet_cell():
        viewer.add_layer(napari.layers.Image(data, **state))
    dock = LearnDock(viewer)
    viewer.window.add_dock_widget(dock, name="Learn", area="right")
    dock.image.choose(CELL)
    dock.psf.source.setCurrentIndex(1)
    dock.psf.layer.setCurrentText(BEAD)
    viewer.reset_view()
    viewer.camera.zoom *= 1.6
    viewer.layers[CELL].contrast_limits = (100, 600)
    with tempfile.TemporaryDirectory() as temporary:
        folder = sys.argv[1] if len(sys.argv) > 1 else temporary
        dock.panel.setValue(LearnChoice(path=str(Path(folder) / "light_sheet.safetensors")))
        wait(lambda: "takes about" in dock.running.forecast.text(), LONG)
        print(dock.running.forecast.text())
        begun = time.monotonic()
        dock.running.run_button.click()
        wait(lambda: len(dock.losses.value().learned) >= SEEN_AFTER, LONG)
        shoot(viewer, "learn_dock.png")
        wait(lambda: not dock.busy, LONG)
        print(dock.running.state.text(), "|", dock.verdict.text())
        dock.restore_button.click()
        wait(lambda: "to compare" in dock.running.state.text(), LONG)
        print(dock.verdict.text())
        print(f"restored {time.monotonic() - begun:.0f} s after the training was begun")
        viewer.layers[BEAD].visible = False
        names = [f"{CELL} {name}" for name in ("network", "Richardson-Lucy")]
        for layer in viewer.layers:
            layer.visible = layer.name in (CELL, *names)
        for name in names:
            viewer.layers[name].contrast_limits = (0, 1200)
        viewer.grid.enabled = True
        viewer.reset_view()
        shoot(viewer, "learn_result.png")
        dock.stop()
        wait(lambda: not dock.latest.running)
    viewer.close()


if __name__ == "__main__":
    main()
