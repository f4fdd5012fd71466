"""Stacks to files: OME-TIFF and OME-Zarr, complete with their recipe, or not at all.

`write_stack` writes under a hidden name beside the output and moves it there at the end, so
that neither a full disk nor an interruption leaves half a file, or harms an older one.
`check_writable` asks beforehand what would otherwise fail after hours of work.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import Plain, require

from . import ome_zarr, ome_zarr_output, tiff
from .intensities import Range, encoded, uint16_factor
from .names import SUFFIXES, TIFF_SUFFIXES, output_at
from .provenance import provenance
from .pyramid import voxels_of_levels
from .whole import disk_full, hidden_beside, move, require_new, told

DTYPES = ("float32", "uint16")

#: Sides of the pieces that a numpy array is taken in: multiples of the OME-Zarr chunks.
PIECE_SIDES = {"T": 1, "C": 1, "Z": 32, "Y": 1024, "X": 1024}

#: Room for metadata, beside the voxels.
_SPARE_BYTES = 2**20

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Written(os.PathLike[str]):
    """What `write_stack` wrote; usable as a path.

    Parameters
    ----------
    path : Path
        The file or folder.
    dtype : {"float32", "uint16"}
        Type of the stored voxels.
    scale : float
        Factor between intensities and stored values: stored = intensity * scale.
    notes : tuple of str
        What the user should know of how the intensities were stored.
    """

    path: Path
    dtype: str
    scale: float = 1.0
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """Return the path as a text."""
        return str(self.path)


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False, nbytes: int) -> None:
    """Raise unless `nbytes` of voxels can be written to `path`; nothing is left behind.

    Parameters
    ----------
    path : str or path
        The output, with a suffix that `write_stack` knows.
    overwrite : bool
        Whether an existing output may be replaced.
    nbytes : int
        Size of the voxels to come.

    Raises
    ------
    InputError
        If the suffix is not known, the name too long, the output exists, its folder is missing
        or may not be written to, or the disk is too full.
    """
    target, _ = output_at(path)
    folder = target.parent
    try:
        require(folder.is_dir(), f"There is no folder {folder}; create it, or choose another")
        require_new(target, overwrite=overwrite)
        if target.exists():
            _require_replaceable(target)
        with tempfile.TemporaryFile(dir=folder, prefix=".napari-deconv-"):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise told(error, target, nbytes) from error
    needed = nbytes + _SPARE_BYTES
    require(free >= needed, disk_full(folder, needed, free))


def bytes_to_write(voxels: int, itemsize: int, *, spooled: bool) -> int:
    """Return what a file takes while it is written; see `_measured` for the spool, of float32."""
    return voxels * (itemsize + 4 * spooled)


def require_apart(path: str | os.PathLike[str], *others: str | os.PathLike[str] | None) -> None:
    """Raise `InputError` where writing `path` would replace any of the `others`, or lie in one."""
    target = Path(path).expanduser().resolve()
    for other in (one for one in others if one is not None):
        known = Path(other).expanduser().resolve()
        inside = known in target.parents and known.is_dir()
        require(
            not (target == known or inside or target in known.parents),
            f"{Path(path).name} would replace {Path(other).name}, or lie in it, which is needed; "
            "choose another name for what is written",
        )


def write_stack(
    path: str | os.PathLike[str],
    stack: Stack,
    *,
    dtype: str = "float32",
    recipe: Plain | None = None,
    record: Plain | None = None,
    overwrite: bool = False,
    ome_zarr_version: str = "0.5",
) -> Written:
    """Write a stack as OME-TIFF or OME-Zarr, with all that is known of it.

    Parameters
    ----------
    path : str or path
        The output; its suffix chooses the format: .ome.tif, .ome.tiff, .tif or .tiff for
        OME-TIFF, .ome.zarr or .zarr for OME-Zarr; a large OME-Zarr gets a pyramid.
    stack : Stack
        Voxels, numpy or dask, shape as in its `axes`; dask is computed piece by piece, once.
    dtype : {"float32", "uint16"}
        Type of the stored voxels. As uint16 they are rounded, and multiplied by a factor
        only where counts do not fit or fractions would be lost (see `intensities`); values
        below zero become zero, which is then said in the notes.
    recipe, record : dict, optional
        Plain values on how the stack was made, kept inside the file with the versions of
        the programs; `reading.read_provenance` gives them back.
    overwrite : bool
        Whether an existing output may be replaced; the old one stays until the new one is
        complete.
    ome_zarr_version : {"0.4", "0.5"}
        Version of an OME-Zarr output.

    Returns
    -------
    Written
        Path, type, factor, and notes.

    Raises
    ------
    InputError
        If the output cannot be written there, or the voxels do not fit the type.
    """
    target, is_tiff = output_at(path)
    _require_known(stack, dtype, ome_zarr_version)
    voxels = math.prod(stack.shape) if is_tiff else voxels_of_levels(stack)
    spooling = dtype == "uint16" and _is_lazy(stack.data) and not _fits_uint16(stack.data.dtype)
    nbytes = bytes_to_write(voxels, np.dtype(dtype).itemsize, spooled=spooling)
    check_writable(path, overwrite=overwrite, nbytes=nbytes)
    body = provenance(stack, recipe=recipe, record=record, dtype=dtype)
    try:
        with (
            _measured(stack, dtype, target.parent) as (data, seen),
            hidden_beside(target, _suffix(target)) as part,
        ):
            factor = uint16_factor(seen) if dtype == "uint16" else 1.0
            body["stored"]["scale"] = factor
            blocks = (
                (place, encoded(np.asarray(data[place]), dtype, factor))
                for place in _places(data, stack.axes, whole_planes=is_tiff)
            )
            if is_tiff:
                planes = (plane for _, block in blocks for plane in _planes(block))
                tiff.write(part, planes, stack, dtype=dtype, provenance=body)
            else:
                ome_zarr_output.write(
                    part, blocks, stack, dtype=dtype, provenance=body, version=ome_zarr_version
                )
            move(part, target)
    except OSError as error:
        raise told(error, target, nbytes) from error
    return Written(Path(path), dtype, factor, _notes(seen, dtype, factor))


def _suffix(target: Path) -> str:
    """Return the suffix that tells the format of an output."""
    name = target.name.lower()
    return next(end for end in SUFFIXES if name.endswith(end))


def _require_known(stack: Stack, dtype: str, version: str) -> None:
    require(dtype in DTYPES, f"The type {dtype!r} is not written; choose {' or '.join(DTYPES)}")
    require(
        version in ome_zarr.VERSIONS,
        f"OME-Zarr {version!r} is not written; choose {' or '.join(ome_zarr.VERSIONS)}",
    )
    require(
        stack.data.dtype.kind in "buif",
        f"The stack holds {stack.data.dtype} values; only real numbers can be written",
    )
    require(0 not in stack.shape, f"The stack of shape {stack.shape} holds no voxels to write")


def _require_replaceable(target: Path) -> None:
    """Refuse to replace a folder that is no Zarr, or one kind of output by the other."""
    is_tiff = target.name.lower().endswith(TIFF_SUFFIXES)
    if target.is_dir():
        require(
            not is_tiff and (_was_zarr(target) or not any(target.iterdir())),
            f"{target.name} is a folder that no OME-Zarr lies in, and is not replaced; choose "
            "another name",
        )
    else:
        require(is_tiff, f"{target.name} is a file and no OME-Zarr folder; choose another name")


def _was_zarr(folder: Path) -> bool:
    """Return whether a folder is a Zarr, or one that lost what it says of itself."""
    return ome_zarr.is_zarr(folder) or ome_zarr.is_zarr(folder / "0")


@contextmanager
def _measured(stack: Stack, dtype: str, folder: Path) -> Iterator[tuple[Any, Range]]:
    """Yield the voxels and, for uint16, their range; dask is computed once, to a spool file.

    The spool is an anonymous file, gone when it is closed, even after a crash.
    """
    data, seen = stack.data, Range()
    if dtype != "uint16" or _fits_uint16(data.dtype):
        yield data, seen
        return
    if not _is_lazy(data):
        for place in _places(data, stack.axes, whole_planes=True):
            seen = seen.widened(np.asarray(data[place]))
        yield data, seen
        return
    with tempfile.TemporaryFile(dir=folder, prefix=".napari-deconv-") as spool:
        for place in _places(data, stack.axes, whole_planes=True):
            block = np.asarray(data[place])
            seen = seen.widened(block)
            spool.write(np.ascontiguousarray(block, dtype=np.float32).data)
        spool.flush()
        yield np.memmap(spool, np.float32, "r", shape=stack.shape), seen


def _is_lazy(data: Any) -> bool:
    return hasattr(data, "dask")


def _fits_uint16(dtype: np.dtype[Any]) -> bool:
    return bool(np.can_cast(dtype, np.uint16))


def _places(data: Any, axes: str, *, whole_planes: bool) -> Iterator[Slices]:
    """Yield where the pieces to write lie, in the order of the axes.

    A dask array is taken in its own chunks, so that each is computed once; with
    `whole_planes`, Y and X are whole and the pieces joined give the voxels in memory order.
    """
    parts: list[tuple[int, ...]] = []
    inside_is_whole = True
    for axis in reversed(range(len(axes))):
        size = int(data.shape[axis])
        if whole_planes and axes[axis] in "YX":
            sizes: tuple[int, ...] = (size,)
        elif whole_planes and not (_is_lazy(data) and inside_is_whole):
            sizes = (1,) * size
        else:
            sizes = _chunk_sizes(data, axis, size, axes[axis])
        inside_is_whole = inside_is_whole and len(sizes) == 1
        parts.insert(0, sizes)
    yield from product(*map(_slices, parts))


def _chunk_sizes(data: Any, axis: int, size: int, letter: str) -> tuple[int, ...]:
    if _is_lazy(data):
        return tuple(int(n) for n in data.chunks[axis])
    side = PIECE_SIDES[letter]
    return tuple(min(side, size - start) for start in range(0, size, side))


def _slices(sizes: tuple[int, ...]) -> list[slice]:
    stops = list(accumulate(sizes))
    return [slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def _planes(block: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for index in np.ndindex(block.shape[:-2]):
        yield np.ascontiguousarray(block[index])


def _notes(seen: Range, dtype: str, factor: float) -> tuple[str, ...]:
    notes = []
    if factor != 1:
        notes.append(
            f"Stored as uint16, multiplied by {factor:g}: divide by it to get the intensities"
        )
    if dtype == "uint16" and seen.lowest < 0:
        notes.append(f"Stored as uint16: values below zero (down to {seen.lowest:.3g}) became zero")
    return tuple(notes)
