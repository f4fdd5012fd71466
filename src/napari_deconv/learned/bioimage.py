"""Exchange with the BioImage Model Zoo: archives in the format of bioimage.io, version 0.5.

An archive holds the networks as TorchScript, which other programs run, and beside it the file of
this project, so that what was written here comes back as it was. Of archives from elsewhere the
weights are read where they are those of a U-Net that `UNetDesign` knows; no code in them is run.
The format: https://bioimage.io/docs, and https://github.com/bioimage-io/spec-bioimage-io.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.background import background_level
from napari_deconv.imaging.value import InputError, first_line, require
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe

from .bioimage_archive import Archive, Tree, opened, write_archive, yaml_module
from .bioimage_rdf import (
    COVER,
    MODEL,
    PSF,
    README,
    TEST_INPUT,
    TEST_OUTPUT,
    WEIGHTS,
    description_of,
    is_known,
    shown_sides,
)
from .bioimage_state import model_of_keras, model_of_state
from .bioimage_steps import applied, normalization_of, steps_after, steps_before
from .bioimage_text import documentation_of
from .inputs import BRIGHTNESS, IMAGE
from .model_file import Model, read_model, write_model
from .pairs import Light, simulated_pair
from .samples import seen_by
from .torchscript import outputs_of, together_of, torchscript_of

Float = npt.NDArray[np.float32]

#: Who made a model, where nobody says it.
UNKNOWN_AUTHOR = "unknown author"
#: Side of the cover's halves, in pixels.
COVER_SIDE = 256
#: Weights from elsewhere that are read, the first that is there first; and why others are not.
STATE, KERAS, SCRIPT = "pytorch_state_dict", "keras_hdf5", "torchscript"
NO_SCRIPT = (
    "TorchScript is a program, which may do anything on your machine, and this one was not written "
    "by napari-deconv; run it with the program that made it, or ask its authors for the weights "
    "as pytorch_state_dict or keras_hdf5"
)


def export_bioimage(
    model: Model,
    target: str | os.PathLike[str],
    engine: Engine,
    *,
    sample: npt.ArrayLike | None = None,
    authors: Sequence[str] = (UNKNOWN_AUTHOR,),
    overwrite: bool = False,
) -> Path:
    """Write a model as an archive of bioimage.io, whole or not at all.

    Parameters
    ----------
    model : Model
    target : path
        Ends in .zip.
    engine : Engine
        That makes the channels of the test tensors.
    sample : array, (Z, Y, X) or (Y, X), optional
        An image, in counts, to show what the network does; where not given, one is simulated as
        for its training.
    authors : sequence of str
        Names of people.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    InputError
        If the file is there already or cannot be written, the sample is none, PyYAML is missing,
        or torch cannot write the network.

    Notes
    -----
    Networks that are given more than the image are declared with all of their channels, and the
    documentation says how to make them. Networks that blur have the PSF of the model inside.
    """
    yaml = yaml_module()
    require(
        bool(authors) and all(name.strip() and "/" not in name for name in authors),
        "The authors of a model are names without a slash",
    )
    channels = _channels_shown(model, sample, engine)
    files = _tensors(model, channels)
    files[WEIGHTS] = torchscript_of(model)
    files[MODEL] = _file_of(model)
    if is_known(model):
        files[PSF] = _npy(model.psf.samples)
    files[README] = documentation_of(model, authors).encode()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    tree = description_of(model, authors, sums)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)
    return write_archive(target, {"rdf.yaml": text.encode(), **files}, overwrite=overwrite)


def import_bioimage(path: str | os.PathLike[str]) -> Model:
    """Read a model from an archive of bioimage.io, a zip file or a folder.

    Raises
    ------
    InputError
        If it is damaged, or of another version; names files outside of itself, or others than it
        has; would unpack to far too much; or its network is none that is known here.
    """
    with opened(path) as archive:
        try:
            return _model_in(archive)
        except InputError:
            raise
        # Values of other types than the format has, wherever they stand.
        except (TypeError, ValueError, AttributeError, LookupError, RuntimeError) as error:
            raise InputError(
                f"The description in {archive.name} is not as the format asks "
                f"({first_line(error)[:80]}); take the archive as it was made"
            ) from error


def _model_in(archive: Archive) -> Model:
    tree = archive.description()
    own = (tree.get("config") or {}).get("napari_deconv")
    if isinstance(own, dict) and isinstance(own.get("model"), str):
        return _own(archive, tree, own["model"])
    return _foreign(archive, tree)


def _own(archive: Archive, tree: Tree, name: str) -> Model:
    """Return the model of an archive that was written here, from the file beside the weights."""
    entries = [
        entry
        for entry in tree.get("attachments") or []
        if isinstance(entry, dict) and entry.get("source") == name
    ]
    require(
        bool(entries),
        f"{archive.name} lacks the attachment {name[:60]!r} that its description names; download "
        "it again",
    )
    content = archive.checked(entries[0])
    with TemporaryDirectory() as folder:
        file = Path(folder) / MODEL
        file.write_bytes(content)
        return read_model(file)


def _foreign(archive: Archive, tree: Tree) -> Model:
    """Return the model of an archive from elsewhere."""
    weights = tree.get("weights")
    require(isinstance(weights, dict), f"{archive.name} describes no weights")
    entries: Tree = dict(weights or {})
    if entries.get(STATE):
        return model_of_state(archive.checked(entries[STATE]), tree, archive)
    if entries.get(KERAS):
        return model_of_keras(archive.checked(entries[KERAS]), tree, archive)
    require(
        not entries.get(SCRIPT),
        f"{archive.name} has its network as TorchScript alone. {NO_SCRIPT}",
    )
    raise InputError(
        f"{archive.name} has its weights as {', '.join(map(str, entries))[:80] or 'nothing'}; "
        f"{STATE} and {KERAS} are read"
    )


# -- what is shown ------------------------------------------------------------------------


def _channels_shown(model: Model, sample: npt.ArrayLike | None, engine: Engine) -> Float:
    """Return the test input before its steps, (1, C, ...)."""
    card, sides = model.card, shown_sides(model)
    if sample is None:
        # What another program has learned from is not known.
        light = card.light if card.light.kinds else Light()
        random = np.random.default_rng(card.seed)
        photons = float(np.sqrt(light.photons[0] * light.photons[1]))
        pair = simulated_pair(sides, model.psf, light, random, photons=photons)
        image, background = pair.counts, pair.background
    else:
        given = np.asarray(sample)
        require(
            given.ndim == len(sides) and given.size > 0,
            f"An image for this network has {len(sides)} dimensions, not the shape {given.shape}",
        )
        background = background_level(given)
        image = _fitted(given.astype(np.float32), sides)
    if normalization_of(card.design)[0] != BRIGHTNESS:
        return np.ascontiguousarray(image, np.float32)[None, None]
    observation = observe(np.maximum(image, 0), model.psf, background)
    channels, _ = seen_by(card.design, observation, engine, card.light.gain)
    return channels[None]


def _fitted(image: Float, sides: tuple[int, ...]) -> Float:
    """Return the middle of an image, mirrored at its ends where it is too small."""
    short = [max(side - n, 0) for n, side in zip(image.shape, sides, strict=True)]
    grown = np.pad(image, [(n // 2, n - n // 2) for n in short], mode="symmetric")
    starts = [(n - side) // 2 for n, side in zip(grown.shape, sides, strict=True)]
    return grown[tuple(slice(s, s + side) for s, side in zip(starts, sides, strict=True))]


def _tensors(model: Model, channels: Float) -> dict[str, bytes]:
    """Return the test tensors and the cover."""
    design = model.card.design
    given = applied(steps_before(design), channels)
    out = applied(steps_after(design), outputs_of(together_of(model), given))
    before = given[0, design.channels.index(IMAGE) if IMAGE in design.channels else 0]
    halves = np.concatenate([_square(before), _square(out[0, 0])], axis=1)
    return {TEST_INPUT: _npy(channels), TEST_OUTPUT: _npy(out), COVER: _png(halves)}


def _square(image: Float) -> npt.NDArray[np.uint8]:
    """Return the brightest along z of the middle of an image, as grey levels."""
    plane = image.max(axis=0) if image.ndim == 3 else image
    side = min(plane.shape)
    starts = [(n - side) // 2 for n in plane.shape]
    plane = plane[starts[0] : starts[0] + side, starts[1] : starts[1] + side]
    places = np.arange(COVER_SIDE) * side // COVER_SIDE
    plane = plane[np.ix_(places, places)]
    low, high = float(plane.min()), float(plane.max())
    return np.asarray((plane - low) / ((high - low) or 1.0) * 255, np.uint8)


def _png(grey: npt.NDArray[np.uint8]) -> bytes:
    """Return grey levels, (Y, X), as a PNG."""

    def part(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    size = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    parts = part(b"IHDR", size) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _npy(values: npt.NDArray[Any]) -> bytes:
    file = BytesIO()
    np.save(file, np.ascontiguousarray(values, np.float32), allow_pickle=False)
    return file.getvalue()


def _file_of(model: Model) -> bytes:
    with TemporaryDirectory() as folder:
        return write_model(Path(folder) / MODEL, model).read_bytes()
