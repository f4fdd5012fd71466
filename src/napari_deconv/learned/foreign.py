"""What networks of other programs have in common here: U-Nets of CARE, filled with their weights.

What is not understood is refused; a network that is nearly the same would give images that are
nearly right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import require

from .designs import UNetDesign
from .model_file import Card, Model
from .pairs import Light
from .unet import UNet

#: No network of these programs is larger, in weights.
MOST_WEIGHTS = 500_000_000

CARE = (
    "Weigert et al. 2018, Content-aware image restoration: pushing the limits of fluorescence "
    "microscopy, Nature Methods 15, 1090, doi 10.1038/s41592-018-0216-7"
)
#: Of pairs that are not known: nothing is outside of them.
ANY_LIGHT = Light(photons=(1e-3, 1e9), background=(0.0, 1e9), read_noise=0.0, kinds=())


@dataclass(frozen=True, eq=False)
class Imported:
    """A network of another program as a model, and what had to be assumed to read it.

    Parameters
    ----------
    model : Model
        With a PSF of one voxel, which stands for one that is not known.
    notes : tuple of str
        Sentences for people.
    """

    model: Model
    notes: tuple[str, ...]


@dataclass
class Layer:
    """One convolution of a file: the shapes that are written, and how to get the numbers."""

    weight: Any = None
    bias: Any = None
    norm: dict[str, Tensor] = field(default_factory=dict)


def model_of(name: str, design: UNetDesign, network: UNet, citation: str) -> Model:
    """Return a network as a model, with all of its card that is known."""
    card = Card(name, design, ANY_LIGHT, license="unknown", citation=citation)
    point = Psf(np.ones((1,) * len(design.pools[0]), np.float32))
    return Model(card, (network,), (point,))


def require_shapes(design: UNetDesign, shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse what is not this network, before anything large is read or made."""
    with torch.device("meta"):  # shapes alone
        wanted = {key: tuple(v.shape) for key, v in design.network().state_dict().items()}
    for key in sorted(set(wanted) | set(shapes)):
        require(
            shapes.get(key) == wanted.get(key),
            f"{name} is not a U-Net of CARE: of the layer {key!r} it has "
            f"{shapes.get(key, 'nothing')}, not {wanted.get(key, 'nothing')}; only the standard "
            "networks of CSBDeep and CAREamics can be read",
        )


def filled(design: UNetDesign, weights: Mapping[str, tuple[Tensor, Tensor]], name: str) -> UNet:
    """Return the network of a design with these weights and biases, in use."""
    state = {
        f"{key}.{part}": value
        for key, both in weights.items()
        for part, value in zip(("weight", "bias"), both, strict=True)
    }
    finite = all(bool(torch.isfinite(value).all()) for value in state.values())
    require(finite, f"The weights in {name} are not finite: its training had failed")
    network = design.network()
    network.load_state_dict(state)
    network.eval()
    return network


def require_sizes(first: int, depth: int, kernel: Sequence[int], name: str) -> None:
    """Refuse sizes of which no network can be made."""
    side = kernel[0] if kernel else 0
    require(
        len(kernel) in (2, 3) and side % 2 == 1 and set(kernel) == {side},
        f"{name} has convolutions of {' x '.join(map(str, kernel)) or 'no axis'}; only 2D and "
        "3D networks with odd kernels, as long along each axis, can be read",
    )
    voxels = side ** len(kernel)
    # Most are in the middle, between 2 ** depth times as many channels and half of that.
    most = 2 * voxels * (first * 2**depth) ** 2
    require(
        depth >= 1 and first >= 1 and most <= MOST_WEIGHTS,
        f"{name} has {depth} levels from {first} channels on: no CARE network is that large, or "
        "that small",
    )


def require_one(channels: int, outputs: int, name: str) -> None:
    """Refuse networks for more than one channel."""
    require(
        channels == 1 and outputs == 1,
        f"{name} takes {channels} channels or planes and returns {outputs}; only networks from "
        "one channel to one can be read, so split the channels and train one network each",
    )
