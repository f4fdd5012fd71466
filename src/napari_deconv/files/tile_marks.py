"""Which tiles of a run are written: one small file a tile, made after its voxels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_deconv.imaging.value import InputError

from .intensities import Range
from .whole import write_lasting

Slices = tuple[slice, ...]


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

    def add(self, tile: str, place: Slices, seen: Range) -> None:
        """Mark a tile, with its place and the range of its intensities."""
        mark = {
            "place": [[s.start, s.stop] for s in place],
            "range": [seen.lowest, seen.highest],
        }
        write_lasting(self._file(tile), json.dumps(mark).encode())

    def written(self) -> Iterator[tuple[Slices, Range]]:
        """Yield the place of each tile that is marked, and the range of its intensities."""
        for file in sorted(self.folder.glob("*.json")):
            try:
                mark = json.loads(file.read_text(encoding="utf-8"))
                written = tuple(slice(*ends) for ends in mark["place"]), Range(*mark["range"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"The mark of a tile {file} is damaged; delete that file, and run again: "
                    "the tile is then restored anew"
                ) from error
            yield written

    def _file(self, tile: str) -> Path:
        if not re.fullmatch("[A-Za-z0-9_-]+", tile):
            raise ValueError(f"{tile!r} is no name of a tile")
        return self.folder / f"{tile}.json"
