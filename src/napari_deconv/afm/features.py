"""Numbers of the objects in an image: how high, how wide, and how much of that is the tip.

Widths and areas are those of an object at half its height above the ground beside it, once in the
image and once, at the same height, in the surface that the tip must have touched (`erode`). The
difference is what the tip has added. Levels lie between pixels, so areas are no whole pixels.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import InputError, Value, require, require_number
from napari_deconv.restoration.restorer import Step, ended

from .height_map import checked_heights
from .morphology import eroded
from .tip_fit import TipFit
from .tips import Paraboloid, SphereCone, Tip, TipShape, tip_of

Double = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Part of an object's height at which its base is measured, and the least in units of the noise.
BASE, BASE_SIGMAS = 0.1, 3.0
#: Pixels that the ring of ground around an object is wide, and how far from it it begins at least.
RING, GAP = 4, 2
#: Times that the measurement is repeated with noise to see how uncertain it is.
REPEATS = 12


@dataclass(frozen=True)
class Feature(Value):
    """What is measured of an object. Lengths are nm, areas nm^2.

    Parameters
    ----------
    label : int
        Number of the object.
    y_nm, x_nm : float
        Its middle, from the first pixel.
    height_nm, height_error_nm : float
        Of its highest pixel above the ground: the median of a ring around it.
    raw_area_nm2, corrected_area_nm2, corrected_area_error_nm2 : float
        At half height, in the image and in the reconstructed surface.
    raw_width_nm, corrected_width_nm, corrected_width_error_nm : float
        Diameter of the circle with that area.
    broadening_nm, broadening_error_nm : float
        Raw less corrected width: what the tip has added.
    raw_feret_max_nm, raw_feret_min_nm : float
        Largest and smallest distance, in the image, of two parallel lines around it.
    raw_base_area_nm2, raw_base_width_nm : float
        In the image at its base, a tenth of its height.
    certain_area_nm2, certain_width_nm : float or None
        At half height, the least that it can be: what lies between places that are certain and
        above; None if certainty was not given.
    uncertain_outline : float or None
        Part of its corrected outline where the surface may be lower; None as above.
    touches_edge : bool
        Whether it touches the edge of the image, and may go on beyond.
    """

    label: int
    y_nm: float
    x_nm: float
    height_nm: float
    height_error_nm: float
    raw_area_nm2: float
    corrected_area_nm2: float
    corrected_area_error_nm2: float
    raw_width_nm: float
    corrected_width_nm: float
    corrected_width_error_nm: float
    broadening_nm: float
    broadening_error_nm: float
    raw_feret_max_nm: float
    raw_feret_min_nm: float
    raw_base_area_nm2: float
    raw_base_width_nm: float
    certain_area_nm2: float | None
    certain_width_nm: float | None
    uncertain_outline: float | None
    touches_edge: bool


def features_of(
    heights_nm: npt.ArrayLike,
    labels: npt.ArrayLike,
    tip: Tip,
    *,
    noise_nm: float = 0.0,
    certainty: npt.ArrayLike | None = None,
    other_tips: Sequence[Tip] = (),
    repeats: int = REPEATS,
    seed: int = 0,
) -> list[Feature]:
    """Measure the objects of an image.

    Parameters
    ----------
    heights_nm : array, (Y, X)
        Levelled heights.
    labels : array of int, (Y, X)
        Number of the object that a pixel is of; 0 is the ground.
    tip : Tip
        On the pixels of the image.
    noise_nm : float
        Standard deviation of the noise of the heights.
    certainty : array, (Y, X), optional
        Not 0 where the reconstructed surface is certain; see `morphology.certainty`.
    other_tips : sequence of Tip
        Tips that may as well be the one: another estimate, or those of `tips_within`.
    repeats : int
        How often it is all measured again to see how uncertain it is.
    seed : int
        Of the noise of the repeats.

    Returns
    -------
    list of Feature
        By label.

    Raises
    ------
    InputError
        If the arrays do not fit each other, or the tip is larger than the image.

    Notes
    -----
    Errors are the root mean square difference between the measurement and its repeats, each with
    noise of `noise_nm` added to the image and one of the tips drawn: a parametric bootstrap
    (Efron and Tibshirani 1993, doi 10.1201/9780429246593). The image holds the noise once
    already, so this has both the scatter and the shift that the noise brings: erosion follows
    the lowest of many pixels.

    Erosion gives the most that an object can be: of a wall steeper than the tip it shows what the
    tip's side left open. The least that it can be is what lies between places that are certain
    and above the level, for an object without bays. With `certainty`, errors have the root mean
    square distance of the corrected value from all values between, (most - least) / sqrt(3).

    Examples
    --------
    >>> tip = tip_of(Paraboloid(20.0), (1.0, 1.0), 6.0, (20, 20))
    >>> y, x = np.indices((40, 40)) - 20
    >>> from napari_deconv.afm.morphology import dilate
    >>> image = dilate(np.where(y**2 + x**2 < 36, 6.0, 0.0), tip.heights_nm)
    >>> [found] = features_of(image, segmented(image), tip)
    >>> round(found.raw_width_nm), round(found.corrected_width_nm), found.height_nm
    (33, 21, 6.0)
    >>> from napari_deconv.afm.morphology import certainty
    >>> sure = certainty(image, tip.heights_nm)
    >>> [found] = features_of(image, segmented(image), tip, certainty=sure)
    >>> round(found.certain_width_nm)
    11
    """
    return ended(
        measured(
            heights_nm,
            labels,
            tip,
            noise_nm=noise_nm,
            certainty=certainty,
            other_tips=other_tips,
            repeats=repeats,
            seed=seed,
        )
    )


def measured(
    heights_nm: npt.ArrayLike,
    labels: npt.ArrayLike,
    tip: Tip,
    *,
    noise_nm: float = 0.0,
    certainty: npt.ArrayLike | None = None,
    other_tips: Sequence[Tip] = (),
    repeats: int = REPEATS,
    seed: int = 0,
) -> Generator[Step, None, list[Feature]]:
    """Measure as `features_of`, a step for each repeat; the value of the generator is the list."""
    image, numbers = _checked(heights_nm, labels, (tip, *other_tips))
    require_number("The noise in nm", noise_nm, least=0)
    require(repeats >= 2, f"The measurement is repeated at least twice, not {repeats} times")
    objects = _objects(numbers, tip.pixel_nm)
    sure = None if certainty is None else _map_of(certainty, image.shape)
    count = repeats if objects and (noise_nm > 0 or other_tips) else 0
    surface = yield from _reconstructed(image, tip, 0, count + 1)
    first = [_seen(o, image, surface, noise_nm, sure) for o in objects]
    random, tips = np.random.default_rng(seed), (tip, *other_tips)
    again = []
    for number in range(count):
        noisy = image + noise_nm * random.normal(size=image.shape)
        # Each of the tips as often as the others.
        drawn = tips[(number + 1) % len(tips)]
        surface = yield from _reconstructed(noisy, drawn, number + 1, count + 1)
        again.append([_seen(o, noisy, surface, noise_nm, None) for o in objects])
    return [
        _feature(o, seen, [repeat[n] for repeat in again])
        for n, (o, seen) in enumerate(zip(objects, first, strict=True))
    ]


def segmented(
    heights_nm: npt.ArrayLike, level_nm: float | None = None, *, least_pixels: int = 5
) -> Labels:
    """Return labels of what is above a level: pixels that touch, also at corners, are one object.

    Parameters
    ----------
    heights_nm : array, (Y, X)
        Levelled heights.
    level_nm : float, optional
        What is at this height or below is ground; Otsu's level if not given.
    least_pixels : int
        Objects of fewer are left out.

    Returns
    -------
    ndarray of int64, (Y, X)
        0 on the ground, 1, 2, ... in objects.

    Examples
    --------
    >>> segmented([[0, 5, 0], [0, 5, 0], [0, 0, 0]], least_pixels=1).tolist()
    [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    """
    from scipy import ndimage

    image = checked_heights(heights_nm)
    require(image.ndim == 2, "Objects are found in one frame, (Y, X)")
    level = otsu_level(image) if level_nm is None else level_nm
    found, _count = ndimage.label(image > level, np.ones((3, 3)))
    keep = np.bincount(found.ravel()) >= least_pixels
    keep[0] = False
    renumbered = np.cumsum(keep) * keep
    return np.asarray(renumbered[found], np.int64)


def otsu_level(heights_nm: Double) -> float:
    """Return the height that parts ground and objects best, in nm.

    The sum of the variances within both is the least (Otsu 1979, doi
    10.1109/TSMC.1979.4310076).
    """
    values = np.sort(heights_nm, axis=None)
    below = np.arange(1, len(values))
    if not len(below) or values[0] == values[-1]:
        return float(values[-1])
    sums = np.cumsum(values - values.mean())[:-1]
    # Of two classes whose means differ by m, n1 n2 m^2; the sum of both is 0 here.
    between = sums**2 / (below * (len(values) - below))
    at = int(np.argmax(between))
    return float((values[at] + values[at + 1]) / 2)


def features_csv(features: Sequence[Feature]) -> str:
    """Return measurements as a table in CSV: a line a feature, below one with their names.

    Names end with the unit. What was not asked for is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in dataclasses.fields(Feature)]
    writer.writerow(names)
    for feature in features:
        values = [getattr(feature, name) for name in names]
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


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


