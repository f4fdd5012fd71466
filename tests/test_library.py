"""The library of models: what is there, and renaming, deleting and adding it."""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_deconv import library, library_words
from napari_deconv.imaging.value import InputError
from napari_deconv.learned.designs import UNetDesign
from napari_deconv.learned.inputs import INVERSE_CHANNELS
from napari_deconv.learned.model_file import Card, read_card, write_tensors
from napari_deconv.learned.pairs import Light

SPACING = (0.2, 0.1, 0.1)


def made(path: Path, name: str = "", citation: str = "") -> Path:
    """Write a small model; its weights belong to no network, as nothing here reads them."""
    design = UNetDesign(INVERSE_CHANNELS, ((1, 2, 2),), first=2)
    light = Light(photons=(5.0, 90.0))
    card = Card(name or path.stem, design, light, SPACING, steps=7, citation=citation)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"network.0.a": torch.rand(64, 80), "psf.0": torch.rand(3, 5, 5)}
    return write_tensors(path, tensors, card, overwrite=False)


def weights(path: Path) -> bytes:
    """Return all that follows the header."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's folder with two models; another one is shipped."""
    folder = tmp_path / "mine"
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(folder))
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "shipped")
    made(folder / "cell.safetensors")
    made(folder / "Beads.safetensors")
    made(tmp_path / "shipped" / "any.safetensors")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_all_models_are_listed_by_name(mine: Path) -> None:
    entries = library.models()
    assert [(entry.name, entry.shipped) for entry in entries] == [
        ("any", True),
        ("Beads", False),
        ("cell", False),
    ]
    cell = entries[-1]
    assert cell.card == read_card(mine / "cell.safetensors")
    assert (cell.problem, cell.size_bytes) == ("", cell.path.stat().st_size)


def test_what_cannot_be_read_is_listed_with_its_sentence(mine: Path) -> None:
    damage(mine / "cell.safetensors")
    (mine / "evil.safetensors").write_bytes(pickle.dumps({"a": 1}))
    save_file({"a": torch.zeros(2)}, str(mine / "nocard.safetensors"))
    found = {entry.name: entry for entry in library.models()}
    assert list(found) == ["any", "Beads", "cell", "evil", "nocard"]
    for name, sentence in (
        ("cell", "cell.safetensors is no safetensors file, or is cut off"),
        ("evil", "evil.safetensors is no safetensors file"),
        ("nocard", "nocard.safetensors has no card of napari-deconv in it"),
    ):
        assert found[name].card is None
        assert sentence in found[name].problem
        assert found[name].size_bytes == found[name].path.stat().st_size
    assert found["Beads"].card is not None


def test_what_is_no_model_is_not_listed(mine: Path) -> None:
    """Neither the state of a training, nor what was left of a copy, nor a folder."""
    for name in (
        "a.checkpoint.safetensors",
        "2.a.checkpoint.safetensors",
        ".cell.safetensors.partial",
        "._a.safetensors",
    ):
        (mine / name).write_bytes(b"x")
    (mine / "folder.safetensors").mkdir()
    (mine / "notes.txt").write_text("x")
    assert [entry.name for entry in library.models()] == ["any", "Beads", "cell"]


def test_no_folder_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: Path) -> None:
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "absent")
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(tmp_path / "new" / "models"))
    assert library.models() == []
    assert not (tmp_path / "new").exists()
    assert library.add(mine / "cell.safetensors") == tmp_path / "new/models/cell.safetensors"
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"The folder of models .*file cannot be read"):
        library.models()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folders of Linux")
def test_the_folder_is_where_programs_keep_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library.models_folder() == Path(os.environ["NAPARI_DECONV_MODELS"])
    monkeypatch.delenv("NAPARI_DECONV_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert library.models_folder() == tmp_path / "napari-deconv" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert library.models_folder() == tmp_path / ".local/share/napari-deconv/models"


def test_names_and_paths_are_found(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library.resolve("cell") == mine / "cell.safetensors"
    assert library.resolve("cell.safetensors") == mine / "cell.safetensors"
    assert library.resolve("any") == tmp_path / "shipped" / "any.safetensors"
    made(mine / "any.safetensors")  # the user's goes before the shipped one
    assert library.resolve("any") == mine / "any.safetensors"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell").mkdir()  # a folder is no model
    assert library.resolve("cell") == mine / "cell.safetensors"
    made(tmp_path / "cell.safetensors")  # a path goes first
    assert library.resolve("cell.safetensors") == Path("cell.safetensors")


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ("cel", r"There is no model 'cel'; the nearest names are cell$"),
        ("qqqq", r"There is no model 'qqqq'; there are Beads, any, cell$"),
        ("no/cell", r"There is no model 'no/cell'; the nearest names are cell"),
        ("x" * 5000, r"There is no model 'x+\.\.\.'; there are"),
        ("", r"There is no model ''; there are"),
        ("a\x1b[31m\nb", r"There is no model 'a \[31m b'; "),
    ],
)
def test_a_model_that_is_not_there_is_told(wish: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        library.resolve(wish)


def test_a_library_without_models_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "absent")
    monkeypatch.setenv("NAPARI_DECONV_MODELS", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"are none yet: train one, or add a file to .*absent"):
        library.resolve("cell")


def test_a_new_name_changes_the_file_and_the_card_alone(mine: Path) -> None:
    path = mine / "cell.safetensors"
    before, card, tensors = weights(path), read_card(path), load_file(str(path))
    new = library.rename(path, " Zellen, grün.safetensors ")
    assert new == mine / "Zellen, grün.safetensors"
    assert names(mine) == ["Beads.safetensors", "Zellen, grün.safetensors"]
    assert read_card(new) == replace(card, name="Zellen, grün")
    assert weights(new) == before
    assert (8 + int.from_bytes(new.read_bytes()[:8], "little")) % 8 == 0
    again = load_file(str(new))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], value) for key, value in tensors.items())
    back = library.rename(new, "cell")
    assert (read_card(back), weights(back)) == (card, before)


