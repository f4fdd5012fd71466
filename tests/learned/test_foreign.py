"""Networks of CSBDeep and CAREamics: the same numbers as there, or a refusal in a sentence."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import correlate
from torch import Tensor, nn

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.learned import blocks, unet
from napari_deconv.learned.careamics import import_careamics, model_from_careamics
from napari_deconv.learned.csbdeep import import_csbdeep, model_from_csbdeep
from napari_deconv.learned.designs import UNetDesign
from napari_deconv.learned.inputs import IMAGE
from napari_deconv.learned.model_file import Card, Model, read_model, write_model
from napari_deconv.learned.network import DISAGREEMENT, Learned
from napari_deconv.learned.pairs import Light
from napari_deconv.learned.unet import UNet
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation

h5py = pytest.importorskip("h5py")

Doubles = npt.NDArray[np.float64]
Layers = dict[str, tuple[Doubles, Doubles]]


# CSBDeep's network, from its description: layers by the names that it gives, channels last.


def layers_of(
    ndim: int, depth: int = 2, kernel: int = 3, first: int = 4, *, heads: int = 1
) -> Layers:
    """Return random weights, in the order and with the names of `csbdeep.internals.blocks`."""
    rng = np.random.default_rng(ndim + depth + kernel)
    found: Layers = {}

    def add(name: str, before: int, after: int, side: int = kernel) -> None:
        spread = 1.3 / np.sqrt(before * side**ndim)
        weight = rng.normal(0, spread, (side,) * ndim + (before, after)).astype(np.float32)
        bias = rng.normal(0, 0.1, after).astype(np.float32)
        found[name] = weight.astype(np.float64), bias.astype(np.float64)

    sizes = [first * 2**level for level in range(depth)]
    for level, size in enumerate(sizes):
        add(f"down_level_{level}_no_0", 1 if level == 0 else sizes[level - 1], size)
        add(f"down_level_{level}_no_1", size, size)
    add("middle_0", sizes[-1], 2 * sizes[-1])
    add("middle_2", 2 * sizes[-1], sizes[-1])
    for level in reversed(range(depth)):
        add(f"up_level_{level}_no_0", 2 * sizes[level], sizes[level])
        add(f"up_level_{level}_no_2", sizes[level], sizes[max(level - 1, 0)])
    # Keras counts on within a session; by the alphabet, the second head would be the first.
    for number in range(heads):
        add(f"conv{ndim}d_{9 + number}", first, 1, side=1)
    return found


def convolved(x: Doubles, weight: Doubles, bias: Doubles) -> Doubles:
    """Return channels (C, ...) convolved as Keras does: correlated, with zeros outside."""
    return np.stack(
        [
            sum(correlate(x[i], weight[..., i, o], mode="constant") for i in range(len(x)))
            + bias[o]
            for o in range(weight.shape[-1])
        ]
    )


def pooled(x: Doubles) -> Doubles:
    for axis in range(1, x.ndim):
        pairs = np.moveaxis(x, axis, 0).reshape(x.shape[axis] // 2, 2, *np.delete(x.shape, axis))
        x = np.moveaxis(pairs.max(1), 0, axis)
    return x


def csbdeep_pass(layers: Layers, x: Doubles, *, residual: bool) -> tuple[Doubles, Doubles | None]:
    """Return what CSBDeep's network makes of a normalized image, and its scale."""

    def active(name: str, values: Doubles) -> Doubles:
        return np.maximum(convolved(values, *layers[name]), 0)

    depth = sum(name.startswith("down") for name in layers) // 2
    values, kept = x[None], []
    for level in range(depth):
        values = active(f"down_level_{level}_no_0", values)
        values = active(f"down_level_{level}_no_1", values)
        kept.append(values)
        values = pooled(values)
    values = active("middle_2", active("middle_0", values))
    for level in reversed(range(depth)):
        for axis in range(1, values.ndim):
            values = values.repeat(2, axis)
        values = active(f"up_level_{level}_no_0", np.concatenate([values, kept[level]]))
        values = active(f"up_level_{level}_no_2", values)
    heads = sorted((n for n in layers if n.startswith("conv")), key=lambda n: int(n[7:]))
    out = [convolved(values, *layers[head])[0] for head in heads]
    scale = np.log1p(np.exp(out[1])) + 1e-3 if len(out) == 2 else None
    return out[0] + x if residual else out[0], scale


