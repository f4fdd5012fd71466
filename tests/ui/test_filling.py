"""Layers that fill: overviews against plain means, and runs in tiles as a user sees them."""

from __future__ import annotations

import time
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from napari.layers import Image
from pytestqt.qtbot import QtBot

from napari_deconv import pipeline
from napari_deconv.files.export import write_stack
from napari_deconv.files.recipe import Recipe
from napari_deconv.files.work_folder import WorkFolder
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.stepping import ended
from napari_deconv.tiling import SPARE_BYTES
from napari_deconv.ui import filling, layers, runs
from napari_deconv.ui.channels_panel import ChannelsPanel, Chosen
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.filling import Canvas, Filling, overview_factors
from napari_deconv.ui.method_panel import Settings

#: Its PSF is small, so that a test takes no longer than it must.
OPTICS = Optics(na=1.0, emission_nm=520, immersion_index=1.333, model="gaussian")
SHORT = Settings(RichardsonLucy(3), 0.0, "cpu")
UM = ("um", "um", "um")


def placement(shape: tuple[int, ...], axes: str, **state: Any) -> layers.Placement:
    return layers.Placement.of(Image(np.zeros(shape), name="cells", **state), axes)


def near() -> Psf:
    """Return a PSF that does not reach far, so that a small image has many tiles."""
    z, y, x = np.mgrid[-1:2, -2:3, -2:3]
    return Psf(np.exp(-(z**2 + y**2 + x**2) / 2), (0.3, 0.1, 0.1))


def cut(n: int, *at: int) -> list[slice]:
    return [slice(a, b) for a, b in pairwise((0, *at, n))]


