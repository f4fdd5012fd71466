"""The width that a tip of a known shape adds, and the tips that a fitted one may as well be."""

from __future__ import annotations

import numpy as np

from napari_deconv.imaging.value import InputError, require, require_number

from .tip_fit import TipFit
from .tips import Paraboloid, SphereCone, Tip, TipShape, tip_of


def broadening_nm(height_nm: float, shape: TipFit | TipShape) -> float:
    """Return the width that a tip adds, at its foot, to an upright step or pillar of a height.

    Parameters
    ----------
    height_nm : float
    shape : TipFit, Paraboloid or SphereCone

    Returns
    -------
    float
        Both sides together, in nm: twice the distance from the apex where the tip is this high:
        2 sqrt(2 R h) for a paraboloid; for a cone with a sphere 2 sqrt(h (2 R - h)) up to
        h = R (1 - sin a), and from there 2 (R cos a + (h - R (1 - sin a)) tan a).

    Raises
    ------
    InputError
        If the height is negative, or the shape is another.

    Examples
    --------
    >>> broadening_nm(5.0, Paraboloid(10.0))
    20.0
    """
    require_number("The height of the object in nm", height_nm, least=0)
    tip = shape.tip_shape if isinstance(shape, TipFit) else shape
    if isinstance(tip, Paraboloid):
        return float(2 * np.sqrt(2 * tip.radius_nm * height_nm))
    if not isinstance(tip, SphereCone):
        raise InputError("The broadening is known for a paraboloid and for a cone; fit one first")
    radius, angle = tip.radius_nm, np.deg2rad(tip.half_angle_deg)
    ends = radius * (1 - np.sin(angle))
    if height_nm <= ends:
        return float(2 * np.sqrt(height_nm * (2 * radius - height_nm)))
    return float(2 * (radius * np.cos(angle) + (height_nm - ends) * np.tan(angle)))


def tips_within(
    fit: TipFit,
    pixel_nm: tuple[float, float],
    depth_nm: float,
    most: tuple[int, int],
    *,
    count: int = 4,
) -> list[Tip]:
    """Return fitted tips whose radius and angle are off by their errors, for `features_of`.

    Parameters
    ----------
    fit : TipFit
    pixel_nm, depth_nm, most
        As for `tips.tip_of`.
    count : int
        How many; those of radius and angle both are spread evenly over a normal distribution.
    """
    from scipy.stats import norm

    require(count >= 1, f"At least one tip is needed, not {count}")
    off = norm.ppf((np.arange(count) + 0.5) / count)
    # A larger radius with one angle and then the other: the two are as good as independent.
    turned = np.roll(off, count // 2)
    tips = []
    for radius_off, angle_off in zip(off, turned, strict=True):
        radius = max(fit.radius_nm + radius_off * fit.radius_error_nm, 1e-3)
        shape: TipShape = Paraboloid(radius)
        if fit.half_angle_deg is not None and fit.half_angle_error_deg is not None:
            angle = fit.half_angle_deg + angle_off * fit.half_angle_error_deg
            shape = SphereCone(radius, float(np.clip(angle, 0.1, 89.9)))
        tips.append(tip_of(shape, pixel_nm, depth_nm, most))
    return tips
