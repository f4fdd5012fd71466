"""An image continued beyond its border so that it repeats without a jump."""

from __future__ import annotations

import numpy as np

from .pieces import Float, Where

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


def continued(image: Float, shape: tuple[int, ...]) -> Float:
    """Return `image` continued to `shape` so that it repeats without a jump."""
    return Continued(image, shape)[tuple(slice(0, n) for n in shape)]


class Continued:
    """An image continued so that it repeats without a jump; see `pieces.Values`.

    Along each axis the padding fades from the image mirrored at its end into the image
    mirrored at its start, which comes next around the end.

    Parameters
    ----------
    image : ndarray of float32
        It lies at the low end of each axis.
    shape : tuple of int
        With the padding.
    background : float
        Taken away.
    """

    def __init__(self, image: Float, shape: tuple[int, ...], background: float = 0.0) -> None:
        self.shape, self._image, self._background = shape, image, np.float32(background)

    def __getitem__(self, where: Where) -> Float:
        """Return the values in a box."""
        result = self._image
        # First along the axis that leaves the least: the others then continue no more than that.
        sizes = [(part.stop - part.start) / n for part, n in zip(where, result.shape, strict=True)]
        for axis in sorted(range(len(where)), key=sizes.__getitem__):
            result = self._along(result, axis, where[axis])
        return result - self._background if self._background else result

    def _along(self, image: Float, axis: int, part: slice) -> Float:
        """Return part of the image continued along one axis."""
        n, gap = image.shape[axis], self.shape[axis] - image.shape[axis]
        inside = image[(slice(None),) * axis + (slice(part.start, min(part.stop, n)),)]
        lead = np.arange(max(part.start - n, 0), part.stop - n)
        if not len(lead):
            return inside
        (after, before), fade = faded(lead, n, gap)
        after_end, before_start = np.take(image, after, axis), np.take(image, before, axis)
        fade = fade.reshape([-1 if other == axis else 1 for other in range(image.ndim)])
        return np.concatenate([inside, after_end * (1 - fade) + before_start * fade], axis)


def faded(lead: Indices, n: int, gap: int) -> tuple[tuple[Indices, Indices], Float]:
    """Return what the voxels `lead` of the padding are made of, along an axis.

    Parameters
    ----------
    lead : ndarray of int
        0 for the first voxel after the image.
    n, gap : int
        Voxels of the image, and of the padding after it.

    Returns
    -------
    tuple of two ndarrays of int, and ndarray of float32
        The voxels of the image mirrored at its end, and at its start; the share of the latter.
    """
    fade = ((lead + 1) / (gap + 1)).astype(np.float32)
    return (_mirrored(n + lead, n), _mirrored(lead - gap, n)), fade


def _mirrored(index: Indices, n: int) -> Indices:
    """Return indices folded into 0..n-1 by mirrors at both ends."""
    folded = index % (2 * n)
    return np.where(folded < n, folded, 2 * n - 1 - folded)
