"""The dock "Learn": a network trained for one stack and one PSF, beside Richardson-Lucy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.files.recipe import TrainedModel
from napari_deconv.imaging.value import InputError, require
from napari_deconv.pipeline import Restored
from napari_deconv.restoration.restorer import Step

from . import layers, regions, runs
from .block_panel import BlockPanel
from .column import ScrollingColumn
from .dock import Dock
from .exchange import LEARN, exchange_of, wish_edit
from .filling import Filling
from .jobs import Job, Latest
from .keeping import told
from .learn_pairs import recorded_stacks
from .learn_panel import LearnPanel
from .learn_runs import (
    Judgement,
    Learnt,
    Lesson,
    Moment,
    Promise,
    card_in_words,
    has_members,
    judging,
    learning_from,
    new_place,
    promised,
    tells_intervals,
)
from .learn_views import Losses, LossView, Pictures, PicturesView
from .method_panel import Settings
from .preferences import read_preferences
from .psf_panel import PsfLayer, PsfPanel
from .run_panel import RunPanel, duration

#: Milliseconds of quiet after which what is promised follows the settings.
PROMISE_DELAY_MS = 600
TITLES = ("raw", "Richardson-Lucy", "network")
#: The layer that says how sure the network is.
WIDTH = "half width of the 90 % interval"
MISFIT = "misfit of the network"
#: The layer that says how far its answers lie apart.
APART = "disagreement of the network"
#: Contrast of the map of the misfit: 1 is noise alone.
LIMITS = (0.0, 4.0)
STARTING, STOPPING = "getting ready", "stopping: the best so far is kept"


@dataclass(eq=False)
class Restoration:
    """A stack that is being restored, by one method after the other.

    `waiting` holds what is still to be run, by the titles of the layers, and `results` what came
    of the others.
    """

    lesson: Lesson
    layer: Image
    axes: str
    waiting: dict[str, runs.Wanted]
    results: dict[str, Restored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.placement = layers.Placement.of(self.layer, self.axes)

    @property
    def running(self) -> str:
        """Title of what runs now."""
        return next(iter(self.waiting))


def runs_of(lesson: Lesson) -> dict[str, runs.Wanted]:
    """Return what a restoration runs, by the titles of the layers: network, width, twin.

    Raises
    ------
    InputError
        If the model cannot be read.
    """
    choice = lesson.choice
    made = TrainedModel.of(choice.path, mirrored=choice.mirrored, cautious=choice.cautious)
    models = {TITLES[2]: made}
    if choice.is_sure and tells_intervals(choice.path):
        models[WIDTH] = replace(models[TITLES[2]], shows="half-width 90")
    if choice.shows_apart:
        require(
            choice.mirrored or has_members(choice.path),
            "This model gives one answer, which disagrees with nothing: tick mirrored answers as "
            "well, or take a model of several members",
        )
        models[APART] = replace(models[TITLES[2]], shows="disagreement")
    wanted = {
        title: replace(lesson.wanted, settings=replace(lesson.wanted.settings, method=model))
        for title, model in models.items()
    }
    return {**wanted, TITLES[1]: lesson.wanted}


class LearnDock(Dock):
    """Train a network and restore with it: choose, train, watch, stop, restore, compare."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.job, self.restoring, self.judging = self._jobs = Job(self), Job(self), Job(self)
        self.take_along(*self._jobs)
        self._restoration: Restoration | None = None
        self.latest = Latest(PROMISE_DELAY_MS, self)
        self.filling = Filling(napari_viewer, self)
        self.image = BlockPanel(napari_viewer, layers.may_be_restored)
        self.psf, self.panel, self.running = PsfPanel(), LearnPanel(), RunPanel()
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
        settings = (
            self.image,
            QLabel("<b>PSF</b>"),
            self.psf,
            QLabel("<b>Network</b>"),
            self.panel,
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        outer.addWidget(ScrollingColumn(*settings), 1)
        for widget in (self.pictures, self.losses, self.running):
            outer.addWidget(widget)
        for widget in (self.pictures, self.losses):  # nothing is to be seen there yet
            widget.hide()
        row = QHBoxLayout()
        row.addWidget(self.restore_button)
        outer.addLayout(row)
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
        self.psf.editAsked.connect(self._edit_psf)
        self.panel.modelChosen.connect(self._show_card)
        self.latest.ready.connect(self._show_promise)
        self.running.runAsked.connect(self.train)
        self.running.cancelAsked.connect(self.end)
        self.restore_button.clicked.connect(self.restore)
        self.job.stepped.connect(self._stepped)
        self.job.finished.connect(self._learned)
        self.restoring.stepped.connect(self._restoring_stepped)
        self.restoring.finished.connect(self._restored)
        self.judging.stepped.connect(self.running.show_step)
        self.judging.finished.connect(self._judged)
        for job in self._jobs:
            job.failed.connect(self._ended)
            job.cancelled.connect(lambda: self._ended("cancelled"))
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

    def _edit_psf(self) -> None:
        told(lambda: wish_edit(self.viewer, self.psf.optics.value(), self.image.value().grid))

    def _changed(self) -> None:
        """Say what a training will be, once the settings rest."""
        if self.busy:
            return
        lesson = None
        try:
            lesson = self._lesson()
            lesson = self._with_pairs(lesson)
        except (InputError, KeyError) as error:
            self.latest.stop()
            self.running.forecast.setText(str(error).strip("'"))
            # A network that is there restores without what another one would learn from.
            self._offer(False, restores=lesson is not None)
            return
        self.running.forecast.setText("...")
        self._offer(True)
        self.latest.request(partial(promised, lesson))

    def _lesson(self) -> Lesson:
        """Return what the panels describe; `InputError` where it is not usable."""
        choice = self.image.value()
        require(choice.name in self.viewer.layers, "Open or choose an image layer first")
        layer = self.viewer.layers[choice.name]
        stack = layers.stack_of_layer(layer, choice.axes, choice.grid)
        require(choice.grid is not None, "Give the voxel size of the image")
        wish = self.psf.value()
        if isinstance(wish, PsfLayer):
            require(wish.name in self.viewer.layers, "Choose the layer that holds the PSF")
            source: runs.Source = layers.psf_stack(self.viewer.layers[wish.name])
        else:
            source = wish
        wanted = runs.Wanted(stack, source, Settings(engine=read_preferences().engine))
        place = regions.shown_point(self.viewer, layer, choice.axes)
        at = tuple(p for p, axis in zip(place, choice.axes, strict=True) if axis in "ZYX")
        return Lesson(wanted, self.panel.value(), at)

    def _with_pairs(self, lesson: Lesson) -> Lesson:
        """Return what the panels describe with the layers that are learned from."""
        source = lesson.choice.source
        return replace(lesson, pairs=recorded_stacks(self.viewer, self.image.value(), source))

    def _show_promise(self, made: Promise | InputError) -> None:
        if isinstance(made, InputError):
            self.running.forecast.setText(str(made))
            self._offer(False)
            return
        self.panel.told.setText(f"Light: {made.told.in_words()}")
        self.panel.show_camera(made.told.camera)
        self.running.forecast.setText(f"training takes about {duration(made.seconds)} here")

    def _show_card(self, path: str) -> None:
        try:
            self.verdict.setText(card_in_words(path))
        except InputError as error:
            self.verdict.setText(str(error))

    def _offer(self, ready: bool, *, restores: bool = False) -> None:
        """Offer what can be done now: all that is ready, or to restore alone."""
        busy = self.busy
        self.running.run_button.setEnabled(ready and not busy)
        path = Path(self.panel.value().path or ".").expanduser()
        self.restore_button.setEnabled((ready or restores) and not busy and path.is_file())

    @property
    def busy(self) -> bool:
        """Whether something is trained, restored or judged."""
        return any(job.running for job in self._jobs)

    # -- training -------------------------------------------------------------------------

    def train(self) -> None:
        """Train a network with what is chosen."""
        try:
            lesson = self._with_pairs(self._lesson())
        except (InputError, KeyError) as error:
            self._ended(str(error))
            return
        self.latest.stop()
        self._stopping = Event()
        self.losses.setValue(Losses())
        for widget in (self.pictures, self.losses):
            widget.show()
        self.running.set_running(True)
        self.running.state.setText(STARTING)
        self.restore_button.setEnabled(False)
        self.job.start(partial(learning_from, lesson, self._stopping))

    def end(self) -> None:
        """End the training, the best is kept; or the restoration."""
        if self.restoring.running or self.judging.running:
            self.restoring.cancel()
            self.judging.cancel()
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
        if moment.raw is not None and (
            moment.learned is not None or not self.losses.value().learned
        ):
            volumes = (moment.raw, moment.twin, moment.learned)
            named = [
                (title, volume)
                for title, volume in zip(TITLES, volumes, strict=True)
                if volume is not None
            ]
            self.pictures.setValue(Pictures(tuple(named)))

    def _learned(self, learnt: Learnt) -> None:
        self._ended(learnt.sentence, complete=True)
        self._show_card(learnt.path)

    # -- restoring ------------------------------------------------------------------------

    def restore(self) -> None:
        """Restore the chosen stack with the network, then with Richardson-Lucy, and judge both."""
        try:
            lesson = self._lesson()
            waiting = runs_of(lesson)
        except (InputError, KeyError, OSError) as error:
            self._ended(str(error))
            return
        choice = self.image.value()
        layer = self.viewer.layers[choice.name]
        self._restoration = Restoration(lesson, layer, choice.axes, waiting)
        self.verdict.clear()
        self._start()

    def _start(self) -> None:
        assert self._restoration is not None
        wanted, placement = (
            next(iter(self._restoration.waiting.values())),
            self._restoration.placement,
        )
        canvas, work = runs.in_memory(wanted, placement, read_preferences().memory_fraction)
        self.latest.stop()
        self.running.set_running(True)
        self.restore_button.setEnabled(False)
        self.filling.begin(canvas)
        self.restoring.start(work)

    def _restoring_stepped(self, step: Step) -> None:
        self.running.show_step(step)
        if step.place is not None:
            self.filling.tile_finished(step.place)

    def _restored(self, result: runs.Result) -> None:
        restored, (data, state, _) = result
        assert self._restoration is not None
        restoration, title = self._restoration, self._restoration.running
        looks = {"colormap": "magma", "visible": False} if title in (WIDTH, APART) else {}
        name = f"{restoration.layer.name} {title}"
        self.filling.complete(data, {**state, **looks, "name": name})
        restoration.results[title] = restored
        del restoration.waiting[title]
        if restoration.waiting:
            self._start()
        else:
            network, twin = (restoration.results[name] for name in (TITLES[2], TITLES[1]))
            self.judging.start(partial(judging, restoration.lesson, network, twin))

    def _judged(self, judgement: Judgement) -> None:
        assert self._restoration is not None
        reason = self._restoration.results[TITLES[2]].record.blocks[0].stop_reason
        self.verdict.setText(f"{judgement.in_words()}<br>{reason[:1].upper()}{reason[1:]}.")
        layer, axes = self._restoration.layer, self._restoration.axes
        data, state = regions.region_layer(layer, axes, judgement.network.map, (0,) * len(axes))
        # Hidden at first, for it would hide the results.
        looks = {"colormap": "turbo", "contrast_limits": LIMITS, "visible": False, "metadata": {}}
        self.viewer.add_layer(Image(data, **{**state, **looks, "name": f"{layer.name} {MISFIT}"}))
        self._ended("restored by the network and by Richardson-Lucy, to compare", complete=True)

    def _ended(self, sentence: str, *, complete: bool = False) -> None:
        self.filling.leave_off()
        self.running.show_end(sentence, complete=complete)
        try:
            self._with_pairs(self._lesson())
        except (InputError, KeyError):
            self._offer(False, restores=self.restore_button.isEnabled())
        else:
            self._offer(True)

    # -- the end --------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop what still runs."""
        self._stopping.set()
        self.job.cancel()
        self.restoring.cancel()
        self.judging.cancel()
        self.latest.stop()
        self.filling.stop()
        self.image.stop()
        self.exchange.leave(self)
