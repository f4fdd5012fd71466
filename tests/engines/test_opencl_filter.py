"""Transforms and filters on OpenCL, held against numpy's."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest

from napari_deconv.engines import open_engine, opencl_filter
from napari_deconv.engines.fourier_groups import (
    FEWEST_LINES,
    MOST_LINES,
    grouping,
    lines_source,
)
from napari_deconv.engines.fourier_passes import radices
from napari_deconv.engines.opencl_engine import OpenClEngine
from napari_deconv.engines.opencl_filter import Transform, groups_work
from napari_deconv.engines.opencl_values import OpenClArray
from napari_deconv.restoration.blur import transfer_function

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has an OpenCL driver without a GPU"
)
#: Every length that is written out, mixed ones, and primes that are not.
LENGTHS = [*range(1, 17), 18, 22, 26, 34, 53, 64, 75, 121, 135, 243, 270, 343, 509, 512, 1000]


@pytest.fixture(scope="module")
def opencl() -> OpenClEngine:
    engine = open_engine("opencl")
    assert isinstance(engine, OpenClEngine)
    return engine


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("in_groups", [False, True])
def test_a_transform_is_that_of_numpy(
    opencl: OpenClEngine, n: int, axis: int, in_groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CPUs do it and as GPUs do, both of which any device can."""
    monkeypatch.setattr(opencl, "has_groups", in_groups)
    shape = tuple(n if at == axis else small for at, small in enumerate((2, 3, 5)))
    rng = np.random.default_rng(n)
    values = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    transform = Transform(opencl, shape)
    pushed = opencl.create((2 * values.size,), values.view(np.float32))

    def pulled(buffer: object) -> np.ndarray:
        floats = opencl.pull(OpenClArray(buffer, pushed.shape), pushed.shape)
        return floats.view(np.complex64).reshape(shape)

    there, back = np.fft.fftn(values), np.fft.ifftn(values) * values.size
    assert np.abs(pulled(transform.there(pushed.buffer)) - there).max() < 5e-7 * np.abs(there).max()
    assert np.abs(pulled(transform.back(pushed.buffer)) - back).max() < 5e-7 * np.abs(back).max()
    assert np.array_equal(pulled(pushed.buffer), values)


@pytest.mark.parametrize("shape", [(1,), (2,), (8,), (1, 1, 2), (3, 2), (2, 53), (3, 5, 1), (5, 6)])
def test_small_and_flat_shapes_are_filtered(opencl: OpenClEngine, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(shape, np.float32)
    factors = np.fft.rfftn(rng.random(shape))
    blur = opencl.filter(factors.astype(np.complex64), shape)
    pushed = opencl.push(x, shape)
    axes = tuple(range(len(shape)))
    for found, factor in ((blur.forward, factors), (blur.adjoint, factors.conj())):
        expected = np.fft.irfftn(np.fft.rfftn(x) * factor, shape, axes)
        result = opencl.pull(found(pushed), shape)
        assert np.abs(result - expected).max() < 1e-6 * np.abs(expected).max()
        assert np.array_equal(opencl.pull(pushed, shape), x)


@pytest.mark.parametrize("shape", [(20, 64, 90), (24, 270, 33), (128, 40), (6, 17, 512)])
def test_a_filter_in_groups_is_that_of_numpy(
    opencl: OpenClEngine, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opencl, "has_groups", True)
    rng = np.random.default_rng(0)
    x, psf = rng.random(shape, np.float32), rng.random([5] * len(shape)).astype(np.float32)
    psf /= psf.sum()
    transfer, axes = transfer_function(psf, shape), tuple(range(len(shape)))
    expected = np.fft.irfftn(np.fft.rfftn(x) * transfer, shape, axes)
    found = opencl.pull(opencl.blur(psf, shape).forward(opencl.push(x, shape)), shape)
    assert np.abs(found - expected).max() < 1e-6 * expected.max()


def test_groups_are_used_where_they_work(
    opencl: OpenClEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opencl, "has_groups", False)
    assert groups_work(opencl)

    def refused(*args: object, **more: object) -> None:
        raise RuntimeError("CL_INVALID_WORK_GROUP_SIZE")

    with monkeypatch.context() as patch:
        patch.setattr(opencl, "run", refused)
        assert not groups_work(opencl)
    monkeypatch.setattr(
        opencl_filter, "lines_source", lambda group, back: lines_source(group, back=not back)
    )
    assert not groups_work(opencl)


def test_groups_share_what_any_gpu_has() -> None:
    for n in range(1, 2000):
        for across in (True, False):
            group = grouping(n, across=across)
            if group is not None:
                assert FEWEST_LINES <= group.lines <= MOST_LINES
                assert group.items <= 256
                shared = re.search(r"shared\[(\d+)\];", lines_source(group, back=False))
                assert shared is not None
                assert 8 * int(shared[1]) <= 32 << 10


def test_no_pass_is_wasted() -> None:
    for n in range(1, 2000):
        assert math.prod(radices(n)) == n
    assert [len(radices(n)) for n in (16, 256, 270, 512, 1024)] == [1, 2, 3, 3, 3]
