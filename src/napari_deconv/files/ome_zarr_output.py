"""OME-Zarr out: versions 0.4 (Zarr 2) and 0.5 (Zarr 3), with their pyramids.

`create` and `create_level` make what voxels are written into, `complete` adds the smaller
levels and the metadata that the specification asks for; the provenance of an export stands
beside these under the key "napari_deconv".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import Plain

from .intensities import Range
from .metadata import micrometres
from .ome_zarr import KEY
from .pyramid import fill, level_factors, level_shape

_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_MADE_BY_MEANS = {
    "type": "mean",
    "metadata": {
        "description": "Means of 2 voxels along each axis that gets shorter, from the level before"
    },
}

Slices = tuple[slice, ...]


def write(
    target: Path,
    blocks: Iterable[tuple[Slices, npt.NDArray[Any]]],
    stack: Stack,
    *,
    dtype: str,
    provenance: Plain,
    version: str,
) -> None:
    """Write `blocks`, each with its place in the stack, as an OME-Zarr with its pyramid."""
    group = create(target, version)
    array = create_level(group, 0, stack.shape, stack, dtype, _chunks(stack))
    seen = Range()
    for place, block in blocks:
        array[place] = block
        seen = seen.widened(block)
    complete(group, stack, seen, provenance)


def create(folder: Path, version: str) -> Any:
    """Return the Zarr group of an image, made where there is none, as a version asks for it."""
    import zarr

    return zarr.open_group(str(folder), mode="a", zarr_format=2 if version == "0.4" else 3)


def create_level(
    group: Any,
    index: int,
    shape: tuple[int, ...],
    stack: Stack,
    dtype: str,
    chunks: tuple[int, ...],
) -> Any:
    """Create the array of a level, in the place of one that is there."""
    first = group.metadata.zarr_format == 2
    return group.create_array(
        str(index),
        shape=shape,
        dtype=dtype,
        chunks=tuple(min(side, n) for side, n in zip(chunks, shape, strict=True)),
        chunk_key_encoding={"name": "v2" if first else "default", "separator": "/"},
        dimension_names=None if first else list(stack.axes.lower()),
        overwrite=True,
        # Whatever the user's settings, so that what is resumed has the files of one go.
        config={"write_empty_chunks": False},
    )


def complete(group: Any, stack: Stack, seen: Range, provenance: Plain) -> None:
    """Add the smaller levels to a group that holds level 0, then what makes it an OME-Zarr.

    Parameters
    ----------
    group : zarr.Group
        As `create` made it. Smaller levels that are there are made anew.
    stack : Stack
        Only its header is looked at.
    seen : Range
        Of the intensities, for the display of named channels.
    provenance : dict
        How the image was made.
    """
    factors = level_factors(stack)
    larger = group["0"]
    for index, factor in enumerate(factors[1:], start=1):
        shape = level_shape(stack.shape, factor)
        level = create_level(group, index, shape, stack, larger.dtype.name, larger.chunks)
        fill(level, larger)
        larger = level
    version = "0.4" if group.metadata.zarr_format == 2 else "0.5"
    window = (seen.lowest, seen.highest)
    body = attributes(stack, version=version, window=window, levels=factors)
    group.attrs.update({**body, KEY: provenance})


def attributes(
    stack: Stack,
    *,
    version: str,
    window: tuple[float, float],
    levels: Sequence[tuple[int, ...]] = (),
) -> Plain:
    """Return the attributes of an OME-Zarr image, as its specification names them.

    Parameters
    ----------
    stack : Stack
        Axes, voxel size, position, channels and time step are taken from it.
    version : {"0.4", "0.5"}
        Of the OME-Zarr specification.
    window : (float, float)
        Lowest and highest intensity, for the display of named channels.
    levels : sequence of tuple of int
        By how much each level is smaller than level 0, on each axis; without it there is
        level 0 alone.
    """
    kinds = {"T": "time", "C": "channel"}
    axes: list[dict[str, str]] = [
        {"name": axis.lower(), "type": kinds.get(axis, "space")} for axis in stack.axes
    ]
    steps = dict.fromkeys(stack.axes, 1.0)
    units, start = {}, dict.fromkeys(stack.axes, 0.0)
    if stack.grid is not None:
        steps |= dict(zip(stack.grid.axes, stack.grid.spacing_um, strict=True))
        units = dict.fromkeys(stack.grid.axes, "micrometer")
        start |= _position_um(stack)
    if stack.time_step_s is not None and "T" in stack.axes:
        steps["T"], units["T"] = float(stack.time_step_s), "second"
    for axis, entry in zip(stack.axes, axes, strict=True):
        if axis in units:
            entry["unit"] = units[axis]
    multiscale: Plain = {
        "name": stack.name,
        "axes": axes,
        "datasets": [
            {
                "path": str(index),
                "coordinateTransformations": _placed(steps, start, factors),
            }
            for index, factors in enumerate(levels or [(1,) * len(axes)])
        ],
    }
    if len(levels) > 1:
        multiscale |= _MADE_BY_MEANS
    body: Plain = {"multiscales": [multiscale]}
    if stack.channel_names or stack.channel_colours:
        body["omero"] = {"channels": _display(stack, window)}
    if version == "0.4":
        multiscale["version"] = version
        return body
    return {"ome": {"version": version, **body}}


def _position_um(stack: Stack) -> dict[str, float]:
    """Return where the first voxel lies, of the axes that have a unit of length."""
    places = {a: micrometres(place, unit) for a, (place, unit) in stack.position.items()}
    return {axis: um for axis, um in places.items() if um is not None}


def _placed(
    steps: dict[str, float], start: dict[str, float], factors: Sequence[int]
) -> list[Plain]:
    """Return the transformations of a level: the centre of its first voxel is a mean's."""
    each = list(zip(steps.values(), start.values(), factors, strict=True))
    sizes = [step * factor for step, _, factor in each]
    centre = [first + step * (factor - 1) / 2 for step, first, factor in each]
    scale = {"type": "scale", "scale": sizes}
    return [scale, {"type": "translation", "translation": centre}] if any(centre) else [scale]


def _display(stack: Stack, window: tuple[float, float]) -> list[Plain]:
    low, high = window if window[0] < window[1] else (0.0, 1.0)
    count = stack.channel_count()
    usual = ["FFFFFF"] if count == 1 else [_COLOURS[i % len(_COLOURS)] for i in range(count)]
    given, names = ((*some, *[""] * count) for some in (stack.channel_colours, stack.channel_names))
    return [
        {
            "label": name,
            "color": colour or other,
            "active": True,
            "window": {"min": low, "max": high, "start": low, "end": high},
        }
        for name, colour, other in zip(names, given, usual, strict=False)
    ]


def _chunks(stack: Stack) -> tuple[int, ...]:
    """Return chunks of at most 8 MiB of float32: a block of a volume or of a plane."""
    sides = {"Z": 32, "Y": 256, "X": 256} if "Z" in stack.axes else {"Y": 1024, "X": 1024}
    return tuple(
        min(size, sides.get(axis, 1)) for axis, size in zip(stack.axes, stack.shape, strict=True)
    )
