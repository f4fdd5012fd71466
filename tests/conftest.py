"""What every test may ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.engines import open_engine
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.transforms import CHOICE, transforms

Array = npt.NDArray[np.float64]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers side by side have a core each. With threads of torch for all cores in each of them,
    # they wait for each other several times as long; programs that tests start have it as well.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

#: On Linux OpenCL runs on PoCL and is never skipped; other systems have no such driver in CI.
ENGINES = ["cpu", "opencl", "torch"] if sys.platform == "linux" else ["cpu", "torch"]


@pytest.fixture(scope="session", autouse=True)
def transforms_of_scipy() -> Iterator[None]:
    """What most users have; the tests of the transforms themselves take both libraries."""
    with pytest.MonkeyPatch.context() as patch:
        # Programs that tests start have it as well.
        patch.setenv(CHOICE, "scipy")
        transforms.cache_clear()
        yield


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine there is."""
    return open_engine(request.param)


@pytest.fixture(scope="session")
def cpu() -> Engine:
    return open_engine("cpu")


@pytest.fixture
def asymmetric_psf() -> Callable[[tuple[int, ...]], Array]:
    """Return a maker of PSFs with a comet's tail: any flip or shift of one shows."""

    def make(shape: tuple[int, ...]) -> Array:
        places = np.indices(shape, dtype=float)
        psf: Array = np.zeros(shape)
        for order, weight in ((0, 1.0), (1, 0.6), (2, 0.3)):
            r2 = sum(
                (place - n // 2 - order * 0.7 * (axis + 1) / len(shape)) ** 2
                for axis, (place, n) in enumerate(zip(places, shape, strict=True))
            )
            psf += weight * np.exp(-r2 / (1.2 + 0.5 * order))
        psf /= psf.sum()
        return psf

    return make


@pytest.fixture
def photons() -> Callable[[tuple[int, ...]], Array]:
    """Return a maker of noisy images: blobs on a dim ground, in counts."""

    def make(shape: tuple[int, ...]) -> Array:
        rng = np.random.default_rng(7)
        places = np.indices(shape, dtype=float)
        image = np.full(shape, 4.0)
        for _ in range(6):
            centre = [rng.uniform(0, n) for n in shape]
            r2 = sum((p - c) ** 2 for p, c in zip(places, centre, strict=True))
            image += rng.uniform(50, 300) * np.exp(-r2 / 6)
        return rng.poisson(image).astype(float)

    return make
