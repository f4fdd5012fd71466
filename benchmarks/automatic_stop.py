"""How near to the best iteration Richardson-Lucy stops by itself, on simulated stacks.

    python benchmarks/automatic_stop.py [--cases 50] [--seed 0] [--shape 256 256]

Stacks of 32 x 96 x 96 voxels, or planes: widefield (NA 1.2), confocal (NA 1.4) and light sheet (NA
1.0) in turn, 15, 200 and 2000 photons in the brightest voxel over a background of 10, one to three
kinds of structure that cells are made of. PSNR against the truth after the best scale and offset,
its range that of the truth. The best is that of all of up to 100 accelerated iterations, chosen
with the truth. "Automatic" is `RichardsonLucy.automatic`; "0.1 %" stops when the likelihood changes
by less than that, after 20 iterations at the most; "20" runs 20; all with the edges of the first.
Once of the whole volume, and once of what is left when an eighth of each side is cut off:
structures go on beyond the volume, and light from there is restored less well near its borders.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from speed_cases import MICROSCOPES

from napari_deconv.engines import open_engine
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.quality import psnr
from napari_deconv.imaging.structures import OF_CELLS
from napari_deconv.learned.pairs import Light, Pair, simulated_pair
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHAPE, SPACING, SIDES = (32, 96, 96), (0.2, 0.1, 0.1), (31, 31, 31)
OPTICS = {
    "widefield": Optics(na=1.2, emission_nm=520, immersion_index=1.333),
    "confocal": MICROSCOPES["confocal"],
    "light sheet": MICROSCOPES["lightsheet"],
}
PHOTONS, MOST = (15.0, 200.0, 2000.0), 100
EDGES = RichardsonLucy.automatic().edges
STOPS = {
    "automatic": RichardsonLucy.automatic(iterations=MOST),
    "0.1 %": RichardsonLucy(20, stop_tolerance=1e-3, edges=EDGES),
    "20": RichardsonLucy(20, edges=EDGES),
}
#: What is looked at, and the part of a side that is cut off at both of its ends.
PLACES = {"whole": 0.0, "inner": 1 / 8}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", type=int, nargs="+", default=SHAPE)
    options = parser.parse_args()
    shape = tuple(options.shape)
    engine, names = open_engine("cpu"), list(OPTICS)
    grid, sides = Grid(spacing_um=SPACING[-len(shape) :]), SIDES[-len(shape) :]
    psfs = {name: compute_psf(optics, grid, sides) for name, optics in OPTICS.items()}
    losses = []
    for case in range(options.cases):
        name, photons = names[case % 3], PHOTONS[case // 3 % 3]
        light = Light((photons, photons), (10.0, 10.0), 1.0, OF_CELLS)
        random = np.random.default_rng((options.seed, 31415, case))
        pair = simulated_pair(shape, psfs[name], light, random, photons=photons)
        observation = observe(np.maximum(pair.counts, 0), psfs[name], pair.background)
        values = [
            qualities(step.estimate if step.estimate is not None else step.peek(), pair)
            for step in RichardsonLucy(MOST, edges=EDGES).steps(observation, engine)
        ]
        best, at = np.max(values, axis=0), np.argmax(values, axis=0) + 1
        row, told = [], []
        for label, method in STOPS.items():
            *_, last = method.steps(observation, engine)
            row.append(best - qualities(last.estimate, pair))
            told.append(f"{label} -{row[-1][0]:.2f}, -{row[-1][1]:.2f} @{last.done}")
        losses.append(row)
        print(
            f"{name} {photons:g}: best {best[0]:.2f} @{at[0]}, inner {best[1]:.2f} @{at[1]}; "
            f"{'; '.join(told)}",
            flush=True,
        )
    print("\n| volume | stop | mean loss, dB | within 0.3 dB | within 1 dB | worst, dB |")
    print("|---" * 6 + "|")
    found = np.array(losses)
    for place, where in enumerate(PLACES):
        for number, label in enumerate(STOPS):
            loss = found[~np.isnan(found[:, number, place]), number, place]
            near = [f"{(loss <= most).mean():.0%}" for most in (0.3, 1.0)]
            print(
                f"| {where} | {label} | {loss.mean():.2f} | {near[0]} | {near[1]} | "
                f"{loss.max():.2f} |"
            )


def qualities(estimate: Any, pair: Pair) -> Any:
    """Return the PSNR in each of the places; NaN where one of them is empty."""
    found = []
    for part in PLACES.values():
        place = tuple(slice(int(n * part), n - int(n * part)) for n in estimate.shape)
        seen = pair.truth[place]
        found.append(psnr(estimate[place], seen, fit=True) if seen.any() else np.nan)
    return np.array(found)


if __name__ == "__main__":
    main()
