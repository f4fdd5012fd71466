"""A restored dask array: lazy, in little memory, and the same as the whole and the pipeline."""

from __future__ import annotations

import logging
import math
import pickle
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import fftconvolve

from napari_deconv import restore_lazy
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.region import Region
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.pipeline import restore, restoring
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.tiles.lazy import in_tiles
from napari_deconv.tiles.plan import TilePlan
from napari_deconv.tiling import SPARE_BYTES

SHAPE = (6, 90, 100)
MEMORY = SPARE_BYTES + 500_000
METHODS: dict[str, RichardsonLucy | Wiener] = {
    "plain": RichardsonLucy(5, acceleration="none"),
    "heavy ball": RichardsonLucy(5),
    "Biggs-Andrews": RichardsonLucy(5, acceleration="biggs-andrews"),
    "Wiener": Wiener(0.05),
    "Wiener, auto": Wiener(),
}


@pytest.fixture(scope="module")
def psf() -> Psf:
    z, y, x = np.ogrid[-1:2, -2:3, -2:3]
    return Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 2))


@pytest.fixture(scope="module")
def counts(psf: Psf) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(5)
    dots = np.where(rng.random(SHAPE) > 0.99, 4000.0, 6.0)
    blurred = fftconvolve(dots, psf.samples, "same")
    return rng.poisson(np.maximum(blurred, 0)).astype(np.uint16)


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Two worker processes of a cluster."""
    distributed = pytest.importorskip("distributed")
    options = {"silence_logs": logging.CRITICAL, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, **options
        ) as found,
        distributed.Client(found, set_as_default=False) as client,
    ):
        yield client


def tiled(image: Any, psf: Psf, **options: Any) -> Any:
    return restore_lazy(image, psf, engine="cpu", memory=MEMORY, **options)


def inner(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what lies away from the rim: what is beyond it is guessed, and by the padding."""
    return image[:, 16:-16, 16:-16]


@pytest.mark.parametrize("name", METHODS)
def test_tiles_are_those_of_the_pipeline_and_the_whole(
    counts: Any, psf: Psf, processes: Any, name: str
) -> None:
    method = METHODS[name]
    image = da.from_array(counts, chunks=(3, 40, 40))
    lazy = tiled(image, psf, method=method, background=1.5)
    assert lazy.npartitions > 1
    found = {how: lazy.compute(scheduler=how) for how in ("synchronous", "threads")}
    found["distributed"] = processes.compute(lazy).result()
    whole = restore(counts, psf, method=method, background=1.5, engine="cpu")
    recipe = Recipe(psf, method, background=1.5, engine="cpu")
    run = restoring(Stack(image, "ZYX"), recipe, memory_bytes=MEMORY + 4 * counts.size)
    try:
        while True:
            next(run)
    except StopIteration as end:
        piped = end.value.stack.data
    for restored in found.values():
        assert (restored.dtype, restored.shape) == (np.float32, counts.shape)
        missed = np.abs(inner(restored) - inner(whole)).max()
        assert missed <= 1e-3 * whole.max()
        if name != "Wiener, auto":  # whose weight is not known yet when the tiles are planned
            np.testing.assert_array_equal(restored, piped)


def test_tiles_of_an_image_that_repeats_itself_do_not(counts: Any, psf: Psf) -> None:
    method = RichardsonLucy(6, "none", edges="circular")
    image = da.from_array(counts, chunks=(3, 40, 40))
    lazy = tiled(image, psf, method=method)
    assert lazy.npartitions > 1
    found = lazy.compute(scheduler="synchronous")
    whole = restore(counts, psf, method=replace(method, edges="non-circulant"), engine="cpu")
    assert np.abs(inner(found) - inner(whole)).max() <= 1e-3 * whole.max()


def test_what_is_neither_richardson_lucy_nor_wiener_is_refused(counts: Any, psf: Psf) -> None:
    image, method = da.from_array(counts), cast(Any, object())
    with pytest.raises(InputError, match="by RichardsonLucy or Wiener, not by object"):
        restore_lazy(image, psf, method=method)


def test_the_background_is_decided_once(counts: Any, psf: Psf) -> None:
    image = da.from_array(counts + np.uint16(20), chunks=(6, 45, 50))
    method = METHODS["plain"]
    found = tiled(image, psf, method=method, background="auto").compute(scheduler="synchronous")
    recipe = Recipe(psf, method, background="auto", engine="cpu")
    run = restoring(Stack(counts + np.uint16(20), "ZYX"), recipe)
    try:
        while True:
            next(run)
    except StopIteration as end:
        whole = end.value.stack.data
    assert np.abs(inner(found) - inner(whole)).max() <= 1e-3 * whole.max()


class Source:
    """An image that counts what is read of it, and what of that is still held."""

    def __init__(self, counts: Any) -> None:
        self.counts, self.shape, self.dtype, self.ndim = counts, counts.shape, counts.dtype, 3
        self.reads, self.held, self.most_held = 0, 0, 0

    def __getitem__(self, place: Any) -> Any:
        block = self.counts[place].copy()
        self.reads += 1
        self.held += block.size
        self.most_held = max(self.held, self.most_held)
        weakref.finalize(block, self._let_go, block.size)
        return block

    def _let_go(self, size: int) -> None:
        self.held -= size


def test_nothing_is_read_before_it_is_asked_for_and_little_is_held(psf: Psf) -> None:
    counts = np.random.default_rng(0).poisson(9.0, (4, 320, 320)).astype(np.uint16)
    source = Source(counts)
    image = da.from_array(source, chunks=(4, 32, 32), meta=np.empty((0, 0, 0), np.uint16))
    lazy = tiled(image, psf, method=RichardsonLucy(2, acceleration="none"))
    assert source.reads == 0
    assert lazy.npartitions >= 20
    lazy.compute(scheduler="synchronous")
    # All of it is looked at for its mean; were the same chunks kept for the tiles, all were held.
    assert source.most_held < 0.5 * counts.size


