"""The ways to cut an axis into tiles, and those of all axes that make the least work together.

Each way takes more memory and less work than the one before, so that searches are bisections.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]

#: Shape of what is read -> shape of the volumes worked on. Axis by axis; more for more voxels.
WorkShape = Callable[[Shape], Shape]


@dataclass(frozen=True)
class Cut:
    """A way to cut one axis: `voxels` is what all its tiles work on together."""

    keep: int
    chunk: int
    count: int
    read: int
    voxels: int


def cuts_of(
    n: int, halo: int, least: int, most_chunk: int, work_length: Callable[[int], int]
) -> list[Cut]:
    """Return the ways to cut an axis that are worth it: each takes more memory and less work.

    Two parts may read less than three, which have a halo on both sides, and then stand for
    them: the memory of what is read outweighs that of what is kept.
    """
    found = []
    for equal in _equal_parts(n, least):
        # What a fast length has room for is kept too, and the last tile is shorter for it.
        filled = _down(_filled(n, equal, halo, work_length), most_chunk)
        for keep, chunk in {_up(equal, n, most_chunk), filled}:
            if keep >= equal:
                reads = reads_along(n, keep, halo)
                voxels = sum(work_length(read) * times for read, times in reads.items())
                found.append(Cut(keep, chunk, -(-n // keep), max(reads), voxels))
    found.sort(key=lambda cut: (cut.read, cut.keep, cut.voxels, -cut.chunk))
    ways = found[:1]
    for cut in found[1:]:
        if cut.keep > ways[-1].keep and cut.voxels <= ways[-1].voxels:
            ways.append(cut)
    return ways


def _equal_parts(n: int, least: int) -> Iterator[int]:
    """Yield the lengths of the equal parts that an axis can be cut into, from the whole down."""
    keep = n
    while keep >= min(n, least):
        yield keep
        if keep == 1:
            return
        keep = -(-n // -(-n // (keep - 1)))


def _filled(n: int, keep: int, halo: int, work_length: Callable[[int], int]) -> int:
    """Return the most that as many tiles can keep for the same work, the last at least a half."""
    most = min(2 * n // (2 * -(-n // keep) - 1), n)
    longer = range(keep, max(keep, most) + 1)
    room = work_length(_longest_read(n, keep, halo))
    beyond = bisect_right(longer, room, key=lambda k: work_length(_longest_read(n, k, halo)))
    return longer[beyond - 1]


def _longest_read(n: int, keep: int, halo: int) -> int:
    """Return the most that a tile reads: one in the middle of the axis."""
    middle = (n - keep) // (2 * keep)
    return max(
        min((i + 1) * keep + halo, n) - max(i * keep - halo, 0) for i in (middle, middle + 1)
    )


def _up(keep: int, n: int, most_chunk: int) -> tuple[int, int]:
    """Return a length of at least `keep` in the fewest equal chunks, and the chunk."""
    chunk = chunk_of(keep, most_chunk)
    return min(-(-keep // chunk) * chunk, n), chunk


def _down(keep: int, most_chunk: int) -> tuple[int, int]:
    """Return a length of at most `keep` in the fewest equal chunks, and the chunk."""
    chunks = -(-keep // most_chunk)
    return keep // chunks * chunks, keep // chunks


def chunk_of(length: int, most: int) -> int:
    """Return the side of the fewest equal chunks that cover a length."""
    return -(-length // -(-length // most))


def reads_along(n: int, keep: int, halo: int) -> Counter[int]:
    """Return how often a tile along an axis of `n` reads so many voxels."""
    count = -(-n // keep)
    inner = range(-(-halo // keep), (n - halo) // keep)  # those that read both halos in full
    edges = [*range(inner.start), *range(inner.stop, count)] if inner else range(count)
    reads = Counter(min((i + 1) * keep + halo, n) - max(i * keep - halo, 0) for i in edges)
    if inner:
        reads[keep + 2 * halo] += len(inner)
    return reads


def least_work(
    ways: list[list[Cut]], fits: Callable[[Sequence[Cut]], bool]
) -> tuple[Cut, ...] | None:
    """Return the cuts, one for each axis, that fit and leave the fewest voxels to work on.

    Along an axis memory rises and work falls, so that for given cuts of the other axes the
    longest last cut that fits is best. The others are tried from the least work on, until they
    exceed the best found with the last axis in its best cut.
    """
    best: tuple[Cut, ...] | None = None
    best_rank = (math.inf, math.inf)
    last = ways[-1]
    for cuts in sorted(_others(ways, fits), key=_rank):
        voxels = _rank(cuts)[0]
        if voxels * last[-1].voxels >= best_rank[0]:
            break
        # Of the last cuts that are no worse than the best found, the longest that fits.
        first = bisect_left(last, -best_rank[0], key=lambda cut: -cut.voxels * voxels)
        stop = bisect_left(last, True, lo=first, key=lambda cut: not fits((*cuts, cut)))
        if stop > first and _rank((*cuts, last[stop - 1])) < best_rank:
            best = (*cuts, last[stop - 1])
            best_rank = _rank(best)
    return best


def _others(ways: list[list[Cut]], fits: Callable[[Sequence[Cut]], bool]) -> list[tuple[Cut, ...]]:
    """Return the cuts of all axes but the last that fit with some cut of the last."""
    found: list[tuple[Cut, ...]] = [()]
    for axis, cuts in enumerate(ways[:-1]):
        rest = [way[0] for way in ways[axis + 1 :]]
        stops = [
            bisect_left(cuts, True, key=lambda cut: not fits((*before, cut, *rest)))
            for before in found
        ]
        found = [
            (*before, cut) for before, stop in zip(found, stops, strict=True) for cut in cuts[:stop]
        ]
    return found


def _rank(cuts: Sequence[Cut]) -> tuple[int, int]:
    """Return the voxels to work on and the number of tiles."""
    return math.prod(cut.voxels for cut in cuts), math.prod(cut.count for cut in cuts)


def work_lengths(work_shape: WorkShape, shape: Shape) -> list[Callable[[int], int]]:
    """Return for each axis what its length becomes; each is asked for once."""

    def along(axis: int) -> Callable[[int], int]:
        known: dict[int, int] = {}

        def length(read: int) -> int:
            if read not in known:
                known[read] = work_shape(with_number(shape, axis, read))[axis]
            return known[read]

        return length

    return [along(axis) for axis in range(len(shape))]


def with_number(numbers: Sequence[int], axis: int, number: int) -> Shape:
    """Return the numbers, with another one of an axis."""
    return (*numbers[:axis], number, *numbers[axis + 1 :])
