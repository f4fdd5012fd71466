"""Values of volumes on an OpenCL device: made there, put there, and brought into other places.

What can be made on the device is not brought to it, which takes longer than the transforms do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_deconv.restoration.blur import placements
from napari_deconv.restoration.pieces import Float, Repeating, Where

if TYPE_CHECKING:
    from .opencl_engine import OpenClEngine

# Where a work item stands in a volume of (.., ny, nx) voxels.
_PLACE = """
  const size_t i = get_global_id(0);
  if (i >= (uint)count) return;
  const int k = i % nx, y = i / nx % ny, z = i / nx / ny;
"""
# What x, of (nz, ny, nx) values `from` floats apart, has in each place of o; else 0.
_MOVE = """
__kernel void moved(__global float* o, __global const float* x, int nz, int ny, int nx, int from,
                    int oy, int ox, int to, int count) {
  const size_t i = get_global_id(0);
  if (i >= (uint)count) return;
  const int k = i % ox, y = i / ox % oy, z = i / ox / oy;
  const size_t at = ((size_t)z * ny + y) * nx + k;
  o[i * to] = z < nz && y < ny && k < nx ? x[at * from] : 0.0f;
  if (to == 2) o[i * 2 + 1] = 0.0f;
}
"""
_FILL = """
__kernel void filled(__global float* o, float value, int count) {
  const size_t i = get_global_id(0);
  if (i < (uint)count) o[i] = value;
}
"""
# Indices come as floats, which hold all that there are, as any buffer here does.
_REPEAT = f"""
__kernel void repeated(__global float* o, __global const float* x, __global const float* at_z,
                       __global const float* at_y, __global const float* at_x,
                       int my, int mx, int ny, int nx, int count) {{{_PLACE}
  o[i] = x[((size_t)at_z[z] * my + (int)at_y[y]) * mx + (int)at_x[k]];
}}
"""
# A box of (.., ny, nx) voxels of x, from `b` on, added to one of o, from `a` on.
_ADD = f"""
__kernel void added(__global float* o, __global const float* x, int oy, int ox, int my, int mx,
                    int az, int ay, int ax, int bz, int by, int bx,
                    int ny, int nx, int count) {{{_PLACE}
  o[((size_t)(z + az) * oy + y + ay) * ox + k + ax]
    += x[((size_t)(z + bz) * my + y + by) * mx + k + bx];
}}
"""


@dataclass(frozen=True)
class OpenClArray:
    """The values of a volume of this shape, the first in a buffer on the device."""

    buffer: Any
    shape: tuple[int, ...]


def in_3d(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape with axes of length 1 before it."""
    return (1,) * (3 - len(shape)) + shape


def move(
    engine: OpenClEngine,
    array: OpenClArray,
    to: OpenClArray,
    *,
    from_complex: bool = False,
    to_complex: bool = False,
) -> OpenClArray:
    """Return `to`, holding the values of `array`, cropped or with zeros at the far end.

    Of complex values, the real parts.
    """
    nz, ny, nx = in_3d(array.shape)
    _, oy, ox = in_3d(to.shape)
    parameters = {
        "o": to.buffer, "x": array.buffer,
        "nz": nz, "ny": ny, "nx": nx, "from": 1 + from_complex,
        "oy": oy, "ox": ox, "to": 1 + to_complex,
    }  # fmt: skip
    engine.launch(_MOVE, "moved", to.shape, **parameters)
    return to


def filled(engine: OpenClEngine, shape: tuple[int, ...], value: float) -> OpenClArray:
    """Return a new array that holds one number."""
    result = engine.create(shape)
    engine.launch(_FILL, "filled", shape, o=result.buffer, value=value)
    return result


def repeated(engine: OpenClEngine, values: Repeating) -> OpenClArray:
    """Return values of which only the different ones are brought to the device."""
    result, different = engine.create(values.shape), values.different
    _, my, mx = in_3d(different.shape)
    _, ny, nx = in_3d(values.shape)
    places = [np.zeros(1)] * (3 - len(values.shape)) + list(values.places)
    at_z, at_y, at_x = (engine.create(p.shape, p.astype(np.float32)).buffer for p in places)
    parameters = {
        "o": result.buffer, "x": engine.create(different.shape, different).buffer,
        "at_z": at_z, "at_y": at_y, "at_x": at_x,
        "my": my, "mx": mx, "ny": ny, "nx": nx,
    }  # fmt: skip
    engine.launch(_REPEAT, "repeated", values.shape, **parameters)
    return result


def kernel_of(engine: OpenClEngine, psf: Float, shape: tuple[int, ...]) -> OpenClArray:
    """Return a PSF on a grid, its centre n//2 at the first voxel, wrapped around the ends."""
    result, samples = filled(engine, shape, 0.0), engine.create(psf.shape, psf)
    _, oy, ox = in_3d(shape)
    _, my, mx = in_3d(psf.shape)
    for source, target in placements(psf.shape, shape):
        (az, ay, ax), (bz, by, bx) = _first(target), _first(source)
        box = in_3d(tuple(part.stop - part.start for part in source))
        parameters = {
            "o": result.buffer, "x": samples.buffer, "oy": oy, "ox": ox, "my": my, "mx": mx,
            "az": az, "ay": ay, "ax": ax, "bz": bz, "by": by, "bx": bx,
            "ny": box[1], "nx": box[2],
        }  # fmt: skip
        if math.prod(box):
            engine.launch(_ADD, "added", box, **parameters)
    return result


def _first(where: Where) -> tuple[int, ...]:
    return (0,) * (3 - len(where)) + tuple(part.start for part in where)
