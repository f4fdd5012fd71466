"""The dialog "Models" as a user meets it: see, rename, delete, add and use them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox
from tests.test_library import damage, made, names

from napari_deconv import library
from napari_deconv.learned.model_file import read_card
from napari_deconv.ui.learn_panel import LearnPanel
from napari_deconv.ui.learn_runs import card_in_words
from napari_deconv.ui.models_dialog import SIZE, ModelsDialog

NAME, SENTENCE, WHERE = 0, 1, 6


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's folder with two models, one damaged; another one is shipped."""
    folder = tmp_path / "mine"
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(folder))
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "shipped")
    made(folder / "cell.safetensors", citation="<b>Someone</b> 2020")
    damage(made(folder / "cut.safetensors"))
    made(tmp_path / "shipped" / "any.safetensors")
    return folder


@pytest.fixture
def dialog(mine: Path, qtbot: QtBot) -> Iterator[ModelsDialog]:
    """Return the dialog, open, with the models read."""
    widget = ModelsDialog()
    qtbot.addWidget(widget)
    widget.show()
    settle(widget, qtbot)
    yield widget
    settle(widget, qtbot)


def settle(dialog: ModelsDialog, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not dialog.job.running, timeout=30_000)


def column(dialog: ModelsDialog, number: int) -> list[str]:
    items = [dialog.table.item(row, number) for row in range(dialog.table.rowCount())]
    return [item.text() if item is not None else "" for item in items]


def choose(dialog: ModelsDialog, name: str) -> None:
    dialog.table.selectRow(column(dialog, NAME).index(name))


def enabled(dialog: ModelsDialog) -> tuple[bool, bool, bool]:
    buttons = (dialog.rename_button, dialog.delete_button, dialog.use_button)
    first, second, third = (button.isEnabled() for button in buttons)
    return first, second, third


def test_all_models_are_seen_the_damaged_ones_too(dialog: ModelsDialog, mine: Path) -> None:
    assert column(dialog, NAME) == ["any", "cell", "cut"]
    assert column(dialog, WHERE) == ["shipped", "yours", "yours"]
    assert column(dialog, 2)[1] == "5 to 90"
    assert column(dialog, 3)[1] == "0.2 x 0.1 x 0.1 um"
    assert column(dialog, SENTENCE)[2].startswith("cut.safetensors is no safetensors file")
    # The sentence has the room of four columns, and does not widen the first of them.
    assert dialog.table.columnSpan(2, SENTENCE) == 4
    assert dialog.table.columnWidth(SENTENCE) < 300
    assert str(mine) in dialog.place.text()
    assert (dialog.width(), dialog.height()) == SIZE


def test_the_card_of_the_selected_one_is_below(dialog: ModelsDialog, mine: Path) -> None:
    choose(dialog, "cell")
    lines = dialog.card.toPlainText().splitlines()
    assert lines[0] == card_in_words(str(mine / "cell.safetensors"))
    assert lines[0].startswith("cell: 7 steps")
    assert "Cite: <b>Someone</b> 2020" in lines  # plain, whatever stands in the file
    assert f"File: {mine / 'cell.safetensors'}" in lines
    assert enabled(dialog) == (True, True, True)
    choose(dialog, "any")
    assert enabled(dialog) == (False, False, True)
    choose(dialog, "cut")
    assert "or is cut off" in dialog.card.toPlainText()
    assert enabled(dialog) == (False, True, False)


def test_a_model_is_renamed(
    dialog: ModelsDialog, mine: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(dialog, "cell")
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: ("nuclei", False))
    dialog.rename_button.click()
    assert not dialog.job.running
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: ("cut", True))
    dialog.rename_button.click()
    settle(dialog, qtbot)
    assert dialog.message.isVisible()
    assert dialog.message.text().startswith("There is a model of the name 'cut' already")
    assert column(dialog, NAME) == ["any", "cell", "cut"]
    assert enabled(dialog) == (True, True, True)
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: ("nuclei", True))
    dialog.rename_button.click()
    settle(dialog, qtbot)
    assert not dialog.message.isVisible()
    assert column(dialog, NAME) == ["any", "cut", "nuclei"]
    assert dialog.card.toPlainText().startswith("nuclei: 7 steps")  # it is the selected one still
    assert read_card(mine / "nuclei.safetensors").name == "nuclei"


