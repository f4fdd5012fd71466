"""Iterations with the true blur, and learned steps between them.

`UnrolledRichardsonLucy` has the idea of RLN (Li et al. 2022, doi 10.1038/s41592-022-01652-7) with
the PSF that is given in the place of learned blurs; `UnrolledGradient` is WF-UNet (Pronina et al.
2020, arXiv 1911.10989). Both take another PSF without another training. Light may come from beyond
the image: the sample is restored on the larger grid of `Blur`, and learned steps see the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

from .blurring import Blur, grown
from .nets import Net
from .unet import UNet

#: Of the brightness: less than this counts as dark, where something is divided by it.
DARK = 1e-3
#: Light from where less of the PSF than this falls into the image is not asked for.
SEEN = 1e-2


class UnrolledRichardsonLucy(Net):
    """Richardson-Lucy, a few iterations at a time, corrected by three convolutions after each few.

    Parameters
    ----------
    ndim : int
        2 or 3.
    stages, inner : int
        Corrections, each with weights of its own, and iterations before each.
    first : int
        Channels of the convolutions.
    """

    holds_blur = True

    def __init__(self, ndim: int, stages: int, inner: int, first: int) -> None:
        super().__init__()
        self.ndim, self.inner, self.volumes = ndim, inner, 2.0 * first + 10
        self.corrections = nn.ModuleList(_correction(ndim, first) for _ in range(stages))

    @property
    def strides(self) -> tuple[int, ...]:
        """It has no grid of its own."""
        return (1,) * self.ndim

    def reach(self, psf: Psf, tail: float) -> tuple[int, ...]:
        """Return how far the iterations and the convolutions look."""
        stages = len(self.corrections)
        # The start is an adjoint of the blur: one iteration more.
        before = RichardsonLucy(stages * self.inner + 1, "none").halo(psf, tail)
        return tuple(n + 3 * stages for n in before or (0,) * self.ndim)

    def forward(self, x: Tensor, psf: Tensor, settings: Tensor | None = None) -> Tensor:
        """Return (N, 1, ...) for the image, the light and the background (N, 3, ...)."""
        blur = Blur(psf, x.shape[2:])
        background = x[:, 2:3].clamp_min(0) + DARK
        counts = x[:, :1] + background
        seen = blur.adjoint(torch.ones_like(counts)).clamp_min(SEEN)
        sample = (blur.adjoint(x[:, :1]) / seen).clamp_min(DARK)
        for correction in self.corrections:
            ratio = torch.ones_like(counts)
            for _ in range(self.inner):
                ratio = counts.clamp_min(0) / (blur.forward(sample).clamp_min(0) + background)
                sample = sample * blur.adjoint(ratio).clamp_min(0) / seen
            here = blur.cropped(sample)
            added = correction(torch.cat([here, x[:, :2], ratio - 1], dim=1))
            sample = (sample + grown(added, blur.full)).clamp_min(DARK / 10)
        return blur.cropped(sample)


class UnrolledGradient(Net):
    """WF-UNet: steps down the squared misfit, and each time a part of what a U-Net would remove.

    Parameters
    ----------
    pools : sequence of tuple of int
        Of the U-Net, which all steps share.
    stages, inner : int
        Steps of the U-Net, and steps down the misfit before each.
    first : int
        Channels of the U-Net.
    """

    holds_blur = True

    def __init__(self, pools: Sequence[Sequence[int]], stages: int, inner: int, first: int) -> None:
        super().__init__()
        self.stages, self.inner, self.volumes = stages, inner, 8.0 * first + 10
        self.cleaning = UNet(pools, channels=3, first=first)
        self.steps = nn.Parameter(torch.ones(stages))
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    @property
    def strides(self) -> tuple[int, ...]:
        """Those of the U-Net."""
        return self.cleaning.strides

    def reach(self, psf: Psf, tail: float) -> tuple[int, ...]:
        """Return how far the steps and the U-Net look."""
        before = RichardsonLucy(self.stages * self.inner + 1, "none").halo(psf, tail)
        return tuple(
            n + self.stages * more
            for n, more in zip(before or self.strides, self.cleaning.halo, strict=True)
        )

    def forward(self, x: Tensor, psf: Tensor, settings: Tensor | None = None) -> Tensor:
        """Return (N, 1, ...) for the image, the light and the background (N, 3, ...)."""
        blur = Blur(psf, x.shape[2:])
        image, noise = x[:, :1], x[:, 1:2]
        part = torch.exp(self.alpha + self.beta * noise)
        sample = blur.adjoint(image)
        for step in self.steps:
            for _ in range(self.inner):
                sample = sample - step * blur.adjoint(blur.forward(sample) - image)
            here = blur.cropped(sample)
            cleaner = self.cleaning(torch.cat([here, image, noise], dim=1), psf)
            sample = sample + grown(part * (cleaner - here), blur.full)
        return blur.cropped(sample)


def _correction(ndim: int, size: int) -> nn.Sequential:
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    layers: list[nn.Module] = []
    before = 4
    for _ in range(2):
        layers += [convolution(before, size, 3, padding=1), nn.ReLU()]
        before = size
    last = convolution(before, 1, 3, padding=1)
    # What is added is nothing at first: it begins as Richardson-Lucy.
    for values in last.parameters():
        nn.init.zeros_(values)
    return nn.Sequential(*layers, last)
