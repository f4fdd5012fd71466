"""Objects are measured: what a tip has added goes away again, whatever the tip was."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.features import (
    Feature,
    broadening_nm,
    features_csv,
    features_of,
    measured,
    otsu_level,
    segmented,
    tips_within,
)
from napari_deconv.afm.morphology import certainty, dilate
from napari_deconv.afm.simulated import imaged
from napari_deconv.afm.tip_fit import TipFit
from napari_deconv.afm.tips import (
    EllipticParaboloid,
    Paraboloid,
    SphereCone,
    SpherePyramid,
    Tip,
    tip_of,
)
from napari_deconv.imaging.value import InputError

Double = npt.NDArray[np.float64]

SHAPE, PIXEL = (120, 150), (1.0, 0.8)
#: Middle (y, x), half axes (y, x) and height of lying half ellipsoids, all in nm.
OBJECTS = (
    (30.0, 30.0, 12.0, 9.0, 8.0),
    (30.0, 80.0, 8.0, 14.0, 6.0),
    (85.0, 85.0, 15.0, 11.0, 10.0),
    (86.0, 35.0, 10.0, 10.0, 9.0),
)
SHARP = tip_of(SpherePyramid(4.0, 20.0, 3, 20.0), PIXEL, 11.0, (50, 50))


def two_apexes() -> Tip:
    """Return a blunt tip with a second apex beside the first, and a little higher."""
    shape, y, x = SphereCone(9.0, 30.0), np.arange(-28.0, 29.0)[:, None], np.arange(-28.0, 29.0)
    y, x = y * PIXEL[0], x[None, :] * PIXEL[1]
    depth = np.minimum(shape.depth_nm(y, x), shape.depth_nm(y - 4, x + 6) + 1.0)
    return Tip(np.where(depth <= 11.0, -depth, -np.inf), PIXEL)


BLUNT = two_apexes()


def surface() -> Double:
    y, x = np.arange(SHAPE[0])[:, None] * PIXEL[0], np.arange(SHAPE[1])[None, :] * PIXEL[1]
    heights: Double = np.zeros(SHAPE)
    for at_y, at_x, a, b, tall in OBJECTS:
        away = ((y - at_y) / a) ** 2 + ((x - at_x) / b) ** 2
        heights = np.maximum(heights, tall * np.sqrt(np.clip(1 - away, 0, None)))
    return heights


def seen_by(tip: Tip, noise: float, **options: Any) -> list[Feature]:
    image = imaged(surface(), tip, noise, np.random.default_rng(3))
    sure = certainty(image, tip.heights_nm, tolerance_nm=noise)
    return features_of(image, segmented(image), tip, noise_nm=noise, certainty=sure, **options)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_areas_agree_across_tips(noise: float) -> None:
    sharp, blunt = seen_by(SHARP, noise), seen_by(BLUNT, noise)
    assert len(sharp) == len(blunt) == len(OBJECTS)
    for one, two, (at_y, at_x, a, b, _) in zip(sharp, blunt, OBJECTS, strict=True):
        assert (one.y_nm, one.x_nm) == pytest.approx((at_y, at_x), abs=4.0)
        # An ellipsoid is sqrt(3)/2 as wide at half its height as at its foot.
        true = 0.75 * np.pi * a * b
        assert two.raw_area_nm2 > 1.15 * one.raw_area_nm2 > 1.3 * true
        apart = abs(one.corrected_area_nm2 - two.corrected_area_nm2)
        assert apart < np.hypot(one.corrected_area_error_nm2, two.corrected_area_error_nm2)
        if noise <= 0.1:
            assert apart < 0.03 * true
        for found in (one, two):
            assert abs(found.corrected_area_nm2 - true) < 2 * found.corrected_area_error_nm2
            # The uncertainty says something: it is far less than what was corrected.
            assert found.corrected_area_error_nm2 < 0.6 * (found.raw_area_nm2 - true)
            assert found.broadening_error_nm < 0.6 * found.broadening_nm


def test_without_noise_areas_agree_within_a_few_percent() -> None:
    for one, two, (_, _, a, b, _) in zip(
        seen_by(SHARP, 0.0), seen_by(BLUNT, 0.0), OBJECTS, strict=True
    ):
        true = 0.75 * np.pi * a * b
        assert one.corrected_area_nm2 == pytest.approx(true, rel=0.04)
        assert two.corrected_area_nm2 == pytest.approx(true, rel=0.04)


def test_a_wall_is_known_between_two_bounds() -> None:
    y, x = np.indices((60, 70))
    wall = np.where((y - 30) ** 2 + (x - 33) ** 2 < 81, 7.0, 0.0)
    square = Tip(BLUNT.heights_nm, (1.0, 1.0))
    image = dilate(wall, square.heights_nm)
    sure = certainty(image, square.heights_nm)
    [found] = features_of(image, segmented(image), square, certainty=sure)
    true = float((wall > 0).sum())
    assert found.certain_area_nm2 is not None
    # The side of the tip is less steep than the wall, and hides what is at its foot.
    assert 0.7 * true < found.certain_area_nm2 <= 1.02 * true
    assert 1.2 * true < found.corrected_area_nm2 < found.raw_area_nm2
    assert found.corrected_area_nm2 - true < 1.05 * 3**0.5 * found.corrected_area_error_nm2
    [unasked] = features_of(image, segmented(image), square)
    assert unasked.certain_area_nm2 is None
    assert unasked.corrected_area_error_nm2 == 0


def test_the_tip_the_wrong_way_round_corrects_worse() -> None:
    image = imaged(surface(), BLUNT, 0.0, np.random.default_rng(0))
    turned = Tip(BLUNT.heights_nm[::-1, ::-1].copy(), PIXEL)
    labels = segmented(image)
    right, wrong = (features_of(image, labels, tip) for tip in (BLUNT, turned))
    for one, two, (_, _, a, b, _) in zip(right, wrong, OBJECTS, strict=True):
        true = 0.75 * np.pi * a * b
        assert abs(two.corrected_area_nm2 - true) > 2 * abs(one.corrected_area_nm2 - true)


def test_errors_are_as_large_as_what_noise_does() -> None:
    clean = seen_by(SHARP, 0.0)
    image = imaged(surface(), SHARP, 0.0, np.random.default_rng(0))
    labels = segmented(image)
    off = []
    for seed in range(8):
        noisy = image + np.random.default_rng(seed).normal(0, 0.2, SHAPE)
        found = features_of(noisy, labels, SHARP, noise_nm=0.2, repeats=6, seed=seed)
        off += [
            (f.corrected_width_nm - c.corrected_width_nm) / f.corrected_width_error_nm
            for f, c in zip(found, clean, strict=True)
        ]
    assert 0.3 < np.sqrt(np.mean(np.square(off))) < 3.0


def test_another_tip_makes_it_less_certain() -> None:
    image = imaged(surface(), SHARP, 0.0, np.random.default_rng(0))
    labels = segmented(image)
    alone = features_of(image, labels, SHARP)[0]
    both = features_of(image, labels, SHARP, other_tips=(BLUNT,), repeats=4)[0]
    other = features_of(image, labels, BLUNT)[0]
    assert alone.broadening_error_nm == 0
    assert alone.corrected_area_nm2 == both.corrected_area_nm2
    # Half of the repeats are with the other tip, half with the same.
    apart = alone.corrected_area_nm2 - other.corrected_area_nm2
    assert both.corrected_area_error_nm2 == pytest.approx(abs(apart) / np.sqrt(2))


def test_tips_within_have_the_errors_of_the_fit() -> None:
    fit = TipFit("cone", 8.0, 0.8, 25.0, 2.0, 0.1, 10.0)
    tips = tips_within(fit, PIXEL, 10.0, (40, 40), count=6)
    assert len(tips) == 6
    assert len({tip.heights_nm.tobytes() for tip in tips}) == 6
    wide = [-tip.heights_nm[tip.shape[0] // 2, tip.shape[1] // 2 + 4] for tip in tips]
    nominal = SphereCone(8.0, 25.0).depth_nm(np.array(0.0), np.array(4 * PIXEL[1]))
    assert min(wide) < nominal < max(wide)
    assert min(wide) > 0.7 * nominal
    image = imaged(surface(), SHARP, 0.0, np.random.default_rng(0))
    found = features_of(image, segmented(image), SHARP, other_tips=tips)
    assert all(f.corrected_width_error_nm > 0 for f in found)
    flat = TipFit("paraboloid", 8.0, 0.8, None, None, 0.1, 10.0)
    assert len(tips_within(flat, PIXEL, 10.0, (40, 40))) == 4


def test_numbers_of_a_block_are_its_sides() -> None:
    image = np.full((40, 60), 1.5)
    image[10:20, 20:50] = 6.5
    tip = tip_of(SpherePyramid(0.0, 10.0, 3), (1.0, 0.5), 1e-9, (3, 3))
    [found] = features_of(image, image > 4, tip)
    assert found.height_nm == 5.0
    assert (found.y_nm, found.x_nm) == (14.5, 17.25)
    assert found.raw_area_nm2 == pytest.approx(10 * 15, rel=0.02)
    assert found.corrected_area_nm2 == found.raw_area_nm2
    assert found.raw_width_nm == pytest.approx(2 * np.sqrt(found.raw_area_nm2 / np.pi))
    assert found.broadening_nm == 0
    assert found.raw_feret_min_nm == pytest.approx(10.0)
    assert found.raw_feret_max_nm == pytest.approx(np.hypot(9, 14.5) + 0.8, abs=0.3)
    assert found.uncertain_outline is None
    assert not found.touches_edge


def test_the_base_is_wider_than_half_height() -> None:
    for found in seen_by(BLUNT, 0.1):
        assert found.raw_base_width_nm > found.raw_width_nm + 2
        assert found.raw_feret_min_nm < found.raw_width_nm < found.raw_feret_max_nm


def test_what_touches_the_edge_is_marked() -> None:
    image = np.zeros((30, 40))
    image[0:6, 10:18] = image[15:22, 15:24] = image[12:20, 33:40] = 5
    tip = tip_of(SpherePyramid(1.0, 20.0, 3), (1.0, 1.0), 1.0, (5, 5))
    found = features_of(image, segmented(image), tip)
    assert [f.touches_edge for f in found] == [True, True, False]


def test_neighbours_do_not_share_their_areas() -> None:
    image = np.zeros((40, 60))
    image[15:25, 10:24] = image[15:25, 27:47] = 5
    tip = tip_of(SpherePyramid(0.0, 10.0, 3), (1.0, 1.0), 1e-9, (3, 3))
    one, two = features_of(image, segmented(image), tip)
    assert one.raw_area_nm2 == pytest.approx(140, rel=0.02)
    assert two.raw_area_nm2 == pytest.approx(200, rel=0.02)


def test_labels_keep_their_numbers_and_empty_ones_give_nothing() -> None:
    image = np.zeros((30, 40))
    image[5:12, 5:12] = image[15:22, 22:30] = 5
    labels = np.zeros((30, 40), np.uint16)
    labels[5:12, 5:12], labels[15:22, 22:30] = 7, 3
    tip = tip_of(SpherePyramid(1.0, 20.0, 3), (1.0, 1.0), 1.0, (5, 5))
    assert [f.label for f in features_of(image, labels, tip)] == [3, 7]
    assert features_of(image, np.zeros((30, 40), int), tip, noise_nm=0.1) == []


def test_objects_are_found_above_otsu_or_a_level() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(0, 0.3, (60, 70))
    image[10:20, 10:20] += 8
    image[30:40, 20:30] += 7
    image[40:45, 30:35] += 7.5  # touches the other at a corner
    image[50, 50] = 9  # a speck
    assert 1.5 < otsu_level(image) < 6
    labels = segmented(image)
    assert labels.max() == 2
    assert (labels[30:40, 20:30] == labels[42, 32]).all()
    assert labels[50, 50] == 0
    assert segmented(image, least_pixels=1).max() == 3
    assert segmented(image, 7.4).max() >= 2
    assert segmented(image, 20.0).max() == 0
    assert segmented(np.ones((5, 5))).max() == 0


@pytest.mark.parametrize(
    "shape", [Paraboloid(6.0), SphereCone(6.0, 25.0), SphereCone(1.5, 40.0), SphereCone(20.0, 15.0)]
)
@pytest.mark.parametrize("height", [0.8, 4.0, 9.0])
def test_a_pillar_is_broadened_by_the_formula(
    shape: Paraboloid | SphereCone, height: float
) -> None:
    step = 0.25
    image = np.zeros((1, 401))
    image[0, 200] = height
    tip = tip_of(shape, (step, step), height, image.shape)
    across = tip.heights_nm[tip.shape[0] // 2][None]
    seen = (dilate(image, across) > 0).sum() * step
    assert seen == pytest.approx(broadening_nm(height, shape), abs=2 * step)


def test_a_fit_broadens_as_its_shape() -> None:
    cone = TipFit("cone", 6.0, 0.1, 25.0, 0.5, 0.1, 9.0)
    assert broadening_nm(7.0, cone) == broadening_nm(7.0, SphereCone(6.0, 25.0))
    flat = TipFit("paraboloid", 6.0, 0.1, None, None, 0.1, 9.0)
    assert broadening_nm(7.0, flat) == broadening_nm(7.0, Paraboloid(6.0))
    with pytest.raises(InputError, match="fit one first"):
        broadening_nm(7.0, EllipticParaboloid())
    with pytest.raises(InputError, match="height"):
        broadening_nm(-1.0, flat)


def test_a_table_names_units_and_is_read_back() -> None:
    found = seen_by(SHARP, 0.1, repeats=2)
    text = features_csv(found)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(found)
    assert text.splitlines()[0].startswith("label,y_nm,x_nm,height_nm,")
    for row, feature in zip(rows, found, strict=True):
        assert int(row["label"]) == feature.label
        assert float(row["corrected_area_nm2"]) == pytest.approx(
            feature.corrected_area_nm2, rel=1e-5
        )
        assert row["touches_edge"] == "False"
    tip = tip_of(SpherePyramid(0.0, 10.0, 3), (1.0, 1.0), 1e-9, (3, 3))
    image = np.pad(np.full((5, 5), 4.0), 12)
    plain = features_of(image, image > 2, tip)
    [row] = csv.DictReader(io.StringIO(features_csv(plain)))
    assert row["uncertain_outline"] == ""
    assert features_csv([]).count("\n") == 1
    assert Feature.from_json(plain[0].to_json()) == plain[0]


def test_measuring_says_how_far_it_is() -> None:
    image = imaged(surface(), SHARP, 0.1, np.random.default_rng(3))
    steps = list(measured(image, segmented(image), SHARP, noise_nm=0.1, repeats=3))
    assert {step.total for step in steps} == {4}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].note == "repeat 3 of 3 with noise"


def test_what_does_not_fit_is_said() -> None:
    image, labels = np.zeros((70, 90)), np.ones((70, 90), int)
    with pytest.raises(InputError, match="Labels are whole numbers"):
        features_of(image, labels[1:], SHARP)
    with pytest.raises(InputError, match="Labels are whole numbers"):
        features_of(image, labels.astype(float), SHARP)
    with pytest.raises(InputError, match="below"):
        features_of(image, -labels, SHARP)
    with pytest.raises(InputError, match="larger than the image"):
        features_of(image[:20, :20], labels[:20, :20], BLUNT)
    with pytest.raises(InputError, match="certainty map"):
        features_of(image, labels, SHARP, certainty=labels[1:])
    other = tip_of(Paraboloid(3.0), (1.0, 1.0), 2.0, (9, 9))
    with pytest.raises(InputError, match="pixel sizes differ"):
        features_of(image, labels, SHARP, other_tips=(other,))
    with pytest.raises(InputError, match="at least twice"):
        features_of(image, labels, SHARP, repeats=1)
    with pytest.raises(InputError, match="one frame"):
        features_of(image[None], labels[None], SHARP)
