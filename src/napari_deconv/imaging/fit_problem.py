"""The least squares of fitting a model to a measured PSF: residual, Jacobian, starts.

`Problem` is the arithmetic under `fitting.fit_optics`, which says what is minimised and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .fit_parameters import FREE, value_of, with_values
from .grid import Grid
from .optics import Optics
from .psf import Psf
from .psf_models import compute_psf
from .resolution import nyquist_um

Real = npt.NDArray[np.float64]

#: How far from its brightest voxel a PSF is compared, in Nyquist's voxels, lambda/(4 NA) and
#: lambda/(2 n (1 - cos)): what is farther out is dim and tells little.
AXIAL_REACH, LATERAL_REACH = 16.0, 24.0

#: The noise where there is no light: that of this part of the peak's light.
FLOOR = 0.01

#: Step of finite differences, part of a parameter's scale: it changes the model by about 1e-3
#: of its peak, of which the model's rounding, 1e-5, is little.
STEP = 0.1

#: Points of the parameter space that are looked at; from how many of them a fit starts; and
#: how far apart those are in at least one parameter, part of its range.
LOOKED_AT, STARTS, APART = 24, 4, 0.1

#: Pixels to each side that the interpolation of a moved model takes into account.
KERNEL_REACH = 8


@dataclass(frozen=True, eq=False)
class Problem:
    """A measured PSF within a window, and what is unknown of it.

    The unknowns x, (U,), are the free parameters, then the position of the point from the
    middle voxel, (z, y, x) or (y, x) as far as the PSF tells it: each counted from its
    `origin` in its `scale`.
    """

    start: Optics
    names: tuple[str, ...]
    grid: Grid
    window: tuple[slice, ...]
    data: Real  # (Z, Y, X) or (Y, X), in the window, about 1 at its peak
    unit: float  # what 1 in `data` is in the PSF
    finest: Real  # Nyquist's voxel in voxels, (z, y, x) or (y, x)
    origin: Real
    scale: Real
    low: Real
    high: Real

    @classmethod
    def of(cls, psf: Psf, start: Optics, names: tuple[str, ...]) -> Problem:
        """Return the problem of fitting `names` around the brightest voxel of `psf`."""
        grid = Grid(spacing_um=psf.spacing_um or ())
        samples = psf.samples.astype(np.float64)
        smooth = _smooth(samples)
        peak = np.array(np.unravel_index(int(smooth.argmax()), smooth.shape))
        axial_um, lateral_um = nyquist_um(start)
        finest = np.array((axial_um, lateral_um, lateral_um)[-grid.ndim :]) / grid.spacing_um
        reach = np.array((AXIAL_REACH, LATERAL_REACH, LATERAL_REACH)[-grid.ndim :]) * finest
        first, last = np.maximum(peak - np.ceil(reach), 0), peak + np.ceil(reach)
        window = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
        unit = float(smooth.max())
        data = samples[window] / unit
        told = np.array(data.shape) > 1  # one plane does not tell its focus
        place = (peak - first - np.array(data.shape) // 2)[told]
        room = (4 * finest + 1)[told]
        bounds = [FREE[name].bounds(start) for name in names]
        origin = np.array([*(value_of(start, name) for name in names), *place])
        scale = np.array([*(FREE[name].scale for name in names), *finest[told]])
        low = np.array([*(bound[0] for bound in bounds), *(place - room)])
        high = np.array([*(bound[1] for bound in bounds), *(place + room)])
        low, high = (low - origin) / scale, (high - origin) / scale
        return cls(start, names, grid, window, data, unit, finest, origin, scale, low, high)

    def values(self, x: Real) -> Real:
        """Return the parameters, (P,), of the unknowns."""
        return (self.origin + self.scale * x)[: len(self.names)]

    def optics(self, x: Real) -> Optics:
        """Return the optics of the unknowns."""
        return with_values(self.start, dict(zip(self.names, self.values(x).tolist(), strict=True)))

    def position(self, x: Real) -> Real:
        """Return where the unknowns have the point, voxels from the middle, (z, y, x) or (y, x)."""
        told = (self.origin + self.scale * x)[len(self.names) :]
        return np.concatenate((np.zeros(self.grid.ndim - len(told)), told))

    def middle(self, shape: tuple[int, ...]) -> Real:
        """Return where the middle of `data` is, voxels from the middle of a PSF of `shape`."""
        pairs = zip(self.window, self.data.shape, shape, strict=True)
        return np.array([cut.start + n // 2 - whole // 2 for cut, n, whole in pairs], np.float64)

    def model(self, x: Real) -> Real:
        """Return the model of the unknowns on the voxels of `data`, its sum about 1."""
        return modelled(self.optics(x), self.grid, self.data.shape, self.position(x))

    def levels(self, model: Real, weights: Real) -> tuple[float, float]:
        """Return the amplitude and the background that bring `model` closest to the data."""
        square = weights**2
        weighed = square * model
        total, light, data = square.sum(), weighed.sum(), (square * self.data).sum()
        power, match = (weighed * model).sum(), (weighed * self.data).sum()
        amplitude = (total * match - light * data) / (total * power - light**2)
        return float(amplitude), float((data - amplitude * light) / total)

    def fitted(self, x: Real, weights: Real) -> Real:
        """Return what `data` should be, by the unknowns and the best levels."""
        model = self.model(x)
        amplitude, background = self.levels(model, weights)
        return amplitude * model + background

    def residual(self, x: Real, weights: Real) -> Real:
        """Return the weighted misfit, (N,)."""
        return (weights * (self.fitted(x, weights) - self.data)).ravel()

    def jacobian(self, x: Real, weights: Real) -> Real:
        """Return the derivatives of `residual`, (N, U)."""
        return self._derivatives(lambda there: self.residual(there, weights), x)

    def gradient(self, x: Real) -> Real:
        """Return the derivatives of `model`, (N, U)."""
        return self._derivatives(self.model, x)

    def _derivatives(self, function: Callable[[Real], Real], x: Real) -> Real:
        """Return derivatives, (N, U), by central differences, one-sided at a bound.

        Forward differences would do for data that differ from the model by noise alone; what
        a model lacks, they turn into a fit that is off by up to half a step.
        """
        columns = np.empty((self.data.size, x.size))
        for index in reversed(range(x.size)):  # the offsets first: they need no other PSF
            left, right = x.copy(), x.copy()
            left[index] = max(x[index] - STEP, self.low[index])
            right[index] = min(x[index] + STEP, self.high[index])
            rise = (function(right) - function(left)).ravel()
            columns[:, index] = rise / (right[index] - left[index])
        return columns

    def minimised(self, x: Real, weights: Real, tolerance: float) -> Any:
        """Return scipy's result of least squares from `x`, to a `tolerance` of its cost."""
        from scipy.optimize import least_squares

        return least_squares(
            self.residual,
            np.clip(x, self.low, self.high),
            self.jacobian,
            (self.low, self.high),
            ftol=tolerance,
            xtol=1e-3,  # of a parameter's scale, about
            gtol=None,
            max_nfev=30,
            args=(weights,),
        )

    def first_weights(self) -> Real:
        """Return the weights before any fit: those of the smoothed data."""
        return weights_of(_smooth(self.data))

    def starts(self, weights: Real) -> list[Real]:
        """Return the user's start, and the best of points that fill the space evenly."""
        count = len(self.names)
        # Powers of 1/root, root^(count + 1) = root + 1: the golden ratio, for more dimensions.
        root = 2.0
        for _ in range(50):
            root = (1 + root) ** (1 / (count + 1))
        parts = (0.5 + np.outer(np.arange(LOOKED_AT), root ** -np.arange(1.0, count + 1))) % 1
        span = (self.high - self.low)[:count]
        points = np.zeros((LOOKED_AT, self.origin.size))
        points[:, :count] = self.low[:count] + parts * span
        costs = [float(np.square(self.residual(x, weights)).sum()) for x in points]
        chosen = [np.clip(np.zeros_like(self.origin), self.low, self.high)]
        for x in points[np.argsort(costs, kind="stable")]:
            apart = [np.abs((x - other)[:count] / span).max() > APART for other in chosen]
            if all(apart) and len(chosen) < STARTS:
                chosen.append(x)
        return chosen


