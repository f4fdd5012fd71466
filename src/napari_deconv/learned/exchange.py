"""Models from elsewhere, whichever program wrote them: their files tell which."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from napari_deconv.imaging.value import InputError, require

from .bioimage import import_bioimage
from .bioimage_archive import DESCRIPTIONS
from .careamics import import_careamics
from .csbdeep import WEIGHTS, import_csbdeep
from .foreign import Imported

#: How the files of each kind begin.
HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
#: Endings of the files of torch, which are zip files too.
OF_TORCH = (".ckpt", ".pt", ".pth")


def import_model(path: str | os.PathLike[str]) -> Imported:
    """Read a model of bioimage.io, CSBDeep or CAREamics.

    Parameters
    ----------
    path : path
        An archive of bioimage.io, a zip file or a folder; weights of CSBDeep (.h5), or their
        folder; or a checkpoint of CAREamics (.ckpt).

    Raises
    ------
    InputError
        If it is none of these, or cannot be read; see `import_bioimage`, `import_csbdeep` and
        `import_careamics`.
    """
    found = Path(path).expanduser()
    require(found.exists(), f"There is no model {found}; check the spelling")
    kind = _kind(found)
    if kind == "csbdeep":
        return import_csbdeep(found)
    if kind == "careamics":
        return import_careamics(found)
    require(
        kind == "bioimage",
        f"{found.name} is no model that is known: no archive of bioimage.io (.zip, or a folder "
        f"with {DESCRIPTIONS[0]} in it), no weights of CSBDeep (.h5) and no checkpoint of "
        "CAREamics (.ckpt)",
    )
    return Imported(import_bioimage(found), ())


def _kind(path: Path) -> str:
    """Return which program wrote a model, or nothing."""
    if path.is_dir():
        if any((path / name).is_file() for name in DESCRIPTIONS):
            return "bioimage"
        return "csbdeep" if any((path / name).is_file() for name in WEIGHTS) else ""
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error})") from error
    suffix = path.suffix.lower()
    if begin == HDF5 or suffix in (".h5", ".hdf5"):
        return "csbdeep"
    if suffix in OF_TORCH:
        return "careamics"
    if suffix == ".zip":
        return "bioimage"
    return _kind_of_zip(path) if begin.startswith(ZIP) else ""


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return ""
    if any(name in names for name in DESCRIPTIONS):
        return "bioimage"
    return "careamics" if any(name.endswith("/data.pkl") for name in names) else ""
