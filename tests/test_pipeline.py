"""The one road: whatever comes in leaves restored, recorded, or refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from scipy.signal import fftconvolve

import napari_deconv
from napari_deconv import engines, pipeline, surveying, tiling
from napari_deconv.engines import Device
from napari_deconv.engines.composed import Composed
from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.files.recipe import PsfFile, Recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_image import psf_from_image
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import (
    Record,
    export,
    restore,
    restore_stack,
    restoring,
)
from napari_deconv.restoration import wiener_in_tiles
from napari_deconv.restoration.engine import Complex, Filter, Float
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended
from napari_deconv.restoration.wiener import Wiener

Array = npt.NDArray[np.float64]
MakePsf = Callable[[tuple[int, ...]], Array]
MakeImage = Callable[[tuple[int, ...]], Array]

SIZES = {"T": 2, "C": 3, "Z": 5, "Y": 12, "X": 14}
GRID = Grid(spacing_um=(0.3, 0.1, 0.1))
QUICK = RichardsonLucy(4)


def recipe_of(psf: Any, method: Any = QUICK, **more: Any) -> Recipe:
    return Recipe(**{"psf": psf, "method": method, "engine": "cpu", **more})


@pytest.fixture
def psf(asymmetric_psf: MakePsf) -> Psf:
    return Psf(asymmetric_psf((3, 5, 4)))


@pytest.fixture
def stack_of(photons: MakeImage) -> Callable[..., Stack]:
    """Return a maker of stacks whose blocks all differ."""

    def make(axes: str, grid: Grid | None = GRID, **more: Any) -> Stack:
        spatial = "ZYX" if "Z" in axes else "YX"
        leading = [SIZES[axis] for axis in axes if axis in "TC"]
        block = photons(tuple(SIZES[axis] for axis in spatial))
        scale = 1 + np.arange(math.prod(leading)).reshape(*leading, *[1] * len(spatial))
        if grid is not None and spatial == "YX":
            grid = Grid(spacing_um=grid.spacing_um[1:])
        return Stack(scale * block, axes, grid, "cells", **more)

    return make


# -- restore ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "uint16", "int16", "uint32", ">u2", "int64", "f2", "f4", "f8"],
)
def test_every_real_type_is_restored_alike(photons: MakeImage, psf: Psf, dtype: str) -> None:
    image = (photons((5, 12, 14)) % 2 if dtype == "bool" else photons((5, 12, 14)) % 100).astype(
        dtype
    )
    result = restore(image, psf, method=QUICK, engine="cpu")
    assert result.dtype == np.float32
    expected = restore(image.astype(np.float64), psf, method=QUICK, engine="cpu")
    assert np.array_equal(result, expected)


def test_where_no_method_is_named_richardson_lucy_stops_by_itself(
    stack_of: Callable[..., Stack], psf: Psf
) -> None:
    stack = stack_of("ZYX")
    restored = restore_stack(stack, Recipe(psf, engine="cpu", background=1.0))
    assert "rehearsal" in restored.record.blocks[0].stop_reason
    again = restore(stack.data, psf, background=1.0, engine="cpu")
    assert np.array_equal(restored.stack.data, again)


def test_the_psf_may_be_a_plain_array(photons: MakeImage, asymmetric_psf: MakePsf) -> None:
    image, samples = photons((5, 12, 14)), 1000 * asymmetric_psf((3, 5, 4))
    found = restore(image, samples, method=QUICK, engine="cpu")
    assert np.array_equal(found, restore(image, Psf(samples), method=QUICK, engine="cpu"))
    assert np.array_equal(found, restore(image, samples.tolist(), method=QUICK, engine="cpu"))


def test_the_background_is_no_part_of_the_result(psf: Psf) -> None:
    result = restore(np.full((5, 12, 14), 140.0), psf, method=QUICK, background=100, engine="cpu")
    assert result.mean() == pytest.approx(40, rel=0.02)


@pytest.mark.parametrize("method", [QUICK, Wiener()])
def test_negative_values_are_warned_of(photons: MakeImage, psf: Psf, method: Any) -> None:
    image = photons((5, 12, 14)) + 1
    image[0, 0, :7] = -3
    with pytest.warns(UserWarning, match=r"^7 negative values \(0\.83 % of the image\) were set"):
        found = restore(image, psf, method=method, engine="cpu")
    assert np.array_equal(found, restore(image.clip(0), psf, method=method, engine="cpu"))
    assert image.min() == -3


def test_notes_of_the_psf_are_no_warnings_but_what_becomes_of_it_is(
    photons: MakeImage, psf: Psf
) -> None:
    noted = psf.with_notes("PSF: background of 100 counts removed")
    restore(photons((5, 12, 14)), noted, method=QUICK, engine="cpu")
    with pytest.warns(UserWarning, match="its focal plane is used") as caught:
        restore(photons((12, 14)), noted, method=QUICK, engine="cpu")
    assert len(caught) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(psf: Psf, bad: float) -> None:
    image = np.ones((5, 12, 14))
    image[0, 0, 0] = bad
    with pytest.raises(InputError, match="The image holds 1 NaN or infinite values"):
        restore(image, psf, engine="cpu")


def test_an_unknown_engine_is_refused(psf: Psf) -> None:
    with pytest.raises(InputError, match="The engine 'gpu' is not known"):
        restore(np.ones((5, 12, 14)), psf, engine="gpu")


# -- stacks ----------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "CYX", "CZYX", "TZYX", "TCZYX"])
@pytest.mark.parametrize("method", [QUICK, Wiener(0.01)], ids=["richardson-lucy", "wiener"])
def test_each_block_is_restored_as_if_alone(
    stack_of: Callable[..., Stack], psf: Psf, axes: str, method: Any
) -> None:
    known = (KnownOptics(1.2, 1.33, 520.0),) * (3 if "C" in axes else 1)
    stack = stack_of(axes, channel_optics=known, time_step_s=2.0)
    before = stack.data.copy()
    done = restore_stack(stack, recipe_of(psf, method, background=2.0))
    result = done.stack
    assert (result.axes, result.grid, result.shape) == (axes, stack.grid, stack.shape)
    assert (result.channel_optics, result.time_step_s) == (known, 2.0)
    assert result.name == "cells restored"
    assert result.data.dtype == np.float32
    assert np.array_equal(stack.data, before)
    assert [block.index for block in done.record.blocks] == list(stack.blocks())
    plane = psf if "Z" in axes else Psf(psf.samples[1])
    for index in stack.blocks():
        alone = restore(stack.data[index], plane, method=method, background=2.0, engine="cpu")
        assert np.array_equal(result.data[index], alone)


def test_a_lazy_stack_gives_the_same_as_one_in_memory(
    stack_of: Callable[..., Stack], psf: Psf
) -> None:
    stack = stack_of("CZYX")
    lazy = Stack(da.from_array(stack.data, chunks=(1, 2, 6, 7)), "CZYX", stack.grid)
    recipe = recipe_of(psf)
    expected, found = restore_stack(stack, recipe), restore_stack(lazy, recipe)
    assert isinstance(found.stack.data, np.ndarray)
    assert np.array_equal(found.stack.data, expected.stack.data)
    assert found.record.blocks == expected.record.blocks


def test_the_automatic_background_is_that_of_each_image(psf: Psf) -> None:
    """So an image is restored in a movie as it is alone."""
    rng = np.random.default_rng(0)
    levels = np.array([[10, 100, 30], [50, 140, 70]]).reshape(2, 3, 1, 1, 1)
    stack = Stack(rng.poisson(levels, (2, 3, 5, 24, 28)), "TCZYX", GRID)
    record = restore_stack(stack, recipe_of(psf, RichardsonLucy(1))).record
    found = {block.index: block.background for block in record.blocks}
    for place in np.ndindex(2, 3):
        level = float(levels[place].item())
        assert found[place] == pytest.approx(level, abs=0.6 * math.sqrt(level))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (np.zeros((5, 6, 7)), "The image is zero everywhere: there is nothing to restore. Check"),
        (np.full((5, 6, 7), -3), "The image is nowhere above zero"),
        (np.full((5, 6, 7), 1e200), "values up to"),
        (np.ones((5, 6, 7), complex), "The image is complex"),
        (np.full((5, 6, 7), "a"), "The image is not made of numbers but of <U1"),
        (np.full((5, 6, 7), np.nan), "The image holds 210 NaN or infinite values"),
    ],
)
def test_stacks_that_cannot_be_restored_are_refused(data: Any, sentence: str, psf: Psf) -> None:
    with pytest.raises(InputError, match=sentence):
        restore_stack(Stack(data, "ZYX"), recipe_of(psf))


@pytest.mark.parametrize("background", [7, 7.5])
def test_a_background_above_all_of_the_image_is_refused(background: float, psf: Psf) -> None:
    stack = Stack(np.full((5, 6, 7), 7, np.uint8), "ZYX")
    with pytest.raises(InputError, match=r"is not below the brightest voxel, 7: nothing would be"):
        restore_stack(stack, recipe_of(psf, background=background))


def test_saturation_is_told_for_the_first_of_many_blocks(psf: Psf) -> None:
    data = np.random.default_rng(0).poisson(9, (3, 5, 16, 17)).astype(np.uint8)
    data[1, 2, 4] = data[2, 2, 4:6] = 255
    (note,) = restore_stack(Stack(data, "TZYX"), recipe_of(psf, RichardsonLucy(2))).record.notes
    assert note.startswith("17 voxels (1.2 % of the image) are at 255, the most that 8 bits hold")
    assert note.endswith("(first at t 1)")


def test_a_method_by_its_name_alone_is_none(psf: Psf) -> None:
    with pytest.raises(
        InputError, match=r"'wiener' is not known; give RichardsonLucy\(\.\.\.\) or"
    ):
        restore(np.ones((5, 6, 7)), psf, method="wiener")  # type: ignore[arg-type]


def test_nothing_is_opened_for_a_stack_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, psf: Psf
) -> None:
    monkeypatch.setattr(engines, "open_engine", lambda name: pytest.fail("opened"))
    with pytest.raises(InputError, match="zero everywhere"):
        restore_stack(Stack(np.zeros((5, 6, 7)), "ZYX"), recipe_of(psf))


# -- PSFs ------------------------------------------------------------------------------


@pytest.fixture
def bead_file(tmp_path: Path) -> Path:
    """Return a bead of 0.2 um in all axes, without background, on voxels of 0.1 um."""
    places = np.indices((21, 21, 21)) - 10
    samples = np.exp(-(places**2).sum(0) / 8).astype(np.float32)
    told = {"axes": "ZYX", "spacing": 0.1, "unit": "um"}
    path = tmp_path / "bead.tif"
    tifffile.imwrite(path, samples, imagej=True, resolution=(10, 10), metadata=told)
    return path


def test_a_psf_file_is_brought_to_the_voxels_of_the_stack(
    stack_of: Callable[..., Stack], bead_file: Path
) -> None:
    done = restore_stack(stack_of("ZYX"), recipe_of(PsfFile.of(bead_file)))
    assert done.psf.spacing_um == GRID.spacing_um
    assert done.record.psf_shape == done.psf.shape
    assert "PSF: resampled in z from 0.1 to 0.3 um" in done.record.notes
    assert not any("changed" in note for note in done.record.notes)


def test_an_export_does_not_replace_the_psf(
    stack_of: Callable[..., Stack], bead_file: Path
) -> None:
    done = restore_stack(stack_of("ZYX"), recipe_of(PsfFile.of(bead_file), RichardsonLucy(1)))
    before = bead_file.read_bytes()
    with pytest.raises(InputError, match="would replace"):
        export(done, bead_file, overwrite=True)
    assert bead_file.read_bytes() == before


def test_a_psf_file_that_has_changed_is_told(
    stack_of: Callable[..., Stack], bead_file: Path
) -> None:
    recipe = recipe_of(PsfFile.of(bead_file))
    tifffile.imwrite(bead_file, 2 * tifffile.imread(bead_file))
    done = restore_stack(stack_of("ZYX"), recipe)
    assert "PSF: the file has changed since the recipe was written" in done.record.notes


def test_the_voxel_size_of_the_recipe_is_taken_for_the_psf_file(
    stack_of: Callable[..., Stack], bead_file: Path
) -> None:
    source = PsfFile.of(bead_file, voxel_size_um=GRID.spacing_um)
    done = restore_stack(stack_of("ZYX"), recipe_of(source))
    assert not any("resampled" in note for note in done.record.notes)


def test_a_psf_file_of_several_channels_is_refused(
    stack_of: Callable[..., Stack], tmp_path: Path
) -> None:
    path = tmp_path / "two.tif"
    voxels = np.ones((5, 2, 6, 7), np.uint16)
    tifffile.imwrite(path, voxels, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(InputError, match=r"The PSF two\.tif has the axes CZYX; give one with z, y"):
        restore_stack(stack_of("ZYX"), recipe_of(PsfFile.of(path)))


def test_a_missing_psf_file_is_told(stack_of: Callable[..., Stack], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*no\.tif"):
        restore_stack(stack_of("ZYX"), recipe_of(PsfFile(str(tmp_path / "no.tif"))))


def test_samples_on_other_voxels_are_resampled(stack_of: Callable[..., Stack]) -> None:
    places = np.indices((21, 21, 21)) - 10
    psf = Psf(np.exp(-(places**2).sum(0) / 8), (0.1, 0.1, 0.1))
    done = restore_stack(stack_of("ZYX"), recipe_of(psf))
    expected = psf_from_image(psf.samples, psf.spacing_um, GRID, background=0)
    assert np.array_equal(done.psf.samples, expected.samples)
    assert "PSF: resampled in z from 0.1 to 0.3 um" in done.record.notes


@pytest.mark.parametrize("spacing", [None, GRID.spacing_um, (0.3, 0.10005, 0.1)])
def test_samples_on_the_voxels_of_the_stack_are_left_alone(
    stack_of: Callable[..., Stack], psf: Psf, spacing: tuple[float, ...] | None
) -> None:
    given = Psf(psf.samples, spacing)
    assert restore_stack(stack_of("ZYX"), recipe_of(given)).psf is given


def test_a_volume_of_a_psf_serves_a_plane(stack_of: Callable[..., Stack], psf: Psf) -> None:
    given = Psf(psf.samples, GRID.spacing_um)
    done = restore_stack(stack_of("YX"), recipe_of(given))
    assert len(done.psf.shape) == 2
    assert any("focal plane" in note for note in done.record.notes)


def test_a_computed_psf_needs_the_voxel_size(stack_of: Callable[..., Stack]) -> None:
    optics = Optics(na=0.5, emission_nm=520, immersion_index=1.0)
    with pytest.raises(InputError, match="The voxel size of the image is unknown, so no PSF can"):
        restore_stack(stack_of("ZYX", None), recipe_of(optics))
    done = restore_stack(stack_of("ZYX"), recipe_of(optics, RichardsonLucy(1)))
    assert done.psf.spacing_um == GRID.spacing_um


# -- the record ------------------------------------------------------------------------


def test_the_record_says_all_that_happened(stack_of: Callable[..., Stack], psf: Psf) -> None:
    stack = stack_of("CZYX")
    stack.data[1, 0, 0, :3] = -1
    recipe = recipe_of(psf, RichardsonLucy(5), background=2.0)
    done = restore_stack(stack, recipe)
    record = done.record
    assert done.recipe is recipe
    assert (record.engine, record.version) == ("cpu", napari_deconv.__version__)
    assert record.device == CpuEngine().device
    assert 0 < record.seconds < 60
    assert 2**24 < record.peak_memory_bytes < 2**40
    assert record.psf_shape == psf.shape
    assert record.notes == (
        "3 negative values (0.36 % of the image) were set to 0: photon counts are not negative "
        "(first at c 1)",
    )
    for block in record.blocks:
        assert block.background == 2.0
        assert block.iterations == 5
        assert block.stop_reason == "stopped at the maximum of 5 iterations"
        assert len(block.divergences) == 5
        assert list(block.divergences) == sorted(block.divergences, reverse=True)
    assert Record.from_json(record.to_json()) == record


def test_each_note_is_said_once(stack_of: Callable[..., Stack]) -> None:
    large = Psf(np.ones((1, 1, 31)))
    notes = restore_stack(stack_of("TCZYX"), recipe_of(large, RichardsonLucy(1))).record.notes
    assert len(notes) == len(set(notes)) == 1
    assert "is larger than the image" in notes[0]


def test_stopping_early_is_recorded(stack_of: Callable[..., Stack], psf: Psf) -> None:
    method = RichardsonLucy(500, stop_tolerance=1e-2)
    (block,) = restore_stack(stack_of("ZYX"), recipe_of(psf, method)).record.blocks
    assert block.iterations == len(block.divergences) < 500
    assert block.stop_reason.startswith(f"stopped after {block.iterations} iterations: the likel")


def test_wiener_is_recorded_without_divergences(stack_of: Callable[..., Stack], psf: Psf) -> None:
    (block,) = restore_stack(stack_of("ZYX"), recipe_of(psf, Wiener(0.25))).record.blocks
    assert (block.iterations, block.divergences) == (1, ())
    assert block.stop_reason == "one step, regularization 0.25"


# -- step by step ----------------------------------------------------------------------


def test_progress_counts_over_all_blocks(stack_of: Callable[..., Stack], psf: Psf) -> None:
    """Also where a block is empty, or stops early."""
    stack = stack_of("CZYX")
    stack.data[1] = 0
    method = RichardsonLucy(40, stop_tolerance=0.02)
    steps = list(restoring(stack, recipe_of(psf, method, background=2.0)))
    assert [step.note for step in steps[:3]] == [
        "preparing the PSF",
        "opening the engine (the first use of a GPU compiles for some seconds)",
        f"running on {CpuEngine().device} (as chosen)",
    ]
    counted = steps[3:]
    assert {step.total for step in counted} == {120}
    done = [step.done for step in counted]
    assert done == sorted(done)
    assert done[0] == 1
    assert {40, 80, 120} <= set(done)
    assert done[-1] == 120
    assert counted[0].note == "tile 1 of 3"
    assert "tile 2 of 3, the image is zero everywhere" in {step.note for step in counted}
    assert all(step.estimate is None for step in counted)


class Watched(CpuEngine):
    """A CPU engine that counts its updates and its releases, and may fail at an update."""

    def __init__(self, fail_at: int = 0) -> None:
        super().__init__(workers=1)
        self.device = "watched"
        self.updates, self.releases, self.fail_at = 0, 0, fail_at

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> Any:
        watched, made = self, super().filter(transfer, shape, window)

        class Blur(Composed):
            engine = watched

            def forward(self, x: Any) -> Any:
                return made.forward(x)

            def adjoint(self, x: Any) -> Any:
                watched.updates += shape != (5, 6, 7)  # that of the self-test
                if watched.fail_at and watched.updates >= watched.fail_at:
                    raise RuntimeError("the device was lost\nsecond line")
                return made.adjoint(x)

        blur: Filter = Blur()
        return blur

    def release(self) -> None:
        self.releases += 1


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    engine = Watched()
    monkeypatch.setattr(engines, "open_engine", lambda name: engine)
    return engine


def test_a_run_to_its_end_frees_the_device(
    stack_of: Callable[..., Stack], psf: Psf, watched: Watched
) -> None:
    restore_stack(stack_of("CZYX"), recipe_of(psf))
    assert (watched.updates, watched.releases) == (12, 1)
    restore(stack_of("ZYX").data, psf, method=QUICK)
    assert watched.releases == 2


def test_cancelling_frees_the_device_within_one_iteration(
    stack_of: Callable[..., Stack], psf: Psf, watched: Watched
) -> None:
    run = restoring(stack_of("ZYX"), recipe_of(psf, RichardsonLucy(1_000_000)))
    steps: list[Step] = [next(run) for _ in range(6)]
    assert [step.done for step in steps] == [0, 0, 0, 1, 2, 3]
    run.close()
    assert watched.releases == 1
    assert watched.updates == 3
    with pytest.raises(StopIteration):
        next(run)


def test_cancelling_before_the_engine_opens_is_nothing(
    stack_of: Callable[..., Stack], psf: Psf, watched: Watched
) -> None:
    run = restoring(stack_of("ZYX"), recipe_of(psf))
    next(run)
    next(run)
    run.close()
    assert (watched.updates, watched.releases) == (0, 0)


def test_a_failure_frees_the_device(
    stack_of: Callable[..., Stack], psf: Psf, watched: Watched
) -> None:
    stack = stack_of("CZYX")
    stack.data[2, 0, 0, 0] = np.nan
    unread = replace(stack, data=da.from_array(stack.data, chunks=(1, -1, -1, -1)))
    with pytest.raises(InputError, match="1 NaN or infinite"):
        restore_stack(unread, recipe_of(psf))
    assert watched.releases == 1
    watched.fail_at = 1
    with pytest.raises(RuntimeError, match="the device was lost"):
        restore(stack_of("ZYX").data, psf, method=QUICK)
    assert watched.releases == 2


def test_a_result_that_is_not_finite_is_no_result(
    stack_of: Callable[..., Stack], psf: Psf, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(self: CpuEngine, array: Float, shape: tuple[int, ...]) -> Float:
        return np.full(shape, np.nan, np.float32)

    monkeypatch.setattr(Watched, "pull", pull)
    with pytest.raises(RuntimeError, match="The result is not finite: the device computed wrongly"):
        restore_stack(stack_of("ZYX"), recipe_of(psf))
    with pytest.raises(RuntimeError, match="The result is not finite"):
        restore(stack_of("ZYX").data, psf, method=QUICK)
    assert watched.releases == 2


# -- a GPU that fails ------------------------------------------------------------------


@pytest.fixture
def machine_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Return a function that makes this machine have one GPU."""

    def install(opener: Callable[[], Any]) -> None:
        def found() -> Iterator[Device]:
            yield Device("torch", "GPU of the test", True, None, opener)

        monkeypatch.setattr(
            engines, "_GPU_DRIVERS", dict.fromkeys(("torch", "opencl"), lambda: True)
        )
        monkeypatch.setattr(engines, "_torch", found)
        monkeypatch.setattr(engines, "_GPU_DRIVERS", {"torch": lambda: True})

    return install


