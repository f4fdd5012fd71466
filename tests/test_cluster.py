"""Tiles on a dask cluster: the same bytes as in one process, also where a worker is killed."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_deconv import __version__, connection, engines, worker
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.tiling import SPARE_BYTES
from napari_deconv.volumes import restoring_file
from napari_deconv.worker import Worker, travelling

distributed = pytest.importorskip("distributed")

#: Enough for tiles of a fraction of the image below.
MEMORY = SPARE_BYTES + 200_000
SHAPE = (2, 8, 72, 80)
METHOD = RichardsonLucy(4, acceleration="none")


@pytest.fixture
def local_cluster() -> Iterator[Any]:
    """Two processes of one thread; what they say of lost workers is not for the test's log."""
    options = {"silence_logs": logging.CRITICAL, "dashboard_address": ":0"}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, **options
    ) as found:
        yield found


def recipe(**changes: Any) -> Recipe:
    z, y, x = np.ogrid[-1:2, -2:3, -2:3]
    psf = Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 2))
    return Recipe(psf, METHOD, background=2.0, engine="cpu", **changes)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    counts = rng.poisson(np.where(rng.random(SHAPE) > 0.99, 300, 6)).astype(np.uint16)
    path = tmp_path / "image.ome.zarr"
    write_stack(path, Stack(counts, "CZYX", Grid(spacing_um=(0.3, 0.1, 0.1))), dtype="uint16")
    return path


