"""The blur by a PSF: the shape it works on and its transfer function.

The image lies at the low end of each axis. With non-circulant edges it is padded to a fast
size of at least image + psf//2, so that no measured voxel reaches another one around the
end (Bertero and Boccacci 2005, doi 10.1051/0004-6361:20052717).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, get_args

import numpy as np

from napari_deconv.imaging.value import require

from .engine import Complex, Float

Edges = Literal["non-circulant", "circular"]
EDGES: tuple[str, ...] = get_args(Edges)


def require_edges(edges: object) -> None:
    """Raise `InputError` unless `edges` is one of `EDGES`."""
    require(edges in EDGES, f"The edges {edges!r} are not known; choose one of {', '.join(EDGES)}")


def work_shape(
    image_shape: tuple[int, ...], psf_shape: tuple[int, ...], edges: str
) -> tuple[int, ...]:
    """Return the shape to transform: the image's own if circular, else padded and fast.

    Examples
    --------
    >>> work_shape((60, 250, 250), (21, 31, 31), "non-circulant")
    (72, 270, 270)
    """
    if edges == "circular":
        return image_shape
    from scipy.fft import next_fast_len

    return tuple(
        next_fast_len(n + p // 2, real=True) if p > 1 else n
        for n, p in zip(image_shape, psf_shape, strict=True)
    )


def transfer_function(psf: Float, shape: tuple[int, ...]) -> Complex:
    """Return the optical transfer function of `psf` (centre n//2) on the grid of `shape`.

    A PSF longer than `shape` is wrapped around, which is what a circular blur with it means.
    """
    from scipy.fft import rfftn

    kernel = np.zeros(shape, np.float32)
    turns = [list(_turns(p, n)) for p, n in zip(psf.shape, shape, strict=True)]
    for places in product(*turns):
        source, target = zip(*places, strict=True)
        kernel[target] += psf[source]
    return np.asarray(rfftn(kernel, workers=-1), dtype=np.complex64)


def _turns(p: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Yield what of an axis of `p` lies in one turn around `n`, and where; p//2 lies at 0."""
    first = -(p // 2)
    for turn in range(first // n, (first + p - 1) // n + 1):
        start, stop = max(first, turn * n), min(first + p, (turn + 1) * n)
        yield slice(start - first, stop - first), slice(start - turn * n, stop - turn * n)
