"""What is kept of a result: its export, its recipe as a file, its recipe as text."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication

from napari_deconv import pipeline
from napari_deconv.files.export import require_apart
from napari_deconv.files.recipe import Recipe, read_recipe, write_recipe
from napari_deconv.files.script import as_command, as_python
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.restorer import Step

from .jobs import Job
from .keep_panel import KeepPanel


def told(action: Callable[[], object]) -> None:
    """Do something that may be refused, and tell the refusal."""
    try:
        action()
    except InputError as error:
        show_error(str(error))


class Keeping(QObject):
    """Carries out the wishes of a `KeepPanel`.

    Parameters
    ----------
    panel : KeepPanel
        Where the wishes come from.
    recipe, source : callable
        They return the recipe as it stands, and the path of the image that it is for; both may
        raise `InputError`.
    show : callable
        It is given a recipe that was loaded; it may raise `InputError`.
    """

    def __init__(
        self,
        panel: KeepPanel,
        recipe: Callable[[], Recipe],
        source: Callable[[], str],
        show: Callable[[Recipe], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.panel, self.exporting = panel, Job(self)
        self._recipe, self._source, self._show = recipe, source, show
        self.restored: pipeline.Restored | None = None
        self._read_from: str | None = None
        panel.exportAsked.connect(self.export)
        panel.saveAsked.connect(self.save_recipe)
        panel.loadAsked.connect(self.load_recipe)
        panel.pythonAsked.connect(lambda: self._copy(as_python))
        panel.commandAsked.connect(lambda: self._copy(as_command))
        self.exporting.finished.connect(self._exported)
        self.exporting.failed.connect(show_error)

    def take(self, restored: pipeline.Restored, read_from: str | None) -> None:
        """Offer this result for export; the file that its image was read from is not replaced."""
        self.restored, self._read_from = restored, read_from
        self.panel.export_button.setEnabled(True)

    def export(self, path: str, overwrite: bool = False, version: str = "0.5") -> None:
        """Write the last result to `path`; `version` is that of an OME-Zarr."""
        if self.restored is None:
            show_error("There is no result to export yet; run first")
            return
        restored, read_from = self.restored, self._read_from
        dtype = self.panel.dtype.currentText()

        def work() -> Generator[Step, None, Any]:
            yield Step(0, 1, "writing")
            require_apart(path, read_from)
            return pipeline.export(
                restored, path, dtype=dtype, overwrite=overwrite, ome_zarr_version=version
            )

        self.exporting.start(work)

    def _exported(self, written: Any) -> None:
        show_info(" ".join([f"Exported {written.path}", *written.notes]))

    def save_recipe(self, path: str) -> None:
        """Write the recipe as it stands."""
        told(lambda: write_recipe(path, self._recipe()))

    def load_recipe(self, path: str) -> None:
        """Show a recipe, from its own file or from an exported image."""
        told(lambda: self._show(read_recipe(path)))

    def _copy(self, written: Callable[[Recipe, str], str]) -> None:
        def copy() -> None:
            text, clipboard = written(self._recipe(), self._source()), QApplication.clipboard()
            if clipboard is not None:
                clipboard.setText(text)
            show_info("Copied to the clipboard")

        told(copy)
