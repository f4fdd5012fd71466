"""The tip from the images alone, by gradient descent through the opening, and where to stop.

A tip T that made the images I opens them to themselves, so T is sought that minimises the mean of
(open(I, T) - I)^2 (Matsunaga et al. 2023, Sci. Rep. 13, doi 10.1038/s41598-022-27057-2), by AdamW
(Loshchilov & Hutter 2019, arXiv 1711.05101), from several starts. Three things are added here.

- Noise makes every tip look too sharp: an opening cuts off what noise sticks out, and a sharper
  tip cuts off less. How much is known once the noise is: the same tip is made to image its own
  reconstruction, noise of the same sigma is added, and its gradient is subtracted. At the true
  tip both are the same on average, so it stands still there.
- A tip of no width opens all to itself. So tips are compared by what is left on frames that were
  not trained on, above what the noise alone would leave; of all where this is within a standard
  error, the one is taken that takes most off the images (Morozov's discrepancy principle, 1966,
  with the rule of one standard error of Breiman et al. 1984). Those beyond are not thrown away,
  as all might be, but pay for it, several times more than they can win.
- The reconstruction for the made-up noise comes from frames smoothed by total variation (Rudin,
  Osher & Fatemi 1992, doi 10.1016/0167-2789(92)90242-F), down to a residual of that sigma.

Inside, heights are parts of the height range of the images, so nothing depends on the unit.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import Value, require, require_number
from napari_deconv.restoration.restorer import Step, ended

from .height_map import checked_heights
from .tips import Tip

Double = npt.NDArray[np.float64]

#: Pixels to each side of the highest that may be its top; heights that differ by less, as a part of
#: the range, are told apart even without noise.
TOP, SHARPEST = 2, 1e-3
#: First step of the descent, as a part of the height range: 0.1 nm where that is 10 nm.
RATE = 0.01
#: What a weight decay is multiplied by in a step: the learning rate of the paper, in nm.
DECAY_RATE = 0.1
#: AdamW's usual memories of the gradient and of its square.
MEMORY, SQUARE_MEMORY = 0.9, 0.999
#: Frames are left out in so many parts; so many starts are looked at closely.
FOLDS, FINALISTS = 3, 3
#: Pixels that are enough: of larger images, the parts with the highest relief are taken.
ENOUGH_PIXELS = 40_000
#: Steps between two ticks, and between two reconstructions for the made-up noise.
TICK, REFRESH = 20, 5
#: Steps that tell which starts are worth more.
FIRST_STEPS = 60
#: A tip is as good as another if it leaves this part of what noise leaves more than that.
SAME_RESIDUAL = 0.25
#: And this part of the height range more: the descent ends no closer.
SAME_HEIGHT = 3e-3
#: How much more what a tip leaves beyond that weighs than what it explains; both are heights.
AGAINST = 3.0
#: A tip that takes less off the images, as a part of their range and of the noise, is no tip.
LEAST_TAKEN, LEAST_OF_NOISE = 0.01, 0.1


@dataclass(frozen=True)
class GradientTip(Value):
    """How the tip is estimated from images by gradient descent.

    Parameters
    ----------
    shape : tuple of int, (Y, X)
        Pixels of the tip, odd.
    starts : int
        Tips to start from: paraboloids, cones, double tips, random ones, a flat one.
    steps : int
        Of the descent, from each start that is looked at closely.
    symmetric : bool
        Whether the tip is the same when turned by half a turn.
    weight_decays : tuple of float
        Pulls towards a flat tip that are tried: of each height, a tenth of this in each step.
    seed : int
        Of all that is random.

    Raises
    ------
    InputError
        If one of them cannot be.
    """

    shape: tuple[int, int] = (15, 15)
    starts: int = 16
    steps: int = 200
    symmetric: bool = False
    weight_decays: tuple[float, ...] = (1e-3, 1e-2, 3e-2)
    seed: int = 0

    def __post_init__(self) -> None:
        sides = tuple(self.shape)
        require(
            len(sides) == 2 and all(isinstance(n, int) and n >= 3 and n % 2 for n in sides),
            f"The tip has two odd sides of 3 pixels or more, not {self.shape}",
        )
        object.__setattr__(self, "shape", sides)
        for name, value, least in (("starts", self.starts, 1), ("steps", self.steps, 20)):
            require(
                isinstance(value, int) and value >= least,
                f"The number of {name} must be a whole number from {least}, not {value}",
            )
        require(isinstance(self.seed, int) and self.seed >= 0, "The seed is a number from 0")
        require(len(self.weight_decays) > 0, "At least one weight decay must be tried")
        for decay in self.weight_decays:
            require_number("A weight decay", decay, least=0)
            require(decay < 1, f"A weight decay is below 1, not {decay:g}")


def gradient_tip(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: GradientTip | None = None,
    noise_nm: float = 0.0,
) -> Tip:
    """Return the tip that images tell of, estimated by gradient descent.

    Parameters
    ----------
    heights : array, (T, Y, X) or (Y, X)
        In nm, levelled, all made by one tip.
    pixel_nm : tuple of float, (y, x)
    settings : GradientTip, optional
    noise_nm : float
        Standard deviation of the noise of the heights.

    Returns
    -------
    Tip
        Of the shape that is set, its apex in the middle. What touched nowhere is not known.

    Raises
    ------
    InputError
        If the images are flat, smaller than the tip, too small to leave a part out, or tell of
        nothing but a tip of no width.
    """
    return ended(estimated(heights, pixel_nm, settings, noise_nm))


def estimated(
    heights: npt.ArrayLike,
    pixel_nm: tuple[float, float],
    settings: GradientTip | None = None,
    noise_nm: float = 0.0,
) -> Generator[Step, None, Tip]:
    """Estimate the tip in steps; see `gradient_tip`. The generator's value is the tip.

    A `Step` tells, as `divergence`, the mean of (open(I, T) - I)^2 in nm^2 so far.
    """
    settings = settings or GradientTip()
    frames = checked_heights(heights)
    frames = frames if frames.ndim == 3 else frames[None]
    require_number("The noise in nm", noise_nm, least=0)
    for axis, step in zip("yx", pixel_nm, strict=True):
        require_number(f"The {axis} pixel size in nm", step, above=0)
    span = _span(frames, settings.shape, noise_nm)
    data = _data(frames, settings.shape, span, noise_nm)
    spacing = (pixel_nm[0] / min(pixel_nm), pixel_nm[1] / min(pixel_nm))
    finder = _Finder(data, settings, spacing, span**2)
    with ThreadPoolExecutor(_cores(), thread_name_prefix="tip") as pool:
        tip = yield from finder.found(pool)
    if not settings.symmetric:
        tip = _on_its_top(tip, data.noise)
    taken = float(np.sqrt(((data.smooth - _eroded(data.smooth, tip)) ** 2).mean()))
    require(
        taken > max(LEAST_TAKEN, LEAST_OF_NOISE * data.noise),
        "The images tell of nothing but a tip of no width, which takes nothing off them: no tip "
        "that is wider fits; check the noise, or take images with more and steeper objects",
    )
    return Tip(tip * span, pixel_nm)


# -- what the tip is estimated from ---------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Data:
    """Images as parts of their height range, and those smoothed; the group that each is of."""

    images: Double
    smooth: Double
    groups: npt.NDArray[np.int64]
    noise: float
    margin: tuple[int, int]

    def part(self, chosen: npt.NDArray[np.bool_]) -> _Data:
        """Return some of the images."""
        return _Data(
            self.images[chosen], self.smooth[chosen], self.groups[chosen], self.noise, self.margin
        )


def _span(frames: Double, shape: tuple[int, int], noise_nm: float) -> float:
    """Return the height range in nm, once there is one and the tip fits."""
    sides = frames.shape[1:]
    tip, image = (" x ".join(map(str, n)) for n in (shape, sides))
    require(
        all(n <= m for n, m in zip(shape, sides, strict=True)),
        f"The tip, {tip} pixels, is larger than the image, {image}; choose a smaller tip",
    )
    span = float(np.ptp(frames, axis=(1, 2)).max())
    require(span > 0, "The image is flat, so it tells nothing of the tip; take one with objects")
    require(
        span > 3 * noise_nm,
        f"The heights span {span:g} nm, no more than noise of {noise_nm:g} nm does: they tell "
        "nothing of the tip; take images with higher objects, or correct the noise",
    )
    require(
        len(frames) > 1 or any(m >= 3 * n for n, m in zip(shape, sides, strict=True)),
        f"One image of {image} pixels is too small to leave a part of it out for a check of a tip "
        f"of {tip}: one side must be 3 times the tip's; give more frames or choose a smaller tip",
    )
    return span


def _data(frames: Double, shape: tuple[int, int], span: float, noise_nm: float) -> _Data:
    blocks, groups = _blocks(frames, shape)
    # Rounded, so that other units give the same numbers bit by bit.
    images = np.round((blocks - blocks.min((1, 2), keepdims=True)) / span, 9)
    noise = float(f"{noise_nm / span:.9g}")
    sides = blocks.shape[1:]
    margin = [min(n // 2, m // 10) for n, m in zip(shape, sides, strict=True)]
    return _Data(images, smoothed(images, noise), groups, noise, (margin[0], margin[1]))


def _blocks(frames: Double, shape: tuple[int, int]) -> tuple[Double, npt.NDArray[np.int64]]:
    """Cut frames into parts of one size; return those with the highest relief, and their groups.

    A group is a frame; of a single image, a part, with the width of the tip between the parts.
    """
    single = len(frames) == 1
    places = []
    for n, m in zip(shape, frames.shape[1:], strict=True):
        gap = n if single else 0
        side = m if not single and m <= 4 * n else 3 * n
        if single and m < 2 * side + gap:
            side = (m - gap) // 2 if m >= 3 * n else m
        places.append([slice(at, at + side) for at in range(0, m - side + 1, side + gap)])
    parts = [(k, y, x) for k in range(len(frames)) for y in places[0] for x in places[1]]
    relief = np.array([frames[part].std() for part in parts])
    pixels = frames[parts[0]].size
    # Two parts are the least that one can be left out of.
    count = max(ENOUGH_PIXELS // pixels, 2)
    best = np.sort(np.argsort(-relief, kind="stable")[:count])
    groups = best if single else np.array([parts[k][0] for k in best])
    if len(np.unique(groups)) < 2:
        groups = best
    return np.stack([frames[parts[k]] for k in best]), np.asarray(groups, np.int64)


def smoothed(images: Double, noise: float, iterations: int = 60) -> Double:
    """Return images with the least total variation that leaves a residual of the noise.

    By the dual projection of Chambolle (2004, doi 10.1023/B:JMIV.0000011325.36760.1e), whose
    weight is changed on the way until the residual is what was asked for.

    Parameters
    ----------
    images : ndarray of float64, (T, Y, X)
    noise : float
        Standard deviation, in the unit of the images.
    iterations : int
    """
    if noise == 0:
        return images.copy()
    weight, step = noise, 0.25
    flow = np.zeros((2, *images.shape))
    for number in range(1, iterations + 1):
        slopes = np.zeros_like(flow)
        rest = _divergence(flow) - images / weight
        slopes[0, :, :-1] = np.diff(rest, axis=1)
        slopes[1, :, :, :-1] = np.diff(rest, axis=2)
        flow = (flow + step * slopes) / (1 + step * np.sqrt((slopes**2).sum(0)))
        if number % 5 == 0:
            left = weight * float(np.sqrt((_divergence(flow) ** 2).mean()))
            # A bit less than the noise: what TV takes from edges is residual too.
            weight *= float(np.clip(0.95 * noise / max(left, 1e-30), 0.5, 2.0))
    return np.asarray(images - weight * _divergence(flow))


def _divergence(flow: Double) -> Double:
    total = np.zeros(flow.shape[1:])
    total[:, :-1] += flow[0, :, :-1]
    total[:, 1:] -= flow[0, :, :-1]
    total[:, :, :-1] += flow[1, :, :, :-1]
    total[:, :, 1:] -= flow[1, :, :, :-1]
    return total


# -- the descent ----------------------------------------------------------------------------


def _loss(images: Double, tip: Double, margin: tuple[int, int]) -> tuple[float, Double]:
    """Return the mean of (open(I, T) - I)^2 and its derivatives by the heights of the tip."""
    from .gradient_loops import opening_loss

    gradient = np.zeros_like(tip)
    return opening_loss(images, tip, *margin, gradient), gradient


def _reopened(smooth: Double, tip: Double) -> Double:
    from .gradient_loops import open_frames

    out = np.empty_like(smooth)
    open_frames(smooth, tip, out)
    return out


def _eroded(images: Double, tip: Double) -> Double:
    from .gradient_loops import erode_and_tell

    out, winner = np.empty_like(images), np.empty(images.shape[1:])
    for image, surface in zip(images, out, strict=True):
        erode_and_tell(image, tip, surface, winner)
    return out


@dataclass
class _Descent:
    """AdamW on the heights of a tip: `run` goes some steps on."""

    data: _Data
    tip: Double
    decay: float
    steps: int
    symmetric: bool
    random: np.random.Generator
    done: int = 0
    loss: float = np.inf

    def __post_init__(self) -> None:
        self.tip = self.tip.copy()
        self.mean, self.square = np.zeros_like(self.tip), np.zeros_like(self.tip)
        self.made = self.data.images

    def run(self, count: int) -> _Descent:
        """Go so many steps on, but not beyond the last."""
        for _ in range(min(count, self.steps - self.done)):
            self._step()
        return self

    def _step(self) -> None:
        self.loss, gradient = _loss(self.data.images, self.tip, self.data.margin)
        if self.data.noise:
            gradient -= self._of_noise()
        if self.symmetric:
            gradient = (gradient + gradient[::-1, ::-1]) / 2
        slowing = 0.5 * (1 + np.cos(np.pi * self.done / self.steps))
        self.done += 1
        self.mean = MEMORY * self.mean + (1 - MEMORY) * gradient
        self.square = SQUARE_MEMORY * self.square + (1 - SQUARE_MEMORY) * gradient**2
        mean = self.mean / (1 - MEMORY**self.done)
        size = np.sqrt(self.square / (1 - SQUARE_MEMORY**self.done)) + 1e-12
        self.tip *= 1 - slowing * DECAY_RATE * self.decay
        self.tip -= RATE * slowing * mean / size
        self.tip -= self.tip.max()
        self._recentre(2 * RATE)

    def _of_noise(self) -> Double:
        """Return the gradient that noise alone would make, were this tip the true one."""
        if (self.done % REFRESH) == 0:
            self.made = _reopened(self.data.smooth, self.tip)
        noise = self.data.noise * self.random.standard_normal(self.made.shape)
        return _loss(self.made + noise, self.tip, self.data.margin)[1]

    def _recentre(self, slack: float) -> None:
        """Move the apex to the middle, unless the middle is nearly as high.

        Two apexes of one height would else take turns.
        """
        middle = tuple(n // 2 for n in self.tip.shape)
        if self.symmetric or self.tip[middle] >= -slack:
            return
        at = np.unravel_index(int(self.tip.argmax()), self.tip.shape)
        by = [int(m - a) for m, a in zip(middle, at, strict=True)]
        self.tip = _moved(self.tip, by, float(self.tip.min()))
        self.mean, self.square = _moved(self.mean, by, 0.0), _moved(self.square, by, 0.0)

    def ended(self) -> Double:
        """Return the tip with its apex, 0, exactly in the middle."""
        if self.symmetric:
            self.tip = np.minimum(self.tip - self.tip[tuple(n // 2 for n in self.tip.shape)], 0.0)
        self._recentre(0.0)
        return self.tip


def _on_its_top(tip: Double, noise: float) -> Double:
    """Return a tip with the middle of its top in the middle of the array, at 0.

    Images do not tell where a tip has its apex: moved to one side, with the surface moved to the
    other, it explains them as well. Where the top is as flat as noise is high, the highest pixel
    is any of it, so the middle of all that is about as high is taken.
    """
    middle = [n // 2 for n in tip.shape]
    at = np.unravel_index(int(tip.argmax()), tip.shape)
    near = tuple(slice(max(int(a) - TOP, 0), int(a) + TOP + 1) for a in at)
    weights = np.exp((tip[near] - tip.max()) / max(noise, SHARPEST))
    places = np.meshgrid(
        *(np.arange(s.start, s.start + n) for s, n in zip(near, weights.shape, strict=True)),
        indexing="ij",
    )
    by = [
        m - round(float((weights * place).sum() / weights.sum()))
        for m, place in zip(middle, places, strict=True)
    ]
    moved = _moved(tip, by, float(tip.min()))
    result: Double = np.minimum(moved - moved[tuple(middle)], 0.0)
    return result


def _moved(values: Double, by: list[int], fill: float) -> Double:
    """Return values moved along both axes; what comes in is `fill`."""
    out = np.full_like(values, fill)
    into, come_from = [], []
    for n, step in zip(values.shape, by, strict=True):
        into.append(slice(max(step, 0), n + min(step, 0)))
        come_from.append(slice(max(-step, 0), n + min(-step, 0)))
    out[tuple(into)] = values[tuple(come_from)]
    return out


# -- the choice -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Score:
    """What a tip leaves of images, what noise would leave, and what it takes off them: squares."""

    left: Double
    expected: Double
    taken: Double

    @property
    def excess(self) -> float:
        """Mean of what is left beyond what noise leaves."""
        return float((self.left - self.expected).mean())

    @property
    def slack(self) -> float:
        """The most that this may be of the true tip: a standard error, and the method's own."""
        count = len(self.left)
        error = float((self.left - self.expected).std(ddof=1) / np.sqrt(count)) if count > 1 else 0
        return error + SAME_RESIDUAL * float(self.expected.mean()) + SAME_HEIGHT**2

    @property
    def value(self) -> float:
        """How much of the images the tip explains, less what speaks against it."""
        against = max(self.excess - self.slack, 0.0)
        return float(np.sqrt(self.taken.mean()) - AGAINST * np.sqrt(against))


