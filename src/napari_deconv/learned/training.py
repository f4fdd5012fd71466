"""Training as a generator of steps: from a PSF and the light of the stacks to a model.

The same seed gives the same pairs and the same order of patches, so that a training that was
ended goes on from its checkpoint as if it had not been.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, Value, require, require_number
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, Step, ended, observe

from .inputs import ESTIMATES, IMAGE, INVERSE_CHANNELS, brightness, stacked, states
from .model_file import Card, Design, Model, read_tensors, write_tensors
from .pairs import Light, Pair, simulated_pairs
from .unet import UNet, pools_for

Float = npt.NDArray[np.float32]

#: Part of the patches that are taken anywhere; the others hold some of the brightest voxels.
ANYWHERE = 0.3
#: Mean square of a truth, in units of its brightness, below which a patch counts as dark.
LEAST_LIGHT = 1e-3
#: A PSF that differs from its mirror image by less, as a part of itself, counts as symmetric.
SYMMETRIC = 0.05
#: Steps between two looks at the pairs that were left out.
LOOK_EVERY = 50
#: Seconds between two checkpoints.
KEEP_EVERY_S = 60.0


@dataclass(frozen=True)
class Schedule(Value):
    """How long and on how much a network learns.

    Parameters
    ----------
    pairs, left_out : int
        Pairs to learn from, and pairs to look at only.
    shape, patch : tuple of int
        Voxels of a pair, and of what is cut from it.
    batch : int
        Patches a step.
    steps : int
        At most.
    learning_rate : float
        Of Adam at the start; it falls to 0 along a cosine.
    patience : int
        Looks without a better loss after which training stops.
    seed : int
    """

    pairs: int = 96
    left_out: int = 8
    shape: tuple[int, ...] = (32, 80, 80)
    patch: tuple[int, ...] = (16, 48, 48)
    batch: int = 4
    steps: int = 1500
    learning_rate: float = 1e-3
    patience: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("pairs", "left_out", "batch", "steps", "patience"):
            require_number(f"The number of {name.replace('_', ' ')}", getattr(self, name), least=1)
        require_number("The learning rate", self.learning_rate, above=0)
        require(
            len(self.shape) == len(self.patch)
            and all(1 <= p <= n for p, n in zip(self.patch, self.shape, strict=True)),
            f"A patch of {self.patch} voxels does not fit into a pair of {self.shape}",
        )


#: By the names that users choose them by.
PRESETS = {
    "quick": Schedule(),
    "standard": Schedule(pairs=192, steps=5000, patience=30),
    "thorough": Schedule(pairs=384, steps=20_000, patience=60),
}


def inverse_design(psf: Psf, *, first: int = 12, depth: int = 2, laplace: bool = False) -> Design:
    """Return the U-Net that cleans up what Richardson-Lucy has undone."""
    spacing = psf.spacing_um or (1.0,) * psf.samples.ndim
    pools = pools_for(spacing, depth)
    return Design(INVERSE_CHANNELS, pools, first=first, laplace=laplace, mixed=len(ESTIMATES))


def care_design(psf: Psf, *, first: int = 32, depth: int = 2, laplace: bool = False) -> Design:
    """Return the U-Net of CARE: it sees the image alone, and knows the PSF from its pairs only."""
    spacing = psf.spacing_um or (1.0,) * psf.samples.ndim
    return Design((IMAGE,), pools_for(spacing, depth), first=first, laplace=laplace)


#: By the names that users choose them by.
DESIGNS = {"inverse": inverse_design, "care": care_design}


@dataclass(frozen=True, eq=False)
class Sample:
    """A pair as a network sees it: channels, and the truth in the same unit."""

    channels: Float
    truth: Float


def sample_of(pair: Pair, psf: Psf, design: Design, engine: Engine, gain: float = 1.0) -> Sample:
    """Return what a network sees of a pair."""
    observation = observe(np.maximum(pair.counts, 0), psf, pair.background)
    found = ended(states(design.channels, observation, engine))
    bright = brightness(design.channels, found)
    return Sample(stacked(design.channels, found, bright, gain), pair.truth / np.float32(bright))


def training(
    psf: Psf,
    light: Light,
    design: Design,
    schedule: Schedule,
    engine: Engine,
    *,
    name: str = "model",
    checkpoint: Path | None = None,
    device: str = "cpu",
    shown: Observation | None = None,
    pairs: Sequence[Pair] = (),
) -> Generator[Step, None, Model]:
    """Train a network on pairs: those that are given, else simulated with a PSF.

    Parameters
    ----------
    psf : Psf
        On the voxels of the stacks that the network is for.
    light : Light
        Their photons, background and noise.
    design : Design
        The network.
    schedule : Schedule
        How long.
    engine : Engine
        What makes the channels.
    name : str
        Of the model.
    checkpoint : Path, optional
        Where the state is kept each minute; one that is there is taken up.
    device : str
        Of torch, to train on.
    shown : Observation, optional
        A region of a real stack, restored now and then on the way.
    pairs : sequence of Pair
        Recorded pairs, two at the least, in the place of simulated ones; the last tenth of them
        is left out.

    Yields
    ------
    Step
        One a step; its `divergence` is the newest loss on the pairs that were left out, and its
        `peek`, where these have just been looked at, restores what is to be shown. To stop and
        keep the best, send True.

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
    schedule = _fitted(schedule, pairs) if pairs else schedule
    count, samples = schedule.pairs + schedule.left_out, []
    simulated = simulated_pairs(count, schedule.shape, psf, light, schedule.seed)
    for pair in pairs or simulated:
        samples.append(sample_of(pair, psf, design, engine, light.gain))
        verb = "undoing the blur of" if pairs else "simulating"
        yield Step(0, schedule.steps, f"{verb} pair {len(samples)} of {count}")
    seen = None
    if shown is not None:
        yield Step(0, schedule.steps, "undoing the blur of the region that is shown")
        seen = _Seen.of(shown, design, engine, light.gain)
    card = Card(name, design, light, psf.spacing_um, schedule.seed)
    run = _Training(design, schedule, samples, device, symmetric_axes(psf.samples))
    key = _Key(design, light, schedule, _digest(psf, pairs))
    if checkpoint is not None and checkpoint.exists():
        run.take_up(checkpoint, key)
    kept = time.monotonic()
    note = ""
    while run.done < schedule.steps and not note:
        note = run.step()
        peek = partial(run.restored, seen) if seen is not None and run.has_looked else None
        told = note or run.told()
        wish = yield Step(run.done, schedule.steps, told, run.left_out_loss, peek=peek)
        note = note or ("stopped, the best is kept" if wish else "")
        if checkpoint is not None and time.monotonic() - kept > KEEP_EVERY_S:
            run.keep(checkpoint, key)
            kept = time.monotonic()
    seconds = round(time.perf_counter() - started, 1)
    card = replace(card, steps=run.done, seconds=seconds, validation=run.best_loss)
    return Model(card, run.best(), psf)


