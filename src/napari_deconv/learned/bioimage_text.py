"""What an archive of bioimage.io says of a model to people: its documentation, README.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_deconv.imaging.brightness import BIN, RANK
from napari_deconv.imaging.value import require
from napari_deconv.restoration.restorer import SEAM_TOLERANCE

from .bioimage_rdf import (
    MODEL,
    PSF,
    WEIGHTS,
    channel_name,
    citations,
    halo_of,
    reach_of,
    summary_of,
)
from .bioimage_steps import normalization_of, steps_after
from .calibration import EDGES, LEVELS, Calibration
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


def documentation_of(model: Model, authors: Sequence[str]) -> str:
    """Return the documentation, README.md."""
    card = model.card
    parts = [f"# {card.name}", summary_of(model), _what_goes_in(model), _what_comes_out(model)]
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
    least = LEAST_BRIGHTNESS * model.card.light.gain
    return (
        f"{head}float32, axes batch, channel, {', '.join('zyx'[-model.psf.samples.ndim :])}. All "
        "values are in units of the **brightness** of the image, one number for the whole image "
        f"(not for each tile): the image is averaged in bins of {sides} voxels, side by side from "
        f"its first voxel on; it is number {RANK} of their means, the largest first, less the "
        f"background, in counts, but at least {least:g}. Divide by it before the "
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
        "(Bertero and Boccacci 2005; padded by a whole PSF along z, half of one along y and x), "
        "the background in the model; divided by the brightness"
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
        text += _intervals(calibration)
    if len(model.networks) > 1:
        text += f"\nIt is what {len(model.networks)} networks say together: their mean.\n"
    return text.rstrip()


def _intervals(calibration: Calibration) -> str:
    """Return how half the width of an interval follows from the scale."""
    groups, text = ", ".join(f"{edge:g}" for edge in EDGES), ""
    for level, factors in zip(LEVELS, (calibration.half, calibration.most), strict=True):
        shares = np.reshape(factors, (-1, len(EDGES) + 1))
        for number, share in enumerate(shares):
            told = ", ".join(f"{factor:.3g}" for factor in share)
            text += f"\nHalf the width of a {level:.0%} interval is `scale` times {told}"
            text += f", where `restored` lies below {groups} of the brightness and above"
            if len(shares) > 1:
                text += f"; so for a brightness of {calibration.photons[number]:.3g} photons"
            text += ".\n"
    if calibration.photons:
        text += (
            "\nBetween these numbers of photons factors lie between theirs, all as logarithms.\n"
        )
    return text


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
