"""What an archive of bioimage.io says of a model to programs: its description, rdf.yaml."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from napari_deconv.restoration.restorer import SEAM_TOLERANCE
from napari_deconv.version import __version__

from .bioimage_steps import normalization_of, steps_after, steps_before
from .designs import Design, UNetDesign, UnrolledDesign
from .inputs import (
    BRIGHTNESS,
    IMAGE,
)
from .model_file import Card, Model

Tree = dict[str, Any]

#: Of the format of bioimage.io that is written: all that is said was there then.
FORMAT = "0.5.4"
#: Files of an archive.
MODEL, WEIGHTS, PSF, README, COVER = (
    "model.safetensors",
    "weights.torchscript.pt",
    "psf.npy",
    "README.md",
    "cover.png",
)
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
#: Axes have at least so many voxels where the network asks for fewer, (z, y, x): of less, nothing
#: is to be seen.
LEAST = (8, 64, 64)
#: No axis is shorter: of less, no filters can be predicted.
LEAST_SIDE = 4
#: Voxels that the smallest image may have. A halo makes it larger than twice the halo; networks
#: that look further have no tiles of a size that is of use, and are declared without a halo.
MOST_TILED = 2**20
#: Licences that bioimage.io is told by their SPDX name; of others the documentation speaks.
LICENSES = (
    "CC0-1.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-4.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Apache-2.0",
    "GPL-2.0-only",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "LGPL-3.0-only",
    "MPL-2.0",
)
#: What each kind of network is after.
CARE = (
    "Weigert et al. 2018, Content-aware image restoration: pushing the limits of fluorescence "
    "microscopy",
    "doi",
    "10.1038/s41592-018-0216-7",
)
TIKHONET = (
    "Sureau et al. 2020, Deep learning for a space-variant deconvolution in galaxy surveys "
    "(undo the known blur first, learn the rest)",
    "doi",
    "10.1051/0004-6361/201937039",
)
RLN = (
    "Li et al. 2022, Incorporating the image formation process into deep learning improves "
    "network performance",
    "doi",
    "10.1038/s41592-022-01652-7",
)
KOLMOGOROV = (
    "Pronina et al. 2020, Microscopy image restoration with deep Wiener-Kolmogorov filters",
    "url",
    "https://arxiv.org/abs/1911.10989",
)


def reach_of(model: Model) -> tuple[int, ...]:
    """Return how far the networks look, in whole cells of their grid: so tiles begin on it."""
    strides = model.network.strides
    far = [network.reach(model.psf, SEAM_TOLERANCE) for network in model.networks]
    reach = [max(along) for along in zip(*far, strict=True)]
    return tuple(-(-n // step) * step for n, step in zip(reach, strides, strict=True))


def halo_of(model: Model) -> tuple[int, ...]:
    """Return what tiles need around them; nothing where the network is for whole images alone."""
    reach = reach_of(model)
    whole = math.prod(_beyond(reach, model.network.strides)) > MOST_TILED
    return (0,) * len(reach) if whole else reach


def least_sides(model: Model) -> tuple[int, ...]:
    """Return the smallest sides: something is left when the halo is cut off, on the grid."""
    return _beyond(halo_of(model), model.network.strides)


def _beyond(halo: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    pairs = zip(halo, strides, strict=True)
    return tuple(-(-max(2 * far + 1, LEAST_SIDE) // step) * step for far, step in pairs)


def shown_sides(model: Model) -> tuple[int, ...]:
    """Return the sides of the test tensors."""
    least, strides = least_sides(model), model.network.strides
    return tuple(
        max(side, -(-n // step) * step)
        for side, n, step in zip(least, LEAST[-len(least) :], strides, strict=True)
    )


def description_of(model: Model, authors: Sequence[str], sums: dict[str, str]) -> Tree:
    """Return the description for programs, rdf.yaml.

    Parameters
    ----------
    model : Model
    authors : sequence of str
        Names of people.
    sums : dict
        SHA-256 of each file, by its name.
    """
    card = model.card

    def file(name: str) -> Tree:
        return {"source": name, "sha256": sums[name]}

    tree: Tree = {
        "type": "model",
        "format_version": FORMAT,
        "name": name_of(card.name),
        "description": summary_of(model),
        "authors": [{"name": author} for author in authors],
        "license": card.license,
        "cite": [{"text": text, kind: place} for text, kind, place in citations(card)],
        "tags": _tags(model),
        "documentation": README,
        "covers": [COVER],
        "attachments": [file(name) for name in (MODEL, PSF) if name in sums],
        "inputs": [_input(model, file(TEST_INPUT))],
        "outputs": [_output(model, file(TEST_OUTPUT))],
        "weights": {
            "torchscript": {
                **file(WEIGHTS),
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        },
        "config": {"napari_deconv": _config(model)},
    }
    if card.license not in LICENSES:
        del tree["license"]
    return tree


def name_of(name: str) -> str:
    """Return a name as bioimage.io takes them.

    Examples
    --------
    >>> name_of("Zellkerne (60x), grün"), name_of("a")
    ('Zellkerne (60x)- gr-n', 'napari-deconv a')
    """
    plain = re.sub(r"[^A-Za-z0-9_+\- ()]", "-", name)[:128]
    return plain if len(plain) >= 5 else f"napari-deconv {plain}".strip()


def channel_name(channel: str) -> str:
    """Return the name of a channel as bioimage.io takes them.

    Examples
    --------
    >>> channel_name("heavy-ball 12"), channel_name("wiener 0.01")
    ('heavy_ball_12', 'wiener_0_01')
    """
    return re.sub(r"\W", "_", channel)


def citations(card: Card) -> list[tuple[str, str, str]]:
    """Return what to cite, as (text, "doi" or "url", where): that of the card, and the method's."""
    found = []
    doi = re.search(r"10\.\d{4,9}/[^\s,;)\]]+", card.citation)
    url = re.search(r"https?://[^\s,;)\]]+", card.citation)
    if doi:
        found.append((card.citation, "doi", doi[0].rstrip(".")))
    elif url:
        found.append((card.citation, "url", url[0].rstrip(".")))
    return [*found, *(own for own in _sources(card.design) if own[2] not in card.citation)]


