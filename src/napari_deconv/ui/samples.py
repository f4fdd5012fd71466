"""Sample data for napari's File > Open Sample."""

from __future__ import annotations

from napari_deconv.files import samples

from .layers import LayerTuple, layers_of_stack


def light_sheet_cell() -> list[LayerTuple]:
    """Return the bundled light-sheet stack and its bead."""
    bead = layers_of_stack(samples.real_bead(), colormap="magma", visible=False)
    return [*bead, *layers_of_stack(samples.real_stack())]


def confocal_beads() -> list[LayerTuple]:
    """Return the bundled confocal stacks of beads and of a line grid."""
    grid = layers_of_stack(samples.confocal_grid(), visible=False, contrast_limits=(0, 8))
    return [*grid, *layers_of_stack(samples.confocal_beads(), contrast_limits=(0, 100))]


def simulated_cell() -> list[LayerTuple]:
    """Return a simulated widefield stack and its truth."""
    stack, truth = samples.simulated_stack()
    return [*layers_of_stack(truth, visible=False), *layers_of_stack(stack)]
