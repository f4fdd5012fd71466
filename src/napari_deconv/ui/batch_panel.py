"""Panel for a batch: which files, which recipe, where to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QToolButton,
    QWidget,
)

from napari_deconv.files.export import DTYPES

from .choices import NARROW

FORMATS = (".ome.tif", ".ome.zarr")
FROM_DOCK, FROM_FILE = "as in the dock Deconvolve", "from a file"
RECIPES = "Recipes and exported images (*.json *.ome.tif *.ome.tiff)"


@dataclass(frozen=True)
class BatchChoice:
    """What the panel says.

    Parameters
    ----------
    folder, pattern : str
        The images.
    recursive : bool
        Whether folders inside the folder are looked into.
    recipe : str or None
        A file; None takes the recipe of the dock "Deconvolve".
    output : str
        The folder for the results.
    suffix, dtype : str
        Their format and type.
    overwrite : bool
        Whether outputs that were made otherwise are replaced.
    """

    folder: str = ""
    pattern: str = "*"
    recursive: bool = False
    recipe: str | None = None
    output: str = ""
    suffix: str = FORMATS[0]
    dtype: str = DTYPES[0]
    overwrite: bool = False


class BatchPanel(QWidget):
    """Edits a `BatchChoice`."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder, self.pattern, self.output = QLineEdit(), QLineEdit("*"), QLineEdit()
        self.recursive = QCheckBox("Folders inside")
        self.overwrite = QCheckBox("Replace other results")
        self.source, self.recipe = QComboBox(), QLineEdit()
        self.dtype, self.suffix = QComboBox(), QComboBox()
        self._offer()
        self._lay_out()
        for edit in (self.folder, self.pattern, self.output, self.recipe):
            # Not each letter: half a path may be the folder of all there is.
            edit.editingFinished.connect(self._changed)
        for box in (self.source, self.dtype, self.suffix):
            box.currentTextChanged.connect(self._changed)
        for tick in (self.recursive, self.overwrite):
            tick.toggled.connect(self._changed)
        self._changed()

    def _offer(self) -> None:
        self.source.addItems([FROM_DOCK, FROM_FILE])
        self.dtype.addItems(list(DTYPES))
        self.suffix.addItems(list(FORMATS))
        self.source.setSizeAdjustPolicy(NARROW)
        self.folder.setPlaceholderText("folder of the images")
        self.recipe.setPlaceholderText("recipe.json")
        for widget, tip in (
            (self.folder, "The folder of the images: TIFF, OME-TIFF or OME-Zarr"),
            (self.pattern, "What their names must match, such as *.ome.tif or cell*"),
            (self.recursive, "Look into the folders inside it; the results keep their structure"),
            (self.source, "What is done with each file"),
            (self.recipe, "A recipe (JSON), or an image that was exported with one"),
            (self.output, "The folder for the results, named like the images with _restored"),
            (self.dtype, "Type of the restored voxels; float32 keeps them exactly"),
            (self.suffix, "Format of the restored images"),
            (self.overwrite, "Replace results that were made with another recipe"),
        ):
            widget.setToolTip(tip)

    def _lay_out(self) -> None:
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setColumnStretch(1, 1)
        rows = (
            ("Folder", _row(self.folder, _browse(self._ask_folder, "Choose the folder"))),
            ("Names", _row(self.pattern, self.recursive)),
            ("Recipe", self.source),
            ("", self._recipe_row()),
            ("Results", _row(self.output, _browse(self._ask_output, "Choose the folder"))),
            ("", _row(self.suffix, self.dtype)),
            ("", self.overwrite),
        )
        for row, (name, widget) in enumerate(rows):
            layout.addWidget(QLabel(name), row, 0)
            layout.addWidget(widget, row, 1)

    def _recipe_row(self) -> QWidget:
        self.recipe_row = _row(self.recipe, _browse(self._ask_recipe, "Choose the recipe"))
        return self.recipe_row

    def value(self) -> BatchChoice:
        """Return the choice; without a folder for the results, one inside that of the images."""
        from_file = self.source.currentText() == FROM_FILE
        folder = self.folder.text().strip()
        return BatchChoice(
            folder=folder,
            pattern=self.pattern.text().strip() or "*",
            recursive=self.recursive.isChecked(),
            recipe=self.recipe.text().strip() if from_file else None,
            output=self.output.text().strip() or (str(Path(folder, "restored")) if folder else ""),
            suffix=self.suffix.currentText(),
            dtype=self.dtype.currentText(),
            overwrite=self.overwrite.isChecked(),
        )

    def setValue(self, value: BatchChoice) -> None:
        """Show a choice."""
        self.blockSignals(True)
        self.folder.setText(value.folder)
        self.pattern.setText(value.pattern)
        self.recursive.setChecked(value.recursive)
        self.source.setCurrentText(FROM_DOCK if value.recipe is None else FROM_FILE)
        self.recipe.setText(value.recipe or "")
        self.output.setText(value.output)
        self.suffix.setCurrentText(value.suffix)
        self.dtype.setCurrentText(value.dtype)
        self.overwrite.setChecked(value.overwrite)
        self.blockSignals(False)
        self._changed()

    def _changed(self) -> None:
        folder = self.folder.text().strip()
        inside = str(Path(folder, "restored")) if folder else "folder of the results"
        self.output.setPlaceholderText(inside)
        self.recipe_row.setVisible(self.source.currentText() == FROM_FILE)
        self.valueChanged.emit()

    def _ask_folder(self) -> None:
        self._take(
            self.folder,
            QFileDialog.getExistingDirectory(self, "Folder of the images", self.folder.text()),
        )

    def _ask_output(self) -> None:
        folder = self.output.text() or self.folder.text()
        self._take(
            self.output, QFileDialog.getExistingDirectory(self, "Folder of the results", folder)
        )

    def _ask_recipe(self) -> None:
        folder = self.recipe.text() or self.folder.text()
        self._take(self.recipe, QFileDialog.getOpenFileName(self, "Recipe", folder, RECIPES)[0])

    def _take(self, edit: QLineEdit, path: str) -> None:
        """Show what was chosen in a dialog, if anything was."""
        if path:
            edit.setText(path)
            self._changed()


def _browse(action: Callable[[], None], tip: str) -> QToolButton:
    button = QToolButton()
    button.setText("...")
    button.setToolTip(tip)
    button.clicked.connect(action)
    return button


def _row(first: QWidget, *more: QWidget) -> QWidget:
    """Return widgets side by side, the first one as wide as there is room."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(first, 1)
    for widget in more:
        layout.addWidget(widget)
    return row