def test_an_overview_is_the_mean_of_blocks_however_the_tiles_were_cut() -> None:
    rng = np.random.default_rng(1)
    data = rng.random((2, 5, 23, 30), dtype=np.float32)
    stack = Stack(data, "CZYX", Grid(spacing_um=(0.3, 0.1, 0.1)))
    canvas = Canvas.overview(stack, placement(data.shape, "CZYX"), most_bytes=2 * 5 * 6 * 8 * 4)
    assert canvas.factors == (1, 1, 4, 4)
    tiles = list(product(cut(2, 1), cut(5, 2), cut(23, 7, 9), cut(30, 13)))
    for place in tiles:
        canvas.add(place, data[place])
    canvas.add(tiles[0], data[tiles[0]])  # again: as a run that goes on may tell
    expected = np.empty((2, 5, 6, 8))
    for y, x in product(range(6), range(8)):
        block = data[:, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        expected[:, :, y, x] = block.mean(axis=(2, 3), dtype=np.float64)
    # Sums of 16 float32 around 1: their rounding.
    assert np.abs(canvas.array - expected).max() < 1e-6
    assert sum(canvas.part(place) for place in tiles) == pytest.approx(1)


def test_an_overview_fits_and_keeps_times_channels_and_cubes() -> None:
    huge = Stack(np.broadcast_to(np.float32(0), (3, 2, 500, 9000, 9000)), "TCZYX")
    assert overview_factors(huge, 2**26) == (1, 1, 1, 128, 128)
    cubes = Grid(spacing_um=(0.1, 0.1, 0.1))
    stack = Stack(np.broadcast_to(np.float32(0), (400, 400, 400)), "ZYX", cubes)
    factors = overview_factors(stack, 100**3 * 4)
    assert factors == (4, 4, 4)
    assert overview_factors(stack, 2**40) == (1, 1, 1)


def test_an_overview_lies_where_its_voxels_were() -> None:
    """The centre of a merged voxel is the mean place of those it was made of."""
    turned = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    source = placement(
        (4, 9, 8), "ZYX", scale=(0.3, 0.1, 0.2), translate=(5, 6, 7), rotate=turned, units=UM
    )
    data, state, _ = layers.filling_layer(np.zeros((4, 3, 2), np.float32), source, (1, 3, 4))
    small, whole = Image(data, **state), Image(np.zeros((4, 9, 8)), **source.layer)
    for index in product(range(4), range(3), range(2)):
        inside = [
            (index[0], 3 * index[1] + j, 4 * index[2] + i) for j, i in product(range(3), range(4))
        ]
        expected = np.mean([whole.data_to_world(place) for place in inside], axis=0)
        assert small.data_to_world(index) == pytest.approx(expected)


def test_chosen_channels_and_times_lie_where_they_were() -> None:
    source = placement((10, 3, 6, 7), "TCYX", scale=(2, 1, 0.1, 0.1), translate=(4, 0, 5, 6))
    whole = Image(np.zeros((10, 3, 6, 7)), **source.layer)
    chosen = source.selected((2,), (1, 4, 7))
    part = Image(np.zeros((3, 1, 6, 7)), **chosen.layer)
    for step, time_point in enumerate((1, 4, 7)):
        expected = whole.data_to_world((time_point, 2, 3, 3))
        assert part.data_to_world((step, 0, 3, 3)) == pytest.approx(expected)
    assert source.selected((), ()).layer["translate"].tolist() == [4, 0, 5, 6]


def test_contrast_widens_until_the_user_takes_over(viewer: Any, qtbot: QtBot) -> None:
    array = np.zeros((4, 32, 16), np.float32)
    view = Filling(viewer)
    view.begin(Canvas.whole(array, placement(array.shape, "ZYX", scale=(3, 1, 1))))
    places = [(slice(0, 4), rows, slice(0, 16)) for rows in cut(32, 8, 16, 24)]
    highs = []
    source = placement(array.shape, "ZYX", scale=(3, 1, 1))
    for place, level in zip(places[:3], (10.0, 30.0, 20.0), strict=True):
        array[place] = np.linspace(0, level, 8)[:, None]
        view.tile_finished(place)
        qtbot.waitUntil(lambda: not view._timer.isActive(), timeout=5_000)
        assert view.layer is not None
        highs.append(view.layer.contrast_limits[1])
    assert highs == pytest.approx([10, 30, 30])
    shown = view.layer
    assert shown is not None
    assert np.shares_memory(shown.data, array)
    shown.contrast_limits = (1, 5)
    array[places[3]] = 99
    view.tile_finished(places[3])
    result, state, _ = layers.filling_layer(array, source, (1, 1, 1))
    view.complete(result, {**state, "contrast_limits": (0, 99)})
    assert viewer.layers[-1].contrast_limits == [1, 5]
    assert [layer.name for layer in viewer.layers] == ["cells restored"]


# -- the dock ---------------------------------------------------------------------------------


@pytest.fixture
def in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give runs so little memory that the image of `wide` is restored in many tiles."""
    monkeypatch.setattr(runs, "budget_bytes", lambda fraction: SPARE_BYTES + 1_000_000)


def add_wide(dock: DeconvolveDock) -> Image:
    rng = np.random.default_rng(5)
    data = rng.poisson(20, (4, 180, 170)).astype(np.uint16)
    data[2, 20:30, 30:40] += 400
    scale, place = (0.3, 0.1, 0.1), (1, 2, 3)
    layer = Image(data, name="wide", scale=scale, translate=place, units=UM, axis_labels="zyx")
    dock.viewer.add_layer(layer)
    dock.image.layer.setCurrentText("wide")
    dock.show_recipe(Recipe(near(), SHORT.method, 0.0, "cpu"))
    return layer


@pytest.fixture
def wide(dock: DeconvolveDock) -> Image:
    """Return a layer of cells, chosen in the dock."""
    return add_wide(dock)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> list[npt.NDArray[np.float32]]:
    """Take time after each tile; return what was written, as it comes."""
    written: list[npt.NDArray[np.float32]] = []
    whole = pipeline.ArraySink.write

    def write(self: Any, tile: str, place: Any, block: Any, record: Any) -> None:
        whole(self, tile, place, block, record)
        written.append(block)

    whole_steps = RichardsonLucy.steps

    def steps(self: RichardsonLucy, *args: Any) -> Any:
        for step in whole_steps(self, *args):
            time.sleep(0.04)
            yield step

    monkeypatch.setattr(pipeline.ArraySink, "write", write)
    monkeypatch.setattr(RichardsonLucy, "steps", steps)
    monkeypatch.setattr(filling, "REFRESH_MS", 20)
    return written


@pytest.mark.usefixtures("in_tiles")
def test_the_forecast_names_the_tiles(dock: DeconvolveDock, wide: Image, qtbot: QtBot) -> None:
    with qtbot.waitSignal(dock.latest.ready, timeout=15_000):
        dock._settings_changed()
    text = dock.running.forecast.text()
    assert "; in 15 tiles; 85 MB of 85 MB memory; " in text
    assert "B read twice" in text


@pytest.mark.usefixtures("in_tiles", "slowly")
def test_a_run_in_tiles_fills_one_layer_and_ends_as_without_a_viewer(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot
) -> None:
    seen = []
    dock.running.run_button.click()
    while dock.job.running:
        qtbot.wait(20)
        if dock.filling.layer is not None:
            seen.append(float(np.mean(dock.filling.layer.data != 0)))
            assert "tile " in dock.running.state.text() or not dock.job.running
    result = dock.viewer.layers[-1]
    assert 0 < seen[0] < 0.7
    assert len(set(seen)) >= 3
    assert seen == sorted(seen)
    assert [layer.name for layer in dock.viewer.layers] == ["blobs", "wide", "wide restored"]
    for name in ("scale", "translate", "units", "axis_labels"):
        assert np.array_equal(getattr(result, name), getattr(wide, name)), name
    recipe = Recipe.from_dict(result.metadata[layers.KEY]["recipe"])
    stack = layers.stack_of_layer(wide, "ZYX", Grid(spacing_um=(0.3, 0.1, 0.1)))
    again = pipeline.restoring(stack, recipe, memory_bytes=runs.budget_bytes(1.0))
    alone = ended(again)
    assert np.array_equal(result.data, alone.stack.data)
    assert dock.keeping.restored is not None
    assert np.shares_memory(dock.keeping.restored.stack.data, result.data)


@pytest.mark.usefixtures("in_tiles")
def test_cancel_and_failure_keep_what_is_finished(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot, slowly: list[Any], monkeypatch: Any
) -> None:
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: len(slowly) >= 2, timeout=15_000)
    with qtbot.waitSignal(dock.job.cancelled, timeout=15_000):
        dock.running.cancel_button.click()
    kept = dock.viewer.layers[-1]
    assert kept.name == "wide restored (unfinished)"
    assert "finished tiles" in dock.running.state.text()
    assert "% of the result kept" in dock.running.state.text()
    assert 0 < np.mean(kept.data != 0) < 1
    assert layers.KEY not in kept.metadata
    whole_write = pipeline.ArraySink.write

    def write(self: Any, tile: str, *rest: Any) -> None:
        if len(slowly) >= 5:
            raise InputError("The disk is full")
        whole_write(self, tile, *rest)

    slowly.clear()
    slowly += [None, None]
    monkeypatch.setattr(pipeline.ArraySink, "write", write)
    with qtbot.waitSignal(dock.job.failed, timeout=15_000):
        dock.running.run_button.click()
    assert dock.running.state.text().startswith("The disk is full; 3 finished tiles, ")
    assert dock.viewer.layers[-1].name == "wide restored (unfinished) [1]"


@pytest.mark.usefixtures("in_tiles")
def test_a_deleted_layer_comes_back_with_the_result(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot, slowly: list[Any]
) -> None:
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: dock.filling.layer is not None, timeout=15_000)
    dock.viewer.layers.remove(dock.filling.layer)
    with qtbot.waitSignal(dock.job.finished, timeout=15_000):
        pass
    assert [layer.name for layer in dock.viewer.layers] == ["blobs", "wide", "wide restored"]
    assert dock.viewer.layers[-1].data.all()


@pytest.mark.usefixtures("in_tiles")
def test_a_dock_that_goes_leaves_its_layer_named_unfinished(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot, slowly: list[Any]
) -> None:
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: dock.filling.layer is not None, timeout=15_000)
    dock.stop()
    qtbot.waitUntil(lambda: not dock.job.running, timeout=15_000)
    assert dock.viewer.layers[-1].name == "wide restored (unfinished)"


@pytest.mark.usefixtures("in_tiles")
def test_a_viewer_may_be_closed_while_a_layer_fills(
    viewer: Any, qtbot: QtBot, slowly: list[Any]
) -> None:
    dock = DeconvolveDock(viewer)
    viewer.window.add_dock_widget(dock, name="Deconvolve")
    add_wide(dock)
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: dock.filling.layer is not None, timeout=15_000)
    viewer.close()
    qtbot.wait(300)
    before = len(slowly)
    qtbot.wait(500)
    assert len(slowly) == before < 12


def run_into(dock: DeconvolveDock, qtbot: QtBot, path: Path) -> Image:
    with qtbot.waitSignal(dock.job.finished, timeout=15_000):
        dock.running.fileRunAsked.emit(str(path))
    result: Image = dock.viewer.layers[-1]
    return result


@pytest.mark.usefixtures("in_tiles", "slowly")
def test_a_run_into_a_file_ends_as_a_pyramid_in_its_place(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("napari_deconv.files.pyramid.SMALL_ENOUGH", 64)
    monkeypatch.setattr(filling, "OVERVIEW_BYTES", 4 * 4 * 90 * 85)
    path = tmp_path / "out.ome.zarr"
    dock.running.fileRunAsked.emit(str(path))
    qtbot.waitUntil(lambda: dock.filling.layer is not None, timeout=15_000)
    view = dock.filling.layer
    assert view is not None
    assert view.data.shape == (4, 90, 85)
    assert view.scale.tolist() == pytest.approx([0.3, 0.2, 0.2])
    assert view.translate.tolist() == pytest.approx([1, 2.05, 3.05])
    with qtbot.waitSignal(dock.job.finished, timeout=15_000):
        pass
    result = dock.viewer.layers[-1]
    assert [layer.name for layer in dock.viewer.layers] == ["blobs", "wide", "wide restored"]
    assert result.multiscale
    assert [level.shape for level in result.data][:2] == [(4, 180, 170), (4, 90, 85)]
    for name in ("scale", "translate", "units", "axis_labels"):
        assert np.array_equal(getattr(result, name), getattr(wide, name)), name
    # What was seen while it ran is the level of that size: sums of four in another order.
    assert np.allclose(view.data, np.asarray(result.data[1]), rtol=1e-5)
    assert Recipe.from_dict(result.metadata[layers.KEY]["recipe"]).method == SHORT.method
    assert not WorkFolder.of(path).path.exists()


@pytest.mark.usefixtures("in_tiles", "slowly")
def test_a_cancelled_run_into_a_file_goes_on(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "out.ome.zarr"
    dock.running.fileRunAsked.emit(str(path))
    qtbot.waitUntil(lambda: dock.filling.tiles >= 2, timeout=15_000)
    with qtbot.waitSignal(dock.job.cancelled, timeout=15_000):
        dock.running.cancel_button.click()
    assert "out.unfinished.ome.zarr" in dock.running.state.text()
    result = run_into(dock, qtbot, path)
    assert path.is_dir()
    assert np.asarray(result.data).shape == (4, 180, 170)
    again = run_into(dock, qtbot, tmp_path / "again.ome.zarr")
    assert np.array_equal(np.asarray(again.data), np.asarray(result.data))


def test_a_result_larger_than_memory_is_sent_into_a_file(
    dock: DeconvolveDock, wide: Image, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(
        np.broadcast_to(np.uint16(1), (40, 9, 400, 400)), "TZYX", Grid(spacing_um=(0.3, 0.1, 0.1))
    )
    wanted = runs.Wanted(stack, OPTICS, SHORT)
    monkeypatch.setattr(runs, "budget_bytes", lambda fraction: 3 * 10**8)
    promise = runs.promised(wanted, 1.0)
    assert not promise.fits
    assert promise.result_bytes == 4 * stack.data.size
    dock._show_plan(promise)
    assert "the result (230 MB) does not fit in memory: run into a file" in (
        dock.running.forecast.text()
    )
    monkeypatch.setattr(runs, "budget_bytes", lambda fraction: 2 * 10**9)
    assert runs.promised(wanted, 1.0).fits


# -- channels and times -----------------------------------------------------------------------


def test_channels_are_typed_from_one_and_meant_from_zero(qtbot: QtBot) -> None:
    panel = ChannelsPanel()
    qtbot.addWidget(panel)
    assert panel.isHidden()
    panel.show_axes({"T": 5, "C": 3, "Z": 9})
    assert panel.value() == Chosen()
    panel.setValue(Chosen((0, 2), (1, 2, 4)))
    assert (panel.fields["C"].text(), panel.fields["T"].text()) == ("1, 3", "2-3, 5")
    assert panel.value() == Chosen((0, 2), (1, 2, 4))
    panel.fields["T"].setText("1-5")
    assert panel.value().times == ()
    for text, words in (("6", "6 is not among them"), ("0", "0 is not"), ("a", "not 'a'")):
        panel.fields["T"].setText(text)
        with pytest.raises(InputError, match=words):
            panel.value()


def test_each_channel_gets_its_wavelengths(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    data = rng.poisson(9, (4, 2, 3, 20, 21)).astype(np.uint16)
    grid = Grid(spacing_um=(0.4, 0.2, 0.2))
    known = tuple(
        KnownOptics(na=0.9, immersion_index=1.0, emission_nm=wave) for wave in (520.0, 610.0)
    )
    path = tmp_path / "cells.ome.tif"
    write_stack(path, Stack(data, "TCZYX", grid, channel_optics=known), dtype="uint16")
    with qtbot.waitSignal(dock.headers.found, timeout=15_000):
        dock.viewer.open(path, plugin="napari")
        dock.image.layer.setCurrentText(dock.viewer.layers[-1].name)
    assert dock.channels.own.text() == "emission 520, 610 nm (from the file)"
    dock.method.setValue(SHORT)
    recipe = dock.recipe()
    assert [psf.emission_nm for psf in recipe.channel_psfs] == [520, 610]  # type: ignore[union-attr]
    dock.channels.fields["T"].setText("2, 4")
    dock.channels.fields["C"].setText("2")
    with qtbot.waitSignal(dock.job.finished, timeout=15_000):
        dock.running.run_button.click()
    result = dock.viewer.layers[-1]
    assert result.data.shape == (2, 1, 3, 20, 21)
    assert result.scale.tolist() == [2, 1, 1, 1, 1]
    assert result.translate.tolist() == [1, 1, 0, 0, 0]
    used = Recipe.from_dict(result.metadata[layers.KEY]["recipe"])
    assert (used.channels, used.times) == ((1,), (1, 3))
    red = Stack(data[3, 1], "ZYX", grid)
    alone = pipeline.restore_stack(red, Recipe(used.channel_psfs[1], SHORT.method, 0.0, "cpu"))
    assert np.array_equal(result.data[1, 0], alone.stack.data)
    dock.channels.own.setChecked(False)
    assert dock.recipe().channel_psfs == ()
    dock.show_recipe(used)
    assert dock.recipe() == used


def test_a_pyramid_is_restored_at_its_full_resolution(dock: DeconvolveDock, qtbot: QtBot) -> None:
    whole = np.random.default_rng(2).poisson(30, (4, 40, 36)).astype(np.float32)
    pyramid = [whole, whole[:, ::2, ::2]]
    scale = (0.3, 0.1, 0.1)
    dock.viewer.add_layer(
        Image(pyramid, multiscale=True, name="levels", scale=scale, units=UM, axis_labels="zyx")
    )
    dock.image.layer.setCurrentText("levels")
    assert dock.image.origin.text().startswith("<i>4 x 40 x 36;")
    dock.psf.setValue(OPTICS)
    dock.method.setValue(SHORT)
    with qtbot.waitSignal(dock.job.finished, timeout=15_000):
        dock.running.run_button.click()
    result = dock.viewer.layers[-1]
    assert (result.name, result.data.shape) == ("levels restored", (4, 40, 36))
    assert result.scale.tolist() == list(scale)
    assert [str(unit) for unit in result.units] == ["micrometer"] * 3
