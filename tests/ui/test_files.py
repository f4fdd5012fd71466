"""napari's own doors: reader, writer, samples, manifest, preferences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from npe2 import PluginManifest

import napari_deconv
from napari_deconv.files import pyramid
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_pyramid, read_stack
from napari_deconv.files.samples import BEAD_PATH, CELL_PATH
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.ui import __main__ as main
from napari_deconv.ui import layers, samples
from napari_deconv.ui.files import get_reader, write_image
from napari_deconv.ui.preferences import Preferences, read_preferences

MANIFEST = Path(napari_deconv.__file__).parent / "napari.yaml"


def test_the_reader_gives_scale_and_units() -> None:
    read = get_reader(str(CELL_PATH))
    assert read is not None
    ((data, state, kind),) = read(str(CELL_PATH))
    layer = Image(data, **state)
    assert kind == "image"
    assert layer.scale.tolist() == [0.3, 0.1015, 0.1015]
    assert layers.grid_of(layer, "ZYX") == Grid(spacing_um=(0.3, 0.1015, 0.1015))


def test_the_reader_leaves_other_files_to_napari(tmp_path: Path) -> None:
    plain, colour, text = (tmp_path / name for name in ("plain.tif", "rgb.tif", "text.tif"))
    tifffile.imwrite(plain, np.zeros((8, 9), np.uint8))
    tifffile.imwrite(colour, np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    text.write_text("hello")
    for path in (plain, colour, text, tmp_path / "none.tif"):
        assert get_reader(str(path)) is None
    assert get_reader([str(CELL_PATH), str(BEAD_PATH)]) is None


def test_the_writer_keeps_voxels_voxel_size_and_recipe(tmp_path: Path) -> None:
    recipe = {"kind": "Recipe", "anything": 1}
    layer = Image(
        np.arange(24, dtype=np.uint16).reshape(2, 3, 4),
        scale=(300, 100, 100),
        units=("nm", "nm", "nm"),
        metadata={layers.KEY: {"recipe": recipe}},
    )
    data, state, _ = layer.as_layer_data_tuple()
    path = tmp_path / "out.ome.tif"
    assert write_image(str(path), data, state) == [str(path)]
    back = read_stack(path)
    assert back.data.dtype == np.uint16
    assert np.array_equal(back.data, data)
    assert back.grid == Grid(spacing_um=(0.3, 0.1, 0.1))
    made_by = read_provenance(path)
    assert made_by is not None
    assert made_by["recipe"] == recipe
    again = get_reader(str(path))
    assert again is not None
    assert again(str(path))[0][1]["metadata"][layers.KEY]["recipe"] == recipe


@pytest.mark.parametrize("name", ["cell.ome.tif", "cell.ome.zarr"])
def test_colours_position_and_date_go_through_the_viewer(tmp_path: Path, name: str) -> None:
    position = {"Z": (-5.0, "µm"), "Y": (0.0, "µm"), "X": (2000.0, "µm")}
    stack = Stack(
        np.ones((2, 3, 4, 5), np.float32),
        "CZYX",
        Grid(spacing_um=(0.3, 0.1, 0.1)),
        channel_names=("a", "b"),
        channel_colours=("FF00FF", "00FF80"),
        position=position,
        acquired="2026-11-27T12:30:00",
    )
    path = str(write_stack(tmp_path / name, stack).path)
    read = get_reader(path)
    assert read is not None
    for (data, state, _), colour in zip(read(path), ("FF00FF", "00FF80"), strict=True):
        layer = Image(data, **state)
        # A TIFF lies where other readers show it, an OME-Zarr where it was taken.
        shown = [-5.0, 0.0, 2000.0] if name.endswith("zarr") else [0.0, 0.0, 0.0]
        assert layer.translate.tolist() == shown
        assert layer.blending == "additive"
        out = tmp_path / f"{colour}.ome.tif"
        write_image(str(out), *layer.as_layer_data_tuple()[:2])
        back = read_stack(out)
        assert back.channel_colours == (colour,)
        assert {axis: place for axis, (place, _) in back.position.items()} == {
            axis: place for axis, (place, _) in position.items()
        }
        assert back.acquired == stack.acquired


@pytest.fixture
def pyramid_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an OME-Zarr of two channels and four levels: ramps, odd in y."""
    monkeypatch.setattr(pyramid, "SMALL_ENOUGH", 8)
    ramp = np.arange(40, dtype=np.float32)[:, None] * 100 + np.arange(48, dtype=np.float32)
    data = np.stack([ramp[None].repeat(4, 0)[:, :39], 2 * ramp[None].repeat(4, 0)[:, :39]])
    stack = Stack(data, "CZYX", Grid(spacing_um=(0.4, 0.1, 0.1)), "cell", ("a", "b"))
    return write_stack(tmp_path / "cell.ome.zarr", stack).path


