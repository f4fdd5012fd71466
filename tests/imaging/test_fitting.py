"""Fitting optics to a PSF: known truths come back, and the error bars are those of the noise."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from napari_deconv.imaging.fit_parameters import FREE, names_of, value_of, with_values
from napari_deconv.imaging.fitting import FitStep, OpticsFit, fit_optics, fitting
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]

GRID = Grid(spacing_um=(0.3, 0.1, 0.1))
SHAPE = (15, 27, 27)
DEEP = Optics(na=1.25, emission_nm=520, sample_index=1.37, depth_um=4)
AIR = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
CONFOCAL = Optics("confocal", na=1.2, emission_nm=520, excitation_nm=488, immersion_index=1.333)
SHEET = Optics("light-sheet", na=1.0, emission_nm=520, immersion_index=1.333, sheet_um=1.5)


def clean(optics: Optics, **options: Any) -> Array:
    return compute_psf(optics, GRID, SHAPE, **options).samples.astype(np.float64)


def bead(optics: Optics, photons: float, background: float = 0.0, seed: int = 0) -> Psf:
    counts = np.random.default_rng(seed).poisson(photons * clean(optics) + background)
    return Psf(counts, GRID.spacing_um)


# --- known truths -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truth", "start", "error"),
    [
        # Errors: the model's rounding and interpolation, 1e-5..1e-4 of the peak, in each.
        (DEEP, {"na": 1.0}, 5e-4),
        (DEEP, {"depth_um": 0.0}, 0.01),
        (DEEP, {"depth_um": 18.0}, 0.01),
        (DEEP, {"sample_index": 1.5}, 5e-4),
        (DEEP, {"emission_nm": 600.0}, 0.2),
        (replace(DEEP, zernike_rad=(0.0,) * 12 + (0.4,)), {"zernike_12": 0.0}, 2e-3),
        (CONFOCAL, {"pinhole_au": 3.0, "na": 1.1}, 2e-3),
        (SHEET, {"sheet_um": 4.0, "na": 0.8}, 2e-3),
    ],
)
def test_truth_is_found_from_a_wrong_start(
    truth: Optics, start: dict[str, float], error: float
) -> None:
    psf = Psf(clean(truth), GRID.spacing_um)
    fit = fit_optics(psf, with_values(truth, start), free=tuple(start))
    for parameter in fit.parameters:
        assert parameter.identifiable, parameter
        assert parameter.value == pytest.approx(value_of(truth, parameter.name), abs=error)
        assert value_of(fit.optics, parameter.name) == parameter.value
    assert fit.residual_rms < 1e-4


def test_position_focus_and_levels_come_with_it() -> None:
    # The model is moved by interpolation; the truth by summing other fine pixels.
    fine = Grid(spacing_um=(0.3, 0.02, 0.02))
    shape = (17, 5 * 53, 5 * 53)
    samples = compute_psf(DEEP, fine, shape, focus_um=0.11).samples.astype(np.float64)
    samples = np.roll(samples, (-12, 2), axis=(1, 2)).reshape(17, 53, 5, 53, 5).sum(axis=(2, 4))
    peak = samples.max()
    # Off the middle by whole voxels too, and on a background of 20 % of the peak.
    measured = samples[3:, 4:44, 8:48] + 0.2 * peak
    psf = Psf(measured, GRID.spacing_um)
    fit = fit_optics(psf, replace(DEEP, depth_um=2.0), free=["depth_um"])
    assert fit.optics.depth_um == pytest.approx(4, abs=0.01)
    # Plane 8 of 17 is 5 of 14, whose middle is 7: two planes higher.
    assert fit.focus_um == pytest.approx(0.11 + 2 * 0.3, abs=5e-4)
    # Pixel 26 of 53, moved by -2.4 and 0.4, from pixel 20 of 40.
    assert fit.offset_um == pytest.approx((0.1 * (22 - 2.4 - 20), 0.1 * (18 + 0.4 - 20)), abs=5e-4)
    assert fit.background == pytest.approx(0.2 * peak / measured.sum(), rel=1e-3)
    whole = fit.amplitude * fit.model.samples + fit.background
    assert fit.model.shape == psf.shape
    assert np.abs(whole - psf.samples).max() < 2e-3 * psf.samples.max()


def test_one_plane_tells_the_aperture() -> None:
    psf = Psf(compute_psf(AIR, Grid(spacing_um=(0.13, 0.13)), (41, 41)).samples, (0.13, 0.13))
    fit = fit_optics(psf, replace(AIR, na=0.6), free=["na"])
    assert fit.optics.na == pytest.approx(0.8, abs=5e-4)
    assert fit.focus_um == 0
    assert any("single plane does not tell its focus" in note for note in fit.notes)


# --- error bars ---------------------------------------------------------------------------


def cramer_rao(names: tuple[str, ...], photons: float, background: float) -> Array:
    """Least errors of the parameters, position, photons and background from Poisson counts."""
    expected = photons * clean(DEEP) + background
    columns = []
    for name, step in zip(names, (0.004, 0.05), strict=True):
        sides = (with_values(DEEP, {name: value_of(DEEP, name) + s}) for s in (step, -step))
        upper, lower = (photons * clean(side) for side in sides)
        columns.append((upper - lower) / (2 * step))
    columns.append(photons * (clean(DEEP, focus_um=0.02) - clean(DEEP, focus_um=-0.02)) / 0.04)
    columns += [np.gradient(expected, axis=1), np.gradient(expected, axis=2)]
    columns += [clean(DEEP), np.ones(SHAPE)]
    scaled = np.stack([column / np.sqrt(expected) for column in columns]).reshape(len(columns), -1)
    return np.sqrt(np.diag(np.linalg.inv(scaled @ scaled.T)))[: len(names)]


def test_errors_are_those_of_the_noise() -> None:
    names, photons, background = ("na", "depth_um"), 1e5, 1.0
    start = replace(DEEP, na=1.2, depth_um=2.0)
    fits = [fit_optics(bead(DEEP, photons, background, s), start, free=names) for s in range(6)]
    least = cramer_rao(names, photons, background)
    for index, bound in enumerate(least):
        values = np.array([fit.parameters[index].value for fit in fits])
        errors = np.array([fit.parameters[index].error for fit in fits])
        misses = (values - value_of(DEEP, names[index])) / errors
        assert np.abs(misses).max() < 4
        # Mean square of 6 normal numbers: outside of each bound about once in 2000 times.
        assert 0.05 < np.square(misses).mean() < 4
        # The floor of the weights costs some; estimating from few cells scatters by 10-20 %.
        assert 0.9 * bound < np.median(errors) < 1.4 * bound
        assert errors.max() < 1.5 * errors.min()
    for fit in fits:
        assert all(parameter.identifiable for parameter in fit.parameters)
        assert "4 of 4 starts" in fit.notes[0]
        assert not any("more than noise" in note for note in fit.notes)


def test_what_the_model_lacks_does_not_depend_on_the_start_and_is_said() -> None:
    # A bead as wide as the PSF: forward differences ended wherever they had started.
    wide = gaussian_filter(clean(AIR), (0, 1.5, 1.5))
    counts = np.random.default_rng(0).poisson(1e5 * wide)
    fit = fit_optics(Psf(counts, GRID.spacing_um), AIR, free=["na"])
    again = fit_optics(Psf(counts, GRID.spacing_um), replace(AIR, na=0.75), free=["na"])
    # A tenth of the error bar, 0.002.
    assert again.optics.na == pytest.approx(fit.optics.na, abs=2e-4)
    assert any("more than noise" in note for note in fit.notes)


# --- what a PSF does not tell -------------------------------------------------------------


def only(fit: OpticsFit) -> str:
    (parameter,) = fit.parameters
    assert not parameter.identifiable
    assert parameter.describe() == (
        f"{FREE[parameter.name].label} not identifiable ({parameter.reason})"
    )
    return parameter.reason


def test_depth_in_matched_media_is_not_identifiable() -> None:
    matched = replace(DEEP, sample_index=None, depth_um=3.0)
    fit = fit_optics(bead(matched, 1e5), matched, free=["depth_um"])
    assert only(fit) == "the PSF hardly changes with it here"
    assert fit.optics == matched
    assert np.isnan(fit.correlation).all()


def test_na_ends_below_the_index_of_the_sample() -> None:
    truth = Optics(na=1.4, emission_nm=520, sample_index=1.333, depth_um=1)
    fit = fit_optics(bead(truth, 1e5), truth, free=["na"])
    assert fit.optics.na < 1.333
    assert only(fit) == "it ends at 1.332, just below the index of the medium"
    assert any("below the index of the sample" in note for note in fit.notes)


def test_planes_in_the_opposite_order_have_no_depth() -> None:
    psf = bead(DEEP, 1e5)
    fit = fit_optics(Psf(psf.samples[::-1], psf.spacing_um), DEEP, free=["depth_um"])
    assert "planes in the opposite order" in only(fit)


def test_too_few_photons_tell_nothing() -> None:
    fit = fit_optics(bead(DEEP, 100, 0.1), replace(DEEP, sample_index=1.45), free=["emission_nm"])
    (parameter,) = fit.parameters
    assert parameter.error > 20
    assert "error" in only(fit)


def test_what_moves_together_is_not_told_apart() -> None:
    # In one plane, at low NA, only emission/NA counts.
    low = replace(AIR, na=0.2)
    plane = Grid(spacing_um=(0.4, 0.4))
    counts = np.random.default_rng(0).poisson(
        1e6 * compute_psf(low, plane, (41, 41)).samples.astype(np.float64)
    )
    fit = fit_optics(Psf(counts, plane.spacing_um), low, free=("na", "emission_nm"))
    assert not any(parameter.identifiable for parameter in fit.parameters)
    assert fit.optics.na / fit.optics.emission_nm == pytest.approx(0.2 / 520, rel=0.01)


# --- steps, words, and what is refused ----------------------------------------------------


def test_a_fit_is_a_generator_of_steps() -> None:
    psf = bead(AIR, 1e4)
    steps = list(fitting(psf, AIR, free="na"))
    assert [step.done for step in steps] == list(range(1, steps[-1].total + 1))
    assert all(step.fit is None and step.note for step in steps[:-1])
    last = steps[-1].fit
    assert last is not None
    assert last.optics == fit_optics(psf, AIR, free=["na"]).optics
    assert isinstance(next(iter(fitting(psf, AIR, free=["na"]))), FitStep)


def test_a_fit_describes_itself() -> None:
    fit = fit_optics(bead(AIR, 1e5, 1.0), AIR, free=["na"])
    na, position, background, left = fit.describe()
    (parameter,) = fit.parameters
    assert na == f"NA {parameter.value:.5f} +- {parameter.error:.5f}"
    assert position.startswith("focus ")
    # 1 count below, and the peak of 1e5 photons above.
    assert background == f"background {100 / (1e5 * clean(AIR).max()):.2g} % of the peak"
    assert left.endswith("of the peak (RMS)")


@pytest.mark.parametrize(
    ("free", "changed", "sentence"),
    [
        ((), {}, "Nothing is free to be fitted; choose from na, depth_um, "),
        (("NA",), {}, "'NA' is nothing that can be fitted; choose from na, depth_um, "),
        (("zernike_2",), {}, "'zernike_2' is nothing .* zernike_3 ... zernike_65"),
        (("depth_um", "sample_index"), {}, "The sample index and the depth change a PSF in the"),
        (("immersion_index", "depth_um"), {}, "The immersion index and the depth change a PSF"),
        (("sheet_um",), {}, "The PSF of this widefield microscope does not depend on sheet_um"),
        (("na",), {"spacing_um": None}, "The PSF has no voxel size"),
        (("depth_um",), {"samples": np.ones((9, 9)), "spacing_um": (1, 1)}, "A single plane of a"),
        (("na",), {"samples": np.ones((9, 9, 3))}, "A PSF of 9 x 3 pixels is too small"),
        (tuple(f"zernike_{j}" for j in range(3, 14)), {}, "11 parameters are too many"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(
    free: tuple[str, ...], changed: dict[str, Any], sentence: str
) -> None:
    given: dict[str, Any] = {"samples": np.ones((9, 9, 9)), "spacing_um": GRID.spacing_um}
    with pytest.raises(InputError, match=sentence):
        fit_optics(Psf(**(given | changed)), AIR, free=free)


def test_an_image_without_a_point_is_refused() -> None:
    with pytest.raises(InputError, match="The PSF shows no point above its background"):
        fit_optics(Psf(np.ones((9, 15, 15)), GRID.spacing_um), AIR, free=["na"])


@pytest.mark.parametrize("start", [DEEP, AIR, CONFOCAL, SHEET], ids=lambda o: o.modality)
def test_every_corner_of_the_ranges_is_a_microscope(start: Optics) -> None:
    psf = Psf(np.ones((9, 9, 9)), GRID.spacing_um)
    names = [name for name in FREE if FREE[name].serves(start)][:10]
    assert names_of([name for name in names if name != "depth_um"], psf, start)
    for name in names:
        low, high = FREE[name].bounds(start)
        assert low <= value_of(start, name) <= high
        assert low < high
    for one, other in itertools.combinations(names, 2):
        for a, b in itertools.product(FREE[one].bounds(start), FREE[other].bounds(start)):
            assert with_values(start, {one: a, other: b}).modality == start.modality
