"""Blind tip estimation: the bluntest tip that can have made an image, from the image alone.

Villarrubia (1997, J. Res. Natl. Inst. Stand. Technol. 102, 425, doi 10.6028/jres.102.030). Where
the tip stood at p, it touched the sample with one of its places d, and the sample there, at p - d,
is no higher than the image: so I(p) - I(p - d) <= T(d). For that d, standing anywhere near, the
tip was held up by the same place of the sample: T(x) <= I(p + x - d) - I(p) + T(d). Which d it
was is unknown, hence

    T(x) <- min{T(x), max_{d in D_p} [I(p + x - d) - I(p) + T(d)] + tau},
    D_p = {d: I(p) - I(p - d) <= T(d) + tau / 2}.

A tip that starts above the true one stays above it, if the tip is no wider than the support and
heights differ by noise less than tau / 2. All that happens at a point falls with T, so what is
left in the end, when no point lowers it, does not depend on the order of the points.

The tau / 2 in D_p is ours (Villarrubia has none there): without it, the noise of a single pixel
leaves the apex as the only contact, and the tip is sharp by mistake.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import Value, require, require_number
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended, passed_on

from .height_map import checked_heights
from .morphology import THREADS, dilated, eroded, threads
from .tips import Tip

Double = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Part of the threshold by which a contact may be too high.
CONTACT_PART = 0.5
#: Heights that differ by less, as a part of the range, differ by rounding: in contacts, the tip.
SAME_HEIGHT, SAME_TIP = 1e-9, 1e-12
#: Most passes over all points; a tip that still changes then is a bound all the same.
PASSES = 100
#: Contacts times pixels of the tip in a band of points: a tenth of a second or so at most.
BAND_WORK = 1e8
#: Thresholds to choose from, in standard deviations of the noise: eight for each doubling.
THRESHOLDS = tuple(float(2 ** (k / 8)) for k in range(6, 35))
#: A step that is lower, as a part of the one below it, is not of the same fall.
SAME_FALL = 0.5
#: Just above its fall a tip is still sharp by the chance of some pixels: where that costs next to
#: nothing of the relief, so many standard deviations of the noise are taken at the least.
SAFE, OF_RELIEF = 5.0, 1 / 30
#: The tip is judged this near to its apex, as a part of the support, to either side.
NEAR = 1 / 6


@dataclass(frozen=True)
class BlindTip(Value):
    """How a tip is estimated from an image.

    Parameters
    ----------
    shape : tuple of int, (Y, X)
        Pixels of the tip, at least as many as the true one has within the range of heights.
    by : {"full", "partial"}
        All points that the tip so far has not explained, or local maxima only: faster, blunter.
    threshold_nm : float, optional
        tau, for the noise. None: found by a sweep, see `Sweep`; 0 without noise.

    Raises
    ------
    InputError
        If a number is none that it can be.
    """

    shape: tuple[int, int] = (15, 15)
    by: Literal["full", "partial"] = "full"
    threshold_nm: float | None = None

    def __post_init__(self) -> None:
        sides = [n for n in self.shape if isinstance(n, int) and not isinstance(n, bool)]
        require(
            len(self.shape) == len(sides) == 2 and all(3 <= n <= 255 for n in sides),
            f"A tip has 3 to 255 pixels along y and x, not {self.shape}",
        )
        require(
            self.by in ("full", "partial"),
            f"A tip is estimated by 'full' or 'partial', not {self.by!r}",
        )
        if self.threshold_nm is not None:
            require_number("The threshold in nm", self.threshold_nm, least=0)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Tips for several thresholds, from the lowest to the highest.

    With too low a threshold noise is taken for sharpness: the tip collapses to a needle, which
    leaves no residual but explains nothing. With too high a one it is blunt. Between both it
    falls steeply; the threshold suggested is the upper end of the steepest fall, or the first that
    is not below `least_nm`.

    Parameters
    ----------
    thresholds_nm : tuple of float
    tips : tuple of Tip
    heights_nm : tuple of float
        Mean height of each tip near its apex, at or below 0.
    least_nm : float
        A threshold that noise alone hardly passes.
    """

    thresholds_nm: tuple[float, ...]
    tips: tuple[Tip, ...]
    heights_nm: tuple[float, ...]
    least_nm: float = 0.0

    @property
    def suggested(self) -> int:
        """Index of the threshold that is suggested."""
        safe = int(np.searchsorted(self.thresholds_nm, self.least_nm))
        return max(self._above_the_fall, min(safe, len(self.tips) - 1))

    @property
    def _above_the_fall(self) -> int:
        rises = np.diff(self.heights_nm)
        if len(rises) < 2:
            return len(rises)
        # Over two steps, as a tip may collapse in two; the upper one only if it is part of it.
        first = int((rises[1:] + rises[:-1]).argmax())
        return first + (2 if rises[first + 1] >= SAME_FALL * rises[first] else 1)

    @property
    def threshold_nm(self) -> float:
        """The threshold that is suggested."""
        return self.thresholds_nm[self.suggested]

    @property
    def tip(self) -> Tip:
        """The tip at the threshold that is suggested."""
        return self.tips[self.suggested]


