"""Jobs: results, failures as sentences, cancelling at the next step."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Generator
from typing import Any

from pytestqt.qtbot import QtBot
from qtpy.QtCore import QObject

from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.restorer import Step
from napari_deconv.ui.jobs import Job, Latest, Stream
from napari_deconv.ui.run_panel import Clock


def test_a_job_steps_and_returns_in_the_gui_thread(qtbot: QtBot) -> None:
    seen: list[object] = []
    worker_thread: list[int] = []

    def work() -> Generator[Step, None, str]:
        worker_thread.append(threading.get_ident())
        yield Step(1, 2)
        yield Step(2, 2)
        return "done"

    job = Job()
    job.stepped.connect(lambda step: seen.append((step.done, threading.get_ident())))
    with qtbot.waitSignal(job.finished, timeout=10_000) as signal:
        job.start(work)
    here = threading.get_ident()
    assert signal.args == ["done"]
    assert seen == [(1, here), (2, here)]
    assert worker_thread != [here]
    assert not job.running


def test_failures_become_one_sentence(qtbot: QtBot) -> None:
    def refuses() -> Generator[Step, None, None]:
        yield Step(0, 1)
        raise InputError("The PSF is odd; choose another")

    def breaks() -> Generator[Step, None, None]:
        yield Step(0, 1)
        raise RuntimeError("first line\nsecond line")

    job = Job()
    for work, sentence in (
        (refuses, "The PSF is odd; choose another"),
        (breaks, "This failed unexpectedly (RuntimeError: first line)"),
    ):
        with qtbot.waitSignal(job.failed, timeout=10_000) as signal:
            job.start(work)
        assert signal.args == [sentence]


def test_work_stops_when_what_started_it_is_gone(qtbot: QtBot) -> None:
    """As a window takes its docks along when it closes."""
    done: list[int] = []

    def work() -> Generator[Step, None, None]:
        while True:
            done.append(len(done))
            yield Step(0, 1)

    window = QObject()
    job = Job(window)
    window.destroyed.connect(job.cancel)
    job.start(work)
    qtbot.waitUntil(lambda: len(done) > 3, timeout=10_000)
    with qtbot.waitSignal(window.destroyed, timeout=10_000):
        window.deleteLater()
    qtbot.wait(100)  # for the step that was just being done
    before = len(done)
    qtbot.wait(100)
    assert len(done) == before


def test_cancel_acts_at_the_next_step_and_runs_finally(qtbot: QtBot) -> None:
    freed = threading.Event()
    steps: list[int] = []
    go_on = threading.Event()

    def work() -> Generator[Step, None, None]:
        try:
            for number in range(1000):
                steps.append(number)
                yield Step(number, 1000)
                go_on.wait(10)
        finally:
            freed.set()

    job = Job()
    with qtbot.waitSignal(job.stepped, timeout=10_000):
        job.start(work)
    job.cancel()
    with qtbot.waitSignal(job.cancelled, timeout=10_000):
        go_on.set()
    assert len(steps) <= 2
    qtbot.waitUntil(freed.is_set, timeout=10_000)
    assert not job.running


def test_the_latest_request_wins(qtbot: QtBot) -> None:
    results: list[object] = []
    latest = Latest(20)
    latest.ready.connect(results.append)
    for number in range(5):
        latest.request(lambda number=number: number)  # type: ignore[misc]
    qtbot.waitUntil(lambda: bool(results), timeout=10_000)
    qtbot.wait(100)
    assert results == [4]


def test_a_request_after_a_stop_is_answered(qtbot: QtBot) -> None:
    results: list[object] = []
    latest = Latest(1)
    latest.ready.connect(results.append)
    started, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        go_on.wait(10)
        return "slow"

    latest.request(slow)
    qtbot.waitUntil(started.is_set, timeout=10_000)
    latest.stop()
    latest.request(lambda: "next")
    qtbot.wait(30)
    go_on.set()
    qtbot.waitUntil(lambda: "next" in results, timeout=10_000)
    assert not latest.running


def test_a_job_started_by_the_end_of_another_is_not_ended_by_it(qtbot: QtBot) -> None:
    ends: list[object] = []
    job, go_on = Job(), threading.Event()

    def work(result: int) -> Generator[Step, None, int]:
        yield Step(0, 1)
        if result:
            go_on.wait(10)
        return result

    def again(result: int) -> None:
        ends.append(result)
        if result == 0:
            job.start(lambda: work(1))

    job.finished.connect(again)
    job.cancelled.connect(lambda: ends.append("cancelled"))
    job.start(lambda: work(0))
    qtbot.waitUntil(lambda: ends == [0], timeout=10_000)
    qtbot.wait(100)  # for the thread of the first to say that it is over
    assert job.running
    go_on.set()
    qtbot.waitUntil(lambda: not job.running, timeout=10_000)
    assert ends == [0, 1]


def test_a_failed_request_gives_its_sentence(qtbot: QtBot) -> None:
    def fails() -> None:
        raise InputError("no voxel size")

    latest = Latest(1)
    with qtbot.waitSignal(latest.ready, timeout=10_000) as signal:
        latest.request(fails)
    assert str(signal.args[0]) == "no voxel size"


def test_a_stream_follows_the_newest_and_always_shows_something(qtbot: QtBot) -> None:
    items: list[tuple[int, int]] = []
    stream = Stream()
    stream.item.connect(items.append)
    go_on = threading.Event()

    def counting(number: int) -> Generator[tuple[int, int], None, int]:
        for step in range(3):
            yield number, step
            go_on.wait(10)
        return number

    stream.request(lambda: counting(0))
    qtbot.waitUntil(lambda: items == [(0, 0)], timeout=10_000)
    for number in range(1, 5):
        stream.request(lambda number=number: counting(number))  # type: ignore[misc]
    with qtbot.waitSignal(stream.ended, timeout=10_000) as signal:
        go_on.set()
    assert signal.args == [4]
    # Of the one that was stopped at most its first item; of the newest, all.
    assert items == [(0, 0), (4, 0), (4, 1), (4, 2)]


def test_a_stopped_stream_is_not_heard(qtbot: QtBot) -> None:
    items: list[int] = []
    stream = Stream()
    stream.item.connect(items.append)
    started, go_on = threading.Event(), threading.Event()

    def work() -> Generator[int, None, None]:
        started.set()
        go_on.wait(10)
        yield 1

    stream.request(work)
    assert started.wait(10)
    stream.stop()
    go_on.set()
    qtbot.waitUntil(lambda: not stream.running, timeout=10_000)
    assert items == []


def test_a_cancelled_job_keeps_nothing_of_what_it_made(viewer: Any, qtbot: QtBot) -> None:
    """A viewer that lists its workers would keep them, and a preview is cancelled often."""

    class Picture:
        pass

    made: list[weakref.ref[Picture]] = []
    go_on = threading.Event()

    def work() -> Generator[int, None, None]:
        picture = Picture()
        made.append(weakref.ref(picture))
        yield 1
        go_on.wait(10)
        yield 2
        del picture

    job = Job()
    with qtbot.waitSignal(job.stepped, timeout=10_000):
        job.start(work)
    job.cancel()
    with qtbot.waitSignal(job.cancelled, timeout=10_000):
        go_on.set()

    def is_gone() -> bool:
        gc.collect()
        return made[0]() is None

    qtbot.waitUntil(is_gone, timeout=5_000)


def test_clock_starts_with_the_second_step() -> None:
    clock = Clock()
    assert clock.left_s(Step(0, 10)) is None
    assert clock.left_s(Step(1, 10)) is None
    left = clock.left_s(Step(2, 10))
    assert left is not None
    assert left >= 0
