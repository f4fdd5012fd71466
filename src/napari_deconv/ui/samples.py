"""Sample data for napari's File > Open Sample.

What is to be worked on comes first, so that a dock that is open takes that.
"""

from __future__ import annotations

from dataclasses import replace

from napari_deconv.files import samples

from .height_layers import layers_of_heights, tip_layer
from .layers import LayerTuple, layers_of_stack


def light_sheet_cell() -> list[LayerTuple]:
    """Return the bundled light-sheet stack and its bead."""
    bead = layers_of_stack(samples.real_bead(), colormap="magma", visible=False)
    return [*layers_of_stack(samples.real_stack()), *bead]


def confocal_beads() -> list[LayerTuple]:
    """Return the bundled confocal stacks of beads and of a line grid."""
    grid = layers_of_stack(samples.confocal_grid(), visible=False, contrast_limits=(0, 8))
    return [*layers_of_stack(samples.confocal_beads(), contrast_limits=(0, 100)), *grid]


def simulated_afm() -> list[LayerTuple]:
    """Return a simulated image of heights, the surface under it, and the tip."""
    from napari_deconv.afm.simulated import sample_afm

    image, truth, tip = sample_afm()
    surface = replace(image, heights_nm=truth, name="simulated AFM surface", channel="")
    made = tip_layer(tip.heights_nm, tip.pixel_nm, "simulated AFM tip")
    tip_data, tip_state, _ = made.as_layer_data_tuple()
    return [
        layers_of_heights(image),
        layers_of_heights(surface, visible=False),
        (tip_data, {**tip_state, "visible": False}, "image"),
    ]


def simulated_cell() -> list[LayerTuple]:
    """Return a simulated widefield stack and its truth."""
    stack, truth = samples.simulated_stack()
    return [*layers_of_stack(stack), *layers_of_stack(truth, visible=False)]
