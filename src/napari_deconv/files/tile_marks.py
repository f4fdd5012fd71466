"""Which tiles of a run are written: one small file a tile, made after its voxels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_deconv.imaging.value import InputError, Plain

from .intensities import Range
from .whole import write_lasting

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Mark:
    """What is kept of a tile that is written.

    Parameters
    ----------
    place : tuple of slice
        Where it lies, all axes.
    seen : Range
        Of its intensities.
    record : dict
        What happened to it, plain; empty where a version that kept none has written it.
    """

    place: Slices
    seen: Range
    record: Plain


@dataclass(frozen=True)
class TileMarks:
    """The marks in a folder; any process may add one.

    Parameters
    ----------
    folder : Path
        Where they lie, and nothing else.
    """

    folder: Path

    def has(self, tile: str) -> bool:
        """Return whether a tile is marked."""
        return self._file(tile).is_file()

    def names(self) -> frozenset[str]:
        """Return the tiles that are marked."""
        return frozenset(file.stem for file in self.folder.glob("*.json"))

    def add(self, tile: str, mark: Mark) -> None:
        """Mark a tile."""
        body = {
            "place": [[s.start, s.stop] for s in mark.place],
            "range": [mark.seen.lowest, mark.seen.highest],
            "record": mark.record,
        }
        write_lasting(self._file(tile), json.dumps(body).encode())

    def of(self, tile: str) -> Mark:
        """Return the mark of a tile that has one."""
        return _read(self._file(tile))

    def written(self) -> Iterator[Mark]:
        """Yield the mark of each tile that has one."""
        yield from map(_read, sorted(self.folder.glob("*.json")))

    def _file(self, tile: str) -> Path:
        if not re.fullmatch("[A-Za-z0-9_-]+", tile):
            raise ValueError(f"{tile!r} is no name of a tile")
        return self.folder / f"{tile}.json"


def _read(file: Path) -> Mark:
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        place = tuple(slice(*ends) for ends in body["place"])
        return Mark(place, Range(*body["range"]), dict(body.get("record", {})))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The mark of a tile {file} is damaged; delete that file, and run again: "
            "the tile is then restored anew"
        ) from error