def written_h5(path: Path, layers: Layers, *others: str, ending: str = ":0") -> Path:
    """Write weights as Keras does: a group a layer, its weights' names in an attribute."""
    with h5py.File(path, "w") as file:
        names = ["input", "max_0", *layers, *others]
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.11.0"
        for name in names:
            group, parts = file.create_group(name), []
            for part, value in zip(("kernel", "bias"), layers.get(name, ()), strict=False):
                parts.append(f"{name}/{part}{ending}".encode())
                group[f"{name}/{part}{ending}"] = value.astype(np.float32)
            group.attrs["weight_names"] = parts
    return path


def seen(shape: tuple[int, ...], background: float = 0.0) -> Observation:
    rng = np.random.default_rng(3)
    image = rng.poisson(np.where(rng.random(shape) > 0.95, 800, 40) + 100).astype(np.float32)
    return observe(image, Psf(np.ones((3,) * len(shape))), background)


def learned(path: Path, model: Model, **how: Any) -> Learned:
    return Learned(str(write_model(path.with_suffix(".safetensors"), model)), **how)


def estimate(method: Learned, observation: Observation, engine: Engine) -> npt.NDArray[np.float32]:
    *_, last = method.steps(observation, engine)
    assert last.estimate is not None
    return last.estimate


@pytest.mark.parametrize(
    ("ndim", "depth", "kernel", "heads", "residual"),
    [(2, 2, 5, 1, True), (2, 3, 3, 2, False), (3, 2, 3, 1, False), (3, 2, 3, 2, True)],
)
def test_a_network_of_csbdeep_gives_the_same(
    tmp_path: Path, engine: Engine, ndim: int, depth: int, kernel: int, heads: int, residual: bool
) -> None:
    layers = layers_of(ndim, depth, kernel, heads=heads)
    path = written_h5(tmp_path / "care.h5", layers, *(["add_3"] if residual else []))
    found = import_csbdeep(path)
    observation = seen((24, 32) if ndim == 2 else (4, 8, 12))
    image = observation.image.astype(np.float64)
    low, high = np.percentile(image, (2, 99.8))
    given = (image - low) / (high - low)
    wanted, scale = csbdeep_pass(layers, given, residual=residual)
    with torch.no_grad():
        out = found.model.network(torch.tensor(given[None, None], dtype=torch.float32))[0]
    assert out[0].numpy() == pytest.approx(wanted, abs=1e-4)
    if scale is not None:
        assert out[1].numpy() == pytest.approx(scale, abs=1e-4)
    assert found.notes == (
        "there is no config.json: that the last activation is linear is assumed",
    )
    # And as a method: normalized before, and undone after.
    restored = estimate(learned(path, found.model), observation, engine)
    undone = np.maximum(wanted * (high - low) + low, 0)
    assert restored == pytest.approx(undone, abs=float(1e-4 * undone.max()))


def test_it_has_the_parameters_of_csbdeep_and_its_card(tmp_path: Path) -> None:
    """And the names that Keras 3 writes; in a folder, with its settings."""
    (tmp_path / "denoise").mkdir()
    written_h5(tmp_path / "denoise" / "weights_last.h5", layers_of(3, first=32), ending="")
    path = tmp_path / "denoise" / "config.json"
    path.write_text(json.dumps(config_of(3, unet_n_first=32, unet_kern_size=3)))
    found = import_csbdeep(tmp_path / "denoise")
    model, card = found.model, found.model.card
    assert sum(values.numel() for values in model.network.parameters()) == 996_769
    assert (card.name, card.license, card.calibration, found.notes) == (
        "denoise",
        "unknown",
        None,
        (),
    )
    assert "doi 10.1038/s41592-018-0216-7" in card.citation
    assert model.psf.samples.shape == (1, 1, 1)
    written = write_model(tmp_path / "m.safetensors", model)
    assert read_model(written).card == card


