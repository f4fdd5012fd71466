"""The noise of a stack, estimated from the stack itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

#: Voxels looked at; more would not change the estimates.
SAMPLE = 1_000_000
#: Side of the boxes that they lie in.
BOX = 64
#: Fewest values of an image in which a filling is looked for, and by how many times the usual step
#: a lowest value that was filled in lies apart.
MANY_VALUES, GAP = 20, 10.0
#: Side of squares of one value that were filled in.
FILLED_SQUARE = 5
#: Parts of an image that are darkest, fewest pixels of a side to compare details in, by how many
#: times the variance of larger ones is more where neighbours share noise, as it is in both parts.
DARKEST, FEWEST_PIXELS, CLEARLY_MORE, SAME = (0.1, 0.3), 32, 1.4, 1.15
#: Sides of squares, and by how many times the noise in them is more at the most.
SQUARE, MOST_BENEATH = 3, 50.0


@dataclass(frozen=True)
class Noise:
    """The noise of an image.

    Parameters
    ----------
    sigma : float
        Standard deviation from pixel to pixel, in counts; see `noise_sigma`.
    beneath : float
        By how much the variance of larger details is more; see `noise_beneath`.
    """

    sigma: float
    beneath: float = 1.0


def noise_of(image: npt.ArrayLike) -> Noise:
    """Return the noise of an image, (Z, Y, X) or (Y, X)."""
    return Noise(noise_sigma(image), noise_beneath(image))


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
    filled = float(filled_in(array).mean())
    for axis in (-1, -2):
        if array.shape[axis] > 1:
            array = np.diff(array, axis=axis) / np.sqrt(2)
    # What was filled in has no noise, and comes first.
    return float(np.quantile(np.abs(array), (1 + filled) / 2) / 0.6745)


def filled_in(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which pixels were filled in: with one low value, or whole squares with any.

    As beside a stack that was deskewed or turned; or cut off, as saturated ones are. Squares of
    the lowest value may be dark, where photons are few.
    """
    fill = filling(planes)
    square = (1, FILLED_SQUARE, FILLED_SQUARE)
    flat = maximum_filter(planes, square) == minimum_filter(planes, square)
    filled = maximum_filter(flat & (planes > planes.min()), square)
    return filled if fill is None else filled | (planes == fill)


def filling(values: npt.NDArray[np.float64]) -> float | None:
    """Return the value that borders were filled with; None where they were not.

    Light leaves no gap above the lowest value.
    """
    found = np.unique(values)
    if len(found) < MANY_VALUES:
        return None
    usual = float(np.median(np.diff(found[1:MANY_VALUES])))
    return float(found[0]) if found[1] - found[0] > GAP * usual else None


def noise_beneath(image: npt.ArrayLike) -> float:
    """Return how much more noise there is in larger details than in the finest, as a factor.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)

    Returns
    -------
    float
        Of variances: 1 for a stack as it was recorded. One that was filtered, turned, moved by
        parts of a pixel or resampled has noise that neighbours share, and less than there is in
        squares of 3 x 3 pixels is seen from pixel to pixel.

    Notes
    -----
    Second differences over one pixel and over two have the same variance where noise is white
    (the von Neumann ratio's idea, 1941). They are compared where it is darkest, as structure
    differs, too; but not in the same way where it is brighter, as what a filter leaves does.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> image = np.random.default_rng(0).poisson(20, (96, 96)).astype(float)
    >>> noise_beneath(image), noise_beneath(gaussian_filter(image, 0.7)) > 10
    (1.0, True)
    """
    planes = sampled(np.asarray(image))
    if min(planes.shape[-2:]) < FEWEST_PIXELS:
        return 1.0
    filled = filled_in(planes)
    near, far = (noise_of_details(planes, step, filled) for step in (1, 2))
    if not near.all():
        return 1.0
    darkest, dark = far / near
    if darkest < CLEARLY_MORE or max(darkest, dark) > SAME * min(darkest, dark):
        return 1.0
    boxes = uniform_filter(planes, (0, SQUARE, SQUARE))
    beneath = SQUARE**2 * noise_of_details(boxes, SQUARE, filled)[0] / near[0]
    return min(max(float(beneath), 1.0), MOST_BENEATH)


def noise_of_details(
    planes: npt.NDArray[np.float64], step: int, filled: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the variance of noise that second differences over so many pixels tell.

    Along both axes, one after the other, which leaves least of structure; in the darkest parts of
    the image that `DARKEST` tells, and beside no pixel that was filled in.
    """
    inner = (slice(None), slice(step, -step), slice(step, -step))
    rows = 2 * planes[:, step:-step] - planes[:, : -2 * step] - planes[:, 2 * step :]
    detail = 2 * rows[..., step:-step] - rows[..., : -2 * step] - rows[..., 2 * step :]
    level = uniform_filter(planes, (0, 5, 5))[inner]
    if filled.any():
        side = 2 * (step + SQUARE) + 1
        seen = ~maximum_filter(filled, (0, side, side))[inner]
        detail, level = detail[seen], level[seen]
    if not level.size:
        return np.zeros(len(DARKEST))
    limits = np.quantile(level, DARKEST)
    return np.array([np.square(detail[level <= limit]).mean() / 36 for limit in limits])


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
