"""Train the models that come with the package, from simulated pairs alone.

    python scripts/train_shipped_models.py [--only NAME] [--steps N] [--folder FOLDER] [--calibrate]

Each is trained over a family of PSFs, those of objectives that many microscopes have, on one voxel
size, and for much and little light. What it prints is the log that lies beside them. A model that
is there already is kept; with --calibrate its intervals are read anew off pairs that it has not
learned from.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.learned.calibration import calibration_of
from napari_deconv.learned.model_file import SUFFIX, Model, read_model, write_model
from napari_deconv.learned.pairs import Light, simulated_pairs
from napari_deconv.learned.samples import sample_of
from napari_deconv.learned.trainer import Schedule
from napari_deconv.version import __version__

FOLDER = Path(__file__).parents[1] / "src" / "napari_deconv" / "models"
LIGHT = Light((10.0, 2000.0), (0.0, 30.0), 1.0)
#: Pairs that --calibrate reads intervals off: those that the training left out, and more.
CALIBRATED_ON = 144
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


def schedule_for(steps: int | None) -> Schedule:
    """Return how long they are trained."""
    schedule = learning.schedule_of("quick", steps=steps, patience=10**6)
    return replace(schedule, pairs=128, left_out=48)


def calibrated(model: Model) -> Model:
    """Return a trained model with its intervals read off the pairs that it has not learned from."""
    card, schedule, engine = model.card, schedule_for(None), open_engine("cpu")
    count = schedule.pairs + CALIBRATED_ON
    pairs = simulated_pairs(count, schedule.shape, model.psfs, card.light, card.seed)
    left_out = [
        sample_of(pair, model.psfs[n % len(model.psfs)], card.design, engine, card.light.gain)
        for n, pair in enumerate(pairs)
        if n >= schedule.pairs
    ]
    found = calibration_of(model.networks, left_out, card.light.gain)
    return replace(model, card=replace(card, calibration=found))


def train(name: str, steps: int | None) -> Model:
    """Train one of them, and say how it goes."""
    family, network = WANTED[name]
    psfs = [compute_psf(o, Grid(spacing_um=family.spacing_um), family.sides) for o in family.optics]
    schedule = schedule_for(steps)
    run = learning.train(psfs, LIGHT, schedule, open_engine("cpu"), network=network, name=name)
    try:
        while True:
            step = next(run)
            if step.done % 500 == 0 and step.done:
                print(f"{name} {step.done}/{step.total}: {step.note}", flush=True)
    except StopIteration as end:
        model: Model = end.value
    card = replace(model.card, license="CC0-1.0", citation=CITATION)
    return Model(card, model.networks, model.psfs)


def main() -> None:
    """Train all that are not there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=list(WANTED), choices=list(WANTED))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"napari-deconv {__version__}, torch {torch.__version__}, {platform.machine()}, ", end="")
    print(f"{torch.get_num_threads()} threads")
    for name in options.only:
        path = options.folder / f"{name}{SUFFIX}"
        if path.exists() and options.calibrate:
            model = calibrated(read_model(path))
            write_model(path, model, overwrite=True)
            print(f"{name}: {model.card.calibration.in_words()}", flush=True)
        if path.exists():
            continue
        model = train(name, options.steps)
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
