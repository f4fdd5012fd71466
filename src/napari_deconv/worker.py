"""What a worker does: it opens an engine, and reads, restores and writes one tile at a time.

Nothing here needs a cluster; `here` asks which worker this is, and a process of its own is one.
"""

from __future__ import annotations

import mmap
import sys
import threading
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv import engines
from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.engines.memory import peak_memory_bytes
from napari_deconv.engines.opened import OpenedEngine
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.stepping import ended
from napari_deconv.tile_run import TileRun
from napari_deconv.tile_task import Setting, TileDone, TileTask

#: One tile at a time is restored in a process: it fills the memory that the plan counts with,
#: and its engine uses all cores or the whole device.
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Worker:
    """Who restores a tile.

    Parameters
    ----------
    name : str
        Of a cluster's worker; empty in a process of its own.
    cores : int, optional
        That it may use; None for all that the process may.
    """

    name: str = ""
    cores: int | None = None

    @property
    def number(self) -> int:
        """The digits that its name ends with: clusters count their workers."""
        return int(self.name[len(self.name.rstrip("0123456789")) :] or 0)


def here() -> Worker:
    """Return the cluster's worker that this thread works for."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            worker = get_worker()
        except ValueError:  # there is none
            return Worker()
        return Worker(str(worker.name), worker.state.nthreads)
    return Worker()


@cache
def device_of(asked: str, worker: Worker) -> OpenedEngine:
    """Return the opened engine of a worker, which keeps it."""
    device = OpenedEngine(asked)
    device.engine = _own(device.engine, worker)
    return device


def _own(engine: Engine, worker: Worker) -> Engine:
    """Return the engine with a worker's cores; of several GPUs each worker takes the next."""
    if engine.name == "cpu":
        return CpuEngine(worker.cores)
    gpus = [device for device in engines.devices(engine.name) if device.is_gpu]
    if len(gpus) < 2:
        return engine
    engine.release()
    device = gpus[worker.number % len(gpus)]
    found, problem = engines.tried(device)
    if found is None:
        raise InputError(f"{device.name} is not usable: {problem}; choose another engine")
    return found


@dataclass(frozen=True, eq=False)
class Told:
    """What a worker tells of a tile that is written: its voxels stay where they are.

    Parameters
    ----------
    done : TileDone
        What it was.
    engine, device : str
        What it was restored on, in words.
    peak_bytes : int
        Most memory that the worker has used so far.
    notes : tuple of str
        Sentences for the user.
    """

    done: TileDone
    engine: str
    device: str
    peak_bytes: int
    notes: tuple[str, ...]


def run_tile(task: TileTask, setting: Setting) -> Told:
    """Read a tile, restore it on this worker's engine, and put it into the sink.

    Raises
    ------
    InputError
        If it cannot be read, restored or written.
    """
    with ONE_AT_A_TIME:
        device = device_of(setting.recipe.engine, here())
        run = _run_on(setting, device)
        kept, done = ended(run.restoring(task))
        notes = (*run.notes, *device.notes)
    setting.sink.write(task.name, task.place, kept, done.record)
    return Told(done, device.engine.name, device.engine.device, peak_memory_bytes(), notes)


@lru_cache(maxsize=2)
def _run_on(setting: Setting, device: OpenedEngine) -> TileRun:
    """Return the run that goes on from tile to tile: it knows what the device has refused."""
    return TileRun(setting, device)


@dataclass(frozen=True)
class Mapped:
    """Voxels in one piece of a file, as numpy maps them; its name travels, and not the voxels.

    Parameters
    ----------
    source : Path
        The file, under the same path on all workers.
    offset : int
        Bytes before the first voxel.
    shape, strides : tuple of int
        In voxels and in bytes.
    dtype : numpy.dtype
    """

    source: Path
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, place: Any) -> npt.NDArray[Any]:
        """Return voxels, read; a file that was cut off raises ValueError and ends no process."""
        mapped = np.memmap(self.source, np.uint8, mode="r")
        voxels: npt.NDArray[Any] = np.ndarray(
            self.shape, self.dtype, mapped, self.offset, self.strides
        )
        return np.array(voxels[place])


def travelling(stack: Stack) -> Stack:
    """Return the stack with voxels that a worker reads itself where they are mapped from a file."""
    data = stack.data
    start: Any = data
    while isinstance(start, np.ndarray) and start.base is not None:
        start = start.base
    if not isinstance(start, mmap.mmap) or not isinstance(data, np.memmap) or not data.filename:
        return stack
    first = np.frombuffer(start, np.uint8).ctypes.data
    # A map begins at a page of the file, and numpy's own offset is that of the whole map.
    page = data.offset - data.offset % mmap.ALLOCATIONGRANULARITY
    offset = page + data.ctypes.data - first
    mapped = Mapped(Path(data.filename).absolute(), offset, data.shape, data.strides, data.dtype)
    return replace(stack, data=mapped)
