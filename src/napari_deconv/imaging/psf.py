"""Point spread functions as samples: checked, centred at n//2, of unit sum.

`Psf` is the value. `psf_models.compute_psf` makes one from optics, `psf_image.psf_from_image`
one from the image of a bead; both say in `Psf.notes` what the user should know.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .value import InputError, Plain, Value, require

Float = npt.NDArray[np.float32]
Samples = npt.NDArray[np.floating[Any]]

#: Smallest part of the light that a crop keeps.
ENERGY_KEPT = 0.999


@dataclass(frozen=True, eq=False)
class Psf(Value):
    """A point spread function on a voxel grid.

    Parameters
    ----------
    samples : ndarray, (Z, Y, X) or (Y, X)
        Intensities, centre at index n//2 of each axis; scaled to unit sum, kept float32.
    spacing_um : tuple of float, optional
        Voxel size, (z, y, x) or (y, x); None when it is that of the image it is used on.
    notes : tuple of str
        Sentences about where it came from and what to watch.
    light_kept : float, optional
        Part of the light of its outermost plane that is in the box; None where not known.

    Raises
    ------
    InputError
        If samples are complex, not finite, negative, or sum to zero.

    Examples
    --------
    >>> Psf(np.ones((3, 3))).samples.sum()
    np.float32(1.0)
    """

    samples: npt.NDArray[Any]
    spacing_um: tuple[float, ...] | None = None
    notes: tuple[str, ...] = field(default=())
    light_kept: float | None = None

    def __post_init__(self) -> None:
        samples = _not_negative(with_light(self.samples))
        unit = np.multiply(samples, 1 / _total(samples), dtype=samples.dtype)
        unit = np.ascontiguousarray(unit, dtype=np.float32)
        unit.setflags(write=False)
        object.__setattr__(self, "samples", unit)
        if self.spacing_um is not None:
            grid = Grid(spacing_um=self.spacing_um)
            require(
                grid.ndim == unit.ndim,
                f"A voxel size of {grid.ndim} numbers does not fit a PSF of {unit.ndim} dimensions",
            )
            object.__setattr__(self, "spacing_um", grid.spacing_um)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the samples."""
        return self.samples.shape

    def with_notes(self, *notes: str) -> Psf:
        """Return the same PSF with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def cropped(self, energy: float = ENERGY_KEPT) -> Psf:
        """Return the smallest centred box of odd sides that keeps `energy` of the light.

        Each axis may lose an equal share of `1 - energy`, taken on its marginal profile.
        """
        share = (1 - energy) / self.samples.ndim
        window = tuple(_energy_window(self.samples, axis, share) for axis in range(len(self.shape)))
        return Psf(self.samples[window], self.spacing_um, self.notes)

    def to_dict(self) -> Plain:
        """Return the PSF as plain values; samples as base64 of deflated float32."""
        packed = zlib.compress(self.samples.astype("<f4").tobytes())
        return {
            "kind": "Psf",
            "shape": list(self.shape),
            "samples": base64.b64encode(packed).decode("ascii"),
            "spacing_um": None if self.spacing_um is None else list(self.spacing_um),
            "notes": list(self.notes),
            "light_kept": self.light_kept,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Build the PSF from what `to_dict` gave; `InputError` where it does not fit."""
        fields = cls._fields_in(data, ["shape", "samples", "spacing_um", "notes", "light_kept"])
        spacing, notes = fields.get("spacing_um"), fields.get("notes", [])
        kept = fields.get("light_kept")
        require(
            isinstance(notes, list) and all(isinstance(note, str) for note in notes),
            "The notes of a PSF must be a list of texts",
        )
        try:
            raw = zlib.decompress(base64.b64decode(fields["samples"], validate=True))
            samples = np.frombuffer(raw, "<f4").reshape(fields["shape"])
        except (TypeError, KeyError, ValueError, zlib.error) as error:
            raise InputError(f"This is not a PSF written by napari-deconv: {error!r}") from error
        return cls(samples, spacing, tuple(notes), kept)


