"""What tells the source of a result from another, so that a changed one is noticed."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Value

from .reading import files_of

#: Planes of a stack that is no file by which it is known.
PLANES = 16


@dataclass(frozen=True)
class Origin(Value):
    """What is known of a source.

    Parameters
    ----------
    name : str
        Of the file, the folder or the layer.
    bytes : int
        Of all its files, those of an OME-TIFF set too; 0 where it is none.
    modified : float
        When the last of its files was changed, in seconds since 1970; 0 where it is none.
    digest : str
        SHA-256 of evenly chosen planes, where it is no file.
    """

    name: str
    bytes: int = 0
    modified: float = 0.0
    digest: str = ""


def origin_of(source: str | os.PathLike[str] | Stack) -> Origin:
    """Return what tells a source from another.

    Parameters
    ----------
    source : path or Stack
        A file or a folder by its size and the time of its last change, a stack by some of its
        voxels.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if isinstance(source, Stack):
        return Origin(source.name, digest=_digest(source))
    path = Path(source).expanduser()
    try:
        files = files_of(path) if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        states = [file.stat() for file in files]
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from error
    return Origin(
        path.name,
        sum(state.st_size for state in states),
        max((state.st_mtime for state in states), default=0.0),
    )


def _digest(stack: Stack) -> str:
    """Return the digest of evenly chosen planes, of all where there are few."""
    leading = stack.shape[:-2]
    planes = math.prod(leading)
    found = hashlib.sha256(f"{stack.axes} {stack.shape}".encode())
    for number in range(0, planes, -(-planes // PLANES)):
        index = tuple(int(i) for i in np.unravel_index(number, leading)) if leading else ()
        plane = np.ascontiguousarray(stack.data[index])
        found.update(plane.dtype.str.encode())
        found.update(plane.data)
    return found.hexdigest()
