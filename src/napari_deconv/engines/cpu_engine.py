"""The engine that runs anywhere: scipy.fft in float32 on all cores; it defines the answers.

Steps are done piece by piece, so that a run holds its few volumes and nothing else: filters
work in place, and operands that need not be stored are made where they are read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.engine import Complex, Float
from napari_deconv.restoration.fourier import Leaving, left
from napari_deconv.restoration.pieces import Cores, Values, Where, blocks

from .cpu_filter import CpuFilter
from .cpu_steps import Curvature, Pieces

#: Voxels worked on at a time: threads wait for each other at each call, so not too few.
BLOCK = 1 << 18


class CpuEngine:
    """numpy and scipy on all cores; see `restoration.engine.Engine`."""

    name = "cpu"
    extra_volumes = 0.0

    def __init__(self, workers: int | None = None) -> None:
        self.cores = Cores(workers)
        self.workers = self.cores.count
        self.device = f"CPU, {self.workers} cores" if self.workers > 1 else "CPU, 1 core"

    def push(self, array: Float, shape: tuple[int, ...]) -> Float:
        """Return a copy padded with zeros at the far end."""
        result = np.zeros(shape, np.float32)
        result[tuple(slice(n) for n in array.shape)] = array
        return result

    def hold(self, values: Values) -> Values:
        """Return the values as they are: they are read piece by piece."""
        return values

    def pull(self, array: Float | Leaving, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new array."""
        return np.array(left(array)[tuple(slice(0, n) for n in shape)])

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> CpuFilter:
        """Return the filter with this transfer function."""
        return CpuFilter(self, transfer, shape, window or shape)

    def blur(
        self, psf: Float, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> CpuFilter:
        """Return the blur by a PSF."""
        return self.filter(transfer_function(psf, shape), shape, window)

    def evaluate(
        self, expression: str, /, *, out: Float | Leaving | None = None, **operands: Any
    ) -> Float:
        """Return the element-wise expression, piece by piece on all cores."""
        return self.evaluate_and_total(expression, "", out=out, **operands)[0]

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression, in float64."""
        pieces = Pieces("", operands, summed=expression)
        return sum(self.cores.each(pieces, self._blocks(pieces)))

    def evaluate_and_total(
        self, expression: str, summed: str, /, *, out: Float | Leaving | None, **operands: Any
    ) -> tuple[Float, float]:
        """Return what `evaluate` does and the sum of another expression, in one pass.

        The sum is of the operands as they were, also where `out` is one of them.
        """
        pieces = Pieces(expression, operands, summed=summed)
        result = np.empty(pieces.shape, np.float32) if out is None else left(out)

        def work(where: Where) -> float:
            return pieces(where, result[where])

        return result, sum(self.cores.each(work, self._blocks(pieces)))

    def _blocks(self, pieces: Pieces) -> list[Where]:
        most = self.cores.piece(math.prod(pieces.shape), BLOCK)
        return list(blocks(pieces.shape, most, pieces.thickness))

    def curvature(self, x: Float, spacing: tuple[float, ...], epsilon: float) -> Values:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2)), made where it is read."""
        return Curvature(x, spacing, epsilon)

    def side_by_side(self) -> list[CpuEngine]:
        """Return an engine for each core."""
        return [CpuEngine(1) for _ in range(self.workers)]

    def release(self) -> None:
        """Nothing to free: the arrays are Python's."""
