"""An OME-Zarr that is filled tile by tile, and goes on where a run was ended.

A run writes into a work folder beside its output, ``<name>.unfinished.ome.zarr``. The voxels
of a tile come first, then a mark that says they are there, so that whatever ends the run, the
tiles that are marked are whole and the others are written again. No two tiles share a chunk
file; the files are those of a run that nothing disturbed. `TileStore.finish` adds the pyramid
and the metadata and moves the folder to its place, which is the last step.

In the folder ``unfinished`` inside it lie ``identity.json`` (what must be the same to go on),
``lock`` (whose run it is) and ``done``, with one mark a tile.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, first_line, require

from . import ome_zarr, ome_zarr_output, run_lock
from .export import Written, check_writable
from .identity import as_plain, require_same
from .intensities import Range
from .metadata import shadow
from .names import UNFINISHED, WORK_SUFFIX, ZARR_SUFFIXES, output_at, stem_of
from .provenance import provenance
from .pyramid import voxels_of_levels
from .tile_marks import Mark, TileMarks
from .whole import move, remove, replaced_by, told, write_lasting

#: Of the work folder: raised when its files change their meaning.
FORMAT = 1

#: What the state in a work folder consists of.
_OF_A_RUN = frozenset({"identity.json", "lock", "done"})

Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class TileStore:
    """Where a run puts its tiles; made by `opened`, and small when it travels to a worker.

    Used as a context manager it gives the folder back to other runs at the end, finished or
    not; only the process that opened it holds the lock.

    Parameters
    ----------
    path : Path
        The work folder.
    target : Path
        The output, in its folder, links followed.
    shape, chunks : tuple of int
        Of the voxels and of their files, all axes.
    dtype : str
        Type of the stored voxels.
    version : str
        Of OME-Zarr.
    overwrite : bool
        Whether `finish` may replace an output that is there.
    known : dict
        What the stack knows beside its voxels, by the names of `Stack`'s fields.
    later : int
        Bytes that will be written beside the store in the end, while it is still there.
    """

    path: Path
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
        dtype : str
            Type of the stored voxels.
        version : {"0.4", "0.5"}
            Of OME-Zarr.
        overwrite : bool
            Whether `finish` may replace an output that is there.
        later : int
            Bytes that will be written beside the store, of a file that is made of it.

        Raises
        ------
        InputError
            If the folder was begun for something else or another run is writing into it, or
            the output exists or cannot be written there.
        """
        output, _ = output_at(target)
        known = {f.name: getattr(stack, f.name) for f in fields(stack) if f.name != "data"}
        chunks = tuple(min(side, n) for side, n in zip(chunks, stack.shape, strict=True))
        path = cls.folder_of(output)
        store = cls(path, output, stack.shape, chunks, dtype, version, overwrite, known, later)
        cls.tidy(output)
        check_writable(output, overwrite=overwrite, nbytes=0)
        with store._told(0):
            store._begin({**identity, "output": store._output()})
        return store

    @staticmethod
    def folder_of(target: str | os.PathLike[str]) -> Path:
        """Return the work folder of an output."""
        output, _ = output_at(target)
        return output.parent / f"{stem_of(output)}{WORK_SUFFIX}"

    @classmethod
    def tidy(cls, target: str | os.PathLike[str]) -> None:
        """Remove what a run has left that was ended right after it had moved its folder there."""
        output, _ = output_at(target)
        state = output / UNFINISHED
        # Of an output by such a name it could be a run that goes on.
        if output.name.endswith(WORK_SUFFIX) or not state.is_dir():
            return
        if {entry.name for entry in state.iterdir()} <= _OF_A_RUN:  # nothing of somebody else
            remove(replaced_by(cls.folder_of(output)))
            remove(state)

    @property
    def header(self) -> Stack:
        """The stack without its voxels."""
        return Stack(shadow(self.shape, self.dtype), **self.known)

    def is_done(self, tile: str) -> bool:
        """Return whether a tile is written."""
        return self._marks.has(tile)

    def done(self) -> frozenset[str]:
        """Return the names of the tiles that are written."""
        return self._marks.names()

    def record(self, tile: str) -> Plain:
        """Return what was told of a tile when it was written; empty where nothing was kept."""
        return self._marks.of(tile).record

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
        place = self._aligned(place, block)
        require(
            self._identity.is_file(),
            f"The folder {self.path} is not there any more; run again to begin anew",
        )
        block = np.asarray(block, dtype=self.dtype)
        seen = Range().widened(block)
        with self._told(block.nbytes):
            self._array[place] = block
            for file in self._files(place):
                _settled(file)
            self._marks.add(tile, Mark(place, seen, record or {}))

    def voxels(self) -> Any:
        """Return what is written, and zeros elsewhere, as a dask array of the chunks."""
        return ome_zarr.stored_level(self.path, self._array, self.header.axes).lazy(self.chunks)

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
            run_lock.release(self._lock)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let other runs take up the folder."""
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: what is open stays here."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def _identity(self) -> Path:
        return self.path / UNFINISHED / "identity.json"

    @property
    def _lock(self) -> Path:
        return self.path / UNFINISHED / "lock"

    @property
    def _marks(self) -> TileMarks:
        return TileMarks(self.path / UNFINISHED / "done")

    @cached_property
    def _array(self) -> Any:
        import zarr

        array = zarr.open_array(str(self.path), path="0", mode="r+")
        return array.with_config({"write_empty_chunks": False})

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
        state = self._identity.parent
        if self.path.is_dir() and any(self.path.iterdir()):
            require(
                state.is_dir(),
                f"{self.path.name} was not begun by napari-deconv; rename it, or choose another "
                "output",
            )
        state.mkdir(parents=True, exist_ok=True)
        run_lock.acquire(self._lock, self.path.name)
        self.__dict__["_holds_lock"] = True
        try:
            if self._identity.is_file():
                require_same(self._begun(), as_plain(identity), self.path)
            else:
                self._create(as_plain(identity))
            check_writable(self.target, overwrite=self.overwrite, nbytes=self._bytes_to_come())
        except BaseException:
            self.release()
            raise

    def _begun(self) -> Plain:
        """Return what the folder was begun for, after a look at whether its array is there."""
        try:
            begun: Plain = dict(json.loads(self._identity.read_text(encoding="utf-8")))
            _ = self._array
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise InputError(
                f"{self.path.name} is damaged ({first_line(error)[:160]}); choose another output, "
                f"or delete the folder {self.path} to begin anew"
            ) from error
        return begun

    def _create(self, identity: Plain) -> None:
        """Make the folder's array; its identity comes last and says that all is there."""
        for entry in self.path.iterdir():
            if entry != self._identity.parent:
                remove(entry)
        remove(self._marks.folder)
        self._marks.folder.mkdir()
        group = ome_zarr_output.create(self.path, self.version)
        ome_zarr_output.create_level(group, 0, self.shape, self.header, self.dtype, self.chunks)
        write_lasting(self._identity, json.dumps(identity, indent=1).encode())

    def _aligned(self, place: Slices, block: npt.NDArray[Any]) -> Slices:
        """Return a place with all its ends, after a look at whether it is one."""
        ends = [s.indices(n) for s, n in zip(place, self.shape, strict=True)]
        shape = tuple(stop - start for start, stop, _ in ends)
        whole = all(
            step == 1 and start % side == 0 and (stop % side == 0 or stop == n) and start < stop
            for (start, stop, step), side, n in zip(ends, self.chunks, self.shape, strict=True)
        )
        if not whole or shape != block.shape:
            raise ValueError(
                f"The block of shape {block.shape} at {place} is no tile of whole chunks "
                f"{self.chunks} of {self.shape}"
            )
        return tuple(slice(start, stop) for start, stop, _ in ends)

    def _chunks_of(self, place: Slices) -> Slices:
        """Return which chunks, counted along each axis, a place consists of."""
        return tuple(
            slice(s.start // side, -(-s.stop // side))
            for s, side in zip(place, self.chunks, strict=True)
        )

    def _files(self, place: Slices) -> Iterator[Path]:
        folder = self.path / "0" if self.version == "0.4" else self.path / "0" / "c"
        for index in product(*(range(s.start, s.stop) for s in self._chunks_of(place))):
            yield folder.joinpath(*map(str, index))

    def _seen(self) -> Range:
        """Return the range of all intensities, if all voxels are written."""
        counts = tuple(-(-n // side) for n, side in zip(self.shape, self.chunks, strict=True))
        there = np.zeros(counts, bool)
        seen = Range()
        for mark in self._marks.written():
            there[self._chunks_of(mark.place)] = True
            seen = seen.widened(np.array([mark.seen.lowest, mark.seen.highest]))
        if not there.all():
            raise ValueError(
                f"{np.count_nonzero(~there)} of the {there.size} chunks of {self.path.name} are "
                "in no tile that was written"
            )
        return seen

    def _level_bytes(self) -> int:
        """Return how many bytes the smaller levels take where they cannot be compressed."""
        voxels = voxels_of_levels(self.header) - math.prod(self.shape)
        return int(voxels * np.dtype(self.dtype).itemsize)

    def _bytes_to_come(self) -> int:
        written = sum(
            math.prod(s.stop - s.start for s in mark.place) for mark in self._marks.written()
        )
        voxels = math.prod(self.shape) - written
        return int(self._level_bytes() + voxels * np.dtype(self.dtype).itemsize) + self.later

    @contextmanager
    def _told(self, nbytes: int) -> Iterator[None]:
        """Turn what the system refuses into a sentence, with what stays."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{told(error, self.path, nbytes)}; what is finished stays in {self.path.name}, "
                "and the same run goes on from there"
            ) from error


def _settled(file: Path) -> None:
    """See that a file outlives a power failure; a chunk of zeros has none."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