class Gpu(Watched):
    """A GPU that computes on the CPU."""

    name = "torch"


def test_a_gpu_that_does_not_open_is_noted_and_the_cpu_restores(
    stack_of: Callable[..., Stack], psf: Psf, machine_with: Callable[..., None]
) -> None:
    def fail() -> Any:
        raise RuntimeError("no kernel image")

    expected = restore_stack(stack_of("ZYX"), recipe_of(psf))
    machine_with(fail)
    done = restore_stack(stack_of("ZYX"), recipe_of(psf, engine="auto"))
    assert np.array_equal(done.stack.data, expected.stack.data)
    assert (done.record.engine, done.record.device) == ("cpu", CpuEngine().device)
    assert done.record.notes == (
        "GPU of the test is not used: it failed its self-test (no kernel image)",
    )


@pytest.mark.parametrize("fail_at", [1, 3, 6])
def test_a_gpu_that_fails_on_the_way_gives_way_to_the_cpu(
    stack_of: Callable[..., Stack], psf: Psf, machine_with: Callable[..., None], fail_at: int
) -> None:
    """At its first use, amid the first block, and in the second."""
    stack, recipe = stack_of("CZYX"), recipe_of(psf, engine="auto")
    expected = restore_stack(stack, recipe_of(psf))
    gpu = Gpu(fail_at)
    machine_with(lambda: gpu)
    steps: list[Step] = []
    run = restoring(stack, recipe)
    while True:
        try:
            steps.append(next(run))
        except StopIteration as end:
            done = end.value
            break
    assert gpu.updates == fail_at
    assert gpu.releases == 1
    assert np.array_equal(done.stack.data, expected.stack.data)
    assert done.record.engine == "cpu"
    assert done.record.notes == ("watched failed (the device was lost); the CPU took over",)
    assert done.record.blocks == expected.record.blocks
    assert steps[-1].done == steps[-1].total == 12


