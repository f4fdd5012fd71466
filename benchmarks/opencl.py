"""An iteration of the OpenCL engine, held against pyclesperanto's own `deconvolve`.

    python benchmarks/opencl.py [--shape 64 256 256] [--rounds 5]

Plain Richardson-Lucy with circular edges on the same volume, so that both transform the same size;
ours sums the likelihood as well. Runs of 2 and of 12 iterations by turns, of each the fastest; an
iteration is a tenth of the difference, which holds neither what is pushed nor what is planned.
"A run" is the whole of 10 iterations: from the volume in memory to the result in memory.
Beside them a filter, there and back, by scipy on all cores. On the first OpenCL device found: PoCL
runs on the cores, so all of these then work with the same arithmetic units.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.fft import irfftn, rfftn

from napari_deconv.engines import open_engine
from napari_deconv.engines.opencl_engine import opencl_devices
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.restorer import ended, observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHAPES = ((32, 128, 128), (48, 180, 180), (64, 256, 256), (72, 270, 270), (64, 512, 512))
FEW, MANY = 2, 12


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def contenders_on(shape: tuple[int, ...]) -> dict[str, Callable[[int], Any]]:
    """Return what restores a volume of this shape by so many iterations."""
    import pyclesperanto as cle

    kernel = np.random.default_rng(1).random((15, 15, 15), np.float32)
    psf = kernel / kernel.sum()
    image = np.random.default_rng(0).poisson(20, shape).astype(np.float32) + 1
    engine, observation = open_engine("opencl"), observe(image, Psf(psf))
    device = cle.select_device(opencl_devices()[0].index)
    otf = rfftn(psf, shape)

    def ours(iterations: int) -> Any:
        method = RichardsonLucy(iterations=iterations, acceleration="none", edges="circular")
        return ended(method.steps(observation, engine))

    def theirs(iterations: int) -> Any:
        pushed = [cle.push(array, device=device) for array in (image, psf)]
        return cle.pull(cle.fft.deconvolve(*pushed, None, iteration=iterations, device=device))

    def filters(iterations: int) -> Any:
        for _ in range(2 * iterations):
            irfftn(rfftn(image, workers=-1) * otf, s=shape, workers=-1)

    return {"ours": ours, "pyclesperanto": theirs, "scipy": filters}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{open_engine('opencl').device}\n")
    print(
        "| voxels | ours, ms an iteration | pyclesperanto | ratio | two filters by scipy |", end=""
    )
    print(" a run of ours, s | pyclesperanto | ratio |\n" + "|---" * 8 + "|")
    for shape in [tuple(options.shape)] if options.shape else SHAPES:
        restorers = contenders_on(shape)
        for restore in restorers.values():
            restore(1)
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for iterations in (FEW, 10, MANY):
                for name, restore in restorers.items():
                    taken = seconds_of(lambda r=restore, n=iterations: r(n))
                    times.setdefault((name, iterations), []).append(taken)
        best = {key: min(found) for key, found in times.items()}
        each = {n: 1e3 * (best[n, MANY] - best[n, FEW]) / (MANY - FEW) for n in restorers}
        a_run = {n: best[n, 10] for n in restorers}
        print(
            f"| {' x '.join(map(str, shape))} | {each['ours']:.1f} | {each['pyclesperanto']:.1f} "
            f"| {each['ours'] / each['pyclesperanto']:.2f} | {each['scipy']:.1f} "
            f"| {a_run['ours']:.2f} | {a_run['pyclesperanto']:.2f} "
            f"| {a_run['ours'] / a_run['pyclesperanto']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
