"""The command line: what it writes, what it says, and one sentence for whatever is wrong."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from napari_deconv import cli, pipeline
from napari_deconv.files import tiff
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.files.recipe import PsfFile, Recipe, read_recipe, write_recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.pipeline import Record, restore_stack
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

SHAPE = (6, 20, 22)
SPACING = (0.3, 0.1, 0.1)
#: An air objective of low aperture, whose PSF is small and quick to compute.
OPTICS = ("--na", "0.5", "--emission-nm", "520", "--immersion-index", "1.0")
CALL = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from napari_deconv.cli import main; main()"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and what it said on stdout and stderr."""

    code: int
    out: str
    err: str

    def said(self, text: str) -> bool:
        return text in self.err


Run = Callable[..., Ended]


def save(path: Path, voxels: npt.NDArray[Any], spacing: tuple[float, ...] | None = SPACING) -> Path:
    """Write an ImageJ hyperstack in z, as other programs do."""
    told: dict[str, Any] = {"axes": "ZYX"}
    resolution = None
    if spacing is not None:
        told |= {"spacing": spacing[0], "unit": "um"}
        resolution = (1 / spacing[2], 1 / spacing[1])
    tifffile.imwrite(path, voxels, imagej=True, resolution=resolution, metadata=told)
    return path


def gaussian(shape: tuple[int, ...], sigma: float = 1.2) -> npt.NDArray[np.float32]:
    places = [np.arange(n) - n // 2 for n in shape]
    r2 = sum(np.square(axis) for axis in np.meshgrid(*places, indexing="ij"))
    samples: npt.NDArray[np.float32] = np.exp(-np.asarray(r2) / (2 * sigma**2)).astype(np.float32)
    return samples


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a stack, `cell.tif`, and its PSF, `psf.tif`."""
    rng = np.random.default_rng(0)
    blurred = np.array(20 + 400 * (rng.random(SHAPE) > 0.99))
    save(tmp_path / "cell.tif", rng.poisson(blurred).astype(np.uint16))
    save(tmp_path / "psf.tif", gaussian((5, 7, 7)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command in this process, by its own entry point."""

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["napari-deconv", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, out, err)

    return call


def run_apart(*words: object) -> Ended:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, *map(str, words)], capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def restoring_cell(*more: object, psf: tuple[object, ...] = ("--psf", "psf.tif")) -> list[object]:
    """Return the words of a quick restoration of `cell.tif` into `out.ome.tif`."""
    usual = {"--iterations": "3", "--engine": "cpu"}
    words: list[object] = ["restore", "cell.tif", "-o", "out.ome.tif", *psf]
    for option, value in usual.items():
        if option not in more:
            words += [option, value]
    return [*words, *more]


def listing(folder: Path) -> dict[str, int]:
    """Return every file below a folder with its size."""
    return {str(entry): entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()}


def assert_refused(ended: Ended, sentence: str) -> None:
    """Check for one sentence on stderr, nothing on stdout, and a code that says so."""
    assert ended.code == 1, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    lines = ended.err.splitlines()
    assert [line for line in lines if line.startswith("napari-deconv: ")] == lines[-1:]
    assert sentence in lines[-1]
    assert "failed unexpectedly" not in lines[-1]


# -- restore ---------------------------------------------------------------------------


def test_a_stack_is_restored_with_a_psf_file(run: Run, here: Path) -> None:
    ended = run(*restoring_cell("--background", "20"))
    assert (ended.code, ended.out) == (0, "")
    stack = read_stack("cell.tif")
    recipe = Recipe(PsfFile.of("psf.tif"), RichardsonLucy(3), 20.0, "cpu")
    expected = restore_stack(stack, recipe)
    written = read_stack("out.ome.tif")
    assert np.array_equal(written.data, expected.stack.data)
    assert (written.axes, written.grid) == ("ZYX", Grid(spacing_um=SPACING))
    kept = read_provenance("out.ome.tif")
    assert kept is not None
    assert Recipe.from_dict(kept["recipe"]) == recipe
    record = Record.from_dict(kept["record"])
    assert record.blocks == expected.record.blocks
    for text in (
        "Image       cell.tif: ZYX (6, 20, 22), 0.3 x 0.1 x 0.1 um (from the file)",
        "Iterations  stopped at the maximum of 3 iterations; background 20",
        "Voxel size  0.3 x 0.1 x 0.1 um",
        "PSF         psf.tif, 5 x 7 x 7 voxels",
        f"Engine      {record.device}",
        "Progress    3/3 stopped at the maximum of 3 iterations",
        "Output      out.ome.tif",
    ):
        assert ended.said(text), text
    assert sorted(entry.name for entry in here.iterdir()) == ["cell.tif", "out.ome.tif", "psf.tif"]


def test_a_stack_is_restored_with_optics(run: Run) -> None:
    ended = run(*restoring_cell(psf=OPTICS))
    assert ended.code == 0
    assert ended.said("PSF         widefield, NA 0.5, 520 nm, immersion 1, sample 1, depth 0 um")
    assert ended.said("assumed: depth_um, sample_index")
    kept = read_provenance("out.ome.tif")
    assert kept is not None
    recipe = Recipe.from_dict(kept["recipe"])
    assert recipe.psf == Optics(na=0.5, emission_nm=520, immersion_index=1.0)
    expected = restore_stack(read_stack("cell.tif"), recipe)
    assert np.array_equal(read_stack("out.ome.tif").data, expected.stack.data)


