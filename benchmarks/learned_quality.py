"""Networks trained by a preset, held against Richardson-Lucy that was stopped at its best.

    python benchmarks/learned_quality.py [--preset quick] [--photons 20 100 1000]
        [--volumes 8] [--foreign 4] [--psf widefield | bead.tif] [--folder DIR]

The PSF is a widefield one of 31 x 31 x 31 voxels (NA 1.2, 520 nm, water), or the image of a bead.
As a user would, one network is trained for the light of each stack, from a quarter to four times
its photons, from the network that comes with the package. The volumes, 40 x 128 x 128, are of other
seeds; and those "never seen", 40 x 96 x 96, are of gyroids, stars and a real cell, in turn (see
foreign_structures.py).

PSNR and SSIM against the truth after the best scale and offset, their range that of the truth,
mean over the volumes. Richardson-Lucy (accelerated; its 80 iterations come as far as several
hundreds without) is looked at on the way, as is the smoothed one with each of four weights, and of
all these the best is chosen with the truth, volume by volume, which nobody can; "automatic" is the
one that the docks run, which stops by itself. "Gain" is the network's lead over the best of those
that were chosen with the truth, for PSNR and for SSIM by themselves, and the least of it. The
trainings are timed from the PSF to the model. "Cautious" is the network that leans on the automatic
one, as the docks show it, and its lead over that one. "Held" is the part of the voxels whose truth
lies in the 90 % interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from foreign_structures import FOREIGN, imaged

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import PsfFile
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.quality import psnr, ssim
from napari_deconv.learned.model_file import write_model
from napari_deconv.learned.network import HALF_90, Learned
from napari_deconv.learned.pairs import Light, Pair, simulated_pair
from napari_deconv.learned.trainer import Schedule
from napari_deconv.learned.training import PRESETS
from napari_deconv.psf_sources import psf_of_file
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended

SHAPE, PHOTONS = (40, 128, 128), (20.0, 100.0, 1000.0)
#: Iterations at the most, how they are accelerated, those that are looked at, edges, weights.
MOST, FAST, LOOKED_AT = 80, "heavy-ball", (3, 5, 8, 12, 18, 26, 36, 48, 64)
EDGES = RichardsonLucy.automatic().edges
WEIGHTS = (0.003, 0.01, 0.03, 0.1)
NEVER_SEEN = ("gyroid", "star", "cell")


def psf_of_benchmark() -> Psf:
    optics = Optics(na=1.2, emission_nm=520, immersion_index=1.333)
    return compute_psf(optics, Grid(spacing_um=(0.2, 0.1, 0.1)), (31, 31, 31))


def psf_of(name: str) -> Psf:
    if name == "widefield":
        return psf_of_benchmark()
    grid = Grid(spacing_um=read_stack(Path(name)).grid.spacing_um)
    return psf_of_file(PsfFile.of(name), grid)


def best_of(method: RichardsonLucy, pair: Pair, psf: Psf, engine: Any) -> tuple[float, float]:
    """Return the best PSNR and the best SSIM over some iterations on the way."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    best, alike, worse = -np.inf, -np.inf, 0
    for step in method.steps(observation, engine):
        if step.estimate is None and (step.done not in LOOKED_AT or step.peek is None):
            continue
        found = step.estimate if step.estimate is not None else step.peek()
        value = psnr(found, pair.truth, fit=True)
        worse = worse + 1 if value < best - 0.3 else 0
        best = max(best, value)
        alike = max(alike, ssim(found, pair.truth, fit=True))
        if worse > 2:  # it only gets noisier from here on
            break
    return best, alike


def pairs(psf: Psf, light: Light, photons: float, count: int) -> Iterator[Pair]:
    for number in range(count):
        random = np.random.default_rng((987654, int(photons), number))
        yield simulated_pair(SHAPE, psf, light, random, photons=photons)


def foreign_pairs(psf: Psf, photons: float, count: int) -> Iterator[Pair]:
    for number in range(count):
        random = np.random.default_rng((87654, int(photons), number))
        truth = FOREIGN[NEVER_SEEN[number % len(NEVER_SEEN)]](random)
        yield imaged(truth, psf, photons, random)


