"""Point spread functions as samples: checked, centred at n//2, of unit sum.

`Psf` is the value; `measured_psf` makes one from the image of a bead (or from a file of
another program) on the voxels of the data: background removed, centred, resampled,
cropped to its energy. What it did, and what looked odd, is said in `Psf.notes`.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import interpolate, ndimage

from .grid import Grid
from .value import InputError, Plain, Value, require, require_number

Float = npt.NDArray[np.float32]

#: Smallest part of the light that a crop keeps.
ENERGY_KEPT = 0.999

NO_POINT = "The PSF image shows no point above its background; check the image and its background"


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

    def __post_init__(self) -> None:
        samples = _not_negative(_with_light(self.samples))
        total = samples.sum()
        unit = np.ascontiguousarray(samples / total, dtype=np.float32)
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
        return Psf(self.samples, self.spacing_um, (*self.notes, *notes))

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
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Build the PSF from what `to_dict` gave; `InputError` where it does not fit."""
        fields = cls._fields_in(data, ["shape", "samples", "spacing_um", "notes"])
        spacing, notes = fields.get("spacing_um"), fields.get("notes", [])
        require(
            isinstance(notes, list) and all(isinstance(note, str) for note in notes),
            "The notes of a PSF must be a list of texts",
        )
        try:
            raw = zlib.decompress(base64.b64decode(fields["samples"], validate=True))
            samples = np.frombuffer(raw, "<f4").reshape(fields["shape"])
        except (TypeError, KeyError, ValueError, zlib.error) as error:
            raise InputError(f"This is not a PSF written by napari-deconv: {error!r}") from error
        return cls(samples, spacing, tuple(notes))


