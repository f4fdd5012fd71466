"""Tips: shapes with a radius and an angle, and arrays that were measured or estimated.

A shape knows its depth, how far the tip is above its apex at a place beside it; `tip_of` puts it
on pixels. All lengths are nanometres, angles degrees; half angles are those from the axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import Value, require, require_number

Double = npt.NDArray[np.float64]

#: Two pixel sizes that differ by less, as a part of themselves, are the same.
SAME_PIXEL = 1e-3
#: Pixels to each side that a shape is looked at first; twice as many until it is all in sight.
FIRST_HALF = 16


@dataclass(frozen=True)
class Paraboloid(Value):
    """A paraboloid: r^2 / (2 R).

    Parameters
    ----------
    radius_nm : float
        Radius of curvature at the apex.
    """

    radius_nm: float = 10.0

    def __post_init__(self) -> None:
        require_number("The radius of the tip in nm", self.radius_nm, above=0)

    def depth_nm(self, y_nm: Double, x_nm: Double) -> Double:
        """Return how far the tip is above its apex at places beside it."""
        return np.asarray((y_nm**2 + x_nm**2) / (2 * self.radius_nm))


@dataclass(frozen=True)
class EllipticParaboloid(Value):
    """A paraboloid with two radii: u^2 / (2 R) + v^2 / (2 R2), u along x before it is turned.

    Parameters
    ----------
    radius_nm, second_radius_nm : float
        Radii of curvature at the apex.
    rotation_deg : float
        Turn from x towards y.
    """

    radius_nm: float = 10.0
    second_radius_nm: float = 20.0
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        require_number("The radius of the tip in nm", self.radius_nm, above=0)
        require_number("The second radius of the tip in nm", self.second_radius_nm, above=0)
        require_number("The rotation of the tip in degrees", self.rotation_deg)

    def depth_nm(self, y_nm: Double, x_nm: Double) -> Double:
        """Return how far the tip is above its apex at places beside it."""
        v, u = _turned(y_nm, x_nm, self.rotation_deg)
        return np.asarray(u**2 / (2 * self.radius_nm) + v**2 / (2 * self.second_radius_nm))


@dataclass(frozen=True)
class SphereCone(Value):
    """A cone that ends in a sphere, which it touches all around.

    Parameters
    ----------
    radius_nm : float
        Radius of the sphere; 0 is a sharp cone.
    half_angle_deg : float
        Between axis and side of the cone.
    """

    radius_nm: float = 10.0
    half_angle_deg: float = 20.0

    def __post_init__(self) -> None:
        _require_sphere(self.radius_nm, self.half_angle_deg)

    def depth_nm(self, y_nm: Double, x_nm: Double) -> Double:
        """Return how far the tip is above its apex at places beside it."""
        across = np.hypot(y_nm, x_nm)
        side = _side(across, self.radius_nm, self.half_angle_deg)
        touches = across > self.radius_nm * np.cos(np.deg2rad(self.half_angle_deg))
        return np.asarray(np.where(touches, side, _sphere(across, self.radius_nm)))


@dataclass(frozen=True)
class SpherePyramid(Value):
    """A pyramid that ends in a sphere, which its faces touch.

    At the height where they touch, its corners beside the sphere end flat.

    Parameters
    ----------
    radius_nm : float
        Radius of the sphere; 0 is a sharp pyramid.
    half_angle_deg : float
        Between the axis and a face.
    sides : int
        Faces: 3 or more.
    rotation_deg : float
        Direction of the first face, from x towards y.
    """

    radius_nm: float = 10.0
    half_angle_deg: float = 20.0
    sides: int = 4
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        _require_sphere(self.radius_nm, self.half_angle_deg)
        require(
            isinstance(self.sides, int) and 3 <= self.sides <= 64,
            f"A pyramid has 3 to 64 sides, not {self.sides}",
        )
        require_number("The rotation of the tip in degrees", self.rotation_deg)

    def depth_nm(self, y_nm: Double, x_nm: Double) -> Double:
        """Return how far the tip is above its apex at places beside it."""
        y, x = _turned(y_nm, x_nm, self.rotation_deg)
        angles = 2 * np.pi * np.arange(self.sides) / self.sides
        across = np.max([x * np.cos(a) + y * np.sin(a) for a in angles], axis=0)
        faces = _side(across, self.radius_nm, self.half_angle_deg)
        ends = self.radius_nm * (1 - np.sin(np.deg2rad(self.half_angle_deg)))
        sphere = _sphere(np.hypot(y, x), self.radius_nm)
        return np.asarray(np.minimum(sphere, np.maximum(faces, ends)))


@dataclass(frozen=True)
class Delta(Value):
    """A tip of no width: the image is the surface."""

    def depth_nm(self, y_nm: Double, x_nm: Double) -> Double:
        """Return how far the tip is above its apex at places beside it."""
        return np.asarray(np.where((y_nm == 0) & (x_nm == 0), 0.0, np.inf))


TipShape: TypeAlias = Paraboloid | EllipticParaboloid | SphereCone | SpherePyramid | Delta

#: By the names that users choose them by.
SHAPES: dict[str, type[TipShape]] = {
    "paraboloid": Paraboloid,
    "elliptic paraboloid": EllipticParaboloid,
    "cone": SphereCone,
    "pyramid": SpherePyramid,
    "delta": Delta,
}


@dataclass(frozen=True, eq=False)
class Tip:
    """A tip on pixels.

    Parameters
    ----------
    heights_nm : ndarray of float64, (Y, X)
        0 at the apex, index n//2 of each axis; all else at or below 0, -inf where there is none.
        Reflected through its apex: what is at +d here is at -d of the tip above the sample.
    pixel_nm : tuple of float, (y, x)

    Raises
    ------
    InputError
        If it is no such array.
    """

    heights_nm: Double
    pixel_nm: tuple[float, float]

    def __post_init__(self) -> None:
        heights = checked_tip(self.heights_nm)
        for axis, step in zip("yx", self.pixel_nm, strict=True):
            require_number(f"The {axis} pixel size of the tip in nm", step, above=0)
        object.__setattr__(self, "heights_nm", heights)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels, (Y, X)."""
        rows, columns = self.heights_nm.shape
        return rows, columns


