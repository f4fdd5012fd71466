"""After how many iterations to stop, found before a run on the brightest part of the image.

A first number comes from two halves of its photons (`halves`), which need no idea of the object.
An object that is restored a little further than that is then imaged and restored again
(`rehearsal`), where the best number can be seen. Where that is another one, so would the object
have been: it is rehearsed again with that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from napari_deconv.imaging.camera import Camera

from .halves import Agreement, dealt
from .looking import brightest_part, camera_seen
from .pieces import Float
from .rehearsal import Likeness, imaged_again
from .restorer import Observation, Step

#: The object of a rehearsal is restored by so many times the iterations that are best as far as is
#: known, and by no fewer than these: it has less detail than the true one, as its image had noise.
FURTHER, LEAST_KNOWN = 1.27, 2
#: The noise of a copy decides on a few iterations where there are few voxels: so many of those and
#: fewer are rehearsed on several copies at once.
SMALL, SMALL_DRAWS = 1 << 17, 3
#: Rehearsals at the most, and by how many times numbers differ that are taken for the same.
REHEARSALS, SAME = 4, 1.2


class Run(Protocol):
    """A run that goes on by an iteration at a time."""

    missed: float

    def update(self) -> float:
        """Do one iteration."""
        ...

    def estimate(self) -> Float:
        """Return the estimate on the voxels of the image."""
        ...

    def expected(self) -> Float:
        """Return the counts that the estimate lets expect, the background included."""
        ...


#: A run on an observation; of a second one of the same object it tells how much that is missed.
Runs = Callable[[Observation, Float | None], Run]


@dataclass(frozen=True)
class Stop:
    """After how many iterations to stop, and why.

    Parameters
    ----------
    iterations : int
    why : str
    """

    iterations: int
    why: str


def stop_for(observation: Observation, most: int, runs: Runs) -> Generator[Step, None, Stop]:
    """Return when to stop; yield a step each iteration, none of which counts as one of the run.

    Parameters
    ----------
    observation : Observation
    most : int
        Iterations at the most.
    runs : callable
        Starts a run of the method.
    """
    seen = brightest_part(observation)
    camera = camera_seen(seen)
    halves = dealt(seen, camera)
    if not all(half.image.any() for half in halves):
        return Stop(most, "too few photons to deal out: stopped at the maximum of iterations")
    count = yield from _agreed(halves, most, runs)
    for _ in range(REHEARSALS):
        before, count = count, (yield from _rehearsed(seen, camera, count, most, runs))
        if max(before, count) <= SAME * min(before, count):
            break
    why = f"stopped after {count} iterations: a rehearsal with a known object did best there"
    if count == most:
        why = f"stopped at the maximum of {count} iterations: more may be better"
    return Stop(count, why)


def _agreed(
    halves: tuple[Observation, Observation], most: int, runs: Runs
) -> Generator[Step, None, int]:
    """Return the iterations after which halves of the photons agree best."""
    both = [runs(one, other.image) for one, other in zip(halves, halves[::-1], strict=True)]
    agreement = Agreement()
    while len(agreement.values) < most and not agreement.is_over:
        for run in both:
            run.update()
        first, second = (run.estimate() for run in both)
        agreement.look(first, second, sum(run.missed for run in both))
        yield _step(most, f"halves of the photons, iteration {len(agreement.values)}")
    return agreement.best


def _rehearsed(
    seen: Observation, camera: Camera, known: int, most: int, runs: Runs
) -> Generator[Step, None, int]:
    """Return the best iterations for an object like that which so many as are known restore."""
    run = runs(seen, None)
    for iteration in range(max(LEAST_KNOWN, round(FURTHER * known))):
        run.update()
        yield _step(most, f"restoring an object to rehearse with, {iteration + 1}")
    likeness = Likeness(run.estimate())
    expected = run.expected()
    del run
    draws = SMALL_DRAWS if expected.size <= SMALL else 1
    copies = [runs(imaged_again(seen, expected, camera, draw), None) for draw in range(draws)]
    while len(likeness.values) < most and not likeness.is_over:
        for copy in copies:
            copy.update()
        likeness.look([copy.estimate() for copy in copies])
        done, alike = len(likeness.values), likeness.values[-1]
        yield _step(most, f"rehearsing, iteration {done}, {alike:.1%} alike")
    return likeness.best


def _step(most: int, what: str) -> Step:
    return Step(0, most, f"looking when to stop: {what}")
