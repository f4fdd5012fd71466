"""Pyramids: what a level holds, where it lies, and what the metadata say of it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_deconv.files import pyramid
from napari_deconv.files.export import write_stack
from napari_deconv.files.pyramid import halved, level_factors, level_shape
from napari_deconv.files.reading import read_pyramid, read_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pyramids go down to eight voxels, so that small images have levels."""
    monkeypatch.setattr(pyramid, "SMALL_ENOUGH", 8)


def stack_of(data: Any, axes: str, *spacing: float) -> Stack:
    return Stack(data, axes, Grid(spacing_um=spacing) if spacing else None, "cell")


def coordinates(entry: Any, shape: tuple[int, ...]) -> list[Array]:
    """Return where the voxels of a level lie, by its metadata as other readers take them."""
    changes = {change["type"]: change[change["type"]] for change in entry}
    shift = changes.get("translation", [0.0] * len(shape))
    return [
        np.arange(n) * step + start
        for n, step, start in zip(shape, changes["scale"], shift, strict=True)
    ]


def levels_of(path: Path, version: str) -> list[tuple[Array, list[Any]]]:
    group = zarr.open_group(str(path), mode="r")
    attrs: Any = dict(group.attrs)
    multiscale = (attrs if version == "0.4" else attrs["ome"])["multiscales"][0]
    return [
        (np.asarray(group[entry["path"]]), entry["coordinateTransformations"])
        for entry in multiscale["datasets"]
    ]


@pytest.mark.parametrize(
    ("axes", "shape", "spacing", "wanted"),
    [
        ("ZYX", (40, 256, 256), (0.3, 0.1, 0.1), [(1, 1, 1)]),
        ("ZYX", (40, 257, 100), (0.3, 0.1, 0.1), [(1, 1, 1), (1, 2, 2)]),
        # After y and x have doubled twice, z is the shorter one and takes part.
        (
            "ZYX",
            (40, 2000, 2000),
            (0.3, 0.1, 0.1),
            [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)],
        ),
        ("ZYX", (64, 600, 600), (0.1, 0.1, 0.1), [(1, 1, 1), (2, 2, 2), (4, 4, 4)]),
        ("ZYX", (64, 600, 600), (), [(1, 1, 1), (1, 2, 2), (1, 4, 4)]),
        ("TCYX", (9, 3, 512, 300), (0.1, 0.1), [(1, 1, 1, 1), (1, 1, 2, 2)]),
        ("ZYX", (1, 3, 900), (0.1, 0.1, 0.1), [(1, 1, 1), (1, 2, 2), (1, 4, 4)]),
    ],
)
def test_levels_bring_voxels_closer_to_cubes_until_they_are_small(
    axes: str, shape: tuple[int, ...], spacing: tuple[float, ...], wanted: list[tuple[int, ...]]
) -> None:
    data = np.broadcast_to(np.float32(0), shape)
    assert level_factors(stack_of(data, axes, *spacing)) == wanted


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["uint16", "int8", "float32"]))
def test_a_voxel_is_the_mean_of_those_it_covers(rows: int, columns: int, dtype: str) -> None:
    rng = np.random.default_rng(rows * 10 + columns)
    block = rng.integers(-100 if dtype == "int8" else 0, 120, (rows, columns)).astype(dtype)
    means = np.array(
        [
            [block[i : i + 2, j : j + 2].astype(float).mean() for j in range(0, columns, 2)]
            for i in range(0, rows, 2)
        ]
    )
    wanted = means if dtype == "float32" else np.rint(means)  # numpy rounds half to even
    found = halved(block, (True, True))
    assert found.dtype == block.dtype
    np.testing.assert_array_equal(found, wanted.astype(dtype))
    assert level_shape(block.shape, (2, 2)) == found.shape


def test_the_largest_numbers_and_nan_have_means_without_a_warning() -> None:
    high = np.full((4,), np.finfo(np.float64).max)
    np.testing.assert_array_equal(halved(high, (True,)), high[:2])
    odd = np.array([np.inf, -np.inf, np.nan, 1, 2, 4], np.float32)
    np.testing.assert_array_equal(halved(odd, (True,)), np.array([np.nan, np.nan, 3], np.float32))


@pytest.mark.usefixtures("small_levels")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_ramp_is_the_same_ramp_in_micrometres_at_every_level(
    tmp_path: Path, version: str, lazy: bool
) -> None:
    spacing = (0.2, 0.125, 0.1)
    shape = (16, 64, 32)
    places = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    slopes = (3.0, -2.0, 5.0)
    ramp = sum(slope * place for slope, place in zip(slopes, places, strict=True))
    data = da.from_array(ramp, chunks=(16, 20, 32)) if lazy else ramp
    path = write_stack(
        tmp_path / "a.ome.zarr", stack_of(data, "ZYX", *spacing), ome_zarr_version=version
    ).path
    levels = levels_of(path, version)
    assert [voxels.shape for voxels, _ in levels] == [
        (16, 64, 32),
        (16, 32, 16),
        (8, 16, 8),
        (4, 8, 4),
    ]
    for voxels, entry in levels:
        there = np.meshgrid(*coordinates(entry, voxels.shape), indexing="ij")
        wanted = sum(slope * place for slope, place in zip(slopes, there, strict=True))
        # float32 of numbers up to 20, rounded once a level.
        np.testing.assert_allclose(voxels, wanted, atol=1e-5)


