"""The verbs `train` and `predict`: a model from a PSF, and a result from a model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_deconv import cli, recordings
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.files.recipe import Recipe, TrainedModel
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.learned import trainer, training
from napari_deconv.learned.model_file import read_card
from napari_deconv.learned.trainer import Schedule
from napari_deconv.pipeline import restore_stack

Run = Callable[..., tuple[int, str]]
#: Its PSF is small, so that a test takes no longer than it must.
OPTICS = ("--na", "0.8", "--emission-nm", "520", "--immersion-index", "1.0", "--model", "gaussian")
SHORT = Schedule(pairs=2, left_out=1, shape=(4, 24, 24), patch=(4, 16, 16), batch=1, steps=20)
SPACING = (0.6, 0.2, 0.2)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command beside a stack: its code and words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(training.PRESETS, "quick", SHORT)
    monkeypatch.setattr(recordings, "HALVES", 2)
    data = np.random.default_rng(0).poisson(20, (5, 40, 44)).astype(np.uint16)
    data[2, 20, 20] = 400
    write_stack("cell.ome.tif", Stack(data, "ZYX", Grid(spacing_um=SPACING)), dtype="uint16")

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, capfd.readouterr().err

    return call


@pytest.fixture
def model(run: Run) -> Path:
    words = ("train", "-o", "m.safetensors", "--like", "cell.ome.tif", *OPTICS, "--engine", "cpu")
    code, said = run(*words)
    assert code == 0, said
    return Path("m.safetensors")


def test_a_model_is_trained_for_a_stack(model: Path) -> None:
    card = read_card(model)
    assert (card.name, card.spacing_um, card.steps) == ("m", SPACING, 3)
    low, high = card.light.photons
    assert high == pytest.approx(16 * low)
    level = sum(card.light.background) / 2
    assert level == pytest.approx(20, abs=3)


def test_a_model_restores_a_stack_with_its_own_psf(model: Path, run: Run) -> None:
    words = ("predict", "cell.ome.tif", "--model", model, "-o", "out.ome.tif", "--engine", "cpu")
    code, said = run(*words)
    assert code == 0, said
    assert "one pass of the network 'm'" in said
    kept = read_provenance("out.ome.tif")
    assert kept is not None
    recipe = Recipe.from_dict(kept["recipe"])
    assert isinstance(recipe.method, TrainedModel)
    assert recipe.method == TrainedModel.of(model)
    again = restore_stack(read_stack("cell.ome.tif"), recipe)
    assert np.array_equal(read_stack("out.ome.tif").data, again.stack.data)


def test_a_recipe_repeats_it_and_notices_another_model(model: Path, run: Run) -> None:
    run("predict", "cell.ome.tif", "--model", model, "-o", "out.ome.tif", "--engine", "cpu")
    code, said = run("restore", "cell.ome.tif", "--recipe", "out.ome.tif", "-o", "again.ome.tif")
    assert code == 0, said
    first, again = (read_stack(name).data for name in ("out.ome.tif", "again.ome.tif"))
    assert np.array_equal(first, again)
    model.write_bytes(model.read_bytes() + b" ")
    code, said = run("restore", "cell.ome.tif", "--recipe", "out.ome.tif", "-o", "third.ome.tif")
    assert code == 1
    assert "m.safetensors" in said
    assert not Path("third.ome.tif").exists()


def test_what_lies_outside_the_training_is_told(model: Path, run: Run) -> None:
    bright = np.random.default_rng(0).poisson(90_000, (5, 40, 44)).astype(np.float32)
    write_stack("bright.ome.tif", Stack(bright, "ZYX", Grid(spacing_um=SPACING)))
    words = ("predict", "bright.ome.tif", "--model", model, "-o", "out.ome.tif", "--background")
    _, said = run(*words, "0", "--engine", "cpu")
    assert "outside its training: a brightness of " in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-o", "m.safetensors", *OPTICS), "The voxel size to train for is unknown; give --voxel"),
        (("-o", "m.pt", *OPTICS), "m.pt does not end in .safetensors, as the file of a model does"),
        (("-o", "no/m.safetensors", *OPTICS), "There is no folder no; create it, or choose an"),
        (
            ("-o", "m.safetensors", "--checkpoint", "state.bin"),
            "state.bin does not end in .safetensors, as a checkpoint does",
        ),
        (
            ("-o", "m.safetensors", "--checkpoint", "no/c.safetensors"),
            "There is no folder no; create it, or choose another",
        ),
        (
            ("-o", "m.safetensors", "--checkpoint", "./m.safetensors"),
            "The model and the state on the way would both be kept in m.safetensors; give",
        ),
        (
            ("-o", "2.m.safetensors", "--checkpoint", "m.safetensors", "--members", "2"),
            "The model and the state on the way would both be kept in 2.m.safetensors; give",
        ),
        (("-o", "m.safetensors", "--preset", "slow"), "The preset 'slow' is not known; choose"),
        (
            ("-o", "m.safetensors", "--like", "cell.ome.tif", *OPTICS, "--photons", "9,3"),
            "The range of the photons must be two numbers from 0.001 on, the lower one first",
        ),
        (
            ("-o", "m.safetensors", "--like", "cell.ome.tif", *OPTICS, "--structures", "trees"),
            "The structure 'trees' is not known; choose of shells,",
        ),
        (("-o", "m.safetensors", "--like", "cell.ome.tif"), "--na and --emission-nm missing"),
        (
            ("-o", "m.safetensors", "--raw", "raw"),
            "need two folders: --raw and --truth, or --raw and --again",
        ),
        (("-o", "m.safetensors", "--raw", "raw", "--truth", "."), "There is no folder raw"),
        (
            ("-o", "m.safetensors", "--like", "cell.ome.tif", *OPTICS, "--network", "resnet"),
            "The network 'resnet' is not known; choose one of inverse, care",
        ),
        (
            ("-o", "m.safetensors", "--like", "cell.ome.tif", *OPTICS, "--gain", "0"),
            "The gain in counts a photon must be",
        ),
    ],
)
def test_what_cannot_be_trained_is_told(run: Run, words: tuple[str, ...], sentence: str) -> None:
    code, said = run("train", *words)
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said
    assert sorted(path.name for path in Path().iterdir()) == ["cell.ome.tif"]


def test_a_model_is_not_replaced_unasked(model: Path, run: Run) -> None:
    before = model.read_bytes()
    words = ("train", "-o", model, "--like", "cell.ome.tif", *OPTICS)
    code, said = run(*words)
    assert (code, model.read_bytes()) == (1, before)
    assert "m.safetensors exists already; choose another name, or give --overwrite" in said


def recorded(folder: Path, *shapes: tuple[int, int, int], scale: float = 1.0) -> None:
    """Write stacks of squares into a folder."""
    folder.mkdir()
    for number, shape in enumerate(shapes):
        rng = np.random.default_rng(number)
        light = np.full(shape, 5.0)
        light[1:3, 5:15, 5 + number : 15 + number] = 100
        counts = rng.poisson(light * scale).astype(np.uint16)
        write_stack(folder / f"{number}.ome.tif", Stack(counts, "ZYX", Grid(SPACING)))


@pytest.mark.parametrize("network", ["inverse", "care"])
def test_a_network_learns_from_recorded_pairs(run: Run, network: str) -> None:
    """Of any sizes, the truth in units of its own."""
    shapes = ((5, 30, 33), (4, 28, 40), (6, 26, 26))
    recorded(Path("raw"), *shapes)
    recorded(Path("truth"), *shapes, scale=7)
    words = ("--raw", "raw", "--truth", "truth", "--network", network, *OPTICS)
    code, said = run("train", "-o", "m.safetensors", *words, "--engine", "cpu")
    assert code == 0, said
    assert "Pairs       3, recorded" in said
    assert read_card("m.safetensors").spacing_um == SPACING
    code, said = run("predict", "raw/0.ome.tif", "--model", "m.safetensors", "-o", "out.ome.tif")
    assert code == 0, said
    assert read_stack("out.ome.tif").data.shape == shapes[0]


@pytest.mark.parametrize(("second", "told"), [("truth", "Pairs   "), ("again", "Recordings")])
def test_each_volume_of_a_file_is_a_pair(run: Run, second: str, told: str) -> None:
    for seed, folder in enumerate(("raw", second)):
        Path(folder).mkdir()
        data = np.random.default_rng(seed).poisson(20, (2, 3, 5, 30, 33))
        data[..., 2, 10:20, 10:20] += 100
        stack = Stack(data.astype(np.uint16), "TCZYX", Grid(spacing_um=SPACING))
        write_stack(f"{folder}/a.ome.tif", stack, dtype="uint16")
    words = ("train", "--raw", "raw", f"--{second}", second, *OPTICS, "--engine", "cpu")
    code, said = run(*words, "-o", "m.safetensors")
    assert code == 0, said
    assert [line.split()[1] for line in said.splitlines() if line.startswith(told)] == ["6,"]


def test_pairs_that_are_none_are_told(run: Run) -> None:
    words = ("train", "-o", "m.safetensors", "--raw", "raw", "--truth", "truth", *OPTICS)
    recorded(Path("raw"), (5, 30, 33))
    Path("truth").mkdir()
    assert "No file of raw has the name of one of truth" in run(*words)[1]
    Path("truth").rmdir()
    recorded(Path("truth"), (5, 30, 33), scale=2)
    code, said = run(*words)
    assert code == 1
    assert "One pair is not enough" in said
    for folder in ("raw", "truth"):
        flat = np.full((5, 30, 33), 9, np.uint16)
        write_stack(Path(folder) / "1.ome.tif", Stack(flat, "ZYX", Grid(SPACING)))
    assert "1.ome.tif: A pair is constant, or darker than its background" in run(*words)[1]
    Path("truth/1.ome.tif").unlink()
    write_stack("truth/1.ome.tif", Stack(np.ones((5, 30, 34), np.uint16), "ZYX", Grid(SPACING)))
    said = run(*words)[1]
    assert "1.ome.tif: A pair must be of one shape, not (5, 30, 33) and (5, 30, 34)" in said
    assert not Path("m.safetensors").exists()


def test_what_is_said_of_the_camera_is_taken(run: Run) -> None:
    """And what is not said comes from the stack's noise."""
    rng = np.random.default_rng(0)
    light = np.full((6, 96, 96), 5.0)
    light[:, 20:70, 20:70] = np.linspace(20, 200, 50)
    counts = (100 + 2 * rng.poisson(light)).astype(np.uint16)
    write_stack("camera.ome.tif", Stack(counts, "ZYX", Grid(SPACING)), dtype="uint16")
    words = ("train", "--like", "camera.ome.tif", *OPTICS, "--engine", "cpu", "--read-noise", "2.5")
    for name, more in (("a", ()), ("b", ("--gain", "3")), ("c", ("--gain", "3", "--offset", "90"))):
        code, said = run(*words, "-o", f"{name}.safetensors", *more)
        assert code == 0, said
    a, b, c = (read_card(f"{name}.safetensors").light for name in "abc")
    assert a.gain == pytest.approx(2, rel=0.1)
    assert a.offset == pytest.approx(100, abs=15)
    assert (b.gain, b.offset) == (3, a.offset)
    assert (c.gain, c.offset) == (3, 90)
    assert {light.read_noise for light in (a, b, c)} == {2.5}


