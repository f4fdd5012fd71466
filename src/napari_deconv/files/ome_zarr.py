"""OME-Zarr in and out: versions 0.4 (Zarr 2) and 0.5 (Zarr 3), level 0 of a pyramid.

`attributes` builds the metadata that the specification asks for and `_description` reads it;
the provenance of an export stands beside it under the key "napari_deconv".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import AXES, Stack
from napari_deconv.imaging.value import InputError, Plain, require

from . import ome_xml
from .intensities import Range
from .metadata import Description, length_unit, positive, seconds, shadow, stack_of, stem
from .provenance import stored_axes, stored_optics

VERSIONS = ("0.4", "0.5")
KEY = "napari_deconv"

#: Voxels of this many bytes or less are loaded; more stay on disk, as a dask array.
LOADED_UP_TO_BYTES = 2**26

_MARKERS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")

Slices = tuple[slice, ...]


def is_zarr(folder: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((folder / marker).is_file() for marker in _MARKERS)


def read(source: Path, *, voxels: bool = True) -> Stack:
    """Read level 0 of the first image of an OME-Zarr folder; see `tiff.read` for `voxels`.

    Raises
    ------
    InputError
        If the folder is no OME-Zarr image, or its axes cannot be told apart.
    """
    group, xml = _image_group(source)
    attrs = dict(group.attrs)
    multiscale = _multiscale(attrs, source.name)
    level = multiscale["datasets"][0]
    array = group[str(level["path"])]
    axes = _axes(multiscale, array.ndim, source.name)
    description = _description(attrs, multiscale, axes, xml)
    data = _voxels(array) if voxels else shadow(array.shape, array.dtype)
    return stack_of(data, "".join(axes), description, stem(source))


def provenance_in(source: Path) -> Plain | None:
    """Return what napari-deconv stored in the attributes of an OME-Zarr, or None."""
    group, _ = _image_group(source)
    kept = dict(group.attrs).get(KEY)
    return kept if isinstance(kept, dict) else None


def write(
    target: Path,
    blocks: Iterable[tuple[Slices, npt.NDArray[Any]]],
    stack: Stack,
    *,
    dtype: str,
    provenance: Plain,
    version: str,
) -> None:
    """Write `blocks`, each with its place in the stack, as an OME-Zarr of one level."""
    import zarr

    first = version == "0.4"
    group = zarr.open_group(str(target), mode="w", zarr_format=2 if first else 3)
    array = group.create_array(
        "0",
        shape=stack.shape,
        dtype=dtype,
        chunks=_chunks(stack),
        chunk_key_encoding={"name": "v2" if first else "default", "separator": "/"},
        dimension_names=None if first else list(stack.axes.lower()),
    )
    seen = Range()
    for place, block in blocks:
        array[place] = block
        seen = seen.widened(block)
    body = attributes(stack, version=version, window=(seen.lowest, seen.highest))
    group.attrs.update({**body, KEY: provenance})


def attributes(stack: Stack, *, version: str, window: tuple[float, float]) -> Plain:
    """Return the attributes of an OME-Zarr image, as its specification names them.

    Parameters
    ----------
    stack : Stack
        Axes, voxel size, channel names and time step are taken from it.
    version : {"0.4", "0.5"}
        Of the OME-Zarr specification.
    window : (float, float)
        Lowest and highest intensity, for the display of named channels.
    """
    kinds = {"T": "time", "C": "channel"}
    axes: list[dict[str, str]] = [
        {"name": axis.lower(), "type": kinds.get(axis, "space")} for axis in stack.axes
    ]
    steps = dict.fromkeys(stack.axes, 1.0)
    units = {}
    if stack.grid is not None:
        steps |= dict(zip(stack.grid.axes, stack.grid.spacing_um, strict=True))
        units = dict.fromkeys(stack.grid.axes, "micrometer")
    if stack.time_step_s is not None and "T" in stack.axes:
        steps["T"], units["T"] = float(stack.time_step_s), "second"
    for axis, entry in zip(stack.axes, axes, strict=True):
        if axis in units:
            entry["unit"] = units[axis]
    scale = {"type": "scale", "scale": list(steps.values())}
    multiscale: Plain = {
        "name": stack.name,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    body: Plain = {"multiscales": [multiscale]}
    if stack.channel_names:
        body["omero"] = {"channels": _display(stack, window)}
    if version == "0.4":
        multiscale["version"] = version
        return body
    return {"ome": {"version": version, **body}}


def _display(stack: Stack, window: tuple[float, float]) -> list[Plain]:
    low, high = window if window[0] < window[1] else (0.0, 1.0)
    count = stack.channel_count()
    colours = ["FFFFFF"] if count == 1 else [_COLOURS[i % len(_COLOURS)] for i in range(count)]
    return [
        {
            "label": name,
            "color": colour,
            "active": True,
            "window": {"min": low, "max": high, "start": low, "end": high},
        }
        for name, colour in zip(stack.channel_names, colours, strict=False)
    ]


def _chunks(stack: Stack) -> tuple[int, ...]:
    """Return chunks of at most 8 MiB of float32: a block of a volume or of a plane."""
    sides = {"Z": 32, "Y": 256, "X": 256} if "Z" in stack.axes else {"Y": 1024, "X": 1024}
    return tuple(
        min(size, sides.get(axis, 1)) for axis, size in zip(stack.axes, stack.shape, strict=True)
    )


def _image_group(source: Path) -> tuple[Any, bytes | None]:
    """Return the Zarr group of the (first) image, and the OME-XML that lies beside it."""
    import zarr

    require(
        is_zarr(source),
        f"{source.name} is a folder but no OME-Zarr image; choose the folder that holds "
        "zarr.json or .zgroup, or a file",
    )
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
    companion = source / "OME" / "METADATA.ome.xml"
    if "bioformats2raw.layout" in attrs and "multiscales" not in attrs:
        xml = companion.read_bytes() if companion.is_file() else None
        return group["0"], xml
    return group, None


def _multiscale(attrs: Plain, name: str) -> Plain:
    """Return the first multiscale image, wherever the version keeps it."""
    entries: Any = {**attrs, **_mapping(attrs.get("ome"))}.get("multiscales") or [{}]
    require(
        bool(_mapping(entries[0]).get("datasets")),
        f"{name} is Zarr but says nothing of an OME-Zarr image (no 'multiscales'); choose the "
        "folder of an image, or export it as OME-Zarr 0.4 or 0.5",
    )
    multiscale: Plain = entries[0]
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
    labels = tuple(str(_mapping(c).get("label", "")) for c in omero.get("channels", ()))
    beside = ome_xml.parse(xml) if xml else Description()
    own = _mapping(attrs.get(KEY))
    return Description(
        spacing=spacing,
        channel_names=labels or beside.channel_names,
        channel_optics=stored_optics(own) or beside.channel_optics,
        time_step_s=time_step_s or beside.time_step_s,
        z_is_axis="Z" in spacing or "Z" in stored_axes(own),
    )


def _steps(multiscale: Plain, ndim: int) -> list[float]:
    """Return the size of a voxel of level 0 on each axis: all its scales, multiplied."""
    level = multiscale["datasets"][0]
    steps = [1.0] * ndim
    for holder in (level, multiscale):
        for change in holder.get("coordinateTransformations") or ():
            if change.get("type") == "scale" and len(change.get("scale", ())) == ndim:
                factors = [positive(factor) or math.nan for factor in change["scale"]]
                steps = [step * factor for step, factor in zip(steps, factors, strict=True)]
    return steps


def _voxels(array: Any) -> Any:
    """Return the voxels: numpy where few, else a dask array of the stored chunks."""
    if array.nbytes <= LOADED_UP_TO_BYTES:
        return np.asarray(array[...])
    from dask import array as da

    return da.from_array(array, chunks=getattr(array, "shards", None) or array.chunks)


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
