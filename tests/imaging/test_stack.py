"""Stacks: axes that fit, blocks in order, and what a file knows of the optics."""

from __future__ import annotations

from typing import Any

import dask.array as da
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


def movie(data: Any = None) -> Stack:
    """Return a stack of 4 times and 3 channels whose voxels say their place."""
    voxels = np.arange(4 * 3 * 2 * 5 * 6).reshape(4, 3, 2, 5, 6) if data is None else data
    optics = tuple(KnownOptics(emission_nm=nm) for nm in (450.0, 520.0, 600.0))
    return Stack(voxels, "TCZYX", VOLUME, "movie", ("a", "b", "c"), optics, 0.5)


@pytest.mark.parametrize(
    ("channels", "times", "step_s"),
    [
        ((), (), 0.5),
        ((1,), (), 0.5),
        ((0, 2), (0, 2), 1.0),
        ((1, 2), (1, 2, 3), 0.5),
        ((), (0, 1, 3), None),
        ((0,), (3,), 0.5),
        (range(0, 3, 2), np.array([0, 3]), 1.5),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_channels_and_times_are_selected(
    channels: Any, times: Any, step_s: float | None, lazy: bool
) -> None:
    voxels: Any = movie().data
    part = movie(da.from_array(voxels, chunks=(1, 1, 2, 5, 6)) if lazy else voxels).selected(
        channels, times
    )
    kept_c = list(channels) if len(channels) else [0, 1, 2]
    kept_t = list(times) if len(times) else [0, 1, 2, 3]
    assert isinstance(part.data, da.Array if lazy else np.ndarray)
    np.testing.assert_array_equal(np.asarray(part.data), voxels[np.ix_(kept_t, kept_c)])
    assert (part.axes, part.grid, part.name) == ("TCZYX", VOLUME, "movie")
    assert part.channel_names == tuple("abc"[c] for c in kept_c)
    assert [o.emission_nm for o in part.channel_optics] == [(450, 520, 600)[c] for c in kept_c]
    assert part.time_step_s == step_s


def test_a_selection_keeps_the_order_of_the_stack_and_each_entry_once() -> None:
    part = movie().selected(channels=[2, 0, 2])
    assert part.channel_names == ("a", "c")
    np.testing.assert_array_equal(part.data, movie().data[:, [0, 2]])


def test_an_even_selection_of_numpy_copies_nothing() -> None:
    stack = movie()
    for channels, times in (((0, 2), (1, 3)), ((1,), (0, 1, 2)), ((), (2,))):
        assert np.shares_memory(stack.selected(channels, times).data, stack.data)


def test_a_selection_of_what_the_file_does_not_say_says_nothing() -> None:
    part = stack_of("TCYX").selected((1,), (0, 1))
    assert (part.shape, part.channel_names, part.channel_optics) == ((2, 1, 5, 6), (), ())
    assert part.time_step_s is None


@pytest.mark.parametrize(
    ("axes", "wanted", "sentence"),
    [
        ("TCYX", {"channels": [5]}, "This stack has 2 channels, 0 and 1; 5 is not there"),
        ("TCYX", {"channels": [-1]}, "This stack has 2 channels, 0 and 1; -1 is not there"),
        ("TCYX", {"times": (0, 3)}, "This stack has 3 times, 0 to 2; 3 is not there"),
        ("ZYX", {"times": [0]}, "This stack has no times to choose from; choose none"),
        ("TYX", {"channels": [0]}, "This stack has no channels to choose from; choose none"),
        ("TCYX", {"channels": [0.5]}, "A channel is a whole number from 0 on, not 0.5"),
        ("TCYX", {"channels": [True, False]}, "A channel is a whole number from 0 on, not True"),
        ("TCYX", {"times": "01"}, "A time is a whole number from 0 on, not '0'"),
    ],
)
def test_what_is_not_there_cannot_be_selected(
    axes: str, wanted: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        stack_of(axes).selected(**wanted)
    assert str(caught.value) == sentence


def test_the_only_channel_can_be_selected() -> None:
    stack = Stack(np.zeros((1, 5, 6)), "CYX")
    assert stack.selected(channels=[0]).shape == (1, 5, 6)
    with pytest.raises(InputError, match="This stack has 1 channel, 0 alone; 1 is not there"):
        stack.selected(channels=[1])
