"""Panel for the PSF: computed from optics, taken from a layer, or read from a file."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.files.recipe import PsfFile
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.resolution import fwhm_um
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import require

from .choices import NARROW, offer
from .file_field import FileField
from .keeping import told
from .optics_panel import OpticsPanel


@dataclass(frozen=True)
class PsfLayer:
    """The wish to take the PSF from the layer of this name."""

    name: str


Source = Optics | PsfFile | PsfLayer


class PsfPanel(QWidget):
    """Edits where the PSF comes from; `editAsked(Optics)` asks for the dock "PSF"."""

    valueChanged = Signal()
    editAsked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = QComboBox()
        self.source.addItems(["computed from optics", "from a layer", "from a file"])
        self.source.setToolTip("Where the point spread function (PSF) comes from")
        self.source.setSizeAdjustPolicy(NARROW)
        self.optics = OpticsPanel()
        self.layer = QComboBox()
        self.layer.setToolTip("An image layer with one bead; centred and resampled by itself")
        self.layer.setSizeAdjustPolicy(NARROW)
        self.file = FileField("Image of the PSF", "Images (*.tif *.tiff)", "bead.ome.tif")
        self.path = self.file.path
        # What the path came from: it shows only a part of it.
        self._file: PsfFile | None = None
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.pages = (self._optics_page(), self.layer, self.file)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.source, *self.pages, self.summary):
            layout.addWidget(widget)
        self.source.currentIndexChanged.connect(self._page_changed)
        self.optics.valueChanged.connect(self.valueChanged)
        self.layer.currentIndexChanged.connect(self.valueChanged)
        self.file.valueChanged.connect(self.valueChanged)
        self._page_changed(0)

    def _optics_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        self.edit_button = QPushButton("Edit PSF...")
        self.edit_button.setToolTip("See this PSF change while its optics are tuned")
        self.edit_button.clicked.connect(self._ask_edit)
        layout.addWidget(self.optics)
        layout.addWidget(self.edit_button)
        return page

    def value(self) -> Source:
        """Return what is chosen; `InputError` where it is not usable."""
        index = self.source.currentIndex()
        if index == 0:
            return self.optics.value()
        if index == 1:
            require(self.layer.count() > 0, "No layer holds a PSF; open the image of a bead")
            require(
                self.layer.currentIndex() >= 0,
                "The layer that held the PSF is gone; choose another one for the PSF",
            )
            return PsfLayer(self.layer.currentText())
        path = self.path.text().strip()
        require(bool(path), "Choose the file of the PSF")
        # The file's digest is left to the run: reading a large file takes time.
        return self._file if self._file and self._file.path == path else PsfFile(path)

    def setValue(self, value: Source) -> None:
        """Show `value`."""
        self.blockSignals(True)
        if isinstance(value, Optics):
            self.optics.setValue(value)
            self.source.setCurrentIndex(0)
        elif isinstance(value, PsfLayer):
            self.layer.setCurrentText(value.name)
            self.source.setCurrentIndex(1)
        else:
            self._file = value
            self.path.setText(value.path)
            self.source.setCurrentIndex(2)
        self.blockSignals(False)
        self.valueChanged.emit()

    def show_known(self, known: KnownOptics | None) -> None:
        """Fill in what the image's file says of its optics; the rest stays."""
        self.optics.show_known(known)

    def show_summary(self, psf: Psf) -> None:
        """Show how large and how wide the PSF is that a run will use."""
        widths = ""
        if psf.spacing_um:
            widths = ", FWHM " + " x ".join(f"{w:.2f}" for w in fwhm_um(psf)) + " um"
        self.summary.setText(f"{' x '.join(map(str, psf.shape))} voxels{widths}")
        self.summary.setToolTip("\n".join(psf.notes))

    def set_layers(self, names: list[str]) -> None:
        """Offer these layers; one that is gone gives way to none: another is another PSF."""
        before = self.layer.currentText()
        offer(self.layer, names, another=False)
        if self.layer.currentText() != before and self.source.currentIndex() == 1:
            self.valueChanged.emit()

    def _ask_edit(self) -> None:
        told(lambda: self.editAsked.emit(self.optics.value()))

    def _page_changed(self, index: int) -> None:
        for number, page in enumerate(self.pages):
            page.setVisible(number == index)
        self.valueChanged.emit()
