"""Panel for what is kept of a surface: the file of it, of the tip, and the recipe."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from .recipe_menu import RecipeMenu

#: What the dialogs offer, and the endings.
KINDS = {"Gwyddion (*.gwy)": ".gwy", "OME-TIFF (*.ome.tif)": ".ome.tif"}


class AfmKeepPanel(QWidget):
    """Asks for names and emits wishes: the path, and whether a file there may be replaced."""

    exportAsked = Signal(str, bool)
    tipAsked = Signal(str, bool)
    saveAsked = Signal(str)
    loadAsked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.export_button, self.tip_button = QPushButton("Export..."), QPushButton("Save tip...")
        self.export_button.setToolTip("The surface with its units; a .gwy keeps all that was made")
        self.tip_button.setToolTip("The tip that is shown, to be used on other images")
        self.export_button.clicked.connect(lambda: self._ask(self.exportAsked, "surface"))
        self.tip_button.clicked.connect(lambda: self._ask(self.tipAsked, "tip"))
        self.menu = RecipeMenu("surface.json", parent=self)
        self.menu.saveAsked.connect(self.saveAsked)
        self.menu.loadAsked.connect(self.loadAsked)
        recipe = QPushButton("Recipe")
        recipe.setMenu(self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.export_button, self.tip_button, recipe):
            layout.addWidget(widget)

    def _ask(self, wish: object, name: str) -> None:
        kinds = ";;".join(KINDS)
        path, kind = QFileDialog.getSaveFileName(self, f"Save the {name}", f"{name}.gwy", kinds)
        if path:
            # A name without an ending gets that of the chosen kind, which was not asked about.
            whole = "." in Path(path).name
            wish.emit(path if whole else path + KINDS[kind], whole)  # type: ignore[attr-defined]
