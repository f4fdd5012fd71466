"""Deconvolution of fluorescence stacks, and surfaces from AFM: in napari, by script, by command.

>>> from napari_deconv import Optics, Grid, compute_psf, restore
>>> psf = compute_psf(Optics(na=0.8, emission_nm=520, immersion_index=1.0),
...                   Grid(spacing_um=(1.0, 0.2, 0.2)), shape=(5, 15, 15))
>>> restored = restore(psf.samples * 1e4, psf, engine="cpu")
>>> restored.shape
(5, 15, 15)

Every name below loads its module when it is first used: importing the package costs
milliseconds and pulls in neither torch, pyclesperanto, nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_deconv.version import __version__ as __version__

if TYPE_CHECKING:
    from napari_deconv.afm.estimating import estimate_tip
    from napari_deconv.afm.height_map import HeightMap
    from napari_deconv.afm.morphology import certainty, dilate, erode
    from napari_deconv.afm.tips import Tip
    from napari_deconv.engines import open_engine
    from napari_deconv.files.export import write_stack
    from napari_deconv.files.heights import read_heights, write_heights
    from napari_deconv.files.reading import read_provenance, read_stack
    from napari_deconv.files.recipe import PsfFile, Recipe, TrainedModel, read_recipe, write_recipe
    from napari_deconv.imaging.beads import Bead, MeasuredPsf, find_beads, measure_psf
    from napari_deconv.imaging.fitting import OpticsFit, fit_optics
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.optics import Optics
    from napari_deconv.imaging.psf import Psf
    from napari_deconv.imaging.psf_image import psf_from_image
    from napari_deconv.imaging.psf_models import compute_psf
    from napari_deconv.imaging.stack import KnownOptics, Stack
    from napari_deconv.imaging.value import InputError
    from napari_deconv.lazy import restore_lazy
    from napari_deconv.pipeline import restore, restore_stack
    from napari_deconv.restoration.richardson_lucy import RichardsonLucy
    from napari_deconv.restoration.wiener import Wiener
    from napari_deconv.surfaces import SurfaceRecipe, reconstruct_surface

_HOMES = {
    "Bead": "imaging.beads",
    "Grid": "imaging.grid",
    "HeightMap": "afm.height_map",
    "InputError": "imaging.value",
    "KnownOptics": "imaging.stack",
    "MeasuredPsf": "imaging.beads",
    "Optics": "imaging.optics",
    "OpticsFit": "imaging.fitting",
    "Psf": "imaging.psf",
    "PsfFile": "files.recipe",
    "Recipe": "files.recipe",
    "RichardsonLucy": "restoration.richardson_lucy",
    "Stack": "imaging.stack",
    "SurfaceRecipe": "surfaces",
    "Tip": "afm.tips",
    "TrainedModel": "files.recipe",
    "Wiener": "restoration.wiener",
    "certainty": "afm.morphology",
    "compute_psf": "imaging.psf_models",
    "dilate": "afm.morphology",
    "erode": "afm.morphology",
    "estimate_tip": "afm.estimating",
    "find_beads": "imaging.beads",
    "fit_optics": "imaging.fitting",
    "measure_psf": "imaging.beads",
    "open_engine": "engines",
    "psf_from_image": "imaging.psf_image",
    "read_heights": "files.heights",
    "read_provenance": "files.reading",
    "read_recipe": "files.recipe",
    "read_stack": "files.reading",
    "reconstruct_surface": "surfaces",
    "restore": "pipeline",
    "restore_lazy": "lazy",
    "restore_stack": "pipeline",
    "write_heights": "files.heights",
    "write_recipe": "files.recipe",
    "write_stack": "files.export",
}

__all__ = [
    "Bead",
    "Grid",
    "HeightMap",
    "InputError",
    "KnownOptics",
    "MeasuredPsf",
    "Optics",
    "OpticsFit",
    "Psf",
    "PsfFile",
    "Recipe",
    "RichardsonLucy",
    "Stack",
    "SurfaceRecipe",
    "Tip",
    "TrainedModel",
    "Wiener",
    "certainty",
    "compute_psf",
    "dilate",
    "erode",
    "estimate_tip",
    "find_beads",
    "fit_optics",
    "measure_psf",
    "open_engine",
    "psf_from_image",
    "read_heights",
    "read_provenance",
    "read_recipe",
    "read_stack",
    "reconstruct_surface",
    "restore",
    "restore_lazy",
    "restore_stack",
    "write_heights",
    "write_recipe",
    "write_stack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
