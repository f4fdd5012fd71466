"""napari layers and stacks: alone knows `layer.scale`, `layer.units` and `layer.metadata`.

A layer keeps its own axes order; a `Stack` has that of TCZYX. `axes_of` guesses which axis
is which (the dock shows it and lets the user correct it), `stack_of_layer` reorders without
copying, and `result_layer` goes back, so that a result lies exactly on its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Layer
from napari.utils.transforms import Affine
from napari.viewer import Viewer

from napari_deconv.files.metadata import seconds
from napari_deconv.imaging.grid import MICROMETRES, Grid
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import AXES, KnownOptics, Stack
from napari_deconv.imaging.value import InputError, require
from napari_deconv.pipeline import Restored

from .file_facts import for_file, look_of, place_of

#: Key of our own entry in a layer's metadata.
KEY = "napari_deconv"
#: Marks in that entry of layers that are no images of a sample: previews and PSFs.
PREVIEW, COMPUTED, MEASURED = MADE = ("preview", "psf", "measured_psf")
#: Voxels that the contrast of what changes all the time is taken from.
QUICKLY = 100_000
#: Attributes of a layer that a stack is made of.
_OF_A_STACK = ("scale", "translate", "units", "axis_labels", "colormap")
LayerTuple = tuple[Any, dict[str, Any], str]


def axes_choices(ndim: int) -> list[str]:
    """Return the axes orders that an image of `ndim` dimensions may have, likely ones first."""
    leading = {2: [""], 3: ["Z", "T", "C"], 4: ["TZ", "CZ", "ZC", "TC", "ZT"]}.get(ndim)
    if leading is None:
        leading = ["".join(order) for order in permutations("TCZ")] if ndim == 5 else []
    return [axes + "YX" for axes in leading]


def axes_of(layer: Image) -> str:
    """Return the axes of a layer, one letter each: by its labels, else the likeliest."""
    choices = axes_choices(layer.ndim)
    _require_few_axes(layer)
    labels = "".join(str(label)[:1].upper() for label in layer.axis_labels)
    if labels in choices:
        return labels
    time_first = layer.ndim == 3 and _unit(layer.units[0]) in ("second", "millisecond", "minute")
    return "TYX" if time_first else choices[0]


def _require_few_axes(layer: Image) -> None:
    require(
        bool(axes_choices(layer.ndim)),
        f"The layer {layer.name!r} has {layer.ndim} axes; up to 5 are restored",
    )


def grid_of(layer: Image, axes: str) -> Grid | None:
    """Return the voxel size of a layer's spatial axes; None where a unit is `pixel`."""
    spatial = [axes.index(axis) for axis in AXES if axis in axes and axis in "ZYX"]
    units = [_unit(layer.units[i]) for i in spatial]
    if any(unit not in MICROMETRES for unit in units):
        return None
    return Grid.from_units([abs(float(layer.scale[i])) for i in spatial], units)


def _unit(unit: Any) -> str:
    return str(unit)


def stack_of_layer(layer: Image, axes: str, grid: Grid | None) -> Stack:
    """Return the stack in a layer, without copying; `axes` and `grid` as the user sees them.

    Raises
    ------
    InputError
        If the layer is in colour or has more axes than a stack.
    """
    require(
        not layer.rgb,
        f"The layer {layer.name!r} is in colour; split it into channels "
        "(right click > Split RGB) and restore each",
    )
    _require_few_axes(layer)
    data = layer.data[0] if layer.multiscale else layer.data
    require(
        data.ndim == len(axes),
        f"The layer {layer.name!r} has {data.ndim} axes, not the {len(axes)} of {axes}",
    )
    known = known_optics(layer)
    is_one = "C" not in axes or data.shape[axes.index("C")] == 1
    stack = Stack(
        np.transpose(data, to_stack(axes)),
        "".join(axis for axis in AXES if axis in axes),
        grid,
        layer.name,
        channel_optics=(known,) if known and is_one else (),
        channel_colours=(_colour(layer),) if _colour(layer) and is_one else (),
    )
    return replace(stack, time_step_s=_time_step_s(layer, axes), **_told_by_file(layer, axes))


