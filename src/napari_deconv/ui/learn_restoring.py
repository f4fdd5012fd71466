"""What a network makes of a stack beside what Richardson-Lucy does: as layers, and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_deconv.files.recipe import TrainedModel
from napari_deconv.imaging.value import require
from napari_deconv.pipeline import Restored
from napari_deconv.restoration.restorer import Step

from . import layers, regions, runs
from .filling import Filling
from .jobs import Job
from .learn_runs import Judgement, Lesson, has_members, judging, tells_intervals
from .preferences import read_preferences

#: Of what is compared: the pictures during a training, and the layers after it.
TITLES = ("raw", "Richardson-Lucy", "network")
_, TWIN, NETWORK = TITLES
#: The layer that says how sure the network is.
WIDTH = "half width of the 90 % interval"
MISFIT = "misfit of the network"
#: The layer that says how far its answers lie apart.
APART = "disagreement of the network"
#: Contrast of the map of the misfit: 1 is noise alone.
LIMITS = (0.0, 4.0)


@dataclass(frozen=True, eq=False)
class Restoration:
    """A stack that is being restored, by one method after the other.

    Parameters
    ----------
    lesson : Lesson
    layer : Image
        The stack, whatever it is called meanwhile.
    axes : str
        Of the layer.
    placement : Placement
        Where the layer lay at the beginning.
    wanted : mapping of str to Wanted
        What is run, in this order, by the titles of the layers.
    results : mapping of str to Restored
        What has come of it so far.
    """

    lesson: Lesson
    layer: Image
    axes: str
    placement: layers.Placement
    wanted: Mapping[str, runs.Wanted]
    results: Mapping[str, Restored] = field(default_factory=dict)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Titles of what has no result yet; the first of them runs."""
        return tuple(title for title in self.wanted if title not in self.results)

    def after(self, restored: Restored) -> Restoration:
        """Return the restoration after the result of what runs."""
        return replace(self, results={**self.results, self.waiting[0]: restored})


def runs_of(lesson: Lesson) -> dict[str, runs.Wanted]:
    """Return what a restoration runs, by the titles of the layers: network, width, twin.

    Raises
    ------
    InputError
        If the model cannot be read.
    """
    choice = lesson.choice
    model = TrainedModel.of(choice.path, mirrored=choice.mirrored, cautious=choice.cautious)
    models = {NETWORK: model}
    if choice.is_sure and tells_intervals(choice.path):
        models[WIDTH] = replace(model, shows="half-width 90")
    if choice.shows_apart:
        require(
            choice.mirrored or has_members(choice.path),
            "This model gives one answer, which disagrees with nothing: tick mirrored answers as "
            "well, or take a model of several members",
        )
        models[APART] = replace(model, shows="disagreement")
    wanted = {
        title: replace(lesson.wanted, settings=replace(lesson.wanted.settings, method=model))
        for title, model in models.items()
    }
    return {**wanted, TWIN: lesson.wanted}


class TwinRestoring(QObject):
    """Restores a stack with a network and with Richardson-Lucy, and judges both.

    Signals: `stepped(Step)`; `judged(words)`, which of the two to prefer; and `ended(sentence,
    complete)` or `refused(sentence)`.
    """

    stepped = Signal(object)
    judged = Signal(str)
    ended = Signal(str, bool)
    refused = Signal(str)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer, self.filling = viewer, Filling(viewer, self)
        self.restoring, self.judging = self.jobs = Job(self), Job(self)
        self._restoration: Restoration | None = None
        self.restoring.stepped.connect(self._stepped)
        self.restoring.finished.connect(self._restored)
        self.judging.stepped.connect(self.stepped)
        self.judging.finished.connect(self._judged)
        for job in self.jobs:
            job.failed.connect(self._failed)
            job.cancelled.connect(self._cancelled)

    @property
    def running(self) -> bool:
        """Whether something is restored or judged."""
        return any(job.running for job in self.jobs)

    def start(self, lesson: Lesson, layer: Image, axes: str) -> None:
        """Restore a layer, of these axes, with the network of a lesson and beside it.

        Raises
        ------
        InputError
            If the model cannot be read, or cannot show what is wanted.
        """
        placement = layers.Placement.of(layer, axes)
        self._run(Restoration(lesson, layer, axes, placement, runs_of(lesson)))

    def cancel(self) -> None:
        """Stop what runs, at its next step."""
        for job in self.jobs:
            job.cancel()

    def stop(self) -> None:
        """Stop what still runs, and follow it no longer."""
        self.cancel()
        self.filling.stop()

    def _run(self, restoration: Restoration) -> None:
        """Run the first of what is waiting."""
        self._restoration = restoration
        wanted = restoration.wanted[restoration.waiting[0]]
        fraction = read_preferences().memory_fraction
        canvas, work = runs.in_memory(wanted, restoration.placement, fraction)
        self.filling.begin(canvas)
        self.restoring.start(work)

    def _stepped(self, step: Step) -> None:
        self.stepped.emit(step)
        if step.place is not None:
            self.filling.tile_finished(step.place)

    def _restored(self, result: runs.Result) -> None:
        restored, (data, state, _) = result
        assert self._restoration is not None
        title = self._restoration.waiting[0]
        looks = {"colormap": "magma", "visible": False} if title in (WIDTH, APART) else {}
        name = f"{self._restoration.layer.name} {title}"
        self.filling.complete(data, {**state, **looks, "name": name})
        self._restoration = after = self._restoration.after(restored)
        if after.waiting:
            self._run(after)
        else:
            both = after.results[NETWORK], after.results[TWIN]
            self.judging.start(partial(judging, after.lesson, *both))

    def _judged(self, judgement: Judgement) -> None:
        assert self._restoration is not None
        reason = self._restoration.results[NETWORK].record.blocks[0].stop_reason
        self.judged.emit(f"{judgement.in_words()}<br>{reason[:1].upper()}{reason[1:]}.")
        layer, axes = self._restoration.layer, self._restoration.axes
        data, state = regions.region_layer(layer, axes, judgement.network.map, (0,) * len(axes))
        # Hidden at first, for it would hide the results.
        looks = {"colormap": "turbo", "contrast_limits": LIMITS, "visible": False, "metadata": {}}
        self.viewer.add_layer(Image(data, **{**state, **looks, "name": f"{layer.name} {MISFIT}"}))
        self.ended.emit("restored by the network and by Richardson-Lucy, to compare", True)

    def _failed(self, sentence: str) -> None:
        self.filling.leave_off()
        self.refused.emit(sentence)

    def _cancelled(self) -> None:
        self.filling.leave_off()
        self.ended.emit("cancelled", False)
