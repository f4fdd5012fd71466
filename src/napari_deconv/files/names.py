"""What images are called: the suffixes that tell their format, and what is left without them."""

from __future__ import annotations

import os
from pathlib import Path

from napari_deconv.imaging.value import require

from .whole import REPLACED

TIFF_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff")
ZARR_SUFFIXES = (".ome.zarr", ".zarr")
SUFFIXES = (*TIFF_SUFFIXES, *ZARR_SUFFIXES)

#: Folder inside an image that is not finished: which tiles are, and of what run.
UNFINISHED = "unfinished"

#: What the folder that a run works in is called after its output's stem; see `work_folder`.
WORK_SUFFIX = f".{UNFINISHED}.ome.zarr"

#: Longest name of an output: what systems take, less what the name of a work folder adds.
LONGEST_NAME_BYTES = 255 - len(WORK_SUFFIX + REPLACED)


def stem_of(path: Path) -> str:
    """Return the name of an image without its suffix, ``.ome.tif`` counting as one.

    Examples
    --------
    >>> stem_of(Path("day.1/cell 2.OME.TIF"))
    'cell 2'
    """
    name = path.name
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), path.suffix)
    return name[: len(name) - len(suffix)]


def output_at(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """Return the output in its folder, links followed, and whether it is a TIFF.

    Raises
    ------
    InputError
        If its suffix is not known, or its name is too long.
    """
    output = Path(path).expanduser()
    target = Path(os.path.realpath(output.parent)) / output.name
    nbytes = len(os.fsencode(output.name))
    require(
        nbytes <= LONGEST_NAME_BYTES,
        f"The name of the output, {output.name[:20]}..., is too long: it has {nbytes} bytes, and "
        f"may have {LONGEST_NAME_BYTES}; give it, or the image that it is called after, a "
        "shorter one",
    )
    name = output.name.lower()
    is_tiff = name.endswith(TIFF_SUFFIXES)
    require(
        is_tiff or name.endswith(ZARR_SUFFIXES),
        f"{output.name!r} does not say which format to write; end its name in "
        f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
    )
    return target, is_tiff
