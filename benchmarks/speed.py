"""Seconds to a given quality: curves of likelihood, PSNR and FSC, and memory, of all who can run.

    python benchmarks/speed.py [--cases PATTERN ...] [--contenders PATTERN ...] [--rounds 3]
        [--iterations 100] [--all] [--large] [--all-engines] [--npz FILE] [--psnr DB]
        [--folder docs]
    python benchmarks/speed.py --bound

Each contender restores each case in a process of its own, by turns over the rounds, so that a busy
machine slows all alike; the seconds are medians over the rounds, in which nobody looks at it: that
is done once more before. The cases are described in
`speed_cases.py`, the contenders in `speed_contenders.py`, what a second counts in `speed_one.py`.
Two yardsticks for each case: the PSNR and the likelihood that the plain loop in scipy reaches after
all its iterations, 100 if not told otherwise; "times faster" is its time over that of the contender
to reach the same. `--psnr` adds one of your own.

Writes `speed/speed_*.csv`, `speed/machine.txt` and figures `images/speed_*.png` into the folder.

`--bound` holds an iteration of the CPU engine against the four Fourier transforms that it cannot do
without: in scipy, of the whole volume at once; in place, as the engine does them; and as its
filters do, there and back in one go.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from speed_cases import EVERY, LARGE, SIDE, USUAL, Case, case_of, opened
from speed_contenders import Contender, contender_of, contenders
from speed_one import measured
from speed_tables import (
    Row,
    grouped,
    machine,
    printed,
    sides,
    summary,
    write_csv,
    write_curves,
    yardsticks,
)

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.blur import work_shape
from napari_deconv.restoration.fourier import Complex, Room
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.pieces import Cores
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.richardson_lucy import ACCELERATIONS, RichardsonLucy

DOCS = Path(__file__).parent.parent / "docs"
BOUND_SHAPES = ((32, 128, 128), (64, 256, 256), (128, 512, 512))
#: Seconds after which a contender is given up; iterations timed of a run for the bound.
PATIENCE_S, TIMED = 3600, 3


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.one:
        contender, case = contender_of(options.one), opened(options.npz)
        print(json.dumps(measured(contender, case, options.iterations, look=options.look)))
    elif options.bound:
        rows = bound(BOUND_SHAPES, options.rounds)
        write_csv(options.folder / "speed" / "speed_bound.csv", list(rows[0]), rows)
        print(printed(rows))
    else:
        compare(options)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", help="names or patterns, such as '*-dense-200'")
    parser.add_argument("--contenders", nargs="+", default=["*"], help="such as 'plain*' '*@cpu'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--all", action="store_true", help="every case of the usual size")
    parser.add_argument("--large", action="store_true", help="and two large ones")
    parser.add_argument("--all-engines", action="store_true", help="OpenCL without a GPU, too")
    parser.add_argument("--npz", type=Path, help="image, psf, background, spacing_um, truth")
    parser.add_argument("--psnr", type=float, help="seconds to this PSNR as well, in dB")
    parser.add_argument("--folder", type=Path, default=DOCS)
    parser.add_argument("--bound", action="store_true", help="an iteration against its transforms")
    # What this program calls itself with.
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    return parser


# -- all cases --------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> None:
    """Measure all cases, and write tables and figures."""
    # Not wanted in the processes that measure.
    from speed_figures import draw

    started = time.perf_counter()
    found, notes = contenders(all_engines=options.all_engines)
    for note in notes:
        print(f"not run: {note}")
    chosen = [c for c in found if any(fnmatch(c.key, p) for p in options.contenders)]
    rows: list[Row] = []
    cases: dict[str, Case] = {}
    for case in cases_of(options):
        cases[case.name] = case
        rows += measure(case, chosen, options.rounds, options.iterations, notes)
    curves = grouped(rows)
    told, of_cases = summary(curves, options.psnr), yardsticks(curves, cases)
    tables = options.folder / "speed"
    write_curves(tables / "speed_curves.csv", rows)
    write_csv(tables / "speed_summary.csv", list(told[0]), told)
    write_csv(tables / "speed_cases.csv", list(of_cases[0]), of_cases)
    text = machine(options.rounds, notes)
    (tables / "machine.txt").write_text(text, encoding="utf-8")
    pictures = draw(curves, options.folder / "images")
    print(f"\n{text}\n{printed(of_cases)}\n\n{printed(told)}\n")
    minutes = (time.perf_counter() - started) / 60
    print(f"{minutes:.1f} minutes; written to {options.folder}: speed/*, {', '.join(pictures)}")


def cases_of(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases that were asked for; a file alone where no others were."""
    if options.npz is not None:
        yield opened(options.npz)
    names: Sequence[str] = EVERY if options.all else USUAL
    if options.cases:
        names = [n for n in (*EVERY, *LARGE) if any(fnmatch(n, p) for p in options.cases)]
    elif options.npz is not None:
        names = []
    for name in (*names, *(LARGE if options.large else ())):
        yield case_of(name)


def measure(
    case: Case, chosen: Sequence[Contender], rounds: int, iterations: int, notes: list[str]
) -> list[Row]:
    """Return the curves of a case; who fails is noted and left out."""
    there = [c for c in chosen if c.flat or case.image.ndim == 3]
    runs: dict[str, list[dict[str, Any]]] = {contender.key: [] for contender in there}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        case.save(path)
        for turn in range(rounds + 1):  # the first one is looked at, and not timed
            for contender in list(there):
                started = time.perf_counter()
                result = run_one(contender, path, iterations, look=turn == 0)
                took = f"{time.perf_counter() - started:.1f} s"
                print(f"{case.name}, round {turn}, {contender.key}: {took}", flush=True)
                if isinstance(result, str):
                    there.remove(contender)
                    notes.append(f"{contender.key} on {case.name}: failed, {result}")
                    print(f"not run: {notes[-1]}")
                else:
                    runs[contender.key].append(result)
    return [row for contender in there for row in rows_of(case, contender, runs[contender.key])]