def with_light(samples: npt.ArrayLike) -> Samples:
    """Return samples that may hold a PSF: two or three dimensions, finite, not dark.

    Those of float32 stay, to save the time of a copy; all others become float64.
    """
    array = np.asarray(samples)
    require(not np.iscomplexobj(array), "The PSF is complex; give its intensity, |amplitude|^2")
    require(array.dtype.kind in "buif", f"The PSF is no image of numbers but of {array.dtype}")
    require(
        array.ndim in (2, 3) and array.size > 0,
        f"A PSF has two or three dimensions, not the shape {array.shape}",
    )
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    # What is not finite shows in the sum; so does a sum that is too large, hence the second look.
    with np.errstate(over="ignore", invalid="ignore"):
        total = _total(array)
    require(
        math.isfinite(total) or bool(np.isfinite(array).all()),
        "The PSF holds NaN or infinite values; mend or crop it before use",
    )
    require(
        float(array.max()) > 0 and total != 0,
        "The PSF sums to zero: it holds no light. Check that the right image is used",
    )
    return array


def _total(array: Samples) -> float:
    """Return the sum, rows in the array's own precision, pairwise, and all rows in float64."""
    return float(array.sum(axis=-1).sum(dtype=np.float64))


def _not_negative(array: Samples) -> Samples:
    """Return the samples without the tiny negative values of interpolation; more is refused."""
    lowest = float(array.min())
    require(
        lowest >= -1e-3 * float(array.max()),
        f"The PSF has negative values (down to {lowest:.3g}); a PSF is an intensity. "
        "Remove its background first",
    )
    return array if lowest >= 0 else np.maximum(array, 0)


def _energy_window(samples: Float, axis: int, share: float) -> slice:
    """Return the smallest odd, centred slice of `axis` that loses at most `share`."""
    others = tuple(other for other in range(samples.ndim) if other != axis)
    profile = samples.sum(axis=others, dtype=np.float64)
    n, centre = len(profile), len(profile) // 2
    for half in range(centre + 1):
        window = slice(max(centre - half, 0), min(centre + half + 1, n))
        if (
            profile[window].sum() >= (1 - share) * profile.sum()
            and window.stop == centre + half + 1
        ):
            return window
    # Not even the largest centred odd box is enough: keep the axis as it is.
    return slice(0, n)


def fitted_to(psf: Psf, ndim: int) -> Psf:
    """Return `psf` with `ndim` dimensions, with a note where that changed it.

    A volume's PSF used on one plane is its focal plane; a plane's PSF used on a volume
    restores each plane by itself.
    """
    if psf.samples.ndim == ndim:
        return psf
    spacing = psf.spacing_um
    if ndim == 2:
        plane = psf.samples[psf.shape[0] // 2]
        return Psf(plane, spacing[1:] if spacing else None, psf.notes).with_notes(
            "PSF: three-dimensional, its focal plane is used on the two-dimensional image"
        )
    return Psf(psf.samples[None], None, psf.notes).with_notes(
        "PSF: two-dimensional, each plane of the stack is restored by itself"
    )


def psf_distance(first: Float, second: Float) -> float:
    """Return how much two PSFs differ: the root of the squared difference over that of the first.

    Both with their centre at n//2, on the same voxels. They are compared in the box that both
    have, where each sums to 1: how far out a PSF was cut off is no difference.
    """
    box = tuple(min(sides) for sides in zip(first.shape, second.shape, strict=True))

    def cut(psf: Float) -> Float:
        starts = (n // 2 - small // 2 for n, small in zip(psf.shape, box, strict=True))
        part = psf[tuple(slice(s, s + n) for s, n in zip(starts, box, strict=True))]
        return np.asarray(part / part.sum(dtype=np.float64), np.float32)

    a, b = cut(first), cut(second)
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))
