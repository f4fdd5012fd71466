"""When to stop: tried out on a copy of the image, whose object is known.

The object of an image is not known, but one like it is: what the image was restored to. That is
imaged anew, by the same optics and with noise of its own, and restored by the same method; after
how many iterations the result is nearest to the object that was imaged, can be seen (a parametric
bootstrap; Efron and Tibshirani 1993). An object with less detail than the true one asks for too
few iterations, one with noise for its detail for too many, but both by less than it is wrong
itself.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from napari_deconv.imaging.camera import Camera, camera_of

from .engine import Float
from .restorer import Observation

#: An image larger than this is looked at in its brightest part of about so many voxels.
MOST_VOXELS = 1 << 18
#: Photons in the brightest voxel of an image that is none of counts, and shows no noise.
MANY = 1000.0
#: Iterations without a better likeness after which none is expected: at the least, and as a part
#: of those that led to the best.
PATIENCE, PATIENCE_PART = 4, 0.4


def camera_seen(seen: Observation) -> Camera:
    """Return what a photon is in an image's counts, as its noise tells.

    Where it does not, a count is taken for one; and where there are no counts, but fractions, the
    brightest voxel for many.
    """
    camera = camera_of(seen.image, read_noise=0.0) or _supposed(seen.image)
    # Counts are not below 0, and neither is what is subtracted from them.
    return replace(camera, offset=min(max(camera.offset, 0.0), seen.background))


def _supposed(image: Float) -> Camera:
    """Return the camera that is supposed where noise tells of none."""
    are_counts = bool((image == np.rint(image)).all()) or not image.any()
    return Camera(1.0 if are_counts else float(image.max()) / MANY, 0.0, 0.0)


def imaged_again(seen: Observation, expected: Float, camera: Camera, seed: int = 0) -> Observation:
    """Return an observation of what is expected in each voxel, with noise of its own.

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
    random = np.random.default_rng(seed)
    photons = np.maximum(expected - camera.offset, 0) / camera.gain
    caught = random.poisson(photons.astype(np.float64)).astype(np.float64)
    if camera.read_noise:
        caught += random.normal(0, camera.read_noise, caught.shape)
    image = np.maximum(camera.offset + camera.gain * caught, 0).astype(np.float32)
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

    def look(self, estimate: Float) -> None:
        """Look at the estimate after one more iteration: its correlation with the object."""
        found = centred(estimate)
        size = math.sqrt(float(found @ found) * float(self._known @ self._known))
        self.values.append(float(found @ self._known) / size if size > 0 else 0.0)

    @property
    def best(self) -> int:
        """Iterations after which it was nearest; 1 at the least."""
        return int(np.argmax(self.values)) + 1

    @property
    def is_over(self) -> bool:
        """Whether nothing better is expected."""
        seen = len(self.values)
        return seen > 0 and seen - self.best >= max(PATIENCE, PATIENCE_PART * self.best)


def centred(values: Float) -> Float:
    """Return the values less their mean, in a row.

    Products of such rows are good to 1e-6 of themselves, which is less than an iteration changes.
    """
    found: Float = values.ravel() - np.float32(values.mean(dtype=np.float64))
    return found


def brightest_part(observation: Observation) -> Observation:
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
