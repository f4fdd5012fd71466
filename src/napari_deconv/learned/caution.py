"""A network that leans on Richardson-Lucy: its result is gone on from, and mixed.

With little light the noise is what limits, and a network knows it better; with much light the data
themselves tell nearly all, and a network makes of structure that it has never seen what it has. So
Richardson-Lucy goes on from what the network has restored, for most of its iterations: what the
data tell becomes as they tell it, and of what they do not tell the network's part stays. How much
of the result is of either, and how much of Richardson-Lucy alone, goes by the light, and is such
that it is hardly ever behind the latter (benchmarks/foreign_structures.py). Where single voxels are
all there is, as where molecules are, and light enough, nothing does better than Richardson-Lucy,
and there is little of a network in the result.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.camera import Camera
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.misfit import mean_misfit, squared_misfit
from napari_deconv.restoration.restorer import Observation, Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import estimated

Float = npt.NDArray[np.float32]

#: Shares of the result by the photons of the brightness, between them along the logarithm: that of
#: the network, and that of Richardson-Lucy that has gone on from it. The rest is the usual one.
PHOTONS = (20.0, 100.0, 300.0, 1000.0)
NETWORK, GONE_ON = (0.4, 0.1, 0.1, 0.0), (0.3, 0.4, 0.3, 0.4)
#: The same where there is nothing but points, whose brightness is a quarter of what the brightest
#: voxels have.
PHOTONS_OF_POINTS = (5.0, 20.0)
NETWORK_OF_POINTS, GONE_ON_OF_POINTS = (0.4, 0.0), (0.3, 0.2)
#: Side of the box in which a bright voxel shares its light with others; with so many or fewer, all
#: counted, it is a point, and with so many or more it is none: a line is 5 long in it.
AROUND, POINT, NO_POINT = 5, 2.0, 5.0
#: Part of these that a filter has: alone it is behind Richardson-Lucy on most structures.
OF_A_FILTER = 0.2
#: Part of the usual iterations for which it goes on.
ITERATIONS = 0.75
#: Float32 volumes beside those of Richardson-Lucy: the image, what is shown of it, the start, and
#: what was restored without it.
VOLUMES_BESIDE = 4.0
#: By how much more than Richardson-Lucy, as a part of that, a network misses the data where it has
#: hardly seen the like: at the least, and a photon, as what is wrong by a part stands out of the
#: noise by how much light there is.
STRANGE, STRANGE_A_PHOTON = 0.1, 5e-4
#: Up to so many photons nothing of that shows.
LITTLE = 50.0
#: What a record says of a stack that is not of the kind that a network has learned, and where too
#: little light hides whether it is.
OUTSIDE, HIDDEN = "outside its training", "do not tell whether it has seen the like"
#: No chi-squared is less: parts of it are taken.
LEAST = 1e-6


@dataclass(frozen=True)
class Leaning:
    """How far a network leans on Richardson-Lucy.

    Parameters
    ----------
    photons : float
        The brightness.
    network, usual : float
        Chi-squared of what either makes of the image, alone.
    points : float
        How much of what Richardson-Lucy finds are points; see `points_in`.
    is_filter : bool
        Whether the network is a filter alone.
    """

    photons: float
    network: float
    usual: float
    points: float = 0.0
    is_filter: bool = False

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of the network in the result, and of what has gone on from it.

        Examples
        --------
        >>> Leaning(100.0, 1.0, 1.0).shares
        (0.1, 0.4)
        """
        part = OF_A_FILTER if self.is_filter else 1.0
        network = self._among(NETWORK, NETWORK_OF_POINTS)
        return part * network, part * self._among(GONE_ON, GONE_ON_OF_POINTS)

    def _among(self, wide: tuple[float, ...], points: tuple[float, ...]) -> float:
        """Return a share by the light, and by how much of the image are points."""
        light = np.log(max(self.photons, LEAST))
        one = float(np.interp(light, np.log(PHOTONS), wide))
        other = float(np.interp(light, np.log(PHOTONS_OF_POINTS), points))
        return one + self.points * (other - one)

    @property
    def excess(self) -> float:
        """By how much more the network misses the data, as a part of what the other one does."""
        return self.network / max(self.usual, LEAST) - 1

    @property
    def is_strange(self) -> bool:
        """Whether the network has hardly seen the like, as far as the data tell."""
        return self.excess > max(STRANGE, STRANGE_A_PHOTON * self.photons)

    def mixed(self, image: Float, gone_on: Float, usual: Float) -> Float:
        """Return the result, of what the network makes of the image, and either of the others."""
        network, further = (np.float32(share) for share in self.shares)
        result: Float = usual + network * (image - usual) + further * (gone_on - usual)
        return result

    def told(self) -> list[str]:
        """Return the shares, and whether the network has hardly seen the like."""
        network, gone_on = self.shares
        found = [
            f"{network:.0%} of the network, {gone_on:.0%} of Richardson-Lucy that has gone on from "
            f"it, {1 - network - gone_on:.0%} of Richardson-Lucy alone"
        ]
        if self.is_strange:
            # The part, as chi-squared itself is no better than what is known of the camera.
            found.append(
                f"{OUTSIDE}: blurred again, the network misses the data by a chi² "
                f"{1 + self.excess:.2f} times that of Richardson-Lucy"
            )
        elif self.photons <= LITTLE:
            found.append(
                f"{self.photons:.0f} photons {HIDDEN}: hold the result against Richardson-Lucy"
            )
        return found


