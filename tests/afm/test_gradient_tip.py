"""The tip by gradient descent: its gradient, its apex, and how near it comes to the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.gradient_loops import opening_loss
from napari_deconv.afm.gradient_tip import GradientTip, estimated, gradient_tip, smoothed
from napari_deconv.afm.morphology import dilate, erode, opened
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.stepping import ended

Array = npt.NDArray[np.float64]

PIXEL = (1.0, 1.0)
QUICK = GradientTip(shape=(9, 9), starts=6, steps=100, weight_decays=(1e-3, 1e-2))


def asymmetric_tip(side: int = 9) -> Array:
    """Return a tip whose four sides differ; no turn or flip of it is the same."""
    y, x = np.mgrid[:side, :side] - side // 2
    return np.asarray(-np.max([1.0 * x, -2.0 * x, 0.6 * y, -3.0 * y], axis=0) - 0.1 * (x * x))


def surfaces(count: int = 8, side: int = 30, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    made = np.zeros((count, side, side))
    for frame in made:
        for _ in range(4):
            at, size = rng.integers(5, side - 5, 2), rng.uniform(0.5, 2)
            inside = (y - at[0]) ** 2 + (x - at[1]) ** 2 <= size**2
            frame[inside] = np.maximum(frame[inside], rng.uniform(3, 7))
    return made


def seen(tip: Array, noise: float = 0.0, **shape: Any) -> tuple[Array, Array]:
    surface = surfaces(**shape)
    image = dilate(surface, tip)
    return image + noise * np.random.default_rng(9).standard_normal(image.shape), surface


def error(images: Array, tip: Array, surface: Array) -> float:
    return float(np.sqrt(((erode(images, tip) - surface) ** 2).mean()))


def test_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((2, 14, 13))
    tip = -rng.random((5, 7))
    tip[2, 3] = 0.0
    gradient, unused = np.zeros_like(tip), np.zeros_like(tip)
    opening_loss(images, tip, 1, 2, gradient)
    for place in np.ndindex(tip.shape):
        step = np.zeros_like(tip)
        step[place] = 1e-7
        up = opening_loss(images, tip + step, 1, 2, unused)
        down = opening_loss(images, tip - step, 1, 2, unused)
        assert gradient[place] == pytest.approx((up - down) / 2e-7, abs=1e-6)
    assert np.abs(gradient).max() > 1e-3


def test_loss_is_that_of_the_opening() -> None:
    images, _ = seen(asymmetric_tip(), 0.2)
    tip = asymmetric_tip()
    loss = opening_loss(images, tip, 0, 0, np.zeros_like(tip))
    assert loss == pytest.approx(((opened(images, tip) - images) ** 2).mean(), rel=1e-12)


def test_clean_frames_give_the_asymmetric_tip_back() -> None:
    truth = asymmetric_tip()
    images, surface = seen(truth)
    tip = gradient_tip(images, PIXEL, QUICK).heights_nm
    assert tip.shape == (9, 9)
    assert tip[4, 4] == 0 == tip.max()
    assert error(images, tip, surface) < error(images, truth, surface) + 0.1
    assert error(images, tip, surface) < 0.85 * error(images, tip[::-1, ::-1], surface)


@pytest.fixture(scope="module")
def noisy() -> tuple[Array, Array, Array]:
    """Return noisy frames, their surfaces, and the tip that was estimated."""
    images, surface = seen(asymmetric_tip(), 0.3, count=12)
    return images, surface, gradient_tip(images, PIXEL, QUICK, 0.3).heights_nm


def test_noisy_frames_are_reconstructed_as_by_the_true_tip(
    noisy: tuple[Array, Array, Array],
) -> None:
    images, surface, tip = noisy
    assert error(images, tip, surface) < 1.1 * error(images, asymmetric_tip(), surface)


def test_tip_is_not_the_one_of_no_width_that_opens_all_to_itself(
    noisy: tuple[Array, Array, Array],
) -> None:
    images, _, tip = noisy
    left = float(np.sqrt(((opened(images, tip) - images) ** 2).mean()))
    assert 0.05 < left < 0.3
    assert np.sort(tip.ravel())[-5] > -2.5


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_spikes_of_a_pixel_tell_of_no_tip(noise: float) -> None:
    rng = np.random.default_rng(3)
    images = np.where(rng.random((6, 20, 20)) > 0.9, 5.0, 0.0)
    images += noise * rng.standard_normal(images.shape)
    settings = GradientTip((5, 5), 4, 60, weight_decays=(1e-3,))
    with pytest.raises(InputError, match="tip of no width"):
        gradient_tip(images, PIXEL, settings, noise)


def test_symmetric_tip_is_the_same_after_half_a_turn() -> None:
    y, x = np.mgrid[-4:5, -4:5]
    images, _ = seen(-(0.5 * y * y + 0.2 * x * x + 0.2 * x * y), 0.1)
    settings = GradientTip((9, 9), 4, 60, symmetric=True, weight_decays=(1e-3,))
    tip = gradient_tip(images, PIXEL, settings, 0.1).heights_nm
    np.testing.assert_allclose(tip, tip[::-1, ::-1], rtol=0, atol=1e-12)


def test_same_seed_gives_the_same_tip_and_other_units_too() -> None:
    images, _ = seen(asymmetric_tip(), 0.3, count=6)
    settings = GradientTip((9, 9), 3, 40, weight_decays=(1e-3,), seed=4)
    tip = gradient_tip(images, PIXEL, settings, 0.3).heights_nm
    again = gradient_tip(images, PIXEL, settings, 0.3).heights_nm
    np.testing.assert_array_equal(again, tip)
    micrometres = gradient_tip(images * 1e-3, PIXEL, settings, 0.3e-3).heights_nm
    np.testing.assert_allclose(micrometres * 1e3, tip, rtol=1e-6, atol=1e-9)


def test_single_image_is_cut_into_parts() -> None:
    truth = asymmetric_tip(5)
    images, surface = seen(truth, 0.1, count=1, side=64)
    settings = GradientTip((5, 5), 4, 60, weight_decays=(1e-3,))
    tip = gradient_tip(images[0], PIXEL, settings, 0.1).heights_nm
    assert error(images, tip, surface) < 1.1 * error(images, truth, surface)
    assert error(images, tip, surface) < 0.9 * float(np.sqrt(((images - surface) ** 2).mean()))


def test_steps_tell_how_far_it_is_and_can_be_left() -> None:
    images, _ = seen(asymmetric_tip(), 0.1, count=4)
    settings = GradientTip((9, 9), 2, 40, weight_decays=(1e-3,))
    steps = list(estimated(images, PIXEL, settings, 0.1))
    assert all(0 <= step.done <= step.total for step in steps)
    assert steps[-1].divergence is not None
    assert "weight decay" in steps[-1].note
    running = estimated(images, PIXEL, settings, 0.1)
    next(running)
    running.close()
    assert ended(estimated(images, PIXEL, settings, 0.1)).shape == (9, 9)


def test_smoothing_leaves_what_the_noise_is() -> None:
    images, _ = seen(asymmetric_tip(), 0.3)
    rest = images - smoothed(images, 0.3)
    assert rest.std() == pytest.approx(0.285, rel=0.1)
    np.testing.assert_array_equal(smoothed(images, 0.0), images)


@pytest.mark.parametrize(
    ("images", "settings", "noise", "sentence"),
    [
        (np.eye(10), GradientTip(), 0.0, "larger than the image"),
        (np.zeros((3, 20, 20)), GradientTip(), 0.0, "flat"),
        (np.eye(20), GradientTip(), 0.0, "too small to leave a part"),
        (np.stack([np.eye(20)] * 3), GradientTip(), 0.5, "no more than noise"),
        (np.stack([np.eye(20)] * 3), GradientTip(), -1.0, "noise in nm must be at least 0"),
    ],
)
def test_what_tells_nothing_of_a_tip_is_refused(
    images: Array, settings: GradientTip, noise: float, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        gradient_tip(images, PIXEL, settings, noise)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shape": (14, 15)}, "odd sides"),
        ({"starts": 0}, "number of starts"),
        ({"steps": 5}, "number of steps"),
        ({"weight_decays": ()}, "At least one weight decay"),
        ({"weight_decays": (2.0,)}, "below 1"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        GradientTip(**wrong)


def test_settings_are_written_and_read() -> None:
    settings = GradientTip(shape=(9, 11), symmetric=True)
    assert GradientTip.from_json(settings.to_json()) == settings
