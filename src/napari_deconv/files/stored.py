"""Voxels that stay on disk until they are asked for, and what is said when they cannot be read.

A `StoredArray` is a path, not an open file: it travels to the workers of a cluster, and each
process opens the file once. Whatever goes wrong when voxels are read, hours after the file was
opened perhaps, is one `InputError` that names the file and the place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import InputError, first_line

#: Opens what lies at a path under a key; the result is sliced.
Opener = Callable[[Path, str], Any]


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, sliced as numpy is.

    Parameters
    ----------
    source : Path
        The file or folder that the user knows.
    key : str
        What to open inside it.
    opener : callable
        A function of a module, called as ``opener(source, key)`` once in each process.
    witness : Path
        A file that is there as long as the voxels are: without it a Zarr array would read as
        zeros where its disk has gone.
    axes : str
        One letter an axis, as stored.
    shape : tuple of int
    dtype : numpy.dtype
    """

    source: Path
    key: str
    opener: Opener
    witness: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __dask_tokenize__(self) -> tuple[str, str, int, int]:
        """Return what is another where the file is another."""
        return str(self.source), self.key, *_stamp(self.witness)

    def __getitem__(self, place: Any) -> npt.NDArray[Any]:
        """Return voxels as numpy.

        Raises
        ------
        InputError
            If they cannot be read.
        """
        try:
            array = _opened(self.opener, self.source, self.key, _stamp(self.witness))
            block = np.asarray(array[place])
            self.witness.stat()  # once more, after the voxels
        except MemoryError:
            raise
        except Exception as error:
            raise unreadable(self.source.name, self.axes, place, error) from error
        return block

    def lazy(self, chunks: tuple[int, ...]) -> Any:
        """Return the voxels as a dask array of these `chunks`."""
        from dask import array as da

        return da.from_array(self, chunks=chunks, meta=np.empty((0,) * self.ndim, self.dtype))


def unreadable(name: str, axes: str, place: Any, error: Exception) -> InputError:
    """Return the sentence for voxels of the file `name` that cannot be read."""
    reason = "it is not there any more" if isinstance(error, FileNotFoundError) else ""
    return InputError(
        f"{name}: the voxels {_in_words(axes, place)} cannot be read "
        f"({reason or first_line(error)[:160]}); copy or export the file again"
    )


def _in_words(axes: str, place: Any) -> str:
    """Return a place as a person writes it: z 0-31, y 256-511, x 0-255."""
    parts = place if isinstance(place, tuple) else (place,)
    words = []
    for axis, part in zip(axes.lower(), parts, strict=False):
        if not isinstance(part, slice):
            words.append(f"{axis} {part}")
        elif part.start is None and part.stop is None:
            words.append(f"all of {axis}")
        else:
            first, last = part.start or 0, "" if part.stop is None else part.stop - 1
            words.append(f"{axis} {first}" if first == last else f"{axis} {first}-{last}")
    return ", ".join(words)


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=16)
def _opened(opener: Opener, source: Path, key: str, stamp: tuple[int, int]) -> Any:
    """Return what the file holds; another `stamp` is another file."""
    return opener(source, key)
