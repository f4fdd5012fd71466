"""What a network learns from, and a schedule that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import require

from .pairs import Light, Pair, Twin
from .trainer import Schedule


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a network learns from.

    Parameters
    ----------
    psfs : sequence of Psf
        On the voxels of the stacks that the network is for. Pairs are simulated with one after the
        other; what was recorded has the first.
    light : Light
        Photons, background and noise of the stacks.
    pairs : sequence of Pair
        Recorded pairs, two at the least, in the place of simulated ones; the last tenth of them
        is left out.
    twins : sequence of Twin
        Recorded twice, or photons in two parts, two at the least: beside the simulated pairs.
    only_twins : bool
        Nothing is simulated.
    """

    psfs: Sequence[Psf]
    light: Light
    pairs: Sequence[Pair] = field(default=())
    twins: Sequence[Twin] = field(default=())
    only_twins: bool = False

    def __post_init__(self) -> None:
        require(bool(self.psfs), "A network needs a PSF to be trained with")
        for name, some in (("pair", self.pairs), ("twin", self.twins)):
            require(
                len(some) != 1,
                f"One {name} is not enough: one is learned from and another one looked at",
            )
        dimensions = [pair.counts.ndim for pair in self.pairs]
        dimensions += [twin.counts.ndim for twin in self.twins]
        require(
            len(set(dimensions)) < 2,
            "What is learned from must be volumes or planes, not some of each; leave one kind out",
        )
        require(
            bool(self.twins) or not self.only_twins,
            "There is nothing to learn from: neither recorded twice nor simulated",
        )

    def digest(self) -> str:
        """Return what tells PSFs and recordings from others."""
        digest = sha256()
        for psf in self.psfs:
            digest.update(psf.samples.tobytes())
        for pair in self.pairs:
            digest.update(pair.counts.tobytes())
            digest.update(pair.truth.tobytes())
        for twin in self.twins:
            digest.update(twin.counts.tobytes())
            digest.update(twin.other.tobytes())
        return digest.hexdigest()


def fitted(schedule: Schedule, lessons: Lessons) -> Schedule:
    """Return a schedule for recordings of these numbers and shapes."""
    recorded = [pair.counts.shape for pair in lessons.pairs]
    recorded += [twin.counts.shape for twin in lessons.twins]
    if not recorded:
        return schedule
    least = tuple(map(min, zip(*recorded, strict=True)))
    patch = schedule.patch[-len(least) :]
    sides = tuple(min(side, n) for side, n in zip(patch, least, strict=True))
    if lessons.pairs:
        left_out = max(len(lessons.pairs) // 10, 1)
        schedule = replace(schedule, pairs=len(lessons.pairs) - left_out, left_out=left_out)
    if lessons.pairs or lessons.only_twins:
        schedule = replace(schedule, unseen=0)
    shape = least if lessons.pairs else schedule.shape[-len(least) :]
    shape = tuple(map(max, zip(shape, sides, strict=True)))
    return replace(schedule, shape=shape, patch=sides)
