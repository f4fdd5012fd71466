"""A circular filter on the CPU, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float
from napari_deconv.restoration.fourier import Leaving, Room, columns_of, left
from napari_deconv.restoration.pieces import Values, Where, cut

from .cpu_steps import Pieces

if TYPE_CHECKING:
    from .cpu_engine import CpuEngine

#: An imaginary part below this, over the largest real one, is the rounding of a float32 transform.
IMAGINARY = 1e-6
#: Voxels of a transfer function that are looked at together.
BLOCK = 1 << 18


class CpuFilter:
    """A circular filter by real transforms in place; see `restoration.engine.Filter`.

    What it returns has not left it: the last of its transforms waits for who reads it. Where that
    is an expression to be filtered again, it is evaluated plane by plane on the way.
    """

    def __init__(
        self, engine: CpuEngine, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...]
    ) -> None:
        self._engine, self._transfer = engine, real_of(transfer)
        self._shape, self._window = shape, window
        self._room: Room | None = None

    def forward(self, x: Values | Leaving) -> Leaving:
        """Return the filtered `x`, in the filter's own memory."""
        room = self._own_room()
        room.enter(left(x))
        return self._seen(room)

    def adjoint(self, x: Values | Leaving) -> Leaving:
        """Return `x` filtered with the conjugate transfer function, in place of a filtered one."""
        room = self._own_room()
        room.enter(left(x))
        return self._seen_by_all(room)

    def forward_of(self, expression: str, operands: dict[str, Any], /, *, out: Float) -> Leaving:
        """Return an expression filtered, which is left in `out`."""
        room = self._own_room()
        if not room.can_turn:
            return self.forward(self._engine.evaluate(expression, out=out, **operands))
        made = _Made(expression, out, operands, room)
        if made.leaves:
            room.turn(made)
        else:
            room.enter(made)
        return self._seen(room)

    def adjoint_of(
        self, expression: str, summed: str, operands: dict[str, Any], /, *, out: Leaving | None
    ) -> tuple[Leaving, float]:
        """Return an expression filtered with the conjugate, and the sum of another."""
        room = self._own_room()
        if out is None:
            place = room.real[tuple(slice(n) for n in self._window)]
            first = _Made(expression, place, operands, room, summed)
            room.enter(first)
            return self._seen_by_all(room), first.total
        if not room.can_turn or not out.waits_in(room):
            made, total = self._engine.evaluate_and_total(expression, summed, out=out, **operands)
            return self.adjoint(made), total
        ratio = _Made(expression, out.place, operands, room, summed)
        room.turn(ratio)
        return self._seen_by_all(room), ratio.total

    def _own_room(self) -> Room:
        if self._room is None:
            self._room = Room(self._shape, self._engine.cores)
        return self._room

    def _seen(self, room: Room) -> Leaving:
        room.change(self._multiply)
        return Leaving(room, self._window)

    def _seen_by_all(self, room: Room) -> Leaving:
        room.change(self._multiply_conjugate)
        return Leaving(room, self._shape)

    def _multiply(self, piece: Complex, columns: slice) -> None:
        piece *= self._transfer[:, columns]

    def _multiply_conjugate(self, piece: Complex, columns: slice) -> None:
        factors = self._transfer[:, columns]
        piece *= factors.conj() if np.iscomplexobj(factors) else factors


class _Made:
    """An expression that is evaluated into `out` where it is read; see `restoration.pieces.Values`.

    Of its operands, one may be leaving the room.
    """

    def __init__(
        self, expression: str, out: Float, operands: dict[str, Any], room: Room, summed: str = ""
    ) -> None:
        waiting = [v for v in operands.values() if isinstance(v, Leaving) and v.waits_in(room)]
        self.leaves = bool(waiting)
        for one in waiting:
            # As far as it is read, it will have left.
            one.has_left = True
        self._pieces = Pieces(expression, operands, summed=summed)
        self._out, self.shape = out, out.shape
        self._sums: dict[tuple[int, ...], float] = {}

    def __getitem__(self, where: Where) -> Float:
        """Return the values in a box."""
        out = self._out[where]
        self._sums[tuple(part.start for part in where)] = self._pieces(where, out)
        return out

    @property
    def total(self) -> float:
        """The sum of what was to be summed, in all boxes; in their order, whoever was first."""
        return sum(self._sums[start] for start in sorted(self._sums))


def real_of(transfer: Complex) -> Complex | Float:
    """Return a transfer function as `Change` counts its columns.

    Of a PSF that is its own mirror image only the real part, which is all there is: it takes half
    the memory, and a shorter product.
    """
    columns = columns_of(transfer)
    rows = max(1, BLOCK // columns.shape[1])
    parts = [columns[part] for part in cut(len(columns), rows)]
    largest = max(float(np.abs(part.real).max()) for part in parts)
    if any(float(np.abs(part.imag).max()) > IMAGINARY * largest for part in parts):
        return columns
    return columns.real.copy()
