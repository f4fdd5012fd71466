"""Batches: which files there are, what is done already, and what becomes of those that fail."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv import batch
from napari_deconv.batch import examining, running
from napari_deconv.file_jobs import COLUMNS, FileJob, jobs_of, stopped, write_summary
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.files.recipe import PsfFile, Recipe, TrainedModel
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import restore_stack
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.volumes import restoring_file
from tests.ome_sets import image_in_two_files

GRID = Grid(spacing_um=(0.4, 0.15, 0.15))
OPTICS = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
RECIPE = Recipe(OPTICS, RichardsonLucy(3), background=5.0, engine="cpu")


def image(path: Path, shape: tuple[int, ...] = (4, 16, 14), axes: str = "ZYX") -> Path:
    """Write a small noisy image; another name, other noise."""
    rng = np.random.default_rng(sum(path.name.encode()))
    data = rng.poisson(20, shape).astype(np.uint16)
    grid = GRID if "Z" in axes else Grid(spacing_um=GRID.spacing_um[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_stack(path, Stack(data, axes, grid), dtype="uint16")
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a folder of two images, and a damaged one between them."""
    folder = tmp_path / "raw"
    image(folder / "cell 2.ome.tif")
    image(folder / "cell 10.ome.tif", (3, 12, 18))
    (folder / "cell 3.ome.tif").write_bytes(b"II*\0no image at all")
    return folder


def ended(
    run: Generator[batch.Event, None, tuple[FileJob, ...]],
) -> tuple[tuple[FileJob, ...], list[batch.Event]]:
    events = []
    try:
        while True:
            events.append(next(run))
    except StopIteration as end:
        return end.value, events


def states(jobs: tuple[FileJob, ...]) -> list[str]:
    return [job.state for job in jobs]


# -- which files there are -----------------------------------------------------------------


def test_images_are_found_and_sorted_as_people_count(raw: Path, tmp_path: Path) -> None:
    image(raw / "cell 1.ome.zarr")
    for name in (".hidden.tif", "notes.txt", "cell 4.czi"):
        (raw / name).touch()
    (raw / "cell 2_restored.unfinished.ome.zarr").mkdir()
    (raw / "sub").mkdir()
    jobs = jobs_of(raw, tmp_path / "out")
    names = [Path(job.source).name for job in jobs]
    assert names == ["cell 1.ome.zarr", "cell 2.ome.tif", "cell 3.ome.tif", "cell 10.ome.tif"]
    assert Path(jobs[0].output) == tmp_path / "out" / "cell 1_restored.ome.tif"
    assert {job.state for job in jobs} == {"waiting"}
    zarr = jobs_of(raw / "cell 1.ome.zarr", tmp_path / "out", suffix=".ome.zarr")
    assert [Path(job.output).name for job in zarr] == ["cell 1_restored.ome.zarr"]
    only = jobs_of(raw, tmp_path, pattern="cell ?.ome.tif")
    assert [Path(job.source).name for job in only] == names[1:3]


def test_folders_inside_keep_their_names(tmp_path: Path) -> None:
    for name in ("day 1/cell.tif", "day 2/cell.tif", "day 10/cell.tif", "store.ome.zarr/in.tif"):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "raw" / ".trash").mkdir()
    (tmp_path / "raw" / ".trash" / "old.tif").touch()
    out = tmp_path / "out"
    wanted = [out / f"day {day}" / "cell_restored.ome.tif" for day in (1, 2, 10)]
    found = jobs_of(tmp_path / "raw", out, recursive=True, pattern="*.tif")
    assert [Path(job.output) for job in found] == wanted
    by_pattern = jobs_of(str(tmp_path / "raw" / "**" / "*.tif"), out)
    assert by_pattern == found


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    raw, other = tmp_path / "raw", tmp_path / "other"
    for path in (raw / "day 2" / "cell.tif", other / "deep" / "cell.tif"):
        path.parent.mkdir(parents=True)
        path.touch()
    (raw / "day 1").symlink_to("day 2")  # before the folder it leads to
    (raw / "day 3").symlink_to(other)
    (raw / "day 4").symlink_to(other)
    (other / "back").symlink_to(raw)
    (other / "up").symlink_to(other)
    jobs = jobs_of(raw, tmp_path / "out", recursive=True)
    found = [Path(job.source).relative_to(raw).as_posix() for job in jobs]
    assert found == ["day 2/cell.tif", "day 3/deep/cell.tif"]


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    path = image(tmp_path / "[x] day" / "cell [3].ome.tif")
    for source in (path, path.parent, path.with_name("*.tif")):
        assert [job.source for job in jobs_of(source, tmp_path / "out")] == [str(path)]


