"""One tile, as a value that travels, and the run that reads it and restores it, wherever it is.

`tasks_of` names the tiles of all blocks, `TileRun` restores them one by one, and each ends as a
`TileDone`, from which `block_records` tells what happened to each block. The run in this process
(`pipeline`) and the workers of a cluster (`worker`) do the same with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_deconv import engines
from napari_deconv.engines.memory import return_freed_memory
from napari_deconv.engines.opened import OpenedEngine
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, Value, first_line
from napari_deconv.methods import restorer_of
from napari_deconv.restoration.restorer import Restorer, Step, observe
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles
from napari_deconv.surveying import background_in, background_of, read
from napari_deconv.tiles.plan import Tile, TilePlan, split
from napari_deconv.tiling import Settled, looking_through, settling

Float = npt.NDArray[np.float32]

#: How often a tile is cut in two where a device has no memory for it.
MOST_HALVINGS = 4
#: Blocks that a note names.
MOST_NAMED = 10
#: What is said of a tile that an earlier run has finished.
FINISHED_BEFORE = "finished before"


# -- what a tile is -------------------------------------------------------------------------


@dataclass(frozen=True)
class TileTask:
    """A tile to restore.

    Parameters
    ----------
    name : str
        Of the tile in the sink.
    number : int
        Of the tile among those of all blocks.
    block : tuple of int
        Which block of the stack it is of.
    tile : Tile
        What is read of the block, and what is kept.
    """

    name: str
    number: int
    block: tuple[int, ...]
    tile: Tile

    @property
    def place(self) -> tuple[slice, ...]:
        """Where the kept voxels lie in the result, all axes."""
        return (*(slice(i, i + 1) for i in self.block), *self.tile.keep.slices)


def tasks_of(stack: Stack, plan: TilePlan) -> Iterator[TileTask]:
    """Yield the tiles of all blocks, one block after the other."""
    for number, block in enumerate(stack.blocks()):
        for position, tile in enumerate(plan.tiles()):
            counted_from_0 = number * len(plan) + position
            yield TileTask(f"{number}-{position}", counted_from_0, block, tile)


class Sink(Protocol):
    """Where finished tiles go."""

    def is_done(self, tile: str) -> bool:
        """Return whether a tile is there already."""
        ...

    def record(self, tile: str) -> Plain:
        """Return what `write` was told of a tile that is there already."""
        ...

    def write(
        self, tile: str, place: tuple[slice, ...], block: Float, record: Plain | None = None
    ) -> None:
        """Take the voxels of a finished tile; `place` has all axes of the result."""
        ...

    def voxels(self) -> Any:
        """Return the result, numpy or dask."""
        ...


@dataclass(frozen=True, eq=False)
class Setting:
    """What all tiles of a run share: on a cluster it travels to each worker once.

    Parameters
    ----------
    stack : Stack
        What is restored.
    recipe : Recipe
        How.
    psfs : tuple of Psf
        One a channel.
    settled : Settled
        What was decided for all tiles.
    plan : TilePlan
        The tiles of each block.
    sink : Sink
        Where they go.
    """

    stack: Stack
    recipe: Recipe
    psfs: tuple[Psf, ...]
    settled: Settled
    plan: TilePlan
    sink: Sink

    @property
    def count(self) -> int:
        """Number of tiles of all blocks."""
        return len(self.plan) * len(list(self.stack.blocks()))


@dataclass(frozen=True)
class Piece(Value):
    """A part of a tile that was restored at once: the tile itself, or what it was cut into.

    Parameters
    ----------
    voxels : int
        That were read.
    iterations, most : int
        That were done, and that could have been.
    stop_reason : str
        What the last step said.
    divergences : tuple of float
        One an iteration.
    dark : bool
        Whether what was read is zero everywhere.
    background : float
        Of its block, in counts.
    """

    voxels: int
    iterations: int
    most: int
    stop_reason: str
    divergences: tuple[float, ...]
    dark: bool = False
    background: float = 0.0


@dataclass(frozen=True, eq=False)
class TileDone:
    """What is told of a tile that is finished; its voxels are in the sink.

    Parameters
    ----------
    task : TileTask
        Which it is.
    pieces : tuple of Piece
        What it was restored in; none where an earlier run has not kept them.
    """

    task: TileTask
    pieces: tuple[Piece, ...]

    @classmethod
    def earlier(cls, task: TileTask, sink: Sink) -> TileDone:
        """Return what an earlier run has kept in the sink of a tile."""
        try:
            kept = sink.record(task.name).get("pieces", ())
            return cls(task, tuple(Piece.from_dict(piece) for piece in kept))
        except (InputError, TypeError):  # written by another version: its voxels are good
            return cls(task, ())

    @property
    def record(self) -> Plain:
        """What is kept with the tile, for a run that goes on."""
        return {"pieces": [piece.to_dict() for piece in self.pieces]}

    def step(self, total: int, number: int | None = None) -> Step:
        """Return the step that says so: the tile's own number among `total`, or how many it makes.

        On a cluster tiles are finished in any order, so that the numbers say how many there are.
        """
        last = self.pieces[-1]
        divergence = last.divergences[-1] if last.divergences else None
        whole = Step(last.most, last.most, last.stop_reason, divergence)  # however early it stopped
        number = self.task.number if number is None else number
        return replace(counted(whole, number, total), place=self.task.place)


# -- restoring it ---------------------------------------------------------------------------


class TileRun:
    """Restores tiles one by one on a device; one that it has no memory for is cut in two.

    Parameters
    ----------
    setting : Setting
        What the tiles share.
    device : OpenedEngine
        Where they are restored.
    """

    def __init__(self, setting: Setting, device: OpenedEngine) -> None:
        return_freed_memory()
        self.setting, self.device = setting, device
        self.notes: list[str] = []
        self._told: set[str] = set()
        self._settled = setting.settled
        self._pieces: list[Piece] = []
        self._of_block: tuple[tuple[int, ...], Restorer] | None = None
        self._halvings = 0

    def restoring(self, task: TileTask) -> Generator[Step, None, tuple[Float, TileDone]]:
        """Read a tile and restore it, step by step; return what is kept, all axes, and the rest.

        Raises
        ------
        InputError
            If it cannot be read or restored.
        """
        self._pieces = []
        kept = yield from self._restored(task.block, task.tile, 0)
        shape = (1,) * len(task.block) + kept.shape
        return kept.reshape(shape), TileDone(task, tuple(self._pieces))

    def _restored(
        self, index: tuple[int, ...], tile: Tile, halvings: int
    ) -> Generator[Step, None, Float]:
        """Return the kept voxels of a tile."""
        if halvings < self._halvings:  # the device has refused such a tile before
            return (yield from self._halves(index, tile, halvings))
        try:
            return (yield from self._at_once(index, tile, may_cut=halvings < MOST_HALVINGS))
        except Exception as error:
            if not engines.is_out_of_memory(error) or halvings >= MOST_HALVINGS:
                raise
            said = f"{self.device.engine.device} ran out of memory ({first_line(error)})"
        try:
            result = yield from self._halves(index, tile, halvings)
        except InputError:
            if not self.device.may_fall_back:
                raise
            return (yield from self._at_once(index, tile, may_cut=False))
        if halvings >= self._halvings:  # else its halves did not fit either, and have told it
            self._halvings = halvings + 1
            self.notes.append(f"{said}; tiles of 1/{2**self._halvings} of the size were taken")
        return result

    def _halves(
        self, index: tuple[int, ...], tile: Tile, halvings: int
    ) -> Generator[Step, None, Float]:
        shared, shape = self.setting, self.setting.plan.shape
        if not self._settled.means:
            wanted = (restorer_of(shared.recipe.method), shared.recipe.background)
            parts = (shared.stack, *wanted, shared.psfs, self.device.engine)
            tolerance = shared.recipe.seam_tolerance
            self._settled = yield from settling(*parts, 0, tolerance, in_tiles=True)
            self._of_block = None
            self.notes += self._settled.notes
        channel = shared.stack.channel_of(index)
        method, psf = self._settled.methods[channel], shared.psfs[channel]
        halo = method.halo(psf, shared.recipe.seam_tolerance) or psf.shape
        kept = np.empty(tile.keep.shape, np.float32)
        for half in split(tile, (*shape[:-2], *halo[-2:]), shape):
            part = yield from self._restored(index, half, halvings + 1)
            kept[half.keep.within(tile.keep)] = part
        return kept

    def _method_for(self, index: tuple[int, ...]) -> Generator[Step, None, Restorer]:
        """Return the method for tiles of a block, once it knows what it must of the whole."""
        if self._of_block is None or self._of_block[0] != index:
            self._of_block = None  # else what is known of two blocks lies in memory
            channel = self.setting.stack.channel_of(index)
            method, psf = self._settled.methods[channel], self.setting.psfs[channel]
            if isinstance(method, WienerInTiles):
                level = self._settled.backgrounds[index]
                method = yield from looking_through(self.setting.stack, index, method, psf, level)
            self._of_block = index, method
        return self._of_block[1]

    def _at_once(
        self, index: tuple[int, ...], tile: Tile, *, may_cut: bool
    ) -> Generator[Step, None, Float]:
        """Read and restore a tile in one piece; return the kept voxels."""
        stack, settled = self.setting.stack, self._settled
        channel = stack.channel_of(index)
        psf, mean = self.setting.psfs[channel], settled.means.get(index)
        method = yield from self._method_for(index)
        counts = read(stack, (*index, *tile.read.slices))
        level = settled.backgrounds.get(index)
        if level is None:
            level = background_in(counts, self.setting.recipe.background)
        with naming(index, stack, self.setting.recipe):
            observation = observe(counts, psf, level, whole_mean=mean, start=tile.read.start)
        del counts
        dark = not observation.image.any()
        if not dark and not settled.means:  # else the block tells, which may be light elsewhere
            self._note(index, [note for note in observation.notes if note not in psf.notes])
        divergences: list[float] = []
        step = Step(0, 1)
        for step in self.device.steps(method, observation, may_cut=may_cut):
            if step.divergence is not None:
                # Where the CPU took over, it began again.
                divergences[step.done - 1 :] = [step.divergence]
            yield step
        ended = (step.done, step.total, step.note, tuple(divergences))
        self._pieces.append(Piece(math.prod(tile.read.shape), *ended, dark, level))
        return checked(step)[tile.keep.within(tile.read)]

    def _note(self, index: tuple[int, ...], notes: list[str]) -> None:
        """Keep notes on a block; of several, those that differ in their numbers alone once."""
        stack, recipe = self.setting.stack, self.setting.recipe
        where = f" (first at {_named(index, stack, recipe)})" if _has_several(stack) else ""
        for note in notes:
            words = re.sub(r"[0-9.]+(e[+-]?[0-9]+)?", "", note)
            if words not in self._told:
                self._told.add(words)
                self.notes.append(note + where)


def checked(last: Step) -> Float:
    """Return the estimate of a run's last step; RuntimeError if it is not finite."""
    if last.estimate is None or not np.isfinite(last.estimate).all():
        raise RuntimeError(
            "The result is not finite: the device computed wrongly. Run again with the engine "
            "'cpu', and report this"
        )
    return last.estimate


