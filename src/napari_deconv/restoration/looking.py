"""What all that looks before a run needs, to find when to stop: on what, and for how long."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from napari_deconv.imaging.brightness import brightest_place
from napari_deconv.imaging.camera import Camera, camera_of
from napari_deconv.imaging.noise import noise_beneath, noise_sigma
from napari_deconv.imaging.region import region_around

from .engine import Float
from .restorer import Observation

#: An image larger than this is looked at in its brightest part of about so many voxels.
MOST_VOXELS = 1 << 18
#: Photons in the brightest voxel of an image that is none of counts, and shows no noise.
MANY = 1000.0
#: The noise of fewer voxels tells a gain to this factor: one that may be as supposed is.
FEW_VOXELS, ALIKE = 5000, 2.0
#: Sides of the boxes of voxels in which photons are counted, and by how many times the spread of
#: such counts some must be above the others to be no chance: of 300 000 the highest are 5 above.
BOXES, STANDS_OUT = (3, 5), 6.0
#: Iterations without anything better after which nothing is expected, as a part of those that led
#: to the best.
PATIENCE_PART = 0.4


def camera_seen(seen: Observation, beneath: float | None = None) -> Camera:
    """Return what a photon is in an image's counts, as its noise tells.

    Where it does not, or but roughly, a count is taken for one, above such an offset that the noise
    is as it is seen. Where there are no counts, but fractions, all noise is taken for that of
    photons; and the brightest voxel for many of them, where there is little. How much noise lies
    beneath that, `imaging.noise.noise_beneath` tells, of the whole image where it is known.
    """
    camera = camera_of(seen.image, read_noise=0.0)
    beneath = noise_beneath(seen.image) if beneath is None else beneath
    if camera is not None:
        camera = replace(camera, gain=camera.gain * beneath)
    if camera is None or seen.image.size < FEW_VOXELS:
        supposed = supposed_camera(seen.image, beneath)
        camera = supposed if camera is None or _are_alike(camera, supposed) else camera
    # Counts are not below 0, and neither is what is subtracted from them.
    return replace(camera, offset=min(max(camera.offset, 0.0), seen.background))


def _are_alike(one: Camera, other: Camera) -> bool:
    return max(one.gain, other.gain) < ALIKE * min(one.gain, other.gain)


def supposed_camera(image: Float, beneath: float = 1.0) -> Camera:
    """Return the camera that is supposed where noise tells of none; see `camera_seen`."""
    usual, noise = float(np.median(image)), noise_sigma(image) ** 2 * beneath
    if bool((image == np.rint(image)).all()) or not image.any():
        return Camera(1.0, max(usual - noise, 0.0), 0.0)
    least = float(image.max()) / MANY
    return Camera(max(noise / max(usual, least), least), 0.0, 0.0)


def shows_something(seen: Observation) -> bool:
    """Return whether there is more in an image than its noise."""
    return bool(seen.image.any()) and stands_out(seen.image, camera_seen(seen))


def stands_out(image: Float, camera: Camera) -> bool:
    """Return whether some part of an image has more photons than chance gives to a few.

    Photons are counted in boxes. The square root of their number has the same spread everywhere,
    1/2, where there is but noise (Anscombe 1948, doi 10.2307/2332343); where more than noise
    spreads it, that counts.
    """
    photons = (image - camera.offset) / camera.gain
    return any(_stands_out(photons, box) for box in BOXES)


def _stands_out(photons: Float, box: int) -> bool:
    from scipy.ndimage import uniform_filter

    sides = [min(box, n) for n in photons.shape]
    counted = uniform_filter(photons, sides) * math.prod(sides)
    inner = tuple(
        slice(side // 2, n - (side - 1) // 2) for side, n in zip(sides, photons.shape, strict=True)
    )
    level = 2 * np.sqrt(np.maximum(counted[inner], 0) + 3 / 8)
    usual = float(np.median(level))
    spread = 1.4826 * float(np.median(np.abs(level - usual)))
    return float(level.max()) - usual > STANDS_OUT * max(spread, 1.0)


def is_passed(best: int, seen: int, least: int) -> bool:
    """Return whether the best is so long ago, and at least so many iterations, that it stays it."""
    return seen - best >= max(least, PATIENCE_PART * best)


def centred(values: Float) -> Float:
    """Return the values less their mean, in a row.

    Products of such rows are good to 1e-6 of themselves, which is less than an iteration changes.
    """
    found: Float = values.ravel() - np.float32(values.mean(dtype=np.float64))
    return found


def brightest_part(observation: Observation) -> Observation:
    """Return an observation, or its brightest part where it is large: of all planes if possible."""
    shape = observation.image.shape
    sides = _sides_of_a_part(shape)
    if sides == shape:
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
    return _part(observation, best)


def part_with_the_brightest_place(observation: Observation) -> Observation:
    """Return an observation, or its part around the brightest place where it is large.

    Of a field that is dark but for a few points no part is brighter than others but by chance.
    """
    shape = observation.image.shape
    region = region_around(brightest_place(observation.image), shape, _sides_of_a_part(shape))
    return observation if region.shape == shape else _part(observation, region.slices)


def _sides_of_a_part(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of a part of at most `MOST_VOXELS`."""
    sides = list(shape)
    while math.prod(sides) > MOST_VOXELS:
        longest = max(
            range(len(sides)),
            key=lambda axis: (sides[axis] > 1 and axis >= len(sides) - 2, sides[axis]),
        )
        sides[longest] = -(-sides[longest] // 2)
    return tuple(sides)


def _part(observation: Observation, place: tuple[slice, ...]) -> Observation:
    start = tuple(part.start for part in place)
    return replace(observation, image=observation.image[place].copy(), start=start)
