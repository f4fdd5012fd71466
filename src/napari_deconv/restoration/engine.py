"""The protocol `Engine`: where arrays live, and the few steps that methods need there.

A method is written once. It names element-wise steps as expressions in the notation that
numpy, torch and OpenCL C share (+ - * / and `fmax`, `fmin`, `log`, `sqrt`), so that each
engine runs a whole step in one pass over memory; everything else is a linear filter given
by its transfer function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .pieces import Float, Values
from .transforms import Complex

__all__ = ["Array", "Complex", "Engine", "Filter", "Float", "Values"]

#: An array on the engine's device; opaque to methods.
Array = Any


class Filter(Protocol):
    """A circular linear filter on one shape, seen through a window at its low end."""

    def forward(self, x: Array) -> Array:
        """Return the filtered `x`, in the window; `x` is kept.

        The result may lie in memory of the filter: it is good until the next call.
        """
        ...

    def adjoint(self, x: Array) -> Array:
        """Return `x`, zero beyond the window, filtered with the conjugate transfer function.

        `x` is used up. The result may lie in memory of the filter: it is good until the next call.
        """
        ...

    def forward_of(self, expression: str, operands: dict[str, Any], /, *, out: Array) -> Array:
        """Return `forward` of what `Engine.evaluate` makes of an expression, in `out`.

        In fewer passes over memory, where an operand is what this filter has returned last. The
        operands are used up: those that nobody else holds make room for the transforms.
        """
        ...

    def adjoint_of(
        self, expression: str, summed: str, operands: dict[str, Any], /, *, out: Array | None
    ) -> tuple[Array, float]:
        """Return `adjoint` of an expression, and `Engine.total` of another of the same operands.

        `out` is what this filter has returned last, None if nothing yet. It is used up, and so are
        the operands; the sum is of these as they were.
        """
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

    @property
    def extra_volumes(self) -> float:
        """Volumes that a run holds here on top of `Restorer.volumes`, which are the CPU engine's.

        For what other engines must store or copy: operands that are held, expressions, transforms.
        """
        ...

    def push(self, array: Float, shape: tuple[int, ...]) -> Array:
        """Return a copy of `array` on the device, padded with zeros at the far end to `shape`."""
        ...

    def hold(self, values: Values) -> Array:
        """Return `values` to be read by `evaluate`, `total` and filters; not to be written to.

        They may be made anew, piece by piece, each time that they are read.
        """
        ...

    def pull(self, array: Array, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels of `array` as a new numpy array."""
        ...

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> Filter:
        """Return the filter with this transfer function (as `numpy.fft.rfftn` orders it).

        Its window is all of `shape` if not given. It may keep `transfer` without copying it.
        """
        ...

    def blur(
        self, psf: Float, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> Filter:
        """Return the blur by `psf` (centre n//2), which is wrapped around where it is longer."""
        ...

    def evaluate(self, expression: str, /, *, out: Array | None = None, **operands: Any) -> Array:
        """Return the element-wise `expression` of arrays and numbers, in `out` where given.

        `out` may be one of the arrays.
        """
        ...

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise `expression`, accumulated in float64."""
        ...

    def curvature(self, x: Array, spacing: tuple[float, ...], epsilon: float) -> Array:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2)), forward and backward differences.

        It may be made piece by piece each time that it is read, from `x` as it is then: write
        neither to it nor, meanwhile, to `x`.
        """
        ...

    def side_by_side(self) -> Sequence[Engine]:
        """Return engines that may work at once, for many small images: this alone, or one a core.

        Each works on one image after the other; what they answer is what this one does.
        """
        ...

    def release(self) -> None:
        """Free what the device still holds for this engine."""
        ...
