"""The panel for the optics: exact, complete, and honest about where a value comes from."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox

from napari_deconv.imaging.catalogue import OBJECTIVES, Objective
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import InputError
from napari_deconv.ui import objectives
from napari_deconv.ui.objectives import ObjectiveBox, read_objectives, write_objectives
from napari_deconv.ui.optics_panel import ASSUMED, MICROSCOPES, OpticsPanel

#: Its stubs ask for an instance, which there never is.
MOUSE_AND_KEYS: Any = QTest
BASE = {"na": 1.2345, "emission_nm": 519.5, "immersion_index": 1.3331, "sample_index": 1.3377}
OPTICS = [
    ASSUMED,
    Optics(na=1.4, emission_nm=600, immersion_index=1.515, sample_index=1.4, depth_um=3),
    Optics(na=1.1, emission_nm=450, immersion_index=1.406, coverslip_um=150, model="scalar"),
    Optics("confocal", **BASE, excitation_nm=487.6, pinhole_au=7.25),  # type: ignore[arg-type]
    Optics("spinning-disk", **BASE, excitation_nm=488, magnification=63.5),  # type: ignore[arg-type]
    Optics("two-photon", **BASE, excitation_nm=1250),  # type: ignore[arg-type]
    Optics("light-sheet", **BASE, sheet_um=33.3),  # type: ignore[arg-type]
    Optics("light-sheet", **BASE, sheet_na=0.123, excitation_nm=488),  # type: ignore[arg-type]
    Optics("effective-sted", **BASE, excitation_nm=488, saturation=12.5),  # type: ignore[arg-type]
    Optics(**BASE, zernike_rad=(0.1,) * 20, depth_um=321, design_immersion_index=1.34),  # type: ignore[arg-type]
]


@pytest.fixture(autouse=True)
def _own_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests out of the user's settings."""
    monkeypatch.setattr(objectives, "presets_file", lambda: tmp_path / "objectives.json")


@pytest.fixture
def panel(qtbot: QtBot) -> OpticsPanel:
    widget = OpticsPanel()
    qtbot.addWidget(widget)
    return widget


@pytest.mark.parametrize("optics", OPTICS, ids=lambda o: o.describe())
def test_gives_back_what_it_was_given(qtbot: QtBot, panel: OpticsPanel, optics: Optics) -> None:
    with qtbot.waitSignal(panel.valueChanged):
        panel.setValue(optics)
    assert panel.value() == optics


@pytest.mark.parametrize(("before", "after"), [*permutations(MICROSCOPES, 2)])
def test_any_microscope_can_follow_any_other(panel: OpticsPanel, before: str, after: str) -> None:
    panel.modality.setCurrentText(before)
    panel.modality.setCurrentText(after)
    value = panel.value()
    assert value.modality == MICROSCOPES[after]
    if value.modality in ("confocal", "spinning-disk", "effective-sted"):
        assert value.excitation_nm is not None
        assert value.excitation_nm < value.emission_nm


def shown(panel: OpticsPanel) -> set[str]:
    return {name for name, row in panel.rows.items() if panel.form.isRowVisible(row)}


@pytest.mark.parametrize(
    ("microscope", "own"),
    [
        ("widefield", {"emission_nm", "dye"}),
        ("confocal", {"emission_nm", "dye", "excitation_nm", "pinhole_au"}),
        (
            "spinning disk",
            {"emission_nm", "dye", "excitation_nm", "pinhole_um", "pinhole_spacing_um"}
            | {"magnification"},
        ),
        ("two-photon", {"excitation_nm"}),
        ("light sheet", {"emission_nm", "dye", "sheet", "sheet_um"}),
        (
            "STED (effective)",
            {"emission_nm", "dye", "excitation_nm", "pinhole_au", "depletion_nm", "saturation"},
        ),
    ],
)
def test_shows_what_the_microscope_has(panel: OpticsPanel, microscope: str, own: set[str]) -> None:
    panel.modality.setCurrentText(microscope)
    common = {"modality", "objective", "na", "immersion_index", "sample_index", "depth_um"}
    assert shown(panel) == common | own


