"""A radius and an angle for a tip that was measured or estimated.

A cone with a sphere, or a paraboloid, is fitted to the heights of a `Tip` by least squares. Where
exactly the apex lies between the pixels, and how high, are fitted too, as pixels do not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import Value, require, require_number

from .tips import Paraboloid, SphereCone, Tip

Double = npt.NDArray[np.float64]

#: What can be fitted, by the names that users choose it by.
FITTED = ("cone", "paraboloid")
#: A tip of which more than the first part lies below the second part of its depth ends in a floor;
#: then it is fitted down to the third part.
FLAT, LEVEL, ABOVE = 0.1, 0.97, 0.85
#: An error so many times as large as the value tells nothing of it.
UNKNOWN = 3.0
#: Half angles that a cone is looked for at, and bounds of the fit, in degrees.
ANGLES, STEEPEST, FLATTEST = (5.0, 12.0, 20.0, 30.0, 45.0, 60.0, 75.0), 0.5, 89.5
#: Radii that are looked for first, as parts of the radius at the apex.
RADII = (0.1, 0.3, 0.6, 1.0, 1.5)
#: Heights that the side of a cone needs at the least to tell its angle.
LEAST_ON_SIDE = 6


@dataclass(frozen=True)
class TipFit(Value):
    """A shape fitted to a tip.

    Parameters
    ----------
    shape : {"cone", "paraboloid"}
    radius_nm, radius_error_nm : float
        Radius at the apex and its standard error.
    half_angle_deg, half_angle_error_deg : float or None
        Between the axis and the side of the cone, and its standard error; None for a paraboloid.
    rms_nm : float
        Root mean square distance in height between shape and tip.
    depth_nm : float
        How far down from the apex the heights were fitted.
    apex_nm : tuple of float, (y, x)
        Where the apex of the shape lies, from the middle pixel of the tip.
    offset_nm : float
        How high it lies.

    Raises
    ------
    InputError
        If the shape is not known or a value is out of its range.
    """

    shape: str
    radius_nm: float
    radius_error_nm: float
    half_angle_deg: float | None
    half_angle_error_deg: float | None
    rms_nm: float
    depth_nm: float
    apex_nm: tuple[float, float] = (0.0, 0.0)
    offset_nm: float = 0.0

    def __post_init__(self) -> None:
        _require_fitted(self.shape)
        require_number("The radius of the tip in nm", self.radius_nm, least=0)
        require_number("The error of the radius in nm", self.radius_error_nm, least=0)
        require(
            (self.half_angle_deg is None) == (self.shape == "paraboloid"),
            "A cone has a half angle, and a paraboloid has none",
        )
        require_number("The distance of tip and shape in nm", self.rms_nm, least=0)
        require_number("The depth of the fit in nm", self.depth_nm, above=0)

    @property
    def tip_shape(self) -> Paraboloid | SphereCone:
        """The shape itself, its apex on a pixel."""
        if self.half_angle_deg is None:
            return Paraboloid(self.radius_nm)
        return SphereCone(self.radius_nm, self.half_angle_deg)

    def heights_nm(self, y_nm: npt.ArrayLike, x_nm: npt.ArrayLike) -> Double:
        """Return the heights of the shape where it was fitted, beside the tip's middle pixel."""
        y, x = np.asarray(y_nm, np.float64), np.asarray(x_nm, np.float64)
        return self.offset_nm - self.tip_shape.depth_nm(y - self.apex_nm[0], x - self.apex_nm[1])

    def in_words(self) -> str:
        """Return radius and angle with their errors, as text.

        Examples
        --------
        >>> TipFit("cone", 9.83, 0.31, 21.2, 1.1, 0.05, 12.0).in_words()
        'radius 9.8 +- 0.3 nm, half angle 21 +- 1 degrees'
        """
        words = f"radius {_with_error(self.radius_nm, self.radius_error_nm)} nm"
        if self.half_angle_deg is None or self.half_angle_error_deg is None:
            return words
        angle = _with_error(self.half_angle_deg, self.half_angle_error_deg)
        return f"{words}, half angle {angle} degrees"


