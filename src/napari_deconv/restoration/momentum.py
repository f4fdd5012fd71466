"""Where an iteration of Richardson-Lucy starts from: at the last estimate, or beyond it.

Each of these holds the estimate and says at which point the likelihood is looked at next. An
iteration at a point p gives the correction c = H^T(M y / (H p + b)), and p c / w with w = H^T M is
what plain Richardson-Lucy makes of p; beyond the image, where hardly any light is seen, a smaller
step in the same direction.
"""

from __future__ import annotations

from typing import Any

from .engine import Array, Engine, Filter

#: Momentum never takes a voxel below a tenth of itself: one that reached 0 would stay there,
#: since each update multiplies.
EXTRAPOLATE = "fmax(x + a * (x - q), 0.1f * x)"
#: A voxel beyond the image that sends less of its light there goes as far as if it sent so much:
#: dividing by less would make the rounding of a float32 transform grow with each iteration.
UNSEEN = 3e-3
#: What plain Richardson-Lucy multiplies a point with, and makes of it. What fits stays as it is.
FACTOR = "(1.0f + (c - w) / fmax(w, u))"
PLAIN = f"fmax(p * {FACTOR}, 0.0f)"
#: The point after x and q before it of the nu-method, x + o (x' - x) + a (x - q) with what plain
#: Richardson-Lucy makes of x for x', in few operations: r is 1 - o + a.
LEAP = f"fmax(x * (r + o * {FACTOR}) - a * q, 0.1f * x)"
#: The nu of that method. With less, bright points overshoot in the first iterations and the dark
#: around them never recovers; and no step is as long as 4, where the total light would swing.
NU, LONGEST = 1.5, 3.9


class NoMomentum:
    """Each iteration starts where the last one ended.

    Attributes
    ----------
    used : float
        The weight of the last extrapolation.
    """

    def __init__(self, x: Array, engine: Engine) -> None:
        self.x, self.engine = x, engine
        self.used = 0.0
        # What the next step takes, as long as nobody has asked where it leads to.
        self._waiting: dict[str, Any] = {}

    @property
    def point(self) -> Array:
        """Where the likelihood was looked at last."""
        return self.x

    def begin(self) -> None:
        """Take the first update from the start."""

    def blurred(self, blur: Filter) -> Array:
        """Go to the point to take the next update from; return what the blur makes of it."""
        if not self._waiting:
            return blur.forward(self.x)
        return blur.forward_of(PLAIN, {"p": self.x, **self._taken()}, out=self.x)

    def restart(self) -> None:
        """Forget where it came from: the likelihood of the last point has fallen."""

    def accept(self, correction: Array, seen: Any) -> None:
        """Go on from the point by its correction over H^T M."""
        self._waiting = {"c": correction, "w": seen, "u": UNSEEN}

    def estimate(self) -> Array:
        """Return what the iterations have come to; good until the next one."""
        if self._waiting:
            self.x = self.engine.evaluate(PLAIN, out=self.x, p=self.x, **self._taken())
        return self.x

    def end(self) -> Array:
        """Return what the iterations have come to, after the last one."""
        return self.estimate()

    def _after(self, point: Array, correction: Array, seen: Any, *, out: Array) -> Array:
        """Return what plain Richardson-Lucy makes of a point."""
        return self.engine.evaluate(PLAIN, out=out, p=point, c=correction, w=seen, u=UNSEEN)

    def _taken(self) -> dict[str, Any]:
        """Return what was waiting, which is kept no longer: a device may be short of memory."""
        taken, self._waiting = self._waiting, {}
        return taken


class HeavyBall(NoMomentum):
    """Start from x + (k-1)/(k+2) (x - the x before)."""

    def __init__(self, x: Array, engine: Engine) -> None:
        super().__init__(x, engine)
        self.p: Array = None
        self.k = 0

    @property
    def point(self) -> Array:
        """Where the likelihood was looked at last."""
        return self.p

    def restart(self) -> None:
        """Begin with the next extrapolation anew."""
        self.k = 0

    def weight(self) -> float:
        """Return the weight of the next extrapolation."""
        self.k += 1
        return (self.k - 1) / (self.k + 2)

    def begin(self) -> None:
        """Extrapolate from the start to itself, in a place of its own."""
        self.used = self.weight()
        self.p = self.engine.evaluate(EXTRAPOLATE, x=self.x, q=self.x, a=self.used)

    def blurred(self, blur: Filter) -> Array:
        """Extrapolate, in the place of the x before; return what the blur makes of it."""
        self.used = self.weight()
        operands = {"x": self.x, "q": self.p, "a": self.used}
        return blur.forward_of(EXTRAPOLATE, operands, out=self.p)

    def accept(self, correction: Array, seen: Any) -> None:
        """Go on from the point, and keep the x before."""
        after = self._after(self.p, correction, seen, out=self.p)
        self.x, self.p = after, self.x


