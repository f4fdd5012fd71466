"""The protocol `Restorer` and the values it takes and gives: `Observation` and `Step`."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.brightness import brightness_of
from napari_deconv.imaging.psf import Psf, fitted_to
from napari_deconv.imaging.value import percent, require, require_number

from .engine import Engine, Float

Result = TypeVar("Result")

#: Counts beyond this are refused: squares of them no longer fit in single precision.
MOST_COUNTS = 1e18
#: Bits of a camera, and how many voxels at the most they hold are taken for saturated ones.
CAMERA_BITS, SATURATED_FROM = (8, 10, 12, 14, 16), 10
#: By how much a background is above the mean where that is told.
CLEARLY_ABOVE = 1.01

#: Largest difference between a piece and the whole, as a part of the maximum.
SEAM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Observation:
    """One block as a method sees it: made by `observe`, which checks it.

    Parameters
    ----------
    image : ndarray of float32, (Z, Y, X) or (Y, X)
        Measured counts, finite and not negative.
    psf : Psf
        On the voxels of the image, with as many dimensions.
    background : float
        Counts that are there without any light from the sample.
    notes : tuple of str
        What was done to the image, in sentences for the user.
    whole_mean : float, optional
        Mean of the whole image, in counts, where this is a piece of one: a method that starts
        flat starts there, so that the pieces agree with the whole.
    start : tuple of int, optional
        Where in the whole image the first voxel lies, where this is a piece of one: a method
        that works on a grid of its own lays it there.
    whole_bright : float, optional
        Brightness of the whole image, in counts, where this is a piece of one; see
        `imaging.brightness`.
    """

    image: Float
    psf: Psf
    background: float
    notes: tuple[str, ...] = ()
    whole_mean: float | None = None
    start: tuple[int, ...] | None = None
    whole_bright: float | None = None

    @property
    def bright(self) -> float:
        """Brightness of the whole image above the background, in counts."""
        whole = self.whole_bright
        return (brightness_of(self.image) if whole is None else whole) - self.background

    @property
    def mean(self) -> float:
        """Mean of the whole image, in counts."""
        whole = self.whole_mean
        return float(self.image.mean(dtype=np.float64)) if whole is None else whole

    @property
    def level(self) -> float:
        """Mean of the whole image above the background, in counts."""
        return self.mean - self.background

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in units of the finest axis, (z, y, x) or (y, x)."""
        steps = self.psf.spacing_um or (1.0,) * self.image.ndim
        return tuple(step / min(steps) for step in steps)


@dataclass(frozen=True, eq=False)
class Step:
    """One tick of a running method.

    Parameters
    ----------
    done, total : int
        Iterations done, and the most there will be.
    note : str
        What happened, for the progress line; in the last step, why it stopped.
    divergence : float or None
        I-divergence per voxel between the data and the blurred estimate that this
        iteration started from.
    estimate : ndarray of float32 or None
        The restored block, in the last step only.
    peek : callable or None
        In the steps before the last, returns the block as far as it is restored; to be called
        before the next step is asked for, which goes on with the same arrays.
    place : tuple of int and slice, or None
        Where in the restored stack voxels have just been finished, if any.
    """

    done: int
    total: int
    note: str = ""
    divergence: float | None = None
    estimate: Float | None = None
    peek: Callable[[], Float] | None = None
    place: tuple[int | slice, ...] | None = None


def ended(steps: Generator[Step, None, Result]) -> Result:
    """Run what yields steps to its end; return its value."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: Result = end.value
        return value


def finite_estimate(last: Step) -> Float:
    """Return the estimate of a run's last step; RuntimeError if it is not finite."""
    if last.estimate is None or not np.isfinite(last.estimate).all():
        raise RuntimeError(
            "The result is not finite: the device computed wrongly. Run again with the engine "
            "'cpu', and report this"
        )
    return last.estimate


class Restorer(Protocol):
    """What is done to a block; tiling, docks and commands know nothing else of it."""

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...] | None:
        """Return how far beyond a piece of an image its restoration looks, in voxels.

        With all planes and this halo, a piece given the mean of the whole is restored as in
        the whole, up to `tolerance` times the maximum, but for the whole's own rim of half a
        PSF. None if decisions are taken from the whole image; `settled` leaves none of those.
        """
        ...

    def settled(self, samples: Sequence[Observation], engine: Engine) -> Restorer:
        """Return the method with nothing left to decide by the data; `samples` decide it now."""
        ...

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that the method works on."""
        ...

    @property
    def volumes(self) -> float:
        """Peak memory in float32 volumes of `work_shape`."""
        ...

    @property
    def transforms(self) -> int:
        """Most Fourier transforms that a run takes."""
        ...

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield a `Step` an iteration; to cancel, stop iterating."""
        ...


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
    fitted = fitted_to(psf, array.ndim)
    notes = notes_on_image(
        array.shape,
        fitted.shape,
        negative=count,
        highest=highest,
        mean=whole_mean or (float(array.mean(dtype=np.float64)) if background > 0 else None),
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
    notes = []
    if negative:
        share = percent(negative / (images * math.prod(shape)))
        notes.append(
            f"{negative} negative values ({share} of the image) "
            "were set to 0: photon counts are not negative"
        )
    if highest is not None and highest <= 0:
        notes.append("The image is zero everywhere: there is nothing to restore")
    elif highest is not None and highest <= background:
        notes.append(
            f"The background, {background:g}, is not below the brightest voxel, {highest:g}: "
            "nothing is left to restore"
        )
    elif mean is not None and CLEARLY_ABOVE * mean < background:
        notes.append(
            f"The background, {background:.4g}, is above the mean of the image, {mean:.4g}: "
            "what is dimmer than it is lost"
        )
    if saturated and saturated[0] >= SATURATED_FROM:
        number, bits = saturated
        share = percent(number / (images * math.prod(shape)))
        notes.append(
            f"{number} voxels ({share} of the image) are at {2**bits - 1}, the most that "
            f"{bits} bits hold: they are saturated, and what is restored there is too dark"
        )
    if len(shape) == 3 and shape[0] == 1:
        notes.append("The stack has one plane: only y and x can be restored")
    if any(p > n for p, n in zip(psf_shape, shape, strict=True)):
        notes.append(
            f"The PSF {psf_shape} is larger than the image {shape}: light from beyond "
            "the image is estimated too"
        )
    return tuple(notes)
