"""The verb `demo`: the bundled stack, restored, and shown beside the raw one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_deconv.imaging.value import InputError

from .options import Engine
from .restore_file import restore_file
from .terminal import has_display, open_viewer, say


def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo"),
    iterations: Annotated[int, typer.Option(help="Most iterations.")] = 20,
    engine: Engine = "auto",
    viewer: Annotated[bool, typer.Option(help="Open napari where there is a display.")] = True,
) -> None:
    """Restore the bundled real stack, write it and a picture, and show both in napari."""
    from napari_deconv.files.picture import write_comparison
    from napari_deconv.files.reading import read_stack
    from napari_deconv.files.recipe import Recipe
    from napari_deconv.files.samples import CELL_PATH, real_psf, real_stack
    from napari_deconv.restoration.richardson_lucy import RichardsonLucy

    stack = real_stack()
    recipe = Recipe(real_psf(), RichardsonLucy(iterations), engine=engine)
    output = folder / "restored.ome.tif"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}") from error
    restore_file(stack, output, recipe, overwrite=True)
    picture = folder / "before_after.png"
    write_comparison(picture, stack, read_stack(output))
    say(f"Picture     {picture}")
    if viewer and has_display():
        open_viewer(CELL_PATH, output)
