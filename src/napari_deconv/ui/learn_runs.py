"""What the dock "Learn" does in its thread: from a layer and a PSF to a model's file.

The generators here are made for `jobs.Job`. Nothing here touches the viewer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_deconv import engines, learning, recordings
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require
from napari_deconv.learned.caution import HIDDEN, OUTSIDE
from napari_deconv.learned.pairs import Pair, Twin, pieces_of, twin_of
from napari_deconv.learned.requiring import require_torch
from napari_deconv.learning import Told
from napari_deconv.library import SUFFIX
from napari_deconv.library_words import in_words
from napari_deconv.pipeline import Restored
from napari_deconv.psf_sources import prepare_psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.misfit import Misfit, misfit_of
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation, Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.surveying import background_of, read

from .learn_panel import LearnChoice
from .runs import Wanted
from .source_panel import AGAIN, HALVES, LAYER

if TYPE_CHECKING:
    from napari_deconv.learned.model_file import Model
    from napari_deconv.learned.trainer import Schedule

Float = npt.NDArray[np.float32]

#: Photons in the brightest voxels beyond which noise is not what limits Richardson-Lucy.
MUCH_LIGHT = 1000.0
#: A network whose result misses the data by so many times more than its twin is not to be believed.
WORSE = 1.2


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned from, and what is looked at meanwhile.

    Parameters
    ----------
    wanted : Wanted
        The image and the source of its PSF.
    choice : LearnChoice
        How long, and the model's file.
    at : tuple of float, optional
        The place in the image that the viewer shows.
    pairs : tuple of (Stack, Stack)
        What is in the layers that are learned from: an image, and its truth or what was recorded
        once more.
    """

    wanted: Wanted
    choice: LearnChoice
    at: tuple[float, ...] | None = None
    pairs: tuple[tuple[Stack, Stack], ...] = ()

    @property
    def block(self) -> Any:
        """Voxels of the first channel and time."""
        stack = self.wanted.stack
        return stack.data[next(iter(stack.blocks()))]

    def psf(self) -> Psf:
        """Return the PSF on the voxels of the image."""
        return prepare_psf(self.wanted.recipe().psf, self.wanted.stack)


@dataclass(frozen=True, eq=False)
class Moment:
    """What is seen of a training: the step, now and then pictures of a region, and the losses."""

    step: Step
    raw: Float | None = None
    twin: Float | None = None
    learned: Float | None = None
    loss: float | None = None
    left_out_loss: float | None = None


@dataclass(frozen=True, eq=False)
class Promise:
    """What a training will be: the light it is for, and about how long it takes."""

    told: Told
    seconds: float


@dataclass(frozen=True)
class Learnt:
    """What came of a training."""

    path: str
    sentence: str


def promised(lesson: Lesson) -> Promise:
    """Return what a training will be; a pair and a few steps are made to know its time."""
    psf, told = lesson.psf(), learning.light_like(lesson.wanted.stack, lesson.choice.camera)
    schedule = _schedule(lesson, _usual_start(lesson))
    engine = engines.open_engine(lesson.wanted.settings.engine)
    network = lesson.choice.network
    key = (network, schedule, psf.shape, engine.device)
    if key not in _SECONDS:
        _SECONDS[key] = learning.expected_seconds(
            psf, told.light, schedule, engine, network=network
        )
    return Promise(told, _SECONDS[key])


def _schedule(lesson: Lesson, start: Model | None) -> Schedule:
    """Return how long to train; from weights that are trained already, more gently."""
    source = lesson.choice.source
    schedule = learning.schedule_of(lesson.choice.preset, members=source.members)
    if source.goes_on:
        return learning.gentler(schedule)
    return schedule if start is None else learning.shorter(schedule)


def _usual_start(lesson: Lesson) -> Model | None:
    """Return the network of the package that a training starts from, if there is one."""
    source = lesson.choice.source
    # What was recorded may be of another kind; and members from one start would not disagree.
    if source.goes_on or source.source == LAYER or source.members > 1:
        return None
    return learning.usual_start(lesson.psf(), lesson.choice.network)


#: What trainings take here: measured once for each kind.
_SECONDS: dict[Any, float] = {}


