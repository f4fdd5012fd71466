"""Pictures of the docks PSF and Deconvolve side by side: a slider is dragged, the image follows.

`make pictures` runs this through pictures.py, in an X server in memory on Linux. It writes
`psf_dock.png`, `preview.png` and the moving `psf_slider.gif`.
"""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
import numpy.typing as npt
from dock_pictures import IMAGES, few_colors, rest, shoot, wait
from napari.layers import Image
from PIL import Image as Picture
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_deconv.imaging.optics import Optics
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui.column import ScrollingColumn
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.method_panel import Settings
from napari_deconv.ui.psf_dock import PsfDock
from napari_deconv.ui.samples import light_sheet_cell

SIZE = (1680, 940)
#: The bundled stack is from a lattice light sheet; NA and sheet are plausible, not measured.
OPTICS = Optics(
    "light-sheet", na=1.1, emission_nm=520, immersion_index=1.333, sample_index=1.333, sheet_um=1
)
#: The middle of the region, voxels (z, y, x).
MIDDLE = (30, 96, 112)
#: The slider that is dragged, how far and in how many steps; the way back is the same.
DRAGGED, THINNEST, THICKEST, STEPS = "sheet_um", 0.4, 5.0, 7
#: Width of the moving picture, its height follows, and milliseconds for each frame.
GIF_WIDTH, FRAME_MS = 1040, 350

Pixels = npt.NDArray[np.uint8]


def open_docks() -> tuple[napari.Viewer, PsfDock, DeconvolveDock]:
    """Return a viewer with the bundled stack, and both docks, the one on the other's optics."""
    viewer = napari.Viewer()
    window = viewer.window
    window._qt_window.resize(*SIZE)
    (data, state, _), _ = light_sheet_cell()
    viewer.add_layer(Image(data, **state))
    viewer.layers[0].contrast_limits = (95, 600)
    deconvolve, psf = DeconvolveDock(viewer), PsfDock(viewer)
    frames = [
        window.add_dock_widget(dock, name=name)
        for dock, name in ((psf, "PSF"), (deconvolve, "Deconvolve"))
    ]
    window._qt_window.splitDockWidget(*frames, Qt.Orientation.Horizontal)
    rest(1)
    window._qt_window.resizeDocks(frames, [460, 380], Qt.Orientation.Horizontal)
    rest(0.2)
    viewer.reset_view()
    viewer.dims.set_current_step(0, MIDDLE[0])
    psf.optics.setValue(OPTICS)
    deconvolve.method.setValue(Settings(RichardsonLucy(20)))
    psf.use_button.click()
    wait(lambda: psf.report is not None and not psf.live.running)
    return viewer, psf, deconvolve


def preview_in(viewer: napari.Viewer, deconvolve: DeconvolveDock) -> None:
    """Switch the live preview on, and come close to its region."""
    deconvolve.preview.setValue(True)
    wait(lambda: deconvolve.live.layer is not None)
    deconvolve.live.move_to(MIDDLE)
    wait_for_preview(deconvolve)
    spacing = viewer.layers[0].scale
    viewer.scene.camera.center = tuple(m * s for m, s in zip(MIDDLE, spacing, strict=True))
    viewer.scene.camera.zoom *= 1.25
    # The line through the region and its counts below the settings come into sight.
    deconvolve.findChild(ScrollingColumn).ensureWidgetVisible(deconvolve.curve)


def wait_for_preview(deconvolve: DeconvolveDock) -> None:
    """Wait for the exact result of the region, which follows after a rest."""
    live = deconvolve.live
    rest(0.3)
    wait(lambda: not live.running)


class Drag:
    """Drags the handle of a slider by the mouse, from value to value."""

    def __init__(self, slider: Any) -> None:
        self.slider, self.handle = slider, slider._slider
        self.button, self.none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier

    def _at(self, value: float) -> QPoint:
        low, high = self.slider.minimum(), self.slider.maximum()
        room = self.handle.width() - 2 * 8
        return QPoint(round(8 + room * (value - low) / (high - low)), self.handle.height() // 2)

    def press(self) -> None:
        """Take the handle."""
        QTest.mousePress(self.handle, self.button, self.none, self._at(self.slider.value()))

    def to(self, value: float) -> None:
        """Move it."""
        QTest.mouseMove(self.handle, self._at(value))
        QApplication.processEvents()

    def release(self) -> None:
        """Let it go."""
        QTest.mouseRelease(self.handle, self.button, self.none, self._at(self.slider.value()))


def dragged(viewer: napari.Viewer, psf: PsfDock, deconvolve: DeconvolveDock) -> list[Pixels]:
    """Drag a slider; return what is seen at each place, there and back."""
    slider = psf.optics.fields[DRAGGED]
    drag, frames = Drag(slider), []
    drag.press()
    for value in np.geomspace(THINNEST, THICKEST, STEPS):
        drag.to(float(value))
        wait_for_preview(deconvolve)
        wait(lambda: not psf.live.running)
        print(
            f"{DRAGGED} {slider.value():.2f}: {psf.told.text()}; {deconvolve.preview.note.text()}"
        )
        frames.append(pixels_of(viewer))
    drag.release()
    return [*frames, *frames[-2:0:-1]]


def pixels_of(viewer: napari.Viewer) -> Pixels:
    """Return the whole window, (height, width, 3)."""
    return np.asarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3], np.uint8)


def write_gif(frames: list[Pixels], name: str) -> None:
    """Write a moving picture of few colours."""
    height = round(frames[0].shape[0] * GIF_WIDTH / frames[0].shape[1])
    size = (GIF_WIDTH, height)
    small = [Picture.fromarray(f).resize(size, Picture.Resampling.LANCZOS) for f in frames]
    # One palette for all, or what does not change would flicker.
    both = Picture.new("RGB", (GIF_WIDTH, 2 * height))
    both.paste(small[0], (0, 0))
    both.paste(small[len(small) // 2], (0, height))
    palette = few_colors(both)
    first, *others = [p.quantize(palette=palette, dither=Picture.Dither.NONE) for p in small]
    path = IMAGES / name
    first.save(path, save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    print(f"{name}: {len(frames)} frames, {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Take the pictures."""
    viewer, psf, deconvolve = open_docks()
    shoot(viewer, "psf_dock.png")
    preview_in(viewer, deconvolve)
    shoot(viewer, "preview.png")
    write_gif(dragged(viewer, psf, deconvolve), "psf_slider.gif")
    psf.stop()
    deconvolve.stop()
    viewer.close()


if __name__ == "__main__":
    main()