def test_the_psf_is_in_the_graph_once(counts: Any) -> None:
    psf = Psf(np.random.default_rng(0).random((3, 31, 33)))
    image = da.zeros((6, 300, 300), chunks=100, dtype=np.uint16)
    plan = TilePlan((6, 300, 300), (0, 4, 4), (6, 30, 30), (6, 30, 30), 0)
    lazy = in_tiles(image, psf, plan, regions=[], decide=_decide, restore_tile=_restore)
    assert lazy.npartitions == 100
    assert lazy.chunks == ((6,), (30,) * 10, (30,) * 10)
    (optimized,) = dask.optimize(lazy)
    holding = [task for task in dict(optimized.__dask_graph__()).values() if _holds(task, psf)]
    assert len(holding) == 1


def _holds(task: Any, psf: Psf) -> bool:
    return psf.samples.tobytes()[:4000] in pickle.dumps(task)


def _decide(mean: float, voxels: list[Any], total: Any, psf: Psf) -> float:
    assert total is None
    assert len(voxels) == 0 or voxels[0].shape == (2, 3)
    return float(mean)


def _restore(block: Any, start: tuple[int, ...], psf: Psf, decided: float) -> Any:
    return block.astype(np.float32) * np.float32(decided)


def test_each_tile_lies_in_its_place(psf: Psf) -> None:
    image = np.random.default_rng(1).normal(5, 4, (17, 23))
    plan = TilePlan((17, 23), (2, 3), (5, 6), (5, 3), 0)
    lazy = in_tiles(
        da.from_array(image, chunks=4),
        psf,
        plan,
        regions=[Region((1, 1), (2, 3))],
        decide=_decide,
        restore_tile=partial(_restore),
    )
    assert lazy.chunks == ((5, 5, 5, 2), (6, 6, 6, 5))
    # The mean takes negative counts as 0.
    expected = image.astype(np.float32) * np.float32(np.maximum(image, 0).mean())
    np.testing.assert_allclose(lazy.compute(scheduler="threads"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (np.zeros((9, 9)), {}, "takes a dask array, not a ndarray; use restore, or"),
        (da.zeros((2, 2, 9, 9)), {}, "choose one channel and time point"),
        (da.zeros((9, 9), dtype=complex), {}, "The image is complex"),
        (da.zeros((9, 9)), {"engine": "gpu"}, "The engine 'gpu' is not known"),
        (da.zeros((9, 9)), {"background": "dark"}, "The background"),
        (da.zeros((9, 9)), {"seam_tolerance": 0}, "The tolerance of a seam"),
        (da.zeros((99, 999, 999)), {"memory": 10_000_000}, "Tiles need at least .* GB of memory"),
    ],
)
def test_what_cannot_be_restored_is_told_at_once(
    image: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        restore_lazy(image, np.ones((3, 3)), **options)


def test_values_that_are_not_finite_are_told_before_any_tile(psf: Psf) -> None:
    image = np.ones(SHAPE)
    image[3, 80, 90] = math.nan
    with pytest.raises(InputError, match="The image holds NaN or infinite values; replace them"):
        tiled(da.from_array(image, chunks=50), psf, method=RichardsonLucy(5)).compute(
            scheduler="synchronous"
        )


def test_what_is_needed_of_all_chunks_is_added_up(psf: Psf) -> None:
    """And each tile is told where it begins."""
    image = np.arange(17 * 23).reshape(17, 23).astype(np.uint16)
    plan = TilePlan(image.shape, (1, 1), (5, 6), (5, 6), 0)
    lazy = in_tiles(
        da.from_array(image, chunks=(4, 7)),
        psf,
        plan,
        regions=[],
        decide=_sums_of_rows,
        restore_tile=_rows,
        part=_of_rows,
    )
    expected = np.broadcast_to(image.sum(axis=1)[:, np.newaxis], image.shape)
    assert np.array_equal(lazy.compute(scheduler="threads"), expected)


def _of_rows(voxels: Any, region: Region) -> Any:
    total = np.zeros(17, np.float32)
    total[region.slices[0]] = voxels.sum(axis=1)
    return total


def _sums_of_rows(mean: float, voxels: list[Any], total: Any, psf: Psf) -> Any:
    return total


def _rows(block: Any, start: tuple[int, ...], psf: Psf, decided: Any) -> Any:
    rows = decided[start[0] : start[0] + len(block), np.newaxis]
    return np.broadcast_to(rows, block.shape).astype(np.float32)


def test_wiener_through_a_widefield_psf_knows_the_whole() -> None:
    optics = Optics(na=1.2, emission_nm=520, immersion_index=1.33)
    psf = compute_psf(optics, Grid(spacing_um=(0.3, 0.15, 0.15)), (9, 25, 25))
    shading = np.linspace(0.3, 2, 500)[:, np.newaxis]
    image = np.random.default_rng(0).poisson(20 * shading, (10, 500, 90)).astype(np.uint16)
    method, chunks = Wiener(1e-3), da.from_array(image, chunks=(10, 64, 90))
    memory = SPARE_BYTES + 9_500_000
    lazy = restore_lazy(chunks, psf, method=method, background=5.0, engine="cpu", memory=memory)
    assert lazy.npartitions > 1
    whole = restore(image, psf, method=method, background=5.0, engine="cpu")
    found = lazy.compute(scheduler="threads")
    assert np.abs(found - whole)[:, 100:-100].max() < 1e-3 * whole.max()
