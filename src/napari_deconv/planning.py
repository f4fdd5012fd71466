"""What a run will take: its tiles, and before it starts its engine, memory and seconds.

`plan` says it without looking at a voxel; `planning_tiles` looks at the image and decides.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from napari_deconv import engines
from napari_deconv.engines.memory import PART_OF_FREE, free_memory_bytes
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import Value, require
from napari_deconv.methods import about_settled, restorer_of
from napari_deconv.psf_sources import prepare_psfs
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.looking import MOST_VOXELS
from napari_deconv.restoration.restorer import Restorer, Step
from napari_deconv.restoration.wiener_in_tiles import for_tiles
from napari_deconv.tiles.plan import TilePlan
from napari_deconv.tiling import Settled, Work, notes_on_seams, settling, work_of

#: Voxels of the part that is looked at to find when to stop, with the padding.
PART_VOXELS = 2 * MOST_VOXELS
#: Seconds that a voxel takes beside the transforms, on one core: it is checked, and carried to a
#: device and back. On a GPU that is most of a run.
CARRIED = 1e-8


@dataclass(frozen=True)
class Forecast(Value):
    """What a run will take, said before it starts.

    Parameters
    ----------
    work_shape : tuple of int
        Of the volumes worked on, for the largest tile.
    blocks, tiles : int
        Channels times time points, and tiles of all of them together.
    memory_bytes : int
        At the peak, the result included where it is kept in memory.
    free_bytes : int
        That may be used.
    seconds : float
        About so long.
    read_bytes : int
        Read from the image.
    """

    work_shape: tuple[int, ...]
    blocks: int
    memory_bytes: int
    free_bytes: int
    seconds: float
    tiles: int = 1
    read_bytes: int = 0

    @property
    def reads_twice(self) -> bool:
        """Whether the image is looked at as a whole before its tiles are restored."""
        return self.tiles > self.blocks


@dataclass(frozen=True, eq=False)
class Plan:
    """What a recipe means for a stack: the PSF, the engine in words, and the forecast."""

    psf: Psf
    engine: str
    forecast: Forecast
    tiles: TilePlan | None = None


def plan(
    stack: Stack, recipe: Recipe, *, memory_bytes: int | None = None, into_file: bool = False
) -> Plan:
    """Return what `restoring` would do, without doing it; see `Plan`.

    Parameters
    ----------
    stack : Stack
        What would be restored; its voxels are not looked at.
    recipe : Recipe
        How.
    memory_bytes : int, optional
        What the run may take; a part of what is free if not given.
    into_file : bool
        Whether the result goes into a file as it is made, and not into memory.

    Raises
    ------
    InputError
        If the PSF or the engine of the recipe is not usable, or the memory is too small.
    """
    chosen = stack.selected(recipe.channels, recipe.times)
    psfs = prepare_psfs(recipe, stack)
    engine = _kept_engine(recipe.engine)
    method = restorer_of(recipe.method)
    work = work_of(chosen, psfs, (method,) * len(psfs), engine.extra_volumes)
    budget = memory_bytes or int(PART_OF_FREE * free_memory_bytes())
    held = 0 if into_file else 4 * math.prod(chosen.shape)
    if work.whole_bytes > budget - held:
        about = about_settled(method)
        shape, seam = chosen.spatial_shape, recipe.seam_tolerance
        work = replace(work, methods=tuple(for_tiles(about, psf, shape, seam) for psf in psfs))
    # Where not even the result fits, the sentence of the run says so; here it is a number.
    tiles = work.plan(budget - held, recipe.seam_tolerance) if held < budget else None
    made = _forecast(work, tiles, chosen, method, engine)
    made = replace(made, memory_bytes=made.memory_bytes + held, free_bytes=budget)
    return Plan(psfs[0], engines.reason(engine, recipe.engine), made, tiles)


@cache
def _kept_engine(name: str) -> Engine:
    """Return an engine to plan with; kept, since opening one runs its self-test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # told when it runs
        return engines.open_engine(name)


def _forecast(
    work: Work, tiles: TilePlan | None, stack: Stack, method: Restorer, engine: Engine
) -> Forecast:
    whole = work.work_shape(work.shape)
    voxels, blocks = math.prod(whole), len(list(stack.blocks()))
    more = tiles.work(work.work_shape) if tiles is not None else 1.0
    look = getattr(method, "looks", 0) * _effort(min(voxels, PART_VOXELS))
    restoring = method.transforms * _effort(voxels) * _seconds_per_work(engine)
    seconds = more * (restoring + CARRIED * voxels)
    count = len(tiles) if tiles is not None else 1
    largest = tiles.tile(0).read.shape if tiles is not None else work.shape
    return Forecast(
        work_shape=work.work_shape(largest),
        blocks=blocks,
        memory_bytes=tiles.bytes if tiles is not None else work.whole_bytes,
        free_bytes=0,
        seconds=blocks * (seconds + look * _seconds_per_work(engine)),
        tiles=blocks * count,
        read_bytes=math.prod(stack.shape) * np.dtype(stack.data.dtype).itemsize,
    )


