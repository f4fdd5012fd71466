"""Networks of other programs as models of this one: CARE as CSBDeep and CAREamics keep it.

Read are numbers alone, and a file's settings as text: no Keras, no Lightning, and nothing in a
file is ever executed. What is not understood is refused; a network that is nearly the same would
give images that are nearly right.

The layers are those of `csbdeep.internals.nets.common_unet` 0.8 (Weigert et al. 2018,
doi 10.1038/s41592-018-0216-7), a Keras weights file as Keras 2 and 3 write it for CSBDeep, and
those of `careamics.models.unet` 0.3, in a checkpoint of Lightning.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, first_line, require

from .designs import UNetDesign
from .inputs import IMAGE, PERCENTILES, STANDARD
from .model_file import Card, Model
from .pairs import Light
from .unet import UNet

#: Of `csbdeep.data.PercentileNormalizer`, which prediction uses unless told otherwise.
CSBDEEP_PERCENTILES = (2.0, 99.8)
#: CSBDeep's files, the best first.
WEIGHTS = ("weights_best.h5", "weights_last.h5", "weights_now.h5")
CONFIG = "config.json"
#: What CAREamics adds to a standard deviation, and to a range.
CAREAMICS_EPSILON = {"mean_std": 1e-6, "quantile": 1e-8, "min_max": 1e-8}
#: Added to the variance by torch's batch normalization, which CAREamics leaves as it is.
BATCH_EPSILON = 1e-5
#: No network of these programs is larger, in weights; nor are their settings, in bytes.
MOST_WEIGHTS, MOST_SETTINGS = 500_000_000, 10_000_000

CARE = (
    "Weigert et al. 2018, Content-aware image restoration: pushing the limits of fluorescence "
    "microscopy, Nature Methods 15, 1090, doi 10.1038/s41592-018-0216-7"
)
#: What to cite, by the algorithm that CAREamics trained with.
CITATIONS = {
    "n2v": "Krull et al. 2019, Noise2Void, CVPR, doi 10.1109/cvpr.2019.00223",
    "n2n": "Lehtinen et al. 2018, Noise2Noise, ICML, doi 10.48550/arXiv.1803.04189",
}
#: Of pairs that are not known: nothing is outside of them.
ANY_LIGHT = Light(photons=(1e-3, 1e9), background=(0.0, 1e9), read_noise=0.0, kinds=())

#: CSBDeep's layers: the name, and the level or None.
_DOWN = re.compile(r"down_level_(\d{1,2})_no_([01])")
_UP = re.compile(r"up_level_(\d{1,2})_no_([02])")
_MIDDLE = re.compile(r"middle_([02])")
#: The heads are named by Keras, in the order in which they were made: mean, then scale.
_HEAD = re.compile(r"conv[23]d(?:_(\d{1,6}))?")
_ADDED = re.compile(r"add(_\d+)?")
#: CAREamics's, two convolutions a block.
_BLOCK = re.compile(
    r"(encoder\.encoder_blocks|decoder\.decoder_blocks|decoder\.bottleneck)"
    r"(?:\.(\d{1,2}))?\.(conv|batch_norm)([12])\.(\w+)"
)
_FINAL = re.compile(r"final_conv\.(weight|bias)")


@dataclass(frozen=True, eq=False)
class Imported:
    """A network of another program as a model, and what had to be assumed to read it.

    Parameters
    ----------
    model : Model
        With a PSF of one voxel, which stands for one that is not known.
    notes : tuple of str
        Sentences for people.
    """

    model: Model
    notes: tuple[str, ...]


@dataclass
class _Layer:
    """One convolution of a file: the shapes that are written, and how to get the numbers."""

    weight: Any = None
    bias: Any = None
    norm: dict[str, Tensor] = field(default_factory=dict)


def model_from_csbdeep(path: str | os.PathLike[str]) -> Model:
    """Return a CARE network of CSBDeep as a model; see `import_csbdeep`."""
    return import_csbdeep(path).model


def model_from_careamics(path: str | os.PathLike[str]) -> Model:
    """Return a U-Net of CAREamics as a model; see `import_careamics`."""
    return import_careamics(path).model


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
        _require_shapes(design, _keras_shapes(layers, heads), file.name)
        network = _filled(design, _keras_weights(layers, heads), file.name)
    name = file.parent.name if file.name in WEIGHTS else file.stem
    return Imported(_model(name, design, network, CARE), notes)


def import_careamics(path: str | os.PathLike[str]) -> Imported:
    """Read a U-Net of CAREamics: CARE, Noise2Noise or Noise2Void.

    Parameters
    ----------
    path : str or path
        A checkpoint, ".ckpt", or a file of torch with the network's state alone. Batch
        normalization becomes part of the convolution before it, exactly.

    Returns
    -------
    Imported

    Raises
    ------
    InputError
        If the file holds more than numbers and text, is damaged, or holds another network.
    """
    file = Path(path).expanduser()
    checkpoint = _checkpoint(file)
    layers = _torch_layers(_state(checkpoint, file.name), file.name)
    told = _told(checkpoint)
    design, notes = _careamics_design(layers, told, file.name)
    shapes = {
        f"{key}.{part}": tuple(getattr(layer, part).shape)
        for key, layer in layers.items()
        for part in ("weight", "bias")
    }
    _require_shapes(design, shapes, file.name)
    merged = {
        key: _merged(layer, normalized=_is_normalized(layer, told)) for key, layer in layers.items()
    }
    network = _filled(design, merged, file.name)
    citation = CITATIONS.get(str(told.get("algorithm")), CARE)
    return Imported(_model(file.stem, design, network, citation), notes)


def _model(name: str, design: UNetDesign, network: UNet, citation: str) -> Model:
    card = Card(name, design, ANY_LIGHT, license="unknown", citation=citation)
    point = Psf(np.ones((1,) * len(design.pools[0]), np.float32))
    return Model(card, (network,), (point,))


def _require_shapes(design: UNetDesign, shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse what is not this network, before anything large is read or made."""
    with torch.device("meta"):  # shapes alone
        wanted = {key: tuple(v.shape) for key, v in design.network().state_dict().items()}
    for key in sorted(set(wanted) | set(shapes)):
        require(
            shapes.get(key) == wanted.get(key),
            f"{name} is not a U-Net of CARE: of the layer {key!r} it has "
            f"{shapes.get(key, 'nothing')}, not {wanted.get(key, 'nothing')}; only the standard "
            "networks of CSBDeep and CAREamics can be read",
        )


