"""Element-wise steps on the CPU, evaluated in any box of their volumes."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_deconv.restoration.fourier import left
from napari_deconv.restoration.pieces import Float, InRows, Rows, Values, Where

#: Planes of a block of a curvature, which looks at its neighbours.
THICKNESS = 8


class Pieces:
    """Expressions, and the operands to evaluate them on in any box."""

    def __init__(self, expression: str, operands: dict[str, Any], *, summed: str = "") -> None:
        operands = {k: left(v) for k, v in operands.items()}
        numbers = {k: v for k, v in operands.items() if isinstance(v, (int, float, np.number))}
        self._numbers = {k: np.float32(v) for k, v in numbers.items()}
        self._volumes = {k: v for k, v in operands.items() if k not in numbers}
        self.shape: tuple[int, ...] = next(iter(self._volumes.values())).shape
        curved = any(isinstance(v, Curvature) for v in self._volumes.values())
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


class Curvature:
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