def _score(data: _Data, tip: Double, random: np.random.Generator) -> _Score:
    made = _reopened(data.smooth, tip)
    noise = data.noise * random.standard_normal(made.shape)
    left, expected = (
        np.array([_loss(image[None], tip, data.margin)[0] for image in images])
        for images in (data.images, made + noise)
    )
    taken = (data.smooth - _eroded(data.smooth, tip)) ** 2
    return _Score(left, expected, taken.mean((1, 2)))


def _ranked(scores: list[_Score]) -> list[int]:
    """Return the order of choice, the best first."""
    return sorted(range(len(scores)), key=lambda k: -scores[k].value)


def _pooled(scores: list[_Score]) -> _Score:
    """Return the score on all frames, each of which was left out once."""
    return _Score(
        np.concatenate([score.left for score in scores]),
        np.concatenate([score.expected for score in scores]),
        np.concatenate([score.taken for score in scores]),
    )


def _folds(groups: npt.NDArray[np.int64], random: np.random.Generator) -> list[Any]:
    """Return which images are left out, part by part; no group is in two parts."""
    names = random.permutation(np.unique(groups))
    count = min(FOLDS, len(names))
    return [np.isin(groups, names[k::count]) for k in range(count)]


@dataclass(eq=False)
class _Finder:
    """All starts, then the best of them with all decays, then the chosen one on all frames."""

    data: _Data
    settings: GradientTip
    spacing: tuple[float, float]
    square_nm: float

    def found(self, pool: ThreadPoolExecutor) -> Generator[Step, None, Double]:
        """Return the tip, as parts of the height range."""
        random = np.random.default_rng(self.settings.seed)
        folds = _folds(self.data.groups, random)
        starts = _starts(self.data, self.settings, self.spacing, random, pool)
        yield Step(0, 1, f"{len(starts)} tips to start from")
        first = min(self.settings.steps, FIRST_STEPS)
        decays = self.settings.weight_decays
        trained = self.data.part(~folds[0])
        runs = [self._descent(trained, tip, min(decays), first) for tip in starts]
        yield from self._together(runs, pool, 0, "trying starts")
        tips = [run.ended() for run in runs]
        scores = [_score(self.data.part(folds[0]), tip, self._random()) for tip in tips]
        best = [tips[k] for k in _ranked(scores)[:FINALISTS]]
        pairs = [(tip, decay) for tip in best for decay in decays]
        scores = yield from self._validated(pairs, folds, pool)
        tip, decay = pairs[_ranked(scores)[0]]
        last = [self._descent(self.data, tip, decay, self.settings.steps)]
        yield from self._together(last, pool, 2, f"weight decay {decay:g} chosen")
        return last[0].ended()

    def _validated(
        self, pairs: list[tuple[Double, float]], folds: list[Any], pool: ThreadPoolExecutor
    ) -> Generator[Step, None, list[_Score]]:
        """Return how well each start with each decay does on frames left out of its descent."""
        runs = [
            self._descent(self.data.part(~fold), tip, decay, self.settings.steps)
            for tip, decay in pairs
            for fold in folds
        ]
        yield from self._together(runs, pool, 1, "choosing the weight decay")
        scores = [
            _score(self.data.part(folds[k % len(folds)]), run.ended(), self._random())
            for k, run in enumerate(runs)
        ]
        return [_pooled(scores[k : k + len(folds)]) for k in range(0, len(scores), len(folds))]

    def _descent(self, data: _Data, tip: Double, decay: float, steps: int) -> _Descent:
        return _Descent(data, tip, decay, steps, self.settings.symmetric, self._random())

    def _random(self) -> np.random.Generator:
        # The same noise for all, so that they differ by nothing else.
        return np.random.default_rng([self.settings.seed, 1])

    def _together(
        self, runs: list[_Descent], pool: ThreadPoolExecutor, stage: int, note: str
    ) -> Generator[Step, None, None]:
        """Go on with all runs at once, some steps between two ticks."""
        total = runs[0].steps
        while runs[0].done < total:
            list(pool.map(lambda run: run.run(TICK), runs))
            loss = min(run.loss for run in runs) * self.square_nm
            yield Step(stage * total + runs[0].done, 3 * total, note, divergence=loss)