# -- one object -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Object:
    """Where an object is: in a box, which is all that is looked at."""

    label: int
    box: tuple[slice, slice]
    own: Mask
    territory: Mask
    ring: Mask
    at_edge: tuple[Mask, Mask]
    pixel_nm: tuple[float, float]


@dataclass(frozen=True)
class _Seen:
    """What is measured of an object in one image."""

    height: float
    raw: float
    corrected: float
    base: float
    feret: tuple[float, float]
    middle: tuple[float, float]
    certain: float | None
    uncertain: float | None
    touches: bool


def _objects(labels: Labels, pixel_nm: tuple[float, float]) -> list[_Object]:
    from scipy import ndimage

    found = []
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        own = labels[box] == label
        # As far as a flank may reach, and the ring beyond.
        gap = GAP + int(np.sqrt(own.sum() / np.pi))
        wide = tuple(
            slice(max(part.start - gap - RING, 0), min(part.stop + gap + RING, n))
            for part, n in zip(box, labels.shape, strict=True)
        )
        found.append(_object(labels, label, (wide[0], wide[1]), gap, pixel_nm))
    return found


def _object(
    labels: Labels, label: int, box: tuple[slice, slice], gap: int, pixel_nm: tuple[float, float]
) -> _Object:
    from scipy import ndimage

    part = labels[box]
    away, nearest = ndimage.distance_transform_edt(part == 0, return_indices=True)
    territory = (part[tuple(nearest)] == label) & (away <= gap + RING)
    own = part == label
    far = ndimage.distance_transform_edt(~own)
    ground = (part == 0) & (far <= gap + RING)
    ring = ground & (away > gap)
    # Among many others there is no ground at that distance: then take what is farthest.
    if not ring.any():
        farthest = np.quantile(away[ground], 0.75) if ground.any() else 0.0
        ring = ground & (away >= farthest)
    rows, columns = labels.shape
    y = np.arange(box[0].start, box[0].stop)[:, None]
    x = np.arange(box[1].start, box[1].stop)[None, :]
    at_edge = (np.isin(y, (0, rows - 1)), np.isin(x, (0, columns - 1)))
    return _Object(label, box, own, territory, ring, at_edge, pixel_nm)


