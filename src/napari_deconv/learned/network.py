"""A trained network as a method: it restores through the same tiles as any other.

What the known PSF can undo is undone first, on the engine; the network then runs over the result
in blocks, each with as much around it as the network looks, so that memory stays bounded and
blocks and tiles leave no seams.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import Value
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import SEAM_TOLERANCE, Observation, Step, ended
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

from .inputs import brightness, method_of, stacked, states
from .model_file import Card, Model, read_card, read_model
from .unet import UNet

Float = npt.NDArray[np.float32]

#: Voxels that a block keeps at most, (z, y, x).
BLOCK = (32, 96, 96)
#: Float32 volumes of a run beside those of Richardson-Lucy: channels, and the result.
VOLUMES_BESIDE = 2.0
#: How far beyond the photons of its training an image may lie, as a factor; and how far its PSF
#: may be from the one of the training.
MARGIN, MOST_APART = 4.0, 0.2
#: Transforms that a voxel costs as much as in a network of 12 first channels; measured on a CPU.
TRANSFORMS = 160


@dataclass(frozen=True)
class Learned(Value):
    """A trained network.

    Parameters
    ----------
    path : str
        Of its file.
    bright : float, optional
        Brightness that the channels are divided by; that of the image where not given.

    Raises
    ------
    InputError
        If the file is no model.
    """

    path: str
    bright: float | None = None

    def __post_init__(self) -> None:
        _ = self.card

    @property
    def card(self) -> Card:
        """What the network is."""
        return _kept_card(self.path, _changed(self.path))

    @property
    def model(self) -> Model:
        """The network itself, kept in memory."""
        return _kept_model(self.path, _changed(self.path))

    @property
    def undoing(self) -> RichardsonLucy | None:
        """What goes before the network."""
        return method_of(self.card.design.channels)

    @property
    def volumes(self) -> float:
        """Peak memory in float32 volumes of the padded image."""
        before = self.undoing.volumes if self.undoing is not None else 1.0
        return before + len(self.card.design.channels) + VOLUMES_BESIDE

    @property
    def transforms(self) -> int:
        """What a run costs, in transforms of the same size."""
        before = self.undoing.transforms if self.undoing is not None else 0
        return before + round(TRANSFORMS * (self.card.design.first / 12) ** 2)

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...] | None:
        """Return how far the network and what goes before it look; None before it is settled."""
        if self.bright is None:
            return None
        around = _around(self.model.network)
        before = self.undoing.halo(psf, tolerance) if self.undoing is not None else None
        reach = before or (0,) * len(around)
        strides = self.model.network.strides
        return tuple(
            -(-(far + more) // stride) * stride
            for far, more, stride in zip(reach, around, strides, strict=True)
        )

    def settled(self, samples: Sequence[Observation], engine: Engine) -> Learned:
        """Return the method with the brightness of the brightest sample."""
        channels = self.card.design.channels
        found = [ended(states(channels, sample, engine)) for sample in samples]
        return replace(self, bright=max(brightness(channels, some) for some in found))

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that a run works on."""
        before = self.undoing
        return before.work_shape(image_shape, psf_shape) if before is not None else image_shape

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield a step an iteration and then one a block; the last holds the estimate."""
        network, channels = self.model.network, self.card.design.channels
        before = self.undoing.iterations if self.undoing is not None else 0
        blocks = list(_blocks(observation, network))
        total = before + len(blocks)
        found = yield from _counted(states(channels, observation, engine), total)
        bright = self.bright or brightness(channels, found)
        result = np.empty(observation.image.shape, np.float32)
        gain = self.card.light.gain
        inputs = torch.from_numpy(stacked(channels, found, bright, gain))
        del found
        device = _device()
        network.to(device)
        for number, block in enumerate(blocks, start=1):
            result[block.keep] = _restored(network, inputs, block, device) * bright
            is_last = number == len(blocks)
            note = f"network block {number} of {len(blocks)}"
            if is_last:
                doubts = self.doubts(observation, bright)
                note = "; ".join((f"one pass of the network {self.card.name!r}", *doubts))
            yield Step(
                before + number,
                total,
                note,
                estimate=np.maximum(result, 0, out=result) if is_last else None,
            )

    def doubts(self, observation: Observation, bright: float) -> tuple[str, ...]:
        """Return where an image lies outside of what the network has learned from, in numbers."""
        found, card, psf = [], self.card, observation.psf
        low, high = card.light.photons
        photons = bright / card.light.gain
        # An undone image is brighter than its counts: by a few times where it is thin.
        if not low / MARGIN <= photons <= high * MARGIN:
            found.append(
                f"outside its training: a brightness of {photons:.3g} photons, it has seen "
                f"{low:.3g} to {high:.3g}"
            )
        known, here = card.spacing_um, psf.spacing_um
        if known and here and not np.allclose(known, here, rtol=0.05):
            sizes = [" x ".join(f"{step:.4g}" for step in steps) for steps in (here, known)]
            found.append(f"outside its training: voxels of {sizes[0]} um, it has seen {sizes[1]}")
        apart = psf_distance(psf.samples, self.model.psf.samples)
        if apart > MOST_APART:
            found.append(
                f"outside its training: the PSF differs from the one it has seen by {apart:.0%}"
            )
        return tuple(found)


@dataclass(frozen=True)
class _Block:
    """What a block reads of an image, what is put before it, and what is kept of it."""

    read: tuple[slice, ...]
    lead: tuple[int, ...]
    keep: tuple[slice, ...]
    within: tuple[slice, ...]


def _blocks(observation: Observation, network: UNet) -> Iterator[_Block]:
    """Yield the blocks of an image; their grid is that of the whole, wherever the piece begins."""
    shape, strides, around = observation.image.shape, network.strides, _around(network)
    first = observation.start or (0,) * len(shape)
    leads = [start % stride for start, stride in zip(first, strides, strict=True)]
    sides = BLOCK[-len(shape) :]
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
        yield _Block(tuple(read), tuple(lead), tuple(keep), tuple(within))


def _restored(network: UNet, inputs: torch.Tensor, block: _Block, device: torch.device) -> Float:
    """Return what the network makes of a block."""
    piece = inputs[(slice(None), *block.read)][None]
    if any(block.lead):
        ends = [width for before in reversed(block.lead) for width in (before, 0)]
        piece = torch.nn.functional.pad(piece, ends, mode="replicate")
    with torch.inference_mode():
        out = network(piece.to(device))
    found: Float = out[(0, 0, *block.within)].cpu().numpy()
    return found


def _counted(
    steps: Generator[Step, None, dict[str, Float]], total: int
) -> Generator[Step, None, dict[str, Float]]:
    """Pass the steps on, counted among all; what they estimate is not the result yet."""
    try:
        while True:
            step = next(steps)
            yield replace(step, total=total, estimate=None)
    except StopIteration as end:
        found: dict[str, Float] = end.value
        return found


def psf_distance(first: Float, second: Float) -> float:
    """Return how much two PSFs differ: the root of the squared difference over that of the first.

    Both with their centre at n//2, on the same voxels.
    """
    box = tuple(max(sides) for sides in zip(first.shape, second.shape, strict=True))

    def laid(psf: Float) -> Float:
        whole = np.zeros(box, np.float32)
        starts = (big // 2 - n // 2 for big, n in zip(box, psf.shape, strict=True))
        whole[tuple(slice(s, s + n) for s, n in zip(starts, psf.shape, strict=True))] = psf
        return whole

    a, b = laid(first), laid(second)
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def _around(network: UNet) -> tuple[int, ...]:
    """Return the network's halo in whole cells of its grid."""
    return tuple(
        math.ceil(reach / stride) * stride
        for reach, stride in zip(network.halo, network.strides, strict=True)
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _changed(path: str) -> float:
    found = Path(path).expanduser()
    return found.stat().st_mtime if found.is_file() else 0.0


@lru_cache(maxsize=8)
def _kept_card(path: str, changed: float) -> Card:
    return read_card(path)


@lru_cache(maxsize=2)
def _kept_model(path: str, changed: float) -> Model:
    return read_model(path)
