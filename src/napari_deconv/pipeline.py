"""The one road: a stack and a recipe in, a restored stack and a record out.

`restore` does it for an array in a script. `restoring` does it for a stack, step by step, for
whoever shows progress and wants to cancel; `restore_stack` runs it to its end.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_deconv import engines
from napari_deconv.block_records import BlockRecord, block_records, notes_on_dark
from napari_deconv.engines.memory import (
    PART_OF_FREE,
    free_memory_bytes,
    peak_memory_bytes,
    return_freed_memory,
)
from napari_deconv.engines.opened import OpenedEngine
from napari_deconv.files.export import Written, require_apart, write_stack
from napari_deconv.files.metadata import shadow
from napari_deconv.files.origin import Origin
from napari_deconv.files.recipe import Recipe, files_read
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, Value, require
from napari_deconv.planning import planning_tiles, require_room, require_room_for
from napari_deconv.psf_sources import prepare_psfs
from napari_deconv.restoration.observing import observe, require_all_finite, require_intensities
from napari_deconv.restoration.restorer import Restorer, Step, finite_estimate
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended, passed_on
from napari_deconv.surveying import read
from napari_deconv.tile_run import TileRun
from napari_deconv.tile_task import (
    FINISHED_BEFORE,
    Setting,
    Sink,
    TileDone,
    counted,
    naming,
    tasks_of,
)
from napari_deconv.tiles.plan import TilePlan
from napari_deconv.version import __version__

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Record(Value):
    """What happened in a run: kept with the result, beside its recipe."""

    engine: str
    device: str
    seconds: float
    peak_memory_bytes: int
    psf_shape: tuple[int, ...]
    blocks: tuple[BlockRecord, ...]
    notes: tuple[str, ...]
    version: str
    predicted_bytes: int = 0
    source: Origin | None = None


@dataclass(frozen=True, eq=False)
class Restored:
    """The result of a run: the restored stack, the PSF used, the recipe and the record."""

    stack: Stack
    psf: Psf
    recipe: Recipe
    record: Record


def restore(
    image: npt.ArrayLike,
    psf: Psf | npt.ArrayLike,
    /,
    *,
    method: Restorer = RichardsonLucy.automatic(),  # noqa: B008 - a frozen value
    background: float = 0.0,
    engine: str = "auto",
) -> Float:
    """Restore one image.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Measured counts of any real type.
    psf : Psf or array
        Point spread function on the voxels of the image, centre at n//2; scaled to unit sum.
    method : Restorer
        `RichardsonLucy(...)` or `Wiener(...)`; the former, which stops by itself, if not given.
    background : float
        Counts that are there without light from the sample; not part of the result.
    engine : {"auto", "cpu", "opencl", "torch"}
        Where to run.

    Returns
    -------
    ndarray of float32
        Same shape as `image`, in counts above the background.

    Raises
    ------
    InputError
        If the image, the PSF or an option is not usable.

    Warns
    -----
    UserWarning
        Where the image was changed before use (negative values) or looks odd.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((9, 9)); image[3, 5] = 100
    >>> result = restore(image, np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), engine="cpu")
    >>> round(float(result[3, 5]), 3)
    100.0
    """
    require(
        hasattr(method, "steps"),
        f"The method {method!r} is not known; give RichardsonLucy(...) or Wiener(...)",
    )
    given = psf if isinstance(psf, Psf) else Psf(np.asarray(psf))
    observation = observe(image, given, background)
    for note in observation.notes:
        if note not in given.notes:  # those were there to be read when the PSF was made
            warnings.warn(note, stacklevel=2)
    opened = engines.open_engine(engine)
    try:
        for last in method.steps(observation, opened):  # noqa: B007 - the last is what counts
            pass
    finally:
        opened.release()
    return finite_estimate(last)


def restore_stack(stack: Stack, recipe: Recipe) -> Restored:
    """Restore a stack by a recipe, to its end; see `restoring`."""
    return ended(restoring(stack, recipe))


def restoring(
    stack: Stack,
    recipe: Recipe,
    *,
    memory_bytes: int | None = None,
    memory_fraction: float = PART_OF_FREE,
    sink: Sink | None = None,
    open_sink: Callable[[Stack, TilePlan], Sink] | None = None,
    begun: TilePlan | None = None,
) -> Generator[Step, None, Restored]:
    """Restore a stack by a recipe, step by step, in tiles where it does not fit into memory.

    Parameters
    ----------
    stack : Stack
        Any axes; each channel and time point that the recipe chooses is a block, restored in
        turn. Dask is read as it is needed.
    recipe : Recipe
        What to do.
    memory_bytes : int, optional
        What the run may take; without it, a part of what is free.
    memory_fraction : float
        Part of the free memory that the run may take.
    sink : Sink, optional
        Where finished tiles go; without it, an array in memory.
    open_sink : callable, optional
        Returns the sink, given the header of the result and the plan.
    begun : TilePlan, optional
        Of a run that goes on.

    Yields
    ------
    Step
        Counted over all tiles; where one is finished, with its `place`. To cancel, stop
        iterating: `close` frees the device.

    Returns
    -------
    Restored
        The value of the generator.

    Raises
    ------
    InputError
        If the stack, the PSF or the recipe is not usable, or the memory is too small.
    """
    started = time.perf_counter()
    return_freed_memory()
    chosen = stack.selected(recipe.channels, recipe.times)
    check_stack(chosen, recipe.background)
    require_finite_blocks(chosen, recipe)
    yield Step(0, 1, "preparing the PSF")
    psfs = prepare_psfs(recipe, stack)
    yield Step(0, 1, "opening the engine (the first use of a GPU compiles for some seconds)")
    device = OpenedEngine(recipe.engine)
    try:
        yield Step(0, 1, f"running on {engines.reason(device.engine, recipe.engine)}")
        free = free_memory_bytes()
        budget = memory_bytes or int(memory_fraction * free)
        in_memory = (sink is None and open_sink is None) or isinstance(sink, ArraySink)
        held = 4 * math.prod(chosen.shape) if in_memory else 0
        require_room(budget, held)
        # What other programs take changes from run to run: that is no reason to begin anew.
        require_room_for(begun, (memory_bytes or free) - held)
        header = header_of(chosen)
        if begun and open_sink:  # which tells that it was begun for something else
            sink = open_sink(header, begun)
        settled, plan = yield from planning_tiles(
            chosen, recipe, psfs, device.engine, budget - held, begun=begun
        )
        if open_sink and not begun:
            sink = open_sink(header, plan)
        into = sink or ArraySink(chosen.shape)
        setting = Setting(chosen, recipe, psfs, settled, plan, into)
        run = TileRun(setting, device)
        done: list[TileDone] = []
        yield from _restoring_tiles(run, done)
        told = (stack.remarks, settled.notes, run.notes, notes_on_dark(setting, done), device.notes)
        record = Record(
            engine=device.engine.name,
            device=device.engine.device,
            seconds=round(time.perf_counter() - started, 3),
            peak_memory_bytes=peak_memory_bytes(),
            psf_shape=psfs[0].shape,
            blocks=block_records(setting, done),
            notes=notes_of(psfs, *told),
            version=__version__,
            predicted_bytes=plan.bytes + held,
        )
    finally:
        device.engine.release()
    return Restored(replace(header, data=into.voxels()), psfs[0], recipe, record)


def _restoring_tiles(run: TileRun, finished: list[TileDone]) -> Generator[Step, None, None]:
    """Restore every tile that is not done yet, and put it where it belongs."""
    setting, total = run.setting, run.setting.count
    for task in tasks_of(setting.stack, setting.plan):
        if setting.sink.is_done(task.name):
            finished.append(TileDone.earlier(task, setting.sink))
            yield counted(Step(1, 1, FINISHED_BEFORE), task.number, total)
            continue
        kept, done = yield from passed_on(
            run.restoring(task), partial(counted, number=task.number, total=total)
        )
        setting.sink.write(task.name, task.place, kept, done.record)
        del kept  # else it stays beside the volumes of the next tile
        finished.append(done)
        yield done.step(total)


def header_of(stack: Stack) -> Stack:
    """Return the restored stack without its voxels."""
    data = shadow(stack.shape, "float32")
    return replace(stack, data=data, name=f"{stack.name} restored".strip())


def notes_of(psfs: tuple[Psf, ...], *notes: Sequence[str]) -> tuple[str, ...]:
    """Return the notes on the PSFs and others, each once."""
    of_psfs = [note for psf in psfs for note in psf.notes]
    return tuple(dict.fromkeys(note for some in (of_psfs, *notes) for note in some))


class ArraySink:
    """A result in memory: zeros at first, filled tile by tile."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.zeros(shape, np.float32)

    def is_done(self, tile: str) -> bool:
        """Return False: each run begins anew."""
        return False

    def record(self, tile: str) -> Plain:
        """Return nothing: no tile is there already."""
        return {}

    def write(
        self, tile: str, place: tuple[slice, ...], block: Float, record: Plain | None = None
    ) -> None:
        """Put the voxels in their place."""
        self.array[place] = block

    def voxels(self) -> Float:
        """Return the array."""
        return self.array


