"""Where arrays live. `open_engine` is the only door; torch and OpenCL load behind it.

`auto` prefers a real GPU: CUDA or MPS through torch, else a GPU through OpenCL, else the
CPU engine. OpenCL on a CPU is several times slower than the CPU engine (`benchmarks/`), so
it is for those who ask for it by name. Installed is not the same as working: a GPU is
tried on a small filter before it is trusted, and falls back with a warning.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_deconv.imaging.value import InputError, first_line
from napari_deconv.restoration.engine import Engine

ENGINES = ("auto", "cpu", "opencl", "torch")


@dataclass(frozen=True)
class Device:
    """One device that an engine can use on this machine.

    Parameters
    ----------
    engine : str
        Name of the engine: 'cpu', 'opencl' or 'torch'.
    name : str
        The device in words.
    is_gpu : bool
        Whether it is a GPU.
    memory_bytes : int or None
        Its memory, None where unknown.
    open : callable
        Returns a new engine on it.
    """

    engine: str
    name: str
    is_gpu: bool
    memory_bytes: int | None
    open: Callable[[], Engine]


def devices(*engines: str) -> Iterator[Device]:
    """Yield what this machine has, for the named engines or for all, GPUs first in each."""
    for name in engines or ENGINES[1:]:
        try:
            yield from {"cpu": _cpu, "opencl": _opencl, "torch": _torch}[name]()
        except Exception as problem:  # An installed package may still fail to load.
            yield Device(name, f"{name}, which cannot be loaded", False, None, _failing(problem))


def _failing(problem: Exception) -> Callable[[], Engine]:
    def fail() -> Engine:
        raise problem

    return fail


def _cpu() -> Iterator[Device]:
    from .cpu_engine import CpuEngine
    from .memory import total_memory_bytes

    yield Device("cpu", CpuEngine().device, False, total_memory_bytes(), CpuEngine)


def _torch() -> Iterator[Device]:
    if importlib.util.find_spec("torch") is None:
        return
    from .torch_engine import TorchEngine, describe_device, device_memory_bytes, torch_devices

    for target in torch_devices():
        yield Device(
            "torch",
            describe_device(target),
            target != "cpu",
            device_memory_bytes(target),
            lambda target=target: TorchEngine(target),  # type: ignore[misc]
        )


def _opencl() -> Iterator[Device]:
    if importlib.util.find_spec("pyclesperanto") is None:
        return
    from .opencl_engine import OpenClEngine, opencl_devices

    for found in opencl_devices():
        yield Device(
            "opencl",
            found.describe(),
            found.is_gpu,
            found.memory_bytes,
            lambda index=found.index: OpenClEngine(index),  # type: ignore[misc]
        )


def open_engine(name: str = "auto") -> Engine:
    """Return an engine that has passed its self-test.

    Parameters
    ----------
    name : {"auto", "cpu", "opencl", "torch"}
        Which engine; "auto" takes a GPU where one works, else the CPU engine.

    Raises
    ------
    InputError
        If the name is not known, or the engine cannot run on this machine.

    Examples
    --------
    >>> open_engine("cpu").name
    'cpu'
    """
    if name not in ENGINES:
        raise InputError(f"The engine {name!r} is not known; choose one of {', '.join(ENGINES)}")
    if name == "cpu":
        return next(_cpu()).open()
    if name == "auto":
        names = [name for name, may_have_gpu in _GPU_DRIVERS.items() if may_have_gpu()]
        gpus = (device for device in (devices(*names) if names else ()) if device.is_gpu)
        engine, _ = _first_working(gpus)
        return engine or next(_cpu()).open()
    engine, problems = _first_working(devices(name))
    if engine is None:
        raise InputError(_unavailable(name, problems))
    return engine


def _first_working(candidates: Iterator[Device]) -> tuple[Engine | None, list[str]]:
    """Return the first engine that passes its self-test, and what was wrong with those before."""
    problems: list[str] = []
    for device in candidates:
        engine, problem = tried(device)
        if engine is not None:
            return engine, problems
        warnings.warn(f"{device.name} is not used: {problem}", stacklevel=3)
        problems.append(problem)
    return None, problems


def _may_have_torch_gpu() -> bool:
    """Return whether a driver that torch could use is installed.

    Loading torch takes seconds and holds up every other thread meanwhile; without a driver
    there is no reason to.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    return Path("/dev/kfd").exists() or find_library("cuda") is not None


def _may_have_opencl_gpu() -> bool:
    """Return whether an OpenCL driver other than PoCL, which knows no GPU, is installed."""
    if sys.platform != "linux" or "OCL_ICD_FILENAMES" in os.environ:
        return True
    return any("pocl" not in driver.name for driver in Path("/etc/OpenCL/vendors").glob("*.icd"))


_GPU_DRIVERS: dict[str, Callable[[], bool]] = {
    "torch": _may_have_torch_gpu,
    "opencl": _may_have_opencl_gpu,
}


def tried(device: Device) -> tuple[Engine | None, str]:
    """Open a device and run the self-test; return the engine, or None and what went wrong."""
    # Drivers fail in every way there is, and each way means the same here: not this device.
    try:
        engine = device.open()
        error = self_test(engine)
    except Exception as problem:
        return None, f"it failed its self-test ({first_line(problem)})"
    if not error <= 1e-5:  # NaN is wrong as well
        return None, f"its self-test gave wrong numbers (off by {error:.1g})"
    return engine, "works"


def self_test(engine: Engine) -> float:
    """Return the largest error of a small blur and its adjoint against the direct sum."""
    rng = np.random.default_rng(0)
    image = rng.random((5, 6, 7), dtype=np.float32)
    psf = rng.random((3, 3, 3), dtype=np.float32)
    psf /= psf.sum()
    blur = engine.blur(psf, image.shape)
    pushed = engine.push(image, image.shape)
    once = engine.evaluate("1.0f * a", a=blur.forward(pushed))
    both = engine.evaluate("a + 2.0f * b", a=once, b=blur.adjoint(pushed))
    offsets = list(np.ndindex(3, 3, 3))
    expected = sum(
        psf[o] * np.roll(image, tuple(sign * (i - 1) for i in o), (0, 1, 2)) * factor
        for o in offsets
        for sign, factor in ((1, 1.0), (-1, 2.0))
    )
    return float(np.abs(engine.pull(both, image.shape) - expected).max())


def _unavailable(name: str, failures: list[str]) -> str:
    if failures:
        return (
            f"The engine {name!r} does not work here: {failures[0]}. "
            "Use the engine 'cpu', or update the driver"
        )
    package = {"torch": "torch", "opencl": "pyclesperanto"}[name]
    extra = {"torch": "learned", "opencl": "opencl"}[name]
    if importlib.util.find_spec(package) is None:
        return (
            f"The engine {name!r} needs {package}, which is not installed; "
            f'run: pip install "napari-deconv[{extra}]"'
        )
    return (
        "The engine 'opencl' found no OpenCL device; install the driver of your GPU, "
        'or try it without one: pip install "napari-deconv[pocl]" (Linux)'
    )


def reason(engine: Engine, asked: str) -> str:
    """Return in one line what will run and why."""
    if asked != "auto":
        return f"{engine.device} (as chosen)"
    return f"{engine.device} (no working GPU found)" if engine.name == "cpu" else engine.device


#: What drivers say, in lower case, when a device has no memory left.
_NO_MEMORY = ("out of memory", "out_of_memory", "mem_object_allocation", "out_of_resources")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an engine failed for want of memory, so that a smaller piece may do."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(said in words for said in _NO_MEMORY)
