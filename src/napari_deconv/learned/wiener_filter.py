"""Deep Wiener-Kolmogorov filters: WF-K, and WF-KPN whose filters follow from the image.

Pronina, Kokkinos, Dylov & Lefkimmiatis, ECCV 2020, arXiv 1911.10989:
x = F^-1[conj(B) Y / (|B|^2 + l sum_d |G_d|^2)] with learned filters G_d. The sum is the transform
of the filters' summed autocorrelation, one small kernel, so that one transform takes the place of
26. l depends on the noise: l = exp(alpha + beta n), n the channel that tells how much light there
is.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.wiener import reach_of_response

from .blurring import Blur, boxed, continued, grown
from .nets import Net

#: Side of the filters.
SIDE = 3
#: Where no filter answers and the PSF lets nothing through, nothing is to be made of noise.
LEAST_PENALTY = 1e-5
#: A filter is predicted from a copy that is binned by so much, by layers of so many channels.
BINNED, PREDICTING = 4, (12, 24)
#: How much a filter's reach is looked at, in half sides of the PSF.
ROOM = 4


class WienerFilter(Net):
    """WF-K, or WF-KPN.

    Parameters
    ----------
    ndim : int
        2 or 3: 8 filters of 3 x 3, or 26 of 3 x 3 x 3.
    predicted : bool
        Whether a small network adds to the filters and to alpha what an image asks for.
    """

    holds_blur = True
    volumes = 8.0

    def __init__(self, ndim: int, *, predicted: bool = False) -> None:
        super().__init__()
        self.ndim = ndim
        self.filters = nn.Parameter(cosine_filters(ndim))
        self.alpha, self.beta = nn.Parameter(torch.tensor(-3.0)), nn.Parameter(torch.tensor(-3.0))
        self.predicting = _predicting(ndim, self.filters.numel() + 1) if predicted else None

    @property
    def strides(self) -> tuple[int, ...]:
        """It has no grid of its own."""
        return (1,) * self.ndim

    def reach(self, psf: Psf, tail: float) -> tuple[int, ...]:
        """Return how far the filter reaches, for the least light: there it reaches least far."""
        samples = boxed([torch.tensor(psf.samples)])
        room = [(ROOM - 1) * n for n in psf.shape]
        blur = Blur(samples, room)
        with torch.no_grad():
            kernel = self._kernel(self.filters)[None]
            noise = torch.full((1, 1, *(1,) * self.ndim), 0.5)
            response = blur.back(self._inverse(blur, kernel, self.alpha, noise))
        return reach_of_response(response[0, 0].abs().numpy(), tail)

    def settings(self, x: Tensor, psf: Tensor) -> Tensor | None:
        """Return what is added to filters and alpha, (N, numbers); None of WF-K."""
        if self.predicting is None:
            return None
        added: Tensor = self.predicting(_binned(x[:, :1]))
        return added

    def forward(self, x: Tensor, psf: Tensor, settings: Tensor | None = None) -> Tensor:
        """Return (N, 1, ...) for the image, the light and the background (N, 3, ...)."""
        blur = Blur(psf, x.shape[2:])
        if settings is None:
            settings = self.settings(x, psf)
        alpha: Tensor = self.alpha
        kernel = self._kernel(self.filters)[None]
        if settings is not None:
            added = settings[:, :-1].reshape(-1, *self.filters.shape)
            kernel = torch.stack([self._kernel(self.filters + more) for more in added])
            alpha = self.alpha + settings[:, -1].reshape(-1, 1, *(1,) * self.ndim)
        corner = (slice(None), slice(1, 2), *(slice(1),) * self.ndim)
        inverse = self._inverse(blur, kernel, alpha, x[corner])
        image = continued(x[:, :1], blur.full)
        return blur.cropped(blur.back(blur.transformed(image) * inverse))

    def _inverse(self, blur: Blur, kernel: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
        laid = torch.roll(grown(kernel, blur.full), [1 - SIDE] * self.ndim, blur.axes)
        penalty = blur.transformed(laid).real[:, None].clamp_min(0) + LEAST_PENALTY
        weight = torch.exp(alpha + self.beta * noise)
        inverse: Tensor = blur.otf.conj() / (blur.otf.abs().square() + weight * penalty)
        return inverse

    def _kernel(self, filters: Tensor) -> Tensor:
        """Return the summed autocorrelation of filters, of side 2 SIDE - 1."""
        convolve = {2: functional.conv2d, 3: functional.conv3d}[self.ndim]
        padded = functional.pad(filters[None], [SIDE - 1] * (2 * self.ndim))
        kernel: Tensor = convolve(padded, filters[None])[0, 0]
        return kernel


def cosine_filters(ndim: int) -> Tensor:
    """Return the products of cosines (DCT-II of length 3) but the constant one, (8 or 26, ...)."""
    steps = torch.arange(SIDE) + 0.5
    waves = [torch.cos(math.pi * k / SIDE * steps) for k in range(SIDE)]
    waves = [wave / wave.norm() for wave in waves]
    found = []
    for chosen in product(range(SIDE), repeat=ndim):
        if any(chosen):
            made = torch.ones(())
            for k in chosen:
                made = made[..., None] * waves[k]
            found.append(made)
    return torch.stack(found)


class _Mean(nn.Module):
    """The mean over all voxels, (N, C) of (N, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = x.flatten(2).mean(2)
        return mean


def _predicting(ndim: int, numbers: int) -> nn.Sequential:
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    layers: list[nn.Module] = []
    before = 1
    for size in PREDICTING:
        layers += [convolution(before, size, SIDE, padding=1), nn.ReLU()]
        before = size
    last = nn.Linear(before, numbers)
    # What is added is nothing at first.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, _Mean(), last)


def _binned(x: Tensor) -> Tensor:
    pooled = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[x.ndim - 2]
    sides = tuple(min(BINNED, n) for n in x.shape[2:])
    binned: Tensor = pooled(x, sides)
    return binned
