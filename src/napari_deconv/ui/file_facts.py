"""What a file knows beside voxels and their size, on its way through a layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from napari_deconv.files.metadata import micrometres
from napari_deconv.imaging.stack import Stack


def with_header(stack: Stack, header: Stack) -> Stack:
    """Return the stack in a layer with what the header of its file knows beside."""
    return replace(
        stack,
        channel_names=header.channel_names,
        channel_colours=header.channel_colours or stack.channel_colours,
        position=stack.position or header.position,
        acquired=header.acquired,
        remarks=header.remarks,
    )


def for_file(stack: Stack) -> dict[str, Any]:
    """Return what `layers.stack_of_layer` finds in a layer's entry, or nothing."""
    known = {
        "position": dict(stack.position),
        "acquired": stack.acquired,
        "remarks": list(stack.remarks),
    }
    return {"file": known} if any(known.values()) else {}


def look_of(stack: Stack, channel: int) -> dict[str, Any]:
    """Return the colours of a channel where the file gives them, seen through where several."""
    if not any(stack.channel_colours[channel : channel + 1]):
        return {}
    blending = {"blending": "additive"} if stack.channel_count() > 1 else {}
    return {"colormap": f"#{stack.channel_colours[channel]}", **blending}


def place_of(stack: Stack, axes: str) -> dict[str, Any]:
    """Return where the first voxel lies, of the axes that are known; nothing where it is at 0."""
    places = {a: micrometres(place, unit) for a, (place, unit) in stack.position.items()}
    if not any(places.values()):
        return {}
    return {"translate": tuple(places.get(axis) or 0.0 for axis in axes)}
