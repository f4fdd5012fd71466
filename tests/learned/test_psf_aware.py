"""Networks that hold the blur: they are their formula, and take another PSF untrained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.structures import OF_CELLS
from napari_deconv.learned.blurring import Blur, continued
from napari_deconv.learned.designs import (
    gradient_design,
    kpn_design,
    unrolled_design,
    wiener_design,
)
from napari_deconv.learned.lessons import Lessons
from napari_deconv.learned.losses import loss_of
from napari_deconv.learned.pairs import Light, simulated_pairs
from napari_deconv.learned.samples import batch_of, sample_of
from napari_deconv.learned.trainer import Schedule
from napari_deconv.learned.training import training
from napari_deconv.learned.wiener_filter import LEAST_PENALTY, WienerFilter, cosine_filters
from napari_deconv.restoration.stepping import ended

ALL = (wiener_design, kpn_design, gradient_design, unrolled_design)


def gaussian(width: float, ndim: int = 3) -> Psf:
    places = np.meshgrid(*[np.arange(-4, 5)] * ndim, indexing="ij")
    squares = sum(place**2 for place in places)
    return Psf(np.exp(-squares / (2 * width**2)), (0.1,) * ndim)


@pytest.mark.parametrize(("ndim", "count", "numbers"), [(2, 8, 74), (3, 26, 704)])
def test_wf_k_has_its_filters(ndim: int, count: int, numbers: int) -> None:
    """Cosines but the constant one: orthonormal, and blind to what is flat."""
    filters = cosine_filters(ndim).flatten(1).double()
    assert filters.shape == (count, 3**ndim)
    assert torch.allclose(filters @ filters.T, torch.eye(count).double(), atol=1e-6)
    assert filters.sum(1).abs().max() < 1e-6
    assert sum(values.numel() for values in WienerFilter(ndim).parameters()) == numbers


def test_wf_k_is_its_formula() -> None:
    """All 26 filters transformed one by one in float64, in the place of their autocorrelation."""
    psf, shape = gaussian(1.5), (7, 12, 9)
    network = WienerFilter(3)
    torch.manual_seed(0)
    torch.nn.init.normal_(network.filters, 0, 0.3)
    image = torch.rand(1, 1, *shape)
    noise = 0.4
    x = torch.cat([image, torch.full_like(image, noise), torch.zeros_like(image)], 1)
    with torch.no_grad():
        found = network(x, torch.tensor(psf.samples)[None])[0, 0].numpy()
    blur = Blur(torch.tensor(psf.samples).double()[None], shape)
    full = blur.full
    y = np.fft.fftn(continued(image.double(), full)[0, 0].numpy())
    laid = np.zeros(full)
    laid[tuple(slice(n) for n in psf.shape)] = psf.samples
    b = np.fft.fftn(np.roll(laid, [-(n // 2) for n in psf.shape], (0, 1, 2)))
    penalty = np.full(full, LEAST_PENALTY)
    for values in network.filters.detach().double().numpy():
        penalty += np.abs(np.fft.fftn(values, full, axes=(0, 1, 2))) ** 2
    alpha, beta = (float(value.detach()) for value in (network.alpha, network.beta))
    weight = np.exp(alpha + beta * noise)
    restored = np.fft.ifftn(np.conj(b) * y / (np.abs(b) ** 2 + weight * penalty)).real
    assert np.abs(found - restored[tuple(slice(n) for n in shape)]).max() < 1e-4


def test_unrolled_richardson_lucy_begins_as_richardson_lucy() -> None:
    """Untrained it corrects nothing: likelihood grows, and light is kept."""
    psf = gaussian(1.2)
    (pair,) = simulated_pairs(range(1), (8, 24, 24), [psf], Light((500.0, 500.0)), 0)
    sample = sample_of(pair, psf, unrolled_design(psf), open_engine("cpu"))
    batch = batch_of([sample], torch.device("cpu"))
    network = unrolled_design(psf).network()
    with torch.no_grad():
        out = network(batch.channels, batch.psf)[0, 0].numpy()
    before = np.square(sample.channels[0] - sample.truth).mean()
    assert np.square(out - sample.truth).mean() < 0.8 * before
    assert out.sum() == pytest.approx(sample.channels[0].sum(), rel=0.1)


@pytest.mark.parametrize(("design", "ndim"), [*((design, 2) for design in ALL), (wiener_design, 3)])
def test_it_learns_with_a_family_of_psfs(design: Any, ndim: int) -> None:
    """On a PSF between those that it was trained with, it does better than untrained."""
    family = [gaussian(width, ndim) for width in (1.0, 1.6)]
    between, engine = gaussian(1.3, ndim), open_engine("cpu")
    shape = (8, 32, 32)[-ndim:]
    schedule = Schedule(
        pairs=8, left_out=2, shape=shape, patch=shape, batch=2, steps=50, learning_rate=3e-3
    )
    light, made = Light((20.0, 100.0), kinds=OF_CELLS), design(family[0])
    model = ended(training(Lessons(family, light), made, schedule, engine))
    assert model.psfs == tuple(family)
    torch.manual_seed(schedule.seed)
    untrained = made.network()
    errors = []
    for pair in simulated_pairs(range(4), shape, [between], light, 99):
        batch = batch_of([sample_of(pair, between, made, engine)], torch.device("cpu"))
        with torch.no_grad():
            outs = [net(batch.channels, batch.psf) for net in (untrained, model.network)]
        errors.append([float(loss_of(out, batch.truth)) for out in outs])
    before, after = np.mean(errors, axis=0)
    assert after < 0.99 * before
