"""Panel for a batch: a table of what became of each file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.file_jobs import FileJob

from .colors import AMBER

COLUMNS = ("file", "shape", "state", "message")
STATE, MESSAGE = 2, 3
#: Rows in sight at least.
ROWS = 6
#: Pixels from which on the messages have a column; the selected row's is below as well.
WIDE = 560


class BatchTable(QWidget):
    """Shows a tuple of `FileJob`; `opened` tells the job whose row was double clicked."""

    opened = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._jobs: list[FileJob] = []
        self.table, self.message = QTableWidget(0, len(COLUMNS)), QLabel()
        self._lay_out()
        self.table.itemSelectionChanged.connect(self._show_message)
        self.table.cellDoubleClicked.connect(lambda row, _: self._open(row))

    def _lay_out(self) -> None:
        table = self.table
        table.setHorizontalHeaderLabels(COLUMNS)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        table.setWordWrap(False)
        header = table.horizontalHeader()
        if header is not None:
            header.setMinimumSectionSize(20)
            for column in (1, STATE):
                header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
            for column in (0, MESSAGE):
                header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
            table.setMinimumHeight(header.sizeHint().height() + ROWS * 24)
        rows = table.verticalHeader()
        if rows is not None:
            rows.hide()
        table.setColumnHidden(MESSAGE, True)
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(table, 1)
        layout.addWidget(self.message)

    def value(self) -> tuple[FileJob, ...]:
        """Return the jobs as they stand."""
        return tuple(self._jobs)

    def setValue(self, value: Sequence[FileJob]) -> None:
        """Show these jobs; the row looked at stays where the files are the same."""
        same = [job.source for job in value] == [job.source for job in self._jobs]
        self._jobs = list(value)
        if not same:
            self.table.clearSelection()
            self.table.setCurrentCell(-1, -1)
            self.table.setRowCount(len(value))
        for index in range(len(value)):
            self._fill(index)
        self._show_message()

    def show_job(self, index: int, job: FileJob) -> None:
        """Show one job anew."""
        if index < len(self._jobs) and self._jobs[index] != job:
            self._jobs[index] = job
            self._fill(index)
            self._show_message()

    def _fill(self, index: int) -> None:
        job = self._jobs[index]
        shape = " x ".join(map(str, job.shape))
        texts = (Path(job.source).name, shape, job.state, job.message)
        tip = "\n".join(part for part in (job.source, job.axes, job.message) if part)
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            item.setToolTip(tip)
            if column == STATE:
                font = item.font()
                font.setBold(job.state == "running")
                item.setFont(font)
                if job.state == "failed":
                    item.setForeground(QBrush(QColor(AMBER)))
            self.table.setItem(index, column, item)

    def _show_message(self) -> None:
        """Show the message of the selected row; without one, of the first that failed."""
        row = self.table.currentRow()
        failed = (job for job in self._jobs if job.state == "failed")
        job = self._jobs[row] if 0 <= row < len(self._jobs) else next(failed, None)
        text = job.message if job is not None else ""
        if job is not None and text:
            name = Path(job.source).name
            text = text if text.startswith(name) else f"{name}: {text}"
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _open(self, row: int) -> None:
        if 0 <= row < len(self._jobs):
            self.opened.emit(self._jobs[row])

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Give the messages a column where there is room for one."""
        super().resizeEvent(event)
        self.table.setColumnHidden(MESSAGE, self.width() < WIDE)
