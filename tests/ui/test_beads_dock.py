"""The dock "PSF from beads" as a user meets it: find, choose, average, use, and nonsense."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from napari.layers import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_deconv.files.bead_report import theory_fwhm_um
from napari_deconv.files.export import write_stack
from napari_deconv.imaging.beads import FATES, Bead, find_beads
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import fwhm_um
from napari_deconv.imaging.stack import Stack
from napari_deconv.ui import beads_dock
from napari_deconv.ui.beads_dock import CHANGED, NO_BEAD, BeadsDock
from napari_deconv.ui.beads_panel import Measurement, MeasurementPanel
from napari_deconv.ui.beads_points import LOOKS
from napari_deconv.ui.beads_table import BeadTable
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.exchange import DECONVOLVE, FIT, PSF, exchange_of, open_dock
from napari_deconv.ui.fit_dock import FitDock
from napari_deconv.ui.measured_psf import is_measured
from napari_deconv.ui.psf_dock import PsfDock
from napari_deconv.ui.psf_panel import PsfLayer
from napari_deconv.ui.samples import confocal_beads

OPTICS = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
GRID = Grid(spacing_um=(0.4, 0.15, 0.15))
#: Three good beads and one whose focus is in the second plane: clipped.
PLACES = ((8, 16, 17), (9, 18, 47), (8, 46, 20), (1, 47, 48))
UM = ("um", "um", "um")
#: Its stubs ask for an instance, which there never is.
MOUSE: Any = QTest


@cache
def beads_stack() -> npt.NDArray[np.uint16]:
    """Return counts of simulated beads, (18, 64, 64)."""
    psf = compute_psf(OPTICS, GRID, (35, 31, 31)).samples
    image = np.zeros((18 + 34, 64 + 30, 64 + 30))
    for height, place in zip((1000, 900, 800, 700), PLACES, strict=True):
        window = tuple(slice(p, p + n) for p, n in zip(place, psf.shape, strict=True))
        image[window] += height * psf / psf.max()
    counts = np.random.default_rng(1).poisson(image[17:-17, 15:-15, 15:-15] + 20)
    return counts.astype(np.uint16)


def beads_layer(**state: Any) -> Image:
    return Image(
        beads_stack(),
        **{
            "name": "stack",
            "scale": GRID.spacing_um,
            "units": UM,
            "axis_labels": ("z", "y", "x"),
            "translate": (5.0, 6.0, 7.0),
            **state,
        },
    )


@pytest.fixture
def dock(viewer: Any, qtbot: QtBot) -> Iterator[BeadsDock]:
    """Return the dock in a viewer with the beads; nothing of it runs on afterwards."""
    viewer.add_layer(beads_layer())
    widget = BeadsDock(viewer)
    viewer.window.add_dock_widget(widget, name="PSF from beads")
    yield widget
    widget.close()
    settle(widget, qtbot)


def settle(dock: BeadsDock, qtbot: QtBot) -> None:
    jobs: tuple[Any, ...] = (dock.finding, dock.averaging, dock.exporting)
    jobs += (dock.theory, dock.image.headers)
    qtbot.waitUntil(lambda: not any(job.running for job in jobs), timeout=60_000)


def find(dock: BeadsDock, qtbot: QtBot) -> list[str]:
    """Press Find; return the fates."""
    dock.find_button.click()
    settle(dock, qtbot)
    return [bead.fate for bead in dock.beads.value()]


def average(dock: BeadsDock, qtbot: QtBot) -> None:
    dock.running.run_button.click()
    settle(dock, qtbot)


def stop(dock: Any, qtbot: QtBot) -> None:
    """Stop another dock that was opened on the way."""
    dock.stop()
    jobs = [
        found for name in ("latest", "headers", "live", "job") if (found := vars(dock).get(name))
    ]
    qtbot.waitUntil(lambda: not any(getattr(job, "running", False) for job in jobs), timeout=60_000)


def shown_fates(dock: BeadsDock) -> list[str]:
    """Return the fates that the points tell: by their feature, colour and symbol alike."""
    layer = dock.points.layer
    found = {}
    for index, bead in enumerate(layer.features["bead"]):
        fate = str(layer.features["fate"][index])
        look = LOOKS[fate]
        rgb = [int(look.color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert np.allclose(layer.border_color[index][:3], rgb)
        assert layer.symbol[index].value == look.symbol
        found[bead] = fate
    return [found[bead] for bead in sorted(found)]


def test_beads_are_found_shown_and_counted(dock: BeadsDock, qtbot: QtBot) -> None:
    assert not dock.beads.isVisible()
    assert not dock.running.run_button.isEnabled()
    assert not dock.result.buttons.isEnabled()
    assert find(dock, qtbot) == ["used", "used", "used", "clipped"]
    assert dock.beads.counts.text() == "3 used, 1 clipped"
    assert dock.beads.table.rowCount() == 4
    assert shown_fates(dock) == ["used", "used", "used", "clipped"]
    layer, image = dock.points.layer, dock.viewer.layers["stack"]
    assert layer.name == "stack beads"
    assert np.array_equal(layer.scale, image.scale)
    assert np.array_equal(layer.translate, image.translate)
    assert [str(unit) for unit in layer.units] == [str(unit) for unit in image.units]
    for number, place in enumerate(PLACES, start=1):
        points = layer.data[np.array(layer.features["bead"]) == number]
        # Seen from planes around the focus, and largest there.
        assert np.allclose(points[:, 1:], place[1:], atol=0.2)
        sizes = layer.size[np.array(layer.features["bead"]) == number]
        assert abs(points[np.argmax(sizes), 0] - place[0]) <= 1
        assert len(points) > 3
        assert ((points[:, 0] >= 0) & (points[:, 0] < 18)).all()


def test_rows_and_points_follow_each_other(dock: BeadsDock, qtbot: QtBot) -> None:
    find(dock, qtbot)
    dock.viewer.dims.set_current_step(0, 0)
    dock.beads.table.selectRow(1)
    layer = dock.points.layer
    assert {int(layer.features["bead"][i]) for i in layer.selected_data} == {2}
    assert dock.viewer.dims.current_step[0] == PLACES[1][0]
    world = layer.data_to_world(PLACES[2])
    click = SimpleNamespace(position=world, view_direction=None, dims_displayed=[1, 2])
    dock.viewer.dims.set_current_step(0, PLACES[2][0])
    layer.mouse_drag_callbacks[-1](layer, click)
    assert dock.beads.table.currentRow() == 2
    nowhere = SimpleNamespace(position=(5, 6, 7), view_direction=None, dims_displayed=[1, 2])
    layer.mouse_drag_callbacks[-1](layer, nowhere)
    assert dock.beads.table.currentRow() == 2
    # Why a bead is not used stands below the table, and in the tooltip.
    dock.beads.table.selectRow(3)
    assert "too near the border of the image in z" in dock.beads.reason.text()
    assert "border" in dock.beads.table.item(3, 0).toolTip()  # type: ignore[union-attr]


def test_the_user_decides(dock: BeadsDock, qtbot: QtBot) -> None:
    find(dock, qtbot)
    table = dock.beads.table
    at = table.visualRect(table.model().index(0, 1)).center()  # type: ignore[union-attr]
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    MOUSE.mouseClick(table.viewport(), button, none, at)
    MOUSE.mouseDClick(table.viewport(), button, none, at)
    assert [bead.fate for bead in dock.beads.value()] == ["left out", "used", "used", "clipped"]
    assert shown_fates(dock) == ["left out", "used", "used", "clipped"]
    dock.beads.toggle_button.click()
    assert dock.beads.value()[0].fate == "used"
    dock.beads.select(3)
    dock.beads.toggle_button.click()  # A bead that was rejected, by force.
    assert dock.beads.counts.text() == "4 used"
    assert shown_fates(dock) == ["used"] * 4
    # To delete a point is to leave its bead out; what else is done to points is undone.
    layer = dock.points.layer
    dock.beads.select(1)
    layer.remove_selected()
    qtbot.waitUntil(lambda: dock.beads.value()[1].fate == "left out", timeout=5_000)
    assert shown_fates(dock) == ["used", "left out", "used", "used"]
    before = dock.points.layer.data.copy()
    dock.points.layer.add([[3, 3, 3]])
    qtbot.waitUntil(lambda: np.array_equal(dock.points.layer.data, before), timeout=5_000)
    # Without the layer all goes on.
    dock.viewer.layers.remove("stack beads")
    dock.beads.toggle(1)
    assert shown_fates(dock) == ["used"] * 4


def test_the_average_is_the_psf_and_can_be_used(dock: BeadsDock, qtbot: QtBot) -> None:
    find(dock, qtbot)
    average(dock, qtbot)
    assert dock.measured is not None
    truth = fwhm_um(compute_psf(OPTICS, GRID, (35, 31, 31)))
    # The simulated beads are points of about 1000 photons: widths within a few parts in a hundred.
    assert dock.measured.fwhm_um == pytest.approx(truth, rel=0.05)
    shown = dock.result.views.value()
    assert shown is not None
    middle = dock.measured.psf.shape[0] // 2
    assert np.array_equal(shown.xy, dock.measured.psf.samples[middle])
    assert "mean of 3 of 4 beads, 1 clipped" in dock.result.notes.text()
    assert f"{dock.measured.fwhm_um[0]:.2f} x" in dock.result.widths.text()
    assert "theory: open the dock PSF" in dock.result.widths.text()
    dock.result.make_button.click()
    dock.result.make_button.click()
    layer = dock.viewer.layers["PSF of stack"]
    assert [found.name for found in dock.viewer.layers].count("PSF of stack") == 1
    assert is_measured(layer)
    assert layer.scale.tolist() == list(GRID.spacing_um)
    assert np.allclose(layer.data_to_world([n // 2 for n in layer.data.shape]), 0)
    assert layer.data.sum() == pytest.approx(1, rel=1e-5)
    assert dock.image.layer.findText("PSF of stack") == -1
    dock.result.use_button.click()
    other = exchange_of(dock.viewer).dock(DECONVOLVE)
    assert isinstance(other, DeconvolveDock)
    assert other.psf.value() == PsfLayer("PSF of stack")
    stop(other, qtbot)
    dock.result.fit_button.click()
    fit = exchange_of(dock.viewer).dock(FIT)
    assert isinstance(fit, FitDock)
    assert fit.image.value().name == "PSF of stack"
    stop(fit, qtbot)


def test_theory_is_that_of_the_dock_psf(
    dock: BeadsDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(dock, qtbot)
    average(dock, qtbot)
    open_dock(dock.viewer, PSF)
    psf = exchange_of(dock.viewer).dock(PSF)
    assert isinstance(psf, PsfDock)
    psf.optics.setValue(OPTICS)
    dock.showEvent(None)  # As when its tab is raised again.
    qtbot.waitUntil(lambda: OPTICS.describe() in dock.result.widths.text(), timeout=60_000)
    assert dock.measured is not None
    theory = theory_fwhm_um(dock.measured, OPTICS)
    assert f"theory: {theory[0]:.2f} x {theory[1]:.2f} x" in dock.result.widths.text()
    stop(psf, qtbot)


def test_nonsense_is_told_in_a_sentence(dock: BeadsDock, qtbot: QtBot) -> None:
    rng = np.random.default_rng(2)
    dark = rng.poisson(10, (8, 32, 32))
    dock.viewer.add_layer(Image(dark, name="dark", scale=GRID.spacing_um, units=UM))
    dock.image.choose("dark")
    assert find(dock, qtbot) == []
    assert dock.running.state.text() == NO_BEAD
    assert not dock.running.run_button.isEnabled()
    dock.viewer.add_layer(beads_layer(name="pixels", scale=(1, 1, 1), units=("pixel",) * 3))
    dock.image.choose("pixels")
    assert "voxel size unknown" in dock.image.origin.text()
    assert not dock.find_button.isEnabled()
    assert dock.find_button.toolTip() == "Enter the voxel size of the image first"
    dock.look_for_beads()
    settle(dock, qtbot)
    assert "voxel size of the bead image is unknown" in dock.running.state.text()
    for step, size in zip(dock.image.steps, GRID.spacing_um, strict=True):
        step.setValue(size)
    assert dock.running.state.text() == ""
    assert dock.find_button.toolTip().startswith("Find the beads, and say")
    assert find(dock, qtbot) == ["used", "used", "used", "clipped"]
    # The points lie on the layer as it is, in pixels; the PSF has the size that was entered.
    assert dock.points.layer.scale.tolist() == [1, 1, 1]
    for index in range(3):
        dock.beads.toggle(index)
    average(dock, qtbot)
    assert "None of the 4 beads can be used (3 left out, 1 clipped)" in dock.running.state.text()
    assert dock.measured is None
    dock.beads.toggle(0)
    assert dock.running.state.text() == ""
    average(dock, qtbot)
    assert dock.measured is not None
    assert dock.measured.psf.spacing_um == GRID.spacing_um
    dock.settings.setValue(Measurement(bead_diameter_um=3.0))
    average(dock, qtbot)
    assert "too large" in dock.running.state.text()
    # Other voxels: these beads are no longer those of the image.
    dock.image.steps[0].setValue(0.5)
    assert dock.running.state.text() == CHANGED
    assert not dock.running.run_button.isEnabled()
    dock.settings.setValue(Measurement(bead_diameter_um=0.0))
    assert dock.running.state.text() == CHANGED
    dock.image.steps[0].setValue(GRID.spacing_um[0])
    assert dock.running.run_button.isEnabled()
    assert dock.running.state.text() == ""
    dock.viewer.layers.clear()
    assert not dock.find_button.isEnabled()
    dock.look_for_beads()
    assert "Open or choose an image" in dock.running.state.text()


def test_of_more_axes_what_is_shown_is_measured(dock: BeadsDock, qtbot: QtBot) -> None:
    stack = np.full((2, 18, 64, 64), 20, np.uint16)
    stack[1] = beads_stack()
    state = {"scale": (1, *GRID.spacing_um), "units": ("s", *UM), "axis_labels": tuple("tzyx")}
    dock.viewer.add_layer(Image(stack, name="film", **state))
    dock.image.choose("film")
    assert dock.image.value().axes == "TZYX"
    dock.viewer.dims.set_current_step(0, 1)
    assert find(dock, qtbot) == ["used", "used", "used", "clipped"]
    assert set(dock.points.layer.data[:, 0]) == {1}
    assert np.allclose(dock.points.layer.data[0, 2:], PLACES[0][1:], atol=0.2)
    dock.viewer.dims.set_current_step(0, 0)
    assert find(dock, qtbot) == []


def test_the_voxel_size_of_the_file_is_used(dock: BeadsDock, qtbot: QtBot, tmp_path: Path) -> None:
    """napari's own reader drops it; the dock reads it from the file again."""
    path = tmp_path / "beads.ome.tif"
    write_stack(path, Stack(beads_stack(), "ZYX", GRID), dtype="uint16")
    dock.viewer.open(path, plugin="napari")
    dock.image.choose(dock.viewer.layers[-1].name)
    qtbot.waitUntil(lambda: "from the file" in dock.image.origin.text(), timeout=20_000)
    assert dock.image.value().grid == GRID
    assert find(dock, qtbot) == ["used", "used", "used", "clipped"]