def test_optics_that_the_file_knows_are_taken_and_said(run: Run, here: Path) -> None:
    known = (KnownOptics(0.5, 1.0, 600.0),)
    stack = replace(read_stack("cell.tif"), channel_optics=known)
    write_stack(here / "known.ome.tif", stack)
    words = ["known.ome.tif", "-o", "out.ome.tif", "--iterations", 1, "--engine", "cpu"]
    ended = run("restore", *words, "--emission-nm", 520)
    assert ended.code == 0
    assert ended.said("PSF         widefield, NA 0.5, 520 nm, immersion 1,")
    assert ended.said("from the file: na, immersion_index")


def test_the_microscope_that_the_file_knows_is_taken_and_said(run: Run, here: Path) -> None:
    known = (KnownOptics(0.5, 1.0, 600.0, 561.0, "confocal"),)
    write_stack(here / "known.ome.tif", replace(read_stack("cell.tif"), channel_optics=known))
    words = ["known.ome.tif", "-o", "out.ome.tif", "--iterations", 1, "--engine", "cpu"]
    ended = run("restore", *words)
    assert ended.code == 0
    assert ended.said("PSF         confocal, NA 0.5, 561/600 nm, pinhole 1 AU, immersion 1,")
    assert ended.said("from the file: na, immersion_index, emission_nm, excitation_nm, modality")


def test_what_the_file_tells_of_its_place_and_time_goes_into_the_result(
    run: Run, here: Path
) -> None:
    known: dict[str, Any] = {
        "channel_colours": ("FF00FF",),
        "position": {"Z": (-5.0, "µm"), "Y": (1.5, "mm"), "X": (0.0, "reference frame")},
        "acquired": "2026-11-27T12:30:00",
    }
    cell = replace(read_stack(here / "cell.tif"), **known)
    write_stack(here / "cell.tif", cell, overwrite=True)
    assert run(*restoring_cell()).code == 0
    found = read_stack(here / "out.ome.tif")
    assert {name: getattr(found, name) for name in known} == known


def test_further_images_of_a_file_are_named_once(run: Run, here: Path) -> None:
    with tifffile.TiffWriter(here / "two.ome.tif") as writer:
        for _ in range(2):
            writer.write(read_stack(here / "cell.tif").data, metadata={"axes": "ZYX"})
    ended = run(
        "restore", "two.ome.tif", "-o", "out.ome.tif", "--psf", "psf.tif", "--iterations", "2"
    )
    assert ended.code == 0
    assert ended.err.count("two.ome.tif holds 2 images") == 1
    made = read_provenance(here / "out.ome.tif")
    assert made is not None
    assert any("holds 2 images" in note for note in made["record"]["notes"])


def test_why_a_voxel_size_is_unknown_is_said(run: Run, here: Path) -> None:
    told = {"axes": "ZYX", "unit": "um"}
    data = read_stack(here / "cell.tif").data
    tifffile.imwrite(here / "flat.tif", data, imagej=True, resolution=(10, 10), metadata=told)
    ended = run("restore", "flat.tif", "-o", "out.ome.tif", *OPTICS)
    assert ended.code == 1
    assert "tells the size of a voxel along Y (0.1 um) and X (0.1 um), and not along Z" in ended.err


def test_the_voxel_size_may_be_given(run: Run) -> None:
    ended = run(*restoring_cell("--voxel-size", "0.5,0.2x0.2"))
    assert ended.code == 0
    assert ended.said("0.5 x 0.2 x 0.2 um (as given)")
    assert read_stack("out.ome.tif").grid == Grid(spacing_um=(0.5, 0.2, 0.2))
    assert ended.said("PSF: resampled in z from 0.3 to 0.5 um")


def test_wiener_takes_its_own_options(run: Run) -> None:
    words = ("restore", "cell.tif", "-o", "out.ome.tif", "--psf", "psf.tif", "--engine", "cpu")
    for number, options in enumerate(
        (("--method", "wiener"), ("--regularization", "0.05"), ("--regularization", "auto"))
    ):
        assert run(*words, *options, "--overwrite").code == 0
        kept = read_provenance("out.ome.tif")
        assert kept is not None
        assert Recipe.from_dict(kept["recipe"]).method == (Wiener(), Wiener(0.05), Wiener())[number]


