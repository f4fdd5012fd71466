"""The blur by a PSF: the shape it works on, its transfer function, and the light it takes outside.

The image lies at the low end of each axis. With non-circulant edges it is padded to a fast
size of at least image + psf//2, so that no measured voxel reaches another one around the
end (Bertero and Boccacci 2005, doi 10.1051/0004-6361:20052717). What lies beyond its two ends
shares this padding; with two-sided edges the planes above and those below have as much to
themselves, as there the light of a widefield PSF does not fade.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import require

from .fourier import Room
from .pieces import Cores, Float, Indices, Rows, Where, cut
from .transforms import Complex

#: Sums made at a time in `Share`, and the part of a volume that its rows may take to be kept whole.
COLUMNS, WHOLE_ROWS = 1 << 18, 0.5

Double = npt.NDArray[np.float64]

Edges = Literal["non-circulant", "two-sided", "circular"]
EDGES: tuple[str, ...] = get_args(Edges)


def require_edges(edges: object) -> None:
    """Raise `InputError` unless `edges` is one of `EDGES`."""
    require(edges in EDGES, f"The edges {edges!r} are not known; choose one of {', '.join(EDGES)}")


def edges_of_a_part(edges: Edges) -> Edges:
    """Return the edges of a part of an image: where that repeats itself, its parts do not."""
    return "non-circulant" if edges == "circular" else edges


def work_shape(
    image_shape: tuple[int, ...], psf_shape: tuple[int, ...], edges: str
) -> tuple[int, ...]:
    """Return the shape to transform: the image's own if circular, else padded and fast.

    Examples
    --------
    >>> work_shape((60, 250, 250), (21, 31, 31), "non-circulant")
    (70, 270, 270)
    >>> work_shape((60, 250, 250), (21, 31, 31), "two-sided")
    (80, 270, 270)
    """
    if edges == "circular":
        return image_shape
    ends = [1] * len(image_shape)
    if edges == "two-sided" and len(image_shape) == 3:
        ends[0] = 2
    fast = [_fast_length] * (len(image_shape) - 1) + [_fast_row]
    return tuple(
        length(n + sides * (p // 2)) if p > 1 else n
        for length, n, p, sides in zip(fast, image_shape, psf_shape, ends, strict=True)
    )


def _fast_length(n: int) -> int:
    """Return the next length with no prime factor above 7, which all libraries take quickly."""
    from scipy.fft import next_fast_len

    found = next_fast_len(n)
    # 11 is slower in some than what is saved.
    return found if found % 11 else _fast_length(found + 1)


def _fast_row(n: int) -> int:
    """Return the next even length of real values with no prime factor above 5.

    Even rows are half as many complex values, which some transforms take them for; and scipy's
    transforms of real values are slow with a factor of 7.
    """
    from scipy.fft import next_fast_len

    return 2 * next_fast_len(-(-n // 2), real=True)


def transfer_function(psf: Float, shape: tuple[int, ...]) -> Complex:
    """Return the optical transfer function of `psf` (centre n//2) on the grid of `shape`.

    A PSF longer than `shape` is wrapped around, which is what a circular blur with it means.
    It is made in the memory that it is returned in.
    """
    room = Room(shape, Cores())
    kernel = room.real
    kernel[...] = 0
    for source, target in placements(psf.shape, shape):
        kernel[target] += psf[source]
    return room.forward(kernel)


def placements(psf_shape: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[tuple[Where, Where]]:
    """Yield the parts of a PSF, and where each is to be added on a grid with its centre at 0.

    Examples
    --------
    >>> [(part[0].indices(3)[:2], at[0].indices(9)[:2]) for part, at in placements((3,), (9,))]
    [((0, 1), (8, 9)), ((1, 3), (0, 2))]
    """
    turns = [list(_turns(p, n)) for p, n in zip(psf_shape, shape, strict=True)]
    for places in product(*turns):
        source, target = zip(*places, strict=True)
        yield source, target


def _turns(p: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Yield what of an axis of `p` lies in one turn around `n`, and where; p//2 lies at 0."""
    first = -(p // 2)
    for turn in range(first // n, (first + p - 1) // n + 1):
        start, stop = max(first, turn * n), min(first + p, (turn + 1) * n)
        yield slice(start - first, stop - first), slice(start - turn * n, stop - turn * n)


class Share:
    """H^T M: the part of each voxel's light that falls on the image; see `pieces.Repeating`.

    Along an axis a voxel's light lands on the image where the PSF lies over it, in one interval
    of the PSF or, around the end, in several; so the part is a sum of the PSF over boxes, which
    its cumulative sums give (Crow 1984). Voxels with the same intervals have the same part: it
    is kept for the different ones, which are as many as the PSF is large.

    Parameters
    ----------
    psf : ndarray of float32
        Centre n//2.
    image_shape, shape : tuple of int
        Of the image, and with the padding.
    """

    def __init__(self, psf: Float, image_shape: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self.shape = shape
        lengths = zip(psf.shape, image_shape, shape, strict=True)
        intervals, self.places = zip(*(_intervals(*axis) for axis in lengths), strict=True)
        sizes = [sets.shape[-1] for sets in intervals]
        self.different: Float = np.empty(sizes, np.float32)
        along_x = _from_zero(psf.astype(np.float64), -1)
        # Some columns at a time: a large PSF has nearly as many of these sums as there are voxels.
        for part in cut(sizes[-1], max(1, COLUMNS // prod(sizes[:-1]))):
            sums = _differences(along_x, intervals[-1][..., part], -1)
            for axis, sets in enumerate(intervals[:-1]):
                sums = _differences(_from_zero(sums, axis), sets, axis)
            self.different[..., part] = np.maximum(sums, 0)
        # Rows that are whole can be read where they lie.
        self._has_rows = prod(sizes[:-1]) * shape[-1] <= WHOLE_ROWS * prod(shape)
        if self._has_rows:
            self.different = np.take(self.different, self.places[-1], -1)
            self.places = (*self.places[:-1], np.arange(shape[-1]))

    def __getitem__(self, where: Where) -> Float:
        """Return the values in a box."""
        result = self.different[..., where[-1]] if self._has_rows else self.different
        last = [] if self._has_rows else [len(where) - 1]
        # The first axis gets shorter and the last one longer: that first would be more work.
        for axis in (0, *last, *range(1, len(where) - 1)):
            result = np.take(result, self.places[axis][where[axis]], axis)
        return result

    def rows(self, where: Where) -> Rows | None:
        """Return where the rows of a box lie in memory; None if they do not."""
        if not self._has_rows:
            return None
        pitch, shape = self.different.shape[-1], tuple(part.stop - part.start for part in where)
        starts = [self.places[axis][where[axis]] * pitch for axis in range(len(where) - 1)]
        planes = starts[0] * self.different.shape[1] if len(where) == 3 else np.zeros(1, np.intp)
        return Rows(self.different.reshape(-1), planes + where[-1].start, starts[-1], shape)


def _intervals(p: int, n: int, padded: int) -> tuple[Indices, Indices]:
    """Return the intervals of the PSF that lie over the image, and which of them a place has.

    Those as (interval, start or stop, set of intervals); neighbours that have the same share a
    set. The k-th of the PSF's `p` values lies at place + k - p//2, and again each `padded` on.
    """
    place = np.arange(padded)
    first, last = -(p // 2) // padded, (padded + p - 2 - p // 2) // padded
    starts = np.arange(first, last + 1)[:, None] * padded + p // 2 - place
    both = np.clip(np.stack([starts, starts + n], 1), 0, p)
    # Most come around no end, and would be sums of nothing.
    both = both[(both[:, 0] < both[:, 1]).any(-1)]
    changes = (np.diff(both) != 0).any((0, 1))
    return both[..., np.append(True, changes)], np.append(0, np.cumsum(changes))


def _from_zero(values: Double, axis: int) -> Double:
    """Return the cumulative sums along an axis, with the 0 before the first."""
    sums = np.cumsum(values, axis)
    return np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)


def _differences(sums: Double, intervals: Indices, axis: int) -> Double:
    """Return what cumulative sums give for each set of intervals along an axis."""
    total: Double = np.zeros(())
    for starts, stops in intervals:
        total = total + sums.take(stops, axis)
        total -= sums.take(starts, axis)
    return total
