"""The run that reads tiles and restores them one by one, in this process or on a worker."""

from __future__ import annotations

import math
import re
from collections.abc import Generator

import numpy as np

from napari_deconv import engines
from napari_deconv.engines.memory import return_freed_memory
from napari_deconv.engines.opened import OpenedEngine
from napari_deconv.imaging.value import InputError, first_line
from napari_deconv.methods import restorer_of
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Restorer, Step, finite_estimate
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles
from napari_deconv.surveying import background_in, read
from napari_deconv.tile_task import (
    Float,
    Piece,
    Setting,
    TileDone,
    TileTask,
    name_of_block,
    naming,
)
from napari_deconv.tiles.plan import Tile, split
from napari_deconv.tiling import looking_through, settling

#: How often a tile is cut in two where a device has no memory for it.
MOST_HALVINGS = 4


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
        told = (step.done, step.total, step.note, tuple(divergences))
        self._pieces.append(Piece(math.prod(tile.read.shape), *told, dark, level))
        return finite_estimate(step)[tile.keep.within(tile.read)]

    def _note(self, index: tuple[int, ...], notes: list[str]) -> None:
        """Keep notes on a block; of several, those that differ in their numbers alone once."""
        block = name_of_block(index, self.setting.stack, self.setting.recipe)
        where = f" (first at {block})" if block else ""
        for note in notes:
            words = re.sub(r"[0-9.]+(e[+-]?[0-9]+)?", "", note)
            if words not in self._told:
                self._told.add(words)
                self.notes.append(note + where)