def test_every_option_of_the_method_reaches_the_recipe(run: Run) -> None:
    ended = run(
        *restoring_cell("--acceleration", "biggs-andrews", "--tv-weight", 0.01),
        *("--edges", "circular", "--read-noise", 1.5, "--stop-tolerance", 0.5),
        *("--psf-voxel-size", "0.3,0.1,0.1", "--background", "auto", "--save-recipe", "r.json"),
    )
    assert ended.code == 0
    recipe = read_recipe("r.json")
    assert recipe.method == RichardsonLucy(3, "biggs-andrews", 0.01, "circular", 1.5, 0.5)
    assert recipe.psf == PsfFile.of("psf.tif", voxel_size_um=SPACING)
    assert (recipe.background, recipe.engine) == ("auto", "cpu")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), RichardsonLucy.automatic()),
        (("--tv-weight", 0.01), RichardsonLucy.automatic(tv_weight=0.01)),
        (("--iterations", 4), RichardsonLucy(4)),
        (("--stop-tolerance", 0.5), RichardsonLucy(stop_tolerance=0.5)),
        (("--automatic-stop", "--iterations", 4), RichardsonLucy.automatic(iterations=4)),
        (("--no-automatic-stop",), RichardsonLucy()),
        (("--no-automatic-stop", "--iterations", 4), RichardsonLucy(4)),
    ],
    ids=str,
)
def test_the_automatic_stop_comes_with_its_own_edges_and_iterations(
    run: Run, words: tuple[object, ...], expected: RichardsonLucy
) -> None:
    usual = ("restore", "cell.tif", "-o", "out.ome.tif", "--psf", "psf.tif", "--engine", "cpu")
    assert run(*usual, *words, "--save-recipe", "r.json").code == 0
    assert read_recipe("r.json").method == expected


def test_stdout_is_json_where_asked_for(run: Run) -> None:
    ended = run(*restoring_cell("--json"))
    assert ended.code == 0
    told = json.loads(ended.out)
    assert told["output"] == "out.ome.tif"
    assert Recipe.from_dict(told["recipe"]).method == RichardsonLucy(3)
    record = Record.from_dict(told["record"])
    assert record.engine == "cpu"
    assert len(record.blocks[0].divergences) == 3


def test_a_saved_recipe_repeats_the_result_to_the_last_bit(run: Run) -> None:
    assert run(*restoring_cell("--save-recipe", "r.json", psf=OPTICS)).code == 0
    again = run("restore", "cell.tif", "-o", "again.ome.tif", "--recipe", "r.json")
    assert again.code == 0
    first, second = read_stack("out.ome.tif"), read_stack("again.ome.tif")
    assert np.array_equal(first.data, second.data)
    kept = read_provenance("out.ome.tif")
    assert kept is not None
    assert Recipe.from_dict(kept["recipe"]) == read_recipe("r.json")


def test_options_change_a_recipe_and_keep_the_rest_of_it(run: Run) -> None:
    method = RichardsonLucy(9, "none", 0.01, read_noise=2.0)
    write_recipe("r.json", Recipe(PsfFile.of("psf.tif"), method, 15.0, "cpu"))
    words = ("restore", "cell.tif", "-o", "out.ome.tif", "--recipe", "r.json", "--overwrite")

    def used(*more: object) -> Recipe:
        assert run(*words, *more, "--save-recipe", "used.json").code == 0
        return read_recipe("used.json")

    before = read_recipe("r.json")
    assert used() == before
    assert used("--iterations", 2) == replace(before, method=replace(method, iterations=2))
    assert used("--background", 3) == replace(before, background=3.0)
    assert used("--method", "wiener") == replace(before, method=Wiener())
    other = used(*OPTICS)
    assert other.method == method
    assert other.psf == Optics(na=0.5, emission_nm=520, immersion_index=1.0)
    assert_refused(run(*words, "--regularization", 0.1), "richardson-lucy has no --regularization")


def test_uint16_is_written_where_asked_for(run: Run) -> None:
    assert run(*restoring_cell("--dtype", "uint16")).code == 0
    whole = read_stack("out.ome.tif")
    assert whole.data.dtype == np.uint16
    assert run(*restoring_cell("--overwrite")).code == 0
    kept = read_stack("out.ome.tif")
    assert kept.data.dtype == np.float32
    scale = whole.data.max() / kept.data.max()
    assert np.abs(whole.data / scale - kept.data).max() < 1


def test_every_channel_and_time_point_is_reported(run: Run, here: Path) -> None:
    voxels = np.random.default_rng(0).poisson(50, (2, 3, 4, 9, 8)).astype(np.uint16)
    write_stack(here / "movie.ome.tif", Stack(voxels, "TCZYX", Grid(spacing_um=SPACING)))
    ended = run(
        *("restore", "movie.ome.tif", "-o", "out.ome.zarr", "--psf", "psf.tif"),
        *("--iterations", 2, "--engine", "cpu"),
    )
    assert ended.code == 0
    assert ended.said("Iterations  block [1, 2]: stopped at the maximum of 2 iterations")
    assert read_stack("out.ome.zarr").shape == (2, 3, 4, 9, 8)


# -- odd input that works, and is said -------------------------------------------------


def test_negative_values_are_clipped_counted_and_said(run: Run, here: Path) -> None:
    voxels = tifffile.imread(here / "cell.tif").astype(np.float32)
    voxels[0, 0, :8] = -5
    save(here / "cell.tif", voxels)
    ended = run(*restoring_cell())
    assert ended.code == 0
    assert ended.said("Note        8 negative values (0.3 % of the image) were set to 0: photon co")


def test_a_psf_larger_than_the_image_works_and_is_said(run: Run, here: Path) -> None:
    save(here / "psf.tif", gaussian((15, 31, 31), 5.0))
    ended = run(*restoring_cell())
    assert ended.code == 0
    assert ended.said("is larger than the image (6, 20, 22): light from beyond the image is estim")


