"""Layers to stacks and back: nothing may move, stretch or be lost."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_deconv.files.recipe import Recipe
from napari_deconv.files.samples import real_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import restore_stack
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.ui import layers

RECIPE = Recipe(Psf(np.ones((1, 1))), RichardsonLucy(2), background=0.0, engine="cpu")


@pytest.mark.parametrize(
    ("units", "scale", "expected"),
    [
        (("um", "um", "um"), (0.3, 0.1, 0.1), (0.3, 0.1, 0.1)),
        (("nm", "nm", "nm"), (300, 100, 100), (0.3, 0.1, 0.1)),
        (("um", "nm", "mm"), (0.3, 100, 1e-4), (0.3, 0.1, 0.1)),
        (("pixel", "pixel", "pixel"), (0.3, 0.1, 0.1), None),
        (("pixel", "um", "um"), (1, 0.1, 0.1), None),
    ],
)
def test_voxel_size_is_read_with_its_units(
    units: tuple[str, ...], scale: tuple[float, ...], expected: tuple[float, ...] | None
) -> None:
    layer = Image(np.zeros((2, 3, 4)), units=units, scale=scale)
    grid = layers.grid_of(layer, "ZYX")
    assert (grid and grid.spacing_um) == (expected and pytest.approx(expected))


def test_axes_follow_labels_then_units_then_custom() -> None:
    five = np.zeros((2, 3, 4, 5, 6))
    assert layers.axes_of(Image(five)) == "TCZYX"
    assert layers.axes_of(Image(five, axis_labels=("t", "z", "c", "y", "x"))) == "TZCYX"
    assert layers.axes_of(Image(five[0], axis_labels=("channel", "z", "y", "x"))) == "CZYX"
    assert layers.axes_of(Image(five[0, 0])) == "ZYX"
    assert layers.axes_of(Image(five[0, 0], units=("s", "um", "um"))) == "TYX"
    assert layers.axes_of(Image(five[0, 0, 0])) == "YX"
    with pytest.raises(InputError, match="6 axes"):
        layers.axes_of(Image(np.zeros((1, 2, 1, 2, 3, 4))))


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TZYX", "ZCYX", "TZCYX", "CTZYX"])
def test_a_result_lies_exactly_on_its_source(axes: str) -> None:
    rng = np.random.default_rng(0)
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 6, "X": 5}
    data = rng.integers(1, 200, [sizes[axis] for axis in axes]).astype(np.uint16)
    source = Image(
        data,
        scale=rng.uniform(0.1, 2, len(axes)),
        translate=rng.uniform(-5, 5, len(axes)),
        units=["um"] * len(axes),
        axis_labels=tuple(axes.lower()),
        colormap="viridis",
        metadata={"keep": "me", layers.KEY: {"recipe": "old"}},
        name="cells",
    )
    turned = np.eye(len(axes) + 1)
    turned[-3:-1, -3:] = [[0.8, -0.6, 3.0], [0.6, 0.8, -4.0]]
    source.affine = turned
    grid = layers.grid_of(source, axes)
    stack = layers.stack_of_layer(source, axes, grid)
    assert np.shares_memory(stack.data, data)
    restored = restore_stack(stack, RECIPE)
    placed, state, kind = layers.result_layer(restored, layers.Placement.of(source, axes))
    result = Image(placed, **state)
    assert kind == "image"
    assert np.abs(placed - data).max() < 1e-3
    for name in ("scale", "translate", "units", "axis_labels"):
        assert np.array_equal(getattr(result, name), getattr(source, name)), name
    place = rng.uniform(0, 5, len(axes))
    assert result.data_to_world(place) == pytest.approx(source.data_to_world(place))
    assert result.colormap.name == "viridis"
    assert result.name == "cells restored"
    assert result.metadata["keep"] == "me"
    assert Recipe.from_dict(result.metadata[layers.KEY]["recipe"]).method == RECIPE.method
    assert source.metadata[layers.KEY] == {"recipe": "old"}


def test_colour_is_refused_and_pyramids_give_level_zero() -> None:
    colour = Image(np.zeros((8, 9, 3), np.uint8), rgb=True)
    with pytest.raises(InputError, match="colour"):
        layers.stack_of_layer(colour, "YX", None)
    whole = np.arange(64.0).reshape(8, 8)
    pyramid = Image([whole, whole[::2, ::2]], multiscale=True)
    assert layers.stack_of_layer(pyramid, "YX", None).shape == (8, 8)


def test_contrast_limits_show_structure() -> None:
    data = np.full((10, 100, 100), 5, np.float32)
    data[0, :2] = 1000
    low, high = layers.contrast_limits(data)
    assert low == 0
    assert 5 < high <= 1000
    low, high = layers.contrast_limits(np.zeros((4, 4), np.float32))
    assert low < high
    assert layers.contrast_limits(np.full((50, 50), -3, np.float32))[0] == -3


def test_stacks_become_layers_with_scale_units_and_optics() -> None:
    grid = Grid(spacing_um=(0.4, 0.2, 0.2))
    known = (KnownOptics(na=1.2), KnownOptics(emission_nm=600))
    data = np.arange(2 * 2 * 3 * 4 * 5).reshape(2, 2, 3, 4, 5)
    stack = Stack(data, "TCZYX", grid, "cells", ("DAPI", "GFP"), known, 2.5)
    found = [Image(d, **state) for d, state, _ in layers.layers_of_stack(stack)]
    assert [layer.name for layer in found] == ["cells DAPI", "cells GFP"]
    assert np.array_equal(found[1].data, data[:, 1])
    assert found[0].scale.tolist() == [2.5, 0.4, 0.2, 0.2]
    assert [str(unit) for unit in found[0].units] == ["second"] + ["micrometer"] * 3
    assert layers.known_optics(found[1]) == known[1]
    assert layers.grid_of(found[0], layers.axes_of(found[0])) == grid


def test_a_layer_without_voxel_size_stays_without() -> None:
    stack = Stack(np.zeros((3, 4, 5)), "ZYX", None, "raw")
    ((data, state, _),) = layers.layers_of_stack(stack)
    layer = Image(data, **state)
    assert layers.grid_of(layer, "ZYX") is None


def test_what_writers_are_given_is_the_same_stack() -> None:
    ((data, state, _),) = layers.layers_of_stack(real_stack())
    layer = Image(data, **state)
    values, attributes, _ = layer.as_layer_data_tuple()
    stack = layers.stack_of_state(values, attributes)
    assert stack.grid == real_stack().grid
    assert stack.axes == "ZYX"
