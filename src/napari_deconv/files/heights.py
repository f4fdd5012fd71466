"""Height maps in files: TIFF, Gwyddion, and what the makers of microscopes write.

`read_heights` is the door in, `write_heights` the door out; `height_channels` says what a file
has to choose from. Heights are nanometres inside; a unit or a pixel size that a file does not
tell is asked for and never made up. Whatever is wrong is an `InputError` of one sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.afm.height_map import HeightMap, heights_in_nm
from napari_deconv.imaging.value import InputError, Plain, require

from . import gwy, height_tiff, microscopes
from .export import write_stack
from .gwy import Channel
from .metadata import length_unit, stem
from .names import SUFFIXES, TIFF_SUFFIXES
from .reading import read_provenance, read_voxels
from .whole import require_new

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def read_heights(
    path: str | os.PathLike[str],
    *,
    channel: str | None = None,
    z_unit: str | None = None,
    pixel_nm: tuple[float, float] | None = None,
) -> HeightMap:
    """Read a channel of heights.

    Parameters
    ----------
    path : str or path
        TIFF (YX or TYX; a ZYX one is taken for frames), OME-Zarr, Gwyddion .gwy, and, with
        AFMReader, .spm, .jpk, .h5-jpk, .ibw, .asd, .stp, .top.
    channel : str, optional
        One of `height_channels`; without it the first that is called as heights are, trace
        before retrace.
    z_unit : str, optional
        Unit of the heights of a TIFF, before what it says itself; of another file only where
        that says nothing.
    pixel_nm : tuple of float, (y, x), optional
        Size of a pixel, before what the file says.

    Returns
    -------
    HeightMap
        In nanometres.

    Raises
    ------
    InputError
        If there is no such file or channel, it is damaged, in colour or no heights, or the
        unit or the size of a pixel is not known.
    """
    source = Path(path).expanduser()
    found, unit = _found(source, channel, z_unit)
    require(
        bool(unit),
        f"{source.name} does not say the unit of its {found.name}; say it (z_unit, or --z-unit on "
        "the command line): nm, um, m or angstrom",
    )
    pixel = pixel_nm or found.pixel_nm
    if pixel is None:
        raise InputError(
            f"{source.name} does not say the size of its pixels; say it in nm (pixel_nm, or "
            "--pixel-nm on the command line)"
        )
    y, x = pixel
    values = read_voxels(found.values, (slice(None),) * found.values.ndim, source.name)
    heights = heights_in_nm(values, length_unit(unit))
    return HeightMap(heights, (y, x), stem(source), found.name, found.frame_s)


def height_channels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the channels of heights in a file, the one read by default first.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    tuple of str
        Those whose unit is a length or is not told; of a file that AFMReader reads, those that
        are called as heights are.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    source = Path(path).expanduser()
    if _kind(source) == "microscope":
        return tuple(filter(microscopes.is_height_name, _ordered(microscopes.names(source))))
    return _heights_of({entry.name: entry for entry in _channels(source)})


def write_heights(
    path: str | os.PathLike[str],
    heights: HeightMap,
    *,
    recipe: str = "",
    others: Sequence[tuple[str, npt.NDArray[Any], str]] = (),
    overwrite: bool = False,
) -> Path:
    """Write heights so that `read_heights` needs to be told nothing; whole or not at all.

    Parameters
    ----------
    path : str or path
        The suffix chooses: .gwy keeps float64, in metres; .tif or .ome.tif is OME-TIFF of
        float32, which Fiji opens and float64 it does not: seven digits, 1e-4 nm of 1000 nm.
    heights : HeightMap
    recipe : str
        JSON text on how they were made; `read_height_recipe` gives it back.
    others : sequence of (str, ndarray, str)
        More images of the same pixels: name, values, unit ("" for none). In a TIFF they are
        more channels and have the shape of the heights.
    overwrite : bool
        Whether an existing file may be replaced; it stays until the new one is complete.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If it cannot be written there, or the images do not fit the format.
    """
    target = check_height_file(path, overwrite=overwrite)
    pixel = heights.pixel_nm
    name = heights.channel or "Height"
    main = Channel(name, heights.heights_nm, "nm", pixel, heights.frame_s, is_main=True)
    images = (main, *(Channel(n, np.asarray(v), u, pixel) for n, v, u in others))
    _require_images(images)
    how = _recipe_in(recipe)
    if target.suffix.lower() == ".gwy":
        gwy.write(target, images, recipe)
        return target
    told = {"units": [image.unit for image in images], "movie": heights.is_movie}
    stack = height_tiff.stack_of(images)
    write_stack(target, stack, recipe=how, record={"heights": told}, overwrite=overwrite)
    return target


def read_height_recipe(path: str | os.PathLike[str]) -> str | None:
    """Return the recipe, a JSON text, of heights that napari-deconv wrote; None for others.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    source = Path(path).expanduser()
    kind = _kind(source)
    if kind == "gwyddion":
        return gwy.recipe_in(source)
    recipe = (read_provenance(source) or {}).get("recipe") if kind == "stack" else None
    return None if recipe is None else json.dumps(recipe)


# -- what a file is, and which of its channels -----------------------------------------


