"""What a file says of its image, in the project's terms: axes, voxel size, channels, time.

The readers of each format fill a `Description`; `stack_of` joins it with the voxels: axes in
the order T, C, Z, Y, X, those of length one dropped, a voxel size only where every spatial
axis has one with a unit of length.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.imaging.grid import MICROMETRES, Grid
from napari_deconv.imaging.stack import AXES, KnownOptics, Stack
from napari_deconv.imaging.value import InputError, require

#: Units of time as files spell them, in seconds.
SECONDS: dict[str, float] = {
    "ns": 1e-9,
    "nanosecond": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # micro sign
    "μs": 1e-6,  # Greek mu
    "microsecond": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}

#: Refractive index of an immersion medium that a file gives by name.
IMMERSION_INDEX: dict[str, float] = {
    "air": 1.0,
    "water": 1.333,
    "waterdipping": 1.333,
    "glycerol": 1.46,
    "oil": 1.515,
}

#: Axes that a file counts without naming them; a single one is taken for Z.
UNNAMED_AXES = "QI"


@dataclass(frozen=True)
class Description:
    """What a file says of its image, apart from the voxels.

    Parameters
    ----------
    spacing : mapping of str to (float, str)
        For each of "Z", "Y", "X" that the file knows: the voxel's size and its unit.
    channel_names : tuple of str
        One name a channel, "" where a channel has none.
    channel_optics : tuple of KnownOptics
        One entry a channel, or empty.
    time_step_s : float, optional
        Seconds between two time points.
    z_is_axis : bool
        Whether a Z axis of length one was meant as an axis.
    channel_colours : tuple of str
        One "RRGGBB" a channel, "" where a channel has none.
    position : mapping of str to (float, str)
        For each of "Z", "Y", "X" that the file knows: where the stage stood, and the unit.
    acquired : str
        When the image was taken.
    remarks : tuple of str
        What is to be known of how the file was read, in sentences.
    unknown_grid : str
        Why its sizes are none of a voxel, in a sentence.
    """

    spacing: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    channel_optics: tuple[KnownOptics, ...] = ()
    time_step_s: float | None = None
    z_is_axis: bool = False
    channel_colours: tuple[str, ...] = ()
    position: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    acquired: str = ""
    remarks: tuple[str, ...] = ()
    unknown_grid: str = ""


def stack_of(data: Any, axes: str, description: Description, name: str) -> Stack:
    """Return the stack of `data`, its axes ordered as a subset of TCZYX.

    Parameters
    ----------
    data : array, shape as in `axes`
        Voxels as the file keeps them, numpy or dask.
    axes : str
        One letter an axis, as tifffile names them.
    description : Description
        What the file says of the image.
    name : str
        What to call the stack.

    Raises
    ------
    InputError
        If the voxels are no real numbers or the axes cannot be placed.
    """
    require(
        data.dtype.kind in "buif",
        f"{name} holds {data.dtype} values; an image to restore has real numbers. "
        "Save its intensities (of complex data, the magnitude or its square)",
    )
    require(data.size > 0, f"{name} holds no voxels; its shape is {tuple(data.shape)}")
    data, axes = _without_single_axes(data, axes, keep="YXZ" if description.z_is_axis else "YX")
    axes = _named(axes, name)
    ordered = "".join(axis for axis in AXES if axis in axes)
    if axes != ordered:
        data = data.transpose([axes.index(axis) for axis in ordered])
    if description.z_is_axis and "Z" not in ordered:
        data, ordered = data[..., None, :, :], ordered.replace("YX", "ZYX")
    channels = data.shape[ordered.index("C")] if "C" in ordered else 1
    names, optics = description.channel_names, description.channel_optics
    colours, spatial = description.channel_colours, "ZYX" if "Z" in ordered else "YX"
    grid = _grid(description.spacing, spatial)
    half = description.unknown_grid or _half_known(description.spacing, spatial, name)
    return Stack(
        data,
        ordered,
        grid=grid,
        name=name,
        channel_names=names if len(names) == channels and any(names) else (),
        channel_optics=optics if len(optics) == channels and _says_something(optics) else (),
        time_step_s=description.time_step_s if "T" in ordered else None,
        channel_colours=colours if len(colours) == channels and any(colours) else (),
        position={a: place for a, place in description.position.items() if a in spatial},
        acquired=description.acquired,
        remarks=description.remarks,
        unknown_grid=half if grid is None else "",
    )


def arranged_like(stack: Stack, data: Any, axes: str) -> Any:
    """Return another level of the image of `stack`, stored with `axes`, with the stack's axes."""
    data = data[tuple(slice(None) if axis in stack.axes else 0 for axis in axes)]
    kept = [axis for axis in axes if axis in stack.axes]
    return data.transpose([kept.index(axis) for axis in stack.axes])


