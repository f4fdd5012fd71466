"""A network that leans on Richardson-Lucy where there is much light or it misses the data.

With little light the noise is what limits, and a network knows it better; with much light the data
themselves tell nearly all, and a network makes of structure that it has never seen what it has.
Where it does, its result blurred again misses the data by more than that of Richardson-Lucy. How
far it then leans is measured on such structure (benchmarks/foreign_structures.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.camera import Camera
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.misfit import misfit_of
from napari_deconv.restoration.restorer import Observation

Float = npt.NDArray[np.float32]

#: The network's share of the result where it misses the data, by the photons of the brightness;
#: between them along the logarithm.
PHOTONS, SHARES = (20.0, 100.0, 1000.0), (0.75, 0.5, 0.25)
#: By how much more than Richardson-Lucy, as a part of that, a network misses the data that is to be
#: believed no more than its share; and one that has not seen the like.
MISSES, STRANGE = 0.03, 0.2
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
    """

    photons: float
    network: float
    usual: float

    @property
    def share(self) -> float:
        """The network's share of the result.

        Examples
        --------
        >>> [round(Leaning(300.0, chi, 1.0).share, 2) for chi in (0.99, 1.015, 1.5)]
        [1.0, 0.69, 0.38]
        """
        least = np.interp(np.log(max(self.photons, 1e-3)), np.log(PHOTONS), SHARES)
        trust = np.clip(1 - self.excess / MISSES, 0, 1)
        return float(least + (1 - least) * trust)

    @property
    def excess(self) -> float:
        """By how much more the network misses the data, as a part of what the other one does."""
        return self.network / max(self.usual, LEAST) - 1

    @property
    def is_strange(self) -> bool:
        """Whether the network has hardly seen the like."""
        return self.excess > STRANGE

    def mixed(self, image: Float, usual: Float) -> Float:
        """Return the result, of what either makes of the image."""
        result: Float = usual + np.float32(self.share) * (image - usual)
        return result

    def widened(self, width: Float, image: Float, usual: Float) -> Float:
        """Return half an interval around the mixture, which holds that around the network's."""
        wider: Float = width + np.float32(1 - self.share) * np.abs(usual - image)
        return wider

    def told(self) -> list[str]:
        """Return the shares and why, and whether the network has hardly seen the like."""
        # The part, as chi-squared itself is no better than what is known of the camera.
        why = (
            "blurred again, the network misses the data by a chi² "
            f"{1 + self.excess:.2f} times that of Richardson-Lucy"
        )
        found = [f"{1 - self.share:.0%} of Richardson-Lucy mixed in, as {why}"]
        return found + ([f"outside its training: {why}"] if self.is_strange else [])


def missed(
    observation: Observation, image: Float, usual: Float, camera: Camera, engine: Engine
) -> tuple[float, float]:
    """Return chi-squared of what a network and Richardson-Lucy make of an image."""
    ours, theirs = (misfit_of(observation, x, camera, engine) for x in (image, usual))
    return ours.chi_squared, theirs.chi_squared