def test_outputs_are_no_images_to_restore(raw: Path) -> None:
    image(raw / "cell 2_restored.ome.tif")
    image(raw / "sub" / "cell 7_restored.ome.tif")
    assert len(jobs_of(raw, raw)) == 3
    assert len(jobs_of(raw, raw, recursive=True)) == 3
    # Where nothing is written, the name alone says nothing; what the file says does.
    assert len(jobs_of(raw, raw / "out")) == 4
    done = read_stack(raw / "cell 2_restored.ome.tif")
    write_stack(raw / "cell 2_restored.ome.tif", done, recipe={"kind": "Recipe"}, overwrite=True)
    assert len(jobs_of(raw, raw / "out")) == 3


@pytest.mark.parametrize(
    ("names", "sources", "sentence"),
    [
        (["a.tif", "a.ome.tif"], "", "would both be written to .*a_restored.ome.tif; rename"),
        (["one/a.tif", "two/A.tif"], ["one", "two"], "would both be written"),
        (["notes.txt"], "", "No image lies in the folder"),
        (["a.tif"], "b*.tif", r"No image matches .*b\*.tif"),
        (["a.tif"], ["a.tif", "missing.tif"], "No image matches .*missing.tif"),
        (["out/a_restored.tif"], "out", "are outputs of a batch"),
    ],
)
def test_what_cannot_be_listed_is_told(
    tmp_path: Path, names: list[str], sources: str | list[str], sentence: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    several = [sources] if isinstance(sources, str) else sources
    with pytest.raises(InputError, match=sentence):
        jobs_of([tmp_path / source for source in several], tmp_path / "out")


def test_an_image_that_is_named_twice_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / "raw" / "cell.ome.tif")
    (tmp_path / "link").symlink_to("raw")
    monkeypatch.chdir(tmp_path)
    named: list[str | Path] = [
        "raw",
        "raw/cell.ome.tif",
        tmp_path / "raw",
        "raw/../raw",
        "link/*.tif",
    ]
    assert [job.source for job in jobs_of(named, "out")] == [str(Path("raw/cell.ome.tif"))]


def test_letters_that_any_disk_tells_apart_are_two_outputs(tmp_path: Path) -> None:
    for name in ("straße.tif", "strasse.tif"):
        (tmp_path / name).touch()
    assert len(jobs_of(tmp_path, tmp_path / "out")) == 2


def test_an_unknown_suffix_is_told(raw: Path) -> None:
    with pytest.raises(InputError, match=r"'\.png' does not say"):
        jobs_of(raw, raw, suffix=".png")


# -- restoring them ------------------------------------------------------------------------


def test_a_batch_goes_on_where_a_file_fails_and_skips_what_is_done(
    raw: Path, tmp_path: Path
) -> None:
    jobs = jobs_of(raw, tmp_path / "out" / "deep")
    done, events = ended(running(jobs, RECIPE))
    assert states(done) == ["done", "failed", "done"]
    assert "cell 3.ome.tif" in done[1].message
    assert [job.shape for job in done] == [(4, 16, 14), (), (3, 12, 18)]
    assert done[0].iterations == 3
    assert done[0].engine.startswith("cpu")
    assert [event for event in events if event[2] is None] == [
        (index, job, None) for index, job in enumerate(done)
    ]
    assert {job.state for _, job, step in events if step is not None} == {"running"}
    for job in (done[0], done[2]):
        alone = restore_stack(read_stack(job.source), RECIPE)
        np.testing.assert_array_equal(read_stack(job.output).data, alone.stack.data)

    before = [Path(job.output).stat().st_mtime_ns for job in (done[0], done[2])]
    again, _ = ended(running(jobs, RECIPE))
    assert states(again) == ["skipped", "failed", "skipped"]
    assert again[0].message == f"done already; {done[0].message}"
    for now, then in ((again[0], done[0]), (again[2], done[2])):  # as the output remembers it
        assert (now.engine, now.iterations) == (then.engine, then.iterations)
        assert now.seconds is not None
    assert [Path(job.output).stat().st_mtime_ns for job in (done[0], done[2])] == before


def test_looking_does_nothing(raw: Path, tmp_path: Path) -> None:
    jobs = jobs_of(raw, tmp_path / "out")
    seen, events = ended(examining(jobs, RECIPE))
    assert states(seen) == ["waiting", "failed", "waiting"]
    assert [index for index, _, _ in events] == [0, 1, 2]
    assert not (tmp_path / "out").exists()
    without_recipe, _ = ended(examining(jobs))
    assert states(without_recipe) == states(seen)


