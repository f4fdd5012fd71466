"""Long work off the GUI thread: alone knows threads.

A job is a generator, mostly of `Step`, that returns its result. Its signals arrive in the
GUI thread; `cancel` stops it at its next step and lets its `finally` free the device.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QThreadPool, QTimer, Signal
from superqt.utils import create_worker

from napari_deconv.imaging.value import InputError, in_a_sentence
from napari_deconv.restoration.restorer import Step

Work = Callable[[], Generator[Any, None, Any]]

#: A run, a preview's two stages, a forecast, a header and a PSF may be worked on at once.
THREADS = 8


class Job(QObject):
    """One generator at a time in a worker thread.

    Signals: `stepped(Step)`, `finished(result)`, `failed(sentence)`, `cancelled()`.
    """

    stepped = Signal(object)
    finished = Signal(object)
    failed = Signal(str)
    cancelled = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._run: _Run | None = None

    @property
    def running(self) -> bool:
        """Whether a generator is being worked on."""
        return self._run is not None

    def start(self, work: Work) -> None:
        """Start `work` in a thread; ignored while another one runs."""
        if not self.running:
            self._run = _Run(self, work)
            self._run.worker.start()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        if self._run is not None:
            self._run.worker.quit()

    def _ended(self, outcome: Any) -> None:
        self._run = None
        if isinstance(outcome, _Cancelled):
            self.cancelled.emit()
        elif isinstance(outcome, _Failure):
            self.failed.emit(outcome.sentence)
        else:
            self.finished.emit(outcome)


class _Run(QObject):
    """One worker of a job, which hears its outcome once, and nothing after that.

    The worker says `aborted` only between two steps, and nothing when the generator was just
    returning: a thread that ended without an outcome was cancelled.
    """

    def __init__(self, job: Job, work: Work) -> None:
        super().__init__(job)
        self.job, self._is_over = job, False
        # Not napari's own create_worker: its list of tasks keeps each worker and all it made.
        self.worker = create_worker(_guarded, work, _start_thread=False)
        self.worker.yielded.connect(self._yielded)
        self.worker.returned.connect(self._returned)
        self.worker.finished.connect(self._finished)
        _make_room()

    def _yielded(self, step: object) -> None:
        self.job.stepped.emit(step)

    def _returned(self, outcome: Any) -> None:
        self._is_over = True
        self.job._ended(outcome)

    def _finished(self) -> None:
        # The job may be working on the next request by now.
        if not self._is_over:
            self._returned(_Cancelled())
        # Qt deletes in its own time; what the work made is let go of now.
        del self.worker
        self.deleteLater()


class _Cancelled:
    """The outcome of a job that was stopped."""


def _make_room() -> None:
    """Let short work start beside long work: by default Qt has as many threads as processors."""
    pool = QThreadPool.globalInstance()
    if pool is not None and pool.maxThreadCount() < THREADS:
        pool.setMaxThreadCount(THREADS)


@dataclass(frozen=True)
class _Failure:
    """The outcome of a job that failed: why, in a sentence for the user."""

    sentence: str


def _guarded(work: Work) -> Generator[Step, None, Any]:
    """Run `work`, turning any exception into a `_Failure`: none may end as a traceback."""
    steps = work()
    try:
        return (yield from steps)
    except Exception as error:
        return _Failure(in_a_sentence(error))
    finally:
        steps.close()


class Latest(QObject):
    """Runs the newest of many requests in a thread, some time after the last one came.

    Signal: `ready(result)`, for the newest request only; a request that fails is dropped, as
    the same problem is told when the user runs it.
    """

    ready = Signal(object)

    def __init__(self, delay_ms: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.timeout.connect(self._start)
        self._job = Job(self)
        self._job.finished.connect(self._finished)
        self._job.failed.connect(self._failed)
        self._job.cancelled.connect(self._start)
        self._wanted: Callable[[], Any] | None = None

    @property
    def running(self) -> bool:
        """Whether a request is being worked on."""
        return self._job.running

    def request(self, function: Callable[[], Any]) -> None:
        """Ask for `function()`; earlier requests that have not started are forgotten."""
        self._wanted = function
        self._timer.start()

    def stop(self) -> None:
        """Forget what was asked for."""
        self._wanted = None
        self._timer.stop()
        self._job.cancel()

    def _start(self) -> None:
        if self._wanted is None or self._job.running:
            return
        function, self._wanted = self._wanted, None

        def work() -> Generator[Step, None, Any]:
            yield Step(0, 1)
            return function()

        self._job.start(work)

    def _finished(self, result: object) -> None:
        if self._wanted is None:
            self.ready.emit(result)
        else:
            self._timer.start()

    def _failed(self, sentence: str) -> None:
        self._finished(InputError(sentence))


class Stream(QObject):
    """Follows the newest of many requests, each a generator; a newer one stops the older.

    The first item of a request is always passed on, even if a newer one waits: so something
    is seen while requests come faster than they are answered.

    Signals: `item(object)`, `ended(result)` and `failed(sentence)` of the newest request.
    """

    item = Signal(object)
    ended = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._wanted: Work | None = None
        self._listens = self._is_first = False
        self._job = Job(self)
        self._job.stepped.connect(self._stepped)
        self._job.finished.connect(lambda result: self._over(self.ended, result))
        self._job.failed.connect(lambda sentence: self._over(self.failed, sentence))
        self._job.cancelled.connect(self._start)

    @property
    def running(self) -> bool:
        """Whether a request is being worked on."""
        return self._job.running

    def request(self, work: Work) -> None:
        """Follow `work` from now on."""
        self._wanted = work
        if self._job.running:
            self._job.cancel()
        else:
            self._start()

    def stop(self) -> None:
        """Follow nothing; what still runs stops at its next step, unheard."""
        self._wanted, self._listens = None, False
        self._job.cancel()

    def _start(self) -> None:
        if self._wanted is not None:
            work, self._wanted = self._wanted, None
            self._listens = self._is_first = True
            self._job.start(work)

    def _stepped(self, item: object) -> None:
        if self._listens and (self._is_first or self._wanted is None):
            self._is_first = False
            self.item.emit(item)

    def _over(self, signal: Any, outcome: object) -> None:
        if self._wanted is not None:
            self._start()
        elif self._listens:
            signal.emit(outcome)