TRAIN = ("train", "--like", "cell.ome.tif", *OPTICS, "--engine", "cpu")


def test_a_model_of_several_goes_on_with_the_photons_of_the_stack(run: Run) -> None:
    code, said = run(*TRAIN, "-o", "two.safetensors", "--members", 2, "--loss", "amounts")
    assert code == 0, said
    assert read_card("two.safetensors").members == 2
    assert "Intervals   one pair was left out: too few to tell what they hold" in said
    code, said = run(*TRAIN, "-o", "t.safetensors", "--start", "two.safetensors", "--halves")
    assert code == 0, said
    assert "Recordings  2, each of them twice" in said
    for words in (("--shows", "half-width 90"), ("--shows", "disagreement"), ("--mirrored",)):
        out = f"{words[-1].strip('-').replace(' ', '_')}.ome.tif"
        more = ("--model", "two.safetensors", "--engine", "cpu", "-o", out)
        code, said = run("predict", "cell.ome.tif", *more, *words)
        assert code == 0, said
        found = read_stack(out).data
        assert found.shape == (5, 40, 44)
        assert found.max() > 0
    code, said = run("predict", "cell.ome.tif", *more, "--shows", "luck", "--overwrite")
    assert code == 1
    assert "does not give 'luck'; choose one of estimate, half-width 50" in said


