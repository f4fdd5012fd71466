"""Menu that asks where a recipe is to be saved, and which one is to be loaded."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QWidget

RECIPES = "Recipe (*.json)"


class RecipeMenu(QMenu):
    """Emits `saveAsked(path)` and `loadAsked(path)`.

    Parameters
    ----------
    name : str
        Of a new file, as it is offered.
    others : str
        Kinds of files that hold a recipe as well, for the dialog.
    """

    saveAsked = Signal(str)
    loadAsked = Signal(str)

    def __init__(self, name: str, others: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name, self._kinds = name, f"{RECIPES};;{others}" if others else RECIPES
        self.addAction("Save recipe...", self._ask_save)
        self.addAction("Load recipe...", self._ask_load)

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save recipe", self._name, RECIPES)
        if path:
            self.saveAsked.emit(path)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load recipe", "", self._kinds)
        if path:
            self.loadAsked.emit(path)