# -- the starts -----------------------------------------------------------------------------


def _starts(
    data: _Data,
    settings: GradientTip,
    spacing: tuple[float, float],
    random: np.random.Generator,
    pool: ThreadPoolExecutor,
) -> list[Double]:
    """Return tips to start from: sharp and blunt, of one apex and of two, random and flat."""
    y, x = (step * (np.arange(n) - n // 2) for n, step in zip(settings.shape, spacing, strict=True))
    square = np.asarray(y[:, None] ** 2 + x[None, :] ** 2, np.float64)
    # Falls beside the apex by these parts of the height range: from too sharp to too blunt.
    single = [-fall * square for fall in (0.1, 0.03, 0.3, 0.01, 0.003)]
    cones = [-fall * np.sqrt(square) for fall in (0.3, 0.1)]
    rough = [-0.05 * square * random.uniform(0.3, 3.0, square.shape) for _ in range(2)]
    double = [] if settings.symmetric else _double_tips(data, square, pool)
    kinds = [single[:2], double[:3], cones[:1], single[2:4], double[3:], rough, cones[1:]]
    found = [tip for kind in kinds for tip in kind] + [single[4], np.zeros_like(square)]
    while len(found) < settings.starts:
        fall = 10 ** random.uniform(-2.5, -0.5)
        found.append(-fall * square * random.uniform(0.3, 3.0, square.shape))
    found = found[: settings.starts]
    return [(tip + tip[::-1, ::-1]) / 2 for tip in found] if settings.symmetric else found


def _double_tips(data: _Data, square: Double, pool: ThreadPoolExecutor) -> list[Double]:
    """Return, for some sharpnesses and depths of a second apex, where it explains most."""
    middle = [n // 2 for n in square.shape]
    images = data.smooth[: max(ENOUGH_PIXELS // (2 * data.smooth[0].size), 1)]
    # Two pixels off the apex at least, and with a pixel around it that is still in the array.
    by = [
        [y, x]
        for y in range(1 - middle[0], middle[0])
        for x in range(1 - middle[1], middle[1])
        if y * y + x * x >= 4
    ]
    found = []
    for depth in (0.05, 0.0, 0.15):
        for fall in (0.1, 0.04):
            tips = [
                np.maximum(-fall * square, _moved(-fall * square, step, -1e3) - depth)
                for step in by
            ]
            if tips:
                lost = list(pool.map(lambda tip: _loss(images, tip, data.margin)[0], tips))
                found.append(tips[int(np.argmin(lost))])
    return found


def _cores() -> int:
    return max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 1)
