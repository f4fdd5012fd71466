"""Wiener in tiles: slow changes from the whole, the rest from the tile."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.region import Region
from napari_deconv.restoration import wiener_in_tiles
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation, Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles, for_tiles

TOLERANCE, BACKGROUND = 1e-3, 5.0


def gaussian_psf(sigma: float, side: int, ndim: int) -> Psf:
    axes = np.ogrid[(slice(-(side // 2), side // 2 + 1),) * ndim]
    return Psf(np.exp(-sum(axis**2 for axis in axes) / (2 * sigma**2)))


@pytest.fixture(scope="module")
def psf() -> Psf:
    grid = Grid(spacing_um=(0.3, 0.15, 0.15))
    return compute_psf(Optics(na=1.2, emission_nm=520, immersion_index=1.33), grid, (15, 41, 41))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (12, 240, 72)
    bright = np.where(rng.random(shape) > 0.999, 3000.0, 20.0)
    return rng.poisson(bright * np.linspace(0.3, 2, 240)[:, None]).astype(np.uint16)


def restored(method: Restorer, observation: Observation) -> np.ndarray:
    (*_, last) = method.steps(observation, CpuEngine())
    assert last.estimate is not None
    return last.estimate


def knowing(method: Restorer, image: np.ndarray, psf: Psf) -> WienerInTiles:
    assert isinstance(method, WienerInTiles)
    lattice = method.lattice(psf)
    nodes = np.zeros(lattice.node_shape, np.float32)
    lattice.gather(image, Region((0, 0, 0), image.shape), nodes)
    return method.knowing(nodes, psf, BACKGROUND)


def test_only_a_filter_without_an_end_is_taken_apart(psf: Psf) -> None:
    shape = (12, 240, 72)
    assert isinstance(for_tiles(Wiener(1e-3), psf, shape, TOLERANCE), WienerInTiles)
    others: list[tuple[Restorer, Psf]] = [
        (Wiener(0.2), psf),
        (Wiener(1e-3), gaussian_psf(1.5, 15, 3)),
        (RichardsonLucy(3), psf),
    ]
    for method, optics in others:
        assert for_tiles(method, optics, shape, TOLERANCE) is method
    flat, plane = Wiener(1e-3), gaussian_psf(1.5, 15, 2)
    assert for_tiles(flat, plane, shape[1:], TOLERANCE) is flat


def test_of_a_larger_image_only_slower_waves_are_apart(psf: Psf) -> None:
    def wave(*shape: int) -> float | None:
        found = for_tiles(Wiener(1e-3), psf, shape, TOLERANCE)
        return found.finest_wave if isinstance(found, WienerInTiles) else None

    assert wave(100, 1000, 1000) == 4
    assert wave(200, 2000, 2000) == 8
    assert wave(200, 9000, 9000) is None


def test_both_parts_of_a_whole_are_the_whole(image: np.ndarray, psf: Psf) -> None:
    whole = restored(Wiener(1e-3), observe(image, psf, BACKGROUND))
    method = for_tiles(Wiener(1e-3), psf, image.shape, TOLERANCE)
    assert method.halo(psf, TOLERANCE) != Wiener(1e-3).halo(psf, TOLERANCE)
    unknowing = restored(method, observe(image, psf, BACKGROUND))
    assert np.array_equal(unknowing, whole)
    both = restored(knowing(method, image, psf), observe(image, psf, BACKGROUND, start=(0, 0, 0)))
    assert np.abs(both - whole).max() < 2e-4 * whole.max()


def test_a_tile_is_as_in_the_whole(image: np.ndarray, psf: Psf) -> None:
    whole = restored(Wiener(1e-3), observe(image, psf, BACKGROUND))
    method = for_tiles(Wiener(1e-3), psf, image.shape, TOLERANCE)
    method = knowing(method, image, psf)
    halo, rim = method.halo(psf, TOLERANCE)[1], 2 * method.halo(psf, TOLERANCE)[1]
    tile = observe(image[:, 60:], psf, BACKGROUND, start=(0, 60, 0))
    kept = restored(method, tile)[:, halo:-rim]
    apart = np.abs(kept - whole[:, 60 + halo : -rim]).max() / whole.max()
    assert apart < TOLERANCE
    # Without what is known of the whole it is not.
    alone = restored(replace(method, slow=None), tile)[:, halo:-rim]
    assert np.abs(alone - whole[:, 60 + halo : -rim]).max() > 2 * apart * whole.max()


def test_what_is_known_takes_the_memory_that_is_announced(psf: Psf) -> None:
    method = for_tiles(Wiener(1e-3), psf, (32, 900, 900), TOLERANCE)
    assert isinstance(method, WienerInTiles)
    nodes = np.zeros(method.lattice(psf).node_shape, np.float32)
    tracemalloc.start()
    try:
        method.knowing(nodes, psf, BACKGROUND)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.8 * method.bytes_of_slow(psf) < peak + nodes.nbytes <= method.bytes_of_slow(psf)


def test_an_image_may_be_too_large_to_be_looked_through(
    psf: Psf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiener_in_tiles, "WAVES", ())
    method = Wiener(1e-3)
    assert for_tiles(method, psf, (12, 240, 72), TOLERANCE) is method