def _seen(
    found: _Object, image: Double, surface: Double, noise_nm: float, sure: Mask | None
) -> _Seen:
    raw, corrected = image[found.box], surface[found.box]
    ground = float(np.median(raw[found.ring])) if found.ring.any() else float(raw.min())
    height = float(raw[found.own].max()) - ground
    half = ground + height / 2
    foot = ground + min(max(BASE * height, BASE_SIGMAS * noise_nm), 0.5 * height)
    mask, area = _above(found, raw, half)
    below, base = _above(found, raw, foot)
    inner, true = _above(found, corrected, half)
    edges = found.at_edge[0] | found.at_edge[1]
    return _Seen(
        height,
        area,
        true,
        base,
        _ferets(mask, found.pixel_nm),
        _middle(found, mask),
        None if sure is None else min(_between(inner, sure[found.box], found.pixel_nm), true),
        None if sure is None else _uncertain(inner, sure[found.box]),
        bool((edges & (below | found.own)).any()),
    )


def _above(found: _Object, heights: Double, level: float) -> tuple[Mask, float]:
    """Return where an object is above a level, and that area in nm^2.

    A pixel that the level crosses counts for the part of it that is above, by the slope there.
    """
    from scipy import ndimage

    above = (heights >= level) & found.territory
    parts, _count = ndimage.label(above, np.ones((3, 3)))
    mask = np.isin(parts, np.setdiff1d(parts[found.own], 0))
    if not mask.any():
        return mask, 0.0
    around = (
        ndimage.binary_dilation(mask, np.ones((3, 3), np.bool_)) & found.territory & (mask | ~above)
    )
    # Each axis by itself: a pixel is as wide along a slope as |cos| + |sin| of its direction.
    rise = sum(np.abs(np.gradient(heights, axis=a)) for a in (0, 1) if heights.shape[a] > 1)
    part = np.clip(0.5 + (heights - level) / np.maximum(rise, 1e-12), 0, 1)
    return mask, float(part[around].sum()) * found.pixel_nm[0] * found.pixel_nm[1]


def _ferets(mask: Mask, pixel_nm: tuple[float, float]) -> tuple[float, float]:
    """Return the largest and smallest distance of two parallel lines around pixels, in nm."""
    places = np.argwhere(mask) * pixel_nm
    if not len(places):
        return 0.0, 0.0
    angles = np.deg2rad(np.arange(0, 180, 3))
    along = np.stack([np.sin(angles), np.cos(angles)])
    # Between middles of pixels, and on both sides half a pixel.
    wide = np.ptp(places @ along, axis=0) + np.hypot(*(along * np.array(pixel_nm)[:, None]))
    return float(wide.max()), float(wide.min())


