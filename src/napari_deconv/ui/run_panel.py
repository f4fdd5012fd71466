"""Panel for a run: what it will take, Run and Cancel, how far it is."""

from __future__ import annotations

import time

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_deconv.planning import Plan
from napari_deconv.restoration.restorer import Step


class RunPanel(QWidget):
    """Emits `runAsked` and `cancelAsked`; shows what it is told."""

    runAsked = Signal()
    cancelAsked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.forecast, self.state = QLabel(), QLabel()
        for label in (self.forecast, self.state):
            label.setWordWrap(True)
        self.run_button, self.cancel_button = QPushButton("Run"), QPushButton("Cancel")
        self.run_button.clicked.connect(self.runAsked)
        self.cancel_button.clicked.connect(self.cancelAsked)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.forecast)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.state)
        self._clock = Clock()
        self.set_running(False)

    def show_forecast(self, made: Plan) -> None:
        """Show where a run will compute, and what it takes."""
        told = made.forecast
        blocks = f"{told.blocks} blocks, " if told.blocks > 1 else ""
        enough = "" if told.memory_bytes <= told.free_bytes else " <b>(too much: crop it)</b>"
        self.forecast.setText(
            f"{made.engine}; {blocks}{told.memory_bytes / 1e9:.2f} GB of "
            f"{told.free_bytes / 1e9:.0f} GB free{enough}; {duration(told.seconds)} at most"
        )

    def set_running(self, running: bool) -> None:
        """Let one button be pressed: Cancel during a run, Run otherwise."""
        self.run_button.setEnabled(not running)
        self.cancel_button.setEnabled(running)
        self.progress.setValue(0)
        if running:
            self._clock = Clock()
            self.state.setText("starting")

    def show_step(self, step: Step) -> None:
        """Show how far the run is, and how long it will still take."""
        self.progress.setMaximum(step.total)
        self.progress.setValue(step.done)
        left = self._clock.left_s(step)
        parts = [f"step {step.done} of {step.total}" if step.done else "", step.note]
        parts.append(f"{duration(left)} left" if left else "")
        self.state.setText(", ".join(part for part in parts if part))

    def show_end(self, sentence: str, *, complete: bool = False) -> None:
        """Show how the run ended."""
        self.set_running(False)
        self.progress.setValue(self.progress.maximum() if complete else 0)
        self.state.setText(sentence)


class Clock:
    """Time left, from the steps so far."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def left_s(self, step: Step) -> float | None:
        """Return the seconds left, None before two steps are known."""
        now = time.monotonic()
        if step.done == 0:
            return None
        if self._first is None or step.done <= self._first[1]:
            self._first = (now, step.done)
            return None
        started, before = self._first
        return (now - started) / (step.done - before) * (step.total - step.done)


def duration(seconds: float) -> str:
    """Return a time as a person says it.

    Examples
    --------
    >>> duration(0.2), duration(75), duration(600), duration(9000)
    ('1 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
