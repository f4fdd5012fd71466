"""Panel for a run: what it will take, Run and Cancel, how far it is."""

from __future__ import annotations

import re
import time

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.files.names import ZARR_SUFFIXES
from napari_deconv.planning import Plan
from napari_deconv.restoration.restorer import Step
from napari_deconv.tile_task import FINISHED_BEFORE


class RunPanel(QWidget):
    """Emits `runAsked`, `fileRunAsked(path)` and `cancelAsked`; shows what it is told."""

    runAsked = Signal()
    fileRunAsked = Signal(str)
    cancelAsked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.forecast, self.state = QLabel(), QLabel()
        for label in (self.forecast, self.state):
            label.setWordWrap(True)
        self.run_button, self.cancel_button = QPushButton("Run"), QPushButton("Cancel")
        self.run_button.clicked.connect(self.runAsked)
        self.cancel_button.clicked.connect(self.cancelAsked)
        self.file_button = QPushButton("Run into a file...")
        self.file_button.setToolTip(
            "The result goes into an OME-Zarr, tile by tile: for one larger than memory, or to end "
            "the run and go on later"
        )
        self.file_button.clicked.connect(self._ask_file)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        buttons = QHBoxLayout()
        for button in (self.run_button, self.file_button, self.cancel_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.forecast)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.state)
        self._clock, self._runnable, self._refuses = Clock(), True, False
        self.set_running(False)

    def show_forecast(self, made: Plan, too_large_bytes: int = 0) -> None:
        """Show where a run will compute, what it takes, and a result that does not fit."""
        told = made.forecast
        tiles = "in one piece" if told.tiles == told.blocks else f"in {told.tiles} tiles"
        if told.blocks > 1:
            each = "each " if told.tiles == told.blocks else ""
            tiles = f"{told.blocks} images, {each}{tiles}"
        parts = [
            made.engine,
            tiles,
            f"{size(told.memory_bytes)} of {size(told.free_bytes)} memory",
            f"{duration(told.seconds)} at most",
            f"{size(told.read_bytes)} read{' twice' if told.reads_twice else ''}",
        ]
        if too_large_bytes:
            large = size(too_large_bytes)
            parts.append(f"<b>the result ({large}) does not fit in memory: run into a file</b>")
        self.forecast.setText("; ".join(part for part in parts if part))

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Run into a file", "restored.ome.zarr", "OME-Zarr (*.ome.zarr)"
        )
        if path:
            self.fileRunAsked.emit(
                path if path.lower().endswith(ZARR_SUFFIXES) else f"{path}.ome.zarr"
            )

    def set_runnable(self, runnable: bool) -> None:
        """Let a run be started, or not, once none goes on."""
        self._runnable = runnable
        for button in (self.run_button, self.file_button):
            button.setEnabled(runnable and not self.cancel_button.isEnabled())

    def set_running(self, running: bool) -> None:
        """Let one button be pressed: Cancel during a run, Run otherwise, where one can start."""
        self.cancel_button.setEnabled(running)
        self.set_runnable(self._runnable)
        self.progress.setValue(0)
        self._refuses = False
        if running:
            self._clock = Clock()
            self.state.setText("starting")

    def show_step(self, step: Step) -> None:
        """Show how far the run is, and how long it will still take."""
        self.progress.setMaximum(step.total)
        self.progress.setValue(step.done)
        left = self._clock.left_s(step)
        parts = [where(step), f"{duration(left)} left" if left else ""]
        self.state.setText(", ".join(part for part in parts if part))

    def show_end(self, sentence: str, *, complete: bool = False) -> None:
        """Show how the run ended."""
        self.set_running(False)
        self.progress.setValue(self.progress.maximum() if complete else 0)
        self.state.setText(sentence)

    def refuse(self, sentence: str) -> None:
        """Say why something is not done, until it ends otherwise or is mended."""
        self.state.setText(sentence)
        self._refuses = True

    def mended(self) -> None:
        """Say no longer what was refused: the user has changed what it may be about."""
        if self._refuses:
            self.state.clear()
            self._refuses = False


class Clock:
    """Time left, from the steps so far."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def left_s(self, step: Step) -> float | None:
        """Return the seconds left, None before two steps are known."""
        now = time.monotonic()
        if step.done == 0 or step.note.endswith(FINISHED_BEFORE):
            return None
        if self._first is None or step.done <= self._first[1]:
            self._first = (now, step.done)
            return None
        started, before = self._first
        return (now - started) / (step.done - before) * (step.total - step.done)


def where(step: Step) -> str:
    """Return how far a run is, in words.

    Examples
    --------
    >>> where(Step(7, 50)), where(Step(107, 600, "tile 3 of 12"))
    ('iteration 7/50', 'tile 3/12, iteration 7/50')
    """
    tile = re.match(r"tile (\d+) of (\d+)(?:, )?", step.note)
    number, tiles = (int(tile[1]), int(tile[2])) if tile else (1, 1)
    each = step.total // tiles
    done = step.done - (number - 1) * each
    parts = [
        f"tile {number}/{tiles}" if tile else "",
        f"iteration {done}/{each}" if done and each > 1 else "",
        step.note[tile.end() :] if tile else step.note,
    ]
    return ", ".join(part for part in parts if part)


def size(count: int) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> size(240_000), size(3_400_000), size(850_000_000), size(4_200_000_000), size(64 * 10**9)
    ('240 kB', '3 MB', '850 MB', '4.2 GB', '64 GB')
    """
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


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
