"""One tile, as values that travel: what is to be restored, and what came of it.

`tasks_of` names the tiles of all blocks, `tile_run` restores them one by one, and each ends as a
`TileDone`, from which `block_records` tells what happened to each block. The run in this process
(`pipeline`) and the workers of a cluster (`worker`) do the same with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, Value
from napari_deconv.restoration.restorer import Step
from napari_deconv.tiles.plan import Tile, TilePlan
from napari_deconv.tiling import Settled

Float = npt.NDArray[np.float32]

#: What is said of a tile that an earlier run has finished.
FINISHED_BEFORE = "finished before"


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
        """Return what an earlier run has kept in the sink of a tile.

        Raises
        ------
        InputError
            If the mark of the tile is damaged, so that nothing says that its voxels are good.
        """
        kept = sink.record(task.name).get("pieces", ())
        try:
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


@contextmanager
def naming(block: tuple[int, ...], stack: Stack, recipe: Recipe) -> Iterator[None]:
    """Add to what is wrong with a block which of several it is."""
    try:
        yield
    except InputError as error:
        where = name_of_block(block, stack, recipe)
        if not where:
            raise
        raise InputError(f"{error} (at {where}, counted from 0)") from error


def name_of_block(block: tuple[int, ...], stack: Stack, recipe: Recipe) -> str:
    """Return which of several blocks it is, as it is counted in the file: t 3, c 0."""
    if math.prod(stack.shape) == math.prod(stack.spatial_shape):
        return ""
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