def drained(run: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    steps = []
    try:
        while True:
            steps.append(next(run))
    except StopIteration as end:
        return steps, end.value


def voxel_files(folder: Path) -> dict[str, bytes]:
    """Return the files of the full resolution."""
    files = (file for file in (folder / "0").rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def run_of(image: Path, output: Path, **options: Any) -> Generator[Any, None, Any]:
    return restoring_file(image, output, recipe(), memory_bytes=MEMORY, **options)


def test_a_killed_worker_changes_no_byte(image: Path, tmp_path: Path, local_cluster: Any) -> None:
    serial_steps, serial = drained(run_of(image, tmp_path / "serial.ome.zarr"))
    total = len([step for step in serial_steps if step.place is not None])
    assert total > 10

    run = run_of(image, tmp_path / "cluster.ome.zarr", scheduler=local_cluster.scheduler_address)
    with distributed.Client(local_cluster, set_as_default=False) as client:
        pids = client.run(os.getpid)
        places: list[Any] = []
        while not places:
            places.append(next(run).place)
            places = [place for place in places if place is not None]
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        steps, finished = drained(run)
    places += [step.place for step in steps if step.place is not None]
    assert len(places) == total
    assert len({str(place) for place in places}) == total
    assert voxel_files(finished.written.path) == voxel_files(serial.written.path)
    # What is told of the run is the same, too.
    assert finished.record.blocks == serial.record.blocks
    assert finished.record.device.startswith("2 workers of a cluster, CPU, 1 core")


def test_slow_changes_of_the_whole_are_the_same_on_all_workers(
    tmp_path: Path, local_cluster: Any
) -> None:
    """Wiener through a widefield PSF: each worker looks through each image itself."""
    optics = Optics(na=1.2, emission_nm=520, immersion_index=1.33)
    grid = Grid(spacing_um=(0.3, 0.15, 0.15))
    psf = compute_psf(optics, grid, (5, 25, 25))
    counts = np.random.default_rng(0).poisson(20, (2, 6, 500, 90)).astype(np.uint16)
    path = tmp_path / "widefield.ome.zarr"
    write_stack(path, Stack(counts, "CZYX", grid), dtype="uint16")
    wanted = Recipe(psf, Wiener(1e-3), background=5.0, engine="cpu")
    memory, address = SPARE_BYTES + 4_500_000, local_cluster.scheduler_address
    made = [
        drained(
            restoring_file(
                path, tmp_path / f"{name}.ome.zarr", wanted, memory_bytes=memory, scheduler=where
            )
        )[1]
        for name, where in (("serial", None), ("cluster", address))
    ]
    assert made[0].record.blocks[0].tiles > 1
    assert voxel_files(made[0].written.path) == voxel_files(made[1].written.path)


def test_a_cancelled_run_goes_on(image: Path, tmp_path: Path, local_cluster: Any) -> None:
    output, address = tmp_path / "out.ome.zarr", local_cluster.scheduler_address
    run = run_of(image, output, scheduler=address)
    while next(run).place is None:
        pass
    run.close()
    with distributed.Client(local_cluster, set_as_default=False) as client:
        deadline = time.monotonic() + 10
        while any(client.processing().values()):  # what was begun is finished
            assert time.monotonic() < deadline
            time.sleep(0.05)
    steps, finished = drained(run_of(image, output, scheduler=address))
    before = [step for step in steps if "finished before" in step.note]
    assert len(before) == 1
    _, serial = drained(run_of(image, tmp_path / "serial.ome.zarr"))
    assert finished.record.blocks == serial.record.blocks
    assert voxel_files(finished.written.path) == voxel_files(serial.written.path)


def test_a_tile_that_fails_is_told(image: Path, tmp_path: Path, local_cluster: Any) -> None:
    run = run_of(image, tmp_path / "out.ome.zarr", scheduler=local_cluster.scheduler_address)
    while next(run).place is None:
        pass
    for file in (tmp_path / "out.unfinished.ome.zarr" / "unfinished").glob("identity.json"):
        file.unlink()
    with pytest.raises(InputError, match="is not there any more; run again to begin anew"):
        drained(run)


def test_an_address_that_does_not_answer(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 1.0)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"No dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        drained(run_of(image, tmp_path / "out.ome.zarr", scheduler="tcp://127.0.0.1:9"))
    assert time.monotonic() - started < 5
    with pytest.raises(InputError, match="No dask scheduler answers at here "):
        drained(run_of(image, tmp_path / "out.ome.zarr", scheduler="here"))


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Return a maker of clusters whose only worker, if any, answers what it is told to."""

    def make(answer: Any) -> Any:
        answers = {} if answer is None else {"tcp://b:2": answer}
        monkeypatch.setattr(connection, "_each", lambda *_: answers)
        scheduler = type("Scheduler", (), {"address": "tcp://a:1"})
        return type("Client", (), {"scheduler": scheduler})

    return make


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (None, "The scheduler at tcp://a:1 has no workers; start some, then run again"),
        ("0.0.1", "The worker tcp://b:2 has napari-deconv 0.0.1, and here it is "),
        ("", "The worker tcp://b:2 has no napari-deconv, and here it is "),
        (ValueError("bad magic"), r"The worker tcp://b:2 cannot be asked \(bad magic\)"),
    ],
)
def test_workers_must_have_this_version(
    answering: Callable[[Any], Any], answer: Any, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        connection.require_same_version(answering(answer))


def test_workers_must_see_image_and_folder(answering: Callable[[Any], Any]) -> None:
    stack = Stack(np.zeros((4, 4)), "YX")
    error = InputError("image.tif: the voxels y 0 cannot be read (it is not there any more)")
    with pytest.raises(
        InputError, match=r"cannot take part: image\.tif: .* same path on a file sys"
    ):
        connection.means_of(answering(error), "cpu", stack)
    sink: Any = type("Sink", (), {"path": Path("/far/away")})
    with pytest.raises(InputError, match="cannot see the folder /far/away; choose an output on"):
        connection.require_seen(answering(False), sink)
    with pytest.raises(InputError, match="A cluster writes into an OME-Zarr"):
        connection.require_seen(answering(True), object())  # type: ignore[arg-type]


def test_the_version_is_asked_by_value() -> None:
    # A worker that lacks this package could not load a function of it.
    from distributed.protocol.pickle import dumps

    sent = dumps(connection._asking_version())
    command = (
        "import sys, pickle; sys.modules['napari_deconv'] = None\n"
        "print(repr(pickle.loads(sys.stdin.buffer.read())()))"
    )
    told = subprocess.run([sys.executable, "-c", command], input=sent, capture_output=True)
    assert told.stdout.split() == [b"''"], told.stderr
    assert connection._asking_version()() == __version__


def test_mapped_voxels_travel_as_the_name_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    counts = np.arange(3 * 40 * 50 * 60, dtype=np.uint16).reshape(3, 40, 50, 60)
    tifffile.imwrite(path, counts, imagej=True, metadata={"axes": "TZYX"})
    mapped = np.memmap(path, counts.dtype.newbyteorder(">"), "r", _first_voxel(path), counts.shape)
    for part in (mapped, mapped[1:, ::3], mapped[2:]):
        sent = travelling(Stack(part, "TZYX"))
        again = pickle.loads(pickle.dumps(sent))
        assert len(pickle.dumps(sent)) < 1000
        np.testing.assert_array_equal(again.data[:, 1:3, 5], part[:, 1:3, 5])
        assert (again.data.dtype, again.shape) == (part.dtype, part.shape)
    in_memory = Stack(counts, "TZYX")
    assert travelling(in_memory) is in_memory
    copied = Stack(mapped[[0, 2]], "TZYX")
    assert travelling(copied) is copied


def test_a_mapped_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "voxels.raw"
    np.zeros((4, 64, 64), np.uint16).tofile(path)
    sent = travelling(Stack(np.memmap(path, np.uint16, "r", shape=(4, 64, 64)), "ZYX"))
    os.truncate(path, 5000)
    with pytest.raises(ValueError, match="size of buffer"):
        sent.data[3]


def _first_voxel(path: Path) -> int:
    with tifffile.TiffFile(path) as file:
        return int(file.pages[0].dataoffsets[0])


def test_files_mapped_by_the_reader_travel(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    counts = np.random.default_rng(0).integers(0, 999, (5, 64, 64)).astype(np.uint16)
    tifffile.imwrite(path, counts, photometric="minisblack")
    stack = read_stack(path)
    assert np.array_equal(np.asarray(travelling(stack).data[2]), counts[2])


@pytest.mark.parametrize(
    ("name", "number"), [("", 0), ("0", 0), ("SLURMCluster-3-12", 12), ("gpu", 0)]
)
def test_workers_are_counted_by_their_names(name: str, number: int) -> None:
    assert Worker(name).number == number


def test_each_worker_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_deconv.engines import Device

    opened: list[int] = []

    class Gpu:
        name = "torch"

        def __init__(self, index: int) -> None:
            self.index = index

        def release(self) -> None:
            opened.append(-1)

    def gpu(index: int) -> Device:
        return Device("torch", f"GPU {index}", True, None, lambda: Gpu(index))  # type: ignore[return-value, arg-type]

    def devices(name: str) -> Iterator[Device]:
        yield from (gpu(0), gpu(1), Device("torch", "CPU", False, None, lambda: None))  # type: ignore[return-value, arg-type]

    monkeypatch.setattr(engines, "devices", devices)
    monkeypatch.setattr(engines, "tried", lambda device: (device.open(), "works"))
    first: Any = Gpu(0)
    found: list[Any] = [worker._own(first, Worker(f"w-{i}")) for i in range(5)]
    assert [engine.index for engine in found] == [0, 1, 0, 1, 0]
    monkeypatch.setattr(engines, "devices", lambda name: iter([gpu(0)]))
    assert worker._own(first, Worker("w-1")) is first


def test_a_worker_takes_its_own_cores() -> None:
    device = worker.device_of("cpu", Worker("w", 3))
    assert device.engine.device == "CPU, 3 cores"
    assert worker.device_of("cpu", Worker("w", 3)) is device