def _with_light(samples: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return samples that may hold a PSF: two or three dimensions, finite, not dark."""
    array = np.asarray(samples)
    require(not np.iscomplexobj(array), "The PSF is complex; give its intensity, |amplitude|^2")
    require(array.dtype.kind in "buif", f"The PSF is no image of numbers but of {array.dtype}")
    require(
        array.ndim in (2, 3) and array.size > 0,
        f"A PSF has two or three dimensions, not the shape {array.shape}",
    )
    array = array.astype(np.float64)
    require(
        bool(np.isfinite(array).all()),
        "The PSF holds NaN or infinite values; mend or crop it before use",
    )
    require(
        float(array.max()) > 0 and float(array.sum()) != 0,
        "The PSF sums to zero: it holds no light. Check that the right image is used",
    )
    return array


def _not_negative(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the samples without the tiny negative values of interpolation; more is refused."""
    lowest = float(array.min())
    require(
        lowest >= -1e-3 * float(array.max()),
        f"The PSF has negative values (down to {lowest:.3g}); a PSF is an intensity. "
        "Remove its background first",
    )
    positive: npt.NDArray[np.float64] = np.maximum(array, 0)
    return positive


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


def measured_psf(
    image: npt.ArrayLike,
    spacing_um: tuple[float, ...] | None,
    grid: Grid | None,
    *,
    background: float | Literal["auto"] = "auto",
    energy: float = ENERGY_KEPT,
) -> Psf:
    """Make a PSF on the voxels of `grid` from the image of one point.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        The measured (or elsewhere computed) point spread function; need not be centred.
    spacing_um : tuple of float or None
        Voxel size of `image`; None when unknown, then taken to be that of `grid`.
    grid : Grid or None
        Voxel size of the data; None keeps the voxels of `image`.
    background : float or "auto"
        Counts to subtract; "auto" takes the median of the box's faces, and nothing when the
        image is already scaled (sum or maximum of 1), as computed PSFs are.
    energy : float
        Part of the light to keep when cropping.

    Returns
    -------
    Psf
        float32, unit sum, centre at n//2, with notes on what was done.

    Raises
    ------
    InputError
        If the image holds no usable point.

    Notes
    -----
    In z the PSF is sampled at the new planes, as a stack samples the focus; in y and x the
    samples are averaged over the new pixel where that is larger, as a camera pixel does.
    """
    array = _with_light(np.squeeze(np.asarray(image)))
    steps = _source_steps(spacing_um, grid, array.ndim)
    notes = _saturation(np.asarray(image))
    if spacing_um is None and grid is not None:
        notes.append(f"PSF: voxel size unknown, taken to be the data's, {grid.describe()}")
    signal, level = _without_background(array, background)
    if level:
        notes.append(f"PSF: background of {level:.4g} counts removed")
    centre = _core_centroid(signal)
    offset = [c - n // 2 for c, n in zip(centre, signal.shape, strict=True)]
    if max(map(abs, offset)) > 0.05:
        moved = ", ".join(f"{value:+.2f}" for value in offset)
        notes.append(f"PSF: was off its centre by ({moved}) voxels, centred")
    target = _target_steps(steps, grid, array.ndim)
    notes += _contradictions(steps, target)
    notes += _cut_off(signal, centre)
    psf = Psf(_resampled(signal, centre, steps, target), target if spacing_um or grid else None)
    return psf.cropped(energy).with_notes(*notes)


def _without_background(
    array: npt.NDArray[np.float64], background: float | Literal["auto"]
) -> tuple[npt.NDArray[np.float64], float]:
    """Return the point alone and the level removed.

    Noise around zero must not be rectified into a pedestal of light, so only voxels joined
    to the peak where the smoothed signal stands above the noise around it are kept.
    """
    if background != "auto":
        require_number("The PSF's background", background)
        level = float(background)
    elif abs(array.sum() - 1) < 0.01 or array.max() == 1:
        level = 0.0
    else:
        level = float(np.median(array))
    around = np.ones(array.shape, bool)
    # The second pass knows the point, and takes level and noise from what lies around it.
    for _ in range(2):
        if background == "auto" and level:
            level = float(np.median(array[around]))
        point = _point(array - level, _spread(array[around]) if level else 0.0)
        around = ~point
        if not around.any():
            break
    signal = np.where(point, np.maximum(array - level, 0), 0)
    require(bool(signal.any()), NO_POINT)
    return signal, level


def _spread(values: npt.NDArray[np.float64]) -> float:
    """Return the standard deviation of noise from the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _point(signal: npt.NDArray[np.float64], noise: float) -> npt.NDArray[np.bool_]:
    """Return the voxels joined to the peak that stand above the noise; all without noise."""
    if not noise:
        return np.ones(signal.shape, bool)
    smooth = ndimage.gaussian_filter(signal, 1.0)
    # A Gaussian of one voxel leaves 1/(2 sqrt(pi)) of white noise's variance on each axis.
    floor = 4 * noise * (2 * np.sqrt(np.pi)) ** (-signal.ndim / 2)
    labels, _ = ndimage.label(smooth > floor)
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    require(smooth[peak] > 3 * floor, NO_POINT)
    found: npt.NDArray[np.bool_] = labels == labels[peak]
    return found


def _core_centroid(signal: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return the centroid of the core: voxels above half the maximum around the peak."""
    smooth = ndimage.gaussian_filter(signal, 0.7)
    labels, _ = ndimage.label(smooth > 0.5 * smooth.max())
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    core = np.where(labels == labels[peak], smooth - 0.5 * smooth.max(), 0)
    return tuple(float(c) for c in ndimage.center_of_mass(core))


def _saturation(image: npt.NDArray[Any]) -> list[str]:
    """Return a note where more voxels share the highest count than a symmetric peak has."""
    shared = int(np.count_nonzero(image == image.max())) if image.dtype.kind in "ui" else 0
    if shared <= 2**image.ndim:
        return []
    return [
        f"PSF: {shared} voxels share the highest value, {image.max()}; it looks saturated, "
        "and so wider than it is. Take it with less light"
    ]


def _cut_off(signal: npt.NDArray[np.float64], centre: tuple[float, ...]) -> list[str]:
    """Return a note where the largest box around the centre leaves light out."""
    box = tuple(
        slice(max(math.ceil(2 * c - n + 1 - 1e-6), 0), math.floor(2 * c + 1e-6) + 1)
        for c, n in zip(centre, signal.shape, strict=True)
    )
    lost = 1 - float(signal[box].sum() / signal.sum())
    if lost < 0.01:
        return []
    return [
        f"PSF: it lies so near the border of its image that {100 * lost:.2g} % of its light "
        "was cut off to centre it. Take a larger image around it"
    ]


def _source_steps(
    spacing_um: tuple[float, ...] | None, grid: Grid | None, ndim: int
) -> tuple[float, ...]:
    """Return the voxel size of a PSF's image: its own, else the data's, else ones."""
    known = Grid(spacing_um=spacing_um) if spacing_um is not None else grid
    if known is None:
        return (1.0,) * ndim
    require(
        spacing_um is None or known.ndim >= ndim,
        f"The PSF image has {ndim} dimensions, its voxel size {known.ndim}",
    )
    return ((1.0,) * ndim + known.spacing_um)[-ndim:]


def _target_steps(steps: tuple[float, ...], grid: Grid | None, ndim: int) -> tuple[float, ...]:
    if grid is None:
        return steps
    if grid.ndim >= ndim:
        return grid.spacing_um[-ndim:]
    return (steps[0], *grid.spacing_um)


def _contradictions(steps: tuple[float, ...], target: tuple[float, ...]) -> list[str]:
    notes = []
    for axis, source, wanted in zip("zyx"[-len(steps) :], steps, target, strict=True):
        if source > 1.05 * wanted:
            notes.append(
                f"PSF: its voxels in {axis} ({source:.4g} um) are coarser than the data's "
                f"({wanted:.4g} um); it was interpolated and cannot sharpen below its own voxels"
            )
        elif abs(source - wanted) > 1e-3 * wanted:
            notes.append(f"PSF: resampled in {axis} from {source:.4g} to {wanted:.4g} um")
    return notes


def _resampled(
    signal: npt.NDArray[np.float64],
    centre: tuple[float, ...],
    steps: tuple[float, ...],
    target: tuple[float, ...],
) -> npt.NDArray[np.float64]:
    """Return `signal` on the target voxels, odd in size, its `centre` in the middle."""
    result = signal
    for axis, (middle, step, wanted) in enumerate(zip(centre, steps, target, strict=True)):
        n, ratio = result.shape[axis], wanted / step
        if n == 1:
            continue
        # The largest centred odd box that the image fills; beyond it nothing was measured.
        half = max(int(np.floor(min(middle, n - 1 - middle) / ratio + 1e-6)), 0)
        where = middle + np.arange(-half, half + 1) * ratio
        if np.allclose(where, np.rint(where), atol=1e-3) and abs(ratio - 1) < 1e-3:
            result = np.take(result, np.rint(where).astype(int), axis)
            continue
        lateral = axis >= signal.ndim - 2
        parts = max(round(ratio), 1) if lateral else 1
        inside = (np.arange(parts) + 0.5) / parts - 0.5
        spline = interpolate.make_interp_spline(np.arange(n), result, k=min(3, n - 1), axis=axis)
        fine = np.clip(where[:, None] + inside * ratio, 0, n - 1).ravel()
        sampled = np.moveaxis(spline(fine), axis, -1)
        averaged = sampled.reshape(*sampled.shape[:-1], len(where), parts).mean(-1)
        result = np.moveaxis(averaged, -1, axis)
    return np.maximum(result, 0)


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
