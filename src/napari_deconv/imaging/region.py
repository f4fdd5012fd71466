"""A box of voxels in a block: which, and how far it may grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from .value import Value, require

#: The region that a preview shows, (z, y, x) or (y, x) of it.
SHOWN = (32, 128, 128)


@dataclass(frozen=True)
class Region(Value):
    """A box of voxels in a block.

    Parameters
    ----------
    start : tuple of int
        First voxel, (z, y, x) or (y, x).
    shape : tuple of int
        Number of voxels.

    Raises
    ------
    InputError
        If the two do not belong together, or a number is not whole or out of range.
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        require(
            len(self.start) == len(self.shape) in (2, 3)
            and all(_is_whole(n) for n in (*self.start, *self.shape))
            and min(self.start) >= 0
            and min(self.shape) >= 1,
            f"A region is a first voxel and a shape of two or three whole numbers, "
            f"not {self.start} and {self.shape}",
        )

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Self:
        """Return all of a block."""
        return cls((0,) * len(shape), shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the region lies in its block."""
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.shape, strict=True))

    def within(self, part: Region) -> tuple[slice, ...]:
        """Return where the region lies in a `part` of the block that holds it."""
        offsets = (s - first for s, first in zip(self.start, part.start, strict=True))
        return tuple(slice(o, o + n) for o, n in zip(offsets, self.shape, strict=True))

    def grown(self, halo: Sequence[int], block_shape: tuple[int, ...]) -> Region:
        """Return the region with `halo` voxels more on each side, as far as the block goes."""
        first = [max(s - h, 0) for s, h in zip(self.start, halo, strict=True)]
        ends = (s + n + h for s, n, h in zip(self.start, self.shape, halo, strict=True))
        stop = (min(end, n) for end, n in zip(ends, block_shape, strict=True))
        return Region(tuple(first), tuple(b - a for a, b in zip(first, stop, strict=True)))


def _is_whole(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def region_around(
    centre: Sequence[float], block_shape: tuple[int, ...], shape: tuple[int, ...] = SHOWN
) -> Region:
    """Return the region around a voxel, moved into the block where it would stick out.

    Parameters
    ----------
    centre : sequence of float
        (z, y, x) or (y, x) in voxels; may lie outside the block.
    block_shape : tuple of int
        Shape of the block, (Z, Y, X) or (Y, X).
    shape : tuple of int
        Voxels wanted; its last numbers are taken, and fewer where the block has fewer.

    Examples
    --------
    >>> region_around((5, 200, 10), (20, 256, 256))
    Region(start=(0, 128, 0), shape=(20, 128, 128))
    """
    ndim = len(block_shape)
    require(
        len(centre) == ndim and all(math.isfinite(c) for c in centre),
        f"The centre of a region has {ndim} finite numbers here, not {tuple(centre)}",
    )
    sizes = tuple(min(n, most) for n, most in zip(shape[-ndim:], block_shape, strict=True))
    first = (math.floor(c) - n // 2 for c, n in zip(centre, sizes, strict=True))
    room = (most - n for n, most in zip(sizes, block_shape, strict=True))
    return Region(tuple(min(max(f, 0), r) for f, r in zip(first, room, strict=True)), sizes)
