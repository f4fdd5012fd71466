"""Networks of CAREamics as models of this one: the U-Net of a checkpoint of Lightning.

Read are numbers alone, and the settings as text, without Lightning; nothing in a file is ever
executed. The layers are those of `careamics.models.unet` 0.3.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_deconv.imaging.value import InputError, first_line, require

from .designs import UNetDesign
from .foreign import (
    CARE,
    Imported,
    Layer,
    filled,
    model_of,
    require_one,
    require_shapes,
    require_sizes,
)
from .inputs import IMAGE, STANDARD
from .model_file import Model

#: What CAREamics adds to a standard deviation, and to a range.
CAREAMICS_EPSILON = {"mean_std": 1e-6, "quantile": 1e-8, "min_max": 1e-8}
#: Added to the variance by torch's batch normalization, which CAREamics leaves as it is.
BATCH_EPSILON = 1e-5
#: What to cite, by the algorithm that CAREamics trained with.
CITATIONS = {
    "n2v": "Krull et al. 2019, Noise2Void, CVPR, doi 10.1109/cvpr.2019.00223",
    "n2n": "Lehtinen et al. 2018, Noise2Noise, ICML, doi 10.48550/arXiv.1803.04189",
}

#: CAREamics's, two convolutions a block.
_BLOCK = re.compile(
    r"(encoder\.encoder_blocks|decoder\.decoder_blocks|decoder\.bottleneck)"
    r"(?:\.(\d{1,2}))?\.(conv|batch_norm)([12])\.(\w+)"
)
_FINAL = re.compile(r"final_conv\.(weight|bias)")


def model_from_careamics(path: str | os.PathLike[str]) -> Model:
    """Return a U-Net of CAREamics as a model; see `import_careamics`."""
    return import_careamics(path).model


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
    require_shapes(design, shapes, file.name)
    merged = {
        key: _merged(layer, normalized=_is_normalized(layer, told)) for key, layer in layers.items()
    }
    network = filled(design, merged, file.name)
    citation = CITATIONS.get(str(told.get("algorithm")), CARE)
    return Imported(model_of(file.stem, design, network, citation), notes)


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


def _torch_layers(state: Mapping[str, Tensor], name: str) -> dict[str, Layer]:
    """Return the convolutions by our names, each with its batch normalization."""
    layers: dict[str, Layer] = {}
    for key, value in state.items():
        place = _place(key)
        require(
            place is not None and _is_dense(value),
            f"{name} is not a U-Net of CAREamics: its {key[:60]!r} is not known; only the "
            "networks of CARE, Noise2Noise and Noise2Void can be read",
        )
        ours, kind, part = place or ("", "", "")
        layer = layers.setdefault(ours, Layer())
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
    layers: Mapping[str, Layer], told: Mapping[str, Any], name: str
) -> tuple[UNetDesign, tuple[str, ...]]:
    """Return what the layers are, and what is assumed; refuse what the settings ask beyond."""
    model, notes = told["model"], []
    shape = tuple(layers["down.0.0"].weight.shape)
    first, channels, kernel = (shape or (0,))[0], (*shape, 0, 0)[1], shape[2:]
    depth = sum(key.startswith("down.") for key in layers) // 2
    require_one(channels, (*layers["last"].weight.shape, 0)[0], name)
    require_sizes(first, depth, kernel, name)
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
    model: Mapping[str, Any], layers: Mapping[str, Layer], first: int, name: str
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


def _is_normalized(layer: Layer, told: Mapping[str, Any]) -> bool:
    """Return whether batch normalization is used: its numbers are there even where it is not."""
    said = told["model"].get("use_batch_norm")
    if not layer.norm:
        return False
    seen = layer.norm.get("num_batches_tracked")
    return said if isinstance(said, bool) else seen is None or int(seen) > 0


def _merged(layer: Layer, *, normalized: bool) -> tuple[Tensor, Tensor]:
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