def test_a_gpu_that_works_is_used_and_named(
    stack_of: Callable[..., Stack], psf: Psf, machine_with: Callable[..., None]
) -> None:
    machine_with(Gpu)
    record = restore_stack(stack_of("ZYX"), recipe_of(psf, engine="auto")).record
    assert (record.engine, record.device, record.notes) == ("torch", "watched", ())


def test_an_engine_that_was_chosen_does_not_give_way(
    stack_of: Callable[..., Stack], psf: Psf, machine_with: Callable[..., None]
) -> None:
    gpu = Gpu(fail_at=2)
    machine_with(lambda: gpu)
    with pytest.raises(RuntimeError, match="the device was lost"):
        restore_stack(stack_of("ZYX"), recipe_of(psf, engine="torch"))
    assert gpu.releases == 1


# -- memory -------------------------------------------------------------------


class Small(Gpu):
    """A GPU that has no memory for volumes of more than so many voxels."""

    most = 12_000

    def filter(self, transfer: Any, shape: tuple[int, ...], window: Any = None) -> Any:
        if math.prod(shape) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().filter(transfer, shape, window)


def test_a_device_without_the_memory_gets_smaller_tiles(
    psf: Psf, machine_with: Callable[..., None]
) -> None:
    """And its result is that of the whole, away from the rim."""
    image = np.random.default_rng(0).poisson(40, (2, 200, 150)).astype(np.float32)
    small = Psf(np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))
    stack = Stack(image, "CYX")
    expected = restore_stack(stack, recipe_of(small))
    machine_with(Small)
    done = restore_stack(stack, recipe_of(small, engine="torch"))
    assert done.record.engine == "torch"
    # The first block finds quarters, and the second begins with those.
    (note,) = (note for note in done.record.notes if "ran out of memory" in note)
    assert note.startswith("watched ran out of memory (CUDA out of memory. Tried to allocate")
    assert note.endswith("; tiles of 1/4 of the size were taken")
    inner = np.s_[:, 12:-12, 12:-12]
    error = np.abs(done.stack.data - expected.stack.data)[inner].max()
    assert 0 < error < 1e-3 * expected.stack.data.max()
    assert done.stack.data.shape == (2, 200, 150)


