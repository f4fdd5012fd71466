"""A before/after picture as PNG, with nothing but numpy and zlib."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require

from .whole import write_whole

GAP = 4
Bytes = npt.NDArray[np.uint8]


def write_comparison(path: str | os.PathLike[str], before: Stack, after: Stack) -> None:
    """Write brightest-point projections of two stacks side by side.

    Parameters
    ----------
    path : str or path
        PNG to write.
    before, after : Stack
        Same shape; left and right. Along y above, along z below with its voxel size kept;
        of each, the first channel and time point. Each is scaled to its own range.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_grey(path, beside([views(before), views(after)]))


def write_grey(path: str | os.PathLike[str], image: Bytes) -> None:
    """Write grey levels, (Y, X), as a PNG, whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written, or its name is none of a PNG.
    """
    require_png(path)
    write_whole(path, _png(image), "The picture")


def require_png(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` unless a name ends as that of a PNG does."""
    name = Path(path).name
    require(name.lower().endswith(".png"), f"A picture is written as PNG; end {name!r} in .png")


def beside(images: Sequence[Bytes]) -> Bytes:
    """Return pictures of one height side by side, with white between them."""
    gap = np.full((images[0].shape[0], GAP), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)]
    return np.concatenate(parts[1:], axis=1)


def views(stack: Stack) -> Bytes:
    """Return brightest-point projections, along y above along z, as grey levels."""
    block = np.asarray(stack.data[next(stack.blocks())], dtype=np.float32)
    volume = block if block.ndim == 3 else block[None]
    low, high = np.percentile(volume, (1, 99.9))
    scaled = np.clip((volume - low) / max(high - low, 1e-12), 0, 1)
    # A gamma of 0.6 lets dim structure be seen beside bright one.
    grey: Bytes = np.rint(255 * scaled**0.6).astype(np.uint8)
    spacing = stack.grid.spacing_um if stack.grid and stack.grid.ndim == 3 else (1.0, 1.0, 1.0)
    rows = np.arange(round(volume.shape[0] * spacing[0] / spacing[1]))
    side = grey.max(axis=1)[(rows * spacing[1] / spacing[0]).astype(int)]
    between = np.full((GAP, grey.shape[2]), 255, np.uint8)
    return np.concatenate([grey.max(axis=0), between, side])


def _png(image: npt.NDArray[Any]) -> bytes:
    """Return an 8-bit grey image, (Y, X), as the bytes of a PNG (W3C specification)."""
    rows = np.concatenate([np.zeros((image.shape[0], 1), np.uint8), image], axis=1)
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
