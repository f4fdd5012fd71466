"""The options that several verbs share, each with one name and one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[Path, typer.Argument(metavar="INPUT", help="TIFF, OME-TIFF or OME-Zarr.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="OME-TIFF (.ome.tif) or OME-Zarr (.ome.zarr).")
]
VoxelSize = Annotated[
    str | None,
    typer.Option(
        "--voxel-size", metavar="Z,Y,X", help="Voxel size in um, where the file does not know it."
    ),
]
Engine = Annotated[str, typer.Option(help="auto, cpu, opencl or torch.")]
Memory = Annotated[
    str | None, typer.Option(help="Memory that may be taken, such as 2GiB or 500MB.")
]
Dtype = Annotated[str, typer.Option(help="Type of the output: float32 or uint16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON on stdout.")]
