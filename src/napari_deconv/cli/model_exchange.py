"""The verbs `models export` and `models import`: trained networks from and for other programs."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import read_image
from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.learned.model_file import Model

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE.zip", help="Archive of bioimage.io.")
]


def export_model(
    name: Annotated[
        str, typer.Argument(metavar="NAME_OR_PATH", help="Name of a model, or its file.")
    ],
    output: Output,
    like: Annotated[
        Path | None,
        typer.Option(help="A stack to show what the network does; else one is simulated."),
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Who made it; may be given again.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an archive.")] = False,
) -> None:
    """Write a model for the BioImage Model Zoo."""
    from napari_deconv import library
    from napari_deconv.engines import open_engine

    path = library.resolve(name)
    bioimage = _learned("bioimage")
    model = _learned("model_file").read_model(path)
    sample = _plane_or_volume(like) if like is not None else None
    authors = tuple(author or (bioimage.UNKNOWN_AUTHOR,))
    written = bioimage.export_bioimage(
        model, output, open_engine("cpu"), sample=sample, authors=authors, overwrite=overwrite
    )
    if not author:
        say("Author      not known; give --author NAME")
    say(f"Output      {written}")


def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Archive of bioimage.io (.zip), weights of CSBDeep (.h5) or a checkpoint of "
            "CAREamics (.ckpt).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File of the model; in your folder where not given."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model.")] = False,
) -> None:
    """Read a model of another program, or of the BioImage Model Zoo."""
    found = _learned("exchange").import_model(file)
    for note in found.notes:
        say(f"Note        {note}")
    if output is not None:
        written = _learned("model_file").write_model(output, found.model, overwrite=overwrite)
    else:
        written = _added(found.model)
    say(f"Model       {found.model.card.name}: {found.model.card.design.title}")
    say(f"Output      {written}")


def _added(model: Model) -> Path:
    """Write a model into the folder of the user's models, under its name."""
    from napari_deconv import library

    name = "".join(
        "-" if letter in library.FORBIDDEN or not letter.isprintable() else letter
        for letter in model.card.name
    )
    name = name.strip(". ")[:100] or "imported"
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}{library.SUFFIX}"
        return library.add(_learned("model_file").write_model(file, model))


def _plane_or_volume(path: Path) -> Any:
    """Return the first volume, or plane, of a stack."""
    stack = read_image(path, None)
    index = tuple(slice(None) if axis in "zyx" else 0 for axis in stack.axes.lower())
    return stack.data[index]


def _learned(name: str) -> ModuleType:
    """Return a module of `learned`, which needs torch."""
    from importlib import import_module

    from napari_deconv.learned.requiring import require_torch

    require_torch()
    return import_module(f"napari_deconv.learned.{name}")
