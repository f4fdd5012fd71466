"""Simulated pairs of a training, one a core, held against one after the other on all cores.

Pairs of the shape that trainings have, a widefield PSF of 31 x 31 x 31 voxels, and the channels of
the network that cleans up what Richardson-Lucy has undone. The ratio is best over best.
"""

from __future__ import annotations

import time
from typing import Any

from learned_quality import psf_of_benchmark

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.learned.designs import inverse_design
from napari_deconv.learned.pairs import Light, simulated_pairs
from napari_deconv.learned.samples import Sample, sample_of
from napari_deconv.learned.trainer import Schedule
from napari_deconv.restoration.at_once import at_once
from napari_deconv.restoration.engine import Engine

PAIRS, ROUNDS = 8, 2


def test_pairs_at_once(benchmark: Any, capsys: Any) -> None:
    psf, light, engine = psf_of_benchmark(), Light((5.0, 80.0), (5.0, 15.0)), CpuEngine()
    design, one_by_one = inverse_design(psf), []

    def sample(number: int, engine: Engine) -> Sample:
        (pair,) = simulated_pairs([number], Schedule.shape, [psf], light, 0)
        return sample_of(pair, psf, design, engine)

    def before_each_round() -> None:
        started = time.perf_counter()
        for number in range(PAIRS):
            sample(number, engine)
        one_by_one.append(time.perf_counter() - started)

    def run() -> None:
        assert len(list(at_once(sample, range(PAIRS), engine))) == PAIRS

    benchmark.pedantic(run, setup=before_each_round, rounds=ROUNDS, iterations=1)
    ratio = float(benchmark.stats.stats.min) / min(one_by_one)
    with capsys.disabled():
        print(f"\n{engine.device}, pairs at once: {ratio:.2f} times one after the other")
