"""Engine on torch: CUDA, Apple's MPS, or the CPU. Only this file and `learned` import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float

from .expression import compiled

if TYPE_CHECKING:
    import torch


class TorchFilter:
    """A circular filter by real transforms; see `restoration.engine.Filter`."""

    def __init__(self, transfer: torch.Tensor, shape: tuple[int, ...]) -> None:
        self._transfer, self._shape = transfer, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the filtered `x`."""
        return self._apply(x, self._transfer)

    def adjoint(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` filtered with the conjugate transfer function."""
        return self._apply(x, self._transfer.conj())

    def _apply(self, x: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
        import torch

        spectrum = torch.fft.rfftn(x)
        spectrum *= transfer
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

    def pull(self, array: torch.Tensor, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new numpy array."""
        part: Float = array[tuple(slice(n) for n in shape)].cpu().numpy().copy()
        return part

    def filter(self, transfer: Complex, shape: tuple[int, ...]) -> TorchFilter:
        """Return the filter with this transfer function."""
        on_device = self._torch.from_numpy(np.array(transfer, np.complex64)).to(self._target)
        return TorchFilter(on_device, shape)

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
        import torch

        slopes = []
        for axis, step in enumerate(spacing):
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            slopes.append(torch.diff(x, dim=axis, append=last) / step)
        norm = torch.full_like(x, epsilon**2)
        for slope in slopes:
            norm += slope * slope
        norm.sqrt_()
        result = torch.zeros_like(x)
        for axis, (slope, step) in enumerate(zip(slopes, spacing, strict=True)):
            first = torch.zeros_like(slope.narrow(axis, 0, 1))
            result = result + torch.diff(slope / norm, dim=axis, prepend=first) / step
        return result

    def release(self) -> None:
        """Give cached blocks of a GPU back."""
        if self._target.type == "cuda":
            self._torch.cuda.empty_cache()
        elif self._target.type == "mps":
            self._torch.mps.empty_cache()


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
