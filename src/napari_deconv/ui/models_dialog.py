"""The dialog "Models": a table of the trained networks, and what may be done with them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deconv import library, library_words
from napari_deconv.library import Entry
from napari_deconv.restoration.restorer import Step

from .colors import AMBER
from .jobs import Job

COLUMNS = {
    "name": "The name that the commands take, too: that of the file",
    "network": "Which kind of network it is",
    "photons": "Photons in the brightest voxels that it was trained for",
    "voxel size": "Voxel size that it was trained for, z, y, x",
    "loss": "On the pairs that were left out of its training; compare it only on the same pairs",
    "size": "On disk",
    "where": "Yours can be renamed and deleted; shipped ones came with the package",
}
#: What of a card is said beside its sentence.
BESIDE = ("Problem", "Sees", "Background", "Camera", "Structures", "License", "Cite", "File")
SIZE, ROWS = (880, 500), 4
#: Pixels of a column at most; what is cut is in the tip.
WIDEST = 250
READING = "reading the models"

#: What changes the files, and returns the one to select afterwards.
Action = Callable[[], Path | None]


class ModelsDialog(QDialog):
    """Shows the models there are; `used(path)` tells which one is to be used."""

    used = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Models")
        self._entries: tuple[Entry, ...] = ()
        # A folder may lie on a slow drive, and a model be large.
        self.job = Job(self)
        self.table, self.card = QTableWidget(0, len(COLUMNS)), QPlainTextEdit()
        self.message, self.place = QLabel(), QLabel()
        self.rename_button, self.delete_button = QPushButton("Rename..."), QPushButton("Delete")
        self.add_button, self.use_button = QPushButton("Add file..."), QPushButton("Use")
        self.close_button = QPushButton("Close")
        self._lay_out()
        self.table.itemSelectionChanged.connect(self._show_card)
        self.table.cellDoubleClicked.connect(lambda *_: self._use())
        self.rename_button.clicked.connect(self._ask_rename)
        self.delete_button.clicked.connect(self._ask_delete)
        self.add_button.clicked.connect(self._ask_add)
        self.use_button.clicked.connect(self._use)
        self.close_button.clicked.connect(self.reject)
        self.job.finished.connect(self._done)
        self.job.failed.connect(self._failed)
        self._show_card()

    def _lay_out(self) -> None:
        self._lay_out_table()
        self.rename_button.setToolTip("In its file and in its card; the weights stay as they are")
        self.delete_button.setToolTip("Delete the file, for good")
        self.add_button.setToolTip("Copy the file of a model into your folder")
        self.use_button.setToolTip("Take the selected model")
        self.use_button.setDefault(True)
        for button in (self.rename_button, self.delete_button, self.add_button, self.close_button):
            button.setAutoDefault(False)
        # What stands in a file is shown as it is, whatever it looks like.
        self.card.setReadOnly(True)
        for label in (self.message, self.place):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.place.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message.setStyleSheet(f"color: {AMBER}")
        row = QHBoxLayout()
        for widget in (self.rename_button, self.delete_button, self.add_button):
            row.addWidget(widget)
        row.addStretch(1)
        for widget in (self.close_button, self.use_button):
            row.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.card, 1)
        for label in (self.message, self.place):
            layout.addWidget(label)
        layout.addLayout(row)
        self.resize(*SIZE)

    def _lay_out_table(self) -> None:
        table = self.table
        for column, (name, tip) in enumerate(COLUMNS.items()):
            item = QTableWidgetItem(name)
            item.setToolTip(tip)
            table.setHorizontalHeaderItem(column, item)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setTextElideMode(Qt.TextElideMode.ElideRight)
        table.setWordWrap(False)
        header, rows = table.horizontalHeader(), table.verticalHeader()
        if header is not None:
            header.setMinimumSectionSize(20)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            table.setMinimumHeight(header.sizeHint().height() + ROWS * 24)
        if rows is not None:
            rows.hide()

    # -- what is shown --------------------------------------------------------------------

    def value(self) -> tuple[Entry, ...]:
        """Return the models that are shown."""
        return self._entries

    def setValue(self, value: Sequence[Entry], chosen: Path | None = None) -> None:
        """Show models, and select one; without a choice the one that was selected."""
        entry = self.selected()
        chosen = chosen or (entry.path if entry is not None else None)
        self._entries = tuple(value)
        self.table.blockSignals(True)
        self._fill()
        self.table.blockSignals(False)
        paths = [entry.path for entry in self._entries]
        if paths:
            self.table.selectRow(paths.index(chosen) if chosen in paths else 0)
        self._show_card()

    def selected(self) -> Entry | None:
        """Return the selected model."""
        rows = {item.row() for item in self.table.selectedItems()}
        return self._entries[rows.pop()] if rows else None

    def showEvent(self, event: QShowEvent | None) -> None:
        """Read the models anew each time."""
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Read which models there are."""
        self.place.setText(f"Your models are kept in {library.models_folder()}")
        self._start(lambda: None)

    def _fill(self) -> None:
        table = self.table
        table.clearSelection()
        table.setRowCount(0)
        table.setRowCount(len(self._entries))
        for row, entry in enumerate(self._entries):
            for column, text in enumerate(_texts(entry)):
                self._put(row, column, text, entry)
        # Before the sentences: they go over some columns, and are not to widen them.
        for column in range(1, len(COLUMNS)):
            table.resizeColumnToContents(column)
            table.setColumnWidth(column, min(table.columnWidth(column), WIDEST))
        for row, entry in enumerate(self._entries):
            if entry.card is None:
                self._put(row, 1, entry.problem, entry)
                table.setSpan(row, 1, 1, 4)

    def _put(self, row: int, column: int, text: str, entry: Entry) -> None:
        item = QTableWidgetItem(text)
        item.setToolTip(entry.problem or f"{text}\n{entry.path}")
        if entry.card is None:
            item.setForeground(QBrush(QColor(AMBER)))
        self.table.setItem(row, column, item)

    def _show_card(self) -> None:
        entry, busy = self.selected(), self.job.running
        mine = entry is not None and not entry.shipped and not busy
        readable = entry is not None and entry.card is not None
        self.rename_button.setEnabled(mine and readable)
        self.delete_button.setEnabled(mine)
        self.add_button.setEnabled(not busy)
        self.use_button.setEnabled(readable)
        self.card.setPlainText(_in_words(entry) if entry is not None else self._nothing())

    def _nothing(self) -> str:
        if self.job.running:
            return READING
        return "" if self._entries else "There are no models yet: train one, or add a file."

    # -- what is done ---------------------------------------------------------------------

    def _start(self, action: Action) -> None:
        """Do something with the files in a thread, and show what they are afterwards."""

        def work() -> Generator[Step, None, tuple[list[Entry], Path | None]]:
            yield Step(0, 1)
            chosen = action()
            return library.models(), chosen

        self.message.hide()
        self.job.start(work)
        self._show_card()

    def _done(self, result: tuple[list[Entry], Path | None]) -> None:
        self.setValue(*result)

    def _failed(self, sentence: str) -> None:
        self.message.setText(sentence)
        self.message.show()
        self._show_card()

    def _ask_rename(self) -> None:
        entry = self.selected()
        if entry is None:
            return
        name, agreed = QInputDialog.getText(
            self, "Rename", f"New name of {entry.name}", QLineEdit.EchoMode.Normal, entry.name
        )
        if agreed and name != entry.name:
            self._start(partial(library.rename, entry.path, name))

    def _ask_delete(self) -> None:
        entry = self.selected()
        if entry is None:
            return
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        question = f"Delete {entry.path} for good?"
        if QMessageBox.question(self, "Delete", question, yes | no, no) == yes:
            self._start(partial(library.delete, entry.path))

    def _ask_add(self) -> None:
        kinds = f"Models (*{library.SUFFIX})"
        path, _ = QFileDialog.getOpenFileName(self, "Add a model", "", kinds)
        if path:
            self._start(partial(library.add, path))

    def _use(self) -> None:
        entry = self.selected()
        if entry is not None and entry.card is not None:
            self.used.emit(str(entry.path))
            self.accept()


def _texts(entry: Entry) -> list[str]:
    """Return the texts of a row; what a card would say is left out where there is none."""
    card, size = entry.card, library_words.size_in_words(entry.size_bytes)
    where = "shipped" if entry.shipped else "yours"
    if card is None:
        return [entry.name, "", "", "", "", size, where]
    return [
        entry.name,
        library_words.network_in_words(card),
        library_words.photons_in_words(card),
        library_words.voxels_in_words(card),
        f"{card.validation:.3g}",
        size,
        where,
    ]


def _in_words(entry: Entry) -> str:
    """Return all that is known of a model: a sentence, and a line for each of the rest."""
    known = library_words.facts(entry)
    lines = [f"{label}: {known[label]}" for label in BESIDE if label in known]
    sentence = [] if entry.card is None else [library_words.in_words(entry.card)]
    return "\n".join([*sentence, *lines])
