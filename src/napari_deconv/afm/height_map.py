"""Heights over a sample: nanometres, whatever the file or the layer had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.grid import MICROMETRES
from napari_deconv.imaging.value import InputError, require, require_number

Double = npt.NDArray[np.float64]

#: No sample has a relief beyond this, and no microscope shows one below: the unit is wrong.
HIGHEST_NM, LOWEST_NM = 2e5, 1e-4


@dataclass(frozen=True, eq=False)
class HeightMap:
    """An image of heights, or a movie of them.

    Parameters
    ----------
    heights_nm : ndarray of float64, (Y, X) or (T, Y, X)
    pixel_nm : tuple of float, (y, x)
    name : str
        Of the file or layer.
    channel : str
        As the microscope calls it, such as "Height (retrace)".
    frame_s : float, optional
        Seconds between two frames.

    Raises
    ------
    InputError
        If heights are missing or not finite, or a pixel has no size.
    """

    heights_nm: Double
    pixel_nm: tuple[float, float]
    name: str = ""
    channel: str = ""
    frame_s: float | None = None

    def __post_init__(self) -> None:
        heights = checked_heights(self.heights_nm)
        for axis, step in zip("yx", self.pixel_nm, strict=True):
            require_number(f"The {axis} pixel size in nm", step, above=0)
        object.__setattr__(self, "heights_nm", heights)

    @property
    def frames(self) -> Double:
        """All frames, (T, Y, X)."""
        return self.heights_nm if self.heights_nm.ndim == 3 else self.heights_nm[None]

    @property
    def is_movie(self) -> bool:
        """Whether there is a time axis."""
        return self.heights_nm.ndim == 3

    @property
    def range_nm(self) -> float:
        """From the lowest height of a frame to the highest of the same, the largest of all."""
        return float(np.ptp(self.frames, axis=(1, 2)).max())


def checked_heights(heights: npt.ArrayLike) -> Double:
    """Return heights in float64, (Y, X) or (T, Y, X), or say what is wrong with them.

    Raises
    ------
    InputError
        If they are a picture in colour, have other axes, or hold what is not finite.
    """
    values = np.asarray(heights)
    require(
        not (values.ndim >= 3 and values.shape[-1] in (3, 4) and values.dtype == np.uint8),
        "This is a picture in colours, not heights: a screenshot of an image holds no nanometres; "
        "open the microscope's own file",
    )
    require(
        values.dtype.kind in "iufb" and values.ndim in (2, 3) and values.size > 0,
        f"Heights are (Y, X) or (T, Y, X) numbers, not {values.dtype} of shape {values.shape}",
    )
    found = values.astype(np.float64)
    missing = int(found.size - np.isfinite(found).sum())
    require(
        not missing,
        f"{missing} of {found.size} heights are NaN or inf; fill or crop them before",
    )
    return found


def heights_in_nm(values: npt.ArrayLike, unit: str) -> Double:
    """Return heights given in a unit of length in nanometres.

    Raises
    ------
    InputError
        If the unit is no length, or the range of heights cannot be: then the unit is wrong.
    """
    if unit not in MICROMETRES:
        raise InputError(
            f"The unit of the heights is {unit!r}, which is no length; say nm, um, m or angstrom"
        )
    # By one number rounded to 15 digits, so that nm stay what they are bit by bit.
    heights = checked_heights(values) * float(f"{MICROMETRES[unit] * 1e3:.15g}")
    require_plausible(heights, unit)
    return heights


def require_plausible(heights_nm: Double, unit: str = "nm") -> None:
    """Raise `InputError` where a range of heights cannot be one in this unit."""
    span = float(np.ptp(heights_nm))
    require(
        span == 0 or span >= LOWEST_NM,
        f"The heights span {span:g} nm, less than an atom's radius by far: they are not in {unit}; "
        "if they are in metres, say that their unit is m",
    )
    require(
        span <= HIGHEST_NM,
        f"The heights span {span:g} nm, more than any microscope of this kind can follow: they "
        f"are not in {unit}; give their unit",
    )


def pixel_of(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the pixel size in nm that a layer's metadata tell: "px2nm", nm a pixel or (y, x)."""
    told = metadata.get("px2nm")
    if told is None:
        return None
    steps = np.atleast_1d(np.asarray(told, np.float64))
    require(
        steps.size in (1, 2) and bool(np.isfinite(steps).all()) and bool((steps > 0).all()),
        f"metadata['px2nm'] must be nanometres a pixel, one number or (y, x), not {told!r}",
    )
    return float(steps[0]), float(steps[-1])
