"""The verb `beads`: a stack of beads to a measured PSF, with a table of what became of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import numbers, read_image, require_free
from .optics_options import optics_of, with_optics
from .options import VoxelSize
from .terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_deconv.imaging.beads import Bead, MeasuredPsf
    from napari_deconv.imaging.optics import Optics
    from napari_deconv.imaging.stack import Stack


@with_optics
def beads(
    source: Annotated[
        Path, typer.Argument(metavar="STACK", help="Stack of beads: TIFF, OME-TIFF or OME-Zarr.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The PSF, as OME-TIFF or OME-Zarr.")
    ],
    report: Annotated[Path | None, typer.Option(help="Table of the beads (CSV).")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Picture of the PSF and of its beads (PNG).")
    ] = None,
    voxel_size: VoxelSize = None,
    channel: Annotated[int, typer.Option(help="Channel of the beads, counted from 0.")] = 0,
    bead_diameter_um: Annotated[
        float, typer.Option(help="Diameter of a bead in um, divided out of the PSF.")
    ] = 0.0,
    radial_average: Annotated[
        bool, typer.Option("--radial-average", help="Average around the optical axis.")
    ] = False,
    box_um: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Size of the box around a bead; chosen if not given."),
    ] = None,
    *,
    optics: dict[str, Any],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing outputs.")
    ] = False,
) -> None:
    """Measure the PSF on a stack of beads, and compare it with theory where optics are given."""
    from napari_deconv.files.bead_report import write_bead_picture, write_bead_table
    from napari_deconv.files.export import check_writable, require_apart, write_stack
    from napari_deconv.files.picture import require_png
    from napari_deconv.imaging.stack import Stack

    described = _described(optics)
    stack = read_image(source, voxel_size)
    check_writable(output, overwrite=overwrite, nbytes=0)
    require_apart(output, source)
    if report is not None:
        require_free(report, source, output, picture, overwrite=overwrite)
    if picture is not None:
        require_free(picture, source, output, overwrite=overwrite)
        require_png(picture)
    image = _channel(stack, channel)
    measured = _measured(
        image,
        stack,
        box_um=numbers(box_um, "--box-um") if box_um else None,
        bead_diameter_um=bead_diameter_um,
        radial_average=radial_average,
        optics=described,
    )
    _say_widths(measured, described)
    assert stack.grid is not None  # or nothing was measured
    psf = Stack(measured.psf.samples, stack.grid.axes, stack.grid, "PSF", ("PSF",))
    write_stack(output, psf, overwrite=overwrite)
    say(f"Output      {output}: {' x '.join(map(str, measured.psf.shape))} voxels")
    if report is not None:
        write_bead_table(report, measured, described, overwrite=overwrite)
        say(f"Table       {report}")
    if picture is not None:
        write_bead_picture(picture, measured, image, overwrite=overwrite)
        say(f"Picture     {picture}")


def _described(given: dict[str, Any]) -> Optics | None:
    """Return the optics to compare with, None where none were given."""
    if not given:
        return None
    if "na" not in given or "emission_nm" not in given:
        raise InputError("To compare with theory, give both --na and --emission-nm")
    return optics_of(given)


def _channel(stack: Stack, number: int) -> Any:
    """Return the voxels of one channel, of the first time point, (Z, Y, X) or (Y, X)."""
    import numpy as np

    count = stack.channel_count()
    stack.chosen("C", [number] if count > 1 or number else [])
    block = next(block for block in stack.blocks() if stack.channel_of(block) == number)
    if count > 1 or "T" in stack.axes:
        say(
            f"Channel     {number} (of {count}, counted from 0)"
            + (", first time point" * ("T" in stack.axes))
        )
    return np.asarray(stack.data[block])


def _measured(image: Any, stack: Stack, *, box_um: Any, optics: Any, **how: Any) -> MeasuredPsf:
    """Return the measured PSF; the table of the beads is shown even if none can be used."""
    from napari_deconv.imaging.beads import find_beads, measure_psf

    found = find_beads(image, stack.grid, box_um=box_um, optics=optics)
    try:
        measured = measure_psf(image, stack.grid, beads=found, box_um=box_um, optics=optics, **how)
    except InputError:
        _say_beads(found)
        raise
    _say_beads(measured.beads)
    for note in measured.notes:
        say(f"Note        {note}")
    return measured


def _say_beads(found: Sequence[Bead]) -> None:
    used = sum(bead.fate == "used" for bead in found)
    say(f"Beads       {len(found)} found, {used} used")
    for number, bead in enumerate(found, start=1):
        place = ", ".join(f"{p:.1f}" for p in bead.position)
        say(
            f"{number:>9}   {bead.fate:9}  at ({place}), peak {bead.peak:.4g}, "
            f"SNR {bead.snr:.3g}, FWHM {_widths(bead.fwhm_um)}"
        )
        if bead.reason:
            say(f"{'':12}{bead.reason}")


def _say_widths(measured: MeasuredPsf, optics: Optics | None) -> None:
    from napari_deconv.files.bead_report import theory_fwhm_um

    axes = "z, y, x"[-3 * len(measured.fwhm_um) + 2 :]
    say(f"FWHM        {_widths(measured.fwhm_um)} ({axes})")
    if optics is not None:
        say(f"Theory      {_widths(theory_fwhm_um(measured, optics))}: {optics.describe()}")


def _widths(widths: Sequence[float | None]) -> str:
    return " x ".join("?" if width is None else f"{width:.3f}" for width in widths) + " um"