def test_a_device_without_memory_for_any_tile_gives_way(
    stack_of: Callable[..., Stack], psf: Psf, machine_with: Callable[..., None]
) -> None:
    class Tiny(Small):
        most = 400  # enough for the self-test

    machine_with(Tiny)
    done = restore_stack(stack_of("ZYX"), recipe_of(psf, engine="auto"))
    assert done.record.engine == "cpu"
    with pytest.raises(InputError, match="The device has not enough memory for"):
        restore_stack(stack_of("ZYX"), recipe_of(psf, engine="torch"))


@pytest.mark.parametrize(
    "method",
    [
        RichardsonLucy(30),
        RichardsonLucy(30, "none"),
        RichardsonLucy(20, tv_weight=0.001),
        Wiener(0.02),
    ],
    ids=str,
)
def test_tiles_are_the_whole(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a thousandth of the maximum, but for the rim; with less of a halo they miss it."""
    monkeypatch.setattr(tiling, "SPARE_BYTES", 0)
    squares = np.add.outer(np.arange(-4, 5) ** 2, np.arange(-4, 5) ** 2)
    psf = Psf(np.exp(-squares / 6)[None] * np.array([0.3, 1, 0.3])[:, None, None])
    rng = np.random.default_rng(1)
    truth = np.where(rng.random((1, 8, 90, 300)) > 0.99, 900.0, 20.0)
    image = rng.poisson(fftconvolve(truth, psf.samples[None], "same").clip(0) + 5)
    stack = Stack(image.astype(np.uint16), "CZYX")
    recipe = Recipe(psf, method, 5.0, "cpu")
    whole = restore_stack(stack, recipe)
    budget = 4 * image.size + int(4 * (method.volumes + 1) * 8 * 96 * 190)
    parts = ended(restoring(stack, recipe, memory_bytes=budget))
    assert parts.record.blocks[0].tiles > 1
    assert parts.record.predicted_bytes <= budget
    # Unseen light beyond one end of an axis stands for that beyond the other as well, so that
    # the volume's own ends feel where the tile ends.
    inner = np.s_[..., 24:-24]
    error = np.abs(parts.stack.data - whole.stack.data)[inner].max()
    assert error < 1e-3 * whole.stack.data.max()
    monkeypatch.setattr(type(method), "halo", lambda *_: (8, 0, 0))
    worse = ended(restoring(stack, recipe, memory_bytes=budget))
    missed = np.abs(worse.stack.data - whole.stack.data)[inner].max()
    assert missed > 1e-3 * whole.stack.data.max()


def test_saturation_and_background_are_told_once_for_all_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiling, "SPARE_BYTES", 0)
    image = np.random.default_rng(0).poisson(20, (2, 64, 400)).astype(np.uint16)
    image[:, ::4, ::40] = 4095
    psf = Psf(np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))
    budget = 4 * image.size + 400_000
    lazy = Stack(da.from_array(image, (1, 32, 200)), "CYX")
    for background, sentence in (
        (0, "320 voxels (0.62 % of the image) are at 4095"),
        (5000, "The background, 5000, is not below"),
    ):
        run = restoring(lazy, recipe_of(psf, background=background), memory_bytes=budget)
        record = ended(run).record
        assert record.blocks[0].tiles > 1
        assert sum(note.startswith(sentence) for note in record.notes) == 1


def test_negative_values_are_told_once_for_all_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "SPARE_BYTES", 0)
    image = np.random.default_rng(0).poisson(20, (2, 64, 400)).astype(np.float32)
    image[0, :, ::40] = -1
    psf = Psf(np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))
    budget = 4 * image.size + 400_000
    run = restoring(Stack(image, "CYX"), recipe_of(psf), memory_bytes=budget)
    record = ended(run).record
    assert record.blocks[0].tiles > 1
    (note,) = (note for note in record.notes if "negative" in note)
    assert note.startswith("640 negative values (1.2 % of the image) were set to 0")


def test_tiles_that_cannot_agree_with_the_whole_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wiener through a widefield PSF, where the image is too large to know its slow changes."""
    monkeypatch.setattr(tiling, "SPARE_BYTES", 0)
    optics = Optics(na=1.2, emission_nm=520, immersion_index=1.33)
    grid = Grid(spacing_um=(0.3, 0.15, 0.15))
    psf = compute_psf(optics, grid, (9, 25, 25))
    image = np.random.default_rng(0).poisson(20, (4, 64, 500)).astype(np.uint16)
    stack = Stack(image, "ZYX", grid)

    def notes(method: Any, budget: int | None) -> list[str]:
        run = restoring(stack, Recipe(psf, method, 5.0, "cpu"), memory_bytes=budget)
        record = ended(run).record
        assert (record.blocks[0].tiles > 1) == (budget is not None)
        return [note for note in record.notes if "looks through the whole image" in note]

    less = 4 * image.size + 2_000_000
    assert notes(Wiener(0.01), less) == []
    monkeypatch.setattr(wiener_in_tiles, "WAVES", ())
    assert len(notes(Wiener(0.01), less)) == 1
    assert notes(Wiener(0.01), None) == []
    assert notes(RichardsonLucy(2), less) == []


def test_wiener_through_a_widefield_psf_leaves_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "SPARE_BYTES", 0)
    optics, grid = Optics(na=1.2, emission_nm=520, immersion_index=1.33), Grid((0.3, 0.15, 0.15))
    psf = compute_psf(optics, grid, (9, 25, 25))
    rng = np.random.default_rng(0)
    shading = np.linspace(0.3, 2, 500)[:, np.newaxis]
    image = rng.poisson(20 * shading, (4, 500, 90)).astype(np.uint16)
    recipe = Recipe(psf, Wiener(1e-3), 5.0, "cpu")
    whole = restore_stack(Stack(image, "ZYX", grid), recipe).stack.data
    run = restoring(Stack(image, "ZYX", grid), recipe, memory_bytes=4 * image.size + 4_800_000)
    restored = ended(run)
    assert restored.record.blocks[0].tiles > 1
    apart = np.abs(restored.stack.data - whole)[:, 100:-100]
    assert apart.max() < 1e-3 * whole.max()


