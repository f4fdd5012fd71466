"""Which of the tips that a gradient descent ends at is taken, and which it starts from.

Tips are compared by what they leave of frames that were not trained on, beyond what noise leaves,
and by how much they take off them; `gradient_tip` says why.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.restoration.restorer import Step

from .gradient_descent import ENOUGH_PIXELS, Data, Descent, eroded_frames, loss_of, moved, reopened
from .gradient_settings import GradientTip

Double = npt.NDArray[np.float64]

#: Frames are left out in so many parts; so many starts are looked at closely.
FOLDS, FINALISTS = 3, 3
#: Steps between two ticks.
TICK = 20
#: Steps that tell which starts are worth more.
FIRST_STEPS = 60
#: A tip is as good as another if it leaves this part of what noise leaves more than that.
SAME_RESIDUAL = 0.25
#: And this part of the height range more: the descent ends no closer.
SAME_HEIGHT = 3e-3
#: How much more what a tip leaves beyond that weighs than what it explains; both are heights.
AGAINST = 3.0


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


def _score(data: Data, tip: Double, random: np.random.Generator) -> _Score:
    made = reopened(data.smooth, tip)
    noise = data.noise * random.standard_normal(made.shape)
    left, expected = (
        np.array([loss_of(image[None], tip, data.margin)[0] for image in images])
        for images in (data.images, made + noise)
    )
    taken = (data.smooth - eroded_frames(data.smooth, tip)) ** 2
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
class Finder:
    """All starts, then the best of them with all decays, then the chosen one on all frames."""

    data: Data
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

    def _descent(self, data: Data, tip: Double, decay: float, steps: int) -> Descent:
        return Descent(data, tip, decay, steps, self.settings.symmetric, self._random())

    def _random(self) -> np.random.Generator:
        # The same noise for all, so that they differ by nothing else.
        return np.random.default_rng([self.settings.seed, 1])

    def _together(
        self, runs: list[Descent], pool: ThreadPoolExecutor, stage: int, note: str
    ) -> Generator[Step, None, None]:
        """Go on with all runs at once, some steps between two ticks."""
        total = runs[0].steps
        while runs[0].done < total:
            list(pool.map(lambda run: run.run(TICK), runs))
            loss = min(run.loss for run in runs) * self.square_nm
            yield Step(stage * total + runs[0].done, 3 * total, note, divergence=loss)


# -- the starts -----------------------------------------------------------------------------


def _starts(
    data: Data,
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


def _double_tips(data: Data, square: Double, pool: ThreadPoolExecutor) -> list[Double]:
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
                np.maximum(-fall * square, moved(-fall * square, step, -1e3) - depth) for step in by
            ]
            if tips:
                lost = list(pool.map(lambda tip: loss_of(images, tip, data.margin)[0], tips))
                found.append(tips[int(np.argmin(lost))])
    return found
