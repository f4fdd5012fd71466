"""The recipe: plain values with everything needed to repeat a result."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, Value, require, require_number
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

from .names import SUFFIXES
from .reading import read_provenance
from .whole import write_whole


@dataclass(frozen=True)
class TrainedModel(Value):
    """A trained network, in the place of a method.

    Parameters
    ----------
    path : str
        Its file.
    sha256 : str, optional
        Digest of the file when the recipe was made, so that another content is noticed.
    shows : str
        "estimate", or how sure the network is: see `learned.network.SHOWN`.
    mirrored : bool
        Whether mirrored images are restored as well, and the answers averaged.
    cautious : bool
        Whether the result leans on Richardson-Lucy where the network misses the data; networks
        that undo no blur never do.
    """

    path: str
    sha256: str | None = None
    shows: str = "estimate"
    mirrored: bool = False
    cautious: bool = True

    def __post_init__(self) -> None:
        require(bool(self.path), "The model's file has no name")
        object.__setattr__(self, "path", str(self.path))

    @classmethod
    def of(cls, path: str | os.PathLike[str], **fields: object) -> Self:
        """Return the value for an existing file, with its digest and absolute path."""
        absolute = Path(path).expanduser().absolute()
        return cls(str(absolute), digest(absolute), **fields)  # type: ignore[arg-type]


Classical = RichardsonLucy | Wiener
Method = Classical | TrainedModel


@dataclass(frozen=True)
class PsfFile(Value):
    """A PSF that lies in an image file.

    Parameters
    ----------
    path : str
        The file.
    voxel_size_um : tuple of float, optional
        (z, y, x) or (y, x), where the file does not know its voxel size or is wrong.
    background : float or "auto"
        Counts to subtract from it.
    sha256 : str, optional
        Digest of the file or folder when the recipe was made, so that another content is noticed.
    """

    path: str
    voxel_size_um: tuple[float, ...] | None = None
    background: float | Literal["auto"] = "auto"
    sha256: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.path), "The PSF's file has no name")
        object.__setattr__(self, "path", str(self.path))
        if self.voxel_size_um is not None:
            grid = Grid(spacing_um=self.voxel_size_um)
            object.__setattr__(self, "voxel_size_um", grid.spacing_um)
        if self.background != "auto":
            require_number("The PSF's background (a number, or 'auto')", self.background)

    @classmethod
    def of(cls, path: str | os.PathLike[str], **fields: object) -> Self:
        """Return the value for an existing file, with its digest and absolute path."""
        absolute = Path(path).expanduser().absolute()
        return cls(str(absolute), sha256=digest(absolute), **fields)  # type: ignore[arg-type]


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, or of all that a folder holds; None where there is none."""
    path = path.expanduser()
    if path.is_dir():
        return _digest_of_folder(path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_folder(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all files, the same wherever it lies."""
    files = {os.fsencode(p.relative_to(folder).as_posix()): p for p in folder.rglob("*")}
    found = hashlib.sha256()
    for name in sorted(name for name, path in files.items() if path.is_file()):
        found.update(name + b"\0" + (digest(files[name]) or "").encode())
    return found.hexdigest()


PsfSource = Optics | PsfFile | Psf


@dataclass(frozen=True)
class Recipe(Value):
    """How to restore a stack.

    Parameters
    ----------
    psf : Optics, PsfFile or Psf
        Where the PSF comes from: computed, read from a file, or given as samples.
    method : RichardsonLucy, Wiener or TrainedModel
        How to undo the blur; Richardson-Lucy that stops by itself if not given.
    background : float or "auto"
        Counts that are there without light from the sample; "auto" estimates them.
    engine : str
        Where to run: "auto", "cpu", "opencl" or "torch".
    channel_psfs : tuple of Optics, PsfFile or Psf
        One a channel of the stack, restored or not; empty where `psf` serves all of them.
    channels, times : tuple of int
        Which to restore, counted from 0, in the order of the stack; empty for all.
    seam_tolerance : float
        How much a stack that is restored in tiles may differ from one that is restored as a
        whole, as a part of its maximum.

    Raises
    ------
    InputError
        If a field is not usable, with a sentence that says which and why.

    Examples
    --------
    >>> recipe = Recipe(psf=Optics(na=1.2, emission_nm=520), method=Wiener(0.01))
    >>> Recipe.from_json(recipe.to_json()) == recipe
    True
    """

    psf: PsfSource
    method: Method = RichardsonLucy.automatic()  # noqa: RUF009 - a frozen value
    background: float | Literal["auto"] = "auto"
    engine: str = "auto"
    channel_psfs: tuple[PsfSource, ...] = ()
    channels: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    seam_tolerance: float = 1e-3

    def __post_init__(self) -> None:
        require(
            isinstance(self.psf, PsfSource),
            "The recipe's psf must be Optics, a PsfFile or a Psf",
        )
        require(
            isinstance(self.channel_psfs, (tuple, list))
            and all(isinstance(psf, PsfSource) for psf in self.channel_psfs),
            "The recipe's channel_psfs must be a list of Optics, PsfFile or Psf, one a channel",
        )
        object.__setattr__(self, "channel_psfs", tuple(self.channel_psfs))
        for name in ("channels", "times"):
            object.__setattr__(self, name, _indices(name, getattr(self, name)))
        require_number(
            "The tolerance of a seam, a part of the maximum,", self.seam_tolerance, above=0
        )
        require(
            self.seam_tolerance < 1,
            f"The tolerance of a seam is a part of the maximum, such as 0.001, and below 1, not "
            f"{self.seam_tolerance:g}",
        )
        require(
            isinstance(self.method, Method),
            f"The recipe's method must be {' or '.join(m.__name__ for m in get_args(Method))}",
        )
        if self.background != "auto":
            require_number("The background (a number, or 'auto')", self.background)
        require(isinstance(self.engine, str), "The recipe's engine must be a name")

    def psf_of(self, channel: int) -> PsfSource:
        """Return where the PSF of a channel comes from.

        Parameters
        ----------
        channel : int
            Counted from 0, in the stack before any channels are chosen.

        Raises
        ------
        InputError
            If the recipe has PSFs of its own for the channels, and none for this one.
        """
        if not self.channel_psfs:
            return self.psf
        count = len(self.channel_psfs)
        require(
            0 <= channel < count,
            f"The recipe has the PSFs of {count} channels, counted from 0, but none for channel "
            f"{channel}; give one a channel of the stack",
        )
        return self.channel_psfs[channel]


def _indices(name: str, wanted: object) -> tuple[int, ...]:
    """Return which channels or times to restore in rising order, each once."""
    usable = isinstance(wanted, (tuple, list, range)) and all(
        isinstance(number, (int, np.integer)) and not isinstance(number, bool) and number >= 0
        for number in wanted
    )
    require(usable, f"The recipe's {name} must be a list of whole numbers from 0 on")
    return tuple(sorted({int(number) for number in wanted}))  # type: ignore[attr-defined]


def files_read(recipe: Recipe) -> list[Path]:
    """Return the files that a recipe reads."""
    sources = (recipe.psf, *recipe.channel_psfs, recipe.method)
    return [Path(source.path) for source in sources if isinstance(source, PsfFile | TrainedModel)]


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from a JSON file, or from an image that was exported with one.

    Raises
    ------
    InputError
        If the file is missing, is not JSON, or describes no recipe.
    """
    if str(path).lower().endswith(SUFFIXES):
        kept = (read_provenance(path) or {}).get("recipe")
        require(kept is not None, f"The image {Path(path).name} holds no recipe")
        return Recipe.from_dict(kept)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read: {error}") from error
    try:
        return Recipe.from_json(text)
    except InputError as error:
        raise InputError(f"The recipe {path} is not usable. {error}") from error


def write_recipe(path: str | os.PathLike[str], recipe: Recipe) -> None:
    """Write a recipe as a JSON file, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written there.
    """
    write_whole(path, f"{recipe.to_json(indent=2)}\n".encode(), "The recipe")
