"""Panel for a training: what a count is, how long to learn, and the model's file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.imaging.camera import Camera
from napari_deconv.library import SUFFIX

from .choices import NARROW
from .model_field import CAUTIOUS, MIRRORED, ModelField
from .optics_fields import folded, show_number
from .source_panel import SourceChoice, SourcePanel

#: The presets as the dock offers them, with what they are for.
PRESETS = {
    "quick": "for a first look, minutes",
    "standard": "for results, longer than a coffee",
    "thorough": "over night",
}

#: Decimals that a number of the camera is kept to, and digits of it that are shown.
DECIMALS, DIGITS = 12, 4

#: The networks as the dock offers them, and what `learning.train` calls them.
NETWORKS = {
    "Inverse + U-Net": "inverse",
    "CARE U-Net": "care",
    "Wiener-Kolmogorov (WF-K)": "wiener",
    "Wiener, predicted (WF-KPN)": "wiener-kpn",
    "Wiener, unrolled (WF-UNet)": "wiener-unet",
    "Unrolled Richardson-Lucy": "unrolled-rl",
}


@dataclass(frozen=True)
class LearnChoice:
    """What is chosen for a training.

    Parameters
    ----------
    preset : str
        How long.
    camera : Camera or None
        As it was typed; None where it is estimated from the stack's noise.
    path : str
        File of the model.
    network : str
        Which, as `learning.train` calls it.
    source : SourceChoice
        What it learns from.
    is_sure : bool
        Whether a restoration tells how sure it is as well.
    mirrored : bool
        Whether a restoration averages the answers to mirrored images.
    shows_apart : bool
        Whether a restoration tells how far several answers lie apart.
    cautious : bool
        Whether it leans on Richardson-Lucy where the network misses the data.
    """

    preset: str = "quick"
    camera: Camera | None = None
    path: str = ""
    network: str = "inverse"
    source: SourceChoice = SourceChoice()  # noqa: RUF009 - a frozen value
    is_sure: bool = True
    mirrored: bool = False
    shows_apart: bool = False
    cautious: bool = True


class LearnPanel(QWidget):
    """Edits a `LearnChoice`; `modelChosen(path)` tells of a file that was there already."""

    valueChanged = Signal()
    modelChosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.preset = QComboBox()
        self.preset.addItems(list(PRESETS))
        self.preset.setSizeAdjustPolicy(NARROW)
        self.preset.setToolTip("; ".join(f"{name}: {what}" for name, what in PRESETS.items()))
        self.network = QComboBox()
        self.network.addItems(list(NETWORKS))
        self.network.setSizeAdjustPolicy(NARROW)
        self.network.setToolTip(
            "Inverse + U-Net: the blur is undone by Richardson-Lucy first, and the network cleans "
            "up; expected to do best. CARE: the network sees the image alone. Wiener-Kolmogorov "
            "and the unrolled ones hold the blur themselves, and take another PSF without another "
            "training"
        )
        self.source = SourcePanel()
        self.is_sure = QCheckBox("90 % interval")
        self.is_sure.setChecked(True)
        self.is_sure.setToolTip(
            "A layer with half the width of the interval that holds the truth in nine of ten "
            "voxels; it takes the network once more"
        )
        self.mirrored = QCheckBox("mirrored answers")
        self.mirrored.setToolTip(MIRRORED)
        self.shows_apart = QCheckBox("disagreement")
        self.shows_apart.setToolTip(
            "A layer with how far the answers lie apart: of the members of a model, or mirrored "
            "ones; it takes the network once more"
        )
        self.cautious = QCheckBox("cautious")
        self.cautious.setChecked(True)
        self.cautious.setToolTip(CAUTIOUS)
        self.model = ModelField()
        self.path = self.model.path
        self.path.setPlaceholderText(f"my_psf{SUFFIX}")
        self.path.setToolTip("Where the trained network is kept, with its card, as one file")
        self.new_button = QPushButton("New...")
        self.new_button.setToolTip("Choose where the network that is trained is kept")
        self.model.row.insertWidget(1, self.new_button)
        self.told = QLabel()
        self.told.setWordWrap(True)
        self._lay_out()
        self.preset.currentIndexChanged.connect(self.valueChanged)
        self.network.currentIndexChanged.connect(self.valueChanged)
        self.model.valueChanged.connect(self.valueChanged)
        self.model.chosen.connect(self.modelChosen)
        self.new_button.clicked.connect(self._ask_new)
        self.automatic.toggled.connect(self._switched)
        for field in (self.gain, self.offset, self.read_noise, self.source):
            field.valueChanged.connect(self.valueChanged)
        for box in self._boxes:
            box.toggled.connect(self.valueChanged)
        self._switched(True)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Network", self.network)
        form.addRow("Training", self.preset)
        form.addRow("Model", self.model)
        beside = QGridLayout()
        for number, box in enumerate(self._boxes):
            beside.addWidget(box, *divmod(number, 2))
        form.addRow("Restore", beside)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.told)
        layout.addWidget(folded("Camera", self._camera_page()))
        layout.addWidget(folded("Learns from", self.source))
        layout.addLayout(form)

    @property
    def _boxes(self) -> tuple[QCheckBox, ...]:
        """What may be asked of a restoration."""
        return (self.cautious, self.is_sure, self.mirrored, self.shows_apart)

    def _camera_page(self) -> QWidget:
        self.automatic = QCheckBox("from the noise of the stack")
        self.automatic.setChecked(True)
        # An image of fractions has small ones: of 16 bits told as 0 to 1, a count is 0.000015.
        self.gain = _field(1.0, 1e-9, 1e4, " counts a photon")
        self.offset = _field(100.0, -1e5, 1e5, " counts")
        self.read_noise = _field(1.0, 0.0, 1e3, " photons")
        page = QWidget()
        form = QFormLayout(page)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Estimated", self.automatic)
        form.addRow("Gain", self.gain)
        form.addRow("Offset", self.offset)
        form.addRow("Read noise", self.read_noise)
        return page

    def value(self) -> LearnChoice:
        """Return what is chosen."""
        camera = None
        if not self.automatic.isChecked():
            camera = Camera(self.gain.value(), self.offset.value(), self.read_noise.value())
        return LearnChoice(
            self.preset.currentText(),
            camera,
            self.model.value(),
            NETWORKS[self.network.currentText()],
            self.source.value(),
            self.is_sure.isChecked(),
            self.mirrored.isChecked(),
            self.shows_apart.isChecked(),
            self.cautious.isChecked(),
        )

    def setValue(self, value: LearnChoice) -> None:
        """Show what is chosen."""
        self.blockSignals(True)
        self.preset.setCurrentText(value.preset)
        self.automatic.setChecked(value.camera is None)
        if value.camera is not None:
            self._show(value.camera)
        self.path.setText(value.path)
        names = {called: name for name, called in NETWORKS.items()}
        self.network.setCurrentText(names[value.network])
        self.source.setValue(value.source)
        self.is_sure.setChecked(value.is_sure)
        self.mirrored.setChecked(value.mirrored)
        self.shows_apart.setChecked(value.shows_apart)
        self.cautious.setChecked(value.cautious)
        self.blockSignals(False)
        self.valueChanged.emit()

    def show_camera(self, camera: Camera | None) -> None:
        """Show what was estimated, to begin from where one's own is typed."""
        if self.automatic.isChecked() and camera is not None:
            self.blockSignals(True)
            self._show(camera)
            self.blockSignals(False)

    def _show(self, camera: Camera) -> None:
        show_number(self.gain, camera.gain)
        show_number(self.offset, camera.offset)
        show_number(self.read_noise, camera.read_noise)

    def _switched(self, automatic: bool) -> None:
        for field in (self.gain, self.offset, self.read_noise):
            field.setEnabled(not automatic)
        self.valueChanged.emit()

    def _ask_new(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "File of the new model", f"my_psf{SUFFIX}", f"Models (*{SUFFIX})"
        )
        if path:
            self.path.setText(path if path.lower().endswith(SUFFIX) else path + SUFFIX)
            self.valueChanged.emit()


class _DigitsBox(QDoubleSpinBox):
    """A number of which the leading digits count, however small it is."""

    def __init__(self) -> None:
        super().__init__()
        self.setDecimals(DECIMALS)
        self.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.setKeyboardTracking(False)

    def textFromValue(self, value: float) -> str:
        return np.format_float_positional(value, DIGITS, fractional=False, trim="-")


def _field(value: float, least: float, most: float, unit: str) -> _DigitsBox:
    field = _DigitsBox()
    field.setRange(least, most)
    field.setValue(value)
    field.setSuffix(unit)
    return field
