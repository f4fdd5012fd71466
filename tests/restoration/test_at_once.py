from __future__ import annotations

import threading

import pytest

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.restoration.at_once import at_once
from napari_deconv.restoration.engine import Engine

CORES = 3


def test_results_come_in_order_and_no_engine_has_two_items() -> None:
    busy: set[Engine] = set()
    together = threading.Barrier(CORES, timeout=30)

    def work(number: int, engine: Engine) -> int:
        assert engine not in busy
        busy.add(engine)
        together.wait()  # so many are here at once
        busy.remove(engine)
        return number**2

    assert list(at_once(work, range(2 * CORES), CpuEngine(CORES))) == [0, 1, 4, 9, 16, 25]


def test_no_more_is_begun_than_is_asked_for() -> None:
    begun: list[int] = []

    def work(number: int, engine: Engine) -> int:
        begun.append(number)
        return number

    results = at_once(work, range(100), CpuEngine(CORES))
    assert next(results) == 0
    results.close()
    assert len(begun) <= CORES + 1


@pytest.mark.parametrize("cores", [1, CORES])
def test_an_error_is_that_of_its_item(cores: int) -> None:
    def work(number: int, engine: Engine) -> int:
        return 6 // (number - 2)

    results = at_once(work, range(5), CpuEngine(cores))
    assert [next(results), next(results)] == [-3, -6]
    with pytest.raises(ZeroDivisionError):
        next(results)
