"""TIFF in and out: plain, ImageJ hyperstacks and OME-TIFF read, OME-TIFF written.

A TIFF that was cut off can still be opened, and shows one plane of many; so `_require_whole`
follows the chain of its directories to the end before anything is believed.
"""

from __future__ import annotations

import logging
import math
import re
import struct
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, require

from . import ome_xml
from .metadata import Description, positive, seconds, several_images, shadow, stack_of, stem
from .stored import StoredArray

#: Voxels of this many bytes or more are not loaded: those of an uncompressed TIFF in one piece
#: are mapped, others are read when they are asked for.
MAPPED_FROM_BYTES = 2**30

#: Sides in y and x of what is read at once; more where a strip or a tile is longer.
PIECE_SIDE = 512

#: What a classic TIFF can address, less a margin for its directories.
CLASSIC_LIMIT_BYTES = 2**32 - 2**25

_IMAGE_DESCRIPTION = 270

#: In OME-XML, where a plane lies.
_FILE_NAME = re.compile(r'\bFileName="([^"]*)"')

#: Offset and factor by which ImageJ keeps 16-bit numbers with a sign.
SIGNED = (-32768.0, 1.0)

#: Units in which ImageJ passes on the dots of a print.
_OF_PRINTS = ("inch", "cm")


def read(source: Path, *, voxels: bool = True, loaded_bytes: float = math.inf) -> Stack:
    """Read level 0 of the image of a TIFF; without `voxels`, zeros that take no memory.

    Voxels of more than `loaded_bytes` are left on disk, as those of a large file always are.
    Of several images it is the first whose planes lie in this very file.

    Raises
    ------
    InputError
        If the file is no TIFF, cut off, in colour, or its axes cannot be told apart.
    """
    import tifffile

    _require_whole(source)
    with _quiet(), tifffile.TiffFile(source) as tif:
        index = _first_inside(tif)
        series = tif.series[index]
        _require_intensities(series, source.name)
        _require_all_planes(tif, series, source.name)
        data = (
            _voxels(series, source, loaded_bytes) if voxels else shadow(series.shape, series.dtype)
        )
        line = imagej_line((tif.imagej_metadata if tif.is_imagej else None) or {})
        remarks = several_images(source.name, len(tif.series))
        remarks += _of_a_set(_files_of(tif, source))
        if line == SIGNED and (data.dtype.kind, data.dtype.itemsize) == ("u", 2):
            data = _signed(data)
        elif line != (0.0, 1.0):
            remarks += (_of_a_line(source.name, *line),)
        description = replace(_description(tif, index, source.name), remarks=remarks)
        return stack_of(data, series.axes, description, stem(source))


def files_of(source: Path) -> tuple[Path, ...]:
    """Return the files that the image of a TIFF lies in: itself, and those of its OME set."""
    import tifffile

    with _quiet(), tifffile.TiffFile(source) as tif:
        return _files_of(tif, source)


def _files_of(tif: Any, source: Path) -> tuple[Path, ...]:
    """Return the files of the image that is read of an open TIFF, those that are there."""
    if len(set(_FILE_NAME.findall(tif.ome_metadata or ""))) < 2:
        return (source,)
    pages = (page for page in tif.series[_first_inside(tif)].pages if page is not None)
    others = {Path(page.parent.filehandle.path) for page in pages if page.parent is not tif}
    return tuple(sorted((source, *others), key=lambda file: file.name))