def config_of(ndim: int, **others: Any) -> dict[str, Any]:
    return {
        "n_dim": ndim,
        "axes": "YXC" if ndim == 2 else "ZYXC",
        "n_channel_in": 1,
        "n_channel_out": 1,
        "probabilistic": False,
        "unet_residual": True,
        "unet_n_depth": 2,
        "unet_kern_size": 3,
        "unet_n_first": 4,
        "unet_last_activation": "linear",
        **others,
    }


def test_settings_say_more_than_layers(tmp_path: Path) -> None:
    path = written_h5(tmp_path / "weights_best.h5", layers_of(2))
    found = import_csbdeep(path)
    assert isinstance(found.model.card.design, UNetDesign)
    assert not found.model.card.design.residual  # no layer adds
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(config_of(2)))
    assert model_from_csbdeep(path).card.design == replace(found.model.card.design, residual=True)
    settings.write_text('{"of": "another program"}')
    assert import_csbdeep(path).notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unet_n_depth": 3}, "says 3 for unet_n_depth, the weights in .* say 2; they do not"),
        ({"n_channel_in": 3}, "takes 3 channels or planes and returns 1; only networks from one"),
        ({"axes": "TYXC"}, "is a network for the axes TYX; only YX and ZYX can be read"),
        ({"unet_last_activation": "relu"}, "ends with the activation 'relu'; only 'linear'"),
        ({"n2v_perc_pix": 1.5}, "is a network of Noise2Void, which normalizes otherwise"),
    ],
)
def test_settings_that_are_not_understood_are_refused(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    written_h5(tmp_path / "weights_best.h5", layers_of(2))
    (tmp_path / "config.json").write_text(json.dumps(config_of(2) | settings))
    with pytest.raises(InputError, match=words):
        import_csbdeep(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        import_csbdeep(tmp_path)


def without(layers: Layers) -> None:
    del layers["middle_0"]


def with_batch_norm(layers: Layers) -> None:
    layers["batch_normalization_1"] = np.ones(4), np.ones(4)


def of_stardist(layers: Layers) -> None:
    layers["features"] = layers["middle_0"]


def of_two_channels(layers: Layers) -> None:
    weight, bias = layers["down_level_0_no_0"]
    layers["down_level_0_no_0"] = np.concatenate([weight, weight], axis=-2), bias


def of_two_outputs(layers: Layers) -> None:
    weight, bias = layers["conv2d_9"]
    layers["conv2d_9"] = np.concatenate([weight] * 2, axis=-1), np.concatenate([bias] * 2)


def of_another_width(layers: Layers) -> None:
    weight, bias = layers["middle_2"]
    layers["middle_2"] = weight[..., :-1, :], bias


def with_even_kernels(layers: Layers) -> None:
    weight, bias = layers["down_level_0_no_0"]
    layers["down_level_0_no_0"] = weight[:2, :2], bias


def that_failed(layers: Layers) -> None:
    layers["middle_0"][1][0] = np.nan


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (without, r"is not a U-Net of CARE: of the layer 'middle\.0\.bias' it has nothing"),
        (with_batch_norm, "has batch normalization, which CSBDeep's CARE has not"),
        (of_stardist, "its layer 'features' with '.*' is not known"),
        (of_two_channels, "takes 2 channels or planes and returns 1"),
        (of_two_outputs, "takes 1 channels or planes and returns 2"),
        (of_another_width, r"of the layer 'middle\.2\.weight' it has \(8, 15, 3, 3\), not"),
        (with_even_kernels, "has convolutions of 2 x 2; only 2D and 3D networks with odd"),
        (that_failed, "are not finite: its training had failed"),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, changed: Callable[[Layers], None], words: str
) -> None:
    layers = layers_of(2)
    changed(layers)
    with pytest.raises(InputError, match=words):
        import_csbdeep(written_h5(tmp_path / "care.h5", layers))


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.95])
def test_weights_that_are_cut_off_are_told(tmp_path: Path, part: float) -> None:
    path = written_h5(tmp_path / "care.h5", layers_of(2))
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r"^care\.h5 is no file of Keras weights, or is cut off"):
        import_csbdeep(path)