def fit_tip(tip: Tip, shape: str = "cone", depth_nm: float | None = None) -> TipFit:
    """Return the cone with a sphere, or the paraboloid, that is nearest to a tip.

    Parameters
    ----------
    tip : Tip
    shape : {"cone", "paraboloid"}
    depth_nm : float, optional
        Fit only what lies no farther down from the apex; all of the tip if not given.

    Returns
    -------
    TipFit

    Raises
    ------
    InputError
        If the shape is not known, or the tip has too few heights to tell radius or angle.

    Notes
    -----
    Minimises the sum of the squared differences in height. The standard errors are the roots of
    the diagonal of s^2 (J^T J)^-1, with J the Jacobian and s^2 the sum of squares over the
    heights less the parameters (Seber and Wild 1989, doi 10.1002/0471725315). They hold for
    errors that do not depend on each other; a tip that was estimated from an image has others
    as well.

    Examples
    --------
    >>> from napari_deconv.afm.tips import tip_of
    >>> tip = tip_of(SphereCone(5.0, 25.0), (1.0, 0.5), depth_nm=15.0, most=(40, 80))
    >>> round(fit_tip(tip).radius_nm, 3), round(fit_tip(tip).half_angle_deg, 3)
    (5.0, 25.0)
    """
    _require_fitted(shape)
    y, x, heights, depth = _within(tip, depth_nm, 4 + (shape == "cone"))
    fit = _Problem(shape, y, x, heights, tip.pixel_nm)
    values, errors, rms = fit.solved()
    cone = shape == "cone"
    return TipFit(
        shape=shape,
        radius_nm=float(values[0]),
        radius_error_nm=float(errors[0]),
        half_angle_deg=float(values[4]) if cone else None,
        half_angle_error_deg=float(errors[4]) if cone else None,
        rms_nm=rms,
        depth_nm=depth,
        apex_nm=(float(values[2]), float(values[3])),
        offset_nm=float(values[1]),
    )


