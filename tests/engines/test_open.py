"""The door to the engines: what is chosen, what is tried, and what is said where it fails."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv import engines
from napari_deconv.engines import Device, devices, open_engine, opencl_engine, reason, tried
from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.engine import Engine, Float


class FakeGpu(CpuEngine):
    """A GPU that computes on the CPU."""

    name = "torch"

    def __init__(self) -> None:
        super().__init__(workers=1)
        self.device = "GPU of the test"


class WrongGpu(FakeGpu):
    """A GPU that reads back something else than it computed."""

    def pull(self, array: Any, shape: tuple[int, ...]) -> Float:
        return super().pull(array, shape) * np.float32(1.001)


class NanGpu(FakeGpu):
    """A GPU that reads back no numbers."""

    def pull(self, array: Any, shape: tuple[int, ...]) -> Float:
        return super().pull(array, shape) * np.float32(np.nan)


def broken() -> Engine:
    raise RuntimeError("CUDA error: no kernel image\nis available for execution on the device")


def silent() -> Engine:
    raise ValueError


def listing(*found: Device) -> Callable[[], Iterator[Device]]:
    return lambda: iter(found)


def gpu(opener: Callable[[], Engine], engine: str = "torch") -> Device:
    return Device(engine, f"GPU {opener.__name__}", True, 8 << 30, opener)


def cpu_device(engine: str) -> Device:
    return Device(engine, "CPU of the test", False, None, FakeGpu)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes this machine have these devices, beside its CPU."""

    def install(*, torch: tuple[Device, ...] = (), opencl: tuple[Device, ...] = ()) -> None:
        monkeypatch.setattr(
            engines, "_GPU_DRIVERS", dict.fromkeys(("torch", "opencl"), lambda: True)
        )
        monkeypatch.setattr(engines, "_torch", listing(*torch))
        monkeypatch.setattr(engines, "_opencl", listing(*opencl))
        monkeypatch.setattr(
            engines, "_GPU_DRIVERS", {"torch": lambda: True, "opencl": lambda: True}
        )

    return install


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a package look as if it were not installed."""
    found = importlib.util.find_spec

    def uninstall(package: str) -> None:
        def find(name: str, *more: Any) -> ModuleSpec | None:
            return None if name == package else found(name, *more)

        monkeypatch.setattr(importlib.util, "find_spec", find)

    return uninstall


# -- names -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda"])
def test_an_unknown_name_is_refused_with_those_known(name: str) -> None:
    sentence = f"The engine {name!r} is not known; choose one of auto, cpu, opencl, torch"
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        open_engine(name)


def test_each_engine_opens_by_its_name(engine: Engine) -> None:
    assert engine.name in ("cpu", "opencl", "torch")
    assert engine.device


# -- auto ------------------------------------------------------------------------------


def test_auto_takes_the_first_gpu_that_works(installed: Callable[..., None]) -> None:
    installed(torch=(gpu(FakeGpu), cpu_device("torch")), opencl=(gpu(broken, "opencl"),))
    assert open_engine("auto").device == "GPU of the test"


def test_auto_prefers_torch_to_opencl(installed: Callable[..., None]) -> None:
    installed(torch=(gpu(FakeGpu),), opencl=(gpu(broken, "opencl"),))
    assert open_engine().name == "torch"


def test_auto_never_takes_torch_or_opencl_on_a_cpu(installed: Callable[..., None]) -> None:
    installed(torch=(cpu_device("torch"),), opencl=(cpu_device("opencl"),))
    assert open_engine("auto").name == "cpu"


def test_auto_never_takes_opencl_on_this_machines_cpu() -> None:
    """As installed here: PoCL is an OpenCL device, but no GPU."""
    found = list(devices("opencl"))
    assert any(not device.is_gpu for device in found)
    if not any(device.is_gpu for device in devices("torch", "opencl")):
        assert open_engine("auto").name == "cpu"


def test_a_gpu_that_fails_gives_way_with_a_warning(installed: Callable[..., None]) -> None:
    installed(torch=(gpu(broken),))
    sentence = r"GPU broken is not used: it failed its self-test \(CUDA error: no kernel image\)$"
    with pytest.warns(UserWarning, match=sentence):
        assert open_engine("auto").name == "cpu"


def test_the_next_gpu_is_tried(installed: Callable[..., None]) -> None:
    installed(torch=(gpu(broken),), opencl=(gpu(FakeGpu, "opencl"),))
    with pytest.warns(UserWarning, match="GPU broken is not used"):
        assert open_engine("auto").device == "GPU of the test"


@pytest.mark.parametrize(("kind", "said"), [(WrongGpu, r"off by 0\.00\d"), (NanGpu, r"off by nan")])
def test_a_gpu_that_computes_wrongly_is_not_trusted(
    installed: Callable[..., None], kind: type[FakeGpu], said: str
) -> None:
    installed(opencl=(gpu(kind, "opencl"),))
    with pytest.warns(UserWarning, match=rf"its self-test gave wrong numbers \({said}\)"):
        assert open_engine("auto").name == "cpu"


def test_a_package_that_fails_to_load_is_no_device(
    monkeypatch: pytest.MonkeyPatch, installed: Callable[..., None]
) -> None:
    """Such as torch with a library of CUDA missing."""

    def load() -> Iterator[Device]:
        raise OSError("libcudart.so.12: cannot open shared object file")
        yield

    monkeypatch.setattr(engines, "_GPU_DRIVERS", dict.fromkeys(("torch", "opencl"), lambda: True))
    installed()
    monkeypatch.setattr(engines, "_torch", load)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_engine("auto").name == "cpu"
    with (
        pytest.warns(UserWarning, match="torch, which cannot be loaded is not used"),
        pytest.raises(InputError, match=r"does not work here: .*libcudart\.so\.12"),
    ):
        open_engine("torch")


@pytest.mark.parametrize("package", ["torch", "opencl"])
def test_without_a_driver_nothing_is_loaded(
    monkeypatch: pytest.MonkeyPatch, installed: Callable[..., None], package: str
) -> None:
    """Loading torch takes seconds: not for a machine that has no GPU."""
    installed(**{package: (gpu(FakeGpu, package),)})
    assert open_engine("auto").device == "GPU of the test"
    absent = {**engines._GPU_DRIVERS, package: lambda: False}
    monkeypatch.setattr(engines, "_GPU_DRIVERS", absent)
    monkeypatch.setattr(engines, f"_{package}", lambda: pytest.fail("loaded"))
    assert open_engine("auto").name == "cpu"


def test_the_driver_of_pocl_is_none_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("OCL_ICD_FILENAMES", raising=False)
    monkeypatch.setattr(engines, "Path", lambda path: tmp_path)
    assert not engines._may_have_opencl_gpu()
    (tmp_path / "pocl.icd").touch()
    assert not engines._may_have_opencl_gpu()
    (tmp_path / "nvidia.icd").touch()
    assert engines._may_have_opencl_gpu()


@pytest.mark.parametrize(
    ("system", "machine", "library", "expected"),
    [
        ("linux", "x86_64", "libcuda.so.1", True),
        ("linux", "x86_64", None, False),
        ("win32", "AMD64", "nvcuda.dll", True),
        ("win32", "AMD64", None, False),
        ("darwin", "arm64", None, True),
        ("darwin", "x86_64", None, False),
    ],
)
def test_torch_is_asked_where_a_driver_lies(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    machine: str,
    library: str | None,
    expected: bool,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(engines, "find_library", lambda name: library)
    monkeypatch.setattr(engines, "Path", lambda path: tmp_path / "missing")
    assert engines._may_have_torch_gpu() is expected


# -- by name ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "opencl"])
def test_a_chosen_engine_that_fails_is_an_error_and_no_fallback(
    installed: Callable[..., None], name: str
) -> None:
    installed(**{name: (gpu(silent, name),)})
    sentence = (
        f"The engine {name!r} does not work here: it failed its self-test (ValueError). "
        "Use the engine 'cpu', or update the driver"
    )
    with (
        pytest.warns(UserWarning, match="GPU silent is not used"),
        pytest.raises(InputError, match=f"^{re.escape(sentence)}$"),
    ):
        open_engine(name)


def test_a_chosen_engine_may_run_on_a_cpu(installed: Callable[..., None]) -> None:
    installed(opencl=(cpu_device("opencl"),))
    assert open_engine("opencl").device == "GPU of the test"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("torch", "torch", "learned"), ("opencl", "pyclesperanto", "opencl")],
)
def test_what_is_not_installed_is_told_with_its_extra(
    missing: Callable[[str], None], name: str, package: str, extra: str
) -> None:
    missing(package)
    assert list(devices(name)) == []
    sentence = (
        f"The engine {name!r} needs {package}, which is not installed; "
        f'run: pip install "napari-deconv[{extra}]"'
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        open_engine(name)
    assert open_engine("cpu").name == "cpu"


def test_opencl_without_a_driver_is_told(installed: Callable[..., None]) -> None:
    installed()
    with pytest.raises(InputError, match=r"found no OpenCL device; install the driver of your GPU"):
        open_engine("opencl")


# -- what there is ---------------------------------------------------------------------


def test_devices_lists_every_engine_of_this_machine() -> None:
    found = list(devices())
    assert {d.engine for d in found if not d.is_gpu} == {"cpu", "opencl", "torch"}
    assert all(device.name and device.engine in engines.ENGINES for device in found)
    first = next(devices("cpu"))
    assert re.match(r"CPU, \d+ core", first.name)
    assert first.memory_bytes is not None
    assert first.memory_bytes > 2**28
    assert [tried(device)[1] for device in found] == ["works"] * len(found)


def test_devices_are_listed_for_one_engine() -> None:
    assert {device.engine for device in devices("opencl")} == {"opencl"}
    assert all("(OpenCL)" in device.name for device in devices("opencl"))


def test_each_open_gives_a_new_engine() -> None:
    device = next(devices("cpu"))
    assert device.open() is not device.open()


def test_what_will_run_is_told_with_its_reason() -> None:
    engine = open_engine("cpu")
    assert reason(engine, "cpu") == f"{engine.device} (as chosen)"
    assert reason(engine, "auto") == f"{engine.device} (no working GPU found)"
    assert reason(FakeGpu(), "auto") == "GPU of the test"


# -- PoCL from the package index -------------------------------------------------------


def test_the_packaged_driver_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "pyopencl" / ".libs" / "libpocl-1a2b.so"
    driver.parent.mkdir(parents=True)
    driver.touch()
    package = tmp_path / "pocl_binary_distribution" / "__init__.py"
    spec = ModuleSpec("pocl_binary_distribution", None, origin=str(package))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert opencl_engine.packaged_pocl() == driver
    driver.unlink()
    assert opencl_engine.packaged_pocl() is None


def test_without_the_package_there_is_no_driver(missing: Callable[[str], None]) -> None:
    missing("pocl_binary_distribution")
    assert opencl_engine.packaged_pocl() is None


@pytest.mark.parametrize("error", [ImportError("no driver"), RuntimeError("no platform")])
def test_opencl_that_does_not_load_has_no_devices(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr(opencl_engine, "_cle", fail)
    assert opencl_engine.opencl_devices() == []


class Described:
    """A device as pyclesperanto describes it."""

    def __init__(self, info: str) -> None:
        self.name, self.info = "some name", info


@pytest.mark.parametrize(
    ("info", "is_gpu", "memory"),
    [
        ("Device Type: GPU\nGlobal Memory Size: 2048 MB", True, 2 << 30),
        ("Device Type:  CPU\nGlobal Memory Size: 100 MB", False, 100 << 20),
        ("something new", False, None),
    ],
)
def test_an_opencl_device_is_read_from_its_description(
    info: str, is_gpu: bool, memory: int | None
) -> None:
    found = opencl_engine._described(Described(info), 3)
    assert (found.index, found.name) == (3, "some name")
    assert (found.is_gpu, found.memory_bytes) == (is_gpu, memory)
