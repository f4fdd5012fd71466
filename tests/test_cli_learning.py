"""The verbs `train` and `predict`: a model from a PSF, and a result from a model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_deconv import cli
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.files.recipe import Recipe, TrainedModel
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.learned import training
from napari_deconv.learned.model_file import read_card
from napari_deconv.learned.training import Schedule
from napari_deconv.pipeline import restore_stack

Run = Callable[..., tuple[int, str]]
OPTICS = ("--na", "0.8", "--emission-nm", "520", "--immersion-index", "1.0")
SHORT = Schedule(pairs=2, left_out=1, shape=(4, 24, 24), patch=(4, 16, 16), batch=1, steps=3)
SPACING = (0.6, 0.2, 0.2)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command beside a stack: its code and words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(training.PRESETS, "quick", SHORT)
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