def profile(tip: Tip, axis: str) -> tuple[Double, Double]:
    """Return positions along an axis and heights of a tip through its apex, both in nm.

    Parameters
    ----------
    tip : Tip
    axis : {"y", "x"}

    Returns
    -------
    positions_nm, heights_nm : ndarray of float64
        Only where there is a tip; the apex is at position 0.

    Raises
    ------
    InputError
        If there is no such axis.
    """
    require(axis in ("y", "x"), f"A tip has the axes y and x, not {axis!r}")
    rows, columns = tip.shape
    along = tip.heights_nm[:, columns // 2] if axis == "y" else tip.heights_nm[rows // 2]
    step = tip.pixel_nm["yx".index(axis)]
    positions = np.asarray((np.arange(len(along)) - len(along) // 2) * step, np.float64)
    there = np.isfinite(along)
    return positions[there], along[there]


class _Problem:
    """Parameters are radius, offset, apex (y, x) and, for a cone, the half angle."""

    def __init__(
        self, shape: str, y: Double, x: Double, heights: Double, pixel_nm: tuple[float, float]
    ) -> None:
        self.cone, self.pixel_nm = shape == "cone", pixel_nm
        self.y, self.x, self.heights = y, x, heights
        # Noise can make a pixel beside the apex the highest, so that it may lie a few away.
        reach = [
            max(step, float(np.ptp(at)) / 8) for step, at in zip(pixel_nm, (y, x), strict=True)
        ]
        size = float(np.hypot(np.ptp(y), np.ptp(x)))
        low = [0.0 if self.cone else 1e-6 * size, -np.inf, -reach[0], -reach[1], STEEPEST]
        high = [np.inf, np.inf, *reach, FLATTEST]
        count = 4 + self.cone
        self.bounds = (np.array(low[:count]), np.array(high[:count]))
        self.scale = np.array([size, max(float(np.ptp(heights)), 1e-9), *reach, 30.0])[:count]

    def missed(self, values: Double) -> Double:
        """Return by how much a shape misses the heights, in nm."""
        y, x = self.y - values[2], self.x - values[3]
        radius = float(values[0])
        depth: Callable[[Double, Double], Double]
        depth = (SphereCone(radius, float(values[4])) if self.cone else Paraboloid(radius)).depth_nm
        missed: Double = values[1] - depth(y, x) - self.heights
        return missed

    def start(self) -> Double:
        """Return the best of some radii and angles."""
        square = self.y**2 + self.x**2
        near = square <= np.quantile(square, 0.25)
        weight = float((square[near] * -self.heights[near]).sum())
        apex = float((square[near] ** 2).sum()) / max(2 * weight, 1e-12)
        if not self.cone:
            return np.array([max(apex, 1e-3), 0.0, 0.0, 0.0])
        tried = [np.array([apex * r, 0.0, 0.0, 0.0, a]) for r in RADII for a in ANGLES]
        return min(tried, key=lambda values: float(np.square(self.missed(values)).sum()))

    def solved(self) -> tuple[Double, Double, float]:
        """Return the values of the parameters, their standard errors, and the misfit in nm."""
        from scipy.optimize import least_squares

        found: Any = least_squares(
            self.missed,
            np.clip(self.start(), *self.bounds),
            bounds=self.bounds,
            x_scale=self.scale,
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        self._require_sides(found.x)
        free = max(len(self.heights) - len(found.x), 1)
        # Scaled, so that nanometres and degrees are of one size to the inverse.
        jacobian = found.jac * self.scale
        covariance = np.linalg.pinv(jacobian.T @ jacobian) * 2 * found.cost / free
        values: Double = np.asarray(found.x, np.float64)
        errors = np.asarray(np.sqrt(np.diag(covariance)) * self.scale, np.float64)
        return values, errors, float(np.sqrt(2 * found.cost / len(self.heights)))

    def _require_sides(self, values: Double) -> None:
        if not self.cone:
            return
        across = np.hypot(self.y - values[2], self.x - values[3])
        # Where the side begins, it still lies on the sphere, whatever its angle.
        beside = across > values[0] * np.cos(np.deg2rad(values[4])) + min(self.pixel_nm)
        require(
            int(beside.sum()) >= LEAST_ON_SIDE,
            f"Down to {-float(self.heights.min()):.3g} nm the tip is still a sphere and shows no "
            "side, so its half angle cannot be told; fit to a greater depth, or fit a paraboloid",
        )


def _within(
    tip: Tip, depth_nm: float | None, parameters: int
) -> tuple[Double, Double, Double, float]:
    """Return places and heights of a tip down to a depth, and that depth."""
    heights = tip.heights_nm
    there = np.isfinite(heights)
    deepest = -float(heights[there].min())
    if depth_nm is None and float((heights[there] < -LEVEL * deepest).mean()) > FLAT:
        # An estimate is no deeper than the image is high: its rim is flat, and no side.
        depth_nm = ABOVE * deepest
    if depth_nm is not None:
        require_number("The depth of the fit in nm", depth_nm, above=0)
        deepest = min(deepest, depth_nm)
        there &= heights >= -depth_nm
    require(
        deepest > 0 and int(there.sum()) > 2 * parameters,
        f"The tip has {int(there.sum())} heights down to {deepest:.3g} nm, too few to fit a "
        "shape to; fit to a greater depth",
    )
    rows, columns = np.nonzero(there)
    y = np.asarray((rows - heights.shape[0] // 2) * tip.pixel_nm[0], np.float64)
    x = np.asarray((columns - heights.shape[1] // 2) * tip.pixel_nm[1], np.float64)
    require(
        bool(np.ptp(y) > 0 and np.ptp(x) > 0),
        "The tip is a line of pixels; a shape is fitted to one that has rows and columns",
    )
    return y, x, heights[there], deepest


def _require_fitted(shape: str) -> None:
    require(
        shape in FITTED, f"The shape {shape!r} cannot be fitted to a tip; use {' or '.join(FITTED)}"
    )


def _with_error(value: float, error: float) -> str:
    """Return a value and its error with as many digits as the error has."""
    if error > UNKNOWN * max(value, 1.0):
        return f"{value:.2g} (not told by these heights)"
    if error <= 0 or value <= 0:
        return f"{value:.3g} +- {error:.1g}"
    digits = int(np.clip(-np.floor(np.log10(error)), 0, 2))
    return f"{value:.{digits}f} +- {error:.{digits}f}"
