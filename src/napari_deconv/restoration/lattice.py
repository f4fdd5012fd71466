"""A coarse lattice over the planes of a whole image: what is slow across them lives there.

The image is continued beyond its border as for a transform of the whole (`continued.Continued`),
and weighed by cubic B-splines around the nodes, which keeps finer detail from passing for slow;
the same splines bring values at the nodes back to voxels. Both are products with small matrices,
so that neither needs more than a piece of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.blas import product
from napari_deconv.imaging.region import Region

from .continued import faded
from .pieces import Float
from .transforms import Complex

#: How often a spline is multiplied into the transform: four times on the way to the nodes (a
#: cubic one is a box folded with itself three times), four times on the way back.
FOLDED = 8


@dataclass(frozen=True)
class Lattice:
    """Nodes evenly spread over the planes of a whole image.

    Parameters
    ----------
    shape : tuple of int, (Z, Y, X)
        Of the whole image.
    work_shape : tuple of int
        With its continuation, in which it repeats itself.
    spacing : float
        Most voxels from one node to the next.
    """

    shape: tuple[int, ...]
    work_shape: tuple[int, ...]
    spacing: float

    @cached_property
    def nodes(self) -> tuple[int, int]:
        """How many nodes there are along y and x."""
        from scipy.fft import next_fast_len

        y, x = (next_fast_len(int(np.ceil(n / self.spacing)), True) for n in self.work_shape[-2:])
        return y, x

    @property
    def node_shape(self) -> tuple[int, ...]:
        """Shape of the values at the nodes: all planes of the image."""
        return (self.shape[0], *self.nodes)

    @cached_property
    def _splines(self) -> list[Float]:
        """For y and x: the weight of each node at each voxel, (voxels, nodes)."""
        return [
            _splines(n, count) for n, count in zip(self.work_shape[-2:], self.nodes, strict=True)
        ]

    @cached_property
    def _gathering(self) -> list[Float]:
        """For y and x: the weight of each voxel at each node, that of its copies beyond too."""
        folded = zip(self._splines, self.shape[-2:], strict=True)
        return [_folded(splines, n) * (splines.shape[1] / len(splines)) for splines, n in folded]

    def gather(self, values: npt.NDArray[Any], region: Region, into: Float) -> None:
        """Add to the nodes what a piece of the image comes to there."""
        planes, rows, columns = region.slices
        y, x = self._gathering
        for plane, target in zip(values, into[planes], strict=True):
            target += product(y[rows].T, product(plane.astype(np.float32), x[columns]))

    def ones(self) -> Float:
        """Return what an image of ones has at the nodes of a plane."""
        y, x = (weights.sum(axis=0) for weights in self._gathering)
        return np.outer(y, x).astype(np.float32)

    def spread(self, nodes: Float, region: Region, onto: Float) -> None:
        """Add to the voxels `onto` of a region what the values at the nodes come to there."""
        planes, rows, columns = region.slices
        y, x = (weights[part] for weights, part in zip(self._splines, (rows, columns), strict=True))
        (near_y, y), (near_x, x) = _used(y), _used(x)
        for plane, target in zip(nodes[planes], onto, strict=True):
            target += product(y, product(plane[near_y][:, near_x], x.T))

    def frequencies(self) -> tuple[Float, Float]:
        """Return the frequencies of the nodes' transform along y and x, in cycles per voxel."""
        (y, x), (rows, columns) = self.nodes, self.work_shape[-2:]
        along_y, along_x = np.fft.fftfreq(y) * (y / rows), np.fft.rfftfreq(x) * (x / columns)
        return along_y.astype(np.float32), along_x.astype(np.float32)

    def transfer_function(self, psf: Float) -> Complex:
        """Return the optical transfer function at the frequencies of the nodes."""
        from scipy.fft import fft

        depth, half = self.work_shape[0], [n // 2 for n in psf.shape]
        along = np.zeros((depth, *psf.shape[1:]), np.complex64)
        for plane, values in enumerate(psf):  # one longer than the image is wrapped around
            along[(plane - half[0]) % depth] += values
        along = fft(along, axis=0, overwrite_x=True)
        y, x = (
            np.exp(-2j * np.pi * np.outer(np.arange(n) - centre, f)).astype(np.complex64)
            for n, centre, f in zip(psf.shape[1:], half[1:], self.frequencies(), strict=True)
        )
        result: Complex = product(y.T, product(along, x))
        return result

    def passed(self) -> Float:
        """Return what of a frequency is left on the way to the nodes and back, (y, x)."""
        y, x = (
            np.sinc(f * (n / count)) ** FOLDED
            for f, n, count in zip(
                self.frequencies(), self.work_shape[-2:], self.nodes, strict=True
            )
        )
        return np.outer(y, x).astype(np.float32)


def _splines(length: int, nodes: int) -> Float:
    """Return the cubic B-spline of each node at each of `length` voxels that repeat themselves."""
    place = np.arange(length) * (nodes / length)
    first = np.floor(place).astype(int)
    t = place - first
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    result = np.zeros((length, nodes))
    for offset, tap in enumerate(taps):
        np.add.at(result, (np.arange(length), (first + offset - 1) % nodes), tap / 6)
    return result.astype(np.float32)


def _folded(weights: Float, n: int) -> Float:
    """Return the weights of `n` voxels of an image, with those of its continuation."""
    lead = np.arange(len(weights) - n)
    (after, before), fade = faded(lead, n, len(lead))
    result = weights[:n].astype(np.float64)
    np.add.at(result, after, weights[n:] * (1 - fade[:, np.newaxis]))
    np.add.at(result, before, weights[n:] * fade[:, np.newaxis])
    return result.astype(np.float32)


def _used(weights: Float) -> tuple[npt.NDArray[np.intp], Float]:
    """Return the nodes that weigh anything, and their weights."""
    used = np.flatnonzero(weights.any(axis=0))
    return used, weights[:, used]