def _effort(voxels: int) -> float:
    """Return what a transform of so many voxels takes."""
    return voxels * math.log2(max(voxels, 2))


_TIMED: dict[str, float] = {}


def _seconds_per_work(engine: Engine) -> float:
    """Return the seconds that one transform takes per voxel and per log2 of their number."""
    if engine.device not in _TIMED:
        # Large enough not to fit into a cache, as real stacks do not.
        shape = (64, 192, 192)
        voxels = math.prod(shape)
        flat = np.ones((64, 192, 97), np.complex64)
        blur = engine.filter(flat, shape)
        x = engine.push(np.ones(shape, np.float32), shape)
        step = "fmax(x * y / (y + 1.0f), 0.0f)"
        # Not timed: what is compiled or planned for once.
        engine.pull(engine.evaluate(step, x=x, y=blur.forward(x)), (1, 1, 1))
        started = time.perf_counter()
        for _ in range(2):
            y = blur.forward(x)
            engine.evaluate(step, x=x, y=y)
        engine.pull(y, (1, 1, 1))
        _TIMED[engine.device] = (time.perf_counter() - started) / (4 * voxels * math.log2(voxels))
    return _TIMED[engine.device]


def planning_tiles(
    stack: Stack,
    recipe: Recipe,
    psfs: tuple[Psf, ...],
    engine: Engine,
    budget_bytes: int,
    *,
    extra_volumes: float | None = None,
    begun: TilePlan | None = None,
) -> Generator[Step, None, tuple[Settled, TilePlan]]:
    """Decide what all tiles share, and which there are.

    Parameters
    ----------
    stack : Stack
        The channels and times that are restored.
    recipe : Recipe
        How.
    psfs : tuple of Psf
        One a channel.
    engine : Engine
        That samples are restored on.
    budget_bytes : int
        What a tile may take.
    extra_volumes : float, optional
        What the engines of the tiles hold; that of `engine` where not given.
    begun : TilePlan, optional
        Of a run that goes on, whose tiles are the same.

    Yields
    ------
    Step
        While the image is looked at, and what will be done.

    Returns
    -------
    tuple of Settled and TilePlan
        The value of the generator.
    """
    method, cut = restorer_of(recipe.method), begun is not None and len(begun) > 1
    settled = yield from settling(
        stack,
        method,
        recipe.background,
        psfs,
        engine,
        budget_bytes,
        recipe.seam_tolerance,
        in_tiles=cut,
    )
    extra = engine.extra_volumes if extra_volumes is None else extra_volumes
    work = work_of(stack, psfs, settled.methods, extra)
    plan = begun or work.plan(budget_bytes, recipe.seam_tolerance)
    if len(plan) > 1:
        yield Step(0, 1, _in_words(plan, stack, budget_bytes))
    seams = notes_on_seams(settled.methods, psfs, plan, recipe.seam_tolerance)
    return replace(settled, notes=(*seams, *settled.notes)), plan


def _in_words(plan: TilePlan, stack: Stack, budget_bytes: int) -> str:
    """Return what a run in tiles will do."""
    count, largest = len(plan) * len(list(stack.blocks())), plan.tile(0).keep.shape
    return (
        f"{count} tiles of {' x '.join(map(str, largest))} voxels, {plan.bytes / 1e9:.2f} GB of "
        f"memory of {budget_bytes / 1e9:.2f} GB that may be used"
    )


def require_room(budget: int, held: int) -> None:
    """Raise unless the result leaves room in memory to work in."""
    require(
        held < budget,
        f"Restoring needs {held / 1e9:.2f} GB of memory for its result, but {budget / 1e9:.2f} GB "
        "may be used; write it into an OME-Zarr file, which is filled tile by tile, choose fewer "
        "channels or times, or close other programs",
    )


def require_room_for(begun: TilePlan | None, budget: int) -> None:
    """Raise unless `budget` bytes are enough for the tiles of a run that goes on."""
    # Rounded so that what is asked for suffices.
    require(
        begun is None or begun.bytes <= budget,
        f"The unfinished result was begun with tiles of "
        f"{math.ceil((begun.bytes if begun else 0) / 1e7) / 100:.2f} "
        f"GB, but {max(budget, 0) // 10**7 / 100:.2f} GB of memory may be used; give it that much "
        "memory, or delete its folder beside the output to begin anew",
    )
