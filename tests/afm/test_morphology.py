"""Erosion and dilation from first principles, with tips that are no mirror images of themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.height_map import HeightMap, heights_in_nm, pixel_of
from napari_deconv.afm.morphology import (
    certain,
    certainty,
    dilate,
    dilate_by_paraboloid,
    dilated,
    erode,
    erode_by_paraboloid,
    eroded,
    opened,
    reconstructed,
)
from napari_deconv.afm.tips import EllipticParaboloid, Paraboloid, SphereCone, tip_of
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.stepping import ended

Double = npt.NDArray[np.float64]

#: Sides of images and of tips, odd and even.
SIZES = (((24, 31), (7, 5)), ((23, 20), (6, 9)), ((16, 18), (4, 8)))


def tip_like(shape: tuple[int, int], seed: int = 1) -> Double:
    """Return an asymmetric tip, part of which is not there."""
    random = np.random.default_rng(seed)
    tip = -4 * random.random(shape) - 0.1
    tip[random.random(shape) < 0.2] = -np.inf
    tip[shape[0] // 2, shape[1] // 2] = 0
    return tip


def heights_like(shape: tuple[int, ...], seed: int = 0) -> Double:
    return np.asarray(6 * np.random.default_rng(seed).random(shape))


def by_definition(heights: Double, tip: Double, erosion: bool) -> Double:
    """Erode or dilate one pixel at a time."""
    rows, columns = heights.shape
    found = np.full(heights.shape, np.inf if erosion else -np.inf)
    for y, x in np.ndindex(rows, columns):
        for i, j in np.argwhere(np.isfinite(tip)):
            dy, dx = i - tip.shape[0] // 2, j - tip.shape[1] // 2
            v, u = (y + dy, x + dx) if erosion else (y - dy, x - dx)
            if 0 <= v < rows and 0 <= u < columns:
                if erosion:
                    found[y, x] = min(found[y, x], heights[v, u] - tip[i, j])
                else:
                    found[y, x] = max(found[y, x], heights[v, u] + tip[i, j])
    return found


@pytest.mark.parametrize(("sides", "tip_sides"), SIZES)
def test_both_are_what_they_are_defined_as(
    sides: tuple[int, int], tip_sides: tuple[int, int]
) -> None:
    heights, tip = heights_like(sides), tip_like(tip_sides)
    np.testing.assert_array_equal(erode(heights, tip), by_definition(heights, tip, erosion=True))
    np.testing.assert_array_equal(dilate(heights, tip), by_definition(heights, tip, erosion=False))


@pytest.mark.parametrize(("sides", "tip_sides"), SIZES)
def test_they_are_adjoint(sides: tuple[int, int], tip_sides: tuple[int, int]) -> None:
    """dilate(S) <= I where and only where S <= erode(I); so the least step beyond breaks both."""
    image, tip = heights_like(sides), tip_like(tip_sides)
    highest = erode(image, tip)
    assert (dilate(highest, tip) <= image + 1e-12).all()
    for place in ((0, 0), (sides[0] // 2, sides[1] // 3), (sides[0] - 1, sides[1] - 1)):
        higher = highest.copy()
        higher[place] += 1e-6
        assert (dilate(higher, tip) > image + 5e-7).any()


@pytest.mark.parametrize(("sides", "tip_sides"), SIZES)
def test_an_opening_is_below_and_opens_to_itself(
    sides: tuple[int, int], tip_sides: tuple[int, int]
) -> None:
    image, tip = heights_like(sides), tip_like(tip_sides)
    once = opened(image, tip)
    assert (once <= image + 1e-12).all()
    assert (once < image - 0.1).any()
    np.testing.assert_allclose(opened(once, tip), once, atol=1e-12)


@pytest.mark.parametrize(("sides", "tip_sides"), SIZES)
def test_a_simulated_image_opens_to_itself_and_bounds_its_surface(
    sides: tuple[int, int], tip_sides: tuple[int, int]
) -> None:
    surface, tip = heights_like(sides), tip_like(tip_sides)
    image = dilate(surface, tip)
    np.testing.assert_allclose(opened(image, tip), image, atol=1e-12)
    assert (erode(image, tip) >= surface - 1e-12).all()


@pytest.mark.parametrize(("sides", "tip_sides"), SIZES)
def test_what_is_certain_is_the_surface(sides: tuple[int, int], tip_sides: tuple[int, int]) -> None:
    surface, tip = heights_like(sides), tip_like(tip_sides)
    image = dilate(surface, tip)
    sure = certainty(image, tip) == 1
    apart = np.abs(erode(image, tip) - surface)
    assert sure.sum() > 5
    assert apart[sure].max() < 1e-12
    assert apart[~sure].max() > 0.1


def test_a_flat_image_is_certain_under_a_sharp_tip_but_for_its_rim() -> None:
    tip = np.full((3, 5), -1.0)
    tip[1, 2] = 0
    sure = certainty(np.zeros((9, 12)), tip)
    assert sure[1:-1, 2:-2].all()
    assert sure.sum() == 7 * 8


def test_a_wrong_way_round_tip_is_noticed() -> None:
    """The trap of published code: with the tip reflected, the image no longer opens to itself."""
    surface, tip = heights_like((24, 31)), tip_like((7, 5))
    image = dilate(surface, tip)
    assert np.abs(opened(image, tip[::-1, ::-1].copy()) - image).max() > 0.1


@pytest.mark.parametrize("pixel_nm", [(1.0, 1.0), (1.0, 2.5)])
@pytest.mark.parametrize("radius_nm", [0.5, 8.0, 400.0])
def test_the_envelope_of_a_paraboloid_is_its_erosion(
    pixel_nm: tuple[float, float], radius_nm: float
) -> None:
    image = heights_like((33, 26))
    tip = tip_of(Paraboloid(radius_nm), pixel_nm, float(np.ptp(image)), (33, 26))
    radii = (radius_nm, radius_nm)
    slow = ended(eroded(image, tip.heights_nm))
    np.testing.assert_allclose(erode_by_paraboloid(image, radii, pixel_nm), slow, atol=1e-12)
    slow = ended(dilated(image, tip.heights_nm))
    np.testing.assert_allclose(dilate_by_paraboloid(image, radii, pixel_nm), slow, atol=1e-12)


@pytest.mark.parametrize("turn", [0.0, 90.0, 180.0, 270.0])
def test_an_elliptic_paraboloid_along_the_axes_is_as_fast(turn: float) -> None:
    image = heights_like((20, 22))
    shape = EllipticParaboloid(3.0, 12.0, turn)
    tip = tip_of(shape, (1.0, 1.5), float(np.ptp(image)), (20, 22))
    slow = ended(eroded(image, tip.heights_nm))
    np.testing.assert_allclose(reconstructed(image, shape, (1.0, 1.5)), slow, atol=1e-12)


@pytest.mark.parametrize(
    "run",
    [
        erode,
        dilate,
        opened,
        certainty,
        lambda movie, tip: erode_by_paraboloid(np.asarray(movie), (3.0, 5.0), (1.0, 1.0)),
    ],
)
def test_the_frames_of_a_movie_do_not_know_each_other(run: Callable[..., Double]) -> None:
    movie, tip = heights_like((3, 14, 17)), tip_like((5, 4))
    whole = run(movie, tip)
    for frame, image in zip(whole, movie, strict=True):
        np.testing.assert_array_equal(frame, run(image, tip))


def test_offset_translation_and_unit_change_nothing() -> None:
    image, tip = heights_like((20, 21)), tip_like((5, 6))
    found = erode(image, tip)
    np.testing.assert_allclose(erode(image + 1234.5, tip) - 1234.5, found, atol=1e-10)
    np.testing.assert_allclose(erode(image * 1e-3, tip * 1e-3) * 1e3, found, atol=1e-12)
    moved = np.roll(image, (3, -2), (0, 1))
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_array_equal(np.roll(erode(moved, tip), (-3, 2), (0, 1))[inner], found[inner])


def test_work_comes_in_bands_that_can_be_left() -> None:
    image, tip = heights_like((300, 300)), tip_like((31, 31))
    steps = list(eroded(image, tip))
    assert len(steps) > 1
    assert [step.done for step in steps] == sorted({step.done for step in steps})
    assert steps[-1].done == steps[-1].total
    going = certain(image, image, tip)
    next(going)
    going.close()


@pytest.mark.parametrize(
    ("image", "tip", "said"),
    [
        (np.full((5, 5), np.nan), [[0.0]], "25 of 25 heights are NaN"),
        (np.zeros((5, 5)), np.zeros((7, 7)), "The tip, 7 x 7 pixels, is larger than the image"),
        (np.zeros((5, 5)), [[1.0]], "must be 0 at index"),
        (np.zeros((5, 5)), [[np.nan]], "no heights"),
        (np.zeros((5, 5)), [0.0], "A tip is a 2D array"),
        (np.zeros((40, 40, 3), np.uint8), [[0.0]], "a picture in colours"),
        (np.zeros(5), [[0.0]], "Heights are"),
        (np.zeros((5, 5), complex), [[0.0]], "Heights are"),
    ],
)
def test_bad_input_is_told_in_a_sentence(image: object, tip: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        erode(image, tip)  # type: ignore[arg-type]


def test_any_type_goes_in_and_float64_of_the_shape_comes_out() -> None:
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        found = erode(np.arange(30).reshape(5, 6).astype(kind), [[-1, 0]])
        assert found.dtype == np.float64
        assert found.shape == (5, 6)


def test_heights_in_other_units() -> None:
    np.testing.assert_allclose(heights_in_nm([[0, 1e-9]], "m"), [[0, 1]])
    np.testing.assert_allclose(heights_in_nm([[0, 10.0]], "angstrom"), [[0, 1]])
    with pytest.raises(InputError, match="no length"):
        heights_in_nm([[0, 1.0]], "V")
    with pytest.raises(InputError, match="they are in metres"):
        heights_in_nm([[0, 3e-9]], "nm")
    with pytest.raises(InputError, match="more than any microscope"):
        heights_in_nm([[0, 3.0]], "m")


def test_a_height_map_knows_its_frames() -> None:
    movie = HeightMap(np.zeros((3, 4, 5)), (1.0, 2.0))
    assert movie.is_movie
    assert movie.frames.shape == (3, 4, 5)
    with pytest.raises(InputError, match="pixel size"):
        HeightMap(np.zeros((4, 5)), (1.0, 0.0))
    assert pixel_of({"px2nm": 2.5}) == (2.5, 2.5)
    assert pixel_of({}) is None
    with pytest.raises(InputError, match="px2nm"):
        pixel_of({"px2nm": -1})


def test_a_cone_is_cut_where_it_touches_nothing_more() -> None:
    image = heights_like((40, 40))
    short = tip_of(SphereCone(2.0, 30.0), (1.0, 1.0), float(np.ptp(image)), (40, 40))
    long = tip_of(SphereCone(2.0, 30.0), (1.0, 1.0), 1e3, (40, 40))
    assert short.shape < long.shape
    np.testing.assert_array_equal(
        ended(eroded(image, short.heights_nm)), ended(eroded(image, long.heights_nm))
    )
