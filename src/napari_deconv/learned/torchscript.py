"""A trained network as TorchScript: it runs in other programs, on images of any size.

Networks are traced, and a trace keeps what Python computes of a size as a number. The sizes of
padding and of transforms are therefore computed by operations that the trace keeps.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import require

from .model_file import Model
from .nets import Net

Float = npt.NDArray[np.float32]

#: Sizes of the axes, (z, y, x), that are traced: no stride divides them and no transform has them,
#: so that the trace pads as any size may need; and sizes that the result is tried on.
TRACED, TRIED = (7, 11, 13), (10, 16, 27)
#: How much the two may differ, as a part of the largest value.
SAME = 1e-4
#: Not all of it has types.
_JIT: Any = torch.jit


class Together(nn.Module):
    """Networks that answer together, with their PSF inside.

    Parameters
    ----------
    networks : sequence of Net
        Members of an ensemble, or one.
    psf : Psf
        Of networks that blur.
    """

    def __init__(self, networks: Sequence[Net], psf: Psf) -> None:
        super().__init__()
        self.networks = nn.ModuleList(copy.deepcopy(network).cpu() for network in networks)
        self.register_buffer("psf", torch.tensor(psf.samples)[None])
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 1 or 2, ...) for channels (N, C, ...): the mean image, and the scale.

        The scale is that of `calibration.together`: of the members, and of how far they lie apart.
        """
        outs = [network(x, self.psf) for network in self.networks]
        if len(outs) == 1:
            alone: Tensor = outs[0]
            return alone
        images = torch.stack([out[:, :1] for out in outs])
        image = images.mean(dim=0)
        if outs[0].shape[1] == 1:
            return image
        squares = torch.stack([out[:, 1:2].square() for out in outs]).mean(dim=0)
        scale = (squares + images.var(dim=0, unbiased=False)).sqrt()
        return torch.cat([image, scale], dim=1)


def together_of(model: Model) -> Together:
    """Return the networks of a model as one module, on the CPU."""
    return Together(model.networks, model.psf)


def torchscript_of(model: Model) -> bytes:
    """Return the networks of a model as a TorchScript file.

    Raises
    ------
    InputError
        If what was written does not do the same on another size.
    """
    together = together_of(model)
    channels, ndim = len(model.card.design.channels), model.psf.samples.ndim
    traced = _traced(together, torch.rand(1, channels, *TRACED[-ndim:]))
    file = BytesIO()
    with _quiet():
        _JIT.save(traced, file)
        again = _JIT.load(BytesIO(file.getvalue()))
        x = torch.rand(1, channels, *TRIED[-ndim:])
        with torch.no_grad():
            wanted, found = together(x), again(x)
    require(
        wanted.shape == found.shape
        and bool((wanted - found).abs().max() <= SAME * wanted.abs().max()),
        f"The network {model.card.name!r} does not do the same as TorchScript, with torch "
        f"{torch.__version__}; another version of torch may write it",
    )
    return file.getvalue()


def _traced(together: Together, x: Tensor) -> Any:
    with _quiet(), torch.no_grad():
        return _JIT.trace(together, x, check_trace=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing of what a trace may lose, which is tried, nor that torch has newer formats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outputs_of(together: nn.Module, channels: Float) -> Float:
    """Return what networks make of the channels of one image, (1, C, ...)."""
    with torch.no_grad():
        out: Float = together(torch.from_numpy(channels)).numpy()
    return out
