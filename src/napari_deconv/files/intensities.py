"""How intensities are stored: as float32, or as uint16 with a factor that is kept.

Integer counts that fit are stored as they are. Otherwise the factor is the largest of 1, 2
or 5 times a power of ten with which the highest value still fits: easy to divide by, and
nothing is ever wrapped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import InputError

HIGHEST_UINT16 = 65535

#: Fractional intensities below this maximum would lose too much when rounded.
SMALL_MAXIMUM = 1000


@dataclass(frozen=True)
class Range:
    """Lowest and highest finite intensity, and whether all are finite and whole numbers."""

    lowest: float = math.inf
    highest: float = -math.inf
    finite: bool = True
    whole: bool = True

    def widened(self, block: npt.NDArray[Any]) -> Self:
        """Return the range that covers `block` (of any shape) as well."""
        if block.size == 0:
            return self
        if block.dtype.kind != "f":
            low, high, finite, whole = block.min(), block.max(), True, True
        else:
            inside = block[np.isfinite(block)]
            finite = inside.size == block.size
            low, high = (inside.min(), inside.max()) if inside.size else (math.inf, -math.inf)
            # Looked at only while all were whole so far: it is a pass over the block.
            whole = self.whole and bool(np.array_equal(inside, np.rint(inside)))
        return type(self)(
            min(self.lowest, float(low)),
            max(self.highest, float(high)),
            self.finite and finite,
            self.whole and whole,
        )


def uint16_factor(seen: Range) -> float:
    """Return the factor that brings intensities of the range `seen` into 0 ... 65535.

    Raises
    ------
    InputError
        If there are NaN or infinite values, which integers cannot hold.

    Examples
    --------
    >>> uint16_factor(Range(0, 4095, whole=True))
    1.0
    >>> uint16_factor(Range(0, 1.0, whole=False))
    50000.0
    >>> uint16_factor(Range(0, 200000, whole=True))
    0.2
    """
    if not seen.finite:
        raise InputError(
            "The image holds NaN or infinite values, which uint16 cannot; write it as float32"
        )
    if seen.highest <= 0:
        return 1.0
    if seen.highest <= HIGHEST_UINT16 and (seen.whole or seen.highest >= SMALL_MAXIMUM):
        return 1.0
    exponent = math.floor(math.log10(HIGHEST_UINT16 / seen.highest))
    candidates = [float(f"{digit}e{exponent}") for digit in (1, 2, 5)]
    return max(factor for factor in candidates if factor * seen.highest <= HIGHEST_UINT16)


def encoded(block: npt.NDArray[Any], dtype: str, factor: float) -> npt.NDArray[Any]:
    """Return `block` times `factor` in `dtype`; as uint16 rounded, and kept in its range."""
    if block.dtype == dtype and factor == 1:
        return block
    if dtype != "uint16":
        return block.astype(dtype)
    scaled = block.astype(np.float64)
    scaled *= factor
    np.clip(scaled, 0, HIGHEST_UINT16, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.uint16)
