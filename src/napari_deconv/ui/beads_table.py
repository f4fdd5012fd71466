"""Panel for beads: a table of what became of each, and what the user decides otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.imaging.beads import FATES, Bead, with_fate

from .beads_points import LOOKS

#: Rows in sight.
ROWS = 6
TIPS = {
    "fate": "Whether the bead is used; double click a row to change that",
    "peak": "Counts of its brightest voxel above the background",
    "SNR": "Signal to noise of the whole bead",
    "z um": "Full width at half maximum along z",
    "y um": "Full width at half maximum along y",
    "x um": "Full width at half maximum along x",
}


class BeadTable(QWidget):
    """Edits the fates of a tuple of `Bead`; `selected` tells the row that is looked at."""

    valueChanged = Signal()
    selected = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._beads: tuple[Bead, ...] = ()
        self.counts, self.reason = QLabel(), QLabel()
        self.table = QTableWidget()
        self.toggle_button = QPushButton("Use / leave out")
        self.toggle_button.setToolTip("Change whether the bead of the selected row is used")
        self._lay_out()
        self.table.itemSelectionChanged.connect(self._row_selected)
        self.table.cellDoubleClicked.connect(lambda row, _: self.toggle(row))
        self.toggle_button.clicked.connect(lambda: self.toggle(self.table.currentRow()))
        self._show()

    def _lay_out(self) -> None:
        for label in (self.counts, self.reason):
            label.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        table = self.table
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        row = QHBoxLayout()
        row.addWidget(self.counts, 1)
        row.addWidget(self.toggle_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(table)
        layout.addWidget(self.reason)

    def value(self) -> tuple[Bead, ...]:
        """Return the beads with their fates as decided."""
        return self._beads

    def setValue(self, value: Sequence[Bead]) -> None:
        """Show beads; the row looked at stays."""
        self._beads = tuple(value)
        self._show()
        self.valueChanged.emit()

    def select(self, index: int) -> None:
        """Look at the row of a bead."""
        if 0 <= index < len(self._beads):
            self.table.selectRow(index)

    def toggle(self, index: int) -> None:
        """Leave a bead out that is used, and use one that is not, whatever speaks against it."""
        if 0 <= index < len(self._beads):
            fate = "left out" if self._beads[index].fate == "used" else "used"
            self.setValue(with_fate(self._beads, index, fate))

    def _row_selected(self) -> None:
        row = self.table.currentRow()
        self._show_reason(row)
        if 0 <= row < len(self._beads):
            self.selected.emit(row)

    def _show_reason(self, row: int) -> None:
        self.toggle_button.setEnabled(0 <= row < len(self._beads))
        bead = self._beads[row] if 0 <= row < len(self._beads) else None
        shown = bead is not None and bool(bead.reason)
        self.reason.setText(f"<i>Bead {row + 1}: {bead.reason}</i>" if bead and shown else "")
        self.reason.setVisible(shown)

    def _show(self) -> None:
        row = self.table.currentRow()
        ndim = len(self._beads[0].position) if self._beads else 3
        names = ["fate", "peak", "SNR", *(f"{axis} um" for axis in "zyx"[-ndim:])]
        self.table.blockSignals(True)
        self.table.setColumnCount(len(names))
        for column, name in enumerate(names):
            item = QTableWidgetItem(name)
            item.setToolTip(TIPS[name])
            self.table.setHorizontalHeaderItem(column, item)
        self.table.setRowCount(len(self._beads))
        for index, bead in enumerate(self._beads):
            for column, item in enumerate(self._items(bead)):
                self.table.setItem(index, column, item)
        if 0 <= row < len(self._beads):
            self.table.selectRow(row)
        self.table.blockSignals(False)
        self._fit_sizes()
        self.counts.setText(_counted(self._beads))
        self._show_reason(self.table.currentRow())

    def _fit_sizes(self) -> None:
        """Let the columns fill the width, and the table be as high as a few rows."""
        header = self.table.horizontalHeader()
        if header is None:
            return
        header.setMinimumSectionSize(20)
        for column in range(self.table.columnCount()):
            header.setSectionResizeMode(
                column,
                QHeaderView.ResizeMode.Stretch
                if column == 0
                else QHeaderView.ResizeMode.ResizeToContents,
            )
        rows = min(max(len(self._beads), 2), ROWS)
        high = self.table.rowHeight(0) if self._beads else header.height()
        self.table.setFixedHeight(header.sizeHint().height() + rows * high + 4)

    def _items(self, bead: Bead) -> list[QTableWidgetItem]:
        widths = bead.fwhm_um or (None,) * len(bead.position)
        texts = [bead.fate, f"{bead.peak:.4g}", f"{bead.snr:.3g}"]
        texts += ["?" if width is None else f"{width:.2f}" for width in widths]
        items = [QTableWidgetItem(text) for text in texts]
        items[0].setIcon(fate_icon(bead.fate))
        for item in items:
            item.setToolTip(bead.reason or TIPS["fate"])
        for item in items[1:]:
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return items


def fate_icon(fate: str) -> QIcon:
    """Return the symbol of a fate in its colour, as on the image."""
    look, size = LOOKS[fate], 32
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    font = painter.font()
    font.setPixelSize(size - 4)
    painter.setFont(font)
    painter.setPen(QColor(look.color))
    painter.drawText(QRectF(0, 0, size, size), int(Qt.AlignmentFlag.AlignCenter), look.sign)
    painter.end()
    return QIcon(pixmap)


def _counted(beads: Sequence[Bead]) -> str:
    """Return how many beads met which fate.

    Examples
    --------
    >>> _counted([Bead((1, 1)), Bead((5, 5), "dim"), Bead((9, 9))])
    '2 used, 1 dim'
    """
    fates = Counter(bead.fate for bead in beads)
    return ", ".join(f"{fates[fate]} {fate}" for fate in FATES if fates[fate])