def test_what_is_no_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"There is no model .*none\.h5; check the spelling"):
        import_csbdeep(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"holds none of weights_best\.h5, weights_last\.h5"):
        import_csbdeep(tmp_path)
    path = tmp_path / "a.h5"
    h5py.File(path, "w").close()
    with pytest.raises(InputError, match="it has 0 layers with weights and 0 heads"):
        import_csbdeep(path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r'h5py; pip install "napari-deconv\[models\]"'):
        import_csbdeep(path)


def test_weights_in_another_file_are_not_followed(tmp_path: Path) -> None:
    path = written_h5(tmp_path / "care.h5", layers_of(2))
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(path, "a") as file:
        del file["middle_0/middle_0/bias:0"]
        kept = [(str(tmp_path / "secret"), 0, 64)]
        file["middle_0/middle_0"].create_dataset("bias:0", (16,), "f4", external=kept)
    with pytest.raises(InputError, match="keeps the layer 'middle_0' as no CARE network does"):
        import_csbdeep(path)


# CAREamics's network, from its description: the names are those of its state.


class Block(nn.Module):
    """Convolution, normalization, activation; twice."""

    def __init__(self, ndim: int, sizes: tuple[int, int, int], *, norm: bool) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        normalization = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[ndim]
        self.norm = norm
        self.conv1 = convolution(sizes[0], sizes[1], 3, padding=1)
        self.conv2 = convolution(sizes[1], sizes[2], 3, padding=1)
        self.batch_norm1, self.batch_norm2 = normalization(sizes[1]), normalization(sizes[2])

    def forward(self, x: Tensor) -> Tensor:
        for convolve, normalize in (
            (self.conv1, self.batch_norm1),
            (self.conv2, self.batch_norm2),
        ):
            x = convolve(x)
            x = torch.relu(normalize(x) if self.norm else x)
        return x


