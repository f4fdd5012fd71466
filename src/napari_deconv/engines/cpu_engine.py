"""The engine that runs anywhere: scipy.fft in float32 on all cores; it defines the answers.

Steps are done piece by piece, so that a run holds its few volumes and nothing else: filters
work in place, and operands that need not be stored are made where they are read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float
from napari_deconv.restoration.fourier import Room, columns_of
from napari_deconv.restoration.pieces import Cores, InRows, Rows, Values, Where, blocks, cut

#: Voxels worked on at a time: threads wait for each other at each call, so not too few.
BLOCK = 1 << 18
#: An imaginary part below this, over the largest real one, is the rounding of a float32 transform.
IMAGINARY = 1e-6
#: Planes of a block of a curvature, which looks at its neighbours.
THICKNESS = 8


class CpuFilter:
    """A circular filter by real transforms in place; see `restoration.engine.Filter`."""

    def __init__(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...], cores: Cores
    ) -> None:
        self._transfer, self._shape, self._window = real_of(transfer), shape, window
        self._cores = cores
        self._room: Room | None = None
        self._result: Float | None = None

    def forward(self, x: Values) -> Float:
        """Return the filtered `x`, in the filter's own memory."""
        if self._room is None:
            self._room = Room(self._shape, self._cores)
        self._result = self._room.filter(x, self._multiply, self._window)
        return self._result

    def adjoint(self, x: Values) -> Float:
        """Return `x` filtered with the conjugate transfer function, in place of a filtered one."""
        room = self._room if x is self._result else None
        if room is None:
            room = Room(self._shape, self._cores)
        return room.filter(x, self._multiply_conjugate, self._shape)

    def _multiply(self, piece: Complex, columns: slice) -> None:
        piece *= self._transfer[:, columns]

    def _multiply_conjugate(self, piece: Complex, columns: slice) -> None:
        factors = self._transfer[:, columns]
        piece *= factors.conj() if np.iscomplexobj(factors) else factors


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


class CpuEngine:
    """numpy and scipy on all cores; see `restoration.engine.Engine`."""

    name = "cpu"
    extra_volumes = 0.0

    def __init__(self, workers: int | None = None) -> None:
        self._cores = Cores(workers)
        self.workers = self._cores.count
        self.device = f"CPU, {self.workers} cores" if self.workers > 1 else "CPU, 1 core"

    def push(self, array: Float, shape: tuple[int, ...]) -> Float:
        """Return a copy padded with zeros at the far end."""
        result = np.zeros(shape, np.float32)
        result[tuple(slice(n) for n in array.shape)] = array
        return result

    def hold(self, values: Values) -> Values:
        """Return the values as they are: they are read piece by piece."""
        return values

    def pull(self, array: Float, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new array."""
        return np.array(array[tuple(slice(0, n) for n in shape)])

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> CpuFilter:
        """Return the filter with this transfer function."""
        return CpuFilter(transfer, shape, window or shape, self._cores)

    def evaluate(self, expression: str, /, *, out: Float | None = None, **operands: Any) -> Float:
        """Return the element-wise expression, piece by piece on all cores."""
        pieces = _Pieces(expression, operands)
        result = np.empty(pieces.shape, np.float32) if out is None else out

        def work(where: Where) -> None:
            pieces(where, result[where])

        self._cores.each(work, self._blocks(pieces))
        return result

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression, in float64."""
        pieces = _Pieces("", operands, summed=expression)
        return sum(self._cores.each(pieces, self._blocks(pieces)))

    def evaluate_and_total(
        self, expression: str, summed: str, /, *, out: Float, **operands: Any
    ) -> tuple[Float, float]:
        """Return the one expression and the sum of the other, in one pass."""
        pieces = _Pieces(expression, operands, summed=summed)

        def work(where: Where) -> float:
            return pieces(where, out[where])

        return out, sum(self._cores.each(work, self._blocks(pieces)))

    def _blocks(self, pieces: _Pieces) -> list[Where]:
        most = self._cores.piece(math.prod(pieces.shape), BLOCK)
        return list(blocks(pieces.shape, most, pieces.thickness))

    def curvature(self, x: Float, spacing: tuple[float, ...], epsilon: float) -> Values:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2)), made where it is read."""
        return _Curvature(x, spacing, epsilon)

    def release(self) -> None:
        """Nothing to free: the arrays are Python's."""