def test_a_pyramid_is_shown_as_one(viewer: Any, pyramid_path: Path) -> None:
    read = get_reader(str(pyramid_path))
    assert read is not None
    found = read(str(pyramid_path))
    assert [state["name"] for _, state, _ in found] == ["cell a", "cell b"]
    for data, state, _ in found:
        layer = viewer.add_image(data, **state)
        assert layer.multiscale
        assert layers.grid_of(layer, "ZYX") == Grid(spacing_um=(0.4, 0.1, 0.1))
        assert [level.shape for level in layer.data] == [
            (4, 39, 48),
            (4, 20, 24),
            (4, 10, 12),
            (2, 5, 6),
        ]
        stack = layers.stack_of_layer(layer, "ZYX", None)
        assert stack.shape == (4, 39, 48)
    np.testing.assert_array_equal(found[1][0][0], 2 * found[0][0][0])


def test_the_levels_of_a_pyramid_lie_on_each_other(pyramid_path: Path) -> None:
    read = get_reader(str(pyramid_path))
    assert read is not None
    (data, state, _), _ = read(str(pyramid_path))
    layer = Image(data, **state)
    # By napari's own rule the middle of voxel i of a level is drawn at (i + 1/2) factor - 1/2.
    for level, factors in zip(layer.data, layer.downsample_factors, strict=True):
        plane = np.asarray(level)[0]
        y, x = (
            (np.arange(n) + 0.5) * f - 0.5 for n, f in zip(plane.shape, factors[1:], strict=True)
        )
        # Along x, of an even size, exactly there; along y, of an odd one, within a voxel.
        np.testing.assert_allclose(plane[0] - plane[0, 0], x - x[0])
        assert np.abs((plane[:, 0] - x[0]) / 100 - y).max() <= 1.0


def test_the_writer_takes_the_full_resolution_of_a_pyramid(
    pyramid_path: Path, tmp_path: Path
) -> None:
    read = get_reader(str(pyramid_path))
    assert read is not None
    data, state, _ = Image(
        *read(str(pyramid_path))[0][:1], **read(str(pyramid_path))[0][1]
    ).as_layer_data_tuple()
    path = tmp_path / "out.ome.zarr"
    write_image(str(path), data, state)
    levels = read_pyramid(path)
    assert [level.shape for level in levels][:2] == [(4, 39, 48), (4, 20, 24)]
    assert levels[0].grid == Grid(spacing_um=(0.4, 0.1, 0.1))
    np.testing.assert_array_equal(levels[0].data, read_stack(pyramid_path).data[0])


@pytest.mark.parametrize("sample", [samples.light_sheet_cell, samples.simulated_cell])
def test_samples_are_pairs_with_voxel_size(sample: Any) -> None:
    found = [Image(data, **state) for data, state, _ in sample()]
    assert len(found) == 2
    for layer in found:
        assert layers.grid_of(layer, "ZYX") is not None


def test_the_manifest_is_valid_and_every_command_loads() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    contributions = manifest.contributions
    assert contributions.widgets
    assert contributions.writers
    assert contributions.readers
    assert len(contributions.sample_data or []) == 4
    assert "napari/layers/filter" in (contributions.menus or {})
    top = MANIFEST.parents[2] / "napari.yaml"
    if top.is_symlink():
        assert not top.readlink().is_absolute()
        assert top.resolve() == MANIFEST


def test_the_widget_opens_from_the_menu(viewer: Any) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("napari-deconv", "Deconvolve")
    assert type(widget).__name__ == "DeconvolveDock"
    widget.close()


def test_the_demo_shows_raw_and_restored(
    viewer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    restored = tmp_path / "restored.ome.tif"
    cell = read_stack(CELL_PATH)
    write_stack(restored, replace(cell, data=cell.data.astype(np.float32)))
    monkeypatch.setattr("napari.Viewer", lambda **_: viewer)
    main.show([str(CELL_PATH), str(restored)])
    assert [layer.name for layer in viewer.layers] == ["lightsheet_cell", "restored"]
    assert np.array_equal(viewer.layers[0].scale, viewer.layers[1].scale)
    docks = viewer.window.dock_widgets
    assert docks["Deconvolve"].image.value().name == "lightsheet_cell"
    docks["Deconvolve"].stop()


def test_preferences_have_defaults() -> None:
    found = read_preferences()
    assert isinstance(found, Preferences)
    assert found.engine in ("auto", "cpu", "opencl", "torch")
    assert 0 < found.memory_fraction <= 1
