"""Levelling: what the microscope adds to heights, a tilt, a bow and offsets of rows, taken out.

The background is what a polynomial passes through once what stands out is left out. It is found
from below, so that objects may cover a large part of a frame: first a fit in which a pixel above
counts little, then fits to all that is within 3 sigma, until the same pixels stay. Sigma is that
of the pixels below, where no objects are. A few pits, deeper than that, are left out too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import Value, require

Double = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
RowMethod = Literal["median of differences", "median"]

#: What counts as an object: sigmas above the background.
OBJECT_SIGMAS = 3.0
#: Median absolute deviation to standard deviation, of a normal distribution.
MAD_TO_SIGMA = 1.4826
#: What a pixel above the first fit counts; one below it counts the rest up to 1.
HIGH_COUNTS = 0.01
#: Most fits of either kind; a handful do mostly.
MOST_FITS = 50
#: Fits without the flanks of objects, and the square of pixels whose mean tells of a flank.
MOST_FITS_BESIDE_FLANKS, FLANK = 8, 5
#: Pixels that a background is sought in; more would not change it.
SAMPLE = 1 << 18
#: A part of the range of heights that is rounding, not relief.
ROUNDING = 1e-9
#: Most times that rows are aligned and objects looked for again, and the largest change, as a
#: part of the height where objects begin, that ends it.
MOST_ALIGNMENTS, ALIGNED = 10, 3e-3


@dataclass(frozen=True)
class Level(Value):
    """Take out a polynomial in x and y; what it passes through is then at 0.

    Parameters
    ----------
    degree : int
        Of x and y together: 0 an offset, 1 a plane, 2 a bow, up to 4.
    mask_high : bool
        Whether objects that stand out above, and a few pits, are left out of the fit. Without,
        all pixels count the same.

    Raises
    ------
    InputError
        If the degree is not one of 0 to 4.

    Notes
    -----
    From degree 2 on a bow may pass for objects, and the other way round, where objects cover more
    than a third of a frame or crowd at its middle: take degree 1 there.
    """

    degree: int = 1
    mask_high: bool = True
    verb: ClassVar[str] = "levelling"

    def __post_init__(self) -> None:
        whole = isinstance(self.degree, int) and not isinstance(self.degree, bool)
        require(
            whole and 0 <= self.degree <= 4,
            f"The degree of a levelling is a whole number from 0 (an offset) to 4, "
            f"not {self.degree!r}",
        )
        _require_switch(self.mask_high)

    def of_frame(self, frame: Double) -> Double:
        """Return one frame, (Y, X) in nm, levelled."""
        return frame - background_of(frame, self.degree, mask_high=self.mask_high)[0]


@dataclass(frozen=True)
class Rows(Value):
    """Align the rows of a frame: each was scanned with an offset of its own.

    The mean and the slope along y of all offsets together stay as they are, since they cannot be
    told from a tilt of the sample: use `Level` before, and again after for the best. A bow of the
    background along y is taken for offsets.

    Parameters
    ----------
    by : "median of differences" or "median"
        The median of the differences of two rows, added up row by row, whatever the offsets are
        beside the objects; or the median of each row, for offsets below the objects.
    mask_high : bool
        Whether objects are left out, and rows then set by the background beside them. This stops
        errors from adding up row by row, and a wide object from leaving a band. Without, no
        background has to exist.

    Raises
    ------
    InputError
        If the method is not known.

    Notes
    -----
    Where less than 1 in 16 pixels of a row is background, "median of differences" lets the row
    follow its neighbours, "median" uses all of its pixels, so that an object as wide as the frame
    is lost. Frames of less than three rows or columns stay as they are.
    """

    by: RowMethod = "median of differences"
    mask_high: bool = True
    verb: ClassVar[str] = "aligning the rows of"

    def __post_init__(self) -> None:
        known = get_args(RowMethod)
        require(
            self.by in known,
            f"Rows are aligned by {' or '.join(map(repr, known))}, not by {self.by!r}",
        )
        _require_switch(self.mask_high)

    def of_frame(self, frame: Double) -> Double:
        """Return one frame, (Y, X) in nm, with its rows aligned."""
        if min(frame.shape) < 3:
            return frame.copy()
        return frame - row_offsets(frame, self.by, mask_high=self.mask_high)[:, None]


def background_of(frame: Double, degree: int, *, mask_high: bool = True) -> tuple[Double, Mask]:
    """Return the polynomial that the background follows, and where there is background.

    Parameters
    ----------
    frame : ndarray of float64, (Y, X)
        Heights in nm.
    degree : int
        Of x and y together.
    mask_high : bool
        Whether what stands out above is no background.

    Returns
    -------
    fit : ndarray of float64, (Y, X)
    background : ndarray of bool, (Y, X)

    Notes
    -----
    The first fit is that of asymmetric least squares (Newey & Powell 1987, doi 10.2307/1911031),
    which has one minimum, whatever the objects are.
    """
    y, x = (_polynomials(n, degree) for n in frame.shape)
    powers = [
        (i, j) for i in range(min(degree + 1, len(y))) for j in range(min(degree + 1 - i, len(x)))
    ]
    every = max(int(np.ceil(np.sqrt(frame.size / SAMPLE))), 1) if mask_high else 1
    columns = [np.outer(y[::every, i], x[::every, j]).ravel() for i, j in powers]
    terms = np.stack(columns, axis=1, dtype=np.float64)

    def fit_of(found: Double) -> Double:
        weights = np.zeros((degree + 1, degree + 1))
        weights[tuple(np.transpose(powers))] = found
        return np.asarray(y @ weights @ x.T)

    # From the middle of the heights, so that a large offset costs no digits.
    middle = float(frame.mean())
    values = (frame[::every, ::every] - middle).ravel()
    found = _solved(terms, values, np.ones_like(values))
    background = np.ones(frame.shape, bool)
    if not mask_high:
        return middle + fit_of(found), background
    found = found + _from_below(terms, values - terms @ found)
    for _ in range(MOST_FITS_BESIDE_FLANKS):
        before, background = background, _low(frame - middle - fit_of(found))
        keep = background[::every, ::every].ravel()
        if np.array_equal(background, before) or keep.sum() < 2 * len(powers):
            break
        found = _solved(terms, values, keep.astype(np.float64))
    return middle + fit_of(found), background


def _polynomials(places: int, degree: int) -> Double:
    """Return Legendre polynomials, (places, degree + 1): plain powers are too much alike."""
    from numpy.polynomial.legendre import legvander

    at = np.linspace(-1, 1, places) if places > 1 else np.zeros(1)
    return np.asarray(legvander(at, degree), np.float64)


def row_offsets(frame: Double, by: RowMethod, *, mask_high: bool) -> Double:
    """Return the offset of each row in nm, without mean and slope; see `Rows`.

    Parameters
    ----------
    frame : ndarray of float64, (Y, X)
        Heights in nm.
    by : "median of differences" or "median"
    mask_high : bool

    Returns
    -------
    ndarray of float64, (Y,)
    """
    relative = by == "median of differences"
    flat = frame - background_of(frame, 1, mask_high=mask_high)[0]
    offsets = _added_up(flat) if relative else np.zeros(len(flat))
    if not mask_high:
        offsets = offsets if relative else np.median(flat, axis=1)
        return _without_line(offsets, np.ones(len(flat)))
    for _ in range(MOST_ALIGNMENTS):
        rest = flat - offsets[:, None]
        tilt, background = background_of(rest, 1)
        change = _row_levels(rest - tilt, background, follow=relative)
        offsets = offsets + change
        if np.abs(change).max() <= ALIGNED * _limit(rest - tilt):
            break
    return _without_line(offsets, background.sum(axis=1).astype(np.float64))


def _added_up(flat: Double) -> Double:
    """Return the medians of the differences between rows, added up from the first row on.

    Two pixels tell of the offsets where both are on an object or both beside: the side of an
    object between them is then no part of the difference.
    """
    steps = np.diff(flat, axis=0)
    high = flat > _limit(flat)
    same = high[1:] == high[:-1]
    few = _fewest(flat.shape[1])
    medians = [
        float(np.median(step[chosen] if chosen.sum() >= few else step))
        for step, chosen in zip(steps, same, strict=True)
    ]
    return np.concatenate([[0.0], np.cumsum(medians)])


def _row_levels(rest: Double, background: Mask, *, follow: bool) -> Double:
    """Return the median of the background of each row.

    A row that has none follows its neighbours, or else is given the median of all of it.
    """
    enough = background.sum(axis=1) >= _fewest(rest.shape[1])
    levels = np.zeros(len(rest)) if follow else np.median(rest, axis=1)
    for row in np.flatnonzero(enough):
        levels[row] = np.median(rest[row, background[row]])
    if follow and enough.any():
        rows = np.arange(len(rest))
        levels = np.interp(rows, rows[enough], levels[enough])
    return levels


def _fewest(columns: int) -> int:
    """Return how many pixels of a row it takes to set its offset."""
    return max(3, columns // 16)


def _without_line(offsets: Double, weights: Double) -> Double:
    """Return offsets less the straight line through them, rows weighted as in `Level`'s fit."""
    weights = weights if np.count_nonzero(weights) > 1 else np.ones_like(weights)
    line = np.stack([np.ones(len(offsets)), np.linspace(-1, 1, len(offsets))], 1)
    return np.asarray(offsets - line @ _solved(line, offsets, weights))


