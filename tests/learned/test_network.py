"""A network restores like any method: in its place, in tiles as in the whole, from one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_deconv.imaging.brightness import brightness_of
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.learned import blocks, unet
from napari_deconv.learned.designs import DESIGNS, Design, UNetDesign, UnrolledDesign
from napari_deconv.learned.inputs import ESTIMATES, INVERSE_CHANNELS, states
from napari_deconv.learned.model_file import Card, Model, write_model
from napari_deconv.learned.network import Learned
from napari_deconv.learned.pairs import Light
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.stepping import ended


def written(path: Path, psf: Psf, *, random: bool, **design: object) -> Learned:
    """Return a model with random weights, or with none: then it returns its first channel."""
    made = UNetDesign(INVERSE_CHANNELS, ((1, 2, 2), (2, 2, 2)), first=3, **design)  # type: ignore[arg-type]
    return written_as(path, psf, made, 0.1 if random else 0.0)


def written_as(path: Path, psf: Psf, design: Design, spread: float) -> Learned:
    torch.manual_seed(0)
    net = design.network()
    for values in net.parameters():
        torch.nn.init.normal_(values, 0, spread)
    write_model(path, Model(Card("test", design, Light(), psf.spacing_um), (net,), (psf,)))
    return Learned(str(path))


def seen(psf: Psf, shape: tuple[int, ...] = (9, 60, 150)) -> Observation:
    rng = np.random.default_rng(5)
    image = rng.poisson(np.where(rng.random(shape) > 0.98, 900, 30)).astype(np.float32)
    return observe(image, psf, 10.0)


def estimate(method: Learned, observation: Observation, engine: Engine) -> np.ndarray:
    *_, last = method.steps(observation, engine)
    assert last.estimate is not None
    return last.estimate


@pytest.mark.parametrize("mixed", [1, len(ESTIMATES)])
def test_without_weights_it_is_richardson_lucy(
    tmp_path: Path, psf: Psf, engine: Engine, mixed: int
) -> None:
    """Its first state, or all of them in equal shares."""
    method = written(tmp_path / "m.safetensors", psf, random=False, mixed=mixed)
    observation = seen(psf)
    channels = ended(states(INVERSE_CHANNELS, observation, engine))
    expected = np.mean([channels[name] for name in ESTIMATES[:mixed]], axis=0)
    found = estimate(method, observation, engine)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_blocks_are_the_whole(
    tmp_path: Path, psf: Psf, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, observation = written(tmp_path / "m.safetensors", psf, random=True), seen(psf)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 30)
    whole = estimate(method, observation, engine)
    monkeypatch.setattr(unet, "ROWS_BYTES", 1 << 16)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2 << 20)
    count = len(list(blocks.blocks_of(observation, method.model.network, 8)))
    assert 8 < count < 200
    assert np.abs(estimate(method, observation, engine) - whole).max() < 1e-5 * whole.max()


@pytest.mark.parametrize("start", [40, 41, 43])
def test_a_piece_with_its_halo_is_restored_as_in_the_whole(
    tmp_path: Path, psf: Psf, engine: Engine, start: int
) -> None:
    """Wherever it begins: the grid of the network is that of the whole."""
    method = written(tmp_path / "m.safetensors", psf, random=True)
    assert seam(method, seen(psf, (9, 24, 240)), engine, start) < 1e-3


@pytest.mark.parametrize("name", ["wiener", "wiener-kpn", "wiener-unet", "unrolled-rl"])
def test_a_piece_of_one_that_blurs_itself_is_restored_as_in_the_whole(
    tmp_path: Path, psf: Psf, engine: Engine, name: str
) -> None:
    design, path = DESIGNS[name](psf), tmp_path / "m.safetensors"
    if name == "wiener-unet":
        assert isinstance(design, UnrolledDesign)
        design = replace(design, stages=2)
    torch.manual_seed(1)
    net = design.network()
    for key, values in net.named_parameters():
        if values.ndim > 1 and "filters" not in key:
            torch.nn.init.normal_(values, 0, 0.05)
    write_model(path, Model(Card("test", design, Light(), psf.spacing_um), (net,), (psf,)))
    assert seam(Learned(str(path)), seen(psf, (9, 24, 400)), engine, 41) < 1e-3


def seam(method: Learned, observation: Observation, engine: Engine, start: int) -> float:
    """Return by how much a piece in the middle differs from the whole, of its maximum."""
    settled = method.settled([observation], engine)
    halo = settled.halo(observation.psf)
    assert halo is not None
    middle = observation.image.shape[-1] // 2
    assert halo[-1] < middle - 20  # or it would be the whole
    begin, end = middle - 20 - halo[-1] + start - 40, middle + 20 + halo[-1]
    piece = observe(
        observation.image[..., begin:end],
        observation.psf,
        10.0,
        whole_mean=float(observation.image.mean()),
        start=(0, 0, begin),
    )
    whole = estimate(settled, observation, engine)
    part = estimate(settled, piece, engine)[..., middle - 17 - begin : middle + 20 - begin]
    return float(np.abs(part - whole[..., middle - 17 : middle + 20]).max() / whole.max())


def test_what_decides_for_all_tiles_is_settled(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method, observation = written(tmp_path / "m.safetensors", psf, random=True), seen(psf)
    assert method.halo(psf) is None
    settled = method.settled([observation], engine)
    assert settled.bright == pytest.approx(brightness_of(observation.image) - 10)
    known = replace(observation, whole_bright=3000.0)
    assert method.settled([observation, known], engine).bright == 2990
    assert np.array_equal(
        estimate(settled, observation, engine), estimate(method, observation, engine)
    )


def test_an_image_of_zeros_and_one_plane(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method = written(tmp_path / "m.safetensors", psf, random=False)
    assert not estimate(method, observe(np.zeros((5, 9, 8)), psf), engine).any()
    thin = observe(np.random.default_rng(0).poisson(50, (1, 33, 35)).astype(np.float32), psf)
    assert estimate(method, thin, engine).shape == (1, 33, 35)


def test_a_network_for_volumes_refuses_a_plane(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method = written(tmp_path / "m.safetensors", psf, random=False)
    plane = observe(np.ones((20, 20)), Psf(np.ones((3, 3))))
    with pytest.raises(InputError, match="'test' restores volumes, and the image is made of pl"):
        next(method.steps(plane, engine))