def test_the_name_of_a_card_is_put_right(mine: Path) -> None:
    path = made(mine / "a.safetensors", "other")
    assert library.rename(path, "a") == path
    assert read_card(path).name == "a"
    assert "a.safetensors" in names(mine)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Beads", "There is a model of the name 'Beads' already; choose another name"),
        ("any", "There is a model of the name 'any' already"),  # a shipped one
        ("", "Give the model a name"),
        ("  ", "Give the model a name"),
        (".safetensors", "Give the model a name"),
        ("a/b", "'a/b' cannot be the name of a model"),
        ("a\\b", "cannot be the name of a model"),
        ("..", "cannot be the name of a model"),
        (".hidden", "cannot be the name of a model"),
        ("a\nb", "cannot be the name of a model"),
        ("a\0b", "cannot be the name of a model"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_a_name_that_cannot_be_is_refused(mine: Path, name: str, sentence: str) -> None:
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    with pytest.raises(InputError) as told:
        library.rename(mine / "cell.safetensors", name)
    assert sentence in str(told.value)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before


def test_what_is_damaged_or_shipped_is_not_renamed(mine: Path, tmp_path: Path) -> None:
    damage(mine / "cell.safetensors")
    with pytest.raises(InputError, match="is no safetensors file, or is cut off"):
        library.rename(mine / "cell.safetensors", "b")
    with pytest.raises(InputError, match=r"any\.safetensors came with the package and keeps its"):
        library.rename(tmp_path / "shipped" / "any.safetensors", "b")
    assert names(mine) == ["Beads.safetensors", "cell.safetensors"]
    assert names(tmp_path / "shipped") == ["any.safetensors"]


def test_a_failure_on_the_way_leaves_the_old_file(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = mine / "cell.safetensors"
    before = path.read_bytes()
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(InputError, match=r"b\.safetensors cannot be written \(No space left"):
        library.rename(path, "b")
    assert names(mine) == ["Beads.safetensors", "cell.safetensors"]
    assert path.read_bytes() == before


def test_a_model_is_deleted(mine: Path) -> None:
    library.delete(mine / "cell.safetensors")
    assert names(mine) == ["Beads.safetensors"]
    damage(mine / "Beads.safetensors")  # it is a model still, and of no use
    library.delete(mine / "Beads.safetensors")
    assert names(mine) == []


def test_what_is_no_model_or_shipped_is_not_deleted(mine: Path, tmp_path: Path) -> None:
    others = {
        "evil.safetensors": pickle.dumps({"a": 1}),
        "empty.safetensors": b"",
        "list.safetensors": (2).to_bytes(8, "little") + b"[]",
        "notes.txt": (mine / "cell.safetensors").read_bytes(),
    }
    for name, data in others.items():
        (mine / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name} has no card of a model and was not deleted"):
            library.delete(mine / name)
        assert (mine / name).read_bytes() == data
    shipped = tmp_path / "shipped" / "any.safetensors"
    for path in (shipped, mine / ".." / "shipped" / "any.safetensors"):
        with pytest.raises(InputError, match="came with the package and is not deleted"):
            library.delete(path)
    assert shipped.is_file()
    for path in (mine / "none.safetensors", mine):
        with pytest.raises(InputError, match="There is no model"):
            library.delete(path)


def test_a_file_is_added(mine: Path, tmp_path: Path) -> None:
    source = made(tmp_path / "new.safetensors")
    added = library.add(source)
    assert added == mine / "new.safetensors"
    assert added.read_bytes() == source.read_bytes()
    with pytest.raises(InputError, match="There is a model of the name 'new' already"):
        library.add(source)
    damaged = made(tmp_path / "damaged.safetensors")
    damage(damaged)
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps({"a": 1}))
    for name in ("damaged", "evil"):
        with pytest.raises(InputError, match=f"{name}.safetensors is no safetensors file"):
            library.add(tmp_path / f"{name}.safetensors")
    other = tmp_path / "model.bin"
    other.write_bytes(source.read_bytes())
    with pytest.raises(InputError, match=r"model\.bin does not end in \.safetensors"):
        library.add(other)
    assert names(mine) == ["Beads.safetensors", "cell.safetensors", "new.safetensors"]


def test_what_a_card_says_is_shown_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = made(tmp_path / "a.safetensors", "na\x1b[2Jme", "First\nsecond " + "long " * 200)
    facts = library_words.facts(library.entry_of(path))
    assert facts["Name"] == "na [2Jme"
    assert facts["Cite"].startswith("First second long")
    assert len(facts["Cite"]) == 300
    assert facts["Photons"] == "5 to 90 in the brightest voxels"
    assert facts["Voxel size"] == "0.2 x 0.1 x 0.1 um"
    assert facts["File"] == str(path)
    assert all(text.isprintable() for text in facts.values())
    assert library_words.in_words(read_card(path)).startswith(
        "na [2Jme: 7 steps in 0 min; for voxels"
    )


def test_without_torch_that_is_told(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is listed all the same, and none is deleted."""
    for name in [name for name in sys.modules if name.startswith("napari_deconv.learned")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    import napari_deconv

    monkeypatch.delattr(napari_deconv, "learned", raising=False)
    entries = library.models()
    assert [entry.name for entry in entries] == ["any", "Beads", "cell"]
    assert all("need the package torch" in entry.problem for entry in entries)
    with pytest.raises(InputError, match="need the package torch"):
        library.delete(mine / "cell.safetensors")