def _filled(design: UNetDesign, weights: Mapping[str, tuple[Tensor, Tensor]], name: str) -> UNet:
    state = {
        f"{key}.{part}": value
        for key, both in weights.items()
        for part, value in zip(("weight", "bias"), both, strict=True)
    }
    finite = all(bool(torch.isfinite(value).all()) for value in state.values())
    require(finite, f"The weights in {name} are not finite: its training had failed")
    network = design.network()
    network.load_state_dict(state)
    network.eval()
    return network


def _require_sizes(first: int, depth: int, kernel: Sequence[int], name: str) -> None:
    """Refuse sizes of which no network can be made."""
    side = kernel[0] if kernel else 0
    require(
        len(kernel) in (2, 3) and side % 2 == 1 and set(kernel) == {side},
        f"{name} has convolutions of {' x '.join(map(str, kernel)) or 'no axis'}; only 2D and "
        "3D networks with odd kernels, as long along each axis, can be read",
    )
    voxels = side ** len(kernel)
    # Most are in the middle, between 2 ** depth times as many channels and half of that.
    most = 2 * voxels * (first * 2**depth) ** 2
    require(
        depth >= 1 and first >= 1 and most <= MOST_WEIGHTS,
        f"{name} has {depth} levels from {first} channels on: no CARE network is that large, or "
        "that small",
    )


# CSBDeep


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


