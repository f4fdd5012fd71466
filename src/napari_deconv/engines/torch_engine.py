"""Engine on torch: CUDA, Apple's MPS, or the CPU. Only this file and `learned` import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float, Values
from napari_deconv.restoration.pieces import blocks

from .expression import compiled

if TYPE_CHECKING:
    import torch


#: Voxels brought to the device at a time.
BLOCK = 1 << 22


class TorchFilter:
    """A circular filter by real transforms; see `restoration.engine.Filter`."""

    def __init__(
        self, transfer: torch.Tensor, shape: tuple[int, ...], window: tuple[int, ...]
    ) -> None:
        self._transfer, self._shape = transfer, shape
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


class TorchEngine:
    """torch on one device; see `restoration.engine.Engine`.

    Parameters
    ----------
    target : str
        A torch device: "cuda:0", "mps" or "cpu".
    """

    name = "torch"
    #: H^T M, and what a transform holds: its result, the spectrum, and copies of it on the way.
    #: Measured on torch's CPU: 5 to 7; as many counted for CUDA, cuFFT's own memory included.
    extra_volumes = 7.0

    def __init__(self, target: str = "cpu") -> None:
        import torch

        self._torch = torch
        self._target = torch.device(target)
        self.device = describe_device(target)
        self._functions: dict[str, Any] = {
            "__builtins__": {},
            "fmax": self._pairwise(torch.fmax),
            "fmin": self._pairwise(torch.fmin),
            "log": torch.log,
            "sqrt": torch.sqrt,
        }

    def _pairwise(self, function: Any) -> Any:
        """Let torch's two-tensor functions take a number for the second."""

        def apply(a: torch.Tensor, b: Any) -> torch.Tensor:
            other = b if isinstance(b, self._torch.Tensor) else a.new_tensor(b)
            result: torch.Tensor = function(a, other)
            return result

        return apply

    def push(self, array: Float, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a copy on the device, padded with zeros at the far end."""
        result = self._torch.zeros(shape, dtype=self._torch.float32, device=self._target)
        inside = tuple(slice(n) for n in array.shape)
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
        part: Float = array[tuple(slice(n) for n in shape)].cpu().numpy().copy()
        return part

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> TorchFilter:
        """Return the filter with this transfer function."""
        on_device = self._torch.from_numpy(np.array(transfer, np.complex64)).to(self._target)
        return TorchFilter(on_device, shape, window or shape)

    def evaluate(
        self, expression: str, /, *, out: torch.Tensor | None = None, **operands: Any
    ) -> torch.Tensor:
        """Return the element-wise expression."""
        # The expressions are constants of this package, never text of the user's.
        result: torch.Tensor = eval(compiled(expression), self._functions, operands)
        if out is None:
            return result
        torch_out: torch.Tensor = out.copy_(result)
        return torch_out

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
