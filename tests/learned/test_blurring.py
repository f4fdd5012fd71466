"""The blur inside of networks: the adjoint is one, and the blur is that of float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve

from napari_deconv.learned.blurring import Blur, boxed, continued, grown
from napari_deconv.learned.trainer import blurred_again

CASES = [((6, 11, 12), (3, 5, 4)), ((9, 10), (4, 3)), ((1, 7, 8), (3, 5, 9)), ((5, 6), (9, 11))]


def some(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize(("shape", "sides"), CASES)
def test_it_is_the_convolution(shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    psf, image = some(*sides), some(*shape, seed=1)
    blur = Blur(torch.tensor(psf)[None], shape)
    found = blur.forward(grown(torch.tensor(image)[None, None], blur.full))[0, 0].numpy()
    start = [side // 2 for side in sides]
    whole = fftconvolve(image, psf, mode="full")
    expected = whole[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize(("shape", "sides"), CASES)
def test_the_adjoint_is_one(shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    psfs = torch.tensor(some(2, *sides))
    blur = Blur(psfs, shape)
    x, y = torch.tensor(some(2, 1, *blur.full)), torch.tensor(some(2, 1, *shape, seed=1))
    there, back = (blur.forward(x) * y).sum(), (x * blur.adjoint(y)).sum()
    assert float(there) == pytest.approx(float(back), rel=1e-12)


def test_each_image_has_its_psf() -> None:
    """A smaller PSF lies in the middle of the box of a larger one."""
    point = torch.zeros(3, 3, dtype=torch.float32)
    point[1, 2] = 1  # one voxel to the right
    psfs = boxed([point, torch.full((5, 4), 1 / 20)])
    blur = Blur(psfs, (6, 7))
    image = torch.tensor(some(6, 7), dtype=torch.float32)
    found = blur.forward(grown(image.expand(2, 1, 6, 7), blur.full))
    assert torch.allclose(found[0, 0, :, 1:], image[:, :-1], atol=1e-6)
    assert not torch.allclose(found[1, 0, :, 1:], image[:, :-1], atol=0.1)


def test_what_goes_on_behind_the_end_comes_back_to_the_beginning() -> None:
    image = torch.tensor(some(4, 5))
    found = continued(image, (8, 5))
    assert torch.equal(found[:4], image)
    steps = torch.diff(torch.cat([found[3:], found[:1]]), dim=0)
    assert torch.allclose(steps, steps[:1].expand_as(steps))


def test_blurred_again_a_flat_output_is_flat_up_to_its_edges() -> None:
    psf = torch.tensor(some(1, 5, 7), dtype=torch.float32)
    found = blurred_again(torch.ones(1, 1, 8, 9), psf / psf.sum())
    assert torch.allclose(found, torch.ones(1, 1, 8, 9), atol=1e-6)
