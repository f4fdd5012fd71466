"""Panel for the PSF: computed from optics, taken from a layer, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.files.recipe import PsfFile
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import InputError, require

from .choices import NARROW, offer

IMMERSIONS = {"air 1.000": 1.0, "water 1.333": 1.333, "glycerol 1.460": 1.46, "oil 1.515": 1.515}
#: What the fields show before anything is known: a common water objective, marked as assumed.
ASSUMED = Optics(na=1.2, emission_nm=520, immersion_index=1.333, sample_index=1.333)


@dataclass(frozen=True)
class PsfLayer:
    """The wish to take the PSF from the layer of this name."""

    name: str


Source = Optics | PsfFile | PsfLayer


class PsfPanel(QWidget):
    """Edits where the PSF comes from."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = QComboBox()
        self.source.addItems(["computed from optics", "from a layer", "from a file"])
        self.source.setToolTip("Where the point spread function (PSF) comes from")
        self.source.setSizeAdjustPolicy(NARROW)
        self.pages = QStackedWidget()
        self.layer = QComboBox()
        self.layer.setToolTip("An image layer with one bead; centred and resampled by itself")
        self.layer.setSizeAdjustPolicy(NARROW)
        self.path = QLineEdit()
        # What the fields came from: they show only a part of it.
        self._shown: Optics = ASSUMED
        self._file: PsfFile | None = None
        self.path.setPlaceholderText("bead.ome.tif")
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        for page in (self._optics_page(), self._layer_page(), self._file_page()):
            self.pages.addWidget(page)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.source)
        layout.addWidget(self.pages)
        layout.addWidget(self.summary)
        self.source.currentIndexChanged.connect(self._page_changed)
        self.layer.currentIndexChanged.connect(self._changed)
        self.path.editingFinished.connect(self._changed)
        self._page_changed(0)

    def _optics_page(self) -> QWidget:
        self.na = _number(0.05, 1.7, 0.01, 3, "Numerical aperture of the objective")
        self.emission_nm = _number(300, 1200, 1, 0, "Wavelength of the detected light")
        self.emission_nm.setSuffix(" nm")
        self.immersion = QComboBox()
        self.immersion.setEditable(True)
        self.immersion.addItems(list(IMMERSIONS))
        self.immersion.setToolTip("Refractive index of the immersion medium; type another one")
        self.sample_index = _number(1.0, 2.0, 0.001, 3, "Refractive index of the sample's medium")
        self.depth_um = _number(0, 500, 0.5, 1, "Depth of the object below the coverslip")
        self.depth_um.setSuffix(" um")
        self.origin = QLabel()
        self.origin.setWordWrap(True)
        page = QWidget()
        form = QFormLayout(page)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("NA", self.na)
        form.addRow("Emission", self.emission_nm)
        form.addRow("Immersion", self.immersion)
        form.addRow("Sample index", self.sample_index)
        form.addRow("Depth", self.depth_um)
        form.addRow(self.origin)
        self._show_optics(ASSUMED, frozenset())
        for field in (self.na, self.emission_nm, self.sample_index, self.depth_um):
            field.valueChanged.connect(self._typed)
        self.immersion.currentTextChanged.connect(self._typed)
        return page

    def _layer_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.layer)
        layout.addStretch()
        return page

    def _file_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        browse = QPushButton("Browse...")
        browse.clicked.connect(self._browse)
        row.addWidget(self.path)
        row.addWidget(browse)
        layout.addLayout(row)
        layout.addStretch()
        return page

    def value(self) -> Source:
        """Return what is chosen; `InputError` where it is not usable."""
        index = self.source.currentIndex()
        if index == 0:
            return self._optics()
        if index == 1:
            require(self.layer.count() > 0, "No layer holds a PSF; open the image of a bead")
            return PsfLayer(self.layer.currentText())
        path = self.path.text().strip()
        require(bool(path), "Choose the file of the PSF")
        # The file's digest is left to the run: reading a large file takes time.
        return self._file if self._file and self._file.path == path else PsfFile(path)

    def setValue(self, value: Source) -> None:
        """Show `value`."""
        if isinstance(value, Optics):
            self._show_optics(value, frozenset())
            self.origin.setText("")
            self.source.setCurrentIndex(0)
        elif isinstance(value, PsfLayer):
            self.layer.setCurrentText(value.name)
            self.source.setCurrentIndex(1)
        else:
            self._file = value
            self.path.setText(value.path)
            self.source.setCurrentIndex(2)
        self.valueChanged.emit()

    def show_known(self, known: KnownOptics | None) -> None:
        """Fill in what the image's file says of its optics, and say so; the rest stays."""
        fields = known.to_dict() if known else {}
        told = {k: v for k, v in fields.items() if v is not None and k != "kind"}
        if not told:
            return
        try:
            self._show_optics(replace(self._optics(), **told), frozenset(told))
        except InputError:
            # The file's values do not go with what was typed before: begin anew from them.
            self._show_optics(_around(told), frozenset(told))
        self.valueChanged.emit()

    def set_layers(self, names: list[str]) -> None:
        """Offer these layers."""
        offer(self.layer, names)

    def _optics(self) -> Optics:
        text = self.immersion.currentText()
        try:
            index = IMMERSIONS.get(text) or float(text.split()[-1])
        except (ValueError, IndexError):
            raise InputError(
                f"The immersion {text!r} is no refractive index; give one such as 1.515"
            ) from None
        return replace(
            self._shown,
            na=self.na.value(),
            emission_nm=self.emission_nm.value(),
            immersion_index=index,
            sample_index=self.sample_index.value(),
            depth_um=self.depth_um.value(),
        )

    def _show_optics(self, optics: Optics, told: frozenset[str]) -> None:
        self._shown = optics
        fields = (self.na, self.emission_nm, self.immersion, self.sample_index, self.depth_um)
        for field in fields:
            field.blockSignals(True)
        self.na.setValue(optics.na)
        self.emission_nm.setValue(optics.emission_nm)
        named = {index: name for name, index in IMMERSIONS.items()}
        index = optics.immersion_index
        self.immersion.setCurrentText(named.get(index, f"{index:.3f}"))
        self.sample_index.setValue(optics.medium_index)
        self.depth_um.setValue(optics.depth_um)
        for field in fields:
            field.blockSignals(False)
        names = {"na": "NA", "emission_nm": "emission", "immersion_index": "immersion"}
        found = [label for name, label in names.items() if name in told]
        assumed = [label for name, label in names.items() if name not in told]
        parts = [f"from the file: {', '.join(found)}"] if found else []
        parts.append(f"assumed: {', '.join([*assumed, 'sample index', 'depth'])}")
        self.origin.setText("<i>" + "; ".join(parts) + "</i>")

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Image of the PSF", "", "Images (*.tif *.tiff)")
        if path:
            self.path.setText(path)
            self._changed()

    def _page_changed(self, index: int) -> None:
        self.pages.setCurrentIndex(index)
        # A stack of pages is as tall as its tallest one; only the visible one should count.
        for number in range(self.pages.count()):
            page = self.pages.widget(number)
            if page is not None:
                page.setVisible(number == index)
        current = self.pages.currentWidget()
        if current is not None:
            self.pages.setMaximumHeight(current.sizeHint().height())
        self.valueChanged.emit()

    def _typed(self) -> None:
        self.origin.setText("")
        self._changed()

    def _changed(self) -> None:
        self.valueChanged.emit()


def _around(told: dict[str, float]) -> Optics:
    """Return optics with the values a file told, an immersion that allows its NA where needed."""
    for index in (ASSUMED.immersion_index, *sorted(IMMERSIONS.values()), 2.0):
        try:
            return replace(ASSUMED, **({"immersion_index": index} | told))  # type: ignore[arg-type]
        except InputError:
            continue
    return ASSUMED


def _number(low: float, high: float, step: float, decimals: int, tip: str) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(decimals)
    field.setRange(low, high)
    field.setSingleStep(step)
    field.setToolTip(tip)
    return field
