"""How a tip is estimated by gradient descent, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from napari_deconv.imaging.value import Value, require, require_number


@dataclass(frozen=True)
class GradientTip(Value):
    """How the tip is estimated from images by gradient descent.

    Parameters
    ----------
    shape : tuple of int, (Y, X)
        Pixels of the tip, odd.
    starts : int
        Tips to start from: paraboloids, cones, double tips, random ones, a flat one.
    steps : int
        Of the descent, from each start that is looked at closely.
    symmetric : bool
        Whether the tip is the same when turned by half a turn.
    weight_decays : tuple of float
        Pulls towards a flat tip that are tried: of each height, a tenth of this in each step.
    seed : int
        Of all that is random.

    Raises
    ------
    InputError
        If one of them cannot be.
    """

    shape: tuple[int, int] = (15, 15)
    starts: int = 16
    steps: int = 200
    symmetric: bool = False
    weight_decays: tuple[float, ...] = (1e-3, 1e-2, 3e-2)
    seed: int = 0

    def __post_init__(self) -> None:
        sides = tuple(self.shape)
        require(
            len(sides) == 2 and all(isinstance(n, int) and n >= 3 and n % 2 for n in sides),
            f"The tip has two odd sides of 3 pixels or more, not {self.shape}",
        )
        object.__setattr__(self, "shape", sides)
        for name, value, least in (("starts", self.starts, 1), ("steps", self.steps, 20)):
            require(
                isinstance(value, int) and value >= least,
                f"The number of {name} must be a whole number from {least}, not {value}",
            )
        require(isinstance(self.seed, int) and self.seed >= 0, "The seed is a number from 0")
        require(len(self.weight_decays) > 0, "At least one weight decay must be tried")
        for decay in self.weight_decays:
            require_number("A weight decay", decay, least=0)
            require(decay < 1, f"A weight decay is below 1, not {decay:g}")
