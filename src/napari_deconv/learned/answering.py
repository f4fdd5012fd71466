"""Networks that answer to the blocks of an image, part by part, also to the mirrored ones."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import chain, combinations, product
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.restorer import Step

from .blocks import Block, piece_of
from .nets import Net, exact_convolutions, layout_of
from .samples import symmetric_axes

Float = npt.NDArray[np.float32]
Found = TypeVar("Found")

#: Volumes of an answer: the image, and the scale of its error; and those that several are put
#: together in.
ANSWER, TOGETHER = 2, 6


class Answering:
    """What networks make of blocks, each by itself, over the brightness.

    Parameters
    ----------
    networks : sequence of Net
        Members of an ensemble, or one.
    psf : Psf
    device : torch.device
        Where they run.
    mirrored : bool
        Whether each answers to the mirrored block as well, along the axes along which the PSF is
        its own mirror image.
    settings : tuple of float, optional
        What a network has read off the whole image.
    """

    def __init__(
        self,
        networks: Sequence[Net],
        psf: Psf,
        device: torch.device,
        *,
        mirrored: bool,
        settings: tuple[float, ...] | None,
    ) -> None:
        laid: Any = {"device": device, "memory_format": layout_of(networks[0], device)}
        self.networks = [network.to(**laid) for network in networks]
        self.psf = torch.tensor(psf.samples)[None].to(device)
        axes = symmetric_axes(psf.samples) if mirrored else ()
        self.turns = list(chain(*(combinations(axes, n) for n in range(len(axes) + 1))))
        self.settings = None if settings is None else torch.tensor([settings]).to(device)

    @property
    def count(self) -> int:
        """Answers to a block."""
        return len(self.networks) * len(self.turns)

    def volumes(self, channels: int) -> int:
        """Return how many volumes of a block are kept: answers, what comes of them, and turns."""
        turned = 2 * channels if len(self.turns) > 1 else 0
        return ANSWER * self.count + TOGETHER + turned

    def parts(self, block: Block) -> int:
        """Return the steps that a block takes at the most."""
        return self.count * self.networks[0].parts([s.stop - s.start for s in block.read])

    def __call__(self, inputs: Tensor, block: Block) -> Generator[Step, None, list[Float]]:
        """Return the answers (1 or 2, ...) to a block; yield a step a part."""
        turns = len(self.turns) > 1
        piece = piece_of(inputs, block, self.networks[0].strides if turns else None)
        answers, done, total = [], 0, self.parts(block)
        for network, turn in product(self.networks, self.turns):
            # The first two axes count images and channels.
            axes = [axis + 2 for axis in turn]
            turned = torch.flip(piece, axes) if axes else piece
            answer = np.empty((1 + network.laplace, *piece.shape[2:]), np.float32)
            for place, part in _exactly(network.in_parts(turned, self.psf, self.settings)):
                answer[place[1:]] = part[0].cpu().numpy()
                done += 1
                yield Step(done, total, "network")
            back = np.flip(answer, tuple(axis + 1 for axis in turn))
            answers.append(back[(slice(None), *block.within)])
        return answers


def _exactly(parts: Iterator[Found]) -> Iterator[Found]:
    """Yield the parts, each made with convolutions that are exact."""
    while True:
        with exact_convolutions():
            part = next(parts, None)
        if part is None:
            return
        yield part
