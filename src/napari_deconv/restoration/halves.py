"""When to stop: where two halves of the photons, restored apart, agree most and differ least.

The photons of an image are dealt out to two images of the same object, whose noise is independent
(Poisson thinning). Both are restored, iteration by iteration. What they have in common is object:
it grows while iterations bring that out. What they do not is noise, and it grows as well. With u
and v the two estimates less their means, the best iteration is that with the largest

    J = <u, v> - |u - v|^2 / 2

the energy of the object that is in both, less the energy of the noise that is in each. Where there
is much light, Richardson-Lucy goes on to sharpen beyond the object, in both halves alike. So it is
also looked at how well each blurred estimate explains the counts of the other half: not much longer
than that gets better is there anything to be gained. And where a few dim points are all there is,
noise outweighs them in J from the start: so not much sooner either.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.thinning import thinned

from .engine import Float
from .looking import centred, is_passed
from .restorer import Observation

#: Iterations without a better J after which none is expected, at the least.
PATIENCE = 5
#: Iterations are no more than so many times those that explain the other half best, which tells of
#: the blurred object, and no fewer than that part of them.
BEYOND = 2.5


def dealt(seen: Observation, camera: Camera, seed: int = 0) -> tuple[Observation, Observation]:
    """Return two observations with half of the photons each.

    Parameters
    ----------
    seen : Observation
    camera : Camera
        What a photon is in its counts.
    seed : int
        The same deals them out alike.
    """
    random = np.random.default_rng(seed)

    def half(image: Float) -> Observation:
        return replace(
            seen,
            image=np.maximum(image, 0),
            background=(camera.offset + seen.background) / 2,
            whole_mean=(camera.offset + seen.mean) / 2,
        )

    first, second = thinned(seen.image, camera, 0.5, random=random)
    return half(first), half(second)


class Agreement:
    """How well two estimates agree after each iteration, and after which they did best."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.missed: list[float] = []

    def look(self, first: Float, second: Float, missed: float) -> None:
        """Look at both estimates after one more iteration.

        Parameters
        ----------
        first, second : ndarray of float32
        missed : float
            By how much what this iteration started from misses the counts of the other half.
        """
        self.missed.append(missed)
        u, v = centred(first), centred(second)
        apart = u - v
        self.values.append(float(u @ v - apart @ apart / 2))

    @property
    def best(self) -> int:
        """Iterations after which they agreed best; 1 at the least."""
        explained = max(int(np.argmin(self.missed)), 1)
        agreed = int(np.argmax(self.values)) + 1
        return int(np.clip(agreed, explained / BEYOND, math.ceil(BEYOND * explained)))

    @property
    def is_over(self) -> bool:
        """Whether nothing better is expected."""
        return bool(self.values) and is_passed(self.best, len(self.values), PATIENCE)
