"""The objects of an image: where each is, and what one image tells of it.

An object is looked at in a box: its own pixels, its territory, which is as far as its flanks may
reach, and the ring of ground around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Part of an object's height at which its base is measured, and the least in units of the noise.
BASE, BASE_SIGMAS = 0.1, 3.0
#: Pixels that the ring of ground around an object is wide, and how far from it it begins at least.
RING, GAP = 4, 2


@dataclass(frozen=True, eq=False)
class Object:
    """Where an object is: in a box, which is all that is looked at."""

    label: int
    box: tuple[slice, slice]
    own: Mask
    territory: Mask
    ring: Mask
    at_edge: tuple[Mask, Mask]
    pixel_nm: tuple[float, float]


@dataclass(frozen=True)
class Seen:
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


def objects_of(labels: Labels, pixel_nm: tuple[float, float]) -> list[Object]:
    """Return the objects that labels tell of, by label; 0 is the ground."""
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
) -> Object:
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
    return Object(label, box, own, territory, ring, at_edge, pixel_nm)


def seen_in(
    found: Object, image: Double, surface: Double, noise_nm: float, sure: Mask | None
) -> Seen:
    """Measure an object in an image and its reconstructed surface, and where that is sure."""
    raw, corrected = image[found.box], surface[found.box]
    ground = float(np.median(raw[found.ring])) if found.ring.any() else float(raw.min())
    height = float(raw[found.own].max()) - ground
    half = ground + height / 2
    foot = ground + min(max(BASE * height, BASE_SIGMAS * noise_nm), 0.5 * height)
    mask, area = _above(found, raw, half)
    below, base = _above(found, raw, foot)
    inner, true = _above(found, corrected, half)
    edges = found.at_edge[0] | found.at_edge[1]
    return Seen(
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


def _above(found: Object, heights: Double, level: float) -> tuple[Mask, float]:
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


def _middle(found: Object, mask: Mask) -> tuple[float, float]:
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
