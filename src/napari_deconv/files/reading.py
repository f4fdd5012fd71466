"""Stacks from files: TIFF, ImageJ hyperstacks, OME-TIFF and OME-Zarr.

`read_stack` is the door; `read_pyramid` brings the smaller levels too, `read_header` no voxels.
What the file knows comes along (axes, voxel size, channels, time step, optics); what it does
not know stays None and is never made up. `read_voxels` reads a region of what a large file left
on disk, `read_provenance` gives back the recipe that an exported file carries. Whatever is
wrong with a file is an `InputError` of one sentence.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import AXES, Stack
from napari_deconv.imaging.value import InputError, Plain

from . import ome_zarr, tiff
from .stored import unreadable

#: Of the memory that a run may take, the part that its image may fill beside the work: so little
#: that the plan of the work does not count it.
LOADED_PART = 1 / 32


def read_stack(path: str | os.PathLike[str], *, memory_bytes: int | None = None) -> Stack:
    """Read the first image of a file at full resolution.

    Parameters
    ----------
    path : str or path
        A TIFF file (plain, ImageJ hyperstack, OME-TIFF) or an OME-Zarr folder (0.4, 0.5).
    memory_bytes : int, optional
        What may be taken for all that is done with the image: where its voxels are more than a
        small part of that, they are left on disk as those of a large file.

    Returns
    -------
    Stack
        Axes a subset of TCZYX in that order, shape as in its `axes`. Axes of length one are
        dropped, but for Y, X, and a Z that the file names as an axis with a voxel size. The
        single unnamed axis of a TIFF is taken for Z. The voxels are numpy; of a large file
        they are mapped from disk (TIFF in one piece) or dask (OME-Zarr, other TIFF). The grid
        is in micrometres, and None where the size of a spatial axis or its unit is missing.

    Raises
    ------
    InputError
        If there is no such file, it is damaged or no image, in colour or complex, or its
        axes cannot be told apart.

    Notes
    -----
    Dots per inch or per centimetre, of a plain TIFF or passed on by ImageJ, describe a print
    and are no voxel size. Voxels come as they are stored: where an export as uint16 scaled
    them, `read_provenance` knows the factor.
    """
    source = Path(path).expanduser()
    with _told_as_input_error(source):
        most = math.inf if memory_bytes is None else LOADED_PART * memory_bytes
        read = ome_zarr.read if source.is_dir() else tiff.read
        return read(source, loaded_bytes=most)


def read_pyramid(path: str | os.PathLike[str]) -> tuple[Stack, ...]:
    """Read an image with its smaller levels.

    Parameters
    ----------
    path : str or path
        A TIFF file or an OME-Zarr folder. Of a TIFF only the full resolution is read.

    Returns
    -------
    tuple of Stack
        What `read_stack` gives, then the smaller levels, each with its own voxel size.

    Raises
    ------
    InputError
        As `read_stack` does.
    """
    source = Path(path).expanduser()
    with _told_as_input_error(source):
        return ome_zarr.read_levels(source) if source.is_dir() else (tiff.read(source),)


def read_voxels(
    data: Any, place: tuple[slice | int, ...], name: str, *, axes: str | None = None
) -> npt.NDArray[Any]:
    """Return a region of voxels that may still lie on disk.

    Parameters
    ----------
    data : array
        numpy, mapped, or dask; dask is computed by threads of this process.
    place : tuple of slice or int
        The region, one entry an axis.
    name : str
        What to call the image in a sentence for the user.
    axes : str, optional
        One letter an axis of `data`; without it the last ones of TCZYX.

    Returns
    -------
    ndarray
        The voxels, shape of `place`, type of `data`.

    Raises
    ------
    InputError
        If they cannot be read; it names the image and the place, or the file and the place in
        it where the data are those of `read_stack`.
    MemoryError
        If they do not fit in memory.
    """
    try:
        _require_whole_map(data)
        block = data[place]
        if isinstance(block, np.memmap):
            return _copied(block)
        return np.asarray(block.compute(scheduler="threads") if hasattr(block, "dask") else block)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise unreadable(name, axes or AXES[-data.ndim :], place, error) from error


def _copied(mapped: np.memmap[Any, Any]) -> npt.NDArray[Any]:
    """Return mapped voxels in memory, read plane by plane.

    What was read of a map counts as memory of the process until it is given back, which leaves it
    to the system whether to keep it. A map that may be written to is left alone.
    """
    voxels, copy = np.asarray(mapped), np.empty(mapped.shape, mapped.dtype)
    pages = getattr(mapped, "_mmap", None) if mapped.mode == "r" else None
    unused = getattr(mmap, "MADV_DONTNEED", None)
    for plane in np.ndindex(mapped.shape[:-2]):
        copy[plane] = voxels[plane]
        if pages is not None and unused is not None:
            pages.madvise(unused)
    return copy


def _require_whole_map(data: Any) -> None:
    """Raise unless the file of mapped voxels is as long as ever: else the process would end."""
    file = getattr(data, "filename", None) if isinstance(data, np.memmap) else None
    if file is not None and Path(file).stat().st_size < data.offset + data.nbytes:
        raise EOFError("the file was cut off")


def read_header(path: str | os.PathLike[str]) -> Stack:
    """Read what `read_stack` would, but for the voxels: they are zeros that take no memory.

    Parameters
    ----------
    path : str or path
        A TIFF file or an OME-Zarr folder.

    Returns
    -------
    Stack
        Axes, shape, type, grid, channels, time step and optics as in the file.

    Raises
    ------
    InputError
        As `read_stack` does.
    """
    source = Path(path).expanduser()
    with _told_as_input_error(source):
        if source.is_dir():
            return ome_zarr.read(source, voxels=False)
        return tiff.read(source, voxels=False)


def read_provenance(path: str | os.PathLike[str]) -> Plain | None:
    """Return how the image in a file was made, or None where napari-deconv did not write it.

    Parameters
    ----------
    path : str or path
        An OME-TIFF file or an OME-Zarr folder.

    Returns
    -------
    dict or None
        The keys ``software``, ``recipe``, ``record``, ``versions`` and ``stored``.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    source = Path(path).expanduser()
    with _told_as_input_error(source):
        return ome_zarr.provenance_in(source) if source.is_dir() else tiff.provenance_in(source)


def files_of(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files that the image of a file lies in: several where an OME-TIFF is a set.

    Parameters
    ----------
    path : str or path
        A file; one that cannot be read is alone.

    Returns
    -------
    tuple of Path
        Sorted by name, with the file itself.
    """
    source = Path(path).expanduser()
    try:
        return tiff.files_of(source)
    except Exception:  # told where it is read
        return (source,)


@contextmanager
def _told_as_input_error(source: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `source` is read into an `InputError` of one sentence."""
    try:
        if not source.exists():
            raise InputError(f"There is no file {source}; check the folder and the spelling")
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(
            f"{source.name} may not be read; ask for the permission or copy it elsewhere"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{source.name} does not fit in memory; save it as OME-Zarr, which is read in pieces"
        ) from error
    except Exception as error:
        if "imagecodecs" in str(error):
            raise InputError(
                f"{source.name} is compressed in a way that needs one more package; run "
                "'pip install imagecodecs', or save it without compression"
            ) from error
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"{source.name} cannot be read, it is damaged or not complete ({reason}); "
            "copy or export it again"
        ) from error
