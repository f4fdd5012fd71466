"""A network that leans on Richardson-Lucy, the more the more light there is.

With little light the noise is what limits, and a network knows it better; with much light the data
themselves tell nearly all, and a network makes of structure that it has never seen what it has.
How far is measured on such structure (benchmarks/foreign_structures.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_deconv.restoration.richardson_lucy import RichardsonLucy

from .blocks import Block

Float = npt.NDArray[np.float32]

#: The network's share of the result, by the photons of the brightness; between them along the
#: logarithm.
PHOTONS, SHARES = (20.0, 100.0, 1000.0), (0.75, 0.5, 0.25)


def share_of(photons: float) -> float:
    """Return the network's share of the result.

    Examples
    --------
    >>> [round(share_of(photons), 2) for photons in (1, 20, 300, 5000)]
    [0.75, 0.75, 0.38, 0.25]
    """
    return float(np.interp(np.log(max(photons, 1e-3)), np.log(PHOTONS), SHARES))


@dataclass(frozen=True, eq=False)
class Leaning:
    """What Richardson-Lucy makes of an image, and how far a network leans on it.

    Parameters
    ----------
    usual : ndarray of float32, (Z, Y, X) or (Y, X)
        Its estimate, over the brightness.
    method : RichardsonLucy
        That made it.
    share : float
        Of the network.
    """

    usual: Float
    method: RichardsonLucy
    share: float

    def image(self, image: Float, block: Block) -> Float:
        """Return a block of a network's image, mixed."""
        usual = self.usual[block.keep]
        return usual + np.float32(self.share) * (np.maximum(image, 0) - usual)

    def width(self, width: Float, image: Float, block: Block) -> Float:
        """Return half an interval around the mixture, which holds that around the network's."""
        return width + np.abs(self.image(image, block) - np.maximum(image, 0))

    def in_words(self) -> str:
        """Return the shares."""
        return (
            f"{1 - self.share:.0%} of Richardson-Lucy after {self.method.iterations} iterations "
            "mixed in for caution"
        )