def _time_step_s(layer: Image, axes: str) -> float | None:
    """Return the seconds between two times; None where the unit is none of time."""
    if "T" not in axes:
        return None
    place = axes.index("T")
    return seconds(float(layer.scale[place]), _unit(layer.units[place]))


def _colour(layer: Image) -> str:
    """Return the colour of a layer as "RRGGBB" where it goes from black to one; else nothing."""
    colours = np.asarray(layer.colormap.colors)[:, :3]
    if len(colours) != 2 or colours[0].any():
        return ""
    return "".join(f"{round(255 * float(part)):02X}" for part in colours[1])


def _told_by_file(layer: Image, axes: str) -> dict[str, Any]:
    """Return position, date and remarks of a stack in a layer; the layer's own place goes first."""
    entry = layer.metadata.get(KEY, {}).get("file", {})
    spatial = [axes.index(axis) for axis in AXES if axis in axes and axis in "ZYX"]
    places = {axes[i]: (float(layer.translate[i]), _unit(layer.units[i])) for i in spatial}
    moved = any(place for place, _ in places.values())
    known = all(unit in MICROMETRES for _, unit in places.values())
    return {
        "position": places if moved and known else dict(entry.get("position", {})),
        "acquired": entry.get("acquired", ""),
        "remarks": tuple(entry.get("remarks", ())),
    }


def to_stack(axes: str) -> list[int]:
    """Return the permutation that brings `axes` into the order of TCZYX."""
    return [axes.index(axis) for axis in AXES if axis in axes]


def known_optics(layer: Image) -> KnownOptics | None:
    """Return what the layer's file said of its optics, if it was read by this plugin."""
    entry = layer.metadata.get(KEY, {}).get("optics")
    try:
        return KnownOptics.from_dict(entry) if entry else None
    except InputError:
        return None


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a result lies: taken from its source layer when the run starts."""

    axes: str
    layer: dict[str, Any]

    @classmethod
    def of(cls, layer: Image, axes: str) -> Placement:
        """Return the placement of a layer, its transforms and looks."""
        names = ("scale", "translate", "rotate", "shear", "units", "axis_labels", "colormap")
        kept = {name: getattr(layer, name) for name in names}
        # Copies: the source may be changed while the run goes on.
        kept = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in kept.items()}
        kept["affine"] = layer.affine.affine_matrix.copy()
        kept["metadata"] = {k: v for k, v in layer.metadata.items() if k != KEY}
        kept["name"] = f"{layer.name} restored"
        return cls(axes, kept)

    def selected(self, channels: tuple[int, ...], times: tuple[int, ...]) -> Placement:
        """Return the placement of these channels and times alone, counted from 0; empty: all.

        Those that are not evenly spaced lie one after the other, from the first one on.
        """
        first, step = [0.0] * len(self.axes), [1.0] * len(self.axes)
        for axis, chosen in (("C", channels), ("T", times)):
            if axis in self.axes and chosen:
                gaps = set(np.diff(chosen).tolist())
                first[self.axes.index(axis)] = chosen[0]
                step[self.axes.index(axis)] = gaps.pop() if len(gaps) == 1 else 1
        return self._resampled(first, step)

    def coarser(self, factors: tuple[int, ...]) -> Placement:
        """Return the placement of an image with one voxel for `factors` of them, stack's axes."""
        back = np.argsort(to_stack(self.axes))
        step = np.array(factors, dtype=np.float64)[back]
        return self._resampled((step - 1) / 2, step)

    def _resampled(self, first: Any, step: Any) -> Placement:
        """Return the placement of voxels at `first`, `first` + `step`, ... of these."""
        old = self.layer
        voxels = Affine(scale=old["scale"], rotate=old["rotate"], shear=old["shear"])
        moved = {
            "translate": old["translate"] + voxels.linear_matrix @ np.asarray(first),
            "scale": old["scale"] * np.asarray(step),
        }
        return replace(self, layer=old | moved)


