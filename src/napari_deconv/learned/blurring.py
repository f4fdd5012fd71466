"""Blur by a PSF inside of a network: differentiable, with another PSF for each image of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional


class Blur:
    """Convolution with the PSF on a grid that holds the image and all that its light comes from.

    Parameters
    ----------
    psf : Tensor, (N, Z, Y, X) or (N, Y, X)
        One for each image; the centre at n//2.
    shape : sequence of int
        Of the images. On the larger grid, `full`, an image lies at the beginning; what lies
        before its first voxel is at the end.
    """

    def __init__(self, psf: Tensor, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        sides = psf.shape[1:]
        self.full = tuple(fast_length(n + side - 1) for n, side in zip(shape, sides, strict=True))
        self.axes = tuple(range(-len(self.full), 0))
        laid = grown(psf, self.full)
        laid = torch.roll(laid, [-(side // 2) for side in sides], self.axes)
        self.otf = self.transformed(laid)[:, None]

    def transformed(self, values: Tensor) -> Tensor:
        """Return the spectrum of real values on the larger grid."""
        spectrum: Tensor = torch.fft.rfftn(values, dim=self.axes)
        return spectrum

    def back(self, spectrum: Tensor) -> Tensor:
        """Return the real values of a spectrum, on the larger grid."""
        values: Tensor = torch.fft.irfftn(spectrum, s=self.full, dim=self.axes)
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Return a sample on the larger grid, blurred, where the image is."""
        return self.cropped(self.back(self.transformed(x) * self.otf))

    def adjoint(self, y: Tensor) -> Tensor:
        """Return the adjoint of `forward`: from the image to the larger grid."""
        return self.back(self.transformed(grown(y, self.full)) * self.otf.conj())

    def cropped(self, x: Tensor) -> Tensor:
        """Return the part of the larger grid where the image is."""
        return inside(x, [slice(n) for n in self.shape])


def inside(values: Tensor, place: Sequence[slice]) -> Tensor:
    """Return a place in the last axes of values."""
    index: Any = (..., *place)
    found: Tensor = values[index]
    return found


def grown(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return values with zeros behind them, up to a shape."""
    here = values.shape[-len(shape) :]
    ends = [e for n, m in zip(reversed(here), reversed(shape), strict=True) for e in (0, m - n)]
    larger: Tensor = functional.pad(values, ends)
    return larger


def continued(values: Tensor, shape: Sequence[Any]) -> Tensor:
    """Return values that go on behind their end, straight to where they begin again."""
    for axis, whole in zip(range(-len(shape), 0), shape, strict=True):
        more = whole - values.shape[axis]
        sides = [1] * len(shape)
        sides[axis] = -1
        t = (values.new_ones(more).cumsum(0) / (more + 1)).reshape(sides)
        last, first = values.narrow(axis, -1, 1), values.narrow(axis, 0, 1)
        values = torch.cat([values, last * (1 - t) + first * t], dim=axis)
    return values


def fast_length(n: Any) -> Any:
    """Return the next size whose transforms are fast.

    A size that is a tensor is one that a trace follows: the traced network then takes other sizes.
    """
    return _traced_length()(n) if torch.is_tensor(n) else next_fast_len(n, real=True)


@lru_cache(maxsize=1)
def _traced_length() -> Any:
    script: Any = torch.jit.script
    return script(_next_fast_length)


def _next_fast_length(n: Tensor) -> Tensor:
    """Return what `scipy.fft.next_fast_len` does of real values, in words that a trace keeps."""
    length = int(n)
    while True:
        rest = length
        for prime in [2, 3, 5]:
            while rest % prime == 0:
                rest = rest // prime
        if rest == 1:
            break
        length += 1
    return torch.tensor(length)


def boxed(psfs: Sequence[Tensor]) -> Tensor:
    """Return PSFs as one tensor, zeros around the smaller ones; the centre of all at n//2."""
    box = [max(sides) for sides in zip(*(psf.shape for psf in psfs), strict=True)]
    result = torch.zeros(len(psfs), *box)
    for place, psf in zip(result, psfs, strict=True):
        starts = [big // 2 - n // 2 for big, n in zip(box, psf.shape, strict=True)]
        place[tuple(slice(s, s + n) for s, n in zip(starts, psf.shape, strict=True))] = psf
    return result
