"""What is wrong with an image, an output, a cluster or a begun run ends in one sentence.

And what was finished is kept. What one file alone has to say is tested in `files`.
"""

from __future__ import annotations

import errno
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv import cli, cluster, connection
from napari_deconv.files import ome_zarr
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance
from napari_deconv.files.recipe import PsfFile, Recipe, read_recipe, write_recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.tile_task import FINISHED_BEFORE
from napari_deconv.tiling import SPARE_BYTES
from napari_deconv.volumes import Finished, restoring_file

SHAPE = (3, 8, 72, 80)
#: Enough for a time point in one piece, and for a part of one alone.
ROOM, LITTLE = SPARE_BYTES + 20_000_000, SPARE_BYTES + 200_000
OUT, WORK = Path("out.ome.zarr"), Path("out.unfinished.ome.zarr")
METHOD = RichardsonLucy(2, acceleration="none")

Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with `image.ome.zarr` of three times, and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ome_zarr, "LOADED_UP_TO_BYTES", 0)
    counts = np.random.default_rng(3).poisson(20, SHAPE).astype(np.uint16)
    path = Path("image.ome.zarr")
    write_stack(path, Stack(counts, "TZYX", Grid(spacing_um=(0.4, 0.2, 0.2))), dtype="uint16")
    optics = Optics(na=0.5, emission_nm=520, immersion_index=1.0)
    write_recipe("recipe.json", Recipe(optics, METHOD, background=5.0, engine="cpu"))
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command: its code, and the last line that it says."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert "failed unexpectedly" not in err
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, err

    return call


def restoring(image: Path, *more: object, output: Path = OUT) -> list[object]:
    """Return the words that restore an image."""
    return ["restore", image, "-o", output, "--recipe", "recipe.json", *more]


def last_line(ended: tuple[int, str]) -> str:
    """Return the sentence of a run that failed."""
    code, said = ended
    assert code == 1, said
    assert said.count("napari-deconv: ") == 1
    return said.splitlines()[-1]


def recipe(**changes: Any) -> Recipe:
    """Return a recipe with a PSF that is quick and reaches little."""
    z, y, x = np.ogrid[-1:2, -2:3, -2:3]
    psf = Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 2))
    return Recipe(psf, METHOD, background=5.0, engine="cpu", **changes)


def steps_of(
    image: Path, memory_bytes: int = ROOM, output: Path = OUT, **changes: Any
) -> Generator[Any, None, Finished]:
    return restoring_file(image, output, recipe(**changes), memory_bytes=memory_bytes)


def ended_after_a_tile(run: Generator[Any, None, Finished]) -> None:
    while next(run).place is None:
        pass
    run.close()


def drained(run: Generator[Any, None, Finished]) -> Finished:
    try:
        while True:
            next(run)
    except StopIteration as end:
        value: Finished = end.value
        return value


def chunk_of(image: Path, time: int) -> Path:
    """Return the chunk file of a time point that is one file."""
    (file,) = (f for f in (image / "0" / "c" / str(time)).rglob("*") if f.is_file())
    return file


def kept() -> list[str]:
    """Return the tiles that are finished."""
    return sorted(file.stem for file in (WORK / "unfinished" / "done").glob("*.json"))


