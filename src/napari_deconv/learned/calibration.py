"""How wide an interval must be to hold the truth as often as it says.

A network tells a scale of its error; by how much that is to be multiplied is read off pairs that
it has not learned from (split conformal prediction; Vovk et al. 2005; Angelopoulos & Bates 2021,
arXiv 2107.07511). Dark and bright voxels have factors of their own, chosen by what the network
says, not by the truth, so that many dark voxels do not promise for the few bright ones; and so
have dim and bright images, as where there is little light the errors are others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from napari_deconv.imaging.value import Value, require

from .nets import Net
from .samples import Sample, batch_of

Float = npt.NDArray[np.float32]

#: Parts of the voxels that intervals are to hold.
LEVELS = (0.5, 0.9)
#: Estimates, in units of the brightness, between which voxels share a factor.
EDGES = (0.01, 0.03, 0.1, 0.3)
#: With fewer voxels than this a factor would follow from chance: that of all voxels is taken.
LEAST_VOXELS = 500
#: Images with about as much light that share their factors: so many at the least, and so many
#: shares at the most.
LEAST_IMAGES, MOST_SHARES = 4, 8
#: Parts that samples are taken in: what one holds is measured with the factors of the others.
FOLDS = 12
#: Voxels of an image that are looked at: so many tell its quantiles.
LOOKED_AT = 30_000
#: No factor and no light is less: their logarithms are taken.
LEAST_FACTOR, LEAST_PHOTONS = 1e-6, 1e-3
#: A scale that the network does not tell is taken as this.
UNKNOWN_SCALE = 1e-2


@dataclass(frozen=True)
class Calibration(Value):
    """Factors from the scale that a network tells to half an interval.

    Parameters
    ----------
    half, most : tuple of float
        For intervals that hold 50 % and 90 %, by how bright the estimate is, between `EDGES`; and
        so again for each number of photons.
    coverage : tuple of float
        Part of the voxels that the two held on pairs that the factors were not read off.
    photons : tuple of float
        Brightness of the images, in photons, that the factors are for; between two of them
        factors lie between theirs. Empty where all images share theirs.

    Raises
    ------
    InputError
        If numbers are missing, or are none that intervals can have.
    """

    half: tuple[float, ...]
    most: tuple[float, ...]
    coverage: tuple[float, ...] = ()
    photons: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = max(len(self.photons), 1) * (len(EDGES) + 1)
        require(
            len(self.half) == len(self.most) == count,
            f"A calibration for so many numbers of photons has {count} factors for each of its "
            f"intervals, not {len(self.half)} and {len(self.most)}",
        )
        require(
            all(0 < factor < math.inf for factor in (*self.half, *self.most)),
            "The factors of a calibration must be finite and greater than 0",
        )
        require(
            all(0 < light < math.inf for light in self.photons)
            and all(a < b for a, b in pairwise(self.photons)),
            "The numbers of photons of a calibration must be greater than 0, the lowest first",
        )
        require(
            len(self.coverage) in (0, len(LEVELS))
            and all(0 <= part <= 1 for part in self.coverage),
            f"The coverage of a calibration is {len(LEVELS)} parts from 0 to 1, or none",
        )

    def half_width(self, image: Float, scale: Float, level: float, photons: float) -> Float:
        """Return half the width of the interval of each voxel, in the units of the scale.

        Parameters
        ----------
        image, scale : ndarray of float32
            What the networks answer, over the brightness.
        level : float
            Of `LEVELS`.
        photons : float
            The brightness in photons.
        """
        told = np.array(self.half if level == LEVELS[0] else self.most, np.float64)
        shares = told.reshape(-1, len(EDGES) + 1)
        if len(shares) > 1:
            light, known = np.log(max(photons, LEAST_PHOTONS)), np.log(self.photons)
            factors = np.exp([np.interp(light, known, np.log(column)) for column in shares.T])
        else:
            factors = shares[0]
        width: Float = factors.astype(np.float32)[np.digitize(image, EDGES)] * scale
        return width

    def in_words(self) -> str:
        """Return the coverage as a sentence."""
        if not self.coverage:
            return "one pair was left out: too few to tell what they hold"
        told = [f"{level:.0%} intervals held {c:.1%}" for level, c in zip(LEVELS, self.coverage)]  # noqa: B905
        return ", ".join(told) + " of the voxels left out"


def outputs_of(networks: Sequence[Net], sample: Sample) -> tuple[Float, Float]:
    """Return image and scale of a sample, (Z, Y, X) each, as networks answer together."""
    batch = batch_of([sample], torch.device("cpu"))
    with torch.inference_mode():
        outs = [network(batch.channels, batch.psf)[0].numpy() for network in networks]
    return together(outs)


def together(outs: Sequence[Float]) -> tuple[Float, Float]:
    """Return the mean image and the scale of several answers (1 or 2, ...), spread included."""
    images = np.stack([out[0] for out in outs])
    squares = [np.square(out[1]) if len(out) > 1 else UNKNOWN_SCALE**2 for out in outs]
    scale = np.sqrt(np.mean(squares, axis=0) + images.var(axis=0))
    return images.mean(axis=0), np.broadcast_to(scale, images.shape[1:])


@dataclass(frozen=True, eq=False)
class Errors:
    """What networks answer for some voxels of a sample, and by how much they err.

    Parameters
    ----------
    image : ndarray of float32, (V,)
        Over the brightness.
    error : ndarray of float32, (V,)
        Over the scale that they tell.
    photons : float
        The brightness in photons.
    """

    image: Float
    error: Float
    photons: float

    @classmethod
    def of(cls, networks: Sequence[Net], sample: Sample, gain: float = 1.0) -> Errors:
        """Return those of a sample that was not learned from; `gain` in counts a photon."""
        image, scale = (values.ravel() for values in outputs_of(networks, sample))
        chosen = np.random.default_rng(image.size).permutation(image.size)[:LOOKED_AT]
        # A restored image is never below 0, so the errors that count are of that.
        restored: Float = np.maximum(image, 0)
        errors = np.abs(restored - sample.truth.ravel()) / scale
        return cls(image[chosen], errors[chosen], sample.bright / gain)

    def part_held(self, made: Calibration, level: float) -> float:
        """Return the part of the voxels whose interval, of a level of `LEVELS`, holds the truth."""
        widths = made.half_width(self.image, np.ones_like(self.image), level, self.photons)
        return float((self.error <= widths).mean())


def calibration_of(seen: Sequence[Errors]) -> Calibration:
    """Return the factors for samples that were not learned from, and their coverage.

    The coverage of a sample is measured with the factors of the samples outside of its fold: of
    few, all but this one.
    """
    folds = [range(first, len(seen), FOLDS) for first in range(min(FOLDS, len(seen)))]
    held = []
    for fold in folds if len(folds) > 1 else ():
        made = _calibrated([one for n, one in enumerate(seen) if n not in fold])
        held += [[seen[n].part_held(made, level) for level in LEVELS] for n in fold]
    coverage = tuple(float(c) for c in np.mean(held, axis=0)) if held else ()
    return replace(_calibrated(seen), coverage=coverage)


def _calibrated(seen: Sequence[Errors]) -> Calibration:
    """Return the factors of samples, by how much light they have where there are enough."""
    ordered = sorted(seen, key=lambda one: one.photons)
    count = int(np.clip(len(ordered) // LEAST_IMAGES, 1, MOST_SHARES))
    ends = [len(ordered) * n // count for n in range(count + 1)]
    shares = [ordered[a:b] for a, b in pairwise(ends)]
    light = [_typical([one.photons for one in some]) for some in shares]
    if any(b <= a for a, b in pairwise(light)):
        shares, light = [ordered], []
    half, most = (
        tuple(factor for some in shares for factor in _factors(some, level)) for level in LEVELS
    )
    return Calibration(half, most, photons=tuple(light) if len(shares) > 1 else ())


def _typical(photons: Sequence[float]) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(np.maximum(photons, LEAST_PHOTONS)))))


def _factors(seen: Sequence[Errors], level: float) -> list[float]:
    """Return the quantile of errors over their scale in each range of brightness."""
    image = np.concatenate([one.image for one in seen])
    error = np.concatenate([one.error for one in seen])
    group = np.digitize(image, EDGES)
    everywhere = float(np.quantile(error, level))
    found = []
    for number in range(len(EDGES) + 1):
        here = error[group == number]
        enough = here.size >= LEAST_VOXELS
        quantile = float(np.quantile(here, level)) if enough else everywhere
        found.append(max(quantile, LEAST_FACTOR))
    return found