def result_layer(restored: Restored, placement: Placement) -> LayerTuple:
    """Return the layer of a result: data in the source's axes order, scale, units, recipe."""
    data = restored.stack.data
    state = _result_state(restored, placement) | {"contrast_limits": contrast_limits(data)}
    return _in_layer(data, placement.axes), state, "image"


def pyramid_layer(
    restored: Restored, levels: tuple[Stack, ...], placement: Placement
) -> LayerTuple:
    """Return the layer of a result in a file, at the resolution that the view needs.

    `levels` are those of `read_pyramid`, which leaves out axes of length one.
    """
    axes = restored.stack.axes
    whole = [
        level.data.reshape([_size(level, axis) if axis in level.axes else 1 for axis in axes])
        for level in levels
    ]
    state = _result_state(restored, placement)
    state["contrast_limits"] = contrast_limits(_thinned(whole[-1]))
    if len(whole) == 1:
        return _in_layer(whole[0], placement.axes), state, "image"
    return (
        [_in_layer(data, placement.axes) for data in whole],
        {**state, "multiscale": True},
        "image",
    )


def _size(stack: Stack, axis: str) -> int:
    return stack.shape[stack.axes.index(axis)]


def _thinned(data: Any, voxels: int = 1_000_000) -> npt.NDArray[np.float32]:
    """Return about `voxels` of an image that may lie on disk: evenly chosen planes of it."""
    planes = math.prod(data.shape[:-2])
    step = max(math.ceil(planes * math.prod(data.shape[-2:]) / voxels), 1)
    chosen = [np.unravel_index(i, data.shape[:-2]) for i in range(0, planes, step)]
    return np.stack([np.asarray(data[tuple(int(i) for i in index)]) for index in chosen])


def filling_layer(
    array: npt.NDArray[np.float32], placement: Placement, factors: tuple[int, ...]
) -> LayerTuple:
    """Return the layer of a result that is being made, one voxel for `factors` of its own.

    `array` and `factors` have the stack's axes; the layer shows `array` itself, no copy.
    """
    return _in_layer(array, placement.axes), dict(placement.coarser(factors).layer), "image"


def _in_layer(data: Any, axes: str) -> Any:
    """Return data in the stack's order of axes in that of a layer."""
    return np.transpose(data, np.argsort(to_stack(axes)))


def _result_state(restored: Restored, placement: Placement) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "recipe": restored.recipe.to_dict(),
        "record": restored.record.to_dict(),
    }
    if len(restored.stack.channel_optics) == 1:
        entry["optics"] = restored.stack.channel_optics[0].to_dict()
    entry |= for_file(restored.stack)
    state = dict(placement.layer)
    state["metadata"] = {**state["metadata"], KEY: entry}
    return state


