"""Volumes in pieces: how they are cut, and the threads that work on the pieces.

A step done piece by piece needs no volume for what lies between its operands and its result,
and a piece is small enough to stay in a core's cache meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
#: A box in a volume: a slice of each axis, from its start to its end.
Where = tuple[slice, ...]

#: Pieces of a volume for each core, and voxels that are never worth to be cut.
PIECES, LEAST = 12, 1 << 17

Item = TypeVar("Item")
Result = TypeVar("Result")


class Values(Protocol):
    """The float32 values of a volume, given piece by piece; a numpy array is one.

    Others make a piece where it is asked for, and never hold the volume. Several threads ask.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the volume."""
        ...

    def __getitem__(self, where: Where, /) -> Float:
        """Return the values in a box; not to be written to."""
        ...


@runtime_checkable
class InRows(Protocol):
    """Values that can tell where their rows lie."""

    def rows(self, where: Where, /) -> Rows | None:
        """Return the rows of a box; None if they are nowhere in memory."""
        ...


@runtime_checkable
class Repeating(Values, Protocol):
    """Values of which few are different: which of those a voxel has is told along each axis."""

    different: Float
    places: tuple[Indices, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """A volume whose rows may lie anywhere in memory, the same one in many places.

    Parameters
    ----------
    memory : ndarray of float32, one axis
    planes, rows : ndarray of intp
        Row r of plane p begins at ``planes[p] + rows[r]``; an image has one plane.
    shape : tuple of int
        Of the volume.
    """

    memory: Float
    planes: Indices
    rows: Indices
    shape: tuple[int, ...]


class Cores:
    """Threads, one for each core.

    Parameters
    ----------
    count : int, optional
        How many; those that this process may use if not given.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or available_cores()
        # Its threads start with the first work, and end when nobody holds it any more.
        self._pool = ThreadPoolExecutor(self.count)

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return what `work` returns for each item; work must not call this itself."""
        if min(self.count, len(items)) < 2:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def piece(self, voxels: int, most: int) -> int:
        """Return the size of the pieces of a volume: `most` voxels, but `PIECES` for each core.

        So what lies between operands and results, on all cores, is a small part of a volume.
        """
        return min(most, max(LEAST, voxels // (PIECES * self.count)))


def available_cores() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cut(length: int, step: int) -> list[slice]:
    """Return 0 to `length` in slices of `step`; the last may be shorter.

    Examples
    --------
    >>> cut(7, 3)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 7, None)]
    """
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def blocks(shape: tuple[int, ...], most: int, thickness: int = 1) -> Iterator[Where]:
    """Yield the boxes of about `most` voxels, whole rows, that make up a volume.

    Parameters
    ----------
    shape : tuple of int
        Of the volume, (Z, Y, X) or (Y, X).
    most : int
        Voxels of a box; a single row may have more.
    thickness : int
        So many planes a box has at the least, where it can: for steps that look at neighbours.

    Examples
    --------
    >>> [[(s.start, s.stop) for s in box] for box in blocks((4, 3), 6)]
    [[(0, 2), (0, 3)], [(2, 4), (0, 3)]]
    """
    plane = prod(shape[1:])
    if len(shape) == 2 or thickness * plane <= most:
        for first in cut(shape[0], max(1, most // max(plane, 1))):
            yield (first, *(slice(0, n) for n in shape[1:]))
        return
    for first in cut(shape[0], thickness):
        for rest in blocks(shape[1:], most // thickness):
            yield (first, *rest)
