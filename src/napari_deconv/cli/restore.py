"""The verb `restore`: a stack to a restored one, with its metadata and its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .arguments import (
    bytes_of,
    chosen_of,
    number_or_auto,
    read_image,
    require_written,
    without_none,
)
from .channel_psfs import psfs_of
from .optics_options import with_optics
from .options import AsJson, Dtype, Memory, Output, Overwrite, Source, VoxelSize
from .recipe_options import PsfBackground, PsfVoxelSize, method_of, psf_image_of, recipe_of
from .restore_file import restore_file


@with_optics
def restore(
    source: Source,
    output: Output,
    psf: Annotated[
        list[Path] | None,
        typer.Option(help="Image of the PSF, for instance a bead; one for all, or one a channel."),
    ] = None,
    voxel_size: VoxelSize = None,
    channels: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Channels to restore, counted from 0: 0,2 or 0:2."),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Times to restore, counted from 0: 0,3,5 or 0:10 (0 to 9) or 0:10:2.",
        ),
    ] = None,
    *,
    optics: dict[str, Any],
    psf_voxel_size: PsfVoxelSize = None,
    psf_background: PsfBackground = None,
    method: Annotated[
        str | None, typer.Option(help="richardson-lucy (the default) or wiener.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Most iterations; all are run unless told to stop earlier.")
    ] = None,
    acceleration: Annotated[
        str | None,
        typer.Option(
            help="nu-method, heavy-ball, biggs-andrews, wiener-butterworth, otf-masked-wiener or "
            "none."
        ),
    ] = None,
    tv_weight: Annotated[float | None, typer.Option(help="Total variation, 0 to 0.1.")] = None,
    edges: Annotated[str | None, typer.Option(help="non-circulant, two-sided or circular.")] = None,
    read_noise: Annotated[float | None, typer.Option(help="Camera noise in photons.")] = None,
    stop_tolerance: Annotated[
        float | None, typer.Option(help="Stop at this relative change of the likelihood.")
    ] = None,
    automatic_stop: Annotated[
        bool | None,
        typer.Option(
            "--automatic-stop/--no-automatic-stop",
            help="Stop where a rehearsal with a known object did best; so without --iterations "
            "and --stop-tolerance.",
        ),
    ] = None,
    regularization: Annotated[
        str | None, typer.Option(help="Wiener: noise to signal, or auto.")
    ] = None,
    background: Annotated[str | None, typer.Option(help="Counts, or auto (the default).")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, cpu, opencl or torch.")] = None,
    seam: Annotated[
        float | None,
        typer.Option(help="Most that tiles may differ from the whole, as a part of its maximum."),
    ] = None,
    memory: Memory = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, tcp://HOST:PORT.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe (JSON), or an image exported with one.")
    ] = None,
    save_recipe: Annotated[Path | None, typer.Option(help="Write the recipe here.")] = None,
    dtype: Dtype = "float32",
    ome_zarr_version: Annotated[
        str | None, typer.Option(help="0.5 (the default) or 0.4, of an OME-Zarr.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Restore a stack and write it with its metadata and recipe."""
    from napari_deconv.files.recipe import read_recipe

    base = read_recipe(recipe) if recipe is not None else None
    # Read as it is restored; where the file is not to be believed, what was read goes along.
    memory_bytes = None if memory is None else bytes_of(memory)
    is_header = voxel_size is None
    stack = read_image(source, voxel_size, voxels=not is_header, memory_bytes=memory_bytes)
    wishes = without_none(
        iterations=iterations,
        acceleration=acceleration,
        tv_weight=tv_weight,
        edges=edges,
        read_noise=read_noise,
        stop_tolerance=stop_tolerance,
        automatic_stop=automatic_stop,
        regularization=number_or_auto(regularization, "--regularization"),
    )
    chosen = chosen_of(stack, "C", channels, "--channels")
    restored = chosen if chosen is not None or base is None else base.channels
    image = psf_image_of(psf_voxel_size, psf_background)
    made = recipe_of(
        base,
        **psfs_of(stack, psf or (), image, optics, channels=restored or (), base=base),
        method=method_of(method, wishes, base.method if base else None),
        background=number_or_auto(background, "--background"),
        engine=engine,
        channels=chosen,
        times=chosen_of(stack, "T", times, "--times"),
        seam_tolerance=seam,
    )
    require_written(dtype, ome_zarr_version, output)
    restore_file(
        stack,
        output,
        made,
        source=source,
        is_header=is_header,
        save_recipe=save_recipe,
        as_json=as_json,
        memory_bytes=memory_bytes,
        scheduler=scheduler,
        dtype=dtype,
        overwrite=overwrite,
        **without_none(ome_zarr_version=ome_zarr_version),
    )
