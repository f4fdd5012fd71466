"""After how many iterations to stop, found before a run on the brightest part of the image.

A first number comes from two halves of its photons (`halves`), which need no idea of the object.
An object that is restored a little further than that is then imaged and restored again
(`rehearsal`), where the best number can be seen. Where that is another one, so would the object
have been: it is rehearsed again with that.

Where a few dim points are all there is, halves of the photons may agree on none of them. The object
restored so far is then nothing but noise, which shows: no rehearsal comes near to it again. So the
image is restored further, where points come out and are found again; unless nothing is there, which
boxes of voxels tell whose photons are no more than chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Protocol

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.noise import noise_beneath

from .halves import Agreement, dealt
from .looking import brightest_part, camera_seen, part_with_the_brightest_place, stands_out
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
#: An object that a rehearsal comes no nearer to is mostly noise: another is looked for, in what so
#: many iterations restore.
LEAST_ALIKE, FURTHER_LOOKS = 0.4, (6, 9, 13, 20, 30, 45)
#: What is added where noise is not that of a camera.
SHARED = "; neighbouring pixels share noise, as after a filter or resampling: reckoned with"


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
    beneath = noise_beneath(observation.image)
    camera = camera_seen(seen, beneath)
    halves = dealt(seen, camera)
    if not all(half.image.any() for half in halves):
        return Stop(most, "too few photons to deal out: stopped at the maximum of iterations")
    agreed = yield from _agreed(halves, most, runs)
    scene = _Scene(seen, camera, most, runs)
    count, alike = yield from _rehearsed_until_same(scene, agreed)
    if alike < LEAST_ALIKE:
        if not stands_out(seen.image, camera):
            scene = replace(scene, seen=part_with_the_brightest_place(observation))
        if not stands_out(scene.seen.image, camera):
            few = f"{agreed} iteration{'s' * (agreed > 1)}"
            return Stop(agreed, f"stopped after {few}: nothing stands out from the noise")
        count = yield from _looked_for(scene, count)
    why = f"stopped after {count} iterations: a rehearsal with a known object did best there"
    if count == most:
        why = f"stopped at the maximum of {count} iterations: more may be better"
    if beneath > 1:
        why += SHARED
    return Stop(count, why)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all rehearsals have in common."""

    seen: Observation
    camera: Camera
    most: int
    runs: Runs


def _rehearsed_until_same(scene: _Scene, count: int) -> Generator[Step, None, tuple[int, float]]:
    """Return the best iterations from some that may be it, and how alike the last came."""
    for _ in range(REHEARSALS):
        before, (count, alike) = count, (yield from _rehearsed(scene, count))
        if max(before, count) <= SAME * min(before, count):
            break
    return count, alike


def _looked_for(scene: _Scene, before: int) -> Generator[Step, None, int]:
    """Return the iterations by which an object comes out that is found again best.

    Of how many restored it, and how many were best for it, the mean: the one has noise for detail
    where the other is smaller. `before` were found before.
    """
    found = []
    for further in sorted({before, *FURTHER_LOOKS}):
        known = min(further, scene.most)
        count, alike = yield from _rehearsed(scene, known)
        found.append((alike, round(math.sqrt(known * count))))
    return max(found)[1]


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


def _rehearsed(scene: _Scene, known: int) -> Generator[Step, None, tuple[int, float]]:
    """Return the best iterations for an object like that which so many as are known restore.

    Also returned is how alike it comes then.
    """
    seen, camera, most, runs = scene.seen, scene.camera, scene.most, scene.runs
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
    return likeness.best, likeness.values[likeness.best - 1]


def _step(most: int, what: str) -> Step:
    return Step(0, most, f"looking when to stop: {what}")