@pytest.mark.parametrize("network", ["wiener", "unrolled-rl"])
def test_a_network_that_holds_the_blur_takes_another_psf(run: Run, network: str) -> None:
    """Trained over two PSFs, it restores with a third one without a word of doubt on it."""
    y, x = np.mgrid[-4:5, -4:5]
    grid = Grid(spacing_um=SPACING)
    for name, width in (("a", 1.0), ("b", 2.0), ("c", 1.4)):
        psf = np.exp(-(y**2 + x**2) / (2 * width**2))[None].repeat(3, 0).astype(np.float32)
        write_stack(f"{name}.ome.tif", Stack(psf, "ZYX", grid))
    words = ("train", "--like", "cell.ome.tif", "--engine", "cpu", "--network", network)
    code, said = run(*words, "--psf", "a.ome.tif", "--psf", "b.ome.tif", "-o", "m.safetensors")
    assert code == 0, said
    assert "voxels, and 1 more" in said
    more = ("--model", "m.safetensors", "-o", "out.ome.tif", "--engine", "cpu")
    code, said = run("predict", "cell.ome.tif", *more, "--psf", "c.ome.tif")
    assert code == 0, said
    assert "the PSF differs" not in said
    code, said = run("predict", "cell.ome.tif", *more, "--overwrite")
    assert code == 1
    assert "was trained with 2 PSFs; give the image of that of this stack with --psf" in said


