"""The verbs `afm ...`: from a file of heights to the surface, the tip and a table, and nonsense."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_deconv import cli
from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.levelling import Level
from napari_deconv.afm.morphology import certainty, dilate, erode
from napari_deconv.afm.tips import SphereCone, Tip, tip_of
from napari_deconv.files.export import write_stack
from napari_deconv.files.heights import read_height_recipe, read_heights, write_heights
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.surfaces import SurfaceRecipe, read_tip, write_tip

Run = Callable[..., tuple[int, str, str]]
PIXEL = (1.0, 1.5)
SHAPE = SphereCone(4.0, 30.0)
CONE = ("--tip", "cone", "--radius-nm", 4, "--half-angle-deg", 30)


def surface() -> np.ndarray:
    """Return pillars of 6 nm on a flat ground, (40, 48)."""
    heights = np.zeros((40, 48))
    for y, x in ((8, 10), (20, 30), (30, 14)):
        heights[y - 2 : y + 3, x - 1 : x + 3] = 6.0
    return heights


def image() -> np.ndarray:
    tip = tip_of(SHAPE, PIXEL, 6.0, (40, 48))
    return dilate(surface(), tip.heights_nm)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command beside an image of heights."""
    monkeypatch.chdir(tmp_path)
    write_heights("image.gwy", HeightMap(image(), PIXEL, "image", "Height"))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", "afm", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        out, err = capfd.readouterr()
        return code or 0, out, err

    return call


def test_a_surface_is_reconstructed_as_python_does_it(run: Run) -> None:
    code, out, err = run(
        "reconstruct", "image.gwy", "-o", "out.gwy", *CONE, "--noise-nm", 0, "--json",
        "--certain", "certain.gwy", "--residual", "left.ome.tif", "--save-tip", "tip.gwy",
    )  # fmt: skip
    assert code == 0
    assert "radius 4.0" in err
    found = read_heights("out.gwy")
    tip = tip_of(SHAPE, PIXEL, float(np.ptp(image())), (40, 48)).heights_nm
    np.testing.assert_allclose(found.heights_nm, erode(image(), tip), atol=1e-9)
    assert found.pixel_nm == pytest.approx(PIXEL)
    np.testing.assert_array_equal(
        read_heights("certain.gwy", z_unit="nm").heights_nm, certainty(image(), tip)
    )
    assert np.abs(read_heights("left.ome.tif").heights_nm).max() < 1e-6
    kept = read_tip("tip.gwy").heights_nm
    np.testing.assert_allclose(kept[np.isfinite(tip)], tip[np.isfinite(tip)], atol=1e-9)
    told = json.loads(out)
    recipe = SurfaceRecipe.from_dict(told["recipe"])
    assert recipe == SurfaceRecipe(SHAPE, noise_nm=0.0)
    assert SurfaceRecipe.from_json(read_height_recipe("out.gwy") or "") == recipe


