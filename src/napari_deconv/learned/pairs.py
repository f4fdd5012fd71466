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
        Range of the brightest expected count above the background; each pair draws its own.
    background : (float, float)
        Range of the counts under everything.
    read_noise : float
        Standard deviation of the camera's noise, in photons.
    kinds : tuple of str
        Structures to draw, of `imaging.structures.KINDS`.

    Raises
    ------
    InputError
        If a range is empty or a kind not known.
    """

    photons: tuple[float, ...] = (10.0, 2000.0)
    background: tuple[float, ...] = (0.0, 20.0)
    read_noise: float = 1.0
    kinds: tuple[str, ...] = tuple(KINDS)

    def __post_init__(self) -> None:
        for name, least in (("photons", 1e-3), ("background", 0.0)):
            values = getattr(self, name)
            require(
                len(values) == 2 and least <= values[0] <= values[1],
                f"The range of the {name} must be two numbers from {least:g} on, the lower one "
                f"first, not {values}",
            )
        require_number("The read noise", self.read_noise, least=0)
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
        Photons of each voxel before the blur.
    background : float
        In counts.
    photons : float
        Brightest expected count above the background.
    """

    counts: Float
    truth: Float
    background: float
    photons: float


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
        Brightest expected count, in the place of one drawn from the range.
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
    counts = random.poisson(blurred * factor + background).astype(np.float32)
    counts += random.normal(0, light.read_noise, shape).astype(np.float32)
    return Pair(counts, (truth[inside] * factor).astype(np.float32), background, peak)


def simulated_pairs(
    count: int, shape: tuple[int, ...], psf: Psf, light: Light, seed: int
) -> Iterator[Pair]:
    """Yield pairs; pair k of a seed is the same however many there are."""
    for number in range(count):
        yield simulated_pair(shape, psf, light, np.random.default_rng((seed, number)))
