"""Panel for measured objects: a table of heights, widths and areas with their errors."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.afm.features import Feature

from .choices import NARROW, offer

#: The offer to find objects by a level, where there are no labels.
BY_LEVEL = "objects above a level"
ROWS = 6
COLUMNS = {
    "#": "Number of the object; * where it touches the edge of the image",
    "height": "Above the ground around it, nm",
    "raw": "Width in the image at half height, nm: of the circle of the same area",
    "corrected": "The same in the reconstructed surface, with its error, nm",
    "area": "In the reconstructed surface at half height, with its error, nm^2",
}


class FeatureTable(QWidget):
    """Shows a tuple of `Feature`.

    `measureAsked` and `exportAsked` are wishes: the path, and whether a file may be replaced.
    """

    measureAsked = Signal()
    exportAsked = Signal(str, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._features: tuple[Feature, ...] = ()
        self.labels = QComboBox()
        self.labels.setSizeAdjustPolicy(NARROW)
        self.labels.setToolTip("A labels layer with the objects; or those above Otsu's level")
        self.measure_button, self.export_button = QPushButton("Measure"), QPushButton("CSV...")
        self.measure_button.setToolTip("Measure the objects in image and surface")
        self.measure_button.clicked.connect(self.measureAsked)
        self.export_button.clicked.connect(self._ask_export)
        self.table, self.told = QTableWidget(), QLabel()
        self.told.setWordWrap(True)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        vertical = self.table.verticalHeader()
        if vertical is not None:
            vertical.hide()
        row = QHBoxLayout()
        row.addWidget(self.labels, 1)
        row.addWidget(self.measure_button)
        row.addWidget(self.export_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.table)
        layout.addWidget(self.told)
        self.set_layers([])
        self.setValue(())

    def value(self) -> tuple[Feature, ...]:
        """Return what is shown."""
        return self._features

    def setValue(self, features: Sequence[Feature]) -> None:
        """Show objects."""
        self._features = tuple(features)
        table = self.table
        table.setColumnCount(len(COLUMNS))
        table.setRowCount(len(self._features))
        for column, (name, tip) in enumerate(COLUMNS.items()):
            item = QTableWidgetItem(name)
            item.setToolTip(tip)
            table.setHorizontalHeaderItem(column, item)
        for number, feature in enumerate(self._features):
            for column, text in enumerate(_texts(feature)):
                cell = QTableWidgetItem(text)
                cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                table.setItem(number, column, cell)
        header = table.horizontalHeader()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
            high = table.rowHeight(0) if self._features else header.sizeHint().height()
            rows = min(max(len(self._features), 2), ROWS)
            table.setFixedHeight(header.sizeHint().height() + rows * high + 4)
        there = bool(self._features)
        table.setVisible(there)
        self.export_button.setEnabled(there)
        self.told.setText(f"{len(self._features)} objects; widths in nm, areas in nm<sup>2</sup>")
        self.told.setVisible(there)

    def chosen_labels(self) -> str | None:
        """Return the name of the labels layer; None for objects above a level."""
        name = self.labels.currentText()
        return None if name == BY_LEVEL else name

    def set_layers(self, names: list[str]) -> None:
        """Offer these labels layers."""
        offer(self.labels, [BY_LEVEL, *names])

    def _ask_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Table", "objects.csv", "CSV (*.csv)")
        if path:
            whole = path.lower().endswith(".csv")
            self.exportAsked.emit(path if whole else f"{path}.csv", whole)


def _texts(feature: Feature) -> list[str]:
    """Return the cells of a row."""
    corrected, area = feature.corrected_width_nm, feature.corrected_area_nm2
    digits = 0 if area >= 100 else 1
    return [
        f"{feature.label}{'*' if feature.touches_edge else ''}",
        f"{feature.height_nm:.3g}",
        f"{feature.raw_width_nm:.3g}",
        f"{corrected:.3g} ± {feature.corrected_width_error_nm:.2g}",
        f"{area:.{digits}f} ± {feature.corrected_area_error_nm2:.{digits}f}",
    ]
