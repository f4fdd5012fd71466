"""What the user typed, as the values that the pipeline takes; nonsense ends in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deconv.imaging.value import InputError

from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.imaging.stack import Stack


def read_image(
    source: Path,
    voxel_size: str | None,
    *,
    voxels: bool = True,
    memory_bytes: int | None = None,
) -> Stack:
    """Read the image, or all but its voxels, and say what it is and how large a voxel is."""
    from dataclasses import replace

    from napari_deconv.files.reading import read_header, read_stack
    from napari_deconv.imaging.grid import Grid

    stack = read_stack(source, memory_bytes=memory_bytes) if voxels else read_header(source)
    if voxel_size is None:
        where = "from the file" if stack.grid else "unknown"
    else:
        stack = replace(stack, grid=Grid(spacing_um=numbers(voxel_size, "--voxel-size")))
        where = "as given"
    grid = stack.grid.describe() if stack.grid else "voxel size"
    say(f"Image       {source.name}: {stack.axes} {stack.shape}, {grid} ({where})")
    for remark in stack.remarks:
        say(f"Note        {remark}")
    if stack.grid is None and stack.unknown_grid:
        say(f"Note        {stack.unknown_grid}: the voxel size counts as unknown")
    return stack


def numbers(text: str, option: str, example: str = "0.3,0.1,0.1") -> tuple[float, ...]:
    """Return '0.3,0.1,0.1' as numbers."""
    try:
        return tuple(float(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise InputError(f"{option} {text!r} is not a list of numbers such as {example}") from None


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return '21,31,31' as whole numbers."""
    found = numbers(text, option)
    if not all(number.is_integer() for number in found):
        raise InputError(f"{option} {text!r} is not a list of whole numbers such as 21,31,31")
    return tuple(int(number) for number in found)


def chosen_of(stack: Stack, axis: str, text: str | None, option: str) -> tuple[int, ...] | None:
    """Return '0,3,5', '0:10' or '0:10:2' as indices; None where the option was not given."""
    if text is None:
        return None
    count = stack.shape[stack.axes.index(axis)] if axis in stack.axes else 0
    try:
        ranges = [_range(part, count) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} {text!r} is not a list of whole numbers from 0 on, such as 0,2 or 0:10 "
            "(0 to 9) or 0:10:2 (every second)"
        ) from None
    # The ends of all of them first: a slip of the pen may be a very long range.
    stack.chosen(axis, [end for numbers in ranges for end in (*numbers[:1], *numbers[-1:])])
    found = stack.chosen(axis, [number for numbers in ranges for number in numbers])
    if not found:
        raise InputError(f"{option} {text!r} chooses nothing; leave it out to restore all")
    return found


def _range(part: str, count: int) -> range:
    """Return '3', '0:10' or '0:10:2' as a range; ValueError where it is none."""
    if ":" not in part:
        return range(int(part), int(part) + 1)
    first, stop, *more = (int(word) if word.strip() else None for word in part.split(":"))
    (step,) = more or (None,)
    return range(first or 0, count if stop is None else stop, 1 if step is None else step)


_UNITS = {"b": 0, "kb": 1, "mb": 2, "gb": 3, "tb": 4, "kib": 1, "mib": 2, "gib": 3, "tib": 4}


def bytes_of(text: str, option: str = "--memory") -> int:
    """Return '2GiB', '512MiB' or '1.5GB' as a number of bytes.

    Examples
    --------
    >>> bytes_of("1.5GB"), bytes_of("2 GiB")
    (1500000000, 2147483648)
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([a-z]+)", text.replace(" ", "").lower())
    if found is None or found[2] not in _UNITS:
        raise InputError(f"{option} {text!r} is not an amount of memory such as 2GiB or 500MB")
    amount = int(float(found[1]) * (1024 if "i" in found[2] else 1000) ** _UNITS[found[2]])
    if amount < 1:
        raise InputError(f"{option} {text!r} is no memory at all; give an amount such as 2GiB")
    return amount


def require_written(
    dtype: str, ome_zarr_version: str | None = None, output: Path | None = None
) -> None:
    """Raise `InputError` where no such type or version is written, or not into that output."""
    from napari_deconv.files.export import DTYPES
    from napari_deconv.files.names import TIFF_SUFFIXES
    from napari_deconv.files.ome_zarr import VERSIONS

    if dtype not in DTYPES:
        raise InputError(f"The type {dtype!r} is not written; choose {' or '.join(DTYPES)}")
    if ome_zarr_version is None:
        return
    if ome_zarr_version not in VERSIONS:
        raise InputError(
            f"OME-Zarr {ome_zarr_version!r} is not written; choose {' or '.join(VERSIONS)}"
        )
    if output is not None and output.name.lower().endswith(TIFF_SUFFIXES):
        raise InputError(
            f"--ome-zarr-version tells how an OME-Zarr is written, and {output.name} is a TIFF; "
            "leave it out, or let the output end in .ome.zarr"
        )


def require_free(path: Path, *others: Path | None, overwrite: bool) -> None:
    """Raise `InputError` where a small file could not be written later, or is one of the others."""
    from napari_deconv.files.export import require_apart

    if path.exists() and not overwrite:
        raise InputError(f"{path.name} exists already; choose another name, or give --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}; create it, or choose another")
    require_apart(path, *others)


def number_or_auto(text: str | None, option: str) -> float | str | None:
    """Return a number, 'auto', or None where the option was not given."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is neither a number nor 'auto'") from None


def without_none(**values: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in values.items() if value is not None}
