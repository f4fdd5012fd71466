"""What a network's output is held against: by squares, by amounts, by likelihood, by structure."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from napari_deconv.imaging.value import require

Loss = Literal["squares", "amounts", "laplace", "structure"]
LOSSES: tuple[str, ...] = get_args(Loss)

#: Mean square of a truth, in units of its brightness, below which a patch counts as dark.
LEAST_LIGHT = 1e-3
#: Mean square error of what a network starts from, below which it counts as without any.
LEAST_SQUARE = 1e-7
#: Part that learning the scale of the error has in a loss that is not a likelihood itself.
SCALE_SHARE = 0.02
#: Errors, in units of the brightness, that are told apart from none.
LEAST_ERROR = 1e-3
#: Part of the structure in the mixture, and the side of the windows in which it is compared.
STRUCTURE_SHARE, WINDOW = 0.3, 7


def loss_of(
    out: Tensor, truth: Tensor, kind: str = "squares", error: Tensor | None = None
) -> Tensor:
    """Return the loss of a batch.

    Parameters
    ----------
    out : Tensor, (N, 1 or 2, ...)
        The image, and perhaps the scale of a Laplace distribution around it.
    truth : Tensor, (N, 1, ...)
    kind : str
        "squares": of the error of each patch over what it started from, or over the patch's own
        light, so that a few bright points in one patch do not outweigh all the others.
        "amounts": its absolute value, the same way. "laplace": the likelihood of a Laplace
        distribution, which needs the scale. "structure": amounts and 1 - SSIM (Wang et al. 2004).
    error : Tensor, (N,), optional
        Mean square error of what the network started from, of each pair as a whole; for those
        where it is not a number, the patch's own light is taken.
    """
    image, unit = out[:, :1], _unit_of(truth, error)
    if kind == "laplace":
        require(out.shape[1] > 1, "The loss 'laplace' needs a network that says how sure it is")
        return _likelihood((image - truth).abs(), out[:, 1:])
    if kind == "structure":
        similar = structural_similarity(image, truth)
        return (1 - STRUCTURE_SHARE) * _relative(image - truth, unit, 1) + STRUCTURE_SHARE * (
            1 - similar
        )
    return _relative(image - truth, unit, 1 if kind == "amounts" else 2)


def loss_of_scale(out: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of the second output alone: how far its scale is from the errors made.

    It is the logarithm that is to be met: in a likelihood a few large errors would outweigh all
    that there is to learn of the image. What factor is missing, calibration finds.
    """
    errors = (out[:, :1] - truth).abs().detach()
    wanted = (errors + LEAST_ERROR).log()
    return SCALE_SHARE * functional.smooth_l1_loss(out[:, 1:].log(), wanted)


def loss_of_blurred(blurred: Tensor, counts: Tensor, variance: Tensor) -> Tensor:
    """Return chi-squared: by how much a blurred output misses counts, over their variance."""
    result: Tensor = ((blurred - counts).square() / variance).mean()
    return result


def _likelihood(errors: Tensor, scale: Tensor) -> Tensor:
    result: Tensor = (errors / scale + scale.log()).mean()
    return result


def _unit_of(truth: Tensor, error: Tensor | None) -> Tensor:
    """Return the mean square that the errors of each patch are held against, (N,)."""
    light = truth.flatten(1).square().mean(1) + LEAST_LIGHT
    return light if error is None else torch.where(error.isnan(), light, error + LEAST_SQUARE)


def _relative(error: Tensor, unit: Tensor, power: int) -> Tensor:
    """Return log(1 + error / unit): a decibel counts alike in all patches that are far off."""
    misses = error.abs() if power == 1 else error.square()
    result: Tensor = (misses.flatten(1).mean(1) / unit.pow(power / 2)).log1p().mean()
    return result


def structural_similarity(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean SSIM in flat windows; the range of values is that of each truth."""
    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[image.ndim - 2]
    window = tuple(min(WINDOW, n) for n in image.shape[2:])

    def mean(values: Tensor) -> Tensor:
        averaged: Tensor = pool(values, window, stride=1)
        return averaged

    ones = (1,) * (image.ndim - 1)
    span = truth.flatten(1).amax(1).reshape(-1, *ones).clamp_min(LEAST_LIGHT)
    first, second = (0.01 * span).square(), (0.03 * span).square()
    a, b = mean(image), mean(truth)
    spread_a, spread_b = mean(image.square()) - a.square(), mean(truth.square()) - b.square()
    together = mean(image * truth) - a * b
    alike = (2 * a * b + first) * (2 * together + second)
    most = (a.square() + b.square() + first) * (spread_a + spread_b + second)
    return torch.mean(alike / most)
