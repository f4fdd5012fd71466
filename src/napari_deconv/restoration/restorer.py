"""The protocol `Restorer` and the values it takes and gives: `Observation` and `Step`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from napari_deconv.imaging.brightness import brightness_of
from napari_deconv.imaging.psf import Psf

from .engine import Engine, Float

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
