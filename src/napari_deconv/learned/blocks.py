"""The blocks that a network runs over: their grid is that of the whole image.

Each is read with as much around it as the network looks, so that memory stays bounded and neither
blocks nor tiles leave seams.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor
from torch.nn import functional

from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.restorer import SEAM_TOLERANCE, Observation

from .blurring import inside
from .nets import Net

#: Bytes that are kept of a block at the most; and what a network keeps of it on CUDA, which is not
#: memory of the program.
BLOCK_BYTES, BYTES_ON_CUDA = 512 << 20, 2 << 30


@dataclass(frozen=True)
class Block:
    """What a block reads of an image, what is put before it, and what is kept of it."""

    read: tuple[slice, ...]
    lead: tuple[int, ...]
    keep: tuple[slice, ...]
    within: tuple[slice, ...]


def blocks_of(observation: Observation, network: Net, volumes: int) -> Iterator[Block]:
    """Yield the blocks of an image; their grid is that of the whole, wherever the piece begins.

    A network that blurs has one block: all of it. Beside what the network itself keeps, so many
    volumes of a block are kept.
    """
    shape, strides = observation.image.shape, network.strides
    around = _around(network, observation.psf)
    first = observation.start or (0,) * len(shape)
    leads = [start % stride for start, stride in zip(first, strides, strict=True)]
    whole = [n + lead for n, lead in zip(shape, leads, strict=True)]
    sides = whole if network.holds_blur else _sides(whole, around, network, volumes)
    starts = [range(-lead, n, side) for lead, n, side in zip(leads, shape, sides, strict=True)]
    for begin in product(*starts):
        low = [b - more for b, more in zip(begin, around, strict=True)]
        read = [
            slice(max(a, 0), min(b + side + more, n))
            for a, b, side, more, n in zip(low, begin, sides, around, shape, strict=True)
        ]
        # Before the image there is nothing to read up to the grid's next cell.
        lead = [before if a < 0 else 0 for a, before in zip(low, leads, strict=True)]
        keep = [
            slice(max(b, 0), min(b + side, n))
            for b, side, n in zip(begin, sides, shape, strict=True)
        ]
        within = [
            slice(k.start - r.start + before, k.stop - r.start + before)
            for k, r, before in zip(keep, read, lead, strict=True)
        ]
        yield Block(tuple(read), tuple(lead), tuple(keep), tuple(within))


def _sides(whole: Sequence[int], around: Sequence[int], network: Net, volumes: int) -> list[int]:
    """Return the sides of blocks that the memory is enough for, with all that they read.

    They are halved, the longest first: what is read around many small blocks is read in vain.
    """
    strides, on_cuda = network.strides, network.device.type == "cuda"

    def cells(n: float, stride: int) -> int:
        return math.ceil(n / stride) * stride

    sides = [cells(n, stride) for n, stride in zip(whole, strides, strict=True)]
    while sides != list(strides):
        read = [min(side + 2 * more, n) for side, more, n in zip(sides, around, whole, strict=True)]
        kept, room = 4 * volumes * math.prod(read), network.room(read)
        here = kept if on_cuda else kept + room
        if here <= BLOCK_BYTES and (room <= BYTES_ON_CUDA or not on_cuda):
            break
        axis = max(range(len(sides)), key=lambda axis: sides[axis])
        sides[axis] = cells(sides[axis] / 2, strides[axis])
    return sides


def piece_of(inputs: Tensor, block: Block, strides: Sequence[int] | None = None) -> Tensor:
    """Return what a block reads, (1, C, ...), repeated before its beginning up to the grid.

    And beyond its end where the strides of the grid are given: turned round, it begins there.
    """
    piece = inside(inputs, block.read)[None]
    ends: list[int] = []
    cells = strides or (1,) * len(block.read)
    widths = zip(block.lead, piece.shape[2:], cells, strict=True)
    for before, n, stride in reversed(list(widths)):
        ends += [before, -(before + n) % stride]
    return functional.pad(piece, ends, mode="replicate") if any(ends) else piece


def _around(network: Net, psf: Psf) -> tuple[int, ...]:
    """Return the network's halo in whole cells of its grid; none where it has one block."""
    if network.holds_blur:
        return (0,) * psf.samples.ndim
    return tuple(
        math.ceil(reach / stride) * stride
        for reach, stride in zip(network.reach(psf, SEAM_TOLERANCE), network.strides, strict=True)
    )
