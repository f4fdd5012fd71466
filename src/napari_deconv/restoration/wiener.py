"""Wiener: one division in Fourier space, at once and without iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from napari_deconv.imaging.noise import Noise, noise_of
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import Value, require_number

from .blur import Edges, edges_of_a_part, require_edges, transfer_function, work_shape
from .continued import Continued
from .engine import Engine
from .fourier import PIECE, Room, columns_of
from .pieces import Cores, Float, Values, cut
from .restorer import SEAM_TOLERANCE, Observation, Step
from .transforms import Complex

#: Bounds of an automatic regularization. The filter amplifies by 1/(2 sqrt(l)) at the most:
#: 50 times at the least weight, and not at all at the greatest.
LEAST, MOST = 1e-4, 1.0
#: Power that the optics pass at frequencies beyond their limit, up to rounding.
UNSEEN = 1e-6
#: Part of the frequencies that must be such for their power alone to tell the noise.
ENOUGH = 0.02
#: The power of what is beneath the finest detail by which the noise that optics pass is more than
#: that which they do not: in the middle of filters and shifts of the usual kinds.
BETWEEN = 0.75
#: Frequencies looked at to choose a weight; a tenth of them could miss it by a quarter.
SAMPLE = 1_000_000
#: Halvings of the range of weights: to 0.06 %.
BISECTIONS = 14
#: Part of the filter that may lie beyond the halo, per tolerance of the seam. Measured: neighbours
#: of either sign cancel, so that twice the tolerance is still kept (docs/volumes.md).
TAIL = 2.0
#: Lengths of the PSF that the filter is looked at in: its tails are longer than the PSF.
ROOM = 3
#: And voxels at the least: a PSF cut short leaves long tails.
LEAST_ROOM = 128
#: A filter that reaches farther than this part of it on each side may reach anywhere.
FAR = 0.4

#: How much of a filter is meant: for the shape of a volume, a factor for each frequency (y, x).
Part = Callable[[tuple[int, ...]], Float]


@dataclass(frozen=True)
class Wiener(Value):
    """Wiener deconvolution, (1 + l) conj(H) Y / (|H|^2 + l).

    Parameters
    ----------
    regularization : float or "auto"
        l, the ratio of noise power to signal power; "auto" takes it from the noise estimate.
    edges : {"non-circulant", "two-sided", "circular"}
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
        # The image, its spectrum, and the transfer function; measured on the CPU. An image that
        # is not padded is a whole volume itself.
        return 3.25 if self.edges == "circular" else 3.0

    @property
    def transforms(self) -> int:
        """Fourier transforms of a run; choosing the weight takes one more."""
        return 4 if self.regularization == "auto" else 3

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...] | None:
        """Return how far the filter itself reaches.

        None while its weight is not known, or where a piece would repeat itself.
        """
        if self.regularization == "auto" or self.edges == "circular":
            return None
        return reach(psf.samples, float(self.regularization), min(TAIL * tolerance, 0.5))

    def reaches_beyond_tiles(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> bool:
        """Return whether the filter reaches farther than `halo` can tell.

        Of a widefield PSF a weak weight amplifies the slowest changes across a plane most; they
        have no end. Along z that does not matter, as tiles have all planes.
        """
        halo, room = self.halo(psf, tolerance), _room(psf.shape)
        return halo is not None and any(
            reach > FAR * n for reach, n in zip(halo[-2:], room[-2:], strict=True)
        )

    def settled(self, samples: Sequence[Observation], engine: Engine) -> Wiener:
        """Return the method with the weight that the samples ask for, together."""
        # A piece of an image that repeats itself does not.
        method = replace(self, edges=edges_of_a_part(self.edges))
        if self.regularization != "auto":
            return method
        # What is empty asks for the least weight, which would not be the others'.
        lit = [sample for sample in samples if sample.image.any()] or samples
        logs = [math.log(method._weight_of(sample)) for sample in lit]
        return replace(method, regularization=math.exp(sum(logs) / len(logs)))

    def _weight_of(self, observation: Observation) -> float:
        image, psf = observation.image, observation.psf.samples
        shape = self.work_shape(image.shape, psf.shape)
        whole = Continued(image, shape, observation.background)
        # Transformed once more to restore: the spectrum is not kept beside the transfer function.
        sample = transformed(whole, noise_of(image)).sample
        return sample.weight(transfer_function(psf, shape))

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that the method works on."""
        return work_shape(image_shape, psf_shape, self.edges)

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield one `Step` with the estimate."""
        weight = self.regularization
        if weight == "auto":
            weight = self._weight_of(observation)
        yield one_step(weight, self.filtered(observation, weight, engine))

    def filtered(
        self, observation: Observation, weight: float, engine: Engine, part: Part | None = None
    ) -> Float:
        """Return the image filtered with a regularization, or with a part of that filter."""
        image, psf = observation.image, observation.psf.samples
        shape = self.work_shape(image.shape, psf.shape)
        whole = Continued(image, shape, observation.background)
        otf = transfer_function(psf, shape)
        invert(otf, weight)
        if part is not None:
            otf *= part(shape)
        inverted = engine.filter(otf, shape, image.shape)
        estimate = inverted.forward(engine.hold(whole))
        del otf, inverted
        return engine.pull(estimate, image.shape)


def one_step(weight: float, estimate: Float) -> Step:
    """Return the only step there is."""
    return Step(1, 1, f"one step, regularization {weight:.3g}", None, estimate)


def reach(psf: Float, weight: float, tail: float, part: Part | None = None) -> tuple[int, ...]:
    """Return beyond how many voxels along each axis less than `tail` of the filter lies.

    `part` says how much of the filter is meant.
    """
    from scipy.fft import irfftn

    shape = _room(psf.shape)
    spectrum = inverse(transfer_function(psf, shape), weight)
    if part is not None:
        spectrum *= part(shape)
    return reach_of_response(np.abs(irfftn(spectrum, s=shape, workers=-1)), tail)


def reach_of_response(response: Float, tail: float) -> tuple[int, ...]:
    """Return beyond how many voxels along each axis less than `tail` of a response lies.

    The response is not negative, and its centre at index 0.
    """
    ends = []
    for axis, n in enumerate(response.shape):
        others = tuple(other for other in range(response.ndim) if other != axis)
        along = response.sum(axis=others, dtype=np.float64)
        sides = along[: n // 2 + 1].copy()
        sides[1 : (n + 1) // 2] += along[: n // 2 : -1]
        beyond = np.append(sides.sum() - np.cumsum(sides), 0.0)
        ends.append(int(np.argmax(beyond <= tail * sides.sum())) if n > 1 else 0)
    return tuple(ends)


def _room(psf_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape on which the reach of a filter is looked at."""
    from scipy.fft import next_fast_len

    sides = (max(ROOM * n, LEAST_ROOM) if n > 1 else 1 for n in psf_shape)
    return tuple(next_fast_len(side, real=True) for side in sides)


def inverse(otf: Complex, weight: float) -> Complex:
    """Return the filter (1 + l) conj(H) / (|H|^2 + l) for the regularization `weight`."""
    # A tiny l needs float64: |H|^2 + l must not round to zero.
    kind = np.float32 if weight >= LEAST else np.float64
    power = np.square(otf.real, dtype=kind) + np.square(otf.imag, dtype=kind)
    power += kind(weight)
    inverted: Complex = (kind(1 + weight) * otf.conj() / power).astype(np.complex64, copy=False)
    return inverted


def invert(otf: Complex, weight: float) -> None:
    """Put the filter `inverse` in place of the transfer function."""
    flat = otf.reshape(-1)

    def work(part: slice) -> None:
        flat[part] = inverse(flat[part], weight)

    cores = Cores()
    cores.each(work, cut(flat.size, cores.piece(flat.size, PIECE)))


@dataclass(frozen=True, eq=False)
class Sample:
    """Some frequencies of an image and its noise: what the choice of a weight needs.

    Parameters
    ----------
    power : ndarray of float32
        Of each `step`-th frequency, per voxel, in any unit.
    step : int
        How many frequencies lie between them.
    noise : Noise
        Of the image, in that unit.
    """

    power: Float
    step: int
    noise: Noise

    def weight(self, otf: Complex, bisections: int = BISECTIONS) -> float:
        """Return the regularization at which the blurred result misses the image by the noise.

        See `Transformed.weight`.
        """
        seen, power = _squared(otf.ravel()[:: self.step]), self.power
        beyond = seen < UNSEEN
        part, noise = float(beyond.mean()), self.noise.sigma**2
        if part:
            there = float(power[beyond].mean(dtype=np.float64))
            noise = there if part >= ENOUGH else min(noise, there)
        # Among what the optics pass there is more where neighbours share noise: less than beneath
        # the finest detail, as what they do not pass is not all so fine.
        noise *= part + (1 - part) * self.noise.beneath**BETWEEN
        # What is missed at l is l (1 - |H|^2) / (|H|^2 + l) of each frequency.
        missing = np.square(1 - seen) * power
        low, high = math.log(LEAST), math.log(MOST)
        for _ in range(bisections):
            middle = (low + high) / 2
            weight = np.float32(math.exp(middle))
            missed = seen + weight
            np.square(missed, out=missed)
            np.divide(missing, missed, out=missed)
            if float(weight**2 * missed.mean(dtype=np.float64)) < noise:
                low = middle
            else:
                high = middle
        return math.exp((low + high) / 2)


@dataclass(frozen=True, eq=False)
class Transformed:
    """The transform of an image and its noise: what Wiener needs of it, whatever the PSF.

    Parameters
    ----------
    spectrum : ndarray of complex
        Of the image without background, as `numpy.fft.rfftn` orders it.
    shape : tuple of int
        Shape of the image.
    noise : Noise
        Of the image.
    """

    spectrum: Complex
    shape: tuple[int, ...]
    noise: Noise

    def weight(self, otf: Complex, bisections: int = BISECTIONS) -> float:
        """Return the regularization at which the blurred result misses the image by the noise.

        The noise is the power at frequencies that the optics `otf` do not pass: the mean of all
        voxels, bright and dark, which the misfit is a mean of, too. Where these frequencies are
        few, that of the finest detail counts if it is lower.

        Notes
        -----
        The discrepancy principle (Morozov 1966), solved by bisection on a sample of the
        spectrum.
        """
        return self.sample.weight(otf, bisections)

    @cached_property
    def sample(self) -> Sample:
        """Power of some frequencies; the mean, kept whatever the weight, counts as 0."""
        step = max(self.spectrum.size // SAMPLE, 1)
        values = self.spectrum.ravel()[::step]
        # A float32 does not hold the squares of all that it holds: in a unit of their size.
        largest = max(float(np.abs(part).max()) for part in (values.real, values.imag))
        unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)
        power = _squared(values / np.float32(unit)) / np.float32(math.prod(self.shape))
        power[0] = 0
        return Sample(power, step, replace(self.noise, sigma=self.noise.sigma / unit))

    def restored(self, otf: Complex, weight: float) -> Float:
        """Return the restored image for the optics `otf` and a regularization."""
        ours, theirs = columns_of(self.spectrum), columns_of(otf)

        def change(piece: Complex, columns: slice) -> None:
            np.multiply(ours[:, columns], inverse(theirs[:, columns], weight), out=piece)

        return Room(self.shape, Cores()).inverse(change, self.shape)


def transformed(image: Values, noise: Noise) -> Transformed:
    """Return the transform of an image without background, and its noise."""
    return Transformed(Room(image.shape, Cores()).forward(image), image.shape, noise)


def _squared(values: Complex) -> Float:
    return np.square(values.real) + np.square(values.imag)