def trained(psf: Psf, light: Light, schedule: Schedule, path: Path, engine: Any) -> None:
    if path.exists():
        return
    started = time.perf_counter()
    start = learning.usual_start(psf)
    if start is not None:
        schedule = learning.shorter(schedule)
    model = ended(learning.train(psf, light, schedule, engine, name=path.stem, start=start))
    write_model(path, model)
    seconds = time.perf_counter() - started
    told = model.card.calibration.in_words()
    print(f"{path.stem}: {model.card.steps} steps, {seconds:.0f} s; {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="quick", choices=list(PRESETS))
    parser.add_argument("--photons", type=float, nargs="+", default=PHOTONS)
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--foreign", type=int, default=4)
    parser.add_argument("--psf", default="widefield")
    parser.add_argument("--folder", type=Path, default=Path("learned_quality"))
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    engine, psf = open_engine("cpu"), psf_of(options.psf)
    schedule = PRESETS[options.preset]
    rows = []
    for photons in options.photons:
        light = Light((photons / 4, 4 * photons), (5.0, 15.0), 1.0)
        stem = Path(options.psf).stem
        path = options.folder / f"{stem}-{options.preset}-{photons:g}.safetensors"
        trained(psf, light, schedule, path, engine)
        asked = {
            "as trained on": pairs(psf, light, photons, options.volumes),
            "never seen": foreign_pairs(psf, photons, options.foreign),
        }
        for name, chosen in asked.items():
            found = [measured(str(path.resolve()), pair, psf, engine) for pair in chosen]
            if found:
                rows.append(f"| {name} | {photons:g} | {row_of(np.array(found))} |")
                print(rows[-1], flush=True)
    print(
        "\n| structures | photons | raw | RL, best | RL-TV, best | RL, automatic | network "
        "| gain, dB (least) | cautious | over automatic (least) | SSIM of the best "
        "| of the network | gain (least) | held |"
    )
    print("|---" * 14 + "|")
    print("\n".join(rows))


def row_of(found: Any) -> str:
    raw, best, smooth, automatic, ours, cautious, alike, smooth_alike, ours_alike, held = found.T
    gains, alikes = ours - np.maximum(best, smooth), np.maximum(alike, smooth_alike)
    means = " | ".join(f"{v.mean():.1f}" for v in (raw, best, smooth, automatic, ours))
    more, over = ours_alike - alikes, cautious - automatic
    return (
        f"{means} | {gains.mean():+.1f} ({gains.min():+.1f}) | "
        f"{cautious.mean():.1f} | {over.mean():+.1f} ({over.min():+.1f}) | {alikes.mean():.3f} | "
        f"{ours_alike.mean():.3f} | {more.mean():+.3f} ({more.min():+.3f}) | {held.mean():.1%}"
    )


def measured(path: str, pair: Pair, psf: Psf, engine: Any) -> tuple[float, ...]:
    """Return the figures of one volume, in the order of `row_of`."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    *_, ours = Learned(path).steps(observation, engine)
    *_, width = Learned(path, HALF_90).steps(observation, engine)
    *_, automatic = RichardsonLucy.automatic().steps(observation, engine)
    best, alike = best_of(RichardsonLucy(MOST, FAST, edges=EDGES), pair, psf, engine)
    *_, cautious = Learned(path, cautious=True).steps(observation, engine)
    smoothed = [RichardsonLucy(MOST, FAST, tv_weight=w, edges=EDGES) for w in WEIGHTS]
    smooth = [best_of(method, pair, psf, engine) for method in smoothed]
    return (
        psnr(pair.counts, pair.truth, fit=True),
        best,
        max(value for value, _ in smooth),
        psnr(automatic.estimate, pair.truth, fit=True),
        psnr(ours.estimate, pair.truth, fit=True),
        psnr(cautious.estimate, pair.truth, fit=True),
        alike,
        max(value for _, value in smooth),
        ssim(ours.estimate, pair.truth, fit=True),
        float((np.abs(ours.estimate - pair.truth) <= width.estimate).mean()),
    )


if __name__ == "__main__":
    main()
