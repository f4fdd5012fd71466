"""Float64 references, written straight from the formulas with numpy, and scipy's labels.

How far an image is padded is no formula but a choice, and is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from napari_deconv.restoration.blur import work_shape
from napari_deconv.restoration.reach import core_sigmas

Array = npt.NDArray[np.float64]

#: Smallest share of a voxel's light in the image that a step is divided by.
UNSEEN = 3e-3


def centred(psf: Array, shape: tuple[int, ...]) -> Array:
    """Return `psf` on `shape` with its voxel n//2 at the origin, wrapped if it is longer."""
    kernel = np.zeros(shape)
    for index in np.ndindex(psf.shape):
        place = tuple((i - p // 2) % n for i, p, n in zip(index, psf.shape, shape, strict=True))
        kernel[place] += psf[index]
    return kernel


def richardson_lucy(
    image: Array, psf: Array, iterations: int, *, background: float = 0.0, circular: bool
) -> Array:
    """Return plain Richardson-Lucy from a flat start."""
    psf = psf / psf.sum()
    shape = work_shape(image.shape, psf.shape, "circular" if circular else "non-circulant")
    otf = np.fft.fftn(centred(psf, shape))
    inside = tuple(slice(n) for n in image.shape)
    y, mask = np.zeros(shape), np.zeros(shape)
    y[inside], mask[inside] = image, 1

    def blur(x: Array) -> Array:
        return np.fft.ifftn(np.fft.fftn(x) * otf).real

    def adjoint(x: Array) -> Array:
        return np.fft.ifftn(np.fft.fftn(x) * otf.conj()).real

    seen = np.maximum(adjoint(mask), 0)
    x = np.full(shape, image.mean() - background)
    for _ in range(iterations):
        correction = adjoint(mask * y / np.maximum(blur(x) + background, 1e-12))
        x = np.maximum(x * (1 + (correction - seen) / np.maximum(seen, UNSEEN)), 0)
    return x[inside]


@dataclass(frozen=True)
class Run:
    """What a run of `accelerated` gave: the estimate and each iteration's I-divergence."""

    estimate: Array
    divergences: list[float]
    restarts: int


def accelerated(
    image: Array,
    psf: Array,
    iterations: int,
    *,
    acceleration: str,
    background: float = 0.0,
    read_noise: float = 0.0,
    tv_weight: float = 0.0,
    spacing: tuple[float, ...] | None = None,
    circular: bool = False,
) -> Run:
    """Return Richardson-Lucy with momentum and total variation, from a flat start.

    p = max(x + a (x - x'), x / 10) with x' the x before, then
    x <- p (1 + (c - H^T M) / max(H^T M, 3e-3)) with the correction
    c = H^T(M (y + s^2) / (H p + b + s^2)) / max(1 - w curvature(p), 1/10), whose slopes count as
    flat below e + a p.
    The nu-method moves p instead, p <- max(p + o (x - p) + a (p - p'), p / 10). It is gone on with
    where the back projector B has been used as long as the likelihood rose, five times at the most:
    x <- x max(1 + B M ((y + s^2) / (H x + b + s^2) - 1) / H^T M, 1/10).
    """
    y, b = image + read_noise**2, background + read_noise**2
    blur, adjoint, padded, inside = _operators(image.shape, psf / psf.sum(), circular)
    counts, mask = padded(y), padded(np.ones(image.shape))
    seen = np.maximum(adjoint(mask), 0)
    mean = y.mean() - b
    x = np.full(counts.shape, mean)
    unmatched = acceleration in BACK_PROJECTORS and not tv_weight
    leaps = acceleration == "nu-method" and not tv_weight
    make_back = BACK_PROJECTORS.get(acceleration, _wiener_butterworth)
    back = make_back(psf / psf.sum(), counts.shape)
    before, weigh = x, _Weight(acceleration)
    divergences: list[float] = []
    p = earlier = x
    k = 0
    for _ in range(iterations):
        rose = not tv_weight and len(divergences) > 1 and divergences[-1] > divergences[-2]
        if not (leaps or unmatched):
            p = np.maximum(x + weigh.next(restart=rose) * (x - before), 0.1 * x)
        model = np.maximum(blur(p) + b, 1e-12)
        divergences.append(i_divergence(y, model[inside]))
        if unmatched and len(divergences) <= 5 and divergences[-1] <= min(divergences):
            misfit = np.fft.ifftn(np.fft.fftn(mask * (counts / model - 1)) * back).real
            x = p = earlier = x * np.maximum(1 + misfit / np.maximum(seen, 0.1), 0.1)
            continue
        if unmatched:
            unmatched, leaps = False, True
        correction = adjoint(mask * counts / model)
        if tv_weight:
            share = 4 * p.ndim * tv_weight
            even = np.log(1 + share * p / (0.01 * mean)) / share
            bend = tv_curvature(even, spacing or (1.0,) * p.ndim, 1.0)
            correction /= np.maximum(1 - tv_weight * bend, 0.1)
        before, x = x, np.maximum(p * (1 + (correction - seen) / np.maximum(seen, UNSEEN)), 0)
        weigh.saw(x - p)
        if leaps:
            k = 1 if len(divergences) > 1 and divergences[-1] > divergences[-2] else k + 1
            length, weight = _leap(k, 1.5)
            further = p + min(length, 3.9) * (x - p) + weight * (p - earlier)
            earlier, p = p, np.maximum(further, 0.1 * p)
    return Run(x[inside], divergences, weigh.restarts)


def _wiener_butterworth(psf: Array, shape: tuple[int, ...]) -> Any:
    """Return conj(H) / (|H|^2 + 0.1) 1.1 / sqrt(1 + 99 r^20), r over the resolution (Guo 2020).

    The resolution along an axis is one over the width of the core at half maximum.
    """
    otf = np.fft.fftn(centred(psf, shape))
    squares = np.zeros(shape)
    steps = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    for step, sigma in zip(steps, core_sigmas(psf.astype(np.float32)), strict=True):
        squares += (step * 2 * np.sqrt(2 * np.log(2)) * sigma) ** 2
    return otf.conj() / (np.abs(otf) ** 2 + 0.1) * 1.1 / np.sqrt(1 + 99 * squares**10)


def _masked_wiener(psf: Array, shape: tuple[int, ...]) -> Any:
    """Return conj(H) / (|H|^2 + 0.1) 1.1 w, w Hann's window towards the rim of what is passed.

    The rim is that of the frequencies that make up 0.9 of the sum of |H| on the PSF's own grid and
    hang together, half a frequency beyond them: the planes that touch them, in many directions,
    even where their second moments are one.
    """
    strength = np.abs(np.fft.fftshift(np.fft.fftn(psf)))
    ordered = np.sort(strength.ravel())[::-1]
    enough = int(np.searchsorted(np.cumsum(ordered), 0.9 * ordered.sum()))
    labels, _ = label(strength >= ordered[min(enough, ordered.size - 1)] * (1 - 1e-4))
    sides = psf.shape
    held = np.argwhere(labels == labels[tuple(n // 2 for n in sides)])
    frequencies = (held - np.array(sides) // 2) / np.array(sides)
    half = 0.5 / np.array(sides)
    moments = sum(np.outer(k, k) for k in frequencies) / len(frequencies) + np.diag(half**2)
    rounder = np.linalg.inv(np.linalg.cholesky(moments))
    grid = np.stack(np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"), -1)
    # No sign at half a cycle: nothing is kept there.
    extents = np.minimum(np.abs(frequencies).max(0) + half, 0.5)
    far = np.max(np.abs(grid) / extents, -1)
    for way in _ways(len(sides)):
        line = way @ rounder
        reach = np.abs(frequencies @ line).max() + (np.abs(line) * half).sum()
        far = np.maximum(far, np.abs(grid @ line) / reach)
    otf = np.fft.fftn(centred(psf, shape))
    window = np.cos(np.pi / 2 * np.clip((far - 0.8) / 0.2, 0, 1)) ** 2
    return otf.conj() / (np.abs(otf) ** 2 + 0.1) * 1.1 * window


def _ways(axes: int) -> list[Array]:
    """Return 16 directions in half a plane, or 60 on a spiral over half a sphere."""
    if axes == 2:
        angles = [np.pi * (k + 0.5) / 16 for k in range(16)]
        return [np.array([np.cos(a), np.sin(a)]) for a in angles]
    found, golden = [], np.pi * (3 - np.sqrt(5))
    for k in range(60):
        z, turn = (k + 0.5) / 60, golden * (k + 0.5)
        ring = np.sqrt(1 - z**2)
        found.append(np.array([z, ring * np.cos(turn), ring * np.sin(turn)]))
    return found


BACK_PROJECTORS = {
    "wiener-butterworth": _wiener_butterworth,
    "otf-masked-wiener": _masked_wiener,
}


def _leap(k: int, nu: float) -> tuple[float, float]:
    """Return omega_k and mu_k of the nu-method (Hanke 1991; Engl, Hanke, Neubauer 1996, 6.3)."""
    omega = 4 * (2 * k + 2 * nu - 1) * (k + nu - 1) / ((k + 2 * nu - 1) * (2 * k + 4 * nu - 1))
    mu = (k - 1) * (2 * k - 3) * (2 * k + 2 * nu - 1)
    return omega, mu / ((k + 2 * nu - 1) * (2 * k + 4 * nu - 1) * (2 * k + 2 * nu - 3))


class _Weight:
    """The weight of the momentum: of the heavy ball, of Biggs and Andrews, or none."""

    def __init__(self, acceleration: str) -> None:
        self.acceleration = acceleration
        self.k, self.restarts = 0, 0
        self.steps: list[Array] = []

    def next(self, *, restart: bool) -> float:
        self.k = 1 if restart else self.k + 1
        self.restarts += restart
        if self.acceleration in ("heavy-ball", "nu-method", *BACK_PROJECTORS):
            return (self.k - 1) / (self.k + 2)
        if self.acceleration == "none" or restart or len(self.steps) < 2:
            return 0.0
        last, previous = self.steps[-1], self.steps[-2]
        return min(max(float((last * previous).sum() / (previous**2).sum()), 0.0), 0.999)

    def saw(self, step: Array) -> None:
        self.steps.append(step)


Operator = Callable[[Array], Array]


def _operators(
    image_shape: tuple[int, ...], psf: Array, circular: bool
) -> tuple[Operator, Operator, Operator, tuple[slice, ...]]:
    """Return blur, its adjoint, the padding with zeros, and where the image lies in it."""
    shape = work_shape(image_shape, psf.shape, "circular" if circular else "non-circulant")
    otf = np.fft.fftn(centred(psf, shape))
    inside = tuple(slice(n) for n in image_shape)

    def padded(x: Array) -> Array:
        result = np.zeros(shape)
        result[inside] = x
        return result

    return (
        lambda x: np.fft.ifftn(np.fft.fftn(x) * otf).real,
        lambda x: np.fft.ifftn(np.fft.fftn(x) * otf.conj()).real,
        padded,
        inside,
    )


def i_divergence(y: Array, model: Array) -> float:
    """Return the mean of y log(y / model) - y + model, with 0 log 0 = 0 (Csiszar 1991)."""
    ratio = np.where(y > 0, y, 1) / model
    return float(np.where(y > 0, y * np.log(ratio) - y + model, model).mean())


def tv_curvature(x: Array, spacing: tuple[float, ...], epsilon: float) -> Array:
    """Return div(grad x / sqrt(|grad x|^2 + epsilon^2)), voxel by voxel."""
    slopes = []
    for axis, step in enumerate(spacing):
        ahead = np.concatenate([np.delete(x, 0, axis), np.take(x, [-1], axis)], axis)
        slopes.append((ahead - x) / step)
    norm = np.sqrt(sum(slope**2 for slope in slopes) + epsilon**2)
    result = np.zeros_like(x)
    for axis, (slope, step) in enumerate(zip(slopes, spacing, strict=True)):
        flow = slope / norm
        behind = np.concatenate(
            [np.zeros_like(np.take(x, [0], axis)), np.delete(flow, -1, axis)], axis
        )
        result += (flow - behind) / step
    return result


def wiener(image: Array, psf: Array, weight: float) -> Array:
    """Return the circular Wiener filter that keeps the mean."""
    otf = np.fft.fftn(centred(psf / psf.sum(), image.shape))
    inverse = (1 + weight) * otf.conj() / (np.abs(otf) ** 2 + weight)
    return np.fft.ifftn(np.fft.fftn(image) * inverse).real


def curvature(x: Array, spacing: tuple[float, ...], epsilon: float) -> Array:
    """Return minus the gradient of the smoothed total variation, by its definition."""
    result = np.zeros_like(x)
    step = 1e-4 * x.mean()
    for index in np.ndindex(x.shape):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            values.append(_total_variation(moved, spacing, epsilon))
        result[index] = -(values[0] - values[1]) / (2 * step)
    return result


def _total_variation(x: Array, spacing: tuple[float, ...], epsilon: float) -> float:
    squares = np.full(x.shape, epsilon**2)
    for axis, step in enumerate(spacing):
        last = np.take(x, [-1], axis)
        squares += (np.diff(x, axis=axis, append=last) / step) ** 2
    return float(np.sqrt(squares).sum())