class Careamics(nn.Module):
    """A U-Net that pools and grows by 2, with linear interpolation."""

    def __init__(
        self,
        ndim: int,
        depth: int = 2,
        first: int = 4,
        *,
        norm: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual, self.depth = residual, depth
        sizes = [first * 2**level for level in range(depth)]
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[ndim](2)
        down: list[nn.Module] = []
        for before, size in zip([1, *sizes], sizes, strict=False):
            down += [Block(ndim, (before, size, size), norm=norm), pool]
        up: list[nn.Module] = []
        for size in reversed(sizes):
            grown = nn.Upsample(scale_factor=2, mode={2: "bilinear", 3: "trilinear"}[ndim])
            up += [grown, Block(ndim, (2 * size, size, max(size // 2, first)), norm=norm)]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.encoder_blocks = nn.ModuleList(down)
        self.decoder.bottleneck = Block(ndim, (sizes[-1], 2 * sizes[-1], sizes[-1]), norm=norm)
        self.decoder.decoder_blocks = nn.ModuleList(up)
        self.final_conv = {2: nn.Conv2d, 3: nn.Conv3d}[ndim](first, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        given, kept = x, []
        for layer in self.encoder.encoder_blocks:  # type: ignore[union-attr]
            x = layer(x)
            if isinstance(layer, Block):
                kept.append(x)
        x = self.decoder.bottleneck(x)  # type: ignore[operator]
        for layer in self.decoder.decoder_blocks:  # type: ignore[union-attr]
            x = layer(x) if isinstance(layer, nn.Upsample) else layer(torch.cat([x, kept.pop()], 1))
        x = self.final_conv(x)
        return x + given if self.residual else x


def careamics(ndim: int, **how: Any) -> Careamics:
    """Return one as after a training: with weights and running statistics of its own."""
    torch.manual_seed(ndim)
    net = Careamics(ndim, **how)
    for key, value in net.state_dict().items():
        if "running_var" in key:
            value.uniform_(0.3, 3)
        elif "batches" in key:
            value.fill_(7)
        elif "batch_norm" in key:
            value.normal_(1 if key.endswith("weight") else 0, 0.3)
        elif key.endswith("weight"):
            value.normal_(0, 1.4 / value[0].numel() ** 0.5)
    return net.eval()


def checkpoint_of(net: Careamics, data: dict[str, Any], **model: Any) -> dict[str, Any]:
    settings = {
        "architecture": "UNet",
        "residual": net.residual,
        "final_activation": "None",
        "n2v2": False,
        "use_batch_norm": True,
        **model,
    }
    return {
        "epoch": 3,
        "state_dict": {f"model.{key}": value for key, value in net.state_dict().items()}
        | {"metrics.total": torch.zeros(1)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
        "hyper_parameters": {"algorithm_config": {"algorithm": "care", "model": settings}},
        "datamodule_hyper_parameters": {"data_config": data},
    }


def mean_std(*target: float) -> dict[str, Any]:
    means = {"name": "mean_std", "input_means": [190.0], "input_stds": [80.0]}
    if target:
        means |= {"target_means": [target[0]], "target_stds": [target[1]]}
    return {"normalization": means}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("ndim", "how"),
    [
        (2, {"norm": True, "residual": True}),
        (2, {"norm": False, "depth": 3}),
        (3, {"norm": True}),
    ],
)
def test_a_network_of_careamics_gives_the_same(
    tmp_path: Path, engine: Engine, ndim: int, how: dict[str, Any]
) -> None:
    net = careamics(ndim, **how)
    content = checkpoint_of(net, mean_std(), use_batch_norm=how["norm"])
    path = saved(tmp_path / "care.ckpt", content)
    found = import_careamics(path)
    assert found.notes == ()
    observation = seen((24, 32) if ndim == 2 else (4, 8, 12))
    image = torch.tensor(observation.image[None, None], dtype=torch.float64)
    with torch.no_grad():
        wanted = net.double()((image - 190) / (80 + 1e-6))
        out = found.model.network(((image - 190) / 80).float())
    assert float(wanted.std()) > 0.05  # or it would say nothing
    assert out.numpy() == pytest.approx(wanted.numpy(), abs=1e-4)
    undone = np.maximum(wanted[0, 0].numpy() * (80 + 1e-6) + 190, 0)
    restored = estimate(learned(path, found.model), observation, engine)
    assert restored == pytest.approx(undone, abs=float(1e-4 * undone.max()))


def numbers_of(path: Path, data: dict[str, Any]) -> tuple[float, ...]:
    design = model_from_careamics(saved(path, checkpoint_of(careamics(2), data))).card.design
    assert isinstance(design, UNetDesign)
    return design.numbers


def test_its_normalizations(tmp_path: Path) -> None:
    path = tmp_path / "care.ckpt"
    assert numbers_of(path, mean_std()) == pytest.approx((190, 80))
    assert numbers_of(path, mean_std(190, 80)) == pytest.approx((190, 80))
    assert numbers_of(path, mean_std(5, 2)) == pytest.approx((190, 80, 5, 2))
    skipped = mean_std()
    skipped["normalization"]["skip_target"] = True
    assert numbers_of(path, skipped) == pytest.approx((190, 80, 0, 1))
    assert numbers_of(path, {"normalization": {"name": "none"}}) == (0, 1)
    limits = {"name": "min_max", "input_mins": [10.0], "input_maxes": [50.0]}
    assert numbers_of(path, {"normalization": limits}) == pytest.approx((10, 40))
    low, high = "input_lower_quantile_values", "input_upper_quantile_values"
    quantiles = {"name": "quantile", low: [10.0], high: [30.0]}
    assert numbers_of(path, {"normalization": quantiles}) == pytest.approx((10, 20))
    # Until 0.2:
    older = {"image_means": [190.0], "image_stds": [80.0], "target_means": [], "target_stds": []}
    assert numbers_of(path, older) == pytest.approx((190, 80))
    assert numbers_of(path, {}) == ()


def test_a_state_alone_is_enough(tmp_path: Path) -> None:
    """Whether its normalization was in use is told by the batches that it has seen."""
    for norm in (True, False):
        net = careamics(2, norm=norm)
        state = net.state_dict()
        if not norm:
            for key in state:
                if "batches" in key:
                    state[key].zero_()
        found = import_careamics(saved(tmp_path / "state.pth", state))
        x = torch.rand(1, 1, 8, 12)
        with torch.no_grad():
            assert found.model.network(x).numpy() == pytest.approx(net(x).numpy(), abs=1e-5)
        assert len(found.notes) == 2
        assert "that it does not add to its input" in found.notes[0]


def test_without_numbers_those_of_the_image_are_taken(tmp_path: Path, engine: Engine) -> None:
    path = saved(tmp_path / "care.ckpt", checkpoint_of(careamics(2), {}))
    method, observation = learned(path, model_from_careamics(path)), seen((24, 32))
    settled = method.settled([observation], engine)
    assert settled.levels == pytest.approx((observation.image.mean(), observation.image.std()))
    assert np.array_equal(
        estimate(settled, observation, engine), estimate(method, observation, engine)
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"n2v2": True}, "is a network of Noise2Void2, which blurs where it pools"),
        ({"final_activation": "Sigmoid"}, "ends with the activation 'Sigmoid'"),
        ({"architecture": "LVAE"}, "is a network of the kind 'LVAE', not a U-Net"),
    ],
)
def test_settings_of_careamics_that_are_not_understood_are_refused(
    tmp_path: Path, model: dict[str, Any], words: str
) -> None:
    content = checkpoint_of(careamics(2), mean_std(), **model)
    with pytest.raises(InputError, match=words):
        import_careamics(saved(tmp_path / "care.ckpt", content))


def doubled(state: dict[str, Tensor], key: str, axis: int) -> None:
    state[key] = torch.cat([state[key]] * 2, dim=axis)


def test_another_network_of_torch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "care.ckpt"

    def refused(words: str, change: Callable[[dict[str, Any]], Any]) -> None:
        state = dict(careamics(2).state_dict())
        change(state)
        with pytest.raises(InputError, match=words):
            import_careamics(saved(path, state))

    entry, last = "encoder.encoder_blocks.0.conv1.weight", "final_conv.weight"
    refused("takes 2 channels or planes", lambda state: doubled(state, entry, 1))
    refused("and returns 2; only", lambda state: doubled(state, last, 0))
    refused("its 'head.weight' is not known", lambda s: s.update({"head.weight": torch.ones(2)}))
    refused("lacks layers", lambda state: [state.pop(k) for k in list(state) if "bottle" in k])
    refused("lacks layers", lambda state: state.pop("final_conv.bias"))
    refused("of the layer 'middle.2.weight' it has", lambda state: doubled(state, MIDDLE, 1))
    refused("Noise2Void2", lambda s: s.update({FINEST: s[FINEST][:, :4]}))
    refused("normalization lacks its numbers", lambda s: s.pop(MIDDLE.replace(*NORM_MEAN)))
    refused("holds no weights", dict.clear)
    with pytest.raises(InputError, match="holds no checkpoint of CAREamics but a list"):
        import_careamics(saved(path, [1]))
    with pytest.raises(InputError, match="normalizes by 'magic', which is not known"):
        numbers_of(path, {"normalization": {"name": "magic"}})
    many = {"name": "mean_std", "input_means": [1.0, 2.0], "input_stds": [1.0, 2.0]}
    with pytest.raises(InputError, match="has no single number for input_means"):
        numbers_of(path, {"normalization": many})


MIDDLE = "decoder.bottleneck.conv2.weight"
FINEST = "decoder.decoder_blocks.3.conv1.weight"
NORM_MEAN = ("conv2.weight", "batch_norm2.running_mean")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "run").touch, ())

    state = careamics(2).state_dict()
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps(Evil()))
    saved(tmp_path / "b.ckpt", Evil())
    saved(tmp_path / "c.ckpt", {"state_dict": state, "callbacks": Evil()})
    whole = saved(tmp_path / "whole.ckpt", state).read_bytes()
    (tmp_path / "d.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "e.ckpt").write_bytes(b"")
    for name in "abcde":
        with pytest.raises(InputError, match=r"is no checkpoint of numbers and text alone, or is"):
            import_careamics(tmp_path / f"{name}.ckpt")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="There is no model"):
        import_careamics(tmp_path / "none.ckpt")