def _middle(found: _Object, mask: Mask) -> tuple[float, float]:
    inside = np.argwhere(mask if mask.any() else found.own).mean(0)
    y, x = ((at + part.start) for at, part in zip(inside, found.box, strict=True))
    return float(y * found.pixel_nm[0]), float(x * found.pixel_nm[1])


def _between(mask: Mask, sure: Mask, pixel_nm: tuple[float, float]) -> float:
    """Return the area of a mask that lies between its sure pixels, in nm^2."""
    known = (mask & sure)[mask]
    if not known.any():
        return 0.0
    angles = np.deg2rad(np.arange(0, 360, 6))
    along = (np.argwhere(mask) * pixel_nm) @ np.stack([np.sin(angles), np.cos(angles)])
    inside = (along <= along[known].max(0) + 1e-6 * max(pixel_nm)).all(1)
    return float(inside.sum()) * pixel_nm[0] * pixel_nm[1]


def _uncertain(mask: Mask, sure: Mask) -> float:
    """Return the part of the outline of a mask that is not sure."""
    from scipy import ndimage

    outline = mask & ~ndimage.binary_erosion(mask)
    return float((outline & ~sure).sum() / outline.sum()) if outline.any() else 1.0


def _feature(found: _Object, seen: _Seen, again: list[_Seen]) -> Feature:
    raw, corrected = _width(seen.raw), _width(seen.corrected)
    added = raw - corrected
    least = seen.corrected if seen.certain is None else seen.certain
    unseen = (corrected - _width(least)) / 3**0.5

    def error(value: float, repeats: list[float], unsure: float) -> float:
        off = float(np.mean(np.square(np.array(repeats) - value))) if repeats else 0.0
        return float(np.hypot(np.sqrt(off), unsure))

    return Feature(
        label=found.label,
        y_nm=seen.middle[0],
        x_nm=seen.middle[1],
        height_nm=seen.height,
        height_error_nm=error(seen.height, [a.height for a in again], 0.0),
        raw_area_nm2=seen.raw,
        corrected_area_nm2=seen.corrected,
        corrected_area_error_nm2=error(
            seen.corrected, [a.corrected for a in again], (seen.corrected - least) / 3**0.5
        ),
        raw_width_nm=raw,
        corrected_width_nm=corrected,
        corrected_width_error_nm=error(corrected, [_width(a.corrected) for a in again], unseen),
        broadening_nm=added,
        broadening_error_nm=error(
            added, [_width(a.raw) - _width(a.corrected) for a in again], unseen
        ),
        raw_feret_max_nm=seen.feret[0],
        raw_feret_min_nm=seen.feret[1],
        raw_base_area_nm2=seen.base,
        raw_base_width_nm=_width(seen.base),
        certain_area_nm2=seen.certain,
        certain_width_nm=None if seen.certain is None else _width(seen.certain),
        uncertain_outline=seen.uncertain,
        touches_edge=seen.touches,
    )


def _width(area: float) -> float:
    return float(2 * np.sqrt(area / np.pi))


def _reconstructed(image: Double, tip: Tip, done: int, total: int) -> Generator[Step, None, Double]:
    """Erode, as one of a number of steps."""
    steps = eroded(image, tip.heights_nm)
    note = f"repeat {done} of {total - 1} with noise" if done else "measuring"
    while True:
        try:
            next(steps)
        except StopIteration as end:
            surface: Double = end.value
            return surface
        yield Step(done, total, note)


def _checked(
    heights_nm: npt.ArrayLike, labels: npt.ArrayLike, tips: Sequence[Tip]
) -> tuple[Double, Labels]:
    image = checked_heights(heights_nm)
    require(image.ndim == 2, "Objects are measured in one frame, (Y, X)")
    numbers: npt.NDArray[Any] = np.asarray(labels)
    require(
        numbers.dtype.kind in "iub" and numbers.shape == image.shape,
        f"Labels are whole numbers on the pixels of the image, {image.shape}, "
        f"not {numbers.dtype} of shape {numbers.shape}",
    )
    require(int(numbers.min()) >= 0, "Labels are 0, the ground, or above it; here some are below")
    for tip in tips:
        require(
            all(n <= m for n, m in zip(tip.shape, image.shape, strict=True)),
            f"The tip, {tip.shape[0]} x {tip.shape[1]} pixels, is larger than the image; crop it",
        )
        require(
            bool(np.allclose(tip.pixel_nm, tips[0].pixel_nm, rtol=1e-3)),
            "All tips must be on the pixels of the image; here their pixel sizes differ",
        )
    return image, numbers.astype(np.int64)


def _map_of(certainty: npt.ArrayLike, shape: tuple[int, ...]) -> Mask:
    sure = np.asarray(certainty)
    require(
        sure.shape == shape,
        f"The certainty map must be on the pixels of the image, {shape}, not {sure.shape}",
    )
    return np.asarray(sure != 0, np.bool_)