def _smooth(samples: Real) -> Real:
    from scipy.ndimage import gaussian_filter

    smooth: Real = gaussian_filter(samples, 1.0)
    return smooth


def weights_of(intensity: Real) -> Real:
    """Return one over the standard deviation of the noise of `intensity`, 1 at its peak."""
    weights: Real = 1 / np.sqrt(np.maximum(intensity, 0) + FLOOR)
    return weights


def modelled(optics: Optics, grid: Grid, shape: tuple[int, ...], position: Real) -> Real:
    """Return the model of a point at `position`, in voxels from the middle one, on a `shape`.

    Another focus is computed; in y and x the model is interpolated, with a sinc in a window,
    which moves what is sampled at Nyquist's rate. Its sum is 1 in a box with a margin.
    """
    down, right = position[-2:].tolist()
    margin = KERNEL_REACH + math.ceil(max(abs(down), abs(right)))
    around = (*shape[:-2], shape[-2] + 2 * margin, shape[-1] + 2 * margin)
    focus_um = -float(position[0]) * grid.spacing_um[0] if grid.ndim == 3 else 0.0
    samples = _samples(optics, grid, around, focus_um)
    moved: Real = _shift(shape[-2], margin, down) @ samples @ _shift(shape[-1], margin, right).T
    return moved


@lru_cache(maxsize=1)  # a Jacobian begins where the residual has just been
def _samples(optics: Optics, grid: Grid, shape: tuple[int, ...], focus_um: float) -> Real:
    return compute_psf(optics, grid, shape, focus_um=focus_um).samples.astype(np.float64)


def _shift(size: int, margin: int, shift: float) -> Real:
    """Return the matrix, (size, size + 2 margin), that moves a line by `shift` and cuts it."""
    distance = np.arange(size)[:, None] + margin - shift - np.arange(size + 2 * margin)
    inside = np.sqrt(np.maximum(1 - (distance / KERNEL_REACH) ** 2, 0))
    kernel = np.sinc(distance) * np.where(inside > 0, np.i0(8.0 * inside), 0)
    matrix: Real = kernel / kernel.sum(axis=1, keepdims=True)
    return matrix
