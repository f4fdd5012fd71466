"""What must be the same in all tiles of a block, and how many voxels fit into memory.

A tile comes out as if the whole block had been restored only if nothing is decided from the
tile itself: what `surveying` finds in the whole block and in a few samples of it decides, once,
and that is `Settled`.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import bits_of, notes_on_image
from napari_deconv.restoration.restorer import Restorer, Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles, for_tiles
from napari_deconv.surveying import Facts, background_of, facts_of, pieces, read, samples_of
from napari_deconv.tiles.plan import MOST_CHUNK, TilePlan, plan_tiles

#: Bytes that a run takes beside its volumes: code that is loaded late, buffers of files.
SPARE_BYTES = 80 * 2**20
#: And how much more it takes than its volumes come to, measured up to 2 GB: pages, chunks that
#: are read and written, and the rows that cores work on.
ROUNDING_UP = 1.08


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
    backgrounds : dict
        Of each block by its index, in counts; empty where each is restored as a whole.
    means : dict
        Of the counts of each block, likewise.
    notes : tuple of str
        On the blocks; where each is restored as a whole, its run tells.
    """

    methods: tuple[Restorer, ...]
    backgrounds: dict[tuple[int, ...], float]
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
    methods: tuple[Restorer, ...] = (method,) * len(psfs)
    work = work_of(stack, psfs, methods, engine.extra_volumes)
    if work.whole_bytes <= budget_bytes and not in_tiles:
        return Settled(methods, {}, {})
    found: dict[tuple[int, ...], Facts] = {}
    for index in stack.blocks():
        for facts in facts_of(stack, index):
            yield Step(0, 1, "reading the whole image once: its mean, and whether it is whole")
            if facts is not None:
                found[index] = facts
    means = {index: facts.mean for index, facts in found.items()}
    backgrounds = {index: background_of(stack, index, background) for index in found}
    notes = [_notes_on_blocks(stack, psf, found, backgrounds) for psf in psfs]
    yield Step(0, 1, "deciding what all tiles share")
    settled = []
    for channel, psf in enumerate(psfs):
        blocks = [index for index in found if stack.channel_of(index) == channel]
        # A first image may be dark.
        best = max(blocks, key=lambda index: found[index].bright - backgrounds[index])
        samples = samples_of(stack, best, psf, backgrounds[best], found[best])
        decided = method.settled(samples, engine)
        settled.append(for_tiles(decided, psf, stack.spatial_shape, seam_tolerance))
        notes.append(_notes_on_stop(method, decided))
    told = tuple(dict.fromkeys(note for some in notes for note in some))
    return Settled(tuple(settled), backgrounds, means, told)


def _notes_on_blocks(
    stack: Stack,
    psf: Psf,
    found: dict[tuple[int, ...], Facts],
    backgrounds: dict[tuple[int, ...], float],
) -> tuple[str, ...]:
    """Return what is to be told of all blocks together."""
    lightest = max(found, key=lambda index: found[index].mean - backgrounds[index])
    highest = max(facts.highest for facts in found.values())
    bits = bits_of(highest, np.dtype(stack.data.dtype))
    at_highest = sum(f.at_highest for f in found.values() if f.highest == highest)
    return notes_on_image(
        stack.spatial_shape,
        psf.shape,
        negative=sum(facts.negative for facts in found.values()),
        highest=highest if highest > 0 else None,  # which blocks are dark is told at the end
        mean=found[lightest].mean,
        background=backgrounds[lightest],
        saturated=(at_highest, bits) if bits else None,
        images=len(found),
    )


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
