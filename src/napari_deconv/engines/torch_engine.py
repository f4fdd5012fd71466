"""Engine on torch: CUDA, Apple's MPS, or the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.restoration.blur import placements
from napari_deconv.restoration.engine import Complex, Float, Values
from napari_deconv.restoration.pieces import Repeating, blocks

from .expression import compiled
from .fused import MOST_ARRAYS, compiles, kernel_of
from .torch_filter import CudaFilter, TorchFilter, moved, real_where_it_is

if TYPE_CHECKING:
    import torch


#: Voxels brought to the device at a time.
BLOCK = 1 << 22


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
        self._is_cuda = self._target.type == "cuda"
        self._fuses = self._is_cuda and compiles(target)
        self.device = describe_device(target)
        # H^T M, and what a transform holds: its result, the spectrum, and copies of it on the way.
        # Measured on torch's CPU: 5 to 7; on CUDA 3.4 to 3.9 (benchmarks/gpu.py).
        self.extra_volumes = 4.5 if self._is_cuda else 7.0
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
        # Where it is one number, that need not be brought there voxel by voxel.
        values = self.hold(array) if any(array.strides) else float(array.flat[0])
        result[tuple(slice(n) for n in array.shape)] = values
        return result

    def hold(self, values: Values) -> torch.Tensor:
        """Return the values on the device."""
        if isinstance(values, Repeating):
            return self._repeated(values)
        result = self._torch.empty(values.shape, dtype=self._torch.float32, device=self._target)
        for where in blocks(values.shape, BLOCK):
            part = result[where]
            staged = self._staged(part)
            staged.numpy()[...] = values[where]
            # Elsewhere than on CUDA what is still to be copied would be given up (torch 189690).
            part.copy_(staged, non_blocking=self._is_cuda)
        return result

    def _staged(self, like: torch.Tensor) -> torch.Tensor:
        """Return memory of the host that the device copies from and to by itself.

        Of pinned memory torch keeps what is given back, and gives it out again when no copy is
        under way any more.
        """
        return self._torch.empty(like.shape, dtype=like.dtype, pin_memory=self._is_cuda)

    def _repeated(self, values: Repeating) -> torch.Tensor:
        """Return values that the device repeats, for which the different ones are brought there."""
        axes, places = len(values.places), []
        for axis, along in enumerate(values.places):
            shape = [-1 if other == axis else 1 for other in range(axes)]
            places.append(self._torch.from_numpy(along).to(self._target).reshape(shape))
        different = self._torch.from_numpy(values.different).to(self._target)
        return different[tuple(places)]

    def pull(self, array: torch.Tensor, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new numpy array."""
        part = array[tuple(slice(n) for n in shape)]
        result = self._torch.empty(part.shape, dtype=self._torch.float32)
        for where in blocks(tuple(part.shape), BLOCK):
            result[where] = self._staged(part[where]).copy_(part[where])
        host: Float = result.numpy()
        return host

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> TorchFilter:
        """Return the filter with this transfer function."""
        on_device = self._torch.from_numpy(np.array(transfer, np.complex64)).to(self._target)
        return self._filter(on_device, shape, window or shape)

    def blur(
        self, psf: Float, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> TorchFilter:
        """Return the blur by a PSF, whose transfer function is made on the device."""
        kernel = self._torch.zeros(shape, dtype=self._torch.float32, device=self._target)
        samples = self._torch.from_numpy(np.array(psf, np.float32)).to(self._target)
        for source, target in placements(psf.shape, shape):
            kernel[target] += samples[source]
        return self._filter(self._torch.fft.rfftn(kernel), shape, window or shape)

    def _filter(
        self, transfer: torch.Tensor, shape: tuple[int, ...], window: tuple[int, ...]
    ) -> TorchFilter:
        if self._is_cuda:
            factors = real_where_it_is(transfer)
            return CudaFilter(self, factors, shape, window, fuses=self._fuses)
        # Elsewhere a product of complex and real numbers is no faster: torch converts first.
        return TorchFilter(self, transfer, shape, window)

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
        return result if out is None else moved(out, result)

    def _in_one_pass(self, expression: str, operands: dict[str, Any]) -> torch.Tensor | None:
        """Return the expression by a kernel of its own, None where it has too many arrays."""
        arrays = {k: v for k, v in operands.items() if isinstance(v, self._torch.Tensor)}
        if not 0 < len(arrays) <= MOST_ARRAYS:
            return None
        numbers = {k: float(v) for k, v in operands.items() if k not in arrays}
        result: torch.Tensor = kernel_of(expression, tuple(arrays), tuple(numbers))(
            *arrays.values(), **numbers
        )
        return result

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression."""
        # A volume would be copied to float64 as a whole, so rows are summed before.
        rows = self.evaluate(expression, **operands).sum(dim=-1)
        if rows.device.type == "mps":  # There is no float64.
            rows = rows.cpu()
        return float(rows.sum(dtype=self._torch.float64))

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

    def side_by_side(self) -> list[TorchEngine]:
        """Return this one alone: its device is busy with one image."""
        return [self]

    def release(self) -> None:
        """Give cached blocks of a GPU back."""
        if self._is_cuda:
            self._torch.cuda.empty_cache()
        elif self._target.type == "mps":
            self._torch.mps.empty_cache()


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
