"""Radius and angle of tips are found again, on pixels that are not square, beside the middle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.tip_fit import TipFit, fit_tip, profile
from napari_deconv.afm.tips import (
    EllipticParaboloid,
    Paraboloid,
    SphereCone,
    Tip,
    TipShape,
    centred_tip,
    tip_of,
)
from napari_deconv.imaging.value import InputError

PIXEL = (1.0, 0.7)


def sampled(
    shape: TipShape, at: tuple[float, float] = (0.0, 0.0), noise: float = 0.0, seed: int = 0
) -> Tip:
    """Return a shape with its apex beside a pixel, more of it on one side than on the other."""
    y = np.arange(-14.0, 20.0)[:, None] * PIXEL[0] - at[0]
    x = np.arange(-22.0, 27.0)[None, :] * PIXEL[1] - at[1]
    heights: npt.NDArray[np.float64] = -shape.depth_nm(y, x)
    heights = heights + np.random.default_rng(seed).normal(0, noise, heights.shape)
    return centred_tip(heights, PIXEL)


@pytest.mark.parametrize("angle", [12.0, 25.0, 50.0])
@pytest.mark.parametrize("radius", [2.0, 5.0, 9.0])
def test_a_cone_is_found_within_a_percent(radius: float, angle: float) -> None:
    fit = fit_tip(sampled(SphereCone(radius, angle), at=(0.3, -0.2)))
    assert fit.radius_nm == pytest.approx(radius, rel=0.01)
    assert fit.half_angle_deg == pytest.approx(angle, rel=0.01)
    assert fit.apex_nm == pytest.approx((0.3, -0.2), abs=0.02)
    assert fit.rms_nm < 0.01


@pytest.mark.parametrize("radius", [1.5, 10.0, 60.0])
def test_a_paraboloid_is_found_within_a_percent(radius: float) -> None:
    fit = fit_tip(sampled(Paraboloid(radius), at=(-0.4, 0.3)), "paraboloid")
    assert fit.radius_nm == pytest.approx(radius, rel=0.01)
    assert fit.half_angle_deg is None
    assert fit.tip_shape == Paraboloid(fit.radius_nm)


def test_errors_are_as_large_as_the_scatter() -> None:
    fits = [fit_tip(sampled(SphereCone(8.0, 25.0), (0.3, 0.1), 0.1, s)) for s in range(30)]
    radii = np.array([fit.radius_nm for fit in fits])
    angles = np.array([fit.half_angle_deg for fit in fits], float)
    radius_error = np.mean([fit.radius_error_nm for fit in fits])
    angle_error = np.mean(np.array([fit.half_angle_error_deg for fit in fits], float))
    assert abs(radii.mean() - 8.0) < radius_error
    assert abs(angles.mean() - 25.0) < angle_error
    assert 0.6 < radii.std() / radius_error < 1.6
    assert 0.6 < angles.std() / angle_error < 1.6
    assert np.mean([fit.rms_nm for fit in fits]) == pytest.approx(0.1, rel=0.1)


def test_a_depth_leaves_out_what_is_below() -> None:
    tip = tip_of(SphereCone(10.0, 20.0), PIXEL, 30.0, (40, 60))
    shallow = fit_tip(tip, "paraboloid", depth_nm=0.5)
    assert shallow.depth_nm == 0.5
    # Near its apex a sphere is a paraboloid; the side of a cone is not.
    assert shallow.radius_nm == pytest.approx(10.0, rel=0.03)
    assert fit_tip(tip, "paraboloid").radius_nm < 8.0


@pytest.mark.parametrize("depth_nm", [4.0, 4.9, 5.5])
def test_a_cap_with_a_side_no_longer_than_a_pixel_tells_no_angle(depth_nm: float) -> None:
    cap = tip_of(SphereCone(10.0, 20.0), (1.0, 1.0), depth_nm, (40, 40))
    with pytest.raises(InputError, match="the tip is still a sphere"):
        fit_tip(cap)


def test_an_elliptic_tip_lies_between_its_radii_and_misses() -> None:
    tip = tip_of(EllipticParaboloid(5.0, 15.0, 30.0), PIXEL, 10.0, (60, 60))
    fit = fit_tip(tip, "paraboloid")
    assert 5.0 < fit.radius_nm < 15.0
    assert fit.rms_nm > 0.5


def test_heights_are_those_of_the_tip_that_was_fitted() -> None:
    tip = sampled(SphereCone(6.0, 30.0), at=(0.4, 0.2))
    fit = fit_tip(tip)
    for axis in ("y", "x"):
        at, heights = profile(tip, axis)
        zero = np.zeros_like(at)
        model = fit.heights_nm(at, zero) if axis == "y" else fit.heights_nm(zero, at)
        assert model == pytest.approx(heights, abs=0.02)


def test_a_profile_leads_through_the_apex() -> None:
    heights = np.array([[-np.inf, -5, -9], [-3, 0, -1], [-2, -4, -6]], float)
    tip = Tip(heights, (2.0, 0.5))
    along_y, along_x = profile(tip, "y"), profile(tip, "x")
    assert along_y[0].tolist() == [-2, 0, 2]
    assert along_y[1].tolist() == [-5, 0, -4]
    assert along_x[0].tolist() == [-0.5, 0, 0.5]
    assert along_x[1].tolist() == [-3, 0, -1]
    alone = Tip(np.array([[-np.inf, 0.0, -1.0]]), (1.0, 1.0))
    assert profile(alone, "x")[0].tolist() == [0, 1]


def test_what_cannot_be_told_is_said() -> None:
    sphere = tip_of(SphereCone(50.0, 20.0), PIXEL, 5.0, (40, 60))
    with pytest.raises(InputError, match="half angle cannot be told"):
        fit_tip(sphere)
    with pytest.raises(InputError, match="too few"):
        fit_tip(tip_of(Paraboloid(1.0), (1.0, 1.0), 1.0, (9, 9)))
    with pytest.raises(InputError, match="cannot be fitted"):
        fit_tip(sphere, "delta")
    with pytest.raises(InputError, match="axes y and x"):
        profile(sphere, "z")
    with pytest.raises(InputError, match="line of pixels"):
        fit_tip(Tip(-np.abs(np.arange(-9.0, 10.0))[None], PIXEL))


def test_in_words_and_as_json() -> None:
    fit = TipFit("cone", 9.83, 0.31, 21.2, 1.1, 0.05, 12.0, (0.1, -0.2), 0.01)
    assert fit.in_words() == "radius 9.8 +- 0.3 nm, half angle 21 +- 1 degrees"
    assert TipFit.from_json(fit.to_json()) == fit
    assert TipFit("paraboloid", 12.3, 2.1, None, None, 0.1, 3.0).in_words() == "radius 12 +- 2 nm"
