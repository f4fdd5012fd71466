"""Networks of CSBDeep as models of this one: CARE, as Keras keeps its weights.

Read are numbers alone, and the settings as text, without Keras; nothing in a file is ever executed.

The layers are those of `csbdeep.internals.nets.common_unet` 0.8 (Weigert et al. 2018,
doi 10.1038/s41592-018-0216-7), a weights file as Keras 2 and 3 write it for CSBDeep.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_deconv.imaging.value import InputError, first_line, require

from .designs import UNetDesign
from .foreign import (
    CARE,
    MOST_WEIGHTS,
    Imported,
    Layer,
    filled,
    model_of,
    require_one,
    require_shapes,
    require_sizes,
)
from .inputs import IMAGE, PERCENTILES
from .model_file import Model

#: Of `csbdeep.data.PercentileNormalizer`, which prediction uses unless told otherwise.
CSBDEEP_PERCENTILES = (2.0, 99.8)
#: CSBDeep's files, the best first.
WEIGHTS = ("weights_best.h5", "weights_last.h5", "weights_now.h5")
CONFIG = "config.json"
#: No settings are larger, in bytes.
MOST_SETTINGS = 10_000_000

#: CSBDeep's layers: the name, and the level or None.
_DOWN = re.compile(r"down_level_(\d{1,2})_no_([01])")
_UP = re.compile(r"up_level_(\d{1,2})_no_([02])")
_MIDDLE = re.compile(r"middle_([02])")
#: The heads are named by Keras, in the order in which they were made: mean, then scale.
_HEAD = re.compile(r"conv[23]d(?:_(\d{1,6}))?")
_ADDED = re.compile(r"add(_\d+)?")


def model_from_csbdeep(path: str | os.PathLike[str]) -> Model:
    """Return a CARE network of CSBDeep as a model; see `import_csbdeep`."""
    return import_csbdeep(path).model


def import_csbdeep(path: str | os.PathLike[str]) -> Imported:
    """Read a CARE network of CSBDeep.

    Parameters
    ----------
    path : str or path
        A model's folder, or the file of its Keras weights, ".h5"; `config.json` beside the
        weights is read as well, where there is one.

    Returns
    -------
    Imported
        Its network restores as CSBDeep does with its own normalization, percentiles 2 and 99.8.

    Raises
    ------
    InputError
        If h5py is missing, the file is damaged, or is not a CARE network of one channel.
    """
    file = _weights_at(Path(path).expanduser())
    config = _config_beside(file)
    with _opened(file) as root:
        layers, heads, names = _keras_layers(root, file.name)
        design, notes = _csbdeep_design(layers, heads, names, config, file.name)
        require_shapes(design, _keras_shapes(layers, heads), file.name)
        network = filled(design, _keras_weights(layers, heads), file.name)
    name = file.parent.name if file.name in WEIGHTS else file.stem
    return Imported(model_of(name, design, network, CARE), notes)


def _weights_at(path: Path) -> Path:
    """Return the file of the weights; of a folder, the best that it holds."""
    if not path.is_dir():
        require(path.is_file(), f"There is no model {path}; check the spelling")
        return path
    found = [path / name for name in WEIGHTS if (path / name).is_file()]
    require(
        bool(found),
        f"The folder {path.name} holds none of {', '.join(WEIGHTS)}; choose the folder of a "
        "CARE model of CSBDeep, or its file of weights",
    )
    return found[0]


def _config_beside(file: Path) -> dict[str, Any] | None:
    """Return CSBDeep's settings; None where there are none, or those of another program."""
    path = file.with_name(CONFIG)
    if not path.is_file():
        return None
    try:
        require(path.stat().st_size <= MOST_SETTINGS, f"{path} is too large for settings")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read ({first_line(error)}); mend it, or move the weights away "
            "from it to read them alone"
        ) from error
    is_csbdeeps = isinstance(found, dict) and "unet_n_depth" in found
    return found if is_csbdeeps else None


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a file of weights; what is wrong with it is told in a sentence."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            'A model of CSBDeep is read with h5py; pip install "napari-deconv[models]"'
        ) from error
    try:
        with h5py.File(file, "r") as found:
            # A whole Keras model keeps its weights one floor below.
            inner = found.get("model_weights")
            yield inner if isinstance(inner, h5py.Group) else found
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{file.name} is no file of Keras weights, or is cut off ({first_line(error)[:120]}); "
            "take weights_best.h5 as CSBDeep has written it"
        ) from error