def tip_of(
    shape: TipShape, pixel_nm: tuple[float, float], depth_nm: float, most: tuple[int, int]
) -> Tip:
    """Return a shape on pixels, as far as it can touch.

    Parameters
    ----------
    shape : TipShape
    pixel_nm : tuple of float, (y, x)
    depth_nm : float
        Range of heights of the image: what is farther above the apex than this touches nothing.
    most : tuple of int, (Y, X)
        Pixels of the image: the tip reaches no farther than from one end of it to the other.

    Returns
    -------
    Tip
        Of odd sides.

    Examples
    --------
    >>> tip_of(Paraboloid(5.0), (1.0, 1.0), depth_nm=0.3, most=(9, 9)).heights_nm
    array([[-0.2, -0.1, -0.2],
           [-0.1,  0. , -0.1],
           [-0.2, -0.1, -0.2]])
    """
    half = FIRST_HALF
    while True:
        far = [min(half, n - 1) for n in most]
        y, x = (
            np.arange(-n, n + 1, dtype=np.float64) * step
            for n, step in zip(far, pixel_nm, strict=True)
        )
        depth = shape.depth_nm(y[:, None], x[None, :])
        reaches = depth <= max(depth_nm, 0.0)
        rim = reaches[[0, -1]].any() or reaches[:, [0, -1]].any()
        # Depths rise outwards: where no pixel of the rim touches, none beyond does.
        if not rim or all(n == m - 1 for n, m in zip(far, most, strict=True)):
            break
        half *= 2
    keep = []
    for axis, n in enumerate(far):
        along = np.flatnonzero(reaches.any(1 - axis))
        half = int(np.abs(along - n).max())
        keep.append(slice(n - half, n + half + 1))
    inside = tuple(keep)
    return Tip(np.where(reaches, 0.0 - depth, -np.inf)[inside], pixel_nm)


