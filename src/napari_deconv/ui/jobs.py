"""Long work off the GUI thread: alone knows threads.

A job is a generator of `Step` that returns its result. Its signals arrive in the GUI thread;
`cancel` stops it at its next step and lets its `finally` free the device.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deconv.imaging.value import InputError, first_line
from napari_deconv.restoration.restorer import Step

Work = Callable[[], Generator[Step, None, Any]]


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
        self._worker: Any = None

    @property
    def running(self) -> bool:
        """Whether a generator is being worked on."""
        return self._worker is not None

    def start(self, work: Work) -> None:
        """Start `work` in a thread; ignored while another one runs."""
        if self.running:
            return
        worker = create_worker(_guarded, work, _start_thread=False)
        worker.yielded.connect(self.stepped)
        worker.returned.connect(self._ended)
        worker.finished.connect(self._over)
        self._worker = worker
        worker.start()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        if self._worker is not None:
            self._worker.quit()

    def _ended(self, outcome: Any) -> None:
        self._worker = None
        if isinstance(outcome, _Failure):
            self.failed.emit(outcome.sentence)
        else:
            self.finished.emit(outcome)

    def _over(self) -> None:
        """Tell of a cancelled job: one whose thread ended without an outcome.

        napari says `aborted` only between two steps, and nothing when the generator was just
        returning; this covers both.
        """
        if self._worker is not None:
            self._worker = None
            self.cancelled.emit()


class _Failure:
    """An exception as a sentence for the user."""

    def __init__(self, error: Exception) -> None:
        known = isinstance(error, InputError)
        self.sentence = (
            str(error)
            if known
            else f"This failed unexpectedly ({type(error).__name__}: {first_line(error)})"
        )


def _guarded(work: Work) -> Generator[Step, None, Any]:
    """Run `work`, turning any exception into a `_Failure`: none may end as a traceback."""
    steps = work()
    try:
        return (yield from steps)
    except MemoryError:
        return _Failure(
            InputError(
                "There is not enough memory for this; close other programs or crop the stack"
            )
        )
    except Exception as error:
        return _Failure(error)
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
