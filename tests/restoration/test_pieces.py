"""Volumes in pieces: every voxel is in one piece, and pieces are as small as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.restoration import pieces
from napari_deconv.restoration.pieces import Cores, blocks


@pytest.mark.parametrize("shape", [(7, 5, 6), (1, 9, 4), (6, 1, 3), (11, 8), (5, 1)])
@pytest.mark.parametrize("most", [1, 13, 40, 10_000])
@pytest.mark.parametrize("thickness", [1, 3])
def test_blocks_are_the_volume_once(shape: tuple[int, ...], most: int, thickness: int) -> None:
    seen = np.zeros(shape, int)
    for where in blocks(shape, most, thickness):
        seen[where] += 1
        # Whole rows, and no more than asked for where a row is not more itself.
        assert where[-1] == slice(0, shape[-1])
        assert seen[where].size <= max(most, thickness * shape[-1])
    assert (seen == 1).all()


def test_blocks_are_as_thick_as_asked() -> None:
    thick = [where[0].stop - where[0].start for where in blocks((16, 100, 10), 400, 8)]
    assert set(thick) == {8}


@pytest.mark.parametrize("count", [1, 3])
def test_work_is_done_in_order_whatever_the_cores(count: int) -> None:
    assert Cores(count).each(lambda n: n * n, range(50)) == [n * n for n in range(50)]


def test_a_failing_piece_fails_the_step() -> None:
    with pytest.raises(ZeroDivisionError):
        Cores(2).each(lambda n: 1 // n, [1, 0, 2])


def test_pieces_shrink_with_the_cores_but_not_below_what_is_worth_it() -> None:
    voxels = 1 << 26
    assert Cores(2).piece(voxels, 1 << 18) == 1 << 18
    assert Cores(64).piece(voxels, 1 << 18) * 64 * pieces.PIECES <= 2 * voxels
    assert Cores(64).piece(1000, 1 << 18) == pieces.LEAST
