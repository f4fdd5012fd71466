"""From file to file: a stack that need not fit into memory, kept as it is made.

`restoring_file` reads as it goes and writes finished tiles into an OME-Zarr beside the output,
which a later run takes up where this one was ended. On a dask cluster the workers do so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_deconv import pipeline
from napari_deconv.engines.memory import PART_OF_FREE, free_memory_bytes
from napari_deconv.files.earlier import signed
from napari_deconv.files.export import (
    Written,
    bytes_to_write,
    check_writable,
    require_apart,
    write_stack,
)
from napari_deconv.files.identity import as_plain, require_same
from napari_deconv.files.names import TIFF_SUFFIXES
from napari_deconv.files.origin import Origin, origin_of
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import Recipe, files_read
from napari_deconv.files.tile_store import TileStore
from napari_deconv.files.work_folder import WorkFolder, tidy
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import Plain
from napari_deconv.pipeline import Record
from napari_deconv.restoration.restorer import Step
from napari_deconv.tiles.plan import TilePlan


@dataclass(frozen=True, eq=False)
class Finished:
    """What `restoring_file` made: the file, the recipe, the record, and the PSF used."""

    written: Written
    recipe: Recipe
    record: Record
    psf: Psf


def restoring_file(
    source: Path | Stack,
    output: Path,
    recipe: Recipe,
    *,
    memory_bytes: int | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
    ome_zarr_version: str = "0.5",
    scheduler: str | None = None,
) -> Generator[Step, None, Finished]:
    """Restore a file into a file, step by step.

    It goes in tiles into an OME-Zarr, from a large image, and on a cluster: then the finished ones
    are kept beside the output, and a run that was ended or has failed is taken up by the next. A
    small image into a TIFF is restored in memory, and begins anew.

    Parameters
    ----------
    source : Path or Stack
        The image, or what was read of it.
    output : Path
        OME-Zarr, or OME-TIFF, which is written when all tiles are done.
    recipe : Recipe
        What to do.
    memory_bytes : int, optional
        What the run may take; without it, a part of what is free.
    dtype : {"float32", "uint16"}
        Type of the stored voxels.
    overwrite : bool
        Whether an existing output may be replaced.
    ome_zarr_version : {"0.4", "0.5"}
        Of an OME-Zarr output.
    scheduler : str, optional
        Address of a dask scheduler, ``tcp://...``, whose workers restore the tiles.

    Yields
    ------
    Step
        As `pipeline.restoring` does.

    Returns
    -------
    Finished
        The value of the generator.

    Raises
    ------
    InputError
        If the image, the recipe or the output is not usable, cannot be read or not be written,
        with a sentence that says why.
    """
    require_apart(output, *files_read(recipe), None if isinstance(source, Stack) else source)
    # A PSF's file may have changed since the recipe was written: tiles of both do not go together.
    recipe, changes = signed(recipe)
    stack = source if isinstance(source, Stack) else _read(source, memory_bytes)
    chosen = stack.selected(recipe.channels, recipe.times)
    tidy(output)
    # What is still to come of a run that goes on, its store knows.
    is_begun = WorkFolder.of(output).is_begun
    nbytes = 0 if is_begun else math.prod(chosen.shape) * _size(dtype)
    check_writable(output, overwrite=overwrite, nbytes=nbytes)
    file = _File(
        stack,
        output,
        recipe,
        changes,
        origin_of(source),
        memory_bytes,
        dtype,
        overwrite,
        ome_zarr_version,
    )
    held = 4 * math.prod(chosen.shape)
    lazy = not isinstance(stack.data, np.ndarray) or isinstance(stack.data, np.memmap)
    large = lazy or held > (memory_bytes or free_memory_bytes()) // 4
    if scheduler is None and file.is_tiff and not is_begun and not large:
        return (yield from file.at_once())
    return (yield from file.tile_by_tile(scheduler))


def _read(source: Path, memory_bytes: int | None) -> Stack:
    """Read an image; the more memory there is, the more of it at once."""
    return read_stack(source, memory_bytes=memory_bytes or int(PART_OF_FREE * free_memory_bytes()))


@dataclass(frozen=True, eq=False)
class _File:
    """A result that is to be written; see `restoring_file`."""

    stack: Stack
    output: Path
    recipe: Recipe
    changes: tuple[str, ...]
    origin: Origin
    memory_bytes: int | None
    dtype: str
    overwrite: bool
    version: str

    @property
    def is_tiff(self) -> bool:
        return self.output.name.lower().endswith(TIFF_SUFFIXES)

    @property
    def is_store(self) -> bool:
        """Whether the store of the tiles becomes the output as it is."""
        return not self.is_tiff and self.dtype == "float32"

    def at_once(self) -> Generator[Step, None, Finished]:
        """Restore into memory, and write what is there."""
        restored = yield from pipeline.restoring(
            self.stack, self.recipe, memory_bytes=self.memory_bytes
        )
        record = self._noted(restored.record)
        yield Step(1, 1, "writing the file")
        written = self._written(replace(restored.stack, name=self.stack.name), record)
        return Finished(written, self.recipe, record, restored.psf)

    def tile_by_tile(self, scheduler: str | None) -> Generator[Step, None, Finished]:
        """Restore into a store beside the output, and make the output of it."""
        opened: list[TileStore] = []

        def open_sink(header: Stack, plan: TilePlan) -> TileStore:
            opened.append(self._store(header, plan))
            return opened[0]

        try:
            restored = yield from _run(scheduler)(
                self.stack,
                self.recipe,
                memory_bytes=self.memory_bytes,
                open_sink=open_sink,
                begun=_begun_plan(self.output),
            )
            (store,) = opened
            record = self._noted(restored.record)
            yield Step(1, 1, "writing the pyramid" if self.is_store else "writing the file")
            if self.is_store:
                written = store.finish(recipe=self.recipe.to_dict(), record=record.to_dict())
            else:
                written = self._written(replace(store.header, data=store.voxels()), record)
                store.remove()
        finally:
            for store in opened:
                store.release()
        return Finished(replace(written, path=self.output), self.recipe, record, restored.psf)

    def _noted(self, record: Record) -> Record:
        """Return a record with the source, and what has changed since the recipe was written."""
        return replace(record, source=self.origin, notes=(*self.changes, *record.notes))

    def _store(self, header: Stack, plan: TilePlan) -> TileStore:
        return TileStore.opened(
            self.output,
            replace(header, name=self.stack.name),
            chunks=(1,) * (len(header.axes) - len(plan.chunks)) + plan.chunks,
            identity={**_identity(self.stack, self.recipe, self.origin), "plan": plan.to_dict()},
            version=self.version if self.is_store else "0.5",
            overwrite=self.overwrite,
            later=0 if self.is_store else self._bytes_from_store(math.prod(header.shape)),
        )

    def _bytes_from_store(self, voxels: int) -> int:
        """Return what the output takes while it is made of the store, which is read lazily."""
        return bytes_to_write(voxels, _size(self.dtype), spooled=self.dtype == "uint16")

    def _written(self, result: Stack, record: Record) -> Written:
        return write_stack(
            self.output,
            result,
            dtype=self.dtype,
            recipe=self.recipe.to_dict(),
            record=record.to_dict(),
            overwrite=self.overwrite,
            ome_zarr_version=self.version,
        )


def _run(scheduler: str | None) -> Callable[..., Generator[Step, None, pipeline.Restored]]:
    """Return what restores the tiles: this process, or the workers of a cluster."""
    if scheduler is None:
        return pipeline.restoring
    from functools import partial

    from napari_deconv.cluster import restoring_on

    return partial(restoring_on, scheduler)


def is_begun_for(output: Path, header: Stack, recipe: Recipe, origin: Origin) -> bool:
    """Return whether a run into `output` was begun, and would go on.

    Parameters
    ----------
    output : Path
        Where the result would go.
    header : Stack
        The image, with its voxels or without.
    recipe : Recipe
        What would be done, with the digests of its PSFs; see `files.earlier.signed`.
    origin : Origin
        Of the image.

    Raises
    ------
    InputError
        If it was begun with another recipe or image.
    """
    folder = WorkFolder.of(output)
    if not folder.is_begun:
        return False
    begun, now = folder.identity(), as_plain(_identity(header, recipe, origin))
    if begun is not None:  # else the store says what is wrong with its folder
        require_same({part: begun.get(part) for part in now}, now, folder.path)
    return True


def _identity(stack: Stack, recipe: Recipe, origin: Origin) -> Plain:
    """Return what must be the same for a run to go on, beside its tiles."""
    seen = {"shape": stack.shape, "dtype": str(stack.data.dtype.newbyteorder("="))}
    return {"recipe": recipe.to_dict(), "input": {**origin.to_dict(), **seen}}


def _begun_plan(output: Path) -> TilePlan | None:
    """Return the plan of a run that was ended, so that it goes on with the same tiles."""
    try:
        return TilePlan.from_dict((WorkFolder.of(output).identity() or {})["plan"])
    except (ValueError, KeyError, TypeError):
        return None


def _size(dtype: str) -> int:
    return np.dtype(dtype if dtype in ("uint16", "float32") else "float32").itemsize