def export(
    restored: Restored,
    path: str | Path,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    ome_zarr_version: str = "0.5",
) -> Written:
    """Write a result with its recipe and record inside; see `files.export.write_stack`.

    The files that the recipe reads are not replaced.
    """
    require_apart(path, *files_read(restored.recipe))
    return write_stack(
        path,
        restored.stack,
        dtype=dtype,
        recipe=restored.recipe.to_dict(),
        record=restored.record.to_dict(),
        overwrite=overwrite,
        ome_zarr_version=ome_zarr_version,
    )


def require_finite_blocks(stack: Stack, recipe: Recipe) -> None:
    """Raise `InputError` where voxels in memory are not finite: now, not when all others are done.

    Voxels on disk are looked at when they are read.
    """
    if not isinstance(stack.data, np.ndarray) or isinstance(stack.data, np.memmap):
        return
    if stack.data.dtype.kind != "f":
        return
    for block in stack.blocks():
        with naming(block, stack, recipe):
            require_all_finite(stack.data[block])


def check_stack(stack: Stack, background: float | str) -> None:
    """Raise `InputError` where there is nothing in the stack to restore."""
    require_intensities(np.dtype(stack.data.dtype))
    if not isinstance(stack.data, np.ndarray):
        return
    # Plane by plane: the first with light in it ends the look.
    if not any(read(stack, plane).any() for plane in np.ndindex(stack.shape[:-2])):
        raise InputError(
            "The image is zero everywhere: there is nothing to restore. Check that the right "
            "file, layer or channel was chosen"
        )
    if isinstance(stack.data, np.memmap):
        return  # to read all of a large file for its maximum alone takes long
    highest = float(stack.data.max())
    # Asked so that NaN passes, which is told when it is looked at closely.
    if highest <= 0:
        raise InputError(
            "The image is nowhere above zero: there is nothing to restore. Where a background was "
            "subtracted, give the image before that"
        )
    if background != "auto" and highest <= float(background):
        raise InputError(
            f"The background, {float(background):g}, is not below the brightest voxel, "
            f'{highest:g}: nothing would be left to restore. Give a lower one, or "auto"'
        )
