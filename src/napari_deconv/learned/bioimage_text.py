"""What an archive of bioimage.io says of a model: its description for programs and for people."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from napari_deconv.imaging.brightness import BIN, RANK
from napari_deconv.imaging.value import require
from napari_deconv.restoration.restorer import SEAM_TOLERANCE
from napari_deconv.version import __version__

from .bioimage_steps import normalization_of, steps_after, steps_before
from .calibration import EDGES, LEVELS
from .designs import Design, UNetDesign, UnrolledDesign
from .inputs import (
    BACKGROUND,
    BRIGHTNESS,
    FAST,
    IMAGE,
    LEAST_BRIGHTNESS,
    NOISE,
    PERCENTILES,
    PLAIN,
    SMOOTH,
    WIENER,
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
        "description": _summary(model),
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


def _summary(model: Model) -> str:
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


# -- for people ---------------------------------------------------------------------------


def documentation_of(model: Model, authors: Sequence[str]) -> str:
    """Return the documentation, README.md."""
    card = model.card
    parts = [f"# {card.name}", _summary(model), _what_goes_in(model), _what_comes_out(model)]
    parts += [_tiles(model), _training(card), _validation(model), _use(model)]
    cited = [f"- {text} ({place})" for text, _, place in citations(card)]
    if card.citation and not any(card.citation == text for text, *_ in citations(card)):
        cited.insert(0, f"- {card.citation}")
    parts.append("## Who may use it, and what to cite\n\n" + f"License: {card.license}. Made by ")
    parts[-1] += ", ".join(authors) + ".\n\n" + "\n".join(cited)
    return "\n\n".join(parts) + "\n"


def _what_goes_in(model: Model) -> str:
    design = model.card.design
    normalization, numbers = normalization_of(design)
    head = "## What goes in\n\n"
    if normalization == PERCENTILES:
        low, high = numbers
        return (
            f"{head}The image as it is recorded. The step `scale_range` brings its percentiles "
            f"{low:g} and {high:g} to 0 and 1."
        )
    if normalization != BRIGHTNESS:
        return (
            f"{head}The image as it is recorded. The step before the network subtracts a mean and "
            "divides by a standard deviation."
        )
    rows = [
        f"| {number} | `{channel_name(channel)}` | {channel_words(channel, model.card)} |"
        for number, channel in enumerate(design.channels)
    ]
    sides = " x ".join(map(str, BIN[-model.psf.samples.ndim :]))
    return (
        f"{head}float32, axes batch, channel, {', '.join('zyx'[-model.psf.samples.ndim :])}. All "
        "values are in units of the **brightness** of the image, one number for the whole image "
        f"(not for each tile): the image is averaged in bins of {sides} voxels, side by side from "
        f"its first voxel on; it is number {RANK} of their means, the largest first, less the "
        f"background, in counts, but at least {LEAST_BRIGHTNESS:g}. Divide by it before the "
        "network. bioimage.io has no step for this, so none is declared, and the test tensors are "
        "in these units.\n\n"
        "| channel | name | what it is |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "*Counts above the background* are the image less one number, the counts that are there "
        f"without any light from the sample. The PSF is `{PSF}`: float32, sum 1, its centre at "
        "index n//2 of each axis, on the voxels of the image."
    )


def channel_words(channel: str, card: Card) -> str:
    """Return how a channel is made."""
    kind, _, number = channel.rpartition(" ")
    iterations = f"Richardson-Lucy after {number} iterations with `{PSF}`"
    start = (
        "from a flat start at the mean of the image, light from beyond the image allowed for "
        "(Bertero and Boccacci 2005), the background in the model; divided by the brightness"
    )
    words = {
        IMAGE: "counts above the background, divided by the brightness",
        BACKGROUND: "the background in counts, divided by the brightness; the same everywhere",
        NOISE: (
            "how much light there is, the same everywhere: log10(max(brightness / "
            f"{card.light.gain:g}, 1)) / 3, where {card.light.gain:g} counts are a photon; not "
            "divided by the brightness"
        ),
    }
    if channel in words:
        return words[channel]
    kinds = {
        PLAIN: f"{iterations}, {start}",
        FAST: f"{iterations}, accelerated by momentum (k-1)/(k+2) with restart, {start}",
        SMOOTH: (
            f"{iterations}, momentum (k-1)/(k+2), total variation of weight "
            f"{kind.rpartition(' ')[2]}, {start}"
        ),
        WIENER: f"Wiener filter with `{PSF}`, noise to signal {number}; divided by the brightness",
    }
    found = [told for begin, told in kinds.items() if channel.startswith(begin)]
    require(bool(found), f"The channel {channel!r} of a network cannot be described")
    return found[0]


def _what_comes_out(model: Model) -> str:
    design, calibration = model.card.design, model.card.calibration
    if normalization_of(design)[0] == BRIGHTNESS:
        back = "Multiply by the brightness for counts above the background"
    elif steps_after(design):
        back = "The step after the network brings it to counts"
    else:
        back = "Undo what the step before the network did, with the same two numbers, for counts"
    text = f"## What comes out\n\n`restored`: {back}; what is below 0 is nothing.\n"
    if design.laplace:
        text += (
            "\n`scale`: how wrong `restored` may be, voxel by voxel, in the same units: the scale "
            "of a Laplace distribution around it.\n"
        )
    if design.laplace and calibration is not None:
        groups = ", ".join(f"{edge:g}" for edge in EDGES)
        for level, factors in zip(LEVELS, (calibration.half, calibration.most), strict=True):
            told = ", ".join(f"{factor:.3g}" for factor in factors)
            text += f"\nHalf the width of a {level:.0%} interval is `scale` times {told}"
            text += f", where `restored` lies below {groups} of the brightness and above.\n"
    if len(model.networks) > 1:
        text += f"\nIt is what {len(model.networks)} networks say together: their mean.\n"
    return text.rstrip()


def _tiles(model: Model) -> str:
    reach, order = (
        " x ".join(map(str, reach_of(model))),
        ", ".join("zyx"[-model.psf.samples.ndim :]),
    )
    steps = " x ".join(map(str, model.network.strides))
    text = f"## Tiles\n\nA voxel depends on what lies up to {reach} voxels away ({order})"
    if any(halo_of(model)):
        text += (
            "; the halo of the output says so. Sizes go in steps of "
            f"{steps} voxels, the grid on which the network pools: tiles must begin on it."
        )
    else:
        text += (
            f": too far for tiles, so no halo is declared. **Run it on the whole image.** Sizes go "
            f"in steps of {steps} voxels."
        )
    text += " Images of other sizes run as well; they are repeated at their end."
    if model.network.holds_blur:
        text += (
            f" From further away comes less than {SEAM_TOLERANCE:g} of the light. Where it can be, "
            "run it on the whole image."
        )
    if getattr(model.card.design, "predicted", False):
        text += " Its filters follow from what it is given: tiles have filters of their own."
    return text


def is_known(model: Model) -> bool:
    """Return whether the PSF is known; one voxel stands for one that is not."""
    return model.psf.samples.size > 1


def _training(card: Card) -> str:
    light, head = card.light, "## What it was trained on\n\n"
    voxels = " x ".join(f"{step:g}" for step in card.spacing_um or ()) or "unknown size"
    voxels = f"- voxels of {voxels}{' um' if card.spacing_um else ''}\n"
    if not light.kinds:
        return (
            f"{head}{voxels}- on what images is not known here: it was trained by another program"
        )
    return (
        f"{head}{voxels}"
        f"- {light.photons[0]:g} to {light.photons[1]:g} photons in the brightest voxels; "
        f"background {light.background[0]:g} to {light.background[1]:g} counts\n"
        f"- a camera of {light.gain:g} counts a photon, offset {light.offset:g}, read noise "
        f"{light.read_noise:g} photons\n"
        f"- structures: {', '.join(light.kinds)}\n"
        f"- {card.steps} steps in {card.seconds:.0f} s, seed {card.seed}\n\n"
        "On images outside of this, and with another PSF, it is not to be believed."
    )


def _validation(model: Model) -> str:
    card = model.card
    loss = f"{card.validation:.4g}" if card.steps else "not known"
    text = (
        f"## Validation\n\nLoss on the pairs that were left out of the training: {loss}.\n\n"
        "To validate it on images of yours, restore some whose truth is known (beads, a "
        "recording with much more light, or a simulated pair) and compare, for instance by "
        "`napari-deconv compare RESULT TRUTH`: PSNR, SSIM, NRMSE and the resolution by Fourier "
        "shell correlation."
    )
    covered = card.calibration is not None and card.calibration.coverage
    if card.calibration is not None and covered:
        text += f"\n\nOn pairs left out, {card.calibration.in_words()}."
    return text


def _use(model: Model) -> str:
    text = (
        f"## In napari-deconv\n\n`{MODEL}` is the model as napari-deconv keeps it; nothing of it "
        "is lost:\n\n"
        "    napari-deconv models import ARCHIVE.zip -o model.safetensors\n"
        "    napari-deconv predict STACK --model model.safetensors -o restored.ome.tif\n\n"
        "That makes the channels, measures the brightness, runs it in tiles and says where an "
        "image lies outside of the training."
    )
    if model.network.holds_blur:
        text += (
            f" There it takes another PSF without another training; in `{WEIGHTS}` the PSF is "
            "fixed."
        )
    return text
