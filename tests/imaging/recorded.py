"""Images as a camera records them, for the tests of noise and background."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]


def camera(expected: Array, read_noise: float, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Return what a camera records: photons, read noise, whole numbers."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(expected) + rng.normal(0, read_noise, expected.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def cells(shape: tuple[int, ...], filled: float, brightness: float, seed: int = 1) -> Array:
    """Return blurred blobs that cover about `filled` of a volume, without a background."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3.0)
    inside = field > np.quantile(field, 1 - filled)
    blurred: Array = brightness * ndimage.gaussian_filter(inside.astype(float), 1.5)
    return blurred
