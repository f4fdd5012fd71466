"""The smaller levels of an image pyramid: each made of the one before it, chunk by chunk.

Two voxels along an axis become one, their mean; y and x at every level, z where that brings
the voxels closer to cubes, time and channels never. The centre of a merged voxel lies between
those it was made of, so a level is placed by a translation as well as by its scale.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import Stack

from .chunk_places import ChunkPlaces

#: A level whose y and x have no more voxels than this is the last.
SMALL_ENOUGH = 256

Factors = tuple[int, ...]
#: Planes that are averaged at a time: chunks in float64 would take more than a small tile.
PLANES = 4


def level_factors(stack: Stack) -> list[Factors]:
    """Return by how much each level is smaller than level 0, in the order of the axes.

    Parameters
    ----------
    stack : Stack
        Its axes, shape and voxel size are looked at; without a voxel size z is left alone.

    Returns
    -------
    list of tuple of int
        Level 0 first, all ones; alone where the image is small.

    Examples
    --------
    >>> level_factors(Stack(np.zeros((8, 300, 700)), "ZYX"))
    [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    """
    levels = [(1,) * len(stack.axes)]
    while True:
        last = levels[-1]
        shape = level_shape(stack.shape, last)
        if max(shape[-2:]) <= SMALL_ENOUGH:
            return levels
        steps = [
            2 if size > 1 and (axis in "YX" or (axis == "Z" and _z_is_short(stack, last))) else 1
            for axis, size in zip(stack.axes, shape, strict=True)
        ]
        levels.append(tuple(f * step for f, step in zip(last, steps, strict=True)))


def _z_is_short(stack: Stack, factors: Factors) -> bool:
    """Return whether voxels halved in y, x and z are closer to cubes than in y and x alone."""
    if stack.grid is None:
        return False
    z, y, x = (s * f for s, f in zip(stack.grid.spacing_um, factors[-3:], strict=True))
    return z < math.sqrt(2) * math.sqrt(y * x)


def level_shape(shape: tuple[int, ...], factors: Factors) -> tuple[int, ...]:
    """Return the shape of a level; the last voxel of an odd size has a voxel of its own."""
    return tuple(-(-n // factor) for n, factor in zip(shape, factors, strict=True))


def voxels_of_levels(stack: Stack) -> int:
    """Return the number of voxels of all levels together."""
    return sum(math.prod(level_shape(stack.shape, f)) for f in level_factors(stack))


def fill(level: Any, larger: Any) -> None:
    """Fill a Zarr array with the means of the `larger` one, one of its chunks at a time."""
    steps = tuple(1 if n == m else 2 for n, m in zip(level.shape, larger.shape, strict=True))
    for place in ChunkPlaces(level.shape, level.chunks).each():
        source = tuple(
            slice(s.start * step, min(s.stop * step, n))
            for s, step, n in zip(place, steps, larger.shape, strict=True)
        )
        level[place] = halved(larger[source], tuple(step == 2 for step in steps))


def halved(block: npt.NDArray[Any], axes: tuple[bool, ...]) -> npt.NDArray[Any]:
    """Return the means of two voxels along each axis that `axes` names, in the block's type.

    Of an odd size, the last voxel is the mean of what there is. Computed in float64; integers
    are rounded half to even.

    Examples
    --------
    >>> halved(np.array([1, 2, 4, 4, 9], np.uint16), (True,))
    array([2, 4, 9], dtype=uint16)
    """
    lead = max(block.ndim - 3, 0)
    step = 2 if axes[lead] else 1
    shape = tuple(-(-n // (2 if halve else 1)) for n, halve in zip(block.shape, axes, strict=True))
    result = np.empty(shape, block.dtype)
    before = (slice(None),) * lead
    for first in range(0, shape[lead], PLANES):
        last = min(first + PLANES, shape[lead])
        part = block[(*before, slice(first * step, last * step))]
        result[(*before, slice(first, last))] = _means(part, axes)
    return result


def _means(block: npt.NDArray[Any], axes: tuple[bool, ...]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):  # infinities have no mean
        means = block.astype(np.float64)
        for axis in (axis for axis, halve in enumerate(axes) if halve):
            means = _halved(means, axis)
        return np.rint(means, out=means) if block.dtype.kind in "iub" else means


def _halved(block: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    lines = np.moveaxis(block, axis, 0)
    firsts, seconds = lines[0::2], lines[1::2]
    means = firsts.copy()
    # Halves are added, not halved sums: those of the largest numbers would overflow.
    means[: len(seconds)] *= 0.5
    means[: len(seconds)] += 0.5 * seconds
    return np.moveaxis(means, 0, axis)
