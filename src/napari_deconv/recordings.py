"""Recorded images to learn from: with a truth, recorded twice, or their photons dealt to two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.thinning import thinned
from napari_deconv.imaging.value import InputError, require
from napari_deconv.learned.pairs import Pair, Twin, given_pair, twin_of
from napari_deconv.surveying import background_of, read

Made = TypeVar("Made", Pair, Twin)

#: Regions of a stack whose photons are dealt out to two: how many twins, of how many regions, and
#: the voxels of one.
HALVES, REGIONS, REGION = 16, 8, (32, 112, 112)
#: Voxel sizes of a pair that differ by less than this part are the same, but for rounding.
SAME_SIZE = 0.01


def halves_of(stack: Stack, camera: Camera, *, seed: int = 0) -> list[Twin]:
    """Return regions of a stack, the photons of each dealt out to two.

    Nothing but the stack is needed to learn from them: the noise of both halves is independent.

    Parameters
    ----------
    stack : Stack
        Of its first channel and time, the brightest of some regions.
    camera : Camera
        That recorded it.
    seed : int
        What deals the photons out.

    Raises
    ------
    InputError
        If the stack has no light above its background.
    """
    level = background_of(stack, next(stack.blocks()), "auto")
    regions = _lit_regions(stack, level, seed)
    # Half the light, over the same offset.
    half = camera.offset + (level - camera.offset) / 2
    twins = []
    for number in range(max(HALVES, len(regions))):
        random = np.random.default_rng((seed, 2, number))
        one, other = thinned(regions[number % len(regions)], camera, random=random)
        twins.append(twin_of(one, other, half, half, camera))
    return twins


def _lit_regions(stack: Stack, level: float, seed: int) -> list[Any]:
    """Return the brightest of regions that lie anywhere in a stack."""
    shape, first = stack.spatial_shape, next(iter(stack.blocks()))
    sides = tuple(min(n, side) for n, side in zip(shape, REGION[-len(shape) :], strict=True))
    random = np.random.default_rng((seed, 3))
    rooms = [n - side for n, side in zip(shape, sides, strict=True)]
    starts = [tuple(int(random.integers(r + 1)) for r in rooms) for _ in range(4 * REGIONS)]
    found = [
        read(stack, (*first, *(slice(s, s + side) for s, side in zip(start, sides, strict=True))))
        for start in dict.fromkeys(starts)
    ]
    lit = [region for region in found if np.ptp(region) > 0 and float(np.mean(region)) > level]
    require(
        bool(lit),
        f"{stack.name} is constant, or darker than its background: there is nothing to learn from",
    )
    return sorted(lit, key=lambda region: -float(np.mean(region)))[:REGIONS]


def pairs_in(raw: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Return the files of two folders that belong together: those of the same name.

    Raises
    ------
    InputError
        If a folder is not there, or there is no pair.
    """
    for folder in (raw, truth):
        require(folder.is_dir(), f"There is no folder {folder}; check the spelling")
    there = {path.name: path for path in truth.iterdir() if not path.name.startswith(".")}
    found = [(path, there[path.name]) for path in sorted(raw.iterdir()) if path.name in there]
    require(
        bool(found),
        f"No file of {raw} has the name of one of {truth}; a pair is two files of one name",
    )
    return found


def pairs_of(raw: Stack, truth: Stack) -> list[Pair]:
    """Return two stacks of the same sample as pairs: one for each channel and time.

    Raises
    ------
    InputError
        If they cannot be read, or do not belong together.
    """
    return _each(raw, truth, given_pair)


def repeats_of(first: Stack, again: Stack, camera: Camera) -> list[Twin]:
    """Return two stacks that recorded the same sample: a twin for each channel and time.

    Raises
    ------
    InputError
        If they cannot be read, or do not belong together.
    """
    return _each(first, again, partial(twin_of, camera=camera))


def volumes_of(first: Stack, second: Stack) -> Iterator[tuple[Any, Any, float, float]]:
    """Yield the volumes or planes of two stacks that belong together, then their backgrounds.

    Raises
    ------
    InputError
        If the axes, the shapes or the voxel sizes differ.
    """
    names = (first.name, second.name)
    # Two files of a pair have one name.
    who = " and ".join(names) if names[0] != names[1] else f"{names[0]}: A pair"
    require(
        first.shape == second.shape,
        f"{who} must be of one shape, not {first.shape} and {second.shape}; crop or register them",
    )
    require(
        first.axes == second.axes,
        f"{who} must have the same axes, not {first.axes} and {second.axes}",
    )
    if first.grid is not None and second.grid is not None:
        require(
            np.allclose(first.grid.spacing_um, second.grid.spacing_um, rtol=SAME_SIZE, atol=0),
            f"{who} must have one voxel size, not {first.grid.describe()} and "
            f"{second.grid.describe()}; correct the one that is wrong, or resample the image",
        )
    for place in first.blocks():
        counts, other = (np.asarray(read(s, place), np.float32) for s in (first, second))
        level, its = (background_of(s, place, "auto") for s in (first, second))
        yield counts, other, level, its


def _each(first: Stack, second: Stack, made_of: Callable[..., Made]) -> list[Made]:
    """Return what is made of each two volumes; what is wrong is told with its place."""
    made: list[Made] = []
    places = list(first.blocks())
    for volumes in volumes_of(first, second):
        try:
            made.append(made_of(*volumes))
        except InputError as error:
            number = f", volume {len(made) + 1} of {len(places)}" if len(places) > 1 else ""
            raise InputError(f"{first.name}{number}: {error}") from error
    return made
