"""The layers of a viewer that a network learns from, as pairs of stacks."""

from __future__ import annotations

from napari.layers import Image
from napari.viewer import Viewer

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require

from . import layers
from .image_panel import ImageChoice
from .pairs_panel import Names
from .source_panel import AGAIN, LAYER, SourceChoice


def recorded_stacks(
    viewer: Viewer, image: ImageChoice, source: SourceChoice
) -> tuple[tuple[Stack, Stack], ...]:
    """Return what is in the layers of each pair, the chosen image first; not yet read.

    Empty where no layer is learned from.

    Raises
    ------
    InputError
        If a layer is not chosen, is gone or no image, or a pair is none.
    """
    if source.source not in (LAYER, AGAIN):
        return ()
    require(bool(source.layer), "Choose the layer to learn from, beside the image")
    pairs = ((image.name, source.layer), *source.more)
    for number, (one, other) in enumerate(pairs):
        require(bool(one and other), "Choose both layers of each pair, or remove it (×)")
        require(one != other, f"A pair is two layers; choose another one beside {one}")
        # Twice the same: what is left out to look at would have been learned.
        before = [set(names) for names in pairs[:number]]
        require({one, other} not in before, f"{one} and {other} are a pair twice; remove one (×)")
    return tuple(_stacks(viewer, names, image.axes) for names in pairs)


def _stacks(viewer: Viewer, names: Names, axes: str) -> tuple[Stack, Stack]:
    """Return both stacks of a pair; `axes` are those of the chosen image, as the user sees them."""
    first, second = (_image(viewer, name) for name in names)
    shapes = (first.data.shape, second.data.shape)
    require(
        first.ndim == second.ndim,
        f"{first.name} and {second.name} must be of one shape, not {shapes[0]} and {shapes[1]}; "
        "crop or register them",
    )
    own = axes if first.ndim == len(axes) else layers.axes_of(first)
    return layers.stack_of_layer(first, own, None), layers.stack_of_layer(second, own, None)


def _image(viewer: Viewer, name: str) -> Image:
    require(name in viewer.layers, f"There is no layer {name!r} to learn from; choose another one")
    layer = viewer.layers[name]
    require(isinstance(layer, Image), f"The layer {name!r} holds no image to learn from")
    return layer
