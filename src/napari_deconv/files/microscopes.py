"""Files of the makers of atomic force microscopes, through the optional package AFMReader.

AFMReader gives nanometres for heights alone, and one size of a pixel for both axes. It lists
the channels of a file only in what it says when one is not there; so that is what is asked.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.afm.height_map import Double
from napari_deconv.imaging.value import InputError, require

from .gwy import Channel
from .metadata import nanometres, positive

#: For each suffix: the module of AFMReader and its function.
READERS = {
    ".spm": ("spm", "load_spm"),
    ".jpk": ("jpk", "load_jpk"),
    ".h5-jpk": ("h5_jpk", "load_h5jpk"),
    ".ibw": ("ibw", "load_ibw"),
    ".asd": ("asd", "load_asd"),
    ".stp": ("stp", "load_stp"),
    ".top": ("top", "load_top"),
}

#: Formats of a single image, which is one of heights.
_WITHOUT_CHANNELS = (".stp", ".top")

#: Bytes in which the header of a Bruker file ends.
_LONGEST_HEADER = 2**22

#: A name that no channel has; h5-jpk asks for one that ends so.
_NOBODY = "napari-deconv-asks_trace"

_HEIGHTS = re.compile(r"height|topo|z[ _-]?sensor|^z\b|^tp$", re.IGNORECASE)
_BACKWARD = re.compile(r"retrace|backward|bwd", re.IGNORECASE)


def is_height_name(name: str) -> bool:
    """Return whether microscopes call a channel of heights so.

    Examples
    --------
    >>> [n for n in ("ZSensor", "height_trace", "Phase", "TP") if is_height_name(n)]
    ['ZSensor', 'height_trace', 'TP']
    """
    return bool(_HEIGHTS.search(name))


def is_backward(name: str) -> bool:
    """Return whether a channel is one of the way back of the tip.

    Examples
    --------
    >>> is_backward("height_retrace"), is_backward("height_trace")
    (True, False)
    """
    return bool(_BACKWARD.search(name))


def reads(source: Path) -> bool:
    """Return whether AFMReader reads files of this name, or of Bruker's ".000", ".001"."""
    return _suffix(source) in READERS


def names(source: Path) -> tuple[str, ...]:
    """Return the names of all channels of a file, heights or not.

    Raises
    ------
    InputError
        If AFMReader is not installed, or cannot read the file.
    """
    if _suffix(source) in _WITHOUT_CHANNELS:
        return ("Height",)
    try:
        _loaded(source, _NOBODY)
    except InputError:
        raise
    except ValueError as error:
        listed = re.search(r"(?:channel list|Available channels): (.*)", str(error), re.DOTALL)
        if listed:
            quoted = re.findall(r"'([^']+)'", listed[1])
            plain = (name.strip() for name in listed[1].split(","))
            return tuple(dict.fromkeys(quoted or (name for name in plain if name)))
        raise _unreadable(source, error) from error
    except Exception as error:
        raise _unreadable(source, error) from error
    raise InputError(f"{source.name} does not list its channels; save it as .gwy with Gwyddion")


def read(source: Path, name: str) -> Channel:
    """Read a channel that `names` gave; its unit is "nm" for heights, and unknown for others.

    Raises
    ------
    InputError
        If AFMReader is not installed, or cannot read the file.
    """
    try:
        image, pixel_nm, *more = _loaded(source, name)
        values = np.asarray(image)
        if _suffix(source) in _WITHOUT_CHANNELS:
            values = _scaled(source, values)
        if values.ndim == 3 and len(values) == 1:
            values = values[0]
        step = positive(f"{float(pixel_nm):.12g}")
        pixel = None if step is None else (step, step)
        if _suffix(source) == ".ibw" and values.shape[-2] != values.shape[-1]:
            pixel = None  # AFMReader divides the height of the image by its pixels along x
        frame_s = None
        if _suffix(source) == ".asd":
            pixel, frame_s = _told_by_asd(more[0], pixel)
        elif _suffix(source) == ".h5-jpk" and values.ndim == 3:
            frame_s = _step(list(more[0].values()))
    except Exception as error:
        raise _unreadable(source, error) from error
    return Channel(name, values, "nm" if is_height_name(name) else "", pixel, frame_s)


def _suffix(source: Path) -> str:
    suffix = source.suffix.lower()
    return ".spm" if re.fullmatch(r"\.\d{3}", suffix) else suffix


def _loaded(source: Path, name: str) -> Any:
    module, function = READERS[_suffix(source)]
    if _suffix(source) == ".spm":
        _require_bruker(source)
    try:
        load = getattr(importlib.import_module(f"AFMReader.{module}"), function)
        # AFMReader reports each step on the terminal, from when it is imported.
        importlib.import_module("loguru").logger.disable("AFMReader")
    except ImportError as error:
        raise InputError(
            f"{source.name} needs one more package to be read; run "
            "'pip install \"napari-deconv[afm]\"', or save the heights as .gwy with Gwyddion"
        ) from error
    with_channel = _suffix(source) not in _WITHOUT_CHANNELS
    return load(source, name) if with_channel else load(source)


def _require_bruker(source: Path) -> None:
    """Raise unless the header of a Bruker file ends: the library would look for it for ever."""
    with source.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    require(
        b"*File list end" in head,
        f"{source.name} is not a file of Bruker, or is cut off; save the heights as .gwy with "
        "Gwyddion",
    )


def _unreadable(source: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return InputError(
        f"{source.name} cannot be read, it is damaged or of a version that AFMReader does not "
        f"know ({reason}); save the heights as .gwy with Gwyddion"
    )


def _scaled(source: Path, values: npt.NDArray[Any]) -> Double:
    """Return heights of WSxM with the range that the file tells.

    AFMReader cuts the range of a .top to a whole number, and gives those of an .stp as stored.
    """
    head = source.read_bytes()[:16384].decode("latin-1")
    told = re.search(r"Z Amplitude: *([\d.eE+-]+) *(\S+)", head)
    range_nm = nanometres(float(told[1]), told[2].replace("Å", "angstrom")) if told else None
    span = float(np.ptp(values))
    require(
        range_nm is not None and (span > 0 or range_nm == 0),
        f"The range of heights in {source.name} cannot be told; save it as .gwy with Gwyddion",
    )
    return np.asarray(values, np.float64) * ((range_nm or 0.0) / (span or 1.0))


def _told_by_asd(
    header: Mapping[str, Any], pixel: tuple[float, float] | None
) -> tuple[tuple[float, float] | None, float | None]:
    """Return the size of a pixel (y, x) and the seconds between frames of a high-speed movie."""
    steps = [positive(header[f"{axis}_nm"] / header[f"{axis}_pixels"]) for axis in "yx"]
    y, x = steps
    milliseconds = positive(header.get("frame_time"))
    seconds = None if milliseconds is None else milliseconds / 1e3
    return (pixel if y is None or x is None else (y, x)), seconds


def _step(times_s: list[float]) -> float | None:
    return positive(times_s[1] - times_s[0]) if len(times_s) > 1 else None