def test_the_sample_opens_with_beads_in_sight(dock: BeadsDock, qtbot: QtBot) -> None:
    for data, state, _ in confocal_beads():
        dock.viewer.add_layer(Image(data, **state))
    assert [layer.visible for layer in dock.viewer.layers[-2:]] == [True, False]
    dock.image.choose("confocal beads")
    assert find(dock, qtbot) == ["used"] * 4


def test_tables_and_pictures_are_written(dock: BeadsDock, qtbot: QtBot, tmp_path: Path) -> None:
    find(dock, qtbot)
    average(dock, qtbot)
    dock.result.tableAsked.emit(str(tmp_path / "beads.csv"), False)
    settle(dock, qtbot)
    assert dock.running.state.text() == "wrote beads.csv"
    rows = list(csv.reader((tmp_path / "beads.csv").read_text().splitlines()))
    assert [row[7] for row in rows[1:5]] == ["used", "used", "used", "clipped"]
    assert rows[5][0] == "mean of the used"
    dock.result.pictureAsked.emit(str(tmp_path / "beads.png"), False)
    settle(dock, qtbot)
    assert (tmp_path / "beads.png").read_bytes().startswith(b"\x89PNG")
    dock.result.tableAsked.emit(str(tmp_path / "beads.csv"), False)
    settle(dock, qtbot)
    assert "exists already" in dock.running.state.text()