# What is new in the U-Net and in the method.


@pytest.mark.parametrize("upsampling", ["nearest", "linear"])
def test_no_pixel_beyond_the_halo_matters(upsampling: Any) -> None:
    """Of CSBDeep's kernels of 5, three levels deep; and some pixel near its end does."""
    net = UNet(((2, 2),) * 3, first=1, kernel=5, upsampling=upsampling).double()
    for values in net.parameters():  # all paths open
        torch.nn.init.uniform_(values, 0.01, 0.1)
    side = 2 * net.halo[0] + 16
    x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    farthest = np.zeros(2, int)
    for phase in range(8):  # of the pooling's grid
        middle = net.halo[0] + 4 + phase
        (gradient,) = torch.autograd.grad(net(x)[0, 0, middle, middle], x)
        lit = np.argwhere(gradient[0, 0].numpy() != 0)
        farthest = np.maximum(farthest, np.abs(lit - middle).max(0))
    assert (farthest <= net.halo).all()
    assert (farthest >= np.array(net.halo) - 8).all()


def imported(path: Path, kind: str) -> Learned:
    """Return a method with random weights, that measures its levels on the image."""
    if kind == "csbdeep":
        found = model_from_csbdeep(written_h5(path, layers_of(2, kernel=5), "add"))
    else:
        found = model_from_careamics(saved(path, checkpoint_of(careamics(2), {})))
    return learned(path, found)


