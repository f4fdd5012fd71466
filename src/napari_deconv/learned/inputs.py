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

IMAGE, NOISE = "image", "noise"
#: Channels that are estimates: Richardson-Lucy after so many iterations, plain or with momentum.
PLAIN, FAST = "richardson-lucy ", "heavy-ball "
#: Of a network that cleans up what Richardson-Lucy has undone: hardly begun, where it often stops,
#: and further than the noise allows. It mixes them, and adds to the mixture.
ESTIMATES = (f"{FAST}3", f"{FAST}12", f"{FAST}50")
INVERSE_CHANNELS = (*ESTIMATES, IMAGE, NOISE)
#: Part of the voxels that may be brighter than the brightness of an image.
BRIGHTEST = 1e-3
#: Brightness is no less than this: of noise alone nothing is to be made large.
LEAST_BRIGHTNESS = 1.0


def require_channels(channels: Sequence[str]) -> None:
    """Raise `InputError` unless all channels are known, and made by one run."""
    for channel in channels:
        require(
            channel in (IMAGE, NOISE) or _iterations(channel) > 0,
            f"The channel {channel!r} of a network is not known; there are {IMAGE!r}, {NOISE!r} "
            f"and {PLAIN + '10'!r} or {FAST + '10'!r} or another number of iterations",
        )
    kinds = {kind for kind in (PLAIN, FAST) for channel in channels if channel.startswith(kind)}
    require(len(kinds) < 2, f"A network's channels are either {PLAIN!r} or {FAST!r}, not both")


def _iterations(channel: str) -> int:
    number = channel.removeprefix(PLAIN).removeprefix(FAST)
    return int(number) if channel.startswith((PLAIN, FAST)) and number.isdecimal() else 0


def method_of(channels: Sequence[str]) -> RichardsonLucy | None:
    """Return the method whose states are channels; None where there are none."""
    most = max(map(_iterations, channels), default=0)
    if not most:
        return None
    is_plain = any(channel.startswith(PLAIN) for channel in channels)
    return RichardsonLucy(most, "none" if is_plain else "heavy-ball")


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


def brightness(channels: Sequence[str], found: dict[str, Float]) -> float:
    """Return what most voxels of the first channel are darker than: all are divided by it."""
    values = found[channels[0]].reshape(-1)
    rank = min(int(values.size * (1 - BRIGHTEST)), values.size - 1)
    return max(float(np.partition(values, rank)[rank]), LEAST_BRIGHTNESS)


def stacked(
    channels: Sequence[str], found: dict[str, Float], bright: float, gain: float = 1.0
) -> Float:
    """Return the channels in their order, (C, Z, Y, X) or (C, Y, X).

    They are divided by the brightness `bright`, in counts, of which `gain` are a photon.
    """
    shape = next(iter(found.values())).shape
    result = np.empty((len(channels), *shape), np.float32)
    for place, channel in zip(result, channels, strict=True):
        light = math.log10(max(bright / gain, LEAST_BRIGHTNESS)) / 3
        place[...] = light if channel == NOISE else found[channel] / bright
    return result
