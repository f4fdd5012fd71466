"""A trained network as a method: it restores through the same tiles as any other.

What the known PSF can undo is undone first, on the engine; the network then runs over the result
row by row, in blocks where a whole row is too much for the memory, each with as much around it as
the network looks: blocks and tiles leave no seams. Networks that blur run on a tile at once.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import Value, require
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import SEAM_TOLERANCE, Observation, Restorer, Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import counted, ended, estimated

from . import caution
from .answering import Answering
from .blocks import BLOCK_BYTES, blocks_of
from .calibration import LEVELS, together
from .caution import Leaning
from .counting import Counting
from .designs import WienerDesign
from .doubts import doubts
from .inputs import (
    BRIGHTNESS,
    Scaling,
    Undoing,
    brightness,
    measured,
    scaled,
    scaling,
    stacked,
    states,
    undoings,
)
from .model_file import Card, Model, read_card, read_model
from .nets import Net, best_device, require_restores

Float = npt.NDArray[np.float32]

#: Float32 volumes of a run beside those of Richardson-Lucy: channels, and the result.
VOLUMES_BESIDE = 2.0
#: Transforms that a voxel costs as much as in a network of 12 first channels; measured on a CPU.
TRANSFORMS = 95
#: What a run may give: the restored image, half the width of the interval that holds the truth in
#: half or nine tenths of the voxels, or how far several answers lie apart.
ESTIMATE, HALF_50, HALF_90, DISAGREEMENT = (
    "estimate",
    "half-width 50",
    "half-width 90",
    "disagreement",
)
SHOWN = (ESTIMATE, HALF_50, HALF_90, DISAGREEMENT)


@dataclass(frozen=True)
class Learned(Value):
    """A trained network.

    Parameters
    ----------
    path : str
        Of its file.
    shows : str
        One of `SHOWN`.
    mirrored : bool
        Whether the image is restored mirrored as well, along the axes along which the PSF is its
        own mirror image, and the answers averaged.
    cautious : bool
        Whether Richardson-Lucy goes on from the result and is mixed in; see `learned.caution`.
        Only networks that undo a blur do.
    bright : float, optional
        Brightness that the channels are divided by; that of the image where not given.
    settings : tuple of float, optional
        What a network reads off the whole image.
    levels : tuple of float, optional
        What is subtracted from the image and what it is divided by, where its network asks for
        that; see `inputs.measured`.
    usual : RichardsonLucy, optional
        What a cautious one leans on; one that stops by itself where not given.
    compared : (float, float, float), optional
        Chi-squared of the network, and of what it leans on, and how much of that are points; of the
        image where not given.
    counting : Counting, optional
        From the counts of the image to those of the training; as its noise tells where not given.

    Raises
    ------
    InputError
        If the file is no model, or cannot give what is asked for.
    """

    path: str
    shows: str = ESTIMATE
    mirrored: bool = False
    cautious: bool = False
    bright: float | None = None
    settings: tuple[float, ...] | None = None
    levels: tuple[float, ...] | None = None
    usual: RichardsonLucy | None = None
    compared: tuple[float, float, float] | None = None
    counting: Counting | None = None

    def __post_init__(self) -> None:
        card = self.card
        require(
            self.shows in SHOWN,
            f"A network does not give {self.shows!r}; choose one of {', '.join(SHOWN)}",
        )
        require(
            self.shows not in (HALF_50, HALF_90) or card.calibration is not None,
            f"The network {card.name!r} tells no intervals: it was trained without simulated or "
            "recorded pairs to calibrate them on; train one on such pairs",
        )
        require(
            self.shows != DISAGREEMENT or card.members > 1 or self.mirrored,
            f"The network {card.name!r} is one alone, which cannot disagree; train several "
            "members, or ask for mirrored answers",
        )

    @property
    def card(self) -> Card:
        """What the network is."""
        return _kept_card(self.path, _changed(self.path))

    @property
    def model(self) -> Model:
        """The network itself, kept in memory."""
        return _kept_model(self.path, _changed(self.path))

    @property
    def undoings(self) -> list[Undoing]:
        """What goes before the network."""
        return undoings(self.card.design.channels)

    @property
    def leans_on(self) -> RichardsonLucy | None:
        """The method that is mixed in; None where there is none."""
        undoes = bool(self.undoings) or self.model.network.holds_blur
        if not (self.cautious and undoes and self.shows != DISAGREEMENT):
            return None
        return self.usual or RichardsonLucy.automatic()

    @property
    def _methods(self) -> list[Restorer]:
        """The methods that run before the network, and the one that goes on from it."""
        leans_on = [self.leans_on] if self.leans_on is not None else []
        return [*(undoing.method for undoing in self.undoings), *leans_on]

    @property
    def volumes(self) -> float:
        """Peak memory in float32 volumes of the padded image."""
        undone = max((undoing.method.volumes for undoing in self.undoings), default=1.0)
        beside = max(VOLUMES_BESIDE, self.model.network.volumes)
        passed = undone + len(self.card.design.channels) + beside
        if self.leans_on is None:
            return passed
        return max(passed, self.leans_on.volumes + caution.VOLUMES_BESIDE)

    @property
    def fixed_bytes(self) -> int:
        """Bytes that a run takes beside its volumes, however large the image is."""
        before = self.leans_on.fixed_bytes if self.leans_on is not None else 0
        return before + (0 if self.model.network.holds_blur else BLOCK_BYTES)

    @property
    def transforms(self) -> int:
        """What a run costs, in transforms of the same size."""
        before = sum(method.transforms for method in self._methods)
        if self.leans_on is not None:
            before += caution.going_on(self.leans_on).transforms
        first = getattr(self.card.design, "first", 1)
        answers = self.card.members * (4 if self.mirrored else 1)
        return before + math.ceil(TRANSFORMS * (first / 12) ** 2 * answers)

    @property
    def looks(self) -> int:
        """Most transforms of the part that is looked at to find where what it leans on stops."""
        return self.leans_on.looks if self.leans_on is not None else 0

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...] | None:
        """Return how far the network and what goes before it look; None before it is settled."""
        if self.bright is None or (self.leans_on is not None and self.usual is None):
            return None
        network = self.model.network
        halos = [undoing.method.halo(psf, tolerance) for undoing in self.undoings]
        reach = tuple(map(max, zip((0,) * psf.samples.ndim, *filter(None, halos), strict=True)))
        around = network.reach(psf, tolerance)
        looks = [far + more for far, more in zip(reach, around, strict=True)]
        if self.usual is not None:
            usual, further = (
                method.halo(psf, tolerance) or (0,) * psf.samples.ndim
                for method in (self.usual, caution.going_on(self.usual))
            )
            looks = [max(a, far + b) for far, a, b in zip(looks, usual, further, strict=True)]
        return tuple(
            -(-far // stride) * stride for far, stride in zip(looks, network.strides, strict=True)
        )

    def settled(self, samples: Sequence[Observation], engine: Engine) -> Learned:
        """Return the method with what all tiles share, as the samples tell it."""
        require_restores(self.model.network, samples[0].image.ndim, self.card.name)
        counting = self._counting(max(samples, key=lambda sample: sample.bright))
        same = replace(self, counting=Counting())
        told = same._settled_on([counting.told(sample) for sample in samples], engine)
        return replace(told, counting=counting)

    def _settled_on(self, samples: Sequence[Observation], engine: Engine) -> Learned:
        """Return the method settled on samples in the counts of the training."""
        alone = replace(self, cautious=False)._settled(samples, engine)
        if self.leans_on is None:
            return replace(alone, cautious=self.cautious)
        usual = self.leans_on.settled(samples, engine)
        brightest = max(samples, key=lambda sample: sample.bright)
        whole = replace(alone, shows=ESTIMATE)
        image, other = (
            ended(estimated(method.steps(brightest, engine))) for method in (whole, usual)
        )
        told = caution.compared(brightest, image, other, self._camera(brightest), engine)
        return replace(alone, cautious=True, usual=usual, compared=told)

    def _settled(self, samples: Sequence[Observation], engine: Engine) -> Learned:
        """Return the network with the brightness of the whole, and what it reads off the image."""
        bright = max(brightness(sample, self.card.light.gain) for sample in samples)
        network = self.model.network
        if self._kind[0] == BRIGHTNESS and not network.holds_blur:
            return replace(self, bright=bright)  # nothing else is read off the image
        channels = self.card.design.channels
        found = [ended(states(channels, sample, engine)) for sample in samples]
        brightest = max(range(len(samples)), key=lambda number: samples[number].bright)
        inputs = stacked(channels, found[brightest], bright, self.card.light.gain)
        settings = _settings_of(network, inputs, samples[brightest].psf)
        return replace(self, bright=bright, settings=settings, levels=measured(*self._kind, found))

    def _camera(self, observation: Observation) -> Camera:
        """Return the camera of the training; what is known to be no light has no noise."""
        light = self.card.light
        return Camera(light.gain, min(light.offset, observation.background), light.read_noise)

    @property
    def _kind(self) -> tuple[str, tuple[float, ...]]:
        """The normalization of the design, and its numbers; of most designs, the brightness."""
        design = self.card.design
        return getattr(design, "normalization", BRIGHTNESS), getattr(design, "numbers", ())

    def _scaling(self, found: dict[str, Float], bright: float, background: float) -> Scaling:
        levels = self.levels or measured(*self._kind, [found])
        return scaling(self._kind[1], levels, bright=bright, background=background)

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that a run works on."""
        shapes = [method.work_shape(image_shape, psf_shape) for method in self._methods]
        if self.model.network.holds_blur:
            shapes.append(tuple(n + p for n, p in zip(image_shape, psf_shape, strict=True)))
        return tuple(map(max, zip(image_shape, *shapes, strict=True)))

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield a step an iteration and then one a block; the last holds the estimate."""
        counting = self._counting(observation)
        for step in self._steps(counting.told(observation), engine):
            step = counting.put_back(step)
            if step.estimate is not None and not counting.is_the_same:
                step = replace(step, note=f"{step.note}; {counting.in_words(self.card.light)}")
            yield step

    def _counting(self, observation: Observation) -> Counting:
        """Return how the counts of an image are told: as they are, where the network asks so."""
        knows_light = self._kind[0] == BRIGHTNESS and bool(self.card.light.kinds)
        if self.counting is not None or not knows_light:
            return self.counting or Counting()
        return Counting.of(observation, self.card.light)

    def _steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield the steps on an observation in the counts of the training."""
        require_restores(self.model.network, observation.image.ndim, self.card.name)
        bright = self.bright or brightness(observation, self.card.light.gain)
        told = [f"one pass of the network {self.card.name!r}"]
        leans_on = self.leans_on
        after = caution.iterations(leans_on) if leans_on is not None else 0
        image, result, total = yield from self._passed(observation, engine, bright, after)
        if leans_on is not None:
            twice = caution.twice_restored(leans_on, observation, image, engine)
            usual, gone_on = yield from counted(twice, total, total - after)
            leaning = self._leaning(observation, image, usual, engine, bright)
            mixed = leaning.mixed(image, gone_on, usual)
            # An interval around the mixture holds that around the network's.
            result = mixed if result is image else result + np.abs(mixed - image)
            told += leaning.told()
        told += doubts(observation, bright, self.model)
        yield Step(total, total, "; ".join(told), estimate=result)

    def _passed(
        self, observation: Observation, engine: Engine, bright: float, after: int
    ) -> Generator[Step, None, tuple[Float, Float, int]]:
        """Return the image by the network alone, what is shown, and the steps of all.

        Of these `after` follow. Both are one array where the image is what is shown, or nothing
        follows that needs it.
        """
        network, channels = self.model.network, self.card.design.channels
        gain = self.card.light.gain
        undone = sum(max(undoing.wanted) for undoing in self.undoings)
        answering = Answering(
            self.model.networks,
            observation.psf,
            best_device(),
            mirrored=self.mirrored,
            settings=self.settings,
        )
        blocks = list(blocks_of(observation, network, answering.volumes(len(channels))))
        parts = [answering.parts(block) for block in blocks]
        total = undone + sum(parts) + after
        found = yield from counted(states(channels, observation, engine), total)
        how = self._scaling(found, bright, observation.background)
        inputs = torch.from_numpy(scaled(channels, found, how, gain))
        del found
        # How far answers lie apart does not move with the image.
        shift = how.shift if self.shows == ESTIMATE else 0.0
        result = np.empty(observation.image.shape, np.float32)
        image = np.empty_like(result) if after and self.shows != ESTIMATE else result
        for number, block in enumerate(blocks):
            done = undone + sum(parts[:number])
            answers = yield from counted(answering(inputs, block), total, done)
            shown, answer = self._shown(answers, bright / gain)
            image[block.keep] = answer * how.factor + how.shift
            result[block.keep] = shown * how.factor + shift
            del answers, shown, answer
        np.maximum(result, 0, out=result)
        np.maximum(image, 0, out=image)
        return image, result, total

    def _shown(self, answers: Sequence[Float], photons: float) -> tuple[Float, Float]:
        """Return what is to be shown of answers over the brightness, and the image."""
        calibration = self.card.calibration
        image, scale = together(answers)
        if self.shows == DISAGREEMENT:
            return np.std([answer[0] for answer in answers], axis=0), image
        if self.shows == ESTIMATE or calibration is None:
            return image, image
        level = LEVELS[self.shows == HALF_90]
        return calibration.half_width(image, scale, level, photons), image

    def _leaning(
        self, observation: Observation, image: Float, usual: Float, engine: Engine, bright: float
    ) -> Leaning:
        """Return how far it leans, by what was settled or by this image."""
        camera, design = self._camera(observation), self.card.design
        told = self.compared or caution.compared(observation, image, usual, camera, engine)
        return Leaning(bright / self.card.light.gain, *told, isinstance(design, WienerDesign))


def _settings_of(network: Net, inputs: Float, psf: Psf) -> tuple[float, ...] | None:
    """Return what a network reads off an image; None where it reads nothing."""
    with torch.inference_mode():
        found = network.settings(torch.from_numpy(inputs)[None], torch.tensor(psf.samples)[None])
    return None if found is None else tuple(found[0].tolist())


def _changed(path: str) -> float:
    found = Path(path).expanduser()
    return found.stat().st_mtime if found.is_file() else 0.0


@lru_cache(maxsize=8)
def _kept_card(path: str, changed: float) -> Card:
    return read_card(path)


@lru_cache(maxsize=2)
def _kept_model(path: str, changed: float) -> Model:
    return read_model(path)