def run_one(
    contender: Contender, path: Path, iterations: int, *, look: bool
) -> dict[str, Any] | str:
    """Return what a contender measures in a process of its own, or in a line why it failed."""
    command = [sys.executable, __file__, "--one", contender.key, "--npz", str(path)]
    command += ["--iterations", str(iterations), *(["--look"] if look else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"not done after {PATIENCE_S} s"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    # Others print as well: the last line is ours.
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def rows_of(case: Case, contender: Contender, runs: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the points of a curve: scores of the first run, median seconds of the others."""
    timed_runs = ([point["seconds"] for point in run["points"]] for run in runs[1:])
    seconds = zip(*timed_runs, strict=True)
    return [
        Row(
            case=case.name,
            contender=contender.name,
            engine=contender.engine,
            iteration=point["iteration"],
            seconds=float(statistics.median(took)),
            reported_divergence=point["reported"],
            peak_volumes=runs[0]["peak_volumes"],
            **point["scores"],
        )
        for point, took in zip(runs[0]["points"], seconds, strict=True)
    ]


# -- the bound --------------------------------------------------------------------------


def bound(shapes: Sequence[tuple[int, ...]], rounds: int) -> list[dict[str, Any]]:
    """Return how long an iteration takes and its four transforms alone, a row an acceleration."""
    rows: list[dict[str, Any]] = []
    for shape in shapes:
        observation = dots(shape)
        padded = work_shape(shape, observation.psf.shape, "non-circulant")
        contestants: dict[str, Callable[[], float]] = {
            **{name: partial(iteration_s, observation, name) for name in ACCELERATIONS},
            "scipy": timed(scipy_transforms(padded)),
            "engine": timed(engine_transforms(shape, padded)),
            "filter": timed(engine_filters(shape, padded)),
        }
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, contestant in contestants.items():
                times[name].append(contestant())
        medians = {name: statistics.median(found) for name, found in times.items()}
        for name in ACCELERATIONS:
            row: dict[str, Any] = {
                "image": sides(shape),
                "padded": sides(padded),
                "acceleration": name,
            }
            row["iteration_s"] = medians[name]
            for alone in ("scipy", "engine", "filter"):
                row[f"{alone}_s"] = medians[alone]
                row[f"times_{alone}"] = medians[name] / medians[alone]
            rows.append(row)
    return rows


def dots(shape: tuple[int, ...]) -> Observation:
    """Return noisy dots and a Gaussian PSF of 31 voxels a side."""
    random = np.random.default_rng(0)
    axis = np.square(np.arange(SIDE) - SIDE // 2) / 8
    psf = np.exp(-np.add.outer(np.add.outer(axis / 4, axis), axis))
    light = np.where(random.random(shape, np.float32) > 0.999, 500.0, 5.0)
    return observe(random.poisson(light).astype(np.float32), Psf(psf))


def iteration_s(observation: Observation, acceleration: Any) -> float:
    """Return the seconds of an iteration, the first one, which also prepares, left out."""
    method = RichardsonLucy(TIMED + 2, acceleration=acceleration)
    steps, times = method.steps(observation, open_engine("cpu")), [time.perf_counter()]
    for _ in islice(steps, TIMED + 1):
        times.append(time.perf_counter())
    return float(statistics.median(np.diff(times)[1:]))


def timed(work: Callable[[], None]) -> Callable[[], float]:
    """Return what gives the median seconds of a few calls, after one that is not timed."""

    def run() -> float:
        times = []
        for _ in range(TIMED + 1):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return statistics.median(times[1:])

    return run


def scipy_transforms(padded: tuple[int, ...]) -> Callable[[], None]:
    from scipy.fft import irfftn, rfftn

    held = [np.ones(padded, np.float32)]
    more: dict[str, Any] = {"workers": Cores().count, "overwrite_x": True}

    def work() -> None:
        for _ in range(2):
            held[0] = irfftn(rfftn(held[0], **more), s=padded, **more)

    return work


def unchanged(piece: Complex, columns: slice) -> None:
    """Leave the spectrum as it is."""


def engine_transforms(shape: tuple[int, ...], padded: tuple[int, ...]) -> Callable[[], None]:
    """Return what transforms as an iteration does: all to the image's voxels, and back again."""
    room, whole = Room(padded, Cores()), np.ones(padded, np.float32)
    image = np.ones(shape, np.float32)

    def work() -> None:
        room.forward(whole)
        room.inverse(unchanged, shape)
        room.forward(image)
        room.inverse(unchanged, padded)

    return work


def engine_filters(shape: tuple[int, ...], padded: tuple[int, ...]) -> Callable[[], None]:
    """Return the same, there and back in one go, as filters do: in fewer passes over memory."""
    room, whole = Room(padded, Cores()), np.ones(padded, np.float32)
    image = np.ones(shape, np.float32)

    def work() -> None:
        room.filter(whole, unchanged, shape)
        room.filter(image, unchanged, padded)

    return work


if __name__ == "__main__":
    main()