def test_looking_tells_of_a_file_that_the_recipe_needs_and_is_gone(
    raw: Path, tmp_path: Path
) -> None:
    jobs = jobs_of(raw / "cell 2.ome.tif", tmp_path / "out")
    for recipe in (
        replace(RECIPE, psf=PsfFile("gone.tif")),
        replace(RECIPE, channel_psfs=(PsfFile("gone.tif"),)),
        replace(RECIPE, method=TrainedModel("gone.tif")),
    ):
        (seen,), _ = ended(examining(jobs, recipe))
        assert seen.state == "failed"
        assert seen.message.startswith("The recipe needs the file gone.tif, which is not there")
    spare = replace(RECIPE, psf=PsfFile("gone.tif"), channel_psfs=(OPTICS,))
    assert states(ended(examining(jobs, spare))[0]) == ["waiting"]
    # What is done already needs it no more.
    samples = np.zeros((3, 5, 5), np.float32)
    samples[1, 2, 2] = 1
    bead = write_stack(tmp_path / "bead.tif", Stack(samples, "ZYX", GRID)).path
    recipe = replace(RECIPE, psf=PsfFile.of(bead, background=0.0))
    assert states(ended(running(jobs, recipe))[0]) == ["done"]
    bead.unlink()
    assert states(ended(examining(jobs, recipe))[0]) == ["skipped"]


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_looking_tells_whether_a_run_that_was_begun_would_go_on(
    tmp_path: Path, suffix: str
) -> None:
    source = image(tmp_path / "cell.ome.tif")
    jobs = jobs_of(source, tmp_path, suffix=".ome.zarr")
    begun = restoring_file(source, Path(jobs[0].output), RECIPE)
    while next(begun).place is None:
        pass
    begun.close()
    jobs = jobs_of(source, tmp_path, suffix=suffix)  # both have one work folder
    (seen,), _ = ended(examining(jobs, RECIPE))
    assert (seen.state, seen.message) == ("waiting", "begun; goes on where it ended")
    for overwrite in (False, True):
        other = replace(RECIPE, background=6.0)
        (seen,), _ = ended(examining(jobs, other, overwrite=overwrite))
        assert seen.state == "failed"
        assert "was begun with another recipe (background was 5.0 and is now 6.0)" in seen.message
    os.utime(source, ns=(1, 1))
    (seen,), _ = ended(examining(jobs, RECIPE))
    assert "was begun with another input (modified was" in seen.message


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("recipe", "was made with another recipe"),
        ("time", "from one that has changed since"),
        ("image", "was made from another image"),
        ("dtype", "is stored as float32"),
        ("stranger", "was not made with a recipe"),
    ],
)
def test_an_output_that_was_made_otherwise_is_replaced_on_wish_only(
    tmp_path: Path, change: str, sentence: str
) -> None:
    source = image(tmp_path / "cell.ome.tif")
    jobs = jobs_of(source, tmp_path)
    (done,), _ = ended(running(jobs, RECIPE))
    assert done.state == "done"
    output, recipe, dtype = Path(done.output), RECIPE, "float32"
    if change == "recipe":
        recipe = replace(RECIPE, background=6.0)
    elif change == "time":
        os.utime(source, ns=(1, 1))
    elif change == "image":
        source.unlink()
        image(source, (4, 16, 18))
    elif change == "dtype":
        dtype = "uint16"
    else:
        output.unlink()
        image(output)
    before = output.read_bytes()
    (refused,), _ = ended(running(jobs, recipe, dtype=dtype))
    assert refused.state == "failed"
    assert sentence in refused.message
    assert output.read_bytes() == before
    (replaced,), _ = ended(running(jobs, recipe, dtype=dtype, overwrite=True))
    assert replaced.state == "done"
    assert output.read_bytes() != before
    (last,), _ = ended(running(jobs, recipe, dtype=dtype, overwrite=True))
    assert last.state == "skipped"


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_damaged_output_is_replaced_on_wish_only(tmp_path: Path, suffix: str) -> None:
    jobs = jobs_of(image(tmp_path / "cell.ome.tif"), tmp_path / "out", suffix=suffix)
    assert states(ended(running(jobs, RECIPE))[0]) == ["done"]
    output = Path(jobs[0].output)
    if suffix == ".ome.tif":
        output.write_bytes(output.read_bytes()[: output.stat().st_size // 3])
    else:
        (output / "zarr.json").unlink()
    (refused,), _ = ended(running(jobs, RECIPE))
    assert refused.state == "failed"
    assert refused.message == (
        f"{output.name} exists already and cannot be read, it is damaged or not complete; choose "
        "another folder, or allow outputs to be overwritten"
    )
    assert states(ended(running(jobs, RECIPE, overwrite=True))[0]) == ["done"]
    assert states(ended(running(jobs, RECIPE))[0]) == ["skipped"]


@pytest.mark.parametrize("name", ["bead.ome.tif", "bead.ome.zarr"])
def test_another_content_of_the_psf_is_another_recipe(tmp_path: Path, name: str) -> None:
    jobs = jobs_of(image(tmp_path / "cell.ome.tif"), tmp_path / "out")
    bead = tmp_path / name
    samples = np.zeros((3, 5, 5), np.float32)
    samples[1, 2, 2] = 1
    write_stack(bead, Stack(samples, "ZYX", GRID))
    recipe = replace(RECIPE, psf=PsfFile(str(bead), background=0.0))
    assert states(ended(running(jobs, recipe))[0]) == ["done"]
    assert states(ended(running(jobs, recipe))[0]) == ["skipped"]
    old = PsfFile.of(bead, background=0.0)
    samples[1, 2, 3] = 1
    write_stack(bead, Stack(samples, "ZYX", GRID), overwrite=True)
    (job,), _ = ended(running(jobs, recipe))
    assert "another recipe" in job.message
    # A recipe that was written for the old content: the new one counts, and that is said.
    (job,), _ = ended(running(jobs, replace(recipe, psf=old), overwrite=True))
    assert job.message.startswith(f"PSF: {name} has changed since the recipe was written")
    made = read_provenance(job.output)
    assert made is not None
    assert made["recipe"]["psf"]["sha256"] == PsfFile.of(bead).sha256 != old.sha256
    assert states(ended(running(jobs, recipe))[0]) == ["skipped"]


def test_channels_that_do_not_fit_the_recipe_fail_in_words(tmp_path: Path) -> None:
    image(tmp_path / "a.ome.tif", (2, 3, 12, 14), "CZYX")
    image(tmp_path / "b.ome.tif", (3, 3, 12, 14), "CZYX")
    recipe = replace(RECIPE, channel_psfs=(OPTICS, replace(OPTICS, emission_nm=610.0)))
    seen, _ = ended(examining(jobs_of(tmp_path, tmp_path), recipe))
    assert states(seen) == ["waiting", "failed"]
    assert seen[1].message.startswith("It has 3 channels, the recipe 2 PSFs")


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_name_that_is_too_long_is_told(tmp_path: Path, suffix: str) -> None:
    image(tmp_path / "a.ome.tif").rename(tmp_path / f"{'é' * 120}.ome.tif")
    image(tmp_path / f"{'z' * 213}.ome.tif")
    jobs = jobs_of(tmp_path, tmp_path / "out", suffix=suffix)
    done, _ = ended(running(jobs, RECIPE))
    failed, fine = sorted(done, key=lambda job: job.state, reverse=True)
    assert (failed.state, fine.state) == ("failed", "done")
    assert failed.message.startswith("The name of the output, ééééé")
    nbytes = 240 + len(f"_restored{suffix}")
    assert f"is too long: it has {nbytes} bytes, and may have 231; give it" in failed.message


def test_a_voxel_size_that_is_unknown_is_asked_for_where_it_can_be_given(tmp_path: Path) -> None:
    write_stack(tmp_path / "a.ome.tif", Stack(np.full((3, 9, 9), 20, np.uint16), "ZYX"))
    (job,), _ = ended(running(jobs_of(tmp_path, tmp_path / "out"), RECIPE))
    assert job.state == "failed"
    assert "--voxel-size of the command for one image" in job.message
    assert "or write it into the file" in job.message


def test_an_image_in_several_files_is_restored_once(tmp_path: Path) -> None:
    times = [np.random.default_rng(n).poisson(20, (3, 8, 9)).astype(np.uint16) for n in (0, 1)]
    first, second = image_in_two_files(
        (tmp_path / "t1.ome.tif", tmp_path / "t2.ome.tif"),
        "T",
        times,
        'PhysicalSizeX="0.15" PhysicalSizeY="0.15" PhysicalSizeZ="0.4"',
    )
    jobs = jobs_of(tmp_path, tmp_path / "out")
    assert [job.source for job in jobs] == [str(first)]
    told = "t1.ome.tif and t2.ome.tif are one image, which is read as a whole"
    assert ended(examining(jobs, RECIPE))[0][0].message == told
    (done,), _ = ended(running(jobs, RECIPE))
    assert (done.state, done.axes) == ("done", "TZYX")
    assert told in done.message
    assert states(ended(running(jobs, RECIPE))[0]) == ["skipped"]
    os.utime(second, ns=(1, 10**19))
    (refused,), _ = ended(running(jobs, RECIPE))
    assert "or from one that has changed since" in refused.message
    # The second alone stands for both as well.
    assert [job.source for job in jobs_of(second, tmp_path / "out")] == [str(second)]


def test_other_axes_than_the_first_are_told(tmp_path: Path) -> None:
    image(tmp_path / "a.ome.tif")
    image(tmp_path / "b.ome.tif", (2, 4, 12, 14), "TZYX")
    done, _ = ended(running(jobs_of(tmp_path, tmp_path), RECIPE))
    assert states(done) == ["done", "done"]
    assert "its axes are TZYX, those of the first file ZYX" in done[1].message
    assert "axes" not in done[0].message


def broken(*_: object, **__: object) -> Generator[Step, None, Any]:
    yield Step(0, 2)
    raise RuntimeError("the device is lost\nand more")


def test_an_unexpected_error_is_told_and_the_next_file_follows(raw: Path, tmp_path: Path) -> None:
    done, _ = ended(running(jobs_of(raw, tmp_path / "out"), RECIPE, restoring_file=broken))
    assert states(done) == ["failed"] * 3
    wanted = "This failed unexpectedly (RuntimeError: the device is lost)"
    assert (done[0].message, done[2].message) == (wanted, wanted)


def test_stopping_lets_go_and_the_file_waits_again(raw: Path, tmp_path: Path) -> None:
    closed = []

    def endless(*_: object, **__: object) -> Generator[Step, None, Any]:
        try:
            while True:
                yield Step(1, 9)
        finally:
            closed.append(True)

    summary = tmp_path / "summary.json"
    jobs = list(jobs_of(raw, tmp_path / "out"))
    run = running(jobs, RECIPE, restoring_file=endless, summary=summary)
    for _ in range(5):
        index, jobs[index], _step = next(run)
    run.close()
    assert closed == [True]
    assert [job.state for job in jobs] == ["running", "waiting", "waiting"]
    assert states(stopped(jobs)) == ["waiting"] * 3
    assert "go on" in stopped(jobs)[0].message
    assert [row["state"] for row in json.loads(summary.read_text())] == ["waiting"] * 3


# -- the summary ---------------------------------------------------------------------------


def test_the_summary_grows_with_each_file(raw: Path, tmp_path: Path) -> None:
    summary = tmp_path / "out" / "summary.csv"
    jobs, seen = jobs_of(raw, tmp_path / "out"), []
    for _, _, step in running(jobs, RECIPE, summary=summary):
        if step is None:
            with summary.open(encoding="utf-8", newline="") as file:
                seen.append([row["state"] for row in csv.DictReader(file)])
    assert seen[0] == ["done", "waiting", "waiting"]
    assert seen[2] == ["done", "failed", "done"]
    with summary.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["shape"], rows[0]["iterations"]) == ("4 x 16 x 14", "3")
    assert float(rows[0]["seconds"]) > 0
    assert rows[1]["message"]
    made = read_provenance(rows[0]["output"])
    assert made is not None
    assert Recipe.from_dict(made["recipe"]) == RECIPE


@pytest.mark.parametrize("name", ["summary.csv", "summary.json"])
def test_a_name_that_is_not_utf_8_is_told_by_its_bytes(tmp_path: Path, name: str) -> None:
    odd = FileJob("caf\udce9.ome.tif", "caf\udce9_restored.ome.tif")
    for _ in range(2):  # the second replaces the first
        write_summary(tmp_path / name, [odd])
    assert "caf\\udce9.ome.tif" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["mine.csv", "mine.json", "summary.txt", "none/no/s.csv"])
def test_a_summary_that_cannot_be_written_is_told_before_anything_is_done(
    raw: Path, tmp_path: Path, name: str
) -> None:
    for mine in ("mine.csv", "mine.json"):
        (tmp_path / mine).write_text("[my, own, table]")
    (tmp_path / "none").touch()
    run = running(jobs_of(raw, tmp_path / "out"), RECIPE, summary=tmp_path / name)
    with pytest.raises(InputError, match=r"no earlier summary|must end in|cannot be made"):
        next(run)
    assert not (tmp_path / "out").exists()


def test_an_unknown_type_is_told_at_once(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'int8' is not written"):
        next(running(jobs_of(raw, tmp_path / "out"), RECIPE, dtype="int8"))
