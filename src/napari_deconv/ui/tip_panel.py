"""Panel for a tip: its shape by sliders, a layer, a file, or how it is estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.afm.blind_tip import BlindTip
from napari_deconv.afm.gradient_tip import GradientTip
from napari_deconv.afm.tips import (
    Delta,
    EllipticParaboloid,
    Paraboloid,
    SphereCone,
    SpherePyramid,
)
from napari_deconv.imaging.value import require
from napari_deconv.surfaces import AnyTip, TipFile

from .choices import NARROW, offer
from .file_field import FileField
from .optics_fields import number, show_number, slider

#: As the dock offers them; the last ones have no sliders.
CONE, PARABOLOID, PYRAMID = "cone with sphere", "paraboloid", "pyramid with sphere"
ELLIPTIC, DELTA = "elliptic paraboloid", "delta (no width)"
BLIND, GRADIENT = "estimated, Villarrubia", "estimated, differentiable"
LAYER, FILE = "from a layer", "from a file"
KINDS = (CONE, PARABOLOID, ELLIPTIC, PYRAMID, DELTA, BLIND, GRADIENT, LAYER, FILE)
#: Which rows of sliders a shape has.
ROWS = {
    CONE: ("radius", "angle"),
    PARABOLOID: ("radius",),
    ELLIPTIC: ("radius", "second", "rotation"),
    PYRAMID: ("radius", "angle", "sides", "rotation"),
}


@dataclass(frozen=True)
class TipLayer:
    """The wish to take the tip from the layer of this name."""

    name: str


class TipPanel(QWidget):
    """Edits an `AnyTip` or a `TipLayer`; `estimateAsked` wants it estimated now."""

    valueChanged = Signal()
    estimateAsked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = QComboBox()
        self.kind.addItems(KINDS)
        self.kind.setSizeAdjustPolicy(NARROW)
        self.kind.setToolTip("What the tip is: a shape that you tune, measured, or estimated")
        self.radius = slider(0, 100, 1, "Radius of the apex, nm")
        self.second = slider(0.1, 200, 1, "Radius across the first one, nm")
        self.angle = slider(1, 80, 1, "Half angle, from the axis to the side, degrees")
        self.rotation = slider(0, 360, 0, "Turn from x towards y, degrees")
        self.sides = QSpinBox()
        self.sides.setRange(3, 12)
        self.sides.setToolTip("Sides of the pyramid")
        self.layer = QComboBox()
        self.layer.setSizeAdjustPolicy(NARROW)
        self.layer.setToolTip("A layer with heights of the tip, reflected through its apex")
        self.file = FileField("Tip", "Tips (*.tif *.tiff *.gwy)", "tip.ome.tif or tip.gwy")
        self.path = self.file.path
        self._estimation_fields()
        self._lay_out()
        self._connect()
        self.setValue(SphereCone())

    def _estimation_fields(self) -> None:
        self.rows, self.columns = QSpinBox(), QSpinBox()
        for box, axis in ((self.rows, "y"), (self.columns, "x")):
            box.setRange(3, 101)
            box.setSingleStep(2)
            box.setValue(15)
            box.setToolTip(f"Pixels of the tip along {axis}; it takes longer with more")
        self.by = QComboBox()
        self.by.addItems(["full", "partial"])
        self.by.setToolTip("full: all of the image tells of the tip; partial: its peaks, faster")
        self.threshold = number(
            0, 1e4, 3, "Heights that noise may explain, nm; 0: chosen by itself"
        )
        self.threshold.setSpecialValueText("chosen by itself")
        self.symmetric = QCheckBox("the same when turned by half a turn")
        self.estimate_button = QPushButton("Estimate the tip")
        self.estimate_button.setToolTip("Estimate it now, and show it as a layer")

    def _lay_out(self) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.sliders: dict[str, Any] = {
            "radius": self.radius,
            "second": self.second,
            "angle": self.angle,
            "sides": self.sides,
            "rotation": self.rotation,
        }
        names = ("Radius nm", "Second radius", "Half angle", "Sides", "Rotation")
        for name, field in zip(names, self.sliders.values(), strict=True):
            self.form.addRow(name, field)
        sides = QHBoxLayout()
        for box in (self.rows, self.columns):
            sides.addWidget(box)
        self.form.addRow("Pixels y, x", sides)
        self.form.addRow("Points", self.by)
        self.form.addRow("Threshold", self.threshold)
        self.form.addRow(self.symmetric)
        self.form.addRow(self.estimate_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        top = QFormLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addRow("Tip", self.kind)
        layout.addLayout(top)
        layout.addLayout(self.form)
        layout.addWidget(self.layer)
        layout.addWidget(self.file)
        self._sides = sides

    def _connect(self) -> None:
        self.kind.currentTextChanged.connect(self._kind_changed)
        for field in self.sliders.values():
            field.valueChanged.connect(self.valueChanged)
        for box in (self.rows, self.columns, self.threshold):
            box.valueChanged.connect(self.valueChanged)
        self.by.currentTextChanged.connect(self.valueChanged)
        self.symmetric.toggled.connect(self.valueChanged)
        self.layer.currentTextChanged.connect(self.valueChanged)
        self.file.valueChanged.connect(self.valueChanged)
        self.estimate_button.clicked.connect(self.estimateAsked)

    # -- the value ------------------------------------------------------------------------

    def value(self) -> AnyTip | TipLayer:
        """Return what is chosen; `InputError` where it is not usable."""
        kind = self.kind.currentText()
        radius, angle = self.radius.value(), self.angle.value()
        if kind == CONE:
            return SphereCone(radius, angle)
        if kind == PARABOLOID:
            return Paraboloid(radius)
        if kind == ELLIPTIC:
            return EllipticParaboloid(radius, self.second.value(), self.rotation.value())
        if kind == PYRAMID:
            return SpherePyramid(radius, angle, self.sides.value(), self.rotation.value())
        if kind == DELTA:
            return Delta()
        shape = (self.rows.value(), self.columns.value())
        if kind == BLIND:
            threshold = self.threshold.value() or None
            return BlindTip(shape, self.by.currentText(), threshold)  # type: ignore[arg-type]
        if kind == GRADIENT:
            return GradientTip(shape, symmetric=self.symmetric.isChecked())
        if kind == LAYER:
            require(self.layer.count() > 0, "No layer holds a tip; estimate one, or open a file")
            return TipLayer(self.layer.currentText())
        path = self.path.text().strip()
        require(bool(path), "Choose the file of the tip")
        return TipFile(path)

    def setValue(self, value: AnyTip | TipLayer) -> None:
        """Show `value`."""
        self.blockSignals(True)
        kinds: dict[type, str] = {
            SphereCone: CONE,
            Paraboloid: PARABOLOID,
            EllipticParaboloid: ELLIPTIC,
            SpherePyramid: PYRAMID,
            Delta: DELTA,
            BlindTip: BLIND,
            GradientTip: GRADIENT,
            TipLayer: LAYER,
            TipFile: FILE,
        }
        self.kind.setCurrentText(kinds[type(value)])
        fields = {
            "radius_nm": self.radius,
            "second_radius_nm": self.second,
            "half_angle_deg": self.angle,
            "sides": self.sides,
            "rotation_deg": self.rotation,
        }
        for name, field in fields.items():
            if hasattr(value, name):
                show_number(field, getattr(value, name))
        if isinstance(value, BlindTip | GradientTip):
            self.rows.setValue(value.shape[0])
            self.columns.setValue(value.shape[1])
        if isinstance(value, BlindTip):
            self.by.setCurrentText(value.by)
            self.threshold.setValue(value.threshold_nm or 0.0)
        if isinstance(value, GradientTip):
            self.symmetric.setChecked(value.symmetric)
        if isinstance(value, TipLayer):
            self.layer.setCurrentText(value.name)
        if isinstance(value, TipFile):
            self.path.setText(value.path)
        self.blockSignals(False)
        self._kind_changed(self.kind.currentText())

    def set_layers(self, names: list[str]) -> None:
        """Offer these layers; a tip from a layer that is gone gives way to the first."""
        if not offer(self.layer, names) and self.kind.currentText() == LAYER:
            self.valueChanged.emit()

    def _kind_changed(self, kind: str) -> None:
        shown = ROWS.get(kind, ())
        for name, field in self.sliders.items():
            self.form.setRowVisible(field, name in shown)
        estimated = kind in (BLIND, GRADIENT)
        self.form.setRowVisible(self._sides, estimated)
        self.form.setRowVisible(self.by, kind == BLIND)
        self.form.setRowVisible(self.threshold, kind == BLIND)
        self.form.setRowVisible(self.symmetric, kind == GRADIENT)
        self.form.setRowVisible(self.estimate_button, estimated)
        self.layer.setVisible(kind == LAYER)
        self.file.setVisible(kind == FILE)
        self.valueChanged.emit()