def test_a_psf_of_coarser_voxels_works_and_is_said(run: Run, here: Path) -> None:
    save(here / "psf.tif", gaussian((5, 7, 7)), (0.6, 0.2, 0.2))
    ended = run(*restoring_cell())
    assert ended.code == 0
    assert ended.said("its voxels in z (0.6 um) are coarser than the data's (0.3 um)")
    assert ended.said("its voxels in x (0.2 um) are coarser than the data's (0.1 um)")


def test_a_psf_of_unknown_voxels_works_and_is_said(run: Run, here: Path) -> None:
    save(here / "psf.tif", gaussian((5, 7, 7)), None)
    ended = run(*restoring_cell())
    assert ended.code == 0
    assert ended.said("PSF: voxel size unknown, taken to be the data's, 0.3 x 0.1 x 0.1 um")


@pytest.mark.parametrize("axes", ["ZYX", "YX"])
@pytest.mark.parametrize("psf", [("--psf", "psf.tif"), OPTICS], ids=["file", "optics"])
def test_one_plane_works(run: Run, here: Path, axes: str, psf: tuple[str, ...]) -> None:
    plane = tifffile.imread(here / "cell.tif")[:1]
    spacing = SPACING if axes == "ZYX" else SPACING[1:]
    stack = Stack(plane if axes == "ZYX" else plane[0], axes, Grid(spacing_um=spacing))
    write_stack(here / "one.ome.tif", stack)
    words = ("one.ome.tif", "-o", "out.ome.tif", "--iterations", 2, "--engine", "cpu")
    ended = run("restore", *words, *psf)
    assert ended.code == 0, ended.err
    assert read_stack("out.ome.tif").shape == stack.shape


def test_a_stack_without_a_voxel_size_works_with_a_psf_file(run: Run, here: Path) -> None:
    save(here / "cell.tif", tifffile.imread(here / "cell.tif"), None)
    save(here / "psf.tif", gaussian((5, 7, 7)), None)
    ended = run(*restoring_cell())
    assert ended.code == 0
    assert ended.said("Voxel size  unknown")
    assert read_stack("out.ome.tif").grid is None


# -- bad input -------------------------------------------------------------------------


def rgb(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((20, 22, 3), np.uint8), photometric="rgb")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "There is no file cell.tif; check the folder and the spelling"),
    "truncated": (truncated, "cell.tif"),
    "text": (lambda path: path.write_text("no image"), "cell.tif"),
    "empty": (lambda path: path.write_bytes(b""), "cell.tif"),
    "complex": (lambda path: tifffile.imwrite(path, np.ones(SHAPE, np.complex64)), "complex"),
    "rgb": (rgb, "colour"),
    "zeros": (
        lambda path: save(path, np.zeros(SHAPE, np.uint16)),
        "The image is zero everywhere: there is nothing to restore. Check that the right file",
    ),
    "nan": (
        lambda path: save(path, np.full(SHAPE, np.nan, np.float32)),
        "The image holds 2640 NaN or infinite values; replace them",
    ),
    "inf": (
        lambda path: save(path, np.full(SHAPE, np.inf, np.float32)),
        "The image holds 2640 NaN or infinite values; replace them",
    ),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_refused(run: Run, here: Path, kind: str) -> None:
    spoil, sentence = BAD_IMAGES[kind]
    spoil(here / "cell.tif")
    before = listing(here)
    assert_refused(run(*restoring_cell("--save-recipe", "r.json")), sentence)
    assert listing(here) == before


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "nan"])
def test_bad_images_are_refused_by_the_installed_command(here: Path, kind: str) -> None:
    spoil, sentence = BAD_IMAGES[kind]
    spoil(here / "cell.tif")
    before = listing(here)
    assert_refused(run_apart(*restoring_cell()), sentence)
    assert listing(here) == before


