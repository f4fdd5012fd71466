"""A circular filter on an OpenCL device, by transforms of our own.

Those of pyclesperanto are planned anew at each call, which takes longer than the transform of a
small volume; kernels are compiled once, on a CPU for all sizes, on a GPU for each length.

An even number of values in a row are taken for half as many complex ones: that transform and the
product with the transfer function hold what the transform of the real values would (Cooley, Lewis
and Welch, J. Sound Vib. 1970), in the same memory. An odd row is made complex.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .composed import Composed
from .fourier_groups import Grouping, grouping, lines_source
from .fourier_passes import TIMES, pass_source, radices
from .opencl_values import OpenClArray, in_3d, move

if TYPE_CHECKING:
    from .opencl_engine import OpenClEngine


_ARGUMENTS = (
    "__global float2* z, __global const float2* h, __global const float2* w, "
    "int nz, int ny, int nx, float sign"
)
_PLACE = """
  const int k = get_global_id(0), y = get_global_id(1), z0 = get_global_id(2);
  const size_t row = (size_t)z0 * ny + y, mirrored = (size_t)((nz - z0) % nz) * ny + (ny - y) % ny;
"""
# Frequencies k and -k of z, the transform of x[0::2] + i x[1::2] in rows of nx = 2 m, tell
# those of x at k and at k + m, which are filtered and put back in the same manner.
_PACKED = f"""{TIMES}
__kernel void filtered({_ARGUMENTS}) {{{_PLACE}
  const int m = nx / 2;
  if (2 * k > m || ((k == 0 || 2 * k == m) && mirrored < row)) return;
  __global float2* a = z + row * m + k;
  __global float2* b = z + mirrored * m + (m - k) % m;
  const float2 one = *a, other = (float2)(b->x, -b->y);
  const float2 even = 0.5f * (one + other), half_turned = 0.5f * (one - other);
  const float2 turn = (float2)(w[k].x, -w[k].y);
  const float2 odd = times((float2)(half_turned.y, -half_turned.x), turn);
  const float2 near_factor = h[row * (m + 1) + k], far_factor = h[mirrored * (m + 1) + m - k];
  const float2 low = times(even + odd, (float2)(near_factor.x, sign * near_factor.y));
  const float2 high = times(even - odd, (float2)(far_factor.x, -sign * far_factor.y));
  const float2 e = 0.5f * (low + high), o = times(0.5f * (low - high), w[k]);
  *a = (float2)(e.x - o.y, e.y + o.x);
  *b = (float2)(e.x + o.y, o.x - e.y);
}}
"""
_WHOLE = f"""{TIMES}
__kernel void filtered({_ARGUMENTS}) {{{_PLACE}
  if (k >= nx) return;
  const int m = nx / 2;
  const float2 factor = k <= m ? h[row * (m + 1) + k] : h[mirrored * (m + 1) + nx - k];
  const float side = k <= m ? sign : -sign;
  z[row * nx + k] = times(z[row * nx + k], (float2)(factor.x, side * factor.y));
}}
"""


class Transform:
    """Transforms of complex values on one shape, by passes between two buffers.

    Parameters
    ----------
    engine : OpenClEngine
        Where.
    shape : tuple of int
        Shape of the values, three axes.
    """

    def __init__(self, engine: OpenClEngine, shape: tuple[int, ...]) -> None:
        self._engine, self.shape = engine, shape
        self._turns = [engine.create((2 * n,), turns(n)).buffer for n in shape]
        size = 2 * math.prod(shape)
        self._buffers = [engine.create((size,)).buffer for _ in range(2)]

    def there(self, values: Any) -> Any:
        """Return the buffer with the spectrum of the values in a buffer."""
        for axis in (2, 1, 0):
            values = self._along(axis, values, back=False)
        return values

    def back(self, spectrum: Any) -> Any:
        """Return the buffer with the values, not normalised."""
        for axis in (0, 1, 2):
            spectrum = self._along(axis, spectrum, back=True)
        return spectrum

    def other(self, buffer: Any) -> Any:
        """Return a buffer that is not this one."""
        return self._buffers[buffer is self._buffers[0]]

    def _along(self, axis: int, values: Any, *, back: bool) -> Any:
        n, done = self.shape[axis], 1
        inner, lines = math.prod(self.shape[axis + 1 :]), math.prod(self.shape[:axis])
        group = grouping(n, across=inner > 1) if self._engine.has_groups else None
        if group is not None:
            return self._in_groups(group, axis, values, back=back)
        for radix in radices(n):
            source = pass_source(radix, back=back, across=inner > 1, first=done == 1)
            result = self.other(values)
            parameters = {
                "x": values, "o": result, "w": self._turns[axis],
                "n": n, "s": done, "turn": n // (done * radix), "inner": inner, "lines": lines,
            }  # fmt: skip
            groups = n // radix
            size = (lines, groups, inner) if inner > 1 else (1, 1, lines * groups)
            self._engine.run(source, "turned", size, parameters)
            values, done = result, done * radix
        return values

    def _in_groups(self, group: Grouping, axis: int, values: Any, *, back: bool) -> Any:
        result = self.other(values)
        inner, lines = math.prod(self.shape[axis + 1 :]), math.prod(self.shape[:axis])
        parameters = {
            "x": values, "o": result, "w": self._turns[axis], "inner": inner, "lines": lines,
        }  # fmt: skip
        groups = -(-(inner if group.across else lines) // group.lines)
        size = (lines if group.across else 1, 1, groups * group.items)
        source = lines_source(group, back=back)
        self._engine.run(source, "turned", size, parameters, together=group.items)
        return result


def groups_work(engine: OpenClEngine) -> bool:
    """Return whether a device transforms in groups, and rightly: not all do as they should.

    It leaves the engine as if they did.
    """
    shape, rng = (512, 1, 256), np.random.default_rng(0)
    values = (rng.random(shape) + 1j * rng.random(shape)).astype(np.complex64)
    engine.has_groups = True
    try:
        pushed = engine.create((2 * values.size,), values.view(np.float32))
        buffer = Transform(engine, shape).there(pushed.buffer)
        found = engine.pull(OpenClArray(buffer, pushed.shape), pushed.shape)
    except Exception:  # Drivers fail in every way there is.
        return False
    expected = np.fft.fftn(values)
    error = np.abs(found.view(np.complex64).reshape(shape) - expected).max()
    return bool(error < 1e-6 * np.abs(expected).max())


def turns(n: int) -> Any:
    """Return exp(2 pi i k / n) for each k, real and imaginary parts in turn."""
    return np.exp(2j * np.pi * np.arange(n) / n).astype(np.complex64).view(np.float32)


class Layout:
    """How the values of a shape are transformed: axes of length 1 left out, rows packed.

    Attributes
    ----------
    grid : tuple of int
        Of the values, three axes.
    packed : bool
        Whether two neighbours are one complex value; of an odd row, each is one.
    shape : tuple of int
        Of the complex values.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.grid = in_3d(tuple(n for n in shape if n > 1))
        row = self.grid[2]
        # Two values are one complex one, which no pass would take to the filter's own memory.
        self.packed = row % 2 == 0 and math.prod(self.grid) > 2
        self.shape = (*self.grid[:2], row // 2 if self.packed else row)


def half_spectrum(engine: OpenClEngine, values: OpenClArray) -> OpenClArray:
    """Return the transform of real values as `numpy.fft.rfftn` does, real and imaginary in turn."""
    nz, ny, nx = grid = Layout(values.shape).grid
    transform = Transform(engine, grid)
    whole = OpenClArray(transform.other(None), values.shape)
    move(engine, values, whole, to_complex=True)
    spectrum = OpenClArray(transform.there(whole.buffer), (nz, ny, 2 * nx))
    return move(engine, spectrum, engine.create((nz, ny, 2 * (nx // 2 + 1))))


class OpenClFilter(Composed):
    """A circular filter by transforms; see `restoration.engine.Filter`.

    Its results lie in its own memory.

    Parameters
    ----------
    engine : OpenClEngine
        Where.
    transfer : OpenClArray
        Transfer function on the grid of `half_spectrum`; used up.
    shape, window : tuple of int
        See `restoration.engine.Engine.filter`.
    """

    engine: OpenClEngine

    def __init__(
        self,
        engine: OpenClEngine,
        transfer: OpenClArray,
        shape: tuple[int, ...],
        window: tuple[int, ...],
    ) -> None:
        self.engine, self._shape, self._window = engine, shape, window
        layout = Layout(shape)
        self._grid, self._packed = layout.grid, layout.packed
        self._transform = Transform(engine, layout.shape)
        row = self._grid[2]
        self._turns = engine.create((2 * row,), turns(row)).buffer
        # The transforms leave the norm to the filter, where it costs nothing.
        norm = 1 / math.prod(layout.shape)
        self._factors = engine.evaluate("n * h", out=transfer, n=norm, h=transfer).buffer

    def forward(self, x: OpenClArray) -> OpenClArray:
        """Return the filtered `x` in the window."""
        return self._filtered(x, 1.0, self._window)

    def adjoint(self, x: OpenClArray) -> OpenClArray:
        """Return `x`, zero beyond the window, filtered with the conjugate transfer function."""
        return self._filtered(x, -1.0, self._shape)

    def _filtered(self, x: OpenClArray, sign: float, seen: tuple[int, ...]) -> OpenClArray:
        spectrum = self._transform.there(self._complex(x).buffer)
        nz, ny, nx = self._grid
        parameters = {
            "z": spectrum, "h": self._factors, "w": self._turns,
            "nz": nz, "ny": ny, "nx": nx, "sign": sign,
        }  # fmt: skip
        source, columns = (_PACKED, nx // 4 + 1) if self._packed else (_WHOLE, nx)
        self.engine.run(source, "filtered", (nz, ny, columns), parameters)
        return self._real(self._transform.back(spectrum), seen)

    def _complex(self, x: OpenClArray) -> OpenClArray:
        """Return the values on the whole shape, as they are transformed."""
        if self._packed and x.shape == self._shape:
            return x
        whole = OpenClArray(self._transform.other(x.buffer), self._shape)
        return move(self.engine, x, whole, to_complex=not self._packed)

    def _real(self, values: Any, shape: tuple[int, ...]) -> OpenClArray:
        """Return the values on the first `shape`."""
        whole = OpenClArray(values, self._shape)
        if self._packed and shape == self._shape:
            return whole
        seen = OpenClArray(self._transform.other(values), shape)
        return move(self.engine, whole, seen, from_complex=not self._packed)
