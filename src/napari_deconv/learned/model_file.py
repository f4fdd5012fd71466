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
from tempfile import TemporaryFile
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, Value, require, require_number
from napari_deconv.imaging.whole_file import replacing
from napari_deconv.version import __version__

from .calibration import Calibration
from .designs import Design, UNetDesign, WienerDesign
from .nets import Net
from .pairs import Light

Kind = TypeVar("Kind", bound=Value)

SUFFIX = ".safetensors"
#: Of the header's texts: the one that holds the card.
CARD = "napari_deconv"
NETWORK, PSF = "network", "psf"
#: Who may read a model: models are handed on.
SHARED = 0o644
#: Raised when what a file holds changes its meaning.
FORMAT = 2


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
    start_validation : float, optional
        That of the network that training started from, where there was one.
    members : int
        Networks that answer together.
    calibration : Calibration, optional
        How wide its intervals must be.
    license, citation, version : str
        Who may use it, what to cite, and the version that made it.
    format : int
        Of the file.

    Raises
    ------
    InputError
        If a number is none that a network can have.
    """

    name: str
    design: Design
    light: Light
    spacing_um: tuple[float, ...] | None = None
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    validation: float = 0.0
    start_validation: float | None = None
    members: int = 1
    calibration: Calibration | None = None
    license: str = "CC0-1.0"
    citation: str = ""
    version: str = __version__
    format: int = FORMAT

    @property
    def is_as_before(self) -> bool:
        """Whether no step made it better than the network that training started from."""
        return self.start_validation is not None and self.validation >= self.start_validation

    def __post_init__(self) -> None:
        require_number("The number of members", self.members, least=1)
        for name in ("steps", "seconds"):
            require_number(f"The {name} of the training", getattr(self, name), least=0)
        if self.spacing_um is not None:
            Grid(spacing_um=self.spacing_um)  # which refuses what is no voxel size


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network, or several, with the card and the PSFs that it was trained with."""

    card: Card
    networks: tuple[Net, ...]
    psfs: tuple[Psf, ...]

    @property
    def network(self) -> Net:
        """The first network."""
        return self.networks[0]

    @property
    def psf(self) -> Psf:
        """The PSF that stands for all."""
        return self.psfs[0]


def require_place(path: str | os.PathLike[str], what: str = "the file of a model") -> None:
    """Raise unless a model, or `what` is kept like one, can be written there later.

    Raises
    ------
    InputError
        If the suffix is another one, or the folder is missing or may not be written to.
    """
    target = Path(path).expanduser()
    folder = target.parent
    _require_suffix(target, what)
    require(folder.is_dir(), f"There is no folder {folder}; create it, or choose another")
    require(not target.is_dir(), f"{target} is a folder; choose another name")
    try:
        with TemporaryFile(dir=folder, prefix=".napari-deconv-"):
            pass
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror}); choose another place"
        ) from error


def _require_suffix(target: Path, what: str) -> None:
    require(
        target.name.lower().endswith(SUFFIX),
        f"{target.name} does not end in {SUFFIX}, as {what} does",
    )


def write_model(path: str | os.PathLike[str], model: Model, *, overwrite: bool = False) -> Path:
    """Write a model, whole or not at all.

    Raises
    ------
    InputError
        If the file is there already, or cannot be written.
    """
    tensors = {f"{PSF}.{n}": torch.tensor(psf.samples) for n, psf in enumerate(model.psfs)}
    for number, network in enumerate(model.networks):
        tensors |= {f"{NETWORK}.{number}.{key}": v for key, v in network.state_dict().items()}
    return write_tensors(path, tensors, model.card, overwrite=overwrite)


def write_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], card: Value, *, overwrite: bool
) -> Path:
    """Write tensors and a card; see `write_model`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(path).expanduser()
    _require_suffix(target, "the file of a model")
    require(
        overwrite or not target.exists(),
        f"{target} exists already; choose another name, or allow it to be replaced",
    )
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        with replacing(target) as part:
            save_file(plain, str(part), metadata={CARD: card.to_json()})
            part.chmod(SHARED)  # it is written for its owner alone
    except (OSError, SafetensorError) as error:
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
    networks = tuple(_network_in(tensors, card, number, name) for number in range(card.members))
    numbers = sum(key.startswith(f"{PSF}.") for key in tensors)
    psfs = [tensors[f"{PSF}.{n}"] for n in range(numbers) if f"{PSF}.{n}" in tensors]
    require(bool(psfs), f"{name} lacks the PSF that its model was trained with")
    return Model(card, networks, tuple(Psf(np.asarray(p.numpy()), card.spacing_um) for p in psfs))


def _network_in(tensors: dict[str, Tensor], card: Card, number: int, name: str) -> Net:
    """Return one of the networks of a file."""
    prefix = f"{NETWORK}.{number}."
    weights = {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
    sides = {side for value in weights.values() for side in value.shape}
    foreign = (
        f"The weights in {name} are not those of the network that its card describes; take the "
        "file as it was made"
    )
    # Before it is made: it may be larger than memory.
    require(_sides_of(card.design) <= sides, foreign)
    try:
        network = card.design.network()
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(foreign) from error
    finite = all(bool(torch.isfinite(value).all()) for value in weights.values())
    require(finite, f"The weights in {name} are not finite: its training had failed")
    return network.eval()


def _sides_of(design: Design) -> set[int]:
    """Return numbers that some weights of a network have as a side."""
    if isinstance(design, WienerDesign):
        return set()
    return {design.first, design.kernel} if isinstance(design, UNetDesign) else {design.first}


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
