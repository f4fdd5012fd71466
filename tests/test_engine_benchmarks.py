"""The benchmarks of engines on a tiny volume: they measure what there is, and the results agree."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from napari_deconv.engines.torch_engine import TorchEngine

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SHAPE, TARGET = (16, 32, 32), "cpu"


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[dict[str, ModuleType]]:
    before, names = list(sys.path), ("gpu", "opencl")
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in names}
    sys.path[:] = before
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_an_iteration_is_measured_and_its_result_is_that_of_the_cpu(
    benchmarks: dict[str, ModuleType], kind: str
) -> None:
    row = benchmarks["gpu"].compared(SHAPE, kind, TorchEngine(TARGET), TARGET)
    assert row["work volume"] == "16x32x32"
    assert float(row["apart from CPU"]) < 1e-4
    assert all(float(row[name]) > 0 for name in ("iteration, ms", "its 4 FFTs, ms", "a run, ms"))


def test_the_steps_of_an_iteration_are_measured(benchmarks: dict[str, ModuleType]) -> None:
    rows = list(benchmarks["gpu"].steps(SHAPE, "symmetric", TorchEngine(TARGET), TARGET))
    assert [row["step"] for row in rows] == ["forward", "total", "ratio", "adjoint", "leap"]
    assert all(float(row["ms"]) > 0 for row in rows)


def test_every_way_to_transform_comes_back(benchmarks: dict[str, ModuleType]) -> None:
    rows = list(benchmarks["gpu"].variant_rows(SHAPE, TARGET))
    assert len(rows) == len(benchmarks["gpu"].variants())
    assert all(float(row["error"]) < 1e-5 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="OpenCL without a GPU is there on Linux alone")
def test_opencl_is_measured(benchmarks: dict[str, ModuleType]) -> None:
    found = benchmarks["opencl"].parts_on(SHAPE)
    assert found["iteration"] > 0
    assert found["its four transforms"] > 0
    for restore in benchmarks["opencl"].contenders_on(SHAPE).values():
        restore(1)
    assert benchmarks["opencl"].filters_on(SHAPE) > 0
