"""An iteration of Richardson-Lucy on a GPU, held against its transforms and its memory traffic.

    python benchmarks/gpu.py [--shapes 128x512x512 ...] [--psf asymmetric] [--steps] [--variants]

For each shape of the work volume, on the first device of torch (its CPU where there is no GPU):
the median of 20 iterations after 3; of its four Fourier transforms alone; of a copy of the volume;
and of the CPU engine's iterations in the same run. The bound is the time that memory takes where
each of an iteration's steps reads its operands and writes its result once, as fast as the copy
does; a transform counts as one step, which none is. Memory is what torch has allocated at the
most, in volumes of the work shape, beside what `volumes` and `extra_volumes` promise; "asked for"
counts how often torch asks the device for memory from the third iteration on. Set-up and
first iteration are single measurements; kernels are compiled in the latter, or read from torch's
cache (`PYTORCH_KERNEL_CACHE_PATH`). "A run" is the whole of 20 iterations, from the image in memory
to the result in memory, the median of 5 after the first; that of the CPU engine is one.

`--steps` times the steps of an iteration one by one, `--variants` ways to transform, `--graphs` an
iteration of steps that do not change, launched kernel by kernel and as one captured graph.
"""

from __future__ import annotations

import argparse
import gc
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.engines.torch_engine import TorchEngine, torch_devices
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.momentum import LEAP, UNSEEN, leap
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.running import RATIO, VARYING, Run

SHAPES = ("32x128x128", "64x256x256", "128x512x512")
PSF_SHAPE = (9, 17, 17)
REPEATS, WARM_UPS, ITERATIONS = 20, 3, 20
#: Calls between two looks at the clock, for what takes less than launching it.
CALLS = 10

Shape = tuple[int, ...]
Work = Callable[[], Any]


class Clock:
    """Measures seconds on a device of torch."""

    def __init__(self, target: str) -> None:
        self._is_cuda = target.startswith("cuda")

    def requests(self) -> int | None:
        """Return how often torch has asked the device for memory, None where none counts."""
        if not self._is_cuda:
            return None
        return int(torch.cuda.memory_stats()["segment.all.allocated"])

    def wait(self) -> float:
        """Return the time when the device is done."""
        if self._is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def once(self, work: Work) -> float:
        started = self.wait()
        work()
        return self.wait() - started

    def median(self, work: Work, calls: int = 1) -> float:
        def several() -> None:
            for _ in range(calls):
                work()

        seconds = [self.once(several) / calls for _ in range(WARM_UPS + REPEATS)]
        return statistics.median(seconds[WARM_UPS:])

    def peak_bytes(self, work: Work) -> int | None:
        """Do the work; return by how much more is allocated meanwhile, None where none counts."""
        if not self._is_cuda:
            work()
            return None
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before