def checked_tip(tip: npt.ArrayLike) -> Double:
    """Return an array as a tip in float64, or say what is wrong with it.

    Raises
    ------
    InputError
        If it is not 2D, holds what is no height, or its apex is not 0 at index n//2 and highest.
    """
    heights = np.asarray(tip)
    require(
        heights.ndim == 2 and heights.size > 0 and heights.dtype.kind in "iuf",
        f"A tip is a 2D array of heights in nm, not {heights.dtype} of shape {heights.shape}",
    )
    heights = heights.astype(np.float64)
    require(
        not (np.isnan(heights) | (heights == np.inf)).any(),
        "The tip holds values that are no heights (NaN or inf); only -inf, no tip there, is one",
    )
    apex = tuple(n // 2 for n in heights.shape)
    require(
        heights[apex] == 0 and heights.max() == 0,
        f"The apex of a tip, its highest value, must be 0 at index {apex}; here that value is "
        f"{heights[apex]:g} and the highest {heights.max():g}: centre it with `centred_tip`",
    )
    return heights


def centred_tip(heights: npt.ArrayLike, pixel_nm: tuple[float, float]) -> Tip:
    """Return heights of a tip, wherever its apex lies, as a tip with its apex in the middle.

    Parameters
    ----------
    heights : array, (Y, X)
        In nm, highest at the apex; reflected, as a `Tip` is.
    pixel_nm : tuple of float, (y, x)

    Raises
    ------
    InputError
        If there is no highest value.
    """
    values = np.asarray(heights, np.float64)
    require(values.ndim == 2 and values.size > 0, "A tip is a 2D array of heights in nm")
    require(
        not np.isnan(values).any() and np.isfinite(values.max()),
        "The tip holds values that are no heights, so it has no apex",
    )
    apex = np.unravel_index(int(values.argmax()), values.shape)
    halves = [max(int(at), n - 1 - int(at)) for at, n in zip(apex, values.shape, strict=True)]
    centred = np.full([2 * half + 1 for half in halves], -np.inf)
    place = tuple(
        slice(half - int(at), half - int(at) + n)
        for half, at, n in zip(halves, apex, values.shape, strict=True)
    )
    centred[place] = values - values.max()
    return Tip(centred, pixel_nm)


def reflected(tip: Tip) -> Tip:
    """Return the tip as it stands above the sample, or that back as a `Tip`.

    The apex stays in the middle: a row or column is added where a side is even.
    """
    heights = tip.heights_nm
    even = [(0, 1 - n % 2) for n in heights.shape]
    odd = np.pad(heights, even, constant_values=-np.inf)
    return Tip(odd[::-1, ::-1].copy(), tip.pixel_nm)


def _require_sphere(radius_nm: float, half_angle_deg: float) -> None:
    require_number("The radius of the tip in nm", radius_nm, least=0)
    require_number("The half angle of the tip in degrees", half_angle_deg, above=0)
    require(
        half_angle_deg < 90,
        f"The half angle of a tip is below 90 degrees, from its axis; not {half_angle_deg:g}",
    )


def _turned(y: Double, x: Double, rotation_deg: float) -> tuple[Double, Double]:
    """Return places seen from axes that are turned from x towards y, (y, x)."""
    angle = np.deg2rad(rotation_deg)
    return y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)


def _sphere(across: Double, radius_nm: float) -> Double:
    """Return the depth of a sphere; inf beside it."""
    inside = across <= radius_nm
    square = np.where(inside, radius_nm**2 - across**2, 0.0)
    return np.where(inside, radius_nm - np.sqrt(square), np.inf)


def _side(across: Double, radius_nm: float, half_angle_deg: float) -> Double:
    """Return the depth of a straight side that touches a sphere at the apex."""
    angle = np.deg2rad(half_angle_deg)
    at, depth = radius_nm * np.cos(angle), radius_nm * (1 - np.sin(angle))
    return np.asarray(depth + (across - at) / np.tan(angle))
