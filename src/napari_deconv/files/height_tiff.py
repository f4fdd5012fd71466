"""Heights in TIFF and OME-Zarr: as channels when they are read, as a stack to be written.

Neither format has a place for the unit of its values: ImageJ has one of its own, and what
napari-deconv writes keeps the units in its record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_deconv.imaging.grid import MICROMETRES, Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, require

from . import tiff
from .gwy import Channel, named_once
from .metadata import length_unit
from .reading import read_provenance, read_stack

PICTURE = (
    "is a picture, not heights: a screenshot of an image holds no nanometres; open "
    "the microscope's own file"
)


def read(source: Path) -> tuple[Channel, ...]:
    """Return the channels of a TIFF or OME-Zarr; slices of a stack in Z count as frames.

    Parameters
    ----------
    source : Path

    Returns
    -------
    tuple of Channel
        Values as `read_stack` gives them, or, where ImageJ calibrated them, as it shows them.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, a picture, or has both slices and times.
    """
    stack = _stack_in(source)
    record = (read_provenance(source) or {}).get("record")
    told = record.get("heights", {}) if isinstance(record, dict) else {}
    unit, offset, factor = ("", 0.0, 1.0) if source.is_dir() else _imagej_values(source)
    if stack.data.dtype.kind == "i" and (offset, factor) == tiff.SIGNED:
        offset = 0.0  # they are read as what they are
    count, axis = stack.channel_count(), stack.axes.find("C")
    names = stack.channel_names or (
        tuple(f"channel {n}" for n in range(1, count + 1)) if count > 1 else ("Height",)
    )
    units = told.get("units", ())
    units = units if len(units) == count else (unit,) * count
    channels = []
    for n in range(count):
        values = stack.data if axis < 0 else stack.data[(slice(None),) * axis + (n,)]
        if (offset, factor) != (0, 1):
            values = values * factor + offset
        if told.get("movie") and values.ndim == 2:
            values = values[None]
        name = names[n] or f"channel {n + 1}"
        pixel = _pixel_nm(stack)
        channels.append(
            Channel(name, values, units[n], pixel, stack.time_step_s, bool(told) and n == 0)
        )
    return tuple(named_once(channels))


def stack_of(images: Sequence[Channel]) -> Stack:
    """Return images of one size as the channels of a stack in float32.

    Raises
    ------
    InputError
        If their shapes differ.
    """
    main = images[0]
    for image in images:
        require(
            image.values.shape == main.values.shape,
            f"{image.name!r} of shape {image.values.shape} does not fit into one TIFF with heights "
            f"of shape {main.values.shape}; write .gwy, or another file for it",
        )
    several = [np.asarray(image.values, np.float32) for image in images]
    data = several[0] if len(several) == 1 else np.stack(several, axis=-3)
    axes = ("T" if main.values.ndim == 3 else "") + ("C" if len(several) > 1 else "") + "YX"
    return Stack(
        data,
        axes,
        grid=Grid.from_units(main.pixel_nm or (), "nm"),
        channel_names=tuple(image.name for image in images),
        time_step_s=main.frame_s,
    )


def _stack_in(source: Path) -> Stack:
    try:
        stack = read_stack(source)
    except InputError as error:
        if "colour picture" in str(error):
            raise InputError(f"{source.name} {PICTURE}") from error
        raise
    planes = stack.shape[0] if stack.axes[0] in "CZ" else 1
    is_picture = stack.data.dtype == np.uint8 and (planes in (3, 4) or stack.shape[-1] in (3, 4))
    require(not is_picture, f"{source.name} {PICTURE}")
    require(
        not {"T", "Z"} <= set(stack.axes),
        f"{source.name} has the axes {stack.axes}; heights are YX, or TYX for a movie, so save "
        "those",
    )
    return stack


def _pixel_nm(stack: Stack) -> tuple[float, float] | None:
    if stack.grid is None:
        return None
    y, x = (float(f"{step * 1e3:.15g}") for step in stack.grid.spacing_um[-2:])
    return y, x


def _imagej_values(source: Path) -> tuple[str, float, float]:
    """Return what ImageJ says of the values of a TIFF: unit, offset and factor."""
    import tifffile

    with tifffile.TiffFile(source) as tif:
        info = (tif.imagej_metadata if tif.is_imagej else None) or {}
    # ImageJ writes u for micro in an escape.
    units = (
        re.sub(r"\\u00b5|\\u03bc", "u", str(info.get(key, "")), flags=re.IGNORECASE)
        for key in ("vunit", "zunit")
    )
    unit = next((unit for unit in units if length_unit(unit) in MICROMETRES), "")
    require(
        info.get("cf") in (None, 0, 20),
        f"{source.name} has values that ImageJ maps to heights by a curve; apply it there and "
        "save the heights as 32-bit",
    )
    return unit, *tiff.imagej_line(info)
