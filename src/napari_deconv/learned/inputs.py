"""What goes into a network: the image, what the known PSF can undo of its blur, and the noise.

What is undone first by a known method need not be learned (Xu et al. 2014; Sureau et al. 2020,
doi 10.1051/0004-6361/201937039). Everything is divided by one number, the brightness of the
image, so that a network sees all exposures alike; how noisy they are is a channel of its own.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import InputError, require, require_number
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, Restorer, Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

Float = npt.NDArray[np.float32]

#: Channels that are known without undoing anything: the counts above the background, how much
#: light there is, and the background itself.
IMAGE, NOISE, BACKGROUND = "image", "noise", "background"
#: Channels that are estimates: Richardson-Lucy after so many iterations, plain, with momentum, or
#: smoothed by total variation of a weight; and Wiener with so much regularization.
PLAIN, FAST, SMOOTH, WIENER = "richardson-lucy ", "heavy-ball ", "smoothed ", "wiener "
#: Of a network that cleans up what Richardson-Lucy has undone: where it often stops, further than
#: the noise allows, and smoothed little and much. It mixes them, and adds to the mixture.
ESTIMATES = (f"{FAST}12", f"{FAST}50", f"{SMOOTH}0.01 30", f"{SMOOTH}0.05 30")
INVERSE_CHANNELS = (*ESTIMATES, IMAGE, NOISE)
#: What is done to an image before a network, and undone after it. "brightness" divides by that of
#: the image (see `imaging.brightness`). "percentiles" brings two percentiles of the image, the
#: numbers, to 0 and 1, as CSBDeep does. "standard" brings a mean to 0 and a standard deviation to
#: 1, as CAREamics does: both of the image, where there are no numbers; two numbers, in counts with
#: the background; or two more for the way back, where what comes out has units of its own.
Normalization = Literal["brightness", "percentiles", "standard"]
BRIGHTNESS: Normalization = "brightness"
PERCENTILES: Normalization = "percentiles"
STANDARD: Normalization = "standard"
#: The channel that tells how much light there is, is the logarithm of its photons over this.
LIGHT_UNIT = 3.0
#: Brightness is no less than this, in photons: of noise alone nothing is to be made large.
LEAST_BRIGHTNESS = 1.0


@dataclass(frozen=True)
class Undoing:
    """A method whose states are channels.

    Parameters
    ----------
    method : Restorer
        That runs.
    wanted : dict
        From the number of an iteration to the name of the channel that its state is.
    """

    method: Restorer
    wanted: dict[int, str]


def undoings(channels: Sequence[str]) -> list[Undoing]:
    """Return the methods whose states are channels, each once.

    Raises
    ------
    InputError
        If a channel is not known.
    """
    found = []
    iterated = [name for name in channels if name.startswith((PLAIN, FAST, SMOOTH))]
    for kind in dict.fromkeys(name.rpartition(" ")[0] for name in iterated):
        alike = [name for name in iterated if name.rpartition(" ")[0] == kind]
        wanted = {_iterations(name): name for name in alike}
        found.append(Undoing(_richardson_lucy(f"{kind} ", max(wanted)), wanted))
    for name in channels:
        if name.startswith(WIENER):
            found.append(Undoing(Wiener(_number(name)), {1: name}))
        elif not name.startswith((PLAIN, FAST, SMOOTH)):
            require(
                name in (IMAGE, NOISE, BACKGROUND),
                f"The channel {name!r} of a network is not known; there are {IMAGE!r}, {NOISE!r}, "
                f"{BACKGROUND!r}, {PLAIN + '10'!r}, {FAST + '10'!r} or {SMOOTH + '0.02 10'!r}, or "
                f"another number of iterations, and {WIENER + '0.01'!r} or another regularization",
            )
    return found


def _richardson_lucy(kind: str, iterations: int) -> RichardsonLucy:
    return RichardsonLucy(
        iterations,
        "none" if kind == PLAIN else "heavy-ball",
        tv_weight=_number(kind.strip()) if kind.startswith(SMOOTH) else 0.0,
        # As in the docks: light from above does not end up below.
        edges=RichardsonLucy.automatic().edges,
    )


def _iterations(channel: str) -> int:
    number = _number(channel)
    require(number >= 1 and number == int(number), f"The channel {channel!r} has no iterations")
    return int(number)


def _number(channel: str) -> float:
    try:
        return float(channel.rpartition(" ")[2])
    except ValueError as error:
        raise InputError(f"The channel {channel!r} of a network lacks its number") from error


def states(
    channels: Sequence[str], observation: Observation, engine: Engine
) -> Generator[Step, None, dict[str, Float]]:
    """Return the channels that are images, in counts above the background; yield the iterations."""
    found: dict[str, Float] = {}
    if IMAGE in channels:
        found[IMAGE] = observation.image - np.float32(observation.background)
    if BACKGROUND in channels:
        found[BACKGROUND] = np.array(observation.background, np.float32)
    for undoing in undoings(channels):
        wanted, last = undoing.wanted, max(undoing.wanted)
        for step in undoing.method.steps(observation, engine):
            if step.estimate is not None:
                # Of an image that is zero everywhere the first step is the last.
                for channel in wanted.values():
                    found.setdefault(channel, step.estimate)
                found[wanted[last]] = step.estimate
            elif step.done in wanted and step.peek is not None:
                found[wanted[step.done]] = step.peek()
            yield step
    return found


def brightness(observation: Observation, gain: float = 1.0) -> float:
    """Return the brightness of an image above its background, in counts: all is divided by it.

    A photon are `gain` counts.
    """
    return max(observation.bright, LEAST_BRIGHTNESS * gain)


def stacked(
    channels: Sequence[str], found: dict[str, Float], bright: float, gain: float = 1.0
) -> Float:
    """Return the channels in their order, (C, Z, Y, X) or (C, Y, X).

    They are divided by the brightness `bright`, in counts, of which `gain` are a photon.
    """
    result = np.empty((len(channels), *found[channels[0]].shape), np.float32)
    for place, channel in zip(result, channels, strict=True):
        light = math.log10(max(bright / gain, LEAST_BRIGHTNESS)) / LIGHT_UNIT
        place[...] = light if channel == NOISE else found[channel] / bright
    return result


@dataclass(frozen=True)
class Scaling:
    """From counts above the background to what a network is given, and back.

    Parameters
    ----------
    low, unit : float
        What goes in is (counts - low) / unit.
    factor, shift : float
        What comes out, times the factor and with the shift added, is the image.
    """

    low: float
    unit: float
    factor: float
    shift: float


def require_numbers(normalization: str, numbers: Sequence[float]) -> None:
    """Raise `InputError` unless the numbers are those of a normalization; see `Normalization`."""
    known = get_args(Normalization)
    require(
        normalization in known,
        f"The normalization {normalization!r} is not known; choose one of {', '.join(known)}",
    )
    for value in numbers:
        require_number("A number of a normalization", value)
    if normalization == PERCENTILES:
        require(
            len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= 100,
            f"Percentiles are two numbers from 0 to 100, the lower one first, not {tuple(numbers)}",
        )
    elif normalization == STANDARD:
        # What is divided by stands second.
        require(
            len(numbers) in (0, 2, 4) and (not numbers or numbers[1] > 0),
            "A mean and a standard deviation above 0 are two numbers, and two more where the "
            f"way back has its own, not {tuple(numbers)}",
        )
    else:
        require(not numbers, "To divide by the brightness takes no numbers")


def measured(
    normalization: str, numbers: Sequence[float], found: Sequence[dict[str, Float]]
) -> tuple[float, float] | None:
    """Return what is subtracted from an image and what it is divided by, from samples of it.

    Returns
    -------
    (float, float), optional
        In counts above the background; None where nothing is to be measured.
    """
    if normalization == BRIGHTNESS or (normalization == STANDARD and numbers):
        return None
    values = np.concatenate([some[IMAGE].reshape(-1) for some in found])
    if normalization == STANDARD:
        return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) or 1.0
    low, high = np.percentile(values, numbers)
    # A constant image has no range to be brought to 1.
    return float(low), float(high - low) or 1.0


def scaling(
    numbers: Sequence[float],
    levels: tuple[float, ...] | None,
    *,
    bright: float,
    background: float,
) -> Scaling:
    """Return how an image is scaled.

    Parameters
    ----------
    numbers : sequence of float
        Of the normalization; see `Normalization`.
    levels : (float, float), optional
        What `measured` gave.
    bright, background : float
        Brightness of the image, and the counts under everything.
    """
    if levels is not None:
        low, unit = levels
        return Scaling(low, unit, unit, low)
    if not numbers:
        return Scaling(0.0, bright, bright, 0.0)
    mean, unit = numbers[0] - background, numbers[1]
    # Units of its own have a background of their own: then nothing is known to subtract.
    back = (unit, mean) if len(numbers) == 2 else (numbers[3], numbers[2])
    return Scaling(mean, unit, *back)


def scaled(
    channels: Sequence[str], found: dict[str, Float], how: Scaling, gain: float = 1.0
) -> Float:
    """Return the channels as a network is given them, (C, Z, Y, X) or (C, Y, X)."""
    if how.low:  # of the image alone, which then is the one channel
        found = {IMAGE: found[IMAGE] - np.float32(how.low)}
    return stacked(channels, found, how.unit, gain)
