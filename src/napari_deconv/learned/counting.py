"""Counts as the camera of a training would have told them.

A network has learned what noise a count has, and how much of a dark voxel is the camera's offset.
Another camera has another gain and another offset: what it tells is put into the counts of the
training before the network sees it, and what comes out is put back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from napari_deconv.imaging.value import Value
from napari_deconv.restoration.looking import camera_seen
from napari_deconv.restoration.restorer import Observation, Step

from .pairs import Light

#: How far beyond the photons of its training an image may lie, as a factor.
MARGIN = 4.0
#: A gain is told to so many parts of a factor of two, a background of the training's range: noise
#: tells no more, and a part of an image then tells the same as the whole, so that tiles agree.
STEPS = 4


@dataclass(frozen=True)
class Counting(Value):
    """From the counts of an image to those of a training.

    Parameters
    ----------
    factor : float
        By which counts are multiplied.
    shift : float
        What is added then.
    """

    factor: float = 1.0
    shift: float = 0.0

    @classmethod
    def of(cls, observation: Observation, light: Light) -> Counting:
        """Return how an image is to be told for a network that was trained on some light.

        One whose background and brightness may be of the same camera is left as it is. Where the
        noise tells of no camera that would have seen such light as the training, the background
        alone is told as there.
        """
        low, high = light.background
        level, bright = observation.background, observation.bright
        is_usual = 2 * low - high <= level <= 2 * high - low
        if bright <= 0 or (is_usual and is_known(bright / light.gain, light)):
            return cls()
        camera = camera_seen(observation)
        if not is_known(bright / camera.gain, light):
            return cls(shift=(low + high) / 2 - level)
        factor = 2 ** (round(STEPS * math.log2(light.gain / camera.gain)) / STEPS)
        told = light.offset + factor * (level - camera.offset)
        step = (high - low) / STEPS
        told = step * round(told / step) if step > 0 else told
        return cls(factor, told - factor * level)

    @property
    def is_the_same(self) -> bool:
        """Whether nothing changes."""
        return self == Counting()

    def told(self, observation: Observation) -> Observation:
        """Return an observation in the counts of the training."""
        if self.is_the_same:
            return observation
        factor, shift = np.float32(self.factor), np.float32(self.shift)
        return replace(
            observation,
            image=np.maximum(observation.image * factor + shift, 0),
            background=max(self._level(observation.background), 0.0),
            whole_mean=self._level_of(observation.whole_mean),
            whole_bright=self._level_of(observation.whole_bright),
        )

    def put_back(self, step: Step) -> Step:
        """Return a step with what is restored in the counts of the image."""
        if self.is_the_same:
            return step
        back, peek = np.float32(1 / self.factor), step.peek
        return replace(
            step,
            estimate=None if step.estimate is None else step.estimate * back,
            peek=None if peek is None else lambda: peek() * back,
        )

    def in_words(self, light: Light) -> str:
        """Return what was taken for a photon, and what for none."""
        gain, offset = light.gain / self.factor, (light.offset - self.shift) / self.factor
        return (
            f"its counts were told as those of the training: {gain:.3g} a photon above an offset "
            f"of {offset:.3g}"
        )

    def _level(self, level: float) -> float:
        return self.factor * level + self.shift

    def _level_of(self, level: float | None) -> float | None:
        return None if level is None else self._level(level)


def is_known(photons: float, light: Light) -> bool:
    """Return whether a brightness may be one of the training."""
    low, high = light.photons
    return low / MARGIN <= photons <= high * MARGIN
