"""The light-sheet cell raw, by Richardson-Lucy and by a network, and how far to believe them.

    python docs/learn_figure.py MODEL [folder]

MODEL is a network that was trained for the bundled light-sheet stack, as `learn_pictures.py` trains
and keeps one. The figure shows a brightest-point projection of each, the map of the network's
misfit, half the width of its 90 % intervals, and the Fourier shell correlation of the two halves of
the photons: the stack is dealt out to two, each is restored by itself, and what both show alike is
no noise. (It is no resolution either: what a method makes of all data alike is in both.)
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.files.samples import real_psf, real_stack
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.shell_correlation import fourier_shell_correlation
from napari_deconv.imaging.thinning import thinned
from napari_deconv.learned.network import HALF_90, Learned
from napari_deconv.psf_sources import prepare_psf
from napari_deconv.restoration.misfit import misfit_of
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.surveying import background_of

IMAGES = Path(__file__).parent / "images"
TITLES = ("raw", "Richardson-Lucy", "network")


def restored(method: Restorer, counts: np.ndarray, level: float) -> np.ndarray:
    psf = prepare_psf(real_psf(), real_stack())
    observation = observe(np.maximum(counts, 0), psf, level)
    *_, last = method.steps(observation, open_engine("cpu"))
    assert last.estimate is not None
    return last.estimate


def main() -> None:
    path, folder = sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else IMAGES
    stack = real_stack()
    level = background_of(stack, next(stack.blocks()), "auto")
    counts = np.asarray(stack.data, np.float32)
    camera = learning.light_like(stack).camera or Camera()
    methods = {"Richardson-Lucy": RichardsonLucy(stop_tolerance=1e-3), "network": Learned(path)}
    results = {name: restored(method, counts, level) for name, method in methods.items()}
    observation = observe(counts, prepare_psf(real_psf(), stack), level)
    misfits = {n: misfit_of(observation, r, camera, open_engine("cpu")) for n, r in results.items()}
    width = restored(Learned(path, HALF_90), counts, level)
    halves = thinned(counts, camera, random=np.random.default_rng(0))
    half = camera.offset + (level - camera.offset) / 2
    pairs = {"raw": tuple(halves)}
    for name, method in methods.items():
        pairs[name] = tuple(restored(method, part, half) for part in halves)
    curves = {n: fourier_shell_correlation(*p, stack.grid.spacing_um) for n, p in pairs.items()}
    for name, curve in curves.items():
        chi = f", chi² {misfits[name].chi_squared:.2f}" if name in misfits else ""
        print(f"{name}: the halves {curve.in_words()}{chi}")
    figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
    shown = (counts - level, *results.values())
    for place, title, volume in zip(axes[0], TITLES, shown, strict=True):
        plane = np.sqrt(np.maximum(volume.max(axis=0), 0))
        place.imshow(plane, cmap="gray", vmin=0, vmax=np.percentile(plane, 99.8))
        place.set_title(title)
    misfit = np.nanmean(misfits["network"].map, axis=0)
    for place, title, plane, limit in (
        (axes[1, 0], "misfit of the network (1: noise)", misfit, 4.0),
        (axes[1, 1], "half of its 90 % interval", width.max(axis=0), np.percentile(width, 99.9)),
    ):
        image = place.imshow(plane, cmap="turbo" if limit == 4.0 else "magma", vmin=0, vmax=limit)
        place.set_title(title)
        figure.colorbar(image, ax=place, shrink=0.8)
    for place in axes.ravel()[:5]:
        place.set_xticks([])
        place.set_yticks([])
    for name, curve in curves.items():
        axes[1, 2].plot(curve.frequencies_per_um, curve.correlations, label=name)
    axes[1, 2].axhline(1 / 7, color="gray", lw=0.8)
    axes[1, 2].set(xlabel="1/um", title="both halves of the photons", ylim=(-0.1, 1.05))
    axes[1, 2].legend()
    figure.savefig(folder / "learn_belief.png", dpi=110)


if __name__ == "__main__":
    main()
