"""A tip estimated from an image alone; the true one is never point-symmetric here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.blind_tip import (
    THRESHOLDS,
    BlindTip,
    Sweep,
    blind_tip,
    estimated,
    swept,
)
from napari_deconv.afm.morphology import dilate, erode, opened
from napari_deconv.afm.tip_fit import fit_tip
from napari_deconv.afm.tips import SphereCone, Tip, tip_of
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.stepping import ended

Double = npt.NDArray[np.float64]
PIXEL = (1.0, 1.5)


def lopsided(shape: tuple[int, int] = (7, 9)) -> Double:
    """A tip that is steeper to one side, and not the same up and down."""
    y, x = (np.arange(n) - n // 2 for n in shape)
    across = np.where(x > 0, 0.5, 0.2) * x**2
    return np.asarray(0.0 - (np.where(y > 0, 0.9, 0.35) * y**2)[:, None] - across[None, :])


def bumps(seed: int, side: int = 64, count: int = 60) -> Double:
    """Half ellipsoids of many sizes, on flat ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    surface = np.zeros((side, side))
    for _ in range(count):
        at_y, at_x, radius, height = rng.uniform((0, 0, 1, 3), (side, side, 5, 12))
        square = ((y - at_y) ** 2 + (x - at_x) ** 2) / radius**2
        surface = np.maximum(surface, height * np.sqrt(np.maximum(0, 1 - square)))
    return surface


def image_of(surface: Double, tip: Double, edge: int = 10) -> Double:
    """An image that was cut from a larger sample, which the tip touched too."""
    return dilate(surface, tip)[edge:-edge, edge:-edge]


def rms(difference: Double) -> float:
    return float(np.sqrt(np.mean(difference**2)))


@pytest.mark.parametrize("by", ["full", "partial"])
@pytest.mark.parametrize("shape", [(7, 9), (6, 9), (8, 8)])
def test_spikes_give_back_the_tip(by: str, shape: tuple[int, int]) -> None:
    tip = lopsided(shape)
    surface = np.zeros((40, 50))
    surface[12, 14] = surface[28, 35] = 40
    found = blind_tip(dilate(surface, tip), PIXEL, BlindTip(shape, by=by))  # type: ignore[arg-type]
    assert np.abs(found.heights_nm - tip).max() <= 1e-12 * 40
    assert found.pixel_nm == PIXEL


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by", ["full", "partial"])
def test_a_clean_image_gives_an_upper_bound(seed: int, by: str) -> None:
    tip = lopsided()
    image = image_of(bumps(seed), tip)
    found = blind_tip(image, PIXEL, BlindTip((7, 9), by=by))  # type: ignore[arg-type]
    assert (found.heights_nm >= tip - 1e-9).all()
    assert found.heights_nm[3, 4] == 0
    # And one that tells of the tip: near the apex it is that tip, up to little.
    assert (found.heights_nm - tip)[2:5, 3:6].max() < 1.0


def test_a_wider_support_is_an_upper_bound_too() -> None:
    tip = lopsided((5, 5))
    found = blind_tip(image_of(bumps(1), tip), PIXEL, BlindTip((9, 11)))
    assert (found.heights_nm[2:7, 3:8] >= tip - 1e-9).all()


def test_noise_below_half_the_threshold_keeps_the_bound() -> None:
    tip = lopsided()
    image = image_of(bumps(2), tip)
    # Differences of two heights stay below 0.4.
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, image.shape)
    for by in ("full", "partial"):
        found = blind_tip(image + noise, PIXEL, BlindTip((7, 9), by, 0.8))
        assert (found.heights_nm >= tip - 1e-9).all()


def test_full_is_nowhere_blunter_than_partial_and_leaves_less() -> None:
    image = image_of(bumps(3), lopsided())
    full, partial = (
        blind_tip(image, PIXEL, BlindTip((7, 9), by)).heights_nm for by in ("full", "partial")
    )
    assert (full <= partial + 1e-12).all()
    inner = (slice(4, -4), slice(5, -5))
    left = (image - opened(image, full))[inner]
    assert rms(left) <= rms((image - opened(image, partial))[inner]) + 1e-12
    assert rms(left) < 0.02 * np.ptp(image)


