"""Training as a generator of steps: from a PSF and the light of the stacks to a model.

The same seed gives the same pairs and the same order of patches, so that a training that was
ended goes on from its checkpoint as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_deconv.imaging.value import Value, require
from napari_deconv.restoration.at_once import at_once
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, Step

from .calibration import Errors, calibration_of
from .designs import Design
from .lessons import Lessons, fitted
from .model_file import Card, Model
from .nets import Net, best_device
from .pairs import Light, simulated_pairs
from .samples import Sample, sample_of, sample_of_twin, seen_by
from .shipped import fits
from .trainer import Schedule, Trainer, kept_by

Float = npt.NDArray[np.float32]

#: Seconds between two checkpoints.
KEEP_EVERY_S = 60.0

#: By the names that users choose them by.
PRESETS = {
    "quick": Schedule(unseen=96),
    "standard": Schedule(pairs=192, left_out=24, unseen=192, steps=10_000, patience=40),
    "thorough": Schedule(pairs=384, left_out=32, unseen=192, steps=40_000, patience=80),
}


@dataclass(frozen=True, eq=False)
class TrainingStep(Step):
    """A step in which a network has learned from a batch.

    Parameters
    ----------
    loss : float
        Of the batch; where it is no number, training stops.
    left_out_loss : float or None
        The newest on the pairs that were left out; None before the first look at them.
    """

    loss: float = math.nan
    left_out_loss: float | None = None


def training(
    lessons: Lessons,
    design: Design,
    schedule: Schedule,
    engine: Engine,
    *,
    name: str = "model",
    checkpoint: Path | None = None,
    device: str | None = None,
    shown: Observation | None = None,
    start: Model | None = None,
    samples: Iterable[Sample] = (),
) -> Generator[Step, bool | None, Model]:
    """Train a network, or several that answer together.

    Parameters
    ----------
    lessons : Lessons
        What is learned from.
    design : Design
        The network.
    schedule : Schedule
        How long.
    engine : Engine
        What makes the channels.
    name : str
        Of the model.
    checkpoint : Path, optional
        Where the state is kept each minute, and where it is ended; one that is there is taken up.
    device : str, optional
        Of torch, to train on; the fastest there is where not given.
    shown : Observation, optional
        A region of a real stack, restored now and then on the way.
    start : Model, optional
        Of this design, but for how it pools: its weights are where training starts.
    samples : iterable of Sample
        In the place of simulated pairs: as many as the schedule says, those left out the last.

    Yields
    ------
    Step
        One for all that is done before and after; while a network learns, a `TrainingStep`, whose
        `peek`, where what was left out has just been looked at, restores what is to be shown. To
        stop and keep the best, send True.

    Returns
    -------
    Model
        With the best weights: the value of the generator.

    Raises
    ------
    InputError
        If the checkpoint is of another training, or the loss is no number before anything was
        learned.
    """
    started = time.perf_counter()
    schedule = fitted(schedule, lessons)
    require(
        start is None or fits(start.card.design, design),
        "The network to start from is another one than the network to be trained",
    )
    total = schedule.steps * schedule.members
    checkpoints = checkpoints_of(checkpoint, schedule.members) if checkpoint else []
    keys = _keys(design, lessons, schedule)
    for path, key in zip(checkpoints, keys, strict=False):
        if path.exists():
            kept_by(path, key)  # one of another training is refused before any work is done
    ready = iter(samples) if samples else _samples(lessons, design, schedule, engine)
    learned, left_out = yield from _prepared(lessons, design, schedule, engine, ready)
    seen = None
    if shown is not None:
        yield Step(0, total, "undoing the blur of the region that is shown")
        seen = _Seen.of(shown, design, engine, lessons.light.gain)
    trainers: list[Trainer] = []
    note = ""
    while len(trainers) < schedule.members and not note:
        number = len(trainers)
        one = keys[number].schedule
        torch.manual_seed(one.seed)
        network = design.network()
        if start is not None:
            weights = start.networks[min(number, len(start.networks) - 1)].state_dict()
            network.load_state_dict(weights)
        place = torch.device(device) if device is not None else best_device()
        trainers.append(Trainer(network, one, learned, left_out, place))
        if start is not None:
            trainers[-1].look_at_start()
        kept_at = checkpoints[number] if checkpoints else None
        note = yield from _run(trainers[-1], number, total, seen, kept_at, keys[number])
    networks = tuple(trainer.best() for trainer in trainers)
    card = Card(
        name,
        design,
        lessons.light,
        lessons.psfs[0].spacing_um,
        schedule.seed,
        sum(trainer.done for trainer in trainers),
        validation=float(np.mean([trainer.best_loss for trainer in trainers])),
        start_validation=None
        if start is None
        else float(np.mean([trainer.start_loss for trainer in trainers])),
        members=len(networks),
    )
    gain = lessons.light.gain
    errors = [Errors.of(networks, sample, gain) for sample in left_out if sample.variance is None]
    if not note:
        errors += yield from _errors_of_unseen(networks, lessons, design, schedule, engine)
    if errors:
        card = replace(card, calibration=calibration_of(errors))
    card = replace(card, seconds=round(time.perf_counter() - started, 1))
    return Model(card, networks, tuple(lessons.psfs))


def _errors_of_unseen(
    networks: Sequence[Net], lessons: Lessons, design: Design, schedule: Schedule, engine: Engine
) -> Generator[Step, bool | None, list[Errors]]:
    """Return how networks err on pairs of which nobody has seen any; on fewer if told to stop."""
    total, first = schedule.steps * schedule.members, schedule.pairs + schedule.left_out
    errors: list[Errors] = []
    unseen = range(first, first + schedule.unseen)
    for sample in _simulated(unseen, lessons, design, schedule, engine):
        errors.append(Errors.of(networks, sample, lessons.light.gain))
        number, count = schedule.left_out + len(errors), schedule.left_out + schedule.unseen
        told = f"reading intervals off pair {number} of {count}"
        if (yield Step(total, total, told)):
            break
    return errors


def _samples(
    lessons: Lessons, design: Design, schedule: Schedule, engine: Engine
) -> Iterator[Sample]:
    """Yield what a network sees of the pairs, recorded or simulated, to train it."""
    if lessons.pairs:
        psf, gain = lessons.psfs[0], lessons.light.gain
        return (sample_of(pair, psf, design, engine, gain) for pair in lessons.pairs)
    count = 0 if lessons.only_twins else schedule.pairs + schedule.left_out
    return _simulated(range(count), lessons, design, schedule, engine)


def _simulated(
    numbers: range, lessons: Lessons, design: Design, schedule: Schedule, engine: Engine
) -> Iterator[Sample]:
    """Yield what a network sees of the simulated pairs that have these numbers."""
    psfs, light = lessons.psfs, lessons.light

    def sample(number: int, engine: Engine) -> Sample:
        (pair,) = simulated_pairs([number], schedule.shape, psfs, light, schedule.seed)
        return sample_of(pair, psfs[number % len(psfs)], design, engine, light.gain)

    return at_once(sample, numbers, engine)


def _prepared(
    lessons: Lessons,
    design: Design,
    schedule: Schedule,
    engine: Engine,
    samples: Iterator[Sample],
) -> Generator[Step, bool | None, tuple[list[Sample], list[Sample]]]:
    """Return what is learned from and what is left out."""
    psfs, light, total = lessons.psfs, lessons.light, schedule.steps * schedule.members
    count = schedule.pairs + schedule.left_out
    learned: list[Sample] = []
    verb = "undoing the blur of" if lessons.pairs else "simulating"
    for sample in samples:
        learned.append(sample)
        yield Step(0, total, f"{verb} pair {len(learned)} of {count}")
    left_out = learned[schedule.pairs :]
    del learned[schedule.pairs :]
    twins = []
    for twin in lessons.twins:
        twins.append(sample_of_twin(twin, psfs[0], design, engine, light.gain))
        yield Step(0, total, f"undoing the blur of recording {len(twins)} of {len(lessons.twins)}")
    some = max(len(twins) // 10, 1) if twins else 0
    # As often as the simulated ones, so that a step takes one or the other alike.
    often = max(len(learned) // max(len(twins), 1), 1)
    return learned + twins[some:] * often, left_out + twins[:some]


def _run(
    trainer: Trainer,
    number: int,
    total: int,
    seen: _Seen | None,
    checkpoint: Path | None,
    key: _Key,
) -> Generator[Step, bool | None, str]:
    """Train one network; return why to stop with all, or nothing.

    Who ends it from outside finds the last whole step in the checkpoint.
    """
    if checkpoint is not None and checkpoint.exists():
        trainer.take_up(checkpoint, key)
    keep = partial(trainer.keep, checkpoint, key) if checkpoint is not None else None
    try:
        wish = yield from _steps(trainer, number * key.schedule.steps, total, seen, keep)
        if keep is not None and not wish:
            trainer.is_finished = True
            keep()
    except (GeneratorExit, KeyboardInterrupt):
        if keep is not None and trainer.done and trainer.is_whole:
            keep()
        raise
    return "stopped, the best is kept" if wish else ""


def _steps(
    trainer: Trainer, before: int, total: int, seen: _Seen | None, keep: Callable[[], None] | None
) -> Generator[Step, bool | None, bool | None]:
    """Train one network until it is done, or told to stop: then return True."""
    kept, steps = time.monotonic(), trainer.schedule.steps
    note, wish = "", None
    while trainer.done < steps and not note and not wish and not trainer.is_finished:
        note = trainer.step()
        peek = (
            partial(_restored, trainer, seen) if seen is not None and trainer.has_looked else None
        )
        wish = yield TrainingStep(
            before + trainer.done,
            total,
            note or trainer.told(),
            peek=peek,
            loss=trainer.loss,
            left_out_loss=trainer.left_out_loss,
        )
        if keep is not None and time.monotonic() - kept > KEEP_EVERY_S:
            keep()
            kept = time.monotonic()
    return wish


def checkpoints_of(checkpoint: Path, members: int) -> list[Path]:
    """Return where the states of the networks are kept that answer together, one each."""
    others = (checkpoint.with_name(f"{n}.{checkpoint.name}") for n in range(2, members + 1))
    return [checkpoint, *others]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A region as a network sees it, and what it was divided by."""

    channels: Float
    psf: Float
    bright: float

    @classmethod
    def of(cls, observation: Observation, design: Design, engine: Engine, gain: float) -> _Seen:
        channels, bright = seen_by(design, observation, engine, gain)
        return cls(channels, observation.psf.samples, bright)


def _restored(trainer: Trainer, seen: _Seen) -> Float:
    """Return a region as the network restores it now, in counts."""
    found: Float = np.maximum(trainer.restored(seen.channels, seen.psf), 0)
    return found * np.float32(seen.bright)


@dataclass(frozen=True)
class _Key(Value):
    """What must be the same for a training to go on."""

    design: Design
    light: Light
    schedule: Schedule
    seen: str


def _keys(design: Design, lessons: Lessons, schedule: Schedule) -> list[_Key]:
    """Return the key of each network that is trained: they differ in their seed."""
    digest, seeds = lessons.digest(), range(schedule.seed, schedule.seed + schedule.members)
    return [_Key(design, lessons.light, replace(schedule, seed=seed), digest) for seed in seeds]
