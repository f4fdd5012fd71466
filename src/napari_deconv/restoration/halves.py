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

from napari_deconv.imaging.camera import Camera, camera_of
from napari_deconv.imaging.thinning import thinned

from .engine import Float
from .restorer import Observation

#: An image larger than this is looked at in its brightest part of about so many voxels.
MOST_VOXELS = 1 << 20
#: Photons in the brightest voxel of an image that is none of counts, and shows no noise.
MANY = 1000.0
#: Iterations without a better J after which none is expected: at the least, and as a part of those
#: that led to the best.
PATIENCE, PATIENCE_PART = 6, 0.5
#: Iterations are no more than so many times those that explain the other half best, which tells of
#: the blurred object, and no fewer than that part of them.
BEYOND = 2.5


def dealt(observation: Observation, seed: int = 0) -> tuple[Observation, Observation]:
    """Return two observations with half of the photons each, of an image or its brightest part.

    Where the noise does not tell what a photon is, a count is taken for one; and where there are no
    counts, but fractions, the brightest voxel for many.

    Parameters
    ----------
    observation : Observation
    seed : int
        The same deals them out alike.
    """
    seen = _brightest(observation)
    camera = camera_of(seen.image, read_noise=0.0) or _supposed(seen.image)
    # Counts are not below 0, and neither is what is subtracted from them.
    offset = min(max(camera.offset, 0.0), seen.background)
    camera = replace(camera, offset=offset)
    random = np.random.default_rng(seed)
    mean = seen.level + seen.background

    def half(image: Float) -> Observation:
        return replace(
            seen,
            image=np.maximum(image, 0),
            background=(offset + seen.background) / 2,
            whole_mean=(offset + mean) / 2,
        )

    first, second = thinned(seen.image, camera, 0.5, random=random)
    return half(first), half(second)


def _supposed(image: Float) -> Camera:
    """Return the camera that is supposed where noise tells of none."""
    are_counts = bool((image == np.rint(image)).all()) or not image.any()
    return Camera(1.0 if are_counts else float(image.max()) / MANY, 0.0, 0.0)


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
        u, v = (x.astype(np.float64).ravel() for x in (first, second))
        u -= u.mean()
        v -= v.mean()
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
        seen = len(self.values)
        return seen > 0 and seen - self.best >= max(PATIENCE, PATIENCE_PART * self.best)


def _brightest(observation: Observation) -> Observation:
    """Return an observation, or its brightest part where it is large: of all planes if possible."""
    shape = observation.image.shape
    sides = list(shape)
    while math.prod(sides) > MOST_VOXELS:
        longest = max(
            range(len(sides)),
            key=lambda axis: (sides[axis] > 1 and axis >= len(sides) - 2, sides[axis]),
        )
        sides[longest] = -(-sides[longest] // 2)
    if sides == list(shape):
        return observation
    # Places half a side apart.
    counts = [-(-2 * n // side) - 1 for n, side in zip(shape, sides, strict=True)]
    places = []
    for corner in np.ndindex(*counts):
        starts = [
            min(c * (side // 2), n - side) for c, side, n in zip(corner, sides, shape, strict=True)
        ]
        places.append(tuple(slice(s, s + side) for s, side in zip(starts, sides, strict=True)))
    best = max(places, key=lambda place: float(observation.image[place].mean(dtype=np.float64)))
    start = tuple(part.start for part in best)
    return replace(observation, image=observation.image[best].copy(), start=start)