@pytest.mark.parametrize(
    ("voxels", "sentence"),
    [
        (np.full((5, 7, 7), np.nan, np.float32), "The PSF holds NaN or infinite values; mend or"),
        (np.zeros((5, 7, 7), np.float32), "The PSF sums to zero: it holds no light. Check"),
        (np.full((5, 7, 7), 9, np.uint16), "The PSF image shows no point above its background"),
    ],
    ids=["nan", "zeros", "flat"],
)
@pytest.mark.parametrize("apart", [False, True])
def test_bad_psfs_are_refused(
    run: Run, here: Path, voxels: npt.NDArray[Any], sentence: str, apart: bool
) -> None:
    save(here / "psf.tif", voxels)
    before = listing(here)
    assert_refused((run_apart if apart else run)(*restoring_cell()), sentence)
    assert listing(here) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--psf", "no.tif"], "There is no file"),
        ([], "A PSF is needed: give its image with --psf FILE, or the optics; --na and --emission"),
        (["--na", "0.5"], "give its image with --psf FILE, or the optics; --emission-nm missing"),
        (["--psf", "psf.tif", "--na", "0.5"], "Give either the PSF's image (--psf) or optics"),
        (
            ["--na", "1.49", "--emission-nm", "520", "--immersion-index", "1.33"],
            "NA 1.49 is not below the refractive index of the immersion medium, 1.33",
        ),
        (["--na", "0.5", "--emission-nm", "0.52"], "0.52 nm seems to be in micrometres"),
        (
            ["--na", "0.5", "--emission-nm", "520", "--microscope", "confocal"],
            "depends on the excitation; give its wavelength, --excitation-nm (488",
        ),
        (
            ["--na", "0.5", "--emission-nm", "520", "--microscope", "light-sheet"],
            "depends on the sheet; give its thickness, --sheet-um, or its NA, --sheet-na",
        ),
        (
            [*OPTICS, "--pinhole-au", "0.7"],
            "--pinhole-au is for confocal or effective-sted, and the microscope is widefield",
        ),
        (
            ["--na", "0.5", "--emission-nm", "520", "--microscope", "electron"],
            "The modality 'electron' is not known; choose widefield, confocal",
        ),
        (
            ["--na", "0.5", "--emission-nm", "520", "--zernike", "coma"],
            "--zernike 'coma' is not a list of INDEX:RADIANS such as 5:0.3,12:-0.5",
        ),
        (
            ["--na", "0.5", "--emission-nm", "520", "--zernike", "99:1"],
            "--zernike knows the OSA/ANSI indices 0 to 65",
        ),
        (["--psf", "psf.tif", "--psf-voxel-size", "0,1,1"], "The z spacing in um must be greater"),
        (["--psf", "psf.tif", "--psf-voxel-size", "1,1"], "The PSF image has 3 dimensions, its v"),
    ],
)
def test_psfs_that_make_no_sense_are_refused(
    run: Run, here: Path, words: list[str], sentence: str
) -> None:
    before = listing(here)
    assert_refused(run(*restoring_cell(psf=tuple(words))), sentence)
    assert listing(here) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "gpu"], "The engine 'gpu' is not known; choose one of auto, cpu, opencl, t"),
        (["--method", "care"], "The method 'care' is not known; choose richardson-lucy or wiener"),
        (["--method", "wiener"], "The method wiener has no --iterations"),
        (["--regularization", "0.1"], "The method wiener has no --iterations"),
        (["--regularization", "much"], "--regularization 'much' is neither a number nor 'auto'"),
        (["--background", "dark"], "--background 'dark' is neither a number nor 'auto'"),
        (["--background", "nan"], "The background (a number, or 'auto') must be a finite number"),
        (["--background", "1e6"], "The background, 1e+06, is not below the brightest voxel"),
        (["--seam", "5"], "The tolerance of a seam is a part of the maximum, such as 0.001"),
        (["--iterations", "0"], "The number of iterations must be a whole number of at least 1"),
        (["--acceleration", "fast"], "The acceleration 'fast' is not known; choose one of nu-me"),
        (["--tv-weight", "5"], "A total variation weight of 5 flattens everything"),
        (["--edges", "none"], "The edges 'none' are not known"),
        (["--voxel-size", "a,b,c"], "--voxel-size 'a,b,c' is not a list of numbers such as 0.3,"),
        (["--voxel-size", "0.3"], "A voxel size has two or three numbers"),
        (["--voxel-size", "0.1,0.1"], "A voxel size of 2 numbers does not fit the axes ZYX"),
        (["--voxel-size", "0,0.1,0.1"], "The z spacing in um must be greater than 0"),
        (["--voxel-size", "0.3,nan,0.1"], "The y spacing in um must be a finite number"),
        (["--dtype", "int8"], "The type 'int8' is not written; choose float32 or uint16"),
        (["--ome-zarr-version", "0.1"], "OME-Zarr '0.1' is not written; choose 0.4 or 0.5"),
        (["--ome-zarr-version", "0.4"], "--ome-zarr-version tells how an OME-Zarr is written, and"),
        (["--output", "out.png"], "'out.png' does not say which format to write"),
        (["--output", "no/out.ome.tif"], "There is no folder"),
        (["--output", "psf.tif/out.ome.tif"], "There is no folder"),
        (["--save-recipe", "no/r.json"], "There is no folder no"),
        (["--save-recipe", "psf.tif"], "psf.tif exists already"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_before_any_work(
    run: Run, here: Path, words: list[str], sentence: str
) -> None:
    before = listing(here)
    ended = run(*restoring_cell(*words))
    assert_refused(ended, sentence)
    assert "Progress    1/" not in ended.err
    assert listing(here) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "gpu"], "The engine 'gpu' is not known"),
        (["--output", "psf.tif/out.ome.tif"], "There is no folder"),
    ],
)
def test_options_are_refused_by_the_installed_command(
    here: Path, words: list[str], sentence: str
) -> None:
    before = listing(here)
    assert_refused(run_apart(*restoring_cell(*words)), sentence)
    assert listing(here) == before


