"""The loops of grey morphology; see `afm.morphology` for what they mean.

Each goes through some rows of the result, so that work can be shared, shown and ended. The
innermost loop runs along a row of three arrays and nothing else: compilers make it wide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .compiled import compiled

Double = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]


@compiled
def erode_rows(image: Double, tip: Double, first: int, last: int, out: Double) -> None:
    """Write min_d [I(x + d) - T(d)] into rows of `out`; beyond the image there is nothing."""
    rows, columns = image.shape
    middle_y, middle_x = tip.shape[0] // 2, tip.shape[1] // 2
    for y in range(first, last):
        line = out[y]
        line[:] = np.inf
        for i in range(tip.shape[0]):
            from_y = y + i - middle_y
            if from_y < 0 or from_y >= rows:
                continue
            for j in range(tip.shape[1]):
                height = tip[i, j]
                if height == -np.inf:
                    continue
                shift = j - middle_x
                start, end = max(0, -shift), min(columns, columns - shift)
                if end <= start:
                    continue
                here, there = line[start:end], image[from_y, start + shift : end + shift]
                for x in range(end - start):
                    value = there[x] - height
                    here[x] = value if value < here[x] else here[x]


@compiled
def dilate_rows(surface: Double, tip: Double, first: int, last: int, out: Double) -> None:
    """Write max_d [S(x - d) + T(d)] into rows of `out`; beyond the surface there is nothing."""
    rows, columns = surface.shape
    middle_y, middle_x = tip.shape[0] // 2, tip.shape[1] // 2
    for y in range(first, last):
        line = out[y]
        line[:] = -np.inf
        for i in range(tip.shape[0]):
            from_y = y - i + middle_y
            if from_y < 0 or from_y >= rows:
                continue
            for j in range(tip.shape[1]):
                height = tip[i, j]
                if height == -np.inf:
                    continue
                shift = middle_x - j
                start, end = max(0, -shift), min(columns, columns - shift)
                if end <= start:
                    continue
                here, there = line[start:end], surface[from_y, start + shift : end + shift]
                for x in range(end - start):
                    value = there[x] + height
                    here[x] = value if value > here[x] else here[x]


@compiled
def touch_rows(
    image: Double,
    surface: Double,
    tip: Double,
    tolerance: float,
    first: int,
    last: int,
    touched: Counts,
    where: Counts,
) -> None:
    """Count, for each pixel of rows of the image, where the tip may have touched.

    `touched` gets how many d have S(x - d) + T(d) >= I(x) - tolerance, and `where` the sum of the
    indices of those x - d in the flat surface: with one of them, the index itself.
    """
    rows, columns = surface.shape
    middle_y, middle_x = tip.shape[0] // 2, tip.shape[1] // 2
    for y in range(first, last):
        count, place = touched[y], where[y]
        count[:] = 0
        place[:] = 0
        for i in range(tip.shape[0]):
            from_y = y - i + middle_y
            if from_y < 0 or from_y >= rows:
                continue
            for j in range(tip.shape[1]):
                height = tip[i, j] + tolerance
                if height == -np.inf:
                    continue
                shift = middle_x - j
                start, end = max(0, -shift), min(columns, columns - shift)
                if end <= start:
                    continue
                there = surface[from_y, start + shift : end + shift]
                base = from_y * columns + start + shift
                measured, counted, placed = image[y, start:end], count[start:end], place[start:end]
                for x in range(end - start):
                    hit = np.int32(there[x] + height >= measured[x])
                    counted[x] += hit
                    # Wraps around in wide sums, which nobody reads.
                    placed[x] += hit * np.int32(base + x)


@compiled
def lower_envelope_lines(lines: Double, curvature: float, out: Double) -> None:
    """Write min_q [f(q) + curvature (p - q)^2] of each line into `out`, in linear time.

    The lower envelope of one parabola a point (Felzenszwalb & Huttenlocher 2012,
    doi 10.4086/toc.2012.v008a019).
    """
    count, n = lines.shape
    lowest = np.empty(n, np.int64)
    begins = np.empty(n + 1, np.float64)
    for number in range(count):
        f = lines[number]
        last = 0
        lowest[0] = 0
        begins[0] = -np.inf
        begins[1] = np.inf
        for q in range(1, n):
            while True:
                r = lowest[last]
                meets = 0.5 * ((f[q] - f[r]) / (curvature * (q - r)) + (q + r))
                if meets > begins[last]:
                    break
                last -= 1
            last += 1
            lowest[last] = q
            begins[last] = meets
            begins[last + 1] = np.inf
        part = 0
        for p in range(n):
            while begins[part + 1] < p:
                part += 1
            q = lowest[part]
            out[number, p] = f[q] + curvature * (p - q) ** 2
