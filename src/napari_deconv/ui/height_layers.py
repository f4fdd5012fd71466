"""napari layers and height maps: what `layers` is for stacks, for the heights of a microscope."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels

from napari_deconv.afm.height_map import HeightMap, heights_in_nm, pixel_of
from napari_deconv.imaging.grid import MICROMETRES
from napari_deconv.imaging.value import InputError, require

from .layers import KEY, LayerTuple

#: Mark of a tip in our own entry of a layer's metadata, beside those of `layers`.
TIP = "tip"
#: Mark of what the dock made of heights: not offered as an image of the microscope.
MADE = "afm"
#: What heights are shown in.
COLORMAP = "copper"


def may_be_heights(layer: object) -> bool:
    """Return whether a layer is an image that may hold heights, and none of ours but surfaces."""
    entry = getattr(layer, "metadata", {}).get(KEY, {})
    return isinstance(layer, Image) and TIP not in entry and entry.get(MADE) in (None, "surface")


def is_tip(layer: object) -> bool:
    """Return whether a layer holds a tip."""
    return isinstance(layer, Image) and TIP in layer.metadata.get(KEY, {})


def pixel_nm_of(layer: Image) -> tuple[float, float] | None:
    """Return the pixel size of a layer in nm, (y, x): of its units, or of `px2nm`; else None."""
    units = [str(unit) for unit in layer.units[-2:]]
    if all(unit in MICROMETRES for unit in units):
        y, x = (
            abs(float(step)) * MICROMETRES[unit] * 1e3
            for step, unit in zip(layer.scale[-2:], units, strict=True)
        )
        return float(f"{y:.12g}"), float(f"{x:.12g}")
    return pixel_of(layer.metadata)


def z_unit_of(layer: Image) -> str | None:
    """Return the unit of a layer's heights: `z_unit` of its metadata; None where nothing tells."""
    told = layer.metadata.get("z_unit")
    return str(told) if told is not None else None


def heights_of_layer(layer: Image, unit: str, pixel_nm: tuple[float, float]) -> HeightMap:
    """Return the heights in a layer, in nm.

    Raises
    ------
    InputError
        If the layer is in colours or its values are no heights in this unit.
    """
    require(
        not layer.rgb,
        f"The layer {layer.name!r} is a picture in colours, not heights: open the microscope's "
        "own file",
    )
    data = layer.data[0] if layer.multiscale else layer.data
    require(
        data.ndim in (2, 3),
        f"The layer {layer.name!r} has {data.ndim} axes; heights have y and x, a movie time before",
    )
    frame_s = None
    if data.ndim == 3 and str(layer.units[0]) in ("second", "s"):
        frame_s = float(layer.scale[0])
    heights = heights_in_nm(np.asarray(data), unit)
    return HeightMap(heights, pixel_nm, layer.name, frame_s=frame_s)


def layers_of_heights(heights: HeightMap, **looks: Any) -> LayerTuple:
    """Return the layer that shows heights: nm in its data, its scale and its metadata."""
    scale, units = list(heights.pixel_nm), ["nm", "nm"]
    if heights.is_movie:
        scale.insert(0, heights.frame_s or 1.0)
        units.insert(0, "s" if heights.frame_s else "pixel")
    label = f"{heights.name} {heights.channel}".strip() or "heights"
    state = {
        "name": label,
        "scale": scale,
        "units": tuple(units),
        "axis_labels": tuple("tyx"[-len(scale) :]),
        "metadata": {"z_unit": "nm"},
        "colormap": COLORMAP,
        "contrast_limits": height_limits(heights.heights_nm),
        **looks,
    }
    return heights.heights_nm, state, "image"


def place_of(source: Image, ndim: int) -> dict[str, Any]:
    """Return where the last axes of a layer lie, and what they are called."""
    count = ndim * (ndim - 1) // 2  # of the shears of these axes
    return {
        "scale": source.scale[-ndim:],
        "translate": source.translate[-ndim:],
        "rotate": source.rotate[-ndim:, -ndim:],
        "shear": source.shear[len(source.shear) - count :],
        "affine": source.affine.affine_matrix[-ndim - 1 :, -ndim - 1 :],
        "units": source.units[-ndim:],
        "axis_labels": source.axis_labels[-ndim:],
    }


def result_layers(
    source: Image, name: str, results: dict[str, npt.NDArray[Any]], entry: dict[str, Any]
) -> list[Image | Labels]:
    """Return layers of what was made of heights, each on its source.

    Parameters
    ----------
    source : Image
        Where the heights came from.
    name : str
        Of the source, or what it shall be called.
    results : dict of str to ndarray
        By what they are; integers become labels.
    entry : dict
        What is kept with each: the recipe.
    """
    made: list[Image | Labels] = []
    for what, values in results.items():
        state: dict[str, Any] = {
            "name": f"{name} {what}",
            **place_of(source, source.ndim),
            "metadata": {"z_unit": "nm", KEY: {**entry, MADE: what}},
        }
        if values.dtype.kind in "iu":
            made.append(Labels(values, **state, opacity=0.4, visible=False))
        else:
            looks: dict[str, Any] = {
                "colormap": COLORMAP if what in ("surface", "prepared") else "gray"
            }
            looks["visible"] = what == "surface"
            made.append(Image(values, **state, **looks, contrast_limits=height_limits(values)))
    return made


def height_limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return limits that show almost all heights."""
    low, high = np.percentile(values, (0.2, 99.8))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def tip_layer(
    heights_nm: npt.NDArray[np.float64],
    pixel_nm: tuple[float, float],
    name: str,
    how: dict[str, Any] | None = None,
) -> Image:
    """Return a layer of a tip, and how it was estimated; where there is none it is deep."""
    there = np.isfinite(heights_nm)
    shown = np.where(there, heights_nm, heights_nm[there].min())
    return Image(
        shown,
        name=name,
        scale=pixel_nm,
        units=("nm", "nm"),
        axis_labels=("y", "x"),
        colormap=COLORMAP,
        metadata={"z_unit": "nm", KEY: {TIP: heights_nm, "recipe": how}},
    )


def origin_of_tip(layer: Image) -> dict[str, Any] | None:
    """Return the recipe by which the tip in a layer was estimated; None where nothing tells."""
    found: dict[str, Any] | None = layer.metadata.get(KEY, {}).get("recipe")
    return found


def tip_of_layer(layer: Image) -> npt.NDArray[np.float64]:
    """Return the heights of a tip in a layer, as they were made or as it shows them.

    Raises
    ------
    InputError
        If it is no plane.
    """
    kept = layer.metadata.get(KEY, {}).get(TIP)
    values = np.asarray(layer.data if kept is None else kept, np.float64)
    if values.ndim != 2:
        raise InputError(f"The layer {layer.name!r} has {values.ndim} axes; a tip has y and x")
    return values
