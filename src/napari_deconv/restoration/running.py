"""Iterations of Richardson-Lucy on the arrays of one run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .blur import Share
from .engine import Array, Engine, Filter
from .momentum import BiggsAndrews, Given, HeavyBall, NoMomentum, NuMethod
from .pieces import Float
from .restorer import Observation

if TYPE_CHECKING:
    from .richardson_lucy import RichardsonLucy

#: Smallest denominator, as a part of the brightest voxel: the rounding of a float32 transform.
ROUNDING = 1e-7
#: The flat start at the least, as a part of the mean of the counts: from nothing, as a background
#: above the mean would have it, nothing grows.
LEAST_START = 0.01
#: A start that is not flat is nowhere less than this part of the flat one.
DARKEST_START = 0.03
#: Slopes count as flat in the total variation below this part of the mean, and the weight times
#: this, for each axis, of the voxel itself. With less, strong smoothing overshoots: neighbours
#: swing up and down for ever, the brighter the farther, and rounding decides which.
FLAT, FLAT_PER_WEIGHT = 1e-2, 4.0
#: What has the slopes of p over those that count as flat, e + a p.
EVEN = "log(1.0f + a * p / e) / a"
#: The least gradient whose square a float32 holds.
LEAST_SLOPE = 1e-18

#: Counts over the model, and that part of the I-divergence between them that the model changes.
RATIO = "(y + v) / fmax(f + b, least)"
VARYING = "f - (y + v) * log(fmax(f + b, least))"
#: And the part that it does not.
ENTROPY = "(y + v) * (log(fmax(y + v, least)) - 1.0f)"


class Run:
    """The arrays of one run on the device, and one iteration over them."""

    def __init__(
        self,
        method: RichardsonLucy,
        observation: Observation,
        engine: Engine,
        other: Float | None = None,
        start: Float | None = None,
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
        self.shape, psf = shape, observation.psf.samples
        # From all voxels to those of the image, where the counts are.
        self.blur: Filter = engine.blur(psf, shape, self.image_shape)
        self.counts = engine.hold(observation.image)
        self.entropy = engine.total(ENTROPY, y=self.counts, v=variance, least=self.least)
        # H^T M, the share of each voxel's light that is measured.
        self.seen: Any = 1.0
        if method.edges != "circular":
            self.seen = engine.hold(Share(psf, self.image_shape, shape))
        self.mean = max(observation.level, LEAST_START * observation.mean, self.least)
        self.is_flat = start is None
        self.momentum = _momentum(method, engine.push(self._first(start), shape), engine)
        self.divergence = math.inf
        # Of the momentum at each iteration.
        self.weights: list[float] = []

    def _first(self, start: Float | None) -> Float:
        """Return where the iterations begin: at one number everywhere, or at a start."""
        if start is None:  # repeated without memory
            return np.broadcast_to(np.float32(self.mean), self.shape)
        # A voxel that is 0 would stay it.
        first: Float = np.maximum(start, np.float32(DARKEST_START * self.mean))
        return first

    def update(self) -> float:
        """Do one iteration; return the I-divergence per voxel of the point it started from."""
        model, place = self._next_model()
        if self.other is not None:
            self.missed = self.varying(model, self.other)
        self.improve(model, place)
        self.weights.append(self.momentum.used)
        return self.divergence

    def improve(self, model: Any, place: Array | None) -> None:
        """Go on from the point whose model this is; `place` is the blur's, to work in."""
        operands = {"f": model, "y": self.counts, **self.light}
        correction, varying = self.blur.adjoint_of(RATIO, VARYING, operands, out=place)
        before, self.divergence = self.divergence, self.divergence_of(varying)
        # Smoothing raises the divergence rightly: that is no reason to restart.
        if self.divergence > before and not self.method.tv_weight:
            self.momentum.restart()
        if self.method.tv_weight:
            correction = self._smoothed(self.momentum.point, correction)
        self.momentum.accept(correction, self.seen)

    def _next_model(self) -> tuple[Any, Array | None]:
        """Go to the next point; return what the blur makes of it, and where that lies.

        Of the start that is a number: it is flat, and so blurred already.
        """
        is_first = not self.weights
        if is_first:
            self.momentum.begin()
        if is_first and self.is_flat:
            return self.mean, None
        model = self.momentum.blurred(self.blur)
        return model, model

    def _smoothed(self, p: Array, correction: Array) -> Array:
        """Return the correction with the total variation's pull in it."""
        weight = self.method.tv_weight
        flat = max(FLAT * self.mean, LEAST_SLOPE)
        share = FLAT_PER_WEIGHT * len(self.image_shape) * weight
        even = self.engine.evaluate(EVEN, p=p, e=flat, a=share)
        curvature = self.engine.curvature(even, self.spacing, 1.0)
        return self.engine.evaluate(
            "c / fmax(1.0f - t * k, 0.1f)", out=correction, c=correction, t=weight, k=curvature
        )

    def divergence_of(self, varying: float) -> float:
        """Return the I-divergence per voxel."""
        return (varying + self.entropy) / self.voxels + self.background

    def varying(self, model: Any, counts: Any) -> float:
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

    def result(self, *, beyond: bool = False) -> Float:
        """Return the estimate, also beyond the image if asked; all else is given up first."""
        x = self.momentum.end()
        del self.blur, self.momentum
        return self.engine.pull(x, self.shape if beyond else self.image_shape)


def _momentum(method: RichardsonLucy, x: Array, engine: Engine) -> NoMomentum:
    if method.momentum:
        return Given(x, engine, method.momentum)
    if method.is_unmatched:
        return NoMomentum(x, engine)
    kinds = {"none": NoMomentum, "biggs-andrews": BiggsAndrews, "nu-method": NuMethod}
    # Long steps would make smoothed neighbours swing.
    swings = method.tv_weight and method.acceleration == "nu-method"
    return (HeavyBall if swings else kinds.get(method.acceleration, HeavyBall))(x, engine)
