"""A trained network as one file: its weights as safetensors, and a card that says what it is.

The card is a JSON text in the header of the file. Nothing in the file is ever executed: it holds
numbers and text, and what is no safetensors is refused unread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, Value, require
from napari_deconv.version import __version__

from .inputs import require_channels
from .pairs import Light
from .unet import UNet

Kind = TypeVar("Kind", bound=Value)

SUFFIX = ".safetensors"
#: Of the header's texts: the one that holds the card.
CARD = "napari_deconv"
PSF = "psf"
#: Raised when what a file holds changes its meaning.
FORMAT = 1


@dataclass(frozen=True)
class Design(Value):
    """A U-Net and what goes into it.

    Parameters
    ----------
    channels : tuple of str
        See `learned.inputs`; what the network adds is added to the first of them.
    pools : tuple of tuple of int
        By how much each level pools each axis.
    first, kernel : int
        Channels of the first level, and the side of its convolutions.
    laplace : bool
        Whether it says how sure it is.
    mixed : int
        So many of the first channels are mixed, voxel by voxel; of one the network starts.
    """

    channels: tuple[str, ...]
    pools: tuple[tuple[int, ...], ...]
    first: int = 12
    kernel: int = 3
    laplace: bool = False
    mixed: int = 1

    def __post_init__(self) -> None:
        require(bool(self.channels) and bool(self.pools), "A network needs channels and levels")
        require_channels(self.channels)
        require(
            1 <= self.mixed <= len(self.channels),
            f"Of {len(self.channels)} channels, {self.mixed} cannot be mixed",
        )

    def network(self) -> UNet:
        """Return the network with new weights, drawn by torch's generator."""
        return UNet(
            self.pools,
            channels=len(self.channels),
            first=self.first,
            kernel=self.kernel,
            laplace=self.laplace,
            mixed=self.mixed,
        )


@dataclass(frozen=True)
class Card(Value):
    """What a network is, what it was trained on, and how well it did.

    Parameters
    ----------
    name : str
        For people.
    design : Design
        Its layers and channels.
    light : Light
        Of the pairs that it learned from: outside of it, it is not to be believed.
    spacing_um : tuple of float, optional
        Voxel size of the pairs.
    seed, steps : int
        Of the training.
    seconds : float
        That it took.
    validation : float
        Loss on the pairs that were left out.
    license, citation, version : str
        Who may use it, what to cite, and the version that made it.
    format : int
        Of the file.
    """

    name: str
    design: Design
    light: Light
    spacing_um: tuple[float, ...] | None = None
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    validation: float = 0.0
    license: str = "CC0-1.0"
    citation: str = ""
    version: str = __version__
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with its card and the PSF that it was trained with."""

    card: Card
    network: UNet
    psf: Psf


def write_model(path: str | os.PathLike[str], model: Model, *, overwrite: bool = False) -> Path:
    """Write a model, whole or not at all.

    Raises
    ------
    InputError
        If the file is there already, or cannot be written.
    """
    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    return write_tensors(
        path, {**tensors, PSF: torch.tensor(model.psf.samples)}, model.card, overwrite=overwrite
    )


def write_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], card: Value, *, overwrite: bool
) -> Path:
    """Write tensors and a card; see `write_model`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(path).expanduser()
    require(
        target.name.lower().endswith(SUFFIX),
        f"{target.name} does not end in {SUFFIX}, as the file of a model does",
    )
    require(
        overwrite or not target.exists(),
        f"{target} exists already; choose another name, or allow it to be replaced",
    )
    part = target.with_name(f".{target.name}.partial")
    try:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, str(part), metadata={CARD: card.to_json()})
        part.replace(target)
    except (OSError, SafetensorError) as error:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)
        raise InputError(
            f"{target} cannot be written ({str(error)[:120]}); choose another place"
        ) from error
    return target


def read_model(path: str | os.PathLike[str]) -> Model:
    """Read a model.

    Raises
    ------
    InputError
        If the file is none, is damaged, or its card and its weights do not belong together.
    """
    tensors, card = read_tensors(path, Card)
    name = Path(path).name
    require(
        card.format <= FORMAT,
        f"{name} was made by a later version of napari-deconv; update it to use this model",
    )
    network = card.design.network()
    weights = {
        key.removeprefix("network."): value
        for key, value in tensors.items()
        if key.startswith("network.")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"The weights in {name} are not those of the network that its card describes; "
            "take the file as it was made"
        ) from error
    finite = all(bool(torch.isfinite(value).all()) for value in weights.values())
    require(finite, f"The weights in {name} are not finite: its training had failed")
    require(PSF in tensors, f"{name} lacks the PSF that its model was trained with")
    psf = Psf(np.asarray(tensors[PSF].numpy()), card.spacing_um)
    return Model(card, network.eval(), psf)


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read what a model is, without its weights; see `read_model`."""
    with _opened(path) as file:
        return _card_in(file, Card, path)


def read_tensors(path: str | os.PathLike[str], kind: type[Kind]) -> tuple[dict[str, Tensor], Kind]:
    """Read tensors and the card of a kind; see `read_model`."""
    with _opened(path) as file:
        card = _card_in(file, kind, path)
        return {name: file.get_tensor(name) for name in file.keys()}, card  # noqa: SIM118


def _card_in(file: Any, kind: type[Kind], path: str | os.PathLike[str]) -> Kind:
    texts, name = file.metadata() or {}, Path(path).name
    require(
        CARD in texts,
        f"{name} has no card of napari-deconv in it; choose a model that it has trained",
    )
    try:
        return kind.from_json(texts[CARD])
    except InputError as error:
        raise InputError(f"The card of {name} cannot be read: {error}") from error


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a safetensors file; what is wrong with it is told in a sentence."""
    from safetensors import SafetensorError, safe_open

    found = Path(path).expanduser()
    require(found.is_file(), f"There is no model {found}; check the spelling, or train one")
    try:
        with safe_open(str(found), framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(
            f"{found.name} is no safetensors file, or is cut off, and was not read further "
            f"({str(error)[:120]}); take the file as it was made"
        ) from error
    except OSError as error:
        raise InputError(f"{found.name} cannot be read ({error.strerror or error})") from error
