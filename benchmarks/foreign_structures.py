"""A trained network and Richardson-Lucy on structures that are, and are not, like its training.

    python benchmarks/foreign_structures.py [MODEL] [--photons 20 100 1000] [--volumes 4]

MODEL is a file, or the name of a model; `widefield_inverse`, which comes with the package, where
not given. Volumes of 40 x 96 x 96 voxels, of seeds of their own: of the kinds that the model was
trained on; boxes, solid and hollow, grids, meshes of fibres and single voxels, drawn in another way
than those of a training; and what no training holds: gyroids, stars of wedges, bars, letters, and a
real cell, that of the light-sheet sample.
By how many dB the network alone is ahead of Richardson-Lucy with its automatic stop (PSNR after the
best scale and offset, its range that of the truth), the mean and the least; and the same of the
cautious one, which leans on Richardson-Lucy by how much light there is. "Doubted" are those of
which its record says that they lie outside of the training.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.engines import open_engine
from napari_deconv.files.samples import real_psf, real_stack
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.quality import psnr
from napari_deconv.learned.caution import OUTSIDE
from napari_deconv.learned.network import Learned
from napari_deconv.learned.pairs import Pair, simulated_pair
from napari_deconv.library import resolve
from napari_deconv.psf_sources import psf_of_file
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

TRAINED = "as trained on"
SHAPE, BACKGROUND = (40, 96, 96), 10.0
#: Draws that nothing was chosen on.
SEED = 97531
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


def gyroid(random: np.random.Generator) -> Double:
    """Return a sheet without edges that fills the volume, of 1 to 3 periods a side."""
    turns = 2 * np.pi * random.uniform(1, 3) / SHAPE[-1]
    z, y, x = (np.arange(n) * step for n, step in zip(SHAPE, (2, 1, 1), strict=True))
    z, y, x = np.meshgrid(z * turns, y * turns, x * turns, indexing="ij")
    level = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    return np.asarray(np.exp(-((level / random.uniform(0.1, 0.3)) ** 2)))


def star(random: np.random.Generator) -> Double:
    """Return wedges around an axis, in a cylinder, finer and finer towards it."""
    centre = [random.uniform(0.3, 0.7) * n for n in SHAPE[1:]]
    y, x = (np.arange(n) - c for n, c in zip(SHAPE[1:], centre, strict=True))
    angle, radius = np.arctan2(y[:, None], x), np.hypot(y[:, None], x)
    wedges = (np.sin(int(random.integers(8, 20)) * angle) > 0) & (radius < 40)
    truth = np.zeros(SHAPE)
    truth[10:30] = wedges
    return truth


def mesh(random: np.random.Generator) -> Double:
    """Return straight fibres, one voxel wide, from border to border in all directions."""
    truth = np.zeros(SHAPE)
    way = np.linspace(-140, 140, 1121)[:, None]
    for _ in range(60):
        middle, towards = random.uniform(0, SHAPE), random.normal(size=3) * (0.5, 1, 1)
        points = np.rint(middle + way * towards / np.linalg.norm(towards)).astype(int)
        inside = np.all((points >= 0) & (points < SHAPE), axis=1)
        truth[tuple(points[inside].T)] = 1
    return truth


def dots(random: np.random.Generator) -> Double:
    """Return single voxels, the brightest ten times as bright as the dimmest."""
    truth = np.zeros(SHAPE)
    for _ in range(30):
        truth[tuple(random.integers(0, SHAPE))] = random.uniform(0.1, 1)
    return truth


def bars(random: np.random.Generator) -> Double:
    """Return bars beside each other, from 12 voxels wide down to 2."""
    truth, start = np.zeros(SHAPE), 4
    for width in (12, 8, 6, 4, 3, 2, 2):
        truth[8:32, 12:84, start : start + width] = random.uniform(0.5, 1)
        start += 2 * width
    return truth


def letters(random: np.random.Generator) -> Double:
    """Return flat letters, L, F, T and H, of strokes of 1 to 3 voxels."""
    truth = np.zeros(SHAPE)
    for number in range(12):
        sides = [int(random.integers(low, high)) for low, high in ((1, 5), (8, 20), (6, 13))]
        start = [int(random.integers(0, n - side)) for n, side in zip(SHAPE, sides, strict=True)]
        place = tuple(slice(s, s + side) for s, side in zip(start, sides, strict=True))
        truth[place] += random.uniform(0.4, 1) * letter("LFTH"[number % 4], *sides[1:], random)
    return truth


def letter(name: str, high: int, wide: int, random: np.random.Generator) -> Double:
    drawn, stroke = np.zeros((high, wide)), int(random.integers(1, 4))
    middle = slice((high - stroke) // 2, (high + stroke) // 2)
    centre = slice((wide - stroke) // 2, (wide + stroke) // 2)
    strokes = {
        "L": (np.s_[:, :stroke], np.s_[-stroke:]),
        "F": (np.s_[:, :stroke], np.s_[:stroke], np.s_[middle]),
        "T": (np.s_[:stroke], np.s_[:, centre]),
        "H": (np.s_[:, :stroke], np.s_[:, -stroke:], np.s_[middle]),
    }
    for place in strokes[name]:
        drawn[place] = 1
    return drawn


def cell(random: np.random.Generator) -> Double:
    """Return a part of a real cell, the restored light-sheet sample, mirrored at random."""
    whole = restored_cell()
    start = [
        int(random.integers(0, n - side + 1)) for n, side in zip(whole.shape, SHAPE, strict=True)
    ]
    part = whole[tuple(slice(s, s + side) for s, side in zip(start, SHAPE, strict=True))]
    return np.flip(part, [axis for axis in range(3) if random.uniform() < 0.5])


@cache
def restored_cell() -> Double:
    stack = real_stack()
    psf = psf_of_file(real_psf(), stack.grid)
    counts = np.asarray(stack.data, np.float32)
    observation = observe(counts, psf, float(np.percentile(counts, 5)))
    *_, last = RichardsonLucy(15).steps(observation, open_engine("cpu"))
    return np.asarray(last.estimate, np.float64)


FOREIGN = {
    "boxes": boxes,
    "grid": grid,
    "gyroid": gyroid,
    "star": star,
    "mesh": mesh,
    "dots": dots,
    "bars": bars,
    "letters": letters,
    "cell": cell,
}


def imaged(truth: Double, psf: Psf, photons: float, random: np.random.Generator) -> Pair:
    """Return an object as a camera sees it, `photons` in the brightest voxel."""
    from scipy.signal import fftconvolve

    blurred = np.maximum(fftconvolve(truth, psf.samples, mode="same"), 0)
    factor = photons / blurred.max()
    counts = Camera().recorded(blurred * factor + BACKGROUND, random)
    return Pair(counts.astype(np.float32), (truth * factor).astype(np.float32), BACKGROUND, photons)


def leads(path: str, pair: Pair, psf: Psf, engine: Any) -> tuple[float, float, bool]:
    """Return the lead of the network alone, and of the cautious one, and whether it doubts."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    *_, ours = Learned(path).steps(observation, engine)
    *_, automatic = RichardsonLucy.automatic().steps(observation, engine)
    usual = psnr(automatic.estimate, pair.truth, fit=True)
    *_, cautious = Learned(path, cautious=True).steps(observation, engine)
    return (
        psnr(ours.estimate, pair.truth, fit=True) - usual,
        psnr(cautious.estimate, pair.truth, fit=True) - usual,
        OUTSIDE in cautious.note,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="widefield_inverse")
    parser.add_argument("--photons", type=float, nargs="+", default=(20.0, 100.0, 1000.0))
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument(
        "--only", nargs="+", default=[TRAINED, *FOREIGN], choices=[TRAINED, *FOREIGN]
    )
    options = parser.parse_args()
    path, engine = str(resolve(options.model)), open_engine("cpu")
    model = Learned(path).model
    print("| structures | photons | network alone, dB (least) | cautious, dB (least) | doubted |")
    print("|---" * 5 + "|")
    for name in options.only:
        for photons in options.photons:
            light = replace(model.card.light, photons=(photons, photons))
            found = []
            for number in range(options.volumes):
                psf = model.psfs[number % len(model.psfs)]
                random = np.random.default_rng((SEED, int(photons), number))
                pair = (
                    imaged(FOREIGN[name](random), psf, photons, random)
                    if name in FOREIGN
                    else simulated_pair(SHAPE, psf, light, random)
                )
                found.append(leads(path, pair, psf, engine))
            *leading, doubted = np.array(found).T
            mean, least = np.mean(leading, axis=1), np.min(leading, axis=1)
            cells = [f"{m:+.1f} ({low:+.1f})" for m, low in zip(mean, least, strict=True)]
            told = f"{doubted.mean():.0%}"
            print(f"| {name} | {photons:g} | {' | '.join([*cells, told])} |", flush=True)


if __name__ == "__main__":
    main()