def test_a_sheet_has_a_thickness_or_an_na(panel: OpticsPanel) -> None:
    panel.modality.setCurrentText("light sheet")
    panel.sheet.setCurrentText("NA")
    assert {"sheet_na", "excitation_nm"} <= shown(panel)
    assert "sheet_um" not in shown(panel)
    value = panel.value()
    assert (value.sheet_um, value.sheet_na) == (None, 0.1)
    panel.sheet.setCurrentText("thickness")
    assert panel.value().sheet_na is None


def test_what_is_shown_is_what_counts(panel: OpticsPanel) -> None:
    """A slider has positions between the numbers that it shows."""
    field = panel.fields["na"]
    field.setValue(1.23456)
    assert panel.value().na == 1.23
    field._label.setText("0.87")
    field._label.editingFinished.emit()
    assert panel.value().na == 0.87


def test_an_edit_leaves_all_else_exactly(panel: OpticsPanel) -> None:
    optics = OPTICS[3]
    panel.setValue(optics)
    panel.fields["depth_um"].setValue(2.5)
    changed = panel.value()
    assert changed.depth_um == 2.5
    assert (changed.na, changed.emission_nm, changed.pinhole_au) == (1.2345, 519.5, 7.25)


def test_refuses_in_words_and_recovers(panel: OpticsPanel, qtbot: QtBot) -> None:
    with qtbot.waitSignal(panel.valueChanged):
        panel.fields["na"].setValue(1.49)
    with pytest.raises(InputError, match=r"NA 1\.49 is not below"):
        panel.value()
    type_into(panel.immersion, "honey")
    with pytest.raises(InputError, match="honey"):
        panel.value()
    type_into(panel.immersion, "1.518")
    assert panel.value().immersion_index == 1.518
    type_into(panel.immersion, "silicone oil")
    with pytest.raises(InputError, match=r"NA 1\.49 is not below"):
        panel.value()


def type_into(box: QComboBox, text: str) -> None:
    line = box.lineEdit()
    assert line is not None
    line.selectAll()
    MOUSE_AND_KEYS.keyClicks(line, text)
    MOUSE_AND_KEYS.keyClick(line, Qt.Key.Key_Return)


def test_a_medium_is_chosen_by_name(panel: OpticsPanel) -> None:
    panel.sample.setCurrentText("glycerol 1.470")
    panel.sample.textActivated.emit("glycerol 1.470")
    assert panel.value().sample_index == 1.47
    panel.setValue(OPTICS[1])
    assert panel.immersion.currentText() == "oil 1.515"
    assert panel.sample.currentText() == "1.4"


def marks(panel: OpticsPanel) -> dict[str, str]:
    return {n: row.origin.text() for n, row in panel.rows.items() if row.origin.text()}


def test_says_what_the_file_told_and_what_is_assumed(panel: OpticsPanel) -> None:
    assert all("assumed" in text for text in marks(panel).values())
    panel.show_known(KnownOptics(na=1.4, immersion_index=1.518))
    value = panel.value()
    assert (value.na, value.immersion_index) == (1.4, 1.518)
    told = marks(panel)
    assert "file" in told["na"]
    assert "file" in told["immersion_index"]
    assert "assumed" in told["emission_nm"]
    panel.fields["na"].setValue(1.3)
    assert marks(panel).keys() == told.keys() - {"na"}
    panel.setValue(value)
    assert not marks(panel)


def test_keeps_what_was_typed_when_a_file_says_nothing(panel: OpticsPanel) -> None:
    panel.fields["na"].setValue(1.1)
    panel.show_known(None)
    panel.show_known(KnownOptics(emission_nm=600))
    value = panel.value()
    assert (value.na, value.emission_nm) == (1.1, 600)
    assert "na" not in marks(panel)


def test_what_a_microscope_needs_is_assumed_and_said(panel: OpticsPanel) -> None:
    panel.modality.setCurrentText("confocal")
    assert panel.value().excitation_nm == 488
    assert "assumed" in marks(panel)["excitation_nm"]
    panel.fields["excitation_nm"].setValue(600)
    with pytest.raises(InputError, match="exchanged"):
        panel.value()
    assert "excitation_nm" not in marks(panel)


def test_a_dye_sets_its_wavelengths(panel: OpticsPanel) -> None:
    panel.modality.setCurrentText("confocal")
    panel.dye.setCurrentText("Cy5")
    value = panel.value()
    assert (value.excitation_nm, value.emission_nm) == (640, 670)
    panel.dye.setCurrentText("FITC")
    panel.fields["depth_um"].setValue(1)
    assert panel.dye.currentText() == "FITC"  # and not the other one of 519 nm
    panel.fields["emission_nm"].setValue(530)
    assert panel.dye.currentText() == "other"