def _keras_layers(root: Any, name: str) -> tuple[dict[str, Layer], list[Layer], set[str]]:
    """Return the convolutions by our names, the heads in their order, and all layers' names."""
    found: dict[str, Layer] = {}

    def take(path: str, entry: Any) -> None:
        if not hasattr(entry, "shape"):
            return
        layer, part = path.split("/")[0], path.split("/")[-1].partition(":")[0]
        _require_plain(layer, part, entry, name)
        setattr(found.setdefault(layer, Layer()), {"kernel": "weight"}.get(part, part), entry)

    # Links, which could lead to other files, are not followed.
    root.visititems(take)
    depth = sum(bool(_DOWN.fullmatch(layer)) for layer in found) // 2
    named = {_our_name(layer, depth): kept for layer, kept in found.items()}
    heads = sorted((key for key in named if key.startswith("last ")), key=_number_of_head)
    require(
        "down.0.0" in named and len(heads) in (1, 2),
        f"{name} is not a CARE network of CSBDeep: it has {len(found)} layers with weights and "
        f"{len(heads)} heads, of which a network of CARE has one, or two if it is probabilistic",
    )
    whole = all(kept.weight is not None and kept.bias is not None for kept in named.values())
    require(whole, f"{name} lacks the weights or biases of a layer; take it as CSBDeep wrote it")
    body = {key: kept for key, kept in named.items() if key not in heads}
    return body, [named[head] for head in heads], {str(key) for key in root}


def _require_plain(layer: str, part: str, entry: Any, name: str) -> None:
    """Refuse what is not the kernel or bias of a layer of CARE, kept in this file."""
    require(
        not layer.startswith("batch_normalization"),
        f"{name} has batch normalization, which CSBDeep's CARE has not (Noise2Void's networks "
        "have); train it anew with CAREamics, whose networks can be read",
    )
    known = any(kind.fullmatch(layer) for kind in (_DOWN, _UP, _MIDDLE, _HEAD))
    require(
        known and part in ("kernel", "bias"),
        f"{name} is not a CARE network of CSBDeep: its layer {layer[:40]!r} with {part[:40]!r} is "
        "not known; only the standard U-Net can be read",
    )
    is_here = entry.external is None and not entry.is_virtual
    require(
        is_here and entry.dtype.kind == "f" and entry.size <= MOST_WEIGHTS,
        f"{name} keeps the layer {layer!r} as no CARE network does; take it as CSBDeep wrote it",
    )


def _our_name(layer: str, depth: int) -> str:
    if match := _DOWN.fullmatch(layer):
        return f"down.{int(match[1])}.{2 * int(match[2])}"
    if match := _UP.fullmatch(layer):  # CSBDeep counts them from the finest
        return f"up.{depth - 1 - int(match[1])}.{match[2]}"
    if match := _MIDDLE.fullmatch(layer):
        return f"middle.{match[1]}"
    return f"last {layer}"


def _number_of_head(key: str) -> int:
    match = _HEAD.fullmatch(key.removeprefix("last "))
    return int(match[1] or 0) if match else 0


