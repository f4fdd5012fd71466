"""The network that learns, its optimizer, and the best so far."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_deconv.imaging.value import InputError, Value, require, require_number

from .blurring import Blur, grown, inside
from .losses import LOSSES, loss_of, loss_of_blurred, loss_of_scale
from .model_file import read_tensors, write_tensors
from .nets import Net, exact_convolutions, half_precision, layout_of
from .samples import Batch, Sample, Shelf

Float = npt.NDArray[np.float32]

#: Steps between two looks at the pairs that were left out.
LOOK_EVERY = 50
#: Looks without a better loss after which the rate of a plateau is halved.
PLATEAU = 4
#: Part of chi-squared, which is 1 at its best, in the loss of a patch that was recorded.
BLURRED_SHARE = 0.1
#: Least side of a patch on the coarsest level, in its own voxels, to convolve in short numbers.
LEAST_SIDE = 4
#: Part of a side, at each end, where a blurred output lacks the light from beyond.
RIM = 8


@dataclass(frozen=True)
class Schedule(Value):
    """How long and on how much a network learns.

    Parameters
    ----------
    pairs, left_out : int
        Pairs to learn from, and pairs to look at only.
    unseen : int
        Pairs more, simulated once all is learned, to read the width of intervals off.
    shape, patch : tuple of int
        Voxels of a pair, and of what is cut from it.
    batch : int
        Patches a step.
    steps : int
        At most.
    learning_rate : float
        Of Adam at the start.
    patience : int
        Looks without a better loss after which training stops.
    seed : int
    loss : str
        One of `losses.LOSSES`.
    rate : str
        "cosine": it falls to 0 along a cosine; "plateau": it is halved where nothing gets better.
    members : int
        Networks that are trained one after the other, from other weights; they answer together.
    """

    pairs: int = 128
    left_out: int = 16
    unseen: int = 0
    shape: tuple[int, ...] = (32, 80, 80)
    patch: tuple[int, ...] = (16, 48, 48)
    batch: int = 4
    steps: int = 3500
    learning_rate: float = 1e-3
    patience: int = 20
    seed: int = 0
    loss: str = "squares"
    rate: Literal["cosine", "plateau"] = "cosine"
    members: int = 1

    def __post_init__(self) -> None:
        for name in ("pairs", "left_out", "batch", "steps", "patience", "members"):
            require_number(f"The number of {name.replace('_', ' ')}", getattr(self, name), least=1)
        require_number("The number of unseen pairs", self.unseen, least=0)
        require_number("The learning rate", self.learning_rate, above=0)
        require(
            len(self.shape) == len(self.patch)
            and all(1 <= p <= n for p, n in zip(self.patch, self.shape, strict=True)),
            f"A patch of {self.patch} voxels does not fit into a pair of {self.shape}",
        )
        require(
            self.loss in LOSSES, f"The loss {self.loss!r} is not known; choose {', '.join(LOSSES)}"
        )
        require(
            self.rate in ("cosine", "plateau"),
            f"The rate {self.rate!r} is not known; choose cosine or plateau",
        )


class Trainer:
    """A network that learns step by step."""

    def __init__(
        self,
        network: Net,
        schedule: Schedule,
        learned: Sequence[Sample],
        left_out: Sequence[Sample],
        device: torch.device,
    ) -> None:
        self.schedule, self.device = schedule, device
        self.learned, self.left_out = Shelf(learned, device), Shelf(left_out, device)
        laid: Any = {"device": device, "memory_format": layout_of(network, device)}
        self.network = network.to(**laid)
        self.optimizer = torch.optim.Adam(self.network.parameters(), schedule.learning_rate)
        self.done, self.looks_since_best, self.halvings = 0, 0, 0
        self.loss, self.best_loss, self.start_loss = math.nan, math.inf, math.inf
        self.left_out_loss: float | None = None
        self.is_finished = False
        #: Whether weights, moments and numbers are of one step, so that they may be kept.
        self.is_whole = True
        self._best = copy.deepcopy(self.network.state_dict())
        self._alike = {
            with_truth: [n for n, s in enumerate(learned) if (s.variance is None) == with_truth]
            for with_truth in (True, False)
        }

    @exact_convolutions()
    def look_at_start(self) -> None:
        """Take what it starts from for the best, until something is better."""
        self._look()
        self.start_loss = self.best_loss

    @exact_convolutions()
    def step(self) -> str:
        """Learn from one batch; return why to stop, or nothing."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * self._rate()
        batch = self._batch()
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        half = self._half()
        with torch.autocast(self.device.type, half, enabled=half is not None):
            out = self.network(batch.channels, batch.psf)
        loss = self._loss(out.float(), batch)
        self.loss = float(loss.detach())
        if out.shape[1] > 1 and self.schedule.loss != "laplace" and batch.variance is None:
            loss = loss + loss_of_scale(out.float(), batch.truth)
        if not math.isfinite(self.loss):
            return self._stopped_by_a_loss()
        loss.backward()  # type: ignore[no-untyped-call]
        size = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        is_finite = bool(torch.isfinite(size))
        self.is_whole = False
        if is_finite:
            self.optimizer.step()
        self.done += 1
        note = self._look() if self.has_looked else ""
        self.is_whole = True
        return note

    def _half(self) -> torch.dtype | None:
        """Return the short numbers to convolve in, None where they are not to be had.

        Fourier transforms have none. And torch 2.13 on a CPU takes gradients of short numbers from
        memory that nobody wrote, where an image is 2 planes thin on the coarsest level.
        """
        sides = zip(self.schedule.patch, self.network.strides, strict=True)
        if self.network.holds_blur or min(side // by for side, by in sides) < LEAST_SIDE:
            return None
        return half_precision(self.device)

    @property
    def has_looked(self) -> bool:
        """Whether the last step was followed by a look at what was left out."""
        return self.done % LOOK_EVERY == 0 or self.done == self.schedule.steps

    def _rate(self) -> float:
        if self.schedule.rate == "plateau":
            return float(0.5**self.halvings)
        return 0.5 * (1 + math.cos(math.pi * self.done / self.schedule.steps))

    def _loss(self, out: Tensor, batch: Batch) -> Tensor:
        if batch.variance is None:
            return loss_of(out, batch.truth, self.schedule.loss, batch.error)
        within = [slice(n // RIM, n - n // RIM) for n in batch.truth.shape[2:]]
        blurred = blurred_again(out[:, :1], batch.psf)
        parts = (inside(values, within) for values in (blurred, batch.truth, batch.variance))
        return BLURRED_SHARE * loss_of_blurred(*parts)

    @exact_convolutions()
    def restored(self, channels: Float, psf: Float) -> Float:
        """Return what the network makes of channels now, its first output."""
        self.network.eval()
        with torch.no_grad():
            x, blur = (torch.tensor(v)[None].to(self.device) for v in (channels, psf))
            out = self.network(x, blur)
        found: Float = out[0, 0].cpu().numpy()
        return found

    def told(self) -> str:
        """Return the losses in words."""
        left_out = f", {self.left_out_loss:.4g} left out" if self.left_out_loss is not None else ""
        return f"loss {self.loss:.4g}{left_out}"

    def best(self) -> Net:
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
            for batch in self.left_out.whole():
                out = self.network(batch.channels, batch.psf)
                losses.append(float(self._loss(out, batch)))
        self.left_out_loss = float(np.mean(losses))
        if self.left_out_loss < self.best_loss:
            self.best_loss, self.looks_since_best = self.left_out_loss, 0
            self._best = copy.deepcopy(self.network.state_dict())
            return ""
        self.looks_since_best += 1
        self.halvings += self.looks_since_best % PLATEAU == 0
        if self.looks_since_best < self.schedule.patience:
            return ""
        return f"stopped: no better since {self.looks_since_best * LOOK_EVERY} steps"

    def _batch(self) -> Batch:
        """Return the patches of this step: those of its number, whatever was before.

        The kind of the first, with a truth or with counts to be met, is the kind of all.
        """
        random = np.random.default_rng((self.schedule.seed, 1, self.done))
        samples = self.learned.samples
        chosen = [int(random.integers(len(samples)))]
        with_truth = samples[chosen[0]].variance is None
        alike = self._alike[with_truth]
        while len(chosen) < self.schedule.batch:
            chosen.append(alike[int(random.integers(len(alike)))])
        return self.learned.patches(chosen, self.schedule.patch, random)

    # -- going on ---------------------------------------------------------------------------

    def keep(self, path: Path, key: Value) -> None:
        """Write all that is needed to go on."""
        tensors: dict[str, Tensor] = {
            f"network.{name}": value for name, value in self.network.state_dict().items()
        }
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        state = self.optimizer.state_dict()["state"]
        for number, moments in state.items():
            tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        numbers = [
            self.done,
            self.looks_since_best,
            self.best_loss,
            math.nan if self.left_out_loss is None else self.left_out_loss,
            self.halvings,
            self.is_finished,
        ]
        tensors["numbers"] = torch.tensor(numbers, dtype=torch.float64)
        write_tensors(path, tensors, key, overwrite=True)

    def take_up(self, path: Path, key: Value) -> None:
        """Go on from what `keep` wrote."""
        tensors = kept_by(path, key)

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
        done, since, best, left_out, halvings, finished = tensors["numbers"].tolist()
        self.done, self.looks_since_best, self.best_loss = int(done), int(since), best
        self.left_out_loss = None if math.isnan(left_out) else left_out
        self.halvings, self.is_finished = int(halvings), bool(finished)


def kept_by(path: Path, key: Value) -> dict[str, Tensor]:
    """Return what `Trainer.keep` wrote; `InputError` where that was of another training."""
    tensors, kept = read_tensors(path, type(key))
    require(
        kept == key,
        f"{path.name} is of a training with other settings; go back to those, choose another "
        "checkpoint, or delete it to begin anew",
    )
    return tensors


def blurred_again(image: Tensor, psf: Tensor) -> Tensor:
    """Return an output blurred by the PSF; beyond its edges it goes on as at them."""
    halves = [side // 2 for side in psf.shape[1:]]
    ends = [half for half in reversed(halves) for _ in range(2)]
    larger = functional.pad(image, ends, mode="replicate")
    blur = Blur(psf, larger.shape[2:])
    blurred = blur.forward(grown(larger, blur.full))
    within = [slice(h, h + n) for h, n in zip(halves, image.shape[2:], strict=True)]
    return inside(blurred, within)
