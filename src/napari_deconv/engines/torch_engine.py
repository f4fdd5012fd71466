"""Engine on torch: CUDA, Apple's MPS, or the CPU. Only this file and `learned` import torch."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float, Values
from napari_deconv.restoration.pieces import blocks

from .composed import Composed
from .cpu_filter import real_of
from .expression import compiled
from .fused import MOST_ARRAYS, TIMES_CONJUGATE, kernel

if TYPE_CHECKING:
    import torch


#: Voxels brought to the device at a time.
BLOCK = 1 << 22


class TorchFilter(Composed):
    """A circular filter by real transforms; see `restoration.engine.Filter`."""

    def __init__(
        self,
        engine: TorchEngine,
        transfer: torch.Tensor,
        shape: tuple[int, ...],
        window: tuple[int, ...],
    ) -> None:
        self.engine, self._transfer, self._shape = engine, transfer, shape
        self._window = tuple(slice(n) for n in window)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the filtered `x` in the window."""
        import torch

        spectrum = torch.fft.rfftn(x)
        spectrum *= self._transfer
        result: torch.Tensor = torch.fft.irfftn(spectrum, s=self._shape)
        return result[self._window]

    def adjoint(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, zero beyond the window, filtered with the conjugate transfer function."""
        import torch

        spectrum = torch.fft.rfftn(x, s=self._shape)
        # conj(H) X = conj(H conj(X)), without a second copy of the transfer function.
        spectrum.conj_physical_()
        spectrum *= self._transfer
        spectrum.conj_physical_()
        result: torch.Tensor = torch.fft.irfftn(spectrum, s=self._shape)
        return result


class CudaFilter(TorchFilter):
    """A filter on CUDA, where the passes over memory beside the transforms are what costs.

    Parameters
    ----------
    engine : TorchEngine
        On a GPU.
    transfer : Tensor
        Real where it is the transform of its own mirror image: half to read, and its own conjugate.
    shape, window : tuple of int
        See `restoration.engine.Engine.filter`.
    fuses : bool
        Whether kernels can be compiled.
    """

    def __init__(
        self,
        engine: TorchEngine,
        transfer: torch.Tensor,
        shape: tuple[int, ...],
        window: tuple[int, ...],
        *,
        fuses: bool,
    ) -> None:
        # cuFFT does not normalise, and torch takes a pass of its own for it: here it is no work.
        super().__init__(engine, transfer / math.prod(shape), shape, window)
        self._fuses = fuses

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the filtered `x` in the window."""
        spectrum = self._there(x)
        spectrum *= self._factors(spectrum)
        window = self._back(spectrum)[self._window]
        # A view would hold the whole volume even when `evaluate` has put its result in its place.
        return _moved(window.new_empty(0), window)

    def adjoint(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, zero beyond the window, filtered with the conjugate transfer function."""
        spectrum = self._there(x)
        factors = self._factors(spectrum)
        if factors.is_complex() and self._fuses:
            spectrum = _fused(TIMES_CONJUGATE, ("a", "h"))(spectrum, factors)
        elif factors.is_complex():
            spectrum.conj_physical_().mul_(factors).conj_physical_()
        else:
            spectrum *= factors
        return self._back(spectrum)

    def _factors(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the transfer function, in memory as the spectrum is.

        On CUDA the first two axes of a spectrum lie together, not the last: factors in another
        order would be read from places far apart.
        """
        if self._transfer.stride() != spectrum.stride():
            import torch

            laid = torch.empty_like(spectrum, dtype=self._transfer.dtype)
            self._transfer = laid.copy_(self._transfer)
        return self._transfer

    def _there(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        result: torch.Tensor = torch.fft.rfftn(x, s=self._shape)
        return result

    def _back(self, spectrum: torch.Tensor) -> torch.Tensor:
        import torch

        # "forward": nothing is left to normalise on the way back.
        result: torch.Tensor = torch.fft.irfftn(spectrum, s=self._shape, norm="forward")
        return result


class TorchEngine:
    """torch on one device; see `restoration.engine.Engine`.

    Parameters
    ----------
    target : str
        A torch device: "cuda:0", "mps" or "cpu".
    """

    name = "torch"

    def __init__(self, target: str = "cpu") -> None:
        import torch

        self._torch = torch
        self._target = torch.device(target)
        self._fuses = self._target.type == "cuda" and _compiles(target)
        self.device = describe_device(target)
        # H^T M, and what a transform holds: its result, the spectrum, and copies of it on the way.
        # Measured on torch's CPU: 5 to 7; on CUDA 3.4 to 3.9 (benchmarks/gpu.py).
        self.extra_volumes = 4.5 if self._target.type == "cuda" else 7.0
        self._functions: dict[str, Any] = {
            "__builtins__": {},
            "fmax": self._pairwise(torch.fmax),
            "fmin": self._pairwise(torch.fmin),
            "log": lambda x: torch.log(self._tensor(x)),
            "sqrt": lambda x: torch.sqrt(self._tensor(x)),
        }

    def _pairwise(self, function: Any) -> Any:
        """Let torch's two-tensor functions take numbers."""

        def apply(a: Any, b: Any) -> torch.Tensor:
            result: torch.Tensor = function(self._tensor(a), self._tensor(b))
            return result

        return apply

    def _tensor(self, value: Any) -> torch.Tensor:
        """Return a tensor; a number as one that goes with those of any shape."""
        if isinstance(value, self._torch.Tensor):
            return value
        return self._torch.tensor(value, dtype=self._torch.float32, device=self._target)

    def push(self, array: Float, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a copy on the device, padded with zeros at the far end."""
        result = self._torch.zeros(shape, dtype=self._torch.float32, device=self._target)
        inside = tuple(slice(n) for n in array.shape)
        if not any(array.strides):  # One number, which need not be brought there voxel by voxel.
            result[inside] = float(array.flat[0])
        else:
            result[inside] = self._torch.from_numpy(np.array(array, np.float32)).to(self._target)
        return result

    def hold(self, values: Values) -> torch.Tensor:
        """Return the values on the device."""
        result = self._torch.empty(values.shape, dtype=self._torch.float32, device=self._target)
        for where in blocks(values.shape, BLOCK):
            result[where] = self._torch.from_numpy(np.array(values[where])).to(self._target)
        return result

    def pull(self, array: torch.Tensor, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new numpy array."""
        part = array[tuple(slice(n) for n in shape)]
        in_order = self._torch.contiguous_format
        host: Float = part.to("cpu", copy=True, memory_format=in_order).numpy()
        return host

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> TorchFilter:
        """Return the filter with this transfer function."""
        if self._target.type == "cuda":
            factors = real_of(transfer).reshape(transfer.shape)
            on_device = self._torch.from_numpy(np.array(factors)).to(self._target)
            return CudaFilter(self, on_device, shape, window or shape, fuses=self._fuses)
        # Elsewhere a product of complex and real numbers is no faster: torch converts first.
        on_device = self._torch.from_numpy(np.array(transfer, np.complex64)).to(self._target)
        return TorchFilter(self, on_device, shape, window or shape)

    def evaluate(
        self, expression: str, /, *, out: torch.Tensor | None = None, **operands: Any
    ) -> torch.Tensor:
        """Return the element-wise expression."""
        result = self._in_one_pass(expression, operands) if self._fuses else None
        if result is None:
            # The expressions are constants of this package, never text of the user's.
            result = eval(compiled(expression), self._functions, operands)
            return result if out is None else out.copy_(result)
        # A kernel of the jiterator makes its own result. `out` takes over that memory and gives
        # up its own: it holds the result as promised, without the pass that copying would be, and
        # as much memory is held as before. What else lay in the old memory keeps what it had.
        return result if out is None else _moved(out, result)

    def _in_one_pass(self, expression: str, operands: dict[str, Any]) -> torch.Tensor | None:
        """Return the expression by a kernel of its own, None where it has too many arrays."""
        arrays = {k: v for k, v in operands.items() if isinstance(v, self._torch.Tensor)}
        if not 0 < len(arrays) <= MOST_ARRAYS:
            return None
        numbers = {k: float(v) for k, v in operands.items() if k not in arrays}
        result: torch.Tensor = _fused(expression, tuple(arrays), tuple(numbers))(
            *arrays.values(), **numbers
        )
        return result

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression, in float64 where the device has it."""
        values = self.evaluate(expression, **operands)
        if values.device.type == "mps":
            # No float64 there: sum rows on the device and add them up on the host.
            return float(values.sum(dim=-1).cpu().double().sum())
        return float(values.sum(dtype=self._torch.float64))

    def curvature(
        self, x: torch.Tensor, spacing: tuple[float, ...], epsilon: float
    ) -> torch.Tensor:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2))."""
        norm = self._torch.full_like(x, epsilon**2)
        for axis, step in enumerate(spacing):
            slope = _slope(x, axis, step)
            norm.addcmul_(slope, slope)
        norm.sqrt_()
        result = self._torch.zeros_like(x)
        # The slopes are made once more rather than kept.
        for axis, step in enumerate(spacing):
            flow = _slope(x, axis, step).div_(norm).div_(step)
            result += flow
            inner = x.shape[axis] - 1
            result.narrow(axis, 1, inner).sub_(flow.narrow(axis, 0, inner))
        return result

    def release(self) -> None:
        """Give cached blocks of a GPU back."""
        if self._target.type == "cuda":
            self._torch.cuda.empty_cache()
        elif self._target.type == "mps":
            self._torch.mps.empty_cache()


def _moved(tensor: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    """Let a tensor lie where another does, and give up its own memory; return it."""
    return tensor.set_(to.untyped_storage(), to.storage_offset(), to.shape, to.stride())


@cache
def _fused(expression: str, arrays: tuple[str, ...], numbers: tuple[str, ...] = ()) -> Any:
    """Return what runs an expression on a GPU; it is compiled when it is first called."""
    from torch.cuda import jiterator

    code = kernel(expression, arrays, numbers)
    return jiterator._create_jit_fn(code, **dict.fromkeys(numbers, 0.0))


@cache
def _compiles(target: str) -> bool:
    """Return whether torch can compile kernels for a GPU, which is tried once.

    The jiterator is in beta: another version may be without it, and its compiler (NVRTC, or that
    of ROCm) may be missing. All works without it, in more passes over memory.
    """
    import torch

    x, z = torch.full((2,), 4.0, device=target), torch.full((2,), 1 + 2j, device=target)
    try:
        root = _fused("fmax(sqrt(x) - k, 0.1f)", ("x",), ("k",))(x, k=1.5)
        square = _fused(TIMES_CONJUGATE, ("a", "h"))(z, z)
    except (AttributeError, AssertionError, ImportError, OSError, RuntimeError, TypeError):
        return False
    return bool((root == 0.5).all()) and bool((square == 5).all())


def _slope(x: torch.Tensor, axis: int, step: float) -> torch.Tensor:
    """Return (x[i+1] - x[i]) / step, and 0 at the end of the axis."""
    import torch

    result, inner = torch.zeros_like(x), x.shape[axis] - 1
    ahead, here = x.narrow(axis, 1, inner), x.narrow(axis, 0, inner)
    result.narrow(axis, 0, inner).copy_(ahead).sub_(here).div_(step)
    return result


def torch_devices() -> list[str]:
    """Return the torch devices of this machine, GPUs first, then 'cpu'."""
    import torch

    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def describe_device(target: str) -> str:
    """Return a torch device in words."""
    import torch

    if target.startswith("cuda"):
        return f"GPU {torch.cuda.get_device_name(target)} (CUDA through torch)"
    if target == "mps":
        return "GPU of this Mac (MPS through torch)"
    return f"CPU, {torch.get_num_threads()} threads (torch)"


def device_memory_bytes(target: str) -> int | None:
    """Return the memory of a torch device in bytes; None where nobody can tell."""
    import torch

    from .memory import total_memory_bytes

    if target == "cpu":
        return total_memory_bytes()
    if target.startswith("cuda"):
        return int(torch.cuda.get_device_properties(target).total_memory)
    return None
