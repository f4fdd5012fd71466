"""Thinning: two stacks of one, with noise that is independent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.thinning import thinned
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]
SHAPE = (4, 500, 500)


def recorded(camera: Camera, photons: float, *, whole: bool = True, seed: int = 0) -> Array:
    """Return a flat field as the camera records it."""
    rng = np.random.default_rng(seed)
    caught = rng.poisson(photons, SHAPE) + rng.normal(0, camera.read_noise, SHAPE)
    counts: Array = camera.offset + camera.gain * caught
    return np.rint(counts) if whole else counts


def photons_of(part: npt.NDArray[np.float32], camera: Camera) -> Array:
    found: Array = (part.astype(float).ravel() - camera.offset) / camera.gain
    return found


@pytest.mark.parametrize("fraction", [0.5, 0.2])
@pytest.mark.parametrize(
    ("camera", "photons"),
    [
        (Camera(1, 0, 0), 3),
        (Camera(2, 100, 0), 20),
        (Camera(2.2, 100, 1.5), 10),
        (Camera(0.46, 99.3, 1.6), 1),
        (Camera(1, 100, 5), 0.5),
    ],
    ids=["photons", "gain", "read noise", "dim", "dark"],
)
def test_the_parts_are_independent_and_of_the_right_size(
    camera: Camera, photons: float, fraction: float
) -> None:
    counts = recorded(camera, photons, whole=camera.read_noise == 0)
    parts = thinned(counts, camera, fraction, random=np.random.default_rng(1))
    first, second = (photons_of(part, camera) for part in parts)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    for part, share in ((first, fraction), (second, 1 - fraction)):
        variance = share * (photons + camera.read_noise**2)
        assert part.mean() == pytest.approx(share * photons, abs=5 * np.sqrt(variance / 1e6))
        # As that of a Poisson stack with less light, and read noise of sqrt(share).
        assert part.var() == pytest.approx(variance, rel=0.02)


def test_the_parts_of_a_poisson_stack_are_poisson() -> None:
    camera = Camera(1, 0, 0)
    first, second = thinned(recorded(camera, 4), camera, random=np.random.default_rng(1))
    for part in (first, second):
        assert (part == np.rint(part)).all()
        assert part.min() == 0
        seen = np.bincount(part.astype(int).ravel(), minlength=6)[:6] / part.size
        expected = np.exp(-2) * np.array([1, 2, 2, 4 / 3, 2 / 3, 4 / 15])
        np.testing.assert_allclose(seen, expected, atol=0.003)


@pytest.mark.parametrize(
    ("camera", "dtype"),
    [
        (Camera(1, 0, 0), np.uint8),
        (Camera(2.3, 100, 1.4), np.uint16),
        (Camera(0.31, 400, 3), np.int32),
        (Camera(7, 1000, 1), np.uint16),
    ],
)
def test_the_sum_is_exact(camera: Camera, dtype: type) -> None:
    top = min(np.iinfo(dtype).max, 65535)
    counts: npt.NDArray[np.generic] = (
        np.random.default_rng(0).integers(0, top, (3, 100, 100), endpoint=True).astype(dtype)
    )
    first, second = thinned(counts, camera, 0.3, random=np.random.default_rng(1))
    assert first.dtype == second.dtype == np.float32
    assert first.shape == counts.shape
    assert (first.astype(float) + second - camera.offset == counts).all()
    assert (first + second - np.float32(camera.offset) == counts).all()


def test_an_offset_that_is_no_whole_number_costs_the_last_digit() -> None:
    camera = Camera(1.7, 99.37, 1)
    counts = np.random.default_rng(0).integers(90, 60000, (2, 100, 100))
    first, second = thinned(counts, camera, random=np.random.default_rng(1))
    sums = first.astype(float) + second - camera.offset
    np.testing.assert_allclose(sums, counts, atol=60000 * 2.0**-24)


def test_planes_axes_and_seeds() -> None:
    camera = Camera(1, 10, 1)
    counts = np.random.default_rng(0).poisson(20, (2, 3, 16, 18))
    first, _ = thinned(counts, camera, random=np.random.default_rng(1))
    again, _ = thinned(counts, camera, random=np.random.default_rng(1))
    other, _ = thinned(counts, camera, random=np.random.default_rng(2))
    assert (first == again).all()
    assert not (first == other).all()
    plane, _ = thinned(counts[0, 0], camera, random=np.random.default_rng(1))
    assert (plane == first[0, 0]).all()


@pytest.mark.parametrize(
    ("counts", "fraction", "sentence"),
    [
        (np.ones((4, 4)), 0.0, "The fraction of the photons must be greater than 0"),
        (np.ones((4, 4)), 1.0, "The fraction of the photons must be below 1, not 1.0"),
        (np.ones(4), 0.5, r"one of shape \(4,\) has none"),
        (np.ones((0, 4)), 0.5, r"one of shape \(0, 4\) has none"),
        (np.full((4, 4), np.nan), 0.5, "voxels that no camera counts"),
        (np.full((4, 4), 1e30), 0.5, "voxels that no camera counts"),
        (np.full((4, 4), 1j), 0.5, "The stack holds complex128, not counts"),
    ],
)
def test_what_cannot_be_thinned_is_refused(
    counts: npt.NDArray[np.generic], fraction: float, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        thinned(counts, Camera(), fraction, random=np.random.default_rng(0))
