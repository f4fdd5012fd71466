"""The command line on several channels and times: each its PSF, and what is left out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv import cli
from napari_deconv.cli import terminal
from napari_deconv.cli.arguments import bytes_of, chosen_of
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import PsfFile, Recipe, read_recipe, write_recipe
from napari_deconv.files.script import as_command
from napari_deconv.files.work_folder import WorkFolder
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import restore_stack
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

GRID = Grid(spacing_um=(1.0, 0.2, 0.2))
#: An air objective of low aperture, whose PSF is small and quick to compute.
GREEN = Optics(na=0.5, emission_nm=520, immersion_index=1.0)
RED = replace(GREEN, emission_nm=610)
KNOWN = tuple(KnownOptics(0.5, 1.0, nm) for nm in (520.0, 610.0))

Run = Callable[..., tuple[int, str]]


def movie(optics: tuple[KnownOptics, ...] = KNOWN) -> Stack:
    """Return 2 times of 2 channels, every voxel another draw."""
    voxels = np.random.default_rng(3).poisson(40, (2, 2, 3, 12, 13)).astype(np.uint16)
    return Stack(voxels, "TCZYX", GRID, "movie", ("green", "red"), optics, 2.0)


def point(path: Path, width: int) -> Path:
    """Write the image of a bead, `width` voxels wide."""
    voxels = np.full((3, 7, 7), 10, np.uint16)
    voxels[1, 3, 3 - width // 2 : 4 + width // 2] = 900
    write_stack(path, Stack(voxels, "ZYX", GRID), dtype="uint16")
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a movie and two images of beads."""
    write_stack(tmp_path / "movie.ome.tif", movie(), dtype="uint16")
    point(tmp_path / "a.ome.tif", 1)
    point(tmp_path / "b.ome.tif", 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that restores the movie; it gives the exit code and what was said."""

    def call(*more: object, name: str = "movie.ome.tif") -> tuple[int, str]:
        usual = ["restore", name, "-o", "out.ome.tif", "--overwrite", "--save-recipe", "r.json"]
        quick = [] if "--recipe" in more else ["--iterations", "1", "--engine", "cpu"]
        monkeypatch.setattr(sys, "argv", ["napari-deconv", *usual, *quick, *map(str, more)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or 0, capfd.readouterr().err

    return call


# -- which channels and times ----------------------------------------------------------


def test_the_chosen_channels_and_times_are_restored_as_in_the_whole(run: Run) -> None:
    code, said = run("--channels", "1", "--times", "0:2")
    assert code == 0, said
    made = read_recipe("r.json")
    assert (made.channels, made.times, made.psf, made.channel_psfs) == ((1,), (0, 1), RED, ())
    whole = restore_stack(read_stack("movie.ome.tif"), replace(made, channels=(), times=()))
    assert whole.stack.shape == (2, 2, 3, 12, 13)
    assert "Iterations  block [1, 1]: stopped at" in said  # as counted in the movie
    # A channel that is alone is no axis of the file.
    written = read_stack("out.ome.tif")
    assert (written.axes, written.time_step_s) == ("TZYX", 2.0)
    np.testing.assert_array_equal(written.data, whole.stack.data[:, 1])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0,3,5", (0, 3, 5)),
        ("0:10", tuple(range(10))),
        ("0:10:2", (0, 2, 4, 6, 8)),
        ("8:", (8, 9, 10, 11)),
        (":", tuple(range(12))),
        ("::5", (0, 5, 10)),
        ("7, 2:4, 2", (2, 3, 7)),
    ],
)
def test_indices_may_be_listed_or_a_range(text: str, found: tuple[int, ...]) -> None:
    stack = Stack(np.zeros((12, 4, 4)), "TYX")
    assert chosen_of(stack, "T", text, "--times") == found
    assert chosen_of(stack, "T", None, "--times") is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--channels", "5"), "This stack has 2 channels, 0 and 1; 5 is not there"),
        (("--channels", "-1"), "This stack has 2 channels, 0 and 1; -1 is not there"),
        (("--times", "0:3"), "This stack has 2 times, 0 and 1; 2 is not there"),
        (("--times", "0:1000000000000000"), "999999999999999 is not there"),
        (("--times", "1:1"), "--times '1:1' chooses nothing; leave it out to restore all"),
        (("--times", "all"), "--times 'all' is not a list of whole numbers from 0 on, such as 0,"),
        (("--times", ""), "--times '' is not a list of whole numbers"),
        (("--times", "0:2:0"), "--times '0:2:0' is not a list of whole numbers"),
        (("--times", "0:1:1:1"), "--times '0:1:1:1' is not a list of whole numbers"),
        (("--channels", "0.5"), "--channels '0.5' is not a list of whole numbers"),
        (("--seam", "0"), "The tolerance of a seam, a part of the maximum, must be greater than"),
        (("--memory", "much"), "--memory 'much' is not an amount of memory such as 2GiB or 500MB"),
    ],
    ids=str,
)
def test_choices_that_make_no_sense_are_refused(
    run: Run, here: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, said = run(*words)
    assert code == 1
    assert sentence in said.splitlines()[-1]
    assert not (here / "out.ome.tif").exists()


def test_an_image_without_channels_has_none_to_choose(run: Run, here: Path) -> None:
    one = Stack(movie().data[0, 0], "ZYX", GRID, channel_optics=KNOWN[:1])
    write_stack(here / "one.ome.tif", one)
    code, said = run("--channels", "0", name="one.ome.tif")
    assert code == 1
    assert "This stack has no channels to choose from; choose none" in said


# -- which PSF -------------------------------------------------------------------------


def test_each_channel_has_the_optics_that_the_file_knows(run: Run) -> None:
    code, said = run()
    assert code == 0, said
    made = read_recipe("r.json")
    assert (made.psf, made.channel_psfs) == (GREEN, (GREEN, RED))
    for line in (
        "PSF         channel 0: widefield, NA 0.5, 520 nm, immersion 1, sample 1, depth 0 um",
        "PSF         channel 1: widefield, NA 0.5, 610 nm, immersion 1, sample 1, depth 0 um",
        "            from the file: na, immersion_index, emission_nm",
        "            assumed: depth_um, sample_index",
    ):
        assert line in said.splitlines()
    # Each channel is restored as it would be alone with its PSF.
    whole = read_stack("out.ome.tif").data
    for channel, optics in enumerate((GREEN, RED)):
        alone = Stack(movie().data[:, channel], "TZYX", GRID)
        expected = restore_stack(alone, Recipe(optics, RichardsonLucy(1), engine="cpu"))
        np.testing.assert_array_equal(whole[:, channel], expected.stack.data)


@pytest.mark.parametrize(
    ("words", "psfs"),
    [
        (("--emission-nm", "700"), [replace(GREEN, emission_nm=700)]),
        (("--emission-nm", "520,520"), [GREEN]),
        (("--emission-nm", "500,700"), [replace(GREEN, emission_nm=nm) for nm in (500, 700)]),
        (
            ("--excitation-nm", "488,561", "--microscope", "confocal"),
            [
                replace(GREEN, modality="confocal", excitation_nm=488),
                replace(RED, modality="confocal", excitation_nm=561),
            ],
        ),
        (("--depth-um", "2"), [replace(GREEN, depth_um=2), replace(RED, depth_um=2)]),
        (("--channels", "1"), [RED]),
        (
            ("--channels", "1", "--emission-nm", "500,700"),
            [replace(GREEN, emission_nm=500), replace(GREEN, emission_nm=700)],
        ),
        (("--channels", "1", "--emission-nm", "650"), [replace(GREEN, emission_nm=650)]),
    ],
    ids=str,
)
def test_what_is_typed_goes_before_what_the_file_knows(
    run: Run, words: tuple[str, ...], psfs: list[Optics]
) -> None:
    code, said = run(*words)
    assert code == 0, said
    made = read_recipe("r.json")
    assert made.psf == psfs[0]
    assert made.channel_psfs == (tuple(psfs) if len(psfs) > 1 else ())


def test_images_of_psfs_are_given_once_or_once_a_channel(run: Run) -> None:
    a, b = (PsfFile.of(f"{name}.ome.tif", background=10.0) for name in "ab")
    alike = ("--psf-background", "10")
    assert run("--psf", "a.ome.tif", *alike)[0] == 0
    assert (read_recipe("r.json").psf, read_recipe("r.json").channel_psfs) == (a, ())
    first = read_stack("out.ome.tif").data
    code, said = run("--psf", "a.ome.tif", "--psf", "b.ome.tif", *alike)
    assert code == 0, said
    assert "PSF         a.ome.tif, b.ome.tif" in said
    assert read_recipe("r.json").channel_psfs == (a, b)
    second = read_stack("out.ome.tif").data
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    assert not np.allclose(first[:, 1], second[:, 1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--psf", "a.ome.tif") * 3,
            "--psf has 3 entries, but the image has 2 channels; give one for all, or one a channel",
        ),
        (("--emission-nm", "500,600,700"), "--emission-nm has 3 entries, but the image has 2 chan"),
        (
            ("--emission-nm", "500,600,700", "--channels", "0"),
            "but the image has 2 channels and 1 of them restored; give one for all, or one a chan",
        ),
        (("--emission-nm", "green"), "--emission-nm 'green' is not a list of numbers such as 520"),
        (("--psf", "a.ome.tif", "--na", "0.5"), "Give either the PSF's image (--psf) or optics"),
    ],
    ids=str,
)
def test_a_wrong_number_of_psfs_is_told(run: Run, words: tuple[str, ...], sentence: str) -> None:
    code, said = run(*words)
    assert code == 1
    assert sentence in said.splitlines()[-1]


def test_a_channel_that_the_file_does_not_know_needs_its_wavelength(run: Run, here: Path) -> None:
    known = (KNOWN[0], KnownOptics(0.5, 1.0))
    write_stack(here / "half.ome.tif", movie(known), dtype="uint16")
    code, said = run(name="half.ome.tif")
    assert code == 1
    assert "A PSF of channel 1 is needed: give its image with --psf FILE, or the optics; " in said
    assert "--emission-nm missing" in said
    assert run("--channels", "0", name="half.ome.tif")[0] == 0


def test_one_wavelength_is_asked_for_where_there_is_one_channel(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = "psf -o p.ome.tif --voxel-size 1,0.2,0.2 --na 0.5 --emission-nm 500,600"
    monkeypatch.setattr(sys, "argv", ["napari-deconv", *words.split()])
    with pytest.raises(SystemExit):
        cli.main()
    assert "--emission-nm takes one wavelength here, not 2" in capfd.readouterr().err


def test_a_recipe_is_not_used_for_channels_that_it_was_not_made_for(run: Run) -> None:
    optics = (GREEN, RED)
    write_recipe("two.json", Recipe(GREEN, RichardsonLucy(1), engine="cpu", channel_psfs=optics))
    assert run("--recipe", "two.json", "--channels", "1")[0] == 0
    made = read_recipe("r.json")
    assert (made.channels, made.channel_psfs) == ((1,), optics)
    code, said = run("--recipe", "r.json", "--channels", ":")
    assert code == 1
    assert "The recipe is for channel 1 and may have no PSF of channel 0; give --psf or" in said
    code, said = run("--recipe", "r.json", "--channels", ":", "--na", "0.4")
    assert code == 0, said
    assert read_recipe("r.json").channel_psfs == tuple(replace(psf, na=0.4) for psf in optics)


# -- there and back --------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"channels": (0,), "times": (1,), "seam_tolerance": 0.02},
        {"channel_psfs": (replace(GREEN, sample_index=1.0), replace(RED, sample_index=1.0))},
        {"channel_psfs": (PsfFile("a.ome.tif"), PsfFile("b.ome.tif")), "times": (0, 1)},
        {"channel_psfs": (PsfFile("a.ome.tif", background=9.0), GREEN), "channels": (1,)},
    ],
    ids=str,
)
def test_a_recipe_comes_back_from_its_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    psfs = tuple(
        PsfFile.of(p.path, background=p.background) if isinstance(p, PsfFile) else p
        for p in changed.get("channel_psfs", ())
    )
    own = {
        **changed,
        "channel_psfs": psfs,
        "psf": psfs[0] if psfs else replace(GREEN, sample_index=1),
    }
    recipe = Recipe(**own, method=RichardsonLucy(1), background=3.0, engine="cpu")
    write_recipe("recipe.json", recipe)
    words = shlex.split(as_command(recipe, "movie.ome.tif", "again.ome.tif"))
    monkeypatch.setattr(sys, "argv", [*words, "--save-recipe", "back.json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert read_recipe("back.json") == recipe
    expected = restore_stack(read_stack("movie.ome.tif"), recipe).stack.data
    np.testing.assert_array_equal(read_stack("again.ome.tif").data, np.squeeze(expected))


# -- memory, progress, Ctrl-C ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("2GiB", 2 * 2**30),
        ("512MiB", 512 * 2**20),
        ("1.5GB", 1_500_000_000),
        (" 1 tb ", 10**12),
        (".5kib", 512),
        ("100B", 100),
    ],
)
def test_memory_is_an_amount_with_its_unit(text: str, nbytes: int) -> None:
    assert bytes_of(text) == nbytes


@pytest.mark.parametrize("text", ["", "2", "GiB", "-2GB", "2 apples", "nanGB", "1e3MB", "infGB"])
def test_memory_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not an amount of memory such as 2GiB or 500MB"):
        bytes_of(text)
    with pytest.raises(InputError, match="is no memory at all"):
        bytes_of("0GB")


def test_the_memory_that_may_be_taken_reaches_the_run(run: Run) -> None:
    code, said = run("--memory", "1kB")
    assert code == 1
    assert "memory" in said.splitlines()[-1]
    assert run("--memory", "2GB")[0] == 0


def test_the_time_left_is_told_by_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = terminal._Clock()
    assert clock.left(Step(0, 1, "preparing the PSF")) == ""
    now += 60
    assert clock.left(Step(40, 100, "finished before")) == ""
    now += 10
    assert clock.left(Step(60, 100)) == ", about 20 s left,"
    now += 10
    assert clock.left(Step(100, 100)) == ""


@pytest.mark.parametrize(
    ("kept", "words"), [(1, "1 finished tile is"), (3, "3 finished tiles are")]
)
def test_ctrl_c_says_what_is_kept(
    here: Path, capfd: pytest.CaptureFixture[str], kept: int, words: str
) -> None:
    output = here / "out.ome.zarr"
    marks = WorkFolder.of(output).marks.folder
    marks.mkdir(parents=True)
    for tile in range(kept):
        (marks / f"0-{tile}.json").write_text("{}")

    def stopped() -> Any:
        yield Step(1, 4, "tile 2 of 4")
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        terminal.run(stopped(), output)
    assert ended.value.code == 130
    said = capfd.readouterr().err
    assert "Progress    1/4 tile 2 of 4" in said
    assert f"Stopped; {words} kept in out.unfinished.ome.zarr, and the same command goes" in said
