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

from .blur import Edges, Share, edges_of_a_part, require_edges, transfer_function, work_shape
from .engine import Array, Engine, Filter
from .looking import MOST_VOXELS
from .momentum import BiggsAndrews, Given, HeavyBall, NoMomentum, NuMethod
from .pieces import Float
from .reach import core_sigmas
from .restorer import SEAM_TOLERANCE, Observation, Step
from .stopping import stop_for

Acceleration = Literal["nu-method", "heavy-ball", "biggs-andrews", "none"]
ACCELERATIONS: tuple[str, ...] = get_args(Acceleration)

#: Below this share of its light in the image, a voxel outside is as good as unseen: dividing by
#: less would make the rounding of a float32 transform grow with each iteration.
UNSEEN = 3e-4
#: Smallest denominator, as a part of the brightest voxel: the rounding of a float32 transform.
ROUNDING = 1e-7
#: How far an error at a cut reaches until it is 1e-3 of the maximum, measured (docs/volumes.md):
#: in standard deviations of the PSF's core per root of the iterations, and in half sides of the
#: box that holds `TAILS_HOLD` of its light.
REACH = {"none": 0.6, "heavy-ball": 1.6, "biggs-andrews": 1.6, "nu-method": 2.0}
TAILS, TAILS_HOLD = 2.4, 0.9
#: Gradients below this part of the mean count as flat in the total variation; or below the
#: weight times this for each axis. With less, strong smoothing overshoots where the image is
#: flat: neighbours swing up and down for ever, and rounding decides which.
FLAT, FLAT_PER_WEIGHT = 1e-2, 4.0


#: Counts over the model, and that part of the I-divergence between them that the model changes.
RATIO = "(y + v) / fmax(f + b, least)"
VARYING = "f - (y + v) * log(fmax(f + b, least))"
#: And the part that it does not.
ENTROPY = "(y + v) * (log(fmax(y + v, least)) - 1.0f)"

#: Volumes of the part that is looked at, with the PSF around it, for each of two runs.
PART_VOLUMES = 24.0
#: Most iterations where a method stops by itself.
AUTOMATIC_MOST = 80


@dataclass(frozen=True)
class RichardsonLucy(Value):
    """Richardson-Lucy deconvolution.

    Parameters
    ----------
    iterations : int
        Most iterations to run.
    acceleration : {"nu-method", "heavy-ball", "biggs-andrews", "none"}
        Momentum: of the nu-method, whose steps grow to four times the plain ones; with weight
        (k-1)/(k+2); or with the weight of Biggs and Andrews from the last two updates. All
        restart when the likelihood falls, unless smoothed. With total variation, which long
        steps would make swing, the nu-method is the heavy ball.
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
        smoothing = 0.5 if self.tv_weight else 0.0
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
        return (3 if self.automatic_stop else 1) * (4 * self.iterations - 1)

    def halo(self, psf: Psf, tolerance: float = SEAM_TOLERANCE) -> tuple[int, ...] | None:
        """Return how far beyond a piece its restoration looks, None if at the whole image.

        The whole image is looked at where sums over it steer: in Biggs and Andrews' momentum,
        and to stop by itself.
        """
        steered = self.acceleration == "biggs-andrews" and not self.momentum
        if self.stop_tolerance or self.automatic_stop or steered:
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
        """Return the method with the iterations and the momentum that the brightest sample took."""
        method = replace(self, edges=edges_of_a_part(self.edges))
        steered = self.acceleration == "biggs-andrews" and not self.momentum
        if not (self.stop_tolerance or self.automatic_stop or steered):
            return method
        brightest = max(samples, key=lambda sample: float(sample.image.mean(dtype=np.float64)))
        weights: list[float] = []
        done = self.iterations
        for step in method._steps(brightest, engine, weights):
            done = step.done
        momentum = tuple(weights[:done]) if self.acceleration == "biggs-andrews" else ()
        return replace(
            method, iterations=done, stop_tolerance=0.0, automatic_stop=False, momentum=momentum
        )

    def work_shape(
        self, image_shape: tuple[int, ...], psf_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return the shape of the volumes that the method works on."""
        return work_shape(image_shape, psf_shape, self.edges)

    def steps(self, observation: Observation, engine: Engine) -> Iterator[Step]:
        """Yield one `Step` an iteration; the last holds the estimate and why it stopped."""
        return self._steps(observation, engine, [])

    def _steps(
        self, observation: Observation, engine: Engine, weights: list[float]
    ) -> Iterator[Step]:
        """Yield what `steps` does, and append the weight of each iteration's momentum."""
        if not observation.image.any():
            zeros = observation.image.copy()
            yield Step(1, self.iterations, "the image is zero everywhere", 0.0, zeros)
            return
        if self.automatic_stop:
            chosen, why = yield from self._chosen(observation, engine)
            for step in chosen._steps(observation, engine, weights):
                yield replace(step, note=why) if step.estimate is not None else step
            return
        run = _Run(self, observation, engine)
        history: list[float] = []
        for iteration in range(1, self.iterations + 1):
            history.append(run.update())
            weights.append(run.momentum.used)
            stopped = self._stops(history)
            last = stopped or iteration == self.iterations
            if last:
                note = self._reason(iteration, stopped=stopped)
                yield Step(iteration, self.iterations, note, history[-1], run.result())
                return
            yield Step(iteration, self.iterations, divergence=history[-1], peek=run.estimate)

    def _chosen(
        self, observation: Observation, engine: Engine
    ) -> Generator[Step, None, tuple[RichardsonLucy, str]]:
        """Return the method with the iterations after which it should stop, and why."""
        whole = replace(self, automatic_stop=False, stop_tolerance=0.0)

        def run_of(seen: Observation, other: Float | None) -> _Run:
            is_part = seen.image.shape != observation.image.shape
            edges = edges_of_a_part(self.edges) if is_part else self.edges
            return _Run(replace(whole, edges=edges), seen, engine, other)

        stop = yield from stop_for(observation, self.iterations, run_of)
        return replace(whole, iterations=stop.iterations), stop.why

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


