"""The dock "Fit optics" as a user meets it: choose what is free, fit, apply, and nonsense."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from napari.layers import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_deconv.imaging.catalogue import ABERRATIONS
from napari_deconv.imaging.fit_errors import FittedParameter
from napari_deconv.imaging.fit_parameters import FREE
from napari_deconv.imaging.fitting import OpticsFit, fitting
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.ui import fit_dock, layers
from napari_deconv.ui.exchange import DECONVOLVE, PSF, exchange_of, open_dock
from napari_deconv.ui.fit_dock import FitDock
from napari_deconv.ui.fit_panel import FitTable, FreePanel
from napari_deconv.ui.fit_views import FULL, Comparison, FitViews
from napari_deconv.ui.psf_dock import PsfDock

TRUTH = Optics(na=0.8, emission_nm=520, immersion_index=1.0, sample_index=1.0)
START = Optics(na=0.7, emission_nm=520, immersion_index=1.0, sample_index=1.0)
GRID = Grid(spacing_um=(0.6, 0.15, 0.15))
UM = ("um", "um", "um")


@cache
def bead() -> npt.NDArray[np.uint16]:
    """Return counts of one simulated bead, (9, 25, 25)."""
    samples = compute_psf(TRUTH, GRID, (9, 25, 25)).samples
    counts = np.random.default_rng(4).poisson(2000 * samples / samples.max() + 10)
    return np.asarray(counts, np.uint16)


def bead_layer(**state: Any) -> Image:
    usual = {"name": "bead", "scale": GRID.spacing_um, "units": UM, "translate": (1.0, 2.0, 3.0)}
    return Image(bead(), **{**usual, **state})


@pytest.fixture
def dock(viewer: Any, qtbot: QtBot) -> Iterator[FitDock]:
    """Return the dock in a viewer with a bead; nothing of it runs on afterwards."""
    viewer.add_layer(bead_layer())
    widget = FitDock(viewer)
    viewer.window.add_dock_widget(widget, name="Fit optics")
    yield widget
    widget.close()
    settle(widget, qtbot)


def settle(dock: FitDock, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not dock.job.running and not dock.image.headers.running, timeout=60_000)


def fit(dock: FitDock, qtbot: QtBot, *free: str) -> None:
    dock.optics.setValue(START)
    dock.free.setValue(free)
    dock.running.run_button.click()
    settle(dock, qtbot)


def cell(table: FitTable, row: int, column: int) -> Any:
    item = table.table.item(row, column)
    assert item is not None
    return item


def test_a_fit_is_judged_and_applied(dock: FitDock, qtbot: QtBot) -> None:
    assert not dock.table.isVisible()
    assert not dock.apply_button.isEnabled()
    fit(dock, qtbot, "na", "depth_um")
    assert dock.running.state.text() == "fitted"
    assert dock.result is not None
    na, depth = dock.result.fit.parameters
    assert abs(na.value - 0.8) < 5 * na.error < 0.02
    assert [cell(dock.table, 0, column).text() for column in (0, 1)] == ["NA", "0.7"]
    assert float(cell(dock.table, 0, 2).text()) == pytest.approx(na.value, abs=na.error / 10)
    assert float(cell(dock.table, 0, 3).text()) == pytest.approx(na.error, rel=0.1)
    # In air, the depth does nothing: it is told, and cannot be taken over.
    assert not depth.identifiable
    assert cell(dock.table, 1, 2).text() == "not identifiable"
    assert cell(dock.table, 1, 2).toolTip() == depth.reason
    assert depth.reason in dock.table.reasons.text()
    assert not cell(dock.table, 1, 0).flags() & Qt.ItemFlag.ItemIsUserCheckable
    assert f"Left over {100 * dock.result.fit.residual_rms:.2g} % of the peak" in dock.told.text()
    for note in dock.result.fit.notes:
        assert note.removeprefix("Fit: ")[5:] in dock.told.text()
    fitted = dock.fitted_optics()
    assert fitted is not None
    assert fitted.na == na.value
    assert fitted.depth_um == START.depth_um
    dock.apply_button.click()
    psf = exchange_of(dock.viewer).dock(PSF)
    assert isinstance(psf, PsfDock)
    assert psf.optics.value().na == pytest.approx(na.value, abs=0.005)
    assert psf.voxels.value() == GRID
    # The next fit can start from there.
    dock.take_button.click()
    assert dock.optics.value() == psf.optics.value()
    assert "from the dock PSF" in dock.start_label.text()
    cell(dock.table, 0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert not dock.apply_button.isEnabled()
    psf.stop()
    qtbot.waitUntil(lambda: not psf.live.running, timeout=60_000)
    other: Any = exchange_of(dock.viewer).dock(DECONVOLVE)
    if other is not None:
        other.stop()
        qtbot.waitUntil(lambda: not other.latest.running, timeout=60_000)


def test_the_model_lies_on_what_was_measured(dock: FitDock, qtbot: QtBot) -> None:
    fit(dock, qtbot, "na")
    dock.make_button.click()
    dock.make_button.click()
    assert [layer.name for layer in dock.viewer.layers] == ["bead", "bead model"]
    model, image = dock.viewer.layers["bead model"], dock.viewer.layers["bead"]
    for name in ("scale", "translate"):
        assert np.array_equal(getattr(model, name), getattr(image, name))
    # In counts: what is left is photon noise, of unit variance in units of its own.
    left = (bead() - model.data) / np.sqrt(model.data)
    assert np.square(left).mean() == pytest.approx(1, abs=0.1)
    shown = dock.views.value()
    assert shown is not None
    assert shown.model.max() == pytest.approx(1)
    assert np.abs(shown.measured - shown.model).max() < 0.1


def test_of_a_plane_in_a_film_a_model_is_made_too(dock: FitDock, qtbot: QtBot) -> None:
    film = np.stack([np.full((25, 25), 10, np.uint16), bead()[4]])
    state = {"scale": (1, 0.15, 0.15), "units": ("s", "um", "um"), "axis_labels": tuple("tyx")}
    dock.viewer.add_layer(Image(film, name="film", **state))
    dock.image.choose("film")
    dock.viewer.dims.set_current_step(0, 1)
    assert "depth_um" in FREE
    assert not dock.free.boxes["depth_um"].isVisible()
    fit(dock, qtbot, "na")
    assert dock.result is not None
    assert dock.result.fit.optics.na == pytest.approx(0.8, abs=0.03)
    dock.make_button.click()
    assert dock.viewer.layers["film model"].scale.tolist() == [0.15, 0.15]


def test_the_start_is_told_and_comes_from_other_docks(dock: FitDock, qtbot: QtBot) -> None:
    assert "assumed" in dock.start_label.text()
    dock.take_button.click()
    assert "Open the dock PSF" in dock.running.state.text()
    known = KnownOptics(na=0.8, immersion_index=1.0, emission_nm=600)
    entry = {layers.KEY: {"optics": known.to_dict()}}
    dock.viewer.add_layer(bead_layer(name="told", metadata=entry))
    dock.image.choose("told")
    assert dock.optics.value().emission_nm == 600
    assert "600 nm" in dock.start_label.text()
    open_dock(dock.viewer, PSF)
    psf = exchange_of(dock.viewer).dock(PSF)
    assert isinstance(psf, PsfDock)
    psf.optics.setValue(TRUTH)
    dock.choose("bead")
    assert dock.image.value().name == "bead"
    assert dock.optics.value() == TRUTH
    dock.optics.fields["na"].setValue(0.5)
    assert "as entered here" in dock.start_label.text()
    dock.optics.fields["na"].setValue(1.3)
    assert "<b>" in dock.start_label.text()  # NA above the index: the refusal's sentence.
    dock.fit()
    assert "NA 1.3" in dock.running.state.text()
    psf.stop()
    qtbot.waitUntil(lambda: not psf.live.running, timeout=60_000)


def test_nonsense_is_told_in_a_sentence(dock: FitDock, qtbot: QtBot) -> None:
    dock.viewer.add_layer(bead_layer(name="pixels", units=("pixel",) * 3))
    dock.image.choose("pixels")
    dock.free.setValue(("na",))
    assert dock.running.run_button.toolTip() == "Enter the voxel size of the image first"
    dock.fit()
    qtbot.waitUntil(lambda: not dock.job.running, timeout=60_000)
    assert "no voxel size" in dock.running.state.text()
    dark = np.full((9, 25, 25), 10, np.uint16)
    dock.viewer.add_layer(Image(dark, name="dark", scale=GRID.spacing_um, units=UM))
    dock.image.choose("dark")
    assert dock.running.state.text() == ""
    fit(dock, qtbot, "na")
    assert "no point above its background" in dock.running.state.text()
    large = np.broadcast_to(np.uint8(1), (64, 512, 512))
    dock.viewer.add_layer(Image(large, name="large", scale=GRID.spacing_um, units=UM))
    dock.image.choose("large")
    fit(dock, qtbot, "na")
    assert "too many for the image of one point" in dock.running.state.text()
    assert dock.result is None
    dock.free.setValue(())
    assert not dock.running.run_button.isEnabled()
    dock.viewer.layers.clear()
    dock.free.setValue(("na",))
    assert not dock.running.run_button.isEnabled()
    dock.fit()
    assert "Open or choose an image" in dock.running.state.text()


def test_cancel_and_closing_while_it_works(
    viewer: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    go_on = threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for step in fitting(*args, **kwargs):
            steps.append(step.done)
            yield step
            assert go_on.wait(20)

    monkeypatch.setattr(fit_dock, "fitting", slow)
    viewer.add_layer(bead_layer())
    widget = FitDock(viewer)
    frame = viewer.window.add_dock_widget(widget, name="Fit optics")
    job = widget.job
    for ending in ("cancel", "close"):
        steps.clear()
        go_on.clear()
        widget.optics.setValue(START)
        widget.running.run_button.click()
        qtbot.waitUntil(lambda: bool(steps), timeout=20_000)
        if ending == "cancel":
            assert not widget.running.run_button.isEnabled()
            widget.running.cancel_button.click()
            assert "cancelling" in widget.running.state.text()
        else:
            viewer.layers.clear()
            viewer.window.remove_dock_widget(frame)
        go_on.set()
        qtbot.waitUntil(lambda: not job.running, timeout=20_000)
        # One step more at most: it was being worked on.
        assert len(steps) <= 2
        if ending == "cancel":
            assert widget.running.state.text() == "cancelled"
            assert widget.running.run_button.isEnabled()
    del widget, frame
    viewer.add_layer(bead_layer(name="other"))
    assert exchange_of(viewer).dock("Fit optics") is None


def test_index_and_depth_exclude_each_other(qtbot: QtBot) -> None:
    panel = FreePanel()
    qtbot.addWidget(panel)
    assert panel.value() == ("na",)
    panel.boxes["depth_um"].click()
    panel.boxes["sample_index"].click()
    assert panel.value() == ("na", "sample_index")
    assert "depth held" in panel.word.text()
    panel.boxes["immersion_index"].click()
    assert panel.value() == ("na", "sample_index", "immersion_index")
    panel.boxes["depth_um"].click()
    assert panel.value() == ("na", "depth_um")
    assert "sample index and immersion index held" in panel.word.text()
    panel.boxes["zernike_7"].click()
    assert "minutes" in panel.word.text()


@pytest.mark.parametrize("modality", ["widefield", "confocal", "two-photon", "light-sheet"])
def test_only_what_the_modality_has_is_offered(qtbot: QtBot, modality: str) -> None:
    more: dict[str, Any] = {"widefield": {}, "light-sheet": {"sheet_um": 3.0}}.get(
        modality, {"excitation_nm": 900 if modality == "two-photon" else 488}
    )
    optics = Optics(modality, na=0.8, emission_nm=520, immersion_index=1.0, **more)
    panel = FreePanel()
    qtbot.addWidget(panel)
    panel.setValue(tuple(panel.boxes))
    panel.show_optics(optics, 3)
    offered = {name for name, box in panel.boxes.items() if not box.isHidden()}
    expected = {name for name, freedom in FREE.items() if freedom.serves(optics)}
    shown = expected & {*FREE} - {
        f"zernike_{index}" for index in range(3, 70) if index not in ABERRATIONS
    }
    assert offered == shown
    assert set(panel.value()) <= offered
    panel.show_optics(optics, 2)
    assert {name for name, box in panel.boxes.items() if not box.isHidden()} == {
        name for name in shown if FREE[name].planar
    }


def a_fit(
    model: Psf, amplitude: float, background: float, *parameters: FittedParameter
) -> OpticsFit:
    count = len(parameters)
    return OpticsFit(
        TRUTH, parameters, 0.0, (0, 0), amplitude, background, 0.0, np.eye(count), model
    )


def test_the_picture_compares_to_one_contrast(qtbot: QtBot) -> None:
    """A measured PSF that is 5 % less than its model at the peak: half of the full blue there."""
    model = np.zeros((5, 9, 9), np.float32)
    model[2, 4, 4], model[2, 4, 5] = 0.8, 0.2
    measured = model + 0.001
    measured[2, 4, 4] -= 0.04
    psf = Psf(measured, (0.3, 0.1, 0.1))
    light = float(measured.sum())
    comparison = Comparison.of(psf, a_fit(Psf(model, (0.3, 0.1, 0.1)), 1 / light, 0.001 / light))
    left = comparison.measured - comparison.model
    assert left[2, 4, 4] == pytest.approx(-0.05, abs=1e-4)
    assert np.abs(np.delete(left.ravel(), 2 * 81 + 40)).max() < 1e-4
    (xy, *_), (xz, measured_xz, _, rows_um, columns_um) = comparison.planes()
    assert (xy, xz) == ("xy", "xz")
    assert measured_xz.shape[0] == 5
    assert (rows_um, columns_um) == pytest.approx((1.5, 0.9))
    views = FitViews()
    qtbot.addWidget(views)
    views.resize(330, 300)
    views.setValue(comparison)
    image = views.grab().toImage()
    colors = {
        image.pixelColor(x, y).getRgb()[:3]
        for x in range(image.width() * 2 // 3 + 4, image.width())
        for y in range(24, image.height())
    }
    blue = (43, 90, 116)
    assert FULL == 0.1
    assert min(max(abs(a - b) for a, b in zip(c, blue, strict=True)) for c in colors) <= 2


def test_numbers_of_the_table(qtbot: QtBot) -> None:
    table = FitTable()
    qtbot.addWidget(table)
    psf = Psf(np.ones((3, 5, 5)), (0.3, 0.1, 0.1))
    known = FittedParameter("emission_nm", 523.4567, 0.0312, "nm", True)
    none = FittedParameter("zernike_12", 0.1, float("inf"), "rad", False, "no effect")
    exact = FittedParameter("na", 0.8, 0.0, "", True)
    table.show_fit(a_fit(psf, 1, 0, known, none, exact), START)
    assert [cell(table, 0, c).text() for c in range(4)] == [
        "emission nm",
        "520",
        "523.457",
        "0.031",
    ]
    assert cell(table, 1, 0).text() == "spherical rad"
    assert "spherical: not identifiable, no effect" in table.reasons.text()
    assert table.value() == {"emission_nm": 523.4567, "na": 0.8}
    cell(table, 0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert table.value() == {"na": 0.8}
