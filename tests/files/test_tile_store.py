"""Tiles into an OME-Zarr: resumed after SIGKILL, refused for another run, told when it fails."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from napari_deconv.files import pyramid, run_lock, tile_store, whole
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_pyramid, read_stack
from napari_deconv.files.tile_store import TileStore
from napari_deconv.files.work_folder import WorkFolder
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError

SHAPE, CHUNKS, TILE = (2, 9, 40, 30), (1, 4, 8, 8), (1, 4, 16, 16)
IDENTITY: dict[str, Any] = {
    "recipe": {"method": {"iterations": 30, "kind": "RichardsonLucy"}, "background": "auto"},
    "input": {"path": "cell.tif", "shape": SHAPE},
    "plan": {"keep": TILE},
}


@pytest.fixture(autouse=True)
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "SMALL_ENOUGH", 8)


def header(shape: tuple[int, ...] = SHAPE) -> Stack:
    optics = (KnownOptics(1.2, 1.33, 520.0), KnownOptics(1.2, 1.33, 610.0))
    data = np.broadcast_to(np.float32(0), shape)
    return Stack(data, "CZYX", Grid(spacing_um=(0.2, 0.1, 0.1)), "cell", ("a", "b"), optics)


def opened(target: Path, **changes: Any) -> TileStore:
    options: dict[str, Any] = {"chunks": CHUNKS, "identity": IDENTITY, **changes}
    return TileStore.opened(target, options.pop("stack", header()), **options)


def tiles() -> Iterator[tuple[str, tuple[slice, ...], np.ndarray[Any, np.dtype[np.float32]]]]:
    """Yield name, place and voxels of every tile; some of the chunks are all zero."""
    for start in product(*(range(0, n, side) for n, side in zip(SHAPE, TILE, strict=True))):
        place = tuple(
            slice(a, min(a + side, n)) for a, side, n in zip(start, TILE, SHAPE, strict=True)
        )
        name = "-".join(map(str, start))
        rng = np.random.default_rng(start)
        block = rng.random([s.stop - s.start for s in place], dtype=np.float32)
        block[..., :8, :8] = 0
        yield name, place, block


def fill(store: TileStore, most: int | None = None) -> None:
    for name, place, block in list(tiles())[:most]:
        if not store.is_done(name):
            store.write(name, place, block)


def whole_image() -> np.ndarray[Any, np.dtype[np.float32]]:
    image = np.zeros(SHAPE, np.float32)
    for _, place, block in tiles():
        image[place] = block
    return image


def files_of(folder: Path) -> dict[str, str]:
    """Return the digest of each file, but for the group's attributes with their versions."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.parent != folder
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_tiles_become_an_ome_zarr_with_a_pyramid_and_its_recipe(
    tmp_path: Path, version: str
) -> None:
    target = tmp_path / "out.ome.zarr"
    with opened(target, version=version) as store:
        assert store.path == tmp_path / "out.unfinished.ome.zarr"
        assert store.done() == frozenset()
        fill(store)
        assert store.done() == {name for name, _, _ in tiles()}
        np.testing.assert_array_equal(np.asarray(store.voxels()), whole_image())
        written = store.finish(recipe={"kind": "Recipe"}, record={"seconds": 1.5})
    assert (Path(written), written.dtype) == (target, "float32")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.ome.zarr"]
    assert not (target / "unfinished").exists()
    found = read_stack(target)
    np.testing.assert_array_equal(found.data, whole_image())
    for name in ("axes", "grid", "channel_names", "channel_optics"):
        assert getattr(found, name) == getattr(header(), name)
    kept = read_provenance(target)
    assert kept is not None
    assert (kept["recipe"], kept["record"]) == ({"kind": "Recipe"}, {"seconds": 1.5})
    assert [level.shape for level in read_pyramid(target)] == [
        (2, 9, 40, 30),
        (2, 9, 20, 15),
        (2, 5, 10, 8),
        (2, 3, 5, 4),
    ]


