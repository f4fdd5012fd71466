"""OME-TIFF sets: several files that know of each other, made for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def uuids(digit: int) -> list[str]:
    """Return the names of two files of a set; each set has a digit of its own."""
    return [f"urn:uuid:{n}{str(digit) * 7}-1111-1111-1111-111111111111" for n in (1, 2)]


def write_set(
    paths: Sequence[Path], ids: Sequence[str], images: str, blocks: Sequence[npt.NDArray[Any]]
) -> None:
    """Write a block into each file; the images that they are of are described in all."""
    for path, own, block in zip(paths, ids, blocks, strict=True):
        xml = f'<OME xmlns="{OME}" UUID="{own}">{images}</OME>'
        tifffile.imwrite(
            path, block, photometric="minisblack", description=xml, metadata=None, ome=False
        )


def image_in_two_files(
    paths: tuple[Path, Path], axis: str, blocks: Sequence[npt.NDArray[np.uint16]], pixels: str = ""
) -> tuple[Path, Path]:
    """Write two channels or times (`axis` C or T), ZYX, as one image; return the files."""
    ids = uuids(1)
    z, y, x = blocks[0].shape
    parts = "".join(
        f'<TiffData First{axis}="{n}" FirstZ="{plane}" IFD="{plane}" PlaneCount="1">'
        f'<UUID FileName="{paths[n].name}">{ids[n]}</UUID></TiffData>'
        for n in (0, 1)
        for plane in range(z)
    )
    sizes = {"X": x, "Y": y, "Z": z, "C": 1, "T": 1, axis: 2}
    sides = " ".join(f'Size{name}="{n}"' for name, n in sizes.items())
    image = (
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f"{sides} {pixels}>{parts}</Pixels></Image>"
    )
    write_set(paths, ids, image, blocks)
    return paths