def recorded(lesson: Lesson, told: Told) -> dict[str, Any]:
    """Return what is learned from beside simulated pairs, or in their place."""
    source = lesson.choice.source.source
    if source == HALVES:
        return {"twins": recordings.halves_of(lesson.wanted.stack, told.assumed_camera)}
    if source not in (LAYER, AGAIN):
        return {}
    require(bool(lesson.pairs), "Choose the layer to learn from, beside the image")
    if source == LAYER:
        pairs = [pair for both in lesson.pairs for pair in recordings.pairs_of(*both)]
        return {"pairs": pairs if len(pairs) > 1 else pieces_of(pairs[0])}
    camera = told.assumed_camera
    twins = [twin for both in lesson.pairs for twin in recordings.repeats_of(*both, camera)]
    return {"twins": twins if len(twins) > 1 else _twins_in(*lesson.pairs[0], camera)}


def _twins_in(first: Stack, again: Stack, camera: Camera) -> list[Twin]:
    """Return two recordings of one volume in pieces."""
    counts, other, level, its = next(recordings.volumes_of(first, again))
    return [
        twin_of(one.counts, one.truth, level, its, camera)
        for one in pieces_of(Pair(counts, other, level, 0.0))
        if np.ptp(one.counts) > 0
    ]


def learning_from(lesson: Lesson, stop: Event) -> Generator[Moment, None, Learnt]:
    """Train on pairs simulated with the PSF; `stop` ends it and keeps the best.

    The state is kept beside the model each minute: should the viewer end, the same training goes
    on from there.
    """
    yield Moment(Step(0, 1, "preparing the PSF"))
    require_torch()
    from napari_deconv.learned.model_file import read_model, write_model
    from napari_deconv.learned.training import TrainingStep, checkpoints_of

    path = Path(lesson.choice.path).expanduser()
    start = _usual_start(lesson)
    if lesson.choice.source.goes_on:
        start, path = read_model(path), beside(path)
    check_place(path)
    psf, told = lesson.psf(), learning.light_like(lesson.wanted.stack, lesson.choice.camera)
    engine = engines.open_engine(lesson.wanted.settings.engine)
    stack = lesson.wanted.stack
    level = background_of(stack, next(stack.blocks()), lesson.wanted.settings.background)
    shown = learning.region_to_show(lesson.block, psf, level, lesson.at)
    yield Moment(Step(0, 1, "Richardson-Lucy on the region that is shown"))
    raw, twin = shown.image - np.float32(level), _twin(shown, engine)
    yield Moment(Step(0, 1, "the region that is shown"), raw, twin)
    run = learning.train(
        psf,
        told.light,
        _schedule(lesson, start),
        engine,
        network=lesson.choice.network,
        start=start,
        **recorded(lesson, told),
        name=path.name.removesuffix(SUFFIX),
        checkpoint=checkpoint_of(path),
        shown=shown,
    )
    wish: bool | None = None
    try:
        while True:
            step = run.send(wish)
            wish = stop.is_set() or None
            learned = step.peek() if step.peek is not None else None
            losses = (step.loss, step.left_out_loss) if isinstance(step, TrainingStep) else ()
            yield Moment(replace(step, peek=None), raw, twin, learned, *losses)
    except StopIteration as end:
        model = end.value
    finally:
        run.close()
    write_model(path, model)
    for kept in checkpoints_of(checkpoint_of(path), model.card.members):
        kept.unlink(missing_ok=True)
    none = ", none of them better than the network it started from" * model.card.is_as_before
    return Learnt(str(path), f"trained in {model.card.steps} steps{none}; kept as {path.name}")


def beside(path: Path) -> Path:
    """Return where a model that goes on from another one is kept."""
    return _unused(path.with_name(f"{path.name.removesuffix(SUFFIX)}_tuned"))


def new_place(folder: Path, layer: str) -> Path:
    """Return where the model of a layer of this name may be kept."""
    return _unused(folder / (re.sub(r"\W+", "_", layer).strip("_") or "model"))


def _unused(stem: Path) -> Path:
    """Return a file that there is not, of this stem and a number where it must be."""
    places = (stem.with_name(f"{stem.name}{number or ''}{SUFFIX}") for number in count())
    return next(place for place in places if not place.exists())