def test_a_tip_is_estimated_and_used_again(run: Run) -> None:
    code, out, err = run(
        "tip", "image.gwy", "-o", "tip.ome.tif", "--noise-nm", 0, "--tip-shape", "9,7", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["fit"] is None or "radius_nm" in json.loads(out)["fit"]
    assert read_tip("tip.ome.tif").heights_nm.min() < -3
    code, _, err = run("reconstruct", "image.gwy", "-o", "out.ome.tif", "--tip", "tip.ome.tif")
    assert code == 0, err
    found = read_heights("out.ome.tif").heights_nm
    assert (found <= image() + 1e-6).all()
    assert np.abs(found - surface()).mean() < 0.7 * np.abs(image() - surface()).mean()


def test_objects_come_as_a_table_with_their_corrected_widths(run: Run) -> None:
    assert run("measure", "image.gwy", "-o", "objects.csv", *CONE, "--noise-nm", 0)[0] == 0
    with Path("objects.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        assert float(row["corrected_width_nm"]) < 0.9 * float(row["raw_width_nm"])
        assert float(row["height_nm"]) == pytest.approx(6.0)
    labels = np.zeros((40, 48), np.uint16)
    labels[4:14, 5:17] = 7
    write_stack("labels.ome.tif", Stack(labels, "YX"), dtype="uint16")
    words = ("measure", "image.gwy", "-o", "one.csv", *CONE, "--labels", "labels.ome.tif")
    assert run(*words)[0] == 0
    assert len(Path("one.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_heights_are_prepared_and_imaged_again(run: Run) -> None:
    tilted = image() + 0.2 * np.arange(40)[:, None]
    write_heights("tilted.gwy", HeightMap(tilted, PIXEL))
    assert run("prepare", "tilted.gwy", "-o", "flat.gwy", "--level", 1)[0] == 0
    kept = json.loads(read_height_recipe("flat.gwy") or "")
    assert not {"tip", "noise_nm"} & kept.keys()
    assert SurfaceRecipe.from_dict(kept) == SurfaceRecipe(steps=(Level(1),))
    flat = read_heights("flat.gwy").heights_nm
    assert np.abs(flat[:, :4] - flat[:, :4].mean()).max() < 0.2
    write_heights("surface.gwy", HeightMap(surface(), PIXEL))
    assert run("image", "surface.gwy", "-o", "again.gwy", *CONE)[0] == 0
    np.testing.assert_allclose(read_heights("again.gwy").heights_nm, image(), atol=1e-9)


@pytest.mark.parametrize("words", [CONE, ("--noise-nm", 1), ("--tip-shape", "9,7")], ids=str)
@pytest.mark.parametrize("verb", ["prepare", "channels"])
def test_what_uses_no_tip_takes_no_option_of_one(
    run: Run, verb: str, words: tuple[object, ...]
) -> None:
    output = ("-o", "o.gwy") if verb == "prepare" else ()
    code, out, err = run(verb, "image.gwy", *output, *words)
    assert (code, out) == (2, "")
    assert f"No such option: {words[0]}" in err
    assert not Path("o.gwy").exists()


def test_channels_are_listed(run: Run) -> None:
    assert run("channels", "image.gwy")[:2] == (0, "Height\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--tip", "cone", "--sides", 3), "no --sides"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--tip", "ball"), "'ball' is not known"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--tip", "no.gwy"), "no file no.gwy"),
        (("reconstruct", "no.gwy", "-o", "o.gwy"), "no file no.gwy"),
        (("reconstruct", "image.gwy", "-o", "image.gwy"), "image.gwy exists already"),
        (("reconstruct", "image.gwy", "-o", "o.png"), "end its name in .gwy or .ome.tif"),
        (("reconstruct", "no.gwy", "-o", "o.png"), "end its name in .gwy or .ome.tif"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--denoise", "x"), "choose tv or nlm"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--strength", 2), "--strength"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--half-angle-deg", 95), "below 90"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--channel", "Phase"), "no channel 'Phase'"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--pixel-nm", "a"), "--pixel-nm"),
        (("reconstruct", "image.gwy", "-o", "o.gwy", "--tip", "coarse.gwy"), "pixels of 3 x 3 nm"),
        (
            ("reconstruct", "image.gwy", "-o", "o.gwy", "--tip", "large.gwy"),
            "larger than the image",
        ),
        (("tip", "image.gwy", "-o", "o.gwy", "--tip-shape", "99,99"), "99"),
        (("reconstruct", "metres.ome.tif", "-o", "o.gwy", "--z-unit", "nm"), "in metres"),
        (("reconstruct", "metres.ome.tif", "-o", "o.gwy", "--z-unit", "V"), "no length"),
        (("reconstruct", "metres.ome.tif", "-o", "o.gwy"), "--z-unit"),
        (("measure", "movie.ome.tif", "-o", "o.csv"), "one image"),
    ],
)
def test_nonsense_is_told_in_a_sentence(run: Run, words: tuple[object, ...], said: str) -> None:
    from napari_deconv.imaging.grid import Grid

    peak = np.full((5, 5), -1.0)
    peak[2, 2] = 0
    write_heights("coarse.gwy", HeightMap(peak, (3.0, 3.0)))
    wide = np.full((61, 61), -1.0)
    wide[30, 30] = 0
    write_heights("large.gwy", HeightMap(wide, PIXEL))
    grid = Grid(spacing_um=(1e-3, 1e-3))
    write_stack("metres.ome.tif", Stack((image() * 1e-9).astype(np.float32), "YX", grid))
    movie = HeightMap(np.stack([image(), image()]), PIXEL)
    write_heights("movie.ome.tif", replace(movie, frame_s=0.5))
    code, out, err = run(*words)
    assert code == 1
    assert not out
    last = err.strip().splitlines()[-1]
    assert last.startswith("napari-deconv: ")
    assert said in last
    assert "Traceback" not in err
    assert not Path("o.gwy").exists()


def test_a_tip_from_a_low_image_is_right_for_a_high_one(tmp_path: Path) -> None:
    """Where it ends nothing is known of it: no floor that would carve into what is higher."""
    cone, pixel_nm = SphereCone(10.0, 35.0), (1.0, 1.0)
    write_tip(tmp_path / "tip.gwy", tip_of(cone, pixel_nm, 4.0, (96, 96)))
    kept = read_tip(tmp_path / "tip.gwy").heights_nm
    y, x = np.mgrid[:96, :96]
    true = 25.0 * ((y - 48) ** 2 + (x - 40) ** 2 < 200)
    image = dilate(true, tip_of(cone, pixel_nm, 25.0, (96, 96)).heights_nm)
    assert (erode(image, kept) - true).min() > -1e-9


def test_a_tip_that_is_a_point_is_not_written_as_a_plate(tmp_path: Path) -> None:
    heights = np.full((9, 9), -np.inf)
    heights[4, 4] = 0
    with pytest.raises(InputError, match="A tip that is a point has no heights to write"):
        write_tip(tmp_path / "tip.gwy", Tip(heights, (1.0, 1.0)))
    assert not (tmp_path / "tip.gwy").exists()


@pytest.mark.parametrize("aside", [0, 1])
def test_a_tip_in_a_file_loses_its_floor_alone(tmp_path: Path, aside: int) -> None:
    y, x = np.mgrid[-5:6, -5 - aside : 6]
    depths = -0.1 * (y**2 + x**2)
    for number, known in enumerate((depths, np.where(depths < -2, -np.inf, depths))):
        path = tmp_path / f"{number}.gwy"
        write_tip(path, Tip(known, (1.0, 1.0)))
        kept = read_tip(path).heights_nm
        assert np.isfinite(kept).sum() == np.isfinite(known).sum()
