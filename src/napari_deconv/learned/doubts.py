"""Where an image lies outside of what a network has learned from: its light, voxels and PSF."""

from __future__ import annotations

import numpy as np

from napari_deconv.imaging.psf import psf_distance
from napari_deconv.restoration.restorer import Observation

from .caution import OUTSIDE
from .counting import is_known
from .model_file import Model

#: How far a PSF may be from those of the training.
MOST_APART = 0.2


def doubts(observation: Observation, bright: float, model: Model) -> list[str]:
    """Return what of an image of a brightness, in counts, no training has shown, in numbers."""
    found, card, psf = [], model.card, observation.psf
    low, high = card.light.photons
    photons = bright / card.light.gain
    # An undone image is brighter than its counts: by a few times where it is thin.
    if not is_known(photons, card.light):
        found.append(
            f"{OUTSIDE}: a brightness of {photons:.3g} photons, it has seen {low:.3g} to {high:.3g}"
        )
    known, here = card.spacing_um, psf.spacing_um
    if known and here and not np.allclose(known, here, rtol=0.05):
        sizes = [" x ".join(f"{step:.4g}" for step in steps) for steps in (here, known)]
        found.append(f"{OUTSIDE}: voxels of {sizes[0]} um, it has seen {sizes[1]}")
    # One voxel stands for a PSF that is not known, in a model from elsewhere.
    known_psfs = [seen.samples for seen in model.psfs if seen.samples.size > 1]
    apart = min((psf_distance(psf.samples, seen) for seen in known_psfs), default=0.0)
    if apart > MOST_APART and not model.network.holds_blur:
        found.append(f"{OUTSIDE}: the PSF differs from the nearest it has seen by {apart:.0%}")
    return found
