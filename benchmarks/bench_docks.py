"""How long the viewer takes to answer a slider: the PSF on screen, and the restored region.

Each round moves the slider of the numerical aperture by a little and serves the viewer's events
until the answer is painted. The figures to read are the medians, in milliseconds.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

from napari_deconv.imaging.optics import Optics
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.method_panel import Settings
from napari_deconv.ui.psf_dock import PsfDock

OPTICS = Optics(na=1.2, emission_nm=520, immersion_index=1.333, sample_index=1.333)
#: Back and forth, each another aperture than the one before, from next to the first one.
APERTURES = [round(1.15 + 0.01 * abs(step - 4), 2) for step in range(10)]


def served_until(done: Callable[[], bool], signal: Any = None, seconds: float = 60) -> None:
    """Serve the viewer's events until a condition holds, then until all is painted.

    It is looked at when the signal comes, as nothing but events wakes a viewer; without a signal,
    every few milliseconds.
    """
    end, loop, timer = time.monotonic() + seconds, QEventLoop(), QTimer()

    def look(*_: object) -> None:
        if done() or time.monotonic() > end:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(500 if signal is not None else 5)
    if signal is not None:
        signal.connect(look)
    if not done():
        loop.exec()
    timer.stop()
    if signal is not None:
        signal.disconnect(look)
    if not done():
        raise TimeoutError("the dock did not answer in time")
    QApplication.processEvents()


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[..., Any]) -> Any:
    """Return a viewer on the screen with a stack of 64 x 256 x 256 voxels."""
    found = make_napari_viewer_proxy(show=True)
    data = np.random.default_rng(1).poisson(30, (64, 256, 256)).astype(np.uint16)
    data[::8, ::16, ::16] += 900
    found.add_layer(Image(data, name="stack", scale=(0.2, 0.1, 0.1), units=("um",) * 3))
    return found


@pytest.mark.parametrize("modality", ["widefield", "confocal"])
def test_slider_to_psf_on_screen(benchmark: Any, viewer: Any, modality: str) -> None:
    dock = PsfDock(viewer)
    viewer.window.add_dock_widget(dock, name="PSF")
    dock.optics.setValue(Optics(modality, na=1.2, emission_nm=520, excitation_nm=488))
    shown: list[object] = []
    dock.live.planesReady.connect(shown.append)
    served_until(lambda: not dock.live.running)
    apertures = itertools.cycle(APERTURES)

    def move() -> None:
        shown.clear()
        dock.optics.fields["na"].setValue(next(apertures))
        served_until(lambda: bool(shown), dock.live.planesReady)

    def rest() -> None:
        """Let as much time pass as between two moves of a mouse; pictures are no closer."""
        end = time.monotonic() + 0.02
        served_until(lambda: time.monotonic() > end)

    for _ in APERTURES:
        move()
    benchmark.group = "slider to PSF on screen"
    benchmark.pedantic(move, setup=rest, rounds=60)
    dock.close()
    served_until(lambda: not dock.live.running)


@pytest.fixture
def previewing(viewer: Any) -> Iterator[tuple[DeconvolveDock, list[Any]]]:
    """Return the dock with its preview on, and what the preview shows."""
    dock = DeconvolveDock(viewer)
    viewer.window.add_dock_widget(dock, name="Deconvolve")
    dock.psf.setValue(OPTICS)
    dock.method.setValue(Settings(RichardsonLucy(20), 0.0, "cpu"))
    shown: list[Any] = []
    dock.live.shown.connect(shown.append)
    dock.preview.setValue(True)
    served_until(lambda: bool(shown) and shown[-1].frame.iterations == 20)
    yield dock, shown
    dock.close()
    jobs = (dock.live, dock.latest, dock.headers)
    served_until(lambda: not any(job.running for job in jobs))


@pytest.mark.parametrize("iterations", [0, 20], ids=["first", "refined"])
def test_slider_to_restored_region_on_screen(
    benchmark: Any, previewing: tuple[DeconvolveDock, list[Any]], iterations: int
) -> None:
    dock, shown = previewing
    apertures = itertools.cycle(APERTURES)

    def reached() -> bool:
        kind = "refining" if iterations else "wiener"
        frames = [found.frame for found in shown]
        return any(f.kind == kind and f.iterations >= iterations for f in frames)

    def move() -> None:
        shown.clear()
        dock.psf.optics.fields["na"].setValue(next(apertures))
        served_until(reached, dock.live.shown)

    for _ in range(3):
        move()
    benchmark.group = "slider to restored region on screen"
    benchmark.pedantic(move, rounds=20)
