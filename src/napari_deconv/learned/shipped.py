"""The networks that come with the package, as the place where another training starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_deconv.imaging.psf import Psf, psf_distance

if TYPE_CHECKING:
    from .designs import Design
    from .model_file import Model

#: Where they lie; there may be none.
SHIPPED = Path(__file__).parents[1] / "models"


def nearest_shipped(design: Design, psf: Psf) -> Model | None:
    """Return the network from whose weights one of a design can start; None if there is none.

    Of several, the one that was trained with the PSF nearest to this one.
    """
    from .model_file import read_card, read_model

    files = sorted(SHIPPED.glob("*.safetensors"))
    models = [read_model(path) for path in files if fits(read_card(path).design, design)]

    def apart(model: Model) -> float:
        return min(psf_distance(psf.samples, seen.samples) for seen in model.psfs)

    return min(models, key=apart, default=None)


def fits(one: Design, other: Design) -> bool:
    """Return whether networks of the two have the same weights: they may pool otherwise."""
    from .designs import UNetDesign

    if isinstance(one, UNetDesign) and isinstance(other, UNetDesign):
        sizes = [(len(design.pools), len(design.pools[0])) for design in (one, other)]
        return sizes[0] == sizes[1] and replace(one, pools=other.pools) == other
    return one == other
