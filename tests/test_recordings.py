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
    pairs = recordings.pairs_of(movie, movie)
    twins = recordings.repeats_of(movie, movie, Camera(2.0, 100.0))
    for found in ([pair.counts for pair in pairs], [twin.counts for twin in twins]):
        assert np.array_equal(np.stack(found), movie.data)
    assert len(recordings.pairs_of(stack, stack)) == 1


def test_stacks_that_are_no_pairs_are_told(stack: Stack) -> None:
    movie = replace(stack, data=np.stack([stack.data, np.zeros_like(stack.data)]), axes="TZYX")
    channels = replace(movie, axes="CZYX", name="truth")
    with pytest.raises(InputError, match="cell, volume 2 of 2: A pair is constant, or darker"):
        recordings.pairs_of(movie, movie)
    with pytest.raises(InputError, match="cell: A pair must be of one shape, not"):
        recordings.pairs_of(movie, stack)
    with pytest.raises(InputError, match="cell and truth must have the same axes, not TZYX"):
        recordings.pairs_of(movie, channels)
