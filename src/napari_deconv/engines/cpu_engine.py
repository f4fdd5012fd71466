"""The engine that runs anywhere: scipy.fft in float32 on all cores; it defines the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float

from .expression import compiled

#: Voxels worked on at a time: small enough that a step's operands stay in a core's cache.
SLAB = 1 << 17

_FUNCTIONS: dict[str, Any] = {
    "__builtins__": {},
    "fmax": np.fmax,
    "fmin": np.fmin,
    "log": np.log,
    "sqrt": np.sqrt,
}


class CpuFilter:
    """A circular filter by real transforms; see `restoration.engine.Filter`."""

    def __init__(self, transfer: Complex, shape: tuple[int, ...], workers: int) -> None:
        self._transfer, self._shape, self._workers = transfer, shape, workers

    def forward(self, x: Float) -> Float:
        """Return the filtered `x`."""
        return self._apply(x, conjugate=False)

    def adjoint(self, x: Float) -> Float:
        """Return `x` filtered with the conjugate transfer function."""
        return self._apply(x, conjugate=True)

    def _apply(self, x: Float, *, conjugate: bool) -> Float:
        from scipy.fft import irfftn, rfftn

        spectrum = np.asarray(rfftn(x, workers=self._workers))
        # conj(H) X = conj(H conj(X)), without a second copy of the transfer function.
        if conjugate:
            np.conjugate(spectrum, out=spectrum)
        spectrum *= self._transfer
        if conjugate:
            np.conjugate(spectrum, out=spectrum)
        return np.asarray(irfftn(spectrum, s=self._shape, workers=self._workers, overwrite_x=True))


class CpuEngine:
    """numpy and scipy on all cores; see `restoration.engine.Engine`."""

    name = "cpu"

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or available_cores()
        self.device = f"CPU, {self.workers} cores" if self.workers > 1 else "CPU, 1 core"
        self._pool = ThreadPoolExecutor(self.workers)

    def push(self, array: Float, shape: tuple[int, ...]) -> Float:
        """Return a copy padded with zeros at the far end."""
        result = np.zeros(shape, np.float32)
        result[tuple(slice(n) for n in array.shape)] = array
        return result

    def pull(self, array: Float, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new array."""
        return array[tuple(slice(n) for n in shape)].copy()

    def filter(self, transfer: Complex, shape: tuple[int, ...]) -> CpuFilter:
        """Return the filter with this transfer function."""
        return CpuFilter(transfer, shape, self.workers)

    def evaluate(self, expression: str, /, *, out: Float | None = None, **operands: Any) -> Float:
        """Return the element-wise expression, slab by slab on all cores."""
        slabs = _Slabs(expression, operands)
        result = np.empty(slabs.shape, np.float32) if out is None else out
        flat = result.reshape(-1)

        def work(where: slice) -> None:
            flat[where] = slabs(where)

        self._each(work, slabs)
        return result

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression, in float64."""
        slabs = _Slabs(expression, operands)
        return float(
            sum(self._each(lambda where: float(slabs(where).sum(dtype=np.float64)), slabs))
        )

    def _each(self, work: Callable[[slice], Any], slabs: _Slabs) -> list[Any]:
        return list(self._pool.map(work, slabs.places()))

    def curvature(self, x: Float, spacing: tuple[float, ...], epsilon: float) -> Float:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2))."""
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

    def release(self) -> None:
        """Nothing to free: the arrays are Python's."""


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


class _Slabs:
    """An expression, and its operands cut into pieces of `SLAB` voxels."""

    def __init__(self, expression: str, operands: dict[str, Any]) -> None:
        arrays = {k: v for k, v in operands.items() if isinstance(v, np.ndarray)}
        self.shape = next(iter(arrays.values())).shape
        self._code = compiled(expression)
        self._flat = {name: array.reshape(-1) for name, array in arrays.items()}
        self._numbers: dict[str, Any] = {
            k: np.float32(v) for k, v in operands.items() if k not in arrays
        }

    def places(self) -> Iterator[slice]:
        n = next(iter(self._flat.values())).size
        return (slice(start, min(start + SLAB, n)) for start in range(0, n, SLAB))

    def __call__(self, where: slice) -> Float:
        pieces = {name: array[where] for name, array in self._flat.items()}
        # The expressions are constants of this package, never text of the user's.
        result: Float = eval(self._code, _FUNCTIONS, self._numbers | pieces)
        return result


def available_cores() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