def checkpoint_of(path: Path) -> Path:
    """Return where the state of a training is kept until its model is."""
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.checkpoint{SUFFIX}")


def check_place(path: Path) -> None:
    """Raise `InputError` unless a new model can be kept there."""
    from napari_deconv.learned.model_file import require_place

    require(bool(path.name), "Choose the file that the trained network is to be kept in")
    require(path.name.lower().endswith(SUFFIX), f"The model's file must end in {SUFFIX}")
    require(not path.exists(), f"{path.name} exists already; choose another name for the new model")
    require_place(path.absolute())


def _twin(shown: Observation, engine: Engine) -> Float:
    """Return the region as Richardson-Lucy restores it with an automatic stop."""
    *_, last = RichardsonLucy.automatic().steps(shown, engine)
    return last.estimate if last.estimate is not None else shown.image


@dataclass(frozen=True, eq=False)
class Judgement:
    """How well two results explain their data.

    Parameters
    ----------
    network, twin : Misfit
        Of the network's result, and of Richardson-Lucy's.
    photons : float
        In the brightest voxels of the stack.
    doubt : bool
        Whether the stack lies outside of what the network has learned from.
    hidden : bool
        Whether there is too little light to tell.
    """

    network: Misfit
    twin: Misfit
    photons: float
    doubt: bool
    hidden: bool = False

    def in_words(self) -> str:
        """Return both numbers and what follows from them."""
        ours, theirs = self.network.chi_squared, self.twin.chi_squared
        numbers = (
            f"Blurred again, they miss the data by chi² {ours:.2f} (network) and {theirs:.2f} "
            "(Richardson-Lucy); 1 is noise alone"
        )
        return f"{numbers}; the map of the misfit shows where. <b>{self.advice}</b>"

    @property
    def advice(self) -> str:
        """Which of the two to prefer, and why."""
        if self.doubt:
            return "Prefer Richardson-Lucy: this stack is not of the kind the network has learned."
        if self.network.chi_squared > WORSE * max(self.twin.chi_squared, 1.0):
            return (
                "Prefer Richardson-Lucy where the map is bright: the network leaves out or invents."
            )
        light = f"about {self.photons:.0f} photons in the brightest voxels"
        if self.photons > MUCH_LIGHT:
            return f"With {light} both are good; for numbers, prefer Richardson-Lucy."
        if self.hidden:
            return (
                f"With {light}, noise is what limits: prefer the network where its interval is "
                "narrow and Richardson-Lucy shows the same, as so little light does not tell "
                "whether it has ever seen such structure."
            )
        return (
            f"With {light}, noise is what limits: prefer the network where its interval is narrow."
        )


def judging(lesson: Lesson, network: Restored, twin: Restored) -> Generator[Step, None, Judgement]:
    """Blur both results again, and hold them against the data."""
    yield Step(0, 2, "blurring the results again")
    stack, psf = lesson.wanted.stack, lesson.psf()
    place = next(stack.blocks())
    told = learning.light_like(stack, lesson.choice.camera)
    camera = told.assumed_camera
    level = background_of(stack, place, lesson.wanted.settings.background)
    observation = observe(read(stack, place), psf, level)
    engine = engines.open_engine(lesson.wanted.settings.engine)
    found = []
    for number, result in enumerate((network, twin), start=1):
        estimate = np.asarray(result.stack.data[place], np.float32)
        found.append(misfit_of(observation, estimate, camera, engine))
        yield Step(number, 2, "blurring the results again")
    low, high = told.light.photons
    why = network.record.blocks[0].stop_reason
    ours, theirs = found
    return Judgement(ours, theirs, math.sqrt(low * high), OUTSIDE in why, HIDDEN in why)


def tells_intervals(path: str) -> bool:
    """Return whether a model can say how sure it is.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    require_torch()
    from napari_deconv.learned.model_file import read_card

    return read_card(path).calibration is not None


def has_members(path: str) -> bool:
    """Return whether a model is several networks that answer together.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    require_torch()
    from napari_deconv.learned.model_file import read_card

    return read_card(path).members > 1


def card_in_words(path: str) -> str:
    """Return what a model is, in a sentence or two."""
    from napari_deconv.learned.model_file import read_card

    return in_words(read_card(path))
