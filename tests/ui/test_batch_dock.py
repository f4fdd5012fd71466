"""The dock "Deconvolve a folder" as a user meets it: choose, run, run again, cancel, open."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_deconv import batch
from napari_deconv.file_jobs import FileJob
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import Recipe, write_recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import Stack
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui import batch_dock
from napari_deconv.ui.batch_dock import CHOOSE, NO_DOCK, SUMMARY, BatchDock
from napari_deconv.ui.batch_panel import BatchChoice, BatchPanel
from napari_deconv.ui.batch_table import STATE, BatchTable
from napari_deconv.ui.colors import AMBER
from napari_deconv.ui.exchange import DECONVOLVE, FOLDER, exchange_of, open_dock
from napari_deconv.ui.layers import KEY

RECIPE = Recipe(
    Optics(na=0.8, emission_nm=520, immersion_index=1.0),
    RichardsonLucy(2),
    background=5.0,
    engine="cpu",
)
SPACING = (0.4, 0.15, 0.15)
#: Its stubs ask for an instance, which there never is.
MOUSE: Any = QTest


@pytest.fixture
def choice(tmp_path: Path) -> BatchChoice:
    """Return a folder of two images with a damaged one between them, and a recipe."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in (1, 3):
        data = np.random.default_rng(number).poisson(20, (3, 14, 12 + number)).astype(np.uint16)
        stack = Stack(data, "ZYX", Grid(spacing_um=SPACING))
        write_stack(folder / f"cell {number}.ome.tif", stack, dtype="uint16")
    (folder / "cell 2.ome.tif").write_bytes(b"II*\0no image at all")
    write_recipe(tmp_path / "recipe.json", RECIPE)
    return BatchChoice(
        str(folder), recipe=str(tmp_path / "recipe.json"), output=str(tmp_path / "out")
    )


@pytest.fixture
def dock(viewer: Any, qtbot: QtBot) -> Iterator[BatchDock]:
    """Return the dock in a viewer; nothing of it runs on afterwards."""
    widget = BatchDock(viewer)
    viewer.window.add_dock_widget(widget, name="Deconvolve a folder")
    yield widget
    widget.close()
    settle(widget, qtbot)


def settle(dock: BatchDock, qtbot: QtBot) -> None:
    jobs: tuple[Any, ...] = (dock.job, dock.opening, dock.looking)
    qtbot.waitUntil(
        lambda: not dock._timer.isActive() and not any(job.running for job in jobs),
        timeout=60_000,
    )


def choose(dock: BatchDock, choice: BatchChoice, qtbot: QtBot) -> list[str]:
    """Show a choice; return the states of the files."""
    dock.panel.setValue(choice)
    settle(dock, qtbot)
    return states(dock)


def run(dock: BatchDock, qtbot: QtBot) -> list[str]:
    dock.running.run_button.click()
    settle(dock, qtbot)
    return states(dock)


def states(dock: BatchDock) -> list[str]:
    return [job.state for job in dock.table.value()]


def cell(dock: BatchDock, row: int, column: int) -> Any:
    return dock.table.table.item(row, column)


def test_a_folder_is_shown_restored_and_skipped(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot
) -> None:
    assert dock.running.forecast.text() == CHOOSE
    assert not dock.running.run_button.isEnabled()
    assert choose(dock, choice, qtbot) == ["waiting", "failed", "waiting"]
    assert dock.running.forecast.text() == "3 files: 1 failed, 2 waiting"
    assert [cell(dock, row, 0).text() for row in range(3)] == [
        f"cell {number}.ome.tif" for number in (1, 2, 3)
    ]
    assert cell(dock, 0, 1).text() == "3 x 14 x 13"
    assert cell(dock, 1, STATE).foreground().color().name() == AMBER
    assert not Path(choice.output).exists()

    assert run(dock, qtbot) == ["done", "failed", "done"]
    assert dock.running.forecast.text() == "3 files: 2 done, 1 failed"
    assert dock.running.progress.value() == dock.running.progress.maximum()
    assert SUMMARY in dock.running.state.text()
    # The first that failed is shown with its reason.
    assert dock.table.message.text().startswith("cell 2.ome.tif is ")
    restored = read_stack(Path(choice.output) / "cell 3_restored.ome.tif")
    assert restored.shape == (3, 14, 15)

    assert run(dock, qtbot) == ["skipped", "failed", "skipped"]
    assert dock.running.forecast.text() == "3 files: 2 done already, 1 failed"


