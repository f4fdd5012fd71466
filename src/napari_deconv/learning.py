"""From a stack and a PSF to a trained network: what the command and the dock share.

Nothing here needs torch until something is trained; where it is not installed, that is told.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.files.reading import read_stack
from napari_deconv.imaging.camera import Camera, camera_of
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import region_around
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, require
from napari_deconv.learned.pairs import Light, Pair, given_pair
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, Step, observe
from napari_deconv.tiling import background_of, background_of_block, read, sample_regions

if TYPE_CHECKING:
    from napari_deconv.learned.model_file import Model
    from napari_deconv.learned.training import Schedule

#: A stack stands for others up to so many times dimmer and brighter.
SPREAD = 4.0
#: Pixels of a pair of one plane, and of what is cut from it.
PAIR_2D, PATCH_2D = (192, 192), (96, 96)
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
    """

    light: Light
    camera: Camera | None

    def in_words(self) -> str:
        """Return a sentence with the numbers."""
        light = self.light
        units = (
            f"{light.gain:.3g} counts a photon above an offset of {light.offset:.3g}"
            if self.camera is not None
            else "a count taken for a photon"
        )
        low, high = (f"{photons:.{0 if photons >= 10 else 1}f}" for photons in light.photons)
        return f"{units}; {low} to {high} photons in the brightest voxels"


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
    level = background_of(stack, 0, "auto")
    first = next(iter(stack.blocks()))
    samples = [read(stack, (*first, *r.slices)) for r in sample_regions(stack.spatial_shape)]
    found = camera or _camera_of(samples, read_noise)
    used = found or Camera(read_noise=read_noise)
    counts = np.concatenate([sample.ravel() for sample in samples])
    bright = float(np.percentile(counts, 100 - BRIGHTEST_PERCENT)) - level
    photons, dark = max(bright / used.gain, 1.0), max(level - used.offset, 0.0)
    light = Light(
        photons=(photons / SPREAD, photons * SPREAD),
        background=(max(level - 0.2 * dark, 0.0), max(level + 0.2 * dark, 0.0)),
        read_noise=used.read_noise,
        gain=used.gain,
        offset=used.offset,
    )
    return Told(light, found)


def _camera_of(samples: list[Any], read_noise: float) -> Camera | None:
    """Return what the noise of all samples tells."""
    planes = np.concatenate([sample.reshape(-1, *sample.shape[-2:]) for sample in samples])
    return camera_of(planes, read_noise)


def schedule_of(preset: str, *, seed: int = 0, steps: int | None = None) -> Schedule:
    """Return how long to train, by the name of a preset.

    Raises
    ------
    InputError
        If the preset is not known, or torch is not installed.
    """
    require_torch()
    from napari_deconv.learned.training import PRESETS

    require(preset in PRESETS, f"The preset {preset!r} is not known; choose {', '.join(PRESETS)}")
    chosen = replace(PRESETS[preset], seed=seed)
    return chosen if steps is None else replace(chosen, steps=steps)


def require_torch() -> None:
    """Raise `InputError` where torch is not installed."""
    require(
        find_spec("torch") is not None,
        "Trained networks need the package torch, which is not installed; run: "
        'pip install "napari-deconv[learned]"',
    )


def expected_seconds(
    psf: Psf, light: Light, schedule: Schedule, engine: Engine, *, network: str = "inverse"
) -> float:
    """Return about how long a training takes here, from one pair and a few steps."""
    one = replace(schedule, pairs=1, left_out=1, steps=4)
    run = train(psf, light, one, engine, network=network)
    marks = [(step.done, time.perf_counter()) for step in run]
    # The first of each kind also warms up.
    pairs = [t for done, t in marks if done == 0]
    steps = [t for done, t in marks if done > 0]
    each_pair = pairs[-1] - pairs[-2]
    each_step = (steps[-2] - steps[0]) / max(len(steps) - 2, 1)
    return (schedule.pairs + schedule.left_out) * each_pair + schedule.steps * each_step


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


def train(
    psf: Psf,
    light: Light,
    schedule: Schedule,
    engine: Engine,
    *,
    network: str = "inverse",
    name: str = "model",
    checkpoint: Path | None = None,
    shown: Observation | None = None,
    pairs: Sequence[Pair] = (),
) -> Generator[Step, Any, Model]:
    """Train a network for one PSF; see `learned.training`.

    `network` is "inverse", which is expected to do best, or "care".
    """
    from napari_deconv.learned.training import DESIGNS, training

    require(
        network in DESIGNS,
        f"The network {network!r} is not known; choose one of {', '.join(DESIGNS)}",
    )
    if psf.samples.ndim == 2:
        schedule = replace(schedule, shape=PAIR_2D, patch=PATCH_2D)
    return training(
        psf,
        light,
        DESIGNS[network](psf),
        schedule,
        engine,
        name=name,
        checkpoint=checkpoint,
        shown=shown,
        pairs=pairs,
    )


def pairs_in(raw: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Return the files of two folders that belong together: those of the same name.

    Raises
    ------
    InputError
        If a folder is not there, or there is no pair.
    """
    for folder in (raw, truth):
        require(folder.is_dir(), f"There is no folder {folder}; check the spelling")
    there = {path.name: path for path in truth.iterdir() if not path.name.startswith(".")}
    found = [(path, there[path.name]) for path in sorted(raw.iterdir()) if path.name in there]
    require(
        bool(found),
        f"No file of {raw} has the name of one of {truth}; a pair is two files of one name",
    )
    return found


def pair_of(raw: Path, truth: Path) -> Pair:
    """Return a pair from two files, each one volume or plane.

    Raises
    ------
    InputError
        If they cannot be read, or do not belong together.
    """
    stacks = [read_stack(path) for path in (raw, truth)]
    for stack in stacks:
        require(
            len(list(stack.blocks())) == 1,
            f"{stack.name} holds several channels or times; a file of a pair holds one volume",
        )
    places = [next(iter(stack.blocks())) for stack in stacks]
    counts, wanted = (read(stack, place) for stack, place in zip(stacks, places, strict=True))
    try:
        return given_pair(
            counts,
            wanted,
            background_of_block(stacks[0], places[0]),
            background_of_block(stacks[1], places[1]),
        )
    except InputError as error:
        raise InputError(f"{raw.name}: {error}") from error
