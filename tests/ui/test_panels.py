"""Panels: each edits one value through value(), setValue() and valueChanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QWidget

from napari_deconv.files.recipe import PsfFile, TrainedModel
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import InputError
from napari_deconv.library import resolve
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.ui.afm_keep import AfmKeepPanel
from napari_deconv.ui.choices import LayerBox
from napari_deconv.ui.colors import AMBER
from napari_deconv.ui.curve_panel import CurvePanel
from napari_deconv.ui.file_field import FileField
from napari_deconv.ui.image_panel import ImageChoice, ImagePanel
from napari_deconv.ui.keep_panel import KeepPanel
from napari_deconv.ui.method_panel import MethodPanel, Settings
from napari_deconv.ui.optics_fields import folded
from napari_deconv.ui.profile_panel import ProfilePanel
from napari_deconv.ui.psf_panel import PsfLayer, PsfPanel
from napari_deconv.ui.run_panel import RunPanel

#: Its PSF is small, so that a test takes no longer than it must.
OPTICS = Optics(na=1.0, emission_nm=520, immersion_index=1.333, model="gaussian")
SHIPPED = str(resolve("widefield_inverse"))
SETTINGS = [
    Settings(),
    Settings(RichardsonLucy(7, "none", tv_weight=0.005), 12.5, "cpu"),
    Settings(RichardsonLucy(300, "biggs-andrews", edges="circular", read_noise=2.0)),
    Settings(Wiener()),
    Settings(Wiener(0.01, "circular"), 3.0, "torch"),
    Settings(TrainedModel(SHIPPED, mirrored=True), 3.0),
    Settings(TrainedModel(SHIPPED, "0" * 64, cautious=False)),
    Settings(TrainedModel(SHIPPED, "0" * 64, "half-width 90")),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_method_panel_gives_back_what_it_was_given(qtbot: QtBot, settings: Settings) -> None:
    panel = MethodPanel()
    qtbot.addWidget(panel)
    with qtbot.waitSignal(panel.valueChanged):
        panel.setValue(settings)
    found = panel.value()
    if isinstance(settings.method, RichardsonLucy):
        assert panel.automatic_stop.isChecked() == settings.method.automatic_stop
    assert found == settings


def test_method_panel_shows_only_what_the_method_has(qtbot: QtBot) -> None:
    panel = MethodPanel()
    qtbot.addWidget(panel)
    panel.show()
    assert panel.iterations.isVisible()
    assert not panel.regularization.isVisible()
    panel.method.setCurrentText("Wiener")
    assert not panel.iterations.isVisible()
    assert panel.regularization.isVisible()
    assert not panel.model.isVisible()
    panel.method.setCurrentText("Trained network")
    assert not panel.regularization.isVisible()
    assert panel.model.isVisible()
    assert panel.cautious.isChecked()


def test_method_panel_asks_for_a_network(qtbot: QtBot) -> None:
    panel = MethodPanel()
    qtbot.addWidget(panel)
    panel.method.setCurrentText("Trained network")
    with pytest.raises(InputError, match="Choose the network that restores"):
        panel.value()
    panel.model.setValue("widefield_invers")
    with pytest.raises(InputError, match="widefield_inverse"):
        panel.value()
    with qtbot.waitSignal(panel.valueChanged):
        panel.model.setValue("widefield_inverse")  # a name will do
    assert panel.value().method == TrainedModel(SHIPPED)


def test_psf_panel_edits_optics(qtbot: QtBot) -> None:
    optics = Optics(na=1.1, emission_nm=450, immersion_index=1.406, coverslip_um=150)
    panel = PsfPanel()
    qtbot.addWidget(panel)
    panel.source.setCurrentIndex(1)
    with qtbot.waitSignal(panel.valueChanged):
        panel.setValue(optics)
    assert panel.value() == optics
    with qtbot.waitSignal(panel.valueChanged):
        panel.optics.setValue(OPTICS)
    assert panel.value() == OPTICS
    with qtbot.waitSignal(panel.editAsked):
        panel.edit_button.click()


def test_psf_panel_edits_layers_and_files(qtbot: QtBot, tmp_path: Path) -> None:
    path = tmp_path / "bead.tif"
    tifffile.imwrite(path, np.ones((3, 4, 5), np.uint16), photometric="minisblack")
    panel = PsfPanel()
    qtbot.addWidget(panel)
    panel.set_layers(["a", "bead"])
    panel.setValue(PsfLayer("bead"))
    assert panel.value() == PsfLayer("bead")
    whole = PsfFile.of(path, voxel_size_um=(0.3, 0.1, 0.1), background=5.0)
    panel.setValue(whole)
    assert panel.value() == whole
    panel.path.setText("other.tif")
    assert panel.value() == PsfFile("other.tif")


def test_psf_panel_refuses_in_words(qtbot: QtBot) -> None:
    panel = PsfPanel()
    qtbot.addWidget(panel)
    panel.source.setCurrentIndex(1)
    with pytest.raises(InputError, match="No layer holds a PSF"):
        panel.value()
    panel.source.setCurrentIndex(2)
    with pytest.raises(InputError, match="Choose the file"):
        panel.value()


def test_psf_panel_shows_one_page_and_what_the_file_told(qtbot: QtBot) -> None:
    panel = PsfPanel()
    qtbot.addWidget(panel)
    panel.show()
    assert panel.optics.isVisible()
    assert not panel.layer.isVisible()
    panel.show_known(KnownOptics(na=1.15))
    value = panel.value()
    assert isinstance(value, Optics)
    assert value.na == 1.15
    panel.setValue(PsfFile("bead.tif"))
    assert panel.path.isVisible()
    assert not panel.optics.isVisible()


def test_image_panel(qtbot: QtBot) -> None:
    panel = ImagePanel()
    qtbot.addWidget(panel)
    panel.layer.set_layers(["a", "b"])
    panel.show_layer((2, 3, 4), ["ZYX", "TYX"], "ZYX")
    panel.show_grid(Grid(spacing_um=(0.3, 0.1, 0.1)))
    assert panel.value() == ImageChoice("a", "ZYX", Grid(spacing_um=(0.3, 0.1, 0.1)))
    panel.show_grid(None)
    assert panel.value().grid is None
    assert "unknown" in panel.origin.text()
    for step, size in zip(panel.steps, (0.5, 0.2, 0.2), strict=True):
        step.setValue(size)
    assert panel.value().grid == Grid(spacing_um=(0.5, 0.2, 0.2))
    panel.setValue(ImageChoice("b", "TYX", Grid(spacing_um=(0.2, 0.1))))
    assert panel.value() == ImageChoice("b", "TYX", Grid(spacing_um=(0.2, 0.1)))


def test_a_layer_that_is_gone_gives_way_to_the_first(qtbot: QtBot) -> None:
    box = LayerBox("an image")
    qtbot.addWidget(box)
    box.set_layers(["a", "b"])
    box.setCurrentText("b")
    with qtbot.assertNotEmitted(box.currentTextChanged):
        box.set_layers(["c", "a", "b"])
    with qtbot.waitSignal(box.currentTextChanged, check_params_cb=lambda name: name == "c"):
        box.set_layers(["c", "a"])


def test_a_file_is_typed_or_chosen(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    field = FileField("Tip", "Tips (*.gwy)", "tip.gwy")
    qtbot.addWidget(field)
    (browse,) = field.findChildren(QPushButton)
    for path, shown in (("/a.gwy", "/a.gwy"), ("", "/a.gwy")):  # the last dialog is cancelled
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, path=path: (path, ""))
        browse.click()
        assert field.path.text() == shown
    with qtbot.waitSignal(field.valueChanged):
        field.path.editingFinished.emit()


@pytest.mark.parametrize("make", [KeepPanel, AfmKeepPanel])
def test_a_recipe_is_saved_and_loaded_where_the_user_says(
    make: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = make()
    qtbot.addWidget(panel)
    for name in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(QFileDialog, name, lambda *_: ("/r.json", ""))
    save, load = panel.menu.actions()[:2]
    with qtbot.waitSignal(panel.saveAsked, check_params_cb=lambda path: path == "/r.json"):
        save.trigger()
    with qtbot.waitSignal(panel.loadAsked, check_params_cb=lambda path: path == "/r.json"):
        load.trigger()


def test_a_run_that_ends_is_not_offered_again_where_none_can_start(qtbot: QtBot) -> None:
    panel = RunPanel()
    qtbot.addWidget(panel)
    panel.set_running(True)
    panel.set_runnable(False)
    panel.show_end("done")
    assert not panel.run_button.isEnabled()
    assert not panel.cancel_button.isEnabled()
    panel.set_runnable(True)
    assert panel.run_button.isEnabled()


def test_only_a_refusal_goes_when_it_is_mended(qtbot: QtBot) -> None:
    panel = RunPanel()
    qtbot.addWidget(panel)
    panel.show_end("done")
    panel.mended()
    assert panel.state.text() == "done"
    panel.refuse("no")
    assert panel.state.text() == "no"
    panel.mended()
    assert panel.state.text() == ""


def has_amber(panel: QWidget) -> bool:
    """Return whether anything is painted in the colour of what stands out."""
    image, amber = panel.grab().toImage(), np.array(QColor(AMBER).getRgb())
    places = [(x, y) for x in range(image.width()) for y in range(image.height())]
    seen = np.array([image.pixelColor(x, y).getRgb() for x, y in places])
    # A screen of 16 bits has colours in steps of 8.
    return bool((np.abs(seen - amber).max(axis=1) <= 8).any())


def test_the_restored_line_is_amber_and_the_raw_one_is_not(qtbot: QtBot) -> None:
    panel = ProfilePanel()
    qtbot.addWidget(panel)
    panel.resize(300, 84)
    assert not has_amber(panel)
    # A line of thickness 2 along whole pixels is of its full colour there.
    line, none = np.full(30, 5, np.float32), np.full(30, np.nan, np.float32)
    panel.setValue(line, line, 0.1)
    assert has_amber(panel)
    panel.setValue(line, none, 0.1)
    assert not has_amber(panel)


def test_a_folded_section_is_as_high_as_its_title(qtbot: QtBot) -> None:
    section = folded("More", QLabel("hidden"))
    qtbot.addWidget(section)
    title = section.toggleButton()
    assert section.sizeHint().height() == title.sizeHint().height()
    section.expand(animate=False)
    assert section.sizeHint().height() > title.sizeHint().height()
    assert title.text() == "▾ More"


def test_curve_panel_draws_any_values(qtbot: QtBot) -> None:
    panel = CurvePanel()
    qtbot.addWidget(panel)
    panel.resize(300, 80)
    empty = panel.grab().toImage()
    panel.setValue((5.0, 1.0, 0.5))
    drawn = panel.grab().toImage()
    assert panel.value() == (5.0, 1.0, 0.5)
    assert drawn != empty
    assert has_amber(panel)
    panel.setValue((0.0, -1.0))
    assert panel.grab().toImage() == empty
