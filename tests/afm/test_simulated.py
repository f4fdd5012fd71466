"""Simulated surfaces: repeatable, round in nm, and imaged by the tip the right way round."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.afm.morphology import dilate, erode
from napari_deconv.afm.simulated import KINDS, SAMPLE_NOISE, imaged, sample_afm, surface_of
from napari_deconv.afm.tips import SpherePyramid, Tip, tip_of
from napari_deconv.imaging.value import InputError

SHAPE, PIXEL = (90, 130), (1.6, 0.9)


def random(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_repeatable_and_stands_on_0(kind: str) -> None:
    one, same, other = (surface_of(kind, SHAPE, PIXEL, random(seed)) for seed in (5, 5, 6))
    assert one.shape == SHAPE
    assert one.dtype == np.float64
    assert one.min() == 0
    assert 0.3 < one.max() < 60
    assert (one == same).all()
    assert (one != other).any()
    assert surface_of(kind, (1, 1), PIXEL, random()).shape == (1, 1)


def test_particles_are_round_in_nm_and_as_tall_as_wide() -> None:
    from scipy import ndimage

    heights = surface_of("particles", (300, 500), (1.0, 0.5), random())
    labels, count = ndimage.label(heights > 0)
    assert count > 20
    whole = 0
    for number, (y, x) in enumerate(ndimage.find_objects(labels), 1):
        if y.start == 0 or x.start == 0 or y.stop == 300 or x.stop == 500:
            continue
        tall = heights[y, x][labels[y, x] == number].max()
        assert 2.5 < tall <= 15.0
        assert (y.stop - y.start) * 1.0 == pytest.approx(tall, abs=1.6)
        assert (x.stop - x.start) * 0.5 == pytest.approx(tall, abs=1.2)
        whole += 1
    assert whole > 10


def test_filaments_are_as_wide_as_tall_and_higher_where_they_cross() -> None:
    heights = surface_of("filaments", (200, 300), PIXEL, random(2))
    assert 0.02 < (heights > 0).mean() < 0.6
    # The lowest of a filament is its radius: it is a cylinder, not a ridge.
    assert heights[heights > 0].min() >= 1.0
    assert heights.max() > np.median(heights[heights > 0]) * 1.5


def test_pores_are_round_in_nm_and_equally_far_apart() -> None:
    from scipy import ndimage

    heights = surface_of("pores", (300, 400), (1.0, 0.5), random(1))
    assert len(np.unique(heights)) == 2
    labels, _count = ndimage.label(heights == 0)
    inner = [
        (number, box)
        for number, box in enumerate(ndimage.find_objects(labels), 1)
        if box[0].start > 0 and box[1].start > 0 and box[0].stop < 300 and box[1].stop < 400
    ]
    assert len(inner) > 8
    for _, (y, x) in inner:
        assert y.stop - y.start == pytest.approx((x.stop - x.start) * 0.5, abs=1.6)
    middles = np.array(ndimage.center_of_mass(labels > 0, labels, [n for n, _ in inner]))
    middles = middles * (1.0, 0.5)
    apart = np.hypot(*(middles[:, None] - middles[None]).T) + 1e9 * np.eye(len(middles))
    assert np.ptp(apart.min(0)) < 1.5


def test_terraces_have_one_height_of_step() -> None:
    levels = np.unique(np.round(surface_of("steps", SHAPE, PIXEL, random()), 9))
    assert len(levels) > 2
    assert np.diff(levels) == pytest.approx(np.diff(levels)[0])


def test_rough_heights_are_shared_as_far_along_both_axes() -> None:
    heights = surface_of("rough", (400, 600), (1.0, 0.5), random())
    heights = heights - heights.mean()

    def alike(by: int, axis: int) -> float:
        return float((heights * np.roll(heights, by, axis)).mean() / heights.var())

    assert alike(4, 0) == pytest.approx(alike(8, 1), abs=0.05)
    assert 0.1 < alike(4, 0) < 0.98


def test_an_image_is_the_dilation_tilted_and_with_noise() -> None:
    surface = surface_of("particles", SHAPE, PIXEL, random())
    tip = tip_of(SpherePyramid(5.0, 25.0, 3, 20.0), PIXEL, 12.0, (30, 40))
    clean = imaged(surface, tip, 0.0, random())
    assert (clean == dilate(surface, tip.heights_nm)).all()
    turned = Tip(tip.heights_nm[::-1, ::-1].copy(), PIXEL)
    assert np.abs(imaged(surface, turned, 0.0, random()) - clean).max() > 0.5

    noise = imaged(surface, tip, 0.3, random()) - clean
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    rows = imaged(surface, tip, 0.0, random(), row_noise_nm=0.5) - clean
    assert np.ptp(rows, axis=1) == pytest.approx(0, abs=1e-9)
    assert rows[:, 0].std() == pytest.approx(0.5, rel=0.3)
    tilted = imaged(surface, tip, 0.0, random(), tilt=(0.01, -0.02)) - clean
    assert tilted[-1, 0] - tilted[0, 0] == pytest.approx(0.01 * 1.6 * 89)
    assert tilted[0, -1] - tilted[0, 0] == pytest.approx(-0.02 * 0.9 * 129)


def test_the_sample_is_what_it_says() -> None:
    image, surface, tip = sample_afm()
    assert image.heights_nm.shape == surface.shape == (128, 128)
    assert image.pixel_nm == tip.pixel_nm == (1.0, 1.0)
    assert (image.heights_nm == sample_afm()[0].heights_nm).all()
    there = np.where(np.isfinite(tip.heights_nm), tip.heights_nm, -99)
    assert np.abs(there - there[::-1, ::-1]).max() > 1
    noise = image.heights_nm - dilate(surface, tip.heights_nm)
    assert noise.std() == pytest.approx(SAMPLE_NOISE, rel=0.05)

    def missed(heights: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(np.sqrt(np.mean((heights - surface) ** 2)))

    # Raw 3.29 nm, reconstructed 1.68 nm, with the tip the wrong way round 2.40 nm.
    right = missed(erode(image.heights_nm, tip.heights_nm))
    assert right < 0.7 * missed(image.heights_nm)
    assert right < 0.9 * missed(erode(image.heights_nm, tip.heights_nm[::-1, ::-1]))


def test_what_cannot_be_made_is_said() -> None:
    with pytest.raises(InputError, match="not known"):
        surface_of("clouds", SHAPE, PIXEL, random())
    with pytest.raises(InputError, match="pixel size"):
        surface_of("rough", SHAPE, (1.0, 0.0), random())
    with pytest.raises(InputError, match="rows and columns"):
        surface_of("rough", (0, 5), PIXEL, random())
    tip = tip_of(SpherePyramid(5.0, 25.0, 3), PIXEL, 12.0, (30, 40))
    with pytest.raises(InputError, match="noise"):
        imaged(np.zeros(SHAPE), tip, -1.0, random())
    with pytest.raises(InputError, match="larger than the image"):
        imaged(np.zeros((5, 5)), tip, 0.0, random())