def test_the_pyramid_is_that_of_a_stack_written_at_once(tmp_path: Path) -> None:
    with opened(tmp_path / "a.zarr") as store:
        fill(store)
        store.finish(recipe=None, record=None)
    at_once = Stack(whole_image(), "CZYX", header().grid)
    path = write_stack(tmp_path / "b.zarr", at_once).path
    for a, b in zip(read_pyramid(tmp_path / "a.zarr"), read_pyramid(path), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert a.grid == b.grid


def test_a_store_travels_small_and_any_process_writes_through_it(tmp_path: Path) -> None:
    with opened(tmp_path / "a.zarr", stack=header((2, 90, 400, 300))) as store:
        fill(store, 1)
        assert len(pickle.dumps(store)) < 2000
    with opened(tmp_path / "b.zarr") as store:
        fill(store, 2)
        again = pickle.loads(pickle.dumps(store))
        fill(again)
        again.release()  # a worker holds no lock
        with pytest.raises(InputError, match="another run"):
            opened(tmp_path / "b.zarr")
        store.finish(recipe=None, record=None)
    np.testing.assert_array_equal(read_stack(tmp_path / "b.zarr").data, whole_image())


def test_what_is_begun_is_seen_from_outside_tile_by_tile(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    folder = WorkFolder.of(target)
    assert (folder.is_begun, folder.identity()) == (False, None)
    with opened(target) as store:
        fill(store, 1)
        (_, place, block), (_, elsewhere, _), *_ = tiles()
        seen = folder.voxels("CZYX")
        assert seen.chunksize == CHUNKS
        np.testing.assert_array_equal(np.asarray(seen[place]), block)
        assert not np.asarray(seen[elsewhere]).any()
    begun = folder.identity()
    assert begun is not None
    assert begun["plan"] == {"keep": list(TILE)}


def test_voxels_for_another_kind_of_output(tmp_path: Path) -> None:
    with opened(tmp_path / "a.ome.tif") as store:
        fill(store)
        with pytest.raises(InputError, match=r"a\.ome\.tif is no OME-Zarr"):
            store.finish(recipe=None, record=None)
        write_stack(tmp_path / "a.ome.tif", Stack(store.voxels(), "CZYX"), dtype="uint16")
        store.remove()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ome.tif"]
    np.testing.assert_allclose(
        read_stack(tmp_path / "a.ome.tif").data / 5e4, whole_image(), atol=1.01e-5
    )


# -- ended and taken up ------------------------------------------------------------------

CHILD = """
import random, sys, time
sys.path.insert(0, {tests!r})
import test_tile_store as here
from pathlib import Path
here.pyramid.SMALL_ENOUGH = 8
rng = random.Random({seed})
store = here.opened(Path({target!r}))
print("begun", flush=True)
for name, place, block in here.tiles():
    if not store.is_done(name):
        time.sleep(rng.random() * 0.006)
        store.write(name, place, block)
store.finish(recipe=None, record=None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_run_goes_on_and_its_files_are_those_of_one_that_was_not(tmp_path: Path) -> None:
    with opened(tmp_path / "undisturbed.zarr") as store:
        fill(store)
        store.finish(recipe=None, record=None)
    wanted = files_of(tmp_path / "undisturbed.zarr")
    # Of the 24 tiles' chunks, some are all zero and have no file; every level has some.
    assert {name.split("/")[0] for name in wanted} == {"0", "1", "2", "3"}
    rng = random.Random(11)
    kills = runs = 0
    while kills < 6:
        target = tmp_path / f"{runs}.zarr"
        while not target.exists():
            after_s = rng.random() * 0.5 if kills < 6 else None
            kills += child_was_killed(target, seed=kills, after_s=after_s)
        with pytest.raises(InputError, match="exists already"):
            opened(target)  # tidies up where the run was killed right after the move
        assert files_of(target) == wanted
        runs += 1


def child_was_killed(target: Path, *, seed: int, after_s: float | None) -> bool:
    """Let a child go on with a run, and kill it unless it has ended after so many seconds."""
    code = CHILD.format(tests=str(Path(__file__).parent), seed=seed, target=str(target))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "begun\n"
        if after_s is not None:
            time.sleep(after_s)
            child.kill()
        assert child.wait() in (0, -signal.SIGKILL)
    return child.returncode != 0


class Ended(BaseException):
    """Stands for SIGKILL at one exact moment: nothing below may catch it and tidy up."""


# 46 chunks of smaller levels are made; then come: the attributes (two writes), the move and its
# tidying, the older output aside, the new one in its place, the older one and the marks removed.
@pytest.mark.parametrize("moment", [0, 20, 45, 46, 47, 48, 49, 50, 51, 52, 53])
def test_finish_that_was_ended_anywhere_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    with opened(tmp_path / "undisturbed.zarr") as store:
        fill(store)
        store.finish(recipe=None, record=None)
    target = tmp_path / "ended.zarr"
    write_stack(target, Stack(np.ones((3, 3)), "YX"))
    store = opened(target, overwrite=True)
    fill(store)
    moments = iter(range(moment))

    def counted(call: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            ours = not isinstance(args[0], Path) or "ended" in args[0].name + args[0].parent.name
            if ours and next(moments, None) is None:
                raise Ended
            return call(*args, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(pyramid, "halved", counted(pyramid.halved))
        patch.setattr(tile_store, "move", counted(whole.move))
        patch.setattr(tile_store, "remove", counted(whole.remove))
        patch.setattr(whole, "remove", counted(whole.remove))
        patch.setattr(Path, "replace", counted(Path.replace))
        with pytest.raises(Ended):
            store.finish(recipe=None, record=None)
    store.release()
    if store.path.exists():
        with opened(target, overwrite=True) as store:
            assert len(store.done()) == len(list(tiles()))
            store.finish(recipe=None, record=None)
    with pytest.raises(InputError, match="exists already"):
        opened(target)
    assert files_of(target) == files_of(tmp_path / "undisturbed.zarr")
    assert {entry.name for entry in tmp_path.iterdir()} == {"ended.zarr", "undisturbed.zarr"}


def test_what_a_killed_write_left_is_removed_and_not_taken_for_a_tile(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    with opened(target) as store:
        fill(store, 5)
    chunk = store.path / "0" / "c" / "1" / "0" / "0" / "1"
    chunk.parent.mkdir(parents=True, exist_ok=True)
    chunk.write_bytes(b"half")
    (chunk.parent / "1.0123.partial").write_bytes(b"half")
    with opened(target) as store:
        assert len(store.done()) == 5
        fill(store)
        store.finish(recipe=None, record=None)
    assert list(target.rglob("*.part*")) == []
    np.testing.assert_array_equal(read_stack(target).data, whole_image())


def test_a_folder_whose_beginning_was_ended_is_begun_anew(tmp_path: Path) -> None:
    with opened(tmp_path / "a.zarr", version="0.4") as store:
        fill(store, 3)
    store.folder.identity_file.unlink()
    with opened(tmp_path / "a.zarr") as store:
        assert store.done() == frozenset()
        fill(store)
        store.finish(recipe=None, record=None)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.zarr").data, whole_image())
    assert not list((tmp_path / "a.zarr").rglob(".z*"))


# -- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"recipe": {**IDENTITY["recipe"], "method": {"iterations": 50}}},
            r"another recipe \(method\.iterations was 30 and is now 50, "
            r'method\.kind was "RichardsonLucy" and is now nothing\)',
        ),
        ({"plan": {"keep": (1, 4, 8, 8)}}, r"plan \(keep was \[1, 4, 16, 16\] and is now \[1, 4"),
        ({"seed": 3}, r"another seed \(was nothing and is now 3\)"),
    ],
)
def test_a_folder_begun_for_something_else_is_refused_in_words(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with opened(tmp_path / "a.zarr") as store:
        fill(store, 3)
    with pytest.raises(InputError, match=sentence) as caught:
        opened(tmp_path / "a.zarr", identity={**IDENTITY, **changes})
    assert f"delete the folder {store.path}" in str(caught.value)
    with opened(tmp_path / "a.zarr") as store:  # and what was finished is still there
        assert len(store.done()) == 3


def test_another_type_or_chunk_is_another_output(tmp_path: Path) -> None:
    opened(tmp_path / "a.zarr").release()
    with pytest.raises(InputError, match=r"output \(chunks was .* dtype was \"float32\""):
        opened(tmp_path / "a.zarr", chunks=(1, 4, 16, 16), dtype="uint16")


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    store = opened(tmp_path / "a.zarr")
    with pytest.raises(InputError, match=r"a\.unfinished\.ome\.zarr is being written by another"):
        opened(tmp_path / "a.zarr")
    store.release()
    opened(tmp_path / "a.zarr").release()


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, "process"),  # the parent of this process, which runs
        ({"host": "elsewhere"}, "a run on elsewhere .* if it has ended, delete .*lock"),
        ({"started": 1.0}, None),  # the number of a process that ended, used again
        ({"pid": 2**22 + 5}, None),
        ({"pid": os.getpid()}, None),  # this process never took it
        (None, None),  # empty, and old
    ],
)
def test_the_lock_of_a_run_that_ended_is_taken_over(
    tmp_path: Path, changes: dict[str, Any] | None, refused: str | None
) -> None:
    import psutil

    lock = tmp_path / "lock"
    parent = psutil.Process(os.getppid())
    owner = {"pid": parent.pid, "host": platform.node(), "started": parent.create_time()}
    lock.write_text("" if changes is None else json.dumps({**owner, **changes}))
    if changes is None:
        with pytest.raises(InputError, match="is being taken up"):
            run_lock.acquire(lock, "It")
        os.utime(lock, (1, 1))
    if refused:
        with pytest.raises(InputError, match=refused):
            run_lock.acquire(lock, "It")
        return
    run_lock.acquire(lock, "It")
    assert json.loads(lock.read_text())["pid"] == os.getpid()
    run_lock.release(lock)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place",
    [
        (slice(0, 1), slice(0, 4), slice(0, 8), slice(0, 9)),  # ends inside a chunk
        (slice(0, 1), slice(0, 4), slice(4, 12), slice(0, 8)),  # begins inside one
        (slice(0, 1), slice(0, 4), slice(0, 8), slice(8, 8)),  # empty
        (slice(0, 1), slice(0, 4), slice(0, 16, 2), slice(0, 8)),
    ],
)
def test_a_tile_of_broken_chunks_is_an_error(tmp_path: Path, place: tuple[slice, ...]) -> None:
    shape = tuple(len(range(*s.indices(n))) for s, n in zip(place, SHAPE, strict=True))
    with opened(tmp_path / "a.zarr") as store:
        with pytest.raises(ValueError, match="no tile of whole chunks"):
            store.write("t", place, np.zeros(shape))
        with pytest.raises(ValueError, match="no name of a tile"):
            store.is_done("../t")


def test_what_was_told_of_a_tile_is_kept_with_it(tmp_path: Path) -> None:
    (name, place, block), (other, elsewhere, more), *_ = tiles()
    with opened(tmp_path / "a.zarr") as store:
        store.write(name, place, block, {"iterations": 7})
        store.write(other, elsewhere, more)
    with opened(tmp_path / "a.zarr") as store:
        assert store.record(name) == {"iterations": 7}
        assert store.record(other) == {}


def test_what_is_not_complete_is_not_finished(tmp_path: Path) -> None:
    with opened(tmp_path / "a.zarr") as store:
        fill(store, 23)
        with pytest.raises(ValueError, match=r"of the 120 chunks of a\.unfinished"):
            store.finish(recipe=None, record=None)
    with pytest.raises(InputError, match="is a restoration that is not finished; run it again"):
        read_stack(store.path)


def test_an_output_that_is_there_is_refused_first_and_last(tmp_path: Path) -> None:
    older = write_stack(tmp_path / "a.zarr", Stack(np.ones((3, 3)), "YX")).path
    with pytest.raises(InputError, match=r"a\.zarr exists already"):
        opened(older)
    with opened(tmp_path / "b.zarr") as store:
        fill(store)
        older.rename(tmp_path / "b.zarr")
        with pytest.raises(InputError, match=r"b\.zarr exists already"):
            store.finish(recipe=None, record=None)
    with opened(tmp_path / "b.zarr", overwrite=True) as store:
        store.finish(recipe=None, record=None)
    np.testing.assert_array_equal(read_stack(tmp_path / "b.zarr").data, whole_image())
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.zarr"]


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "a.unfinished.ome.zarr"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="was not begun by napari-deconv"):
        opened(tmp_path / "a.zarr")
    assert [entry.name for entry in other.iterdir()] == ["thesis.txt"]


# -- what the system refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "is too full: 2 kB are needed and .* MB are free"),
        (errno.EROFS, "may not be written to"),
        (errno.EIO, "could not be written"),
    ],
)
def test_a_failing_disk_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    store = opened(tmp_path / "a.zarr")
    fill(store, 4)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "refused")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", refuse)
        with pytest.raises(InputError, match=sentence) as caught:
            fill(store)
    assert "what is finished stays in a.unfinished.ome.zarr" in str(caught.value)
    assert "\n" not in str(caught.value)
    store.release()
    with opened(tmp_path / "a.zarr") as store:
        assert len(store.done()) == 4
        fill(store)
        store.finish(recipe=None, record=None)
    np.testing.assert_array_equal(read_stack(tmp_path / "a.zarr").data, whole_image())


def test_a_disk_that_is_too_full_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(_: Path) -> Any:
        return type("Usage", (), {"free": 10**9})()

    monkeypatch.setattr("shutil.disk_usage", free)
    large = header((2, 100, 2000, 2000))
    with pytest.raises(InputError, match=r"4,115\.\d MB are needed and 1,000\.0 MB are free"):
        opened(tmp_path / "a.zarr", stack=large, chunks=(1, 50, 500, 500))
    small = header((2, 20, 2000, 2000))  # 0.8 GB with its pyramid, and a file made of it beside
    with pytest.raises(InputError, match=r"1,4\d\d\.\d MB are needed and 1,000\.0 MB are free"):
        opened(tmp_path / "b.zarr", stack=small, chunks=(1, 20, 500, 500), later=640_000_000)
    with pytest.raises(InputError, match="There is no folder"):
        opened(tmp_path / "none" / "a.zarr")


def test_a_folder_that_went_away_is_not_made_again_by_a_tile(tmp_path: Path) -> None:
    with opened(tmp_path / "a.zarr") as store:
        fill(store, 1)
        store.path.rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="is not there any more"):
            fill(store)
        assert not store.path.exists()


def test_the_lock_of_a_process_that_nobody_has_waited_for_is_left_over(tmp_path: Path) -> None:
    """In a container without an init a killed run stays listed."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lock, process = tmp_path / "lock", psutil.Process(child.pid)
    owner = {"pid": child.pid, "host": platform.node(), "started": process.create_time()}
    lock.write_text(json.dumps(owner))
    with pytest.raises(InputError, match=f"another run \\(process {child.pid}\\)"):
        run_lock.acquire(lock, "It")
    child.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    run_lock.acquire(lock, "It")
    run_lock.release(lock)
    child.wait()
