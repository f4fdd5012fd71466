"""A restored image as a dask array: its chunks are what the tiles keep, and nothing is done yet.

What holds for the whole image is decided by one task that all tiles wait for; the PSF is in the
graph once, and goes to each worker of a cluster once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import Region

from .plan import Tile, TilePlan

Float = npt.NDArray[np.float32]
Voxels = npt.NDArray[Any]

#: (mean of the counts, voxels of each region, sum of the parts or None, PSF) -> what all tiles are
#: restored by.
Decide = Callable[[float, list[Voxels], Float | None, Psf], Any]
#: (voxels that a tile reads, where they begin, PSF, what was decided) -> the voxels restored.
RestoreTile = Callable[[Voxels, tuple[int, ...], Psf, Any], Float]
#: (voxels of a region, the region) -> what is added up over a whole image.
Part = Callable[[Voxels, Region], Float]


def in_tiles(
    image: Any,
    psf: Psf,
    plan: TilePlan,
    *,
    regions: Sequence[Region],
    decide: Decide,
    restore_tile: RestoreTile,
    part: Part | None = None,
) -> Any:
    """Return an image restored in tiles, as a dask array.

    Parameters
    ----------
    image : dask array, (Z, Y, X) or (Y, X)
        Measured counts.
    psf : Psf
        On the voxels of the image.
    plan : TilePlan
        The tiles of the image.
    regions : sequence of Region
        What `decide` looks at.
    decide, restore_tile : callable
        Functions of a module, or partial ones: they travel to workers.
    part : callable, optional
        Where `decide` needs the sum of something over all chunks of the image.

    Returns
    -------
    dask array of float32
        Shape of `image`, chunks of `plan.keep`.
    """
    from dask import array as da
    from dask import delayed
    from dask.base import tokenize
    from dask.graph_manipulation import clone

    # Under names of their own: chunks shared with the tiles would all stay in memory until the
    # last of them had been looked at. They are read twice instead.
    looked_at = clone(image, seed=tokenize(image))
    mean = da.maximum(looked_at, 0).mean(dtype=np.float64)
    # No two tasks hold the PSF, nor is it copied where tasks are fused.
    shared = delayed(psf, pure=True)
    samples = [looked_at[region.slices] for region in regions]
    total = _total(looked_at, part) if part else None
    decided = delayed(decide, pure=True)(mean, samples, total, shared)
    restored = delayed(_kept, pure=True)
    blocks = np.empty(plan.counts, dtype=object)
    for place, tile in zip(np.ndindex(plan.counts), plan.tiles(), strict=True):
        block = restored(image[tile.read.slices], shared, decided, tile, restore_tile)
        blocks[place] = da.from_delayed(block, shape=tile.keep.shape, dtype=np.float32)
    return da.block(blocks.tolist())


def _kept(block: Voxels, psf: Psf, decided: Any, tile: Tile, restore_tile: RestoreTile) -> Float:
    """Return what a tile keeps, in memory of its own."""
    return restore_tile(block, tile.read.start, psf, decided)[tile.keep.within(tile.read)].copy()


def _total(image: Any, part: Part) -> Any:
    """Return the sum of the parts of all chunks, delayed."""
    from dask import delayed
    from dask.array.core import slices_from_chunks

    chunks = image.to_delayed().ravel().tolist()
    regions = [
        Region(tuple(s.start for s in place), tuple(s.stop - s.start for s in place))
        for place in slices_from_chunks(image.chunks)
    ]
    found = [delayed(part, pure=True)(*pair) for pair in zip(chunks, regions, strict=True)]
    # Two by two, so that few of them wait in memory.
    while len(found) > 1:
        pairs = [found[i : i + 2] for i in range(0, len(found), 2)]
        found = [delayed(sum, pure=True)(pair) for pair in pairs]
    return found[0]