def test_what_is_done_already_is_said_before_it_runs(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot
) -> None:
    choose(dock, choice, qtbot)
    run(dock, qtbot)
    assert choose(dock, BatchChoice(), qtbot) == []
    assert choose(dock, choice, qtbot) == ["skipped", "failed", "skipped"]


def test_a_double_click_opens_the_restored_image(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot
) -> None:
    choose(dock, choice, qtbot)
    click(dock, 0)
    settle(dock, qtbot)
    assert len(dock.viewer.layers) == 0
    assert "not restored yet" in dock.running.state.text()
    run(dock, qtbot)
    click(dock, 2)
    settle(dock, qtbot)
    (layer,) = dock.viewer.layers
    np.testing.assert_allclose(layer.scale, SPACING)
    np.testing.assert_array_equal(layer.data, read_stack(dock.table.value()[2].output).data)
    assert Recipe.from_dict(layer.metadata[KEY]["recipe"]) == RECIPE


def click(dock: BatchDock, row: int) -> None:
    table = dock.table.table
    place = table.visualItemRect(table.item(row, 0)).center()
    for event in (MOUSE.mouseClick, MOUSE.mouseDClick):
        event(table.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_cancel_stops_and_the_next_run_goes_on(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go_on = batch.running, threading.Event()

    def slow(*_: object, **__: object) -> Generator[Step, None, Any]:
        while True:
            go_on.wait(10)
            yield Step(1, 4, "slow")

    def running_slowly(*words: Any, **options: Any) -> Any:
        return real(*words, **options, restoring_file=slow)

    choose(dock, choice, qtbot)
    monkeypatch.setattr(batch, "running", running_slowly)
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: states(dock)[0] == "running", timeout=20_000)
    assert not dock.panel.isEnabled()
    assert cell(dock, 0, STATE).font().bold()
    dock.running.cancel_button.click()
    go_on.set()
    settle(dock, qtbot)
    assert states(dock) == ["waiting"] * 3
    assert dock.running.state.text().startswith("cancelled; what is finished is kept")
    assert dock.panel.isEnabled()
    monkeypatch.setattr(batch, "running", real)
    assert run(dock, qtbot) == ["done", "failed", "done"]


def test_the_recipe_comes_from_the_dock_deconvolve(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot
) -> None:
    class Standing(QLabel):
        def recipe(self) -> Recipe:
            return RECIPE

    from_dock = BatchChoice(choice.folder, output=choice.output)
    assert choose(dock, from_dock, qtbot) == ["waiting", "failed", "waiting"]
    run(dock, qtbot)
    assert dock.running.state.text() == NO_DOCK
    other = Standing()
    qtbot.addWidget(other)
    exchange_of(dock.viewer).announce(DECONVOLVE, other)
    assert run(dock, qtbot) == ["done", "failed", "done"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recipe": ""}, "Choose the file of the recipe"),
        ({"recipe": "no.json"}, "The recipe no.json cannot be read"),
    ],
)
def test_a_missing_recipe_is_told_when_it_runs(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot, change: dict[str, str], sentence: str
) -> None:
    choose(dock, BatchChoice(**{**vars(choice), **change}), qtbot)
    run(dock, qtbot)
    assert sentence in dock.running.state.text()
    assert dock.panel.isEnabled()
    assert dock.running.run_button.isEnabled()
    choose(dock, choice, qtbot)
    assert dock.running.state.text() == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"folder": "/no/such/folder"}, "There is no folder /no/such/folder"),
        ({"pattern": "*.zarr"}, "No image whose name matches *.zarr lies in the folder"),
    ],
)
def test_a_folder_without_images_is_told(
    dock: BatchDock, choice: BatchChoice, qtbot: QtBot, change: dict[str, str], sentence: str
) -> None:
    choose(dock, choice, qtbot)
    assert choose(dock, BatchChoice(**{**vars(choice), **change}), qtbot) == []
    assert sentence in dock.running.forecast.text()
    assert not dock.running.run_button.isEnabled()


