"""Stacks: axes that fit, blocks in order, and what a file knows of the optics."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError

VOLUME, PLANE = Grid(spacing_um=(0.3, 0.1, 0.1)), Grid(spacing_um=(0.1, 0.1))
SIZES = {"T": 3, "C": 2, "Z": 4, "Y": 5, "X": 6}


def stack_of(axes: str, grid: Grid | None = None) -> Stack:
    return Stack(np.zeros([SIZES[axis] for axis in axes]), axes, grid)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "TYX", "TCYX", "CZYX", "TZYX", "TCZYX"])
def test_every_order_of_tczyx_is_a_stack(axes: str) -> None:
    stack = stack_of(axes, VOLUME if "Z" in axes else PLANE)
    leading = tuple(SIZES[axis] for axis in axes if axis in "TC")
    assert stack.shape == tuple(SIZES[axis] for axis in axes)
    assert stack.spatial_axes == ("ZYX" if "Z" in axes else "YX")
    assert stack.spatial_shape == stack.shape[len(leading) :]
    assert stack.channel_count() == (2 if "C" in axes else 1)
    blocks = list(stack.blocks())
    assert blocks == list(np.ndindex(*leading))
    assert all(stack.data[block].shape == stack.spatial_shape for block in blocks)


def test_blocks_belong_to_their_channel() -> None:
    stack = stack_of("TCYX")
    assert [stack.channel_of(block) for block in stack.blocks()] == [0, 1] * 3
    stack = stack_of("TZYX")
    assert [stack.channel_of(block) for block in stack.blocks()] == [0] * 3


@pytest.mark.parametrize("axes", ["", "X", "ZX", "XY", "YXZ", "CTYX", "ZCYX", "SYX", "YYX", "yx"])
def test_other_axes_are_refused(axes: str) -> None:
    with pytest.raises(InputError, match="are not a subset of TCZYX in that order, ending in YX"):
        Stack(np.zeros((1,) * max(len(axes), 2)), axes)


def test_axes_must_fit_the_data() -> None:
    with pytest.raises(InputError, match="The axes ZYX do not fit an image of 2 dimensions"):
        Stack(np.zeros((3, 4)), "ZYX")


@pytest.mark.parametrize(("axes", "grid", "count"), [("ZYX", PLANE, 2), ("TYX", VOLUME, 3)])
def test_the_voxel_size_must_fit_the_axes(axes: str, grid: Grid, count: int) -> None:
    with pytest.raises(InputError, match=f"A voxel size of {count} numbers does not fit the axes"):
        stack_of(axes, grid)


def test_what_is_not_known_is_none() -> None:
    stack = stack_of("ZYX")
    assert (stack.grid, stack.time_step_s, stack.channel_optics) == (None, None, ())
    assert KnownOptics() == KnownOptics(na=None, immersion_index=None, emission_nm=None)
