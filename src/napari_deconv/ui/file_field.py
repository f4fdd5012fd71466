"""Field for the path of a file, typed or chosen in a dialog."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


class FileField(QWidget):
    """Edits the path of a file that is read.

    Parameters
    ----------
    title, kinds : str
        Of the dialog: what is chosen, and the endings that it offers.
    example : str
        What a path may look like.
    """

    valueChanged = Signal()

    def __init__(self, title: str, kinds: str, example: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._kinds = title, kinds
        self.path, browse = QLineEdit(), QPushButton("Browse...")
        self.path.setPlaceholderText(example)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path)
        row.addWidget(browse)
        self.path.editingFinished.connect(self.valueChanged)
        browse.clicked.connect(self._browse)

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self._title, "", self._kinds)
        if path:
            self.path.setText(path)
            self.valueChanged.emit()
