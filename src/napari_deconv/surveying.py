"""What is looked at in a block before any of it is restored: facts, its background, samples.

`Facts` are of all of it, looked at piece by piece; what takes longer to find is found in a few
regions that stand for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.files.reading import read_voxels
from napari_deconv.imaging.background import background_level
from napari_deconv.imaging.brightness import brightest_bins, merged
from napari_deconv.imaging.noise import SAMPLE, spread
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import Region, region_around
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import Value
from napari_deconv.restoration.looking import shows_something
from napari_deconv.restoration.observing import observe, require_finite, require_small_enough
from napari_deconv.restoration.restorer import Observation

Place = tuple[int | slice, ...]

#: Voxels of a sample that decides for the whole, (z, y, x), and most of such samples.
SAMPLE_SHAPE = (64, 192, 192)
SAMPLES = 4
#: Regions that the background of a large block is estimated from, and planes of each: together as
#: many voxels as `SAMPLE`, in so few places that few chunks are read for them.
DARK_REGIONS, DARK_PLANES = 16, 16
#: Voxels that are looked at together while a block is surveyed.
SURVEYED = (32, 1024, 1024)


@dataclass(frozen=True)
class Facts(Value):
    """What is known of a whole block before its tiles are restored.

    Parameters
    ----------
    mean : float
        Of the counts, negative ones taken as 0.
    negative : int
        Number of negative voxels.
    bright : float
        Brightness of the counts; see `imaging.brightness`.
    brightest : tuple of int
        The brightest voxel, (z, y, x) or (y, x).
    highest : float
        Its count.
    at_highest : int
        How many voxels have it.
    """

    mean: float
    negative: int
    bright: float
    brightest: tuple[int, ...]
    highest: float
    at_highest: int


def pieces(shape: tuple[int, ...], most: tuple[int, ...] = SURVEYED) -> Iterator[Region]:
    """Yield boxes of at most `most` voxels that make up a block, in C order."""
    sides = most[-len(shape) :]
    for start in product(*(range(0, n, side) for n, side in zip(shape, sides, strict=True))):
        sizes = (min(side, n - s) for s, side, n in zip(start, sides, shape, strict=True))
        yield Region(start, tuple(sizes))


def facts_of(stack: Stack, index: tuple[int, ...]) -> Iterator[Facts | None]:
    """Look at a whole block, piece by piece; yield None while looking, the facts at last.

    Raises
    ------
    InputError
        If voxels cannot be read, are NaN, infinite or too large: said here, and not after hours.
    """
    total, negative, bins = 0.0, 0, np.empty(0)
    highest, at_highest, brightest = -math.inf, 0, (0,) * len(stack.spatial_shape)
    for region in pieces(stack.spatial_shape):
        counts = read(stack, (*index, *region.slices))
        if counts.dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # of infinities of both signs
                require_finite(float(counts.sum(dtype=np.float64)))
        total += float(np.maximum(counts, 0).sum(dtype=np.float64))
        negative += int((counts < 0).sum()) if counts.dtype.kind != "u" else 0
        bins = merged(bins, brightest_bins(counts, stack.spatial_shape))
        place = np.unravel_index(int(counts.argmax()), counts.shape)
        most = float(counts[place])
        require_small_enough(most)
        if most > highest:
            highest, at_highest = most, 0
            brightest = tuple(int(p) + s for p, s in zip(place, region.start, strict=True))
        if most == highest:
            at_highest += int(np.count_nonzero(counts == counts[place]))
        yield None
    mean = total / math.prod(stack.spatial_shape)
    yield Facts(mean, negative, float(bins[-1]), brightest, highest, at_highest)


def read(stack: Stack, place: Place) -> npt.NDArray[Any]:
    """Return voxels of a stack as an array in memory; see `files.reading.read_voxels`."""
    return read_voxels(stack.data, place, stack.name or "The image", axes=stack.axes)


def background_of(stack: Stack, index: tuple[int, ...], background: float | str) -> float:
    """Return the background of a block in counts.

    Each block has its own, as it is when it is restored alone: the light around a sample fades
    with it, and a first image may be dark.

    Parameters
    ----------
    stack : Stack
        What is restored.
    index : tuple of int
        Which channel and time point, as `Stack.blocks` counts them.
    background : float or "auto"
        As in the recipe.
    """
    if background != "auto":
        return float(background)
    regions = regions_of_background(stack.spatial_shape)
    return _level([read(stack, (*index, *region.slices)) for region in regions])


def background_in(counts: npt.NDArray[Any], background: float | str) -> float:
    """Return the background of a whole block in memory: the same as `background_of`."""
    if background != "auto":
        return float(background)
    return _level([counts[region.slices] for region in regions_of_background(counts.shape)])


def _level(samples: list[npt.NDArray[Any]]) -> float:
    """Return the background of the same regions of a block, however that is read."""
    return background_level(_finite(np.concatenate(samples)))


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values without those that are not finite, which are refused later."""
    return np.asarray(np.nan_to_num(values, posinf=0, neginf=0))


def regions_of_background(shape: tuple[int, ...]) -> list[Region]:
    """Return the regions, of one shape, that the background of a block is estimated from."""
    if math.prod(shape) <= SAMPLE:
        return [Region.whole(shape)]
    block = (1, 1, *shape)[-3:]
    planes = min(block[0], DARK_PLANES)
    side = math.isqrt(SAMPLE // (DARK_REGIONS * planes))
    sides = (planes, *(min(n, side) for n in block[1:]))
    axes = slice(-len(shape), None)
    return [Region(start[axes], sides[axes]) for start in spread(block, sides, DARK_REGIONS)]


def sample_regions(shape: tuple[int, ...]) -> list[Region]:
    """Return a few regions that stand for a block: the block itself where it is small."""
    sides = tuple(min(n, side) for n, side in zip(shape, SAMPLE_SHAPE[-len(shape) :], strict=True))
    room = [n - side for n, side in zip(shape, sides, strict=True)]
    if not any(room):
        return [Region.whole(shape)]
    # Along the diagonals, away from the corners, where a field of view is often empty.
    spread = [(i + 0.5) / SAMPLES for i in range(SAMPLES)]
    starts = [
        tuple(round(r * (t if axis % 2 else (t * 2) % 1)) for axis, r in enumerate(room))
        for t in spread
    ]
    return [Region(start, sides) for start in dict.fromkeys(starts)]


def samples_of(
    stack: Stack, index: tuple[int, ...], psf: Psf, background: float, facts: Facts
) -> list[Observation]:
    """Return the samples by which a method settles what it decides by the data."""
    shape = stack.spatial_shape

    def sample(region: Region) -> Observation:
        counts = read(stack, (*index, *region.slices))
        seen = observe(counts, psf, background, whole_mean=facts.mean)
        return replace(seen, whole_bright=facts.bright)

    samples = [sample(region) for region in sample_regions(shape)]
    if any(map(shows_something, samples)):
        return samples
    # Of a field that is empty where it was looked at, the part with light decides.
    return [sample(region_around(facts.brightest, shape, SAMPLE_SHAPE))]
