"""Float64 references, written straight from the formulas with numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len

Array = npt.NDArray[np.float64]


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
    shape = (
        image.shape
        if circular
        else tuple(
            next_fast_len(n + p // 2, real=True) if p > 1 else n
            for n, p in zip(image.shape, psf.shape, strict=True)
        )
    )
    otf = np.fft.fftn(centred(psf, shape))
    inside = tuple(slice(n) for n in image.shape)
    y, mask = np.zeros(shape), np.zeros(shape)
    y[inside], mask[inside] = image, 1

    def blur(x: Array) -> Array:
        return np.fft.ifftn(np.fft.fftn(x) * otf).real

    def adjoint(x: Array) -> Array:
        return np.fft.ifftn(np.fft.fftn(x) * otf.conj()).real

    seen = np.maximum(adjoint(mask), 1e-6)
    x = np.full(shape, image.mean() - background)
    for _ in range(iterations):
        x = x * adjoint(mask * y / np.maximum(blur(x) + background, 1e-12)) / seen
        x = np.maximum(x, 0)
    return x[inside]


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
