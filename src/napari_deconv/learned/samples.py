"""Pairs as a network sees them, and the patches that a step of training takes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, ended, observe

from .blurring import boxed
from .designs import Design
from .inputs import brightness, stacked, states
from .pairs import Pair, Twin

Float = npt.NDArray[np.float32]

#: Part of the patches that are taken anywhere; the others hold some of the brightest voxels.
ANYWHERE = 0.3
#: A PSF that differs from its mirror image by less, as a part of itself, counts as symmetric.
SYMMETRIC = 0.05


@dataclass(frozen=True, eq=False)
class Sample:
    """A pair as a network sees it; everything in units of its brightness.

    Parameters
    ----------
    channels : ndarray of float32, (C, Z, Y, X) or (C, Y, X)
    truth : ndarray of float32, (Z, Y, X) or (Y, X)
        What the output should be; where there is a variance, what it should be once it is blurred.
    psf : Psf
    bright : float
        What all was divided by, in counts.
    variance : ndarray of float32, optional
        Of the noise of `truth`, where that was recorded as well.
    error : float, optional
        Mean square error of the best of the estimates among the channels, over the whole pair;
        not a number where nothing that goes in is an estimate.
    """

    channels: Float
    truth: Float
    psf: Psf
    bright: float
    variance: Float | None = None
    error: float = math.nan

    @cached_property
    def mirrors(self) -> tuple[int, ...]:
        """Axes along which the PSF is its own mirror image; asked for with each patch."""
        return symmetric_axes(self.psf.samples)


def sample_of(pair: Pair, psf: Psf, design: Design, engine: Engine, gain: float = 1.0) -> Sample:
    """Return what a network sees of a pair."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    channels, bright = seen_by(design, observation, engine, gain)
    truth = pair.truth / np.float32(bright)
    estimates = channels[: design.mixed] if design.mixed > 1 else ()
    errors = [float(np.square(estimate - truth).mean()) for estimate in estimates]
    return Sample(channels, truth, psf, bright, error=min(errors, default=math.nan))


def sample_of_twin(
    twin: Twin, psf: Psf, design: Design, engine: Engine, gain: float = 1.0
) -> Sample:
    """Return what a network sees of one of two images of the same sample, and the other one."""
    observation = observe(np.maximum(twin.counts, 0), psf, twin.background)
    channels, bright = seen_by(design, observation, engine, gain)
    other = (twin.other - np.float32(twin.other_background)) * np.float32(twin.factor / bright)
    variance = twin.variance * np.float32((twin.factor / bright) ** 2)
    return Sample(channels, other, psf, bright, variance)


def seen_by(
    design: Design, observation: Observation, engine: Engine, gain: float
) -> tuple[Float, float]:
    """Return the channels that a network is given of an image, and what they were divided by."""
    found = ended(states(design.channels, observation, engine))
    bright = brightness(observation)
    return stacked(design.channels, found, bright, gain), bright


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches of a step, all of them with a truth, or all of them with counts.

    Parameters
    ----------
    channels, truth : Tensor, (N, C, ...) and (N, 1, ...)
    psf : Tensor, (N, ...)
    variance : Tensor, (N, 1, ...), optional
    error : Tensor, (N,)
        Mean square error of what each started from, or not a number.
    """

    channels: Tensor
    truth: Tensor
    psf: Tensor
    variance: Tensor | None
    error: Tensor


def batch_of(samples: Sequence[Sample], device: torch.device) -> Batch:
    """Return samples of one shape as a batch."""

    def together(values: Sequence[Float]) -> Tensor:
        return torch.from_numpy(np.stack(values)).to(device)

    variances = [sample.variance for sample in samples if sample.variance is not None]
    psfs = boxed([torch.tensor(sample.psf.samples) for sample in samples])
    return Batch(
        together([sample.channels for sample in samples]),
        together([sample.truth[None] for sample in samples]),
        psfs.to(device),
        together([variance[None] for variance in variances]) if variances else None,
        torch.tensor([sample.error for sample in samples], device=device),
    )


def patch_of(sample: Sample, sides: Sequence[int], random: np.random.Generator) -> Sample:
    """Return a patch; most hold something bright.

    It is mirrored at random along axes along which the PSF is its own mirror image.
    """
    shape = sample.truth.shape
    middle = [random.integers(n) for n in shape]
    if random.uniform() > ANYWHERE:
        lit = np.flatnonzero(sample.truth > 0.1 * sample.truth.max())
        if lit.size:
            middle = list(np.unravel_index(int(random.choice(lit)), shape))
    starts = [
        int(np.clip(m - side // 2, 0, n - side))
        for m, side, n in zip(middle, sides, shape, strict=True)
    ]
    place = tuple(slice(s, s + side) for s, side in zip(starts, sides, strict=True))
    turned = tuple(axis for axis in sample.mirrors if random.uniform() < 0.5)

    def cut(values: Float) -> Float:
        return np.ascontiguousarray(np.flip(values[place], turned))

    channels = np.stack([cut(channel) for channel in sample.channels])
    variance = cut(sample.variance) if sample.variance is not None else None
    return replace(sample, channels=channels, truth=cut(sample.truth), variance=variance)


def symmetric_axes(psf: Float) -> tuple[int, ...]:
    """Return the axes along which a PSF is its own mirror image: there a mirrored pair is a pair.

    Examples
    --------
    >>> symmetric_axes(np.array([[1, 2, 1], [0, 1, 0.5]], np.float32))
    ()
    >>> symmetric_axes(np.array([[1, 2, 1], [0, 1, 0]], np.float32))
    (1,)
    """
    size = float(np.linalg.norm(psf))
    return tuple(
        axis
        for axis, n in enumerate(psf.shape)
        if n % 2 and float(np.linalg.norm(psf - np.flip(psf, axis))) <= SYMMETRIC * size
    )