def test_heights_from_elsewhere_and_in_other_units_give_the_same_tip() -> None:
    image = image_of(bumps(4), lopsided())
    image = image + np.random.default_rng(1).normal(0, 0.05, image.shape)
    for threshold in (0.0, 0.5):
        tip = blind_tip(image, PIXEL, BlindTip((7, 9), "full", threshold)).heights_nm
        raised = blind_tip(image + 512, PIXEL, BlindTip((7, 9), "full", threshold)).heights_nm
        scaled = BlindTip((7, 9), "full", threshold / 1000)
        small = blind_tip(image / 1000, PIXEL, scaled).heights_nm
        assert np.abs(raised - tip).max() <= 1e-9 * np.abs(tip).max()
        assert np.abs(small * 1000 - tip).max() <= 1e-9 * np.abs(tip).max()


def test_what_is_moved_on_flat_ground_gives_the_same_tip() -> None:
    surface = np.zeros((70, 70))
    surface[20:50, 20:50] = bumps(5, 30, 20)
    image = dilate(surface, lopsided())
    tip = blind_tip(image, PIXEL, BlindTip((7, 9))).heights_nm
    moved = blind_tip(np.roll(image, (3, -5), (0, 1)), PIXEL, BlindTip((7, 9))).heights_nm
    assert np.abs(moved - tip).max() <= 1e-12


def test_a_turned_image_gives_the_turned_tip() -> None:
    image = image_of(bumps(6), lopsided())
    tip = blind_tip(image, PIXEL, BlindTip((7, 9))).heights_nm
    turned = blind_tip(image[::-1, ::-1], PIXEL, BlindTip((7, 9))).heights_nm
    assert np.abs(turned[::-1, ::-1] - tip).max() <= 1e-12


def test_more_frames_never_give_a_blunter_tip() -> None:
    rng = np.random.default_rng(2)
    frames = np.stack([image_of(bumps(seed), lopsided()) for seed in range(3)])
    frames += rng.normal(0, 0.1, frames.shape)
    last = np.zeros((7, 9))
    for count in (1, 2, 3):
        tip = blind_tip(frames[:count], PIXEL, BlindTip((7, 9), "full", 0.8)).heights_nm
        assert (tip <= last + 1e-9).all()
        last = tip


def test_a_sweep_gives_what_each_threshold_alone_gives() -> None:
    image = image_of(bumps(7), lopsided())
    image = image + np.random.default_rng(3).normal(0, 0.1, image.shape)
    sweep = ended(swept(image, PIXEL, BlindTip((7, 9)), [0.2, 1.0, 0.5]))
    assert sweep.thresholds_nm == (0.2, 0.5, 1.0)
    assert list(sweep.heights_nm) == sorted(sweep.heights_nm)
    for threshold, tip in zip(sweep.thresholds_nm, sweep.tips, strict=True):
        alone = blind_tip(image, PIXEL, BlindTip((7, 9), "full", threshold))
        assert np.abs(alone.heights_nm - tip.heights_nm).max() <= 1e-9


def test_the_steepest_fall_is_suggested() -> None:
    tips = tuple(Tip(lopsided() * k, PIXEL) for k in range(6, 0, -1))
    sweep = Sweep((1, 2, 3, 4, 5, 6), tips, (-9.0, -8.9, -8.5, -2.0, -1.9, -1.0))
    assert (sweep.suggested, sweep.threshold_nm) == (3, 4)
    assert sweep.tip is tips[3]
    alone = Sweep((1.0,), tips[:1], (-9.0,))
    assert alone.suggested == 0
    assert replace(sweep, least_nm=4.5).threshold_nm == 5
    assert replace(sweep, least_nm=2.0).threshold_nm == 4
    assert replace(alone, least_nm=9.0).suggested == 0


