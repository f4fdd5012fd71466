"""Richardson-Lucy with a sharper back projector in its first iterations.

Where H^T blurs the misfit once more before it corrects the estimate, a filter B (`back_projectors`)
takes the blur out of it: the first iterations bring more detail. But no likelihood is maximised any
more, and noise comes as early as detail. So it is used for a few iterations, and not once the
likelihood has fallen; the nu-method goes on from there.
"""

from __future__ import annotations

from typing import Any

from .back_projectors import BACK_PROJECTORS
from .engine import Array, Filter
from .momentum import UNSEEN, NuMethod
from .pieces import Float
from .running import RATIO, Run

#: Iterations at the most.
MOST = 5
#: A voxel beyond the image is corrected as if so much of its light were seen: the filter swings
#: around zero, where the blur has ended.
LEAST_SEEN = 0.1
#: By how much the counts are off the model, as a part of it.
MISFIT = f"{RATIO} - 1.0f"
#: The correction that multiplies a voxel with max(1 + c / max(w, s), 1/10); see `momentum.FACTOR`.
#: One that reached 0 would stay there.
CORRECTION = "w + fmax(w, u) * fmax(c / fmax(w, s), 0.1f - 1.0f)"


class UnmatchedRun(Run):
    """A run that begins with x <- x max(1 + B M (y / (H x + b) - 1) / H^T M, 1/10).

    What fits stays as it is, also at the edges, where B M and H^T M are not the same.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        psf = arguments[1].psf.samples
        transfer = BACK_PROJECTORS[self.method.acceleration](psf, self.shape)
        self.back: Filter | None = self.engine.filter(transfer, self.shape, self.image_shape)
        self.done = 0

    def improve(self, model: Any, place: Array | None) -> None:
        """Go on with the unmatched back projector, or from now on without it."""
        if self.back is None:
            super().improve(model, place)
            return
        divergence = self.divergence_of(self.varying(model, self.counts))
        given = self.method.unmatched
        has_fallen = given is None and divergence > self.divergence
        if has_fallen or self.done == (MOST if given is None else given):
            self._match()
            super().improve(model, place)
            return
        self.divergence, self.done = divergence, self.done + 1
        operands = {"f": model, "y": self.counts, **self.light}
        misfit = self.engine.evaluate(MISFIT, out=place, **operands)
        c = self.back.adjoint(misfit)
        shares = {"w": self.seen, "u": UNSEEN, "s": LEAST_SEEN}
        correction = self.engine.evaluate(CORRECTION, out=c, c=c, **shares)
        self.momentum.accept(correction, self.seen)

    def result(self, *, beyond: bool = False) -> Float:
        """Return the estimate, also beyond the image if asked; all else is given up first."""
        self.back = None
        return super().result(beyond=beyond)

    def _match(self) -> None:
        """Go on with the nu-method from the point whose likelihood is known."""
        self.back = None
        self.momentum = NuMethod(self.momentum.point, self.engine)
        self.momentum.begin()