# -- telling of it --------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockRecord(Value):
    """What happened to one block (one channel at one time)."""

    index: tuple[int, ...]
    background: float
    iterations: int
    stop_reason: str
    divergences: tuple[float, ...]
    tiles: int = 1


def block_records(setting: Setting, done: Iterable[TileDone]) -> tuple[BlockRecord, ...]:
    """Return what happened to each block, in whatever order its tiles were finished.

    The curve of a block is the mean over its tiles.
    """
    pieces: dict[tuple[int, ...], list[Piece]] = {}
    for tile in sorted(done, key=lambda tile: tile.task.number):
        pieces.setdefault(tile.task.block, []).extend(tile.pieces)
    return tuple(
        _block_record(setting, index, pieces.get(index, [])) for index in setting.stack.blocks()
    )


def _block_record(setting: Setting, index: tuple[int, ...], pieces: list[Piece]) -> BlockRecord:
    tiles = len(setting.plan)
    if not pieces:
        level = setting.settled.backgrounds.get(index)
        if level is None:
            level = background_of(setting.stack, index, setting.recipe.background)
        return BlockRecord(index, level, 0, FINISHED_BEFORE, (), tiles)
    level = pieces[0].background
    last = max(pieces, key=lambda piece: piece.iterations)
    curves = [piece for piece in pieces if len(piece.divergences) == last.iterations]
    curve = _mean_curve(curves)
    return BlockRecord(index, level, last.iterations, last.stop_reason, curve, tiles)


