"""Weights from elsewhere in an archive of bioimage.io: a U-Net that is known here, or a refusal.

What a network computes does not follow from its weights alone, and its code is not run. So the
shapes of its weights say which networks it may be, and the archive's own test tensors which of
them it is: one that does not give the test output is refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, first_line, require

from .bioimage_archive import Archive, Tree
from .bioimage_steps import applied, ndim_of, normalization_in
from .careamics import model_from_careamics
from .csbdeep import model_from_csbdeep
from .designs import UNetDesign
from .foreign import ANY_LIGHT
from .inputs import IMAGE
from .model_file import Card, Model
from .nets import Net
from .unet import Upsampling

Float = npt.NDArray[np.float32]

#: Most that the test output may be missed by, as a part of its range: other programs round
#: otherwise, and no more.
MISSED = 1e-4
#: Most levels of a network, and voxels of a test tensor, that are looked at.
MOST_LEVELS, MOST_VOXELS = 5, 2**26
#: Names under which the weights lie in files that hold more.
INSIDE = ("state_dict", "model_state_dict")
#: How the weights of CAREamics begin.
CAREAMICS = ("encoder.", "model.encoder.")


def model_of_state(content: bytes, tree: Tree, archive: Archive) -> Model:
    """Return the model of weights of torch, pytorch_state_dict.

    Raises
    ------
    InputError
        If it is none that is known here.
    """
    state = _state(content, archive.name)
    ndim = max(value.ndim for value in state.values()) - 2
    if any(key.startswith(CAREAMICS) for key in state):
        known = _by_file(model_from_careamics, content, "model.ckpt")
        weights = list(known.network.state_dict().values())
        return _told_by_tests(weights, _unet(known), tree, archive)
    tensors = list(state.values())
    return _told_by_tests(tensors, _design_of(tensors, ndim, archive.name), tree, archive)


def model_of_keras(content: bytes, tree: Tree, archive: Archive) -> Model:
    """Return the model of weights of Keras, keras_hdf5: those of CSBDeep; see `model_of_state`."""
    known = _by_file(model_from_csbdeep, content, "model.h5")
    return _told_by_tests(list(known.network.state_dict().values()), _unet(known), tree, archive)


def _told_by_tests(
    tensors: Sequence[Tensor], design: UNetDesign, tree: Tree, archive: Archive
) -> Model:
    """Return the model of weights that gives the test output, with a design like this one."""
    finite = all(bool(torch.isfinite(value).all()) for value in tensors)
    require(finite, f"The weights in {archive.name} are not finite: its training had failed")
    told_in, told_out = _one_each(tree, archive.name)
    given, spacing = _test_tensor(told_in, archive), _spacing(told_in)
    wanted = _test_tensor(told_out, archive)
    before, after = _steps(told_in, "preprocessing"), _steps(told_out, "postprocessing")
    normalization, numbers = normalization_in(before, after)
    require(
        given.ndim == 2 + ndim_of(design) and given.shape[1] == 1,
        f"The network in {archive.name} has weights for {ndim_of(design)} dimensions and one "
        f"channel, and a test input of the shape {given.shape}",
    )
    inside = applied(before, given)

    def missed_by(alike: UNetDesign) -> float:
        out = applied(after, _answer(_filled(alike, tensors), inside))[:, : wanted.shape[1]]
        if out.shape != wanted.shape or not np.ptp(wanted):
            return math.inf
        return float(np.abs(out - wanted).max() / np.ptp(wanted))

    # All are tried: where a network adds little, another one may come near.
    tried = [(missed_by(alike), alike) for alike in _alike(design)]
    least, best = min(tried, key=lambda pair: pair[0])
    require(
        least <= MISSED,
        f"The network in {archive.name} has the weights of a U-Net, but none that is known here "
        "gives the test output that it comes with; run it with the program that made it",
    )
    known = replace(best, normalization=normalization, numbers=numbers)
    return _model(_filled(known, tensors), known, tree, spacing)


# -- weights ------------------------------------------------------------------------------


def _state(content: bytes, name: str) -> dict[str, Tensor]:
    """Return weights by their names; nothing but numbers and text is unpickled."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch has not written
            found: Any = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what is broken, or no pickle, can raise anything
        raise InputError(
            f"The weights in {name} are no plain tensors of torch, and nothing in them was run "
            f"({first_line(error)[:80]}); ask its authors for the state_dict"
        ) from error
    for key in INSIDE:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    entries = found.items() if isinstance(found, dict) else ()
    state = {str(key): value for key, value in entries if torch.is_tensor(value)}
    plain = all(v.layout == torch.strided and not v.is_quantized for v in state.values())
    require(bool(state) and plain, f"The weights in {name} hold no tensors of numbers")
    return state


def _design_of(tensors: Sequence[Tensor], ndim: int, name: str) -> UNetDesign:
    """Return the design whose weights have these shapes, in this order; all levels pool."""
    shapes = [tuple(value.shape) for value in tensors]
    kernels = [shape for shape in shapes if len(shape) == ndim + 2]
    # Two convolutions a level down and two up, two in the middle, and the last.
    levels, rest = divmod(len(kernels) - 3, 4)
    if ndim in (2, 3) and 1 <= levels <= MOST_LEVELS and rest == 0 and kernels[0][-1] % 2 == 1:
        pools = ((2,) * ndim,) * levels
        design = UNetDesign((IMAGE,), pools, first=kernels[0][0], kernel=kernels[0][-1])
        with torch.device("meta"):  # shapes alone
            wanted = [tuple(value.shape) for value in design.network().state_dict().values()]
        if wanted == shapes:
            return design
    raise InputError(
        f"The network in {name} is no U-Net of the kind that is known here, by the shapes of its "
        f"{len(tensors)} tensors; run it with the program that made it"
    )


