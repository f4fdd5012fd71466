"""An OME-Zarr that is filled tile by tile, and goes on where a run was ended.

A run writes into a work folder beside its output, ``<name>.unfinished.ome.zarr``. The voxels
of a tile come first, then a mark that says they are there, so that whatever ends the run, the
tiles that are marked are whole and the others are written again. No two tiles share a chunk
file; the files are those of a run that nothing disturbed. `TileStore.finish` adds the pyramid
and the metadata and moves the folder to its place, which is the last step.

What else lies in the folder, `work_folder` says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, require

from . import ome_zarr_output, run_lock
from .chunk_places import ChunkPlaces
from .export import Written, check_writable
from .identity import as_plain, require_same
from .intensities import Range
from .metadata import shadow
from .names import UNFINISHED, ZARR_SUFFIXES, output_at
from .provenance import provenance
from .pyramid import voxels_of_levels
from .tile_marks import Mark
from .whole import move, remove, settled, told
from .work_folder import WorkFolder, tidy

#: Of the work folder: raised when its files change their meaning.
FORMAT = 1

Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class TileStore:
    """Where a run puts its tiles; made by `opened`, and small when it travels to a worker.

    Used as a context manager it gives the folder back to other runs at the end, finished or
    not; only the process that opened it holds the lock.

    Parameters
    ----------
    folder : WorkFolder
        Where it is filled.
    target : Path
        The output, in its folder, links followed.
    shape, chunks : tuple of int
        Of the voxels and of their files, all axes.
    dtype : str
        Type of the stored voxels.
    version : {"0.4", "0.5"}
        Of OME-Zarr.
    overwrite : bool
        Whether `finish` may replace an output that is there.
    known : dict
        What the stack knows beside its voxels, by the names of `Stack`'s fields.
    later : int
        Bytes that will be written beside the store in the end, while it is still there.
    """

    folder: WorkFolder
    target: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    version: str
    overwrite: bool = False
    known: dict[str, Any] = field(default_factory=dict)
    later: int = 0

    @classmethod
    def opened(
        cls,
        target: str | os.PathLike[str],
        stack: Stack,
        *,
        chunks: tuple[int, ...],
        identity: Plain,
        dtype: str = "float32",
        version: str = "0.5",
        overwrite: bool = False,
        later: int = 0,
    ) -> Self:
        """Begin a work folder beside `target`, or take up the one that is there.

        Parameters
        ----------
        target : str or path
            The output, with a suffix that `write_stack` knows; `finish` needs that of an
            OME-Zarr.
        stack : Stack
            Its header alone is looked at: axes, shape, voxel size, names, optics.
        chunks : tuple of int
            Sides of a chunk file on all axes; each tile must consist of whole ones.
        identity : dict
            Plain values that must be the same to go on, in parts that a sentence can name:
            {"recipe": ..., "input": ..., "plan": ...}.
        dtype, version, overwrite, later
            As of the store.

        Raises
        ------
        InputError
            If the folder was begun for something else or another run is writing into it, or
            the output exists or cannot be written there.
        """
        output, _ = output_at(target)
        known = {f.name: getattr(stack, f.name) for f in fields(stack) if f.name != "data"}
        chunks = tuple(min(side, n) for side, n in zip(chunks, stack.shape, strict=True))
        folder = WorkFolder.of(output)
        store = cls(folder, output, stack.shape, chunks, dtype, version, overwrite, known, later)
        tidy(output)
        check_writable(output, overwrite=overwrite, nbytes=0)
        with store._told(0):
            store._begin(as_plain({**identity, "output": store._output()}))
        return store

    @property
    def path(self) -> Path:
        """The work folder, which each process must see that writes a tile."""
        return self.folder.path

    @property
    def header(self) -> Stack:
        """The stack without its voxels."""
        return Stack(shadow(self.shape, self.dtype), **self.known)

    def is_done(self, tile: str) -> bool:
        """Return whether a tile is written."""
        return self.folder.marks.has(tile)

    def done(self) -> frozenset[str]:
        """Return the names of the tiles that are written."""
        return self.folder.marks.names()

    def record(self, tile: str) -> Plain:
        """Return what was told of a tile when it was written; empty where nothing was kept."""
        return self.folder.marks.of(tile).record

    def write(
        self, tile: str, place: Slices, block: npt.NDArray[Any], record: Plain | None = None
    ) -> None:
        """Write the voxels of a tile, then the mark that says so; any process may.

        Parameters
        ----------
        tile : str
            A name of letters, digits, ``-`` and ``_``, the same whenever the run is taken up.
        place : tuple of slice
            Where the tile lies, all axes; it must begin and end where chunks do.
        block : array, shape of `place`
            The voxels, in any real type.
        record : dict, optional
            What happened to the tile, in plain values, for a run that goes on.

        Raises
        ------
        InputError
            If they cannot be written; what was finished stays.
        ValueError
            If the place does not consist of whole chunks, or the block does not fit it.
        """
        place = self._places.aligned(place, block.shape)
        require(
            self.folder.is_begun,
            f"The folder {self.path} is not there any more; run again to begin anew",
        )
        block = np.asarray(block, dtype=self.dtype)
        seen = Range().widened(block)
        with self._told(block.nbytes):
            self._array[place] = block
            for file in self._files(place):
                settled(file)
            self.folder.marks.add(tile, Mark(place, seen, record or {}))

    def voxels(self) -> Any:
        """Return what is written, and zeros elsewhere, as a dask array of the chunks."""
        return self.folder.voxels(self.header.axes)

    def finish(self, *, recipe: Plain | None, record: Plain | None) -> Written:
        """Add the pyramid and the metadata, and move the folder to the place of the output.

        Ended at any moment, it can be done again.

        Raises
        ------
        InputError
            If the output exists, or the system refuses; what was finished stays.
        ValueError
            If there are voxels that no tile has written.
        """
        require(
            self.target.name.lower().endswith(ZARR_SUFFIXES),
            f"{self.target.name} is no OME-Zarr; write the voxels with write_stack",
        )
        seen = self._seen()
        header = self.header
        body = provenance(header, recipe=recipe, record=record, dtype=self.dtype)
        check_writable(self.target, overwrite=self.overwrite, nbytes=0)
        with self._told(self._level_bytes()):
            for left_over in self.path.rglob("*.partial"):  # of writes that were ended
                left_over.unlink(missing_ok=True)
            ome_zarr_output.complete(
                ome_zarr_output.create(self.path, self.version), header, seen, body
            )
            move(self.path, self.target)
            self.release()
            remove(self.target / UNFINISHED)
        return Written(self.target, self.dtype)

    def remove(self) -> None:
        """Remove the work folder with all that is in it."""
        remove(self.path)
        self.release()

    def release(self) -> None:
        """Let other runs take up the folder; nothing in it is lost."""
        if self.__dict__.pop("_holds_lock", False):  # which no copy for a worker does
            run_lock.release(self.folder.lock)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let other runs take up the folder."""
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: what is open stays here."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def _array(self) -> Any:
        return self.folder.array()

    @property
    def _places(self) -> ChunkPlaces:
        return ChunkPlaces(self.shape, self.chunks)

    def _files(self, place: Slices) -> Iterator[Path]:
        """Yield the files of a place; of those that hold zeros alone there are none."""
        level = self.path / "0"
        above = level if self.version == "0.4" else level / "c"
        for index in self._places.indices(place):
            yield above.joinpath(*map(str, index))

    def _output(self) -> Plain:
        grid = self.known.get("grid")
        return {
            "name": self.target.name,
            "axes": self.known["axes"],
            "shape": self.shape,
            "spacing_um": grid.spacing_um if grid else None,
            "chunks": self.chunks,
            "dtype": self.dtype,
            "version": self.version,
            "format": FORMAT,
        }

    def _begin(self, identity: Plain) -> None:
        """Take the lock; make what is missing, or see that what is there is of this run."""
        self.folder.make()
        run_lock.acquire(self.folder.lock, self.path.name)
        self.__dict__["_holds_lock"] = True
        try:
            if self.folder.is_begun:
                require_same(self.folder.begun_for(), identity, self.path)
            else:
                self._create(identity)
            check_writable(self.target, overwrite=self.overwrite, nbytes=self._bytes_to_come())
        except BaseException:
            self.release()
            raise

    def _create(self, identity: Plain) -> None:
        """Make the array of the voxels; the identity comes last and says that all is there."""
        self.folder.clear()
        group = ome_zarr_output.create(self.path, self.version)
        ome_zarr_output.create_level(group, 0, self.shape, self.header, self.dtype, self.chunks)
        self.folder.begin(identity)

    def _seen(self) -> Range:
        """Return the range of all intensities, if all voxels are written."""
        places, seen = [], Range()
        for mark in self.folder.marks.written():
            places.append(mark.place)
            seen = seen.widened(np.array([mark.seen.lowest, mark.seen.highest]))
        self._places.require_covered(places, self.path.name)
        return seen

    def _level_bytes(self) -> int:
        """Return how many bytes the smaller levels take where they cannot be compressed."""
        voxels = voxels_of_levels(self.header) - math.prod(self.shape)
        return voxels * np.dtype(self.dtype).itemsize

    def _bytes_to_come(self) -> int:
        written = (mark.place for mark in self.folder.marks.written())
        voxels = self._places.voxels_beside(written)
        return self._level_bytes() + voxels * np.dtype(self.dtype).itemsize + self.later

    @contextmanager
    def _told(self, nbytes: int) -> Iterator[None]:
        """Turn what the system refuses into a sentence, with what stays."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{told(error, self.path, nbytes)}; what is finished stays in "
                f"{self.path.name}, and the same run goes on from there"
            ) from error