class _Run:
    """The arrays of one run on the device, and one iteration over them."""

    def __init__(
        self,
        method: RichardsonLucy,
        observation: Observation,
        engine: Engine,
        other: Float | None = None,
    ) -> None:
        self.method, self.engine = method, engine
        # Other counts of the same object, and by how much the last model missed them.
        self.other = engine.hold(other) if other is not None else None
        self.missed = 0.0
        self.image_shape = observation.image.shape
        self.spacing = observation.spacing
        shape = method.work_shape(self.image_shape, observation.psf.shape)
        self.voxels = math.prod(self.image_shape)
        self.variance = variance = method.read_noise**2
        self.background = observation.background + variance
        self.least = max(ROUNDING * (float(observation.image.max()) + variance), 1e-30)
        # What is the same in all voxels: read noise as light, in the counts and under the model.
        self.light = {"v": variance, "b": self.background, "least": self.least}
        psf = observation.psf.samples
        # From all voxels to those of the image, where the counts are.
        self.blur: Filter = engine.filter(transfer_function(psf, shape), shape, self.image_shape)
        self.counts = engine.hold(observation.image)
        self.entropy = engine.total(ENTROPY, y=self.counts, v=variance, least=self.least)
        # H^T M, the share of each voxel's light that is measured.
        self.seen: Any = 1.0
        if method.edges != "circular":
            self.seen = engine.hold(Share(psf, self.image_shape, shape, UNSEEN))
        self.mean = max(observation.level, self.least)
        # One number, repeated without memory.
        flat = np.broadcast_to(np.float32(self.mean), shape)
        self.momentum = _momentum(method, engine.push(flat, shape), engine)
        self.divergence, self.has_begun = math.inf, False

    def update(self) -> float:
        """Do one iteration; return the I-divergence per voxel of the point it started from."""
        model, place = self._next_model()
        if self.other is not None:
            self.missed = self._varying(model, self.other)
        operands = {"f": model, "y": self.counts, **self.light}
        correction, varying = self.blur.adjoint_of(RATIO, VARYING, operands, out=place)
        before, self.divergence = self.divergence, self._divergence(varying)
        # Smoothing raises the divergence rightly: that is no reason to restart.
        if self.divergence > before and not self.method.tv_weight:
            self.momentum.restart()
        if self.method.tv_weight:
            correction = self._smoothed(self.momentum.point, correction)
        self.momentum.accept(correction, self.seen)
        return self.divergence

    def _next_model(self) -> tuple[Any, Array | None]:
        """Go to the next point; return what the blur makes of it, and where that lies.

        Of the start that is a number: it is flat, and so blurred already.
        """
        if self.has_begun:
            model = self.momentum.blurred(self.blur)
            return model, model
        self.has_begun = True
        self.momentum.begin()
        return self.mean, None

    def _smoothed(self, p: Array, correction: Array) -> Array:
        """Return the correction with the total variation's pull in it."""
        flat = max(FLAT, FLAT_PER_WEIGHT * len(self.image_shape) * self.method.tv_weight)
        curvature = self.engine.curvature(p, self.spacing, flat * self.mean)
        weight = self.method.tv_weight
        return self.engine.evaluate(
            "c / fmax(1.0f - t * k, 0.1f)", out=correction, c=correction, t=weight, k=curvature
        )

    def _divergence(self, varying: float) -> float:
        return (varying + self.entropy) / self.voxels + self.background

    def _varying(self, model: Array, counts: Any) -> float:
        """Return the part of the I-divergence between counts and a model that the model changes."""
        return self.engine.total(VARYING, f=model, y=counts, **self.light)

    def estimate(self) -> Float:
        """Return the estimate on the voxels of the image."""
        return self.engine.pull(self.momentum.estimate(), self.image_shape)

    def expected(self) -> Float:
        """Return the counts that the estimate lets expect, the background included.

        The last that is asked of a run: the estimate may lie where the blur works.
        """
        blurred = self.blur.forward(self.momentum.estimate())
        counts = self.engine.pull(blurred, self.image_shape)
        counts += np.float32(self.background - self.variance)
        return counts

    def result(self) -> Float:
        """Return the estimate, for which all else is given up first."""
        x = self.momentum.end()
        del self.blur, self.momentum
        return self.engine.pull(x, self.image_shape)


def _momentum(method: RichardsonLucy, x: Array, engine: Engine) -> NoMomentum:
    if method.momentum:
        return Given(x, engine, method.momentum)
    kinds = {
        "none": NoMomentum,
        "heavy-ball": HeavyBall,
        "biggs-andrews": BiggsAndrews,
        # Long steps would make smoothed neighbours swing.
        "nu-method": HeavyBall if method.tv_weight else NuMethod,
    }
    return kinds[method.acceleration](x, engine)