def test_cancel_and_removal_while_it_works(
    dock: BeadsDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*args: Any, **kwargs: Any) -> tuple[Bead, ...]:
        assert go_on.wait(20)
        return find_beads(*args, **kwargs)

    monkeypatch.setattr(beads_dock, "find_beads", slow)
    dock.find_button.click()
    assert not dock.find_button.isEnabled()
    assert dock.running.cancel_button.isEnabled()
    dock.running.cancel_button.click()
    go_on.set()
    settle(dock, qtbot)
    assert dock.running.state.text() == "cancelled"
    assert dock.beads.value() == ()
    assert dock.find_button.isEnabled()
    # The image is removed in the middle: what was found is shown all the same.
    go_on.clear()
    dock.find_button.click()
    dock.viewer.layers.clear()
    go_on.set()
    settle(dock, qtbot)
    assert len(dock.beads.value()) == 4
    assert [layer.name for layer in dock.viewer.layers] == ["stack beads"]


def test_a_closed_dock_leaves_nothing_behind(
    viewer: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> tuple[Bead, ...]:
        started.set()
        assert go_on.wait(20)
        ended.set()
        return find_beads(*args, **kwargs)

    viewer.add_layer(beads_layer())
    widget = BeadsDock(viewer)
    frame = viewer.window.add_dock_widget(widget, name="PSF from beads")
    find(widget, qtbot)
    points, finding = widget.points.layer, widget.finding
    callbacks = len(points.mouse_drag_callbacks)
    found: list[object] = []
    finding.finished.connect(found.append)
    monkeypatch.setattr(beads_dock, "find_beads", slow)
    widget.find_button.click()
    qtbot.waitUntil(started.is_set, timeout=20_000)
    viewer.window.remove_dock_widget(frame)
    del widget, frame
    go_on.set()
    qtbot.waitUntil(ended.is_set, timeout=20_000)
    qtbot.waitUntil(lambda: not finding.running, timeout=20_000)
    assert found == []
    # The points stay, and nobody follows them.
    assert points in viewer.layers
    assert len(points.mouse_drag_callbacks) == callbacks - 1
    points.selected_data = {0}
    points.remove_selected()
    viewer.add_layer(beads_layer(name="other"))
    viewer.layers.clear()
    assert exchange_of(viewer).dock("PSF from beads") is None


def test_panels_keep_their_values(qtbot: QtBot) -> None:
    panel = MeasurementPanel()
    qtbot.addWidget(panel)
    assert panel.value() == Measurement()
    value = Measurement(0.1, True, (3.0, 2.0))
    panel.setValue(value)
    assert panel.value() == value
    assert value.box(3) == (3.0, 2.0, 2.0)
    assert value.box(2) == (2.0, 2.0)
    assert Measurement().box(3) is None
    assert set(LOOKS) == set(FATES)
    table = BeadTable()
    qtbot.addWidget(table)
    table.setValue((Bead((3.0, 4.0), "dim", "Too little light", fwhm_um=(0.2, None)),))
    assert table.table.columnCount() == 5  # fate, peak, SNR, y, x
    assert table.table.item(0, 4).text() == "?"  # type: ignore[union-attr]
    table.setValue(())
    assert table.counts.text() == ""
    assert not table.toggle_button.isEnabled()
