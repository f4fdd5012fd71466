"""Who is measured: our methods on each engine, a plain loop in scipy, and other packages.

A contender yields a moment for each iteration, or, where it only runs whole, one for each of a few
numbers of iterations.

Other packages know no background, so it is subtracted before, and what is then below 0 set to 0.
deconwolf gets the counts as they are, as it looks for their background itself, and the mean of what
it returns is brought to that of the counts above the background, as it keeps an offset. Some of
them displace the image (pyclesperanto and RedLionfish do): the best of all shifts by up to a voxel
counts for all of them. deconwolf and clij2-fft are run as their manual and source say, untested.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from speed_cases import Float

from napari_deconv.engines import devices, open_engine
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.pieces import available_cores
from napari_deconv.restoration.restorer import Observation, Restorer, Step
from napari_deconv.restoration.richardson_lucy import ACCELERATIONS, RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

#: Numbers of iterations that others, which only run whole, are run with.
WHOLE_AT = (10, 30, 100)
#: Part of the iterations that an accelerated method is run for: it is farther by then.
ACCELERATED = 0.6
#: Share of its light in the image that the plain loop divides by at the least.
LEAST_SEEN = 1e-3


@dataclass(frozen=True)
class Moment:
    """An iteration that is done; `estimate` gives its estimate, with the padding if it can."""

    iteration: int
    estimate: Callable[[], Float]
    reported: float | None = None


Moments = Callable[[Observation, int], Iterator[Moment]]


@dataclass(frozen=True)
class Contender:
    """One way to restore.

    Parameters
    ----------
    name, engine : str
        What it is, and what it runs on.
    moments : callable
        Yields the moments of a run, of so many iterations at the most.
    part : float
        Part of the iterations asked for that it is run with.
    whole : bool
        Whether each moment is a run of its own.
    foreign : bool
        Whether the best of all small shifts counts.
    flat : bool
        Whether it restores planes.
    outside : bool
        Whether a program of its own does it.
    """

    name: str
    engine: str
    moments: Moments
    part: float = 1.0
    whole: bool = False
    foreign: bool = False
    flat: bool = True
    outside: bool = False

    @property
    def key(self) -> str:
        """Its name on the command line."""
        return f"{self.name}@{self.engine}"

    @property
    def plans(self) -> bool:
        """Whether it prepares once for the size of an image, and is warmed up on that itself."""
        return self.outside or self.engine == "opencl"


# -- ours -------------------------------------------------------------------------------


class Pulling:
    """Pulls an array as its engine does; all of it, with the padding, while `whole`."""

    def __init__(self, engine: Any) -> None:
        self._pull, self.whole = engine.pull, False

    def __call__(self, array: Any, shape: tuple[int, ...]) -> Float:
        found: Float = self._pull(array, tuple(array.shape) if self.whole else shape)
        return found


@cache
def opened_engine(name: str) -> Any:
    engine: Any = open_engine(name)
    engine.pull = Pulling(engine)
    return engine


def on_gpu(engine: Any) -> bool:
    return str(engine.device).startswith("GPU")


def finished(engine: Any) -> None:
    """Wait for what is still under way: torch on a GPU answers before it is done."""
    if engine.name == "torch" and on_gpu(engine):
        import torch

        (torch.cuda if torch.cuda.is_available() else torch.mps).synchronize()


def estimate_of(step: Step, engine: Any) -> Float:
    engine.pull.whole = True
    try:
        found = step.estimate if step.peek is None else step.peek()
    finally:
        engine.pull.whole = False
    assert found is not None
    return found


def accelerated(
    method_of: Callable[[int], Restorer], name: str, observation: Observation, most: int
) -> Iterator[Moment]:
    engine = opened_engine(name)
    # One more than is asked for, and never done: only before it can the last be peeked at.
    steps = method_of(most + 1).steps(observation, engine)
    for step in islice(steps, most):
        finished(engine)
        yield Moment(step.done, partial(estimate_of, step, engine), step.divergence)


def at_once(
    method_of: Callable[[int], Restorer], name: str, observation: Observation, most: int
) -> Iterator[Moment]:
    """Yield the end alone, of what stops by itself or has no iterations."""
    engine = opened_engine(name)
    for step in method_of(most).steps(observation, engine):
        # Two halves that are compared have to be without their padding; what comes then need not.
        engine.pull.whole = step.done > 0
    engine.pull.whole = False
    yield Moment(step.done, partial(estimate_of, step, engine), step.divergence)


#: Methods of ours beside the accelerations.
SPECIAL = ("Wiener start", "automatic", "Wiener")


def ours(name: str, engine: str) -> Contender:
    """Return a method of ours: an acceleration, or one of `SPECIAL`."""
    iterated: dict[str, Callable[[int], Restorer]] = {
        acceleration: partial(RichardsonLucy, acceleration=acceleration)  # type: ignore[arg-type]
        for acceleration in ACCELERATIONS
    }
    # The nu-method, from what Wiener's filter makes of the counts.
    iterated["Wiener start"] = partial(
        RichardsonLucy, acceleration="otf-masked-wiener", unmatched=1
    )
    if name in iterated:
        part = 1.0 if name == "none" else ACCELERATED
        return Contender(name, engine, partial(accelerated, iterated[name], engine), part)
    kinds: dict[str, Callable[[int], Restorer]] = {
        # On the same padded volume as the others.
        "automatic": lambda most: RichardsonLucy.automatic(iterations=most, edges="non-circulant"),
        "Wiener": lambda most: Wiener(),
    }
    moments = partial(at_once, kinds[name], engine)
    return Contender(name, engine, moments, ACCELERATED, whole=True)


# -- the plain loop ---------------------------------------------------------------------


def plain_scipy(
    observation: Observation,
    most: int,
    shape: tuple[int, ...] | None = None,
    unseen: float | None = None,
) -> Iterator[Moment]:
    """Yield x <- x H^T(y / (H x + b)) / H^T M, on all cores and without any care for memory.

    It works on the shape that is given, or on the next one that scipy calls fast: our own are a
    little smaller, of which a plain loop knows nothing. Nor does it know of the shorter steps
    where less of the light than `unseen` is seen, unless that is given.
    """
    from scipy.fft import irfftn, next_fast_len, rfftn

    image, psf = observation.image, observation.psf.samples
    if shape is None:
        sides = zip(image.shape, psf.shape, strict=True)
        shape = tuple(next_fast_len(n + p // 2, real=True) if p > 1 else n for n, p in sides)
    otf = transfer_function(psf, shape)

    def filtered(x: Any, transfer: Any) -> Any:
        return irfftn(rfftn(x, workers=-1) * transfer, s=shape, workers=-1)

    inside = tuple(slice(n) for n in image.shape)
    y, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    y[inside], mask[inside] = image, 1
    share = filtered(mask, otf.conj())
    seen = np.maximum(share, np.float32(LEAST_SEEN))
    background = np.float32(observation.background)
    x = np.full(shape, max(float(image.mean()) - observation.background, 1e-6), np.float32)
    for iteration in range(1, most + 1):
        ratio = y / np.maximum(filtered(x, otf) + background, np.float32(1e-6))
        correction = filtered(ratio, otf.conj())
        if unseen is None:
            x = np.maximum(x * correction / seen, np.float32(0))
        else:
            step = (correction - share) / np.maximum(share, np.float32(unseen))
            x = np.maximum(x * (1 + step), np.float32(0))
        yield Moment(iteration, partial(np.asarray, x))


PLAIN = Contender("plain", "scipy", plain_scipy)


# -- other packages ---------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """Another package; `run` restores counts with a PSF in so many iterations."""

    name: str
    run: Callable[[Observation, int], Float]
    package: str
    install: str
    engine: str = "cpu"
    flat: bool = True
    program: str = ""

    def contender(self) -> Contender:
        """Return it as a contender."""
        more: dict[str, Any] = {"whole": True, "foreign": True, "outside": bool(self.program)}
        return Contender(self.name, self.engine, self.moments, flat=self.flat, **more)

    def moments(self, observation: Observation, most: int) -> Iterator[Moment]:
        """Yield the end of a run for each number of iterations."""
        for iterations in (*(n for n in WHOLE_AT if n < most), most):
            found = self.run(observation, iterations)
            yield Moment(iterations, partial(np.asarray, found))

    def absence(self) -> str | None:
        """Return in a line why it cannot run here; None where it can."""
        if self.program:
            there = shutil.which(self.program) is not None
            return None if there else f"{self.name}: no program {self.program} on the PATH"
        if importlib.util.find_spec(self.package) is None:
            return f"{self.name}: not installed ({self.install})"
        return None


def lit(observation: Observation) -> Any:
    return np.maximum(observation.image - np.float32(observation.background), 0)


def scikit_image(observation: Observation, iterations: int) -> Float:
    package: Any = importlib.import_module("skimage.restoration")
    psf = observation.psf.samples
    found = package.richardson_lucy(lit(observation), psf, iterations, clip=False)
    return np.asarray(found)


def redlionfish(observation: Observation, iterations: int) -> Float:
    package: Any = importlib.import_module("RedLionfishDeconv")
    counts, psf = lit(observation), observation.psf.samples
    found = package.doRLDeconvolutionFromNpArrays(counts, psf, niter=iterations, method="cpu")
    return np.asarray(found[tuple(slice(n) for n in counts.shape)])  # it makes x even


def clij2_fft(observation: Observation, iterations: int) -> Float:
    package: Any = importlib.import_module("clij2fft.richardson_lucy")
    psf = observation.psf.samples
    return np.asarray(package.richardson_lucy_nc(lit(observation), psf, iterations))


def pyclesperanto(observation: Observation, iterations: int) -> Float:
    from napari_deconv.engines.opencl_engine import opencl_devices

    index = opencl_devices()[0].index  # it also sees to a driver
    import pyclesperanto as cle

    device = cle.select_device(index)
    arrays = lit(observation), observation.psf.samples
    # Other types than float32 end the process.
    counts, psf = (cle.push(np.array(v, np.float32), device=device) for v in arrays)
    return np.asarray(cle.pull(cle.fft.deconvolve(counts, psf, iteration=iterations)))


def deconwolf(observation: Observation, iterations: int) -> Float:
    import tifffile

    with tempfile.TemporaryDirectory() as folder:
        image, psf, out = (Path(folder) / f"{name}.tif" for name in ("image", "psf", "out"))
        tifffile.imwrite(image, observation.image)
        tifffile.imwrite(psf, observation.psf.samples)
        command = ["dw", "--iter", str(iterations), "--threads", str(available_cores())]
        command += ["--bq", "2", "--float", "--overwrite", "--out", str(out), str(image), str(psf)]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        found = tifffile.imread(out)
    return np.asarray(found - (found.mean(dtype=np.float64) - observation.level), np.float32)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("scikit-image", scikit_image, "skimage", "pip install scikit-image"),
        Peer(
            "RedLionfish", redlionfish, "RedLionfishDeconv", "pip install redlionfish", flat=False
        ),
        Peer("clij2-fft", clij2_fft, "clij2fft", "pip install clij2-fft", "opencl", flat=False),
        Peer(
            "pyclesperanto", pyclesperanto, "pyclesperanto", "pip install pyclesperanto", "opencl"
        ),
        Peer("deconwolf", deconwolf, "", "", flat=False, program="dw"),
    )
}


# -- who is there -----------------------------------------------------------------------


def contender_of(key: str) -> Contender:
    """Return the contender "name@engine"."""
    name, engine = key.split("@")
    if name == PLAIN.name:
        return PLAIN
    return PEERS[name].contender() if name in PEERS else ours(name, engine)


def contenders(*, all_engines: bool) -> tuple[list[Contender], list[str]]:
    """Return those that can run here, the plain loop first, and why others cannot, a line each."""
    found, absent, opencl = [PLAIN], [], False
    for engine in ("cpu", "torch", "opencl"):
        there = list(devices(engine))
        has_gpu = any(device.is_gpu for device in there)
        if not there:
            absent.append(f"the engine {engine}: it finds no device here")
        elif engine == "opencl" and not (has_gpu or all_engines):
            absent.append("the engine opencl and pyclesperanto: no GPU (--all-engines runs them)")
        else:
            opencl = opencl or engine == "opencl"
            # These do no other work elsewhere: on the CPU and on GPUs.
            once = SPECIAL if engine == "cpu" or has_gpu else ()
            found += [ours(name, engine) for name in (*ACCELERATIONS, *once)]
    for peer in PEERS.values():
        why = peer.absence()
        if why is not None:
            absent.append(why)
        elif peer.name != "pyclesperanto" or opencl:
            found.append(peer.contender())
    return found, absent
