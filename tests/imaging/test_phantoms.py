"""Simulated truths, and what the simulated camera makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_deconv.imaging.phantoms import cell_phantom, photographed
from napari_deconv.imaging.psf import Psf

SHAPE, SPACING = (20, 48, 50), (0.25, 0.1, 0.1)
DELTA = Psf(np.pad([[[1.0]]], 1))


def test_the_same_seed_gives_the_same_cell() -> None:
    first = cell_phantom(SHAPE, SPACING, seed=3)
    assert first.shape == SHAPE
    assert first.dtype == np.float32
    assert np.array_equal(first, cell_phantom(SHAPE, SPACING, seed=3))
    assert not np.array_equal(first, cell_phantom(SHAPE, SPACING, seed=4))


@pytest.mark.parametrize("seed", range(4))
def test_a_cell_is_sparse_and_holds_shells_filaments_and_beads(seed: int) -> None:
    cell = cell_phantom((40, 96, 96), SPACING, seed)
    assert cell.min() == 0
    assert 6 < cell.max() <= 8.01
    assert 0.6 < float((cell == 0).mean()) < 0.99
    for value in (0.15, 1.0):
        assert np.count_nonzero(np.isclose(cell, value)) > 50
    assert np.count_nonzero(cell > 1.9) >= 20


def test_objects_are_round_in_micrometres() -> None:
    """Twice as coarse in z, half as many planes: the same size in micrometres."""
    fine = cell_phantom((80, 80, 80), (0.1, 0.1, 0.1))
    coarse = cell_phantom((40, 80, 80), (0.2, 0.1, 0.1))

    def extent(cell: np.ndarray[tuple[int, ...], np.dtype[np.float32]], step: float) -> float:
        planes = np.flatnonzero(np.isclose(cell, 0.15).any((1, 2)))
        return float(step * (planes[-1] - planes[0]))

    assert extent(coarse, 0.2) == pytest.approx(extent(fine, 0.1), abs=0.4)


def test_the_camera_keeps_the_place_and_counts_the_light() -> None:
    """Through a delta the brightest voxel expects background and photons, the rest background."""
    truth = np.zeros(SHAPE, np.float32)
    truth[7, 20, 30] = 5
    counts = [
        photographed(truth, DELTA, photons=1000, background=100, read_noise=2, seed=seed)
        for seed in range(20)
    ]
    assert counts[0].dtype == np.uint16
    mean = np.mean(counts, axis=0)
    assert np.argwhere(mean == mean.max()).tolist() == [[7, 20, 30]]
    assert mean[7, 20, 30] == pytest.approx(1100, abs=4 * math.sqrt(1100 / 20))
    mean[7, 20, 30] = 100
    assert mean.mean() == pytest.approx(100, abs=0.1)


def test_photons_and_read_noise_add_up() -> None:
    truth = np.zeros(SHAPE, np.float32)
    truth[0, 0, 0] = 1
    counts = photographed(truth, DELTA, photons=10, background=50, read_noise=6)
    assert counts[1:].astype(float).std() == pytest.approx(math.sqrt(50 + 36), rel=0.02)


@pytest.mark.parametrize("shape", [(5, 7, 7), (4, 6, 8)])
def test_the_blur_is_centred_at_half_the_psf(shape: tuple[int, ...]) -> None:
    """The centre of an even PSF is at n//2 as well: a point stays where it was."""
    samples = np.full(shape, 1e-3)
    samples[tuple(n // 2 for n in shape)] = 1
    truth = np.zeros(SHAPE, np.float32)
    truth[9, 21, 33] = 1
    counts = photographed(truth, Psf(samples), photons=5000, background=0, read_noise=0)
    assert np.argwhere(counts == counts.max()).tolist() == [[9, 21, 33]]


def test_the_same_seed_gives_the_same_noise() -> None:
    truth = cell_phantom(SHAPE, SPACING)

    def image(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
        return photographed(truth, DELTA, photons=100, background=5, read_noise=1, seed=seed)

    assert np.array_equal(image(1), image(1))
    assert not np.array_equal(image(1), image(2))
