"""Importing costs milliseconds, and pulls in nothing that is not needed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import napari_deconv

HEAVY = ("torch", "pyclesperanto", "napari", "qtpy", "PyQt6", "magicgui", "superqt", "vispy")

PROBE = """
import json, sys, time
before = set(sys.modules)
started = time.perf_counter()
import {module}
seconds = time.perf_counter() - started
print(json.dumps([seconds, sorted({{name.split(".")[0] for name in set(sys.modules) - before}})]))
"""


def fresh_import(module: str) -> tuple[float, set[str]]:
    """Import in a new process; return the seconds and the packages that came along."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    seconds, packages = json.loads(done.stdout)
    return seconds, set(packages)


def test_the_package_imports_in_milliseconds_and_alone() -> None:
    runs = [fresh_import("napari_deconv") for _ in range(5)]
    assert min(seconds for seconds, _ in runs) < 0.1
    for _, packages in runs:
        assert "napari_deconv" in packages
        assert not packages & {*HEAVY, "numpy", "scipy", "dask", "zarr", "tifffile", "typer"}


@pytest.mark.parametrize("module", ["napari_deconv.pipeline", "napari_deconv.cli"])
def test_the_road_and_the_command_load_no_engine_and_no_viewer(module: str) -> None:
    _, packages = fresh_import(module)
    assert "napari_deconv" in packages
    assert not packages & set(HEAVY)


def test_the_help_of_the_command_waits_for_no_numerics() -> None:
    _, packages = fresh_import("napari_deconv.cli")
    assert not packages & {"scipy", "dask", "zarr", "tifffile", "numba"}


def test_every_public_name_loads() -> None:
    assert sorted(napari_deconv.__all__) == sorted(napari_deconv._HOMES)
    for name in napari_deconv.__all__:
        home = importlib.import_module(f"napari_deconv.{napari_deconv._HOMES[name]}")
        assert getattr(napari_deconv, name) is getattr(home, name)
        assert name in dir(napari_deconv)


def test_other_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="module 'napari_deconv' has no attribute 'decon'"):
        napari_deconv.decon  # noqa: B018
