"""What happened to each block, told from its finished tiles, in whatever order they were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from napari_deconv.imaging.value import Value
from napari_deconv.surveying import background_of
from napari_deconv.tile_task import FINISHED_BEFORE, Piece, Setting, TileDone, name_of_block

#: Blocks that a note names.
MOST_NAMED = 10


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
    named = [name_of_block(index, stack, setting.recipe) for index in dark[:MOST_NAMED]]
    more = [f"{len(dark) - MOST_NAMED} more"] if len(dark) > MOST_NAMED else []
    return (
        f"Zero everywhere, while the rest of the image is not: {'; '.join([*named, *more])} "
        "(counted from 0); check whether voxels are missing in the file",
    )