def test_a_computed_psf_needs_a_voxel_size(run: Run, here: Path) -> None:
    save(here / "cell.tif", tifffile.imread(here / "cell.tif"), None)
    sentence = "The voxel size of the image is unknown, so no PSF can be computed; give it (--vox"
    assert_refused(run(*restoring_cell(psf=OPTICS)), sentence)
    assert run(*restoring_cell("--voxel-size", "0.3,0.1,0.1", psf=OPTICS)).code == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "The recipe r.json is not usable. This is not JSON"),
        ("cell.tif", "The recipe r.json is not usable. This is not JSON"),
        ("[]", "The recipe r.json is not usable. Recipe is written as a JSON object"),
        ('{"speed": 3}', "Recipe has no field 'speed'; it knows psf, method, background, engine"),
        ('{"psf": {"kind": "PsfFile", "path": "a"}, "method": {"kind": "X"}}', "Unknown kind 'X'"),
        (
            '{"psf": {"kind": "PsfFile", "path": "a"}, '
            '"method": {"kind": "RichardsonLucy", "iterations": "ten"}}',
            "RichardsonLucy: iterations must be a whole number, not 'ten'",
        ),
    ],
)
def test_recipes_that_are_none_are_refused(run: Run, here: Path, text: str, sentence: str) -> None:
    (here / "r.json").write_text(text)
    before = listing(here)
    words = ("restore", "cell.tif", "-o", "out.ome.tif", "--recipe", "r.json")
    assert_refused(run(*words), sentence)
    assert listing(here) == before


def test_a_missing_recipe_is_told(run: Run) -> None:
    words = ("restore", "cell.tif", "-o", "out.ome.tif", "--recipe", "no.json")
    assert_refused(run(*words), "The recipe no.json cannot be read: ")


@pytest.mark.parametrize(
    "words",
    [
        ["restore"],
        ["restore", "cell.tif"],
        ["restore", "cell.tif", "-o", "a.ome.tif", "--iterations", "ten"],
        ["restore", "cell.tif", "-o", "a.ome.tif", "--speed", "3"],
        ["undo"],
    ],
    ids=str,
)
def test_wrong_usage_has_a_code_of_its_own(run: Run, words: list[str]) -> None:
    ended = run(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.said("Usage: ")
    assert ended.said("Error")


# -- output ----------------------------------------------------------------------------


def test_an_existing_output_is_replaced_only_where_allowed(run: Run, here: Path) -> None:
    (here / "out.ome.tif").write_bytes(b"older")
    sentence = "out.ome.tif exists already; choose another name, or allow it to be overwritten"
    ended = run(*restoring_cell())
    assert_refused(ended, sentence)
    assert "Progress" not in ended.err
    assert (here / "out.ome.tif").read_bytes() == b"older"
    assert run(*restoring_cell("--overwrite")).code == 0
    assert read_stack("out.ome.tif").shape == SHAPE


def test_a_failed_run_keeps_the_older_output(run: Run, here: Path) -> None:
    (here / "out.ome.tif").write_bytes(b"older")
    save(here / "psf.tif", np.zeros((5, 7, 7), np.float32))
    assert_refused(run(*restoring_cell("--overwrite")), "The PSF sums to zero")
    assert (here / "out.ome.tif").read_bytes() == b"older"


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*words: Any, **more: Any) -> NoReturn:
        raise error

    return fail