def _csbdeep_design(
    layers: Mapping[str, Layer],
    heads: Sequence[Layer],
    names: set[str],
    config: Mapping[str, Any] | None,
    name: str,
) -> tuple[UNetDesign, tuple[str, ...]]:
    """Return what the layers are, and what is assumed; refuse what the settings contradict."""
    *kernel, channels, first = layers["down.0.0"].weight.shape or (0, 0)
    depth = sum(key.startswith("down.") for key in layers) // 2
    outputs = [head.weight.shape[-1] for head in heads if head.weight.shape]
    require_one(channels, max(outputs, default=0), name)
    require_sizes(first, depth, kernel, name)
    found = {
        "n_dim": len(kernel),
        "unet_n_depth": depth,
        "unet_kern_size": kernel[0],
        "unet_n_first": first,
        "probabilistic": len(heads) == 2,
    }
    if config is not None:
        _require_agreeing(config, found, name)
    residual, notes = _is_residual(config, names)
    return UNetDesign(
        (IMAGE,),
        ((2,) * len(kernel),) * depth,
        first=first,
        kernel=kernel[0],
        laplace=len(heads) == 2,
        residual=residual,
        normalization=PERCENTILES,
        numbers=CSBDEEP_PERCENTILES,
    ), notes


def _require_agreeing(config: Mapping[str, Any], found: Mapping[str, Any], name: str) -> None:
    """Refuse settings that are not of this file, or that ask for more than a U-Net."""
    require(
        not any(key.startswith("n2v") for key in config),
        f"{name} is a network of Noise2Void, which normalizes otherwise than CARE; train it anew "
        "with CAREamics, whose networks can be read",
    )
    for key, value in found.items():
        require(
            config.get(key, value) == value,
            f"{CONFIG} says {str(config.get(key))[:40]} for {key}, the weights in {name} say "
            f"{value}; they do not belong together",
        )
    require_one(config.get("n_channel_in", 1), config.get("n_channel_out", 1), name)
    axes = str(config.get("axes", "")).replace("C", "")
    require(
        axes in ("", "YX", "ZYX"),
        f"{name} is a network for the axes {axes[:20]}; only YX and ZYX can be read",
    )
    last = config.get("unet_last_activation", "linear")
    require(
        last == "linear",
        f"{name} ends with the activation {str(last)[:40]!r}; only 'linear' can be read",
    )


def _is_residual(config: Mapping[str, Any] | None, names: set[str]) -> tuple[bool, tuple[str, ...]]:
    """Return whether the input is added to the output, and what is assumed.

    Keras writes the names of layers without weights too, the addition among them.
    """
    if config is not None and isinstance(config.get("unet_residual"), bool):
        return config["unet_residual"], ()
    activation = "there is no config.json: that the last activation is linear is assumed"
    if any(not _has_weights(layer) for layer in names):
        return any(_ADDED.fullmatch(layer) for layer in names), (activation,)
    return True, (activation, "that the network adds to its input is assumed as well")


def _has_weights(layer: str) -> bool:
    return any(kind.fullmatch(layer) for kind in (_DOWN, _UP, _MIDDLE, _HEAD))


def _keras_shapes(
    layers: Mapping[str, Layer], heads: Sequence[Layer]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes by our names, in torch's order: out, in, and the axes."""
    shapes = {}
    for key, layer in [*layers.items(), *(("last", head) for head in heads)]:
        *kernel, inner, outer = layer.weight.shape or (0, 0)
        shapes[f"{key}.weight"] = (outer, inner, *kernel)
        shapes[f"{key}.bias"] = tuple(layer.bias.shape)
    # Both heads are one layer here; the one seen last has the shape of each.
    shapes["last.weight"] = (len(heads), *shapes["last.weight"][1:])
    shapes["last.bias"] = (len(heads),)
    return shapes


def _keras_weights(
    layers: Mapping[str, Layer], heads: Sequence[Layer]
) -> dict[str, tuple[Tensor, Tensor]]:
    found = {key: _keras_pair(layer) for key, layer in layers.items()}
    weights, biases = zip(*map(_keras_pair, heads), strict=True)
    return {**found, "last": (torch.cat(weights), torch.cat(biases))}


def _keras_pair(layer: Layer) -> tuple[Tensor, Tensor]:
    """Return weight and bias: Keras has (axes, in, out), and correlates as torch does."""
    kernel = np.asarray(layer.weight[()], np.float32)
    turned = np.moveaxis(kernel, (-1, -2), (0, 1))
    bias = np.asarray(layer.bias[()], np.float32)
    return torch.from_numpy(np.ascontiguousarray(turned)), torch.from_numpy(bias)