def _from_below(terms: Double, values: Double) -> Double:
    """Return the weights of the terms that follow the lower part of values."""
    found = np.zeros(terms.shape[1])
    high = np.zeros(len(values), bool)
    for _ in range(MOST_FITS):
        before, high = high, values > terms @ found
        if np.array_equal(high, before):
            break
        found = _solved(terms, values, np.where(high, HIGH_COUNTS, 1 - HIGH_COUNTS))
    keep = np.zeros(len(values), bool)
    for _ in range(MOST_FITS):
        residual = values - terms @ found
        before, keep = keep, np.abs(residual) <= _limit(residual)
        if np.array_equal(keep, before) or keep.sum() < 2 * terms.shape[1]:
            break
        found = _solved(terms, values, keep.astype(np.float64))
    return found


def _low(residual: Double) -> Mask:
    """Return what is background: neither a pixel nor the mean around it stands out above.

    The mean shows the flanks of objects, which are below the noise of a pixel.
    """
    from scipy.ndimage import uniform_filter

    around = uniform_filter(residual, FLANK, mode="nearest")
    return np.asarray((np.abs(residual) <= _limit(residual)) & (around <= _limit(around)))


def _limit(residual: Double) -> float:
    """Return the height above the background where objects begin."""
    below = -residual[residual < 0]
    sigma = MAD_TO_SIGMA * float(np.median(below)) if below.size else 0.0
    return OBJECT_SIGMAS * sigma + ROUNDING * float(np.ptp(residual))


def _solved(terms: Double, values: Double, weights: Double) -> Double:
    """Return the weighted least squares solution; the shortest where there are many."""
    weighted = terms * weights[:, None]
    return np.asarray(np.linalg.lstsq(weighted.T @ terms, weighted.T @ values, rcond=None)[0])


def _require_switch(mask_high: Any) -> None:
    require(
        isinstance(mask_high, bool),
        f"Whether high objects are masked is true or false, not {mask_high!r}",
    )
