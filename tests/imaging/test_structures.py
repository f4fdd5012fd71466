"""Structures: random, repeatable, round in micrometres, and in their place."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.imaging.structures import KINDS, _from_a_centre, fibres, splat, structures
from napari_deconv.imaging.value import InputError

SPACING = (0.3, 0.1, 0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "spacing"), [((12, 40, 44), SPACING), ((48, 52), (0.1, 0.1))])
def test_each_kind_draws_something_in_2d_and_3d(
    kind: str, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    volumes = [structures(shape, spacing, np.random.default_rng(seed), [kind]) for seed in range(8)]
    for volume in volumes:
        assert volume.shape == shape
        assert volume.dtype == np.float32
        assert volume.min() >= 0
    lit = [volume for volume in volumes if volume.any()]
    assert len(lit) > 5  # a ball may lie outside
    assert all(volume.max() == pytest.approx(1) for volume in lit)
    assert not np.array_equal(lit[0], lit[1])


def test_the_same_seed_gives_the_same_volume() -> None:
    first, again = (structures((8, 30, 30), SPACING, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again)


def test_points_fill_single_voxels_and_fibres_go_from_border_to_border() -> None:
    shape = (12, 40, 44)
    volumes = [structures(shape, SPACING, np.random.default_rng(n), ["points"]) for n in range(20)]
    counts = [np.count_nonzero(volume) for volume in volumes]
    assert min(counts) < 10 < 50 < max(counts) <= 200
    for seed in range(8):
        volume = np.zeros((40, 44), np.float32)
        fibres(volume, (0.1, 0.1), np.random.default_rng(seed))
        border = [*volume[[0, -1]].ravel(), *volume[1:-1, [0, -1]].ravel()]
        assert np.count_nonzero(border) >= 2


def test_distances_are_micrometres() -> None:
    """So shells and balls are round, whatever the step between planes."""
    distance, radius = _from_a_centre((60, 150, 150), SPACING, np.random.default_rng(0))
    z, y, x = np.unravel_index(int(distance.argmin()), distance.shape)
    away = 6 if z < 30 else -6
    assert distance[z + away, y, x] == pytest.approx(1.8, abs=0.16)
    away = 18 if y < 75 else -18
    assert distance[z, y + away, x] == pytest.approx(1.8, abs=0.16)
    assert 0 < radius < 0.36 * 15


def test_splat_keeps_amount_and_place() -> None:
    volume = np.zeros((6, 7, 8), np.float32)
    splat(volume, np.array([[2.25, 3.5, 4.75], [-3.0, 0, 0]]), np.array([2.0, 9.0]))
    assert volume.sum() == pytest.approx(2)
    places = np.indices(volume.shape)
    centre = [float((place * volume).sum() / 2) for place in places]
    assert centre == pytest.approx([2.25, 3.5, 4.75])


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(InputError, match="The structure 'trees' is not known; choose of shells,"):
        structures((4, 4), (1, 1), np.random.default_rng(0), ["trees"])
