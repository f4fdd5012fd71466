"""How bright the brightest parts of an image are: what exposures are told apart by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]

#: Voxels that are averaged, (z, y, x): less than a blurred point covers, more than a hot pixel.
BIN = (2, 4, 4)
#: The brightness is that of the so many brightest bin, so that a few hot pixels are no light.
RANK = 4


def brightest_bins(image: npt.ArrayLike, whole: tuple[int, ...] | None = None) -> Double:
    """Return the means of the brightest bins, at most `RANK` of them, the brightest first.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        The bins lie side by side from its first voxel on; those cut by its end are left out.
    whole : tuple of int, optional
        Shape of the image that this is a part of, which begins at a bin; see `merged`.
    """
    means, _ = _binned(np.asarray(image), whole)
    return merged(means.ravel())


def brightest_place(image: npt.ArrayLike) -> tuple[float, ...]:
    """Return the middle of the brightest bin, in voxels, (z, y, x) or (y, x).

    Examples
    --------
    >>> image = np.zeros((16, 16)); image[8:12, 4:8] = 1
    >>> brightest_place(image)
    (9.5, 5.5)
    """
    means, sides = _binned(np.asarray(image), None)
    place = np.unravel_index(int(means.argmax()), means.shape)
    return tuple(int(p) * side + (side - 1) / 2 for p, side in zip(place, sides, strict=True))


def _binned(
    array: npt.NDArray[Any], whole: tuple[int, ...] | None
) -> tuple[Double, tuple[int, ...]]:
    """Return the means of all bins, and their sides."""
    sides = tuple(
        min(n, side) for n, side in zip(whole or array.shape, BIN[-array.ndim :], strict=True)
    )
    counts = [n // side for n, side in zip(array.shape, sides, strict=True)]
    uncut = array[tuple(slice(n * side) for n, side in zip(counts, sides, strict=True))]
    split = [number for pair in zip(counts, sides, strict=True) for number in pair]
    inner = tuple(range(1, 2 * array.ndim, 2))
    means: Double = uncut.reshape(split).mean(axis=inner, dtype=np.float64)
    return means, sides


def merged(*parts: Double) -> Double:
    """Return the brightest bins of an image from those of its parts."""
    together = np.concatenate(parts)
    if together.size > RANK:
        together = np.partition(together, together.size - RANK)[-RANK:]
    return np.sort(together)[::-1]


def brightness_of(image: npt.ArrayLike) -> float:
    """Return the brightness of an image, in its units.

    Examples
    --------
    >>> image = np.full((4, 16, 16), 10.0)
    >>> image[0, 0, 0] = 1e6  # a hot pixel
    >>> brightness_of(image)
    10.0
    """
    return float(brightest_bins(image)[-1])
