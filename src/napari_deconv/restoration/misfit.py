"""Does a result explain its data? Blurred again, it must miss them by no more than the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.value import require

from .blur import work_shape
from .engine import Engine, Float
from .reach import core_sigmas
from .restorer import Observation

#: A count is a whole number: that is noise, too. Of fractions so much of a photon is, so that no
#: voxel is without any.
ROUNDING = 1 / 12
#: The map is averaged over so many widths of the PSF's core: finer than that there is only noise.
WIDTHS = 2.0


@dataclass(frozen=True, eq=False)
class Misfit:
    """How far a result is from explaining its data, in units of the noise.

    Parameters
    ----------
    chi_squared : float
        Mean over the image, but for its rim, of the squared difference over its variance: 1 where
        noise is all.
    map : ndarray of float32
        The same around each voxel. Far above 1 the result lacks something, or has too much; far
        below 1 over large parts it follows the noise.
    """

    chi_squared: float
    map: Float


def misfit_of(observation: Observation, estimate: Float, camera: Camera, engine: Engine) -> Misfit:
    """Return how well a result explains its data.

    Parameters
    ----------
    observation : Observation
        The data, their PSF and background.
    estimate : ndarray of float32
        The result, of the shape of the image, in counts above the background.
    camera : Camera
        What a count is: the noise follows from it.
    engine : Engine
        That blurs.

    Raises
    ------
    InputError
        If the result has another shape than the image.

    Notes
    -----
    Light from beyond the image is not part of a result: within half a PSF of the border nothing
    can be told, and the map is NaN, along axes that are longer than the PSF.
    """
    from scipy.ndimage import gaussian_filter

    psf = observation.psf.samples
    squared = squared_misfit(observation, estimate, camera, engine)
    sigmas = [WIDTHS * sigma for sigma in core_sigmas(psf)]
    inside = _inside(squared, psf)
    found = np.full(squared.shape, np.nan, np.float32)
    found[inside] = gaussian_filter(squared, sigmas, mode="reflect")[inside]
    return Misfit(mean_misfit(squared, psf), found)


def squared_misfit(
    observation: Observation, estimate: Float, camera: Camera, engine: Engine
) -> Float:
    """Return, for each voxel, the squared difference from the data over its variance.

    Parameters, errors and notes are those of `misfit_of`; what lies within half a PSF of the
    border is given, too.
    """
    image, psf = observation.image, observation.psf.samples
    require(
        estimate.shape == image.shape,
        f"The result has the shape {estimate.shape}, the image {image.shape}",
    )
    shape = work_shape(image.shape, psf.shape, "non-circulant")
    blur = engine.blur(psf, shape)
    blurred = engine.pull(blur.forward(engine.push(estimate, shape)), image.shape)
    blurred = blurred + np.float32(observation.background)
    lit = np.maximum(blurred - np.float32(camera.offset), 0)
    variance = camera.gain * lit + (camera.gain * camera.read_noise) ** 2 + _rounding(image, camera)
    squared: Float = np.square(image - blurred) / variance
    return squared


def _rounding(image: Float, camera: Camera) -> float:
    """Return the variance of rounding, in counts squared."""
    are_fractions = camera.gain < 1 and not np.array_equal(image, np.rint(image))
    return ROUNDING * camera.gain**2 if are_fractions else ROUNDING


def mean_misfit(squared: Float, psf: Float) -> float:
    """Return chi-squared: the mean of `squared_misfit` over all but the rim."""
    return float(squared[_inside(squared, psf)].mean(dtype=np.float64))


def _inside(squared: Float, psf: Float) -> tuple[slice, ...]:
    """Return where light from beyond the image does not count; a quarter of an axis at the least.

    Of a stack that has hardly more planes than its PSF, one or two planes would tell of all.
    """
    rims = [min(p // 2, (n - n // 4) // 2) for n, p in zip(squared.shape, psf.shape, strict=True)]
    return tuple(
        slice(rim, n - rim) if n > p else slice(None)
        for n, p, rim in zip(squared.shape, psf.shape, rims, strict=True)
    )