class NuMethod(HeavyBall):
    """Leap from point to point; what a plain update makes of the last one is the estimate.

    So an estimate has the light of the data, and none below zero, as any of Richardson-Lucy has.
    """

    def __init__(self, x: Array, engine: Engine) -> None:
        super().__init__(x, engine)
        self._made: Array = x

    @property
    def point(self) -> Array:
        """Where the likelihood was looked at last."""
        return self.x

    def begin(self) -> None:
        """Take the first update from the start, which is the point before it as well."""
        super().begin()
        self.k, self._made = 0, None

    def blurred(self, blur: Filter) -> Array:
        """Leap, in the place of the point before; return what the blur makes of the next."""
        self._made = None
        if not self._waiting:
            return blur.forward(self.x)
        x, before = self.x, self.p
        model = blur.forward_of(LEAP, {"x": x, "q": before, **self._taken()}, out=before)
        self.x, self.p = before, x
        return model

    def accept(self, correction: Array, seen: Any) -> None:
        """Leap next from the point by its correction over H^T M."""
        self.k += 1
        length, self.used = leap(self.k)
        weights = {"o": length, "a": self.used, "r": 1 - length + self.used}
        self._waiting = {"c": correction, "w": seen, "u": UNSEEN, **weights}

    def estimate(self) -> Array:
        """Return what plain Richardson-Lucy makes of the last point, in its correction's place."""
        if self._made is None:
            point, c, seen = self.x, self._waiting["c"], self._waiting["w"]
            self._leap()
            self._made = self._after(point, c, seen, out=c)
        return self._made

    def end(self) -> Array:
        """Return the same without another leap."""
        if self._made is not None:
            return self._made
        c = self._waiting["c"]
        return self._after(self.x, c, self._waiting["w"], out=c)

    def _leap(self) -> None:
        """Go to the next point, in the place of the one before."""
        x, before = self.x, self.p
        self.x = self.engine.evaluate(LEAP, out=before, x=x, q=before, **self._taken())
        self.p = x


def leap(k: int) -> tuple[float, float]:
    """Return the length of the k-th step of the nu-method, and the weight of its momentum.

    Examples
    --------
    >>> [round(length, 2) for length, _ in map(leap, (1, 2, 5, 10, 1000))]
    [1.14, 1.67, 2.51, 3.08, 3.9]
    """
    both, last = 2 * k + 2 * NU - 1, 2 * k + 4 * NU - 1
    length = 4 * both * (k + NU - 1) / ((k + 2 * NU - 1) * last)
    weight = (k - 1) * (2 * k - 3) * both / ((k + 2 * NU - 1) * last * (2 * k + 2 * NU - 3))
    return min(length, LONGEST), weight


class BiggsAndrews(HeavyBall):
    """Start from x + a (x - the x before), a from the last two updates."""

    def __init__(self, x: Array, engine: Engine) -> None:
        super().__init__(x, engine)
        self.step: Array = None
        self.next, self.is_new = 0.0, False

    def restart(self) -> None:
        """Weigh the next extrapolation with nothing."""
        self.is_new = True

    def weight(self) -> float:
        """Return the weight of the next extrapolation."""
        weight = 0.0 if self.is_new else self.next
        self.is_new = False
        return weight

    def accept(self, correction: Array, seen: Any) -> None:
        """Replace the point and weigh the next extrapolation by the last two steps."""
        after = self._after(self.p, correction, seen, out=correction)
        if self.step is not None:
            along = self.engine.total("(n - p) * h", n=after, p=self.p, h=self.step)
            length = self.engine.total("h * h", h=self.step)
            self.next = min(max(along / length, 0.0), 0.999) if length > 0 else 0.0
        self.step = self.engine.evaluate("n - p", out=self.step, n=after, p=self.p)
        # The correction's place is the filter's: it is not kept.
        after = self.engine.evaluate("n", out=self.p, n=after)
        self.x, self.p = after, self.x


class Given(HeavyBall):
    """Start from x + a (x - the x before), a given for each iteration."""

    def __init__(self, x: Array, engine: Engine, weights: tuple[float, ...]) -> None:
        super().__init__(x, engine)
        self.weights = iter(weights)

    def weight(self) -> float:
        """Return the weight of the next extrapolation, whatever the likelihood does."""
        return next(self.weights)
