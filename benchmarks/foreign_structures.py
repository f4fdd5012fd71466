"""A trained network and Richardson-Lucy on structures that are, and are not, like its training.

    python benchmarks/foreign_structures.py [MODEL] [--photons 20 100 1000] [--volumes 4]

MODEL is a file, or the name of a model; `widefield_inverse`, which comes with the package, where
not given. Volumes of 40 x 96 x 96 voxels, of seeds of their own: of the kinds that the model was
trained on; and boxes, solid and hollow, and grids, which are no kind of the trainings. By how many
dB the network is ahead of Richardson-Lucy with its automatic stop (PSNR after the best scale and
offset, its range that of the truth), the mean and the least; and the same of a mixture of one part
of the network and three of Richardson-Lucy.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.quality import psnr
from napari_deconv.learned.network import Learned
from napari_deconv.learned.pairs import Pair, simulated_pair
from napari_deconv.library import resolve
from napari_deconv.restoration.restorer import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHAPE, BACKGROUND, SHARE = (40, 96, 96), 10.0, 0.25
Double = npt.NDArray[np.float64]


def boxes(random: np.random.Generator) -> Double:
    """Return boxes of 3 to 13 voxels a side, half of them hollow."""
    truth = np.zeros(SHAPE)
    for number in range(14):
        sides = random.integers(3, 14, 3)
        start = [int(random.integers(0, n - side)) for n, side in zip(SHAPE, sides, strict=True)]
        wall = number % 2
        for thinner, light in ((0, random.uniform(0.3, 1)), (wall, -np.inf)):
            inner = tuple(
                slice(s + thinner, s + side - thinner) for s, side in zip(start, sides, strict=True)
            )
            if thinner or light > 0:
                truth[inner] = np.maximum(truth[inner] + light, 0)
    return truth


def grid(random: np.random.Generator) -> Double:
    """Return walls along two axes between two planes, on dim planes."""
    step = int(random.integers(8, 16))
    truth = np.zeros(SHAPE)
    truth[::8] = 0.2
    truth[10:30, ::step] += 1
    truth[10:30, :, ::step] += 1
    return truth


FOREIGN = {"boxes": boxes, "grid": grid}


def imaged(truth: Double, psf: Psf, photons: float, random: np.random.Generator) -> Pair:
    """Return an object as a camera sees it, `photons` in the brightest voxel."""
    from scipy.signal import fftconvolve

    blurred = np.maximum(fftconvolve(truth, psf.samples, mode="same"), 0)
    factor = photons / blurred.max()
    counts = random.poisson(blurred * factor + BACKGROUND) + random.normal(0, 1, SHAPE)
    return Pair(counts.astype(np.float32), (truth * factor).astype(np.float32), BACKGROUND, photons)


def leads(path: str, pair: Pair, psf: Psf, engine: Any) -> tuple[float, float]:
    """Return the lead of the network, and of the mixture, over Richardson-Lucy."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    *_, ours = Learned(path).steps(observation, engine)
    *_, automatic = RichardsonLucy.automatic().steps(observation, engine)
    usual = psnr(automatic.estimate, pair.truth, fit=True)
    mixed = SHARE * ours.estimate + (1 - SHARE) * automatic.estimate
    return (
        psnr(ours.estimate, pair.truth, fit=True) - usual,
        psnr(mixed, pair.truth, fit=True) - usual,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="widefield_inverse")
    parser.add_argument("--photons", type=float, nargs="+", default=(20.0, 100.0, 1000.0))
    parser.add_argument("--volumes", type=int, default=4)
    options = parser.parse_args()
    path, engine = str(resolve(options.model)), open_engine("cpu")
    model = Learned(path).model
    print("| structures | photons | network, dB (least) | mixture, dB (least) |")
    print("|---|---|---|---|")
    for name in ("as trained on", *FOREIGN):
        for photons in options.photons:
            light = replace(model.card.light, photons=(photons, photons))
            found = []
            for number in range(options.volumes):
                psf = model.psfs[number % len(model.psfs)]
                random = np.random.default_rng((13579, int(photons), number))
                pair = (
                    imaged(FOREIGN[name](random), psf, photons, random)
                    if name in FOREIGN
                    else simulated_pair(SHAPE, psf, light, random)
                )
                found.append(leads(path, pair, psf, engine))
            mean, least = np.mean(found, axis=0), np.min(found, axis=0)
            cells = [f"{m:+.1f} ({low:+.1f})" for m, low in zip(mean, least, strict=True)]
            print(f"| {name} | {photons:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
