"""Train the models that come with the package, from simulated pairs alone.

    python scripts/train_shipped_models.py [--only NAME] [--steps N] [--pairs N] [--batch N]
        [--left-out N] [--rate R] [--start MODEL] [--folder FOLDER] [--calibrate [N]]

Each is trained over a family of PSFs, those of objectives that many microscopes have, on one voxel
size, and for much and little light: minutes on a large GPU, days on a CPU, where fewer steps and
pairs make a lesser network. What it prints is the log that lies beside them. A model that is there
already is kept; with --calibrate its intervals are read anew off pairs that it has not learned
from.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.engines.torch_engine import describe_device
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.learned.calibration import Errors, calibration_of
from napari_deconv.learned.designs import DESIGNS
from napari_deconv.learned.model_file import SUFFIX, Model, read_model, write_model
from napari_deconv.learned.nets import best_device
from napari_deconv.learned.pairs import Light, simulated_pair
from napari_deconv.learned.samples import Sample, sample_of
from napari_deconv.learned.trainer import Schedule
from napari_deconv.version import __version__

FOLDER = Path(__file__).parents[1] / "src" / "napari_deconv" / "models"
LIGHT = Light((10.0, 2000.0), (0.0, 30.0), 1.0)
#: How long networks of many weights are trained.
STEPS, PAIRS, BATCH = 20_000, 2_000, 16
#: Pairs that --calibrate reads intervals off where it is not told, and the first: of no training.
CALIBRATED_ON, FIRST_CALIBRATED = 576, 10**6
CITATION = "napari-deconv, trained on simulated structures by scripts/train_shipped_models.py"


@dataclass(frozen=True)
class Family:
    """Objectives, the voxels they are used with, and the sides of their PSFs."""

    optics: tuple[Optics, ...]
    spacing_um: tuple[float, ...]
    sides: tuple[int, ...]


WATER, GLYCEROL, OIL = 1.333, 1.46, 1.515
WIDEFIELD = Family(
    (
        Optics(na=1.4, emission_nm=520, immersion_index=OIL),
        Optics(na=1.2, emission_nm=520, immersion_index=WATER),
        Optics(na=1.3, emission_nm=600, immersion_index=GLYCEROL),
        Optics(na=1.4, emission_nm=460, immersion_index=OIL, sample_index=1.40, depth_um=3),
    ),
    (0.2, 0.1, 0.1),
    (31, 31, 31),
)
CONFOCAL = Family(
    tuple(
        Optics("confocal", na=na, emission_nm=em, excitation_nm=ex, immersion_index=index)
        for na, em, ex, index in (
            (1.4, 520, 488, OIL),
            (1.2, 520, 488, WATER),
            (1.4, 460, 405, OIL),
            (1.3, 600, 561, GLYCEROL),
        )
    ),
    (0.2, 0.08, 0.08),
    (25, 25, 25),
)
WANTED = {
    "widefield_inverse": (WIDEFIELD, "inverse"),
    "widefield_wiener": (WIDEFIELD, "wiener"),
    "confocal_inverse": (CONFOCAL, "inverse"),
    "confocal_wiener": (CONFOCAL, "wiener"),
}


def schedule_for(network: str, options: argparse.Namespace) -> Schedule:
    """Return how long a kind of network is trained."""
    if network != "inverse":  # few numbers are learned soon
        return Schedule(128, 48, patience=10**6)
    return Schedule(
        options.pairs,
        options.left_out,
        batch=options.batch,
        steps=options.steps,
        learning_rate=options.rate,
        patience=10**6,
    )


@cache
def psfs_of(name: str) -> tuple[Psf, ...]:
    """Return the PSFs of a family."""
    family, _ = WANTED[name]
    grid = Grid(spacing_um=family.spacing_um)
    return tuple(compute_psf(optics, grid, family.sides) for optics in family.optics)


def sample(name: str, shape: tuple[int, ...], number: int) -> Sample:
    """Return what a network sees of the pair of this number; in a process of its own."""
    torch.set_num_threads(1)
    psfs, (_, network) = psfs_of(name), WANTED[name]
    psf = psfs[number % len(psfs)]
    pair = simulated_pair(shape, psf, LIGHT, np.random.default_rng((0, number)))
    return sample_of(pair, psf, DESIGNS[network](psf), open_engine("auto"), LIGHT.gain)


def samples(name: str, shape: tuple[int, ...], numbers: range) -> Iterator[Sample]:
    """Yield what a network sees of pairs, which all cores make side by side."""
    made = partial(sample, name, shape)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(made, numbers, chunksize=4)


def calibrated(name: str, model: Model, pairs: int) -> Model:
    """Return a trained model with its intervals read off pairs that it has not learned from."""
    numbers = range(FIRST_CALIBRATED, FIRST_CALIBRATED + pairs)
    unseen = samples(name, Schedule().shape, numbers)
    errors = [Errors.of(model.networks, one, model.card.light.gain) for one in unseen]
    return replace(model, card=replace(model.card, calibration=calibration_of(errors)))


def train(name: str, schedule: Schedule, start: Path | None) -> Model:
    """Train one of them, perhaps from the weights of another one, and say how it goes."""
    _, network = WANTED[name]
    made = samples(name, schedule.shape, range(schedule.pairs + schedule.left_out))
    run = learning.train(
        psfs_of(name),
        LIGHT,
        schedule,
        open_engine("cpu"),
        network=network,
        name=name,
        start=read_model(start) if start is not None else None,
        samples=made,
    )
    every = max(schedule.steps // 20, 1)
    try:
        while True:
            step = next(run)
            if step.done % every == 0 and step.done:
                print(f"{name} {step.done}/{step.total}: {step.note}", flush=True)
    except StopIteration as end:
        model: Model = end.value
    card = replace(model.card, license="CC0-1.0", citation=CITATION)
    return Model(card, model.networks, model.psfs)


def main() -> None:
    """Train all that are not there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=list(WANTED), choices=list(WANTED))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--left-out", type=int, default=48)
    parser.add_argument("--rate", type=float, default=Schedule().learning_rate)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--calibrate", type=int, nargs="?", const=CALIBRATED_ON, metavar="N")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"napari-deconv {__version__}, torch {torch.__version__}, {platform.machine()}, ", end="")
    print(f"{torch.get_num_threads()} threads, trained on {describe_device(str(best_device()))}")
    # Sizes are the same at each step: the fastest convolutions are looked for once.
    torch.backends.cudnn.benchmark = True
    for name in options.only:
        path = options.folder / f"{name}{SUFFIX}"
        if path.exists() and options.calibrate:
            model = calibrated(name, read_model(path), options.calibrate)
            write_model(path, model, overwrite=True)
            print(f"{name}: {model.card.calibration.in_words()}", flush=True)
        if path.exists():
            continue
        schedule = schedule_for(WANTED[name][1], options)
        model = train(name, schedule, options.start)
        write_model(path, model)
        card = model.card
        held = card.calibration.in_words() if card.calibration is not None else ""
        size = path.stat().st_size / 1e3
        print(
            f"{name}: {card.steps} steps in {card.seconds:.0f} s, loss {card.validation:.4g} on "
            f"the pairs left out; {held}; {size:.0f} kB",
            flush=True,
        )


if __name__ == "__main__":
    main()
