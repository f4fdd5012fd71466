"""Zernike polynomials in the order of OSA/ANSI, and the aberration of a pupil by its azimuth.

Index j has the radial order n and the azimuthal frequency m with j = (n (n + 2) + m) / 2, and
root mean square 1 over the unit disk (Thibos et al. 2002, doi:10.3928/1081-597X-20020901-30).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating[Any]]
Complex = npt.NDArray[np.complex128]

#: Directions of the azimuth at which an aberration is sampled, and the smallest part of the
#: pupil's amplitude at which a harmonic of it counts.
DIRECTIONS, LEAST_HARMONIC = 512, 1e-5


def order_of(index: int) -> tuple[int, int]:
    """Return the radial order n and the azimuthal frequency m of an OSA/ANSI index.

    Examples
    --------
    >>> [order_of(index) for index in (0, 4, 8, 12)]
    [(0, 0), (2, 0), (3, 1), (4, 0)]
    """
    n = math.ceil((math.sqrt(9 + 8 * index) - 3) / 2)
    return n, 2 * index - n * (n + 2)


def zernike(index: int, rho: npt.ArrayLike, phi: npt.ArrayLike) -> Real:
    """Return the Zernike polynomial of an OSA/ANSI index.

    Parameters
    ----------
    index : int
        0 is piston, 4 defocus, 12 spherical aberration.
    rho, phi : array
        Radius in the pupil, 0 to 1, and azimuth from x towards y in radians.

    Examples
    --------
    >>> zernike(4, [0.0, 1.0], 0.0).round(3)
    array([-1.732,  1.732])
    """
    n, m = order_of(index)
    rho = np.asarray(rho, dtype=np.float64)
    radial = np.zeros_like(rho)
    for k in range((n - abs(m)) // 2 + 1):
        below = math.factorial((n + abs(m)) // 2 - k) * math.factorial((n - abs(m)) // 2 - k)
        share = math.factorial(n - k) // math.factorial(k) / below
        radial += (-1) ** k * share * rho ** (n - 2 * k)
    turn = np.cos(m * np.asarray(phi)) if m >= 0 else np.sin(-m * np.asarray(phi))
    return np.asarray(math.sqrt((n + 1) * (1 if m == 0 else 2)) * radial * turn)


def phase(coefficients: tuple[float, ...], rho: Real, phi: Real) -> Real:
    """Return the sum of the Zernike polynomials, radians; (rho, phi) as in `zernike`."""
    total = np.zeros(np.broadcast_shapes(np.shape(rho), np.shape(phi)))
    for index, coefficient in enumerate(coefficients):
        if coefficient:
            total = total + coefficient * zernike(index, rho, phi)
    return total


def harmonics(coefficients: tuple[float, ...], rho: Real) -> tuple[tuple[int, ...], Complex]:
    """Return exp(i phase) of the pupil as a Fourier series over the azimuth.

    Parameters
    ----------
    coefficients : tuple of float
        Radians RMS by OSA/ANSI index.
    rho : ndarray, (Q,)
        Radii in the pupil.

    Returns
    -------
    orders : tuple of int
        The M orders m that matter; (0,) where the aberration is symmetric about the axis.
    series : ndarray of complex, (M, Q)
        Factors of exp(i m phi).
    """
    if not any(coefficients):
        return (0,), np.ones((1, len(rho)), np.complex128)
    phi = 2 * np.pi / DIRECTIONS * np.arange(DIRECTIONS)
    wave = np.exp(1j * phase(coefficients, rho[:, None], phi))
    series = np.fft.fft(wave, axis=1).T / DIRECTIONS
    kept = np.flatnonzero(np.abs(series).max(axis=1) > LEAST_HARMONIC)
    orders = np.where(kept < DIRECTIONS // 2, kept, kept - DIRECTIONS)
    return tuple(int(order) for order in orders), series[kept]
