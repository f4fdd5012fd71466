"""Wiener: one division in Fourier space, at once and without iterations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from napari_deconv.imaging.noise import noise_sigma
from napari_deconv.imaging.value import Value, require_number

from .blur import Edges, require_edges, transfer_function, work_shape
from .engine import Complex, Engine, Float
from .restorer import Observation, Step

#: Bounds of an automatic regularization. The filter amplifies by 1/(2 sqrt(l)) at the most:
#: 50 times at the least weight, and not at all at the greatest.
LEAST, MOST = 1e-4, 1.0
#: Power that the optics pass at frequencies beyond their limit, up to rounding.
UNSEEN = 1e-6
#: Frequencies looked at to choose a weight; a tenth of them could miss it by a quarter.
SAMPLE = 1_000_000
#: Halvings of the range of weights: to 0.06 %.
BISECTIONS = 14


@dataclass(frozen=True)
class Wiener(Value):
    """Wiener deconvolution, (1 + l) conj(H) Y / (|H|^2 + l).

    Parameters
    ----------
    regularization : float or "auto"
        l, the ratio of noise power to signal power; "auto" takes it from the noise estimate.
    edges : {"non-circulant", "circular"}
        Whether the image is continued smoothly beyond its border, or repeats itself.

    Raises
    ------
    InputError
        If a value is out of its range.

    Notes
    -----
    The factor 1 + l keeps the mean intensity. The result is linear in the data and may be
    negative. Source: Wiener 1949; the constant signal-to-noise ratio is the usual
    simplification (Gonzalez and Woods, Digital Image Processing).

    Examples
    --------
    >>> Wiener(regularization=0.01).regularization
    0.01
    """

    regularization: float | Literal["auto"] = "auto"
    edges: Edges = "non-circulant"

    def __post_init__(self) -> None:
        if self.regularization != "auto":
            require_number("The regularization (a number, or 'auto')", self.regularization, above=0)
        require_edges(self.edges)

    @property
    def volumes(self) -> float:
        """Peak memory in float32 volumes of `work_shape`."""
        return 9.0

    @property
    def transforms(self) -> int:
        """Fourier transforms of a run; choosing the weight takes one more."""
        return 4 if self.regularization == "auto" else 3

    def halo(self, psf_shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return None: a weak regularization looks through the whole image."""
        return None

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that the method works on."""
        return work_shape(image_shape, psf_shape, self.edges)

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield one `Step` with the estimate."""
        image = observation.image - np.float32(observation.background)
        shape = self.work_shape(image.shape, observation.psf.shape)
        otf = transfer_function(observation.psf.samples, shape)
        whole = continued(image, shape)
        weight = (
            transformed(whole, noise_sigma(image)).weight(otf)
            if self.regularization == "auto"
            else float(self.regularization)
        )
        inverted = engine.filter(inverse(otf, weight), shape)
        estimate = engine.pull(inverted.forward(engine.push(whole, shape)), image.shape)
        yield Step(1, 1, f"one step, regularization {weight:.3g}", None, estimate)


def inverse(otf: Complex, weight: float) -> Complex:
    """Return the filter (1 + l) conj(H) / (|H|^2 + l) for the regularization `weight`."""
    # A tiny l needs float64: |H|^2 + l must not round to zero.
    kind = np.float32 if weight >= LEAST else np.float64
    power = np.square(otf.real, dtype=kind) + np.square(otf.imag, dtype=kind)
    power += kind(weight)
    inverted: Complex = (kind(1 + weight) * otf.conj() / power).astype(np.complex64, copy=False)
    return inverted


@dataclass(frozen=True, eq=False)
class Transformed:
    """The transform of an image and its noise: what Wiener needs of it, whatever the PSF.

    Parameters
    ----------
    spectrum : ndarray of complex
        Of the image without background, as `numpy.fft.rfftn` orders it.
    shape : tuple of int
        Shape of the image.
    sigma : float
        Noise of the image, from its finest detail.
    """

    spectrum: Complex
    shape: tuple[int, ...]
    sigma: float

    def weight(self, otf: Complex, bisections: int = BISECTIONS) -> float:
        """Return the regularization at which the blurred result misses the image by the noise.

        Where the power at frequencies that the optics `otf` do not pass is lower than that of
        `sigma`, it counts instead: dim images are mostly whole numbers, and their finest detail
        exaggerates.

        Notes
        -----
        The discrepancy principle (Morozov 1966), solved by bisection on a sample of the
        spectrum.
        """
        places = self._sampled
        seen, power = _squared(otf.ravel()[places]), self._power
        beyond = seen < UNSEEN
        noise = self.sigma**2
        if beyond.any():
            noise = min(noise, float(power[beyond].mean(dtype=np.float64)))
        # What is missed at l is l (1 - |H|^2) / (|H|^2 + l) of each frequency.
        missing = np.square(1 - seen) * power
        low, high = math.log(LEAST), math.log(MOST)
        for _ in range(bisections):
            middle = (low + high) / 2
            weight = np.float32(math.exp(middle))
            missed = missing / np.square(seen + weight)
            if float(weight**2 * missed.mean(dtype=np.float64)) < noise:
                low = middle
            else:
                high = middle
        return math.exp((low + high) / 2)

    @property
    def _sampled(self) -> slice:
        """Return which of the frequencies, in a row, to look at."""
        step = max(self.spectrum.size // SAMPLE, 1)
        return slice(None, None, step)

    @cached_property
    def _power(self) -> Float:
        """Power of the sampled frequencies per voxel; the mean, kept whatever the weight, is 0."""
        power = _squared(self.spectrum.ravel()[self._sampled]) / np.float32(math.prod(self.shape))
        power[0] = 0
        return power

    def restored(self, otf: Complex, weight: float) -> Float:
        """Return the restored image for the optics `otf` and a regularization."""
        from scipy.fft import irfftn

        spectrum = self.spectrum * inverse(otf, weight)
        return np.asarray(irfftn(spectrum, s=self.shape, workers=-1, overwrite_x=True))


def transformed(image: Float, sigma: float) -> Transformed:
    """Return the transform of an image without background, and its noise `sigma`."""
    from scipy.fft import rfftn

    spectrum = np.asarray(rfftn(image, workers=-1), dtype=np.complex64)
    return Transformed(spectrum, image.shape, sigma)


def _squared(values: Complex) -> Float:
    return np.square(values.real) + np.square(values.imag)


def continued(image: Float, shape: tuple[int, ...]) -> Float:
    """Return `image` continued to `shape` so that it repeats without a jump.

    Along each axis the padding fades from the image mirrored at its end into the image
    mirrored at its start, which comes next around the end.
    """
    result = image
    for axis, wanted in enumerate(shape):
        n = result.shape[axis]
        if wanted == n:
            continue
        lead = np.arange(wanted - n)
        after_end = np.take(result, _mirrored(n + lead, n), axis)
        before_start = np.take(result, _mirrored(lead - (wanted - n), n), axis)
        fade = ((lead + 1) / (wanted - n + 1)).astype(np.float32)
        fade = fade.reshape([-1 if other == axis else 1 for other in range(result.ndim)])
        padding = after_end * (1 - fade) + before_start * fade
        result = np.concatenate([result, padding], axis)
    return result


def _mirrored(
    index: np.ndarray[tuple[int], np.dtype[np.int64]], n: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return indices folded into 0..n-1 by mirrors at both ends."""
    folded = index % (2 * n)
    return np.where(folded < n, folded, 2 * n - 1 - folded)
