"""What must be the same in all tiles of a block, and how many voxels fit into memory.

A tile comes out as if the whole block had been restored only if nothing is decided from the
tile itself: `Facts` are looked at once, over the whole block, piece by piece, and what they
and a few samples decide is `Settled`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.files.reading import read_voxels
from napari_deconv.imaging.brightness import brightest_bins, merged
from napari_deconv.imaging.noise import SAMPLE, background_level, sampled
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import Region, region_around
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Value
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import (
    Observation,
    Restorer,
    Step,
    notes_on_image,
    observe,
    require_finite,
)
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles, for_tiles
from napari_deconv.tiles.plan import MOST_CHUNK, TilePlan, plan_tiles

Place = tuple[int | slice, ...]

#: Voxels of a sample that decides for the whole, (z, y, x), and most of such samples.
SAMPLE_SHAPE = (64, 192, 192)
SAMPLES = 4
#: Voxels that are looked at together while a block is surveyed.
SURVEYED = (32, 1024, 1024)
#: Bytes that a run takes beside its volumes: code that is loaded late, buffers of files.
SPARE_BYTES = 80 * 2**20
#: And how much more it takes than its volumes come to, measured up to 2 GB: pages, chunks that
#: are read and written, and the rows that cores work on.
ROUNDING_UP = 1.08


@dataclass(frozen=True)
class Facts(Value):
    """What is known of a whole block before its tiles are restored.

    Parameters
    ----------
    mean : float
        Of the counts, negative ones taken as 0.
    negative : int
        Number of negative voxels.
    bright : float
        Brightness of the counts; see `imaging.brightness`.
    brightest : tuple of int
        The brightest voxel, (z, y, x) or (y, x).
    """

    mean: float
    negative: int
    bright: float
    brightest: tuple[int, ...]


def pieces(shape: tuple[int, ...], most: tuple[int, ...] = SURVEYED) -> Iterator[Region]:
    """Yield boxes of at most `most` voxels that make up a block, in C order."""
    sides = most[-len(shape) :]
    for start in product(*(range(0, n, side) for n, side in zip(shape, sides, strict=True))):
        sizes = (min(side, n - s) for s, side, n in zip(start, sides, shape, strict=True))
        yield Region(start, tuple(sizes))


def facts_of(stack: Stack, index: tuple[int, ...]) -> Iterator[Facts | None]:
    """Look at a whole block, piece by piece; yield None while looking, the facts at last.

    Raises
    ------
    InputError
        If voxels cannot be read, or are NaN or infinite: said here, and not after hours.
    """
    total, negative, bins = 0.0, 0, np.empty(0)
    most, brightest = -math.inf, (0,) * len(stack.spatial_shape)
    for region in pieces(stack.spatial_shape):
        counts = read(stack, (*index, *region.slices))
        with np.errstate(invalid="ignore"):  # of infinities of both signs
            require_finite(float(counts.sum(dtype=np.float64)))
        total += float(np.maximum(counts, 0).sum(dtype=np.float64))
        negative += int((counts < 0).sum()) if counts.dtype.kind != "u" else 0
        bins = merged(bins, brightest_bins(counts, stack.spatial_shape))
        place = np.unravel_index(int(counts.argmax()), counts.shape)
        if counts[place] > most:
            most = float(counts[place])
            brightest = tuple(int(p) + s for p, s in zip(place, region.start, strict=True))
        yield None
    yield Facts(total / math.prod(stack.spatial_shape), negative, float(bins[-1]), brightest)


def read(stack: Stack, place: Place) -> npt.NDArray[Any]:
    """Return voxels of a stack as an array in memory; see `files.reading.read_voxels`."""
    return read_voxels(stack.data, place, stack.name or "The image", axes=stack.axes)


def background_of(stack: Stack, channel: int, background: float | str) -> float:
    """Return the background of a channel in counts: one decision for all its time points.

    Parameters
    ----------
    stack : Stack
        What is restored.
    channel : int
        0 where the stack has no channels.
    background : float or "auto"
        As in the recipe; "auto" estimates it on the first time point.
    """
    if background != "auto":
        return float(background)
    first = next(index for index in stack.blocks() if stack.channel_of(index) == channel)
    return background_of_block(stack, first)


def background_of_block(stack: Stack, index: tuple[int, ...]) -> float:
    """Return the background of a block: where reading it takes long, from a few regions of it."""
    shape = stack.spatial_shape
    if isinstance(stack.data, np.ndarray):
        return background_level(_finite(sampled(read(stack, index))))
    samples = [read(stack, (*index, *region.slices)) for region in regions_of_background(shape)]
    return background_level(_finite(np.concatenate(samples)))


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values without those that are not finite, which are refused later."""
    return np.asarray(np.nan_to_num(values, posinf=0, neginf=0))


