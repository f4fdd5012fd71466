"""The dock "Learn": a network trained for one stack and one PSF, beside Richardson-Lucy."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from threading import Event

from napari.viewer import Viewer
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.imaging.value import InputError

from . import layers
from .block_panel import BlockPanel
from .column import ScrollingColumn
from .dock import BUSY, Dock, allow
from .exchange import LEARN, exchange_of, wish_edit
from .jobs import Job, Latest
from .learn_lesson import LessonSource
from .learn_panel import LearnPanel
from .learn_restoring import TITLES, TwinRestoring
from .learn_runs import (
    Learnt,
    Lesson,
    Moment,
    Promise,
    card_in_words,
    learning_from,
    new_place,
    promised,
)
from .learn_views import Losses, LossView, Pictures, PicturesView
from .psf_panel import PsfPanel
from .run_panel import RunPanel, duration

#: Milliseconds of quiet after which what is promised follows the settings.
PROMISE_DELAY_MS = 600
NO_MODEL = "There is no trained network in this file yet: train one, or open another file"
STARTING, STOPPING = "getting ready", "stopping: the best so far is kept"


class LearnDock(Dock):
    """Train a network and restore with it: choose, train, watch, stop, restore, compare."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.job, self.restoring = Job(self), TwinRestoring(napari_viewer, self)
        self.take_along(self.job, *self.restoring.jobs)
        self.latest = Latest(PROMISE_DELAY_MS, self)
        self.image = BlockPanel(napari_viewer, layers.may_be_restored)
        self.psf, self.panel, self.running = PsfPanel(), LearnPanel(), RunPanel()
        self.source = LessonSource(napari_viewer, self.image, self.psf, self.panel)
        self.losses, self.pictures = LossView(), PicturesView()
        self._stopping = Event()
        self._lay_out()
        self._connect()
        self._layers_changed()
        self._layer_chosen(self.image.layer.currentText())  # the panel chose before anyone listened

    def _lay_out(self) -> None:
        self.image.layer.setToolTip("A stack as it was recorded, of the kind the network is for")
        self.running.run_button.setText("Train")
        self.running.run_button.setToolTip(
            "Simulate pairs with this PSF and the light of this stack, and learn from them"
        )
        self.running.cancel_button.setText("Stop")
        self.running.cancel_button.setToolTip("End the training; the best network so far is kept")
        self.running.file_button.hide()
        self.restore_button = QPushButton("Restore the stack")
        self.restore_button.setToolTip(
            "With the network, and with Richardson-Lucy beside it, to compare"
        )
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        psf, network = QLabel("<b>PSF</b>"), QLabel("<b>Network</b>")
        settings = (self.image, psf, self.psf, network, self.panel)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        outer.addWidget(ScrollingColumn(*settings), 1)
        for widget in (self.pictures, self.losses, self.running):
            outer.addWidget(widget)
        for widget in (self.pictures, self.losses):  # nothing is to be seen there yet
            widget.hide()
        outer.addWidget(self.restore_button)
        outer.addWidget(self.verdict)
        for label in (self.running.forecast, self.running.state, self.verdict, self.panel.told):
            label.setMinimumWidth(1)

    def _connect(self) -> None:
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self._layers_changed)
        self.image.layerChosen.connect(self._layer_chosen)
        for panel in (self.image, self.psf, self.panel):
            panel.valueChanged.connect(self._changed)
        self.psf.editAsked.connect(
            lambda optics: wish_edit(self.viewer, optics, self.image.value().grid)
        )
        self.panel.modelChosen.connect(self._show_card)
        self.latest.ready.connect(self._show_promise)
        self.running.runAsked.connect(self.train)
        self.running.cancelAsked.connect(self.end)
        self.restore_button.clicked.connect(self.restore)
        self.job.stepped.connect(self._stepped)
        self.job.finished.connect(self._learned)
        self.job.failed.connect(self._refused)
        self.job.cancelled.connect(lambda: self._ended("cancelled"))
        self.restoring.stepped.connect(self.running.show_step)
        self.restoring.judged.connect(self.verdict.setText)
        self.restoring.ended.connect(self._ended)
        self.restoring.refused.connect(self._refused)
        self.exchange.opticsWished.connect(self.psf.setValue)
        self.exchange.announce(LEARN, self)

    # -- what is chosen -------------------------------------------------------------------

    def _layers_changed(self, event: object = None) -> None:
        names = [layer.name for layer in self.viewer.layers if not layers.is_preview(layer)]
        self.psf.set_layers(names)
        self.panel.source.set_layers(names)
        self._changed()

    def _layer_chosen(self, name: str) -> None:
        if name in self.viewer.layers:
            self.psf.show_known(layers.known_optics(self.viewer.layers[name]))
            if not self.panel.path.text() and not self.busy:
                self.panel.path.setText(str(new_place(Path.home(), name)))

    def _changed(self) -> None:
        """Say what a training will be, once the settings rest."""
        if self.busy:
            return
        self.running.mended()
        lesson, refusal = self._described()
        self._offer(refusal, restores=lesson is not None)
        self.running.forecast.setText(refusal or "...")
        if lesson is not None and not refusal:
            self.latest.request(partial(promised, lesson))
        else:
            self.latest.stop()

    def _described(self) -> tuple[Lesson | None, str]:
        """Return what the panels describe, and why nothing can be learned from it.

        A network that is there restores without what another one would learn from.
        """
        lesson = None
        try:
            lesson = self.source.lesson()
            return self.source.with_pairs(lesson), ""
        except (InputError, KeyError) as error:
            return lesson, str(error).strip("'")

    def _show_promise(self, made: Promise | InputError) -> None:
        if isinstance(made, InputError):
            self.running.forecast.setText(str(made))
            self._offer(str(made), restores=False)
            return
        self.panel.told.setText(f"Light: {made.told.in_words()}")
        self.panel.show_camera(made.told.camera)
        self.running.forecast.setText(f"training takes about {duration(made.seconds)} here")

    def _show_card(self, path: str) -> None:
        try:
            self.verdict.setText(card_in_words(path))
        except InputError as error:
            self.verdict.setText(str(error))

    def _offer(self, refusal: str, *, restores: bool) -> None:
        """Offer what can be done now; to restore takes a model."""
        busy = BUSY if self.busy else ""
        there = Path(self.panel.value().path or ".").expanduser().is_file()
        no_model = "" if there else NO_MODEL
        allow(self.running.run_button, busy or refusal)
        allow(self.restore_button, busy or (no_model if restores else refusal))

    @property
    def busy(self) -> bool:
        """Whether something is trained, restored or judged."""
        return self.job.running or self.restoring.running

    # -- training -------------------------------------------------------------------------

    def train(self) -> None:
        """Train a network with what is chosen."""
        lesson, refusal = self._described()
        if lesson is None or refusal:
            self._refused(refusal)
            return
        self.latest.stop()
        self._stopping = Event()
        self.losses.setValue(Losses())
        for widget in (self.pictures, self.losses):
            widget.show()
        self.running.set_running(True)
        self.running.state.setText(STARTING)
        self.job.start(partial(learning_from, lesson, self._stopping))
        self._offer("", restores=True)

    def end(self) -> None:
        """End the training, the best is kept; or the restoration."""
        if self.restoring.running:
            self.restoring.cancel()
        elif self.job.running and self.losses.value().left_out:
            self.running.state.setText(STOPPING)
            self._stopping.set()
        else:  # nothing is learned yet that could be kept
            self.job.cancel()

    def _stepped(self, moment: Moment) -> None:
        step = moment.step
        self.running.show_step(step)
        if moment.loss is not None and math.isfinite(moment.loss):
            before = self.losses.value()
            self.losses.setValue(before.followed_by(step.done, moment.loss, moment.left_out_loss))
        is_first = not self.losses.value().learned
        if moment.raw is not None and (is_first or moment.learned is not None):
            volumes = zip(TITLES, (moment.raw, moment.twin, moment.learned), strict=True)
            there = tuple((title, volume) for title, volume in volumes if volume is not None)
            self.pictures.setValue(Pictures(there))

    def _learned(self, learnt: Learnt) -> None:
        self._ended(learnt.sentence, complete=True)
        self._show_card(learnt.path)

    # -- restoring ------------------------------------------------------------------------

    def restore(self) -> None:
        """Restore the chosen stack with the network, then with Richardson-Lucy, and judge both."""
        choice = self.image.value()
        try:
            lesson = self.source.lesson()
            self.restoring.start(lesson, self.viewer.layers[choice.name], choice.axes)
        except (InputError, KeyError, OSError) as error:
            self._refused(str(error))
            return
        self.latest.stop()
        self.verdict.clear()
        self.running.set_running(True)
        self._offer("", restores=True)

    def _ended(self, sentence: str, complete: bool = False) -> None:
        self.running.show_end(sentence, complete=complete)
        lesson, refusal = self._described()
        self._offer(refusal, restores=lesson is not None)

    def _refused(self, sentence: str) -> None:
        self._ended(sentence)
        self.running.refuse(sentence)

    # -- the end --------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop what still runs."""
        self._stopping.set()
        self.job.cancel()
        self.restoring.stop()
        self.latest.stop()
        self.image.stop()
        self.exchange.leave(self)