def test_a_folder_without_permission_is_told_before_any_work(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(tempfile, "TemporaryFile", raising(denied))
    before = listing(here)
    ended = run(*restoring_cell())
    assert_refused(ended, "may not be written")
    assert "Progress" not in ended.err
    assert listing(here) == before


def test_a_full_disk_is_told_before_any_work(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Full)
    before = listing(here)
    ended = run(*restoring_cell())
    assert_refused(ended, "free")
    assert "Progress" not in ended.err
    assert listing(here) == before


def test_a_disk_that_fills_up_leaves_nothing_behind(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "write", raising(OSError(errno.ENOSPC, "No space left on device")))
    before = listing(here)
    assert_refused(run(*restoring_cell("--save-recipe", "r.json")), "full")
    assert listing(here) == before


def test_too_little_memory_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "free_memory_bytes", lambda: 1000)
    assert_refused(
        run(*restoring_cell()), "Restoring needs 0.00 GB of memory for its result, but 0.00 GB"
    )
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "napari-deconv: Stopped; nothing was written.\n"),
        (
            MemoryError(),
            1,
            "napari-deconv: The device has not enough memory for",
        ),
        (
            RuntimeError("lost the device\nlong story"),
            1,
            "napari-deconv: This failed unexpectedly (RuntimeError: lost the device).\n",
        ),
        (ZeroDivisionError(), 1, "This failed unexpectedly (ZeroDivisionError: ZeroDivisionError)"),
    ],
)
def test_whatever_happens_ends_in_a_sentence(
    run: Run,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    monkeypatch.setattr(RichardsonLucy, "steps", raising(error))
    before = listing(here)
    ended = run(*restoring_cell("--save-recipe", "r.json"))
    assert ended.code == code
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert listing(here) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_stops_within_an_iteration_and_writes_nothing(here: Path) -> None:
    before = listing(here)
    words = restoring_cell("--iterations", "100000000", "--save-recipe", "r.json")
    with subprocess.Popen(
        [sys.executable, "-c", CALL, *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "opening the engine" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "napari-deconv: Stopped; nothing was written."
    assert "Traceback" not in rest
    assert listing(here) == before


# -- psf -------------------------------------------------------------------------------


def test_a_psf_is_computed_and_written(run: Run) -> None:
    ended = run("psf", "-o", "made.ome.tif", *OPTICS, "--voxel-size", "1,0.2,0.2")
    assert (ended.code, ended.out) == (0, "")
    stack = read_stack("made.ome.tif")
    assert (stack.axes, stack.grid) == ("ZYX", Grid(spacing_um=(1, 0.2, 0.2)))
    assert stack.data.sum() == pytest.approx(1, rel=1e-5)
    assert np.argwhere(stack.data == stack.data.max()).tolist() == [[n // 2 for n in stack.shape]]
    (known,) = stack.channel_optics
    assert (known.na, known.immersion_index, known.emission_nm) == (0.5, 1.0, 520)
    assert ended.said("PSF: widefield, NA 0.5, 520 nm")


AIR: dict[str, Any] = {"na": 0.5, "emission_nm": 520, "immersion_index": 1.0}
MICROSCOPES: dict[str, tuple[str, Optics]] = {
    "confocal --excitation-nm 488 --pinhole-au 0.7": (
        "confocal, NA 0.5, 488/520 nm, pinhole 0.7 AU",
        Optics("confocal", **AIR, excitation_nm=488, pinhole_au=0.7),
    ),
    "Spinning_Disk --excitation-nm 488": (
        "spinning-disk, NA 0.5, 488/520 nm",
        Optics("spinning-disk", **AIR, excitation_nm=488),
    ),
    "two-photon --excitation-nm 920": (
        "two-photon, NA 0.5, 920 nm",
        Optics("two-photon", **AIR, excitation_nm=920),
    ),
    "lightsheet --sheet-um 2": ("sheet 2 um", Optics("light-sheet", **AIR, sheet_um=2)),
    "STED --excitation-nm 488": (
        "effective-sted, NA 0.5, 488/520 nm, pinhole 1 AU, saturation 10",
        Optics("effective-sted", **AIR, excitation_nm=488),
    ),
    "widefield --zernike 5:0.4,12:-0.2 --model scalar": (
        "widefield (scalar), NA 0.5, 520 nm",
        Optics(**AIR, zernike_rad=(*[0] * 5, 0.4, *[0] * 6, -0.2), model="scalar"),
    ),
}


@pytest.mark.parametrize("words", MICROSCOPES)
def test_every_microscope_has_its_psf(run: Run, words: str) -> None:
    said, optics = MICROSCOPES[words]
    place = ("--voxel-size", "1,0.2,0.2", "--shape", "5,15,15")
    ended = run("psf", "-o", "made.ome.tif", *OPTICS, "--microscope", *words.split(), *place)
    assert ended.code == 0, ended.err
    assert ended.said(said)
    expected = compute_psf(optics, Grid(spacing_um=(1, 0.2, 0.2)), (5, 15, 15))
    np.testing.assert_array_equal(read_stack("made.ome.tif").data, expected.samples)


def test_the_width_of_a_computed_psf_is_that_of_an_airy_disc(run: Run) -> None:
    """Full width at half maximum in y and x: 0.514 wavelength / NA (Born and Wolf)."""
    words = ("psf", "-o", "made.ome.tif", *OPTICS, "--shape", "3,61,61")
    ended = run(*words, "--voxel-size", "0.5,0.04,0.04")
    width = float(ended.err.split("FWHM ")[1].split(" x ")[1])
    assert width == pytest.approx(0.514 * 0.52 / 0.5, rel=0.03)


def test_the_box_of_a_computed_psf_may_be_given(run: Run) -> None:
    words = ("psf", "-o", "made.ome.tif", *OPTICS, "--voxel-size", "1,0.2,0.2")
    assert run(*words, "--shape", "5,15,17").code == 0
    assert read_stack("made.ome.tif").shape == (5, 15, 17)


def test_a_psf_is_made_from_a_bead(run: Run, here: Path) -> None:
    bead = np.random.default_rng(0).poisson(100 + 2000 * gaussian((15, 21, 21), 1.5))
    save(here / "bead.tif", bead.astype(np.uint16), (0.15, 0.1, 0.1))
    ended = run("psf", "bead.tif", "-o", "made.ome.tif", "--voxel-size", "0.3,0.1,0.1")
    assert ended.code == 0
    assert ended.said("counts removed")
    assert ended.said("PSF: resampled in z from 0.15 to 0.3 um")
    stack = read_stack("made.ome.tif")
    assert stack.grid == Grid(spacing_um=(0.3, 0.1, 0.1))
    assert stack.data.sum() == pytest.approx(1, rel=1e-5)
    # The one made from a bead is then used as it is.
    assert run(*restoring_cell(psf=("--psf", "made.ome.tif"))).code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--na", "0.5"], "--emission-nm missing"),
        (["no.tif"], "There is no file"),
        (["psf.tif", "--na", "0.5"], "Give either the image of a bead or optics (--na ...), not"),
        ([*OPTICS, "--shape", "5,nan,5"], "--shape '5,nan,5' is not a list of whole numbers"),
        ([*OPTICS, "--shape", "5.5,5,5"], "--shape '5.5,5,5' is not a list of whole numbers"),
        ([*OPTICS, "--shape", "5,5"], "shape"),
        ([*OPTICS, "--shape", "0,5,5"], "shape"),
        ([*OPTICS, "--shape", "-5,5,5"], "shape"),
        ([*OPTICS, "--output", "psf.tif"], "psf.tif exists already"),
        (["--na", "2", "--emission-nm", "520"], "NA 2 is not below the refractive index of the"),
    ],
    ids=str,
)
def test_psfs_that_cannot_be_made_are_refused(
    run: Run, here: Path, words: list[str], sentence: str
) -> None:
    before = listing(here)
    ended = run("psf", "-o", "made.ome.tif", "--voxel-size", "0.3,0.1,0.1", *words)
    assert_refused(ended, sentence)
    assert listing(here) == before


# -- devices and demo ------------------------------------------------------------------


def test_devices_are_listed_with_their_self_test(run: Run) -> None:
    ended = run("devices")
    assert ended.code == 0
    for start in ("cpu     CPU, ", "opencl  CPU ", "torch   CPU, ", "auto    would use "):
        assert any(line.startswith(start) for line in ended.out.splitlines()), start
    assert all(line.endswith(": works") for line in ended.out.splitlines()[:-1])


def test_devices_are_listed_as_json(run: Run) -> None:
    ended = run("devices", "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert {row["engine"] for row in told["devices"]} == {"cpu", "opencl", "torch"}
    assert all(row["self_test"] == "works" for row in told["devices"])
    assert told["auto"] in {row["device"] for row in told["devices"]}


def test_the_demo_writes_a_stack_and_a_picture(run: Run, here: Path) -> None:
    ended = run("demo", "--no-viewer", "--folder", "shown", "--iterations", 1, "--engine", "cpu")
    assert (ended.code, ended.out) == (0, "")
    files = sorted(entry.name for entry in (here / "shown").iterdir())
    assert files == ["before_after.png", "restored.ome.tif"]
    stack = read_stack(here / "shown" / "restored.ome.tif")
    assert stack.shape == (56, 180, 206)
    assert stack.grid == Grid(spacing_um=(0.3, 0.1015, 0.1015))
    assert (here / "shown" / "before_after.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert ended.said("Picture     shown/before_after.png")


def test_the_demo_needs_a_folder_before_any_work(run: Run, here: Path) -> None:
    before = listing(here)
    ended = run("demo", "--no-viewer", "--folder", "psf.tif")
    assert_refused(ended, "The folder psf.tif cannot be made: ")
    assert "Progress" not in ended.err
    assert listing(here) == before


def test_what_is_read_is_never_replaced(run: Run, here: Path) -> None:
    """Not even where outputs may be: the raw data would be gone."""
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    for option, name, what in (
        ("-o", "cell.ome.tif", "cell.ome.tif"),
        ("-o", "psf.ome.tif", "psf.ome.tif"),
        ("--save-recipe", "cell.ome.tif", "cell.ome.tif"),
        ("--save-recipe", "out.ome.tif", "out.ome.tif"),
    ):
        for stem in ("cell", "psf"):
            (here / f"{stem}.ome.tif").write_bytes(before[f"{stem}.tif"])
        words = ["restore", "cell.ome.tif", "-o", "out.ome.tif", "--psf", "psf.ome.tif"]
        ended = run(*words, "--iterations", 2, "--engine", "cpu", "--overwrite", option, name)
        assert_refused(ended, f"{name} would replace {what}, or lie in it")
        assert not (here / "out.ome.tif").exists()
    for name, content in before.items():
        assert (here / name).read_bytes() == content


def test_a_recipe_does_not_replace_an_image_whose_voxel_size_is_typed(run: Run, here: Path) -> None:
    raw = (here / "cell.tif").read_bytes()
    more = ("--voxel-size", "0.3,0.1,0.1", "--save-recipe", "cell.tif", "--overwrite")
    assert_refused(run(*restoring_cell(*more)), "cell.tif would replace cell.tif, or lie in it")
    assert (here / "cell.tif").read_bytes() == raw


def test_a_result_does_not_go_into_the_image_that_is_read(run: Run, here: Path) -> None:
    write_stack(here / "cell.ome.zarr", read_stack(here / "cell.tif"))
    words = restoring_cell("-o", "cell.ome.zarr/0/x.ome.tif")
    words[1] = "cell.ome.zarr"
    assert_refused(run(*words), "x.ome.tif would replace cell.ome.zarr, or lie in it")


def test_voxels_that_make_the_psf_one_voxel_are_refused(run: Run) -> None:
    """Nanometres where micrometres are meant."""
    ended = run(*restoring_cell("--voxel-size", "300,100,100"))
    assert_refused(ended, "On the voxels of the image, 300 x 100 x 100 um, the PSF is a single")


def test_a_voxel_size_that_only_the_psf_knows_is_noted(run: Run, here: Path) -> None:
    save(here / "cell.tif", np.ones(SHAPE, np.uint16), None)
    ended = run(*restoring_cell())
    assert ended.code == 0
    assert ended.said("the voxel size of the image is unknown, taken to be the PSF's, 0.3 x 0.1")
