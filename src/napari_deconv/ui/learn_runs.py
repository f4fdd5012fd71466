"""What the dock "Learn" does in its thread: from a layer and a PSF to a model's file.

The generators here are made for `jobs.Job`. Nothing here touches the viewer.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv import engines, learning
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import require
from napari_deconv.learning import Told
from napari_deconv.pipeline import Restored
from napari_deconv.psf_sources import prepare_psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.misfit import Misfit, misfit_of
from napari_deconv.restoration.restorer import Observation, Step, observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.tiling import background_of, read

from .learn_panel import SUFFIX, LearnChoice
from .method_panel import AUTOMATIC_STOP
from .runs import Wanted

Float = npt.NDArray[np.float32]

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
    """

    wanted: Wanted
    choice: LearnChoice
    at: tuple[float, ...] | None = None

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
    """What is seen of a training: the step, and now and then pictures of a region."""

    step: Step
    raw: Float | None = None
    twin: Float | None = None
    learned: Float | None = None


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
    schedule = learning.schedule_of(lesson.choice.preset)
    engine = engines.open_engine(lesson.wanted.settings.engine)
    network = lesson.choice.network
    key = (network, schedule, psf.shape, engine.device)
    if key not in _SECONDS:
        _SECONDS[key] = learning.expected_seconds(
            psf, told.light, schedule, engine, network=network
        )
    return Promise(told, _SECONDS[key])


#: What trainings take here: measured once for each kind.
_SECONDS: dict[Any, float] = {}


def learning_from(lesson: Lesson, stop: Event) -> Generator[Moment, None, Learnt]:
    """Train on pairs simulated with the PSF; `stop` ends it and keeps the best.

    The state is kept beside the model each minute: should the viewer end, the same training goes
    on from there.
    """
    yield Moment(Step(0, 1, "preparing the PSF"))
    learning.require_torch()
    from napari_deconv.learned.model_file import write_model

    path = Path(lesson.choice.path).expanduser()
    check_place(path)
    psf, told = lesson.psf(), learning.light_like(lesson.wanted.stack, lesson.choice.camera)
    engine = engines.open_engine(lesson.wanted.settings.engine)
    level = background_of(lesson.wanted.stack, 0, lesson.wanted.settings.background)
    shown = learning.region_to_show(lesson.block, psf, level, lesson.at)
    yield Moment(Step(0, 1, "Richardson-Lucy on the region that is shown"))
    raw, twin = shown.image - np.float32(level), _twin(shown, engine)
    yield Moment(Step(0, 1, "the region that is shown"), raw, twin)
    run = learning.train(
        psf,
        told.light,
        learning.schedule_of(lesson.choice.preset),
        engine,
        network=lesson.choice.network,
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
            yield Moment(replace(step, peek=None), raw, twin, learned)
    except StopIteration as end:
        model = end.value
    finally:
        run.close()
    write_model(path, model)
    checkpoint_of(path).unlink(missing_ok=True)
    return Learnt(str(path), f"trained in {model.card.steps} steps; kept as {path.name}")


def checkpoint_of(path: Path) -> Path:
    """Return where the state of a training is kept until its model is."""
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.checkpoint{SUFFIX}")


def check_place(path: Path) -> None:
    """Raise `InputError` unless a new model can be kept there."""
    require(bool(path.name), "Choose the file that the trained network is to be kept in")
    require(path.name.lower().endswith(SUFFIX), f"The model's file must end in {SUFFIX}")
    require(not path.exists(), f"{path.name} exists already; choose another name for the new model")
    require(path.absolute().parent.is_dir(), f"There is no folder {path.absolute().parent}")


def _twin(shown: Observation, engine: Engine) -> Float:
    """Return the region as Richardson-Lucy restores it with an automatic stop."""
    *_, last = RichardsonLucy(stop_tolerance=AUTOMATIC_STOP).steps(shown, engine)
    return last.estimate if last.estimate is not None else shown.image


@dataclass(frozen=True, eq=False)
class Judgement:
    """How well two results explain their data."""

    network: Misfit
    twin: Misfit

    def in_words(self) -> str:
        """Return both numbers and what follows from them."""
        ours, theirs = self.network.chi_squared, self.twin.chi_squared
        numbers = (
            f"Blurred again, they miss the data by chi² {ours:.2f} (network) and {theirs:.2f} "
            "(Richardson-Lucy); 1 is noise alone"
        )
        if ours > WORSE * max(theirs, 1.0):
            return (
                f"{numbers}. <b>The network leaves out or invents: believe Richardson-Lucy where "
                "the map of the misfit is bright.</b>"
            )
        return f"{numbers}. The map of the misfit shows where."


def judging(lesson: Lesson, network: Restored, twin: Restored) -> Generator[Step, None, Judgement]:
    """Blur both results again, and hold them against the data."""
    yield Step(0, 2, "blurring the results again")
    stack, psf = lesson.wanted.stack, lesson.psf()
    place = next(iter(stack.blocks()))
    camera = learning.light_like(stack, lesson.choice.camera).camera or Camera()
    level = background_of(stack, 0, lesson.wanted.settings.background)
    observation = observe(read(stack, place), psf, level)
    engine = engines.open_engine(lesson.wanted.settings.engine)
    found = []
    for number, result in enumerate((network, twin), start=1):
        estimate = np.asarray(result.stack.data[place], np.float32)
        found.append(misfit_of(observation, estimate, camera, engine))
        yield Step(number, 2, "blurring the results again")
    return Judgement(*found)


def card_in_words(path: str) -> str:
    """Return what a model is, in a sentence or two."""
    from napari_deconv.learned.model_file import read_card

    card = read_card(path)
    size = " x ".join(f"{step:.3g}" for step in card.spacing_um or ()) or "unknown"
    low, high = card.light.photons
    return (
        f"{card.name}: {card.steps} steps in {card.seconds / 60:.0f} min; for voxels of {size} um "
        f"and {low:.0f} to {high:.0f} photons in the brightest; loss {card.validation:.3g}"
    )
