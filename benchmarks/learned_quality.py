"""Networks trained by a preset, held against Richardson-Lucy that was stopped at its best.

    python benchmarks/learned_quality.py [--preset quick] [--steps N] [--photons 20 100 1000]
        [--volumes 4] [--folder DIR]

The PSF is a widefield one of 31 x 31 x 31 voxels (NA 1.2, 520 nm, water). As a user would, one
network is trained for the light of each stack, from a quarter to four times its photons, on all
kinds of structure but filaments. The volumes, 40 x 128 x 128, are of other seeds: once of the kinds
that it was trained on, and once of filaments, which it has never seen.

PSNR against the truth after the best scale and offset, its peak the brightest voxel of the truth,
mean over the volumes. The iterations of Richardson-Lucy (plain, up to 240) and of the smoothed one
(up to 80) are chosen with the truth, volume by volume, which nobody can; "automatic" is the one
that the docks run, which stops by itself. "Gain" is the network's lead over the better of the two
that were chosen with the truth, and the least of it. The trainings are timed from the PSF to the
model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.engines import open_engine
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.structures import KINDS
from napari_deconv.learned.model_file import Model, read_model, write_model
from napari_deconv.learned.network import Learned
from napari_deconv.learned.pairs import Light, Pair, simulated_pair
from napari_deconv.learned.training import PRESETS, Schedule, inverse_design, training
from napari_deconv.restoration.restorer import ended, observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHAPE, PHOTONS, MOST = (40, 128, 128), (20.0, 100.0, 1000.0), 240
WITHOUT = "filaments"


def psf_of_benchmark() -> Psf:
    optics = Optics(na=1.2, emission_nm=520, immersion_index=1.333)
    return compute_psf(optics, Grid(spacing_um=(0.2, 0.1, 0.1)), (31, 31, 31))


def psnr(estimate: Any, truth: Any) -> float:
    x, y = estimate.ravel().astype(np.float64), truth.ravel().astype(np.float64)
    design = np.stack([x, np.ones_like(x)], 1)
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    peak = y.max()
    return float(10 * np.log10(peak**2 / np.mean((fitted - y) ** 2)))


def best_of(method: RichardsonLucy, pair: Pair, psf: Psf, engine: Any) -> float:
    """Return the best PSNR over some iterations on the way."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    best = -np.inf
    for step in method.steps(observation, engine):
        wanted = step.done in (5, 8, 12, 18, 26, 40, 60, 90, 130, 180, 240)
        if step.estimate is not None or (wanted and step.peek is not None):
            found = step.estimate if step.estimate is not None else step.peek()
            best = max(best, psnr(found, pair.truth))
    return best


def pairs(psf: Psf, light: Light, photons: float, count: int) -> Iterator[Pair]:
    for number in range(count):
        random = np.random.default_rng((987654, int(photons), number))
        yield simulated_pair(SHAPE, psf, light, random, photons=photons)


def trained(psf: Psf, light: Light, schedule: Schedule, path: Path, engine: Any) -> Model:
    if path.exists():
        return read_model(path)
    started = time.perf_counter()
    design = inverse_design(psf)
    model: Model = ended(training(psf, light, design, schedule, engine, name=path.stem))
    write_model(path, model)
    seconds = time.perf_counter() - started
    print(f"{path.stem}: {model.card.steps} steps, {seconds:.0f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="quick", choices=list(PRESETS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--photons", type=float, nargs="+", default=PHOTONS)
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("learned_quality"))
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    engine, psf = open_engine("cpu"), psf_of_benchmark()
    schedule = PRESETS[options.preset]
    if options.steps is not None:
        schedule = replace(schedule, steps=options.steps)
    rows = []
    for photons in options.photons:
        others = tuple(kind for kind in KINDS if kind != WITHOUT)
        light = Light((photons / 4, 4 * photons), (5.0, 15.0), 1.0, others)
        path = options.folder / f"{options.preset}-{photons:g}.safetensors"
        trained(psf, light, schedule, path, engine)
        network = Learned(str(path.resolve()))
        for name, kinds in (("as trained on", others), (f"{WITHOUT}, never seen", (WITHOUT,))):
            asked = replace(light, kinds=kinds)
            found = [
                measured(network, pair, psf, engine)
                for pair in pairs(psf, asked, photons, options.volumes)
            ]
            raw, best, smooth, automatic, ours = np.mean(found, axis=0)
            gains = [row[4] - max(row[1], row[2]) for row in found]
            rows.append(
                f"| {name} | {photons:g} | {raw:.1f} | {best:.1f} | {smooth:.1f} | "
                f"{automatic:.1f} | {ours:.1f} | {np.mean(gains):+.1f} ({min(gains):+.1f}) |"
            )
            print(rows[-1], flush=True)
    print(
        "\n| structures | photons | raw | RL, best | RL-TV 0.01, best | RL, automatic | network "
        "| gain (least) |"
    )
    print("|---" * 8 + "|")
    print("\n".join(rows))


def measured(network: Learned, pair: Pair, psf: Psf, engine: Any) -> tuple[float, ...]:
    """Return the PSNR of the raw image, both at their best, the automatic one, and the network."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    *_, ours = network.steps(observation, engine)
    *_, automatic = RichardsonLucy(stop_tolerance=1e-3).steps(observation, engine)
    return (
        psnr(pair.counts, pair.truth),
        best_of(RichardsonLucy(MOST, "none"), pair, psf, engine),
        best_of(RichardsonLucy(80, "none", tv_weight=0.01), pair, psf, engine),
        psnr(automatic.estimate, pair.truth),
        psnr(ours.estimate, pair.truth),
    )


if __name__ == "__main__":
    main()
