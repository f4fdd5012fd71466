"""Many beads to one PSF: registered, averaged, and freed of the bead's own size.

`aligned` finds where each bead is, and which ones disagree; `averaged` cuts, shifts and
averages them; `without_ball` divides out a bead's diameter; `radial_mean` averages around the
axis. All work on arrays whose unknown voxels are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .bead_finding import Bead
from .bead_image import CORE, HARMLESS, BeadImage, shifted
from .psf_image import dark_level

Array = npt.NDArray[np.float64]

#: Rounds of registration; the third moves beads by less than 0.01 voxels.
ROUNDS = 3

#: A bead disagrees where its core differs from the others' by more than this part of itself
#: (a correlation of 0.95), noise apart, and by so many times what is usual among them.
DISAGREES, TIMES_USUAL = 0.3, 2.5

#: So many widths to the side of all beads, in at least this part of the image, is the background
#: seen alone.
FAR, LEAST_FAR = 5.0, 0.1
#: Of the polynomial that follows light that is uneven across the planes, and by how many times it
#: must explain more than noise does.
DEGREE, CLEARLY_UNEVEN = 4, 10.0
#: Pixels that it is fitted to, about.
MANY = 20_000

#: Below this the ball's transform is not divided by: what it has erased stays unknown.
LEAST_TRANSFORM = 0.1


@dataclass(frozen=True, eq=False)
class Aligned:
    """Beads that were laid over each other.

    Parameters
    ----------
    beads : tuple of Bead
        All that were given, with refined positions; those that disagree are left out.
    heights : dict
        Height of each used bead, by its index, in counts.
    """

    beads: tuple[Bead, ...]
    heights: dict[int, float]


def aligned(image: BeadImage, beads: Sequence[Bead]) -> Aligned:
    """Return the beads with refined positions; those unlike the others are left out.

    Notes
    -----
    The core of each bead is fitted with a (m - s grad m) + b, where m is the mean of all: the
    shift s that maximises their correlation (Lucas and Kanade 1981), in three rounds.
    """
    positions = {i: bead.position for i, bead in enumerate(beads) if bead.fate == "used"}
    heights = {i: beads[i].peak for i in positions}
    cores = {i: _core(image, positions[i]) for i in positions}
    for _ in range(ROUNDS):
        mean = _reference(cores, heights, {i: beads[i].snr for i in positions})
        for i in positions:
            heights[i], moved = _registered(cores[i], mean)
            positions[i] = tuple(p + m for p, m in zip(positions[i], moved, strict=True))
            cores[i] = _core(image, positions[i])
    unlike = _unlike(cores, heights)
    result = []
    for i, bead in enumerate(beads):
        kept = replace(bead, position=positions.get(i, bead.position))
        if i in unlike:
            reason = f"It differs from the others by {100 * unlike[i]:.0f} % of its light"
            kept = replace(kept, fate="left out", reason=reason)
        result.append(kept)
    return Aligned(tuple(result), {i: h for i, h in heights.items() if i not in unlike})


def _core(image: BeadImage, position: Sequence[float]) -> Array:
    """Return the core of a bead, centred, 3 widths wide; NaN beyond the image."""
    half = [max(math.ceil(2 * CORE * w), 2) for w in image.widths]
    return cut(image, position, half)


def cut(image: BeadImage, position: Sequence[float], half: Sequence[int]) -> Array:
    """Return the box of `2 half + 1` voxels around a place between voxels, NaN where unknown."""
    window = image.around(position, half)
    nearest = [round(p) for p in position]
    box = np.full([2 * h + 1 for h in half], np.nan)
    inside = tuple(
        slice(w.start - p + h, w.stop - p + h)
        for w, p, h in zip(window, nearest, half, strict=True)
    )
    toward = [n - p for n, p in zip(nearest, position, strict=True)]
    box[inside] = shifted(image.data[window], toward)
    return box


def _reference(cores: dict[int, Array], heights: dict[int, float], snr: dict[int, float]) -> Array:
    """Return the mean of the cores at height 1; of five and more their median."""
    scaled = np.stack([cores[i] / heights[i] for i in cores])
    if len(scaled) >= 5:
        return _known(np.nanmedian, scaled)
    weights = np.array([snr[i] ** 2 for i in cores])
    return _weighted(scaled, weights)


def _known(function: Any, stack: Array) -> Array:
    """Return `function` along the first axis, NaN where no bead is known."""
    some = ~np.isnan(stack).all(axis=0)
    result = np.full(stack.shape[1:], np.nan)
    result[some] = function(stack[:, some], axis=0)
    return result


def _weighted(stack: Array, weights: Array) -> Array:
    known = ~np.isnan(stack)
    total = np.tensordot(weights, known.astype(float), 1)
    summed = np.tensordot(weights, np.where(known, stack, 0), 1)
    return np.where(total > 0, summed / np.where(total > 0, total, 1), np.nan)


def _registered(core: Array, mean: Array) -> tuple[float, tuple[float, ...]]:
    """Return the height of a core in units of `mean`, and how far it must be moved to fit."""
    filled = np.nan_to_num(mean)
    step = 0.25
    slopes = []
    for axis in range(mean.ndim):
        forward, back = ([sign * step * (a == axis) for a in range(mean.ndim)] for sign in (1, -1))
        slopes.append((shifted(filled, forward) - shifted(filled, back)) / (2 * step))
    known = ~np.isnan(core) & ~np.isnan(mean)
    terms = np.stack([filled[known], np.ones(known.sum()), *(s[known] for s in slopes)], axis=1)
    height, _, *moved = np.linalg.lstsq(terms, core[known], rcond=None)[0]
    if height <= 0:
        return max(float(np.nanmax(core)), 1e-12), (0.0,) * mean.ndim
    # A step beyond one voxel leaves what the straight line describes.
    return float(height), tuple(float(np.clip(m / height, -1, 1)) for m in moved)


def _unlike(cores: dict[int, Array], heights: dict[int, float]) -> dict[int, float]:
    """Return the beads that differ from the others, never half of them, and by how much."""
    if len(cores) < 3:
        return {}
    mean = _known(np.nanmedian, np.stack([cores[i] / heights[i] for i in cores]))
    differs = {i: _difference(core / heights[i], mean) for i, core in cores.items()}
    limit = max(DISAGREES, TIMES_USUAL * float(np.median(list(differs.values()))))
    worst = sorted(differs, key=lambda i: -differs[i])[: (len(cores) - 1) // 2]
    return {i: differs[i] for i in worst if differs[i] > limit}


def _difference(core: Array, mean: Array) -> float:
    """Return the root mean square of core - mean over that of the mean, white noise apart.

    Noise that is white shows in the mixed second difference, of which structure has little.
    """
    rest = core - mean
    fine = np.diff(np.diff(rest, axis=-1), axis=-2) / 2
    power = np.nanmean(rest**2) - np.nanmean(fine**2)
    return math.sqrt(max(float(power), 0) / float(np.nanmean(mean**2)))


def averaged(image: BeadImage, found: Aligned) -> Array:
    """Return the mean bead in the box of the image, weighted by what each one tells.

    Each voxel is the mean of the beads nearest to which it lies, their squared signal to noise
    the weights; NaN where no bead is known.
    """
    image = _without_glow(image, found.beads)
    shape = [2 * h + 1 for h in image.half]
    total, weight = np.zeros(shape), np.zeros(shape)
    for i, height in found.heights.items():
        bead = found.beads[i]
        box = cut(image, bead.position, image.half)
        box[_nearer_to_others(image, found.beads, i)] = np.nan
        level, _ = dark_level(box[~np.isnan(box)])
        known = ~np.isnan(box)
        total[known] += bead.snr**2 * (box[known] - level) / height
        weight[known] += bead.snr**2
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def _without_glow(image: BeadImage, beads: Sequence[Bead]) -> BeadImage:
    """Return the image without the light that is not the beads', where they leave that to be seen.

    The medium and the coverslip glow in some planes more than in others, and the light that falls
    on them is uneven across the planes. Both are seen in the voxels far from all beads to the side;
    from a stack without such nothing is taken off.
    """
    rows, columns = image.data.shape[-2:]
    far = np.ones((rows, columns), bool)
    for bead in beads:
        (y, x), (wide_y, wide_x) = bead.position[-2:], image.widths[-2:]
        apart_y = (np.arange(rows) - y) / (FAR * wide_y)
        apart_x = (np.arange(columns) - x) / (FAR * wide_x)
        far &= np.hypot(apart_y[:, None], apart_x) > 1
    if far.mean() < LEAST_FAR:
        return image
    # The mean, not the mode: there are no beads here, and of few counts the mode is a step.
    glow = image.data[..., far].mean(axis=-1, dtype=np.float64).astype(np.float32)
    data = image.data - glow[..., None, None]
    return replace(image, data=data - _unevenness(data, far).astype(np.float32))


def _unevenness(data: npt.NDArray[np.float32], far: npt.NDArray[np.bool_]) -> Array:
    """Return what lies on all planes alike, (Y, X), as a polynomial through what is seen far away.

    Zero where that has no more of it than noise would give.
    """
    mean = data.reshape(-1, *far.shape).mean(axis=0, dtype=np.float64)
    y, x = (np.polynomial.legendre.legvander(np.linspace(-1, 1, n), DEGREE) for n in far.shape)
    rows, columns = np.nonzero(far)
    few = slice(None, None, max(len(rows) // MANY, 1))
    rows, columns = rows[few], columns[few]
    orders = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    terms = np.stack([y[rows, i] * x[columns, j] for i, j in orders], axis=-1)
    seen = mean[rows, columns]
    weights = np.linalg.lstsq(terms, seen, rcond=None)[0]
    fitted, table = terms @ weights, np.zeros((DEGREE + 1, DEGREE + 1))
    for (i, j), weight in zip(orders, weights, strict=True):
        table[i, j] = weight
    uneven = np.asarray(y @ table @ x.T)
    # By Fisher's ratio of variances.
    explained = np.square(fitted).sum() / len(orders)
    rest = np.square(seen - fitted).sum() / max(len(seen) - len(orders), 1)
    # What is seen on one side alone tells nothing of the other: there a polynomial goes anywhere.
    beyond = np.ptp(fitted)
    is_seen = fitted.min() - beyond <= uneven.min() and uneven.max() <= fitted.max() + beyond
    return uneven if explained > CLEARLY_UNEVEN * rest and is_seen else np.zeros(far.shape)


def _nearer_to_others(image: BeadImage, beads: Sequence[Bead], index: int) -> npt.NDArray[np.bool_]:
    """Return the voxels of a bead's box that lie nearer to a neighbour, in widths."""
    bead = beads[index]
    axes = [np.arange(-h, h + 1) / w for h, w in zip(image.half, image.widths, strict=True)]

    def square(centre: Sequence[float]) -> Array:
        parts = np.ix_(*((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
        return np.asarray(sum(parts), np.float64)

    taken = np.zeros([len(a) for a in axes], bool)
    own = square([0.0] * len(axes))
    for other in beads:
        apart = [
            (b - a) / w for a, b, w in zip(bead.position, other.position, image.widths, strict=True)
        ]
        reached = all(
            abs(d) * w <= 2 * h for d, w, h in zip(apart, image.widths, image.half, strict=True)
        )
        if other is not bead and other.peak > HARMLESS * bead.peak and reached:
            taken |= square(apart) < own
    return taken


def ball_transform(shape: Sequence[int], spacing_um: Sequence[float], diameter_um: float) -> Array:
    """Return the Fourier transform of a uniform ball, 1 at frequency 0, as of `rfftn`.

    3 (sin q - q cos q)/q^3 with q = pi D |k|: in two dimensions the ball seen from above.
    """
    frequencies = [np.fft.fftfreq(n, s) for n, s in zip(shape, spacing_um, strict=True)]
    frequencies[-1] = np.fft.rfftfreq(shape[-1], spacing_um[-1])
    k = np.sqrt(sum(f**2 for f in np.ix_(*frequencies)))
    q = np.maximum(math.pi * diameter_um * np.asarray(k, np.float64), 1e-3)
    transform: Array = 3 * (np.sin(q) - q * np.cos(q)) / q**3
    return transform


def without_ball(bead: Array, spacing_um: Sequence[float], diameter_um: float) -> Array:
    """Return the image of a point from the mean image of balls of a known diameter.

    Notes
    -----
    The Wiener filter (|P|^2 - N)/|P|^2 / B, with the power N of the noise from the frequencies
    beyond any round pass-band. Where the ball's transform B is below `LEAST_TRANSFORM` nothing
    can be known, and nothing is added.
    """
    padded = [(n // 4 + 1, n // 4 + 1) for n in bead.shape]
    wide = np.pad(bead, padded)
    spectrum = np.fft.rfftn(wide)
    power = np.abs(spectrum) ** 2
    relative = [np.fft.fftfreq(n) for n in wide.shape]
    relative[-1] = np.fft.rfftfreq(wide.shape[-1])
    beyond = np.asarray(sum((2 * f) ** 2 for f in np.ix_(*relative))) > 1
    noise = float(np.mean(power[beyond])) if beyond.any() else 0.0
    # Averaged over neighbours, which the limited extent of a PSF makes alike.
    power = ndimage.uniform_filter1d(power, 3, axis=-1, mode="mirror")
    for axis in range(bead.ndim - 1):
        power = ndimage.uniform_filter1d(power, 3, axis=axis, mode="wrap")
    ball = ball_transform(wide.shape, spacing_um, diameter_um)
    kept = np.maximum(power - noise, 0) / np.maximum(power, np.finfo(float).tiny)
    inverse = np.where(ball > LEAST_TRANSFORM, 1 / np.maximum(ball, LEAST_TRANSFORM), 0)
    sharp = np.fft.irfftn(spectrum * kept * inverse, wide.shape, axes=range(bead.ndim))
    result: Array = sharp[tuple(slice(a, -b) for a, b in padded)]
    return result


def radial_mean(block: Array, spacing_um: Sequence[float]) -> Array:
    """Return each plane averaged around its centre n//2, by a cubic spline over the radius.

    Knots lie one pixel apart, and the radius is in um, so that pixels need not be square.
    """
    from scipy.interpolate import make_lsq_spline

    steps = spacing_um[-2:]
    places = [(np.arange(n) - n // 2) * s for n, s in zip(block.shape[-2:], steps, strict=True)]
    radius = np.hypot(*np.ix_(*places)).ravel()
    order = np.argsort(radius, kind="stable")
    r, values = radius[order], block.reshape(-1, radius.size).T[order]
    # Mirrored at 0, so that the profile is flat there.
    twice, both = np.concatenate([-r[:0:-1], r]), np.concatenate([values[:0:-1], values])
    count = max(int(min(places[0][-1], places[1][-1]) / max(steps)), 1)
    inner = np.arange(-count + 1, count) * max(steps)
    knots = np.concatenate([[twice[0]] * 4, inner, [twice[-1]] * 4])
    profile = make_lsq_spline(twice, both, knots, k=3)
    mean: Array = profile(radius).T.reshape(block.shape)
    return mean