def test_recorded_twice_needs_no_truth(run: Run) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
    for number in range(3):
        for seed, folder in enumerate(("one", "two")):
            data = np.random.default_rng((seed, number)).poisson(20, (5, 40, 44))
            data[2, 10:30, 10:30] += 100
            stack = Stack(data.astype(np.uint16), "ZYX", Grid(spacing_um=SPACING))
            write_stack(f"{folder}/{number}.ome.tif", stack, dtype="uint16")
    words = ("train", "--raw", "one", "--again", "two", *OPTICS, "--engine", "cpu")
    code, said = run(*words, "--only-recorded", "-o", "m.safetensors")
    assert code == 0, said
    assert "Recordings  3, each of them twice" in said
    assert read_card("m.safetensors").calibration is None
    code, said = run(*words, "--truth", "two", "-o", "n.safetensors")
    assert code == 1
    assert "Give either --truth or --again: pairs with a truth, or recorded twice" in said
    code, said = run(*TRAIN, "--only-recorded", "-o", "n.safetensors")
    assert code == 1
    assert "There is nothing to learn from: neither recorded twice nor simulated" in said


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (0, "Stopped before anything was learned; nothing is kept in c.safetensors yet."),
        (2, "Stopped; the same command goes on from c.safetensors, where it was last kept."),
    ],
)
def test_what_is_stopped_tells_what_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, steps: int, told: str
) -> None:
    learn = trainer.Trainer.step

    def stopped(self: trainer.Trainer) -> str:
        if self.done == steps:
            raise KeyboardInterrupt
        return learn(self)

    monkeypatch.setattr(trainer.Trainer, "step", stopped)
    code, said = run(*TRAIN, "-o", "m.safetensors", "--checkpoint", "c.safetensors")
    assert code == 130
    assert told in said
    assert Path("c.safetensors").exists() == (steps > 0)


def test_steps_that_are_given_are_taken_from_a_start_too(model: Path, run: Run) -> None:
    for more, steps in (((), 5), (("--steps", 4), 4)):
        code, said = run(*TRAIN, "-o", f"{steps}.safetensors", "--start", model, *more)
        assert code == 0, said
        assert read_card(f"{steps}.safetensors").steps == steps


def test_a_pair_of_two_voxel_sizes_needs_the_one_that_counts(run: Run) -> None:
    recorded(Path("raw"), *((5, 30, 33),) * 2)
    recorded(Path("truth"), *((5, 30, 33),) * 2, scale=2)
    other = read_stack("truth/1.ome.tif")
    write_stack("truth/1.ome.tif", replace(other, grid=Grid((0.6, 0.1, 0.1))), overwrite=True)
    words = ("--raw", "raw", "--truth", "truth", *OPTICS, "--engine", "cpu")
    code, said = run("train", "-o", "m.safetensors", *words)
    assert code == 1
    told = "A pair must have one voxel size, not 0.6 x 0.2 x 0.2 um and 0.6 x 0.1 x 0.1 um; correct"
    assert f"1.ome.tif: {told}" in said
    code, said = run("train", "-o", "m.safetensors", *words, "--voxel-size", "0.6,0.2,0.2")
    assert code == 0, said


def test_reading_intervals_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in a log, as all steps of the training are done."""
    monkeypatch.setitem(training.PRESETS, "quick", replace(SHORT, unseen=4))
    code, said = run(*TRAIN, "-o", "m.safetensors")
    assert code == 0, said
    told = [line for line in said.splitlines() if "reading intervals" in line]
    assert told == ["Progress    3/3 reading intervals off pair 2 of 5"]


@pytest.mark.parametrize("network", ["wiener", "unrolled-rl"])
def test_steps_that_are_given_are_those_of_each_kind(run: Run, network: str) -> None:
    words = ("--network", network, "--from-scratch", "--steps", 6)
    code, said = run(*TRAIN, "-o", "m.safetensors", *words)
    assert code == 0, said
    assert read_card("m.safetensors").steps == 6
