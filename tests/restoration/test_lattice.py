"""The coarse lattice: what it gathers, what it brings back, and the optics seen on it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.imaging.region import Region
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.continued import continued
from napari_deconv.restoration.lattice import Lattice

SHAPE, WORK = (3, 90, 70), (4, 96, 80)


@pytest.fixture
def lattice() -> Lattice:
    return Lattice(SHAPE, WORK, spacing=4.0)


def gathered(lattice: Lattice, image: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    nodes = np.zeros(lattice.node_shape, np.float32)
    for y in range(0, image.shape[1], sides[0]):
        for x in range(0, image.shape[2], sides[1]):
            piece = image[:, y : y + sides[0], x : x + sides[1]]
            lattice.gather(piece, Region((0, y, x), piece.shape), nodes)
    return nodes


def test_the_nodes_fill_the_work_shape_at_fast_sizes(lattice: Lattice) -> None:
    assert lattice.nodes == (24, 20)
    assert lattice.node_shape == (3, 24, 20)
    assert Lattice(SHAPE, WORK, spacing=4.1).nodes == (24, 20)


def test_pieces_gather_what_the_whole_does(lattice: Lattice) -> None:
    image = np.random.default_rng(0).poisson(9, SHAPE).astype(np.uint16)
    whole = gathered(lattice, image, SHAPE[1:])
    pieces = gathered(lattice, image, (31, 17))
    assert np.abs(pieces - whole).max() < 1e-4 * whole.max()


def test_an_image_of_ones_has_ones_at_the_nodes(lattice: Lattice) -> None:
    nodes = gathered(lattice, np.ones(SHAPE), SHAPE[1:])
    assert np.abs(nodes[0] - lattice.ones()).max() < 1e-5
    assert np.abs(lattice.ones() - 1).max() < 1e-2


def test_slow_waves_go_there_and_come_back(lattice: Lattice) -> None:
    """There and back a wave is multiplied by `passed`: nothing is added at other frequencies."""
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    along_y, along_x = lattice.frequencies()
    slow = np.exp(-((along_y[:, None] / 0.03) ** 2) - (along_x / 0.03) ** 2)
    spectrum = np.fft.rfft2(gathered(lattice, image, (40, 40))) * slow / lattice.passed()
    back = np.zeros(SHAPE, np.float32)
    nodes = np.fft.irfft2(spectrum, s=lattice.nodes).astype(np.float32)
    lattice.spread(nodes, Region((0, 0, 0), SHAPE), back)

    whole = continued(image, (SHAPE[0], *WORK[1:]))
    y, x = np.fft.fftfreq(WORK[1])[:, None], np.fft.rfftfreq(WORK[2])
    expected = np.fft.irfft2(
        np.fft.rfft2(whole) * np.exp(-((y / 0.03) ** 2) - (x / 0.03) ** 2), s=WORK[1:]
    )[:, : SHAPE[1], : SHAPE[2]]
    assert np.abs(back - expected).max() < 1e-4 * expected.max()
    part = Region((1, 20, 30), (2, 25, 35))
    onto = np.zeros(part.shape, np.float32)
    lattice.spread(nodes, part, onto)
    assert np.abs(onto - back[part.slices]).max() < 1e-6


@pytest.mark.parametrize("size", [(3, 9, 9), (4, 10, 8), (7, 9, 9)])
def test_its_optics_are_those_of_the_whole_at_slow_frequencies(
    lattice: Lattice, size: tuple[int, int, int]
) -> None:
    """Odd and even PSFs, and one with more planes than there are."""
    psf = np.random.default_rng(0).random(size).astype(np.float32)
    psf /= psf.sum()
    found = lattice.transfer_function(psf)
    whole = transfer_function(psf, WORK)
    half = lattice.nodes[0] // 2
    rows = [*range(half), *range(-half, 0)]
    expected = whole[:, rows, : lattice.nodes[1] // 2 + 1]
    # At the finest frequency that the nodes have, either sign is meant.
    assert np.abs(found - expected)[:, :, :-1].max() < 1e-5
