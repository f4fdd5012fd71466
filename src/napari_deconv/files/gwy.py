"""Gwyddion files in and out: every image in them, with its title, unit and size.

The library gwyfile reads a damaged file as far as it goes, or for ever; so `_object_end`
follows the lengths that a file announces to its end before gwyfile sees it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.afm.height_map import Double
from napari_deconv.imaging.grid import MICROMETRES
from napari_deconv.imaging.value import InputError, require

from .metadata import length_unit, nanometres, positive
from .whole import hidden_beside, move, told

#: Frames of a movie that are written, each as an image of its own: Gwyddion lists them all.
MOST_FRAMES = 500

#: What the length of a part, 32 bits, can say, less a margin for titles.
LARGEST_BYTES = 2**32 - 2**20

#: Keys in the metadata of an image; Gwyddion shows them to its user.
RECIPE, MAIN, FRAME, FRAME_S = (
    "napari-deconv recipe",
    "napari-deconv channel",
    "napari-deconv frame",
    "napari-deconv seconds a frame",
)

_MAGIC = b"GWYP"
_FIXED = {b"b": 1, b"c": 1, b"i": 4, b"q": 8, b"d": 8}
_ARRAYS = {b"C": 1, b"I": 4, b"Q": 8, b"D": 8}


@dataclass(frozen=True, eq=False)
class Channel:
    """An image of a file of heights, as it is stored there.

    Parameters
    ----------
    name : str
    values : ndarray, (Y, X) or (T, Y, X)
    unit : str
        Of the values; "" where the file does not say.
    pixel_nm : tuple of float, (y, x), optional
        None where the file does not say.
    frame_s : float, optional
        Seconds between two frames.
    is_main : bool
        Whether napari-deconv wrote it as what the file is about.
    """

    name: str
    values: Any
    unit: str = ""
    pixel_nm: tuple[float, float] | None = None
    frame_s: float | None = None
    is_main: bool = False

    @property
    def is_length(self) -> bool:
        """Whether the unit is one of length."""
        return length_unit(self.unit) in MICROMETRES


def read(source: Path) -> tuple[Channel, ...]:
    """Read all images of a Gwyddion file, in the order of their numbers.

    Parameters
    ----------
    source : Path

    Returns
    -------
    tuple of Channel
        Each name once: "Height" and "Height (2)". The frames of a movie that napari-deconv
        wrote are one channel, where all of them are still there.

    Raises
    ------
    InputError
        If it is no such file, damaged, or has no image.
    """
    body = _container(source)
    try:
        found = [(_channel(body, n), _meta(body, n)) for n in sorted(_numbers(body))]
    except Exception as error:
        raise _damaged(source, error) from error
    require(
        bool(found),
        f"{source.name} holds no image; curves and volumes of Gwyddion are not read, so save an "
        "image of heights from it",
    )
    return tuple(named_once(_joined(found)))


def recipe_in(source: Path) -> str | None:
    """Return the recipe in a Gwyddion file that napari-deconv wrote, or None.

    Raises
    ------
    InputError
        If it is no such file, or damaged.
    """
    body = _container(source)
    recipes = (_meta(body, number).get(RECIPE) for number in sorted(_numbers(body)))
    return next((recipe for recipe in recipes if recipe is not None), None)


def write(target: Path, channels: Sequence[Channel], recipe: str = "") -> None:
    """Write channels as a Gwyddion file, whole or not at all; what is there is replaced.

    Parameters
    ----------
    target : Path
    channels : sequence of Channel
        The first is the main one and carries the recipe. The frames of a movie become images
        "Height 0001", "Height 0002" and so on. Lengths are stored in metres, as Gwyddion
        does; other units as they are.
    recipe : str
        How the first was made.

    Raises
    ------
    InputError
        If it cannot be written, or a movie is too long for this format.
    """
    from gwyfile.objects import GwyContainer

    images = [image for n, channel in enumerate(channels) for image in _images(channel, n == 0)]
    nbytes = sum(8 * image.values.size for image, _ in images)
    require(
        len(images) <= MOST_FRAMES + len(channels) and nbytes < LARGEST_BYTES,
        f"{len(images)} images of {nbytes / 1e6:,.0f} MB are too much for one Gwyddion file; "
        "write the movie as .ome.tif",
    )
    if recipe:
        images[0][1][RECIPE] = recipe
    body = GwyContainer()
    for number, (image, meta) in enumerate(images):
        _put(body, number, image, meta, visible=number == 0 or FRAME not in meta)
    try:
        with hidden_beside(target, ".gwy") as part:
            with part.open("wb") as file:
                body.tofile(file)
            move(part, target)
    except OSError as error:
        raise told(error, target, nbytes) from error


# -- reading ---------------------------------------------------------------------------


def _container(source: Path) -> Mapping[str, Any]:
    """Return what gwyfile makes of a file whose parts all are as long as they say."""
    import gwyfile

    try:
        body = source.read_bytes()
    except OSError as error:
        raise InputError(
            f"{source.name} cannot be read ({error.strerror or error}); check it, or copy it "
            "elsewhere"
        ) from error
    require(
        body[:4] == _MAGIC,
        f"{source.name} is not a Gwyddion file; save it with Gwyddion as .gwy",
    )
    try:
        require(_object_end(body, 4, len(body)) == len(body), "more follows than it announces")
        return dict(gwyfile.load(BytesIO(body)))
    except Exception as error:
        raise _damaged(source, error) from error


def _damaged(source: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return InputError(
        f"{source.name} cannot be read, it is damaged or not complete ({reason}); copy or save "
        "it again"
    )


def _object_end(body: bytes, start: int, stop: int) -> int:
    """Return where the object at `start` ends, all parts of it checked."""
    name = _text_end(body, start, stop)
    require(name + 4 <= stop, "it ends within an object")
    (size,) = struct.unpack_from("<I", body, name)
    end = name + 4 + int(size)
    require(end <= stop, "it ends within an object")
    place = name + 4
    while place < end:
        place = _part_end(body, place, end)
    return end


def _part_end(body: bytes, start: int, stop: int) -> int:
    """Return where a part of an object ends: a name, a letter for its type, a value."""
    start = _text_end(body, start, stop)
    code, start = body[start : start + 1], start + 1
    count = 1
    if code in _ARRAYS or code in (b"S", b"O"):
        require(start + 4 <= stop, "it ends within a list")
        count, start = struct.unpack_from("<I", body, start)[0], start + 4
    if code in _FIXED or code in _ARRAYS:
        end = start + count * {**_FIXED, **_ARRAYS}[code]
    else:
        require(code in (b"s", b"o", b"S", b"O"), "it holds a type that is not known")
        end_of = _text_end if code in (b"s", b"S") else _object_end
        end = start
        for _ in range(count):
            end = end_of(body, end, stop)
    require(end <= stop, "it ends within a value")
    return end


def _text_end(body: bytes, start: int, stop: int) -> int:
    end = body.find(b"\0", start, stop)
    require(end >= 0, "it ends within a text")
    return end + 1


def _numbers(body: Mapping[str, Any]) -> Iterator[int]:
    for key, value in body.items():
        match = re.fullmatch(r"/(\d+)/data", key)
        if match and getattr(value, "name", "") == "GwyDataField":
            yield int(match[1])


def _channel(body: Mapping[str, Any], number: int) -> Channel:
    field = body[f"/{number}/data"]
    values = np.array(field.data, np.float64)
    unit, lateral = (_unit(field.get(key)) for key in ("si_unit_z", "si_unit_xy"))
    steps = []
    for size, pixels in zip((field.yreal, field.xreal), values.shape, strict=True):
        length = positive(size)
        step = None if length is None else nanometres(length / pixels, lateral)
        steps.extend([] if step is None else [step])
    return Channel(
        name=_text(body.get(f"/{number}/data/title")) or f"channel {number}",
        values=values,
        unit=unit,
        pixel_nm=(steps[0], steps[1]) if len(steps) == 2 else None,
    )


def _unit(stored: Any) -> str:
    return "" if stored is None else _text(stored.get("unitstr")).strip()


def _text(stored: Any) -> str:
    """Return a text; gwyfile keeps one of a single letter as its number."""
    return chr(stored) if isinstance(stored, int) else str(stored or "")


def _meta(body: Mapping[str, Any], number: int) -> dict[str, str]:
    return {key: _text(value) for key, value in dict(body.get(f"/{number}/meta") or {}).items()}


def _joined(found: Sequence[tuple[Channel, dict[str, str]]]) -> Iterator[Channel]:
    """Yield channels, the frames of a movie as one where none is missing or changed in size."""
    place = 0
    while place < len(found):
        channel, meta = found[place]
        count = int(positive(meta.get(FRAME, "").rpartition(" of ")[2]) or 0)
        movie = found[place : place + count]
        wanted = [f"{n} of {count}" for n in range(1, count + 1)]
        shapes = {frame.values.shape for frame, _ in movie}
        if MAIN in meta:
            channel = replace(channel, is_main=True)
        if count and [told_of.get(FRAME) for _, told_of in movie] == wanted and len(shapes) == 1:
            channel = replace(
                channel,
                name=channel.name.removesuffix(" 0001"),
                values=np.stack([frame.values for frame, _ in movie]),
                frame_s=positive(meta.get(FRAME_S)),
            )
            place += count - 1
        yield channel
        place += 1


def named_once(channels: Iterable[Channel]) -> Iterator[Channel]:
    """Yield channels, a name that was there before with a number."""
    seen: set[str] = set()
    for channel in channels:
        name, n = channel.name, 1
        while name in seen:
            n += 1
            name = f"{channel.name} ({n})"
        seen.add(name)
        yield replace(channel, name=name)


# -- writing ---------------------------------------------------------------------------


def _images(channel: Channel, is_main: bool) -> Iterator[tuple[Channel, dict[str, str]]]:
    """Yield the frames of a channel, each with what its metadata are to say."""
    main = {MAIN: channel.name} if is_main else {}
    if channel.values.ndim == 2:
        yield channel, main
        return
    count = len(channel.values)
    seconds = {} if channel.frame_s is None else {FRAME_S: repr(float(channel.frame_s))}
    for n, frame in enumerate(channel.values, 1):
        meta = {**(main if n == 1 else {}), FRAME: f"{n} of {count}", **seconds}
        yield replace(channel, name=f"{channel.name} {n:04d}", values=frame), meta


def _put(body: Any, number: int, image: Channel, meta: Mapping[str, str], *, visible: bool) -> None:
    from gwyfile.objects import GwyContainer, GwyDataField

    rows, columns = image.values.shape
    y, x = image.pixel_nm or (1.0, 1.0)
    values: Double = np.asarray(image.values, np.float64)
    unit = image.unit
    if image.is_length:
        # Divided, as 1e9 is an exact number and 1e-9 is none.
        values, unit = values / float(f"{1e6 / MICROMETRES[length_unit(unit)]:.15g}"), "m"
    body[f"/{number}/data"] = GwyDataField(
        values,
        xreal=x * columns / 1e9,
        yreal=y * rows / 1e9,
        si_unit_xy="m",
        si_unit_z=unit,
    )
    texts = {key: text.replace("\0", "") for key, text in meta.items()}
    # The types are told, or gwyfile would store a text of one letter as a number.
    body[f"/{number}/data/title"] = image.name.replace("\0", "")
    body.typecodes[f"/{number}/data/title"] = "s"
    body[f"/{number}/data/visible"] = visible
    body[f"/{number}/meta"] = GwyContainer(texts, dict.fromkeys(texts, "s"))