def _of_a_set(files: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the remark on an image that lies in several files."""
    if len(files) < 2:
        return ()
    more = files[1].name if len(files) == 2 else f"{len(files) - 1} more files"
    return (f"{files[0].name} and {more} are one image, which is read as a whole",)


def provenance_in(source: Path) -> Plain | None:
    """Return what napari-deconv stored in the OME-XML of a TIFF, or None."""
    import tifffile

    _require_whole(source)
    with _quiet(), tifffile.TiffFile(source) as tif:
        return ome_xml.provenance_in(tif.ome_metadata or "")


def write(
    target: Path,
    planes: Iterator[npt.NDArray[Any]],
    stack: Stack,
    *,
    dtype: str,
    provenance: Plain,
) -> None:
    """Write `planes`, each (Y, X) of `dtype`, in the order of the stack's axes, as OME-TIFF.

    Not compressed, so that other programs can map it; BigTIFF where 4 GiB do not suffice.
    """
    import tifffile

    xml = ome_xml.build(stack, dtype=dtype, provenance=provenance)
    nbytes = int(np.prod(stack.shape)) * np.dtype(dtype).itemsize
    options: dict[str, Any] = {}
    if stack.grid is not None:
        y, x = stack.grid.spacing_um[-2:]
        options = {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}
    big = nbytes + len(xml) > CLASSIC_LIMIT_BYTES
    with _quiet(), tifffile.TiffWriter(target, bigtiff=big, ome=False) as writer:
        writer.write(
            planes,
            shape=stack.shape,
            dtype=dtype,
            photometric="minisblack",
            description=xml,
            metadata=None,
            software="napari-deconv",
            **options,
        )


def _first_inside(tif: Any) -> int:
    """Return the index of the first series with a plane in this file: of a set, that of its own."""
    for index, series in enumerate(tif.series):
        if any(page is not None and page.parent is tif for page in series.pages):
            return index
    return 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's remarks on odd files out of the user's terminal."""
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _voxels(series: Any, source: Path, loaded_bytes: float) -> Any:
    """Return the voxels of a series: where they are many, mapped from disk or read in pieces."""
    if series.nbytes < MAPPED_FROM_BYTES and series.nbytes <= loaded_bytes:
        return series.asarray()
    if series.dataoffset is not None:
        order = series.parent.byteorder
        stored = np.dtype(series.dtype).newbyteorder(order)
        return np.memmap(source, stored, "r", offset=series.dataoffset, shape=series.shape)
    shape = tuple(int(n) for n in series.shape)
    voxels = StoredArray(source, "", _opened, source, series.axes, shape, np.dtype(series.dtype))
    _opened(source, "")[(0,) * len(shape)]  # one that needs imagecodecs is to say so now
    return voxels.lazy(_pieces(shape, series.keyframe.chunks))


def _pieces(shape: tuple[int, ...], stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks of one plane or a part of it, made of whole strips or tiles."""
    sides = (
        min(n, side * max(PIECE_SIDE // side, 1))
        for n, side in zip(shape[-2:], stored[-2:], strict=True)
    )
    return (*(1,) * (len(shape) - 2), *sides)


class _Opened:
    """The image of a TIFF that stays open until nobody asks for it any more."""

    def __init__(self, source: Path) -> None:
        import tifffile
        import zarr

        with _quiet():
            tif = tifffile.TiffFile(source)
            self._closed = weakref.finalize(self, tif.close)
            store = tif.series[_first_inside(tif)].aszarr(level=0)
        self._array = zarr.open_array(store, mode="r")

    def __getitem__(self, place: Any) -> Any:
        return self._array[place]


def _opened(source: Path, key: str) -> _Opened:
    return _Opened(source)


def _require_intensities(series: Any, name: str) -> None:
    photometric = getattr(series.keyframe.photometric, "name", "")
    require(
        "S" not in series.axes and photometric not in ("RGB", "YCBCR", "CIELAB"),
        f"{name} is a colour picture (RGB); a stack to restore has one intensity a voxel. "
        "Split the colours into channels and save those",
    )


def _require_all_planes(tif: Any, series: Any, name: str) -> None:
    missing = sum(page is None for page in series.pages)
    require(
        missing == 0,
        f"{name} is one file of several, and {missing} of its planes lie in files that are not "
        "there; put all of them in one folder",
    )
    told = int((tif.imagej_metadata or {}).get("images", 1))
    there = int(np.prod(series.shape)) // max(int(np.prod(series.keyframe.shape)), 1)
    require(
        there >= told,
        f"{name} holds {there} of the {told} planes that it announces: it was cut off. "
        "Copy or export it again",
    )


def imagej_line(info: Mapping[str, Any]) -> tuple[float, float]:
    """Return offset and factor that ImageJ turns stored values into what it shows with."""
    if info.get("cf") != 0:  # which is how ImageJ calls a straight line
        return 0.0, 1.0
    return float(info.get("c0", 0.0)), float(info.get("c1", 1.0))


def _signed(data: Any) -> Any:
    """Return what ImageJ stored of numbers with a sign, which it moves above zero, as they are."""
    if isinstance(data, np.memmap):
        import dask.array

        sides = _pieces(data.shape, data.shape)
        data = dask.array.from_array(data, chunks=sides, name=False)
    return (data ^ np.uint16(2**15)).view(np.int16)


def _of_a_line(name: str, offset: float, factor: float) -> str:
    return (
        f"{name} is calibrated by ImageJ, {offset:g} + {factor:g} x the stored value; the stored "
        "values are read"
    )


def _description(tif: Any, index: int, name: str) -> Description:
    if tif.is_ome and tif.ome_metadata:
        return ome_xml.parse(tif.ome_metadata, index)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_description(tif.imagej_metadata, tif.pages[0], name)
    return Description()


def _imagej_description(info: dict[str, Any], page: Any, name: str) -> Description:
    """Return what ImageJ says; its inch and cm are those of a print, not of a microscope."""
    spacing: dict[str, tuple[float, str]] = {}
    printed: list[str] = []
    steps = {
        "X": _imagej_step(page, "XResolution"),
        "Y": _imagej_step(page, "YResolution"),
        "Z": positive(abs(float(info.get("spacing", 0) or 0))),
    }
    for axis, step in steps.items():
        unit = _unescaped(str(info.get(f"{axis.lower()}unit") or info.get("unit", "")))
        if step is not None and unit.lower() in _OF_PRINTS:
            printed.append(f"{axis} ({step:g} {unit})")
        elif step is not None:
            spacing[axis] = (step, unit)
    labels = info.get("Labels") or ()
    named = len(labels) == info.get("channels") == info.get("images")
    interval = positive(info.get("finterval"))
    return Description(
        spacing=spacing,
        channel_names=tuple(str(label or "") for label in labels) if named else (),
        time_step_s=seconds(interval, str(info.get("tunit", "s"))) if interval else None,
        channel_colours=_imagej_colours(info),
        unknown_grid=_of_a_print(name, printed),
    )


def _of_a_print(name: str, printed: list[str]) -> str:
    """Return the sentence on sizes in the units of a print, or nothing."""
    sizes = " and ".join(printed)
    return f"{name} gives its pixels as those of a print, {sizes}" if printed else ""


def _imagej_colours(info: dict[str, Any]) -> tuple[str, ...]:
    """Return the brightest colour of each channel's lookup table, where ImageJ shows colours."""
    if str(info.get("mode", "")).lower() not in ("composite", "color"):
        return ()
    tables = [np.asarray(table) for table in info.get("LUTs") or ()]
    if any(table.shape != (3, 256) for table in tables):
        return ()
    return tuple("".join(f"{int(value):02X}" for value in table[:, -1]) for table in tables)


def _imagej_step(page: Any, tag: str) -> float | None:
    """Return the size of a pixel; a resolution of exactly 1/1 is how "not set" is written."""
    resolution = page.tags.get(tag)
    if resolution is None or resolution.value == (1, 1) or 0 in resolution.value:
        return None
    pixels, lengths = resolution.value
    # A rational of 32 bits carries nine digits; more would only show how it was rounded.
    return positive(f"{lengths / pixels:.9g}")


def _unescaped(text: str) -> str:
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: chr(int(code[1], 16)), text)


def _require_whole(source: Path) -> None:
    """Raise unless `source` is a TIFF whose directories all lie within the file."""
    size = source.stat().st_size
    with source.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        magic = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) >= 4 else 0
        require(
            magic in (42, 43),
            f"{source.name} is not a TIFF image; this reads TIFF, OME-TIFF and OME-Zarr. Export "
            "the image in one of these",
        )
        try:
            whole = _chain_is_whole(file, head, order, size, big=magic == 43)
        except struct.error:
            whole = False
    if not whole:
        raise InputError(
            f"{source.name} is cut off: it ends before all of its planes are described. "
            "Copy or export it again"
        )


def _chain_is_whole(file: BinaryIO, head: bytes, order: str, size: int, *, big: bool) -> bool:
    """Follow the directories; True when each, and each description, ends within `size`."""
    count_format, entry_format, next_format = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    entry = struct.Struct(order + entry_format)
    count_size, inline = struct.calcsize(order + count_format), 8 if big else 4
    (offset,) = struct.unpack_from(order + next_format, head, 8 if big else 4)
    seen: set[int] = set()
    require(offset > 0, "This TIFF holds no image; export it again")
    while offset and offset not in seen:
        seen.add(offset)
        file.seek(offset)
        (count,) = struct.unpack(order + count_format, file.read(count_size))
        if offset + count * entry.size > size:
            return False
        for tag, _, length, value in entry.iter_unpack(file.read(count * entry.size)):
            if tag == _IMAGE_DESCRIPTION and length > inline and value + length > size:
                return False
        (offset,) = struct.unpack(order + next_format, file.read(inline))
    return True
