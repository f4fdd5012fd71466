"""How fast a trained network restores, without what is undone before it.

    python benchmarks/network_speed.py [--shape 32 512 512] [--channels 16] [--device cuda]

A U-Net of 16 first channels (6 channels in, as the inverse one has, pooled as for planes twice as
far apart as pixels) runs over an image on one core: as `predict` does it, row by row in as few
blocks as the memory allows; in one piece; and by a plain loop over tiles of 128 x 128 pixels with
48 around each, as other tools overlap. Thousand voxels of the image a second
of one core, or of a GPU, the median of three rounds, taken in turn after one that is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_deconv.imaging.psf import Psf
from napari_deconv.learned.answering import Answering
from napari_deconv.learned.blocks import blocks_of
from napari_deconv.learned.designs import UNetDesign
from napari_deconv.learned.inputs import INVERSE_CHANNELS
from napari_deconv.learned.nets import exact_convolutions
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.stepping import ended

TILE, OVERLAP, ROUNDS = 128, 48, 3


def by_blocks(network: Any, inputs: torch.Tensor, device: torch.device) -> np.ndarray:
    """Run as `predict` does."""
    psf = Psf(np.ones((1, 1, 1)))
    observation = observe(np.ones(inputs.shape[1:], np.float32), psf)
    answering = Answering([network], psf, device, mirrored=False, settings=None)
    result = np.empty(inputs.shape[1:], np.float32)
    for block in blocks_of(observation, network, answering.volumes(len(inputs))):
        (answer,) = ended(answering(inputs, block))
        result[block.keep] = answer[0]
    network.to(memory_format=torch.contiguous_format)
    return result


def whole(network: Any, inputs: torch.Tensor, device: torch.device) -> np.ndarray:
    with torch.inference_mode(), exact_convolutions():
        return network(inputs[None].to(device))[0, 0].cpu().numpy()


def by_plain_tiles(network: Any, inputs: torch.Tensor, device: torch.device) -> np.ndarray:
    """Run over tiles with a fixed overlap, all planes in each."""
    result = np.empty(inputs.shape[1:], np.float32)
    with torch.inference_mode(), exact_convolutions():
        for y in range(0, inputs.shape[2], TILE):
            for x in range(0, inputs.shape[3], TILE):
                low = [max(start - OVERLAP, 0) for start in (y, x)]
                piece = inputs[None, :, :, low[0] : y + TILE + OVERLAP, low[1] : x + TILE + OVERLAP]
                out = network(piece.to(device))[0, 0, :, y - low[0] :, x - low[1] :]
                result[:, y : y + TILE, x : x + TILE] = out[:, :TILE, :TILE].cpu().numpy()
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, default=(32, 512, 512))
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pools = ((1, 2, 2), (2, 2, 2))
    network = UNetDesign(INVERSE_CHANNELS, pools, first=options.channels, mixed=4).network().eval()
    network.to(options.device)
    for values in network.parameters():  # the last layer would be 0 at the start
        torch.nn.init.normal_(values, 0, 0.05)
    inputs = torch.rand(len(INVERSE_CHANNELS), *options.shape)
    ways: dict[str, Callable[[Any, torch.Tensor, torch.device], np.ndarray]] = {
        "as predict does": by_blocks,
        "one piece": whole,
        f"plain loop, {OVERLAP} around": by_plain_tiles,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for number in range(1 + ROUNDS):
        for name, run in ways.items():
            started = time.perf_counter()
            results[name] = run(network, inputs, options.device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    size = "x".join(map(str, options.shape))
    print(
        f"{size}, {options.channels} first channels, halo {network.halo}, {options.device}, torch",
        torch.__version__,
    )
    print("| way | kvoxel a second | times the plain loop |")
    print("|---|---|---|")
    rates = {
        name: np.prod(options.shape) / 1e3 / statistics.median(taken)
        for name, taken in seconds.items()
    }
    *_, plain = rates
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / rates[plain]:.2f} |")
    apart = np.abs(results["as predict does"] - results["one piece"]).max()
    print(f"largest difference of the blocks from one piece: {apart:.1e}")


if __name__ == "__main__":
    main()
