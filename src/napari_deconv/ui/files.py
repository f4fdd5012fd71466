"""napari's own Open and Save: a reader and a writer that keep voxel size and recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_deconv.files.export import write_stack
from napari_deconv.files.heights import height_channels, read_heights
from napari_deconv.files.reading import read_provenance, read_pyramid
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, require

from .height_layers import layers_of_heights
from .layers import KEY, LayerTuple, layers_of_stack, stack_of_state


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a reader where the file knows its voxel size; else leave it to napari."""
    if not isinstance(path, str):
        return None
    try:
        levels = read_pyramid(path)
    except InputError:
        return None
    if levels[0].grid is None:
        return None

    def read(_: Any) -> list[LayerTuple]:
        layers = layers_of_pyramid(levels, placed=Path(path).is_dir())
        made_by = read_provenance(path)
        if made_by:
            for _data, state, _kind in layers:
                state["metadata"].setdefault(KEY, {}).update(
                    {name: made_by[name] for name in ("recipe", "record") if made_by.get(name)}
                )
        return layers

    return read


def get_heights_reader(path: str | list[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a reader of a microscope's heights, a layer for each channel of them.

    What is wrong with a file is told when it is read, in a sentence: no other reader knows more.
    """
    if not isinstance(path, str):
        return None

    def read(_: Any) -> list[LayerTuple]:
        # The one that is read by itself comes last, and so lies on top.
        names = height_channels(path)[::-1]
        require(bool(names), f"{Path(path).name} has no channel of heights")
        shown = [_heights_layer(path, name) for name in names]
        for _data, state, _kind in shown[:-1]:
            state["visible"] = False
        return shown

    return read


def _heights_layer(path: str, channel: str) -> LayerTuple:
    """Return the layer of a channel; what nothing tells, unit or pixel size, it does not either."""
    known: dict[str, Any] = {"channel": channel}
    unknown: dict[str, Any] = {}
    unit, pixel = {"z_unit": "nm"}, {"pixel_nm": (1.0, 1.0)}
    guesses: tuple[dict[str, Any], ...] = ({}, unit, pixel, {**unit, **pixel})
    for guess in guesses:
        try:
            data, state, kind = layers_of_heights(read_heights(path, **known, **guess))
        except InputError as error:
            refused = error
            continue
        if "z_unit" in guess:
            unknown["metadata"] = {}
        if "pixel_nm" in guess:
            unknown["units"] = tuple("pixel" if unit == "nm" else unit for unit in state["units"])
        return data, {**state, **unknown}, kind
    raise refused


def layers_of_pyramid(levels: tuple[Stack, ...], *, placed: bool = False) -> list[LayerTuple]:
    """Return the layers that show an image at the resolution that the view needs.

    With `placed` they lie where the image was taken, as OME-Zarr is shown; other readers show
    a TIFF at the origin, and beside these it would lie elsewhere.

    napari stretches each level over the extent of level 0, edge to edge: a voxel lies where its
    mean was taken, and at most one voxel of level 0 beside it where a size is odd.
    """
    layers = layers_of_stack(levels[0], placed=placed)
    if len(levels) == 1:
        return layers
    smaller = [layers_of_stack(level) for level in levels[1:]]
    return [
        ([data, *(level[channel][0] for level in smaller)], {**state, "multiscale": True}, kind)
        for channel, (data, state, kind) in enumerate(layers)
    ]


def write_image(path: str, data: Any, state: dict[str, Any]) -> list[str]:
    """Write one image layer as OME-TIFF or OME-Zarr, with its recipe if it has one.

    Of a pyramid level 0 is written; a large OME-Zarr gets a pyramid of its own.
    """
    stack = stack_of_state(data, state)
    entry = (state.get("metadata") or {}).get(KEY, {})
    kept = stack.data.dtype.name == "uint16"
    write_stack(
        path,
        stack,
        dtype="uint16" if kept else "float32",
        recipe=entry.get("recipe"),
        record=entry.get("record"),
        overwrite=True,
    )
    return [path]
