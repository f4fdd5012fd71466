"""How near a result is to a truth: PSNR, NRMSE, SSIM, and all figures at once.

All is computed in float64. The voxels are looked at in slabs, so that no figure but the Fourier
shell correlation needs a copy of the images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .compared import Float, Voxels, checked, range_of, slab_of, slabs
from .shell_correlation import ShellCorrelation, fourier_shell_correlation
from .value import Value

#: The window of SSIM (Wang et al. 2004): width of the Gaussian, and voxels to each side.
SIGMA, RADIUS = 1.5, 5
#: Parts of the range below which SSIM takes differences of mean and of contrast for none.
K1, K2 = 0.01, 0.03


class Line(NamedTuple):
    """What a result is multiplied by, and what is added then."""

    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Quality(Value):
    """How near a result is to a truth.

    Parameters
    ----------
    psnr_db : float, optional
        As `psnr`; None where nothing differs.
    nrmse, ssim : float
        As the functions of these names.
    scale, offset : float
        What the result was multiplied by, and what was added then, before it was compared; 1 and 0
        where it was compared as it is.
    shells : ShellCorrelation, optional
        None without a voxel size.
    """

    psnr_db: float | None
    nrmse: float
    ssim: float
    scale: float
    offset: float
    shells: ShellCorrelation | None = None

    @property
    def resolution_um(self) -> float | None:
        """Period down to which result and truth agree; None where that is not known."""
        return None if self.shells is None else self.shells.resolution_um

    def in_words(self) -> str:
        """Return all figures in a line."""
        noise = "no difference" if self.psnr_db is None else f"PSNR {self.psnr_db:.2f} dB"
        line = f"{noise}, SSIM {self.ssim:.4f}, NRMSE {self.nrmse:.4f}"
        if (self.scale, self.offset) != (1, 0):
            line += f", the result times {self.scale:.4g} plus {self.offset:.4g}"
        return line if self.shells is None else f"{line}; FSC {self.shells.in_words()}"


def fit_of(result: npt.ArrayLike, truth: npt.ArrayLike) -> Line:
    """Return the scale and offset that bring a result nearest to a truth, by least squares.

    Parameters
    ----------
    result, truth : array, (Z, Y, X) or (Y, X)
        Of one shape, in any units.

    Returns
    -------
    Line
        `scale` and `offset`; a constant result becomes the mean of the truth.

    Raises
    ------
    InputError
        As `psnr`.
    """
    return _line(*checked(result, truth), fit=True)


def fitted(result: npt.ArrayLike, truth: npt.ArrayLike) -> Float:
    """Return a result with the scale and offset that bring it nearest to a truth.

    Parameters
    ----------
    result, truth : array, (Z, Y, X) or (Y, X)
        Of one shape, in any units.

    Returns
    -------
    ndarray of float64
        Of that shape, in the units of the truth.

    Raises
    ------
    InputError
        As `psnr`.

    Examples
    --------
    >>> truth = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> np.allclose(fitted(3 * truth + 7, truth), truth)
    True
    """
    images = checked(result, truth)
    line = _line(*images, fit=True)
    return line.scale * images[0].astype(np.float64) + line.offset


def psnr(result: npt.ArrayLike, truth: npt.ArrayLike, *, fit: bool = False) -> float:
    """Return the peak signal-to-noise ratio: the range of the truth over the error.

    Parameters
    ----------
    result, truth : array, (Z, Y, X) or (Y, X)
        Of one shape, finite; the truth not constant.
    fit : bool
        Compare after the best scale and offset.

    Returns
    -------
    float
        20 log10((max - min) / RMSE), in dB; infinite where nothing differs.

    Raises
    ------
    InputError
        If the shapes differ, a voxel is not finite, or the truth is constant.

    Examples
    --------
    >>> truth = np.array([[0.0, 100.0], [50.0, 50.0]])
    >>> psnr(truth + 1, truth)
    40.0
    """
    images = checked(result, truth)
    return _psnr(*images, _line(*images, fit=fit))


def nrmse(result: npt.ArrayLike, truth: npt.ArrayLike, *, fit: bool = False) -> float:
    """Return the root mean square error over the root mean square of the truth.

    Parameters
    ----------
    result, truth : array, (Z, Y, X) or (Y, X)
        Of one shape, finite; the truth not constant.
    fit : bool
        Compare after the best scale and offset.

    Returns
    -------
    float
        0 where nothing differs, 1 for a result of zeros that is not fitted.

    Raises
    ------
    InputError
        As `psnr`.

    Notes
    -----
    A background in the truth counts as truth: with a high one the figure is small.
    """
    images = checked(result, truth)
    return _nrmse(*images, _line(*images, fit=fit))


def ssim(result: npt.ArrayLike, truth: npt.ArrayLike, *, fit: bool = False) -> float:
    """Return the mean structural similarity: how alike are mean, contrast and pattern nearby.

    Parameters
    ----------
    result, truth : array, (Z, Y, X) or (Y, X)
        Of one shape, finite; the truth not constant.
    fit : bool
        Compare after the best scale and offset.

    Returns
    -------
    float
        1 where nothing differs, about 0 where nothing is alike, negative where contrast is
        turned around.

    Raises
    ------
    InputError
        As `psnr`.

    Notes
    -----
    Wang et al. 2004 (doi 10.1109/TIP.2003.819861): Gaussian weights of sigma 1.5 in a window of 11
    voxels along each axis, K1 = 0.01, K2 = 0.03, moments of the population, and the range of the
    truth. The mean is over all places where the window lies inside the image; along an axis
    shorter than the window the image is mirrored instead. Windows are counted in voxels, so that
    figures compare only between images of one voxel size.
    """
    images = checked(result, truth)
    return _ssim(*images, _line(*images, fit=fit))


def quality_of(
    result: npt.ArrayLike,
    truth: npt.ArrayLike,
    spacing_um: Sequence[float] | None = None,
    *,
    fit: bool = True,
) -> Quality:
    """Return all figures of how near a result is to a truth.

    Parameters
    ----------
    result, truth : array, (Z, Y, X) or (Y, X)
        Of one shape, finite; the truth not constant.
    spacing_um : sequence of float, optional
        Voxel size, (z, y, x) or (y, x); without it there is no shell correlation.
    fit : bool
        Compare after the best scale and offset; the shell correlation depends on neither.

    Raises
    ------
    InputError
        As `psnr` and `fourier_shell_correlation`.

    Examples
    --------
    >>> truth = np.random.default_rng(0).poisson(20, (32, 32))
    >>> print(quality_of(truth, truth, (0.1, 0.1)).in_words())
    no difference, SSIM 1.0000, NRMSE 0.0000; FSC above 1/7 down to the finest period, 0.2 um
    """
    images = checked(result, truth)
    line = _line(*images, fit=fit)
    peak = _psnr(*images, line)
    return Quality(
        psnr_db=peak if math.isfinite(peak) else None,
        nrmse=_nrmse(*images, line),
        ssim=_ssim(*images, line),
        scale=line.scale,
        offset=line.offset,
        shells=None if spacing_um is None else fourier_shell_correlation(*images, spacing_um),
    )


# -- scale and offset -------------------------------------------------------------------


def _mean(image: Voxels) -> float:
    total = sum(float(image[slab].sum(dtype=np.float64)) for slab in slabs(image.shape))
    return total / image.size


def _line(result: Voxels, truth: Voxels, *, fit: bool) -> Line:
    """Return the best scale and offset, or those that change nothing."""
    if not fit:
        return Line()
    means = _mean(result), _mean(truth)
    variance = covariance = 0.0
    for slab in slabs(truth.shape):
        centred = result[slab].astype(np.float64) - means[0]
        variance += float(np.square(centred).sum())
        covariance += float((centred * (truth[slab].astype(np.float64) - means[1])).sum())
    low, high = range_of(result)
    scale = covariance / variance if high > low else 0.0
    return Line(scale, means[1] - scale * means[0])


# -- errors of voxels -------------------------------------------------------------------


def _squared_error(result: Voxels, truth: Voxels, line: Line) -> float:
    """Return the sum of the squared differences."""
    total = 0.0
    for slab in slabs(truth.shape):
        error = line.scale * result[slab].astype(np.float64) + line.offset - truth[slab]
        total += float(np.square(error).sum())
    return total


def _psnr(result: Voxels, truth: Voxels, line: Line) -> float:
    error = math.sqrt(_squared_error(result, truth, line) / truth.size)
    low, high = range_of(truth)
    return math.inf if error == 0 else 20 * math.log10((high - low) / error)


def _nrmse(result: Voxels, truth: Voxels, line: Line) -> float:
    total = sum(
        float(np.square(truth[slab].astype(np.float64)).sum()) for slab in slabs(truth.shape)
    )
    return math.sqrt(_squared_error(result, truth, line) / total)


# -- structural similarity --------------------------------------------------------------


def _ssim(result: Voxels, truth: Voxels, line: Line) -> float:
    """Return the mean over slabs along the longest axis, each with what its windows reach."""
    axis, thickness = slab_of(truth.shape)
    margins = [RADIUS if n > 2 * RADIUS else 0 for n in truth.shape]
    inside = truth.shape[axis] - 2 * margins[axis]
    # Thinner than a window, and a slab would be all margin.
    thickness = max(2 * RADIUS + 1, thickness)
    low, high = range_of(truth)
    total = count = 0.0
    for start in range(0, inside, thickness):
        box = [slice(None)] * truth.ndim
        box[axis] = slice(start, min(start + thickness, inside) + 2 * margins[axis])
        here = tuple(box)
        x = line.scale * result[here].astype(np.float64) + line.offset
        similar = _similarity(x, truth[here].astype(np.float64), high - low, low)
        kept = similar[tuple(slice(m, n - m) for m, n in zip(margins, similar.shape, strict=True))]
        total, count = total + float(kept.sum()), count + kept.size
    return total / count


def _similarity(x: Float, y: Float, extent: float, level: float) -> Float:
    """Return the structural similarity around each voxel of two images."""
    # Moments about a level near the values: those about zero cancel where the background is high.
    x, y = x - level, y - level
    mean_x, mean_y = _averaged(x), _averaged(y)
    var_x = _averaged(x * x) - mean_x * mean_x
    var_y = _averaged(y * y) - mean_y * mean_y
    shared = _averaged(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + level, mean_y + level
    c1, c2 = (K1 * extent) ** 2, (K2 * extent) ** 2
    found: Float = (2 * mean_x * mean_y + c1) * (2 * shared + c2)
    found /= (mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)
    return found


def _averaged(values: Float) -> Float:
    from scipy.ndimage import gaussian_filter

    averaged: Float = gaussian_filter(values, SIGMA, mode="reflect", truncate=RADIUS / SIGMA)
    return averaged
