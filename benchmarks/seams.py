"""How far a method looks: the difference between a tile and the whole, against the tile's halo.

    python benchmarks/seams.py [--stack STACK --psf PSF] [--iterations 50]

For each case and method the whole volume is restored, and then the half of it below a cut
across y that keeps the planes up to the cut and reads a halo beyond it, with the mean of the
whole. The table has the largest difference in what is kept, as a part of the whole's maximum,
for halos of a quarter to one and a half of the one that the method asks for at a tolerance of
1e-3: in the column "1" it must not be above 1e-3. The volume's own rim, which depends on light
from outside, is left out: half a PSF, and for Wiener, whose filter reaches farther, the halo.

Without arguments: the bundled light-sheet stack with its bead, and a simulated widefield stack of
64 x 256 x 256 voxels with a PSF of 63 x 101 x 101 (NA 1.4), whose tails are long; for Wiener it
is 64 x 768 x 128 voxels large, to have room for its halo.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.engines import open_engine
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import PsfFile
from napari_deconv.files.samples import real_psf, real_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.phantoms import cell_phantom, photographed
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.psf_sources import prepare_psf
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import SEAM_TOLERANCE, Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles, for_tiles
from napari_deconv.surveying import background_of
from napari_deconv.tiling import looking_through

PARTS = (0.25, 0.5, 0.75, 1.0, 1.5)
TV_WEIGHT = 0.002


def methods(iterations: int) -> dict[str, Restorer]:
    return {
        **iterated(iterations),
        "Wiener, its weight settled": Wiener(),
    }


def iterated(iterations: int) -> dict[str, Restorer]:
    return {
        "Richardson-Lucy, plain": RichardsonLucy(iterations, "none"),
        "Richardson-Lucy, nu-method": RichardsonLucy(iterations),
        "Richardson-Lucy, heavy ball": RichardsonLucy(iterations, "heavy-ball"),
        f"heavy ball, total variation {TV_WEIGHT}": RichardsonLucy(iterations, tv_weight=TV_WEIGHT),
        "Biggs-Andrews, its momentum settled": RichardsonLucy(iterations, "biggs-andrews"),
        "Wiener-Butterworth": RichardsonLucy(iterations, "wiener-butterworth"),
        "OTF-masked Wiener": RichardsonLucy(iterations, "otf-masked-wiener"),
    }


def widefield(shape: tuple[int, int, int]) -> tuple[Stack, Psf]:
    grid = Grid(spacing_um=(0.2, 0.1, 0.1))
    psf = compute_psf(Optics(na=1.4, emission_nm=520, immersion_index=1.515), grid, (63, 101, 101))
    truth = cell_phantom(shape, grid.spacing_um)
    counts = photographed(truth, psf, photons=200, background=10, read_noise=2)
    return Stack(counts, "ZYX", grid, "widefield"), psf


def cases(options: argparse.Namespace) -> Iterator[tuple[str, Stack, Psf, dict[str, Restorer]]]:
    everything, iterative = methods(options.iterations), iterated(options.iterations)
    if options.stack is not None and options.psf is not None:
        given = read_stack(options.stack)
        yield options.stack.name, given, prepare_psf(PsfFile.of(options.psf), given), everything
        return
    cell = real_stack()
    yield "light-sheet cell", cell, prepare_psf(real_psf(), cell), everything
    yield ("simulated widefield", *widefield((64, 256, 256)), iterative)
    others = {name: method for name, method in everything.items() if name not in iterative}
    yield ("simulated widefield", *widefield((64, 768, 128)), others)


def restored(method: Restorer, observation: Any, engine: Any) -> Any:
    *_, last = method.steps(observation, engine)
    return last.estimate


def differences(method: Restorer, stack: Stack, psf: Psf, engine: Any) -> tuple[int, list[float]]:
    """Return the halo along y, and the difference for each part of it; NaN where none is left."""
    image, level = np.asarray(stack.data), background_of(stack, next(stack.blocks()), "auto")
    whole_observation = observe(image, psf, level)
    settled = method.settled([whole_observation], engine)
    whole = restored(settled, whole_observation, engine)
    settled = for_tiles(settled, psf, image.shape, SEAM_TOLERANCE)
    if isinstance(settled, WienerInTiles):
        settled = ended(looking_through(stack, (), settled, psf, level))
    halo = settled.halo(psf, SEAM_TOLERANCE)
    assert halo is not None
    mean = float(np.maximum(image, 0).mean(dtype=np.float64))
    rim = psf.shape[1] // 2 if isinstance(settled, RichardsonLucy) else 2 * halo[1]
    cut, found = image.shape[1] // 2, []
    for part in PARTS:
        stop = cut + math.ceil(part * halo[1])
        if stop >= image.shape[1]:
            found.append(math.nan)
            continue
        piece = observe(image[:, :stop], psf, level, whole_mean=mean, start=(0, 0, 0))
        kept = restored(settled, piece, engine)[:, :cut]
        error = np.abs(kept - whole[:, :cut])[:, rim:]
        found.append(float(error.max() / whole.max()))
    return halo[1], found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stack", type=Path)
    parser.add_argument("--psf", type=Path)
    parser.add_argument("--iterations", type=int, default=50)
    options = parser.parse_args()
    engine, too_far = open_engine("cpu"), 0
    for name, stack, psf, tried in cases(options):
        shapes = (" x ".join(map(str, shape)) for shape in (stack.shape, psf.shape))
        print("\n{}, {}, PSF {}, {} iterations\n".format(name, *shapes, options.iterations))
        print("| method | halo in y | " + " | ".join(f"{part:g}" for part in PARTS) + " |")
        print("|---" * (len(PARTS) + 2) + "|")
        for words, method in tried.items():
            started = time.perf_counter()
            halo, found = differences(method, stack, psf, engine)
            cells = " | ".join("-" if math.isnan(error) else f"{error:.1e}" for error in found)
            print(f"| {words} | {halo} | {cells} |", flush=True)
            too_far += found[PARTS.index(1.0)] > SEAM_TOLERANCE
            print(f"{words}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(f"\n{too_far} above {SEAM_TOLERANCE:g} in the column 1")
    return int(too_far > 0)


if __name__ == "__main__":
    sys.exit(main())
