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
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.files.samples import BEAD_PATH, CELL_PATH
from napari_deconv.imaging.grid import Grid
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
    assert len(contributions.sample_data or []) == 3
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