@pytest.mark.parametrize("kind", ["csbdeep", "careamics"])
@pytest.mark.parametrize("start", [0, 3])
def test_a_piece_is_restored_as_in_the_whole(
    tmp_path: Path, engine: Engine, kind: str, start: int
) -> None:
    """Its own percentiles are others: those of the whole were settled."""
    method, whole = imported(tmp_path / "m.h5", kind), seen((40, 240))
    whole.image[:, 200:] *= 3
    settled = method.settled([whole], engine)
    halo = settled.halo(whole.psf)
    assert halo is not None
    assert 110 + halo[1] < 190
    begin = 80 + start - halo[1]
    piece = observe(
        whole.image[:, begin : 110 + halo[1]], whole.psf, 0.0, start=(0, begin), whole_mean=1.0
    )
    kept = slice(80 + start, 110)
    wanted = estimate(settled, whole, engine)
    assert np.array_equal(wanted, estimate(method, whole, engine))

    def apart(found: Learned) -> float:
        part = estimate(found, piece, engine)[:, kept.start - begin : kept.stop - begin]
        return float(np.abs(part - wanted[:, kept]).max() / wanted.max())

    assert apart(settled) < 1e-5
    assert apart(method) > 1e-3  # what settling is for


def test_blocks_are_the_whole(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("csbdeep", "careamics"):
        method, observation = imported(tmp_path / f"{kind}.h5", kind), seen((90, 130))
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 30)
        whole = estimate(method, observation, engine)
        monkeypatch.setattr(unet, "ROWS_BYTES", 1 << 12)
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 19)
        assert 1 < len(list(blocks.blocks_of(observation, method.model.network, 8))) < 200
        assert np.abs(estimate(method, observation, engine) - whole).max() < 1e-5 * whole.max()


