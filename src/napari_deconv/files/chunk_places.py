"""Where the chunks of an array lie, and which of them a tile consists of: whole ones alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class ChunkPlaces:
    """An array, as it is cut into chunks.

    Parameters
    ----------
    shape, sides : tuple of int
        Of the array and of a chunk, all axes.

    Examples
    --------
    >>> places = ChunkPlaces((9, 40), (4, 8))
    >>> list(places.indices((slice(4, 9), slice(0, 8))))
    [(1, 0), (2, 0)]
    """

    shape: tuple[int, ...]
    sides: tuple[int, ...]

    def each(self) -> Iterator[Slices]:
        """Yield where each chunk lies, clipped at the ends of the array."""
        starts = (range(0, n, side) for n, side in zip(self.shape, self.sides, strict=True))
        for first in product(*starts):
            yield tuple(
                slice(a, min(a + side, n))
                for a, side, n in zip(first, self.sides, self.shape, strict=True)
            )

    def aligned(self, place: Slices, of_block: tuple[int, ...]) -> Slices:
        """Return a place with all its ends.

        Raises
        ------
        ValueError
            If it does not consist of whole chunks, or a block of that shape does not fit it.
        """
        ends = [s.indices(n) for s, n in zip(place, self.shape, strict=True)]
        shape = tuple(stop - start for start, stop, _ in ends)
        whole = all(
            step == 1 and start % side == 0 and (stop % side == 0 or stop == n) and start < stop
            for (start, stop, step), side, n in zip(ends, self.sides, self.shape, strict=True)
        )
        if not whole or shape != of_block:
            raise ValueError(
                f"The block of shape {of_block} at {place} is no tile of whole chunks "
                f"{self.sides} of {self.shape}"
            )
        return tuple(slice(start, stop) for start, stop, _ in ends)

    def within(self, place: Slices) -> Slices:
        """Return which chunks, counted along each axis, a place consists of."""
        return tuple(
            slice(s.start // side, -(-s.stop // side))
            for s, side in zip(place, self.sides, strict=True)
        )

    def indices(self, place: Slices) -> Iterator[tuple[int, ...]]:
        """Yield each chunk of a place, counted along each axis."""
        yield from product(*(range(s.start, s.stop) for s in self.within(place)))

    def require_covered(self, places: Iterable[Slices], name: str) -> None:
        """Raise `ValueError`, with the `name` of the array, unless each chunk is in a place."""
        counts = [-(-n // side) for n, side in zip(self.shape, self.sides, strict=True)]
        there = np.zeros(counts, bool)
        for place in places:
            there[self.within(place)] = True
        if not there.all():
            raise ValueError(
                f"{np.count_nonzero(~there)} of the {there.size} chunks of {name} are in no "
                "tile that was written"
            )

    def voxels_beside(self, places: Iterable[Slices]) -> int:
        """Return how many voxels lie in none of the places, of which no two overlap."""
        inside = sum(math.prod(s.stop - s.start for s in place) for place in places)
        return int(math.prod(self.shape) - inside)
