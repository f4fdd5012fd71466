"""What a run will take, said before it starts: engine, memory, seconds."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np

from napari_deconv import engines
from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import Value
from napari_deconv.pipeline import memory_needed_bytes, prepare_psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Restorer


@dataclass(frozen=True)
class Forecast(Value):
    """What a run will take, said before it starts."""

    work_shape: tuple[int, ...]
    blocks: int
    memory_bytes: int
    free_bytes: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Plan:
    """What a recipe means for a stack: the PSF, the engine in words, and the forecast."""

    psf: Psf
    engine: str
    forecast: Forecast


def plan(stack: Stack, recipe: Recipe) -> Plan:
    """Return what `restoring` would do, without doing it; see `Plan`.

    Raises
    ------
    InputError
        If the PSF or the engine of the recipe is not usable.
    """
    psf = prepare_psf(recipe.psf, stack)
    engine = _kept_engine(recipe.engine)
    return Plan(
        psf,
        engines.reason(engine, recipe.engine),
        forecast(stack, recipe.method, psf.shape, engine),
    )


@cache
def _kept_engine(name: str) -> Engine:
    """Return an engine to plan with; kept, since opening one runs its self-test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # told when it runs
        return engines.open_engine(name)


def forecast(
    stack: Stack, method: Restorer, psf_shape: tuple[int, ...], engine: Engine
) -> Forecast:
    """Return what restoring `stack` on `engine` will take.

    Parameters
    ----------
    stack : Stack
        What would be restored.
    method : Restorer
        How.
    psf_shape : tuple of int
        Shape of the PSF on the stack's voxels.
    engine : Engine
        Where; a small transform is timed on it, once.
    """
    shape = method.work_shape(stack.spatial_shape, psf_shape)
    voxels, blocks = math.prod(shape), len(list(stack.blocks()))
    work = voxels * math.log2(max(voxels, 2))
    return Forecast(
        work_shape=shape,
        blocks=blocks,
        memory_bytes=memory_needed_bytes(stack, method, psf_shape),
        free_bytes=free_memory_bytes(),
        seconds=blocks * method.transforms * work * _seconds_per_work(engine),
    )


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
        engine.pull(blur.forward(x), (1, 1, 1))
        started = time.perf_counter()
        for _ in range(2):
            y = blur.forward(x)
            engine.evaluate("fmax(x * y / (y + 1.0f), 0.0f)", x=x, y=y)
        engine.pull(y, (1, 1, 1))
        _TIMED[engine.device] = (time.perf_counter() - started) / (4 * voxels * math.log2(voxels))
    return _TIMED[engine.device]
