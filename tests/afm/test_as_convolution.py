"""The approximation does what a convolution does, and is worse than the erosion, as it must be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.as_convolution import (
    APPROXIMATION,
    _at_origin,
    _cone,
    _cut,
    _richardson_lucy,
    blind_as_convolution,
    restored_as_convolution,
    tip_as_psf,
)
from napari_deconv.afm.morphology import erode
from napari_deconv.afm.simulated import imaged, sample_afm, surface_of
from napari_deconv.afm.tips import Delta, Paraboloid, SpherePyramid, Tip, tip_of
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

Double = npt.NDArray[np.float64]

METHODS: list[Restorer] = [RichardsonLucy(iterations=15), Wiener(regularization=0.01)]
PIXEL = (1.0, 0.8)
TIP = tip_of(SpherePyramid(6.0, 30.0, 3, 20.0), PIXEL, 6.0, (20, 20))


def bumps() -> Double:
    y, x = np.arange(60.0)[:, None], np.arange(70.0)[None, :]
    places = ((20, 22, 5.0), (38, 45, 8.0), (30, 30, 3.0))
    return sum(
        (tall * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18) for a, b, tall in places),
        np.full((60, 70), -3.0),
    )


def blurred(surface: Double, psf: Psf) -> Double:
    from scipy.signal import convolve

    lowest = surface.min()
    seen = convolve(surface - lowest, psf.samples.astype(np.float64), "same") + lowest
    return np.asarray(seen, np.float64)


def missed(heights: Double, surface: Double) -> float:
    return float(np.sqrt(np.mean((heights - surface) ** 2)))


def test_a_tip_as_a_psf_is_its_shape_above_a_depth() -> None:
    heights = np.array([[-np.inf, -5, -9], [-3, 0, -1], [-2, -4, -6]], float)
    psf = tip_as_psf(Tip(heights, (2.0, 0.5)), 5.0)
    assert psf.samples * 14 == pytest.approx(
        np.array([[0, 0, 0], [2, 5, 4], [3, 1, 0]])[:, :] * 14 / 15
    )
    assert psf.samples.sum() == pytest.approx(1)
    assert psf.spacing_um == (0.002, 0.0005)
    assert psf.notes == (APPROXIMATION,)
    with pytest.raises(InputError, match="depth"):
        tip_as_psf(TIP, 0.0)


@pytest.mark.parametrize("method", METHODS, ids=["rl", "wiener"])
def test_the_mean_is_kept_and_frames_are_apart(method: Restorer, cpu: Engine) -> None:
    image = np.stack([bumps(), bumps()[::-1] * 0.5 + 40])
    restored = restored_as_convolution(image, TIP, method, cpu)
    assert restored.shape == image.shape
    assert restored.dtype == np.float64
    assert restored.mean((1, 2)) == pytest.approx(image.mean((1, 2)), rel=1e-6)
    alone = restored_as_convolution(image[1], TIP, method, cpu)
    assert alone == pytest.approx(restored[1])


@pytest.mark.parametrize("method", METHODS, ids=["rl", "wiener"])
def test_a_convolution_is_undone_the_right_way_round(method: Restorer, cpu: Engine) -> None:
    depth, surface = 6.0, bumps()
    image = blurred(surface, tip_as_psf(TIP, depth))
    right = restored_as_convolution(image, TIP, method, cpu, depth)
    turned = Tip(TIP.heights_nm[::-1, ::-1].copy(), PIXEL)
    wrong = restored_as_convolution(image, turned, method, cpu, depth)
    assert missed(right, surface) < 0.6 * missed(image, surface)
    assert missed(right, surface) < missed(wrong, surface)


@pytest.mark.parametrize("method", [RichardsonLucy(5), Wiener(1e-3)], ids=["rl", "wiener"])
def test_a_tip_of_no_width_changes_nothing(method: Restorer, cpu: Engine) -> None:
    image = bumps()
    delta = tip_of(Delta(), PIXEL, 10.0, (9, 9))
    assert restored_as_convolution(image, delta, method, cpu) == pytest.approx(image, abs=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=["rl", "wiener"])
def test_a_symmetric_tip_moves_nothing(method: Restorer, cpu: Engine) -> None:
    y, x = np.arange(61.0)[:, None], np.arange(75.0)[None, :]
    image = 6 * np.exp(-((y - 30) ** 2 + (x - 33) ** 2) / 30)
    tip = tip_of(Paraboloid(8.0), PIXEL, 4.0, (30, 30))
    restored = restored_as_convolution(image, tip, method, cpu)
    peak = np.clip(restored - restored.max() / 3, 0, None)
    assert (peak * y).sum() / peak.sum() == pytest.approx(30, abs=0.02)
    assert (peak * x).sum() / peak.sum() == pytest.approx(33, abs=0.02)


def test_flat_heights_stay(cpu: Engine) -> None:
    flat = np.full((20, 30), 2.5)
    assert (restored_as_convolution(flat, TIP, METHODS[0], cpu) == flat).all()
    with pytest.raises(InputError, match="flat"):
        blind_as_convolution(flat, (5, 5), 2, cpu)


@pytest.mark.parametrize("method", METHODS, ids=["rl", "wiener"])
def test_erosion_is_better_on_what_is_a_dilation(method: Restorer, cpu: Engine) -> None:
    sample, surface, tip = sample_afm()
    image = sample.heights_nm
    restored = restored_as_convolution(image, tip, method, cpu)
    # Raw 3.29 nm, eroded 1.68 nm; as a convolution it is worse than not restored at all.
    assert missed(erode(image, tip.heights_nm), surface) < 0.7 * missed(image, surface)
    assert missed(restored, surface) > missed(image, surface)


def test_erosion_is_better_on_a_smooth_surface_too(cpu: Engine) -> None:
    surface = surface_of("rough", (80, 90), PIXEL, np.random.default_rng(4))
    tip = tip_of(SpherePyramid(15.0, 40.0, 3, 20.0), PIXEL, float(surface.max()), (40, 40))
    image = imaged(surface, tip, 0.02, np.random.default_rng(0))
    eroded = missed(erode(image, tip.heights_nm), surface)
    for method in METHODS:
        assert eroded < missed(restored_as_convolution(image, tip, method, cpu, 1.0), surface)


def test_blind_finds_a_pair_that_fits_but_not_the_tip(cpu: Engine) -> None:
    sample, surface, tip = sample_afm()
    image = sample.heights_nm
    found, guess = blind_as_convolution(image, tip.shape, 8, cpu)
    assert found.mean() == pytest.approx(image.mean())
    assert guess.shape == tip.shape
    assert guess.samples.sum() == pytest.approx(1)
    counts = image - image.min()
    again = np.fft.irfft2(
        np.fft.rfft2(found - image.min()) * np.fft.rfft2(_at_0(guess, image.shape)), image.shape
    )
    # Both together make the image that was given ...
    assert missed(again, counts) < 0.25 * counts.std()
    # ... though neither is what it was made of.
    true = tip_as_psf(tip, sample.range_nm)
    assert missed(found, surface) > missed(image, surface)
    assert np.abs(guess.samples - true.samples).sum() > 0.5


def test_a_turn_of_the_blind_one_finds_a_tip_the_right_way_round(cpu: Engine) -> None:
    dots = np.zeros((64, 64), np.float32)
    dots[tuple(np.random.default_rng(0).integers(0, 64, (2, 12)))] = 5
    y, x = np.arange(-6.0, 7.0)[:, None], np.arange(-6.0, 7.0)[None, :]
    psf = tip_as_psf(Tip(-np.hypot(y, x) * np.where(x + y < 0, 3.0, 0.8), PIXEL), 6.0)
    image = np.fft.irfft2(np.fft.rfft2(dots) * np.fft.rfft2(_at_0(psf, dots.shape)), dots.shape)
    counts = np.clip(image, 0, None).astype(np.float32)
    guess = _at_origin(_cone((13, 13)), counts.shape)
    for _ in range(60):
        guess = _richardson_lucy(counts, guess, dots, cpu)
    found = _cut(guess, (13, 13))
    assert found.sum() == pytest.approx(1, abs=0.02)
    assert np.abs(found - psf.samples).sum() < 0.1
    assert np.abs(found - psf.samples[::-1, ::-1]).sum() > 0.5


def test_what_blind_cannot_take_is_said(cpu: Engine) -> None:
    with pytest.raises(InputError, match="one frame"):
        blind_as_convolution(np.zeros((2, 9, 9)), (3, 3), 2, cpu)
    with pytest.raises(InputError, match="must be of"):
        blind_as_convolution(bumps(), (61, 3), 2, cpu)
    with pytest.raises(InputError, match="At least one"):
        blind_as_convolution(bumps(), (5, 5), 0, cpu)


def _at_0(psf: Psf, shape: tuple[int, ...]) -> Double:
    whole = np.zeros(shape)
    whole[: psf.shape[0], : psf.shape[1]] = psf.samples
    return np.roll(whole, [-(n // 2) for n in psf.shape], (0, 1))
