"""Panels around beads: how the PSF is to be measured, and the PSF that came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from .optics_fields import folded, number
from .psf_views import PsfViews

BY_ITSELF = "auto"


@dataclass(frozen=True)
class Measurement:
    """How a PSF is measured on beads; sizes in um, 0 and None for "by itself"."""

    bead_diameter_um: float = 0.0
    radial_average: bool = False
    box_um: tuple[float, float] | None = None

    def box(self, ndim: int) -> tuple[float, ...] | None:
        """Return the box around a bead, (z, y, x) or (y, x), None where it is chosen by itself."""
        if self.box_um is None:
            return None
        axial, lateral = self.box_um
        return (axial, lateral, lateral)[-ndim:]


class MeasurementPanel(QWidget):
    """Edits `Measurement`."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.diameter = number(0, 10, 3, "Diameter of a bead; 0 leaves its size in the PSF")
        self.diameter.setSpecialValueText("ignore")
        self.radial = QCheckBox("average around the optical axis")
        self.radial.setToolTip("Less noise; wrong where the PSF is not round")
        self.axial = number(0, 100, 2, "Height of the box around a bead")
        self.lateral = number(0, 100, 2, "Width of the box around a bead")
        sizes = QHBoxLayout()
        for field in (self.axial, self.lateral):
            field.setSpecialValueText(BY_ITSELF)
            sizes.addWidget(field)
        page = QWidget()
        more = QFormLayout(page)
        more.setContentsMargins(0, 0, 0, 0)
        more.addRow("Box z, xy um", sizes)
        more.addRow(self.radial)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Bead diameter um", self.diameter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(folded("More", page))
        for field in (self.diameter, self.axial, self.lateral):
            field.valueChanged.connect(self.valueChanged)
        self.radial.toggled.connect(self.valueChanged)

    def value(self) -> Measurement:
        """Return the settings; a box counts where both of its sizes are given."""
        box = (self.axial.value(), self.lateral.value())
        return Measurement(
            self.diameter.value(), self.radial.isChecked(), box if all(box) else None
        )

    def setValue(self, value: Measurement) -> None:
        """Show `value`."""
        self.diameter.setValue(value.bead_diameter_um)
        self.radial.setChecked(value.radial_average)
        for field, size in zip((self.axial, self.lateral), value.box_um or (0, 0), strict=True):
            field.setValue(size)


class MeasuredPanel(QWidget):
    """Shows a measured PSF, and asks for what comes of it."""

    makeAsked = Signal()
    useAsked = Signal()
    fitAsked = Signal()
    tableAsked = Signal(str, bool)
    pictureAsked = Signal(str, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.views, self.widths, self.notes = PsfViews(), QLabel(), QLabel()
        self.make_button = _button("Make layer", "Show the PSF as a layer, with its voxel size")
        self.use_button = _button(
            "Use for deconvolution", "Make the layer, and let the dock Deconvolve use it"
        )
        self.fit_button = _button("Fit optics...", "Find the optics that explain this PSF")
        self.table_button = _button("Export table...", "Write a row for each bead as CSV")
        self.picture_button = _button("Export picture...", "Write the PSF and its beads as PNG")
        self.make_button.clicked.connect(self.makeAsked)
        self.use_button.clicked.connect(self.useAsked)
        self.fit_button.clicked.connect(self.fitAsked)
        self.table_button.clicked.connect(self._ask_table)
        self.picture_button.clicked.connect(self._ask_picture)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.views)
        for label in (self.widths, self.notes):
            label.setWordWrap(True)
            layout.addWidget(label)
        # Not in the layout: they stay in sight while the rest scrolls.
        self.buttons = QWidget()
        buttons = QGridLayout(self.buttons)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.make_button, 0, 0, 1, 2)
        buttons.addWidget(self.use_button, 0, 2, 1, 4)
        for place, button in enumerate((self.fit_button, self.table_button, self.picture_button)):
            buttons.addWidget(button, 1, 2 * place, 1, 2)

    def _ask_table(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export table", "beads.csv", "Table (*.csv)")
        if path:
            self.tableAsked.emit(*_whole_name(path, ".csv"))

    def _ask_picture(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export picture", "beads.png", "PNG (*.png)")
        if path:
            self.pictureAsked.emit(*_whole_name(path, ".png"))


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _whole_name(path: str, suffix: str) -> tuple[str, bool]:
    """Return a name with its ending, and whether it is the one that the dialog asked about.

    Examples
    --------
    >>> _whole_name("beads", ".csv"), _whole_name("beads.txt", ".csv")
    (('beads.csv', False), ('beads.txt', True))
    """
    whole = "." in Path(path).name
    return (path if whole else path + suffix), whole
