"""What the command and the dock share: the light of a stack, a region to show, 2D and 3D."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.learned import requiring
from napari_deconv.learned.designs import UNetDesign
from napari_deconv.learned.pairs import Light
from napari_deconv.restoration.stepping import ended

GRID = Grid(spacing_um=(0.2, 0.1, 0.1))


@pytest.fixture
def stack() -> Stack:
    """Return squares of 200 photons on 5, two counts a photon above an offset of 100."""
    rng = np.random.default_rng(0)
    light = np.full((12, 96, 96), 5.0)
    light[:, 30:60, 20:70] = np.linspace(20, 200, 50)
    return Stack((100 + 2 * rng.poisson(light)).astype(np.uint16), "ZYX", GRID, "cell")


def psf(ndim: int = 3) -> Psf:
    axes = np.ogrid[(slice(-2, 3),) * ndim]
    return Psf(np.exp(-sum(axis**2 for axis in axes) / 2), GRID.spacing_um[-ndim:])


def test_the_light_is_that_of_the_stack(stack: Stack) -> None:
    told = learning.light_like(stack)
    light = told.light
    assert light.gain == pytest.approx(2, rel=0.05)
    assert light.offset == pytest.approx(100, abs=4)
    assert light.photons[0] < 200 < light.photons[1]
    assert sum(light.background) / 2 == pytest.approx(110, abs=4)
    assert "counts a photon above an offset of" in told.in_words()
    lazy = replace(stack, data=da.from_array(stack.data, chunks=(4, 48, 48)))
    assert learning.light_like(lazy).light == light


def test_an_image_of_fractions_has_the_light_of_its_counts(stack: Stack) -> None:
    """16 bits told as 0 to 1, as programs of image analysis do."""
    light = learning.light_like(stack).light
    part = 1 / 65535
    told = learning.light_like(replace(stack, data=stack.data.astype(np.float32) * part)).light
    assert told.gain == pytest.approx(light.gain * part, rel=0.02)
    assert told.photons == pytest.approx(light.photons, rel=0.03)
    assert told.background == pytest.approx([part * n for n in light.background], rel=0.01)


def test_of_fractions_without_noise_the_brightest_voxel_has_many_photons() -> None:
    ramp = np.linspace(0.1, 1, 64, dtype=np.float32) * np.ones((4, 64, 1), np.float32)
    told = learning.light_like(Stack(ramp, "ZYX", GRID))
    assert told.camera is None
    assert told.light.photons[0] > 100
    assert "counts taken for a photon" in told.in_words()


def test_noise_that_neighbours_share_is_told(stack: Stack) -> None:
    assert "share noise" not in learning.light_like(stack).in_words()
    moved = replace(stack, data=ndimage.shift(stack.data.astype(np.float32), (0, 0.5, 0.5)))
    assert "neighbouring pixels share noise" in learning.light_like(moved).in_words()


def test_a_camera_that_is_known_is_taken(stack: Stack) -> None:
    light = learning.light_like(stack, Camera(4.0, 90.0, 2.0)).light
    assert (light.gain, light.offset, light.read_noise) == (4.0, 90.0, 2.0)


def test_without_noise_a_count_is_a_photon() -> None:
    flat = Stack(np.full((4, 64, 64), 9, np.uint16), "ZYX", GRID)
    told = learning.light_like(flat)
    assert told.camera is None
    assert told.light.gain == 1
    assert told.in_words().startswith("a count taken for a photon")


def test_the_region_lies_around_what_is_shown(stack: Stack) -> None:
    image = np.arange(40 * 300 * 300, dtype=np.float32).reshape(40, 300, 300)
    shown = learning.region_to_show(image, psf(), 0.0, (20, 290, 10))
    assert shown.image.shape == (32, 128, 128)
    assert shown.image[-1, -1, 0] == image[35, 299, 0]
    small = learning.region_to_show(np.asarray(stack.data), psf(), 100.0)
    assert small.image.shape == (12, 96, 96)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_network_is_trained_in_two_and_three_dimensions(
    ndim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "PAIR_2D", (32, 32))
    monkeypatch.setattr(learning, "PATCH_2D", (16, 16))
    schedule = replace(
        learning.schedule_of("quick", seed=3, steps=2),
        pairs=2,
        left_out=1,
        shape=(6, 24, 24),
        patch=(4, 16, 16),
    )
    light, engine = Light((50.0, 200.0)), open_engine("cpu")
    model = ended(learning.train(psf(ndim), light, schedule, engine, name="m"))
    assert model.card.steps == 2
    assert isinstance(model.card.design, UNetDesign)
    assert len(model.card.design.pools[0]) == ndim
    assert learning.expected_seconds(psf(ndim), light, schedule, engine) > 0


def test_without_torch_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requiring, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="need the package torch"):
        learning.schedule_of("quick")


def test_few_steps_need_few_pairs() -> None:
    usual = learning.schedule_of("quick")
    few = learning.schedule_of("quick", steps=2)
    assert (few.steps, few.pairs, few.unseen) == (2, 2 * usual.batch, 2 * usual.batch)
    assert learning.schedule_of("quick", steps=usual.steps) == usual
