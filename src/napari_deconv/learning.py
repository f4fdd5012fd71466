"""From a stack and a PSF to a trained network: what the command and the dock share.

Nothing here needs torch until something is trained; where it is not installed, that is told.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.imaging.camera import Camera, camera_of
from napari_deconv.imaging.noise import noise_beneath
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import region_around
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require
from napari_deconv.learned.pairs import Light, Pair, Twin
from napari_deconv.learned.requiring import require_torch
from napari_deconv.learned.shipped import fits, nearest_shipped
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.looking import supposed_camera
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation, Step
from napari_deconv.surveying import background_of, read, sample_regions

if TYPE_CHECKING:
    from napari_deconv.learned.designs import Design
    from napari_deconv.learned.model_file import Model
    from napari_deconv.learned.samples import Sample
    from napari_deconv.learned.trainer import Schedule

#: A stack stands for others up to so many times dimmer and brighter.
SPREAD = 4.0
#: Pixels of a pair of one plane, and of what is cut from it.
PAIR_2D, PATCH_2D = (192, 192), (96, 96)
#: By how much fewer steps and pairs, and by how much smaller ones, a trained network goes on.
GENTLER = 4
#: Part of the pairs and of the steps that are enough where another network is the start.
PAIRS_FROM_START, STEPS_FROM_START = 0.75, 0.15
#: What is said of a stack whose noise is not that of a camera, as that of simulated pairs is.
SHARED = (
    "; neighbouring pixels share noise, as after a filter or resampling, which no simulated pair "
    "has: take the stack as it was recorded, if you can"
)
#: Part of the voxels that may be brighter than what counts as the brightest, in percent.
BRIGHTEST_PERCENT = 0.1


@dataclass(frozen=True)
class Told:
    """What a stack tells of its light.

    Parameters
    ----------
    light : Light
        To train for.
    camera : Camera or None
        As its noise tells; None where a count was taken for a photon.
    is_shared : bool
        Whether neighbouring pixels share noise, as after a filter or resampling.
    """

    light: Light
    camera: Camera | None
    is_shared: bool = False

    @property
    def assumed_camera(self) -> Camera:
        """The camera, or where its noise tells nothing what was taken for it."""
        light = self.light
        return self.camera or Camera(light.gain, light.offset, light.read_noise)

    def in_words(self) -> str:
        """Return a sentence with the numbers."""
        light = self.light
        units = (
            f"{light.gain:.3g} counts a photon above an offset of {light.offset:.3g}"
            if self.camera is not None
            else f"{_counts(light.gain)} taken for a photon"
        )
        low, high = (f"{photons:.{0 if photons >= 10 else 1}f}" for photons in light.photons)
        shared = SHARED if self.is_shared else ""
        return f"{units}; {low} to {high} photons in the brightest voxels{shared}"


def light_like(
    stack: Stack, camera: Camera | None = None, *, read_noise: float = Camera.read_noise
) -> Told:
    """Return the light of stacks like this one.

    Parameters
    ----------
    stack : Stack
        Of its first channel and time, a few regions are looked at.
    camera : Camera, optional
        Gain, offset and read noise; without it gain and offset are estimated from the noise.
    read_noise : float
        In photons, where `camera` is not given.
    """
    first = next(stack.blocks())
    level = background_of(stack, first, "auto")
    samples = [read(stack, (*first, *r.slices)) for r in sample_regions(stack.spatial_shape)]
    planes = np.concatenate([sample.reshape(-1, *sample.shape[-2:]) for sample in samples])
    found = camera or camera_of(planes, read_noise)
    used = found or Camera(supposed_camera(planes).gain, read_noise=read_noise)
    bright = float(np.percentile(planes, 100 - BRIGHTEST_PERCENT)) - level
    photons, dark = max(bright / used.gain, 1.0), max(level - used.offset, 0.0)
    light = Light(
        photons=(photons / SPREAD, photons * SPREAD),
        background=(max(level - 0.2 * dark, 0.0), max(level + 0.2 * dark, 0.0)),
        read_noise=used.read_noise,
        gain=used.gain,
        offset=used.offset,
    )
    return Told(light, found, noise_beneath(planes) > 1)


def _counts(gain: float) -> str:
    return "a count" if gain == 1 else f"{gain:.3g} counts"


def schedule_of(preset: str, *, seed: int = 0, steps: int | None = None, **more: Any) -> Schedule:
    """Return how long to train, by the name of a preset; `more` are fields of a `Schedule`.

    Raises
    ------
    InputError
        If the preset or a word is not known, or torch is not installed.
    """
    require_torch()
    from napari_deconv.learned.training import PRESETS

    require(preset in PRESETS, f"The preset {preset!r} is not known; choose {', '.join(PRESETS)}")
    chosen = replace(PRESETS[preset], seed=seed, **more)
    return chosen if steps is None else of_steps(chosen, steps)


def of_steps(schedule: Schedule, steps: int) -> Schedule:
    """Return a schedule of other steps, with no more pairs than these can look at."""
    seen = max(steps * schedule.batch, 1)
    pairs, unseen = min(schedule.pairs, seen), min(schedule.unseen, seen)
    return replace(schedule, steps=steps, pairs=pairs, unseen=unseen)


def gentler(schedule: Schedule) -> Schedule:
    """Return how long to train a network that is trained already: shorter, by smaller steps."""
    return replace(
        schedule,
        pairs=max(schedule.pairs // GENTLER, 1),
        steps=max(schedule.steps // GENTLER, 1),
        learning_rate=schedule.learning_rate / GENTLER,
    )


def usual_start(psf: Psf, network: str = "inverse") -> Model | None:
    """Return a network of the package that one of a kind can start from; None if there is none.

    A training from there can be shorter; see `shorter`.
    """
    require_torch()
    return nearest_shipped(_design(network, psf), psf)


def _design(network: str, psf: Psf) -> Design:
    """Return what a network is built of, by its name."""
    from napari_deconv.learned.designs import DESIGNS

    require(
        network in DESIGNS,
        f"The network {network!r} is not known; choose one of {', '.join(DESIGNS)}",
    )
    return DESIGNS[network](psf)


def shorter(schedule: Schedule) -> Schedule:
    """Return how long to train where another network is the start."""
    return replace(
        schedule,
        pairs=max(round(PAIRS_FROM_START * schedule.pairs), 1),
        steps=max(round(STEPS_FROM_START * schedule.steps), 1),
        learning_rate=schedule.learning_rate / 2,
    )


def expected_seconds(
    psf: Psf, light: Light, schedule: Schedule, engine: Engine, *, network: str = "inverse"
) -> float:
    """Return about how long a training takes here, from a few pairs and a few steps."""
    from napari_deconv.learned.lessons import Lessons
    from napari_deconv.learned.trainer import LOOK_EVERY
    from napari_deconv.learned.training import training

    whole = _adapted(schedule, network, psf.samples.ndim)
    several = len(engine.side_by_side())
    one = replace(whole, pairs=several, left_out=several, unseen=0, steps=4, members=1)
    run = training(Lessons([psf], light), _design(network, psf), one, engine)
    marks = [(step.done, time.perf_counter()) for step in run]
    # The first of each kind also warms up; the last step is followed by a look.
    pairs = [t for done, t in marks if done == 0]
    steps = [t for done, t in marks if done > 0]
    each_pair = (pairs[-1] - pairs[several - 1]) / several
    each_step = (steps[-2] - steps[0]) / max(len(steps) - 2, 1)
    each_look = max(steps[-1] - steps[-2] - each_step, 0) / several
    count = whole.pairs + whole.left_out + whole.unseen
    looks = whole.left_out * -(-whole.steps // LOOK_EVERY)
    return count * each_pair + whole.members * (whole.steps * each_step + looks * each_look)


def region_to_show(
    image: Any, psf: Psf, background: float, at: Sequence[float] | None = None
) -> Observation:
    """Return the part of a block that is restored while a network learns.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Counts; read where they are needed.
    psf : Psf
        On its voxels.
    background : float
        In counts.
    at : sequence of float, optional
        The voxel in its middle; that of the image where not given.
    """
    region = region_around(at or [n / 2 for n in image.shape], image.shape)
    return observe(np.asarray(image[region.slices]), psf, background)


#: What networks that blur themselves learn from: whole pairs, fewer of them at a time, by steps of
#: (batch, part of the steps, times the rate); few numbers are learned in few and long ones.
WHOLE_PAIRS = {
    "wiener": (2, 0.2, 20.0),
    "wiener-kpn": (2, 0.4, 1.0),
    "wiener-unet": (1, 0.5, 1.0),
    "unrolled-rl": (1, 0.5, 1.0),
}


def train(
    psf: Psf | Sequence[Psf],
    light: Light,
    schedule: Schedule,
    engine: Engine,
    *,
    network: str = "inverse",
    name: str = "model",
    checkpoint: Path | None = None,
    shown: Observation | None = None,
    pairs: Sequence[Pair] = (),
    twins: Sequence[Twin] = (),
    only_twins: bool = False,
    start: Model | None = None,
    samples: Iterable[Sample] = (),
    steps: int | None = None,
) -> Generator[Step, Any, Model]:
    """Train a network for one PSF, or for a family of them; see `learned.training`.

    `network` is one of `learned.designs.DESIGNS`: "inverse" is expected to do best. One to start
    from, `start`, says itself what it is; see `usual_start`. A kind of network may take fewer
    steps than the schedule has; `steps` are taken as they are.
    """
    from napari_deconv.learned.lessons import Lessons
    from napari_deconv.learned.training import training

    psfs = (psf,) if isinstance(psf, Psf) else tuple(psf)
    require(bool(psfs), "Give a PSF, or several, to train with")
    schedule = _adapted(schedule, network, psfs[0].samples.ndim)
    if steps is not None:
        schedule = of_steps(schedule, steps)
    made = _design(network, psfs[0])
    if start is not None and not fits(start.card.design, made):
        made = start.card.design
    return training(
        Lessons(psfs, light, pairs, twins, only_twins),
        made,
        schedule,
        engine,
        name=name,
        checkpoint=checkpoint,
        shown=shown,
        start=start,
        samples=samples,
    )


def _adapted(schedule: Schedule, network: str, ndim: int) -> Schedule:
    """Return how long a kind of network is to learn, on pairs of 2 or 3 dimensions."""
    if ndim == 2:
        schedule = replace(schedule, shape=PAIR_2D, patch=PATCH_2D)
    if network not in WHOLE_PAIRS:
        return schedule
    batch, share, faster = WHOLE_PAIRS[network]
    return replace(
        schedule,
        patch=schedule.shape,
        batch=batch,
        steps=max(round(share * schedule.steps), 1),
        learning_rate=faster * schedule.learning_rate,
    )
