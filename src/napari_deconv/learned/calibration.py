"""How wide an interval must be to hold the truth as often as it says.

A network tells a scale of its error; by how much that is to be multiplied is read off pairs that
it has not learned from (split conformal prediction; Vovk et al. 2005; Angelopoulos & Bates 2021,
arXiv 2107.07511). Dark and bright voxels have factors of their own, chosen by what the network
says, not by the truth, so that many dark voxels do not promise for the few bright ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_deconv.imaging.value import Value

from .nets import Net
from .samples import Sample, batch_of

Float = npt.NDArray[np.float32]

#: Parts of the voxels that intervals are to hold.
LEVELS = (0.5, 0.9)
#: Estimates, in units of the brightness, between which voxels share a factor.
EDGES = (0.01, 0.03, 0.1, 0.3)
#: With fewer voxels than this a factor would follow from chance: that of all voxels is taken.
LEAST_VOXELS = 500
#: A scale that the network does not tell is taken as this.
UNKNOWN_SCALE = 1e-2


@dataclass(frozen=True)
class Calibration(Value):
    """Factors from the scale that a network tells to half an interval.

    Parameters
    ----------
    half, most : tuple of float
        For intervals that hold 50 % and 90 %, by how bright the estimate is; between `EDGES`.
    coverage : tuple of float
        Part of the voxels that the two held on pairs that the factors were not read off.
    """

    half: tuple[float, ...]
    most: tuple[float, ...]
    coverage: tuple[float, ...] = ()

    def half_width(self, image: Float, scale: Float, level: float) -> Float:
        """Return half the width of the interval of each voxel, in the units of the scale."""
        factors = np.array(self.half if level == LEVELS[0] else self.most, np.float32)
        width: Float = factors[np.digitize(image, EDGES)] * scale
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


def calibration_of(networks: Sequence[Net], samples: Sequence[Sample]) -> Calibration:
    """Return the factors for samples that were not learned from, and their coverage.

    The coverage is measured with the factors of all samples but the one that is looked at.
    """
    images, errors = [], []
    for sample in samples:
        image, scale = outputs_of(networks, sample)
        images.append(image.ravel())
        errors.append((np.abs(image - sample.truth) / scale).ravel())
    half, most = (_factors(np.concatenate(images), np.concatenate(errors), q) for q in LEVELS)
    held = []
    for left_out in range(len(samples)) if len(samples) > 1 else ():
        others = [n for n in range(len(samples)) if n != left_out]
        image = np.concatenate([images[n] for n in others])
        error = np.concatenate([errors[n] for n in others])
        made = Calibration(_factors(image, error, LEVELS[0]), _factors(image, error, LEVELS[1]))
        one = np.ones_like(images[left_out])
        held.append(
            [(errors[left_out] <= made.half_width(images[left_out], one, q)).mean() for q in LEVELS]
        )
    coverage = tuple(float(c) for c in np.mean(held, axis=0)) if held else ()
    return Calibration(half, most, coverage)


def _factors(image: Float, error: Float, level: float) -> tuple[float, ...]:
    """Return the quantile of errors over their scale in each range of brightness."""
    group = np.digitize(image, EDGES)
    everywhere = float(np.quantile(error, level))
    found = []
    for number in range(len(EDGES) + 1):
        here = error[group == number]
        enough = here.size >= LEAST_VOXELS
        found.append(float(np.quantile(here, level)) if enough else everywhere)
    return tuple(found)