def _keras_layers(root: Any, name: str) -> tuple[dict[str, _Layer], list[_Layer], set[str]]:
    """Return the convolutions by our names, the heads in their order, and all layers' names."""
    found: dict[str, _Layer] = {}

    def take(path: str, entry: Any) -> None:
        if not hasattr(entry, "shape"):
            return
        layer, part = path.split("/")[0], path.split("/")[-1].partition(":")[0]
        _require_plain(layer, part, entry, name)
        setattr(found.setdefault(layer, _Layer()), {"kernel": "weight"}.get(part, part), entry)

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
    layers: Mapping[str, _Layer],
    heads: Sequence[_Layer],
    names: set[str],
    config: Mapping[str, Any] | None,
    name: str,
) -> tuple[UNetDesign, tuple[str, ...]]:
    """Return what the layers are, and what is assumed; refuse what the settings contradict."""
    *kernel, channels, first = layers["down.0.0"].weight.shape or (0, 0)
    depth = sum(key.startswith("down.") for key in layers) // 2
    outputs = [head.weight.shape[-1] for head in heads if head.weight.shape]
    _require_one(channels, max(outputs, default=0), name)
    _require_sizes(first, depth, kernel, name)
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


def _require_one(channels: int, outputs: int, name: str) -> None:
    require(
        channels == 1 and outputs == 1,
        f"{name} takes {channels} channels or planes and returns {outputs}; only networks from "
        "one channel to one can be read, so split the channels and train one network each",
    )


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
    _require_one(config.get("n_channel_in", 1), config.get("n_channel_out", 1), name)
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
    layers: Mapping[str, _Layer], heads: Sequence[_Layer]
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
    layers: Mapping[str, _Layer], heads: Sequence[_Layer]
) -> dict[str, tuple[Tensor, Tensor]]:
    found = {key: _keras_pair(layer) for key, layer in layers.items()}
    weights, biases = zip(*map(_keras_pair, heads), strict=True)
    return {**found, "last": (torch.cat(weights), torch.cat(biases))}


def _keras_pair(layer: _Layer) -> tuple[Tensor, Tensor]:
    """Return weight and bias: Keras has (axes, in, out), and correlates as torch does."""
    kernel = np.asarray(layer.weight[()], np.float32)
    turned = np.moveaxis(kernel, (-1, -2), (0, 1))
    bias = np.asarray(layer.bias[()], np.float32)
    return torch.from_numpy(np.ascontiguousarray(turned)), torch.from_numpy(bias)


# CAREamics


def _checkpoint(file: Path) -> dict[Any, Any]:
    """Return what a checkpoint holds: numbers, text, and what is made of them."""
    require(file.is_file(), f"There is no model {file}; check the spelling")
    try:
        found = torch.load(str(file), map_location="cpu", weights_only=True)
    except Exception as error:  # what is broken, or no pickle, can raise anything
        named = re.search(r"GLOBAL (\S{1,80})", str(error))
        why = f"it asks for {named[1]}" if named else first_line(error)[:80]
        raise InputError(
            f"{file.name} is no checkpoint of numbers and text alone, or is cut off, and nothing "
            f"in it was run ({why}); save the network's state_dict with torch.save and read that"
        ) from error
    require(
        isinstance(found, dict),
        f"{file.name} holds no checkpoint of CAREamics but a {type(found).__name__}",
    )
    checkpoint: dict[Any, Any] = found
    return checkpoint


def _state(checkpoint: Mapping[Any, Any], name: str) -> dict[str, Tensor]:
    """Return the network's state; a file may hold it alone."""
    state = checkpoint.get("state_dict", checkpoint)
    tensors = {
        str(key): value
        for key, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(value, Tensor)
    }
    # Lightning keeps other modules beside the network: those of the metrics.
    inner = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    found = inner or tensors
    require(bool(found), f"{name} holds no weights of a network; choose a checkpoint of CAREamics")
    return found


