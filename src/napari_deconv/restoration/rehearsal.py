"""When to stop: tried out on a copy of the image, whose object is known.

The object of an image is not known, but one like it is: what the image was restored to. That is
imaged anew, by the same optics and with noise of its own, and restored by the same method; after
how many iterations the result is nearest to the object that was imaged, can be seen (a parametric
bootstrap; Efron and Tibshirani 1993). An object with less detail than the true one asks for too
few iterations, one with noise for its detail for too many, but both by less than it is wrong
itself.

What no object explains, such as light from far beyond the image, would be missing from such a copy,
and so would what this object has not yet. Both are in the image: what is expected there misses it,
averaged over boxes in which noise is small. The copy misses as much, mirrored (a bootstrap of the
residuals; Davison and Hinkley 1997).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_deconv.imaging.camera import Camera

from .engine import Float
from .looking import centred, is_passed
from .restorer import Observation

#: Side in voxels of the boxes in which noise is small.
BOX = 7
#: Iterations without a better likeness after which none is expected, at the least.
PATIENCE = 4


def imaged_again(seen: Observation, expected: Float, camera: Camera, seed: int = 0) -> Observation:
    """Return an observation of what is expected in each voxel, as far off, with noise of its own.

    Parameters
    ----------
    seen : Observation
        Of which all but the counts is taken.
    expected : ndarray of float32
        Counts, the background included.
    camera : Camera
        What a photon is in its counts, and its read noise.
    seed : int
        The same makes the same noise.
    """
    from scipy.ndimage import uniform_filter

    missed = uniform_filter(seen.image - expected, BOX, mode="nearest")
    random = np.random.default_rng(seed)
    known = expected + missed[..., ::-1, ::-1]
    photons = np.maximum(known - camera.offset, 0) / camera.gain
    image = np.maximum(camera.recorded(photons, random), 0).astype(np.float32)
    return replace(seen, image=image)


class Likeness:
    """How near estimates are to a known object after each iteration, whatever their scale.

    Parameters
    ----------
    known : ndarray of float32
    """

    def __init__(self, known: Float) -> None:
        self._known = centred(known)
        self.values: list[float] = []

    def look(self, estimates: Sequence[Float]) -> None:
        """Look at estimates after one more iteration: their mean correlation with the object."""
        self.values.append(sum(map(self._of, estimates)) / len(estimates))

    def _of(self, estimate: Float) -> float:
        found = centred(estimate)
        size = math.sqrt(float(found @ found) * float(self._known @ self._known))
        return float(found @ self._known) / size if size > 0 else 0.0

    @property
    def best(self) -> int:
        """Iterations after which it was nearest; 1 at the least."""
        return int(np.argmax(self.values)) + 1

    @property
    def is_over(self) -> bool:
        """Whether nothing better is expected."""
        return bool(self.values) and is_passed(self.best, len(self.values), PATIENCE)
