"""How sure a network is: intervals hold what they say, several answers disagree, mirrors agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.learned.calibration import (
    EDGES,
    LEVELS,
    Calibration,
    Errors,
    calibration_of,
    together,
)
from napari_deconv.learned.designs import UNetDesign, inverse_design
from napari_deconv.learned.lessons import Lessons
from napari_deconv.learned.model_file import Model, read_model, write_model
from napari_deconv.learned.nets import Net
from napari_deconv.learned.network import DISAGREEMENT, ESTIMATE, HALF_50, HALF_90, Learned
from napari_deconv.learned.pairs import Light, simulated_pairs
from napari_deconv.learned.samples import Sample
from napari_deconv.learned.trainer import Schedule
from napari_deconv.learned.training import training
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.stepping import ended

LIGHT = Light((50.0, 200.0), (5.0, 10.0))
SHORT = Schedule(pairs=4, left_out=3, shape=(6, 40, 40), patch=(6, 16, 16), batch=2, steps=8)


@pytest.fixture(scope="module")
def psf() -> Psf:
    z, y, x = np.ogrid[-1:2, -3:4, -3:4]
    return Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 3), (0.2, 0.1, 0.1))


@pytest.fixture(scope="module")
def path(psf: Psf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of two members."""
    schedule = replace(SHORT, members=2)
    design = inverse_design(psf, first=4)
    model = ended(training(Lessons([psf], LIGHT), design, schedule, open_engine("cpu")))
    return write_model(tmp_path_factory.mktemp("m") / "two.safetensors", model)


