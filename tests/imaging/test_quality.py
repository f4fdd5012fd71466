"""How near a result is to a truth: against the formulas themselves."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from napari_deconv.imaging import compared
from napari_deconv.imaging.quality import (
    Quality,
    fit_of,
    fitted,
    nrmse,
    psnr,
    quality_of,
    ssim,
)
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]
SHAPES = [(37, 41), (19, 23, 17), (5, 20, 21), (1, 24, 23)]


def pair(shape: tuple[int, ...], level: float = 500.0) -> tuple[Array, Array]:
    """Return a noisy result and its truth, both smooth, with a high background."""
    rng = np.random.default_rng(len(shape))
    truth = level + 3000 * gaussian_filter(rng.random(shape), 1.5)
    return truth + rng.normal(0, 60, shape), truth


# -- errors of voxels -------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("piece", [1 << 21, 300])
def test_the_figures_are_those_of_their_formulas(
    shape: tuple[int, ...], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared, "PIECE", piece)
    result, truth = pair(shape)
    error = np.sqrt(np.mean((result - truth) ** 2))
    assert psnr(result, truth) == pytest.approx(20 * np.log10(np.ptp(truth) / error), rel=1e-12)
    assert nrmse(result, truth) == pytest.approx(error / np.sqrt(np.mean(truth**2)), rel=1e-12)


def test_the_range_is_that_of_the_truth() -> None:
    truth = np.array([[0.0, 100.0], [50.0, 50.0]])
    assert psnr(truth + 10, truth) == pytest.approx(20)
    assert psnr(truth, truth + 1e6) == pytest.approx(20 * math.log10(1e-4))
    assert psnr(np.zeros((2, 2)), truth) == pytest.approx(
        20 * math.log10(100 / math.sqrt(15000 / 4))
    )
    assert nrmse(np.zeros((2, 2)), truth) == pytest.approx(1)


def test_nothing_differs() -> None:
    _, truth = pair((20, 22))
    assert psnr(truth, truth) == math.inf
    found = quality_of(truth, truth, (0.1, 0.1))
    assert (found.psnr_db, found.nrmse, found.scale, found.offset) == (None, 0, 1, 0)
    assert found.ssim == pytest.approx(1, abs=1e-12)
    assert Quality.from_json(found.to_json()) == found


def test_whole_numbers_do_not_overflow() -> None:
    truth = np.array([[0, 200], [100, 50]], np.uint8)
    result = np.array([[255, 200], [100, 50]], np.uint8)
    assert psnr(result, truth) == pytest.approx(20 * math.log10(200 / (255 / 2)))
    assert psnr(truth, result.astype(np.uint16)) == pytest.approx(20 * math.log10(205 / (255 / 2)))


# -- scale and offset -------------------------------------------------------------------


def test_scale_and_offset_are_found() -> None:
    result, truth = pair((19, 23, 17))
    line = fit_of(result, truth)
    scale, offset = np.polyfit(result.ravel(), truth.ravel(), 1)
    assert line == pytest.approx((scale, offset), rel=1e-9)
    np.testing.assert_allclose(fitted(result, truth), scale * result + offset, rtol=1e-9)


def test_units_do_not_matter_where_they_are_fitted() -> None:
    result, truth = pair((13, 23, 17))
    other = 0.02 * result - 40
    assert psnr(other, truth, fit=True) == pytest.approx(psnr(result, truth, fit=True), rel=1e-9)
    assert nrmse(other, truth, fit=True) == pytest.approx(nrmse(result, truth, fit=True), rel=1e-9)
    assert ssim(other, truth, fit=True) == pytest.approx(ssim(result, truth, fit=True), rel=1e-9)
    assert psnr(other, truth) < psnr(result, truth) - 10
    assert quality_of(other, truth).scale == pytest.approx(50 * fit_of(result, truth).scale)
    as_it_is = quality_of(other, truth, fit=False)
    assert (as_it_is.scale, as_it_is.psnr_db) == (1, psnr(other, truth))


def test_a_constant_result_becomes_the_mean() -> None:
    _, truth = pair((20, 22))
    flat = np.full(truth.shape, 1234.567)  # of which the mean is another number, by rounding
    line = fit_of(flat, truth)
    assert line.scale == 0
    assert line.offset == pytest.approx(truth.mean())
    found = quality_of(flat, truth, (0.1, 0.1))
    assert found.shells is not None
    assert set(found.shells.correlations) == {0.0}


# -- structural similarity --------------------------------------------------------------


def plain_ssim(x: Array, y: Array) -> float:
    """Return the mean of the formula over all windows that lie inside, written out."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    for _ in range(x.ndim - 1):
        weights = np.multiply.outer(weights, np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2))
    weights = weights / weights.sum()
    c1, c2 = (0.01 * np.ptp(y)) ** 2, (0.03 * np.ptp(y)) ** 2
    found = []
    for start in np.ndindex(*(n - 10 for n in x.shape)):
        box = tuple(slice(i, i + 11) for i in start)
        a, b = x[box], y[box]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        shared = (weights * (a - mean_a) * (b - mean_b)).sum()
        found.append(
            (2 * mean_a * mean_b + c1)
            * (2 * shared + c2)
            / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    return float(np.mean(found))


@pytest.mark.parametrize("shape", [(31, 26), (14, 19, 13)])
@pytest.mark.parametrize("piece", [1 << 21, 300])
@pytest.mark.parametrize("level", [0.0, 1e5])
def test_ssim_is_that_of_its_formula(
    shape: tuple[int, ...], piece: int, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared, "PIECE", piece)
    result, truth = pair(shape, level)
    expected = plain_ssim(result, truth)
    assert 0.1 < expected < 0.99
    assert ssim(result, truth) == pytest.approx(expected, rel=1e-10)


def test_ssim_of_a_plane_is_that_of_a_volume_of_one_plane() -> None:
    result, truth = pair((30, 31))
    assert ssim(result[None], truth[None]) == pytest.approx(ssim(result, truth), rel=1e-12)


def test_ssim_of_thin_and_small_images() -> None:
    result, truth = pair((4, 40, 40))
    assert 0 < ssim(result, truth) < 1
    assert ssim(truth[:, :3, :3], truth[:, :3, :3]) == pytest.approx(1)


def test_contrast_turned_around_is_negative() -> None:
    truth = 20 + np.random.default_rng(0).normal(0, 1, (40, 40))
    assert ssim(40 - truth, truth) < -0.9


# -- in words, and what is refused ------------------------------------------------------


def test_all_figures_are_said() -> None:
    result, truth = pair((40, 44))
    found = quality_of(2 * result, truth, (0.1, 0.1))
    assert found.resolution_um is not None
    said = found.in_words()
    for part in (f"PSNR {found.psnr_db:.2f} dB", f"SSIM {found.ssim:.4f}", "the result times 0."):
        assert part in said
    assert said.endswith(f"FSC below 1/7 at {found.resolution_um:.3g} um")
    assert "FSC" not in quality_of(result, truth).in_words()
    assert Quality.from_json(found.to_json()) == found


FLAT, BAD = np.full((8, 8), 3.0), np.where(np.eye(8), np.nan, 1.0)
RISING = np.arange(64.0).reshape(8, 8)


@pytest.mark.parametrize(
    ("result", "truth", "sentence"),
    [
        (RISING, RISING[1:], r"The result has the shape \(8, 8\), the truth \(7, 8\); crop or pad"),
        (RISING, FLAT, "The truth is 3 in every voxel, so that errors"),
        (RISING, BAD, "The truth holds 8 NaN or infinite values; replace them"),
        (BAD, RISING, "The result holds 8 NaN or infinite values; replace them"),
        (RISING * 1j, RISING, "The result holds complex128, not real numbers"),
        (RISING[0], RISING[0], r"Images of two or three axes .* not of shape \(8,\)"),
        (RISING[:0], RISING[:0], r"Images of two or three axes with voxels"),
    ],
)
def test_what_cannot_be_compared_is_refused(result: Array, truth: Array, sentence: str) -> None:
    for figure in (psnr, nrmse, ssim, fitted, fit_of, quality_of):
        with pytest.raises(InputError, match=sentence):
            figure(result, truth)