@pytest.mark.parametrize("seed", range(6))
def test_the_chance_of_some_pixels_makes_no_sharp_tip(seed: int) -> None:
    """Spikes show the tip itself, of a radius of 4 nm, whatever the noise of this image is."""
    true = tip_of(SphereCone(4.0, 25.0), (1.0, 1.0), 8.0, (96, 96))
    surface = np.zeros((96, 96))
    surface[16::24, 16::24] = 8
    clean = dilate(surface, true.heights_nm)
    image = clean + np.random.default_rng(seed).normal(0, 0.05, clean.shape)
    found = blind_tip(image, (1.0, 1.0), BlindTip((15, 15)), 0.05)
    assert fit_tip(found).radius_nm == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(("noise", "seed"), [(0.1, 0), (0.1, 1), (0.3, 2)])
def test_without_a_threshold_noise_is_not_taken_for_sharpness(noise: float, seed: int) -> None:
    tip, surface = lopsided(), bumps(seed, 84, 80)
    clean = image_of(surface, tip)
    image = clean + np.random.default_rng(seed).normal(0, noise, clean.shape)
    truth = surface[10:-10, 10:-10]
    found = blind_tip(image, PIXEL, BlindTip((9, 9)), noise).heights_nm
    needle = blind_tip(image, PIXEL, BlindTip((9, 9), "full", noise)).heights_nm
    best = min(
        rms(erode(image, t.heights_nm) - truth)
        for t in ended(swept(image, PIXEL, BlindTip((9, 9)), [k * noise for k in THRESHOLDS])).tips
    )
    error = rms(erode(image, found) - truth)
    assert error < 0.85 * rms(erode(image, needle) - truth)
    assert error < 1.45 * best


def test_a_tip_to_start_with_is_kept_where_nothing_is_told() -> None:
    tip = lopsided()
    start = np.minimum(0.5 * tip, 0)
    start[0] = -np.inf
    image = image_of(bumps(8), np.where(np.isfinite(start), tip, -np.inf))
    found = ended(estimated(image, PIXEL, BlindTip(), start=Tip(start, PIXEL))).heights_nm
    assert found.shape == tip.shape
    assert (found <= start).all()
    assert (found[1:] >= tip[1:] - 1e-9).all()
    assert np.isneginf(found[0]).all()


def test_it_can_be_looked_at_and_left_at_any_step() -> None:
    image = image_of(bumps(9), lopsided())
    steps = estimated(image, PIXEL, BlindTip((7, 9)), 0.1)
    for _, step in zip(range(5), steps, strict=False):
        assert step.note.startswith("threshold")
        assert step.peek is not None
        assert step.peek()[3, 4] == 0
        assert step.done <= step.total
    steps.close()


def test_what_cannot_be_is_told_in_a_sentence() -> None:
    with pytest.raises(InputError, match="The image is flat: nothing tells of the tip"):
        blind_tip(np.ones((20, 20)), PIXEL)
    with pytest.raises(InputError, match=r"12 x 40 pixels, is smaller than the tip, 15 x 15"):
        blind_tip(np.eye(12, 40), PIXEL)
    with pytest.raises(InputError, match="NaN or inf"):
        blind_tip(np.full((20, 20), np.nan), PIXEL)
    with pytest.raises(InputError, match="3 to 255 pixels"):
        BlindTip((2, 9))
    with pytest.raises(InputError, match="'full' or 'partial'"):
        BlindTip(by="some")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threshold in nm must be at least 0"):
        BlindTip(threshold_nm=-1)
    with pytest.raises(InputError, match="at least one threshold"):
        ended(swept(np.eye(20), PIXEL, BlindTip(), []))
    with pytest.raises(InputError, match="noise in nm"):
        blind_tip(np.eye(20), PIXEL, BlindTip(), -1.0)


def test_settings_are_written_and_read_back() -> None:
    settings = BlindTip((9, 11), "partial", 0.5)
    assert BlindTip.from_json(settings.to_json()) == settings