def blind_tip(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: BlindTip | None = None,
    noise_nm: float = 0.0,
) -> Tip:
    """Return the bluntest tip that can have made an image; see `estimated`.

    Examples
    --------
    >>> image = np.zeros((9, 9)); image[3:6, 3:6] = 2; image[4, 4] = 3
    >>> blind_tip(image, (1.0, 1.0), BlindTip((3, 3))).heights_nm
    array([[-1., -1., -1.],
           [-1.,  0., -1.],
           [-1., -1., -1.]])
    """
    return ended(estimated(heights, pixel_nm, settings or BlindTip(), noise_nm))


def estimated(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: BlindTip,
    noise_nm: float = 0.0,
    *,
    start: Tip | None = None,
) -> Generator[Step, None, Tip]:
    """Estimate a tip band by band of points; the value of the generator is the `Tip`.

    Parameters
    ----------
    heights : array, (Y, X) or (T, Y, X)
        In nm; all frames are of one tip.
    pixel_nm : tuple of float, (y, x)
    settings : BlindTip
    noise_nm : float
        Standard deviation of the heights by noise.
    start : Tip, optional
        A tip that the true one is nowhere above; it gives the shape. Else 0 everywhere.

    Yields
    ------
    Step
        Its `peek` returns the tip so far, an upper bound too.

    Raises
    ------
    InputError
        If the image is flat, no image, or smaller than the tip.
    """
    require_number("The noise in nm", noise_nm, least=0)
    thresholds = thresholds_of(settings, noise_nm)
    if thresholds:
        sweep = yield from swept(heights, pixel_nm, settings, thresholds, noise_nm, start=start)
        return sweep.tip
    frames, tip = _checked(heights, settings, start)
    yield from _estimated(frames, tip, settings.by, settings.threshold_nm or 0.0)
    return Tip(tip, pixel_nm)


def thresholds_of(settings: BlindTip, noise_nm: float) -> list[float]:
    """Return the thresholds in nm to choose from; none where one is set, or there is no noise."""
    if settings.threshold_nm is not None or noise_nm <= 0:
        return []
    return [k * noise_nm for k in THRESHOLDS]


def swept(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: BlindTip,
    thresholds_nm: Sequence[float],
    noise_nm: float = 0.0,
    *,
    start: Tip | None = None,
) -> Generator[Step, None, Sweep]:
    """Estimate a tip for each of several thresholds; the value of the generator is the `Sweep`.

    Parameters
    ----------
    heights, pixel_nm, settings, start
        As in `estimated`; the threshold of the settings is not used.
    thresholds_nm : sequence of float
        Best at equal ratios, from 2 to 20 standard deviations of the noise.
    noise_nm : float
        Standard deviation of the heights by noise.

    Raises
    ------
    InputError
        As `estimated`, and if there is no threshold, or one below 0.
    """
    frames, tip = _checked(heights, settings, start)
    require(len(thresholds_nm) > 0, "A sweep needs at least one threshold")
    for threshold in thresholds_nm:
        require_number("A threshold in nm", threshold, least=0)
    # Downwards: the tip of a threshold is nowhere below that of a lower one, and starts it.
    values = sorted({float(t) for t in thresholds_nm})[::-1]
    rows = []
    for number, threshold in enumerate(values):
        for step in _estimated(frames, tip, settings.by, threshold):
            note = f"threshold {threshold:.3g} nm, {step.note}"
            yield Step(number, len(values), note, peek=step.peek)
        rows.append((threshold, Tip(tip.copy(), pixel_nm), _near(tip)))
    thresholds, tips, near = zip(*rows[::-1], strict=True)
    least = min(SAFE * noise_nm, OF_RELIEF * _range(frames))
    return Sweep(thresholds, tips, near, least)


# -- passes over points -----------------------------------------------------------------------


