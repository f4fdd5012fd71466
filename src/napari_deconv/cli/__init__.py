"""The command `napari-deconv`: the same road as the dock and the script.

What a person reads goes to stderr; stdout carries only what was asked for (`--json`, lists),
so that it can be piped. Exit codes: 0 done, 1 bad input or failed, 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_deconv.imaging.value import InputError, first_line

from .afm import afm
from .arguments import (
    bytes_of,
    chosen_of,
    method_of,
    number_or_auto,
    numbers,
    optics_of,
    psf_image_of,
    read_image,
    recipe_of,
    require_written,
    whole_numbers,
    without_none,
)
from .batch import batch
from .beads import beads
from .channel_psfs import psfs_of
from .comparing import compare
from .learning import predict, train
from .models import models
from .optics_options import in_options, with_optics
from .restoring import restore_file
from .terminal import fail, has_display, open_viewer, say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Deconvolution of fluorescence stacks, and reconstruction of AFM surfaces.",
)

Spacing = Annotated[
    str | None,
    typer.Option(
        "--voxel-size", metavar="Z,Y,X", help="Voxel size in um, where the file does not know it."
    ),
]
PsfSpacing = Annotated[
    str | None, typer.Option(metavar="Z,Y,X", help="Voxel size of the PSF's image in um.")
]
PsfBackground = Annotated[
    str | None, typer.Option(help="Counts under the PSF's image, or auto (the default).")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON on stdout.")]


def main() -> None:
    """Run the command; every known failure is one sentence on stderr."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        fail(in_options(str(error)), 1)
    except KeyboardInterrupt:
        fail("Stopped; nothing was written.", 130)
    except MemoryError:
        fail("There is not enough memory for this; close other programs or crop the stack.", 1)
    except Exception as error:
        fail(f"This failed unexpectedly ({type(error).__name__}: {first_line(error)}).", 1)


@app.command()
@with_optics
def restore(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="TIFF, OME-TIFF or OME-Zarr.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="OME-TIFF (.ome.tif) or OME-Zarr (.ome.zarr).")
    ],
    psf: Annotated[
        list[Path] | None,
        typer.Option(help="Image of the PSF, for instance a bead; one for all, or one a channel."),
    ] = None,
    voxel_size: Spacing = None,
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
    psf_voxel_size: PsfSpacing = None,
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
    memory: Annotated[
        str | None, typer.Option(help="Memory that may be taken, such as 2GiB or 500MB.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, tcp://HOST:PORT.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe (JSON), or an image exported with one.")
    ] = None,
    save_recipe: Annotated[Path | None, typer.Option(help="Write the recipe here.")] = None,
    dtype: Annotated[str, typer.Option(help="Type of the output: float32 or uint16.")] = "float32",
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
    wishes = {
        "iterations": iterations,
        "acceleration": acceleration,
        "tv_weight": tv_weight,
        "edges": edges,
        "read_noise": read_noise,
        "stop_tolerance": stop_tolerance,
        "automatic_stop": automatic_stop,
        "regularization": number_or_auto(regularization, "--regularization"),
    }
    chosen = chosen_of(stack, "C", channels, "--channels")
    restored = chosen if chosen is not None or base is None else base.channels
    image = psf_image_of(psf_voxel_size, psf_background)
    made = recipe_of(
        base,
        **psfs_of(stack, psf or (), image, optics, channels=restored or (), base=base),
        method=method_of(method, without_none(**wishes), base.method if base else None),
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


@app.command()
@with_optics
def psf(
    output: Annotated[Path, typer.Option("--output", "-o", help="OME-TIFF or OME-Zarr.")],
    voxel_size: Annotated[
        str, typer.Option("--voxel-size", metavar="Z,Y,X", help="Voxel size in um.")
    ],
    image: Annotated[
        Path | None, typer.Argument(help="Image of a bead; without it the PSF is computed.")
    ] = None,
    *,
    optics: dict[str, Any],
    psf_voxel_size: PsfSpacing = None,
    psf_background: PsfBackground = None,
    shape: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Voxels of the box; chosen if not given.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute a PSF from optics, or prepare one from the image of a bead, and write it."""
    from napari_deconv.files.export import require_apart, write_stack
    from napari_deconv.files.recipe import PsfFile
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.psf import Psf
    from napari_deconv.imaging.psf_models import compute_psf
    from napari_deconv.imaging.resolution import fwhm_um
    from napari_deconv.imaging.stack import KnownOptics, Stack
    from napari_deconv.psf_sources import psf_of_file

    require_apart(output, image)
    grid = Grid(spacing_um=numbers(voxel_size, "--voxel-size"))
    known: tuple[KnownOptics, ...] = ()
    made: Psf
    if image is not None:
        if optics:
            raise InputError("Give either the image of a bead or optics (--na ...), not both")
        described_image = psf_image_of(psf_voxel_size, psf_background)
        made = psf_of_file(PsfFile.of(image, **described_image), grid)
    else:
        if psf_voxel_size or psf_background:
            raise InputError("--psf-voxel-size and --psf-background need the image of a bead")
        described = optics_of(optics, image="the image of a bead")
        box = whole_numbers(shape, "--shape") if shape else None
        made = compute_psf(described, grid, box)
        known = (
            KnownOptics(
                described.na,
                described.immersion_index,
                described.emission_nm,
                described.excitation_nm,
                described.modality,
            ),
        )
        say(f"PSF: {described.describe()}")
    stack = Stack(made.samples, grid.axes, grid, "PSF", ("PSF",), known)
    write_stack(output, stack, overwrite=overwrite)
    for note in made.notes:
        say(note)
    widths = " x ".join(f"{width:.3f}" for width in fwhm_um(made))
    say(f"Wrote {output}: {' x '.join(map(str, made.shape))} voxels, FWHM {widths} um")


app.command()(beads)
app.command()(batch)
app.command()(train)
app.command()(predict)
app.command()(compare)
app.add_typer(models, name="models")
app.add_typer(afm, name="afm")


@app.command()
def devices(as_json: AsJson = False) -> None:
    """List what this machine can compute on, with memory and the result of a self-test."""
    from napari_deconv.engines import devices as list_devices
    from napari_deconv.engines import open_engine, tried

    rows: list[dict[str, Any]] = []
    for device in list_devices():
        _, verdict = tried(device)
        rows.append(
            {
                "engine": device.engine,
                "device": device.name,
                "gpu": device.is_gpu,
                "memory_bytes": device.memory_bytes,
                "self_test": verdict,
            }
        )
    chosen = open_engine("auto")
    if as_json:
        print(json.dumps({"devices": rows, "auto": chosen.device}))
        return
    for row in rows:
        memory = f"{row['memory_bytes'] / 1e9:.1f} GB" if row["memory_bytes"] else "memory unknown"
        print(f"{row['engine']:7} {row['device']}, {memory}: {row['self_test']}")
    for name, extra in (("opencl", "opencl"), ("torch", "learned")):
        if not any(row["engine"] == name for row in rows):
            print(f'{name:7} nothing found; pip install "napari-deconv[{extra}]", and a driver')
    print(f"auto    would use {chosen.device}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo"),
    iterations: Annotated[int, typer.Option(help="Most iterations.")] = 20,
    engine: Annotated[str, typer.Option(help="auto, cpu, opencl or torch.")] = "auto",
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
