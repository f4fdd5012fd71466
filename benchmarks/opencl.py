"""An iteration of the OpenCL engine, held against pyclesperanto's own `deconvolve`.

    python benchmarks/opencl.py [--shape 64 256 256] [--rounds 5]

Plain Richardson-Lucy with circular edges on the same volume, so that both transform the same size;
ours sums the likelihood as well. Runs of 2 and of 12 iterations by turns (on a GPU, of 10 and of
210), of each the fastest; an iteration is the difference over that of their numbers, which holds
neither what is pushed nor what is planned. "A run" is the whole of 10 iterations: from the volume
in memory to the result in memory. Beside them a filter, there and back, by scipy on all cores. On
the first OpenCL device found: PoCL runs on the cores, so all of these then work with the same
arithmetic units.

The second table is of ours alone: an iteration of the default method with room at the edges, its
four transforms, a copy of the volume on the device, and the time that four transforms would take
if each read and wrote the volume once, as fast as that copy does. Medians of 20. Where torch finds
a GPU of CUDA, the same iteration there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu import observed
from scipy.fft import irfftn, rfftn

from napari_deconv.engines import open_engine
from napari_deconv.engines.opencl_engine import OpenClEngine, opencl_devices
from napari_deconv.engines.opencl_filter import Layout, Transform
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.running import Run
from napari_deconv.restoration.stepping import ended

WORK_SHAPES = ((32, 128, 128), (64, 256, 256), (128, 512, 512))
SHAPES = ((32, 128, 128), (48, 180, 180), (64, 256, 256), (72, 270, 270), (64, 512, 512))
#: Iterations of a short run and of a long one.
ON_CPU, ON_GPU, A_RUN = (2, 12), (10, 210), 10
REPEATS, WARM_UPS = 20, 3


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

    def ours(iterations: int) -> Any:
        method = RichardsonLucy(iterations=iterations, acceleration="none", edges="circular")
        return ended(method.steps(observation, engine))

    def theirs(iterations: int) -> Any:
        pushed = [cle.push(array, device=device) for array in (image, psf)]
        return cle.pull(cle.fft.deconvolve(*pushed, None, iteration=iterations, device=device))

    return {"ours": ours, "pyclesperanto": theirs}


def filters_on(shape: tuple[int, ...]) -> float:
    """Return the milliseconds of two filters by scipy on all cores."""
    image = np.random.default_rng(0).random(shape, np.float32)
    otf = rfftn(image, shape)

    def work() -> None:
        for _ in range(2):
            irfftn(rfftn(image, workers=-1) * otf, s=shape, workers=-1)

    return 1e3 * min(seconds_of(work) for _ in range(5))


def parts_on(shape: tuple[int, ...]) -> dict[str, float]:
    """Return the milliseconds of an iteration on a work volume of this shape, and of its parts."""
    engine, observation = open_engine("opencl"), observed(shape, "asymmetric")
    assert isinstance(engine, OpenClEngine)
    found = {"iteration": iteration_of(observation, engine)}
    transform = Transform(engine, Layout(shape).shape)
    x, place = engine.push(np.ones(shape, np.float32), shape), engine.create(shape)

    def transforms() -> None:
        for _ in range(2):
            transform.back(transform.there(x.buffer))

    found["its four transforms"] = milliseconds(transforms, engine)
    found["copy"] = milliseconds(lambda: engine.evaluate("1.0f * x", out=place, x=x), engine)
    found["four at a copy's speed"] = 4 * found["copy"]
    if torch.cuda.is_available():
        found["iteration on CUDA"] = iteration_of(observation, open_engine("torch"))
    return found


def iteration_of(observation: Observation, engine: Engine) -> float:
    return milliseconds(Run(RichardsonLucy(), observation, engine).update, engine)


def milliseconds(work: Callable[[], Any], engine: Engine) -> float:
    """Return the median of a work, less what waiting for the device takes."""
    one = engine.push(np.ones((1, 1, 1), np.float32), (1, 1, 1))

    def waited(first: Callable[[], Any]) -> float:
        def both() -> None:
            first()
            engine.total("1.0f * x", x=one)

        seconds = [seconds_of(both) for _ in range(WARM_UPS + REPEATS)]
        return statistics.median(seconds[WARM_UPS:])

    return 1e3 * (waited(work) - waited(lambda: None))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    few, many = ON_GPU if opencl_devices()[0].is_gpu else ON_CPU
    shapes = [tuple(options.shape)] if options.shape else SHAPES
    print(f"{open_engine('opencl').device}\n")
    print(
        "| voxels | ours, ms an iteration | pyclesperanto | ratio | two filters by scipy |", end=""
    )
    print(" a run of ours, s | pyclesperanto | ratio |\n" + "|---" * 8 + "|")
    for shape in shapes:
        restorers = contenders_on(shape)
        for restore in restorers.values():
            restore(1)
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for iterations in {few, A_RUN, many}:
                for name, restore in restorers.items():
                    taken = seconds_of(lambda r=restore, n=iterations: r(n))
                    times.setdefault((name, iterations), []).append(taken)
        best = {key: min(found) for key, found in times.items()}
        each = {n: 1e3 * (best[n, many] - best[n, few]) / (many - few) for n in restorers}
        a_run = {n: best[n, A_RUN] for n in restorers}
        print(
            f"| {' x '.join(map(str, shape))} | {each['ours']:.1f} | {each['pyclesperanto']:.1f} "
            f"| {each['ours'] / each['pyclesperanto']:.2f} | {filters_on(shape):.1f} "
            f"| {a_run['ours']:.2f} | {a_run['pyclesperanto']:.2f} "
            f"| {a_run['ours'] / a_run['pyclesperanto']:.2f} |",
            flush=True,
        )
    print()
    for shape in [tuple(options.shape)] if options.shape else WORK_SHAPES:
        found = parts_on(shape)
        if shape == shapes[0]:
            print(f"| work volume | {' | '.join(found)} |\n|{'---|' * (len(found) + 1)}")
        row = " | ".join(f"{ms:.3f}" for ms in found.values())
        print(f"| {' x '.join(map(str, shape))} | {row} |", flush=True)


if __name__ == "__main__":
    main()