def _kind(source: Path) -> str:
    """Return "stack", "gwyddion" or "microscope", or say why a file is none of them."""
    require(source.exists(), f"There is no file {source}; check the folder and the spelling")
    name = source.name.lower()
    require(not name.endswith(PICTURES), f"{source.name} {height_tiff.PICTURE}")
    if name.endswith(SUFFIXES):
        return "stack"
    require(source.is_file(), f"{source.name} is a folder, not a file of heights; choose a file")
    if name.endswith(".gwy"):
        return "gwyddion"
    require(
        microscopes.reads(source),
        f"{source.name} is of no format that is read here, which are .tif, .gwy, "
        f"{', '.join(microscopes.READERS)}; save the heights as .gwy with Gwyddion",
    )
    return "microscope"


def _found(source: Path, channel: str | None, z_unit: str | None) -> tuple[Channel, str]:
    """Return a channel of a file, and the unit of its values, "" where nobody says it."""
    kind = _kind(source)
    if kind == "microscope":
        names = microscopes.names(source)
        heights = tuple(filter(microscopes.is_height_name, _ordered(names)))
        # A channel by another name is in a unit that only the user can know.
        to_choose = names if channel and z_unit else heights
        found = microscopes.read(source, _chosen(source, names, to_choose, channel))
        return found, found.unit or z_unit or ""
    several = {entry.name: entry for entry in _channels(source)}
    found = several[_chosen(source, tuple(several), _heights_of(several), channel, several)]
    told = (z_unit, found.unit) if kind == "stack" else (found.unit, z_unit)
    return found, told[0] or told[1] or ""


def _channels(source: Path) -> tuple[Channel, ...]:
    return gwy.read(source) if _kind(source) == "gwyddion" else height_tiff.read(source)


def _heights_of(channels: Mapping[str, Channel]) -> tuple[str, ...]:
    """Return the names of those whose unit is a length or not told, the default first."""
    lengths = [name for name, entry in channels.items() if entry.is_length or not entry.unit]
    written = [name for name in lengths if channels[name].is_main]
    return tuple(dict.fromkeys((*written, *_ordered(lengths))))


def _ordered(names: Sequence[str]) -> tuple[str, ...]:
    """Return names, those of heights first, and of these trace before retrace."""
    return tuple(
        sorted(names, key=lambda n: (not microscopes.is_height_name(n), microscopes.is_backward(n)))
    )


def _chosen(
    source: Path,
    names: Sequence[str],
    heights: Sequence[str],
    channel: str | None,
    known: Mapping[str, Channel] | None = None,
) -> str:
    """Return which of the `heights` is asked for, or else is the first called so."""
    there = f"its channels are {', '.join(map(repr, names))}"
    require(bool(heights), f"{source.name} has no channel of heights; {there}")
    if channel is None:
        first = heights[0]
        is_main = known is not None and known[first].is_main
        require(
            len(heights) == 1 or is_main or microscopes.is_height_name(first),
            f"Which channel of {source.name} holds the heights cannot be told; say it (channel, "
            f"or --channel on the command line): {', '.join(map(repr, heights))}",
        )
        return first
    alike = [name for name in heights if name.casefold() == channel.casefold()]
    there = f"its channels of heights are {', '.join(map(repr, heights))}"
    is_other = channel.casefold() in map(str.casefold, names)
    require(
        bool(alike),
        f"{source.name} has {'no heights in' if is_other else 'no channel'} {channel!r}; {there}",
    )
    return channel if channel in alike else alike[0]


# -- writing ---------------------------------------------------------------------------


def _require_images(images: Sequence[Channel]) -> None:
    names = [image.name for image in images]
    require(
        all(names) and len(set(names)) == len(names),
        f"The images to write are called {', '.join(map(repr, names))}; give each its own name",
    )
    for image in images:
        values = image.values
        require(
            values.ndim in (2, 3) and values.size > 0 and values.dtype.kind in "biuf",
            f"{image.name!r} is {values.dtype} of shape {values.shape}; an image to write has "
            "numbers along (Y, X) or (T, Y, X)",
        )
        require(
            bool(np.isfinite(values).all()),
            f"{image.name!r} holds NaN or inf, which Gwyddion and Fiji cannot show; fill them "
            "before",
        )


def _recipe_in(recipe: str) -> Plain | None:
    try:
        found = json.loads(recipe) if recipe else None
    except ValueError as error:
        raise InputError(f"The recipe is not JSON ({error}); give what `to_json` gave") from error
    require(
        found is None or isinstance(found, dict),
        "The recipe is no JSON object; give what `to_json` gave",
    )
    return found


def check_height_file(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where heights can be written; `InputError` where they cannot."""
    target = Path(path).expanduser()
    require(
        target.name.lower().endswith((".gwy", *TIFF_SUFFIXES)),
        f"{target.name!r} does not say which format to write; end its name in .gwy or .ome.tif",
    )
    folder = target.parent
    require(folder.is_dir(), f"There is no folder {folder}; create it, or choose another")
    require(not target.is_dir(), f"{target.name} is a folder; choose another name")
    require_new(target, overwrite=overwrite)
    return target
