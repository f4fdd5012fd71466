"""The U-Net: CSBDeep's layers, any size, and a reach that is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_deconv.learned import unet
from napari_deconv.learned.unet import UNet, pools_for

CUBES = ((2, 2, 2), (2, 2, 2))


def parameters(net: UNet) -> int:
    return sum(values.numel() for values in net.parameters())


def test_it_has_the_parameters_of_csbdeep() -> None:
    assert parameters(UNet(CUBES)) == 996_769
    assert parameters(UNet(CUBES, laplace=True)) == 996_769 + 33


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 9, 4), (7, 16, 13), (3, 1, 1)])
def test_any_size_comes_back(shape: tuple[int, ...]) -> None:
    net = UNet(pools_for((0.3, 0.1, 0.1), 2), channels=3, first=4, laplace=True)
    out = net(torch.rand(2, 3, *shape))
    assert out.shape == (2, 2, *shape)
    assert bool((out[:, 1] >= 1e-3).all())
    flat = UNet(((2, 2), (2, 2)), first=4, kernel=5)
    assert flat(torch.rand(1, 1, *shape[1:])).shape == (1, 1, *shape[1:])


@pytest.mark.parametrize("shape", [(1, 5, 7), (6, 33, 40)])
def test_it_restores_as_it_is_trained(shape: tuple[int, ...]) -> None:
    """Where nothing is learned, another routine convolves."""
    net = UNet(pools_for((0.3, 0.1, 0.1), 2), channels=3, first=8).eval()
    torch.nn.init.normal_(net.last.weight)
    x = torch.rand(1, 3, *shape).to(memory_format=torch.channels_last_3d)
    trained = net(x).detach()
    with torch.inference_mode():
        assert net(x) == pytest.approx(trained.numpy(), abs=1e-4 * float(trained.abs().max()))


def test_without_weights_it_returns_its_first_channel() -> None:
    net = UNet(CUBES, channels=2, first=4)
    for values in net.parameters():
        torch.nn.init.zeros_(values)
    x = torch.rand(1, 2, 5, 6, 7)
    assert torch.equal(net(x), x[:, :1])


@pytest.mark.parametrize("spacing", [(0.1, 0.1, 0.1), (0.3, 0.1, 0.1)])
def test_no_voxel_beyond_the_halo_matters(spacing: tuple[float, ...]) -> None:
    """And some voxel near its end does: a looser halo would cost time."""
    torch.manual_seed(0)
    net = UNet(pools_for(spacing, 2), first=2).double()
    for values in net.parameters():  # all paths open
        torch.nn.init.uniform_(values, 0.01, 0.1)
    sizes = tuple(2 * reach + 8 for reach in net.halo)
    x = torch.rand(1, 1, *sizes, dtype=torch.float64, requires_grad=True)
    seen = np.zeros(sizes, bool)
    for offset in range(4):  # each phase of the pooling's grid
        middle = tuple(reach + 4 + offset % 4 for reach in net.halo)
        (gradient,) = torch.autograd.grad(net(x)[(0, 0, *middle)], x)
        lit = np.argwhere(gradient[0, 0].numpy() != 0)
        far = np.abs(lit - middle).max(0)
        assert (far <= net.halo).all()
        seen |= gradient[0, 0].numpy() != 0
        if offset == 0:
            farthest = far
        farthest = np.maximum(farthest, far)
    assert (farthest >= np.array(net.halo) - 2).all()


def test_pieces_on_the_grid_are_the_whole() -> None:
    torch.manual_seed(1)
    net = UNet(pools_for((0.2, 0.1, 0.1), 2), first=3).double()
    torch.nn.init.normal_(net.last.weight)  # else it adds nothing
    x = torch.rand(1, 1, 8, 96, 24, dtype=torch.float64)
    start = 32 - -(-net.halo[1] // 4) * 4
    stop = 64 + net.halo[1]
    with torch.no_grad():
        whole, piece = net(x), net(x[:, :, :, start:stop])
    kept = piece[:, :, :, 32 - start : 64 - start]
    assert float((whole - x).abs().max()) > 0.01
    assert float((kept - whole[:, :, :, 32:64]).abs().max()) < 1e-12


@pytest.mark.parametrize("upsampling", ["nearest", "linear"])
@pytest.mark.parametrize("shape", [(7, 23, 61), (6, 50, 13), (29, 3, 5), (1, 1, 40), (2, 3, 1)])
@pytest.mark.parametrize("rows", [1, 12, 1000])
def test_parts_are_the_whole(
    shape: tuple[int, ...], rows: int, upsampling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows along the longest axis, each once, however many are taken at a time."""
    torch.manual_seed(2)
    net = UNet(
        pools_for((0.2, 0.1, 0.1), 2),
        channels=4,
        first=3,
        laplace=True,
        mixed=2,
        upsampling=upsampling,
        stabilized=True,
    ).eval()
    torch.nn.init.normal_(net.last.weight)  # else it adds nothing
    longest = int(np.argmax(shape))
    monkeypatch.setattr(unet, "ROWS_BYTES", 12 * rows * int(np.prod(shape)) // shape[longest])
    x = torch.rand(1, 4, *shape)
    with torch.inference_mode():
        whole, found = net(x), torch.full((1, 2, *shape), np.nan)
        count = 0
        for place, part in net.in_parts(x):
            assert bool(found[place].isnan().all())
            found[place] = part
            count += 1
    assert count <= net.parts(shape)
    assert found.numpy() == pytest.approx(whole.numpy(), abs=1e-5 * float(whole.abs().max()))


def test_parts_of_flat_networks_with_wide_kernels_are_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As CSBDeep has them in 2D."""
    torch.manual_seed(3)
    net = UNet(((2, 2), (2, 2)), first=4, kernel=5, residual=False).eval()
    torch.nn.init.normal_(net.last.weight)
    monkeypatch.setattr(unet, "ROWS_BYTES", 16 * 40 * 8)
    x = torch.rand(1, 1, 97, 40)
    with torch.inference_mode():
        parts = list(net.in_parts(x))
        assert len(parts) > 5
        whole, found = net(x), torch.cat([part for _, part in parts], dim=2)
    assert found.numpy() == pytest.approx(whole.numpy(), abs=1e-5 * float(whole.abs().max()))
