"""Real Fourier transforms in place: a volume and its spectrum take turns in one memory.

A row of n real values becomes one of n//2 + 1 complex ones at the same place, which is a little
longer; the real rows keep that distance. Planes are transformed one by one along their own axes,
then groups of columns along the first axis, so that each stays in a core's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .pieces import Cores, Float, Values, Where, cut
from .transforms import Complex, transforms

#: Something done in place to columns of the spectrum: a piece (n, columns), and which they are.
Change = Callable[[Complex, slice], None]

#: Voxels transformed at a time. Measured: with fewer the threads wait more for each other.
PIECE = 1 << 18
#: Voxels of a group that is still worth a call, where there are more cores than groups.
FEW = 1 << 16
#: Voxels of a volume that is not worth to be cut: scipy's own threads wait less.
SMALL = 1 << 18
#: Voxels of a volume whose pieces are not made smaller where that would hold less memory.
MODEST = 1 << 21


class Room:
    """Memory for a real volume or its spectrum, and the transforms between them.

    Parameters
    ----------
    shape : tuple of int
        Of the real volume, two or three axes.
    cores : Cores
        What to work with.

    Attributes
    ----------
    real : ndarray of float32
        The volume, once `filter` or `inverse` is done; its rows lie a little apart.
    spectrum : ndarray of complex64
        Its spectrum as `numpy.fft.rfftn` orders it, once `forward` is done.
    """

    def __init__(self, shape: tuple[int, ...], cores: Cores) -> None:
        self.shape, self._cores, self._library = shape, cores, transforms()
        self.spectrum: Complex = np.empty((*shape[:-1], shape[-1] // 2 + 1), np.complex64)
        self.real: Float = self.spectrum.view(np.float32)[..., : shape[-1]]
        # Axes of length 1 are not transformed; what is left is (planes, rows of a plane, x).
        self._axes = [axis for axis, n in enumerate(shape[:-1]) if n > 1]
        planes, rows = self._sizes(shape)
        self._complex = self.spectrum.reshape(planes, rows, -1)
        self._reals = self.spectrum.view(np.float32).reshape(planes, rows, -1)[..., : shape[-1]]
        self._columns = self.spectrum.reshape(planes, -1)
        size = self._reals.size
        self._is_cut = size > SMALL
        if not self._is_cut:
            self._most = size
        else:
            self._most = cores.piece(size, PIECE) if size > MODEST else PIECE

    @property
    def can_turn(self) -> bool:
        """Whether each core has groups of planes of its own, so that `turn` saves a pass."""
        return self._is_cut and len(self._groups(len(self._complex))[0]) >= self._cores.count

    def forward(self, x: Values) -> Complex:
        """Put the transform of `x`, zero beyond its shape, in place of what was there.

        `x` may lie in `real`, at its low end.
        """
        self.enter(x)
        self._along_first(None)
        return self.spectrum

    def inverse(self, change: Change, window: tuple[int, ...]) -> Float:
        """Change the spectrum and transform it back; return the first `window` voxels.

        What lies beyond them in `real` is not transformed.
        """
        self._along_first(change, ahead=False)
        return self.leave(window)

    def filter(self, x: Values, change: Change, window: tuple[int, ...]) -> Float:
        """Do `forward` and `inverse`, in fewer passes over memory."""
        self.enter(x)
        self.change(change)
        return self.leave(window)

    # The parts of `filter`, for those who do more on the way.

    def enter(self, x: Values) -> None:
        """Transform `x` into here along all axes but the first."""
        self._plane_by_plane(x.shape, x, leaves=False)

    def change(self, change: Change) -> None:
        """Transform along the first axis, change the spectrum, and transform it back."""
        self._along_first(change)

    def leave(self, window: tuple[int, ...]) -> Float:
        """Transform the first `window` voxels back along all axes but the first."""
        self._plane_by_plane(window, None, leaves=True)
        return self.real[tuple(slice(n) for n in window)]

    def turn(self, x: Values) -> None:
        """Do `leave` and `enter` in one pass: `x` may be made of the planes that have just left."""
        self._plane_by_plane(x.shape, x, leaves=True)

    def _plane_by_plane(self, shape: tuple[int, ...], x: Values | None, *, leaves: bool) -> None:
        planes, rows = self._sizes(shape)
        groups, step, threads = self._groups(planes)

        def work(group: slice) -> None:
            part = self._complex[group]
            if leaves:
                along_rows(part, inverse=True)
            for some in cut(rows, step):
                lines = part[:, some]
                if leaves:
                    self._library.back(lines, self._reals[group, some], threads)
                if x is not None:
                    values = x[self._where(group, some, shape)]
                    values = values.reshape(*lines.shape[:-1], values.shape[-1])
                    self._library.forward(values, lines, self.shape[-1], threads)
            if x is not None:
                part[:, rows:] = 0
                along_rows(part, inverse=False)

        def along_rows(part: Complex, *, inverse: bool) -> None:
            if part.shape[1] > 1:
                self._library.along(part, 1, inverse=inverse, threads=threads)

        self._cores.each(work, groups)
        if x is not None:
            self._complex[planes:] = 0

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return how many planes and rows of a plane a volume has."""
        planes, rows = ([shape[axis] for axis in self._axes] + [1, 1])[:2]
        return planes, rows

    def _groups(self, planes: int) -> tuple[list[slice], int, int]:
        """Return the groups of planes, rows of them at a time, and threads for each group."""
        _, rows, length = self._reals.shape
        groups, threads = self._shares(planes, rows * length)
        return groups, max(1, self._most // length), threads

    def _where(self, planes: slice, rows: slice, shape: tuple[int, ...]) -> Where:
        """Return planes and rows as a box in a volume."""
        where = [slice(0, n) for n in shape]
        for axis, part in zip(self._axes, (planes, rows), strict=False):
            where[axis] = part
        return tuple(where)

    def _along_first(self, change: Change | None, *, ahead: bool = True) -> None:
        """Transform groups of columns where `ahead`; change them and transform them back."""

        def work(columns: slice) -> None:
            piece = self._columns[:, columns]
            if ahead and length > 1:
                self._library.along(piece, 0, inverse=False, threads=threads)
            if change is None:
                return
            change(piece, columns)
            if length > 1:
                self._library.along(piece, 0, inverse=True, threads=threads)

        length, count = self._columns.shape
        groups, threads = self._shares(count, length)
        self._cores.each(work, groups)

    def _shares(self, count: int, voxels: int) -> tuple[list[slice], int]:
        """Return so many planes or columns of `voxels` each in groups, as many for each core.

        And the threads for each group.
        """
        step = max(1, self._most // voxels)
        groups = -(-count // step)
        even = -(-groups // self._cores.count) * self._cores.count
        if self._is_cut and count * voxels >= even * FEW:
            step = -(-count // even)
        shares = cut(count, step)
        return shares, -(-self._cores.count // len(shares))


class Leaving:
    """What is still to leave a room, plane by plane: as an array, or through `Room.turn`.

    Parameters
    ----------
    room : Room
    shape : tuple of int
        Of what will leave it.
    """

    def __init__(self, room: Room, shape: tuple[int, ...]) -> None:
        self.room, self.shape, self.has_left = room, shape, False
        #: Where it will lie.
        self.place = room.real[tuple(slice(n) for n in shape)]

    def waits_in(self, room: Room) -> bool:
        """Return whether it is still to leave a room."""
        return self.room is room and not self.has_left

    def values(self) -> Float:
        """Return it, once it has left."""
        if not self.has_left:
            self.room.leave(self.shape)
            self.has_left = True
        return self.place


def left(values: Any) -> Any:
    """Return what is leaving a room as an array, once it has left; and all else as it is."""
    return values.values() if isinstance(values, Leaving) else values


def columns_of(spectrum: Complex) -> Complex:
    """Return a spectrum as `Change` counts its columns, (n, columns), in the same memory."""
    lengths = [n for n in spectrum.shape[:-1] if n > 1]
    return spectrum.reshape(lengths[0] if lengths else 1, -1)
