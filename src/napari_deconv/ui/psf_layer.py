"""The layer "PSF" of a viewer: one, reused, with its voxel size, around the world's origin."""

from __future__ import annotations

from napari.layers import Image
from napari.viewer import Viewer

from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf

from .layers import COMPUTED, KEY, centred_at

NAME = "PSF"


def is_psf_layer(layer: object) -> bool:
    """Return whether a layer was made by `show_psf_layer`; one that was renamed is the user's."""
    if not isinstance(layer, Image) or layer.name != NAME:
        return False
    return COMPUTED in layer.metadata.get(KEY, {})


def psf_layer(viewer: Viewer) -> Image | None:
    """Return the viewer's PSF layer, None where there is none."""
    return next((layer for layer in viewer.layers if is_psf_layer(layer)), None)


def show_psf_layer(viewer: Viewer, psf: Psf, optics: Optics) -> Image:
    """Show a PSF in the viewer's PSF layer, and make that where there is none.

    Parameters
    ----------
    viewer : Viewer
        Where to show it.
    psf : Psf, (Z, Y, X) or (Y, X)
        With its voxel size.
    optics : Optics
        What it was computed from; kept in the layer's metadata.
    """
    place = centred_at(psf)
    entry = {COMPUTED: {"optics": optics.to_dict(), "notes": list(psf.notes)}}
    limits = (0.0, float(psf.samples.max()))
    layer = psf_layer(viewer)
    if layer is not None and layer.ndim != psf.samples.ndim:
        viewer.layers.remove(layer)
        layer = None
    if layer is None:
        made = Image(
            psf.samples,
            name=NAME,
            **place,
            colormap="inferno",
            gamma=0.5,
            contrast_limits=limits,
            metadata={KEY: entry},
        )
        viewer.add_layer(made)
        return made
    layer.data = psf.samples
    layer.scale, layer.translate = place["scale"], place["translate"]
    layer.contrast_limits_range = limits
    layer.contrast_limits = limits
    layer.metadata = {**layer.metadata, KEY: entry}
    return layer
