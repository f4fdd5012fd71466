"""The verbs `models export` and `models import`: what they write, and one sentence for the rest."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_deconv import cli, library
from napari_deconv.files.export import write_stack
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.learned.designs import UNetDesign
from napari_deconv.learned.inputs import IMAGE
from napari_deconv.learned.model_file import Card, Model, read_model, write_model
from napari_deconv.learned.pairs import Light

yaml: Any = pytest.importorskip("yaml")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's folder with a model."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(folder))
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    design = UNetDesign((IMAGE,), ((2, 2),), first=2)
    card = Card("cell", design, Light(photons=(50.0, 90.0)), (0.1, 0.1))
    psf = Psf(np.ones((3, 3)), (0.1, 0.1))
    write_model(folder / "cell.safetensors", Model(card, (design.network(),), (psf,)))
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `models ...`: its code, and what it says on both streams."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", "models", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code or 0, out, err

    return call


def test_a_model_goes_out_and_comes_back(run: Run, mine: Path, tmp_path: Path) -> None:
    code, out, err = run("export", "cell", "-o", "zoo.zip")
    assert (code, out) == (0, "")
    assert err == "Author      not known; give --author NAME\nOutput      zoo.zip\n"
    code, _, err = run("import", "zoo.zip", "-o", "back.safetensors")
    assert (code, err) == (0, "Model       cell: U-Net\nOutput      back.safetensors\n")
    assert (tmp_path / "back.safetensors").read_bytes() == (mine / "cell.safetensors").read_bytes()
    code, _, err = run("import", "zoo.zip", "-o", "back.safetensors")
    assert code == 1
    assert "back.safetensors exists already" in err
    assert run("import", "zoo.zip", "-o", "back.safetensors", "--overwrite")[0] == 0


def test_a_model_comes_into_the_folder(run: Run, mine: Path) -> None:
    run("export", "cell", "-o", "zoo.zip")
    code, _, err = run("import", "zoo.zip")
    assert code == 1
    assert "There is a model of the name 'cell' already" in err
    kept = (mine / "cell.safetensors").read_bytes()
    (mine / "cell.safetensors").unlink()
    code, _, err = run("import", "zoo.zip")
    assert code == 0
    assert err.endswith(f"Output      {mine / 'cell.safetensors'}\n")
    assert (mine / "cell.safetensors").read_bytes() == kept


def test_authors_and_an_image_are_in_it(run: Run, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).poisson(50, (2, 40, 48)).astype(np.float32)
    write_stack(tmp_path / "cell.ome.tif", Stack(voxels, "CYX", name="cell"))
    words = ("--like", "cell.ome.tif", "--author", "Ada A.", "--author", "Bea B.")
    code, _, err = run("export", "cell", "-o", "zoo.zip", *words)
    assert code == 0
    assert "Author" not in err
    with zipfile.ZipFile("zoo.zip") as zipped:
        tree = yaml.safe_load(zipped.read("rdf.yaml"))
    assert tree["authors"] == [{"name": "Ada A."}, {"name": "Bea B."}]


def test_a_checkpoint_of_careamics_is_told_by_its_ending(run: Run, tmp_path: Path) -> None:
    layers = {
        "encoder.encoder_blocks.0.conv1": (2, 1),
        "encoder.encoder_blocks.0.conv2": (2, 2),
        "decoder.bottleneck.conv1": (4, 2),
        "decoder.bottleneck.conv2": (2, 4),
        "decoder.decoder_blocks.1.conv1": (2, 4),
        "decoder.decoder_blocks.1.conv2": (2, 2),
        "final_conv": (1, 2),
    }
    state = {}
    for name, (after, before) in layers.items():
        side = 1 if name == "final_conv" else 3
        state[f"model.{name}.weight"] = torch.rand(after, before, side, side)
        state[f"model.{name}.bias"] = torch.rand(after)
    torch.save({"state_dict": state}, tmp_path / "noise.ckpt")
    code, _, err = run("import", "noise.ckpt", "-o", "noise.safetensors")
    assert code == 0, err
    assert "Note        the checkpoint has no mean and standard deviation" in err
    assert read_model("noise.safetensors").card.name == "noise"
    # The same file under another name is told by what is in it.
    (tmp_path / "noise.ckpt").rename(tmp_path / "noise")
    assert run("import", "noise", "-o", "again.safetensors")[0] == 0
    assert (
        read_model("again.safetensors").card.design == read_model("noise.safetensors").card.design
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("export", "cel", "-o", "a.zip"), "There is no model 'cel'; the nearest names are cell"),
        (("export", "cell", "-o", "a.tar"), "a.tar does not end in .zip"),
        (("export", "cell", "-o", "a.zip", "--author", "a/b"), "are names without a slash"),
        (("export", "cell", "-o", "none/a.zip"), "none/a.zip cannot be written"),
        (("import", "none.zip"), "There is no model none.zip; check the spelling"),
        (("import", "text.zip"), "text.zip is no zip file, or is damaged"),
        (("import", "text.h5"), "text.h5 is no file of Keras weights"),
        (("import", "text.ckpt"), "text.ckpt is no checkpoint of numbers and text alone"),
        (("import", "text"), "text is no model that is known: no archive of bioimage.io"),
        (("import", "mine"), "mine is no model that is known"),
    ],
)
def test_what_cannot_be_done_is_told(
    run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    if "text.h5" in words:
        pytest.importorskip("h5py")
    for name in ("text.zip", "text.h5", "text.ckpt", "text"):
        (tmp_path / name).write_text("text")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert sentence in err
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
