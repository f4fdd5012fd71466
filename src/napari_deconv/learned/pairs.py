"""Pairs to learn from, simulated with the user's own PSF: counts, and the truth behind them.

A pair is made as a microscope would make it: random structures that go on beyond the field of
view, blurred by the PSF, with the photons, the background and the read noise of a camera.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.structures import KINDS, structures
from napari_deconv.imaging.value import Value, require, require_number

Float = npt.NDArray[np.float32]

#: Variance of a voxel that holds hardly any photon, in photons squared.
LEAST_VARIANCE = 0.25
#: Pieces that one large recorded pair is cut into at most, and their least side in voxels.
PIECES, LEAST_PIECE = 10, 32
#: Voxels that a simulated volume has beyond the field of view at most, on each side.
MOST_BEYOND = 24


@dataclass(frozen=True)
class Light(Value):
    """The light of the stacks that a network is to be for.

    Parameters
    ----------
    photons : (float, float)
        Range of the most photons expected in a voxel above the background; each pair draws its
        own.
    background : (float, float)
        Range of the counts under everything, the camera's offset included.
    read_noise : float
        Standard deviation of the camera's noise, in photons.
    kinds : tuple of str
        Structures to draw, of `imaging.structures.KINDS`.
    gain, offset : float
        Counts a photon, and counts without any light.

    Raises
    ------
    InputError
        If a range is empty or a kind not known.
    """

    photons: tuple[float, ...] = (10.0, 2000.0)
    background: tuple[float, ...] = (0.0, 20.0)
    read_noise: float = 1.0
    kinds: tuple[str, ...] = tuple(KINDS)
    gain: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("photons", 1e-3), ("background", 0.0)):
            values = getattr(self, name)
            require(
                len(values) == 2 and least <= values[0] <= values[1],
                f"The range of the {name} must be two numbers from {least:g} on, the lower one "
                f"first, not {values}",
            )
        require_number("The read noise", self.read_noise, least=0)
        require_number("The gain in counts a photon", self.gain, above=0)
        require_number("The offset in counts", self.offset)
        for kind in self.kinds:
            require(
                kind in KINDS,
                f"The structure {kind!r} is not known; choose of {', '.join(KINDS)}",
            )


@dataclass(frozen=True, eq=False)
class Pair:
    """Counts and what is behind them.

    Parameters
    ----------
    counts : ndarray of float32
        As a camera records them, the background included.
    truth : ndarray of float32
        Counts above the background that each voxel would have without the blur.
    background : float
        In counts.
    photons : float
        Most photons expected in a voxel above the background; of a pair that was recorded, the
        brightest count.
    """

    counts: Float
    truth: Float
    background: float
    photons: float


@dataclass(frozen=True, eq=False)
class Twin:
    """Two recordings of one sample, or the photons of one recording in two parts.

    What a network makes of one, once it is blurred, has to meet the other: its noise is another
    one, so that noise is not learned (Lehtinen et al. 2018, arXiv 1803.04189).

    Parameters
    ----------
    counts, other : ndarray of float32
    background, other_background : float
        Of each, in counts.
    factor : float
        How much brighter the first is than the other one.
    variance : ndarray of float32
        Of the noise of the other one, in counts squared.
    """

    counts: Float
    other: Float
    background: float
    other_background: float
    factor: float
    variance: Float


def twin_of(
    counts: Float, other: Float, background: float, other_background: float, camera: Camera
) -> Twin:
    """Return two recordings of one sample as a pair.

    Parameters
    ----------
    counts, other : array, (Z, Y, X) or (Y, X)
        Of one shape, the sample in the same place.
    background, other_background : float
        Of each, in counts.
    camera : Camera
        That recorded them.

    Raises
    ------
    InputError
        If the shapes differ, one of them has no light above its background, or both are the same.
    """
    from scipy.ndimage import uniform_filter

    require(
        counts.shape == other.shape,
        f"Two recordings of one sample must be of one shape, not {counts.shape} and "
        f"{other.shape}; crop or register them",
    )
    ours = float(np.asarray(counts, np.float64).sum() - background * counts.size)
    theirs = float(np.asarray(other, np.float64).sum() - other_background * other.size)
    require(
        ours > 0 and theirs > 0,
        "One of two recordings is darker than its background: there is nothing to learn from it",
    )
    require(
        not np.array_equal(counts, other),
        "Two recordings are the same image, noise and all, so that noise would be learned; record "
        "the sample a second time",
    )
    first, second = np.asarray(counts, np.float32), np.asarray(other, np.float32)
    # The expected counts of the other one, from the first: its own noise must not weigh itself.
    expected = (uniform_filter(first, 3) - background) * (theirs / ours) + other_background
    photons = np.maximum(expected - camera.offset, 0) / camera.gain
    variance = camera.gain**2 * (photons + camera.read_noise**2)
    least = camera.gain**2 * LEAST_VARIANCE
    weight = np.maximum(variance, least).astype(np.float32)
    return Twin(first, second, background, other_background, ours / theirs, weight)


def given_pair(counts: Float, truth: Float, background: float, truth_background: float) -> Pair:
    """Return a pair that was recorded: the same sample twice, the truth in whatever units.

    Parameters
    ----------
    counts, truth : array, (Z, Y, X) or (Y, X)
        Of one shape.
    background, truth_background : float
        Of each, in its own units.

    Raises
    ------
    InputError
        If the shapes differ, one of them has no light above its background, or both are the same.
    """
    require(
        counts.shape == truth.shape,
        f"A pair must be of one shape, not {counts.shape} and {truth.shape}; crop or register "
        "the two",
    )
    lit = np.maximum(np.asarray(truth, np.float32) - np.float32(truth_background), 0)
    light = float((np.asarray(counts, np.float64) - background).sum())
    require(
        light > 0 and bool(lit.any()) and bool(np.ptp(counts) > 0),
        "A pair is constant, or darker than its background: there is nothing to learn from it",
    )
    require(
        not np.array_equal(counts, truth),
        "A pair is twice the same image, from which nothing is learned; choose the truth for the "
        "second one",
    )
    # A deblurred image has as much light as the blurred one.
    factor = light / float(lit.sum(dtype=np.float64))
    found = np.asarray(counts, np.float32)
    return Pair(found, lit * np.float32(factor), background, float(found.max()) - background)


def pieces_of(pair: Pair) -> list[Pair]:
    """Return one large pair as several, side by side along its longest lateral axis.

    Raises
    ------
    InputError
        If it is too small for two.
    """
    shape = pair.counts.shape
    axis = max(range(len(shape) - 2, len(shape)), key=lambda axis: shape[axis])
    count = min(PIECES, shape[axis] // LEAST_PIECE)
    require(
        count > 1,
        f"A pair of {' x '.join(map(str, shape))} voxels is too small to learn from one part and "
        f"to look at another; its longer side needs {2 * LEAST_PIECE} voxels",
    )
    counts, truths = (np.array_split(v, count, axis=axis) for v in (pair.counts, pair.truth))
    return [
        Pair(np.ascontiguousarray(c), np.ascontiguousarray(t), pair.background, pair.photons)
        for c, t in zip(counts, truths, strict=True)
    ]


def simulated_pair(
    shape: tuple[int, ...],
    psf: Psf,
    light: Light,
    random: np.random.Generator,
    *,
    photons: float | None = None,
) -> Pair:
    """Return a pair.

    Parameters
    ----------
    shape : (Z, Y, X) or (Y, X)
        Voxels of the pair.
    psf : Psf
        On these voxels; its spacing, where it has one, makes round things round.
    light : Light
        Photons, background and noise.
    random : numpy.random.Generator
        The same state gives the same pair.
    photons : float, optional
        Most expected in a voxel, in the place of a number drawn from the range.
    """
    from scipy.signal import fftconvolve

    beyond = [min(n // 2, MOST_BEYOND) for n in psf.shape]
    larger = tuple(n + 2 * more for n, more in zip(shape, beyond, strict=True))
    inside = tuple(slice(more, more + n) for n, more in zip(shape, beyond, strict=True))
    spacing = psf.spacing_um or (1.0,) * len(shape)
    truth = structures(larger, spacing, random, light.kinds)
    full = fftconvolve(truth, psf.samples, mode="full")
    start = [n // 2 for n in psf.shape]
    same = tuple(slice(s, s + n) for s, n in zip(start, larger, strict=True))
    blurred = np.maximum(full[same][inside], 0)
    low, high = light.photons
    drawn = math.exp(random.uniform(math.log(low), math.log(high)))
    peak = drawn if photons is None else photons
    factor = peak / max(float(blurred.max()), 1e-6)
    background = float(random.uniform(light.background[0], light.background[1]))
    # Of the background, the camera's offset is no light and has no noise.
    camera = Camera(light.gain, min(light.offset, background), light.read_noise)
    dark = (background - camera.offset) / camera.gain
    counts = camera.recorded(blurred * factor + dark, random).astype(np.float32)
    wanted = (truth[inside] * (factor * light.gain)).astype(np.float32)
    return Pair(counts, wanted, background, peak)


def simulated_pairs(
    numbers: Iterable[int],
    shape: tuple[int, ...],
    psfs: Sequence[Psf],
    light: Light,
    seed: int,
) -> Iterator[Pair]:
    """Yield the pairs of a seed that have these numbers, with one PSF after the other."""
    for number in numbers:
        psf = psfs[number % len(psfs)]
        yield simulated_pair(shape, psf, light, np.random.default_rng((seed, number)))