def voxel_files(folder: Path) -> dict[str, bytes]:
    files = (file for file in (folder / "0").rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# -- voxels that are damaged or missing -----------------------------------------------------


@pytest.mark.parametrize("damaged", [0, 1])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_damaged_chunk_is_named_and_what_was_finished_before_is_kept(
    run: Run, image: Path, damaged: int, damage: str
) -> None:
    chunk = chunk_of(image, damaged)
    body = chunk.read_bytes()
    chunk.write_bytes(body[: len(body) // 2] if damage == "cut" else bytes(reversed(body)))
    said = last_line(run(*restoring(image)))
    assert f"image.ome.zarr: the voxels t {damaged}, z 0-7" in said
    assert said.endswith("copy or export the file again")
    assert kept() == ["0-0"][:damaged]
    code, table = run("batch", image, "--recipe", "recipe.json", "-o", "restored")
    assert code == 1
    assert "1/1 failed   image.ome.zarr: TZYX 3 x 8 x 72 x 80, image.ome.zarr: the vo" in table
    assert not OUT.exists()


@pytest.mark.parametrize("memory", [ROOM, LITTLE])
def test_a_time_point_without_voxels_is_named(image: Path, memory: int) -> None:
    shutil.rmtree(image / "0" / "c" / "1")
    (note,) = drained(steps_of(image, memory)).record.notes
    assert note == (
        "Zero everywhere, while the rest of the image is not: t 1 (counted from 0); "
        "check whether voxels are missing in the file"
    )
    # As it is counted in the file.
    finished = drained(steps_of(image, memory, Path("b.ome.zarr"), times=(1, 2)))
    assert "is not: t 1 (counted" in finished.record.notes[0]


def test_a_part_that_is_dark_is_no_dark_image(image: Path) -> None:
    counts = np.zeros(SHAPE, np.uint16)
    counts[:, :, :5, :5] = 100
    write_stack(image, Stack(counts, "TZYX"), dtype="uint16", overwrite=True)
    finished = drained(steps_of(image, LITTLE))
    assert finished.record.blocks[0].tiles > 1
    assert not any("Zero everywhere" in note for note in finished.record.notes)


def test_an_image_without_any_voxels_is_named(run: Run, image: Path) -> None:
    shutil.rmtree(image / "0" / "c")
    code, said = run(*restoring(image))
    assert code == 0
    assert "Note        The image is zero everywhere: there is nothing to restore\n" in said


def test_many_dark_time_points_are_counted(image: Path) -> None:
    counts = np.zeros((14, 4, 8, 8), np.uint16)
    counts[5] = 7
    write_stack(image, Stack(counts, "TZYX"), dtype="uint16", overwrite=True)
    (note,) = drained(steps_of(image)).record.notes
    assert "t 0; t 1; t 2; t 3; t 4; t 6; t 7; t 8; t 9; t 10; 3 more (counted from 0)" in note


@pytest.mark.parametrize("damage", ["missing", "group", "unnamed"])
def test_a_level_that_is_not_there_is_named(run: Run, image: Path, damage: str) -> None:
    said = json.loads((image / "zarr.json").read_text())
    if damage == "unnamed":
        del said["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"]
        (image / "zarr.json").write_text(json.dumps(said))
    else:
        shutil.rmtree(image / "0")
    if damage == "group":
        (image / "0").mkdir()
        (image / "0" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    path = "" if damage == "unnamed" else "0"
    assert f"it says that there are voxels in '{path}', and no array is there; copy" in last_line(
        run(*restoring(image))
    )


# -- where the result goes ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif"])
@pytest.mark.parametrize(
    ("code", "sentence"),
    [(errno.ENOSPC, "is too full"), (errno.EROFS, "may not be written to; choose another")],
)
def test_a_disk_that_fails_on_the_way_keeps_what_was_finished(
    run: Run,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
    sentence: str,
) -> None:
    def refuse(file: Path, *_: object, **__: object) -> None:
        raise OSError(code, "refused")

    tiles = steps_of(image, output=Path(name))
    while next(tiles).place is None:
        pass
    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", refuse)
        with pytest.raises(InputError, match=sentence) as caught:
            drained(tiles)
    assert str(caught.value).endswith(
        "what is finished stays in out.unfinished.ome.zarr, and the same run goes on from there"
    )
    assert kept() == ["0-0"]
    gone_on = drained(steps_of(image, output=Path(name)))
    undisturbed = drained(steps_of(image, output=Path(f"undisturbed_{name}")))
    assert gone_on.record.blocks == undisturbed.record.blocks


def test_an_output_below_a_file_is_refused(run: Run, image: Path) -> None:
    below = Path("recipe.json") / "out.ome.zarr"
    assert "There is no folder" in last_line(run(*restoring(image, output=below)))
    code, said = run("batch", image, "--recipe", "recipe.json", "-o", below.parent)
    assert code == 1
    assert "recipe.json cannot be made" in said


def test_a_run_that_goes_on_needs_room_for_the_rest_alone(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = steps_of(image)
    places = 0
    while places < 2:
        places += next(run).place is not None
    run.close()
    rest = 4 * SHAPE[1] * SHAPE[2] * SHAPE[3]
    usage = type("Usage", (), {"free": rest + 2**20})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="is too full"):
        drained(steps_of(image, output=Path("other.ome.zarr")))
    assert drained(steps_of(image)).written.path == OUT


# -- a cluster that is none -----------------------------------------------------------------


@pytest.fixture(params=[b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of a program that lets anybody in, and says nothing or something else."""
    heard: list[socket.socket] = []

    def welcome() -> None:
        while True:
            try:
                heard.append(door.accept()[0])
            except OSError:
                return
            heard[-1].sendall(request.param)

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=welcome, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for heard_one in heard:
        heard_one.close()


def test_what_listens_but_is_no_scheduler_is_not_waited_for(
    run: Run, image: Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    started = time.monotonic()
    said = last_line(run(*restoring(image, "--scheduler", stranger)))
    assert f"No dask scheduler answers at {stranger} (" in said
    assert time.monotonic() - started < 5
    assert not WORK.exists()


@pytest.mark.parametrize("address", ["", "tcp://", "tcp://here", "http://a:1", "tcp://a:b"])
def test_an_address_that_is_none_is_told(run: Run, image: Path, address: str) -> None:
    pytest.importorskip("distributed")
    said = last_line(run(*restoring(image, "--scheduler", address)))
    assert f"No dask scheduler answers at {address} (" in said


# -- a run that goes on ---------------------------------------------------------------------


def begun_by_command(image: Path) -> None:
    """Leave what the command leaves that was ended after a tile."""
    run = restoring_file(image, OUT, read_recipe("recipe.json"), memory_bytes=2**30)
    ended_after_a_tile(run)
    assert kept() == ["0-0"]


def test_another_recipe_or_image_is_told_and_nothing_is_lost(run: Run, image: Path) -> None:
    begun_by_command(image)
    said = last_line(run(*restoring(image, "--iterations", 3)))
    assert "another recipe (method.iterations was 2 and is now 3)" in said
    chunk_of(image, 2).touch()
    said = last_line(run(*restoring(image)))
    assert "was begun with another input (modified was " in said
    assert kept() == ["0-0"]


@pytest.mark.parametrize("name", ["bead.ome.tif", "bead.ome.zarr"])
def test_another_content_of_the_psf_is_told_when_a_run_goes_on(
    run: Run, image: Path, name: str
) -> None:
    samples = np.zeros((3, 5, 5), np.float32)
    samples[1, 2, 2] = 1
    grid = Grid(spacing_um=(0.4, 0.2, 0.2))
    write_stack(name, Stack(samples, "ZYX", grid))
    write_recipe("recipe.json", Recipe(PsfFile.of(name), METHOD, background=5.0, engine="cpu"))
    begun_by_command(image)
    samples[1, 2, 3] = 1
    write_stack(name, Stack(samples, "ZYX", grid), overwrite=True)
    said = last_line(run(*restoring(image)))
    assert "was begun with another recipe (psf.sha256 was " in said
    shutil.rmtree(WORK)
    assert run(*restoring(image))[0] == 0
    made = read_provenance(OUT)
    assert made is not None
    assert made["recipe"]["psf"]["sha256"] == PsfFile.of(name).sha256
    assert made["record"]["notes"][0] == f"PSF: {name} has changed since the recipe was written"


def test_two_runs_at_once_are_told(run: Run, image: Path) -> None:
    other = steps_of(image)
    while next(other).place is None:
        pass
    said = last_line(run(*restoring(image)))
    assert "is being written by another run (this program); wait for it, stop it, or" in said
    assert drained(other).written.path == OUT


@pytest.mark.parametrize(
    "body", [b"", b"{", b"3", b"null", b"[1]", b"\xa0\xff", b'{"plan": 3}', b'{"plan": []}']
)
def test_a_damaged_identity_is_told(run: Run, image: Path, body: bytes) -> None:
    begun_by_command(image)
    (WORK / "unfinished" / "identity.json").write_bytes(body)
    said = last_line(run(*restoring(image)))
    assert "out.unfinished.ome.zarr is damaged (" in said or "was begun with another" in said
    assert f"delete the folder {WORK.absolute()} to begin anew" in said
    assert kept() == ["0-0"]
    assert not (WORK / "unfinished" / "lock").exists()


def test_a_folder_that_lost_its_array_is_damaged(run: Run, image: Path) -> None:
    begun_by_command(image)
    (WORK / "0" / "zarr.json").unlink()
    assert "is damaged (No array found" in last_line(run(*restoring(image)))


def test_a_damaged_mark_is_told_and_its_tile_restored_anew(run: Run, image: Path) -> None:
    begun_by_command(image)
    mark = WORK / "unfinished" / "done" / "0-0.json"
    mark.write_bytes(b"")
    assert "0-0.json is damaged; delete that file, and run again" in last_line(
        run(*restoring(image))
    )
    mark.unlink()
    assert run(*restoring(image))[0] == 0


def test_so_is_a_mark_that_is_damaged_while_the_run_goes_on(image: Path) -> None:
    for _ in range(2):
        ended_after_a_tile(steps_of(image))
    assert kept() == ["0-0", "1-0"]
    steps = steps_of(image)
    while not next(steps).note.endswith(FINISHED_BEFORE):  # all marks were looked at once
        pass
    (WORK / "unfinished" / "done" / "1-0.json").write_bytes(b"")
    with pytest.raises(InputError, match=r"1-0\.json is damaged; delete that file, and run again"):
        drained(steps)
    assert kept() == ["0-0", "1-0"]  # it is told before there is more work


def test_tiles_larger_than_the_memory_now_are_refused(run: Run, image: Path) -> None:
    begun_by_command(image)
    plan = json.loads((WORK / "unfinished" / "identity.json").read_text())["plan"]
    said = last_line(run(*restoring(image, "--memory", f"{plan['bytes'] - 1}B")))
    asked = said.partition("was begun with tiles of ")[2].partition(" GB")[0]
    assert "GB of memory may be used; give it that much memory, or delete its folder" in said
    assert kept() == ["0-0"]
    # The amount that it asks for suffices.
    assert run(*restoring(image, "--memory", f"{asked}GB"))[0] == 0


def test_so_are_tiles_larger_than_the_memory_of_the_workers(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_after_a_tile(steps_of(image))
    worker = connection.Means(extra_volumes=0.0, free_bytes=LITTLE)
    monkeypatch.setattr(cluster, "connected", lambda _: nullcontext())
    monkeypatch.setattr(cluster, "require_same_version", lambda _: None)
    monkeypatch.setattr(cluster, "means_of", lambda *_: {"tcp://b:2": worker})
    with pytest.raises(InputError, match=r"was begun with tiles of .* delete its folder"):
        drained(restoring_file(image, OUT, recipe(), scheduler="tcp://a:1"))
    assert kept() == ["0-0"]


def test_with_more_memory_a_run_goes_on_to_the_same_voxels(image: Path) -> None:
    whole_run = drained(steps_of(image, LITTLE, Path("whole.ome.zarr")))
    assert whole_run.record.blocks[0].tiles > 1
    ended_after_a_tile(steps_of(image, LITTLE))
    finished = drained(steps_of(image, ROOM))
    assert finished.record.blocks[0].tiles == whole_run.record.blocks[0].tiles
    assert voxel_files(OUT) == voxel_files(Path("whole.ome.zarr"))


@pytest.mark.parametrize("memory", [ROOM, LITTLE])
def test_a_run_that_goes_on_records_what_was_finished_before(image: Path, memory: int) -> None:
    undisturbed = drained(steps_of(image, memory, Path("undisturbed.ome.zarr")))
    ended_after_a_tile(steps_of(image, memory))
    gone_on = drained(steps_of(image, memory))
    assert gone_on.record.blocks == undisturbed.record.blocks
    assert len(gone_on.record.blocks[0].divergences) == METHOD.iterations


@pytest.mark.parametrize("record", [None, {}, {"pieces": 3}, {"pieces": [{"voxels": "many"}]}])
def test_marks_of_another_version_are_taken_up(image: Path, record: object) -> None:
    ended_after_a_tile(steps_of(image))
    mark = WORK / "unfinished" / "done" / "0-0.json"
    body = json.loads(mark.read_text())
    del body["record"]
    mark.write_text(json.dumps(body if record is None else {**body, "record": record}))
    finished = drained(steps_of(image))
    assert [block.iterations for block in finished.record.blocks] == [0, 2, 2]
    assert finished.record.blocks[0].stop_reason == FINISHED_BEFORE
    assert finished.record.notes == ()  # of which none says that it is dark


def test_a_dark_time_point_that_was_finished_before_is_named(image: Path) -> None:
    shutil.rmtree(image / "0" / "c" / "0")
    ended_after_a_tile(steps_of(image))
    (note,) = drained(steps_of(image)).record.notes
    assert "while the rest of the image is not: t 0 (counted from 0)" in note
