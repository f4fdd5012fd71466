"""How often the intervals of a network hold the truth, on stacks that it has not learned from.

    python benchmarks/intervals.py [MODEL] [--photons 20 100 1000] [--volumes 12]

MODEL is a file, or the name of a model; `widefield_inverse`, which comes with the package, where
not given. The volumes, 32 x 96 x 96, are simulated with the light and the structures that its card
names and with its PSFs in turn, from seeds of their own. Part of the voxels whose truth lies in the
50 % and in the 90 % interval, mean over the volumes, and in the least and the best of them; and the
same of the voxels alone in which the network sees more than 3 % of the brightness.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from napari_deconv.engines import open_engine
from napari_deconv.learned.network import HALF_50, HALF_90, Learned
from napari_deconv.learned.pairs import simulated_pair
from napari_deconv.library import resolve
from napari_deconv.restoration.observing import observe

SHAPE, LIT = (32, 96, 96), 0.03


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="widefield_inverse")
    parser.add_argument("--photons", type=float, nargs="+", default=(20.0, 100.0, 1000.0))
    parser.add_argument("--volumes", type=int, default=12)
    options = parser.parse_args()
    path, engine = str(resolve(options.model)), open_engine("cpu")
    model = Learned(path).model
    print(
        "| photons | 50 % held | least, most | 90 % held | least, most | of the lit: 50 % | 90 % |"
    )
    print("|---" * 7 + "|")
    for photons in options.photons:
        rows = []
        for number in range(options.volumes):
            psf = model.psfs[number % len(model.psfs)]
            random = np.random.default_rng((24680, int(photons), number))
            light = replace(model.card.light, photons=(photons, photons))
            pair = simulated_pair(SHAPE, psf, light, random)
            observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
            shown = []
            for what in ("estimate", HALF_50, HALF_90):
                *_, last = Learned(path, what).steps(observation, engine)
                shown.append(last.estimate)
            image, half, most = shown
            held = [np.abs(image - pair.truth) <= width for width in (half, most)]
            lit = image > LIT * observation.bright
            rows.append([*(h.mean() for h in held), *(h[lit].mean() for h in held)])
        found = np.array(rows)
        mean, low, high = found.mean(axis=0), found.min(axis=0), found.max(axis=0)
        print(
            f"| {photons:g} | {mean[0]:.1%} | {low[0]:.0%}, {high[0]:.0%} | {mean[1]:.1%} | "
            f"{low[1]:.0%}, {high[1]:.0%} | {mean[2]:.1%} | {mean[3]:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
