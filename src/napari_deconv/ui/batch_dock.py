"""The dock "Deconvolve a folder": many files with one recipe, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_deconv import batch
from napari_deconv.batch import Event
from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.file_jobs import FileJob, in_words, jobs_of, stopped
from napari_deconv.files.reading import read_pyramid
from napari_deconv.files.recipe import Recipe, read_recipe
from napari_deconv.imaging.value import InputError, require
from napari_deconv.restoration.restorer import Step

from .batch_panel import BatchChoice, BatchPanel
from .batch_table import BatchTable
from .dock import Dock
from .exchange import DECONVOLVE, FOLDER, exchange_of
from .files import get_reader, layers_of_pyramid
from .jobs import Job, Stream
from .layers import LayerTuple
from .preferences import read_preferences
from .run_panel import RunPanel, where

#: Milliseconds of quiet after which the table follows what was typed.
LOOK_DELAY_MS = 300
#: Of the progress bar, for each file.
PARTS = 1000
SUMMARY = "summary.csv"
CHOOSE = "Choose the folder of the images to begin."
NO_DOCK = (
    "There is no dock Deconvolve to take the recipe from; open it and set it up on one of the "
    "images, or choose a recipe from a file"
)


class BatchDock(Dock):
    """Restore the images of a folder: choose, look, run, cancel, run again to go on."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.job, self.opening, self.looking = Job(self), Job(self), Stream(self)
        self.take_along(self.job, self.opening)
        self.panel, self.table, self.running = BatchPanel(), BatchTable(), RunPanel()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(LOOK_DELAY_MS)
        self._lay_out()
        self._connect()
        self._show_state(CHOOSE)

    def _lay_out(self) -> None:
        self.running.run_button.setToolTip(
            "Restore the files that are not done; a summary of all goes into the folder of the "
            "results"
        )
        self.running.file_button.hide()
        # A path is a long word, and must not widen the dock.
        for label in (self.running.forecast, self.running.state, self.table.message):
            label.setMinimumWidth(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 4, 4, 4)
        outer.addWidget(self.panel)
        outer.addWidget(self.table, 1)
        outer.addWidget(self.running)

    def _connect(self) -> None:
        self.panel.valueChanged.connect(self._timer.start)
        self.panel.valueChanged.connect(self.running.mended)
        self._timer.timeout.connect(self.look)
        self.looking.item.connect(self._take)
        self.looking.ended.connect(lambda _: self._show_state())
        self.looking.failed.connect(self._show_nothing)
        self.table.opened.connect(self.open)
        self.running.runAsked.connect(self.run)
        self.running.cancelAsked.connect(self.cancel)
        self.job.stepped.connect(self._stepped)
        self.job.finished.connect(self._finished)
        self.job.failed.connect(self._refused)
        self.job.cancelled.connect(self._cancelled)
        self.opening.finished.connect(self._opened)
        self.opening.failed.connect(self.running.refuse)
        self.exchange.announce(FOLDER, self)

    # -- looking --------------------------------------------------------------------------

    def look(self) -> None:
        """Fill the table with the files of the folder, and what is done already."""
        choice = self.panel.value()
        if self.job.running:
            return
        if not choice.folder:
            self.looking.stop()
            self._show_nothing(CHOOSE)
            return
        try:
            recipe: Recipe | str | None = self._recipe(choice)
        except InputError:  # told when it runs; the files are shown all the same
            recipe = None
        self.looking.request(partial(_looking, choice, recipe))

    def _take(self, item: Sequence[FileJob] | Event) -> None:
        """Show the jobs, or what became of one of them."""
        if isinstance(item[0], int):
            index, job, _ = item
            self.table.show_job(index, job)  # type: ignore[arg-type]
        else:
            self.table.setValue(item)  # type: ignore[arg-type]

    def _show_nothing(self, sentence: str) -> None:
        self.table.setValue(())
        self._show_state(sentence)

    def _recipe(self, choice: BatchChoice) -> Recipe | str:
        """Return the recipe, or the file that it is read from, in a thread."""
        if choice.recipe is not None:
            require(bool(choice.recipe), "Choose the file of the recipe")
            return choice.recipe
        dock: Any = self.exchange.dock(DECONVOLVE)
        require(dock is not None, NO_DOCK)
        recipe: Recipe = dock.recipe()
        return recipe

    # -- running --------------------------------------------------------------------------

    def run(self) -> None:
        """Restore the files that are not done."""
        choice = self.panel.value()
        try:
            require(bool(choice.folder), CHOOSE)
            recipe = self._recipe(choice)
        except InputError as error:
            self.running.refuse(str(error))
            return
        self._timer.stop()
        self.looking.stop()
        self.running.set_running(True)
        self.panel.setEnabled(False)
        memory = int(read_preferences().memory_fraction * free_memory_bytes())
        self.job.start(partial(_running, choice, recipe, memory, self.table.value()))

    def cancel(self) -> None:
        """Stop at the next step; what is finished is kept."""
        self.running.state.setText("cancelling")
        self.job.cancel()

    def _stepped(self, item: Sequence[FileJob] | Event) -> None:
        self._take(item)
        if isinstance(item[0], int):
            index, _, step = item
            self._show_progress(index, step)  # type: ignore[arg-type]

    def _show_progress(self, index: int, step: Step | None) -> None:
        jobs = self.table.value()
        part = step.done / step.total if step is not None else 1.0
        self.running.progress.setMaximum(PARTS * len(jobs))
        self.running.progress.setValue(round(PARTS * (index + part)))
        if step is not None:
            self.running.state.setText(f"file {index + 1}/{len(jobs)}, {where(step)}")
        self.running.forecast.setText(in_words(jobs))

    def _finished(self, jobs: tuple[FileJob, ...]) -> None:
        self.table.setValue(jobs)
        self._ended(
            f"ended; {SUMMARY} in the folder of the results has a row for each file", complete=True
        )

    def _cancelled(self) -> None:
        self.table.setValue(stopped(self.table.value()))
        self._ended("cancelled; what is finished is kept, run again to go on")

    def _ended(self, sentence: str, *, complete: bool = False) -> None:
        self.running.show_end(sentence, complete=complete)
        self.panel.setEnabled(True)
        self._show_state()

    def _refused(self, sentence: str) -> None:
        self._ended(sentence)
        self.running.refuse(sentence)

    def _show_state(self, sentence: str = "") -> None:
        """Offer what can be done now, and say how many files there are."""
        jobs = self.table.value()
        self.running.forecast.setText(sentence or in_words(jobs))
        self.running.run_button.setEnabled(bool(jobs) and not self.job.running)

    # -- what comes of it -----------------------------------------------------------------

    def open(self, job: FileJob) -> None:
        """Show the restored image of a file."""
        if job.state in ("done", "skipped"):
            self.opening.start(partial(_opening, job.output))
        else:
            self.running.refuse(f"{Path(job.source).name} is not restored yet")

    def _opened(self, layers: list[LayerTuple]) -> None:
        for data, state, _ in layers:
            self.viewer.add_layer(Image(data, **state))

    # -- the end --------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look again: the recipe of the dock "Deconvolve" may be another now."""
        super().showEvent(event)
        self.running.mended()
        if self.panel.value().folder:
            self._timer.start()

    def stop(self) -> None:
        """Stop what still runs, at its next step."""
        self._timer.stop()
        self.looking.stop()
        self.job.cancel()
        self.opening.cancel()
        self.exchange.leave(self)


