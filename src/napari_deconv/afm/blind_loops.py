"""The loop of blind tip estimation; see `afm.blind_tip` for what it means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .compiled import compiled

Double = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Contacts tried between two looks at whether all is settled: a look costs as much as a contact.
CONTACTS = 4


@compiled
def lower_tip(
    frames: Double, points: Indices, threshold: float, allowed: float, least: float, tip: Double
) -> int:
    """Lower `tip`, in place, by what points of an image tell of it; return how many told.

    Parameters
    ----------
    frames : ndarray, (T, Y, X)
    points : ndarray, (N, 3)
        Indices of pixels.
    threshold, allowed : float
        By how much the tip stays above what a point tells, and a contact may be too high.
    least : float
        A tip that is lowered by no more than this has not changed.
    tip : ndarray, (Y, X)
        Apex, 0, at index n//2.
    """
    rows, columns = frames.shape[1:]
    high, wide = tip.shape
    contacts = np.empty((high * wide, 2), np.int64)
    best = np.empty((high, wide), np.float64)
    changes = 0
    for number in range(len(points)):
        image = frames[points[number, 0]]
        y, x = points[number, 1], points[number, 2]
        count = _contacts(image, y, x, tip, allowed, contacts)
        # Only where every contact puts the tip over the image can it be said to be lower.
        low_i, high_i = contacts[:count, 0].min(), contacts[:count, 0].max()
        low_j, high_j = contacts[:count, 1].min(), contacts[:count, 1].max()
        first_i, last_i = max(0, high_i - y), min(high, rows - y + low_i)
        first_j, last_j = max(0, high_j - x), min(wide, columns - x + low_j)
        if first_i >= last_i or first_j >= last_j:
            continue
        part = tip[first_i:last_i, first_j:last_j]
        most = best[: last_i - first_i, : last_j - first_j]
        at_y, at_x = y + first_i, x + first_j
        if not _raise(image, at_y, at_x, contacts[:count], threshold, image[y, x], tip, part, most):
            changes += _lower(part, most, least)
    return changes


@compiled
def _contacts(image: Double, y: int, x: int, tip: Double, allowed: float, contacts: Indices) -> int:
    """Write where on the tip it may have touched when it stood at (y, x), the apex first.

    The place that was touched there lies at -d; beyond the image it may have any height.
    """
    rows, columns = image.shape
    middle_y, middle_x = tip.shape[0] // 2, tip.shape[1] // 2
    contacts[0, 0], contacts[0, 1] = middle_y, middle_x
    count = 1
    for i in range(tip.shape[0]):
        at_y = y - i + middle_y
        for j in range(tip.shape[1]):
            at_x = x - j + middle_x
            if tip[i, j] == -np.inf or (i == middle_y and j == middle_x):
                continue
            inside = 0 <= at_y < rows and 0 <= at_x < columns
            if inside and image[y, x] - image[at_y, at_x] > tip[i, j] + allowed:
                continue
            contacts[count, 0], contacts[count, 1] = i, j
            count += 1
    return count


@compiled
def _raise(
    image: Double,
    at_y: int,
    at_x: int,
    contacts: Indices,
    threshold: float,
    peak: float,
    tip: Double,
    part: Double,
    most: Double,
) -> bool:
    """Write how high a part of the tip may be, by any contact; return whether all is as it was."""
    most[:] = -np.inf
    for k in range(len(contacts)):
        i, j = contacts[k, 0], contacts[k, 1]
        height = tip[i, j] - peak + threshold
        for row in range(most.shape[0]):
            here = most[row]
            there = image[at_y + row - i, at_x - j : at_x - j + most.shape[1]]
            for column in range(most.shape[1]):
                value = there[column] + height
                here[column] = value if value > here[column] else here[column]
        if k == 0 or k % CONTACTS == 0:
            lower = False
            for row in range(most.shape[0]):
                below = 0
                for column in range(most.shape[1]):
                    below += most[row, column] < part[row, column]
                if below:
                    lower = True
                    break
            if not lower:
                return True
    return False


@compiled
def _lower(part: Double, most: Double, least: float) -> int:
    """Lower a part of the tip to what it may be; return 1 if it changed, else 0."""
    changed = 0
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            if most[i, j] < part[i, j]:
                if most[i, j] < part[i, j] - least:
                    changed = 1
                part[i, j] = most[i, j]
    return changed
