"""Deep Wiener-Kolmogorov filters in 2D with small PSFs, in the manner of their paper.

    python benchmarks/wiener_filters.py [--steps 600] [--images 6]

Pronina et al. (ECCV 2020, arXiv 1911.10989) train on microscope images blurred by PSFs of 5 x 5 to
13 x 13 pixels, with Poisson noise of peak 1 to 50. Their images are not part of this repository:
here they are simulated structures, so the PSNR of a row cannot be compared with theirs; what can
is the order of the methods at each peak. Gaussian PSFs of other widths than those of the training
are used to test, and other images. Richardson-Lucy is stopped at its best with the truth, image by
image. PSNR in dB over the peak of the truth, without any fit, as in the paper; their table is
printed beside.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.structures import OF_CELLS
from napari_deconv.learned.calibration import outputs_of
from napari_deconv.learned.model_file import Model
from napari_deconv.learned.pairs import Light, simulated_pair
from napari_deconv.learned.samples import sample_of
from napari_deconv.restoration.restorer import ended, observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

PEAKS = (1.0, 5.0, 10.0, 25.0, 50.0)
#: As published: input, WF-K, WF-KPN, WF-UNet.
PUBLISHED = {
    1.0: (10.93, 25.99, 27.35, 29.05),
    5.0: (16.67, 30.10, 30.18, 31.90),
    10.0: (19.45, 31.30, 31.59, 33.14),
    25.0: (23.21, 32.25, 33.37, 34.69),
    50.0: (26.00, 32.64, 34.61, 35.83),
}
SHAPE, NETWORKS = (128, 128), ("wiener", "wiener-kpn", "wiener-unet")


def gaussian(width: float, side: int) -> Psf:
    y, x = np.mgrid[:side, :side] - side // 2
    return Psf(np.exp(-(y**2 + x**2) / (2 * width**2)), (0.1, 0.1))


TRAINED = [gaussian(width, side) for width, side in ((0.8, 5), (1.1, 7), (1.5, 9), (2.0, 13))]
TESTED = [gaussian(width, side) for width, side in ((0.9, 5), (1.3, 9), (1.8, 11))]


def psnr(estimate: Any, truth: Any) -> float:
    peak = float(truth.max())
    return float(10 * np.log10(peak**2 / np.mean((np.maximum(estimate, 0) - truth) ** 2)))


def best_of_richardson_lucy(pair: Any, psf: Psf, engine: Any) -> float:
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    steps = RichardsonLucy(200, "none").steps(observation, engine)
    looked = (step for step in steps if step.peek is not None or step.estimate is not None)
    return max(
        psnr(step.estimate if step.estimate is not None else step.peek(), pair.truth)
        for step in looked
    )


def trained(network: str, light: Light, steps: int, engine: Any) -> Model:
    schedule = replace(learning.schedule_of("quick"), pairs=64, left_out=8, steps=steps)
    started = time.perf_counter()
    model: Model = ended(learning.train(TRAINED, light, schedule, engine, network=network))
    count = sum(values.numel() for values in model.network.parameters())
    seconds = time.perf_counter() - started
    print(f"{network}: {count} parameters, {model.card.steps} steps, {seconds:.0f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args()
    learning.PAIR_2D = learning.PATCH_2D = SHAPE
    engine = open_engine("cpu")
    light = Light((PEAKS[0], PEAKS[-1]), (0.0, 0.0), 0.0, OF_CELLS)
    torch.manual_seed(0)
    models = {name: trained(name, light, options.steps, engine) for name in NETWORKS}
    print("\n| peak | input | RL, best | WF-K | WF-KPN | WF-UNet | theirs: input | WF-K | WF-KPN |")
    print("|---" * 9 + "|")
    for peak in PEAKS:
        rows = []
        for number in range(options.images):
            psf = TESTED[number % len(TESTED)]
            random = np.random.default_rng((4321, int(peak), number))
            pair = simulated_pair(SHAPE, psf, light, random, photons=peak)
            found = [psnr(pair.counts, pair.truth), best_of_richardson_lucy(pair, psf, engine)]
            for model in models.values():
                sample = sample_of(pair, psf, model.card.design, engine)
                image, _ = outputs_of(model.networks, sample)
                found.append(psnr(image * sample.bright, pair.truth))
            rows.append(found)
        ours = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))
        theirs = " | ".join(f"{value:.2f}" for value in PUBLISHED[peak][:3])
        print(f"| {peak:g} | {ours} | {theirs} |", flush=True)


if __name__ == "__main__":
    main()
