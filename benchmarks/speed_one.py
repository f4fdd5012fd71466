"""Measures one contender on one case, in a process of its own: `speed.py` starts it.

Time counts the method alone, in runs that nobody looks at (where one is looked at, the clock stands
while an estimate is fetched and scored). The CPU engine ends an iteration's last transform as the
next iteration begins: a point is early by that, a fifth of an iteration at the most. Before the
clock starts all has run once on a tiny image, or on the image itself where its size is prepared for
(OpenCL, deconwolf). The memory is by how much the process grows in a few iterations that nobody
looks at.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from speed_cases import Case, Judge, Scores
from speed_contenders import Contender, on_gpu, opened_engine

from napari_deconv.engines import ENGINES
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation

#: Iterations that are looked at on the way.
LOOKED_AT = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 60, 80, 100)
#: Iterations in which the memory is watched, how often, and the image that all is warmed up on.
WATCHED, EVERY_S, TINY = 4, 1e-3, 16


def measured(contender: Contender, case: Case, iterations: int, *, look: bool) -> dict[str, Any]:
    """Return the curve of a contender as plain values; with `look`, its scores and memory too."""
    warm_up(contender, case)
    peak, judge = None, None
    if look:
        peak, judge = peak_volumes(contender, case), Judge(case)
        give_back_freed()
    points = curve(contender, case, iterations, judge)
    return {"peak_volumes": peak, "points": [asdict(point) for point in points]}


@dataclass(frozen=True)
class Point:
    """One place of a curve."""

    iteration: float
    seconds: float
    reported: float | None
    scores: Scores


def warm_up(contender: Contender, case: Case) -> None:
    """Run on a tiny image: what is imported, compiled and planned for is not timed."""
    observation = case.observations()[0]
    if not contender.plans:
        tiny = tuple(slice(min(TINY, n)) for n in observation.image.shape)
        blob = np.ones((3,) * observation.image.ndim)
        observation = observe(observation.image[tiny] + 1, Psf(blob), 0.0)
    for _ in contender.moments(observation, 2):
        pass


def curve(contender: Contender, case: Case, iterations: int, judge: Judge | None) -> list[Point]:
    """Return the curve of a run; of two halves of the photons, the mean of both."""
    runs = [
        list(_points(contender, observation, iterations, part, judge))
        for part, observation in enumerate(case.observations())
    ]
    return [_mean(points) for points in zip(*runs, strict=True)]


def _points(
    contender: Contender, observation: Observation, iterations: int, part: int, judge: Judge | None
) -> Iterator[Point]:
    most = max(1, round(contender.part * iterations))
    moments, clock, index = contender.moments(observation, most), 0.0, 0
    while True:
        started = time.perf_counter()
        moment = next(moments, None)
        took = time.perf_counter() - started
        if moment is None:
            return
        clock = took if contender.whole else clock + took
        if not contender.whole and moment.iteration not in (*LOOKED_AT, most):
            continue
        scores = Scores()
        if judge is not None:
            found = moment.estimate()
            scores = judge.scores(part, index, found, shifted=contender.foreign)
        yield Point(moment.iteration, clock, moment.reported, scores)
        index += 1


def _mean(points: tuple[Point, ...]) -> Point:
    """Return the mean of the halves of the photons; the scores of the last are those of both."""
    reported = [point.reported for point in points if point.reported is not None]
    return Point(
        sum(point.iteration for point in points) / len(points),
        sum(point.seconds for point in points) / len(points),
        sum(reported) / len(reported) if len(reported) == len(points) else None,
        points[-1].scores,
    )


def peak_volumes(contender: Contender, case: Case) -> float | None:
    """Return the peak memory in padded float32 volumes, the image included; None if unknown.

    On a GPU of torch's it is that GPU's memory; that of other GPUs is not known.
    """
    observation = case.observations()[0]
    unit = 4 * math.prod(case.work_shape)
    is_ours = contender.engine in ENGINES and not contender.foreign
    if is_ours and on_gpu(opened_engine(contender.engine)):
        return _gpu_bytes(contender, observation, unit)
    with Watch(children=contender.outside) as watch:
        for _ in contender.moments(observation, WATCHED):
            pass
    return (watch.grown + observation.image.nbytes) / unit


def _gpu_bytes(contender: Contender, observation: Observation, unit: int) -> float | None:
    if contender.engine != "torch":
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    torch.cuda.reset_peak_memory_stats()
    for _ in contender.moments(observation, WATCHED):
        pass
    return float(torch.cuda.max_memory_allocated() / unit)


def give_back_freed() -> None:
    """Give freed memory back to the system, so that the timed run begins as a fresh one."""
    gc.collect()
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class Watch:
    """Looks at the memory of this process, and of those that it starts, as long as it is open."""

    def __init__(self, *, children: bool) -> None:
        import psutil

        self._process, self._children = psutil.Process(), children
        self._done, self._seen = threading.Event(), [self._held()]
        self._thread = threading.Thread(target=self._watch)

    @property
    def grown(self) -> float:
        """Bytes held at the most, less those at the beginning."""
        return float(max(self._seen) - self._seen[0])

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(EVERY_S):
            self._seen.append(self._held())

    def _held(self) -> int:
        import psutil

        total = int(self._process.memory_info().rss)
        for child in self._process.children(recursive=True) if self._children else ():
            try:
                total += int(child.memory_info().rss)
            except psutil.Error:  # it has ended meanwhile
                continue
        return total