def _mean_curve(pieces: list[Piece]) -> tuple[float, ...]:
    """Return the mean of curves of one length, each weighed by its voxels."""
    if len(pieces) < 2:
        return pieces[0].divergences if pieces else ()
    weights = [piece.voxels for piece in pieces]
    rows = [piece.divergences for piece in pieces]
    return tuple(float(mean) for mean in np.average(rows, axis=0, weights=weights))


def notes_on_dark(setting: Setting, done: Iterable[TileDone]) -> tuple[str, ...]:
    """Return a note that names the blocks that are zero everywhere, as where files are missing.

    Of a tile that an earlier run has finished without a record nothing is known.
    """
    stack = setting.stack
    if setting.settled.means:
        means = setting.settled.means
        dark = [index for index in stack.blocks() if means[index] == 0]
    else:
        dark = [
            tile.task.block
            for tile in sorted(done, key=lambda tile: tile.task.number)
            if tile.pieces and all(piece.dark for piece in tile.pieces)
        ]
    if not dark:
        return ()
    if len(dark) == len(list(stack.blocks())):
        return ("The image is zero everywhere: there is nothing to restore",)
    named = [_named(index, stack, setting.recipe) for index in dark[:MOST_NAMED]]
    more = [f"{len(dark) - MOST_NAMED} more"] if len(dark) > MOST_NAMED else []
    return (
        f"Zero everywhere, while the rest of the image is not: {'; '.join([*named, *more])} "
        "(counted from 0); check whether voxels are missing in the file",
    )


