"""Two images that are compared: what is asked of them, and the slabs in which they are seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .value import InputError, require

Float = npt.NDArray[np.float64]
Voxels = npt.NDArray[Any]

#: Voxels of a slab.
PIECE = 1 << 21


def checked(
    result: npt.ArrayLike, truth: npt.ArrayLike, names: tuple[str, str] = ("result", "truth")
) -> tuple[Voxels, Voxels]:
    """Return both as arrays; `InputError` where they cannot be compared."""
    images = np.asarray(result), np.asarray(truth)
    shapes = [image.shape for image in images]
    require(
        shapes[0] == shapes[1],
        f"The {names[0]} has the shape {shapes[0]}, the {names[1]} {shapes[1]}; "
        "crop or pad one, so that both show the same voxels",
    )
    require(
        len(shapes[0]) in (2, 3) and images[0].size > 0,
        f"Images of two or three axes with voxels can be compared, not of shape {shapes[0]}; "
        "choose one channel and one time",
    )
    for name, image in zip(names, images, strict=True):
        _require_finite(name, image)
    low, high = range_of(images[1])
    require(
        high > low,
        f"The {names[1]} is {low:g} in every voxel, so that errors have nothing to be measured "
        "by; compare with an image that shows something",
    )
    return images


def _require_finite(name: str, image: Voxels) -> None:
    if image.dtype.kind not in "buif":
        raise InputError(f"The {name} holds {image.dtype}, not real numbers; convert it first")
    if image.dtype.kind == "f":
        bad = sum(int(np.count_nonzero(~np.isfinite(image[slab]))) for slab in slabs(image.shape))
        require(bad == 0, f"The {name} holds {bad} NaN or infinite values; replace them")


def slab_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the longest axis, and how thick along it a slab of about `PIECE` voxels is."""
    axis = int(np.argmax(shape))
    return axis, max(1, PIECE * shape[axis] // math.prod(shape))


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield boxes of about `PIECE` voxels, cut along the longest axis."""
    axis, thickness = slab_of(shape)
    for start in range(0, shape[axis], thickness):
        box = [slice(None)] * len(shape)
        box[axis] = slice(start, start + thickness)
        yield tuple(box)


def range_of(image: Voxels) -> tuple[float, float]:
    """Return the lowest and the highest value."""
    return float(image.min()), float(image.max())