def _without_single_axes(data: Any, axes: str, *, keep: str) -> tuple[Any, str]:
    sizes = zip(axes, data.shape, strict=True)
    kept = [axis in keep or size > 1 for axis, size in sizes]
    index = tuple(slice(None) if stays else 0 for stays in kept)
    return data[index], "".join(a for a, stays in zip(axes, kept, strict=True) if stays)


def _named(axes: str, name: str) -> str:
    """Return `axes` with a single unnamed one called Z, or say why they cannot be placed."""
    unnamed = [axis for axis in axes if axis in UNNAMED_AXES]
    if len(unnamed) == 1 and "Z" not in axes:
        axes = axes.replace(unnamed[0], "Z")
        unnamed = []
    require(
        not unnamed,
        f"{name} does not say what its {len(axes)} axes are, so Z, channels and time cannot be "
        "told apart. Save it as an ImageJ hyperstack, OME-TIFF or OME-Zarr, which name them",
    )
    strange = sorted(set(axes) - set(AXES))
    require(
        not strange,
        f"{name} has the axes {axes}, and {', '.join(strange)} is none of T, C, Z, Y, X. "
        "Save one position of it as a separate file",
    )
    require(
        len(set(axes)) == len(axes) and {"Y", "X"} <= set(axes),
        f"{name} has the axes {axes or 'of a single number'}; an image needs Y and X, "
        "and each axis once",
    )
    return axes


def _grid(spacing: Mapping[str, tuple[float, str]], spatial_axes: str) -> Grid | None:
    """Return the voxel size where every spatial axis has one; part of one is none."""
    if any(axis not in spacing for axis in spatial_axes):
        return None
    steps = [spacing[axis][0] for axis in spatial_axes]
    units = [length_unit(spacing[axis][1]) for axis in spatial_axes]
    try:
        return Grid.from_units(steps, units)
    except InputError:
        return None


def several_images(name: str, count: int) -> tuple[str, ...]:
    """Return the remark on a file of `count` images, where there is more than one."""
    if count < 2:
        return ()
    return (
        f"{name} holds {count} images, and one of them is read; save each as a file of its own",
    )


def _half_known(spacing: Mapping[str, tuple[float, str]], spatial_axes: str, name: str) -> str:
    """Return the sentence on a voxel size that the file tells of some axes alone, or nothing."""
    known = [a for a in spatial_axes if a in spacing and length_unit(spacing[a][1]) in MICROMETRES]
    missing = [axis for axis in spatial_axes if axis not in known]
    if not known or not missing:
        return ""
    sizes = " and ".join(f"{axis} ({spacing[axis][0]:g} {spacing[axis][1]})" for axis in known)
    return f"{name} tells the size of a voxel along {sizes}, and not along {' and '.join(missing)}"


def _says_something(optics: tuple[KnownOptics, ...]) -> bool:
    return any(entry != KnownOptics() for entry in optics)


def length_unit(unit: str) -> str:
    """Return a unit of length as `MICROMETRES` spells it, or as given where it knows none.

    Examples
    --------
    >>> length_unit(" Micron ")
    'micron'
    """
    plain = unicodedata.normalize("NFC", unit.strip())
    return plain if plain in MICROMETRES else plain.lower()


def micrometres(value: float, unit: str) -> float | None:
    """Return a length in micrometres, or None where the unit is none of length.

    Examples
    --------
    >>> micrometres(-2.0, "mm"), micrometres(1.0, "pixel")
    (-2000.0, None)
    """
    factor = MICROMETRES.get(length_unit(unit))
    return None if factor is None else float(f"{value * factor:.15g}")


def nanometres(value: float, unit: str) -> float | None:
    """Return a length in nanometres, or None where the unit is none of length.

    Examples
    --------
    >>> nanometres(0.52, "µm")
    520.0
    """
    factor = MICROMETRES.get(length_unit(unit))
    return None if factor is None else float(f"{value * factor * 1e3:.15g}")


def seconds(value: float, unit: str) -> float | None:
    """Return a positive time in seconds, or None where it is unknown.

    Examples
    --------
    >>> seconds(250, "ms")
    0.25
    """
    factor = SECONDS.get(unit.strip())
    if factor is None:
        return None
    return positive(f"{value * factor:.15g}")


def positive(text: object) -> float | None:
    """Return a positive finite number from what a file wrote, else None.

    Examples
    --------
    >>> positive("1.4"), positive("0"), positive("n/a"), positive(None)
    (1.4, None, None, None)
    """
    number = finite(text)
    return number if number is not None and number > 0 else None


def finite(text: object) -> float | None:
    """Return a finite number from what a file wrote, else None.

    Examples
    --------
    >>> finite("-1.5e3"), finite("nan"), finite(None)
    (-1500.0, None, None)
    """
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def shadow(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return zeros of a shape and type in the memory of one voxel: data for a header alone."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def stem(source: Path) -> str:
    """Return the name of a file without what tells its format.

    Examples
    --------
    >>> stem(Path("data/cell.v2.ome.tif"))
    'cell.v2'
    """
    name = source.stem
    return name[:-4] if name.lower().endswith(".ome") else name
