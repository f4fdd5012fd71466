"""Gradient descent on the heights of a tip, and the images that it works on.

`gradient_tip` says what is minimised and why; here are the parts of the images that are used,
those smoothed, and AdamW, with the gradient that noise alone would make subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
#: Pixels that are enough: of larger images, the parts with the highest relief are taken.
ENOUGH_PIXELS = 40_000
#: Steps between two reconstructions for the made-up noise.
REFRESH = 5


@dataclass(frozen=True, eq=False)
class Data:
    """Images as parts of their height range, and those smoothed; the group that each is of."""

    images: Double
    smooth: Double
    groups: npt.NDArray[np.int64]
    noise: float
    margin: tuple[int, int]

    def part(self, chosen: npt.NDArray[np.bool_]) -> Data:
        """Return some of the images."""
        return Data(
            self.images[chosen], self.smooth[chosen], self.groups[chosen], self.noise, self.margin
        )


def data_of(frames: Double, shape: tuple[int, int], span: float, noise_nm: float) -> Data:
    """Return what a tip is estimated from: parts of the frames, their heights parts of the span."""
    blocks, groups = _blocks(frames, shape)
    # Rounded, so that other units give the same numbers bit by bit.
    images = np.round((blocks - blocks.min((1, 2), keepdims=True)) / span, 9)
    noise = float(f"{noise_nm / span:.9g}")
    sides = blocks.shape[1:]
    margin = [min(n // 2, m // 10) for n, m in zip(shape, sides, strict=True)]
    return Data(images, smoothed(images, noise), groups, noise, (margin[0], margin[1]))


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


def loss_of(images: Double, tip: Double, margin: tuple[int, int]) -> tuple[float, Double]:
    """Return the mean of (open(I, T) - I)^2 and its derivatives by the heights of the tip."""
    from .gradient_loops import opening_loss

    gradient = np.zeros_like(tip)
    return opening_loss(images, tip, *margin, gradient), gradient


def reopened(smooth: Double, tip: Double) -> Double:
    """Return the images that a tip makes of its own reconstruction, frame by frame."""
    from .gradient_loops import open_frames

    out = np.empty_like(smooth)
    open_frames(smooth, tip, out)
    return out


def eroded_frames(images: Double, tip: Double) -> Double:
    """Return the surfaces that a tip reconstructs, frame by frame."""
    from .gradient_loops import erode_and_tell

    out, winner = np.empty_like(images), np.empty(images.shape[1:])
    for image, surface in zip(images, out, strict=True):
        erode_and_tell(image, tip, surface, winner)
    return out


@dataclass
class Descent:
    """AdamW on the heights of a tip: `run` goes some steps on."""

    data: Data
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

    def run(self, count: int) -> Descent:
        """Go so many steps on, but not beyond the last."""
        for _ in range(min(count, self.steps - self.done)):
            self._step()
        return self

    def _step(self) -> None:
        self.loss, gradient = loss_of(self.data.images, self.tip, self.data.margin)
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
            self.made = reopened(self.data.smooth, self.tip)
        noise = self.data.noise * self.random.standard_normal(self.made.shape)
        return loss_of(self.made + noise, self.tip, self.data.margin)[1]

    def _recentre(self, slack: float) -> None:
        """Move the apex to the middle, unless the middle is nearly as high.

        Two apexes of one height would else take turns.
        """
        middle = tuple(n // 2 for n in self.tip.shape)
        if self.symmetric or self.tip[middle] >= -slack:
            return
        at = np.unravel_index(int(self.tip.argmax()), self.tip.shape)
        by = [int(m - a) for m, a in zip(middle, at, strict=True)]
        self.tip = moved(self.tip, by, float(self.tip.min()))
        self.mean, self.square = moved(self.mean, by, 0.0), moved(self.square, by, 0.0)

    def ended(self) -> Double:
        """Return the tip with its apex, 0, exactly in the middle."""
        if self.symmetric:
            self.tip = np.minimum(self.tip - self.tip[tuple(n // 2 for n in self.tip.shape)], 0.0)
        self._recentre(0.0)
        return self.tip


def on_its_top(tip: Double, noise: float) -> Double:
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
    centred = moved(tip, by, float(tip.min()))
    result: Double = np.minimum(centred - centred[tuple(middle)], 0.0)
    return result


def moved(values: Double, by: list[int], fill: float) -> Double:
    """Return values moved along both axes; what comes in is `fill`."""
    out = np.full_like(values, fill)
    into, come_from = [], []
    for n, step in zip(values.shape, by, strict=True):
        into.append(slice(max(step, 0), n + min(step, 0)))
        come_from.append(slice(max(-step, 0), n + min(-step, 0)))
    out[tuple(into)] = values[tuple(come_from)]
    return out
