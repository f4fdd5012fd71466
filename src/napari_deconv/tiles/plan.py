"""Which tiles a block is restored in, in whole numbers: what is read, what is kept, what fits.

A tile reads more than it keeps, by a halo that the method asks for, so that the kept voxels
come out as if the whole block had been restored. All tiles keep boxes of one shape, except the
last along an axis, which may keep less. What is read beyond the kept is work done twice, so the
plan is the one with the fewest voxels to work on among those that fit into the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from napari_deconv.imaging.region import Region
from napari_deconv.imaging.value import InputError, Value, require

from .cuts import (
    Cut,
    Shape,
    WorkShape,
    chunk_of,
    cuts_of,
    least_work,
    reads_along,
    with_number,
    work_lengths,
)

#: Shapes of what is read and of what is kept -> bytes at the peak. More for more voxels.
BytesOf = Callable[[Shape, Shape], int]

#: Voxels of an output chunk at most, (z, y, x): 8 MiB of float32, a quick read for a viewer.
MOST_CHUNK = (32, 256, 256)

#: Voxels that a tile keeps at least, (z, y, x). Below this, halos of any use multiply the work
#: by hundreds, and a plan that ends in a year is worse than a sentence about memory.
LEAST_KEEP = (4, 16, 16)


@dataclass(frozen=True)
class Tile(Value):
    """One piece of a block.

    Parameters
    ----------
    read : Region
        What is read and restored, within the block.
    keep : Region
        What is kept of it, within the block and inside `read`.
    """

    read: Region
    keep: Region


@dataclass(frozen=True)
class TilePlan(Value):
    """The tiles of a block, (Z, Y, X) or (Y, X), in C order.

    Parameters
    ----------
    shape : tuple of int
        Of the block.
    halo : tuple of int
        Voxels read beyond what is kept, on each side, as far as the block goes.
    keep : tuple of int
        Voxels that a tile keeps; the last along an axis may keep fewer.
    chunks : tuple of int
        Output chunks that no two tiles share: `keep` is a multiple of it, or the whole axis.
    bytes : int
        Memory that the largest tile takes at its peak.

    Raises
    ------
    InputError
        If the numbers do not belong together.

    Examples
    --------
    >>> plan = TilePlan(shape=(100, 90), halo=(8, 8), keep=(50, 90), chunks=(50, 90), bytes=0)
    >>> plan.counts, len(plan)
    ((2, 1), 2)
    >>> plan.tile(1).read
    Region(start=(42, 0), shape=(58, 90))
    """

    shape: Shape
    halo: Shape
    keep: Shape
    chunks: Shape
    bytes: int

    def __post_init__(self) -> None:
        axes = (self.shape, self.halo, self.keep, self.chunks)
        require(
            len({len(numbers) for numbers in axes}) == 1
            and len(self.shape) in (2, 3)
            and all(
                h >= 0 and 1 <= chunk <= keep <= n and (keep == n or keep % chunk == 0)
                for n, h, keep, chunk in zip(*axes, strict=True)
            ),
            f"Tiles that keep {self.keep} voxels in chunks of {self.chunks} with {self.halo} "
            f"around them do not divide a block of {self.shape}",
        )

    @property
    def counts(self) -> Shape:
        """Number of tiles along each axis."""
        return tuple(-(-n // keep) for n, keep in zip(self.shape, self.keep, strict=True))

    def __len__(self) -> int:
        """Return the number of tiles."""
        return math.prod(self.counts)

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles, the last axis first."""
        return map(self.tile, range(len(self)))

    def tile(self, index: int) -> Tile:
        """Return the tile of that number, counted from 0 along the last axis first."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no tile {index} among {len(self)}")
        places = []
        for count in reversed(self.counts):
            index, place = divmod(index, count)
            places.append(place)
        start = tuple(p * keep for p, keep in zip(reversed(places), self.keep, strict=True))
        stops = (min(s + k, n) for s, k, n in zip(start, self.keep, self.shape, strict=True))
        keep = Region(start, tuple(b - a for a, b in zip(start, stops, strict=True)))
        return Tile(keep.grown(self.halo, self.shape), keep)

    def work(self, work_shape: WorkShape) -> float:
        """Return what transforming all tiles takes, relative to the whole block at once.

        The transform of V voxels counts as V log2 V. The sum over all tiles comes from sums
        along each axis, so that a million tiles take no longer than a few.
        """
        along = work_lengths(work_shape, self.shape)
        reads = map(reads_along, self.shape, self.keep, self.halo)
        lengths = [
            [(length_of(read), times) for read, times in found.items()]
            for length_of, found in zip(along, reads, strict=True)
        ]
        voxels = [sum(v * times for v, times in axis) for axis in lengths]
        logs = [sum(v * math.log2(v) * times for v, times in axis) for axis in lengths]
        total = math.prod(voxels) * sum(log / v for log, v in zip(logs, voxels, strict=True))
        whole = math.prod(work_shape(self.shape))
        return total / (whole * math.log2(whole)) if whole > 1 else 1.0


def plan_tiles(
    shape: Sequence[int],
    halo: Sequence[int],
    *,
    work_shape: WorkShape,
    bytes_of: BytesOf,
    budget_bytes: int,
    most_chunk: Sequence[int] = MOST_CHUNK,
) -> TilePlan:
    """Return the tiles with the least work of which each fits into the memory.

    A block that fits is one tile. Otherwise each axis is cut into equal parts, and among these
    cuts the tiles with the fewest voxels of `work_shape` together are taken: the factor log2 of
    a transform is nearly the same for all tiles that fill the memory, and is left out.

    Parameters
    ----------
    shape : sequence of int
        Of the block, (Z, Y, X) or (Y, X).
    halo : sequence of int
        Voxels to read beyond the kept ones, on each side; may be longer than the axis.
    work_shape : callable
        (shape of what is read) -> shape of the volumes to work on, each axis by itself, never
        shorter for a longer axis.
    bytes_of : callable
        (shape of what is read, shape of what is kept) -> bytes that the tile takes at its peak,
        never fewer for a longer axis.
    budget_bytes : int
        Memory that a tile may take.
    most_chunk : sequence of int
        Voxels of an output chunk at most, (z, y, x); for a plane its last two numbers are taken.

    Raises
    ------
    InputError
        If not even a tile that keeps `LEAST_KEEP` fits; the sentence tells what would do.

    Examples
    --------
    >>> plan = plan_tiles(
    ...     (30, 400, 400), (4, 20, 20), work_shape=lambda read: read,
    ...     bytes_of=lambda read, keep: 20 * math.prod(read), budget_bytes=60_000_000)
    >>> plan.keep, plan.chunks, plan.counts
    ((30, 400, 200), (30, 200, 200), (1, 1, 2))
    """
    shape, halo = tuple(map(int, shape)), tuple(map(int, halo))
    most = tuple(most_chunk)[-len(shape) :]
    whole_bytes = bytes_of(shape, shape)
    if whole_bytes <= budget_bytes:
        return TilePlan(shape, halo, shape, tuple(map(chunk_of, shape, most)), whole_bytes)
    least, along = LEAST_KEEP[-len(shape) :], work_lengths(work_shape, shape)
    ways = [cuts_of(*axis) for axis in zip(shape, halo, least, most, along, strict=True)]

    def needs(cuts: Sequence[Cut]) -> int:
        return bytes_of(tuple(cut.read for cut in cuts), tuple(cut.keep for cut in cuts))

    cuts = least_work(ways, lambda cuts: needs(cuts) <= budget_bytes)
    if cuts is None:
        smallest = [axis[0] for axis in ways]
        raise InputError(_refusal(smallest, needs(smallest), budget_bytes))
    keep, chunks = tuple(cut.keep for cut in cuts), tuple(cut.chunk for cut in cuts)
    return TilePlan(shape, halo, keep, chunks, needs(cuts))


def split(tile: Tile, halo: Sequence[int], shape: Sequence[int]) -> tuple[Tile, Tile]:
    """Return the two halves of a tile that ran out of memory.

    What it keeps is cut where the larger of the two new reads is smallest. The cut does not
    heed the chunks of a plan: both halves belong into the chunks of their tile.

    Parameters
    ----------
    tile : Tile
        What did not fit.
    halo : sequence of int
        Voxels to read beyond the kept ones, on each side.
    shape : sequence of int
        Of the block.

    Raises
    ------
    InputError
        If no cut makes what is read smaller.
    """

    def voxels(pair: tuple[Tile, Tile]) -> int:
        return max(math.prod(half.read.shape) for half in pair)

    whole = tuple(shape)
    pairs = [_halves(tile, axis, halo, whole) for axis, n in enumerate(tile.keep.shape) if n > 1]
    best = min(pairs, key=voxels, default=None)
    if best is None or voxels(best) >= math.prod(tile.read.shape):
        raise InputError(
            f"The device has not enough memory for {_by(tile.read.shape)} voxels, and smaller "
            f"tiles need no less, because the PSF asks for {_by(halo)} voxels on each side; "
            "free memory on the device, choose another engine, or crop the PSF to a smaller box"
        )
    return best


def _halves(tile: Tile, axis: int, halo: Sequence[int], shape: Shape) -> tuple[Tile, Tile]:
    first, size = tile.keep.start[axis], tile.keep.shape[axis]
    half = (size + 1) // 2

    def part(start: int, length: int) -> Tile:
        keep = Region(
            with_number(tile.keep.start, axis, start), with_number(tile.keep.shape, axis, length)
        )
        return Tile(keep.grown(halo, shape), keep)

    return part(first, half), part(first + half, size - half)


def _refusal(cuts: Sequence[Cut], least_bytes: int, budget_bytes: int) -> str:
    keep, read = [cut.keep for cut in cuts], [cut.read for cut in cuts]
    # Rounded so that what is asked for suffices.
    return (
        f"Tiles need at least {math.ceil(least_bytes / 1e7) / 100:.2f} GB of memory here, but "
        f"{max(budget_bytes, 0) // 10**7 / 100:.2f} GB may be used: the PSF reaches so far that "
        f"even {_by(keep)} voxels are restored from {_by(read)}; give it that much memory, crop "
        "the PSF to a smaller box, or allow a looser seam between the tiles"
    )


def _by(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
