"""Fourier transforms along one axis of many rows or columns: scipy's, or ducc0's.

ducc0 is the successor of scipy's library and has the same results but for rounding, faster; it is
used where the user has installed it (`pip install "napari-deconv[fast]"`), and never required.
Where bytes must be the same on machines with and without it, `NAPARI_DECONV_TRANSFORMS=scipy` in
the environment leaves it aside.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .pieces import Float

Complex = npt.NDArray[np.complex64]

#: Of the environment: "scipy" takes that although ducc0 is installed.
CHOICE = "NAPARI_DECONV_TRANSFORMS"


class Transforms(Protocol):
    """What a `Room` needs of a library; each call works with so many threads."""

    def forward(self, x: Float, out: Complex, n: int, threads: int) -> None:
        """Put the transforms of real rows, zero beyond their length up to `n`, into `out`."""
        ...

    def back(self, x: Complex, out: Float, threads: int) -> None:
        """Put the real rows of such transforms into `out`, which tells their length.

        Both may lie in the same memory.
        """
        ...

    def along(self, x: Complex, axis: int, *, inverse: bool, threads: int) -> None:
        """Transform `x` in its place along an axis, or back."""
        ...


class ScipyTransforms:
    """Of scipy.fft, which is always there."""

    def forward(self, x: Float, out: Complex, n: int, threads: int) -> None:
        """See `Transforms`."""
        from scipy.fft import rfft

        out[...] = rfft(x, n, workers=threads)

    def back(self, x: Complex, out: Float, threads: int) -> None:
        """See `Transforms`."""
        from scipy.fft import irfft

        out[...] = irfft(x, out.shape[-1], workers=threads)

    def along(self, x: Complex, axis: int, *, inverse: bool, threads: int) -> None:
        """See `Transforms`."""
        from scipy.fft import fft, ifft

        result = (ifft if inverse else fft)(x, axis=axis, overwrite_x=True, workers=threads)
        # scipy may overwrite, and does; but it does not promise to answer there.
        if not np.may_share_memory(result, x):
            x[...] = result


class DuccTransforms:
    """Of ducc0.fft."""

    def __init__(self, fft: Any) -> None:
        self._fft = fft

    def forward(self, x: Float, out: Complex, n: int, threads: int) -> None:
        """See `Transforms`."""
        if x.shape[-1] < n:
            rows = np.zeros((*x.shape[:-1], n), np.float32)
            rows[..., : x.shape[-1]] = x
            x = rows
        elif np.may_share_memory(x, out):
            x = x.copy()
        self._fft.r2c(x, axes=(x.ndim - 1,), out=out, nthreads=threads)

    def back(self, x: Complex, out: Float, threads: int) -> None:
        """See `Transforms`."""
        out[...] = self._fft.c2r(
            x,
            axes=(x.ndim - 1,),
            lastsize=out.shape[-1],
            forward=False,
            inorm=2,
            nthreads=threads,
        )

    def along(self, x: Complex, axis: int, *, inverse: bool, threads: int) -> None:
        """See `Transforms`."""
        norm = 2 if inverse else 0
        self._fft.c2c(x, axes=(axis,), forward=not inverse, inorm=norm, out=x, nthreads=threads)


@cache
def transforms() -> Transforms:
    """Return the fastest library that is installed, and not left aside."""
    if os.environ.get(CHOICE) == "scipy" or find_spec("ducc0") is None:
        return ScipyTransforms()
    try:
        return DuccTransforms(import_module("ducc0").fft)
    except ImportError:  # a build for another system
        return ScipyTransforms()
