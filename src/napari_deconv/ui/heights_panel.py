"""Panel for heights: which layer, the unit of its values, its pixels, and how it is prepared."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QSpinBox,
    QWidget,
)

from napari_deconv.afm.levelling import Level, Rows
from napari_deconv.afm.preparing import Denoise, Preparation, Scars
from napari_deconv.imaging.value import require

from .choices import NARROW, LayerBox
from .optics_fields import Marked, number, show_number

#: Units of heights that are offered; the first says that nobody told.
UNITS = ("?", "nm", "um", "angstrom", "pm", "m")
NO_HEIGHTS = "Open an image of heights first"
DENOISERS = {
    "off": None,
    "total variation": "total variation",
    "non-local means": "non-local means",
}


@dataclass(frozen=True)
class HeightsChoice:
    """A layer of heights, its unit and pixels, as the user sees them.

    Parameters
    ----------
    name : str
        Of the layer.
    unit : str
        Of its values.
    pixel_nm : tuple of float, (y, x)
    """

    name: str
    unit: str
    pixel_nm: tuple[float, float]


class HeightsPanel(QWidget):
    """Edits a `HeightsChoice`; `layerChosen(name)` tells of another layer."""

    valueChanged = Signal()
    layerChosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layer = LayerBox("The image of heights; a movie is y and x over time")
        self.unit = QComboBox()
        self.unit.addItems(UNITS)
        self.unit.setToolTip("Unit of the layer's values: heights in nm are what is meant")
        self.steps = [number(0, 1e5, 4, f"Distance between pixels in {axis}, nm") for axis in "yx"]
        for step in self.steps:
            step.setSpecialValueText("?")
        self.unit_row, self.pixel_row = Marked(self.unit), Marked(*self.steps)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Heights", self.layer)
        form.addRow("Unit", self.unit_row)
        form.addRow("Pixel y, x nm", self.pixel_row)
        self.layer.currentTextChanged.connect(self.layerChosen)
        self.unit.currentTextChanged.connect(lambda: self._typed(self.unit_row))
        for step in self.steps:
            step.valueChanged.connect(lambda: self._typed(self.pixel_row))

    def value(self) -> HeightsChoice:
        """Return what is chosen.

        Raises
        ------
        InputError
            If there is no layer, or its unit or pixel size is not known.
        """
        name, unit = self.layer.currentText(), self.unit.currentText()
        require(bool(name), NO_HEIGHTS)
        require(
            unit != "?",
            f"Nothing says the unit of the heights of {name!r}: choose it, nm, um, m or angstrom",
        )
        y, x = (step.value() for step in self.steps)
        require(
            y > 0 and x > 0, f"Nothing says the pixel size of {name!r}: type it, in nm, y and x"
        )
        return HeightsChoice(name, unit, (y, x))

    def setValue(self, value: HeightsChoice) -> None:
        """Show `value`; its layer must be among those offered."""
        self.layer.setCurrentText(value.name)
        self.show_known(value.unit, value.pixel_nm)

    def show_known(self, unit: str | None, pixel_nm: tuple[float, float] | None) -> None:
        """Show what a layer knows; what it does not stays to be told."""
        for field in (self.unit, *self.steps):
            field.blockSignals(True)
        if unit is not None and self.unit.findText(unit) < 0:
            self.unit.addItem(unit)
        self.unit.setCurrentText(unit or "?")
        for step, size in zip(self.steps, pixel_nm or (0.0, 0.0), strict=True):
            show_number(step, size)
        for field in (self.unit, *self.steps):
            field.blockSignals(False)
        self.unit_row.mark("layer" if unit else "")
        self.pixel_row.mark("layer" if pixel_nm else "")
        self.valueChanged.emit()

    def _typed(self, row: Marked) -> None:
        row.mark("")
        self.valueChanged.emit()


class PreparingPanel(QWidget):
    """Edits a tuple of `Preparation`: level, rows, scars, noise, in this order."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.level, self.degree = QCheckBox("level"), QSpinBox()
        self.level.setToolTip("Take out a polynomial; objects that stand high are masked")
        self.degree.setRange(0, 4)
        self.degree.setValue(1)
        self.degree.setToolTip("Degree of the polynomial: 0 offset, 1 plane, 2 to 4 curved")
        self.rows, self.scars = QCheckBox("align rows"), QCheckBox("scars")
        self.rows.setToolTip("Take out what each row has for itself: median of differences")
        self.scars.setToolTip("Take out short streaks along a row, and fill from its neighbours")
        self.denoiser = QComboBox()
        self.denoiser.addItems(list(DENOISERS))
        self.denoiser.setSizeAdjustPolicy(NARROW)
        self.denoiser.setToolTip("Denoise; by how much follows from the noise of the heights")
        self.strength = number(0, 20, 2, "Of the denoising: 1 is what the noise asks for")
        self.strength.setValue(1.0)
        ticks, noise = QHBoxLayout(), QHBoxLayout()
        for widget in (self.level, self.degree, self.rows, self.scars):
            ticks.addWidget(widget)
        ticks.addStretch()
        noise.addWidget(self.denoiser, 1)
        noise.addWidget(self.strength)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Prepare", ticks)
        form.addRow("Denoise", noise)
        for tick in (self.level, self.rows, self.scars):
            tick.toggled.connect(self._changed)
        self.degree.valueChanged.connect(self._changed)
        self.denoiser.currentTextChanged.connect(self._changed)
        self.strength.valueChanged.connect(self._changed)
        self._changed()

    def value(self) -> tuple[Preparation, ...]:
        """Return the steps that are ticked."""
        steps: list[Preparation] = []
        if self.level.isChecked():
            steps.append(Level(self.degree.value()))
        if self.rows.isChecked():
            # Aligned rows keep their slope along y: what is level is found once more.
            steps += [Rows(), Level(self.degree.value())] if steps else [Rows()]
        if self.scars.isChecked():
            steps.append(Scars())
        by = DENOISERS[self.denoiser.currentText()]
        if by is not None:
            steps.append(Denoise(by, self.strength.value()))  # type: ignore[arg-type]
        return tuple(steps)

    def setValue(self, value: tuple[Preparation, ...]) -> None:
        """Show steps; those that have no field here keep their kind alone."""
        self.blockSignals(True)
        kinds = {type(step): step for step in value}
        for kind, tick in ((Level, self.level), (Rows, self.rows), (Scars, self.scars)):
            tick.setChecked(kind in kinds)
        level, denoise = kinds.get(Level), kinds.get(Denoise)
        if isinstance(level, Level):
            self.degree.setValue(level.degree)
        self.denoiser.setCurrentText(denoise.by if isinstance(denoise, Denoise) else "off")
        if isinstance(denoise, Denoise):
            self.strength.setValue(denoise.strength)
        self.blockSignals(False)
        self._changed()

    def _changed(self) -> None:
        self.degree.setEnabled(self.level.isChecked())
        self.strength.setEnabled(self.denoiser.currentText() != "off")
        self.valueChanged.emit()
