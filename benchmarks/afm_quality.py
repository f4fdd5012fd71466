"""How near the surface under AFM images is to the truth, by the tip and by what is done before.

    python benchmarks/afm_quality.py [single_tip.npz] [--kind single] [--draws 10]

Of each draw, 20 frames are taken at random, of a file (images and surfaces in angstrom, pixels of
1.5 nm) or simulated, see blind_tip.py. The program estimates the noise and chooses all settings;
the truth is only compared with: RMS in nm, no move of the surface allowed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from blind_tip import PIXEL, SIDE, drawn

from napari_deconv.afm.blind_tip import BlindTip
from napari_deconv.afm.gradient_tip import GradientTip
from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.morphology import erode
from napari_deconv.afm.preparing import Denoise
from napari_deconv.surfaces import SurfaceRecipe, reconstruct_surface

TV, NLM = (Denoise("total variation"),), (Denoise("non-local means"),)
BLIND, GRADIENT = BlindTip((SIDE, SIDE)), GradientTip((SIDE, SIDE))
WAYS = {
    "Villarrubia": SurfaceRecipe(BLIND),
    "TV, Villarrubia": SurfaceRecipe(BLIND, TV),
    "NLM, Villarrubia": SurfaceRecipe(BLIND, NLM),
    "gradient": SurfaceRecipe(GRADIENT),
    "TV, gradient": SurfaceRecipe(GRADIENT, TV),
    "NLM, gradient": SurfaceRecipe(GRADIENT, NLM),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--kind", default="single")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.3)
    given = parser.parse_args()
    rows = []
    for draw in range(given.draws):
        images, surface, tip = drawn(
            given.kind, given.file, given.noise, np.random.default_rng(draw)
        )
        found = [images, erode(images, tip)]
        heights = HeightMap(images, (PIXEL, PIXEL))
        found += [reconstruct_surface(heights, way).surface.heights_nm for way in WAYS.values()]
        rows.append([float(np.sqrt(np.square(f - surface).mean())) for f in found])
        print(draw, " ".join(f"{value:.3f}" for value in rows[-1]), flush=True)
    print("\n| way | mean, nm | least, most | draws no farther than the true tip |")
    print("|---|---|---|---|")
    table = np.array(rows)
    for name, column in zip(["image", "true tip", *WAYS], table.T, strict=True):
        near = int((column <= table[:, 1]).sum())
        ends = f"{column.min():.3f}, {column.max():.3f}"
        print(f"| {name} | {column.mean():.3f} | {ends} | {near} of {len(table)} |")


if __name__ == "__main__":
    main()
