"""Tiles on a dask cluster: the workers read them, restore them, and write them into their place.

No voxels pass through the scheduler or come back: all workers see the image and the folder of
the result, and only names travel. A tile on a worker that is lost is restored by another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from napari_deconv.block_records import BlockRecord, block_records, notes_on_dark
from napari_deconv.connection import connected, means_of, require_same_version, require_seen
from napari_deconv.engines import open_engine
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, first_line
from napari_deconv.pipeline import (
    Record,
    Restored,
    check_stack,
    header_of,
    notes_of,
    require_finite_blocks,
)
from napari_deconv.planning import planning_tiles, require_room_for
from napari_deconv.psf_sources import prepare_psfs
from napari_deconv.restoration.restorer import Step
from napari_deconv.tile_task import (
    FINISHED_BEFORE,
    Setting,
    Sink,
    TileDone,
    TileTask,
    counted,
    tasks_of,
)
from napari_deconv.tiles.plan import TilePlan
from napari_deconv.version import __version__
from napari_deconv.worker import Told, run_tile, travelling

#: Tiles at a worker: one being restored, and one on its way, so that no worker waits.
TILES_A_WORKER = 2
#: How often a tile is tried again after it failed; losing its worker does not count.
RETRIES = 3


def restoring_on(
    address: str,
    stack: Stack,
    recipe: Recipe,
    *,
    memory_bytes: int | None = None,
    open_sink: Callable[[Stack, TilePlan], Sink],
    begun: TilePlan | None = None,
) -> Generator[Step, None, Restored]:
    """Restore a stack by a recipe on the workers of a dask cluster, tile by tile.

    Parameters
    ----------
    address : str
        Of the scheduler, such as "tcp://10.0.0.1:8786".
    stack : Stack
        What `read_stack` gave for a file that all workers see under the same path.
    recipe : Recipe
        What to do; its engine is opened by the workers.
    memory_bytes : int, optional
        What a worker may take; without it, what the smallest has.
    open_sink : callable
        Returns the sink, given the header of the result and the plan; workers write into it.
    begun : TilePlan, optional
        Of a run that goes on.

    Yields
    ------
    Step
        One a tile, with its `place`. To cancel, stop iterating: tiles that are not begun are
        taken back, and the others finished by their workers.

    Returns
    -------
    Restored
        The value of the generator.

    Raises
    ------
    InputError
        If the scheduler does not answer or has no workers, they lack this version or do not
        see the files, or as `pipeline.restoring` does.
    """
    started = time.perf_counter()
    chosen = stack.selected(recipe.channels, recipe.times)
    check_stack(chosen, recipe.background)
    require_finite_blocks(chosen, recipe)
    yield Step(0, 1, f"asking the cluster at {address}")
    with connected(address) as client:
        require_same_version(client)
        workers = means_of(client, recipe.engine, travelling(chosen))
        yield Step(0, 1, f"preparing the PSF for {len(workers)} workers")
        psfs = prepare_psfs(recipe, stack)
        budget = memory_bytes or min(worker.free_bytes for worker in workers.values())
        require_room_for(begun, budget)
        header = header_of(chosen)
        sink = open_sink(header, begun) if begun else None
        # Decided here and on few voxels: the workers may have an engine that this machine lacks.
        settled, plan = yield from planning_tiles(
            chosen,
            recipe,
            psfs,
            open_engine("cpu"),
            budget,
            extra_volumes=max(worker.extra_volumes for worker in workers.values()),
            begun=begun,
        )
        sink = sink or open_sink(header, plan)
        require_seen(client, sink)
        setting = Setting(travelling(chosen), recipe, psfs, settled, plan, sink)
        heard = _Heard(setting)
        yield from heard.all(client)
    record = Record(
        engine=heard.engine,
        device=f"{len(workers)} workers of a cluster, {heard.device}",
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_bytes=heard.peak_bytes,
        psf_shape=psfs[0].shape,
        blocks=heard.blocks(),
        notes=notes_of(
            psfs, stack.remarks, settled.notes, heard.notes, notes_on_dark(setting, heard.done)
        ),
        version=__version__,
        predicted_bytes=plan.bytes,
    )
    return Restored(replace(header, data=sink.voxels()), psfs[0], recipe, record)


class _Heard:
    """What the workers have told of the tiles so far."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.done: list[TileDone] = []
        self.notes: list[str] = []
        self.engine, self.device, self.peak_bytes = setting.recipe.engine, "none was needed", 0

    def all(self, client: Any) -> Iterator[Step]:
        """Yield a step for each tile; those that are there already come first."""
        setting, total = self.setting, self.setting.count
        missing = []
        for task in tasks_of(setting.stack, setting.plan):
            if setting.sink.is_done(task.name):
                self.done.append(TileDone.earlier(task, setting.sink))
            else:
                missing.append(task)
        count = len(self.done)
        if count:
            yield counted(Step(1, 1, FINISHED_BEFORE), count - 1, total)
        for told in running_on(client, missing, setting):
            self.notes += [note for note in told.notes if note not in self.notes]
            self.done.append(told.done)
            self.engine, self.device = told.engine, told.device
            self.peak_bytes = max(self.peak_bytes, told.peak_bytes)
            yield told.done.step(total, count)
            count += 1

    def blocks(self) -> tuple[BlockRecord, ...]:
        """Return what happened to each block."""
        return block_records(self.setting, self.done)


