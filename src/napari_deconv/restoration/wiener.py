"""Wiener: one division in Fourier space, at once and without iterations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
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
#: Frequencies looked at to choose a weight; more would not change it.
SAMPLE = 1_000_000


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

    def halo(self, psf_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return how far one voxel's restoration looks: about the PSF's own size."""
        return tuple(2 * (n // 2) for n in psf_shape)

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
            weight_from_noise(whole, otf, noise_sigma(image))
            if self.regularization == "auto"
            else float(self.regularization)
        )
        # In float64: |H|^2 + l must not round to zero for a tiny l.
        inverse = (1 + weight) * otf.conj() / (np.abs(otf).astype(np.float64) ** 2 + weight)
        inverted = engine.filter(inverse.astype(np.complex64), shape)
        estimate = engine.pull(inverted.forward(engine.push(whole, shape)), image.shape)
        yield Step(1, 1, f"one step, regularization {weight:.3g}", None, estimate)


def weight_from_noise(image: Float, otf: Complex, sigma: float) -> float:
    """Return the regularization at which the blurred result misses the image by the noise.

    Parameters
    ----------
    image : ndarray, (Z, Y, X) or (Y, X)
        Counts without background.
    otf : ndarray of complex
        Transfer function on the image's shape, as `numpy.fft.rfftn` orders it.
    sigma : float
        Noise of the image, from its finest detail. Where the power at frequencies that the
        optics do not pass is lower, that counts instead: dim images are mostly whole numbers,
        and their finest detail exaggerates.

    Notes
    -----
    The discrepancy principle (Morozov 1966), solved by bisection on a sample of the spectrum.
    """
    from scipy.fft import rfftn

    power = np.abs(np.asarray(rfftn(image, workers=-1))) ** 2 / image.size
    power.flat[0] = 0  # the mean is kept whatever the weight
    step = max(power.size // SAMPLE, 1)
    seen = np.abs(otf).ravel()[::step].astype(np.float64) ** 2
    sampled = power.ravel()[::step].astype(np.float64)
    beyond = seen < UNSEEN
    noise = min(sigma**2, float(sampled[beyond].mean())) if beyond.any() else sigma**2
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(24):
        middle = (low + high) / 2
        passed = (1 + math.exp(middle)) * seen / (seen + math.exp(middle))
        if float(np.mean((1 - passed) ** 2 * sampled)) < noise:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


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
