"""Panel for the voxel size of a PSF: that of a layer, or as entered."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QWidget

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.value import InputError

from .choices import LayerBox
from .optics_fields import Marked, number, show_number

#: Without any image: fine enough for most objectives.
ASSUMED = Grid(spacing_um=(0.2, 0.08, 0.08))


class VoxelPanel(QWidget):
    """Edits a `Grid`; `layerChosen` asks for that of a layer."""

    valueChanged = Signal()
    layerChosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layer = LayerBox("The image whose voxel size the PSF gets")
        self.row = Marked(self.layer)
        self.z = number(0, 1000, 4, "Distance between planes, micrometres")
        self.pixel = number(0, 1000, 4, "Distance between pixels in x and y, micrometres")
        self._oblong: Grid | None = None
        steps = QHBoxLayout()
        for step in (self.z, self.pixel):
            step.setSpecialValueText("?")
            steps.addWidget(step)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Voxels of", self.row)
        form.addRow("z, pixel um", steps)
        self.layer.currentTextChanged.connect(self.layerChosen)
        for step in (self.z, self.pixel):
            step.valueChanged.connect(self._typed)
        self.show_grid(ASSUMED, "assumed")

    def value(self) -> Grid:
        """Return the voxel size; `InputError` where it is not known."""
        if self._oblong is not None:
            return self._oblong
        pixel = self.pixel.value()
        steps = (pixel, pixel) if self.z.isHidden() else (self.z.value(), pixel, pixel)
        if not all(steps):
            raise InputError(
                "The voxel size is unknown: the layer has no unit of length. "
                "Enter it, in micrometres"
            )
        return Grid(spacing_um=steps)

    def setValue(self, value: Grid) -> None:
        """Show `value` as the user's own."""
        self.show_grid(value, "")

    def show_grid(self, grid: Grid | None, origin: str = "layer", ndim: int = 3) -> None:
        """Show a voxel size and where it comes from, or that there is none."""
        spacing = (0.0,) * ndim if grid is None else grid.spacing_um
        # Pixels that are no squares are kept until a step is typed.
        self._oblong = grid if spacing[-1] != spacing[-2] else None
        self.z.setVisible(len(spacing) == 3)
        for step, size in zip((self.z, self.pixel), (spacing[0], spacing[-1]), strict=True):
            step.blockSignals(True)
            show_number(step, size)
            step.blockSignals(False)
        self.row.mark(origin if grid else "")
        self.valueChanged.emit()

    def _typed(self) -> None:
        self._oblong = None
        self.row.mark("")
        self.valueChanged.emit()
