"""The background of an image, estimated from the image itself: the level of its dark part."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, uniform_filter

from .noise import (
    FEWEST_PIXELS,
    filled_in,
    noise_beneath,
    noise_of_details,
    noise_sigma,
    sampled,
)

#: Where more was filled in, a background may have been taken off: then it is the level.
FILLED_AT_MOST = 0.25
#: How far around a level values are averaged, in standard deviations, and how often.
REACH, ROUNDS = 1.5, 2
#: Side of the squares whose means tell the background.
FLAT_SQUARE = 5
#: What is darker than a level by so many times the noise, and makes up such a part, is darker.
DARKER, DARK_PART = 2.5, 0.05
#: What spreads by more than so many times its noise is not flat; the part that is darkest then.
FLAT, LOWEST = 3.0, 0.001


def background_level(image: npt.ArrayLike) -> float:
    """Return the level of the dark part of an image, in counts.

    Notes
    -----
    The half-sample mode (Robertson and Cryer 1974) of the darker half of small squares, and the
    mean of those around it: means of many pixels are hardly skewed, as counts of few photons are,
    and have little noise. Where an object fills most of the field it may be a level of the object,
    so what is clearly darker counts alone, as long as it is one in twenty. Where even that is not
    flat, light lies over all of the image, as in a thick sample; then the darkest squares are
    taken, as a background that is too high costs more there than one that is too low. What
    was filled in (`imaging.noise.filled_in`) is left out, if it is less than a quarter.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> abs(background_level(rng.poisson(100, (8, 64, 64))) - 100) < 1
    True
    """
    planes = sampled(np.asarray(image))
    filled = filled_in(planes)
    if filled.mean() >= FILLED_AT_MOST:
        filled[:] = False
    counts = np.sort(planes[~filled], axis=None)
    if counts[0] == counts[len(counts) // 2]:  # as where most voxels caught no photon
        return max(float(counts[0]), 0.0)
    if np.array_equal(counts, np.rint(counts)):
        # Whole numbers are spread over their bin, or any two equal ones are "the mode"; but for
        # the lowest, which may be the level that all of a masked part has.
        spread_out = np.random.default_rng(0).uniform(-0.5, 0.5, planes.shape)
        planes = planes + np.where(planes > counts[0], spread_out, 0)
    squares, noise = _squares(planes, filled)
    level = _centre(squares, _mode_of_the_darkest(squares, noise), noise)
    if _spread_below(squares, level) > FLAT * noise > 0:
        level = float(np.quantile(squares, LOWEST))
    return max(level, 0.0)


def _squares(
    planes: npt.NDArray[np.float64], filled: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], float]:
    """Return the sorted means of all squares without a filled pixel, and their noise.

    Of a small image, and where there are no such squares, its voxels.
    """
    inner = (slice(None), *[slice(FLAT_SQUARE // 2, -(FLAT_SQUARE // 2))] * 2)
    seen = ~maximum_filter(filled, (0, FLAT_SQUARE, FLAT_SQUARE))[inner]
    if min(planes.shape[-2:]) < FEWEST_PIXELS or not seen.any():
        return np.sort(planes[~filled], axis=None), noise_sigma(planes)
    means = uniform_filter(planes, (0, FLAT_SQUARE, FLAT_SQUARE))[inner]
    variance = float(noise_of_details(planes, 1, filled)[0]) * noise_beneath(planes)
    return np.sort(means[seen], axis=None), math.sqrt(variance) / FLAT_SQUARE


def _mode_of_the_darkest(values: npt.NDArray[np.float64], noise: float) -> float:
    """Return the mode of sorted values, or of those that are clearly darker."""
    level, darker = _dark_mode(values), values
    while noise > 0:
        darker = darker[: np.searchsorted(darker, level - DARKER * noise)]
        if len(darker) < max(DARK_PART * len(values), 1):
            break
        level = _dark_mode(darker)
    return level


def _centre(values: npt.NDArray[np.float64], level: float, noise: float) -> float:
    """Return the mean of the sorted values around a level that is about their mode.

    The half-sample mode is that of few values; the mean of all around it is steadier, and
    not too low. How far they lie around it, those below it tell, which no light has raised;
    no farther than this noise takes them.
    """
    for _ in range(ROUNDS):
        reach = REACH * min(_spread_below(values, level), noise)
        near = values[slice(*np.searchsorted(values, [level - reach, level + reach]))]
        if not len(near):
            break
        level = float(near.mean())
    return level


def _spread_below(values: npt.NDArray[np.float64], level: float) -> float:
    """Return the standard deviation that the sorted values below a level tell."""
    below = values[: np.searchsorted(values, level)]
    return (level - float(np.median(below))) / 0.6745 if len(below) else 0.0


def _dark_mode(values: npt.NDArray[np.float64]) -> float:
    """Return the half-sample mode of the lower half of sorted values."""
    values = values[: len(values) // 2 + 1]
    while len(values) > 3:
        half = (len(values) + 1) // 2
        widths = values[half - 1 :] - values[: len(values) - half + 1]
        start = int(np.argmin(widths))
        values = values[start : start + half]
    return float(values.mean())
