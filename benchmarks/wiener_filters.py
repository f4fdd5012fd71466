"""Deep Wiener-Kolmogorov filters in 2D with small PSFs, in the manner of their paper.

    python benchmarks/wiener_filters.py [--steps 600] [--images 6] [--smooth 3]

Pronina et al. (ECCV 2020, arXiv 1911.10989) train on microscope images blurred by PSFs of 5 x 5 to
13 x 13 pixels, with Poisson noise of peak 1 to 50. Their images are not part of this repository:
here they are simulated structures, sharp, or with --smooth as a microscope sees them before the
small PSF of the test blurs them again: by a Gaussian of so many pixels. Gaussian PSFs of other
widths than those of the training are used to test, and other images. Richardson-Lucy is stopped at
its best with the truth, image by image. PSNR in dB over the peak of the truth, without any fit, as
in the paper; their table is printed beside, and its rows depend on their images as these do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.structures import OF_CELLS, structures
from napari_deconv.learned.calibration import outputs_of
from napari_deconv.learned.designs import DESIGNS, Design
from napari_deconv.learned.model_file import Model
from napari_deconv.learned.pairs import Light, Pair, simulated_pair
from napari_deconv.learned.samples import Sample, sample_of
from napari_deconv.learned.trainer import Schedule
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended

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
LIGHT = Light((PEAKS[0], PEAKS[-1]), (0.0, 0.0), 0.0, OF_CELLS)
#: Pixels around an image that light comes from.
BEYOND = 20


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


@dataclass(frozen=True)
class Images:
    """What is imaged: structures, smooth by so many pixels."""

    smooth: float

    def pair(self, psf: Psf, random: np.random.Generator, peak: float) -> Pair:
        """Return counts and the truth; the peak is of the blurred image, or of a smooth one."""
        if not self.smooth:
            return simulated_pair(SHAPE, psf, LIGHT, random, photons=peak)
        larger = tuple(n + 2 * BEYOND for n in SHAPE)
        truth = gaussian_filter(structures(larger, (0.1, 0.1), random, OF_CELLS), self.smooth)
        blurred = np.maximum(fftconvolve(truth, psf.samples, mode="same"), 0)
        inside = (slice(BEYOND, -BEYOND),) * len(SHAPE)
        factor = peak / truth[inside].max()
        counts = random.poisson(blurred[inside] * factor).astype(np.float32)
        return Pair(counts, (truth[inside] * factor).astype(np.float32), 0.0, peak)

    def samples(self, design: Design, count: int, engine: Any) -> Iterator[Sample]:
        """Yield what a network learns from."""
        for number in range(count):
            psf, random = TRAINED[number % len(TRAINED)], np.random.default_rng((5, number))
            peak = float(np.exp(random.uniform(*np.log(LIGHT.photons))))
            yield sample_of(self.pair(psf, random, peak), psf, design, engine)


def trained(network: str, images: Images, steps: int, engine: Any) -> Model:
    schedule = Schedule(pairs=64, left_out=8, steps=steps)
    pairs, design = schedule.pairs + schedule.left_out, DESIGNS[network](TRAINED[0])
    samples = images.samples(design, pairs, engine) if images.smooth else None
    started = time.perf_counter()
    lesson = learning.train(TRAINED, LIGHT, schedule, engine, network=network, samples=samples)
    model: Model = ended(lesson)
    count = sum(values.numel() for values in model.network.parameters())
    seconds = time.perf_counter() - started
    print(f"{network}: {count} parameters, {model.card.steps} steps, {seconds:.0f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--smooth", type=float, default=0.0)
    options = parser.parse_args()
    learning.PAIR_2D = learning.PATCH_2D = SHAPE
    engine, images = open_engine("cpu"), Images(options.smooth)
    torch.manual_seed(0)
    models = {name: trained(name, images, options.steps, engine) for name in NETWORKS}
    print("\n| peak | input | RL, best | WF-K | WF-KPN | WF-UNet | theirs: input | WF-K | WF-KPN |")
    print("|---" * 9 + "|")
    for peak in PEAKS:
        rows = []
        for number in range(options.images):
            psf = TESTED[number % len(TESTED)]
            pair = images.pair(psf, np.random.default_rng((4321, int(peak), number)), peak)
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