def _jobs(choice: BatchChoice) -> tuple[FileJob, ...]:
    require(
        Path(choice.folder).expanduser().is_dir(),
        f"There is no folder {choice.folder}; check the spelling",
    )
    return jobs_of(
        choice.folder,
        choice.output,
        pattern=choice.pattern,
        recursive=choice.recursive,
        suffix=choice.suffix,
    )


def _looking(choice: BatchChoice, recipe: Recipe | str | None) -> Generator[Any, None, Any]:
    """Yield the jobs, then what each is."""
    jobs = _jobs(choice)
    yield jobs
    try:
        known = read_recipe(recipe) if isinstance(recipe, str) else recipe
    except InputError:  # told when it runs
        known = None
    return (yield from batch.examining(jobs, known, dtype=choice.dtype, overwrite=choice.overwrite))


def _running(
    choice: BatchChoice, recipe: Recipe | str, memory: int, seen: tuple[FileJob, ...]
) -> Generator[Any, None, Any]:
    """Yield the jobs, then what happens to each; return them as they ended."""
    known = read_recipe(recipe) if isinstance(recipe, str) else recipe
    jobs = _jobs(choice)
    # What was seen of a file stands in the table until its turn comes.
    headers = {job.source: job for job in seen}
    yield tuple(
        replace(job, axes=headers[job.source].axes, shape=headers[job.source].shape)
        if job.source in headers
        else job
        for job in jobs
    )
    summary = Path(choice.output).expanduser() / SUMMARY
    return (
        yield from batch.running(
            jobs,
            known,
            memory_bytes=memory,
            dtype=choice.dtype,
            overwrite=choice.overwrite,
            summary=summary,
        )
    )


def _opening(path: str) -> Generator[Step, None, list[LayerTuple]]:
    """Read a restored image; one without a voxel size is shown as well."""
    yield Step(0, 1, "reading")
    read = get_reader(path)
    return read(path) if read is not None else layers_of_pyramid(read_pyramid(path))
