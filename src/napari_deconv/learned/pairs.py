"""Pairs to learn from, simulated with the user's own PSF: counts, and the truth behind them.

A pair is made as a microscope would make it: random structures that go on beyond the field of
view, blurred by the PSF, with the photons, the background and the read noise of a camera.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.structures import KINDS, structures
from napari_deconv.imaging.value import Value, require, require_number

Float = npt.NDArray[np.float32]

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
        If the shapes differ, or one of them has no light above its background.
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
    # A deblurred image has as much light as the blurred one.
    factor = light / float(lit.sum(dtype=np.float64))
    found = np.asarray(counts, np.float32)
    return Pair(found, lit * np.float32(factor), background, float(found.max()) - background)


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
    dark = max((background - light.offset) / light.gain, 0)
    caught = random.poisson(blurred * factor + dark) + random.normal(0, light.read_noise, shape)
    counts = (background + light.gain * (caught - dark)).astype(np.float32)
    wanted = (truth[inside] * (factor * light.gain)).astype(np.float32)
    return Pair(counts, wanted, background, peak)


def simulated_pairs(
    count: int, shape: tuple[int, ...], psf: Psf, light: Light, seed: int
) -> Iterator[Pair]:
    """Yield pairs; pair k of a seed is the same however many there are."""
    for number in range(count):
        yield simulated_pair(shape, psf, light, np.random.default_rng((seed, number)))
