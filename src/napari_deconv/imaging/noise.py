"""Noise and background of a stack, estimated from the stack itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Voxels looked at; more would not change the estimates.
SAMPLE = 1_000_000


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
    array = sampled_planes(np.asarray(image))
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
    values = np.sort(_sampled(np.asarray(image)).ravel())
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


def sampled_planes(array: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return about `SAMPLE` voxels of an image, in whole planes."""
    if array.size <= SAMPLE:
        return array.astype(np.float64)
    planes = array.reshape(-1, *array.shape[-2:])
    return planes[:: max(array.size // SAMPLE, 1)].astype(np.float64)


def _sampled(array: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return about `SAMPLE` voxels of `array`."""
    return array.ravel()[:: max(array.size // SAMPLE, 1)].astype(np.float64)
