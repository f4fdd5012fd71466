"""OME-Zarr in: versions 0.1 to 0.4 (Zarr 2) and 0.5 (Zarr 3), with their pyramids.

`read` takes level 0, `read_levels` all of them. Few voxels are loaded, many stay on disk as a
`StoredArray`. What napari-deconv exported carries its provenance under the key "napari_deconv".
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import AXES, Stack
from napari_deconv.imaging.value import InputError, Plain, require

from . import ome_xml
from .metadata import (
    Description,
    arranged_like,
    finite,
    length_unit,
    positive,
    seconds,
    several_images,
    shadow,
    stack_of,
    stem,
)
from .names import UNFINISHED
from .provenance import stored_axes, stored_date, stored_optics, stored_position
from .stored import StoredArray

VERSIONS = ("0.4", "0.5")
KEY = "napari_deconv"

#: Voxels of this many bytes or less are loaded; more stay on disk, as a dask array.
LOADED_UP_TO_BYTES = 2**26

_MARKERS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")

_READABLE = ("0.1", "0.2", "0.3", *VERSIONS)

Slices = tuple[slice, ...]


def is_zarr(folder: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((folder / marker).is_file() for marker in _MARKERS)


def read(source: Path, *, voxels: bool = True, loaded_bytes: float = math.inf) -> Stack:
    """Read level 0 of the first image of an OME-Zarr folder; see `tiff.read` for the options.

    Raises
    ------
    InputError
        If the folder is no OME-Zarr image, or its axes cannot be told apart.
    """
    return _levels(source, voxels=voxels, loaded_bytes=loaded_bytes)[0]


def read_levels(source: Path) -> tuple[Stack, ...]:
    """Read every level of the first image, the largest first, each with its own voxel size.

    Levels that are not smaller than the one before, or have other times or channels, end it.

    Raises
    ------
    InputError
        As `read` does.
    """
    return _levels(source, smaller=True)


def _levels(
    source: Path, *, voxels: bool = True, smaller: bool = False, loaded_bytes: float = math.inf
) -> tuple[Stack, ...]:
    group, xml = _image_group(source)
    attrs = dict(group.attrs)
    multiscale = _multiscale(attrs, source.name)
    array = _level(group, multiscale["datasets"][0], source.name)
    axes = "".join(_axes(multiscale, array.ndim, source.name))
    description = _description(attrs, multiscale, list(axes), xml)
    description = replace(description, remarks=_remarks(source, group))
    data = (
        _voxels(source, array, axes, loaded_bytes) if voxels else shadow(array.shape, array.dtype)
    )
    stacks = [stack_of(data, axes, description, stem(source))]
    for index, entry in enumerate(multiscale["datasets"][1:] if smaller else (), start=1):
        level = _level(group, entry, source.name)
        if not _is_smaller(level, array, axes):
            break
        array = level
        data = arranged_like(stacks[0], _voxels(source, level, axes), axes)
        grid = _coarser(stacks[0].grid, multiscale, axes, index)
        stacks.append(replace(stacks[0], data=data, grid=grid))
    return tuple(stacks)


def _level(group: Any, entry: Plain, name: str) -> Any:
    """Return the array of a level of the image."""
    path = str(entry.get("path", ""))
    level = group.get(path) if path else None
    require(
        hasattr(level, "chunks"),
        f"{name} cannot be read: it says that there are voxels in {path!r}, and no array is "
        "there; copy or export it again",
    )
    return level


def _is_smaller(level: Any, than: Any, axes: str) -> bool:
    """Return whether an array is a smaller level of the image that `than` shows."""
    return (
        level.ndim == than.ndim
        and level.shape != than.shape
        and all(
            n == m if axis in "TC" else n <= m
            for axis, n, m in zip(axes, level.shape, than.shape, strict=True)
        )
    )


def _coarser(grid: Grid | None, multiscale: Plain, axes: str, index: int) -> Grid | None:
    """Return the voxel size of a level, from that of level 0 and the scales of both."""
    if grid is None:
        return None
    first, steps = (_steps(multiscale, len(axes), level) for level in (0, index))
    factors = {axis: b / a for axis, a, b in zip(axes, first, steps, strict=True)}
    return Grid(
        spacing_um=tuple(
            s * factors[axis] for axis, s in zip(grid.axes, grid.spacing_um, strict=True)
        )
    )


def provenance_in(source: Path) -> Plain | None:
    """Return what napari-deconv stored in the attributes of an OME-Zarr, or None."""
    group, _ = _image_group(source)
    kept = dict(group.attrs).get(KEY)
    return kept if isinstance(kept, dict) else None


def _image_group(source: Path) -> tuple[Any, bytes | None]:
    """Return the Zarr group of the (first) image, and the OME-XML that lies beside it."""
    import zarr

    require(
        is_zarr(source),
        f"{source.name} is a folder but no OME-Zarr image; choose the folder that holds "
        "zarr.json or .zgroup, or a file",
    )
    _require_known_format(source)
    group = zarr.open(str(source), mode="r")
    if not isinstance(group, zarr.Group):
        raise InputError(
            f"{source.name} is one array inside an OME-Zarr and knows no axes; choose the folder "
            "above it"
        )
    attrs = dict(group.attrs)
    attrs = {**attrs, **_mapping(attrs.get("ome"))}
    if "plate" in attrs or "well" in attrs:
        raise InputError(
            f"{source.name} is a plate or a well of many images; choose one of them, such as "
            "the folder A/1/0 inside the plate"
        )
    require(
        "multiscales" in attrs or not (source / UNFINISHED).is_dir(),
        f"{source.name} is a restoration that is not finished; run it again with the same "
        "settings and the same output, and it goes on from there",
    )
    companion = source / "OME" / "METADATA.ome.xml"
    if "bioformats2raw.layout" in attrs and "multiscales" not in attrs:
        xml = companion.read_bytes() if companion.is_file() else None
        return group["0"], xml
    return group, None


def _require_known_format(source: Path) -> None:
    """Refuse a format of Zarr itself that is not known, before it is taken for damage."""
    for marker, known in (("zarr.json", 3), (".zgroup", 2)):
        file = source / marker
        if file.is_file():
            found = _mapping(json.loads(file.read_text(encoding="utf-8"))).get("zarr_format")
            require(
                found in (None, known),
                f"{source.name} is written in format {found} of Zarr, and formats 2 and 3 are "
                "read; export it as OME-Zarr 0.4 or 0.5",
            )


def _multiscale(attrs: Plain, name: str) -> Plain:
    """Return the first multiscale image, wherever the version keeps it."""
    entries: Any = {**attrs, **_mapping(attrs.get("ome"))}.get("multiscales") or [{}]
    require(
        bool(_mapping(entries[0]).get("datasets")),
        f"{name} is Zarr but says nothing of an OME-Zarr image (no 'multiscales'); choose the "
        "folder of an image, or export it as OME-Zarr 0.4 or 0.5",
    )
    multiscale: Plain = entries[0]
    version = str(_mapping(attrs.get("ome")).get("version") or multiscale.get("version") or "")
    require(
        not version or re.split("[^0-9.]", version)[0] in _READABLE,
        f"{name} is written in version {version} of OME-Zarr, and versions {_READABLE[0]} to "
        f"{_READABLE[-1]} are read; export it as OME-Zarr 0.4 or 0.5",
    )
    return multiscale


def _axes(multiscale: Plain, ndim: int, name: str) -> list[str]:
    entries = multiscale.get("axes") or (list(AXES) if ndim == len(AXES) else [])
    names = [str(_mapping(entry).get("name", entry)).upper() for entry in entries]
    require(
        len(names) == ndim and all(len(axis) == 1 for axis in names),
        f"{name} names the axes {', '.join(names) or 'not at all'} for an image of {ndim} "
        "dimensions; one of t, c, z, y, x is needed for each",
    )
    return names


def _description(
    attrs: Plain, multiscale: Plain, axes: list[str], xml: bytes | None
) -> Description:
    """Return what the attributes say; the optics from our own key, or from the OME-XML."""
    steps = _steps(multiscale, len(axes))
    entries = [_mapping(entry) for entry in multiscale.get("axes") or [{}] * len(axes)]
    units = {a: str(entry.get("unit") or "") for a, entry in zip(axes, entries, strict=True)}
    spacing = {
        axis: (step, length_unit(units[axis]))
        for axis, step in zip(axes, steps, strict=True)
        if axis in "ZYX" and units[axis]
    }
    time_step_s = seconds(steps[axes.index("T")], units["T"]) if "T" in axes else None
    omero = _mapping({**attrs, **_mapping(attrs.get("ome"))}.get("omero"))
    channels = [_mapping(channel) for channel in omero.get("channels", ())]
    labels = tuple(str(channel.get("label", "")) for channel in channels)
    colours = tuple(_colour(channel.get("color")) for channel in channels)
    beside = ome_xml.parse(xml) if xml else Description()
    own = _mapping(attrs.get(KEY))
    return Description(
        spacing=spacing,
        channel_names=labels or beside.channel_names,
        channel_optics=stored_optics(own) or beside.channel_optics,
        time_step_s=time_step_s or beside.time_step_s,
        z_is_axis="Z" in spacing or "Z" in stored_axes(own),
        channel_colours=colours if any(colours) else beside.channel_colours,
        position=_position(multiscale, axes, units) or stored_position(own) or beside.position,
        acquired=stored_date(own) or beside.acquired,
    )


def _steps(multiscale: Plain, ndim: int, index: int = 0) -> list[float]:
    """Return the size of a voxel of a level on each axis."""
    return [size for size, _ in _transforms(multiscale, ndim, index)]


def _position(
    multiscale: Plain, axes: list[str], units: dict[str, str]
) -> dict[str, tuple[float, str]]:
    """Return where the first voxel lies, of the axes with a unit; nothing where it is at 0."""
    shifts = [shift for _, shift in _transforms(multiscale, len(axes))]
    found = {
        axis: (float(f"{shift:.15g}"), units[axis])
        for axis, shift in zip(axes, shifts, strict=True)
        if axis in "ZYX" and units[axis] and math.isfinite(shift)
    }
    return found if any(place for place, _ in found.values()) else {}


def _transforms(multiscale: Plain, ndim: int, index: int = 0) -> list[tuple[float, float]]:
    """Return scale and translation of a level on each axis: all its steps, one after the other."""
    level = multiscale["datasets"][index]
    found = [(1.0, 0.0)] * ndim
    for holder in (level, multiscale):
        for change in holder.get("coordinateTransformations") or ():
            kind = change.get("type")
            numbers = change.get(kind) if kind in ("scale", "translation") else None
            if not isinstance(numbers, list) or len(numbers) != ndim:
                continue
            if kind == "scale":
                factors = [positive(number) or math.nan for number in numbers]
                found = [(s * f, t * f) for (s, t), f in zip(found, factors, strict=True)]
            else:
                shifts = [finite(number) or 0.0 for number in numbers]
                found = [(s, t + shift) for (s, t), shift in zip(found, shifts, strict=True)]
    return found


def _colour(text: object) -> str:
    """Return a colour as "RRGGBB", "" where the file gives none that can be understood."""
    found = re.fullmatch("#?([0-9a-fA-F]{6})", str(text))
    return found[1].upper() if found else ""


def _remarks(source: Path, group: Any) -> tuple[str, ...]:
    """Return what is to be said of the images of a folder of images, of which "0" is read."""
    count = sum(inside.name.isdigit() for inside in source.iterdir()) if group.path else 1
    return several_images(source.name, count)


def _voxels(source: Path, array: Any, axes: str, loaded_bytes: float = math.inf) -> Any:
    """Return the voxels: numpy where few, else a dask array of the stored chunks."""
    stored = stored_level(source, array, axes)
    if array.nbytes <= min(LOADED_UP_TO_BYTES, loaded_bytes):
        return stored[...]
    return stored.lazy(getattr(array, "shards", None) or array.chunks)


def stored_level(source: Path, array: Any, axes: str) -> StoredArray:
    """Return the voxels of an `array` inside `source` as they stay on disk."""
    markers = (source / array.path / name for name in _MARKERS)
    witness = next((file for file in markers if file.is_file()), source)
    shape = tuple(int(n) for n in array.shape)
    return StoredArray(source, array.path, _opened, witness, axes, shape, array.dtype)


def _opened(source: Path, key: str) -> Any:
    import zarr

    return zarr.open_array(str(source), path=key, mode="r")


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
