"""A circular filter on the devices of torch, and on CUDA, where every pass over memory counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .composed import Composed
from .cpu_filter import IMAGINARY
from .fused import TIMES_CONJUGATE, kernel_of

if TYPE_CHECKING:
    import torch

    from .torch_engine import TorchEngine


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
        return moved(window.new_empty(0), window)

    def adjoint(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, zero beyond the window, filtered with the conjugate transfer function."""
        spectrum = self._there(x)
        factors = self._factors(spectrum)
        if factors.is_complex() and self._fuses:
            spectrum = kernel_of(TIMES_CONJUGATE, ("a", "h"))(spectrum, factors)
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


def moved(tensor: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    """Let a tensor lie where another does, and give up its own memory; return it."""
    return tensor.set_(to.untyped_storage(), to.storage_offset(), to.shape, to.stride())


def real_where_it_is(transfer: torch.Tensor) -> torch.Tensor:
    """Return a transfer function without its imaginary part, where that is but rounding."""
    largest = IMAGINARY * float(transfer.real.abs().max())
    is_real = float(transfer.imag.abs().max()) <= largest
    return transfer.real.contiguous() if is_real else transfer
