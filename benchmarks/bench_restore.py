"""Richardson-Lucy on every engine that works here, held against a plain loop in scipy.

64 x 256 x 256 voxels, a PSF of 31 x 31 x 31, ten iterations, float32, edges treated. The
reference is the formula written down with `scipy.fft` on all cores; it runs before each round
of a contender, so that a busy machine slows both. The ratio is best over best. scikit-image
stands beside them where it is installed: it treats edges otherwise and works on another
padded size, so its ratio compares what a user waits, not the same arithmetic.

The memory of the CPU engine is by how much a process of its own grows on 96 x 384 x 384 voxels, in
float32 volumes of the padded size, the image included, beside what the method announces in
`volumes`. What the system keeps for threads, some 10 MB, counts as well.
"""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from speed_contenders import plain_scipy

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.blur import work_shape
from napari_deconv.restoration.momentum import UNSEEN
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

SHAPE, SIDE, ITERATIONS, ROUNDS = (64, 256, 256), 31, 10, 3
LARGE = (96, 384, 384)
TIMES = "times the plain scipy loop"
Float = npt.NDArray[np.float32]


def observed(shape: tuple[int, ...] = SHAPE) -> Any:
    """Return noisy dots through a Gaussian PSF, as a method sees them."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIDE) - SIDE // 2
    squares = np.add.outer(np.add.outer((axis / 2) ** 2, axis**2), axis**2)
    dots = np.where(rng.random(shape) > 0.999, 500.0, 5.0)
    return observe(rng.poisson(dots).astype(np.float32), Psf(np.exp(-squares / 8)))


def plain_loop(observation: Any, unseen: float | None = None) -> Float:
    """Return what as many iterations of a plain loop come to, on the volume that ours work on."""
    image_shape = observation.image.shape
    shape = work_shape(image_shape, observation.psf.shape, "non-circulant")
    *_, last = plain_scipy(observation, ITERATIONS, shape, unseen)
    return last.estimate()[tuple(slice(n) for n in image_shape)]


@pytest.fixture(scope="module")
def observation() -> Any:
    return observed()


def report(capsys: Any, benchmark: Any, words: str, ratio: float, unit: str) -> None:
    benchmark.extra_info["ratio"] = round(ratio, 3)
    with capsys.disabled():
        print(f"\n{words}: {ratio:.2f} {unit}")


def ratio_to_plain(benchmark: Any, run: Any, observation: Any) -> float:
    """Benchmark `run`, each round right after a round of the plain loop; return best/best."""
    plain: list[float] = []

    def before_each_round() -> None:
        started = time.perf_counter()
        plain_loop(observation)
        plain.append(time.perf_counter() - started)

    benchmark.group = f"Richardson-Lucy, {ITERATIONS} iterations on {SHAPE}"
    benchmark.pedantic(run, setup=before_each_round, rounds=ROUNDS, iterations=1)
    return float(benchmark.stats.stats.min) / min(plain)


@pytest.mark.parametrize(
    ("name", "acceleration"),
    [
        ("cpu", "none"),
        ("cpu", "heavy-ball"),
        ("cpu", "biggs-andrews"),
        ("torch", "none"),
        ("opencl", "none"),
    ],
)
def test_engine(
    benchmark: Any, capsys: Any, observation: Any, name: str, acceleration: str
) -> None:
    try:
        engine = open_engine(name)
    except InputError as error:
        pytest.skip(str(error))
    method = RichardsonLucy(ITERATIONS, acceleration=acceleration)  # type: ignore[arg-type]

    def run() -> Float:
        *_, last = method.steps(observation, engine)
        return last.estimate  # type: ignore[return-value]

    found = run()  # The first run also compiles on a device.
    if acceleration == "none":
        expected = plain_loop(observation, UNSEEN)
        assert np.abs(found - expected).max() < 1e-4 * expected.max()
    ratio = ratio_to_plain(benchmark, run, observation)
    report(capsys, benchmark, f"{engine.device}, {acceleration}", ratio, TIMES)


def test_scikit_image(benchmark: Any, capsys: Any, observation: Any) -> None:
    restoration = pytest.importorskip("skimage.restoration")

    def run() -> Any:
        image, psf = observation.image, observation.psf.samples
        return restoration.richardson_lucy(image, psf, ITERATIONS, clip=False)

    report(capsys, benchmark, "scikit-image", ratio_to_plain(benchmark, run, observation), TIMES)


METHODS: dict[str, Restorer] = {
    "plain": RichardsonLucy(3, acceleration="none"),
    "heavy ball": RichardsonLucy(3, acceleration="heavy-ball"),
    "Biggs-Andrews": RichardsonLucy(3, acceleration="biggs-andrews"),
    "heavy ball, total variation": RichardsonLucy(3, tv_weight=0.002),
    "Wiener": Wiener(),
}


@pytest.mark.parametrize("name", METHODS)
def test_memory(benchmark: Any, capsys: Any, name: str) -> None:
    def grown() -> float:
        command = [sys.executable, __file__, name]
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    benchmark.group = "Peak memory of a run"
    volumes = benchmark.pedantic(grown, rounds=1, iterations=1)
    unit = f"padded float32 volumes at the peak; {METHODS[name].volumes:g} announced"
    report(capsys, benchmark, f"CPU engine, {name}", volumes, unit)


def grown_volumes(method: Restorer) -> float:
    """Return the peak memory of a run in this process, the image included."""
    import psutil

    engine, observation, process = open_engine("cpu"), observed(LARGE), psutil.Process()
    list(method.steps(observed((4, 8, 8)), engine))  # imports what a run imports
    # The system's own record of the peak begins with that of the process that started this one.
    seen, done = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not done.wait(1e-3):
            seen.append(process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    *_, last = method.steps(observation, engine)
    done.set()
    watching.join()
    assert last.estimate is not None
    volume = 4 * math.prod(method.work_shape(LARGE, (SIDE,) * 3))
    return float(max(seen) - seen[0] + observation.image.nbytes) / volume


if __name__ == "__main__":
    print(grown_volumes(METHODS[sys.argv[1]]))