def observed(shape: Shape, kind: str) -> Observation:
    """Return noisy dots whose restoration works on `shape`."""
    rng = np.random.default_rng(0)
    at = np.indices(PSF_SHAPE) - np.array([n // 2 for n in PSF_SHAPE]).reshape(3, 1, 1, 1)
    psf = np.exp(-((at[0] / 1.2) ** 2 + (at[1] / 2) ** 2 + (at[2] / 2) ** 2) / 2)
    if kind == "asymmetric":
        psf *= 1 + 0.1 * at[0]
        psf = psf.clip(0)
    image_shape = [n - p // 2 for n, p in zip(shape, PSF_SHAPE, strict=True)]
    dots = np.where(rng.random(image_shape, np.float32) > 0.999, 500.0, 5.0)
    return observe(rng.poisson(dots).astype(np.float32), Psf(psf.astype(np.float32)), 1.0)


@dataclass(frozen=True)
class OnCpu:
    """What the CPU engine makes of an image in `ITERATIONS`, and how long one takes."""

    estimate: Any
    seconds: float
    run_seconds: float


def on_cpu(observation: Observation) -> OnCpu:
    started, clock = time.perf_counter(), Clock("cpu")
    run = Run(RichardsonLucy(), observation, CpuEngine())
    seconds = [clock.once(run.update) for _ in range(ITERATIONS)]
    result = run.result()
    return OnCpu(result, statistics.median(seconds), time.perf_counter() - started)


def whole_run(observation: Observation, engine: TorchEngine, clock: Clock) -> float:
    """Return the seconds of a run that does as `on_cpu`."""

    def work() -> None:
        run = Run(RichardsonLucy(), observation, engine)
        for _ in range(ITERATIONS):
            run.update()
        run.result()

    return statistics.median([clock.once(work) for _ in range(6)][1:])


def compared(shape: Shape, kind: str, engine: TorchEngine, target: str) -> dict[str, str]:
    """Return one row of the table."""
    clock, observation, method = Clock(target), observed(shape, kind), RichardsonLucy()
    found: dict[str, Any] = {}

    def counted() -> None:
        started = clock.wait()
        run = Run(method, observation, engine)
        found["set-up"] = clock.wait() - started
        found["first"] = clock.once(run.update)
        run.update()
        before = clock.requests()
        for _ in range(ITERATIONS - 2):
            run.update()
        after = clock.requests()
        found["asked"] = "-" if before is None or after is None else str(after - before)
        found["estimate"] = run.result()

    peak = clock.peak_bytes(counted)
    run = Run(method, observation, engine)
    assert run.momentum.estimate().shape == shape
    iteration = clock.median(run.update)
    del run
    transforms, copy = 2 * pair_of_transforms(shape, clock, target), copied(shape, clock, target)
    bound = passes(shape, observation.image.shape, kind) * copy / 2
    whole, cpu = whole_run(observation, engine, clock), on_cpu(observation)
    apart = np.abs(found["estimate"] - cpu.estimate).max() / cpu.estimate.max()
    volume = 4 * math.prod(shape)
    return {
        "work volume": "x".join(map(str, shape)),
        "iteration, ms": f"{1e3 * iteration:.3f}",
        "its 4 FFTs, ms": f"{1e3 * transforms:.3f}",
        "iteration / FFTs": f"{iteration / transforms:.2f}",
        "copy, ms": f"{1e3 * copy:.4f}",
        "GB/s": f"{2 * volume / copy / 1e9:.0f}",
        "bound, ms": f"{1e3 * bound:.3f}",
        "iteration / bound": f"{iteration / bound:.2f}",
        "CPU engine, ms": f"{1e3 * cpu.seconds:.0f}",
        "times as fast": f"{cpu.seconds / iteration:.0f}",
        "a run, ms": f"{1e3 * whole:.0f}",
        "by the CPU engine": f"{1e3 * cpu.run_seconds:.0f}",
        "peak, volumes": "-" if peak is None else f"{peak / volume:.2f}",
        "promised": f"{method.volumes + engine.extra_volumes:.2f}",
        "asked for": found["asked"],
        "apart from CPU": f"{apart:.1e}",
        "set-up, ms": f"{1e3 * found['set-up']:.0f}",
        "first iteration, ms": f"{1e3 * found['first']:.0f}",
    }


def pair_of_transforms(shape: Shape, clock: Clock, target: str) -> float:
    """Return the seconds of a transform, there and back."""
    x = torch.rand(shape, device=target)
    spectrum = torch.fft.rfftn(x)
    there = clock.median(lambda: torch.fft.rfftn(x), CALLS)
    return there + clock.median(lambda: torch.fft.irfftn(spectrum, s=shape, norm="forward"), CALLS)


def copied(shape: Shape, clock: Clock, target: str) -> float:
    x = torch.rand(shape, device=target)
    y = torch.empty_like(x)
    return clock.median(lambda: y.copy_(x), CALLS)


def passes(shape: Shape, window: Shape, kind: str) -> float:
    """Return how many volumes an iteration reads and writes at the least."""
    share, factors = math.prod(window) / math.prod(shape), 0.5 if kind == "symmetric" else 1.0
    transforms, products = 4 * 2.0, 2 * (2 + factors)
    # The ratio is of two windows into one, the sum of two; the leap of four volumes into one.
    return transforms + products + share * (3 + 2) + 5


def steps(shape: Shape, kind: str, engine: TorchEngine, target: str) -> Iterable[dict[str, str]]:
    """Yield the steps of an iteration, one by one."""
    clock = Clock(target)
    run = Run(RichardsonLucy(), observed(shape, kind), engine)
    run.update()
    run.update()
    x, before, seen = run.momentum.x, run.momentum.p, run.seen  # type: ignore[attr-defined]
    model = run.blur.forward(x)
    ratio = engine.evaluate("1.0f * f", f=model)
    correction = run.blur.adjoint(engine.evaluate("1.0f * f", f=model))
    length, weight = leap(3)
    numbers = {"v": run.variance, "b": run.background, "least": run.least}
    weights = {"o": length, "a": weight, "r": 1 - length + weight, "u": UNSEEN}
    works: dict[str, Work] = {
        "forward": lambda: run.blur.forward(x),
        "total": lambda: run.varying(model, run.counts),
        "ratio": lambda: engine.evaluate(
            "(y + v) / fmax(f + b, least)", y=run.counts, f=model, **numbers
        ),
        "adjoint": lambda: run.blur.adjoint(ratio),
        "leap": lambda: engine.evaluate(LEAP, x=x, q=before, c=correction, w=seen, **weights),
    }
    for name, work in works.items():
        seconds = clock.median(work, 1 if name == "total" else CALLS)
        size = "x".join(map(str, shape))
        yield {"work volume": size, "step": name, "ms": f"{1e3 * seconds:.4f}"}


def graphs(shape: Shape, kind: str, engine: TorchEngine) -> Iterable[dict[str, str]]:
    """Yield how long an iteration takes in both ways; ten in a row, waited for at their end."""
    clock, run = Clock("cuda"), Run(RichardsonLucy(), observed(shape, kind), engine)
    run.update()
    x, before, counts = run.momentum.x.clone(), run.momentum.p.clone(), run.counts  # type: ignore[attr-defined]
    length, weight = leap(3)
    weights = {"o": length, "a": weight, "r": 1 - length + weight, "u": UNSEEN}

    def body() -> Any:
        point = engine.evaluate(LEAP, x=x, q=before, c=x, w=run.seen, **weights)
        operands = {"f": run.blur.forward(point), "y": counts, **run.light}
        rows = engine.evaluate(VARYING, **operands).sum(dim=-1)
        return run.blur.adjoint(engine.evaluate(RATIO, **operands)), rows

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        body()
    clock.wait()
    graph = torch.cuda.CUDAGraph()

    def capture() -> None:
        with torch.cuda.graph(graph):
            body()

    capturing = clock.once(capture)
    times = {"kernel by kernel": body, "as a graph": graph.replay}
    yield {
        "work volume": "x".join(map(str, shape)),
        **{f"{k}, ms": f"{1e3 * clock.median(work, CALLS):.3f}" for k, work in times.items()},
        "captured in, ms": f"{1e3 * capturing:.1f}",
    }


@dataclass(frozen=True)
class Variant:
    """A way to transform there and, given the shape, back; not normalised."""

    name: str
    there: Callable[[torch.Tensor], torch.Tensor]
    back: Callable[[torch.Tensor, Shape], torch.Tensor]


def variants() -> list[Variant]:
    fft = torch.fft
    bare = {"norm": "forward"}

    def into_place(x: torch.Tensor) -> torch.Tensor:
        spectrum = fft.rfft(x)
        return fft.fftn(spectrum, dim=(0, 1), out=spectrum)

    def out_of_place(z: torch.Tensor, s: Shape) -> torch.Tensor:
        return fft.irfft(fft.ifftn(z, dim=(0, 1), out=z, **bare), s[2], **bare)

    def by_axis(x: torch.Tensor) -> torch.Tensor:
        return fft.fft(fft.fft(fft.rfft(x), dim=1), dim=0)

    def back_by_axis(z: torch.Tensor, s: Shape) -> torch.Tensor:
        return fft.irfft(fft.ifft(fft.ifft(z, dim=0, **bare), dim=1, **bare), s[2], **bare)

    last = (1, 2, 3)
    return [
        Variant("rfftn, irfftn", fft.rfftn, lambda z, s: fft.irfftn(z, s=s, **bare)),
        Variant("the same, normalised", fft.rfftn, lambda z, s: fft.irfftn(z, s=s)),
        Variant(
            "one plan (a batch of one)",
            lambda x: fft.rfftn(x[None], dim=last)[0],
            lambda z, s: fft.irfftn(z[None], s=s, dim=last, **bare)[0],
        ),
        Variant(
            "planes, then the first axis",
            lambda x: fft.fft(fft.rfft2(x), dim=0),
            lambda z, s: fft.irfft2(fft.ifft(z, dim=0, **bare), s=s[1:], **bare),
        ),
        Variant("axis by axis", by_axis, back_by_axis),
        Variant("rfft, then fftn with out=", into_place, out_of_place),
    ]


def variant_rows(shape: Shape, target: str) -> Iterable[dict[str, str]]:
    """Yield how long each variant takes, its product with real factors included."""
    clock, volume = Clock(target), 4 * math.prod(shape)
    x = torch.rand(shape, device=target)
    for variant in variants():
        spectrum = variant.there(x)
        ordered = torch.empty_like(spectrum, dtype=torch.float32).fill_(1)
        plain = ordered.contiguous() if spectrum.stride()[-1] != 1 else None
        scale = 1 if variant.name.endswith("normalised") else math.prod(shape)
        back = partial(variant.back, spectrum, shape)
        times = {
            "there, ms": clock.median(partial(variant.there, x), CALLS),
            "product, ms": clock.median(partial(spectrum.mul_, ordered), CALLS),
            "product with rows in order, ms": (
                None if plain is None else clock.median(partial(spectrum.mul_, plain), CALLS)
            ),
        }
        error = float((variant.back(spectrum, shape) / scale - x).abs().max())
        times["back, ms"] = clock.median(back, CALLS)
        peaks = [clock.peak_bytes(work) for work in (partial(variant.there, x), back)]
        yield {
            "work volume": "x".join(map(str, shape)),
            "variant": variant.name,
            **{k: "-" if v is None else f"{1e3 * v:.4f}" for k, v in times.items()},
            "peaks, volumes": ", ".join("-" if p is None else f"{p / volume:.2f}" for p in peaks),
            "error": f"{error:.1e}",
            "strides": " ".join(map(str, spectrum.stride())),
        }
        del spectrum, ordered, plain, back


def print_table(rows: Iterable[dict[str, str]]) -> None:
    for index, row in enumerate(rows):
        if index == 0:
            print(f"\n| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(row.values())} |", flush=True)


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="ZxYxX")
    parser.add_argument("--psf", choices=("symmetric", "asymmetric"), default="symmetric")
    parser.add_argument("--device", default=torch_devices()[0])
    parser.add_argument("--steps", action="store_true", help="also time each step")
    parser.add_argument("--variants", action="store_true", help="also time ways to transform")
    parser.add_argument("--graphs", action="store_true", help="also capture an iteration (CUDA)")
    parser.add_argument("--no-runs", action="store_true", help="only what is asked for besides")
    options = parser.parse_args()
    shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes]
    engine, target, kind = TorchEngine(options.device), options.device, options.psf
    print(f"{engine.device}, torch {torch.__version__}; kernels are compiled: {engine._fuses}")
    print(f"{CpuEngine().device}: {cpu_name()}; {kind} PSF")
    if not options.no_runs:
        print_table(compared(shape, kind, engine, target) for shape in shapes)
    if options.steps:
        print_table(row for shape in shapes for row in steps(shape, kind, engine, target))
    if options.graphs:
        print_table(row for shape in shapes for row in graphs(shape, kind, engine))
    if options.variants:
        print_table(row for shape in shapes for row in variant_rows(shape, target))


if __name__ == "__main__":
    main()
