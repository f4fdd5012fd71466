"""Panel for what is kept: the result as a file, the recipe as a file or as text."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_deconv.files.export import DTYPES

from .recipe_menu import RecipeMenu

#: What the dialog offers: the ending of the name, and the version where it is an OME-Zarr.
EXPORTS = {
    "OME-TIFF (*.ome.tif)": (".ome.tif", "0.5"),
    "OME-Zarr 0.5 (*.ome.zarr)": (".ome.zarr", "0.5"),
    "OME-Zarr 0.4 (*.ome.zarr)": (".ome.zarr", "0.4"),
}


class KeepPanel(QWidget):
    """Asks for names and emits wishes; the dock carries them out.

    `exportAsked` says the name, whether a file of that name may be replaced, and the version
    of an OME-Zarr.
    """

    exportAsked = Signal(str, bool, str)
    saveAsked = Signal(str)
    loadAsked = Signal(str)
    pythonAsked = Signal()
    commandAsked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.export_button = QPushButton("Export...")
        self.export_button.setEnabled(False)
        self.export_button.clicked.connect(self._ask_export)
        self.dtype = QComboBox()
        self.dtype.addItems(list(DTYPES))
        self.dtype.setToolTip("Type of the exported voxels; float32 keeps them exactly")
        self.menu = RecipeMenu("recipe.json", "Exported images (*.ome.tif)", self)
        self.menu.saveAsked.connect(self.saveAsked)
        self.menu.loadAsked.connect(self.loadAsked)
        self.menu.addSeparator()
        self.menu.addAction("Copy as Python", self.pythonAsked)
        self.menu.addAction("Copy as command", self.commandAsked)
        recipe = QPushButton("Recipe")
        recipe.setMenu(self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.export_button, self.dtype, recipe):
            layout.addWidget(widget)

    def _ask_export(self) -> None:
        kinds = ";;".join(EXPORTS)
        path, kind = QFileDialog.getSaveFileName(self, "Export", "restored.ome.tif", kinds)
        if path:
            # A name without an ending gets that of the chosen kind. The dialog has asked before
            # replacing a file, but not one of that longer name.
            whole = "." in Path(path).name
            suffix, version = EXPORTS[kind]
            self.exportAsked.emit(path if whole else path + suffix, whole, version)