def _fitted(schedule: Schedule, pairs: Sequence[Pair]) -> Schedule:
    """Return a schedule for so many pairs of these shapes."""
    require(len(pairs) > 1, "One pair is not enough: one is learned from and another one looked at")
    least = tuple(map(min, zip(*(pair.counts.shape for pair in pairs), strict=True)))
    patch = schedule.patch[-len(least) :]
    sides = tuple(min(side, n) for side, n in zip(patch, least, strict=True))
    left_out = max(len(pairs) // 10, 1)
    return replace(
        schedule, pairs=len(pairs) - left_out, left_out=left_out, shape=least, patch=sides
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """A region as a network sees it, and what it was divided by."""

    channels: Float
    bright: float

    @classmethod
    def of(cls, observation: Observation, design: Design, engine: Engine, gain: float) -> _Seen:
        found = ended(states(design.channels, observation, engine))
        bright = brightness(design.channels, found)
        return cls(stacked(design.channels, found, bright, gain), bright)


@dataclass(frozen=True)
class _Key(Value):
    """What must be the same for a training to go on."""

    design: Design
    light: Light
    schedule: Schedule
    seen: str


def _digest(psf: Psf, pairs: Sequence[Pair]) -> str:
    """Return what tells the PSF and recorded pairs from others."""
    digest = sha256(psf.samples.tobytes())
    for pair in pairs:
        digest.update(pair.counts.tobytes())
        digest.update(pair.truth.tobytes())
    return digest.hexdigest()


class _Training:
    """The network that learns, its optimizer, and the best so far."""

    def __init__(
        self,
        design: Design,
        schedule: Schedule,
        samples: list[Sample],
        device: str,
        flips: tuple[int, ...] = (),
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.schedule, self.device = schedule, torch.device(device)
        self.flips = flips
        self.learned, self.left_out = samples[: schedule.pairs], samples[schedule.pairs :]
        self.network = design.network().to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), schedule.learning_rate)
        self.done, self.looks_since_best = 0, 0
        self.loss, self.best_loss = math.nan, math.inf
        self.left_out_loss: float | None = None
        self._best = copy.deepcopy(self.network.state_dict())

    def step(self) -> str:
        """Learn from one batch; return why to stop, or nothing."""
        rate = 0.5 * (1 + math.cos(math.pi * self.done / self.schedule.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * rate
        channels, truth = self._batch()
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            loss = loss_of(self.network(channels), truth)
        self.loss = float(loss.detach())
        if not math.isfinite(self.loss):
            return self._stopped_by_a_loss()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        return self._look() if self.has_looked else ""

    @property
    def has_looked(self) -> bool:
        """Whether the last step was followed by a look at what was left out."""
        return self.done % LOOK_EVERY == 0 or self.done == self.schedule.steps

    def restored(self, seen: _Seen) -> Float:
        """Return a region as the network restores it now."""
        self.network.eval()
        with torch.no_grad():
            out = self.network(torch.from_numpy(seen.channels)[None].to(self.device))
        found: Float = np.maximum(out[0, 0].cpu().numpy(), 0) * np.float32(seen.bright)
        return found

    def told(self) -> str:
        """Return the losses in words."""
        left_out = f", {self.left_out_loss:.4g} left out" if self.left_out_loss is not None else ""
        return f"loss {self.loss:.4g}{left_out}"

    def best(self) -> UNet:
        """Return the network with the best weights."""
        self.network.load_state_dict(self._best)
        return self.network.to("cpu").eval()

    def _stopped_by_a_loss(self) -> str:
        if not math.isfinite(self.best_loss):
            raise InputError(
                "The loss is no number before anything was learned; check the PSF and the range "
                "of photons, or take a smaller learning rate"
            )
        return "the loss is no number any more: stopped, the best before it is kept"

    def _look(self) -> str:
        """Look at what was left out; return why to stop, or nothing."""
        self.network.eval()
        losses = []
        with torch.no_grad():
            for sample in self.left_out:
                channels = torch.from_numpy(sample.channels)[None].to(self.device)
                truth = torch.from_numpy(sample.truth)[None, None].to(self.device)
                losses.append(float(loss_of(self.network(channels), truth)))
        self.left_out_loss = float(np.mean(losses))
        if self.left_out_loss < self.best_loss:
            self.best_loss, self.looks_since_best = self.left_out_loss, 0
            self._best = copy.deepcopy(self.network.state_dict())
            return ""
        self.looks_since_best += 1
        if self.looks_since_best < self.schedule.patience:
            return ""
        return f"stopped: no better since {self.looks_since_best * LOOK_EVERY} steps"

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return the patches of this step: those of its number, whatever was before."""
        random = np.random.default_rng((self.schedule.seed, 1, self.done))
        patches = [self._patch(random) for _ in range(self.schedule.batch)]
        channels, truth = (np.stack(some) for some in zip(*patches, strict=True))
        return (
            torch.from_numpy(channels).to(self.device),
            torch.from_numpy(truth[:, None]).to(self.device),
        )

    def _patch(self, random: np.random.Generator) -> tuple[Float, Float]:
        """Return a patch of the channels and of the truth; most hold something bright."""
        sample = self.learned[int(random.integers(len(self.learned)))]
        sides, shape = self.schedule.patch, sample.truth.shape
        middle = [random.integers(n) for n in shape]
        if random.uniform() > ANYWHERE:
            lit = np.flatnonzero(sample.truth > 0.1 * sample.truth.max())
            if lit.size:
                middle = list(np.unravel_index(int(random.choice(lit)), shape))
        starts = [
            int(np.clip(m - side // 2, 0, n - side))
            for m, side, n in zip(middle, sides, shape, strict=True)
        ]
        place = tuple(slice(s, s + side) for s, side in zip(starts, sides, strict=True))
        channels, truth = sample.channels[(slice(None), *place)], sample.truth[place]
        turned = [axis for axis in self.flips if random.uniform() < 0.5]
        # The first axis of the channels counts them.
        channels = np.flip(channels, tuple(axis + 1 for axis in turned))
        return np.ascontiguousarray(channels), np.ascontiguousarray(np.flip(truth, tuple(turned)))

    # -- going on ---------------------------------------------------------------------------

    def keep(self, path: Path, key: _Key) -> None:
        """Write all that is needed to go on."""
        tensors: dict[str, Tensor] = {
            f"network.{name}": value for name, value in self.network.state_dict().items()
        }
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        state = self.optimizer.state_dict()["state"]
        for number, moments in state.items():
            tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        numbers = [self.done, self.looks_since_best, self.best_loss, self.left_out_loss or math.nan]
        tensors["numbers"] = torch.tensor(numbers, dtype=torch.float64)
        write_tensors(path, tensors, key, overwrite=True)

    def take_up(self, path: Path, key: _Key) -> None:
        """Go on from what `keep` wrote."""
        tensors, kept = read_tensors(path, _Key)
        require(
            kept == key,
            f"{path.name} is of a training with other settings; go back to those, choose another "
            "checkpoint, or delete it to begin anew",
        )

        def part(prefix: str) -> dict[str, Any]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self._best = part("best.")
        adam = self.optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in part("adam.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        self.optimizer.load_state_dict({**adam, "state": moments})
        done, since, best, left_out = tensors["numbers"].tolist()
        self.done, self.looks_since_best, self.best_loss = int(done), int(since), best
        self.left_out_loss = None if math.isnan(left_out) else left_out


def symmetric_axes(psf: Float) -> tuple[int, ...]:
    """Return the axes along which a PSF is its own mirror image: there a mirrored pair is a pair.

    Examples
    --------
    >>> symmetric_axes(np.array([[1, 2, 1], [0, 1, 0.5]], np.float32))
    ()
    >>> symmetric_axes(np.array([[1, 2, 1], [0, 1, 0]], np.float32))
    (1,)
    """
    size = float(np.linalg.norm(psf))
    return tuple(
        axis
        for axis, n in enumerate(psf.shape)
        if n % 2 and float(np.linalg.norm(psf - np.flip(psf, axis))) <= SYMMETRIC * size
    )


def loss_of(out: Tensor, truth: Tensor) -> Tensor:
    """Return the loss: squares; with a scale, the likelihood of a Laplace distribution.

    The squares are those of each patch over its own light, so that a few bright points in one
    patch do not outweigh all the others.
    """
    error = out[:, :1] - truth
    if out.shape[1] == 1:
        light = truth.flatten(1).square().mean(1) + LEAST_LIGHT
        result: Tensor = (error.flatten(1).square().mean(1) / light).mean()
        return result
    scale = out[:, 1:]
    likelihood: Tensor = (error.abs() / scale + scale.log()).mean()
    return likelihood
