"""The verb `beads`: real beads to a PSF that restores a real stack, and sentences for the rest."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_deconv import cli
from napari_deconv.files.reading import read_stack
from napari_deconv.files.samples import CONFOCAL_BEADS_PATH, CONFOCAL_GRID_PATH, WIDEFIELD_PSF_PATH

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command, and returns its code and what it said."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        out, err = capfd.readouterr()
        assert out == ""
        return code or 0, err

    return call


def test_real_beads_give_the_psf_that_restores_a_real_stack(run: Run, tmp_path: Path) -> None:
    code, said = run(
        *("beads", CONFOCAL_BEADS_PATH, "-o", "psf.ome.tif"),
        *("--report", "beads.csv", "--picture", "beads.png"),
    )
    assert code == 0
    assert "Beads       4 found, 4 used" in said
    assert "FWHM        0." in said
    assert {path.name for path in tmp_path.iterdir()} == {"psf.ome.tif", "beads.csv", "beads.png"}
    psf = read_stack(tmp_path / "psf.ome.tif")
    assert psf.grid == read_stack(CONFOCAL_BEADS_PATH).grid
    assert np.asarray(psf.data).sum(dtype=np.float64) == pytest.approx(1, abs=1e-4)

    code, said = run(
        *("restore", CONFOCAL_GRID_PATH, "--psf", "psf.ome.tif", "-o", "grid.ome.tif"),
        *("--engine", "cpu", "--iterations", "15"),
    )
    assert code == 0
    raw = np.asarray(read_stack(CONFOCAL_GRID_PATH).data, float)
    restored = np.asarray(read_stack(tmp_path / "grid.ome.tif").data, float)
    # The lines run along y, two of them 13 pixels apart: the dip between these grows.
    before, after = (image[10].mean(axis=0) for image in (raw - 1, restored))
    dip = [
        line[73:79].min() / max(line[66:75].max(), line[79:87].max()) for line in (before, after)
    ]
    assert dip[0] > 0.5
    assert dip[1] < 0.6 * dip[0]


def test_the_theory_is_told_and_written(run: Run, tmp_path: Path) -> None:
    code, said = run(
        *("beads", WIDEFIELD_PSF_PATH, "-o", "psf.ome.tif", "--report", "beads.csv"),
        *("--na", "0.85", "--emission-nm", "520", "--immersion-index", "1"),
    )
    assert code == 0
    assert "Theory      0.99" in said
    with (tmp_path / "beads.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.reader(file))[-1]
    assert last[0].startswith("theory: widefield, NA 0.85, 520 nm")
    # 0.51 lambda/NA = 0.312 um, made wider by pixels of 0.13 um.
    assert float(last[-1]) == pytest.approx(0.35, abs=0.03)
    code, said = run(
        *("beads", WIDEFIELD_PSF_PATH, "-o", "again.ome.tif", "--microscope", "confocal"),
        *("--na", "0.85", "--emission-nm", "520", "--excitation-nm", "488"),
        *("--immersion-index", "1"),
    )
    assert code == 0
    assert "um: confocal, NA 0.85, 488/520 nm, pinhole 1 AU" in said


def test_what_cannot_be_measured_is_one_sentence(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "noise.tif", rng.poisson(30, (8, 40, 40)).astype(np.uint16))
    code, said = run("beads", "noise.tif", "-o", "psf.ome.tif")
    assert (code, said.splitlines()[-1][:62]) == (
        1,
        "napari-deconv: The voxel size of the bead image is unknown; gi",
    )
    code, said = run("beads", "noise.tif", "-o", "psf.ome.tif", "--voxel-size", "0.3,0.1,0.1")
    assert code == 1
    assert "napari-deconv: No bead stands above the noise of this image" in said
    code, said = run("beads", "noise.tif", "-o", "psf.ome.tif", "--na", "0.8")
    assert code == 1
    assert "give both --na and --emission-nm" in said
    code, said = run("beads", CONFOCAL_BEADS_PATH, "-o", "psf.ome.tif", "--channel", "2")
    assert code == 1
    assert "This stack has no channels to choose from" in said
    code, said = run("beads", CONFOCAL_BEADS_PATH, "-o", "psf.ome.tif", "--picture", "p.bmp")
    assert code == 1
    assert "A picture is written as PNG; end 'p.bmp' in .png" in said
    assert not (tmp_path / "psf.ome.tif").exists()
    assert run("beads", CONFOCAL_BEADS_PATH)[0] == 2


def test_rejected_beads_are_shown_before_the_sentence(run: Run, tmp_path: Path) -> None:
    beads = read_stack(CONFOCAL_BEADS_PATH)
    tifffile.imwrite(tmp_path / "bright.tif", np.minimum(np.asarray(beads.data), 50))
    code, said = run(
        "beads", "bright.tif", "-o", "psf.ome.tif", "--voxel-size", "0.125,0.022,0.022"
    )
    assert code == 1
    assert said.count("saturated  at (") == 4
    assert "None of the 4 beads can be used (4 saturated); take the beads again with less" in said


def test_nothing_is_overwritten_unasked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beads.csv").write_text("older")
    words = ("beads", WIDEFIELD_PSF_PATH, "-o", "psf.ome.tif", "--report", "beads.csv")
    code, said = run(*words)
    assert code == 1
    assert "beads.csv exists already" in said
    assert {path.name for path in tmp_path.iterdir()} == {"beads.csv"}
    assert run(*words, "--overwrite", "--radial-average", "--bead-diameter-um", "0.1")[0] == 0
    assert (tmp_path / "beads.csv").read_text(encoding="utf-8") != "older"
