"""Recipes as files: what repeats a result, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv.files.recipe import PsfFile, Recipe, digest, read_recipe, write_recipe
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

OPTICS = Optics(na=1.2, emission_nm=520, immersion_index=1.333)
RECIPES = [
    Recipe(OPTICS),
    Recipe(OPTICS, RichardsonLucy(7, "none", 0.01, "circular", 1.5, 1e-3), 99.5, "torch"),
    Recipe(PsfFile("bead é.tif", (0.2, 0.1, 0.1), 10.0, "0" * 64), Wiener(0.01)),
    Recipe(PsfFile("bead.tif"), Wiener()),
    Recipe(
        OPTICS,
        channel_psfs=(OPTICS, PsfFile("bead.tif"), OPTICS),
        channels=(0, 2),
        times=(0, 1, 5),
        seam_tolerance=0.01,
    ),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_what_was_written_is_read(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "recipe.json"
    write_recipe(path, recipe)
    assert read_recipe(path) == recipe
    assert read_recipe(str(path)) == recipe
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.json"]


def test_samples_come_along_to_the_last_bit(tmp_path: Path) -> None:
    psf = Psf(np.random.default_rng(0).random((3, 4, 5)), (0.3, 0.1, 0.1), ("a note",))
    write_recipe(tmp_path / "r.json", Recipe(psf, Wiener(0.1)))
    again = read_recipe(tmp_path / "r.json")
    assert isinstance(again.psf, Psf)
    assert np.array_equal(again.psf.samples, psf.samples)
    assert (again.psf.spacing_um, again.psf.notes) == (psf.spacing_um, psf.notes)
    assert again.method == Wiener(0.1)


def test_samples_may_be_the_psf_of_one_channel(tmp_path: Path) -> None:
    psf = Psf(np.random.default_rng(0).random((3, 4, 5)), (0.3, 0.1, 0.1))
    write_recipe(tmp_path / "r.json", Recipe(OPTICS, channel_psfs=(OPTICS, psf)))
    first, second = read_recipe(tmp_path / "r.json").channel_psfs
    assert first == OPTICS
    assert isinstance(second, Psf)
    assert np.array_equal(second.samples, psf.samples)


def test_a_recipe_of_before_channels_and_times_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(
        '{"kind": "Recipe", "psf": {"kind": "PsfFile", "path": "bead.tif"}, "method": '
        '{"kind": "Wiener"}, "background": 3.5, "engine": "cpu"}'
    )
    assert read_recipe(path) == Recipe(PsfFile("bead.tif"), Wiener(), 3.5, "cpu")


def test_one_psf_serves_all_channels_where_they_have_none_of_their_own() -> None:
    assert [Recipe(OPTICS).psf_of(channel) for channel in range(3)] == [OPTICS] * 3
    own = (PsfFile("a.tif"), OPTICS)
    recipe = Recipe(OPTICS, channel_psfs=own)
    assert (recipe.psf_of(0), recipe.psf_of(1)) == own
    for channel in (-1, 2):
        with pytest.raises(InputError, match=f"PSFs of 2 channels.* none for channel {channel};"):
            recipe.psf_of(channel)


def test_channels_and_times_are_in_the_order_of_the_stack() -> None:
    recipe = Recipe(OPTICS, channels=[2, np.int64(0), 2], times=range(4, 0, -2))  # type: ignore[arg-type]
    assert (recipe.channels, recipe.times) == ((0, 2), (2, 4))
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert hash(recipe) == hash(Recipe(OPTICS, channels=(0, 2), times=(2, 4)))


def test_a_person_can_read_the_file(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.json", RECIPES[0])
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert '\n  "engine": "auto",\n' in text
    assert text.endswith("}\n")
    assert json.loads(text)["psf"]["na"] == 1.2


def test_another_file_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_recipe(path, RECIPES[0])

    def full(self: Path, body: bytes) -> int:
        self.write_text(body.decode()[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"r\.json cannot be written: No space left"):
        write_recipe(path, RECIPES[1])
    assert read_recipe(path) == RECIPES[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("place", ["missing/r.json", "file/r.json"])
def test_where_nothing_can_be_written_it_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^The recipe .*r\.json cannot be written: \w"):
        write_recipe(tmp_path / place, RECIPES[0])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not usable. This is not JSON"),
        (b"\x89PNG\xff\xfe", "cannot be read: 'utf-8' codec"),
        (b"[1, 2]", "is not usable. Recipe is written as a JSON object"),
        (b'{"kind": "Grid", "spacing_um": [1, 1]}', "is not usable. Expected Recipe, but the JS"),
        (b"{}", "is not usable. Recipe cannot be read: missing"),
        (b'{"psf": {"kind": "PsfFile", "path": "a"}, "speed": 9}', "Recipe has no field 'speed'"),
        (
            b'{"psf": {"kind": "PsfFile", "path": "a"}, "channel_psfs": ["a"]}',
            "channel_psfs must be an object of kind Optics or an object of kind PsfFile or an",
        ),
        (
            b'{"psf": {"kind": "PsfFile", "path": "a"}, "channels": [0.5]}',
            "Recipe: channels must be a whole number, not 0.5",
        ),
    ],
)
def test_files_that_hold_no_recipe_are_refused(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "my recipe.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"The recipe {path} ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_missing_file_and_a_folder_are_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^The recipe .* cannot be read: "):
        read_recipe(tmp_path / name)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"psf": None}, "The recipe's psf must be Optics, a PsfFile or a Psf"),
        ({"psf": "bead.tif"}, "The recipe's psf must be Optics"),
        (
            {"method": "wiener"},
            "The recipe's method must be RichardsonLucy or Wiener or TrainedModel",
        ),
        ({"background": "dark"}, r"The background \(a number, or 'auto'\) must be a finite number"),
        ({"background": np.nan}, "The background"),
        ({"engine": None}, "The recipe's engine must be a name"),
        ({"channel_psfs": OPTICS}, "channel_psfs must be a list of Optics, PsfFile or Psf, one a"),
        ({"channel_psfs": (OPTICS, "bead.tif")}, "channel_psfs must be a list of Optics"),
        ({"channels": 1}, "The recipe's channels must be a list of whole numbers from 0 on"),
        ({"channels": (True, False)}, "The recipe's channels must be a list of whole numbers"),
        ({"times": (0, -1)}, "The recipe's times must be a list of whole numbers from 0 on"),
        ({"times": (0.5,)}, "The recipe's times must be a list of whole numbers from 0 on"),
        ({"times": "01"}, "The recipe's times must be a list of whole numbers from 0 on"),
        ({"seam_tolerance": 0}, "The tolerance of a seam, a part of the maximum, must be greater"),
        ({"seam_tolerance": 5}, "The tolerance of a seam is a part of the maximum, such as 0.001"),
        ({"seam_tolerance": "tight"}, "The tolerance of a seam, a part of the maximum, must be a"),
    ],
)
def test_recipes_are_checked_when_they_are_made(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Recipe(**{"psf": OPTICS, **changed})


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"path": ""}, "The PSF's file has no name"),
        ({"voxel_size_um": (0.1,)}, "A voxel size has two or three numbers"),
        ({"voxel_size_um": (0.1, 0, 0.1)}, "The y spacing in um must be greater than 0"),
        ({"background": "none"}, "The PSF's background"),
    ],
)
def test_psf_files_are_checked_when_they_are_made(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        PsfFile(**{"path": "bead.tif", **changed})


def test_the_psf_file_is_known_by_its_absolute_path_and_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bead.tif").write_bytes(b"some voxels")
    monkeypatch.chdir(tmp_path)
    made = PsfFile.of("bead.tif", voxel_size_um=(0.2, 0.1, 0.1))
    assert Path(made.path).is_absolute()
    assert Path(made.path).samefile(tmp_path / "bead.tif")
    assert made.sha256 == hashlib.sha256(b"some voxels").hexdigest()
    assert made.voxel_size_um == (0.2, 0.1, 0.1)


def test_a_folder_is_known_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    here, there = tmp_path / "here.ome.zarr", tmp_path / "there.ome.zarr"
    for folder in (here, there):
        (folder / "0").mkdir(parents=True)
        for name in ("zarr.json", "0/c") if folder == here else ("0/c", "zarr.json"):
            (folder / name).write_text(name)
    known = digest(here)
    assert known is not None
    assert digest(there) == known == PsfFile.of(here).sha256
    (there / "0" / "c").write_text("other")
    assert digest(there) != known
    (here / "0" / "c").rename(here / "0" / "d")
    assert digest(here) != known


def test_missing_files_have_no_digest(tmp_path: Path) -> None:
    assert digest(tmp_path / "missing.tif") is None
    assert PsfFile.of(tmp_path / "missing.tif").sha256 is None
