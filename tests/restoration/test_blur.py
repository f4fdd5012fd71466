"""The shapes to transform, and transfer functions on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import irfftn, rfftn

from napari_deconv.engines.fourier_passes import factors
from napari_deconv.restoration import blur
from napari_deconv.restoration.blur import EDGES, Share, transfer_function, work_shape
from napari_deconv.restoration.pieces import Rows, blocks

sides = st.integers(1, 400)


@given(st.lists(st.tuples(sides, sides), min_size=2, max_size=3))
def test_the_padding_keeps_measured_voxels_apart_and_is_fast(axes: list[tuple[int, int]]) -> None:
    image, psf = zip(*axes, strict=True)
    found = work_shape(image, psf, "non-circulant")
    for axis, (n, p, padded) in enumerate(zip(image, psf, found, strict=True)):
        if p == 1:
            assert padded == n  # what is not blurred needs no padding
        else:
            # Light travels at most psf//2 either way, so this gap cannot be crossed.
            assert padded >= n + p // 2
            primes, step = ((2, 3, 5), 2) if axis == len(image) - 1 else ((2, 3, 5, 7), 1)
            lengths = range(-(-(n + p // 2) // step) * step, 2000, step)
            assert padded == next(m for m in lengths if set(factors(m)) <= set(primes))
    assert work_shape(image, psf, "circular") == image


def test_there_are_two_kinds_of_edges() -> None:
    assert EDGES == ("non-circulant", "two-sided", "circular")


@pytest.mark.parametrize("psf_shape", [(1, 1, 1), (3, 3, 3), (4, 5, 6), (9, 15, 13)])
@pytest.mark.parametrize("shape", [(8, 10, 12), (7, 9, 11), (4, 16, 3)])
def test_a_centred_point_is_all_ones(shape: tuple[int, ...], psf_shape: tuple[int, ...]) -> None:
    """At n//2 of its box, odd or even, larger than the shape or not."""
    psf = np.zeros(psf_shape, np.float32)
    psf[tuple(n // 2 for n in psf_shape)] = 1
    transfer = transfer_function(psf, shape)
    assert transfer.dtype == np.complex64
    assert transfer.shape == (*shape[:-1], shape[-1] // 2 + 1)
    assert np.abs(transfer - 1).max() < 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_point_beside_the_centre_moves_the_image_that_way(axis: int) -> None:
    shape = (6, 8, 10)
    psf = np.zeros((3, 3, 3), np.float32)
    place = [1, 1, 1]
    place[axis] += 1
    psf[tuple(place)] = 1
    image = np.random.default_rng(0).random(shape)
    moved = irfftn(rfftn(image) * transfer_function(psf, shape), s=shape)
    assert np.abs(moved - np.roll(image, 1, axis)).max() < 1e-6


def test_the_zero_frequency_is_the_sum() -> None:
    psf = np.random.default_rng(0).random((9, 5, 7)).astype(np.float32)
    assert transfer_function(psf, (4, 8, 6))[0, 0, 0] == pytest.approx(psf.sum(), rel=1e-6)


def light_in_the_image(
    psf: npt.NDArray[np.float64], image_shape: tuple[int, ...], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return H^T M by its definition: for each voxel the PSF that lies on the image."""
    mask = np.zeros(shape)
    mask[tuple(slice(n) for n in image_shape)] = 1
    result = np.zeros(shape)
    for index in np.ndindex(psf.shape):
        back = tuple(p // 2 - i for i, p in zip(index, psf.shape, strict=True))
        result += psf[index] * np.roll(mask, back, range(len(shape)))
    return result


@pytest.mark.parametrize(
    ("image_shape", "psf_shape", "shape"),
    [
        ((6, 9, 8), (3, 4, 5), (8, 12, 10)),
        ((6, 9, 8), (3, 4, 5), (7, 11, 10)),  # as little padding as there may be
        ((7, 10), (4, 5), (9, 12)),
        ((1, 9, 8), (1, 3, 3), (1, 10, 9)),
        ((4, 6, 5), (9, 7, 15), (8, 9, 12)),  # a PSF that is longer than the image
        ((4, 5), (29, 13), (6, 7)),  # ... and reaches around the shape several times
    ],
)
@pytest.mark.parametrize("columns", [1, 1 << 18])
@pytest.mark.parametrize("whole_rows", [0.0, 1e3])
def test_the_share_of_light_in_the_image(
    image_shape: tuple[int, ...],
    psf_shape: tuple[int, ...],
    shape: tuple[int, ...],
    columns: int,
    whole_rows: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blur, "COLUMNS", columns)
    monkeypatch.setattr(blur, "WHOLE_ROWS", whole_rows)
    psf = np.random.default_rng(0).random(psf_shape).astype(np.float32)
    psf /= psf.sum()
    expected = light_in_the_image(psf.astype(float), image_shape, shape)
    share = Share(psf, image_shape, shape)
    assert share.shape == shape
    found = np.full(shape, np.nan, np.float32)
    for where in blocks(shape, 30):
        found[where] = share[where]
        rows = share.rows(where)
        assert (rows is None) == (whole_rows == 0)
        if rows is not None:
            assert np.array_equal(laid(rows), found[where])
    assert np.abs(found - expected).max() < 1e-7


def laid(rows: Rows) -> npt.NDArray[np.float32]:
    """Return the volume that rows make up."""
    starts = (rows.planes[:, None] + rows.rows)[..., None]
    found: npt.NDArray[np.float32] = rows.memory[starts + np.arange(rows.shape[-1])]
    return found.reshape(rows.shape)


def test_the_share_of_a_small_psf_takes_little_memory() -> None:
    """Rows are kept for the planes and the lines near an edge, one for all others."""
    share = Share(np.full((5, 5, 5), 0.008, np.float32), (500, 500, 500), (504, 504, 504))
    assert share.different.size < 504 * 10**2