def test_too_little_memory_is_refused_before_it_is_taken(
    stack_of: Callable[..., Stack], psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, recipe = stack_of("ZYX"), recipe_of(psf)
    monkeypatch.setattr(pipeline, "free_memory_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"^Restoring needs \d+\.\d\d GB of memory for its result"):
        restore_stack(stack, recipe)
    monkeypatch.setattr(pipeline, "free_memory_bytes", lambda: 2**30)
    restore_stack(stack, recipe)
    with pytest.raises(InputError, match="write it into an OME-Zarr file"):
        list(restoring(stack, recipe, memory_fraction=1e-6))
    with pytest.raises(InputError, match=r"^Tiles need at least 0\.\d\d GB of memory here"):
        list(restoring(stack, recipe, memory_bytes=2**20))


def test_where_the_samples_are_dark_the_brightest_place_decides() -> None:
    """A field that is empty but for a corner: its tiles are restored as that needs."""
    image = np.zeros((1, 900, 900), np.float32)
    image[0, 20:30, 860:870] = 50
    (facts,) = [facts for facts in surveying.facts_of(Stack(image, "ZYX"), ()) if facts is not None]
    assert facts.brightest == (0, 20, 860)
    psf = Psf(np.ones((1, 3, 3)))
    (sample,) = surveying.samples_of(Stack(image, "ZYX"), (), psf, 0.0, facts)
    assert sample.image.sum() == image.sum()
    method = Wiener("auto")
    dark = replace(sample, image=np.zeros_like(sample.image))
    cpu = engines.open_engine("cpu")
    assert method.settled([dark, sample], cpu) == method.settled([sample], cpu)
    assert RichardsonLucy.automatic().settled([sample], cpu).iterations > 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_not_finite_is_told_before_any_tile(value: float) -> None:
    image = np.ones((2, 8, 9), np.float32)
    image[1, 3, 4] = value
    with pytest.raises(InputError, match="holds NaN or infinite values"):
        list(surveying.facts_of(Stack(image, "ZYX"), ()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_of_several_blocks_the_one_that_is_not_finite_is_named_before_any_is_restored(
    stack_of: Callable[..., Stack], psf: Psf, value: float
) -> None:
    stack = stack_of("TCZYX")
    stack.data[1, 2, 0, 3, 4] = value
    wanted = r"holds 1 NaN or infinite .* before restoring \(at t 1, c 2, counted from 0\)$"
    steps = restoring(stack, recipe_of(psf))
    with pytest.raises(InputError, match=wanted):
        next(steps)
    # As it is counted in the file.
    with pytest.raises(InputError, match=r"\(at t 1, c 2, counted"):
        restore_stack(stack, recipe_of(psf, times=(1,), channels=(1, 2)))
    # What is not looked at is no matter.
    restore_stack(stack, recipe_of(psf, times=(0,)))
    # On disk it is met when it is read.
    lazy = replace(stack, data=da.from_array(stack.data, chunks=(1, 1, -1, -1, -1)))
    with pytest.raises(InputError, match=wanted):
        restore_stack(lazy, recipe_of(psf))


def test_of_a_single_block_that_is_not_finite_no_place_is_named(
    stack_of: Callable[..., Stack], psf: Psf
) -> None:
    stack = stack_of("ZYX")
    stack.data[0, 3, 4] = np.nan
    with pytest.raises(InputError, match=r"holds 1 NaN or infinite .* before restoring$"):
        restore_stack(stack, recipe_of(psf))
