"""Panels around a fit: what is free, and what came of it."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QGridLayout,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.imaging.catalogue import ABERRATIONS
from napari_deconv.imaging.fit_errors import FittedParameter
from napari_deconv.imaging.fit_parameters import FREE, value_of
from napari_deconv.imaging.fitting import OpticsFit
from napari_deconv.imaging.optics import Optics

from .optics_fields import folded

DEPTH, INDICES = "depth_um", ("sample_index", "immersion_index")
#: Aberrations that are round about the axis stay fast to compute.
ROUND = (4, 12)
COLUMNS = ("parameter", "start", "fitted", "+- error")


class FreePanel(QWidget):
    """Edits the names of what is free in a fit, of those that the optics depend on."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.boxes: dict[str, QCheckBox] = {}
        self._offered: tuple[str, ...] = ()
        self.word = QLabel()
        self.word.setWordWrap(True)
        self._plain, self._terms = QGridLayout(), QGridLayout()
        for name, freedom in FREE.items():
            index = int(name.removeprefix("zernike_")) if name.startswith("zernike_") else None
            if index is not None and index not in ABERRATIONS:
                continue
            unit = f" {freedom.unit}" if freedom.unit and index is None else ""
            box = QCheckBox(ABERRATIONS[index] if index is not None else freedom.label + unit)
            box.toggled.connect(lambda on, name=name: self._toggled(name, on))
            self.boxes[name] = box
        self.boxes["na"].setChecked(True)
        for place, index in enumerate(ABERRATIONS):
            self._terms.addWidget(self.boxes[f"zernike_{index}"], place // 2, place % 2)
        page = QWidget()
        page.setLayout(self._terms)
        self._terms.setContentsMargins(0, 0, 0, 0)
        page.setToolTip("Terms that are not round about the axis make a fit take minutes")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._plain)
        layout.addWidget(folded("Aberrations", page))
        layout.addWidget(self.word)
        self.offer(tuple(name for name in FREE if name in self.boxes))

    def value(self) -> tuple[str, ...]:
        """Return the names of what is free."""
        return tuple(name for name in self._offered if self.boxes[name].isChecked())

    def setValue(self, value: tuple[str, ...]) -> None:
        """Free these, and nothing else."""
        for name, box in self.boxes.items():
            box.setChecked(name in value)

    def show_optics(self, optics: Optics, ndim: int) -> None:
        """Offer what a PSF of so many dimensions can tell of such optics."""
        self.offer(
            tuple(
                name
                for name in self.boxes
                if FREE[name].serves(optics) and (ndim == 3 or FREE[name].planar)
            )
        )

    def offer(self, names: tuple[str, ...]) -> None:
        """Offer these names; what is not offered is not free."""
        if names == self._offered:
            return
        self._offered = names
        plain = [name for name in self.boxes if not name.startswith("zernike_")]
        for name in plain:
            self._plain.removeWidget(self.boxes[name])
        shown = [name for name in plain if name in names]
        for place, name in enumerate(shown):
            self._plain.addWidget(self.boxes[name], place // 3, place % 3)
        for name, box in self.boxes.items():
            box.setVisible(name in names)
        self.valueChanged.emit()

    def _toggled(self, name: str, on: bool) -> None:
        """Keep index and depth apart: they change a PSF in the same way."""
        rivals = INDICES if name == DEPTH else (DEPTH,) if name in INDICES else ()
        given_up = [rival for rival in rivals if on and self.boxes[rival].isChecked()]
        for rival in given_up:
            self.boxes[rival].setChecked(False)
        if given_up:
            labels = " and ".join(FREE[rival].label for rival in given_up)
            self.word.setText(
                f"<i>{labels} held: a PSF shows {FREE[name].label} and {labels} in the same way, "
                "so one of them must be known</i>"
            )
        elif on:
            self.word.setText(_warning(name))
        self.word.setVisible(bool(self.word.text()))
        self.valueChanged.emit()


def _warning(name: str) -> str:
    term = int(name.removeprefix("zernike_")) if name.startswith("zernike_") else ROUND[0]
    if term in ROUND:
        return ""
    return "<i>An aberration that is not round about the axis: the fit takes minutes</i>"


class FitTable(QWidget):
    """Shows fitted parameters; edits which of them are to be taken over."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = QTableWidget()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.reasons = QLabel()
        self.reasons.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addWidget(self.reasons)
        self._parameters: tuple[FittedParameter, ...] = ()
        self.table.itemChanged.connect(lambda item: self.valueChanged.emit())

    def value(self) -> dict[str, float]:
        """Return the values that are ticked, by name."""
        return {
            parameter.name: parameter.value
            for row, parameter in enumerate(self._parameters)
            if self._is_ticked(row)
        }

    def _is_ticked(self, row: int) -> bool:
        item = self.table.item(row, 0)
        return item is not None and item.checkState() == Qt.CheckState.Checked

    def show_fit(self, fit: OpticsFit, start: Optics) -> None:
        """Show the parameters of a fit; those that the PSF determines are ticked."""
        self._parameters = fit.parameters
        table = self.table
        table.blockSignals(True)
        table.setRowCount(len(fit.parameters))
        table.setColumnCount(len(COLUMNS))
        table.setHorizontalHeaderLabels(list(COLUMNS))
        for row, parameter in enumerate(fit.parameters):
            for column, item in enumerate(_items(parameter, start)):
                table.setItem(row, column, item)
        table.blockSignals(False)
        self._fit_sizes()
        lines = [_reason(p) for p in fit.parameters if not p.identifiable]
        self.reasons.setText("<br>".join(lines))
        self.reasons.setVisible(bool(lines))
        self.valueChanged.emit()

    def _fit_sizes(self) -> None:
        header, side = self.table.horizontalHeader(), self.table.verticalHeader()
        if header is None or side is None:
            return
        side.hide()
        header.setMinimumSectionSize(20)
        for column in range(len(COLUMNS)):
            mode = (
                QHeaderView.ResizeMode.ResizeToContents
                if column
                else QHeaderView.ResizeMode.Stretch
            )
            header.setSectionResizeMode(column, mode)
        high = sum(self.table.rowHeight(row) for row in range(self.table.rowCount()))
        self.table.setFixedHeight(header.sizeHint().height() + high + 4)


def _items(parameter: FittedParameter, start: Optics) -> list[QTableWidgetItem]:
    """Return a row: the parameter with its tick, start, value, error."""
    name = QTableWidgetItem(f"{_label(parameter)} {parameter.unit}".rstrip())
    before = f"{value_of(start, parameter.name):.4g}"
    texts = [before, "not identifiable", ""]
    if parameter.identifiable:
        digits = _digits(parameter.error)
        fitted, error = f"{parameter.value:.{digits}f}", f"{parameter.error:.{digits}f}"
        texts = [before, fitted, error]
        name.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
        name.setCheckState(Qt.CheckState.Checked)
        tip = "Ticked: taken over by Apply. The error is one standard deviation, a lower bound"
    else:
        name.setFlags(Qt.ItemFlag.ItemIsEnabled)
        tip = parameter.reason
    items = [name, *(QTableWidgetItem(text) for text in texts)]
    for item in items:
        item.setToolTip(tip)
    return items


def _label(parameter: FittedParameter) -> str:
    name = parameter.name
    if name.startswith("zernike_"):
        return ABERRATIONS.get(int(name.removeprefix("zernike_")), FREE[name].label)
    return FREE[name].label


def _reason(parameter: FittedParameter) -> str:
    return f"<i>{_label(parameter)}: not identifiable, {parameter.reason}</i>"


def _digits(error: float) -> int:
    """Return the decimals that show two digits of an error.

    Examples
    --------
    >>> _digits(0.0123), _digits(4.5), _digits(120)
    (3, 1, 0)
    """
    return max(0, 1 - math.floor(math.log10(error))) if error > 0 else 4
