"""How alike two images are, frequency by frequency: the correlation of Fourier shells (FSC)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .compared import Float, Voxels, checked
from .grid import Grid
from .value import Value, require

Spectrum = npt.NDArray[np.complex128]
Threshold = Literal["1/7", "half-bit"]

#: Part of an axis over which the image fades out towards either border, before a transform.
EDGE = 1 / 8


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
    a, b = checked(first, second, ("first image", "second image"))
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
