"""Take the picture of the dock "Deconvolve a folder" in napari, half-way through a folder.

python docs/batch_pictures.py (needs a screen: in memory, `xvfb-run -a -s '-screen 0 1920x1200x24'`)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import napari
from dock_pictures import SIZE, shoot, wait

from napari_deconv.files.export import write_stack
from napari_deconv.files.recipe import Recipe, write_recipe
from napari_deconv.files.samples import real_psf, real_stack
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui.batch_dock import BatchDock

FILES = 6


def make_folder(folder: Path) -> None:
    """Write some stacks, one of them damaged, and a recipe."""
    cell = real_stack()
    for number in range(1, FILES):
        write_stack(folder / f"cell_{number}.ome.tif", cell, dtype="uint16")
    (folder / f"cell_{FILES}.ome.tif").write_bytes(b"II*\0 and no more")
    write_recipe(folder / "day.json", Recipe(real_psf(), RichardsonLucy(10), engine="cpu"))


def main() -> None:
    """Run a folder, take the picture half-way, and go on to its end."""
    with tempfile.TemporaryDirectory(prefix="day1-") as name:
        folder = Path(name)
        make_folder(folder)
        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(*SIZE)
        dock = BatchDock(viewer)
        viewer.window.add_dock_widget(dock, name="Deconvolve a folder", area="right")
        panel = dock.panel
        panel.folder.setText(str(folder))
        panel.pattern.setText("*.ome.tif")
        panel.source.setCurrentIndex(1)
        panel.recipe.setText(str(folder / "day.json"))
        panel.folder.editingFinished.emit()
        wait(lambda: len(dock.table.value()) == FILES and not dock.looking.running)
        dock.running.run_button.click()
        wait(lambda: sum(job.state == "done" for job in dock.table.value()) == 2)
        wait(lambda: "iteration 5" in dock.running.state.text())
        shoot(viewer, "batch_dock.png")
        wait(lambda: not dock.job.running)
        print(f"{dock.running.forecast.text()}; {dock.running.state.text()}")
        viewer.close()


if __name__ == "__main__":
    main()