def _alike(design: UNetDesign) -> Iterator[UNetDesign]:
    """Yield the designs with the same weights, the likely ones first."""
    levels, is_flat = len(design.pools), ndim_of(design) == 2
    lateral = design.pools[0][-2:]
    along_z = [()] * 1 if is_flat else list(product((2, 1), repeat=levels))
    ways = sorted(get_args(Upsampling), key=lambda way: way != design.upsampling)
    for steps, residual, way in product(along_z, (design.residual, not design.residual), ways):
        pools = tuple((step, *lateral) for step in steps) if steps else design.pools
        yield replace(design, pools=pools, residual=residual, upsampling=way)


def _filled(design: UNetDesign, tensors: Sequence[Tensor]) -> Net:
    network = design.network()
    named = zip(network.state_dict(), tensors, strict=True)
    network.load_state_dict({name: value.float() for name, value in named})
    return network.eval()


def _answer(network: Net, given: Float) -> Float:
    with torch.inference_mode():
        out: Float = network(torch.from_numpy(given), torch.ones(1)).numpy()
    return out


def _by_file(read: Any, content: bytes, name: str) -> Model:
    """Return what a reader of files makes of bytes."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        model: Model = read(file)
        return model


def _unet(model: Model) -> UNetDesign:
    design = model.card.design
    require(isinstance(design, UNetDesign), "Only U-Nets are read from elsewhere")
    assert isinstance(design, UNetDesign)
    return replace(design, normalization="brightness", numbers=())


# -- what the description says ------------------------------------------------------------


def _one_each(tree: Tree, name: str) -> tuple[Tree, Tree]:
    """Return the description of the one input and of the one output."""
    both = []
    for key in ("inputs", "outputs"):
        told = tree.get(key)
        require(
            isinstance(told, list) and len(told) == 1 and isinstance(told[0], dict),
            f"The network in {name} has other {key} than one; here it is given one image, and "
            "gives one",
        )
        both.append(dict((told or [{}])[0]))
    return both[0], both[1]


def _steps(told: Tree, key: str) -> list[Tree]:
    return [step for step in told.get(key) or [] if isinstance(step, dict)]


def _space(told: Tree) -> list[Tree]:
    axes = [axis for axis in told.get("axes") or [] if isinstance(axis, dict)]
    return [axis for axis in axes if axis.get("type") == "space"]


def _spacing(told: Tree) -> tuple[float, ...] | None:
    """Return the voxel size in um, where it is said."""
    sizes = [axis.get("scale") for axis in _space(told) if axis.get("unit") == "micrometer"]
    found = tuple(float(size) for size in sizes if isinstance(size, (int, float)) and size > 0)
    return found if found and len(found) == len(_space(told)) else None


def _test_tensor(told: Tree, archive: Archive) -> Float:
    """Return a test tensor, batch and channel first."""
    entry, name = told.get("test_tensor"), archive.name
    require(bool(entry), f"{name} has no test tensors, and so nothing to tell its network by")
    axes = [axis for axis in told.get("axes") or [] if isinstance(axis, dict)]
    order = [str(axis.get("id") or axis.get("type")) for axis in axes]
    space = [axis for axis in order if axis in ("z", "y", "x")]
    require(
        sorted(order) == sorted(["batch", "channel", *"zyx"[-len(space) :]])
        and space == [*"zyx"[-len(space) :]],
        f"The network in {name} has the axes {', '.join(order)[:80]}; batch, channel, (z,) y and "
        "x are known here",
    )
    try:
        values = np.load(BytesIO(archive.checked(entry)), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"A test tensor in {name} is no array of numpy") from error
    require(
        values.ndim == len(order) and values.dtype.kind in "buif" and values.size <= MOST_VOXELS,
        f"A test tensor in {name} has the shape {values.shape}, and the axes {', '.join(order)}",
    )
    places = [order.index(axis) for axis in ("batch", "channel", *space)]
    return np.ascontiguousarray(values.transpose(places), np.float32)


def _model(
    network: Net, design: UNetDesign, tree: Tree, spacing: tuple[float, ...] | None
) -> Model:
    """Return a model; its PSF is one voxel, as that of what is not known."""
    cited = [entry for entry in tree.get("cite") or [] if isinstance(entry, dict)]
    words = [
        " ".join(str(entry[key]) for key in ("text", "doi", "url") if entry.get(key))
        for entry in cited
    ]
    license_told = tree.get("license")
    card = Card(
        str(tree.get("name") or "from bioimage.io")[:200],
        design,
        ANY_LIGHT,
        spacing,
        license=license_told if isinstance(license_told, str) else "unknown",
        citation=" ".join("; ".join(words).split())[:1000],
    )
    return Model(card, (network,), (Psf(np.ones((1,) * ndim_of(design), np.float32), spacing),))
