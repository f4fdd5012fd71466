"""The dock "PSF" as a user meets it: slide, see, make a layer, use it, edit it."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_deconv.files.export import write_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.ui import layers, objectives, psf_live
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.exchange import DECONVOLVE, PSF, exchange_of, wish_psf_layer
from napari_deconv.ui.psf_dock import PsfDock
from napari_deconv.ui.psf_layer import psf_layer
from napari_deconv.ui.psf_live import LivePsf
from napari_deconv.ui.psf_report import Report
from napari_deconv.ui.psf_views import Planes

#: Its stubs ask for an instance, which there never is.
MOUSE_AND_KEYS: Any = QTest
OIL = Optics(na=1.4, emission_nm=520, immersion_index=1.515, sample_index=1.33, depth_um=2)
GRID = Grid(spacing_um=(0.3, 0.1, 0.1))


@pytest.fixture(autouse=True)
def _own_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests out of the user's settings."""
    monkeypatch.setattr(objectives, "presets_file", lambda: tmp_path / "objectives.json")


@pytest.fixture
def psf(viewer: Any, blobs: Image, qtbot: QtBot) -> Iterator[PsfDock]:
    """Return the dock in a viewer with `blobs`, after its first picture and report."""
    viewer.add_layer(blobs)
    widget = PsfDock(viewer)
    viewer.window.add_dock_widget(widget, name="PSF")
    settle(widget, qtbot)
    yield widget
    widget.close()
    settle(widget, qtbot)


def settle(dock: PsfDock, qtbot: QtBot) -> None:
    """Wait until all is shown that was asked for."""
    qtbot.waitUntil(lambda: not dock.live.running, timeout=60_000)


def drag(dock: PsfDock, name: str, moves: int, qtbot: QtBot) -> None:
    """Drag a slider with the mouse, back and forth, and let go."""
    handle: QWidget = dock.optics.fields[name]._slider
    width, middle = handle.width(), handle.height() // 2
    field = dock.optics.fields[name]
    part = (field.value() - field.minimum()) / (field.maximum() - field.minimum())
    start = round(8 + (width - 16) * part)
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    MOUSE_AND_KEYS.mousePress(handle, button, none, QPoint(start, middle))
    for move in range(moves):
        MOUSE_AND_KEYS.mouseMove(handle, QPoint(start - 20 + (7 * move) % 40, middle))
        qtbot.wait(2)
    MOUSE_AND_KEYS.mouseRelease(handle, button, none, QPoint(start - 10, middle))


