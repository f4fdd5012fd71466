"""How near a result is to a truth: PSNR, NRMSE, SSIM, and the correlation of Fourier shells.

All is computed in float64. The voxels are looked at in slabs, so that no figure but the Fourier
shell correlation needs a copy of the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .value import InputError, Value, require

Float = npt.NDArray[np.float64]
Voxels = npt.NDArray[Any]
Spectrum = npt.NDArray[np.complex128]
Threshold = Literal["1/7", "half-bit"]

#: Voxels of a slab.
PIECE = 1 << 21
#: The window of SSIM (Wang et al. 2004): width of the Gaussian, and voxels to each side.
SIGMA, RADIUS = 1.5, 5
#: Parts of the range below which SSIM takes differences of mean and of contrast for none.
K1, K2 = 0.01, 0.03
#: Part of an axis over which the image fades out towards either border, before a transform.
EDGE = 1 / 8


class Line(NamedTuple):
    """What a result is multiplied by, and what is added then."""

    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class ShellCorrelation(Value):
    """How alike two images are, frequency by frequency; in 2D the shells are rings.

    Parameters
    ----------
    frequencies_per_um : tuple of float
        Middle of each shell, in 1/um, up to the highest that the finest axis can hold.
    correlations : tuple of float
        1 where both are the same but for a factor, about 0 where they have nothing in common.
    voxels : tuple of int
        How many frequencies lie in each shell, both signs counted.
    thresholds : tuple of float
        What counts as in common, one a shell.
    threshold : {"1/7", "half-bit"}
        Its name.
    resolution_um : float, optional
        Period at which the correlation first falls below the threshold; None where it never does.
    """

    frequencies_per_um: tuple[float, ...]
    correlations: tuple[float, ...]
    voxels: tuple[int, ...]
    thresholds: tuple[float, ...]
    threshold: Threshold
    resolution_um: float | None

    def in_words(self) -> str:
        """Return the resolution as a person says it."""
        if self.resolution_um is None:
            finest = 1 / self.frequencies_per_um[-1]
            return f"above {self.threshold} down to the finest period, {finest:.3g} um"
        return f"below {self.threshold} at {self.resolution_um:.3g} um"


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
    return _line(*_checked(result, truth), fit=True)


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
    images = _checked(result, truth)
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
    images = _checked(result, truth)
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
    images = _checked(result, truth)
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
    images = _checked(result, truth)
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
    images = _checked(result, truth)
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


def fourier_shell_correlation(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    spacing_um: Sequence[float],
    *,
    threshold: Threshold = "1/7",
) -> ShellCorrelation:
    """Return how alike two images are in each shell of frequencies (in 2D: ring, FRC).

    Parameters
    ----------
    first, second : array, (Z, Y, X) or (Y, X)
        Of one shape, finite. Two independent results of one object, or a result and its truth.
    spacing_um : sequence of float
        Voxel size, (z, y, x) or (y, x).
    threshold : {"1/7", "half-bit"}
        Where the resolution is read.

    Raises
    ------
    InputError
        If the shapes or the voxel size do not fit, a voxel is not finite, the second image is
        constant, the images are smaller than four voxels, or the threshold is not known.

    Notes
    -----
    Harauz and van Heel 1986; 1/7 as by Rosenthal and Henderson 2003
    (doi 10.1016/j.jmb.2003.07.013) and Banterle et al. 2013 (doi 10.1016/j.jsb.2013.05.004); half
    a bit by van Heel and Schatz 2005 (doi 10.1016/j.jsb.2005.05.009).

    Shells are those of frequency in 1/um, one step of the finest axis thick, so that anisotropic
    voxels need no resampling. Beyond the highest frequency of a coarser axis a shell holds only
    what lies nearer to the others. The images lose their mean and fade out over an eighth of each
    side, or the jump from one border to the other would correlate; that leaves fewer independent
    frequencies, which the half-bit threshold takes into account. Needs about 32 bytes a voxel.

    The thresholds are made for two results that are equally noisy. A truth has no noise, and the
    correlation with it is the square root of that between two such results: it falls later.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(size=(64, 64))
    >>> found = fourier_shell_correlation(image, 2 * image + 1, (0.1, 0.1))
    >>> len(found.correlations), round(min(found.correlations), 6)
    (32, 1.0)
    """
    require(
        threshold in ("1/7", "half-bit"),
        f"The threshold {threshold!r} is not known; choose 1/7 or half-bit",
    )
    a, b = _checked(first, second, ("first image", "second image"))
    spacing = Grid(spacing_um=tuple(spacing_um)).spacing_um
    require(
        len(spacing) == a.ndim,
        f"A voxel size of {len(spacing)} numbers does not fit images of {a.ndim} axes; "
        "give one number an axis",
    )
    step, count = _shells(a.shape, spacing)
    windows = [_window(n) for n in a.shape]
    shells = _shell_of_each(a.shape, spacing, step, count)
    sums = _shell_sums(_spectrum(a, windows), _spectrum(b, windows), shells, a.shape[-1], count)
    voxels, cross, *powers = sums
    power: Float = np.sqrt(powers[0]) * np.sqrt(powers[1])
    correlations: Float = np.divide(cross, power, out=np.zeros(count), where=power > 0)
    frequencies: Float = step * np.arange(1, count + 1, dtype=np.float64)
    thresholds = _thresholds(threshold, voxels / _loss(windows))
    return ShellCorrelation(
        frequencies_per_um=tuple(frequencies.tolist()),
        correlations=tuple(correlations.tolist()),
        voxels=tuple(voxels.astype(int).tolist()),
        thresholds=tuple(thresholds.tolist()),
        threshold=threshold,
        resolution_um=_crossing(frequencies, correlations, thresholds),
    )


# -- what is compared -------------------------------------------------------------------


def _checked(
    result: npt.ArrayLike, truth: npt.ArrayLike, names: tuple[str, str] = ("result", "truth")
) -> tuple[Voxels, Voxels]:
    """Return both as arrays; `InputError` where they cannot be compared."""
    images = np.asarray(result), np.asarray(truth)
    shapes = [image.shape for image in images]
    require(
        shapes[0] == shapes[1],
        f"The {names[0]} has the shape {shapes[0]}, the {names[1]} {shapes[1]}; "
        "crop or pad one, so that both show the same voxels",
    )
    require(
        len(shapes[0]) in (2, 3) and images[0].size > 0,
        f"Images of two or three axes with voxels can be compared, not of shape {shapes[0]}; "
        "choose one channel and one time",
    )
    for name, image in zip(names, images, strict=True):
        _require_finite(name, image)
    low, high = _range(images[1])
    require(
        high > low,
        f"The {names[1]} is {low:g} in every voxel, so that errors have nothing to be measured "
        "by; compare with an image that shows something",
    )
    return images


def _require_finite(name: str, image: Voxels) -> None:
    if image.dtype.kind not in "buif":
        raise InputError(f"The {name} holds {image.dtype}, not real numbers; convert it first")
    if image.dtype.kind == "f":
        bad = sum(int(np.count_nonzero(~np.isfinite(image[slab]))) for slab in _slabs(image.shape))
        require(bad == 0, f"The {name} holds {bad} NaN or infinite values; replace them")


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield boxes of about `PIECE` voxels, cut along the longest axis."""
    axis = int(np.argmax(shape))
    thickness = max(1, PIECE * shape[axis] // math.prod(shape))
    for start in range(0, shape[axis], thickness):
        box = [slice(None)] * len(shape)
        box[axis] = slice(start, start + thickness)
        yield tuple(box)


def _range(image: Voxels) -> tuple[float, float]:
    """Return the lowest and the highest value."""
    return float(image.min()), float(image.max())


def _mean(image: Voxels) -> float:
    total = sum(float(image[slab].sum(dtype=np.float64)) for slab in _slabs(image.shape))
    return total / image.size


def _line(result: Voxels, truth: Voxels, *, fit: bool) -> Line:
    """Return the best scale and offset, or those that change nothing."""
    if not fit:
        return Line()
    means = _mean(result), _mean(truth)
    variance = covariance = 0.0
    for slab in _slabs(truth.shape):
        centred = result[slab].astype(np.float64) - means[0]
        variance += float(np.square(centred).sum())
        covariance += float((centred * (truth[slab].astype(np.float64) - means[1])).sum())
    low, high = _range(result)
    scale = covariance / variance if high > low else 0.0
    return Line(scale, means[1] - scale * means[0])


# -- errors of voxels -------------------------------------------------------------------


def _squared_error(result: Voxels, truth: Voxels, line: Line) -> float:
    """Return the sum of the squared differences."""
    total = 0.0
    for slab in _slabs(truth.shape):
        error = line.scale * result[slab].astype(np.float64) + line.offset - truth[slab]
        total += float(np.square(error).sum())
    return total


def _psnr(result: Voxels, truth: Voxels, line: Line) -> float:
    error = math.sqrt(_squared_error(result, truth, line) / truth.size)
    low, high = _range(truth)
    return math.inf if error == 0 else 20 * math.log10((high - low) / error)


def _nrmse(result: Voxels, truth: Voxels, line: Line) -> float:
    total = sum(
        float(np.square(truth[slab].astype(np.float64)).sum()) for slab in _slabs(truth.shape)
    )
    return math.sqrt(_squared_error(result, truth, line) / total)


# -- structural similarity --------------------------------------------------------------


def _ssim(result: Voxels, truth: Voxels, line: Line) -> float:
    """Return the mean over slabs along the longest axis, each with what its windows reach."""
    axis = int(np.argmax(truth.shape))
    margins = [RADIUS if n > 2 * RADIUS else 0 for n in truth.shape]
    inside = truth.shape[axis] - 2 * margins[axis]
    # Thinner than a window, and a slab would be all margin.
    thickness = max(2 * RADIUS + 1, PIECE * truth.shape[axis] // truth.size)
    low, high = _range(truth)
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


# -- Fourier shells ---------------------------------------------------------------------


def _shells(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[float, int]:
    """Return the thickness of a shell in 1/um, and how many shells there are.

    It is the step of frequency of the finest axis, which so puts frequencies into each shell.
    """
    axes = [(d, n * d, n) for n, d in zip(shape, spacing, strict=True) if n >= 4]
    require(bool(axes), f"Images of shape {shape} are too small for Fourier shells; take larger")
    _, extent, n = min(axes)
    return 1 / extent, n // 2


def _window(n: int) -> Float:
    """Return weights along an axis that fade to the borders by half a cosine (Tukey)."""
    if n == 1:
        return np.ones(1)
    place = (np.arange(n) + 0.5) / n
    inward = np.minimum(np.minimum(place, 1 - place) / EDGE, 1)
    window: Float = 0.5 - 0.5 * np.cos(np.pi * inward)
    return window


def _loss(windows: list[Float]) -> float:
    """Return how many frequencies share what one would tell without the windows."""
    return math.prod(float(np.mean(w**4) / np.mean(w**2) ** 2) for w in windows)


def _spectrum(image: Voxels, windows: list[Float]) -> Spectrum:
    """Return the half spectrum of an image without its mean, faded out at the borders."""
    from scipy.fft import rfftn

    values = image.astype(np.float64)
    values -= values.flat[0]  # so that a constant image is zero, and not what rounding leaves
    mean: Any = values
    for window in reversed(windows):
        mean = mean @ (window / window.sum())
    values -= mean
    for axis, window in enumerate(windows):
        values *= window.reshape(-1, *(1,) * (len(windows) - axis - 1))
    spectrum: Spectrum = rfftn(values)
    return spectrum


def _shell_of_each(
    shape: tuple[int, ...], spacing: tuple[float, ...], step: float, count: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the shell of each frequency of the half spectrum, plane by plane, (Y, X // 2 + 1).

    Shell 0 is the mean; `count + 1` stands for all that lies beyond the last one.
    """
    steps = list(zip(shape, spacing, strict=True))
    along_z = np.fft.fftfreq(*steps[0]) if len(shape) == 3 else np.zeros(1)
    along_y, along_x = np.fft.fftfreq(*steps[-2]), np.fft.rfftfreq(*steps[-1])
    in_plane = np.square(along_y)[:, None] + np.square(along_x)
    for z in along_z:
        radius = np.rint(np.sqrt(z * z + in_plane) / step)
        yield np.minimum(radius, count + 1).astype(np.intp)


def _shell_sums(
    a: Spectrum, b: Spectrum, shells: Iterator[npt.NDArray[np.intp]], width: int, count: int
) -> Float:
    """Return number, product and both powers of the frequencies in each shell, (4, count).

    `width` is that of the images, of which the half spectra are.
    """
    rows, half = a.shape[-2:]
    # Of each two opposite frequencies one is stored, but for those that are their own opposite.
    twice = np.where((np.arange(half) == 0) | (2 * np.arange(half) == width), 1.0, 2.0)
    sums = np.zeros((4, count + 2))
    planes = (spectrum.reshape(-1, rows, half) for spectrum in (a, b))
    for p, q, shell in zip(*planes, shells, strict=True):
        product = p.real * q.real + p.imag * q.imag
        powers = (np.square(z.real) + np.square(z.imag) for z in (p, q))
        for total, part in zip(sums, (np.ones_like(product), product, *powers), strict=True):
            total += np.bincount(shell.ravel(), (twice * part).ravel(), count + 2)
    return sums[:, 1:-1]


def _thresholds(name: Threshold, voxels: Float) -> Float:
    """Return what a correlation must reach in shells of so many independent frequencies."""
    if name == "1/7":
        return np.full(len(voxels), 1 / 7)
    root = np.sqrt(voxels)
    half_bit: Float = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return half_bit


def _crossing(frequencies: Float, correlations: Float, thresholds: Float) -> float | None:
    """Return the period where the correlation first falls below the threshold, in um."""
    # At frequency zero there is nothing to disagree on.
    above = np.concatenate([[1 - thresholds[0]], correlations - thresholds])
    places = np.concatenate([[0.0], frequencies])
    below = np.flatnonzero(above < 0)
    if not len(below):
        return None
    after = int(below[0])
    part = above[after - 1] / (above[after - 1] - above[after])
    return float(1 / (places[after - 1] + part * (places[after] - places[after - 1])))
