"""Recorded images to learn from: which belong together, and what is told of those that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_deconv import recordings
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError


@pytest.fixture
def stack() -> Stack:
    """Return a square of light on a camera's offset."""
    data = np.full((4, 32, 32), 100, np.uint16)
    data[:, 8:20, 8:20] = 400
    return Stack(data, "ZYX", Grid(spacing_um=(0.2, 0.1, 0.1)), "cell")


def test_each_volume_of_two_stacks_is_a_pair(stack: Stack) -> None:
    movie = replace(stack, data=np.stack([stack.data, stack.data[:, ::-1]]), axes="TZYX")
    second = replace(movie, data=movie.data + movie.data // 2)
    pairs = recordings.pairs_of(movie, second)
    twins = recordings.repeats_of(movie, second, Camera(2.0, 100.0))
    for found in ([pair.counts for pair in pairs], [twin.counts for twin in twins]):
        assert np.array_equal(np.stack(found), movie.data)
    assert len(recordings.pairs_of(stack, replace(stack, data=stack.data * 2))) == 1


def test_stacks_that_are_no_pairs_are_told(stack: Stack) -> None:
    movie = replace(stack, data=np.stack([stack.data, np.zeros_like(stack.data)]), axes="TZYX")
    channels = replace(movie, axes="CZYX", name="truth")
    with pytest.raises(InputError, match="cell, volume 2 of 2: A pair is constant, or darker"):
        recordings.pairs_of(movie, replace(movie, data=2 * movie.data))
    with pytest.raises(InputError, match="cell: A pair must be of one shape, not"):
        recordings.pairs_of(movie, stack)
    with pytest.raises(InputError, match="cell and truth must have the same axes, not TZYX"):
        recordings.pairs_of(movie, channels)


def test_the_same_image_twice_is_no_pair(stack: Stack) -> None:
    with pytest.raises(InputError, match="cell: Two recordings are the same image, noise and all"):
        recordings.repeats_of(stack, stack, Camera(2.0, 100.0))
    with pytest.raises(InputError, match="cell: A pair is twice the same image, from which"):
        recordings.pairs_of(stack, stack)


def test_a_pair_has_one_voxel_size(stack: Stack) -> None:
    """What a file does not tell, or rounds, is not held against it."""
    truth = replace(stack, data=stack.data * 2)
    for size in (None, Grid(spacing_um=(0.2, 0.1005, 0.1))):
        assert len(recordings.pairs_of(stack, replace(truth, grid=size))) == 1
    other = replace(truth, grid=Grid(spacing_um=(0.2, 0.05, 0.05)))
    told = "cell: A pair must have one voxel size, not 0.2 x 0.1 x 0.1 um and 0.2 x 0.05 x 0.05 um;"
    with pytest.raises(InputError, match=told):
        recordings.pairs_of(stack, other)
    with pytest.raises(InputError, match=told):
        recordings.repeats_of(stack, other, Camera(2.0, 100.0))
