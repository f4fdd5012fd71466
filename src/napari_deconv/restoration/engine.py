"""The protocol `Engine`: where arrays live, and the few steps that methods need there.

A method is written once. It names element-wise steps as expressions in the notation that
numpy, torch and OpenCL C share (+ - * / and `fmax`, `fmin`, `log`, `sqrt`), so that each
engine runs a whole step in one pass over memory; everything else is a linear filter given
by its transfer function.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

#: An array on the engine's device; opaque to methods.
Array = Any
Float = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]


class Filter(Protocol):
    """A circular linear filter on one shape."""

    def forward(self, x: Array) -> Array:
        """Return the filtered `x`; a new array."""
        ...

    def adjoint(self, x: Array) -> Array:
        """Return `x` filtered with the conjugate transfer function; a new array."""
        ...


class Engine(Protocol):
    """Where arrays live. Every array is float32."""

    @property
    def name(self) -> str:
        """'cpu', 'opencl' or 'torch'."""
        ...

    @property
    def device(self) -> str:
        """What it runs on, in words."""
        ...

    def push(self, array: Float, shape: tuple[int, ...]) -> Array:
        """Return a copy of `array` on the device, padded with zeros at the far end to `shape`."""
        ...

    def pull(self, array: Array, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels of `array` as a new numpy array."""
        ...

    def filter(self, transfer: Complex, shape: tuple[int, ...]) -> Filter:
        """Return the filter with this transfer function (as `numpy.fft.rfftn` orders it)."""
        ...

    def evaluate(self, expression: str, /, *, out: Array | None = None, **operands: Any) -> Array:
        """Return the element-wise `expression` of arrays and numbers, in `out` where given."""
        ...

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise `expression`, accumulated in float64."""
        ...

    def curvature(self, x: Array, spacing: tuple[float, ...], epsilon: float) -> Array:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2)), forward and backward differences."""
        ...

    def release(self) -> None:
        """Free what the device still holds for this engine."""
        ...
