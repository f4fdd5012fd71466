"""Richardson-Lucy: plain, accelerated, and with total variation.

One iteration is x <- x * H^T(y / (H x + b)) / (H^T M (1 - w div(grad x/|grad x|))), with H the
blur, b the background, M the mask of measured voxels (zero in the padding) and w the weight
of the total variation. It maximises the Poisson likelihood and keeps x from being negative.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import Value, require, require_number

from .back_projectors import BACK_PROJECTORS
from .blur import Edges, edges_of_a_part, require_edges, work_shape
from .engine import Engine
from .looking import MOST_VOXELS, shows_something
from .pieces import Float
from .reach import core_sigmas
from .restorer import SEAM_TOLERANCE, Observation, Step
from .running import Run
from .stopping import stop_for
from .unmatched import MOST as MOST_UNMATCHED
from .unmatched import UnmatchedRun

Acceleration = Literal[
    "nu-method",
    "heavy-ball",
    "biggs-andrews",
    "wiener-butterworth",
    "otf-masked-wiener",
    "none",
]
ACCELERATIONS: tuple[str, ...] = get_args(Acceleration)

#: How far an error at a cut reaches until it is 1e-3 of the maximum, measured (docs/volumes.md):
#: in standard deviations of the PSF's core per root of the iterations, and in half sides of the
#: box that holds `TAILS_HOLD` of its light.
REACH = {
    "none": 0.6,
    "heavy-ball": 1.6,
    "biggs-andrews": 1.6,
    "nu-method": 2.0,
    "wiener-butterworth": 2.0,
    "otf-masked-wiener": 2.0,
}
TAILS, TAILS_HOLD = 2.4, 0.9

#: Volumes of the part that is looked at, with the PSF around it, for each of two runs.
PART_VOLUMES = 24.0
#: And the runs there: two on halves, and two rehearsals, of an object and of what is made of it.
RUNS_OF_A_LOOK = 6
#: Most iterations where a method stops by itself.
AUTOMATIC_MOST = 80


@dataclass(frozen=True)
class RichardsonLucy(Value):
    """Richardson-Lucy deconvolution.

    Parameters
    ----------
    iterations : int
        Most iterations to run.
    acceleration : str
        Momentum: "nu-method", whose steps grow to four times the plain ones; "heavy-ball", with
        weight (k-1)/(k+2); "biggs-andrews", with a weight from the last two updates; or "none".
        All restart when the likelihood falls, unless smoothed. Or "wiener-butterworth" and
        "otf-masked-wiener": an unmatched back projector in the first iterations, and the
        nu-method after them; see `restoration.unmatched`. With total variation, which long steps
        would make swing, all but "biggs-andrews" and "none" are the heavy ball.
    tv_weight : float
        Weight of the total variation, 0 (none) to 0.1; 0.001 to 0.01 is usual.
    edges : {"non-circulant", "two-sided", "circular"}
        Whether light may come from beyond the image, or the image repeats itself.
    read_noise : float
        Standard deviation of the camera's noise, in units of the data where one unit is one
        photon; its square is added to data and background (Snyder et al. 1993).
    stop_tolerance : float
        Stop when the I-divergence changes by less than this part of itself; 0 never stops early.
    momentum : tuple of float
        Weight of the momentum at each iteration, where it is given and not found on the way.
    unmatched : int, optional
        Iterations with the unmatched back projector, where their number is given and not found.
    automatic_stop : bool
        Stop where a copy of the image, made of what it was restored to, comes nearest to that;
        see `restoration.stopping`. `iterations` is the most that are run.

    Raises
    ------
    InputError
        If a value is out of its range.

    Notes
    -----
    The start is flat, at the mean of the data less the background; a piece of an image starts
    at the mean of the whole. Sources: Richardson 1972;
    Lucy 1974; Shepp and Vardi 1982; Bertero and Boccacci 2005 (doi
    10.1051/0004-6361:20052717) for the edges; Biggs and Andrews 1997 (doi
    10.1364/AO.36.001766); Wang and Miller 2014 for the heavy ball; Brakhage 1987 and Hanke 1991
    (Numerische Mathematik 60, 341) for the nu-method, here in the metric of Richardson-Lucy; Dey
    et al. 2006 (doi 10.1002/jemt.20294) for the total variation.

    Examples
    --------
    >>> RichardsonLucy(iterations=20, acceleration="none").edges
    'non-circulant'
    """

    iterations: int = 20
    acceleration: Acceleration = "nu-method"
    tv_weight: float = 0.0
    edges: Edges = "non-circulant"
    read_noise: float = 0.0
    stop_tolerance: float = 0.0
    momentum: tuple[float, ...] = ()
    automatic_stop: bool = False
    unmatched: int | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.iterations, (int, np.integer)) and self.iterations is not True
        require(
            whole and self.iterations >= 1,
            f"The number of iterations must be a whole number of at least 1, "
            f"not {self.iterations!r}",
        )
        require(
            self.acceleration in ACCELERATIONS,
            f"The acceleration {self.acceleration!r} is not known; "
            f"choose one of {', '.join(ACCELERATIONS)}",
        )
        require_edges(self.edges)
        require_number("The weight of the total variation", self.tv_weight, least=0)
        require(
            self.tv_weight <= 0.1,
            f"A total variation weight of {self.tv_weight:g} flattens everything; "
            "choose one from 0 to 0.1",
        )
        require_number("The read noise", self.read_noise, least=0)
        require_number("The stop tolerance", self.stop_tolerance, least=0)
        require(
            isinstance(self.automatic_stop, bool),
            f"The automatic stop is on or off, not {self.automatic_stop!r}",
        )
        for weight in self.momentum:
            require_number("A weight of the momentum", weight, least=0)
        count = self.unmatched
        require(
            count is None or (isinstance(count, (int, np.integer)) and count >= 0),
            f"The number of iterations with an unmatched back projector must be a whole number, "
            f"not {count!r}",
        )
        require(
            not self.momentum or len(self.momentum) >= self.iterations,
            f"{len(self.momentum)} weights of the momentum are too few for {self.iterations} "
            "iterations; give one for each, or none",
        )

    @classmethod
    def automatic(cls, **wishes: Any) -> Self:
        """Return the method that stops by itself; light from above and below does not upset it."""
        usual: dict[str, Any] = {
            "iterations": AUTOMATIC_MOST,
            "automatic_stop": True,
            "edges": "two-sided",
        }
        return cls(**{**usual, **wishes})

    @property
    def volumes(self) -> float:
        """Peak memory in float32 volumes of `work_shape`."""
        # The image, the transfer function, one to filter in, the estimate, and the momentum's;
        # measured on the CPU (benchmarks/bench_restore.py).
        momentum = {"none": 0.0, "biggs-andrews": 2.0}.get(self.acceleration, 1.0)
        # A filter more.
        momentum = 2.0 if self.is_unmatched else momentum
        smoothing = 1.5 if self.tv_weight else 0.0
        # An image that is not padded is a whole volume itself.
        return 4.0 + momentum + smoothing + (0.25 if self.edges == "circular" else 0.0)

    @property
    def fixed_bytes(self) -> int:
        """Bytes that a run takes beside its volumes: for the part that it looks at before."""
        return int(2 * 4 * PART_VOLUMES * MOST_VOXELS) if self.automatic_stop else 0

    @property
    def transforms(self) -> int:
        """Most Fourier transforms that a run takes: four an iteration, and the PSF's.

        The start is flat, and the blur leaves that as it is.
        """
        return 4 * self.iterations - 1 + self.is_unmatched

    @property
    def looks(self) -> int:
        """Most transforms, before that, of the part of an image that it looks at to stop."""
        return RUNS_OF_A_LOOK * self.transforms if self.automatic_stop else 0

    @property
    def is_unmatched(self) -> bool:
        """Whether it begins with an unmatched back projector."""
        return self.acceleration in BACK_PROJECTORS and not self.tv_weight

    @property
    def is_steered(self) -> bool:
        """Whether sums over the whole image decide on the course of its iterations."""
        stops = self.stop_tolerance or self.automatic_stop
        return bool(stops or self._weighs or self._leaves)

    @property
    def _weighs(self) -> bool:
        """Whether it finds the weights of its momentum from sums."""
        return self.acceleration == "biggs-andrews" and not self.momentum

    @property
    def _leaves(self) -> bool:
        """Whether it finds from sums when to leave its unmatched back projector."""
        return self.is_unmatched and self.unmatched is None

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...] | None:
        """Return how far beyond a piece its restoration looks, None if at the whole image.

        The whole image is looked at where sums over it steer: in Biggs and Andrews' momentum,
        where an unmatched back projector is left, and to stop by itself.
        """
        if self.is_steered:
            return None
        # What an iteration gets wrong at a cut spreads with the root of their number, and fades.
        widths = REACH[self.acceleration] * math.sqrt(self.iterations)
        core, box = core_sigmas(psf.samples), psf.cropped(TAILS_HOLD).shape
        fading = max(math.log10(1 / tolerance), 0) / 3
        return tuple(
            math.ceil(fading * (widths * sigma + TAILS * (side // 2))) if side > 1 else 0
            for sigma, side in zip(core, box, strict=True)
        )

    def settled(self, samples: Sequence[Observation], engine: Engine) -> RichardsonLucy:
        """Return the method with the course of iterations that the brightest sample took."""
        method = replace(self, edges=edges_of_a_part(self.edges))
        if not self.is_steered:
            return method
        if self.automatic_stop:
            samples = [sample for sample in samples if shows_something(sample)] or samples
        brightest = max(samples, key=lambda sample: float(sample.image.mean(dtype=np.float64)))
        runs: list[Run] = []
        done = self.iterations
        for step in method._steps(brightest, engine, runs):
            done = step.done
        if not runs:  # where there is no light, nothing decides
            return method.as_if_settled()
        settled = replace(method, iterations=done, stop_tolerance=0.0, automatic_stop=False)
        run = runs[-1]
        if isinstance(run, UnmatchedRun):
            return replace(settled, unmatched=run.done)
        return replace(settled, momentum=tuple(run.weights)) if self._weighs else settled

    def as_if_settled(self) -> RichardsonLucy:
        """Return the method with a course such as `settled` may find."""
        method = replace(self, stop_tolerance=0.0, automatic_stop=False)
        if self._weighs:
            return replace(method, momentum=(0.5,) * self.iterations)
        if self._leaves:
            return replace(method, unmatched=MOST_UNMATCHED)
        return method

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that the method works on."""
        return work_shape(image_shape, psf_shape, self.edges)

    def steps(
        self,
        observation: Observation,
        engine: Engine,
        start: Float | None = None,
        *,
        beyond: bool = False,
    ) -> Iterator[Step]:
        """Yield one `Step` an iteration; the last holds the estimate and why it stopped.

        They begin at `start`, where it is given, which has the `work_shape`: the image first, and
        after it what sends light into it from beyond. So has the estimate, where `beyond` is asked.
        """
        return self._steps(observation, engine, [], start, beyond=beyond)

    def _steps(
        self,
        observation: Observation,
        engine: Engine,
        runs: list[Run],
        start: Float | None = None,
        *,
        beyond: bool = False,
    ) -> Iterator[Step]:
        """Yield what `steps` does, and append the run."""
        shape = observation.image.shape
        if not observation.image.any():
            larger = self.work_shape(shape, observation.psf.shape)
            zeros = np.zeros(larger if beyond else shape, np.float32)
            yield Step(1, self.iterations, "the image is zero everywhere", 0.0, zeros)
            return
        if self.automatic_stop:
            chosen, why = yield from self._chosen(observation, engine)
            for step in chosen._steps(observation, engine, runs, start, beyond=beyond):
                yield replace(step, note=why) if step.estimate is not None else step
            return
        run = self._run(observation, engine, start=start)
        runs.append(run)
        history: list[float] = []
        for iteration in range(1, self.iterations + 1):
            history.append(run.update())
            stopped = self._stops(history)
            last = stopped or iteration == self.iterations
            if last:
                note = self._reason(iteration, stopped=stopped)
                result = run.result(beyond=beyond)
                yield Step(iteration, self.iterations, note, history[-1], result)
                return
            yield Step(iteration, self.iterations, divergence=history[-1], peek=run.estimate)

    def chosen(
        self, observation: Observation, engine: Engine
    ) -> Generator[Step, None, RichardsonLucy]:
        """Return the method with the iterations after which it stops; yield the looks at it."""
        if not (self.automatic_stop and observation.image.any()):
            return replace(self, automatic_stop=False)
        method, _ = yield from self._chosen(observation, engine)
        return method

    def _chosen(
        self, observation: Observation, engine: Engine
    ) -> Generator[Step, None, tuple[RichardsonLucy, str]]:
        """Return the method with the iterations after which it should stop, and why."""
        whole = replace(self, automatic_stop=False, stop_tolerance=0.0)

        def run_of(seen: Observation, other: Float | None) -> Run:
            is_part = seen.image.shape != observation.image.shape
            edges = edges_of_a_part(self.edges) if is_part else self.edges
            return replace(whole, edges=edges)._run(seen, engine, other)

        stop = yield from stop_for(observation, self.iterations, run_of)
        return replace(whole, iterations=stop.iterations), stop.why

    def _run(
        self,
        observation: Observation,
        engine: Engine,
        other: Float | None = None,
        start: Float | None = None,
    ) -> Run:
        kind = UnmatchedRun if self.is_unmatched else Run
        return kind(self, observation, engine, other, start)

    def _stops(self, history: list[float]) -> bool:
        if self.stop_tolerance == 0 or len(history) < 3:
            return False
        return abs(history[-2] - history[-1]) <= self.stop_tolerance * abs(history[-1])

    def _reason(self, iteration: int, *, stopped: bool) -> str:
        if stopped:
            return (
                f"stopped after {iteration} iterations: the likelihood changed by less than "
                f"{100 * self.stop_tolerance:.3g} %"
            )
        return f"stopped at the maximum of {iteration} iterations"
