"""Noise and background of a stack, estimated from the stack itself."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

#: Voxels looked at; more would not change the estimates.
SAMPLE = 1_000_000
#: Side of the boxes that they lie in.
BOX = 64


def noise_sigma(image: npt.ArrayLike) -> float:
    """Return the standard deviation of the noise that varies from pixel to pixel.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Counts. Axes of less than two voxels are left out.

    Returns
    -------
    float
        In counts; 0 for a constant image.

    Notes
    -----
    Median of the absolute mixed second difference in y and x over its factor for a normal
    distribution (Donoho 1995, doi 10.1109/18.382009, with the finest Haar detail).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(noise_sigma(rng.normal(100, 5, (8, 64, 64))), 1)
    5.0
    """
    array = sampled(np.asarray(image))
    for axis in (-1, -2):
        if array.shape[axis] > 1:
            array = np.diff(array, axis=axis) / np.sqrt(2)
    return float(np.median(np.abs(array)) / 0.6745)


def background_level(image: npt.ArrayLike) -> float:
    """Return the level of the dark part of an image, in counts.

    Notes
    -----
    The half-sample mode (Robertson and Cryer 1974) of the voxels up to the median: the most
    frequent dark value. Where an image has no dark part this is too high, so it is never
    above the median.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> abs(background_level(rng.poisson(100, (8, 64, 64))) - 100) < 5
    True
    """
    values = np.sort(sampled(np.asarray(image)), axis=None)
    values = values[: max(len(values) // 2 + 1, 1)]
    # Counts are whole numbers: spread them over their bin, or any two equal ones are "the mode".
    if np.array_equal(values, np.rint(values)):
        values = np.sort(values + np.random.default_rng(0).uniform(-0.5, 0.5, values.shape))
    while len(values) > 3:
        half = (len(values) + 1) // 2
        widths = values[half - 1 :] - values[: len(values) - half + 1]
        start = int(np.argmin(widths))
        values = values[start : start + half]
    return max(float(values.mean()), 0.0)


def sampled(image: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return an image, (N, Y, X), or of a large one about `SAMPLE` voxels, in boxes of planes.

    The boxes are spread evenly over the planes and within them: the first planes of a stack are
    often dim, and its borders empty.
    """
    planes = image.reshape(-1, *image.shape[-2:])
    if image.size <= SAMPLE:
        return planes.astype(np.float64)
    sides = (1, *(min(n, BOX) for n in planes.shape[1:]))
    starts = spread(planes.shape, sides, SAMPLE // math.prod(sides))
    boxes = [planes[z, y : y + sides[1], x : x + sides[2]] for z, y, x in starts]
    return np.stack(boxes).astype(np.float64)


def spread(shape: tuple[int, ...], sides: tuple[int, ...], number: int) -> list[tuple[int, ...]]:
    """Return where so many boxes begin that are spread evenly over a block, (Z, Y, X).

    The places are the same each time (Kronecker's sequence of the powers of a root of
    x^4 = x + 1, which keep away from each other in three dimensions).
    """
    steps = 1.2207440846057596 ** -np.arange(1.0, 4.0)
    numbers = np.arange(1, number + 1)[:, None]
    room = np.array(shape) - np.array(sides) + 1
    starts = (np.modf(0.5 + numbers * steps)[0] * room).astype(int)
    return [tuple(start) for start in starts.tolist()]
