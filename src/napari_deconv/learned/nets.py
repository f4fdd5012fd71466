"""What all networks have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import require


class Net(nn.Module):
    """A network: channels in, one restored image out, and perhaps the scale of its error.

    Attributes
    ----------
    holds_blur : bool
        Whether it blurs with the PSF itself: then it runs on a whole piece at once, and another
        PSF needs no other weights.
    laplace : bool
        Whether a second output gives the scale of a Laplace distribution around the first.
    volumes : float
        Peak memory of a run in float32 volumes of the piece with the PSF around it.
    """

    holds_blur: bool = False
    laplace: bool = False
    volumes: float = 0.0

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next((values.device for values in self.parameters()), torch.device("cpu"))

    @property
    def strides(self) -> tuple[int, ...]:
        """Voxels along each axis that make one of the coarsest level: its grid must not move."""
        raise NotImplementedError

    def reach(self, psf: Psf, tail: float) -> tuple[int, ...]:
        """Return how far a voxel of the output looks, but for a part `tail` of it."""
        raise NotImplementedError

    def settings(self, x: Tensor, psf: Tensor) -> Tensor | None:
        """Return what must be the same for all pieces of an image, from a piece of it."""
        return None

    def forward(self, x: Tensor, psf: Tensor, settings: Tensor | None = None) -> Tensor:
        """Return (N, 1 or 2, ...) for channels (N, C, ...) and PSFs (N, ...)."""
        raise NotImplementedError

    @torch.inference_mode()
    def in_parts(
        self, x: Tensor, psf: Tensor, settings: Tensor | None = None
    ) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Yield the output, or parts of it one after the other, and where each lies.

        Nothing can be learned from it. What goes in need not be on the device of the network.
        """
        yield (slice(None),) * x.ndim, self(x.to(self.device), psf, settings)

    def parts(self, shape: Sequence[int]) -> int:
        """Return into how many parts `in_parts` takes an image at the most."""
        return 1

    def room(self, shape: Sequence[int]) -> int:
        """Return the bytes that `in_parts` keeps of an image of a shape, without its results."""
        return 0


def require_restores(network: Net, ndim: int, name: str) -> None:
    """Raise `InputError` where a network is for volumes and the image is a plane, or so."""
    words, own = {2: "planes", 3: "volumes"}, len(network.strides)
    require(
        own == ndim,
        f"The network {name!r} restores {words[own]}, and the image is made of {words[ndim]}; "
        "choose or train one for those",
    )


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolve on CUDA as elsewhere: in float32 to its last digit, added up in one order.

    Left to itself, it takes numbers of 10 binary digits (TF32), so that tiles differ from the
    whole, and sums in whatever order is fastest, so that a seed gives other weights each time.
    """
    cudnn = torch.backends.cudnn
    chosen = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark}
    with cudnn.flags(**chosen, deterministic=True, allow_tf32=False):
        yield


@lru_cache(maxsize=1)
def best_device() -> torch.device:
    """Return where networks run fastest here: CUDA; MPS where it can do all of it; the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        try:
            _tried(torch.device("mps"))
        except (RuntimeError, NotImplementedError):
            return torch.device("cpu")
        return torch.device("mps")
    return torch.device("cpu")


def layout_of(network: Net, device: torch.device) -> torch.memory_format:
    """Return how channels lie in memory: side by side, a CPU convolves them a third faster."""
    if network.holds_blur or device.type not in ("cpu", "cuda"):
        return torch.contiguous_format
    return torch.channels_last_3d if len(network.strides) == 3 else torch.channels_last


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the numbers of 16 bits that a device convolves fast; None where it has none.

    They have the range of the longer ones and 8 bits of their digits: enough for the way downhill,
    where the weights themselves stay long.
    """
    if device.type == "cuda":
        has_them = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_them = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_them else None


def _tried(device: torch.device) -> None:
    """Do once what networks do; an error where the device cannot."""
    x = torch.ones(1, 1, 4, 4, 4, device=device, requires_grad=True)
    pooled = functional.max_pool3d(nn.Conv3d(1, 1, 3, padding=1).to(device)(x), 2)
    grown = functional.interpolate(pooled, scale_factor=2.0)
    spectrum = torch.fft.rfftn(functional.pad(grown, [1, 1] * 3, mode="replicate"), dim=(2, 3, 4))
    torch.fft.irfftn(spectrum, s=(6, 6, 6), dim=(2, 3, 4)).sum().backward()