def regions_of_background(shape: tuple[int, ...]) -> list[Region]:
    """Return the regions, of one shape, that the background of a block is estimated from."""
    small = math.prod(shape) <= SAMPLE
    return [Region((0,) * len(shape), shape)] if small else sample_regions(shape)


def sample_regions(shape: tuple[int, ...]) -> list[Region]:
    """Return a few regions that stand for a block: the block itself where it is small."""
    sides = tuple(min(n, side) for n, side in zip(shape, SAMPLE_SHAPE[-len(shape) :], strict=True))
    room = [n - side for n, side in zip(shape, sides, strict=True)]
    if not any(room):
        return [Region((0,) * len(shape), shape)]
    # Along the diagonals, away from the corners, where a field of view is often empty.
    spread = [(i + 0.5) / SAMPLES for i in range(SAMPLES)]
    starts = [
        tuple(round(r * (t if axis % 2 else (t * 2) % 1)) for axis, r in enumerate(room))
        for t in spread
    ]
    return [Region(start, sides) for start in dict.fromkeys(starts)]


def samples_of(
    stack: Stack, index: tuple[int, ...], psf: Psf, background: float, facts: Facts
) -> list[Observation]:
    """Return the samples by which a method settles what it decides by the data."""
    shape = stack.spatial_shape

    def sample(region: Region) -> Observation:
        counts = read(stack, (*index, *region.slices))
        seen = observe(counts, psf, background, whole_mean=facts.mean)
        return replace(seen, whole_bright=facts.bright)

    samples = [sample(region) for region in sample_regions(shape)]
    if any(found.image.any() for found in samples):
        return samples
    # Of a field that is empty where it was looked at, the part with light decides.
    return [sample(region_around(facts.brightest, shape, SAMPLE_SHAPE))]