@contextmanager
def naming(block: tuple[int, ...], stack: Stack, recipe: Recipe) -> Iterator[None]:
    """Add to what is wrong with a block which of several it is."""
    try:
        yield
    except InputError as error:
        if not _has_several(stack):
            raise
        where = _named(block, stack, recipe)
        raise InputError(f"{error} (at {where}, counted from 0)") from error


def _has_several(stack: Stack) -> bool:
    """Return whether a stack has blocks to tell apart."""
    return math.prod(stack.shape) > math.prod(stack.spatial_shape)


def _named(block: tuple[int, ...], stack: Stack, recipe: Recipe) -> str:
    """Return which block it is, as it is counted in the file: t 3, c 0."""
    chosen = {"T": recipe.times, "C": recipe.channels}
    return ", ".join(
        f"{axis.lower()} {chosen[axis][i] if chosen[axis] else i}"
        for axis, i in zip(stack.axes, block, strict=False)
    )


def counted(step: Step, number: int, total: int) -> Step:
    """Return `step` counted over all tiles, without its estimate."""
    where = f"tile {number + 1} of {total}" if total > 1 else ""
    text = ", ".join(part for part in (where, step.note) if part)
    # A tile that stops early counts as done to its end.
    done = step.total if step.estimate is not None else step.done
    return Step(number * step.total + done, total * step.total, text, step.divergence)