def test_a_model_is_deleted_after_a_question(
    dialog: ModelsDialog, mine: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(button: QMessageBox.StandardButton) -> Any:
        def question(_parent: Any, _title: str, text: str, *_: Any) -> Any:
            asked.append(text)
            return button

        return question

    choose(dialog, "cut")
    monkeypatch.setattr(QMessageBox, "question", answers(QMessageBox.StandardButton.No))
    dialog.delete_button.click()
    settle(dialog, qtbot)
    assert asked == [f"Delete {mine / 'cut.safetensors'} for good?"]
    assert names(mine) == ["cell.safetensors", "cut.safetensors"]
    monkeypatch.setattr(QMessageBox, "question", answers(QMessageBox.StandardButton.Yes))
    dialog.delete_button.click()
    settle(dialog, qtbot)
    assert names(mine) == ["cell.safetensors"]
    assert column(dialog, NAME) == ["any", "cell"]
    assert dialog.selected() is not None


def test_a_file_is_added_unless_it_is_damaged(
    dialog: ModelsDialog, mine: Path, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil, new = tmp_path / "evil.safetensors", made(tmp_path / "new.safetensors")
    evil.write_bytes(pickle.dumps({"a": 1}))
    for path in ("", str(evil)):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, path=path: (path, ""))
        dialog.add_button.click()
        settle(dialog, qtbot)
        assert column(dialog, NAME) == ["any", "cell", "cut"]
    assert "evil.safetensors is no safetensors file" in dialog.message.text()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(new), ""))
    dialog.add_button.click()
    settle(dialog, qtbot)
    assert column(dialog, NAME) == ["any", "cell", "cut", "new"]
    entry = dialog.selected()
    assert entry is not None
    assert entry.path == mine / "new.safetensors"


def test_what_was_selected_stays_when_the_models_are_read_again(
    dialog: ModelsDialog, mine: Path, qtbot: QtBot
) -> None:
    choose(dialog, "cut")
    made(mine / "aaa.safetensors")
    dialog.refresh()
    settle(dialog, qtbot)
    assert column(dialog, NAME) == ["aaa", "any", "cell", "cut"]
    entry = dialog.selected()
    assert entry is not None
    assert entry.name == "cut"
    assert dialog.table.columnSpan(2, SENTENCE) == 1


def test_a_folder_that_cannot_be_read_is_told(
    dialog: ModelsDialog, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(tmp_path / "file"))
    dialog.refresh()
    settle(dialog, qtbot)
    assert "cannot be read" in dialog.message.text()
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(tmp_path / "absent"))
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "absent")
    dialog.refresh()
    settle(dialog, qtbot)
    assert column(dialog, NAME) == []
    assert dialog.card.toPlainText() == "There are no models yet: train one, or add a file."
    assert enabled(dialog) == (False, False, False)


def test_the_panel_takes_the_model_that_is_used(mine: Path, qtbot: QtBot) -> None:
    """As it takes one that was opened."""
    panel = LearnPanel()
    qtbot.addWidget(panel)
    panel.show()
    told: list[str] = []
    panel.modelChosen.connect(told.append)
    panel.valueChanged.connect(lambda: told.append("changed"))
    panel.model.models_button.click()
    dialog = panel.model.models
    assert dialog is not None
    settle(dialog, qtbot)
    choose(dialog, "cut")
    dialog.table.cellDoubleClicked.emit(dialog.table.currentRow(), 0)
    assert dialog.isVisible()  # a damaged one cannot be used
    assert told == []
    choose(dialog, "cell")
    dialog.use_button.click()
    path = str(mine / "cell.safetensors")
    assert not dialog.isVisible()
    assert told == [path, "changed"]
    assert panel.value().path == path
    # Opened again it is the same dialog, with what is there by then.
    made(mine / "new.safetensors")
    panel.model.models_button.click()
    settle(dialog, qtbot)
    assert panel.model.models is dialog
    assert "new" in column(dialog, NAME)
    dialog.close_button.click()
    assert told == [path, "changed"]
