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

from napari_deconv.imaging.value import Value, require, require_number
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended, passed_on

from .broadening import broadening_nm, tips_within
from .height_map import checked_heights
from .morphology import eroded
from .objects import Object, Seen, objects_of, seen_in
from .tips import Tip

__all__ = [
    "Feature",
    "broadening_nm",
    "features_csv",
    "features_of",
    "measured",
    "otsu_level",
    "segmented",
    "tips_within",
]

Double = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

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
    >>> from napari_deconv.afm.tips import Paraboloid, tip_of
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
    objects = objects_of(numbers, tip.pixel_nm)
    sure = None if certainty is None else _map_of(certainty, image.shape)
    count = repeats if objects and (noise_nm > 0 or other_tips) else 0
    surface = yield from _reconstructed(image, tip, 0, count + 1)
    first = [seen_in(o, image, surface, noise_nm, sure) for o in objects]
    random, tips = np.random.default_rng(seed), (tip, *other_tips)
    again = []
    for number in range(count):
        noisy = image + noise_nm * random.normal(size=image.shape)
        # Each of the tips as often as the others.
        drawn = tips[(number + 1) % len(tips)]
        surface = yield from _reconstructed(noisy, drawn, number + 1, count + 1)
        again.append([seen_in(o, noisy, surface, noise_nm, None) for o in objects])
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


def _feature(found: Object, seen: Seen, again: list[Seen]) -> Feature:
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
    note = f"repeat {done} of {total - 1} with noise" if done else "measuring"
    return passed_on(eroded(image, tip.heights_nm), lambda _: Step(done, total, note))


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