def test_a_background_is_subtracted_where_it_is_known(tmp_path: Path, engine: Engine) -> None:
    csbdeep = imported(tmp_path / "m.h5", "csbdeep")
    for method, known in ((csbdeep, True), *standard(tmp_path)):
        before = estimate(method, seen((16, 20)), engine)
        after = estimate(method, seen((16, 20), 60.0), engine)
        wanted = np.maximum(before - 60, 0) if known else before
        assert before.min() > 0
        assert after == pytest.approx(wanted, abs=float(1e-4 * before.max()))


def standard(folder: Path) -> Iterator[tuple[Learned, bool]]:
    """Yield networks with numbers of their own; what comes out of the second has its own units."""
    for name, data in (("one", mean_std()), ("two", mean_std(500.0, 20.0))):
        path = saved(folder / f"{name}.ckpt", checkpoint_of(careamics(2), data))
        yield learned(path, model_from_careamics(path)), name == "one"


def test_disagreement_does_not_move_with_the_image(tmp_path: Path, engine: Engine) -> None:
    method = replace(imported(tmp_path / "m.h5", "csbdeep"), shows=DISAGREEMENT, mirrored=True)
    low = seen((16, 20))
    found = estimate(method, low, engine)
    high = observe(low.image + 5000, low.psf)
    assert found.max() > 1
    assert estimate(method, high, engine) == pytest.approx(found, abs=float(1e-3 * found.max()))


def test_a_constant_image_stays_finite_and_no_psf_is_doubted(
    tmp_path: Path, engine: Engine
) -> None:
    method = imported(tmp_path / "m.h5", "csbdeep")
    flat = observe(np.full((12, 16), 70.0), Psf(np.ones((3, 3))))
    assert np.isfinite(estimate(method, flat, engine)).all()
    *_, last = method.steps(seen((12, 16)), engine)
    assert last.note == "one pass of the network 'm'"


def test_designs_of_today_are_as_they_were() -> None:
    data = {"channels": [IMAGE], "pools": [[2, 2]], "first": 4, "kernel": 3, "laplace": False}
    design = UNetDesign.from_dict({"kind": "UNetDesign", **data, "mixed": 1})
    assert design == UNetDesign((IMAGE,), ((2, 2),), first=4)
    assert Card.from_dict(Card("a", design, Light()).to_dict()).design == design


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"upsampling": "cubic"}, "The upsampling 'cubic' is not known"),
        ({"normalization": "magic"}, "The normalization 'magic' is not known"),
        ({"normalization": "percentiles"}, "Percentiles are two numbers from 0 to 100"),
        ({"normalization": "percentiles", "numbers": (99.0, 2.0)}, "the lower one first"),
        ({"normalization": "standard", "numbers": (1.0, 0.0)}, "a standard deviation above 0"),
        ({"numbers": (1.0,)}, "To divide by the brightness takes no numbers"),
        ({"mixed": 2, "residual": False}, "it must be residual"),
        ({"normalization": "standard"}, "a network that is given the image alone, not 2 channels"),
    ],
)
def test_designs_that_do_not_fit_are_told(how: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        UNetDesign((IMAGE, "noise"), ((2, 2),), **how)
