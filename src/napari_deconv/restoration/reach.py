"""How wide the core of a PSF is: what is restored near a cut goes wrong in steps of that."""

from __future__ import annotations

import numpy as np

from .engine import Float


def core_sigmas(psf: Float) -> tuple[float, ...]:
    """Return the standard deviation of the PSF's core along each axis, from its half maximum."""
    return tuple(width / 2.3548 for width in core_widths(psf))


def core_widths(psf: Float) -> tuple[float, ...]:
    """Return the width of the PSF's core at half maximum along each axis, in voxels."""
    peak = np.unravel_index(int(psf.argmax()), psf.shape)
    widths = []
    for axis in range(psf.ndim):
        line = psf[tuple(slice(None) if a == axis else i for a, i in enumerate(peak))]
        sides = (_half_width(line[peak[axis] :]), _half_width(line[peak[axis] :: -1]))
        widths.append(sum(sides))
    return tuple(widths)


def _half_width(line: Float) -> float:
    """Return where a line falls to half of its first value; its length where it does not."""
    below = np.flatnonzero(line < line[0] / 2)
    if not below.size:
        return float(len(line))
    first = int(below[0])
    above, under = float(line[first - 1]), float(line[first])
    return first - 1 + (above - float(line[0]) / 2) / (above - under)
