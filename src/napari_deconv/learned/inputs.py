"""What goes into a network: the image, what the known PSF can undo of its blur, and the noise.

What is undone first by a known method need not be learned (Xu et al. 2014; Sureau et al. 2020,
doi 10.1051/0004-6361/201937039). Everything is divided by one number, the brightness of the
image, so that a network sees all exposures alike; how noisy they are is a channel of its own.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import require
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

Float = npt.NDArray[np.float32]

IMAGE, NOISE, STATE = "image", "noise", "richardson-lucy "
#: Of a network that cleans up what Richardson-Lucy has undone.
INVERSE_CHANNELS = (f"{STATE}40", f"{STATE}10", IMAGE, NOISE)
#: Part of the voxels that may be brighter than the brightness of an image.
BRIGHTEST = 1e-3
#: Brightness is no less than this, in photons: of noise alone nothing is to be made large.
LEAST_BRIGHTNESS = 1.0


def require_channels(channels: Sequence[str]) -> None:
    """Raise `InputError` unless all channels are known."""
    for channel in channels:
        known = channel in (IMAGE, NOISE) or _iterations(channel) > 0
        require(
            known,
            f"The channel {channel!r} of a network is not known; there are {IMAGE!r}, {NOISE!r} "
            f"and {STATE + '10'!r} or another number of iterations",
        )


def _iterations(channel: str) -> int:
    number = channel.removeprefix(STATE)
    return int(number) if channel.startswith(STATE) and number.isdecimal() else 0


def method_of(channels: Sequence[str]) -> RichardsonLucy | None:
    """Return the method whose states are channels; None where there are none."""
    most = max(map(_iterations, channels), default=0)
    return RichardsonLucy(most, "none") if most else None


def states(
    channels: Sequence[str], observation: Observation, engine: Engine
) -> Generator[Step, None, dict[str, Float]]:
    """Return the channels that are images, in counts above the background; yield the iterations."""
    found: dict[str, Float] = {}
    if IMAGE in channels:
        found[IMAGE] = observation.image - np.float32(observation.background)
    method = method_of(channels)
    if method is None:
        return found
    wanted = {_iterations(channel): channel for channel in channels if _iterations(channel)}
    for step in method.steps(observation, engine):
        if step.estimate is not None:
            # Of an image that is zero everywhere the first step is the last.
            for channel in wanted.values():
                found.setdefault(channel, step.estimate)
            found[wanted[method.iterations]] = step.estimate
        elif step.done in wanted and step.peek is not None:
            found[wanted[step.done]] = step.peek()
        yield step
    return found


def brightness(images: Sequence[Float]) -> float:
    """Return what most voxels of some images are darker than: all are divided by it."""
    values = np.concatenate([np.asarray(image).reshape(-1) for image in images])
    rank = min(int(values.size * (1 - BRIGHTEST)), values.size - 1)
    return max(float(np.partition(values, rank)[rank]), LEAST_BRIGHTNESS)


def stacked(channels: Sequence[str], found: dict[str, Float], bright: float) -> Float:
    """Return the channels in their order, (C, Z, Y, X) or (C, Y, X)."""
    shape = next(iter(found.values())).shape
    result = np.empty((len(channels), *shape), np.float32)
    for place, channel in zip(result, channels, strict=True):
        place[...] = math.log10(bright) / 3 if channel == NOISE else found[channel] / bright
    return result
