"""A dask cluster from outside: is its scheduler there, and what have its workers?

Each of what a run needs is asked before it starts, and what is missing is told with the worker.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, first_line, require
from napari_deconv.surveying import read
from napari_deconv.tile_task import Sink
from napari_deconv.version import __version__
from napari_deconv.worker import device_of, here

#: Seconds after which a scheduler that does not answer is given up.
ANSWER_S = 8.0
#: Bytes that the greeting of a scheduler may have; another program's reads as a larger number.
MOST_GREETING = 2**16
#: Seconds that a worker may take to open its engine, and to be done with what it does.
ASKED_S = 300.0
#: Part of its limit that a worker's tile may take: a nanny pauses it at 0.8, and ends it at 0.95.
PART_OF_LIMIT = 0.6


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a dask scheduler; `InputError` where it does not answer."""
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise InputError(
            "A cluster needs the package distributed, which is not installed; "
            'run: pip install "napari-deconv[cluster]"'
        ) from error
    try:
        # A client that could not connect lingers until Python collects it, which has stopped the
        # next one from starting, and it waits forever where another program or a scheduler that
        # hangs listens: none is made unless somebody greets as a scheduler does.
        _require_greeting(get_address_host_port(address))
        client = Client(address, timeout=ANSWER_S / 2, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"No dask scheduler answers at {address} ({first_line(error)[:160]}); check the "
            "address, and that the scheduler runs and can be reached from here"
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=ANSWER_S)


def _require_greeting(place: tuple[str, int]) -> None:
    """Raise OSError unless a scheduler greets whoever connects: with a length, then a message."""
    with socket.create_connection(place, timeout=ANSWER_S / 2) as connection:
        said = connection.recv(8)
    if not 0 < int.from_bytes(said, "little") < MOST_GREETING:
        raise OSError("what listens there is no scheduler")


def require_same_version(client: Any) -> None:
    """Raise `InputError` unless there are workers and all have this version of napari-deconv."""
    found = _each(client, _asking_version())
    require(
        bool(found),
        f"The scheduler at {client.scheduler.address} has no workers; start some, then run again",
    )
    for worker, version in found.items():
        if isinstance(version, BaseException):
            raise InputError(
                f"The worker {worker} cannot be asked ({first_line(version)[:160]}); give it the "
                "same Python and packages as here"
            )
        has = f"napari-deconv {version}" if version else "no napari-deconv"
        require(
            version == __version__,
            f"The worker {worker} has {has}, and here it is {__version__}; install the same "
            "version on all workers",
        )


def _each(client: Any, ask: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return what each worker answers, or the error that it has instead."""
    asked = {
        worker: client.submit(ask, *arguments, workers=[worker], pure=False)
        for worker in client.nthreads()
    }
    answers = {}
    for worker, future in asked.items():
        try:
            answers[worker] = future.result(timeout=ASKED_S)
        except Exception as error:  # whatever it is, this worker cannot take part
            answers[worker] = error
    return answers


def _asking_version() -> Callable[[], str]:
    """Return a function that travels by value: a worker may lack this package."""

    def version() -> str:
        from importlib import import_module

        try:
            return str(import_module("napari_deconv").__version__)
        except ImportError:
            return ""

    return version


@dataclass(frozen=True)
class Means:
    """What a worker has for a tile."""

    extra_volumes: float
    free_bytes: int


def means_of(client: Any, engine: str, stack: Stack) -> dict[str, Means]:
    """Return what each worker has, after it has opened its engine and read a voxel."""
    in_memory = isinstance(stack.data, np.ndarray)
    found = _each(client, _means, engine, None if in_memory else stack)
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise InputError(
                f"The worker {worker} cannot take part: {first_line(answer)}; it needs the engine, "
                "and the image under the same path on a file system that all workers share"
            ) from answer
    # Workers of one machine share what is free there.
    together = Counter(_host(worker) for worker in found)
    return {
        worker: replace(means, free_bytes=min(means.free_bytes // together[_host(worker)], limit))
        for worker, (means, limit) in found.items()
    }


def _host(worker: str) -> str:
    return worker.rpartition(":")[0]


def _means(engine: str, stack: Stack | None) -> tuple[Means, int]:
    """Return what this worker has, and what of its limit a tile may take."""
    from distributed import get_worker

    device = device_of(engine, here())
    if stack is not None:
        read(stack, (0,) * (stack.data.ndim - 1) + (slice(0, 1),))
    free = free_memory_bytes()
    limit = get_worker().memory_manager.memory_limit
    return Means(device.engine.extra_volumes, free), int(PART_OF_LIMIT * limit) if limit else free


def require_seen(client: Any, sink: Sink) -> None:
    """Raise unless the workers see the folder that tiles are written to."""
    folder: Path | None = getattr(sink, "path", None)
    require(
        folder is not None,
        "A cluster writes into an OME-Zarr on a file system that all workers share; give an output",
    )
    for worker, sees in _each(client, _sees, str(folder)).items():
        require(
            sees is True,
            f"The worker {worker} cannot see the folder {folder}; choose an output on a file "
            "system that all workers share, under the same path",
        )


def _sees(folder: str) -> bool:
    return Path(folder).is_dir()
