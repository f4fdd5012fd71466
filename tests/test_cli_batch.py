"""The verb `batch`: a line a file, exit codes, and a second run that skips what is done."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv import batch, cli
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import Recipe, write_recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import Stack
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

Run = Callable[..., tuple[int, str]]
HOW = ("--recipe", "recipe.json", "-o", "out")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command beside `raw` and a recipe: its code and words."""
    monkeypatch.chdir(tmp_path)
    optics = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
    write_recipe("recipe.json", Recipe(optics, RichardsonLucy(2), background=5.0, engine="cpu"))
    Path("raw").mkdir()
    for number in (2, 10):
        data = np.random.default_rng(number).poisson(20, (3, 14, 12)).astype(np.uint16)
        stack = Stack(data, "ZYX", Grid(spacing_um=(0.4, 0.15, 0.15)))
        write_stack(f"raw/cell {number}.ome.tif", stack, dtype="uint16")

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", "batch", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        out, err = capfd.readouterr()
        assert out == ""
        return code or 0, err

    return call


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_restored_and_a_second_run_skips_it(run: Run, tmp_path: Path) -> None:
    code, said = run("raw", *HOW, "--summary", "out/summary.csv", "--memory", "1GiB")
    assert code == 0
    lines = said.splitlines()
    assert lines[0].startswith("1/2 done     cell 2.ome.tif: ZYX 3 x 14 x 12, ")
    assert lines[1].startswith("2/2 done     cell 10.ome.tif")
    assert "Batch       2 files: 2 done" in lines
    names = ["cell 10_restored.ome.tif", "cell 2_restored.ome.tif", "summary.csv"]
    assert files(tmp_path / "out") == names
    assert read_stack("out/cell 2_restored.ome.tif").shape == (3, 14, 12)

    code, said = run("raw", *HOW, "--summary", "out/summary.csv")
    assert code == 0
    assert "2 files: 2 done already" in said
    with Path("out/summary.csv").open(encoding="utf-8", newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["skipped", "skipped"]


def test_one_that_fails_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "raw" / "cell 3.tif").write_bytes(b"no image")
    code, said = run("raw/*.tif", *HOW, "--summary", "s.json", "--suffix", ".ome.zarr")
    assert code == 1
    assert "2/3 failed   cell 3.tif: " in said
    assert "3 files: 2 done, 1 failed" in said
    assert files(tmp_path / "out") == ["cell 10_restored.ome.zarr", "cell 2_restored.ome.zarr"]
    rows = json.loads(Path("s.json").read_text())
    assert [row["state"] for row in rows] == ["done", "failed", "done"]


def test_another_recipe_needs_overwrite(run: Run) -> None:
    assert run("raw/cell 2.ome.tif", *HOW)[0] == 0
    recipe = json.loads(Path("recipe.json").read_text())
    recipe["background"] = 6.0
    Path("recipe.json").write_text(json.dumps(recipe))
    code, said = run("raw/cell 2.ome.tif", *HOW)
    assert code == 1
    assert "was made with another recipe" in said
    assert run("raw/cell 2.ome.tif", *HOW, "--overwrite")[0] == 0
    # The recipe inside a result serves as well as its file.
    output = "out/cell 2_restored.ome.tif"
    code, said = run("raw/cell 2.ome.tif", "--recipe", output, "-o", "out")
    assert code == 0
    assert "done already" in said


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    code, said = run("raw", *HOW, "--dry-run", "--summary", "s.csv")
    assert code == 0
    assert "1/2 waiting  cell 2.ome.tif" in said
    assert "Would do    2 files: 2 waiting" in said
    assert files(tmp_path) == ["raw", "recipe.json"]


def test_stopped_it_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = batch.running

    def pressed(*_: object, **__: object) -> Generator[Step, None, Any]:
        yield Step(1, 9)
        raise KeyboardInterrupt

    def stopping(*words: Any, **options: Any) -> Any:
        return real(*words, **options, restoring_file=pressed)

    monkeypatch.setattr(batch, "running", stopping)
    code, said = run("raw", *HOW, "--summary", "s.csv")
    assert code == 130
    assert "Stopped; 2 files: 2 waiting. Run the same command again to go on" in said
    assert Path("s.csv").read_text().count("waiting") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("none", *HOW), "No image matches none"),
        (("raw", "--recipe", "no.json", "-o", "out"), "The recipe no.json cannot be read"),
        (("raw", *HOW, "--memory", "much"), "--memory 'much'"),
        (("raw", *HOW, "--dtype", "int8"), "'int8' is not written"),
        (("raw", *HOW, "--suffix", ".png"), "'.png' does not say"),
        (("raw", *HOW, "--summary", "s.txt"), "must end in .csv or .json"),
        (("raw", "--recipe", "recipe.json", "-o", "recipe.json/in"), "cannot be made"),
    ],
)
def test_nonsense_is_told_in_a_sentence(run: Run, words: tuple[str, ...], sentence: str) -> None:
    code, said = run(*words)
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said
