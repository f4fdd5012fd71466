"""What is kept of a surface: its file, the tip, the table of objects, the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject

from napari_deconv.afm.features import features_csv
from napari_deconv.afm.tips import Tip
from napari_deconv.files.export import require_apart
from napari_deconv.files.whole import write_whole
from napari_deconv.imaging.value import InputError, require
from napari_deconv.surfaces import Surface, SurfaceRecipe, write_surface, write_tip

from .afm_keep import AfmKeepPanel
from .feature_table import FeatureTable
from .keeping import told

NO_TIP = "There is no tip yet: choose a shape, or estimate one"


class AfmKeeping(QObject):
    """Carries out the wishes of an `AfmKeepPanel` and of a table.

    Parameters
    ----------
    panel : AfmKeepPanel
    table : FeatureTable
    made : callable
        Returns the surface of the last run; told why, it may raise `InputError`.
    tip : callable
        Returns the tip that is shown, None where there is none.
    """

    def __init__(
        self,
        panel: AfmKeepPanel,
        table: FeatureTable,
        made: Callable[[str], Surface],
        tip: Callable[[], Tip | None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._table, self._made, self._tip = table, made, tip
        #: What the dock sets: they give the recipe as it stands, and show one that was loaded.
        self.recipe: Callable[[], SurfaceRecipe] = SurfaceRecipe
        self.show: Callable[[SurfaceRecipe], None] = lambda recipe: None
        #: It gives the file of the heights, which is not replaced; None where there is none.
        self.read_from: Callable[[], str | None] = lambda: None
        panel.exportAsked.connect(self.export)
        panel.tipAsked.connect(self.export_tip)
        panel.saveAsked.connect(self.save_recipe)
        panel.loadAsked.connect(self.load_recipe)
        table.exportAsked.connect(self.export_table)

    def export(self, path: str, overwrite: bool = False) -> None:
        """Write the surface of the last run."""

        def write() -> None:
            made = self._made("there is no surface to export yet")
            require_apart(path, self.read_from())
            show_info(f"Exported {write_surface(path, made, overwrite=overwrite)}")

        told(write)

    def export_tip(self, path: str, overwrite: bool = False) -> None:
        """Write the tip that is shown."""

        def write() -> None:
            tip = self._tip()
            if tip is None:
                raise InputError(NO_TIP)
            require_apart(path, self.read_from())
            show_info(f"Exported {write_tip(path, tip, overwrite=overwrite)}")

        told(write)

    def export_table(self, path: str, overwrite: bool = False) -> None:
        """Write the measured objects as CSV."""

        def write() -> None:
            target = Path(path)
            require(overwrite or not target.exists(), f"{target.name} exists already")
            write_whole(target, features_csv(self._table.value()).encode(), "The table")
            show_info(f"Exported {target}")

        told(write)

    def save_recipe(self, path: str) -> None:
        """Write the recipe as it stands."""
        told(lambda: write_whole(path, self.recipe().to_json(indent=2).encode(), "The recipe"))

    def load_recipe(self, path: str) -> None:
        """Show a recipe of a file."""

        def load() -> None:
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path} cannot be read as a recipe") from error
            self.show(SurfaceRecipe.from_json(text))

        told(load)
