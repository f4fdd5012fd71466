"""The verb `predict`: a stack through a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import bytes_of, number_or_auto, read_image, require_written
from .options import Dtype, Engine, Memory, Output, Source
from .restore_file import restore_file

if TYPE_CHECKING:
    from napari_deconv.files.recipe import PsfFile
    from napari_deconv.imaging.psf import Psf
    from napari_deconv.learned.model_file import Model


def predict(
    source: Source,
    model: Annotated[
        str, typer.Option(help="File of a model, or the name of one that `models list` names.")
    ],
    output: Output,
    psf: Annotated[
        Path | None,
        typer.Option(help="Image of the PSF; the model's own, where it has one, if not given."),
    ] = None,
    shows: Annotated[
        str,
        typer.Option(
            help="estimate; half-width 50 or half-width 90, of the interval that holds the truth "
            "so often; or disagreement of several answers."
        ),
    ] = "estimate",
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Restore mirrored as well, and average.")
    ] = False,
    alone: Annotated[
        bool,
        typer.Option(
            "--alone",
            help="The network by itself. Else Richardson-Lucy goes on from it and is mixed in, the "
            "more the more light there is.",
        ),
    ] = False,
    background: Annotated[str, typer.Option(help="Counts, or auto.")] = "auto",
    engine: Engine = "auto",
    memory: Memory = None,
    dtype: Dtype = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Restore a stack with a trained network, in tiles where it is large."""
    from napari_deconv.files.recipe import Recipe, TrainedModel
    from napari_deconv.library import resolve
    from napari_deconv.methods import restorer_of

    require_written(dtype)
    stack = read_image(source, None, voxels=False)
    method = TrainedModel.of(resolve(model), shows=shows, mirrored=mirrored, cautious=not alone)
    learned: Any = restorer_of(method)
    recipe = Recipe(
        _psf_for(learned.model, psf),
        method,
        number_or_auto(background, "--background"),  # type: ignore[arg-type]
        engine,
    )
    restore_file(
        stack,
        output,
        recipe,
        source=source,
        is_header=True,
        as_json=as_json,
        memory_bytes=None if memory is None else bytes_of(memory),
        dtype=dtype,
        overwrite=overwrite,
    )


def _psf_for(model: Model, psf: Path | None) -> PsfFile | Psf:
    """Return the PSF of a stack: as it was given, or the only one that a model was trained with."""
    from napari_deconv.files.recipe import PsfFile

    if psf is not None:
        return PsfFile.of(psf)
    if len(model.psfs) > 1:
        raise InputError(
            f"The network {model.card.name!r} was trained with {len(model.psfs)} PSFs; give the "
            "image of that of this stack with --psf FILE (napari-deconv psf computes one)"
        )
    return model.psf
