"""The verb `compare`: the figures of a result on stdout, and sentences for what has none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_deconv import cli
from napari_deconv.files.export import write_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.quality import Quality, quality_of
from napari_deconv.imaging.stack import Stack

Run = Callable[..., tuple[int, str, str]]
SPACING = (0.3, 0.1, 0.1)
SHAPE = (12, 40, 44)


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = 100 * gaussian_filter(rng.random(SHAPE), 1.5)
    return (2 * truth + 7 + rng.normal(0, 1, SHAPE)).astype(np.float32), truth.astype(np.float32)


def save(name: str, data: np.ndarray, axes: str = "ZYX", spacing: object = SPACING) -> None:
    grid = None if spacing is None else Grid(spacing_um=tuple(spacing))  # type: ignore[arg-type]
    write_stack(name, Stack(data, axes, grid))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command beside a result and its truth."""
    monkeypatch.chdir(tmp_path)
    result, truth = images()
    save("result.ome.tif", result)
    save("truth.ome.tif", truth)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, *capfd.readouterr()

    return call


def test_the_figures_are_printed(run: Run) -> None:
    code, out, err = run("compare", "result.ome.tif", "truth.ome.tif")
    assert code == 0, err
    expected = quality_of(*images(), SPACING)
    assert expected.resolution_um is not None
    assert out.splitlines() == [
        f"PSNR        {expected.psnr_db:.2f} dB",
        f"SSIM        {expected.ssim:.4f}",
        f"NRMSE       {expected.nrmse:.4f}",
        f"FSC         below 1/7 at {expected.resolution_um:.3g} um",
    ]
    assert f"{expected.scale:.4g} times the result" in err


def test_the_figures_as_json(run: Run) -> None:
    code, out, err = run("compare", "result.ome.tif", "truth.ome.tif", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["result"] == "result.ome.tif"
    assert Quality.from_dict(told["quality"]) == quality_of(*images(), SPACING)


def test_a_stack_and_itself(run: Run) -> None:
    code, out, _ = run("compare", "truth.ome.tif", "truth.ome.tif")
    assert code == 0
    assert out.startswith("PSNR        no difference\nSSIM        1.0000\nNRMSE       0.0000\n")
    assert "FSC         above 1/7 down to the finest period, 0.2 um" in out


def test_without_a_voxel_size_there_is_no_fsc(run: Run) -> None:
    for name, image in zip(("a.ome.tif", "b.ome.tif"), images(), strict=True):
        save(name, image, spacing=None)
    code, out, err = run("compare", "a.ome.tif", "b.ome.tif")
    assert code == 0, err
    assert "FSC" not in out
    assert "the voxel size is unknown; give --voxel-size" in err
    code, out, err = run("compare", "a.ome.tif", "b.ome.tif", "--voxel-size", "0.3,0.1,0.1")
    assert code == 0, err
    assert "FSC         below 1/7 at " in out
    # Where one file knows it, that is enough.
    assert run("compare", "a.ome.tif", "truth.ome.tif")[1] == out


def test_single_axes_are_taken_away(run: Run) -> None:
    save("single.ome.zarr", images()[0][None, None], "TCZYX")
    code, out, err = run("compare", "single.ome.zarr", "truth.ome.tif")
    assert code == 0, err
    assert out == run("compare", "result.ome.tif", "truth.ome.tif")[1]


def test_planes_are_compared(run: Run) -> None:
    for name, image in zip(("a.ome.tif", "b.ome.tif"), images(), strict=True):
        save(name, image[6], "YX", SPACING[1:])
    code, out, err = run("compare", "a.ome.tif", "b.ome.tif")
    assert code == 0, err
    assert out.startswith("PSNR        ")


def test_what_cannot_be_compared_is_refused(run: Run) -> None:
    result, truth = images()
    save("two.ome.tif", np.stack([result, result]), "CZYX")
    save("small.ome.tif", truth[:6])
    save("coarse.ome.tif", truth, spacing=(0.3, 0.2, 0.2))
    save("flat.ome.tif", np.full(SHAPE, 3, np.float32))
    for first, second, sentence in (
        ("two.ome.tif", "truth.ome.tif", "two.ome.tif has the axes CZYX (2, 12, 40, 44), and one"),
        ("result.ome.tif", "two.ome.tif", "two.ome.tif has the axes CZYX"),
        ("result.ome.tif", "small.ome.tif", "The result has the shape (12, 40, 44), the truth (6"),
        ("result.ome.tif", "coarse.ome.tif", "The voxels of the result are 0.3 x 0.1 x 0.1 um, th"),
        ("result.ome.tif", "flat.ome.tif", "The truth is 3 in every voxel"),
        ("result.ome.tif", "none.ome.tif", "There is no file"),
    ):
        code, out, err = run("compare", first, second)
        assert (code, out) == (1, "")
        *_, last = err.splitlines()
        assert sentence in last
        assert "Traceback" not in err


def test_the_help_says_what_two_results_tell(run: Run) -> None:
    code, out, _ = run("compare", "--help")
    assert code == 0
    assert "independent result" in " ".join(out.replace("│", " ").split())