def _inside(found: Any, *keys: str) -> dict[str, Any]:
    """Return a dictionary within dictionaries; an empty one where there is none."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _told(checkpoint: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the settings in a checkpoint: the network's, the algorithm's name, the data's."""
    algorithm = _inside(checkpoint, "hyper_parameters", "algorithm_config")
    return {
        "model": _inside(algorithm, "model"),
        "algorithm": algorithm.get("algorithm"),
        "data": _inside(checkpoint, "datamodule_hyper_parameters", "data_config")
        or _inside(checkpoint, "hyper_parameters", "data_config"),
    }


def _torch_layers(state: Mapping[str, Tensor], name: str) -> dict[str, _Layer]:
    """Return the convolutions by our names, each with its batch normalization."""
    layers: dict[str, _Layer] = {}
    for key, value in state.items():
        place = _place(key)
        require(
            place is not None and _is_dense(value),
            f"{name} is not a U-Net of CAREamics: its {key[:60]!r} is not known; only the "
            "networks of CARE, Noise2Noise and Noise2Void can be read",
        )
        ours, kind, part = place or ("", "", "")
        layer = layers.setdefault(ours, _Layer())
        if kind == "batch_norm":
            layer.norm[part] = value
        elif part in ("weight", "bias"):
            setattr(layer, part, value)
    whole = all(kept.weight is not None and kept.bias is not None for kept in layers.values())
    require(
        whole and {"down.0.0", "middle.0", "last"} <= set(layers),
        f"{name} lacks layers of the U-Net of CAREamics; take the checkpoint as it was made",
    )
    return layers


def _is_dense(value: Tensor) -> bool:
    """Return whether these are plain numbers: floats, or the count of batches."""
    is_plain = value.layout == torch.strided and not value.is_quantized
    return is_plain and (value.is_floating_point() or value.ndim == 0)


def _place(key: str) -> tuple[str, str, str] | None:
    """Return our name of a layer, convolution or normalization, and which of its tensors it is.

    CAREamics counts pooling and upsampling as blocks: before the odd, and before the even ones.
    """
    if match := _FINAL.fullmatch(key):
        return "last", "conv", match[1]
    match = _BLOCK.fullmatch(key)
    if match is None:
        return None
    where, number, kind, which, part = match.groups()
    at = 2 * (int(which) - 1)
    if where == "decoder.bottleneck":
        return (f"middle.{at}", kind, part) if number is None else None
    is_down = where == "encoder.encoder_blocks"
    if number is None or int(number) % 2 == is_down:
        return None
    return f"{'down' if is_down else 'up'}.{int(number) // 2}.{at}", kind, part


def _careamics_design(
    layers: Mapping[str, _Layer], told: Mapping[str, Any], name: str
) -> tuple[UNetDesign, tuple[str, ...]]:
    """Return what the layers are, and what is assumed; refuse what the settings ask beyond."""
    model, notes = told["model"], []
    shape = tuple(layers["down.0.0"].weight.shape)
    first, channels, kernel = (shape or (0,))[0], (*shape, 0, 0)[1], shape[2:]
    depth = sum(key.startswith("down.") for key in layers) // 2
    _require_one(channels, (*layers["last"].weight.shape, 0)[0], name)
    _require_sizes(first, depth, kernel, name)
    _require_understood(model, layers, first, name)
    if not model:
        notes.append(
            "the checkpoint has no settings of its network: that it does not add to its input, "
            "and has no last activation, is assumed"
        )
    numbers = _careamics_numbers(told["data"], name)
    if not numbers:
        notes.append(
            "the checkpoint has no mean and standard deviation of its images: those of each "
            "image are taken"
        )
    return UNetDesign(
        (IMAGE,),
        ((2,) * len(kernel),) * depth,
        first=first,
        kernel=kernel[0],
        residual=model.get("residual", False) is True,
        upsampling="linear",
        normalization=STANDARD,
        numbers=numbers,
    ), tuple(notes)


