"""What a count is: the camera's gain and offset, estimated from a stack itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .noise import MANY_VALUES, filling, sampled
from .value import Value, require_number

#: Groups of like brightness that the noise is looked at in, and least squares of 3 x 3 in one.
GROUPS, LEAST = 48, 400
#: Groups of a small image, which has no more squares, and squares below which it tells nothing.
FEW_GROUPS, FEWEST = 8, 400
#: Rounds in which groups that hold structure beside noise come to weigh less.
ROUNDS = 20
#: Fewest voxels that are saturated.
LEAST_SATURATED = 10
#: A voxel is hot that stands above the others of its square by so many times what one in ten
#: squares of like brightness does; squares are compared in so many groups.
HOT, USUAL, HOT_GROUPS = 6.0, 0.9, 16
#: Where the noise of a square's mean is more than this part of how means vary, what lies around
#: it tells better how bright it is.
NOISY = 0.05
#: The slope must be so many times its standard error to tell a gain; and two slopes are clearly
#: not the same that differ by so many times that of the one that is less sure.
LEAST_SURE, CLEARLY = 5.0, 2.0


@dataclass(frozen=True)
class Camera(Value):
    """How counts come from photons: counts = offset + gain x photons, and some read noise.

    Parameters
    ----------
    gain : float
        Counts a photon.
    offset : float
        Counts without any light.
    read_noise : float
        Standard deviation, in photons.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 1.0

    def __post_init__(self) -> None:
        require_number("The gain in counts a photon", self.gain, above=0)
        require_number("The offset in counts", self.offset)
        require_number("The read noise in photons", self.read_noise, least=0)

    def recorded(
        self, expected: npt.NDArray[np.floating[Any]], random: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Return the counts where so many photons are expected, with the noise of both."""
        caught = random.poisson(expected.astype(np.float64)).astype(np.float64)
        if self.read_noise:
            caught += random.normal(0, self.read_noise, caught.shape)
        return self.offset + self.gain * caught


def camera_of(image: npt.ArrayLike, read_noise: float = 1.0) -> Camera | None:
    """Return the camera that the noise of an image tells of; None where it does not.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Counts as they were recorded: not restored, not filtered, not stretched.
    read_noise : float
        In photons: a single image does not tell it apart from the offset.

    Notes
    -----
    Photon transfer (Janesick 2007): the variance of counts grows with their mean, by the gain. The
    noise is that of the finest detail in squares of 3 x 3 pixels, of which structure that is
    slow has none, grouped by their mean; structure only ever adds to it, so that groups above the
    line come to weigh less. With little light squares are bright or dark by chance, and their noise
    with them: where that shows, they are grouped by what lies around them, whose noise is another
    (an instrumental variable; Fuller 1987).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> light = np.linspace(2, 80, 512) * np.ones((4, 512, 1))
    >>> found = camera_of(100 + 2.5 * rng.poisson(light), read_noise=0)
    >>> round(found.gain, 1), abs(found.offset - 100) < 5
    (2.5, True)
    """
    squares = _seen(np.asarray(image))
    line = None if squares is None else _line_through(squares)
    if line is None or line.slope <= 0 or line.slope < LEAST_SURE * line.error:
        return None
    offset = -line.level / line.slope + read_noise**2 * line.slope
    return Camera(line.slope, offset, read_noise)


@dataclass(frozen=True, eq=False)
class _Squares:
    """What is seen of squares of 3 x 3 pixels: their means, finest details, and what is around."""

    mean: npt.NDArray[np.float64]
    detail: npt.NDArray[np.float64]
    around: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Line:
    """How the variance of noise grows with the mean; `error` is that of the slope."""

    slope: float
    level: float
    error: float


def _seen(image: npt.NDArray[np.generic]) -> _Squares | None:
    """Return the squares of an image that tell of its camera; None where they are too few."""
    planes = sampled(image)
    if min(planes.shape[-2:]) < 3 or _squares(planes).size < FEWEST:
        return None
    mean = _weighed(_weighed(planes, (1, 2, 1), -1), (1, 2, 1), -2).ravel() / 16
    # The squares of 1, -2, 1 sum up to 6, along each of two axes.
    detail = _weighed(_weighed(planes, (1, -2, 1), -1), (1, -2, 1), -2).ravel() / 6
    kept = ~(_flattened(planes).ravel() | _hot(planes))
    if np.count_nonzero(kept) < FEWEST:
        return None
    return _Squares(mean[kept], detail[kept], _around(planes).ravel()[kept])


def _line_through(squares: _Squares) -> _Line | None:
    """Return the line of the noise over the light; None where it has no slope.

    By their own means, unless these are so noisy that chance may have grouped them, and what lies
    around them clearly tells another slope (Hausman 1978).
    """
    own = _line(squares, squares.mean)
    # The squares of 1/4, 1/2, 1/4 sum up to 3/8, along each of two axes.
    by_chance = np.square(3 / 8 * squares.detail).mean() > NOISY * squares.mean.var()
    if own is None or not by_chance:
        return own
    other = _line(squares, squares.around)
    if other is None or other.slope < LEAST_SURE * other.error:
        return None
    return own if abs(own.slope - other.slope) < CLEARLY * other.error else other


def _line(squares: _Squares, key: npt.NDArray[np.float64]) -> _Line | None:
    """Return the line through groups of squares that have a like key."""
    groups = _grouped(np.argsort(key, kind="stable"))
    means = np.array([squares.mean[group].mean() for group in groups])
    variances = np.array([np.square(squares.detail[group]).mean() for group in groups])
    counts = np.array([float(len(group)) for group in groups])
    if len(means) < 3 or not np.isfinite(variances).all() or not variances.any():
        return None
    weights = counts / 2 / np.square(np.maximum(variances, 1e-3 * variances.max()))
    doubt = np.ones_like(weights)
    for _ in range(ROUNDS):
        slope, level = np.polyfit(means, variances, 1, w=np.sqrt(weights * doubt))
        above = np.maximum(variances - (slope * means + level), 0) * np.sqrt(weights)
        doubt = 1 / (1 + np.square(above / 2))
    spread = float(np.sum(weights * np.square(means - np.average(means, weights=weights))))
    return _Line(float(slope), float(level), 1 / math.sqrt(spread)) if spread > 0 else None


def _around(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sums of the sixteen pixels around each square of 3 x 3."""
    wide = np.pad(planes, ((0, 0), (1, 1), (1, 1)), "reflect")
    return _weighed(_weighed(wide, (1,) * 5, -1), (1,) * 5, -2) - _squares(planes)


def _flattened(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which squares hold saturated voxels, or nothing but a value that fills borders.

    What is saturated, or was filled in, has no noise, and tells of no camera. Light alone leaves
    fewer voxels at the highest value than at the one below it, and no gap above the lowest.
    """
    values, counts = np.unique(planes, return_counts=True)
    flat = np.zeros(_squares(planes).shape, bool)
    if len(values) < MANY_VALUES:
        return flat
    if counts[-1] >= LEAST_SATURATED and counts[-1] > 2 * counts[-2]:
        flat |= _squares(planes == values[-1]) > 0
    fill = filling(values)
    if fill is not None:
        flat |= _squares(planes == fill) == 9
    return flat


def _hot(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which squares hold a voxel that stands out alone, flat.

    It would lift its square among brighter ones, with more noise than light has there. The second
    brightest voxel, which no hot one moves, tells which squares are alike.
    """
    rows, columns = (n - 2 for n in planes.shape[-2:])
    voxels = np.stack(
        [planes[..., y : y + rows : 2, x : x + columns : 2].ravel() for y, x in np.ndindex(3, 3)]
    )
    voxels.partition(7, axis=0)
    second, apart = voxels[7], voxels[8] - voxels[7]
    # Where hardly a photon was caught most squares are flat: one count apart is usual there.
    step = np.diff(np.unique(planes)[:2]).sum()
    hot = np.zeros(len(apart), bool)
    for alike in np.array_split(np.argsort(second, kind="stable"), HOT_GROUPS):
        hot[alike] = apart[alike] > HOT * max(np.quantile(apart[alike], USUAL), step)
    return hot


def _squares(planes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return sums over the squares of 3 x 3 pixels, every second one along each axis."""
    return _weighed(_weighed(planes.astype(np.float64), (1, 1, 1), -1), (1, 1, 1), -2)


def _grouped(order: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Return squares, the darkest first, in groups."""
    if len(order) < 3 * LEAST:
        return np.array_split(order, FEW_GROUPS)
    # The bright squares are few: groups grow smaller towards them.
    parts = 1 - np.geomspace(1, LEAST / len(order), GROUPS)
    edges = [0]
    for edge in (parts * len(order)).astype(int):
        if edge - edges[-1] >= LEAST / 2:
            edges.append(int(edge))
    return np.split(order, edges[1:])


def _weighed(
    planes: npt.NDArray[np.float64], weights: tuple[int, ...], axis: int
) -> npt.NDArray[np.float64]:
    """Return sums of neighbours along an axis, every second one."""
    moved = np.moveaxis(planes, axis, -1)
    n = moved.shape[-1] - len(weights) + 1
    total = sum(weight * moved[..., first : first + n : 2] for first, weight in enumerate(weights))
    return np.moveaxis(np.asarray(total), -1, axis)
