"""Erosion, dilation and certainty: from an image to the surface, back, and where it is sure.

With T(d) <= 0 = T(0), the reflected tip (Villarrubia 1997, J. Res. Natl. Inst. Stand. Technol.
102, 425, doi 10.6028/jres.102.030):

- what a tip makes of a surface, its dilation: I(x) = max_d [S(x - d) + T(d)];
- what can be known of the surface, the erosion: S'(x) = min_d [I(x + d) - T(d)] >= S(x);
- both together, the opening, are never above the image, and equal to an image that is one.

Beyond the edges there is nothing: neither a surface that would be touched, nor an image that
would have to be obeyed. So both are adjoint: dilate(S) <= I if and only if S <= erode(I).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import require
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended

from .height_map import checked_heights
from .tips import EllipticParaboloid, Paraboloid, Tip, TipShape, checked_tip, tip_of

Double = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

#: Multiplications of a band of rows: as many as take a tenth of a second or so.
BAND_WORK = 3e7
#: Heights that differ by less, as a part of their range, are the same to a certainty map.
SAME_HEIGHT = 1e-9


def erode(image: npt.ArrayLike, tip: npt.ArrayLike) -> Double:
    """Return the surface that an image tells of, the highest that the tip can have touched.

    S(x) = min_d [I(x + d) - T(d)]

    Parameters
    ----------
    image : array, (Y, X) or (T, Y, X)
        Heights in nm.
    tip : array, (Y, X)
        Heights in nm; see `afm`: the apex, 0, at index n//2, all else at or below 0.

    Returns
    -------
    ndarray of float64
        Of the shape of the image; nowhere below the true surface.

    Raises
    ------
    InputError
        If the image is none of finite heights, or the tip no tip, or larger than the image.

    Examples
    --------
    >>> tip = [[-1, 0, -2]]
    >>> image = dilate([[0, 0, 5, 0, 0]], tip)
    >>> image.tolist(), erode(image, tip).tolist()
    ([[0.0, 4.0, 5.0, 3.0, 0.0]], [[0.0, 1.0, 5.0, 2.0, 0.0]])
    """
    heights, shape = _checked(image, tip)
    return ended(eroded(heights, shape))


def dilate(surface: npt.ArrayLike, tip: npt.ArrayLike) -> Double:
    """Return the image that a tip makes of a surface.

    I(x) = max_d [S(x - d) + T(d)]

    Parameters
    ----------
    surface : array, (Y, X) or (T, Y, X)
        Heights in nm.
    tip : array, (Y, X)
        As in `erode`.

    Returns
    -------
    ndarray of float64
        Of the shape of the surface.

    Raises
    ------
    InputError
        As `erode`.
    """
    heights, shape = _checked(surface, tip)
    return ended(dilated(heights, shape))


def opened(image: npt.ArrayLike, tip: npt.ArrayLike) -> Double:
    """Return the image that the tip would make of the reconstructed surface, dilate(erode(I)).

    It is nowhere above the image. What lies above it, no such tip can have made.

    Parameters
    ----------
    image, tip : array
        As in `erode`.
    """
    return dilate(erode(image, tip), tip)


def certainty(image: npt.ArrayLike, tip: npt.ArrayLike, *, tolerance_nm: float = 0.0) -> Labels:
    """Return where a reconstructed surface is the surface, not just an upper bound.

    A pixel of the image says something of one place only if the tip can have touched there and
    nowhere else: exactly one d has S'(x - d) + T(d) >= I(x) - tolerance. Then S' is the surface
    at x - d. Pixels nearer to an edge than the tip reaches say nothing: it may have touched
    beyond.

    Parameters
    ----------
    image, tip : array
        As in `erode`.
    tolerance_nm : float
        Heights that differ by less are the same: that of the noise, for a measured image.

    Returns
    -------
    ndarray of uint8
        Of the shape of the image: 1 where the surface is certain, 0 elsewhere.

    Raises
    ------
    InputError
        As `erode`.
    """
    heights, shape = _checked(image, tip)
    return ended(certain(heights, ended(eroded(heights, shape)), shape, tolerance_nm))


def eroded(image: Double, tip: Double) -> Generator[Step, None, Double]:
    """Erode band by band; see `erode`. The value of the generator is the result."""
    from .loops import erode_rows

    return (yield from _by_bands(erode_rows, image, tip, "reconstructing"))


def dilated(surface: Double, tip: Double) -> Generator[Step, None, Double]:
    """Dilate band by band; see `dilate`. The value of the generator is the result."""
    from .loops import dilate_rows

    return (yield from _by_bands(dilate_rows, surface, tip, "imaging again"))


def certain(
    image: Double, surface: Double, tip: Double, tolerance_nm: float = 0.0
) -> Generator[Step, None, Labels]:
    """Mark what is certain band by band; see `certainty`."""
    from .loops import touch_rows

    result = np.zeros(image.shape, np.uint8)
    size = _reach(tip)
    rows, columns = image.shape[-2:]
    inner = (
        slice(size[0][0], max(rows - size[0][1], 0)),
        slice(size[1][0], max(columns - size[1][1], 0)),
    )
    for number, (measured, below) in enumerate(zip(_frames(image), _frames(surface), strict=True)):
        slack = tolerance_nm + SAME_HEIGHT * float(np.ptp(measured))
        touched, where = (np.zeros((rows, columns), np.int32) for _ in range(2))

        def work(
            first: int,
            last: int,
            measured: Double = measured,
            below: Double = below,
            slack: float = slack,
            found: tuple[Any, Any] = (touched, where),
        ) -> None:
            touch_rows(measured, below, tip, slack, first, last, *found)

        for done, total in _shared(work, rows, columns * tip.size):
            yield _tick(image, number, done, total, "asking what is certain")
        alone = where[inner][touched[inner] == 1]
        _frames(result)[number].reshape(-1)[alone] = 1
    return result


def reconstructed(image: Double, shape: TipShape, pixel_nm: tuple[float, float]) -> Double:
    """Erode by a shape; by paraboloids that are not turned in linear time, exactly.

    Parameters
    ----------
    image : ndarray of float64, (Y, X) or (T, Y, X)
    shape : TipShape
    pixel_nm : tuple of float, (y, x)
    """
    return ended(erosion(image, tip_for(shape, image, pixel_nm), shape))


def erosion(
    image: Double, tip: Tip, shape: TipShape | None = None
) -> Generator[Step, None, Double]:
    """Erode by a tip; in linear time where it is known to be a paraboloid along the axes.

    Parameters
    ----------
    image : ndarray of float64, (Y, X) or (T, Y, X)
    tip : Tip
    shape : TipShape, optional
        What the tip is on the pixels of the image.
    """
    radii = radii_of(shape)
    if radii is None:
        return (yield from eroded(image, tip.heights_nm))
    yield Step(0, 1, "reconstructing")
    return erode_by_paraboloid(image, radii, tip.pixel_nm)


def dilation(
    surface: Double, tip: Tip, shape: TipShape | None = None
) -> Generator[Step, None, Double]:
    """Dilate by a tip; see `erosion`."""
    radii = radii_of(shape)
    if radii is None:
        return (yield from dilated(surface, tip.heights_nm))
    yield Step(0, 1, "imaging again")
    return dilate_by_paraboloid(surface, radii, tip.pixel_nm)


def tip_for(shape: TipShape, image: Double, pixel_nm: tuple[float, float]) -> Tip:
    """Return a shape on the pixels of an image, as far as it can touch there."""
    depth = float(np.ptp(_frames(image), axis=(1, 2)).max())
    rows, columns = image.shape[-2:]
    return tip_of(shape, pixel_nm, depth, (rows, columns))


def radii_of(shape: TipShape | None) -> tuple[float, float] | None:
    """Return the radii along y and x of a paraboloid that lies along the axes; else None."""
    if isinstance(shape, Paraboloid):
        return shape.radius_nm, shape.radius_nm
    if isinstance(shape, EllipticParaboloid) and shape.rotation_deg % 90 == 0:
        along = (shape.second_radius_nm, shape.radius_nm)
        return along if shape.rotation_deg % 180 == 0 else along[::-1]
    return None


def erode_by_paraboloid(
    image: Double, radii_nm: tuple[float, float], pixel_nm: tuple[float, float]
) -> Double:
    """Erode by a paraboloid with radii along y and x: in linear time, whatever the radii.

    A paraboloid is the sum of a parabola in y and one in x, so the columns are eroded and then
    the rows, each by the lower envelope of parabolas (Felzenszwalb & Huttenlocher 2012).
    """
    from .loops import lower_envelope_lines

    result = np.array(image, np.float64)
    for frame in _frames(result):
        for radius, step, lines in zip(radii_nm, pixel_nm, (frame.T, frame), strict=True):
            given = np.ascontiguousarray(lines)
            out = np.empty_like(given)

            def work(first: int, last: int, c: float, g: Double = given, o: Double = out) -> None:
                lower_envelope_lines(g[first:last], c, o[first:last])

            curvature = step**2 / (2 * radius)
            n = len(given)
            halves = [(k * n // THREADS, (k + 1) * n // THREADS) for k in range(THREADS)]
            list(threads().map(lambda ends, c=curvature, w=work: w(*ends, c), halves))
            lines[...] = out
    return result


def dilate_by_paraboloid(
    surface: Double, radii_nm: tuple[float, float], pixel_nm: tuple[float, float]
) -> Double:
    """Dilate by a paraboloid; see `erode_by_paraboloid`."""
    return -erode_by_paraboloid(-surface, radii_nm, pixel_nm)


# -- rows shared among threads ----------------------------------------------------------------

THREADS = max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 1)
_pool: list[ThreadPoolExecutor] = []


def threads() -> ThreadPoolExecutor:
    """Return the threads that rows are shared among."""
    if not _pool:
        _pool.append(ThreadPoolExecutor(THREADS, thread_name_prefix="afm"))
    return _pool[0]


def _by_bands(
    rows_of: Callable[..., None], heights: Double, tip: Double, verb: str
) -> Generator[Step, None, Double]:
    result = np.empty_like(heights)
    rows, columns = heights.shape[-2:]
    for number, (given, out) in enumerate(zip(_frames(heights), _frames(result), strict=True)):

        def work(first: int, last: int, given: Double = given, out: Double = out) -> None:
            rows_of(given, tip, first, last, out)

        for done, total in _shared(work, rows, columns * tip.size):
            yield _tick(heights, number, done, total, verb)
    return result


def _shared(
    work: Callable[[int, int], None], rows: int, row_work: int
) -> Iterator[tuple[int, int]]:
    """Do rows band by band, as many bands at once as there are cores; yield bands done, of all."""
    most = max(-(-rows // THREADS), 1)
    height = int(np.clip(BAND_WORK / max(row_work, 1), 1, most))
    starts = range(0, rows, height)
    for at in range(0, len(starts), THREADS):
        some = starts[at : at + THREADS]
        list(threads().map(lambda first: work(first, min(first + height, rows)), some))
        yield at + len(some), len(starts)


def _tick(heights: Double, frame: int, done: int, total: int, verb: str) -> Step:
    frames = len(_frames(heights))
    note = f"{verb} frame {frame + 1} of {frames}" if frames > 1 else verb
    return Step(frame * total + done, frames * total, note)


def _frames(values: Any) -> Any:
    """Return a view of (T, Y, X)."""
    return values if values.ndim == 3 else values[None]


def _reach(tip: Double) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how far from a pixel, before and after it on each axis, it may have touched."""
    there = np.isfinite(tip)
    ends = []
    for axis, n in enumerate(tip.shape):
        along = np.flatnonzero(there.any(1 - axis)) - n // 2
        ends.append((max(int(along.max()), 0), max(-int(along.min()), 0)))
    return ends[0], ends[1]


def _checked(image: npt.ArrayLike, tip: npt.ArrayLike) -> tuple[Double, Double]:
    heights, shape = checked_heights(image), checked_tip(tip)
    sides = " x ".join(map(str, shape.shape)), " x ".join(map(str, heights.shape[-2:]))
    require(
        all(n <= m for n, m in zip(shape.shape, heights.shape[-2:], strict=True)),
        f"The tip, {sides[0]} pixels, is larger than the image, {sides[1]}; crop the tip",
    )
    return heights, shape