def contrast_limits(
    data: npt.NDArray[np.float32], looked_at: int = 1_000_000
) -> tuple[float, float]:
    """Return limits that show the structure: 0 (or the 1st percentile) to the 99.9th.

    They are taken from about `looked_at` of the voxels.
    """
    step = max(data.size // looked_at, 1)
    sample = data.reshape(-1)[::step]
    low, high = np.percentile(sample, (1, 99.9))
    high = high if high > low else float(sample.max())
    return (float(min(low, 0.0)), float(high) if high > low else float(low) + 1.0)


def axes_like(layer: Image, header: Stack) -> str | None:
    """Return the axes order in which a layer's shape is that of its file, None if there is none.

    A reader that knows no axes keeps the order of the file, as T, Z, C, Y, X.
    """
    for axes in axes_choices(layer.ndim):
        if sorted(axes) == sorted(header.axes):
            shape = tuple(layer.data.shape[axes.index(axis)] for axis in header.axes)
            if shape == header.shape:
                return axes
    return None


def psf_stack(layer: Image) -> Stack:
    """Return the image of a PSF in a layer.

    Raises
    ------
    InputError
        If it has other axes than z, y and x.
    """
    axes = axes_of(layer)
    require(
        axes in ("ZYX", "YX"),
        f"The PSF layer {layer.name!r} has the axes {axes}; give one with z, y and x alone",
    )
    return stack_of_layer(layer, axes, grid_of(layer, axes))


def layers_of_stack(stack: Stack, *, placed: bool = False, **looks: Any) -> list[LayerTuple]:
    """Return the layers that show a stack: one a channel, with scale, units and colour.

    With `placed` they lie at the position of the stage, where it is known in a length.
    """
    layers = []
    for channel in range(stack.channel_count()):
        axes = stack.axes.replace("C", "")
        data = np.take(stack.data, channel, stack.axes.index("C")) if "C" in stack.axes else None
        state: dict[str, Any] = {"name": _layer_name(stack, channel), "metadata": {}, **looks}
        if stack.grid is not None:
            state |= _scale(replace(stack, channel_names=()), axes)
        if stack.grid is not None and placed:
            state |= place_of(stack, axes)
        state["axis_labels"] = tuple(axes.lower())
        state |= look_of(stack, channel) | looks
        entry = for_file(stack)
        if channel < len(stack.channel_optics):
            entry["optics"] = stack.channel_optics[channel].to_dict()
        if entry:
            state["metadata"] = {KEY: entry}
        layers.append((stack.data if data is None else data, state, "image"))
    return layers


def _layer_name(stack: Stack, channel: int) -> str:
    if stack.channel_count() == 1:
        return stack.name or "image"
    names = stack.channel_names
    label = names[channel] if channel < len(names) else f"channel {channel + 1}"
    return f"{stack.name} {label}".strip()


def _scale(stack: Stack, axes: str) -> dict[str, Any]:
    spacing = stack.grid.spacing_um if stack.grid else ()
    time_step = (stack.time_step_s or 1.0,) if "T" in axes else ()
    time_unit = ("s" if stack.time_step_s else "pixel",) if "T" in axes else ()
    return {"scale": (*time_step, *spacing), "units": (*time_unit, *("um",) * len(spacing))}


def stack_of_state(data: Any, state: dict[str, Any]) -> Stack:
    """Return the stack of a layer given as data and attributes, as napari hands to writers."""
    kept = {
        name: state[name]
        for name in (*_OF_A_STACK, "name", "metadata", "rgb")
        if state.get(name) is not None
    }
    layer = Image(data, **kept)
    axes = axes_of(layer)
    return stack_of_layer(layer, axes, grid_of(layer, axes))


def centred_at(psf: Psf) -> dict[str, Any]:
    """Return the transforms of a layer with the centre of a PSF at the world's origin."""
    spacing = psf.spacing_um or (1.0,) * psf.samples.ndim
    return {
        "scale": spacing,
        "translate": [-(n // 2) * step for n, step in zip(psf.shape, spacing, strict=True)],
        "units": ("um",) * len(spacing),
        "axis_labels": tuple("zyx"[-len(spacing) :]),
    }


def newest_first(viewer: Viewer) -> list[Layer]:
    """Return the layers as they are offered: the newest lies on top, and what is hidden last."""
    newest = list(viewer.layers)[::-1]
    return sorted(newest, key=lambda layer: not layer.visible)


def is_preview(layer: object) -> bool:
    """Return whether a layer shows a preview, or its outline."""
    return bool(getattr(layer, "metadata", {}).get(KEY, {}).get(PREVIEW))


def may_be_restored(layer: object) -> bool:
    """Return whether a layer is an image, and none that the docks made beside images."""
    entry = getattr(layer, "metadata", {}).get(KEY, {})
    return isinstance(layer, Image) and not any(mark in entry for mark in MADE)
