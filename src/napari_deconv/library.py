"""The models that a user has: the files in a folder of their own, and those of the package.

A model is a file, and its name is that of the file without the ending. To list them only reads the
headers of the files; a file that cannot be read is listed with the sentence that says why.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from napari_deconv.imaging.value import InputError, require
from napari_deconv.imaging.whole_file import replacing
from napari_deconv.learned.requiring import require_torch
from napari_deconv.learned.shipped import SHIPPED

if TYPE_CHECKING:
    from napari_deconv.learned.model_file import Card

SUFFIX = ".safetensors"
#: The state of a training, which is kept beside its model.
CHECKPOINT = f".checkpoint{SUFFIX}"
#: Environment variable that names another folder for the user's models.
PLACE = "NAPARI_DECONV_MODELS"
#: What no file may have in its name on one system or another: models are handed on.
FORBIDDEN = '<>:"/\\|?*'
#: Bytes that the header of a safetensors file has at most, and letters of a card that are shown.
LARGEST_HEADER, LONGEST_TEXT = 100_000_000, 300


@dataclass(frozen=True)
class Entry:
    """A model, or a file that should be one.

    Parameters
    ----------
    path : Path
        Of the file.
    card : Card or None
        What it is; None where it cannot be read.
    problem : str
        The sentence that says why.
    shipped : bool
        Whether it came with the package, and so stays as it is.
    size_bytes : int
        On disk.
    """

    path: Path
    card: Card | None
    problem: str = ""
    shipped: bool = False
    size_bytes: int = 0

    @property
    def name(self) -> str:
        """The name that the commands take."""
        return name_of(self.path)


def models_folder() -> Path:
    """Return the folder of the user's models, which may not be there yet.

    It is named by the environment variable `NAPARI_DECONV_MODELS`, else it lies where the system
    keeps the data of programs, one folder for each user.
    """
    chosen = os.environ.get(PLACE)
    return Path(chosen).expanduser() if chosen else _data_folder() / "napari-deconv" / "models"


def _data_folder() -> Path:
    """Return where programs keep a user's data: beside the folder in which napari keeps its own."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def name_of(path: Path) -> str:
    """Return the name of a model from its file.

    Examples
    --------
    >>> name_of(Path("models/beads.safetensors"))
    'beads'
    """
    name = path.name
    return name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name


def models() -> list[Entry]:
    """Return all models, the user's and the shipped ones, sorted by name.

    Raises
    ------
    InputError
        If the user's folder cannot be read.
    """
    entries = [entry_of(path) for folder in (models_folder(), SHIPPED) for path in _files(folder)]
    return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.shipped))


def entry_of(path: Path) -> Entry:
    """Return what is known of a file that should be a model."""
    card, problem, size = None, "", 0
    try:
        card, size = _card(path), path.stat().st_size
    except InputError as error:
        problem = shown(str(error))
        size = path.stat().st_size if path.is_file() else 0
    return Entry(path, card, problem, is_shipped(path), size)


def is_shipped(path: Path) -> bool:
    """Return whether a file lies among the models of the package."""
    return path.absolute().parent.resolve() == SHIPPED.resolve()


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a model: a path to a file goes first, then the user's, then the shipped.

    Raises
    ------
    InputError
        If there is none; the nearest names are told.
    """
    wish = Path(name_or_path).expanduser()
    if _is_file(wish):
        return wish
    name = name_of(wish) if len(wish.parts) == 1 else str(wish)
    found = [path for folder in (models_folder(), SHIPPED) for path in _files(folder)]
    for path in found:
        if name_of(path) == name:
            return path
    names = sorted({name_of(path) for path in found})
    raise InputError(f"There is no model '{shown(str(name_or_path))}'; {_others(name, names)}")


def rename(path: str | os.PathLike[str], new_name: str) -> Path:
    """Give a model another name, in its file and in its card; its weights stay as they are.

    Returns
    -------
    Path
        Of the file, in the folder that it was in.

    Raises
    ------
    InputError
        If the model is a shipped one or cannot be read, or the name is taken or cannot be one.
    """
    source = Path(path).expanduser()
    require(not is_shipped(source), f"{_told(source)} came with the package and keeps its name")
    _card(source)
    name = _checked(new_name)
    target = source.with_name(name + SUFFIX)
    # The same file is there where only the card has another name, or only the case changes.
    same = _is_file(target) and target.samefile(source)
    if not same:
        _require_free(target)
    _put(target, lambda part: _write_renamed(source, part, name))
    if not same:
        _remove(source)
    return target


def delete(path: str | os.PathLike[str]) -> None:
    """Delete a model, for good. One that is damaged is deleted too, as long as it has a card.

    Raises
    ------
    InputError
        If it is a shipped one, no model, or cannot be deleted.
    """
    target = Path(path).expanduser()
    require(_is_file(target), f"There is no model {target}; check the spelling")
    require(not is_shipped(target), f"{_told(target)} came with the package and is not deleted")
    require(
        target.name.lower().endswith(SUFFIX) and _has_card(target),
        f"{_told(target)} has no card of a model and was not deleted; if it is not needed, delete "
        f"it in {target.absolute().parent}",
    )
    _remove(target)


def add(path: str | os.PathLike[str]) -> Path:
    """Copy a model into the user's folder, under the name of its file.

    Returns
    -------
    Path
        Of the copy.

    Raises
    ------
    InputError
        If it cannot be read, its name is taken, or the folder cannot be written.
    """
    source = Path(path).expanduser()
    _card(source)
    require(
        source.name.lower().endswith(SUFFIX),
        f"{_told(source)} does not end in {SUFFIX}, as the file of a model does",
    )
    target = models_folder() / (_checked(name_of(source)) + SUFFIX)
    _require_free(target)
    _put(target, lambda part: shutil.copyfile(source, part))
    return target


# -- sentences ----------------------------------------------------------------------------


def shown(text: str) -> str:
    """Return a text of a file as it is shown: one line, and nothing that steers a terminal."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 3]}..."