def _estimated(
    frames: Double, tip: Double, by: str, threshold: float
) -> Generator[Step, None, None]:
    """Lower a tip, in place, until nothing changes.

    Local maxima come first in any case: few, and they tell most. A point that the opening
    explains up to what is allowed for a contact has a contact that lowers nothing, so the full
    estimate asks only the others, and leaves none out.
    """
    maxima = _maxima(frames)
    allowed = _allowed(frames, threshold)
    for number in range(PASSES):
        if not (yield from _lowered(frames, maxima, threshold, tip, number)):
            break
    for number in range(PASSES if by == "full" else 0):
        rest = yield from _residual(frames, tip, f"full pass {number + 1}, looking for points")
        points = np.argwhere(rest > allowed)
        if not (yield from _lowered(frames, points, threshold, tip, number)):
            break


def _lowered(
    frames: Double, points: Indices, threshold: float, tip: Double, number: int
) -> Generator[Step, None, int]:
    """Go once through points, band by band, the threads with a tip each; return what changed."""
    from .blind_loops import lower_tip

    allowed, least = _allowed(frames, threshold), SAME_TIP * _range(frames)
    size = int(np.clip(BAND_WORK / tip.size**2, THREADS, 1e6)) * THREADS
    changes = 0
    for first in range(0, len(points), size):
        band = points[first : first + size]
        # Each thread gets high and low ones: points are sorted.
        shares = [np.ascontiguousarray(band[k::THREADS]) for k in range(THREADS)]
        tips = [tip.copy() for _ in shares]

        def work(share: Indices, own: Double) -> int:
            return lower_tip(frames, share, threshold, allowed, least, own)

        changes += sum(threads().map(work, shares, tips))
        np.minimum.reduce(tips, out=tip)
        done = min(first + size, len(points))
        note = f"estimating the tip, pass {number + 1}, {done} of {len(points)} points"
        yield Step(number, PASSES, note, peek=lambda: tip.astype(np.float32))
    return changes


def _residual(frames: Double, tip: Double, note: str) -> Generator[Step, None, Double]:
    """Return I - open(I, T), at or above 0."""

    def noted(step: Step) -> Step:
        return Step(step.done, step.total, note, peek=lambda: tip.astype(np.float32))

    surface = yield from passed_on(eroded(frames, tip), noted)
    image = yield from passed_on(dilated(surface, tip), noted)
    return frames - image


def _maxima(frames: Double) -> Indices:
    """Return the pixels that no neighbour is above and one is below, the highest first."""
    wide = np.pad(frames, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows, columns = frames.shape[1:]
    most, lowest = frames.copy(), frames.copy()
    for i, j in itertools.product(range(3), range(3)):
        beside = wide[:, i : i + rows, j : j + columns]
        np.maximum(most, beside, out=most)
        np.minimum(lowest, beside, out=lowest)
    found = (frames == most) & (frames > lowest)
    points = np.argwhere(found)
    return np.asarray(points[np.argsort(-frames[found], kind="stable")])


def _allowed(frames: Double, threshold: float) -> float:
    return CONTACT_PART * threshold + SAME_HEIGHT * _range(frames)


def _range(frames: Double) -> float:
    return float(np.ptp(frames, axis=(1, 2)).max())


def _near(tip: Double) -> float:
    """Return the mean height near the apex."""
    halves = [max(int(n * NEAR), 1) for n in tip.shape]
    place = tuple(slice(n // 2 - h, n // 2 + h + 1) for n, h in zip(tip.shape, halves, strict=True))
    part = tip[place]
    return float(part[np.isfinite(part)].mean())


def _checked(
    heights: npt.ArrayLike, settings: BlindTip, start: Tip | None
) -> tuple[Double, Double]:
    """Return frames, each from its lowest height up, and the tip to start with."""
    values = checked_heights(heights)
    frames = np.ascontiguousarray(values if values.ndim == 3 else values[None])
    frames = frames - frames.min(axis=(1, 2), keepdims=True)
    require(_range(frames) > 0, "The image is flat: nothing tells of the tip")
    tip = np.zeros(settings.shape) if start is None else start.heights_nm.copy()
    sides = " x ".join(map(str, tip.shape)), " x ".join(map(str, frames.shape[1:]))
    require(
        all(n <= m for n, m in zip(tip.shape, frames.shape[1:], strict=True)),
        f"The image, {sides[1]} pixels, is smaller than the tip, {sides[0]}; ask for a smaller tip",
    )
    return frames, tip
