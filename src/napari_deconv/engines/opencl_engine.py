"""Engine on OpenCL through pyclesperanto: the only file that imports it.

Only buffers and own kernels are used, which are compiled once: `cle.fft.convolve` and
`cle.fft.deconvolve` displace the image by a voxel for some shapes, and end the process on integer
input; `cle.fft.fft` is planned anew at each call.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.restoration.engine import Complex, Float, Values
from napari_deconv.restoration.pieces import Repeating, blocks

from .opencl_filter import Layout, OpenClFilter, groups_work, half_spectrum
from .opencl_values import OpenClArray, filled, in_3d, kernel_of, move, repeated

#: Work items of a sum, as many as a device has at work at once, and the neighbouring voxels that
#: each of them takes at a time: functions of several values are many times as fast on a CPU.
PARTIALS, PARTIALS_OF_GPU, WIDE = 1 << 12, 1 << 16, 8
#: Work items that run together: as wide as the devices are, and few enough for any; so many times
#: that at the most. A GPU is slow at starting many small groups.
TOGETHER, MOST_TIMES, MOST_TIMES_ON_GPU = 32, 2, 8
#: Voxels brought to the device at a time.
BLOCK = 1 << 22

# The axes are (z, y, x) with steps a, b, c between voxels; a gradient leaving the image is 0,
# and an axis of length 1 has none.
_CURVATURE = """
float slope(__global const float* x, long i, long stride, int at, int n, float step) {
  return at + 1 < n ? (x[i + stride] - x[i]) / step : 0.0f;
}
float3 slopes(__global const float* x, int z, int y, int k,
              int nz, int ny, int nx, float a, float b, float c) {
  const long i = ((long)z * ny + y) * nx + k;
  return (float3)(slope(x, i, (long)ny * nx, z, nz, a), slope(x, i, nx, y, ny, b),
                  slope(x, i, 1, k, nx, c));
}
float norm(float3 g, float e) { return sqrt(dot(g, g) + e * e); }
__kernel void curvature(__global float* o, __global const float* x, int nz, int ny, int nx,
                        float a, float b, float c, float e, int count) {
  const size_t i = get_global_id(0);
  if (i >= (uint)count) return;
  const int k = i % nx, y = (i / nx) % ny, z = i / ((size_t)nx * ny);
  const float3 g = slopes(x, z, y, k, nz, ny, nx, a, b, c);
  const float n = norm(g, e);
  float sum = g.x / (n * a) + g.y / (n * b) + g.z / (n * c);
  if (z > 0) {
    const float3 h = slopes(x, z - 1, y, k, nz, ny, nx, a, b, c);
    sum -= h.x / (norm(h, e) * a);
  }
  if (y > 0) {
    const float3 h = slopes(x, z, y - 1, k, nz, ny, nx, a, b, c);
    sum -= h.y / (norm(h, e) * b);
  }
  if (k > 0) {
    const float3 h = slopes(x, z, y, k - 1, nz, ny, nx, a, b, c);
    sum -= h.z / (norm(h, e) * c);
  }
  o[i] = sum;
}
"""


#: Which devices work in groups, once it was tried.
_GROUPED: dict[str, bool] = {}


@dataclass(frozen=True)
class OpenClDevice:
    """One OpenCL device as `opencl_devices` lists them."""

    index: int
    name: str
    is_gpu: bool
    memory_bytes: int | None

    def describe(self) -> str:
        """Return the device in words."""
        return f"{'GPU' if self.is_gpu else 'CPU'} {self.name} (OpenCL)"


@cache
def _cle() -> Any:
    """Import pyclesperanto, with PoCL from the package index where the system has no driver.

    Raises
    ------
    ImportError
        If it is not installed, or finds no OpenCL device.
    """
    if not _system_drivers() and "OCL_ICD_FILENAMES" not in os.environ:
        packaged = packaged_pocl()
        if packaged:
            os.environ["OCL_ICD_FILENAMES"] = str(packaged)
    with warnings.catch_warnings():
        # Without a device it warns that "no backend is installed"; the sentence below says more.
        warnings.simplefilter("ignore")
        import pyclesperanto as cle
    if not hasattr(cle, "list_available_devices"):
        raise ImportError("no OpenCL driver was found")
    return cle


def _system_drivers() -> bool:
    vendors = Path("/etc/OpenCL/vendors")
    return sys.platform != "linux" or any(vendors.glob("*.icd"))


def packaged_pocl() -> Path | None:
    """Return the driver of the package `pocl-binary-distribution`, if installed."""
    spec = importlib.util.find_spec("pocl_binary_distribution")
    if spec is None or spec.origin is None:
        return None
    site = Path(spec.origin).parent.parent
    return next(site.glob("pyopencl/.libs/libpocl-*.so"), None)


def opencl_devices() -> list[OpenClDevice]:
    """Return the OpenCL devices, GPUs first; empty without a driver or pyclesperanto."""
    try:
        cle = _cle()
        names = cle.list_available_devices()
    except (ImportError, RuntimeError):
        return []
    found = [_described(cle.select_device(index), index) for index in range(len(names))]
    return sorted(found, key=lambda device: not device.is_gpu)


def _described(device: Any, index: int) -> OpenClDevice:
    info = str(device.info)
    kind = re.search(r"Device Type:\s*(\w+)", info)
    memory = re.search(r"Global Memory Size:\s*(\d+) MB", info)
    return OpenClDevice(
        index=index,
        name=str(device.name),
        is_gpu=bool(kind and kind.group(1).upper() == "GPU"),
        memory_bytes=int(memory.group(1)) << 20 if memory else None,
    )


class OpenClEngine:
    """pyclesperanto on one OpenCL device; see `restoration.engine.Engine`.

    Parameters
    ----------
    index : int
        Which of `opencl_devices`, by its `index`.
    """

    name = "opencl"
    #: H^T M, the imaginary part of the transfer function, and what a transform works in.
    #: Measured on PoCL, whose device shares the memory of the host: 2.8 to 3.3.
    extra_volumes = 3.5

    def __init__(self, index: int = 0) -> None:
        self.handle = _cle().select_device(index)
        device = _described(self.handle, index)
        self.device = device.describe()
        self._partials = PARTIALS_OF_GPU if device.is_gpu else PARTIALS
        #: Whether its work items transform in memory that they share.
        self.has_groups = False
        if device.is_gpu:
            if self.device not in _GROUPED:
                _GROUPED[self.device] = groups_work(self)
            self.has_groups = _GROUPED[self.device]
        self._most_times = MOST_TIMES_ON_GPU if device.is_gpu else MOST_TIMES

    def create(self, shape: tuple[int, ...], values: Float | None = None) -> OpenClArray:
        """Return a new array on the device, holding `values` or nothing in particular."""
        if values is None:
            size = (math.prod(shape),)
            buffer = _cle().create(size, dtype=np.float32, device=self.handle)
        else:
            host = np.ascontiguousarray(values, np.float32).reshape(-1)
            buffer = _cle().push(host, device=self.handle)
        return OpenClArray(buffer, shape)

    def run(
        self,
        source: str,
        name: str,
        size: tuple[int, int, int],
        parameters: dict[str, Any],
        *,
        together: int | None = None,
    ) -> None:
        """Run a kernel over at least so many work items (z, y, x).

        There are more along x, as many as run together: the kernel has to leave those out.
        """
        if together is None:
            # Several times as many together where that takes no more of them.
            together = TOGETHER * math.gcd(-(-size[2] // TOGETHER), self._most_times)
        _cle().native_execute(
            kernel_source=source,
            kernel_name=name,
            global_size=(*size[:2], -(-size[2] // together) * together),
            local_size=(1, 1, together),
            parameters=parameters,
            device=self.handle,
        )

    def launch(self, source: str, name: str, shape: tuple[int, ...], **parameters: Any) -> None:
        """Run a kernel for each voxel; their number is its last parameter, `count`."""
        count = math.prod(shape)
        parameters["count"] = count
        self.run(source, name, (1, 1, count), parameters, together=TOGETHER * self._most_times)

    def push(self, array: Float, shape: tuple[int, ...]) -> OpenClArray:
        """Return a copy on the device, padded with zeros at the far end."""
        if array.shape != shape:
            return move(self, self.hold(array), self.create(shape))
        # One number need not be brought there voxel by voxel.
        is_flat = not any(array.strides)
        return filled(self, shape, float(array.flat[0])) if is_flat else self.create(shape, array)

    def hold(self, values: Values) -> OpenClArray:
        """Return the values on the device."""
        if isinstance(values, Repeating):
            return repeated(self, values)
        if isinstance(values, np.ndarray):
            return self.create(values.shape, values)
        host = np.empty(values.shape, np.float32)
        for where in blocks(values.shape, BLOCK):
            host[where] = values[where]
        return self.create(values.shape, host)

    def pull(self, array: OpenClArray, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new numpy array."""
        part = array if array.shape == shape else move(self, array, self.create(shape))
        values = np.asarray(_cle().pull(part.buffer), np.float32)
        # A buffer of a filter may be larger than what it holds.
        return values[: math.prod(shape)].reshape(shape)

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> OpenClFilter:
        """Return the filter with this transfer function."""
        *others, row = Layout(shape).grid
        half = transfer.reshape(*others, -1)[..., : row // 2 + 1]
        floats = np.ascontiguousarray(half, np.complex64).view(np.float32)
        return OpenClFilter(self, self.create(floats.shape, floats), shape, window or shape)

    def blur(
        self, psf: Float, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> OpenClFilter:
        """Return the blur by a PSF, whose transfer function is made on the device."""
        spectrum = half_spectrum(self, kernel_of(self, psf, shape))
        return OpenClFilter(self, spectrum, shape, window or shape)

    def evaluate(
        self, expression: str, /, *, out: OpenClArray | None = None, **operands: Any
    ) -> OpenClArray:
        """Return the element-wise expression, fused into one kernel."""
        shape = _shape_of(operands)
        result = self.create(shape) if out is None else out
        source = _fused(expression, _types(operands))
        self.launch(source, "fused", shape, out=result.buffer, **_arguments(operands))
        return result

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression.

        Each work item adds with Kahan's compensation in float32, which any device has; the
        partial sums are added in float64 on the host.
        """
        count, partial = math.prod(_shape_of(operands)), self.create((self._partials,))
        parameters = {"out": partial.buffer, **_arguments(operands), "count": count}
        source = _summed(expression, _types(operands), self._partials)
        self.run(source, "summed", (1, 1, self._partials), parameters)
        return float(self.pull(partial, partial.shape).sum(dtype=np.float64))

    def curvature(self, x: OpenClArray, spacing: tuple[float, ...], epsilon: float) -> OpenClArray:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2))."""
        result = self.create(x.shape)
        nz, ny, nx = in_3d(x.shape)
        a, b, c = (1.0,) * (3 - len(spacing)) + tuple(map(float, spacing))
        parameters = {
            "o": result.buffer, "x": x.buffer,
            "nz": nz, "ny": ny, "nx": nx,
            "a": a, "b": b, "c": c, "e": float(epsilon),
        }  # fmt: skip
        self.launch(_CURVATURE, "curvature", x.shape, **parameters)
        return result

    def side_by_side(self) -> list[OpenClEngine]:
        """Return this one alone: its device is busy with one image."""
        return [self]

    def release(self) -> None:
        """Nothing to do: buffers are freed with the arrays that hold them."""


def _shape_of(operands: dict[str, Any]) -> tuple[int, ...]:
    return next(v.shape for v in operands.values() if isinstance(v, OpenClArray))


def _types(operands: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    return tuple((name, isinstance(value, OpenClArray)) for name, value in operands.items())


def _arguments(operands: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.buffer if isinstance(value, OpenClArray) else float(value)
        for name, value in operands.items()
    }


def _declared(types: tuple[tuple[str, bool], ...]) -> str:
    """Return the kernel's parameter list."""
    operands = [
        f"__global const float* {name}" if is_array else f"float {name}" for name, is_array in types
    ]
    return ", ".join(["__global float* out", *operands, "int count"])


def _indexed(expression: str, types: tuple[tuple[str, bool], ...], element: str) -> str:
    """Return the expression with an element in place of each array, whose name is {0} in it."""
    arrays = "|".join(name for name, is_array in types if is_array)
    return re.sub(rf"\b({arrays})\b", element.format(r"\1"), expression)


@cache
def _fused(expression: str, types: tuple[tuple[str, bool], ...]) -> str:
    return f"""
__kernel void fused({_declared(types)}) {{
  const size_t i = get_global_id(0);
  if (i < (uint)count) out[i] = {_indexed(expression, types, "{0}[i]")};
}}"""


@cache
def _summed(expression: str, types: tuple[tuple[str, bool], ...], items: int) -> str:
    return f"""
__kernel void summed({_declared(types)}) {{
  const uint item = get_global_id(0), whole = (uint)count / {WIDE};
  float{WIDE} sum = 0.0f, lost = 0.0f;
  for (size_t i = item; i < whole; i += {items}) {{
    const float{WIDE} term = ({_indexed(expression, types, f"vload{WIDE}(i, {{0}})")}) - lost;
    const float{WIDE} next = sum + term;
    lost = (next - sum) - term;
    sum = next;
  }}
  float all[{WIDE}];
  vstore{WIDE}(sum, 0, all);
  for (int k = 1; k < {WIDE}; ++k) all[0] += all[k];
  const size_t i = (size_t)whole * {WIDE} + item;
  if (i < (uint)count) all[0] += {_indexed(expression, types, "{0}[i]")};
  out[item] = all[0];
}}"""
