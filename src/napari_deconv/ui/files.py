"""napari's own Open and Save: a reader and a writer that keep voxel size and recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.imaging.value import InputError

from .layers import KEY, LayerTuple, layers_of_stack, stack_of_state


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a reader where the file knows its voxel size; else leave it to napari."""
    if not isinstance(path, str):
        return None
    try:
        stack = read_stack(path)
    except InputError:
        return None
    if stack.grid is None:
        return None

    def read(_: Any) -> list[LayerTuple]:
        layers = layers_of_stack(stack)
        made_by = read_provenance(path)
        if made_by:
            for _data, state, _kind in layers:
                state["metadata"].setdefault(KEY, {}).update(
                    {name: made_by[name] for name in ("recipe", "record") if made_by.get(name)}
                )
        return layers

    return read


def write_image(path: str, data: Any, state: dict[str, Any]) -> list[str]:
    """Write one image layer as OME-TIFF or OME-Zarr, with its recipe if it has one."""
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
