"""From polar coordinates to pixels, and through a pinhole, by interpolation.

Intensities lie on radii 0, 1, 2, ... times a step and on directions evenly spaced from x
towards y; one direction stands for all where they are symmetric about the axis.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .blas import product

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Real = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.int64]

#: Points of the Lagrange interpolation along radius and azimuth.
STENCIL = 6
#: Where they lie around the cell that holds the point, and their polynomials.
_PLACES = np.arange(STENCIL) - STENCIL // 2 + 1
_LAGRANGE = np.linalg.inv(np.vander(_PLACES, STENCIL))


def on_pixels(
    polar: Real,
    shape: tuple[int, int],
    pixel_um: tuple[float, float],
    radial_um: float,
    points: int,
) -> Real:
    """Return the means over the pixels of a plane, centred at n//2.

    Parameters
    ----------
    polar : ndarray of float32, (Z, R, A)
        Intensities on R radii and A directions (1 or a multiple of 4), with R of `radii_for`.
    shape, pixel_um : tuple
        (Y, X) of the plane, and its pixels in um.
    radial_um : float
        Step between radii.
    points : int
        Gauss points of the mean, along each side of a pixel.

    Returns
    -------
    ndarray of float32, (Z, Y, X)
    """
    planes, _, angles = polar.shape
    rows, columns = shape
    pixel_map = _pixel_map(shape, pixel_um, radial_um, points, angles)
    result = np.empty((planes, rows, columns), np.float32)
    quadrant = None
    direction = np.arange(angles)
    for up in (False, True):
        for left in (False, True):
            # The quadrants are mirror images, of what is mirrored at the axes x and y.
            if quadrant is None or angles > 1:
                seen = angles // 2 - direction if left else direction
                turned = polar[..., (-seen if up else seen) % angles].reshape(planes, -1)
                pixels = np.ascontiguousarray((pixel_map @ turned.T).T)
                quadrant = pixels.reshape(planes, rows // 2 + 1, columns // 2 + 1)
            at_y, from_y = _side(rows, up)
            at_x, from_x = _side(columns, left)
            result[:, at_y, at_x] = quadrant[:, from_y, from_x]
    return result


def radii_for(shape: tuple[int, int], pixel_um: tuple[float, float], radial_um: float) -> int:
    """Return how many radii the pixels of a plane need."""
    corner = math.hypot(*((n // 2 + 0.5) * p for n, p in zip(shape, pixel_um, strict=True)))
    return math.floor(corner / radial_um) + STENCIL // 2 + 1


def _side(n: int, negative: bool) -> tuple[slice, slice]:
    """Return where one side of an axis of n pixels lies, and in the half from the centre on."""
    centre = n // 2
    if negative:
        return slice(0, centre), slice(centre, 0, -1)
    return slice(centre, n), slice(0, n - centre)


@lru_cache(maxsize=12)
def _pixel_map(
    shape: tuple[int, int],
    pixel_um: tuple[float, float],
    radial_um: float,
    points: int,
    angles: int,
) -> csr_array[np.float32]:
    """Return the matrix from polar samples, (R A), to the pixels of a quadrant.

    Its rows are the pixels (y, x) from the centre on, (Y//2 + 1) (X//2 + 1) of them.
    """
    from scipy.sparse import csr_array, vstack

    rows, columns = shape[0] // 2 + 1, shape[1] // 2 + 1
    count = radii_for(shape, pixel_um, radial_um) * angles
    node, weight = np.polynomial.legendre.leggauss(points)
    share = np.outer(weight, weight).ravel() / 4
    across = (np.arange(columns)[:, None] + np.tile(node / 2, points)) * pixel_um[1]
    inside_y = np.repeat(node / 2, points)
    owner = np.broadcast_to(np.arange(columns)[:, None], across.shape)
    lines = []
    for row in range(rows):
        y = np.broadcast_to((row + inside_y) * pixel_um[0], across.shape)
        places, weights = _interpolation(across, y, radial_um, angles)
        values = (share[:, None] * weights.reshape(*across.shape, -1)).ravel()
        per_point = places.shape[-1]
        entries = (values.astype(np.float32), (np.repeat(owner, per_point), places.ravel()))
        lines.append(csr_array(entries, shape=(columns, count)))
    return vstack(lines, format="csr")


def _interpolation(x: Real, y: Real, radial_um: float, angles: int) -> tuple[Index, Real]:
    """Return the polar samples around points and their weights, both (..., K)."""
    radius, azimuth = np.hypot(y, x) / radial_um, np.arctan2(y, x) * angles / (2 * np.pi)
    ring, along = _stencil(radius)
    # Beyond the centre lies the ring of the opposite direction.
    opposite = (ring < 0) * (angles // 2)
    if angles == 1:
        return np.abs(ring), along
    direction, around = _stencil(azimuth)
    turned = (direction[..., None, :] + opposite[..., :, None]) % angles
    places = np.abs(ring)[..., :, None] * angles + turned
    weights = along[..., :, None] * around[..., None, :]
    return places.reshape(*x.shape, -1), weights.reshape(*x.shape, -1)


def _stencil(where: Real) -> tuple[Index, Real]:
    """Return the indices around a place on a line of samples, and their weights, (..., 6)."""
    cell = np.floor(where).astype(np.int64)
    inside = np.asarray(where - cell)
    weights = np.vander(inside.ravel(), STENCIL) @ _LAGRANGE
    return cell[..., None] + _PLACES, weights.reshape(*inside.shape, STENCIL)


def through_disk(polar: Real, radial_um: float, radius_um: float, count: int) -> Real:
    """Return the means over disks of `radius_um` around each point.

    Parameters
    ----------
    polar : ndarray, (Z, R, A)
        Intensities on radii up to `radius_um` and a stencil beyond those of the result.
    radial_um, radius_um : float
        Step between radii, and the disk's radius; 0 changes nothing.
    count : int
        Radii of the result.

    Returns
    -------
    ndarray, (Z, count, A)
    """
    if radius_um == 0:
        return polar[:, :count]
    size = radius_um / radial_um
    angles = polar.shape[2]
    if angles == 1:
        disk = _disk_map(size, polar.shape[1], count, 0, polar.dtype)
        return product(polar[..., 0], disk)[..., None]
    from scipy.fft import irfft, rfft

    spectrum = rfft(polar, axis=-1, workers=-1)
    result = np.empty((len(polar), count, spectrum.shape[2]), spectrum.dtype)
    for order in range(spectrum.shape[2]):
        disk = _disk_map(size, polar.shape[1], count, order, polar.dtype)
        result[..., order] = product(spectrum[..., order], disk)
    return irfft(result, angles, axis=-1, workers=-1)


@lru_cache(maxsize=256)
def _disk_map(size: float, radii: int, count: int, order: int, kind: np.dtype[Any]) -> Real:
    """Return the matrix, (R, count), of a disk's mean over a profile times exp(i order phi).

    At the distance s from the axis, the disk around r covers the azimuths of +- a with
    cos a = (r^2 + s^2 - size^2) / (2 r s); all of them where it holds the whole circle.
    """
    points = 24 + math.ceil(0.8 * size)  # the steps resolve the profile many times over
    node, weight = np.polynomial.legendre.leggauss(points)
    u, share = np.pi / 4 * (node + 1), np.pi / 4 * weight
    r = np.arange(count, dtype=np.float64)[:, None]
    # Substituting sin^2 u makes the square roots at both ends smooth.
    near = np.abs(r - size)
    width = r + size - near
    s = near + width * np.sin(u) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(r > 0, (r**2 + s**2 - size**2) / (2 * r * s), -1.0)
    reach = np.arccos(np.clip(cosine, -1, 1))
    arc = 2 * (np.sin(order * reach) / order if order else reach)
    weight = arc * s * share * width * np.sin(2 * u)
    matrix = _gathered(s, weight, radii, odd=order % 2 == 1)
    if order == 0:  # whole circles around the axis
        inside = np.maximum(size - r, 0)
        s = inside * np.sin(u) ** 2
        matrix += _gathered(s, 2 * np.pi * s * share * inside * np.sin(2 * u), radii, odd=False)
    return np.ascontiguousarray((matrix / (np.pi * size**2)).T, dtype=kind)


def _gathered(s: Real, weight: Real, radii: int, *, odd: bool) -> Real:
    """Return the matrix that interpolates at the radii `s`, (count, N), and sums by weight."""
    ring, along = _stencil(s)
    shares = weight[..., None] * along
    if odd:  # beyond the centre such a profile has the other sign
        shares = np.where(ring < 0, -shares, shares)
    places = np.abs(ring) + radii * np.arange(len(s))[:, None, None]
    summed: Real = np.bincount(places.ravel(), shares.ravel(), len(s) * radii) * 1.0
    return summed.reshape(len(s), radii)


def radii_around(count: int, radius_um: float, radial_um: float) -> int:
    """Return how many radii `through_disk` needs for `count` of its result."""
    return count + math.ceil(radius_um / radial_um) + STENCIL // 2 + 1


def coarser(count: int, factor: int) -> int:
    """Return how many radii, `factor` times as far apart, `refined` needs for `count`."""
    return count if factor == 1 else (count - 1) // factor + 1 + STENCIL // 2


def refined(polar: Real, factor: int, count: int) -> Real:
    """Return intensities on `count` radii `factor` times as dense, (Z, count, A)."""
    if factor == 1:
        return polar[:, :count]
    ring, along = _stencil(np.arange(count) / factor)
    # Beyond the centre lies the opposite direction.
    inner = -int(ring.min())
    opposite = np.roll(polar[:, inner:0:-1], polar.shape[2] // 2, axis=2)
    extended = np.concatenate((opposite, polar), axis=1)
    weights = along.astype(polar.dtype)
    result = np.zeros((len(polar), count, polar.shape[2]), polar.dtype)
    for place in range(STENCIL):
        result += weights[:, place, None] * extended[:, ring[:, place] + inner]
    return result
