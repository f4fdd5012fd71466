"""Pairs as a network sees them, and the patches that a step of training takes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.stepping import ended

from .blurring import boxed
from .designs import Design
from .inputs import brightness, stacked, states
from .pairs import Pair, Twin

Float = npt.NDArray[np.float32]
Random = np.random.Generator

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

    @cached_property
    def lit(self) -> npt.NDArray[np.intp]:
        """Places of voxels with some of the most light, in the order of the memory."""
        return np.flatnonzero(self.truth > 0.1 * self.truth.max())


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
    bright = brightness(observation, gain)
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

    def on(self, device: torch.device) -> Batch:
        """Return it on a device."""
        variance = self.variance.to(device) if self.variance is not None else None
        return Batch(
            self.channels.to(device),
            self.truth.to(device),
            self.psf.to(device),
            variance,
            self.error.to(device),
        )

    def part(self, place: tuple[slice, ...], turned: tuple[int, ...]) -> Batch:
        """Return a place in all images of it, mirrored along some axes."""
        where, axes = (slice(None), slice(None), *place), [axis + 2 for axis in turned]

        def cut(values: Tensor) -> Tensor:
            return torch.flip(values[where], axes) if axes else values[where]

        variance = cut(self.variance) if self.variance is not None else None
        return replace(self, channels=cut(self.channels), truth=cut(self.truth), variance=variance)


def batch_of(samples: Sequence[Sample], device: torch.device) -> Batch:
    """Return samples of one shape as a batch."""

    def together(values: Sequence[Float]) -> Tensor:
        # One alone is not copied.
        stack = values[0][None] if len(values) == 1 else np.stack(values)
        return torch.from_numpy(stack).to(device)

    variances = [sample.variance for sample in samples if sample.variance is not None]
    psfs = boxed([torch.tensor(sample.psf.samples) for sample in samples])
    return Batch(
        together([sample.channels for sample in samples]),
        together([sample.truth[None] for sample in samples]),
        psfs.to(device),
        together([variance[None] for variance in variances]) if variances else None,
        torch.tensor([sample.error for sample in samples], device=device),
    )


class Shelf:
    """Samples on a device, and the patches that a step of training takes of them.

    Parameters
    ----------
    samples : sequence of Sample
    device : torch.device
        Where batches are wanted. The samples lie there too, unless that would fill a GPU.
    """

    def __init__(self, samples: Sequence[Sample], device: torch.device) -> None:
        self.samples, self.device = samples, device
        size = sum(sample.channels.nbytes + sample.truth.nbytes for sample in samples)
        place = device if _has_room(device, size) else torch.device("cpu")
        self._whole = [batch_of([sample], place) for sample in samples]

    def whole(self) -> Iterator[Batch]:
        """Yield each sample as a batch."""
        return (batch.on(self.device) for batch in self._whole)

    def patches(self, chosen: Sequence[int], sides: Sequence[int], random: Random) -> Batch:
        """Return a patch of each of the chosen samples, which are of one kind."""
        cut = [self._whole[n].part(*patch_in(self.samples[n], sides, random)) for n in chosen]
        variances = [batch.variance for batch in cut if batch.variance is not None]
        together = Batch(
            torch.cat([batch.channels for batch in cut]),
            torch.cat([batch.truth for batch in cut]),
            boxed([batch.psf[0] for batch in cut]),
            torch.cat(variances) if variances else None,
            torch.cat([batch.error for batch in cut]),
        )
        return together.on(self.device)


def _has_room(device: torch.device, size: int) -> bool:
    """Return whether samples of so many bytes leave half of what a device has free."""
    if device.type != "cuda":
        return device.type == "cpu"
    free: int = torch.cuda.mem_get_info(device)[0]
    return size < free / 2


def patch_in(
    sample: Sample, sides: Sequence[int], random: Random
) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Return the place of a patch, most of which hold something bright, and the axes to mirror.

    It is mirrored at random along axes along which the PSF is its own mirror image.
    """
    shape = sample.truth.shape
    middle = [random.integers(n) for n in shape]
    if random.uniform() > ANYWHERE and sample.lit.size:
        middle = list(np.unravel_index(int(random.choice(sample.lit)), shape))
    starts = [
        int(np.clip(m - side // 2, 0, n - side))
        for m, side, n in zip(middle, sides, shape, strict=True)
    ]
    place = tuple(slice(s, s + side) for s, side in zip(starts, sides, strict=True))
    return place, tuple(axis for axis in sample.mirrors if random.uniform() < 0.5)


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
