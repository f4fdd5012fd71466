"""The loop of `afm.gradient_descent`: how far an opening is from images, and which way it falls.

With d the place of the tip that wins the dilation at x, and e the one that wins the erosion at
x - d, the opening there is O(x) = I(x - d + e) - T(e) + T(d). So what O(x) pulls at is T(d), and
against it T(e): the winners are kept on the way forth, and the pulls summed on the way back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .compiled import compiled

Double = npt.NDArray[np.float64]


@compiled
def erode_and_tell(image: Double, tip: Double, out: Double, winner: Double) -> None:
    """Write min_d [I(x + d) - T(d)] into `out`, and the number of the first such d."""
    rows, columns = image.shape
    middle_y, middle_x = tip.shape[0] // 2, tip.shape[1] // 2
    # What lies deeper below the middle than the image is high never wins: the middle does.
    deepest = tip[middle_y, middle_x] - (image.max() - image.min())
    out[:] = np.inf
    winner[:] = -1.0
    for i in range(tip.shape[0]):
        for j in range(tip.shape[1]):
            height = tip[i, j]
            if height < deepest:
                continue
            number = float(i * tip.shape[1] + j)
            shift = j - middle_x
            start, end = max(0, -shift), min(columns, columns - shift)
            if end <= start:
                continue
            for y in range(max(0, middle_y - i), min(rows, rows + middle_y - i)):
                here, told = out[y, start:end], winner[y, start:end]
                there = image[y + i - middle_y, start + shift : end + shift]
                for x in range(end - start):
                    value = there[x] - height
                    lower = value < here[x]
                    here[x] = value if lower else here[x]
                    told[x] = number if lower else told[x]


@compiled
def dilate_and_tell(surface: Double, tip: Double, out: Double, winner: Double) -> None:
    """Write max_d [S(x - d) + T(d)] into `out`, and the number of the first such d."""
    rows, columns = surface.shape
    middle_y, middle_x = tip.shape[0] // 2, tip.shape[1] // 2
    deepest = tip[middle_y, middle_x] - (surface.max() - surface.min())
    out[:] = -np.inf
    winner[:] = -1.0
    for i in range(tip.shape[0]):
        for j in range(tip.shape[1]):
            height = tip[i, j]
            if height < deepest:
                continue
            number = float(i * tip.shape[1] + j)
            shift = middle_x - j
            start, end = max(0, -shift), min(columns, columns - shift)
            if end <= start:
                continue
            for y in range(max(0, i - middle_y), min(rows, rows + i - middle_y)):
                here, told = out[y, start:end], winner[y, start:end]
                there = surface[y - i + middle_y, start + shift : end + shift]
                for x in range(end - start):
                    value = there[x] + height
                    higher = value > here[x]
                    here[x] = value if higher else here[x]
                    told[x] = number if higher else told[x]


@compiled
def opening_loss(
    frames: Double, tip: Double, margin_y: int, margin_x: int, gradient: Double
) -> float:
    """Return the mean of (open(I, T) - I)^2; add its derivatives by T to `gradient`.

    Parameters
    ----------
    frames : ndarray of float64, (T, Y, X)
    tip, gradient : ndarray of float64, (Y, X)
    margin_y, margin_x : int
        Pixels at each edge that do not count: what touched there may lie beyond.
    """
    count, rows, columns = frames.shape
    width = tip.shape[1]
    middle_y, middle_x = tip.shape[0] // 2, width // 2
    surface, opening = np.empty((rows, columns)), np.empty((rows, columns))
    below, above = np.empty((rows, columns)), np.empty((rows, columns))
    total = 0.0
    counted = count * (rows - 2 * margin_y) * (columns - 2 * margin_x)
    for number in range(count):
        image = frames[number]
        erode_and_tell(image, tip, surface, below)
        dilate_and_tell(surface, tip, opening, above)
        for y in range(margin_y, rows - margin_y):
            for x in range(margin_x, columns - margin_x):
                error = opening[y, x] - image[y, x]
                total += error * error
                d = int(above[y, x])
                i, j = d // width, d % width
                e = int(below[y - i + middle_y, x - j + middle_x])
                gradient[i, j] += 2.0 * error / counted
                gradient[e // width, e % width] -= 2.0 * error / counted
    mean: float = total / counted
    return mean


@compiled
def open_frames(frames: Double, tip: Double, out: Double) -> None:
    """Write open(I, T) of frames, (T, Y, X), into `out`; the tip's apex need not be 0."""
    count, rows, columns = frames.shape
    surface, winner = np.empty((rows, columns)), np.empty((rows, columns))
    for number in range(count):
        erode_and_tell(frames[number], tip, surface, winner)
        dilate_and_tell(surface, tip, out[number], winner)