def test_the_dock_is_in_the_manifest_and_opens_once(viewer: Any, qtbot: QtBot) -> None:
    open_dock(viewer, FOLDER)
    found = exchange_of(viewer).dock(FOLDER)
    assert type(found).__name__ == BatchDock.__name__
    open_dock(viewer, FOLDER)
    assert exchange_of(viewer).dock(FOLDER) is found


def test_closing_during_a_run_stops_it(
    viewer: Any, choice: BatchChoice, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def endless(*_: object) -> Generator[Any, None, Any]:
        try:
            while True:
                time.sleep(0.01)
                yield 0, FileJob("a", "b", "running"), Step(1, 4)
        finally:
            closed.set()

    monkeypatch.setattr(batch_dock, "_running", endless)
    dock = BatchDock(viewer)
    viewer.window.add_dock_widget(dock)
    choose(dock, choice, qtbot)
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: "iteration 1" in dock.running.state.text(), timeout=20_000)
    dock.close()
    qtbot.waitUntil(closed.is_set, timeout=20_000)
    settle(dock, qtbot)


# -- the panels alone ----------------------------------------------------------------------


def test_the_panel_gives_back_what_it_is_given(qtbot: QtBot) -> None:
    panel = BatchPanel()
    qtbot.addWidget(panel)
    assert panel.value() == BatchChoice()
    whole = BatchChoice("/a", "*.tif", True, "r.json", "/b", ".ome.zarr", "uint16", True)
    heard: list[BatchChoice] = []
    panel.valueChanged.connect(lambda: heard.append(panel.value()))
    panel.setValue(whole)
    assert panel.value() == whole
    assert heard == [whole]
    panel.output.clear()
    assert panel.value().output == str(Path("/a/restored"))


def test_a_path_counts_when_it_is_typed(qtbot: QtBot) -> None:
    panel = BatchPanel()
    qtbot.addWidget(panel)
    heard: list[str] = []
    panel.valueChanged.connect(lambda: heard.append(panel.value().folder))
    MOUSE.keyClicks(panel.folder, "/data")
    assert heard == []
    MOUSE.keyClick(panel.folder, Qt.Key.Key_Return)
    assert heard == ["/data"]


def test_the_choosers_fill_the_fields(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = BatchPanel()
    qtbot.addWidget(panel)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/chosen")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/r.json", ""))
    panel.source.setCurrentIndex(1)
    heard: list[BatchChoice] = []
    panel.valueChanged.connect(lambda: heard.append(panel.value()))
    for ask in (panel._ask_folder, panel._ask_output, panel._ask_recipe):
        ask()
    assert len(heard) == 3
    assert panel.value() == BatchChoice("/chosen", recipe="/r.json", output="/chosen")


def test_a_narrow_dock_is_enough(dock: BatchDock, choice: BatchChoice, qtbot: QtBot) -> None:
    choose(dock, choice, qtbot)
    assert dock.minimumSizeHint().width() <= 320


def test_the_message_has_a_column_where_there_is_room(qtbot: QtBot) -> None:
    table = BatchTable()
    qtbot.addWidget(table)
    table.setValue([FileJob("/a/b.tif", "c", "failed", "<b>why</b>")])
    table.table.selectRow(0)
    table.show()
    table.resize(320, 300)
    assert table.table.isColumnHidden(3)
    assert table.message.isVisible()
    assert table.message.text() == "b.tif: <b>why</b>"
    table.resize(800, 300)
    assert not table.table.isColumnHidden(3)