@pytest.fixture(scope="module")
def shaken(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of two with weights far from where they start.

    It does not see the smoothed states: total variation is not quite its own mirror image.
    """
    channels = ("heavy-ball 12", "heavy-ball 50", "image", "noise")
    design = UNetDesign(channels, ((1, 2, 2), (2, 2, 2)), first=4, mixed=2, stabilized=True)
    torch.manual_seed(7)
    networks = (design.network(), design.network())
    for network in networks:
        for values in network.parameters():
            with torch.no_grad():
                values.add_(0.05 * torch.randn_like(values))
    model = read_model(path)
    shaken = Model(replace(model.card, design=design), networks, model.psfs)
    return write_model(tmp_path_factory.mktemp("s") / "shaken.safetensors", shaken)


def seen(psf: Psf, seed: int = 9) -> Observation:
    (pair,) = simulated_pairs(range(1), (6, 40, 44), [psf], LIGHT, seed)
    return observe(np.maximum(pair.counts, 0), psf, pair.background)


def run(method: Learned, observation: Observation) -> np.ndarray:
    *_, last = method.steps(observation, open_engine("cpu"))
    assert last.estimate is not None
    return last.estimate


class Honest(Net):
    """Answers with its first channel, and the scale of the noise that was added to it."""

    def forward(
        self, x: torch.Tensor, psf: torch.Tensor, settings: torch.Tensor | None = None
    ) -> torch.Tensor:
        return x[:, :2]


def honest_samples(count: int, seed: int, psf: Psf, wrong: float = 1.0) -> list[Sample]:
    """Return samples with errors of Laplace, whose scale is told `wrong` times too small."""
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        image = random.uniform(0, 0.5, (4, 40, 50)).astype(np.float32)
        scale = 0.01 + 0.1 * image
        truth = (image + random.laplace(0, scale)).astype(np.float32)
        samples.append(Sample(np.stack([image, scale / wrong]), truth, psf, 1.0))
    return samples


@pytest.mark.parametrize("wrong", [0.3, 1.0, 4.0])
def test_intervals_hold_what_they_say(psf: Psf, wrong: float) -> None:
    """However wrong the scale is that the network tells, in bright and in dark voxels alike."""
    found = calibration_of([Errors.of([Honest()], one) for one in honest_samples(6, 0, psf, wrong)])
    assert found.coverage == pytest.approx(LEVELS, abs=0.01)
    assert found.most[1] / found.half[1] == pytest.approx(np.log(10) / np.log(2), rel=0.1)
    for sample in honest_samples(3, 99, psf, wrong):
        for level in LEVELS:
            width = found.half_width(sample.channels[0], sample.channels[1], level, 1.0)
            held = np.abs(sample.truth - sample.channels[0]) <= width
            for number in range(len(EDGES) + 1):
                here = np.digitize(sample.channels[0], EDGES) == number
                if here.sum() > 1000:
                    assert held[here].mean() == pytest.approx(level, abs=0.04)


def test_several_answers_are_as_unsure_as_they_disagree() -> None:
    first, second = np.full((2, 3, 3), 1.0), np.full((2, 3, 3), 3.0)
    first[1], second[1] = 0.3, 0.4
    image, scale = together([first, second])
    assert np.allclose(image, 2)
    assert np.allclose(scale, np.sqrt((0.3**2 + 0.4**2) / 2 + 1))


def test_a_model_of_two_answers_with_their_mean(shaken: Path, psf: Psf, tmp_path: Path) -> None:
    model, observation = read_model(shaken), seen(psf)
    assert len(model.networks) == model.card.members == 2
    ones = []
    for number, network in enumerate(model.networks):
        one = Model(replace(model.card, members=1), (network,), model.psfs)
        written = write_model(tmp_path / f"{number}.safetensors", one)
        ones.append(run(Learned(str(written)), observation))
    both, apart = (
        run(Learned(str(shaken), what), observation) for what in (ESTIMATE, DISAGREEMENT)
    )
    lit = np.minimum(*ones) > 0  # what is darker than the background is shown as dark
    assert lit.mean() > 0.1
    near = 1e-4 * both.max()
    assert np.abs(both - np.mean(ones, axis=0))[lit].max() < near
    assert np.abs(apart - np.std(ones, axis=0))[lit].max() < near
    assert apart[lit].max() > 100 * near


def test_intervals_of_a_restoration(path: Path, psf: Psf) -> None:
    """Nine of ten voxels of a stack like those of the training are in the wider one."""
    (pair,) = simulated_pairs(range(1), (6, 40, 44), [psf], LIGHT, 9)
    image = run(Learned(str(path)), seen(psf))
    half, most = (run(Learned(str(path), shows), seen(psf)) for shows in (HALF_50, HALF_90))
    assert (half > 0).all()
    assert (most >= half).all()
    held = [(np.abs(image - pair.truth) <= width).mean() for width in (half, most)]
    assert 0.3 < held[0] < 0.75
    assert held[1] > 0.75


def test_mirrored_answers_belong_to_the_mirrored_image(shaken: Path, psf: Psf) -> None:
    """Along y the PSF is its own mirror image: restored mirrored is mirrored, restored."""
    observation = seen(psf)
    turned = replace(observation, image=np.ascontiguousarray(observation.image[:, ::-1]))
    method = Learned(str(shaken), mirrored=True)
    plain = Learned(str(shaken))
    brightest = run(plain, observation).max()
    one, other = (run(method, place) for place in (observation, turned))
    assert np.abs(one - other[:, ::-1]).max() < 1e-4 * brightest
    one, other = (run(plain, place) for place in (observation, turned))
    assert np.abs(one - other[:, ::-1]).max() > 1e-3 * brightest


def test_what_a_model_cannot_tell_is_told(path: Path, psf: Psf, tmp_path: Path) -> None:
    model = read_model(path)
    card = replace(model.card, members=1, calibration=None)
    alone = write_model(tmp_path / "one.safetensors", Model(card, model.networks[:1], model.psfs))
    with pytest.raises(InputError, match="is one alone, which cannot disagree; train several"):
        Learned(str(alone), DISAGREEMENT)
    with pytest.raises(InputError, match="tells no intervals: it was trained without"):
        Learned(str(alone), HALF_90)
    with pytest.raises(InputError, match="does not give 'luck'; choose one of estimate, half-wid"):
        Learned(str(alone), "luck")
    assert Learned(str(alone), DISAGREEMENT, mirrored=True).mirrored


def test_the_card_keeps_the_coverage(path: Path) -> None:
    card = read_model(path).card
    assert isinstance(card.calibration, Calibration)
    assert len(card.calibration.coverage) == len(LEVELS)
    assert "90% intervals held" in card.calibration.in_words()


def test_dim_and_bright_images_have_intervals_of_their_own(psf: Psf) -> None:
    """The scale that is told is as wrong as there is light: the factors follow, also between."""
    samples = []
    for photons in (10, 100, 1000):
        for sample in honest_samples(4, photons, psf, wrong=photons / 50):
            samples.append(replace(sample, bright=float(2 * photons)))
    found = calibration_of([Errors.of([Honest()], one, gain=2.0) for one in samples])
    assert found.photons == pytest.approx((10, 100, 1000))
    assert found.coverage == pytest.approx(LEVELS, abs=0.06)
    one = np.full((3, 3), 0.2, np.float32)
    widths = [found.half_width(one, one, LEVELS[1], light)[0, 0] for light in (10, 100, 1000)]
    assert widths[1] / widths[0] == pytest.approx(10, rel=0.1)
    between = found.half_width(one, one, LEVELS[1], np.sqrt(10 * 100))[0, 0]
    assert between == pytest.approx(np.sqrt(widths[0] * widths[1]), rel=1e-3)
    beyond = found.half_width(one, one, LEVELS[1], 1e6)[0, 0]
    assert beyond == pytest.approx(widths[2], rel=1e-6)
