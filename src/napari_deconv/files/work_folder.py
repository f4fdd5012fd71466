"""The folder that a run works in, beside its output: what it is called, and what lies in it.

It is called ``<name>.unfinished.ome.zarr``, and is an OME-Zarr that is not finished. In the
folder ``unfinished`` inside it lie ``identity.json`` (what must be the same to go on), ``lock``
(whose run it is) and ``done``, with one mark a tile. What to put there, and when, `tile_store`
knows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from napari_deconv.imaging.value import InputError, Plain, first_line, require

from . import ome_zarr
from .names import UNFINISHED, WORK_SUFFIX, output_at, stem_of
from .tile_marks import TileMarks
from .whole import remove, replaced_by, write_lasting

_IDENTITY, _LOCK, _MARKS = "identity.json", "lock", "done"


@dataclass(frozen=True)
class WorkFolder:
    """The work folder of an output, begun or not; nothing is kept open.

    Parameters
    ----------
    path : Path
        The folder.
    """

    path: Path

    @classmethod
    def of(cls, target: str | os.PathLike[str]) -> Self:
        """Return the work folder of an output.

        Raises
        ------
        InputError
            If the output's suffix is not known, or its name is too long.
        """
        output, _ = output_at(target)
        return cls(output.parent / f"{stem_of(output)}{WORK_SUFFIX}")

    @property
    def name(self) -> str:
        """What the folder is called, for a sentence."""
        return self.path.name

    @property
    def state(self) -> Path:
        """The folder of all that is no part of the image."""
        return self.path / UNFINISHED

    @property
    def identity_file(self) -> Path:
        """What the folder was begun for; made last, so that all else is there where it is."""
        return self.state / _IDENTITY

    @property
    def lock(self) -> Path:
        """Whose run it is; see `run_lock`."""
        return self.state / _LOCK

    @property
    def marks(self) -> TileMarks:
        """Which tiles are written."""
        return TileMarks(self.state / _MARKS)

    @property
    def is_begun(self) -> bool:
        """Whether a run can go on from it."""
        return self.identity_file.is_file()

    def identity(self) -> Plain | None:
        """Return what it was begun for; None where nothing is, or that cannot be read."""
        try:
            return self._read_identity()
        except (OSError, ValueError, TypeError):
            return None

    def array(self) -> Any:
        """Return the Zarr array of the voxels, to read and to write."""
        import zarr

        array = zarr.open_array(str(self.path), path="0", mode="r+")
        return array.with_config({"write_empty_chunks": False})

    def voxels(self, axes: str) -> Any:
        """Return what is written, and zeros elsewhere, as a dask array of the chunk files."""
        array = self.array()
        return ome_zarr.stored_level(self.path, array, axes).lazy(array.chunks)

    def begun_for(self) -> Plain:
        """Return what it was begun for, after a look at whether its voxels can be opened.

        Raises
        ------
        InputError
            If one or the other is damaged.
        """
        try:
            begun = self._read_identity()
            self.array()
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise InputError(
                f"{self.name} is damaged ({first_line(error)[:160]}); choose another output, "
                f"or delete the folder {self.path} to begin anew"
            ) from error
        return begun

    def make(self) -> None:
        """Make the folder, if there is none.

        Raises
        ------
        InputError
            If there is one of somebody else.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            require(
                self.state.is_dir(),
                f"{self.name} was not begun by napari-deconv; rename it, or choose another output",
            )
        self.state.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what a beginning that was ended has left; what is kept is the lock."""
        for entry in self.path.iterdir():
            if entry != self.state:
                remove(entry)
        remove(self.marks.folder)
        self.marks.folder.mkdir()

    def begin(self, identity: Plain) -> None:
        """Say what the folder is for, which makes it begun."""
        write_lasting(self.identity_file, json.dumps(identity, indent=1).encode())

    def _read_identity(self) -> Plain:
        return dict(json.loads(self.identity_file.read_text(encoding="utf-8")))


def tidy(target: str | os.PathLike[str]) -> None:
    """Remove what a run has left that was ended right after it had moved its folder there."""
    output, _ = output_at(target)
    state = output / UNFINISHED
    # Of an output by such a name it could be a run that goes on.
    if output.name.endswith(WORK_SUFFIX) or not state.is_dir():
        return
    # Nothing of somebody else.
    if {entry.name for entry in state.iterdir()} <= {_IDENTITY, _LOCK, _MARKS}:
        remove(replaced_by(WorkFolder.of(output).path))
        remove(state)
