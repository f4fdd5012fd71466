"""How long the viewer takes to answer a slider: the PSF, the restored region, the AFM surface.

Each round moves the slider of the numerical aperture, or of the tip's radius, by a little and
serves the viewer's events until the answer is painted. The figures to read are the medians, in
milliseconds.
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

from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.simulated import imaged, surface_of
from napari_deconv.afm.tips import Paraboloid, SphereCone, tip_of
from napari_deconv.imaging.optics import Optics
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui.afm_dock import AfmDock
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.height_layers import layers_of_heights
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


def heights() -> np.ndarray:
    """Return an image of heights, 512 x 512 pixels of 1 nm."""
    random = np.random.default_rng(3)
    shape, pixel_nm = (512, 512), (1.0, 1.0)
    surface = surface_of("particles", shape, pixel_nm, random)
    tip = tip_of(SphereCone(6.0, 20.0), pixel_nm, float(np.ptp(surface)), shape)
    return imaged(surface, tip, 0.2, random)


@pytest.mark.parametrize(
    "shape", [Paraboloid(8.0), SphereCone(8.0, 20.0)], ids=["paraboloid", "cone"]
)
def test_slider_to_surface_on_screen(
    benchmark: Any, make_napari_viewer_proxy: Callable[..., Any], shape: Any
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    data, state, _ = layers_of_heights(HeightMap(heights(), (1.0, 1.0), "image"))
    viewer.add_layer(Image(data, **state))
    dock = AfmDock(viewer)
    viewer.window.add_dock_widget(dock, name="AFM")
    dock.tip.setValue(shape)
    served_until(lambda: not dock.live.running)
    shown: list[object] = []
    dock.live.ready.connect(shown.append)
    radii = itertools.cycle([6.0, 7.0, 8.0, 9.0, 10.0, 9.5, 8.5, 7.5])

    def move() -> None:
        shown.clear()
        dock.tip.radius.setValue(next(radii))
        served_until(lambda: bool(shown), dock.live.ready)

    for _ in range(8):
        move()
    benchmark.group = "slider to surface on screen, 512 x 512"
    benchmark.pedantic(move, rounds=40)
    dock.close()
    served_until(lambda: not dock.live.running)
