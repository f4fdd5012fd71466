"""A region in place over its source, and places in the viewer as voxels of a stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Shapes
from napari.utils.transforms import Affine
from napari.viewer import Viewer

from napari_deconv.imaging.region import Region

from .layers import KEY, PREVIEW, QUICKLY, contrast_limits, to_stack


def point_of(layer: Image, axes: str, world: Any) -> tuple[float, ...]:
    """Return a place in the world as voxels, in the order of the stack's axes."""
    point = layer.world_to_data(tuple(world)[-layer.ndim :])
    return tuple(float(point[i]) for i in to_stack(axes))


def shown_point(viewer: Viewer, layer: Image, axes: str) -> tuple[float, ...]:
    """Return the voxel in the middle of what the viewer shows, in the order of the stack's axes."""
    world = list(viewer.dims.point)
    shown = viewer.dims.displayed
    for axis, place in zip(shown, viewer.scene.camera.center[-len(shown) :], strict=True):
        world[axis] = place
    return point_of(layer, axes, world)


def region_layer(
    source: Image, axes: str, data: npt.NDArray[np.float32], first: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Return data and attributes of a layer that shows a region in place over its source.

    `data` has the stack's spatial axes; `first` is its first voxel, with all axes of the stack.
    """
    order = to_stack(axes)
    back = np.argsort(order)
    whole = data.reshape((1,) * (len(axes) - data.ndim) + data.shape)
    offset = np.array(first, dtype=np.float64)[back]
    voxels = Affine(scale=source.scale, rotate=source.rotate, shear=source.shear)
    state = {
        "name": f"preview of {source.name}",
        "scale": source.scale,
        "rotate": source.rotate,
        "shear": source.shear,
        "translate": source.translate + voxels.linear_matrix @ offset,
        "affine": source.affine.affine_matrix,
        "units": source.units,
        "axis_labels": source.axis_labels,
        "colormap": source.colormap,
        "contrast_limits": contrast_limits(data, QUICKLY),
        "metadata": {KEY: {PREVIEW: True}},
    }
    return np.transpose(whole, back), state


def outline_state(source: Image, axes: str) -> dict[str, Any]:
    """Return the attributes of a layer that outlines a region: in y and x, for all planes."""
    plane = [axes.index("Y"), axes.index("X")]
    return {
        "name": "preview region",
        "shape_type": "rectangle",
        "face_color": "transparent",
        "edge_color": "#f0c808",
        "edge_width": max(source.data.shape[i] for i in plane) / 250,
        "scale": [source.scale[i] for i in plane],
        "translate": [source.translate[i] for i in plane],
        "units": [source.units[i] for i in plane],
        "axis_labels": [source.axis_labels[i] for i in plane],
        "metadata": {KEY: {PREVIEW: True}},
    }


def region_corners(region: Region) -> npt.NDArray[np.float64]:
    """Return the corners, (4, 2) in y and x, of the outer edges of a region's voxels."""
    (y, x), (rows, columns) = region.start[-2:], region.shape[-2:]
    low_y, low_x, high_y, high_x = y - 0.5, x - 0.5, y + rows - 0.5, x + columns - 0.5
    return np.array([(low_y, low_x), (low_y, high_x), (high_y, high_x), (high_y, low_x)])


def box_of(outline: Shapes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the least and the greatest (y, x) of the newest shape, in voxels from 0 on."""
    corners = np.asarray(outline.data[-1], dtype=np.float64)[:, -2:] + 0.5
    return corners.min(axis=0), corners.max(axis=0)
