"""The verbs `models ...`: which trained networks there are, and keeping them in order."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .model_exchange import export_model, import_model
from .terminal import fail, say

if TYPE_CHECKING:
    from napari_deconv.library import Entry

models = typer.Typer(no_args_is_help=True, help="List the trained networks, and keep them.")
models.command("export")(export_model)
models.command("import")(import_model)

Known = Annotated[str, typer.Argument(metavar="NAME_OR_PATH", help="Name of a model, or its file.")]


@models.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON on stdout.")] = False,
) -> None:
    """List your models and those that come with the package."""
    from napari_deconv import library

    entries, folder = library.models(), library.models_folder()
    if as_json:
        print(json.dumps({"folder": str(folder), "models": [_plain(entry) for entry in entries]}))
        return
    wide = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        print(f"{entry.name:{wide}}  {_line(entry)}")
    if not entries:
        say("There are no models yet: train one, or add a file")
    say(f"Folder      {folder}")


@models.command()
def show(name: Known) -> None:
    """Say what a model is: its network, what it was trained for, and how well it did."""
    from napari_deconv import library, library_words

    entry = library.entry_of(library.resolve(name))
    if entry.card is None:
        raise InputError(entry.problem)
    for label, text in library_words.facts(entry).items():
        print(f"{label:11} {text}")


@models.command()
def rename(
    name: Known, new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")]
) -> None:
    """Give a model another name, in its file and in its card."""
    from napari_deconv import library

    say(f"Renamed     {library.rename(library.resolve(name), new)}")


@models.command()
def delete(
    name: Known,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it without being asked.")] = False,
) -> None:
    """Delete a model, for good."""
    from napari_deconv import library

    path = library.resolve(name)
    if not yes:
        _ask(path)
    library.delete(path)
    say(f"Deleted     {path}")


@models.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of a model.")],
) -> None:
    """Copy the file of a model into the folder of your models."""
    from napari_deconv import library

    say(f"Added       {library.add(file)}")


def _ask(path: Path) -> None:
    """Go on only if a person says yes."""
    if not sys.stdin.isatty():
        raise InputError(f"{path} was not deleted: give --yes, as nobody can be asked here")
    print(f"Delete {path} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        answer = input()
    except EOFError:
        answer = ""
    except KeyboardInterrupt:
        # Told here: the parser of the command line would end without a word.
        fail("Stopped; nothing was deleted.", 130)
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError(f"{path} was not deleted")


def _line(entry: Entry) -> str:
    from napari_deconv import library_words

    card = entry.card
    if card is None:
        return entry.problem
    where = "shipped" if entry.shipped else "yours"
    return (
        f"{library_words.network_in_words(card)}, {library_words.voxels_in_words(card)}, "
        f"{library_words.photons_in_words(card)} photons, loss {card.validation:.3g}, "
        f"{library_words.size_in_words(entry.size_bytes)}, {where}"
    )


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "shipped": entry.shipped,
        "size_bytes": entry.size_bytes,
        "card": entry.card.to_dict() if entry.card is not None else None,
        "problem": entry.problem or None,
    }
