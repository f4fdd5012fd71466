"""The verbs `models ...`: what they print, what they change, and one sentence for the rest."""

from __future__ import annotations

import builtins
import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from napari_deconv import cli, library
from napari_deconv.learned.model_file import read_card
from tests.test_library import damage, made, names

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's folder with two models, one damaged; another one is shipped."""
    folder = tmp_path / "mine"
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(folder))
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    made(folder / "cell.safetensors")
    damage(made(folder / "cut.safetensors"))
    made(tmp_path / "shipped" / "any.safetensors")
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


def test_models_are_listed_with_what_is_wrong(run: Run, mine: Path) -> None:
    code, out, err = run("list")
    assert code == 0
    whole, cell, cut = out.splitlines()
    assert re.match(r"any   \S.*, 0.2 x 0.1 x 0.1 um, 5 to 90 photons, loss 0, \d+ kB, ship", whole)
    assert cell.endswith("yours")
    assert cut.startswith("cut   cut.safetensors is no safetensors file, or is cut off")
    assert err == f"Folder      {mine}\n"


def test_the_list_is_json_where_asked(run: Run, mine: Path) -> None:
    code, out, err = run("list", "--json")
    told = json.loads(out)
    assert (code, err, told["folder"]) == (0, "", str(mine))
    whole, cell, cut = told["models"]
    assert [model["name"] for model in (whole, cell, cut)] == ["any", "cell", "cut"]
    assert [model["shipped"] for model in (whole, cell, cut)] == [True, False, False]
    assert cell["card"] == json.loads(read_card(mine / "cell.safetensors").to_json())
    assert cell["problem"] is None
    assert cell["size_bytes"] == (mine / "cell.safetensors").stat().st_size
    assert cut["card"] is None
    assert "is cut off" in cut["problem"]


def test_a_library_without_models_is_no_failure(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(tmp_path / "absent"))
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "absent")
    code, out, err = run("list")
    assert (code, out) == (0, "")
    assert "There are no models yet" in err


def test_a_model_is_shown_by_name_or_path(run: Run, mine: Path) -> None:
    code, out, _ = run("show", "cell")
    assert code == 0
    assert "Name        cell\n" in out
    assert "Photons     5 to 90 in the brightest voxels\n" in out
    assert f"File        {mine / 'cell.safetensors'}\n" in out
    assert run("show", mine / "cell.safetensors")[1] == out
    code, out, err = run("show", "cut")
    assert (code, out) == (1, "")
    assert "cut.safetensors is no safetensors file, or is cut off" in err


def test_a_model_gets_another_name(run: Run, mine: Path) -> None:
    code, _, err = run("rename", "cell", "nuclei")
    assert (code, err) == (0, f"Renamed     {mine / 'nuclei.safetensors'}\n")
    assert names(mine) == ["cut.safetensors", "nuclei.safetensors"]
    assert read_card(mine / "nuclei.safetensors").name == "nuclei"


def test_a_model_is_added(run: Run, mine: Path, tmp_path: Path) -> None:
    made(tmp_path / "new.safetensors")
    code, _, err = run("add", "new.safetensors")
    assert (code, err) == (0, f"Added       {mine / 'new.safetensors'}\n")
    assert run("show", "new")[0] == 0


def test_a_model_is_deleted_when_that_is_wished(
    run: Run, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run("delete", "cell")
    assert code == 1
    assert "was not deleted: give --yes, as nobody can be asked here" in err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for answer in ("", "n", "of course"):
        monkeypatch.setattr(builtins, "input", lambda answer=answer: answer)
        code, _, err = run("delete", "cell")
        assert code == 1
        assert "Delete " in err
        assert "[y/N]" in err
        assert "cell.safetensors" in names(mine)

    def stopped() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "input", stopped)
    code, _, err = run("delete", "cell")
    assert code == 130
    assert "nothing was deleted" in err
    assert "cell.safetensors" in names(mine)
    monkeypatch.setattr(builtins, "input", lambda: "y")
    assert run("delete", "cell")[0] == 0
    assert names(mine) == ["cut.safetensors"]
    code, _, err = run("delete", "cut", "--yes")
    assert (code, err) == (0, f"Deleted     {mine / 'cut.safetensors'}\n")
    assert names(mine) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "cel"), "There is no model 'cel'; the nearest names are cell"),
        (("rename", "cell", "cut"), "There is a model of the name 'cut' already"),
        (("rename", "cell", "../cell"), "'../cell' cannot be the name of a model"),
        (("rename", "any", "mine"), "any.safetensors came with the package and keeps its name"),
        (("delete", "any", "--yes"), "any.safetensors came with the package and is not deleted"),
        (("delete", "evil.safetensors", "--yes"), "has no card of a model and was not deleted"),
        (("add", "evil.safetensors"), "evil.safetensors is no safetensors file"),
        (("add", "none.safetensors"), "There is no model none.safetensors"),
        (("add", "mine/cell.safetensors"), "There is a model of the name 'cell' already"),
    ],
)
def test_what_cannot_be_done_is_told(
    run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps({"a": 1}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert sentence in err
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_the_page_says_each_option_of_each_verb() -> None:
    """As the build of the docs checks it of the verbs that stand by themselves."""
    page = Path(__file__).parent.parent / "docs" / "command_line.md"
    text = page.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*)\n((?:.*\n(?!## ))*.*)", text, re.M))
    group: Any = typer.main.get_command(cli.app)
    assert group.commands["models"].commands
    for name, verb in group.commands["models"].commands.items():
        told = set(re.findall(r"--[a-z][a-z-]+", sections[f"`napari-deconv models {name}`"]))
        there = {o for p in verb.params for o in (*p.opts, *p.secondary_opts) if o[:2] == "--"}
        assert told == there - {"--help"}, name