def test_an_objective_sets_its_optics(panel: OpticsPanel) -> None:
    panel.objective.names.setCurrentText("60x/1.40 oil")
    panel.objective.names.textActivated.emit("60x/1.40 oil")
    value = panel.value()
    lens = OBJECTIVES["60x/1.40 oil"]
    assert (value.na, value.immersion_index, value.magnification) == (1.4, 1.515, 60)
    assert value.working_distance_um == lens.working_distance_um
    panel.fields["na"].setValue(1.3)
    assert panel.objective.names.currentText() == "other"


def test_aberrations(panel: OpticsPanel, qtbot: QtBot) -> None:
    panel.aberrations.sliders[12].setValue(0.5)
    assert panel.value().zernike_rad == (0.0,) * 12 + (0.5,)
    panel.aberrations.sliders[12].setValue(0)
    assert panel.value().zernike_rad == ()
    panel.setValue(Optics(**BASE, zernike_rad=(0.0,) * 20 + (0.7,)))  # type: ignore[arg-type]
    panel.aberrations.sliders[5].setValue(-0.3)
    terms = panel.value().zernike_rad
    assert (terms[5], terms[20]) == (-0.3, 0.7)
    with qtbot.waitSignal(panel.valueChanged):
        panel.aberrations.reset.click()
    assert panel.value().zernike_rad == ()
    assert panel.aberrations.sliders[5].value() == 0


LENS = Objective(40, 1.15, 1.333, 600)


def box(qtbot: QtBot, path: Path) -> ObjectiveBox:
    widget = ObjectiveBox(path)
    qtbot.addWidget(widget)
    return widget


def test_presets_are_kept_and_deleted(qtbot: QtBot, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "objectives.json"
    mine = box(qtbot, path)
    mine.save("my 40x", LENS)
    assert not mine.problem.text()
    assert read_objectives(path) == {"my 40x": LENS}
    other = box(qtbot, path)
    other.show_objective(LENS)
    assert other.names.currentText() == "my 40x"
    for taken in ("my 40x", "60x/1.40 oil", "", "other"):
        mine.save(taken, Objective(10, 0.2, 1.0))
        assert mine.problem.text()
    assert read_objectives(path) == {"my 40x": LENS}
    mine.names.setCurrentText("60x/1.40 oil")
    mine.delete()
    assert "not one of your own" in mine.problem.text()
    mine.names.setCurrentText("my 40x")
    mine.delete()
    assert read_objectives(path) == {}
    assert mine.names.findText("my 40x") == -1


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '{"a": {"na": 2}}', "\ud800"])
def test_a_broken_file_of_presets_is_told_and_left(qtbot: QtBot, tmp_path: Path, text: str) -> None:
    path = tmp_path / "objectives.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    before = path.read_bytes()
    broken = box(qtbot, path)
    assert "mend or remove" in broken.problem.text()
    assert broken.names.findText("60x/1.40 oil") > 0
    broken.save("mine", LENS)
    assert "mend or remove" in broken.problem.text()
    assert path.read_bytes() == before


def test_presets_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be kept"):
        write_objectives(tmp_path / "file" / "objectives.json", {"a": LENS})
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be kept"):
        write_objectives(tmp_path / "folder", {"a": LENS})
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder"}


def test_a_preset_is_saved_from_what_the_panel_shows(
    panel: OpticsPanel, qtbot: QtBot, tmp_path: Path
) -> None:
    panel.setValue(Optics(na=1.15, emission_nm=520, immersion_index=1.333))
    panel.objective.menu.actions()[0].trigger()
    MOUSE_AND_KEYS.keyClicks(panel.objective.name, "facility lens")
    MOUSE_AND_KEYS.keyClick(panel.objective.name, Qt.Key.Key_Return)
    assert read_objectives(tmp_path / "objectives.json")["facility lens"].na == 1.15
    assert panel.objective.names.currentText() == "facility lens"
    panel.fields["na"].setValue(1.49)  # no such water lens
    panel.objective.saveAsked.emit("impossible")
    assert "no such objective" in panel.objective.problem.text()
