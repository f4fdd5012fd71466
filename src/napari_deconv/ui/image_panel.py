"""Panel for the image: which layer, which of its axes are spatial, how large a voxel is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QHBoxLayout, QLabel, QWidget

from napari_deconv.imaging.grid import Grid

from .choices import LayerBox
from .optics_fields import show_number
from .watching import Watched


@dataclass(frozen=True)
class ImageChoice:
    """A layer by name, its axes, and the voxel size, None where unknown."""

    name: str
    axes: str
    grid: Grid | None


class ImagePanel(QWidget):
    """Edits `ImageChoice`; `layerChosen` asks for the layer's axes and voxel size.

    Without a name it asks for the voxel size of the layer that is chosen, which `watched` follows.
    """

    valueChanged = Signal()
    layerChosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layer = LayerBox("The image to restore")
        self.axes = QComboBox()
        self.axes.setToolTip("The layer's axes in order; each T and C is restored by itself")
        self.steps = [_step(axis) for axis in "zyx"]
        self._shape: tuple[int, ...] = ()
        #: Distances in z, y and x in micrometres, with more digits than the fields show.
        self._spacing_um = [0.0, 0.0, 0.0]
        self.is_typed = False
        self.origin = QLabel()
        self.origin.setWordWrap(True)
        row = QHBoxLayout()
        for step in self.steps:
            row.addWidget(step)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Image", self.layer)
        form.addRow("Axes", self.axes)
        form.addRow("Voxel um", row)
        form.addRow(self.origin)
        self.layer.currentTextChanged.connect(self.layerChosen)
        self.axes.currentTextChanged.connect(self._axes_changed)
        self.watched = Watched(self)
        self.watched.changed.connect(self._scale_changed)
        for index, step in enumerate(self.steps):
            step.valueChanged.connect(partial(self._typed, index))

    def value(self) -> ImageChoice:
        """Return what is chosen."""
        axes = self.axes.currentText()
        steps = self._spacing_um[0 if "Z" in axes else 1 :]
        grid = Grid(spacing_um=tuple(steps)) if all(steps) else None
        return ImageChoice(self.layer.currentText(), axes, grid)

    def setValue(self, value: ImageChoice) -> None:
        """Show `value`; its layer and axes must be among those offered."""
        self.layer.setCurrentText(value.name)
        self.axes.setCurrentText(value.axes)
        self.show_grid(value.grid)

    def show_layer(self, shape: tuple[int, ...], choices: list[str], axes: str) -> None:
        """Offer the axes that a layer of this shape may have."""
        self.axes.blockSignals(True)
        self.axes.clear()
        self.axes.addItems(choices)
        self.axes.setCurrentText(axes)
        self.axes.blockSignals(False)
        self._shape = shape

    def show_nothing(
        self, shape: tuple[int, ...] = (), why: str = "Open an image to begin."
    ) -> None:
        """Show that no layer, or one of this shape, can be taken, and why."""
        self.show_layer(shape, [], "")
        self.show_grid(None)
        self.origin.setText(f"<i>{why}</i>")

    def show_grid(
        self, grid: Grid | None, origin: str = "from the layer", *, why_unknown: str = ""
    ) -> None:
        """Show a voxel size and where it comes from, or that there is none, and why."""
        spacing = (0.0, 0.0, 0.0) if grid is None else (0.0, *grid.spacing_um)[-3:]
        self._spacing_um, self.is_typed = list(spacing), False
        for step, size in zip(self.steps, spacing, strict=True):
            step.blockSignals(True)
            show_number(step, size)
            step.blockSignals(False)
        self.steps[0].setVisible("Z" in self.axes.currentText())
        unknown = "<b>voxel size unknown: please enter it</b>"
        unknown += f"; {why_unknown}" if why_unknown else ""
        self._say(f"voxel size {origin}" if grid else unknown)
        self.valueChanged.emit()

    def _scale_changed(self) -> None:
        """Ask for the voxel size that the layer has now, unless the user said another one."""
        if not self.is_typed:
            self.layerChosen.emit("")

    def _axes_changed(self) -> None:
        self.layerChosen.emit("")
        self.steps[0].setVisible("Z" in self.axes.currentText())
        self.valueChanged.emit()

    def _typed(self, index: int, value: float) -> None:
        self._spacing_um[index], self.is_typed = value, True
        self._say("voxel size as entered")
        self.valueChanged.emit()

    def _say(self, what: str) -> None:
        shape = " x ".join(map(str, self._shape))
        self.origin.setText(f"<i>{shape}; {what}</i>")


def _step(axis: str) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(4)
    field.setRange(0, 1000)
    field.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
    field.setSingleStep(0.01)
    field.setMinimumWidth(60)
    field.setSpecialValueText("?")
    field.setToolTip(f"Distance between voxels in {axis}, micrometres")
    return field
