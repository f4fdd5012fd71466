"""What the threads of the live preview hand to one another: wishes, and what is to be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.region import Region
from napari_deconv.imaging.stack import Stack
from napari_deconv.previewing import Frame, Preview
from napari_deconv.psf_sources import prepare_psf


@dataclass(frozen=True, eq=False)
class Wish:
    """What to preview: a layer and its axes, its stack, and how to make the recipe."""

    layer: Image
    axes: str
    stack: Stack
    recipe: Callable[[], Recipe]

    @property
    def voxels(self) -> tuple[int, str]:
        """What tells one image from another, though each stack is a new view of it."""
        return id(self.layer.data), self.axes


@dataclass(frozen=True, eq=False)
class Shown:
    """What is to be shown of a frame, with the counts along a line through it.

    `block` is that of the stack, `raw` and `restored` are the values along x through the middle
    of the region, the raw ones less the background; `step_um` is the pixel, None where unknown.
    """

    frame: Frame
    block: tuple[int, ...]
    raw: npt.NDArray[np.float32]
    restored: npt.NDArray[np.float32] | None
    step_um: float | None


@dataclass(frozen=True, eq=False)
class Wanted:
    """A wish as the threads need it: all that one picture after the other is made from."""

    stack: Stack
    block: tuple[int, ...]
    region: Region
    recipe: Recipe
    psf: Psf


class Previews:
    """A preview of one image for each stage, so that an earlier one never waits for a later."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[Any, ...], Preview]] = {}
        self._psf: tuple[object, object, Psf] | None = None

    def preview(self, stage: str, wanted: Wanted) -> Preview:
        """Return the preview of a stage, "first", "quick" or "exact"; the last one is kept."""
        stack, recipe = wanted.stack, wanted.recipe
        what = (wanted.block, recipe.background, recipe.engine, stack.axes)
        kept = self._kept.get(stage)
        if kept is None or kept[0] != what:
            if kept is not None:
                kept[1].close()
            made = Preview(stack, wanted.block, background=recipe.background, engine=recipe.engine)
            self._kept[stage] = kept = (what, made)
        return kept[1]

    def psf(self, recipe: Recipe, stack: Stack) -> Psf:
        """Return the PSF of a recipe on the voxels of the stack; the last one is kept."""
        kept = self._psf
        if kept is None or kept[0] != recipe.psf or kept[1] != stack.grid:
            self._psf = kept = (recipe.psf, stack.grid, prepare_psf(recipe.psf, stack))
        return kept[2]


def shown_of(frame: Frame, preview: Preview, wanted: Wanted) -> Shown | None:
    """Return a frame with the counts along x through its middle; read in the worker's thread.

    None for an iteration without a picture: drawing only its number would take as long.
    """
    if frame.data is None and frame.divergences:
        return None
    region, stack = frame.region, wanted.stack
    middle = tuple(n // 2 for n in region.shape[:-1])
    line = tuple(s + m for s, m in zip(region.start[:-1], middle, strict=True))
    raw = np.array(stack.data[(*wanted.block, *line, region.slices[-1])], dtype=np.float32)
    restored = None if frame.data is None else frame.data[middle]
    step_um = stack.grid.spacing_um[-1] if stack.grid else None
    raw -= np.float32(preview.background)
    return Shown(frame, wanted.block, raw, restored, step_um)
