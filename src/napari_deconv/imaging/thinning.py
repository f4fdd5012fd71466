"""Thinning: the photons of one stack dealt out to two, whose noise is independent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .value import require, require_number

Float = npt.NDArray[np.float32]

#: Photons in a voxel that no camera counts; whole numbers up to here are exact.
MOST_PHOTONS = 2.0**52


def thinned(
    counts: npt.ArrayLike,
    camera: Camera,
    fraction: float = 0.5,
    *,
    random: np.random.Generator,
) -> tuple[Float, Float]:
    """Return two stacks that share the photons of one, as if each were taken with less light.

    Parameters
    ----------
    counts : array, (Z, Y, X) or (Y, X), or more axes before them
        As they were recorded: not restored, not filtered.
    camera : Camera
        That recorded them; the offset stays in both stacks.
    fraction : float
        Part of the photons that the first stack gets, above 0 and below 1.
    random : numpy.random.Generator
        What deals them out; the same state gives the same stacks.

    Returns
    -------
    first, second : ndarray of float32
        In the counts of the same camera, of the same shape; `first + second - offset` is `counts`:
        exactly where counts and offset are whole numbers of float32's precision, else but for the
        last digit of float32.

    Raises
    ------
    InputError
        If the fraction or a voxel is not such a number, or there are no planes.

    Notes
    -----
    A Poisson variable whose events are each kept with a chance f, or else given to another, makes
    two independent Poisson variables. So the whole photons of a voxel are split binomially. What
    is left beside them (fractions of a photon, and less than none below the offset) goes by f and
    1 - f. Read noise of variance s^2 is normal, and is split by adding a normal share of variance
    f (1 - f) s^2 to one and taking it from the other; a remainder r, which is noise as well,
    changes that to f (1 - f) (s^2 + r), and the noise of both stays uncorrelated. Their read noise
    is sqrt(f) and sqrt(1 - f) times that of the camera. Where s^2 + r is negative it counts as 0:
    without light and with read noise of less than a photon a small negative correlation is left.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(9, (2, 16, 16))
    >>> camera = Camera(gain=1, offset=0, read_noise=0)
    >>> first, second = thinned(counts, camera, random=np.random.default_rng(1))
    >>> bool((first + second == counts).all()), bool((first == np.rint(first)).all())
    (True, True)
    """
    require_number("The fraction of the photons", fraction, above=0)
    require(fraction < 1, f"The fraction of the photons must be below 1, not {fraction}")
    stack = np.asarray(counts)
    require(
        stack.ndim >= 2 and stack.size > 0,
        f"A stack to be thinned has planes of voxels; one of shape {stack.shape} has none",
    )
    require(
        stack.dtype.kind in "buif",
        f"The stack holds {stack.dtype}, not counts; give it as it was recorded",
    )
    first, second = np.empty(stack.shape, np.float32), np.empty(stack.shape, np.float32)
    # Plane by plane: what lies between takes several times the memory of a plane.
    for place in np.ndindex(stack.shape[:-2]):
        plane = stack[place].astype(np.float64)
        first[place], second[place] = _split(plane, camera, fraction, random)
    return first, second


def _split(
    counts: npt.NDArray[np.float64],
    camera: Camera,
    fraction: float,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the counts of both parts of a plane, as float32 holds them."""
    photons = (counts - camera.offset) / camera.gain
    require(
        bool((np.abs(photons) < MOST_PHOTONS).all()),
        "The stack holds voxels that no camera counts (NaN, infinite or huge); replace them",
    )
    whole = np.floor(np.maximum(photons, 0))
    rest = photons - whole
    variance = fraction * (1 - fraction) * np.maximum(camera.read_noise**2 + rest, 0)
    share = random.binomial(whole.astype(np.int64), fraction) + fraction * rest
    share += np.sqrt(variance) * random.standard_normal(counts.shape)
    first = camera.offset + camera.gain * share
    total = counts + camera.offset
    # On one raster of float32 for both parts, or their sum would miss the counts by a digit.
    largest = np.float32(max(np.abs(first).max(), np.abs(total - first).max(), np.abs(total).max()))
    raster = float(np.spacing(largest))
    first = np.rint(first / raster) * raster
    return first, total - first
