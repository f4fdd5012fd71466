"""Counts of another camera, told to a network as those of its training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.engines import open_engine
from napari_deconv.files.recipe import TrainedModel
from napari_deconv.imaging.psf import Psf
from napari_deconv.learned.counting import Counting
from napari_deconv.learned.network import Learned
from napari_deconv.learned.pairs import Light, Pair, simulated_pair
from napari_deconv.library import resolve
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Step

Array = npt.NDArray[np.floating]
LIGHT = Light()


@pytest.fixture(scope="module")
def shipped() -> Learned:
    return Learned(TrainedModel.of(resolve("widefield_inverse")).path)


@pytest.fixture(scope="module")
def pair(shipped: Learned) -> Pair:
    """Return photons of the kind that the network was trained on."""
    light = replace(shipped.card.light, photons=(200.0, 200.0), background=(10.0, 10.0))
    psf = shipped.model.psfs[0]
    return simulated_pair((24, 64, 64), psf, light, np.random.default_rng(3), photons=200.0)


def restored(method: Learned, counts: Array, psf: Psf, background: float) -> tuple[Array, str]:
    *_, last = method.steps(observe(np.maximum(counts, 0), psf, background), open_engine("cpu"))
    assert last.estimate is not None
    return last.estimate, last.note


def test_what_may_be_of_the_same_camera_is_left_as_it_is(shipped: Learned, pair: Pair) -> None:
    observation = observe(np.maximum(pair.counts, 0), shipped.model.psfs[0], pair.background)
    counting = Counting.of(observation, shipped.card.light)
    assert counting.is_the_same
    assert counting.told(observation) is observation
    assert "told as" not in restored(shipped, pair.counts, observation.psf, pair.background)[1]


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 100.0), (2.2, 100.0), (0.0043, 0.0)])
def test_another_camera_makes_no_difference(
    shipped: Learned, pair: Pair, gain: float, offset: float
) -> None:
    psf = shipped.model.psfs[0]
    expected, _ = restored(shipped, pair.counts, psf, pair.background)
    background = offset + gain * pair.background
    found, note = restored(shipped, offset + gain * pair.counts, psf, background)
    assert "its counts were told as those of the training" in note
    assert found.sum() / gain == pytest.approx(expected.sum(), rel=0.03)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995


def test_tiles_share_what_the_samples_tell(shipped: Learned, pair: Pair) -> None:
    psf = shipped.model.psfs[0]
    sample = observe(100 + 2 * np.maximum(pair.counts, 0), psf, 100 + 2 * pair.background)
    settled = shipped.settled([sample], open_engine("cpu"))
    assert settled.counting is not None
    assert settled.counting.factor == pytest.approx(0.5, rel=0.2)
    piece = replace(sample, image=sample.image[:, :40])
    assert settled._counting(piece) == settled.counting


def test_what_is_restored_is_put_back_into_counts() -> None:
    counting = Counting(factor=0.5, shift=-50.0)
    ones = np.ones((2, 2), np.float32)
    step = counting.put_back(Step(1, 1, estimate=ones, peek=lambda: ones))
    assert step.estimate is not None
    assert step.peek is not None
    assert np.all(step.estimate == 2)
    assert np.all(step.peek() == 2)
    assert counting.in_words(LIGHT).endswith("2 a photon above an offset of 100")