@dataclass(frozen=True, eq=False)
class Work:
    """What one kind of restoration takes: the methods and PSFs of all channels on one engine.

    Parameters
    ----------
    shape : tuple of int
        Of a block.
    itemsize : int
        Bytes of a stored voxel.
    psfs : tuple of Psf
        One a channel.
    methods : tuple of Restorer
        One a channel.
    extra_volumes : float
        What the engine holds beside what the methods announce.
    """

    shape: tuple[int, ...]
    itemsize: int
    psfs: tuple[Psf, ...]
    methods: tuple[Restorer, ...]
    extra_volumes: float = 0.0

    def work_shape(self, read_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the volumes worked on: that of the longest PSF."""
        longest = tuple(map(max, zip(*(psf.shape for psf in self.psfs), strict=True)))
        return self.methods[0].work_shape(read_shape, longest)

    def bytes_of(self, read_shape: tuple[int, ...], keep_shape: tuple[int, ...]) -> int:
        """Return the bytes at the peak of a tile: while it is read, restored, or written."""
        seen, kept = math.prod(read_shape), math.prod(keep_shape)
        volumes = max(method.volumes for method in self.methods) + self.extra_volumes
        taken = 4 * volumes * math.prod(self.work_shape(read_shape))
        # As stored, in chunks and together; or together, as float32, and which are finite.
        reading = max(2 * self.itemsize, self.itemsize + 5) * seen
        # The estimate, and what is kept of it as bytes, before and after they are compressed.
        writing = 4 * seen + 8 * kept
        most = max(taken, reading, writing)
        if read_shape != self.shape:
            slow, kept_slow = self._bytes_of_slow
            most = max(slow, most + kept_slow)
        fixed = max(getattr(method, "fixed_bytes", 0) for method in self.methods)
        return int(ROUNDING_UP * most) + fixed + SPARE_BYTES

    @cached_property
    def _bytes_of_slow(self) -> tuple[int, int]:
        """Bytes of what tiles know of the whole: while it is made, and from then on."""
        known = [
            (method.bytes_of_slow(psf), 4 * math.prod(method.lattice(psf).node_shape))
            for method, psf in zip(self.methods, self.psfs, strict=True)
            if isinstance(method, WienerInTiles)
        ]
        return max((peak for peak, _ in known), default=0), max((b for _, b in known), default=0)

    @property
    def whole_bytes(self) -> int:
        """Bytes at the peak where a block is restored in one piece."""
        return self.bytes_of(self.shape, self.shape)

    def plan(self, budget_bytes: int, seam_tolerance: float) -> TilePlan:
        """Return the tiles in which each block is restored.

        Raises
        ------
        InputError
            If not even the smallest tile fits.
        """
        if self.whole_bytes <= budget_bytes:
            halo = (0,) * len(self.shape)
            return TilePlan(self.shape, halo, self.shape, self._chunks(), self.whole_bytes)
        halos = [
            method.halo(psf, seam_tolerance) or psf.shape
            for method, psf in zip(self.methods, self.psfs, strict=True)
        ]
        halo = tuple(map(max, zip(*halos, strict=True)))
        # A widefield microscope does not tell planes apart where the sample has no detail in
        # them, so all planes are read where that is possible at all.
        try:
            return self._planned((*self.shape[:-2], *halo[-2:]), budget_bytes)
        except InputError:
            return self._planned(halo, budget_bytes)

    def _planned(self, halo: tuple[int, ...], budget_bytes: int) -> TilePlan:
        return plan_tiles(
            self.shape,
            halo,
            work_shape=self.work_shape,
            bytes_of=self.bytes_of,
            budget_bytes=budget_bytes,
        )

    def _chunks(self) -> tuple[int, ...]:
        most = MOST_CHUNK[-len(self.shape) :]
        return tuple(min(n, side) for n, side in zip(self.shape, most, strict=True))


def work_of(
    stack: Stack, psfs: tuple[Psf, ...], methods: tuple[Restorer, ...], extra_volumes: float
) -> Work:
    """Return what the blocks of a stack take."""
    itemsize = 0 if isinstance(stack.data, np.ndarray) else np.dtype(stack.data.dtype).itemsize
    return Work(stack.spatial_shape, itemsize, psfs, methods, extra_volumes)


@dataclass(frozen=True, eq=False)
class Settled:
    """What was decided once for all tiles.

    Parameters
    ----------
    methods : tuple of Restorer
        One a channel.
    backgrounds : tuple of float
        In counts, one a channel.
    means : dict
        Of the counts of each block, by its index; empty where each is restored as a whole.
    notes : tuple of str
        On the blocks; where each is restored as a whole, its run tells.
    """

    methods: tuple[Restorer, ...]
    backgrounds: tuple[float, ...]
    means: dict[tuple[int, ...], float]
    notes: tuple[str, ...] = ()


def settling(
    stack: Stack,
    method: Restorer,
    background: float | str,
    psfs: tuple[Psf, ...],
    engine: Engine,
    budget_bytes: int,
    seam_tolerance: float,
    *,
    in_tiles: bool = False,
) -> Generator[Step, None, Settled]:
    """Decide what all tiles share; where each block fits as a whole, its run decides.

    Parameters
    ----------
    stack : Stack
        The channels and times that are restored.
    method : Restorer
        As the user wants it.
    background : float or "auto"
        As in the recipe.
    psfs : tuple of Psf
        One a channel.
    engine : Engine
        That the samples are restored on.
    budget_bytes : int
        What a tile may take.
    seam_tolerance : float
        How much the tiles may differ from the whole, as a part of its maximum.
    in_tiles : bool
        Whether the blocks are cut even where they fit.

    Yields
    ------
    Step
        While the image is looked at.

    Returns
    -------
    Settled
        The value of the generator.

    Raises
    ------
    InputError
        If voxels cannot be read, or are NaN or infinite.
    """
    channels = range(stack.channel_count())
    backgrounds = tuple(background_of(stack, c, background) for c in channels)
    methods: tuple[Restorer, ...] = (method,) * len(psfs)
    work = work_of(stack, psfs, methods, engine.extra_volumes)
    if work.whole_bytes <= budget_bytes and not in_tiles:
        return Settled(methods, backgrounds, {})
    found: dict[tuple[int, ...], Facts] = {}
    for index in stack.blocks():
        for facts in facts_of(stack, index):
            yield Step(0, 1, "reading the whole image once: its mean, and whether it is whole")
            if facts is not None:
                found[index] = facts
    means = {index: facts.mean for index, facts in found.items()}
    negative = sum(facts.negative for facts in found.values())
    notes = [
        notes_on_image(stack.spatial_shape, psf.shape, negative=negative, images=len(found))
        for psf in psfs
    ]
    yield Step(0, 1, "deciding what all tiles share")
    settled = []
    for channel, psf in enumerate(psfs):
        first = next(index for index in stack.blocks() if stack.channel_of(index) == channel)
        samples = samples_of(stack, first, psf, backgrounds[channel], found[first])
        decided = method.settled(samples, engine)
        settled.append(for_tiles(decided, psf, stack.spatial_shape, seam_tolerance))
        notes.append(_notes_on_stop(method, decided))
    told = tuple(dict.fromkeys(note for some in notes for note in some))
    return Settled(tuple(settled), backgrounds, means, told)


def _notes_on_stop(method: Restorer, decided: Restorer) -> tuple[str, ...]:
    """Return where tiles stop of a method that stops by itself: each tile is told a number."""
    if not (isinstance(method, RichardsonLucy) and isinstance(decided, RichardsonLucy)):
        return ()
    if not (method.automatic_stop or method.stop_tolerance):
        return ()
    return (
        f"All tiles stop after {decided.iterations} iterations, where the brightest of the regions "
        "that were looked at before did",
    )


def looking_through(
    stack: Stack, index: tuple[int, ...], method: WienerInTiles, psf: Psf, background: float
) -> Generator[Step, None, WienerInTiles]:
    """Look at a whole block once more, piece by piece; return the method that knows it."""
    lattice = method.lattice(psf)
    gathered = np.zeros(lattice.node_shape, np.float32)
    for region in pieces(stack.spatial_shape):
        counts = read(stack, (*index, *region.slices))
        lattice.gather(np.maximum(counts, 0), region, gathered)
        yield Step(0, 1, "reading the whole image for its slow changes")
    return method.knowing(gathered, psf, background)


def notes_on_seams(
    methods: tuple[Restorer, ...], psfs: tuple[Psf, ...], plan: TilePlan, tolerance: float
) -> tuple[str, ...]:
    """Return what to tell the user of tiles that cannot agree with the whole to the tolerance."""
    far = [
        f"Wiener with a regularization of {method.regularization:.2g} and this PSF looks through "
        f"the whole image: its tiles may differ from that by more than {tolerance:g} of the "
        "maximum, in slow changes across them; Richardson-Lucy does not"
        for method, psf in zip(methods, psfs, strict=True)
        if isinstance(method, Wiener) and method.reaches_beyond_tiles(psf, tolerance)
    ]
    return tuple(dict.fromkeys(far)) if len(plan) > 1 else ()