class _Pieces:
    """Expressions, and the operands to evaluate them on in any box."""

    def __init__(self, expression: str, operands: dict[str, Any], *, summed: str = "") -> None:
        numbers = {k: v for k, v in operands.items() if isinstance(v, (int, float, np.number))}
        self._numbers = {k: np.float32(v) for k, v in numbers.items()}
        self._volumes = {k: v for k, v in operands.items() if k not in numbers}
        self.shape: tuple[int, ...] = next(iter(self._volumes.values())).shape
        curved = any(isinstance(v, _Curvature) for v in self._volumes.values())
        self.thickness = THICKNESS if curved else 1
        # With numba comes half a second and 100 MB, which not all methods need.
        from .loops import loop_of

        self._loop = loop_of(expression, tuple(self._volumes), tuple(self._numbers), summed=summed)

    def __call__(self, where: Where, out: Float | None = None) -> float:
        """Evaluate in a box into `out`; return the sum of what is summed."""
        pieces = {name: _piece(values, where) for name, values in self._volumes.items()}
        return self._loop({**self._numbers, **pieces}, out)


def _piece(values: Values, where: Where) -> Float | Rows:
    # To ask an array as well would take longer than what is done with its piece.
    is_array = isinstance(values, np.ndarray)
    rows = values.rows(where) if not is_array and isinstance(values, InRows) else None
    return values[where] if rows is None else rows


class _Curvature:
    """The curvature of a volume, box by box; see `restoration.pieces.Values`."""

    def __init__(self, x: Float, spacing: tuple[float, ...], epsilon: float) -> None:
        self._x, self._spacing, self._epsilon = x, spacing, epsilon
        self.shape = x.shape

    def __getitem__(self, where: Where) -> Float:
        """Return the values in a box: those of the next larger one, less its rim."""
        starts = [max(part.start - 1, 0) for part in where]
        larger = tuple(
            slice(start, part.stop + 1) for start, part in zip(starts, where, strict=True)
        )
        inner = tuple(
            slice(part.start - start, part.stop - start)
            for start, part in zip(starts, where, strict=True)
        )
        return _curvature(self._x[larger], self._spacing, self._epsilon)[inner]


def _curvature(x: Float, spacing: tuple[float, ...], epsilon: float) -> Float:
    slopes = [_forward_difference(x, axis, step) for axis, step in enumerate(spacing)]
    norm = np.full(x.shape, np.float32(epsilon) ** 2)
    for slope in slopes:
        norm += slope * slope
    np.sqrt(norm, out=norm)
    result = np.zeros_like(x)
    for axis, (slope, step) in enumerate(zip(slopes, spacing, strict=True)):
        slope /= norm
        result += _backward_difference(slope, axis, step)
    return result


def _forward_difference(x: Float, axis: int, step: float) -> Float:
    """Return (x[i+1] - x[i]) / step, and 0 at the end of the axis."""
    result = np.zeros_like(x)
    inner = np.moveaxis(result, axis, 0)
    inner[:-1] = np.diff(np.moveaxis(x, axis, 0), axis=0)
    inner /= np.float32(step)
    return result


def _backward_difference(p: Float, axis: int, step: float) -> Float:
    """Return (p[i] - p[i-1]) / step with p[-1] = 0: minus the adjoint of the forward one."""
    result = p.copy()
    np.moveaxis(result, axis, 0)[1:] -= np.moveaxis(p, axis, 0)[:-1]
    result /= np.float32(step)
    return result
