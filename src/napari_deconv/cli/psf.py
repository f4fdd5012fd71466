"""The verb `psf`: from optics, or from the image of a bead, to a PSF in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import numbers, whole_numbers
from .optics_options import optics_of, with_optics
from .options import Overwrite
from .recipe_options import PsfBackground, PsfVoxelSize, psf_image_of
from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.optics import Optics
    from napari_deconv.imaging.psf import Psf
    from napari_deconv.imaging.stack import KnownOptics


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
    psf_voxel_size: PsfVoxelSize = None,
    psf_background: PsfBackground = None,
    shape: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Voxels of the box; chosen if not given.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute a PSF from optics, or prepare one from the image of a bead, and write it."""
    from napari_deconv.files.export import require_apart, write_stack
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.resolution import fwhm_um
    from napari_deconv.imaging.stack import Stack

    require_apart(output, image)
    grid = Grid(spacing_um=numbers(voxel_size, "--voxel-size"))
    known: tuple[KnownOptics, ...] = ()
    if image is not None:
        if optics:
            raise InputError("Give either the image of a bead or optics (--na ...), not both")
        made = _prepared(image, psf_image_of(psf_voxel_size, psf_background), grid)
    else:
        if psf_voxel_size or psf_background:
            raise InputError("--psf-voxel-size and --psf-background need the image of a bead")
        described = optics_of(optics, image="the image of a bead")
        made = _computed(described, grid, shape)
        known = (_known(described),)
    stack = Stack(made.samples, grid.axes, grid, "PSF", ("PSF",), known)
    write_stack(output, stack, overwrite=overwrite)
    for note in made.notes:
        say(note)
    widths = " x ".join(f"{width:.3f}" for width in fwhm_um(made))
    say(f"Wrote {output}: {' x '.join(map(str, made.shape))} voxels, FWHM {widths} um")


def _prepared(image: Path, told: dict[str, Any], grid: Grid) -> Psf:
    """Return the PSF of a bead's image, on voxels of the given size."""
    from napari_deconv.files.recipe import PsfFile
    from napari_deconv.psf_sources import psf_of_file

    return psf_of_file(PsfFile.of(image, **told), grid)


def _computed(optics: Optics, grid: Grid, shape: str | None) -> Psf:
    """Return the PSF of optics, and say what these are."""
    from napari_deconv.imaging.psf_models import compute_psf

    made = compute_psf(optics, grid, whole_numbers(shape, "--shape") if shape else None)
    say(f"PSF: {optics.describe()}")
    return made


def _known(optics: Optics) -> KnownOptics:
    """Return what a file can keep of optics."""
    from napari_deconv.imaging.stack import KnownOptics

    return KnownOptics(
        optics.na,
        optics.immersion_index,
        optics.emission_nm,
        optics.excitation_nm,
        optics.modality,
    )
