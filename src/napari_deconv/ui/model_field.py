"""Field for the file of a trained network, with what opens one or shows those there are."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_deconv.library import SUFFIX

from .models_dialog import ModelsDialog

#: What may be asked of a network, in the words of a tip.
CAUTIOUS = (
    "Richardson-Lucy goes on from what the network restores and is mixed in, the more the more "
    "light there is: so structure that it has never seen is hardly worse"
)
MIRRORED = "Restore mirrored as well, and average; up to eight times as long"


class ModelField(QWidget):
    """Edits the path of a model; `chosen(path)` tells of a file that was there already."""

    valueChanged = Signal()
    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.path = QLineEdit()
        self.open_button, self.models_button = QPushButton("Open..."), QPushButton("Models...")
        self.open_button.setToolTip("Take a network that was trained before")
        self.models_button.setToolTip("See the networks that you have, and take one")
        self.models: ModelsDialog | None = None
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.path, self.open_button, self.models_button):
            self.row.addWidget(widget)
        self.path.editingFinished.connect(self.valueChanged)
        self.open_button.clicked.connect(self._ask)
        self.models_button.clicked.connect(self._show_models)

    def value(self) -> str:
        """Return the path, or the name of a model."""
        return self.path.text().strip()

    def setValue(self, path: str) -> None:
        """Show a path."""
        self.path.setText(path)
        self.valueChanged.emit()

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A trained model", "", f"Models (*{SUFFIX})")
        if path:
            self._take(path)

    def _show_models(self) -> None:
        if self.models is None:
            self.models = ModelsDialog(self)
            self.models.used.connect(self._take)
        self.models.open()

    def _take(self, path: str) -> None:
        self.path.setText(path)
        self.chosen.emit(path)
        self.valueChanged.emit()
