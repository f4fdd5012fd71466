"""Shapes of tips: what they are at their apex, far from it, and turned."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.afm.tips import (
    SHAPES,
    Delta,
    EllipticParaboloid,
    Paraboloid,
    SphereCone,
    SpherePyramid,
    Tip,
    TipShape,
    centred_tip,
    reflected,
    tip_of,
)
from napari_deconv.imaging.value import InputError

EVERY = (
    Paraboloid(7.0),
    EllipticParaboloid(4.0, 15.0, 30.0),
    SphereCone(6.0, 18.0),
    SpherePyramid(6.0, 18.0, 3, 20.0),
    Delta(),
)


@pytest.mark.parametrize("shape", EVERY)
def test_a_tip_has_its_apex_in_the_middle_and_rises_from_it(shape: TipShape) -> None:
    tip = tip_of(shape, (1.0, 1.3), 60.0, (64, 48))
    middle = tuple(n // 2 for n in tip.shape)
    assert all(n % 2 for n in tip.shape)
    assert tip.heights_nm[middle] == 0
    along = tip.heights_nm[middle[0], middle[1] :]
    assert (np.diff(along[np.isfinite(along)]) <= 0).all()
    deepest = tip.heights_nm[np.isfinite(tip.heights_nm)].min()
    assert deepest >= -60
    if not isinstance(shape, Delta):
        assert deepest < -50


@pytest.mark.parametrize("shape", EVERY)
def test_a_shape_is_written_and_read(shape: TipShape) -> None:
    assert type(shape).from_json(shape.to_json()) == shape
    assert type(shape) in SHAPES.values()


@pytest.mark.parametrize("shape", [SphereCone(8.0, 25.0), SpherePyramid(8.0, 25.0, 4)])
def test_sphere_and_side_meet_without_a_step(shape: TipShape) -> None:
    across = np.linspace(0, 30, 30_001)
    depth = shape.depth_nm(np.zeros(1), across)
    assert np.abs(np.diff(depth)).max() < 3e-3
    far = depth[across > 20]
    slope = np.diff(far) / np.diff(across[across > 20])
    np.testing.assert_allclose(slope, 1 / np.tan(np.deg2rad(25)), rtol=1e-6)
    near = across < 1
    np.testing.assert_allclose(depth[near], across[near] ** 2 / 16, atol=2e-3)


def test_a_pyramid_has_its_sides() -> None:
    around = np.deg2rad(np.arange(0, 360, 1.0))
    depth = SpherePyramid(0.0, 30.0, 3, 40.0).depth_nm(20 * np.sin(around), 20 * np.cos(around))
    assert set(np.flatnonzero(depth > depth.max() - 1e-3)) == {40, 160, 280}


def test_an_ellipse_turns_from_x_to_y() -> None:
    shape = EllipticParaboloid(1.0, 100.0, 90.0)
    along_x, along_y = (
        shape.depth_nm(np.array([y]), np.array([x])) for y, x in ((0.0, 5.0), (5.0, 0.0))
    )
    assert along_y[0] == pytest.approx(12.5)
    assert along_x[0] == pytest.approx(0.125)


def test_an_array_is_centred_and_reflected() -> None:
    heights = np.array([[-3.0, 2.0, -1.0, -4.0], [-5.0, -6.0, -7.0, -8.0]])
    tip = centred_tip(heights, (1.0, 1.0))
    assert tip.shape == (3, 5)
    assert tip.heights_nm[1, 2] == 0
    assert tip.heights_nm[2, 1] == -7
    assert reflected(tip).heights_nm[0, 3] == -7
    even = Tip(np.array([[-1.0, 0.0]]), (1.0, 1.0))
    assert reflected(even).heights_nm.tolist() == [[-np.inf, 0.0, -1.0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Paraboloid(0.0), "radius"),
        (lambda: SphereCone(-1.0), "radius"),
        (lambda: SphereCone(1.0, 90.0), "below 90 degrees"),
        (lambda: SpherePyramid(1.0, 20.0, 2), "3 to 64 sides"),
        (lambda: EllipticParaboloid(1.0, float("nan")), "second radius"),
        (lambda: Tip(np.array([[0.0]]), (0.0, 1.0)), "pixel size of the tip"),
        (lambda: centred_tip(np.full((3, 3), np.nan), (1.0, 1.0)), "no heights"),
    ],
)
def test_bad_shapes_are_told(make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()  # type: ignore[operator]
