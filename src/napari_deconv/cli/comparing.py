"""The verb `compare`: how near a result is to a truth, or two results are to each other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import read_image
from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.imaging.grid import Grid
    from napari_deconv.imaging.quality import Quality
    from napari_deconv.imaging.stack import Stack

#: Two files round the same voxel size differently, by no more than this part of it.
ROUNDING = 1e-3


def compare(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Restored stack: TIFF, OME-TIFF or OME-Zarr.")
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="TRUTH",
            help="What it should be; or a second, independent result of one object.",
        ),
    ],
    voxel_size: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Voxel size in um, where the files do not know it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say how near a stack is to a truth: PSNR, SSIM, NRMSE, Fourier shell correlation.

    The stack is compared after the scale and offset that bring it nearest to the truth. Where the
    second file is no truth but another, independent result of the same object, the Fourier shell
    correlation is that between both: it tells the resolution.
    """
    from napari_deconv.imaging.quality import quality_of

    stacks = read_image(result, voxel_size), read_image(truth, voxel_size)
    images = _voxels(stacks[0], result), _voxels(stacks[1], truth)
    grid = _grid(*stacks)
    found = quality_of(images[0], images[1], grid.spacing_um if grid else None)
    if as_json:
        named = {"result": str(result), "truth": str(truth)}
        print(json.dumps({**named, "quality": found.to_dict()}))
    else:
        _show(found)


def _voxels(stack: Stack, path: Path) -> Any:
    """Return the one volume or plane of a stack, in memory."""
    from napari_deconv.files.reading import read_voxels

    blocks = list(stack.blocks())
    if len(blocks) != 1:
        raise InputError(
            f"{path.name} has the axes {stack.axes} {stack.shape}, and one volume (ZYX) or plane "
            "(YX) is compared; save one channel of one time as a file of its own"
        )
    return read_voxels(stack.data, blocks[0], path.name, axes=stack.axes)


def _grid(result: Stack, truth: Stack) -> Grid | None:
    """Return the voxel size of both; None where neither file knows it."""
    known = [grid for grid in (result.grid, truth.grid) if grid is not None]
    # Of unlike shapes something better is said later.
    if len(known) == 2 and known[0].ndim == known[1].ndim:
        steps = zip(known[0].spacing_um, known[1].spacing_um, strict=True)
        if not all(math.isclose(a, b, rel_tol=ROUNDING) for a, b in steps):
            raise InputError(
                f"The voxels of the result are {known[0].describe()}, those of the truth "
                f"{known[1].describe()}; give --voxel-size if one file is wrong, or resample"
            )
    return known[0] if known else None


def _show(found: Quality) -> None:
    """Print a line for each figure."""
    shells = found.shells
    peak = "no difference" if found.psnr_db is None else f"{found.psnr_db:.2f} dB"
    print(f"PSNR        {peak}")
    print(f"SSIM        {found.ssim:.4f}")
    print(f"NRMSE       {found.nrmse:.4f}")
    if shells is not None:
        print(f"FSC         {shells.in_words()}")
    say(f"Compared    {found.scale:.4g} times the result plus {found.offset:.4g} with the truth")
    if shells is None:
        say("Note        no FSC: the voxel size is unknown; give --voxel-size")