@pytest.mark.usefixtures("small_levels")
def test_every_level_holds_the_flux_also_of_odd_sizes_in_five_dimensions(tmp_path: Path) -> None:
    data = np.random.default_rng(5).random((2, 3, 5, 33, 21), dtype=np.float32)
    path = write_stack(tmp_path / "a.zarr", stack_of(data, "TCZYX", 0.1, 0.1, 0.1)).path
    levels = levels_of(path, "0.5")
    assert [voxels.shape[2:] for voxels, _ in levels] == [
        (5, 33, 21),
        (3, 17, 11),
        (2, 9, 6),
        (1, 5, 3),
    ]
    # How many voxels of level 0 each covers along an axis: the last one fewer.
    counts = [np.ones(n) for n in data.shape[2:]]
    flux = data.sum(axis=(2, 3, 4), dtype=float)
    for voxels, entry in levels:
        assert entry[0]["scale"][:2] == [1.0, 1.0]
        weighed = np.einsum("tczyx,z,y,x->tc", voxels.astype(float), *counts)
        # An odd edge is a mean of fewer voxels, which the next level's mean takes as one of two.
        np.testing.assert_allclose(weighed, flux, rtol=0.03 if voxels.shape[-1] < 11 else 1e-5)
        counts = [np.add.reduceat(c, range(0, len(c), 2)) if len(c) > 1 else c for c in counts]


@pytest.mark.usefixtures("small_levels")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_are_made_chunk_by_chunk_without_seams(tmp_path: Path, version: str) -> None:
    data = np.random.default_rng(6).integers(0, 5000, (40, 530, 270)).astype(np.uint16)
    path = write_stack(
        tmp_path / "a.zarr",
        stack_of(data, "ZYX", 0.1, 0.1, 0.1),
        dtype="uint16",
        ome_zarr_version=version,
    ).path
    levels = [voxels for voxels, _ in levels_of(path, version)]
    assert len(levels) == 8
    for larger, level in pairwise(levels):
        halve = tuple(n != m for n, m in zip(larger.shape, level.shape, strict=True))
        np.testing.assert_array_equal(level, halved(larger, halve))


def test_a_small_image_has_one_level(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.zarr", stack_of(np.ones((4, 256, 256)), "ZYX")).path
    assert len(read_pyramid(path)) == 1
    assert sorted(entry.name for entry in path.iterdir()) == ["0", "zarr.json"]


@pytest.mark.usefixtures("small_levels")
@pytest.mark.parametrize("axes", ["ZYX", "TCZYX", "YX", "CYX"])
def test_a_pyramid_comes_back_with_a_voxel_size_a_level(tmp_path: Path, axes: str) -> None:
    sizes = {"T": 2, "C": 3, "Z": 2, "Y": 30, "X": 40}
    data = np.random.default_rng(7).random([sizes[axis] for axis in axes], dtype=np.float32)
    spacing = (0.1, 0.1, 0.2)[-3 if "Z" in axes else -2 :]
    path = write_stack(tmp_path / "a.zarr", stack_of(data, axes, *spacing)).path
    levels = read_pyramid(path)
    np.testing.assert_array_equal(levels[0].data, read_stack(path).data)
    assert [level.axes for level in levels] == [axes] * 4
    assert [level.shape[-2:] for level in levels] == [(30, 40), (15, 20), (8, 10), (4, 5)]
    for level, factor in zip(levels, (1, 2, 4, 8), strict=True):
        assert level.grid is not None
        assert level.grid.spacing_um[-2:] == pytest.approx([s * factor for s in spacing[-2:]])


@pytest.mark.usefixtures("small_levels")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["ZYX", "TCZYX", "YX"])
def test_the_metadata_are_what_others_understand(tmp_path: Path, version: str, axes: str) -> None:
    models = pytest.importorskip("ome_zarr_models")
    data = np.ones([{"T": 2, "C": 2, "Z": 4, "Y": 30, "X": 40}[axis] for axis in axes], np.float32)
    spacing = (0.1, 0.1, 0.2)[-3 if "Z" in axes else -2 :]
    path = write_stack(
        tmp_path / "a.zarr", stack_of(data, axes, *spacing), ome_zarr_version=version
    ).path
    image = models.open_ome_zarr(zarr.open_group(str(path), mode="r"))
    assert type(image).__name__ == "Image"
    assert type(image).__module__.split(".")[1] == f"v{version.replace('.', '')}"
    attributes = image.ome_attributes if version == "0.5" else image.attributes
    (multiscale,) = attributes.multiscales
    assert [dataset.path for dataset in multiscale.datasets] == ["0", "1", "2", "3"]
    assert multiscale.type == "mean"


def test_levels_of_others_that_are_none_are_left_out(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=3)
    shapes = {"full": (2, 8, 8), "half": (2, 4, 4), "mask": (1, 2, 2)}
    for name, shape in shapes.items():
        group.create_array(name, shape=shape, dtype="uint8")
    axes: list[Any] = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets: list[Any] = [
        {
            "path": name,
            "coordinateTransformations": [{"type": "scale", "scale": [1, 8 / shape[1], 1]}],
        }
        for name, shape in shapes.items()
    ]
    multiscale: Any = {"axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    assert [level.shape for level in read_pyramid(tmp_path / "a.zarr")] == [(2, 8, 8), (2, 4, 4)]
    assert json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