def _sources(design: Design) -> list[tuple[str, str, str]]:
    if isinstance(design, UNetDesign):
        return [TIKHONET, CARE] if design.mixed > 1 else [CARE]
    if isinstance(design, UnrolledDesign) and design.iteration == "richardson-lucy":
        return [RLN]
    return [KOLMOGOROV]


def summary_of(model: Model) -> str:
    """Return what a model is, in two sentences or three."""
    card = model.card
    told = "the image alone" if card.design.channels == (IMAGE,) else "the channels that README.md"
    wanted = "" if card.design.channels == (IMAGE,) else " says how to make"
    blur = " It holds the PSF that it was exported with." if model.network.holds_blur else ""
    return (
        f"{card.design.title} that deblurs and denoises fluorescence images, from napari-deconv. "
        f"It is given {told}{wanted}.{blur}"
    )


def _tags(model: Model) -> list[str]:
    found = ["deconvolution", "image-restoration", "denoising", "fluorescence-light-microscopy"]
    found += [f"{model.psf.samples.ndim}d", "pytorch", "napari"]
    has_unet = getattr(model.card.design, "pools", None) and "U-Net" in model.card.design.title
    return [*found, "unet"] if has_unet else found


def _config(model: Model) -> Tree:
    """Return what this project reads again."""
    normalization, numbers = normalization_of(model.card.design)
    return {
        "version": __version__,
        "model": MODEL,
        "psf": PSF if is_known(model) else None,
        "channels": list(model.card.design.channels),
        "normalization": {"kind": normalization, "numbers": list(numbers)},
        "members": model.card.members,
        "reach": list(reach_of(model)),
    }


def _input(model: Model, test: Tree) -> Tree:
    design = model.card.design
    names = [channel_name(channel) for channel in design.channels]
    axes = [_batch(model), {"type": "channel", "id": "channel", "channel_names": names}]
    sides = zip(least_sides(model), model.network.strides, strict=True)
    for axis, (least, step) in zip(_space(model), sides, strict=True):
        axes.append({**axis, "size": {"min": least, "step": step}})
    is_scaled = normalization_of(design)[0] != BRIGHTNESS
    units = "The image as it is recorded" if is_scaled else "In units of the image's brightness"
    return _tensor("input", f"{units}; see {README}", axes, test) | {
        "preprocessing": steps_before(design)
    }


def _output(model: Model, test: Tree) -> Tree:
    design = model.card.design
    names = ["restored", "scale"] if design.laplace else ["restored"]
    axes = [_batch(model), {"type": "channel", "id": "channel", "channel_names": names}]
    for axis, halo in zip(_space(model), halo_of(model), strict=True):
        size: Tree = {"size": {"tensor_id": "input", "axis_id": axis["id"]}}
        axes.append({**axis, **size, **({"halo": halo} if halo else {})})
    units = "In the units of the network's input"
    return _tensor("output", f"{units}; see {README}", axes, test) | {
        "postprocessing": steps_after(design)
    }


def _tensor(name: str, words: str, axes: list[Tree], test: Tree) -> Tree:
    data = {"type": "float32"}
    return {"id": name, "description": words, "axes": axes, "test_tensor": test, "data": data}


def _batch(model: Model) -> Tree:
    # Filters that follow from an image are traced for one.
    is_one = getattr(model.card.design, "predicted", False)
    return {"type": "batch", "id": "batch", **({"size": 1} if is_one else {})}


def _space(model: Model) -> list[Tree]:
    spacing = model.card.spacing_um or model.psf.spacing_um
    found: list[Tree] = []
    for place, name in enumerate("zyx"[-model.psf.samples.ndim :]):
        axis: Tree = {"type": "space", "id": name}
        if spacing is not None:
            # bioimage.io computes n * scale / scale and cuts it off; of float32 that is n.
            axis |= {"unit": "micrometer", "scale": float(np.float32(spacing[place]))}
        found.append(axis)
    return found


def is_known(model: Model) -> bool:
    """Return whether the PSF is known; one voxel stands for one that is not."""
    return model.psf.samples.size > 1