def running_on(
    client: Any, tasks: Iterable[TileTask], setting: Setting
) -> Generator[Told, None, None]:
    """Restore tiles on the workers of a connected cluster.

    Parameters
    ----------
    client : distributed.Client
        See `connected`.
    tasks : iterable of TileTask
        Taken as the workers ask for more.
    setting : Setting
        What they share.

    Yields
    ------
    Told
        As tiles are finished, in any order. To cancel, stop iterating: `close` takes back what
        is not begun; a tile that is being restored is finished by its worker.

    Raises
    ------
    InputError
        If a tile cannot be restored, or the cluster is lost.
    """
    queue = _Queue(client, tasks, setting)
    try:
        yield from queue.finished()
    finally:
        queue.cancel()


class _Queue:
    """The tiles at the workers: few at a time, for a plan may have a million."""

    def __init__(self, client: Any, tasks: Iterable[TileTask], setting: Setting) -> None:
        from dask import config
        from distributed import as_completed

        self._client, self._tasks = client, iter(tasks)
        self._waiting: dict[Any, str] = {}
        self._finished = as_completed(loop=client.loop)
        # A task of its own, sent once to each worker that asks for it: unlike scattered data it
        # comes back where all workers that had it are lost.
        with config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            self._setting = client.submit(_itself, setting, pure=False)

    def finished(self) -> Iterator[Told]:
        """Yield the tiles as they are finished."""
        self._fill()
        while self._waiting:
            future = next(self._finished)
            done = _result(future, self._waiting.pop(future))
            self._fill()
            yield done

    def cancel(self) -> None:
        """Take back what is not finished."""
        if self._waiting:
            with suppress(OSError, RuntimeError, TimeoutError):  # the cluster may be gone
                self._client.cancel(list(self._waiting), force=True)

    def _fill(self) -> None:
        """Send as many tiles as keep all workers busy; workers may come and go."""
        most = TILES_A_WORKER * max(len(self._client.nthreads()), 1)
        for task in islice(self._tasks, max(most - len(self._waiting), 0)):
            future = self._client.submit(run_tile, task, self._setting, pure=False, retries=RETRIES)
            self._waiting[future] = task.name
            self._finished.add(future)


def _itself(setting: Setting) -> Setting:
    return setting


def _result(future: Any, name: str) -> Told:
    from distributed import CancelledError, KilledWorker

    try:
        told: Told = future.result()
    except InputError:
        raise
    except (KilledWorker, MemoryError) as error:
        raise InputError(
            f"The tile {name} ended one worker after the other, most likely for want of memory; "
            "allow less memory for a tile, or give the workers more"
        ) from error
    except (CancelledError, OSError) as error:
        raise InputError(
            f"The cluster was lost ({first_line(error)[:160]}); what is finished stays, and the "
            "same run goes on from there"
        ) from error
    return told
