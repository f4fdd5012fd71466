"""A recipe as text: what is copied must repeat the result."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import (
    PsfFile,
    PsfSource,
    Recipe,
    TrainedModel,
    read_recipe,
    write_recipe,
)
from napari_deconv.files.script import as_command, as_python
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import restore_stack
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

GRID = Grid(spacing_um=(0.3, 0.1, 0.1))
OPTICS = Optics(na=0.9, emission_nm=600, immersion_index=1.0, sample_index=1.33, depth_um=1.5)
CONFOCAL = Optics(
    "confocal",
    na=1.2,
    emission_nm=520,
    excitation_nm=488,
    pinhole_au=0.8,
    immersion_index=1.333,
    zernike_rad=(0, 0, 0, 0.2, 0, -0.3),
)
SAMPLES = Psf(np.ones((1, 3, 3)), (0.3, 0.1, 0.1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with a stack and the image of a bead."""
    rng = np.random.default_rng(5)
    stack = Stack(rng.poisson(30, (5, 16, 18)).astype(np.uint16), "ZYX", GRID, "cells")
    write_stack(tmp_path / "cells.ome.tif", stack, dtype="uint16")
    bead = np.full((5, 7, 7), 10, np.uint16)
    bead[2, 3, 3] = 900
    tifffile.imwrite(tmp_path / "bead.tif", bead, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipes(folder: Path) -> list[Recipe]:
    bead = PsfFile.of(folder / "bead.tif", voxel_size_um=(0.3, 0.1, 0.1), background=9.0)
    return [
        Recipe(OPTICS, RichardsonLucy(3, "biggs-andrews", tv_weight=0.001), 2.0, "cpu"),
        Recipe(bead, RichardsonLucy(2, "none", edges="circular", read_noise=1.5), engine="cpu"),
        Recipe(SAMPLES, Wiener(0.01), 0.0, "cpu"),
        Recipe(Optics(na=0.9, emission_nm=600, coverslip_um=150), Wiener("auto"), 1.0, "cpu"),
        Recipe(CONFOCAL, Wiener(0.01), 1.0, "cpu"),
    ]


@pytest.mark.parametrize("number", range(5))
def test_copied_python_repeats_the_result(folder: Path, number: int) -> None:
    recipe = recipes(folder)[number]
    write_recipe("recipe.json", recipe)
    exec(compile(as_python(recipe, "cells.ome.tif"), "copied", "exec"), {})
    expected = restore_stack(read_stack("cells.ome.tif"), recipe).stack
    found = read_stack("restored.ome.tif")
    assert np.array_equal(found.data, expected.data)
    assert found.grid == GRID


@pytest.mark.parametrize("number", range(5))
def test_copied_command_repeats_the_result(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_deconv.cli import main

    recipe = recipes(folder)[number]
    write_recipe("recipe.json", recipe)
    monkeypatch.setattr("sys.argv", shlex.split(as_command(recipe, "cells.ome.tif")))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    expected = restore_stack(read_stack("cells.ome.tif"), recipe).stack
    assert np.array_equal(read_stack("restored.ome.tif").data, expected.data)


def only(recipe: Recipe) -> list[str]:
    """Return the words of the command after its input and output."""
    return shlex.split(as_command(recipe, "a.tif", "b.tif"))[5:]


def told(words: list[str], option: str) -> list[str]:
    """Return all that a command gives for an option."""
    return [after for word, after in pairwise(words) if word == option]


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ((0, 2), "0,2"),
        ((5,), "5"),
        (tuple(range(40)), "0:40"),
        ((1, 4, 7), "1:8:3"),
        ((0, 1, 3), "0,1,3"),
    ],
)
def test_the_command_says_which_channels_and_times(chosen: tuple[int, ...], text: str) -> None:
    words = only(Recipe(OPTICS, channels=chosen, times=chosen, seam_tolerance=0.02))
    assert told(words, "--channels") == told(words, "--times") == [text]
    assert told(words, "--seam") == ["0.02"]
    usual = only(Recipe(OPTICS))
    assert not {"--channels", "--times", "--seam"} & set(usual)


def test_the_command_says_the_psf_of_each_channel() -> None:
    red = replace(OPTICS, emission_nm=650)
    words = only(Recipe(OPTICS, channel_psfs=(OPTICS, red)))
    assert (told(words, "--emission-nm"), told(words, "--na")) == (["600,650"], ["0.9"])
    lit = tuple(replace(CONFOCAL, excitation_nm=nm) for nm in (488, 500))
    words = only(Recipe(CONFOCAL, channel_psfs=lit))
    assert told(words, "--emission-nm") == ["520"]
    assert told(words, "--excitation-nm") == ["488,500"]
    files = (PsfFile("a b.tif", background=2.0), PsfFile("b.tif", background=2.0))
    words = only(Recipe(OPTICS, channel_psfs=files))
    assert told(words, "--psf") == ["a b.tif", "b.tif"]
    assert told(words, "--psf-background") == ["2.0"]


@pytest.mark.parametrize(
    "psfs",
    [
        (OPTICS, SAMPLES),
        (OPTICS, PsfFile("a.tif")),
        (OPTICS, replace(OPTICS, depth_um=3)),
        (OPTICS, replace(OPTICS, excitation_nm=488)),
        (PsfFile("a.tif"), PsfFile("b.tif", background=3.0)),
    ],
    ids=["samples", "kinds", "depths", "excitations", "images"],
)
def test_what_the_command_has_no_option_for_is_in_the_recipe(psfs: tuple[PsfSource, ...]) -> None:
    assert only(Recipe(OPTICS, channel_psfs=psfs)) == ["--recipe", "recipe.json"]


def test_copied_python_knows_the_psf_of_each_channel() -> None:
    recipe = Recipe(OPTICS, Wiener(), channel_psfs=(OPTICS, PsfFile("a.tif")), times=(0, 2))
    names: dict[str, Any] = {}
    lines = as_python(recipe, "a.tif").split("stack = ")[0]
    exec(compile(lines, "copied", "exec"), names)
    assert names["recipe"] == recipe
    lines = as_python(replace(recipe, channel_psfs=(OPTICS, SAMPLES)), "a.tif")
    assert "recipe = read_recipe('recipe.json')" in lines


def test_an_exported_image_is_a_recipe_too(folder: Path) -> None:
    recipe = recipes(folder)[0]
    for name in ("out.ome.tif", "out.ome.zarr"):
        stack: Any = read_stack("cells.ome.tif")
        write_stack(name, stack, recipe=recipe.to_dict())
        assert read_recipe(name) == recipe
    with pytest.raises(InputError, match="holds no recipe"):
        read_recipe("cells.ome.tif")


def test_the_command_of_a_network_reads_the_recipe() -> None:
    recipe = Recipe(OPTICS, TrainedModel("widefield_inverse.safetensors"))
    command = as_command(recipe, "cells.ome.tif")
    assert shlex.split(command)[-2:] == ["--recipe", "recipe.json"]
    assert "TrainedModel(path='widefield_inverse.safetensors'" in as_python(recipe, "cells.ome.tif")
