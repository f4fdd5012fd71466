"""A network that leans on Richardson-Lucy where there is much light or it misses the data.

With little light the noise is what limits, and a network knows it better; with much light the data
themselves tell nearly all, and a network makes of structure that it has never seen what it has.
Where it does, its result blurred again misses the data by more than that of Richardson-Lucy. How
far it then leans, as a whole and around each voxel, is measured on such structure
(benchmarks/foreign_structures.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.misfit import mean_misfit, squared_misfit
from napari_deconv.restoration.reach import core_sigmas
from napari_deconv.restoration.restorer import Observation

Float = npt.NDArray[np.float32]

#: The network's share of the result where it misses the data, by the photons of the brightness;
#: between them along the logarithm.
PHOTONS, SHARES = (20.0, 100.0, 1000.0), (0.75, 0.5, 0.15)
#: By how much more than Richardson-Lucy, as a part of that, a network misses the data that is to be
#: believed no more than its share.
MISSES = 0.03
#: The same around a voxel, by the same photons, as with little light the noise hides more: up to
#: the first a network is believed, from the second on no more than its share. And its share where
#: it is believed, though as a whole it misses the data.
BELIEVED, DOUBTED, BELIEVED_SHARES = (-0.05, -0.05, 0.05), (0.02, 0.03, 0.3), (1.0, 0.6, 0.5)
#: By how much more it misses the data where it has hardly seen the like: at the least, and a
#: photon, as what is wrong by a part stands out of the noise by how much light there is.
STRANGE, STRANGE_A_PHOTON = 0.1, 5e-4
#: Up to so many photons nothing of that shows.
LITTLE = 50.0
#: What a record says of a stack that is not of the kind that a network has learned, and where too
#: little light hides whether it is.
OUTSIDE, HIDDEN = "outside its training", "do not tell whether it has seen the like"
#: The most that a filter has of the result, by the same photons: alone it is behind Richardson-Lucy
#: on most of what it was held against, by much where there is much light.
FILTER_SHARES = (0.2, 0.15, 0.03)
#: How far around a voxel, in widths of the PSF's core.
AROUND = 7.0
#: No chi-squared is less: parts of it are taken.
LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Leaning:
    """How far a network leans on Richardson-Lucy.

    Parameters
    ----------
    photons : float
        The brightness.
    network, usual : float
        Chi-squared of what either makes of the image, alone.
    around : ndarray of float32, optional
        By how much more the network misses the data around each voxel; see `excess_around`.
    is_filter : bool
        Whether the network is a filter alone.
    """

    photons: float
    network: float
    usual: float
    around: Float | None = None
    is_filter: bool = False

    @property
    def share(self) -> float:
        """The network's share of the result, as a whole.

        Examples
        --------
        >>> [round(Leaning(300.0, chi, 1.0).share, 2) for chi in (0.99, 1.015, 1.5)]
        [1.0, 0.67, 0.33]
        """
        trust = np.clip(1 - self.excess / MISSES, 0, 1)
        return min(float(self._least + (1 - self._least) * trust), self._most)

    @property
    def _most(self) -> float:
        return self._by_light(FILTER_SHARES) if self.is_filter else 1.0

    @property
    def _least(self) -> float:
        return self._by_light(SHARES)

    def _by_light(self, values: tuple[float, ...]) -> float:
        return float(np.interp(np.log(max(self.photons, 1e-3)), np.log(PHOTONS), values))

    @cached_property
    def shares(self) -> Float:
        """The network's share at each voxel: what it is as a whole, or more where it is right."""
        if self.around is None:
            return np.array(self.share, np.float32)
        believed, doubted = self._by_light(BELIEVED), self._by_light(DOUBTED)
        trust = np.clip((doubted - self.around) / (doubted - believed), 0, 1)
        most = self._by_light(BELIEVED_SHARES)
        shares = np.maximum(self._least + (most - self._least) * trust, self.share)
        result: Float = np.asarray(np.minimum(shares, self._most), np.float32)
        return result

    @property
    def excess(self) -> float:
        """By how much more the network misses the data, as a part of what the other one does."""
        return self.network / max(self.usual, LEAST) - 1

    @property
    def is_strange(self) -> bool:
        """Whether the network has hardly seen the like, as far as the data tell."""
        return self.excess > max(STRANGE, STRANGE_A_PHOTON * self.photons)

    def mixed(self, image: Float, usual: Float) -> Float:
        """Return the result, of what either makes of the image."""
        result: Float = usual + self.shares * (image - usual)
        return result

    def widened(self, width: Float, image: Float, usual: Float) -> Float:
        """Return half an interval around the mixture, which holds that around the network's."""
        wider: Float = width + (1 - self.shares) * np.abs(usual - image)
        return wider

    def told(self) -> list[str]:
        """Return the shares and why, and whether the network has hardly seen the like."""
        # The part, as chi-squared itself is no better than what is known of the camera.
        why = (
            "blurred again, the network misses the data by a chi² "
            f"{1 + self.excess:.2f} times that of Richardson-Lucy"
        )
        part = 1 - float(self.shares.mean(dtype=np.float64))
        reason = "as a filter alone is mostly behind it" if self.is_filter else f"as {why}"
        found = [f"{part:.0%} of Richardson-Lucy mixed in, {reason}"]
        if self.is_strange:
            found.append(f"{OUTSIDE}: {why}")
        elif self.photons <= LITTLE:
            found.append(
                f"{self.photons:.0f} photons {HIDDEN}: hold the result against Richardson-Lucy"
            )
        return found


def squares_of(
    observation: Observation, image: Float, usual: Float, camera: Camera, engine: Engine
) -> tuple[Float, Float]:
    """Return by how much a network and Richardson-Lucy miss each voxel of the data."""
    ours, theirs = (squared_misfit(observation, x, camera, engine) for x in (image, usual))
    return ours, theirs


def missed(squares: tuple[Float, Float], psf: Psf) -> tuple[float, float]:
    """Return chi-squared of either."""
    ours, theirs = (mean_misfit(squared, psf.samples) for squared in squares)
    return ours, theirs


def excess_around(squares: tuple[Float, Float], psf: Psf) -> Float:
    """Return by how much more the network misses the data around each voxel, as a part."""
    from scipy.ndimage import uniform_filter

    sides = [2 * far + 1 for far in _far_around(psf)]
    ours, theirs = (uniform_filter(squared, sides) for squared in squares)
    return np.asarray(ours / np.maximum(theirs, LEAST) - 1, np.float32)


def looks(psf: Psf) -> tuple[int, ...]:
    """Return how far a voxel's share looks: at data nearby, that is at light within half a PSF."""
    return tuple(far + n // 2 for far, n in zip(_far_around(psf), psf.shape, strict=True))


def _far_around(psf: Psf) -> tuple[int, ...]:
    sigmas = core_sigmas(psf.samples)
    return tuple(
        round(AROUND * sigma) if n > 1 else 0 for sigma, n in zip(sigmas, psf.shape, strict=True)
    )