def going_on(usual: RichardsonLucy) -> RichardsonLucy:
    """Return the method that goes on from a network, of one whose iterations are known."""
    return replace(usual, iterations=max(round(ITERATIONS * usual.iterations), 1))


def iterations(usual: RichardsonLucy) -> int:
    """Return the most iterations of a method, and of what goes on from a network."""
    return usual.iterations + going_on(usual).iterations


def twice_restored(
    method: RichardsonLucy, observation: Observation, image: Float, engine: Engine
) -> Generator[Step, None, tuple[Float, Float]]:
    """Return what a method restores by itself, and going on from what a network has made."""
    chosen = yield from method.chosen(observation, engine)
    start = yield from estimated(chosen.steps(observation, engine, beyond=True))
    # Of what lies beyond the image the network knows nothing.
    inside = tuple(slice(n) for n in image.shape)
    usual = start[inside].copy()
    start[inside] = image
    gone_on = yield from estimated(going_on(chosen).steps(observation, engine, start))
    return usual, gone_on


def compared(
    observation: Observation, image: Float, usual: Float, camera: Camera, engine: Engine
) -> tuple[float, float, float]:
    """Return chi-squared of what a network and Richardson-Lucy make of an image, and its points."""
    ours, theirs = (
        mean_misfit(squared_misfit(observation, x, camera, engine), observation.psf.samples)
        for x in (image, usual)
    )
    return ours, theirs, points_in(usual)


def points_in(image: Float) -> float:
    """Return how much of an image are points: 1 where bright voxels stand alone, else down to 0.

    Parameters
    ----------
    image : ndarray of float32
        Restored, not negative.

    Notes
    -----
    With x the image and S its sums over boxes, <x, S> / <x, x> is the number of equally bright
    voxels in the box around one: 1 for points, 5 and more for lines, and the whole box where the
    image is even.
    """
    from scipy.ndimage import uniform_filter

    sides = [min(AROUND, n) for n in image.shape]
    sums = uniform_filter(image, sides, mode="constant") * np.float32(math.prod(sides))
    energy = float(np.vdot(image, image))
    if energy == 0:
        return 0.0
    beside = float(np.vdot(image, sums)) / energy
    return float(np.clip((NO_POINT - beside) / (NO_POINT - POINT), 0, 1))
