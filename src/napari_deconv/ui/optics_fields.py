"""The fields of which the panels for optics are made: numbers, indices, aberrations, marks."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QWidget,
)
from superqt import QCollapsible, QLabeledDoubleSlider

from napari_deconv.imaging.catalogue import ABERRATIONS, name_of

from .choices import NARROW
from .colors import AMBER

#: What a mark says, and the sentence behind it.
ORIGINS = {
    "file": "Read from the image's file; edit it where the file is wrong",
    "layer": "Taken from the layer; edit it where the layer is wrong",
    "assumed": "Assumed, as nothing tells it: check it, and edit it where it is wrong",
}
#: What a box of names shows for a number that has none.
OTHER = "other"


class _Origin(QLabel):
    """As wide when it is empty: a slider must not change its length below the mouse."""

    def sizeHint(self) -> QSize:
        """Return the size of the widest mark."""
        width = self.fontMetrics().horizontalAdvance("● assumed")
        return QSize(width, super().sizeHint().height())

    minimumSizeHint = sizeHint


class Marked(QWidget):
    """Fields of one row, and where their value comes from."""

    def __init__(self, *fields: QWidget) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for field in fields:
            row.addWidget(field, 1)
        self.origin = _Origin()
        row.addWidget(self.origin)

    @property
    def is_marked(self) -> bool:
        """Whether the value is not the user's own."""
        return bool(self.origin.text())

    def mark(self, origin: str) -> None:
        """Say where the value comes from, one of `ORIGINS`; nothing for the user's own."""
        if origin:
            self._say(origin)
        else:
            self.origin.clear()
        self.origin.setToolTip(ORIGINS.get(origin, ""))

    def _say(self, origin: str) -> None:
        dot = f'<span style="color:{AMBER}">●</span> ' if origin == "assumed" else ""
        self.origin.setText(f"<small>{dot}<i>{origin}</i></small>")


def slider(low: float, high: float, decimals: int, tip: str) -> Any:
    """Return a slider with its number."""
    field = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    field.setRange(low, high)
    field.setDecimals(decimals)
    field.setSingleStep(10**-decimals)
    field.setPageStep((high - low) / 20)
    field.setToolTip(tip)
    return field


def number(low: float, high: float, decimals: int, tip: str) -> QDoubleSpinBox:
    """Return a field for a number; it changes once the number is typed, not at each digit."""
    field = QDoubleSpinBox()
    field.setDecimals(decimals)
    field.setRange(low, high)
    field.setSingleStep(10.0**-decimals)
    field.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
    field.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    field.setKeyboardTracking(False)
    field.setMinimumWidth(60)
    field.setToolTip(tip)
    return field


def folded(title: str, page: QWidget) -> Any:
    """Return a section that opens and closes, with an arrow in the colour of its text."""
    section = QCollapsible(f"▸ {title}", None, QIcon(), QIcon())
    section.toggled.connect(lambda opened: section.setText(f"{'▾' if opened else '▸'} {title}"))
    # Between the title and a page of no height, spacing would be a gap below the title.
    section.layout().setContentsMargins(0, 0, 0, 0)
    section.layout().setSpacing(0)
    section.content().layout().setContentsMargins(5, 4, 0, 0)
    section.addWidget(page)
    return section


def show_number(field: Any, value: float) -> None:
    """Show a number, also one beyond what the field offers by itself."""
    if value > field.maximum():
        field.setMaximum(value)
    if value < field.minimum():
        field.setMinimum(value)
    if field.value() != value:
        field.setValue(value)


class IndexBox(QComboBox):
    """A refractive index: chosen by the name of a medium, or typed as a number.

    Signal: `indexChanged` tells the number, or the text where it is none.
    """

    indexChanged = Signal(object)

    def __init__(self, table: dict[str, float], tip: str) -> None:
        super().__init__()
        self._table = table
        self._value: float | str = 1.0
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.addItems([_named(name, index) for name, index in table.items()])
        self.setSizeAdjustPolicy(NARROW)
        self.setToolTip(f"{tip}: choose it, or type its refractive index")
        self.textActivated.connect(self._entered)
        line = self.lineEdit()
        if line is not None:
            line.editingFinished.connect(lambda: self._entered(self.currentText()))

    def value(self) -> float | str:
        """Return the index, or the text where it is none."""
        return self._value

    def setValue(self, value: float | str) -> None:
        """Show an index, by its name where it has one."""
        if value == self._value:
            return  # Two media may share an index: the one that was chosen stays.
        self._value = value
        name = name_of(value, self._table) if not isinstance(value, str) else None
        self.setCurrentText(_named(name, self._table[name]) if name else f"{value}")
        line = self.lineEdit()
        if line is not None:
            line.setCursorPosition(0)  # Where it is narrow, its beginning is in sight.

    def _entered(self, text: str) -> None:
        words = text.strip()
        names = {_named(name, index): index for name, index in self._table.items()}
        value: float | str = names.get(words, self._table.get(words, words))
        try:
            value = float(value)
        except ValueError:
            value = words
        if value != self._value:
            self._value = value
            self.indexChanged.emit(value)


def _named(name: str, index: float) -> str:
    return f"{name} {index:.3f}"


def _short(name: str) -> str:
    for word in ("oblique", "vertical", "horizontal"):
        name = name.replace(word, f"{word[:4].rstrip('iq')}.")
    return name.replace("second astigmatism", "2nd astig.")


class AberrationFields(QWidget):
    """Edits `Optics.zernike_rad`; terms that it has no slider for are kept."""

    valueChanged = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._terms: tuple[float, ...] = ()
        self._showing = False
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        self.sliders: dict[int, Any] = {}
        for index, name in ABERRATIONS.items():
            tip = f"{name.capitalize()}, OSA/ANSI index {index}, in radians RMS"
            field = slider(-2, 2, 2, tip)
            field.valueChanged.connect(lambda value, index=index: self._moved(index, value))
            label = QLabel(f"{index} {_short(name)}")
            label.setToolTip(tip)
            form.addRow(label, field)
            self.sliders[index] = field
        self.reset = QPushButton("Reset all to 0 rad")
        self.reset.setToolTip("Remove all aberrations")
        self.reset.clicked.connect(self._reset)
        form.addRow(self.reset)

    def value(self) -> tuple[float, ...]:
        """Return the aberrations, radians RMS, one an OSA/ANSI index from 0 on."""
        return self._terms

    def setValue(self, value: tuple[float, ...]) -> None:
        """Show these aberrations."""
        if value == self._terms:
            return
        self._terms, self._showing = value, True
        for index, field in self.sliders.items():
            show_number(field, value[index] if index < len(value) else 0.0)
        self._showing = False

    def _moved(self, index: int, value: float) -> None:
        if self._showing:
            return
        terms = [*self._terms, *(0.0,) * (index + 1 - len(self._terms))]
        terms[index] = round(value, 2)
        while terms and terms[-1] == 0:
            terms.pop()
        if tuple(terms) != self._terms:
            self._terms = tuple(terms)
            self.valueChanged.emit()

    def _reset(self) -> None:
        self.setValue(())
        self.valueChanged.emit()