def _require_understood(
    model: Mapping[str, Any], layers: Mapping[str, _Layer], first: int, name: str
) -> None:
    kind, last = model.get("architecture", "UNet"), model.get("final_activation", "None")
    require(kind == "UNet", f"{name} is a network of the kind {str(kind)[:40]!r}, not a U-Net")
    require(
        str(last) == "None",
        f"{name} ends with the activation {str(last)[:40]!r}; only networks without can be read",
    )
    # Its finest level takes no channels from the way down.
    finest = max((key for key in layers if key.startswith("up.")), default="", key=_level)
    entry = layers.get(f"up.{_level(finest)}.0")
    is_n2v2 = entry is not None and tuple(entry.weight.shape)[1:2] == (first,)
    require(
        not model.get("n2v2") and not is_n2v2,
        f"{name} is a network of Noise2Void2, which blurs where it pools; only plain U-Nets can "
        "be read, so train it without n2v2",
    )


def _level(key: str) -> int:
    return int(key.split(".")[1]) if key else 0


def _careamics_numbers(data: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """Return the normalization as `inputs.Normalization` has it; nothing where none is told."""
    norm = _inside(data, "normalization")
    kind = norm.get("name", "mean_std")
    if kind == "none":
        return (0.0, 1.0)
    names = {
        "mean_std": ("means", "stds"),
        "quantile": ("lower_quantile_values", "upper_quantile_values"),
        "min_max": ("mins", "maxes"),
    }.get(str(kind))
    require(
        names is not None,
        f"{name} normalizes by {str(kind)[:40]!r}, which is not known; train it with mean and "
        "standard deviation",
    )
    low, high = names or ("", "")
    # Until 0.2 the numbers were those of "image", and stood among the data's own.
    source, before = (norm, "input") if norm else (data, "image")
    seen = _both(source, f"{before}_{low}", f"{before}_{high}", str(kind), name)
    if seen is None:
        return ()
    wanted = _both(source, f"target_{low}", f"target_{high}", str(kind), name)
    if norm.get("skip_target") is True:
        wanted = (0.0, 1.0)
    return seen if wanted in (None, seen) else (*seen, *(wanted or ()))


def _both(
    found: Mapping[str, Any], low: str, high: str, kind: str, name: str
) -> tuple[float, float] | None:
    """Return what is subtracted, and what is divided by."""
    values = []
    for key in (low, high):
        value = found.get(key)
        if value is None or value == []:
            return None
        alone = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
        require(
            isinstance(alone, (int, float)),
            f"{name} has no single number for {key}; only networks of one channel can be read",
        )
        values.append(float(alone))
    unit = values[1] if kind == "mean_std" else values[1] - values[0]
    return values[0], unit + CAREAMICS_EPSILON[kind]


def _is_normalized(layer: _Layer, told: Mapping[str, Any]) -> bool:
    """Return whether batch normalization is used: its numbers are there even where it is not."""
    said = told["model"].get("use_batch_norm")
    if not layer.norm:
        return False
    seen = layer.norm.get("num_batches_tracked")
    return said if isinstance(said, bool) else seen is None or int(seen) > 0


def _merged(layer: _Layer, *, normalized: bool) -> tuple[Tensor, Tensor]:
    """Return weight and bias with the batch normalization that follows as part of them.

    CAREamics has convolution, normalization, activation in this order; in use the second is a
    factor a channel and a constant, so that it is folded into the first exactly.
    """
    weight, bias = layer.weight.double(), layer.bias.double()
    if normalized:
        parts = [layer.norm.get(k) for k in ("weight", "bias", "running_mean", "running_var")]
        told = [part.double() for part in parts if part is not None and part.shape == bias.shape]
        require(len(told) == 4, "The batch normalization lacks its numbers; take it as it was made")
        scale, shift, mean, variance = told
        factor = scale / torch.sqrt(variance + BATCH_EPSILON)
        bias = (bias - mean) * factor + shift
        weight = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    return weight.float(), bias.float()