def test_many_moves_of_a_slider_end_in_the_last_one(
    psf: PsfDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame is older than the one before, none is kept, and the last one is of the last move."""
    asked: list[Optics] = []
    drawn: list[Optics] = []
    reports: list[Report] = []
    kept: weakref.WeakSet[Any] = weakref.WeakSet()
    whole = psf_live.planes_of

    def recorded(optics: Optics, grid: Grid) -> Planes:
        planes = whole(optics, grid)
        kept.add(planes)
        drawn.append(optics)
        return planes

    monkeypatch.setattr(psf_live, "planes_of", recorded)
    psf.optics.valueChanged.connect(lambda: asked.append(psf.optics.value()))
    psf.live.reportReady.connect(reports.append)
    drag(psf, "emission_nm", 100, qtbot)
    settle(psf, qtbot)
    assert len(asked) > 60
    assert len({optics.emission_nm for optics in asked}) > 10
    assert asked[-1] == psf.optics.value() == drawn[-1] == reports[-1].optics
    # The drawn ones are a subsequence of the asked ones: none is older than the one before.
    left = iter(asked)
    assert all(optics in left for optics in drawn)
    assert len(drawn) > 3
    shown, expected = psf.views.value(), whole(drawn[-1], GRID)
    assert shown is not None
    assert np.array_equal(shown.xy, expected.xy)
    assert len(reports) < 10
    gc.collect()
    assert len(kept) <= 3


def test_slow_planes_are_computed_beside_the_viewer(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The viewer goes on being served, each frame is newer than the last, the newest comes."""
    whole = psf_live.planes_of
    shown: list[Planes] = []

    def slow(optics: Optics, grid: Grid) -> Planes:
        ending = time.thread_time() + 0.05
        while time.thread_time() < ending:
            pass
        return Planes(np.full((3, 3), optics.depth_um), None, None, (1.0, 0.1, 0.1))

    monkeypatch.setattr(psf_live, "planes_of", slow)
    monkeypatch.setattr(psf_live, "report_on", lambda optics, grid: optics)
    live = LivePsf()
    live.planesReady.connect(shown.append)
    waits = []
    for depth in range(1, 31):
        live.show(Optics(na=1.2, emission_nm=520, depth_um=depth), GRID)
        started = time.perf_counter()
        qtbot.wait(10)
        waits.append(time.perf_counter() - started)
    qtbot.waitUntil(lambda: not live.running, timeout=20_000)
    assert len(waits) == 30
    depths = [planes.xy[0, 0] for planes in shown]
    assert depths == sorted(set(depths))
    assert depths[-1] == 30
    assert 2 < len(depths) < 30
    # Once they are fast again, they are drawn at once.
    monkeypatch.setattr(psf_live, "planes_of", whole)
    live.show(OIL, GRID)
    qtbot.waitUntil(lambda: not live.running, timeout=20_000)
    assert shown[-1].xy.shape == (81, 81)


def test_a_refusal_is_told_in_place_and_the_picture_stays(psf: PsfDock, qtbot: QtBot) -> None:
    before = psf.views.value()
    psf.optics.fields["na"].setValue(1.5)
    assert "NA 1.5 is not below" in psf.told.text()
    settle(psf, qtbot)
    assert psf.views.value() is before
    assert "NA 1.5 is not below" in psf.told.text()
    psf.optics.fields["na"].setValue(1.1)
    settle(psf, qtbot)
    assert psf.views.value() is not before
    assert "FWHM" in psf.told.text()


def test_what_only_the_computation_refuses_is_told_too(
    psf: PsfDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(optics: Optics, grid: Grid) -> Any:
        raise InputError("No PSF of this kind is computed")

    monkeypatch.setattr(psf_live, "planes_of", refuse)
    monkeypatch.setattr(psf_live, "report_on", refuse)
    before = psf.views.value()
    psf.optics.fields["na"].setValue(1.1)
    settle(psf, qtbot)
    assert "No PSF of this kind" in psf.told.text()
    assert psf.views.value() is before


def test_an_unknown_voxel_size_is_asked_for(psf: PsfDock, qtbot: QtBot) -> None:
    assert psf.voxels.value() == GRID
    assert "layer" in psf.voxels.row.origin.text()
    psf.viewer.add_layer(Image(np.zeros((3, 8, 8)), name="pixels"))
    psf.voxels.layer.setCurrentText("pixels")
    assert "voxel size is unknown" in psf.told.text()
    with pytest.raises(InputError, match="Enter it"):
        psf.voxels.value()
    psf.voxels.z.setValue(0.4)
    psf.voxels.pixel.setValue(0.2)
    settle(psf, qtbot)
    assert psf.voxels.value() == Grid(spacing_um=(0.4, 0.2, 0.2))
    assert "FWHM" in psf.told.text()
    oblong = Grid(spacing_um=(0.4, 0.1, 0.2))
    psf.voxels.setValue(oblong)
    assert psf.voxels.value() == oblong
    psf.voxels.pixel.setValue(0.15)
    assert psf.voxels.value() == Grid(spacing_um=(0.4, 0.15, 0.15))
    psf.viewer.add_layer(Image(np.zeros((8, 8)), name="flat", scale=(0.1, 0.1), units=["um"] * 2))
    psf.voxels.layer.setCurrentText("flat")
    settle(psf, qtbot)
    assert psf.voxels.value() == Grid(spacing_um=(0.1, 0.1))
    shown = psf.views.value()
    assert shown is not None
    assert shown.xz is None


def test_without_an_image_the_voxels_are_assumed(viewer: Any, qtbot: QtBot) -> None:
    widget = PsfDock(viewer)
    qtbot.addWidget(widget)
    settle(widget, qtbot)
    assert "assumed" in widget.voxels.row.origin.text()
    assert widget.views.value() is not None
    widget.close()


def test_what_the_layer_knows_is_taken_over(psf: PsfDock, qtbot: QtBot) -> None:
    known = KnownOptics(na=0.8, immersion_index=1.0, emission_nm=600)
    psf.viewer.add_layer(
        Image(np.zeros((3, 8, 8)), name="told", metadata={layers.KEY: {"optics": known.to_dict()}})
    )
    psf.voxels.layer.setCurrentText("told")
    value = psf.optics.value()
    assert (value.na, value.immersion_index, value.emission_nm) == (0.8, 1.0, 600)


def test_a_layer_whose_scale_or_name_changes_is_followed(psf: PsfDock, blobs: Image) -> None:
    blobs.name = "cell"
    assert psf.voxels.layer.currentText() == "cell"
    blobs.scale = (0.5, 0.2, 0.2)
    assert psf.voxels.value() == Grid(spacing_um=(0.5, 0.2, 0.2))
    psf.voxels.setValue(Grid(spacing_um=(0.4, 0.1, 0.1)))
    blobs.scale = (0.6, 0.3, 0.3)
    assert psf.voxels.value() == Grid(spacing_um=(0.4, 0.1, 0.1))


def test_a_psf_layer_that_was_renamed_is_the_users(psf: PsfDock) -> None:
    psf.make_button.click()
    kept = psf_layer(psf.viewer)
    assert kept is not None
    kept.name = "my PSF"
    psf.make_button.click()
    assert [found.name for found in psf.viewer.layers] == ["blobs", "my PSF", "PSF"]


def test_one_layer_is_made_and_follows(psf: PsfDock, qtbot: QtBot) -> None:
    assert not psf.follow.isEnabled()
    psf.make_button.click()
    psf.make_button.click()
    layer = psf_layer(psf.viewer)
    assert layer is not None
    assert [found.name for found in psf.viewer.layers] == ["blobs", "PSF"]
    assert psf.voxels.layer.currentText() == "blobs"
    assert psf.voxels.layer.findText("PSF") == -1
    assert layer.scale.tolist() == [0.3, 0.1, 0.1]
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    peak = np.unravel_index(layer.data.argmax(), layer.data.shape)
    assert np.allclose(layer.data_to_world(peak), 0)
    entry = layer.metadata[layers.KEY]["psf"]
    assert Optics.from_dict(entry["optics"]) == psf.optics.value()
    old, whole = layer.data, layer
    psf.follow.setChecked(True)
    psf.optics.fields["na"].setValue(0.9)
    settle(psf, qtbot)
    assert psf_layer(psf.viewer) is whole
    assert layer.data is not old
    assert np.allclose(layer.data_to_world([n // 2 for n in layer.data.shape]), 0)
    psf.follow.setChecked(False)
    kept = layer.data
    psf.optics.fields["na"].setValue(1.0)
    settle(psf, qtbot)
    assert layer.data is kept
    psf.voxels.setValue(Grid(spacing_um=(0.1, 0.1)))
    settle(psf, qtbot)
    psf.make_button.click()
    flat = psf_layer(psf.viewer)
    assert flat is not None
    assert flat.ndim == 2
    psf.viewer.layers.remove(flat)
    assert not psf.follow.isEnabled()


def test_the_deconvolution_follows_while_wished(psf: PsfDock, qtbot: QtBot) -> None:
    exchange = exchange_of(psf.viewer)
    assert exchange.dock(DECONVOLVE) is None
    psf.use_button.click()
    other = exchange.dock(DECONVOLVE)
    assert isinstance(other, DeconvolveDock)
    assert other.psf.value() == psf.optics.value()
    drag(psf, "depth_um", 10, qtbot)
    settle(psf, qtbot)
    assert psf.optics.value().depth_um > 0
    assert other.psf.value() == psf.optics.value()
    psf.use_button.click()
    before = other.psf.value()
    psf.optics.fields["na"].setValue(0.7)
    settle(psf, qtbot)
    assert other.psf.value() == before
    wish_psf_layer(psf.viewer, "blobs")
    assert other.psf.source.currentIndex() == 1
    assert other.psf.layer.currentText() == "blobs"
    close(other, qtbot)


def close(dock: DeconvolveDock, qtbot: QtBot) -> None:
    dock.stop()
    qtbot.waitUntil(lambda: not dock.latest.running and not dock.headers.running, timeout=20_000)


def test_the_psf_of_the_deconvolution_is_edited(dock: DeconvolveDock, qtbot: QtBot) -> None:
    dock.psf.setValue(OIL)
    for step, size in zip(dock.image.steps, (0.25, 0.09, 0.09), strict=True):
        step.setValue(size)
    dock.psf.edit_button.click()
    other = exchange_of(dock.viewer).dock(PSF)
    assert isinstance(other, PsfDock)
    assert other.optics.value() == OIL
    assert other.voxels.value() == Grid(spacing_um=(0.25, 0.09, 0.09))
    other.optics.fields["depth_um"].setValue(7)
    settle(other, qtbot)
    value = dock.psf.value()
    assert isinstance(value, Optics)
    assert value.depth_um == 7
    dock.psf.edit_button.click()  # again: the same dock
    assert exchange_of(dock.viewer).dock(PSF) is other
    other.stop()
    settle(other, qtbot)


def test_one_exchange_a_viewer_and_none_after_it() -> None:
    class Whole:
        """Stands for a viewer; a proxy hands out the same one."""

    class Proxy:
        def __init__(self, whole: Whole) -> None:
            self.__wrapped__ = whole

    first, second = Whole(), Whole()
    found: Any = exchange_of(first)
    assert exchange_of(Proxy(first)) is found
    assert exchange_of(second) is not found
    kept = weakref.ref(found)
    del found, first
    gc.collect()
    assert kept() is None


def test_what_the_file_knows_is_filled_in_and_marked(
    psf: PsfDock, qtbot: QtBot, tmp_path: Path
) -> None:
    """napari's own reader keeps neither voxel size nor optics."""
    known = KnownOptics(0.9, 1.0, 600, 561, "confocal")
    data = np.random.default_rng(0).poisson(9, (3, 16, 17)).astype(np.uint16)
    stack = Stack(data, "ZYX", Grid(spacing_um=(0.4, 0.2, 0.2)), channel_optics=(known,))
    path = tmp_path / "cells.ome.tif"
    write_stack(path, stack, dtype="uint16")
    with qtbot.waitSignal(psf.headers.found, timeout=60_000):
        psf.viewer.open(path, plugin="napari")
        psf.voxels.layer.setCurrentText(psf.viewer.layers[-1].name)
    settle(psf, qtbot)
    assert psf.voxels.value() == Grid(spacing_um=(0.4, 0.2, 0.2))
    optics = psf.optics.value()
    assert (optics.modality, optics.na, optics.excitation_nm) == ("confocal", 0.9, 561)
    assert psf.report is not None
    assert psf.report.optics == optics
    assert any("light in the box" in line for line in psf.report.numbers())
