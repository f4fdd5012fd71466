"""Panel for the method: which, how strongly, when to stop; background and engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider, QLabeledSlider

from napari_deconv.engines import ENGINES
from napari_deconv.files.recipe import Method, TrainedModel
from napari_deconv.imaging.value import require
from napari_deconv.library import resolve
from napari_deconv.restoration.blur import EDGES
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

from .choices import NARROW
from .model_field import CAUTIOUS, MIRRORED, ModelField
from .optics_fields import folded

WIENER, NETWORK = "Wiener", "Trained network"
#: The methods as the dock names them, and how those of Richardson-Lucy are accelerated.
METHODS: dict[str, str | None] = {
    "Richardson-Lucy (accelerated)": "nu-method",
    "Richardson-Lucy (heavy ball)": "heavy-ball",
    "Richardson-Lucy (Biggs-Andrews)": "biggs-andrews",
    "Richardson-Lucy (unmatched)": "wiener-butterworth",
    "Richardson-Lucy (OMW)": "otf-masked-wiener",
    "Richardson-Lucy (plain)": "none",
    WIENER: None,
    NETWORK: None,
}


@dataclass(frozen=True)
class Settings:
    """All of a recipe but its PSF."""

    method: Method = RichardsonLucy.automatic()  # noqa: RUF009 - frozen
    background: float | Literal["auto"] = "auto"
    engine: str = "auto"


class MethodPanel(QWidget):
    """Edits `Settings`."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make_fields()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Method", self.method)
        form.addRow("Iterations", self.iterations)
        form.addRow("", self.automatic_stop)
        form.addRow("Smoothing", self.smoothing)
        form.addRow("Regularize", self.regularization)
        form.addRow("", self.automatic_regularization)
        form.addRow("Model", self.model)
        form.addRow("", self.cautious)
        form.addRow("", self.mirrored)
        form.addRow("Background", self._background_row())
        self._form = form
        # At which change of the likelihood a recipe stops, which the dock does not offer.
        self._tolerance = 0.0
        self._loaded: tuple[Method | None, Method] = (None, Settings().method)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(folded("More", self._more_page()))
        self.setValue(Settings())
        self._connect()

    def _make_fields(self) -> None:
        self.method = QComboBox()
        self.method.addItems(list(METHODS))
        self.method.setSizeAdjustPolicy(NARROW)
        self.method.setToolTip("How the blur is undone")
        self.iterations = QLabeledSlider(Qt.Orientation.Horizontal)
        self.iterations.setRange(1, 200)
        self.iterations.setToolTip("Strength: more iterations sharpen more, and amplify noise")
        self.automatic_stop = QCheckBox("stop earlier by itself")
        self.automatic_stop.setToolTip(
            "It is tried out before, on a copy of the image whose object is known, after how many "
            "iterations the result is nearest to the object; then so many are run"
        )
        self.smoothing = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.smoothing.setRange(0, 0.02)
        self.smoothing.setDecimals(4)
        self.smoothing.setToolTip("Weight of the total variation: flattens noise, keeps edges")
        self.regularization = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.regularization.setRange(-6, 0)
        self.regularization.setDecimals(2)
        self.regularization.setToolTip("Power of ten of the noise to signal ratio; higher smooths")
        self.automatic_regularization = QCheckBox("from the noise estimate")
        self.model = ModelField()
        self.model.path.setPlaceholderText("widefield_inverse")
        self.model.path.setToolTip("File of a trained network, or the name of one that you have")
        self.cautious = QCheckBox("cautious")
        self.cautious.setToolTip(CAUTIOUS)
        self.mirrored = QCheckBox("mirrored answers")
        self.mirrored.setToolTip(MIRRORED)
        self.automatic_background = QCheckBox("auto")
        self.automatic_background.setToolTip("Take the level of the dark part of the image")
        self.background = QDoubleSpinBox()
        self.background.setRange(0, 1e6)
        self.background.setDecimals(1)
        self.background.setToolTip("Counts that are there without light from the sample")
        self.edges = QComboBox()
        self.edges.addItems(list(EDGES))
        self.edges.setToolTip(
            "Whether light may come from beyond the image, from above and from below it at once "
            "(two-sided: for widefield stacks that end within the sample), or it repeats itself"
        )
        self.read_noise = QDoubleSpinBox()
        self.read_noise.setRange(0, 1000)
        self.read_noise.setToolTip("Standard deviation of the camera's noise, in photons")
        self.engine = QComboBox()
        self.engine.addItems(list(ENGINES))
        self.engine.setToolTip("Where to compute; auto takes a GPU where one works")

    def _background_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(self.automatic_background)
        row.addWidget(self.background, 1)
        return row

    def _more_page(self) -> QWidget:
        page = QWidget()
        form = QFormLayout(page)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Edges", self.edges)
        form.addRow("Read noise", self.read_noise)
        form.addRow("Engine", self.engine)
        return page

    def _connect(self) -> None:
        for box in (self.method, self.edges, self.engine):
            box.currentIndexChanged.connect(self._changed)
        for number in (
            self.iterations,
            self.smoothing,
            self.regularization,
            self.background,
            self.read_noise,
        ):
            number.valueChanged.connect(self._changed)
        for check in (
            self.automatic_stop,
            self.automatic_regularization,
            self.automatic_background,
            self.cautious,
            self.mirrored,
        ):
            check.toggled.connect(self._changed)
        self.model.valueChanged.connect(self._changed)

    def value(self) -> Settings:
        """Return the settings; `InputError` where they are not usable."""
        automatic = self.automatic_background.isChecked()
        level: float | Literal["auto"] = "auto" if automatic else self.background.value()
        method = self._method()
        # Of a recipe, while it is shown unchanged: some of it has no field here, or fewer digits.
        seen, loaded = self._loaded
        return Settings(loaded if method == seen else method, level, self.engine.currentText())

    def _method(self) -> Method:
        chosen, edges = self.method.currentText(), self.edges.currentText()
        if chosen == NETWORK:
            require(
                bool(self.model.value()),
                'Choose the network that restores: "Models..." shows those that you have',
            )
            path = str(resolve(self.model.value()).absolute())
            # Of a recipe, while that is the one chosen: it knows its content, and what it shows.
            known, model = self._loaded[1], TrainedModel(path)
            if isinstance(known, TrainedModel) and known.path == path:
                model = known
            return replace(
                model, mirrored=self.mirrored.isChecked(), cautious=self.cautious.isChecked()
            )
        if chosen == WIENER:
            automatic = self.automatic_regularization.isChecked()
            weight = float(f"{10 ** self.regularization.value():.3g}")
            return Wiener("auto" if automatic else weight, edges)  # type: ignore[arg-type]
        return RichardsonLucy(
            iterations=self.iterations.value(),
            acceleration=METHODS[chosen],  # type: ignore[arg-type]
            tv_weight=round(self.smoothing.value(), 4),
            edges=edges,  # type: ignore[arg-type]
            read_noise=self.read_noise.value(),
            stop_tolerance=self._tolerance if self.automatic_stop.isChecked() else 0.0,
            automatic_stop=self.automatic_stop.isChecked() and not self._tolerance,
        )

    def setValue(self, value: Settings) -> None:
        """Show `value`."""
        self.blockSignals(True)
        method = value.method
        if isinstance(method, RichardsonLucy):
            self._show_richardson_lucy(method)
        elif isinstance(method, Wiener):
            self.method.setCurrentText(WIENER)
            automatic = method.regularization == "auto"
            self.automatic_regularization.setChecked(automatic)
            weight = 1e-2 if method.regularization == "auto" else method.regularization
            self.regularization.setValue(math.log10(weight))
        else:
            self.method.setCurrentText(NETWORK)
            self.model.setValue(method.path)
            self.mirrored.setChecked(method.mirrored)
        self.cautious.setChecked(not isinstance(method, TrainedModel) or method.cautious)
        if not isinstance(method, TrainedModel):
            self.edges.setCurrentText(method.edges)
        self.automatic_background.setChecked(value.background == "auto")
        if value.background != "auto":
            self.background.setValue(value.background)
        self.engine.setCurrentText(value.engine)
        is_network = isinstance(method, TrainedModel)  # which says itself what it is
        self._loaded = (None if is_network else self._method(), method)
        self.blockSignals(False)
        self._changed()

    def _show_richardson_lucy(self, method: RichardsonLucy) -> None:
        names = {acceleration: name for name, acceleration in METHODS.items()}
        self.method.setCurrentText(names[method.acceleration])
        self.iterations.setMaximum(max(200, method.iterations))
        self.iterations.setValue(method.iterations)
        self._tolerance = method.stop_tolerance
        self.automatic_stop.setChecked(method.stop_tolerance > 0 or method.automatic_stop)
        self.smoothing.setMaximum(max(0.02, method.tv_weight))
        self.smoothing.setValue(method.tv_weight)
        self.read_noise.setValue(method.read_noise)
        self.regularization.setValue(-2)
        self.automatic_regularization.setChecked(True)

    def _changed(self) -> None:
        chosen = self.method.currentText()
        is_richardson_lucy = METHODS[chosen] is not None
        for field in (self.iterations, self.automatic_stop, self.smoothing):
            self._form.setRowVisible(field, is_richardson_lucy)
        for field in (self.regularization, self.automatic_regularization):
            self._form.setRowVisible(field, chosen == WIENER)
        for field in (self.model, self.cautious, self.mirrored):
            self._form.setRowVisible(field, chosen == NETWORK)
        self.regularization.setEnabled(not self.automatic_regularization.isChecked())
        self.background.setEnabled(not self.automatic_background.isChecked())
        self.read_noise.setEnabled(is_richardson_lucy)
        self.edges.setEnabled(chosen != NETWORK)
        self.valueChanged.emit()
