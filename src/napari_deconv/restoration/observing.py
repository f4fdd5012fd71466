"""An image is checked, and becomes an `Observation`; what is odd about it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.psf import Psf, fitted_to
from napari_deconv.imaging.value import percent, require, require_number

from .restorer import Observation

#: Counts beyond this are refused: squares of them no longer fit in single precision.
MOST_COUNTS = 1e18
#: Bits of a camera, and how many voxels at the most they hold are taken for saturated ones.
CAMERA_BITS, SATURATED_FROM = (8, 10, 12, 14, 16), 10
#: By how much a background is above the mean where that is told.
CLEARLY_ABOVE = 1.01


def require_intensities(dtype: np.dtype[Any]) -> None:
    """Raise `InputError` unless an image of this type holds real numbers."""
    require(dtype.kind != "c", "The image is complex; give its intensity, |amplitude|^2")
    require(dtype.kind in "buif", f"The image is not made of numbers but of {dtype}")


def require_finite(total: float) -> None:
    """Raise `InputError` unless a sum or mean over an image tells that all of it is finite."""
    require(
        math.isfinite(total),
        "The image holds NaN or infinite values; replace them (for instance by the median "
        "of their neighbours) before restoring",
    )


def require_all_finite(image: npt.NDArray[Any]) -> None:
    """Raise `InputError`, with how many are not, unless all voxels of an image are finite."""
    bad = int(image.size - np.isfinite(image).sum())
    require(
        bad == 0,
        f"The image holds {bad} NaN or infinite values; replace them (for instance by the "
        "median of their neighbours) before restoring",
    )


def require_small_enough(highest: float) -> None:
    """Raise `InputError` unless the highest count can be worked with in single precision."""
    require(
        highest <= MOST_COUNTS,
        f"The image holds values up to {highest:.3g}, more than can be worked with "
        f"({MOST_COUNTS:g}); divide all of it by one number",
    )


def bits_of(highest: float, dtype: np.dtype[Any]) -> int | None:
    """Return the bits of a camera whose highest count this is, or None.

    Examples
    --------
    >>> bits_of(4095, np.dtype("uint16")), bits_of(4095, np.dtype("float32"))
    (12, None)
    """
    if dtype.kind not in "ui":
        return None
    return next((bits for bits in CAMERA_BITS if highest == 2**bits - 1), None)


def observe(
    image: npt.ArrayLike,
    psf: Psf,
    background: float = 0.0,
    *,
    whole_mean: float | None = None,
    start: tuple[int, ...] | None = None,
) -> Observation:
    """Check an image against its PSF and return the `Observation`.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Measured counts of any real type.
    psf : Psf
        On the voxels of the image.
    background : float
        Counts to be modelled under the image.
    whole_mean : float, optional
        Mean of the whole image where this is a piece of one.
    start : tuple of int, optional
        Where in the whole image it begins.

    Raises
    ------
    InputError
        If the image is complex, RGB, empty, or holds NaN or infinite values.
    """
    array = np.asarray(image)
    require_intensities(array.dtype)
    require(
        array.ndim in (2, 3) and array.size > 0,
        f"One block to restore has two or three dimensions, (Z, Y, X) or (Y, X), "
        f"not the shape {array.shape}",
    )
    require_number("The background", background)
    given = array
    with np.errstate(over="ignore"):  # which shows as an infinity
        array = given.astype(np.float32)
    # One that is not finite shows in these as well; and so do few passes over a large image.
    lowest, highest = float(array.min()), float(array.max())
    if not math.isfinite(highest - lowest):
        require_all_finite(given)
    require_small_enough(float(given.max()) if math.isinf(highest) else highest)
    bits = bits_of(highest, given.dtype)
    count = 0
    if lowest < 0:
        negative = array < 0
        count = int(np.count_nonzero(negative))
        array[negative] = 0
    mean = whole_mean
    if mean is None and background > 0:
        mean = float(array.mean(dtype=np.float64))
    fitted = fitted_to(psf, array.ndim)
    notes = notes_on_image(
        array.shape,
        fitted.shape,
        negative=count,
        highest=highest,
        mean=mean,
        background=background,
        saturated=(int(np.count_nonzero(given == given.max())), bits) if bits else None,
    )
    return Observation(array, fitted, float(background), (*fitted.notes, *notes), whole_mean, start)


def notes_on_image(
    shape: tuple[int, ...],
    psf_shape: tuple[int, ...],
    *,
    negative: int,
    highest: float | None = None,
    mean: float | None = None,
    background: float = 0.0,
    saturated: tuple[int, int] | None = None,
    images: int = 1,
) -> tuple[str, ...]:
    """Return what is to be told of an image, or of some of one shape, before it is restored.

    Parameters
    ----------
    shape, psf_shape : tuple of int
        Of the image, and of the PSF on its voxels.
    negative : int
        Number of negative voxels, of all images.
    highest : float, optional
        Of its counts.
    mean : float, optional
        Of its counts; of several images, that of the one whose background is given.
    background : float
        In counts.
    saturated : (int, int), optional
        Number of voxels at the most that a camera counts, of all images, and its bits.
    images : int
        How many there are.
    """
    voxels = images * math.prod(shape)
    notes = []
    if negative:
        notes.append(
            f"{negative} negative values ({percent(negative / voxels)} of the image) "
            "were set to 0: photon counts are not negative"
        )
    notes += _notes_on_background(highest, mean, background)
    if saturated and saturated[0] >= SATURATED_FROM:
        number, bits = saturated
        notes.append(
            f"{number} voxels ({percent(number / voxels)} of the image) are at {2**bits - 1}, the "
            f"most that {bits} bits hold: they are saturated, and what is restored there is too "
            "dark"
        )
    if len(shape) == 3 and shape[0] == 1:
        notes.append("The stack has one plane: only y and x can be restored")
    if any(p > n for p, n in zip(psf_shape, shape, strict=True)):
        notes.append(
            f"The PSF {psf_shape} is larger than the image {shape}: light from beyond "
            "the image is estimated too"
        )
    return tuple(notes)


def _notes_on_background(
    highest: float | None, mean: float | None, background: float
) -> Iterator[str]:
    """Yield what is to be told where little or nothing is above the background."""
    if highest is not None and highest <= 0:
        yield "The image is zero everywhere: there is nothing to restore"
    elif highest is not None and highest <= background:
        yield (
            f"The background, {background:g}, is not below the brightest voxel, {highest:g}: "
            "nothing is left to restore"
        )
    elif mean is not None and CLEARLY_ABOVE * mean < background:
        yield (
            f"The background, {background:.4g}, is above the mean of the image, {mean:.4g}: "
            "what is dimmer than it is lost"
        )