def _told(path: Path) -> str:
    return shown(path.name)


def _others(name: str, names: list[str]) -> str:
    """Return which names there are instead, the nearest first."""
    if not names:
        return f"there are none yet: train one, or add a file to {models_folder()}"
    near = get_close_matches(name, names, n=3, cutoff=0.4)
    few = near or names[:5]
    return shown(f"{'the nearest names are' if near else 'there are'} {', '.join(few)}")


# -- files --------------------------------------------------------------------------------


def _card(path: Path) -> Card:
    """Read what a model is, without its weights; `InputError` where it is none."""
    card: Card = _model_file().read_card(path)
    return card


def _model_file() -> ModuleType:
    """Return the module that knows the files, which needs torch."""
    require_torch()
    from napari_deconv.learned import model_file

    return model_file


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that should be models; none where it is not there."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"The folder of models {folder} cannot be read ({error.strerror}); choose another "
            f"with the environment variable {PLACE}"
        ) from error
    return [
        path
        for path in entries
        if path.name.lower().endswith(SUFFIX)
        and not path.name.startswith(".")
        and not path.name.endswith(CHECKPOINT)
        and not path.is_dir()
    ]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the system
        return False


def _checked(name: str) -> str:
    """Return a name that a file can have everywhere; `InputError` where it cannot."""
    given = name.strip()
    bare = (given[: -len(SUFFIX)] if given.lower().endswith(SUFFIX) else given).strip()
    require(bool(bare), "Give the model a name")
    bad = sorted({letter for letter in bare if letter in FORBIDDEN or not letter.isprintable()})
    require(
        not bad and not bare.startswith(".") and not bare.endswith("."),
        f"'{shown(bare)}' cannot be the name of a model: it may have none of {FORBIDDEN} in it, "
        "nor begin or end with a dot",
    )
    return bare


def _require_free(target: Path) -> None:
    """Raise `InputError` where there is a model of that name, among the shipped ones as well."""
    name = name_of(target)
    taken = os.path.lexists(target) or any(name_of(path) == name for path in _files(SHIPPED))
    require(not taken, f"There is a model of the name '{name}' already; choose another name")


def _put(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file, whole or not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            write(part)
    except OSError as error:
        raise InputError(
            f"{shown(str(target))} cannot be written ({error.strerror or error})"
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be deleted ({error.strerror or error})") from error


def _write_renamed(source: Path, target: Path, name: str) -> None:
    """Write a model anew with another name in its card: the bytes of its weights are copied."""
    key = _model_file().CARD
    with source.open("rb") as old, target.open("wb") as new:
        header = _header(old)
        texts = header["__metadata__"]
        texts[key] = json.dumps({**json.loads(texts[key]), "name": name})
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # so the weights begin where a processor likes them to
        new.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(old, new)


def _header(file: Any) -> Any:
    """Return the header of a safetensors file; what is read next are the weights."""
    size = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(size)) if size <= LARGEST_HEADER else None


def _has_card(path: Path) -> bool:
    """Return whether a file was a model once: its header is, even if the rest is cut off."""
    key = _model_file().CARD
    try:
        with path.open("rb") as file:
            return key in _header(file)["__metadata__"]
    # No JSON, or some other JSON.
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False
