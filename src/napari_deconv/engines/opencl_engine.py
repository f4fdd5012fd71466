"""Engine on OpenCL through pyclesperanto: the only file that imports it.

Only `fft`, `ifft` and own kernels are used: `cle.fft.convolve` and `cle.fft.deconvolve`
displace the image by a voxel for some shapes, and end the process on integer input.
"""

from __future__ import annotations

import importlib.util
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
from napari_deconv.restoration.pieces import blocks

#: Work items of a sum; each adds up every PARTIALS-th voxel.
PARTIALS = 4096
#: Voxels brought to the device at a time.
BLOCK = 1 << 22

_MULTIPLY = """
__kernel void multiply(IMAGE_z_TYPE z, IMAGE_h_TYPE h, float sign) {
  const size_t i = 2 * get_global_id(0);
  const float a = z[i], b = z[i + 1], c = h[i], d = sign * h[i + 1];
  z[i] = a * c - b * d;
  z[i + 1] = a * d + b * c;
}
"""

# What x, of (nz, ny, nx) voxels, has in each place of o, with planes of oy rows of ox; else 0.
_RESIZE = """
__kernel void resize(IMAGE_o_TYPE o, IMAGE_x_TYPE x, int nz, int ny, int nx, int oy, int ox) {
  const size_t i = get_global_id(0);
  const int k = i % ox, y = (i / ox) % oy, z = i / ((size_t)ox * oy);
  o[i] = z < nz && y < ny && k < nx ? x[((size_t)z * ny + y) * nx + k] : 0.0f;
}
"""

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
__kernel void curvature(IMAGE_o_TYPE o, IMAGE_x_TYPE x, int nz, int ny, int nx,
                        float a, float b, float c, float e) {
  const size_t i = get_global_id(0);
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


@dataclass(frozen=True)
class OpenClArray:
    """A buffer on the device and the shape it stands for.

    The buffer itself has no axes of length 1: the transform is wrong along those.
    """

    buffer: Any
    shape: tuple[int, ...]


class OpenClFilter:
    """A circular filter by real transforms; see `restoration.engine.Filter`."""

    def __init__(
        self,
        engine: OpenClEngine,
        transfer: Complex,
        shape: tuple[int, ...],
        window: tuple[int, ...],
    ) -> None:
        self._engine, self._shape, self._window = engine, shape, window
        flat = np.ascontiguousarray(transfer, np.complex64).view(np.float32)
        self._transfer = engine.create(flat.shape, flat)

    def forward(self, x: OpenClArray) -> OpenClArray:
        """Return the filtered `x` in the window."""
        return self._engine.resized(self._back(self._spectrum(x, 1.0)), self._window)

    def adjoint(self, x: OpenClArray) -> OpenClArray:
        """Return `x`, zero beyond the window, filtered with the conjugate transfer function."""
        return self._back(self._spectrum(self._engine.resized(x, self._shape), -1.0))

    def _spectrum(self, x: OpenClArray, sign: float) -> Any:
        spectrum = _cle().fft.fft(x.buffer, device=self._engine.handle)
        parameters = {"z": spectrum, "h": self._transfer.buffer, "sign": sign}
        self._engine.launch(_MULTIPLY, "multiply", int(np.prod(spectrum.shape)) // 2, parameters)
        return spectrum

    def _back(self, spectrum: Any) -> OpenClArray:
        result = self._engine.create(self._shape)
        _cle().fft.ifft(spectrum, result.buffer, device=self._engine.handle)
        return result


class OpenClEngine:
    """pyclesperanto on one OpenCL device; see `restoration.engine.Engine`.

    Parameters
    ----------
    index : int
        Which of `opencl_devices`, by its `index`.
    """

    name = "opencl"
    #: H^T M, and what a transform holds: its result, the spectrum, and its own memory.
    #: Measured on PoCL, whose device shares the memory of the host: 3 to 6.
    extra_volumes = 6.0

    def __init__(self, index: int = 0) -> None:
        self.handle = _cle().select_device(index)
        self.device = _described(self.handle, index).describe()

    def create(self, shape: tuple[int, ...], values: Float | None = None) -> OpenClArray:
        """Return a new array on the device, holding `values` or nothing in particular."""
        compact = tuple(n for n in shape if n > 1) or (1,)
        if values is None:
            buffer = _cle().create(compact, dtype=np.float32, device=self.handle)
        else:
            host = np.ascontiguousarray(values, np.float32).reshape(compact)
            buffer = _cle().push(host, device=self.handle)
        return OpenClArray(buffer, shape)

    def launch(self, source: str, name: str, size: int, parameters: dict[str, Any]) -> None:
        """Run a kernel over `size` work items."""
        _cle().execute(
            kernel_source=source,
            kernel_name=name,
            global_size=(1, 1, size),
            parameters=parameters,
            device=self.handle,
        )

    def push(self, array: Float, shape: tuple[int, ...]) -> OpenClArray:
        """Return a copy on the device, padded with zeros at the far end."""
        padded = np.zeros(shape, np.float32)
        padded[tuple(slice(n) for n in array.shape)] = array
        return self.create(shape, padded)

    def hold(self, values: Values) -> OpenClArray:
        """Return the values on the device."""
        host = np.empty(values.shape, np.float32)
        for where in blocks(values.shape, BLOCK):
            host[where] = values[where]
        return self.create(values.shape, host)

    def resized(self, array: OpenClArray, shape: tuple[int, ...]) -> OpenClArray:
        """Return the array cropped, or padded with zeros, at the far end; itself if it fits."""
        if array.shape == shape:
            return array
        result = self.create(shape)
        nz, ny, nx = _in_3d(array.shape)
        _, oy, ox = _in_3d(shape)
        parameters = {
            "o": result.buffer, "x": array.buffer,
            "nz": nz, "ny": ny, "nx": nx, "oy": oy, "ox": ox,
        }  # fmt: skip
        self.launch(_RESIZE, "resize", int(np.prod(shape)), parameters)
        return result

    def pull(self, array: OpenClArray, shape: tuple[int, ...]) -> Float:
        """Return the first `shape` voxels as a new numpy array."""
        whole = np.asarray(_cle().pull(array.buffer), np.float32).reshape(array.shape)
        return whole[tuple(slice(n) for n in shape)].copy()

    def filter(
        self, transfer: Complex, shape: tuple[int, ...], window: tuple[int, ...] | None = None
    ) -> OpenClFilter:
        """Return the filter with this transfer function."""
        return OpenClFilter(self, transfer, shape, window or shape)

    def evaluate(
        self, expression: str, /, *, out: OpenClArray | None = None, **operands: Any
    ) -> OpenClArray:
        """Return the element-wise expression, fused into one kernel."""
        shape = _shape_of(operands)
        result = self.create(shape) if out is None else out
        source = _fused(expression, _types(operands))
        parameters = {"out": result.buffer, **_arguments(operands)}
        self.launch(source, "fused", int(np.prod(shape)), parameters)
        return result

    def total(self, expression: str, /, **operands: Any) -> float:
        """Return the sum of the element-wise expression.

        Each work item adds with Kahan's compensation in float32, which any device has; the
        partial sums are added in float64 on the host.
        """
        partial = self.create((PARTIALS,))
        parameters = {"out": partial.buffer, **_arguments(operands)}
        # The size is an argument, not part of the source, so that a new shape compiles nothing.
        parameters["count"] = int(np.prod(_shape_of(operands)))
        self.launch(_summed(expression, _types(operands)), "summed", PARTIALS, parameters)
        return float(self.pull(partial, (PARTIALS,)).sum(dtype=np.float64))

    def curvature(self, x: OpenClArray, spacing: tuple[float, ...], epsilon: float) -> OpenClArray:
        """Return div(grad x / sqrt(|grad x|^2 + epsilon^2))."""
        result = self.create(x.shape)
        nz, ny, nx = _in_3d(x.shape)
        a, b, c = (1.0,) * (3 - len(spacing)) + tuple(map(float, spacing))
        parameters = {
            "o": result.buffer, "x": x.buffer,
            "nz": nz, "ny": ny, "nx": nx,
            "a": a, "b": b, "c": c, "e": float(epsilon),
        }  # fmt: skip
        self.launch(_CURVATURE, "curvature", int(np.prod(x.shape)), parameters)
        return result

    def release(self) -> None:
        """Nothing to do: buffers are freed with the arrays that hold them."""


def _in_3d(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (3 - len(shape)) + shape


def _shape_of(operands: dict[str, Any]) -> tuple[int, ...]:
    return next(v.shape for v in operands.values() if isinstance(v, OpenClArray))


def _types(operands: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    return tuple((name, isinstance(value, OpenClArray)) for name, value in operands.items())


def _arguments(operands: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.buffer if isinstance(value, OpenClArray) else float(value)
        for name, value in operands.items()
    }


def _parts(expression: str, types: tuple[tuple[str, bool], ...]) -> tuple[str, str]:
    """Return the kernel's parameter list and the expression with arrays indexed by i."""
    declared = [f"IMAGE_{n}_TYPE {n}" if is_array else f"float {n}" for n, is_array in types]
    arrays = [name for name, is_array in types if is_array]
    indexed = re.sub(rf"\b({'|'.join(arrays)})\b", r"\1[i]", expression)
    return ", ".join(["IMAGE_out_TYPE out", *declared]), indexed


@cache
def _fused(expression: str, types: tuple[tuple[str, bool], ...]) -> str:
    parameters, indexed = _parts(expression, types)
    return (
        f"__kernel void fused({parameters}) {{"
        f" const size_t i = get_global_id(0); out[i] = {indexed}; }}"
    )


@cache
def _summed(expression: str, types: tuple[tuple[str, bool], ...]) -> str:
    parameters, indexed = _parts(expression, types)
    return (
        f"__kernel void summed({parameters}, int count) {{ float sum = 0.0f, lost = 0.0f;"
        f" for (size_t i = get_global_id(0); i < (uint)count; i += {PARTIALS}) {{"
        f" const float term = ({indexed}) - lost; const float next = sum + term;"
        " lost = (next - sum) - term; sum = next; }"
        " out[get_global_id(0)] = sum; }"
    )
