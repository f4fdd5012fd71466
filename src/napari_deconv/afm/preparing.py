"""Heights made ready for a tip: levelled, rows aligned, scars and noise taken out.

A preparation is a list of steps, values that sit in a recipe. Each step sees one frame at a time,
and the measured heights stay as they are. An erosion follows the lowest of what it is given, so
noise pulls a reconstructed surface down: a reason to denoise before.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.noise import sampled
from napari_deconv.imaging.value import Value, require, require_number
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended

from .height_map import checked_heights
from .levelling import MAD_TO_SIGMA, ROUNDING, Level, Rows

Double = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
DenoiseMethod = Literal["total variation", "non-local means"]

#: Noise beyond so many sigmas is relief: left out when sigma is asked again.
RELIEF_SIGMAS = 3.5
#: Weight of the total variation and decay of non-local means, in sigmas, at strength 1. Measured
#: on smooth bumps, terraces, dilated islands and dilated proteins with noise of 0.3 nm: errors
#: are least at weights from 0.8 to 1.2 and decays of 1 or more. A weight of 0.9 loses 3 % at most
#: to the best for each; larger decays gain on smooth bumps, and lose on terraces.
TV_WEIGHT, NLM_DECAY = 0.9, 1.1
#: Total variation: iterations at most, and the change of an iteration, in sigmas, that ends it.
TV_ITERATIONS, TV_SETTLED = 300, 2e-4
#: Non-local means: pixels beside the middle of a patch, and of the window of patches.
PATCH, WINDOW = 1, 5


@dataclass(frozen=True)
class Scars(Value):
    """Replace scars, short streaks along x, by what lies between the rows above and below.

    Parameters
    ----------
    threshold : float
        In sigmas of the noise: how far a scar is above, or below, both rows beside it, in the
        mean of its length; half of it at each of its pixels.
    length_px : int
        Pixels of the shortest scar.
    rows_px : int
        Rows of the highest scar.

    Raises
    ------
    InputError
        If one of them is too small.

    Notes
    -----
    A scar also stands out more than its surroundings slope: from a row beside it to the next.
    This leaves the tops of round objects as they are. A straight fibre along x, as narrow as a
    scar, cannot be told from one. First and last row are never scars: they have one neighbour.
    """

    threshold: float = 4.0
    length_px: int = 8
    rows_px: int = 3
    verb: ClassVar[str] = "removing scars from"

    def __post_init__(self) -> None:
        require_number("The threshold of scars in sigmas", self.threshold, above=0)
        for name, value in (("length", self.length_px), ("height", self.rows_px)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(
                whole and value >= 1,
                f"The {name} of scars is a whole number of pixels from 1, not {value!r}",
            )

    def of_frame(self, frame: Double) -> Double:
        """Return one frame, (Y, X) in nm, without scars."""
        result, scars = frame.copy(), self.marked(frame)
        rows = np.arange(len(frame))
        for column in np.flatnonzero(scars.any(axis=0)):
            bad = scars[:, column]
            result[bad, column] = np.interp(rows[bad], rows[~bad], frame[~bad, column])
        return result

    def marked(self, frame: Double) -> Mask:
        """Return where the scars of one frame are, (Y, X)."""
        least = max(self.threshold * noise_nm(frame), ROUNDING * float(np.ptp(frame)))
        found = [
            (contrast, rows, first, start, end)
            for rows in range(1, min(self.rows_px, len(frame) - 2) + 1)
            for heights in (frame, -frame)
            for contrast, first, start, end in _streaks(heights, rows, least, self.length_px)
        ]
        scars = np.zeros(frame.shape, bool)
        # The strongest first: a row beside a scar may look like one itself, but only due to it.
        for _, rows, first, start, end in sorted(found, reverse=True):
            free = ~(scars[first - 1, start:end] | scars[first + rows, start:end])
            if free.sum() >= self.length_px:
                scars[first : first + rows, start:end] |= free
        return scars


@dataclass(frozen=True)
class Denoise(Value):
    """Take out noise and keep edges.

    Parameters
    ----------
    by : "total variation" or "non-local means"
        The first makes small steps flat and keeps the mean; the second keeps more of what
        repeats, and of smooth slopes.
    strength : float
        1 for noise as it is; half or twice is a little or a lot.
    sigma_nm : float, optional
        Standard deviation of the noise; that of each frame by `noise_nm` if not given.

    Raises
    ------
    InputError
        If the method is not known, or a number is not above 0.

    Notes
    -----
    Total variation is that of Rudin, Osher & Fatemi (1992, doi 10.1016/0167-2789(92)90242-F), by
    the fast gradient projection of Beck & Teboulle (2009, doi 10.1109/TIP.2009.2028250); its
    weight is 0.9 sigma. Non-local means is that of Buades, Coll & Morel (2005,
    doi 10.1109/CVPR.2005.38), with 3 x 3 patches in 11 x 11 pixels and a decay of 1.1 sigma.
    Both were measured, see `TV_WEIGHT`.
    """

    by: DenoiseMethod = "total variation"
    strength: float = 1.0
    sigma_nm: float | None = None
    verb: ClassVar[str] = "denoising"

    def __post_init__(self) -> None:
        known = get_args(DenoiseMethod)
        require(
            self.by in known,
            f"Heights are denoised by {' or '.join(map(repr, known))}, not by {self.by!r}",
        )
        require_number("The strength of denoising", self.strength, above=0)
        if self.sigma_nm is not None:
            require_number("The noise in nm", self.sigma_nm, above=0)

    def of_frame(self, frame: Double) -> Double:
        """Return one frame, (Y, X) in nm, with less noise."""
        sigma = noise_nm(frame) if self.sigma_nm is None else self.sigma_nm
        if sigma <= ROUNDING * float(np.ptp(frame)):
            return frame.copy()
        # In sigmas and from the mean: units and offsets then do not change a thing.
        mean = float(frame.mean())
        scaled = (frame - mean) / sigma
        if self.by == "total variation":
            return mean + sigma * _less_variation(scaled, TV_WEIGHT * self.strength)
        return mean + sigma * _mean_of_alike(scaled, NLM_DECAY * self.strength)


Preparation: TypeAlias = Level | Rows | Scars | Denoise


def noise_nm(heights: npt.ArrayLike) -> float:
    """Return the standard deviation of the noise of heights.

    Parameters
    ----------
    heights : array, (Y, X) or (T, Y, X)
        In nm.

    Returns
    -------
    float
        In nm; 0 for a constant image, and where most differences are exactly 0.

    Raises
    ------
    InputError
        If they are no heights.

    Notes
    -----
    From the second difference along x, taken within each row, and the difference of that between
    two rows: tilts, offsets of rows and bows all drop out, and so do edges, where they run along
    x or y. The scale is 1.4826 times the median of the absolute values (Donoho 1995,
    doi 10.1109/18.382009), asked again without what is beyond 3.5 sigma, which is relief. Noise
    that is alike from pixel to pixel along the fast axis counts only as far as it differs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(noise_nm(rng.normal(100, 0.3, (64, 64))), 1)
    0.3
    """
    values = sampled(checked_heights(heights))
    if values.shape[-2:] == (1, 1):
        return 0.0
    for axis, most in ((-1, 2), (-2, 1)):
        order = min(most, values.shape[axis] - 1)
        # A column alone tells by its own second difference.
        if axis == -2 and values.shape[-1] == 1:
            order = min(2, values.shape[axis] - 1)
        values = np.diff(values, order, axis=axis) / np.sqrt((1.0, 2.0, 6.0)[order])
    size = np.abs(values).ravel()
    sigma = MAD_TO_SIGMA * float(np.median(size))
    for _ in range(3):
        # `<=` keeps the lower half, so there always is one to ask.
        sigma = MAD_TO_SIGMA * float(np.median(size[size <= RELIEF_SIGMAS * sigma]))
    return sigma


def prepared(heights: npt.ArrayLike, steps: Sequence[Preparation]) -> Generator[Step, None, Double]:
    """Prepare frame by frame; see `prepare`. The value of the generator is the result."""
    result = checked_heights(heights).copy()
    frames = result if result.ndim == 3 else result[None]
    total = len(frames) * len(steps)
    for before, step in enumerate(steps):
        for number, frame in enumerate(frames):
            frame[...] = step.of_frame(frame)
            which = f"frame {number + 1} of {len(frames)}" if len(frames) > 1 else "the image"
            yield Step(before * len(frames) + number + 1, total, f"{step.verb} {which}")
    return result


def prepare(heights: npt.ArrayLike, steps: Sequence[Preparation]) -> Double:
    """Return heights after some steps, each frame for itself.

    Parameters
    ----------
    heights : array, (Y, X) or (T, Y, X)
        In nm; not changed.
    steps : sequence of Level, Rows, Scars or Denoise
        In this order.

    Returns
    -------
    ndarray of float64
        Of the shape of the heights.

    Raises
    ------
    InputError
        If they are no heights.

    Examples
    --------
    >>> y, x = np.mgrid[:8, :8]
    >>> bool(np.abs(prepare(5.0 + 0.3 * x - 0.1 * y, [Level()])).max() < 1e-12)
    True
    """
    return ended(prepared(heights, steps))


def _streaks(
    heights: Double, rows: int, least: float, length: int
) -> list[tuple[float, int, int, int]]:
    """Return streaks, so many rows high, that stand out: how much, first row, start and end."""
    count = len(heights) - rows - 1
    inside = np.min([heights[1 + k : 1 + k + count] for k in range(rows)], axis=0)
    above, below = heights[:count], heights[rows + 1 :]
    contrast = inside - np.maximum(above, below)
    # How much the surroundings change by themselves; the lesser of both sides, since the next
    # row but one may be a scar too. Beyond the frame nothing is known.
    slopes = np.full((2, *above.shape), np.inf)
    slopes[0, 1:] = np.abs(above[1:] - heights[: count - 1])
    slopes[1, :-1] = np.abs(below[:-1] - heights[rows + 2 :])
    stands_out = contrast > np.maximum(least / 2, slopes.min(axis=0))
    turns = np.diff(np.pad(stands_out.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (lines, starts), ends = np.nonzero(turns == 1), np.nonzero(turns == -1)[1]
    means = (
        (float(contrast[line, start:end].mean()), int(line) + 1, int(start), int(end))
        for line, start, end in zip(lines, starts, ends, strict=True)
        if end - start >= length
    )
    return [streak for streak in means if streak[0] >= least]


def _less_variation(noisy: Double, weight: float) -> Double:
    """Return argmin_u |u - noisy|^2 / 2 + weight TV(u), isotropic, noise of 1."""
    dual, ahead = np.zeros((2, *noisy.shape)), np.zeros((2, *noisy.shape))
    slope = np.zeros_like(dual)
    momentum, result = 1.0, noisy
    for iteration in range(TV_ITERATIONS):
        before, result = result, noisy + weight * _divergence(ahead)
        if iteration and np.sqrt(np.mean((result - before) ** 2)) < TV_SETTLED:
            break
        slope[0, :-1], slope[1, :, :-1] = np.diff(result, axis=0), np.diff(result, axis=1)
        # 8 is the largest that the square of a gradient can be.
        after = ahead + slope / (8 * weight)
        after /= np.maximum(np.hypot(after[0], after[1]), 1)
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = after + (momentum - 1) / faster * (after - dual)
        dual, momentum = after, faster
    return np.asarray(noisy + weight * _divergence(dual))


def _divergence(field: Double) -> Double:
    """Return minus the adjoint of the gradient; it sums to 0, so that no mean is changed."""
    result: Double = field[0] + field[1]
    result[1:] -= field[0, :-1]
    result[:, 1:] -= field[1, :, :-1]
    return result


def _mean_of_alike(noisy: Double, decay: float) -> Double:
    """Return the mean of the pixels around each whose patches are like its own, noise of 1."""
    from scipy.ndimage import uniform_filter

    rows, columns = noisy.shape
    wide = np.pad(noisy, WINDOW + PATCH, mode="symmetric")
    own = wide[WINDOW : WINDOW + rows + 2 * PATCH, WINDOW : WINDOW + columns + 2 * PATCH]
    inner = (slice(PATCH, PATCH + rows), slice(PATCH, PATCH + columns))
    # A patch is as like itself as the best of the others can be.
    total, weights = noisy.copy(), np.ones_like(noisy)
    for dy in range(2 * WINDOW + 1):
        for dx in range(2 * WINDOW + 1):
            if dy == dx == WINDOW:
                continue
            other = wide[dy : dy + rows + 2 * PATCH, dx : dx + columns + 2 * PATCH]
            apart = uniform_filter((own - other) ** 2, 2 * PATCH + 1)[inner]
            # Noise alone sets two patches apart by 2 sigma^2.
            weight = np.exp(-np.maximum(apart - 2, 0) / decay**2)
            total += weight * other[inner]
            weights += weight
    return np.asarray(total / weights)
