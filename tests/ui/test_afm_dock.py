"""The dock "AFM" as a user meets it: tune, see, reconstruct, estimate, measure, keep, nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from pytestqt.qtbot import QtBot

from napari_deconv.afm.blind_tip import BlindTip
from napari_deconv.afm.gradient_tip import GradientTip
from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.levelling import Level, Rows
from napari_deconv.afm.morphology import dilate, erode
from napari_deconv.afm.preparing import Denoise, Scars
from napari_deconv.afm.tips import (
    Delta,
    EllipticParaboloid,
    Paraboloid,
    SphereCone,
    SpherePyramid,
    tip_of,
)
from napari_deconv.files.heights import read_heights, write_heights
from napari_deconv.imaging.value import InputError
from napari_deconv.surfaces import SurfaceRecipe, TipFile, read_tip
from napari_deconv.ui import tip_panel
from napari_deconv.ui.afm_dock import AfmDock
from napari_deconv.ui.afm_live import LIVE
from napari_deconv.ui.dock import BUSY
from napari_deconv.ui.feature_table import FeatureTable
from napari_deconv.ui.files import get_heights_reader
from napari_deconv.ui.height_layers import layers_of_heights, pixel_nm_of, z_unit_of
from napari_deconv.ui.heights_panel import HeightsChoice, PreparingPanel
from napari_deconv.ui.samples import simulated_afm
from napari_deconv.ui.tip_panel import TipLayer, TipPanel
from napari_deconv.ui.tip_views import SweepView, TipProfile

PIXEL = (1.0, 1.5)
CONE = SphereCone(4.0, 30.0)


def surface() -> np.ndarray:
    heights = np.zeros((40, 48))
    for y, x in ((8, 10), (20, 30), (30, 14)):
        heights[y - 2 : y + 3, x - 1 : x + 3] = 6.0
    return heights


def image() -> np.ndarray:
    tip = tip_of(CONE, PIXEL, 6.0, (40, 48))
    return dilate(surface(), tip.heights_nm)


def heights_layer(data: np.ndarray, **state: Any) -> Image:
    """Return a layer of heights, also of such as are none."""
    like = np.where(np.isfinite(data), data, 0)
    _, looks, _ = layers_of_heights(HeightMap(like, PIXEL, "pillars"))
    return Image(data, **{**looks, **state})


@pytest.fixture
def dock(viewer: Any, qtbot: QtBot) -> Iterator[AfmDock]:
    """Return the dock in a viewer with an image of heights; nothing of it runs on afterwards."""
    viewer.add_layer(heights_layer(image(), translate=(5.0, 7.0)))
    widget = AfmDock(viewer)
    viewer.window.add_dock_widget(widget, name="AFM")
    yield widget
    widget.close()
    qtbot.waitUntil(lambda: not widget.job.running and not widget.live.running, timeout=30_000)


def live_layer(dock: AfmDock) -> Any:
    return next((layer for layer in dock.viewer.layers if layer.name == LIVE), None)


def is_shown(dock: AfmDock, heights: np.ndarray) -> bool:
    layer = live_layer(dock)
    return layer is not None and np.allclose(layer.data, heights, atol=1e-9)


def run(dock: AfmDock, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not dock.job.running, timeout=60_000)


def test_what_the_layer_knows_is_shown(dock: AfmDock) -> None:
    assert dock.heights.value() == HeightsChoice("pillars", "nm", PIXEL)
    layer = dock.source.layer()
    assert pixel_nm_of(layer) == PIXEL
    assert z_unit_of(layer) == "nm"


def test_a_layer_whose_scale_or_name_changes_is_followed(dock: AfmDock) -> None:
    layer = dock.source.layer()
    layer.name = "posts"
    assert dock.heights.value().name == "posts"
    layer.scale = (2.0, 3.0)
    assert dock.heights.value().pixel_nm == (2.0, 3.0)
    dock.heights.steps[0].setValue(4.0)
    layer.scale = (5.0, 5.0)
    assert dock.heights.value().pixel_nm == (4.0, 3.0)


def test_the_live_surface_lies_on_a_source_that_is_turned_and_goes_with_the_dock(
    dock: AfmDock, qtbot: QtBot
) -> None:
    source = dock.source.layer()
    source.rotate = 30
    dock.tip.setValue(CONE)
    qtbot.waitUntil(lambda: live_layer(dock) is not None, timeout=20_000)
    for place in ((0, 0), (10, 30)):
        found = live_layer(dock).data_to_world(place)
        np.testing.assert_allclose(found, source.data_to_world(place))
    source.translate = (50.0, 60.0)
    dock.tip.setValue(Paraboloid(4.0))
    qtbot.waitUntil(
        lambda: np.allclose(live_layer(dock).data_to_world((3, 4)), source.data_to_world((3, 4))),
        timeout=20_000,
    )
    dock.stop()
    assert live_layer(dock) is None


def test_the_surface_follows_the_sliders_in_place(dock: AfmDock, qtbot: QtBot) -> None:
    dock.tip.setValue(CONE)
    tip = tip_of(CONE, PIXEL, float(np.ptp(image())), (40, 48)).heights_nm

    def is_there() -> bool:
        shown = live_layer(dock)
        return shown is not None and np.allclose(shown.data, erode(image(), tip), atol=1e-9)

    qtbot.waitUntil(is_there, timeout=30_000)
    shown, source = live_layer(dock), dock.source.layer()
    np.testing.assert_array_equal(shown.scale, source.scale)
    np.testing.assert_array_equal(shown.translate, source.translate)
    assert shown.units == source.units
    before = shown.data.copy()
    dock.tip.radius.setValue(9.0)
    qtbot.waitUntil(lambda: not np.allclose(live_layer(dock).data, before), timeout=30_000)
    assert live_layer(dock) is shown
    value = dock.profile.value()
    assert value is not None
    assert "noise" in dock.told.text()
    # What was made live is no image to begin with.
    names = [dock.heights.layer.itemText(n) for n in range(dock.heights.layer.count())]
    assert names == ["pillars"]


def test_a_run_lays_surface_residual_and_certainty_on_the_image(
    dock: AfmDock, qtbot: QtBot
) -> None:
    dock.tip.setValue(CONE)
    dock.running.run_button.click()
    run(dock, qtbot)
    layers = dock.viewer.layers
    tip = tip_of(CONE, PIXEL, float(np.ptp(image())), (40, 48)).heights_nm
    np.testing.assert_allclose(layers["pillars surface"].data, erode(image(), tip), atol=1e-12)
    assert np.abs(layers["pillars residual"].data).max() < 1e-9
    assert isinstance(layers["pillars certain"], Labels)
    for what in ("surface", "residual", "certain"):
        layer = layers[f"pillars {what}"]
        np.testing.assert_array_equal(layer.translate, (5.0, 7.0))
        np.testing.assert_array_equal(layer.scale, PIXEL)
    entry = layers["pillars surface"].metadata["napari_deconv"]
    assert SurfaceRecipe.from_dict(entry["recipe"]).tip == CONE
    assert "done" in dock.running.state.text()
    np.testing.assert_array_equal(dock.source.layer().data, image())


def test_objects_are_measured_and_exported(dock: AfmDock, qtbot: QtBot, tmp_path: Path) -> None:
    dock.measure()
    assert "Reconstruct first" in dock.running.state.text()
    dock.tip.setValue(CONE)
    dock.reconstruct()
    run(dock, qtbot)
    dock.measure()
    run(dock, qtbot)
    found = dock.features.value()
    assert len(found) == 3
    assert all(f.corrected_width_nm < f.raw_width_nm for f in found)
    dock.keeping.export_table(str(tmp_path / "objects.csv"))
    assert len((tmp_path / "objects.csv").read_text("utf-8").splitlines()) == 4
    marked = np.zeros((40, 48), np.int32)
    marked[4:14, 5:17] = 7
    dock.viewer.add_layer(Labels(marked, name="mine"))
    dock.features.labels.setCurrentText("mine")
    dock.measure()
    run(dock, qtbot)
    assert [f.label for f in dock.features.value()] == [7]


def test_a_tip_is_estimated_and_taken(dock: AfmDock, qtbot: QtBot) -> None:
    dock.tip.setValue(BlindTip((7, 7)))
    dock.tip.estimate_button.click()
    run(dock, qtbot)
    assert "tip estimated" in dock.running.state.text()
    assert dock.tip.value() == TipLayer("tip of pillars")
    dock.reconstruct()
    # What is chosen meanwhile changes nothing of where the result lies, and what it is called.
    dock.viewer.add_layer(heights_layer(2 * image(), name="other", translate=(50.0, 0.0)))
    dock.heights.layer.setCurrentText("other")
    run(dock, qtbot)
    surface = dock.viewer.layers["pillars surface"]
    np.testing.assert_array_equal(surface.translate, (5.0, 7.0))
    # The recipe tells how the tip of the layer came to be, so that a command can repeat it.
    recipe = SurfaceRecipe.from_dict(surface.metadata["napari_deconv"]["recipe"])
    assert recipe.tip == BlindTip((7, 7))


def test_with_noise_thresholds_are_swept_and_the_choice_shown(dock: AfmDock, qtbot: QtBot) -> None:
    noisy = image() + np.random.default_rng(0).normal(0, 0.1, (40, 48))
    dock.viewer.add_layer(heights_layer(noisy, name="noisy"))
    dock.heights.layer.setCurrentText("noisy")
    dock.tip.setValue(BlindTip((7, 7)))
    dock.estimate()
    run(dock, qtbot)
    thresholds, depths, chosen = dock.sweep.value()
    assert len(thresholds) == len(depths) > 10
    assert chosen in thresholds


def test_what_is_kept_does_not_replace_the_image(
    dock: AfmDock, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "pillars.gwy"
    write_heights(path, HeightMap(np.asarray(dock.viewer.layers["pillars"].data), PIXEL))
    before = path.read_bytes()
    dock.viewer.open(str(path), plugin="napari-deconv")
    dock.heights.layer.setCurrentText(dock.viewer.layers[-1].name)
    dock.tip.setValue(CONE)
    dock.reconstruct()
    run(dock, qtbot)
    dock.keeping.export(str(path), overwrite=True)
    dock.keeping.export_tip(str(path), overwrite=True)
    assert path.read_bytes() == before


def test_it_is_kept_as_gwyddion_and_tiff(dock: AfmDock, qtbot: QtBot, tmp_path: Path) -> None:
    dock.tip.setValue(CONE)
    dock.reconstruct()
    run(dock, qtbot)
    made = dock.viewer.layers["pillars surface"].data
    for name in ("surface.gwy", "surface.ome.tif"):
        dock.keeping.export(str(tmp_path / name))
        found = read_heights(tmp_path / name)
        np.testing.assert_allclose(found.heights_nm, made, atol=1e-5)
        assert found.pixel_nm == pytest.approx(PIXEL)
    dock.keeping.export_tip(str(tmp_path / "tip.gwy"))
    assert read_tip(tmp_path / "tip.gwy").shape == dock.profile.value().shape  # type: ignore[union-attr]
    dock.preparing.setValue((Level(2), Scars()))
    dock.keep.saveAsked.emit(str(tmp_path / "recipe.json"))
    dock.preparing.setValue(())
    dock.tip.setValue(Delta())
    dock.keep.loadAsked.emit(str(tmp_path / "recipe.json"))
    assert dock.preparing.value() == (Level(2), Scars())
    assert dock.tip.value() == CONE


def test_it_is_compared_with_convolutions_by_name(dock: AfmDock, qtbot: QtBot) -> None:
    dock.tip.setValue(CONE)
    dock.reconstruct()
    run(dock, qtbot)
    dock.compare()
    run(dock, qtbot)
    names = [layer.name for layer in dock.viewer.layers if "convolution" in layer.name]
    assert len(names) == 3
    assert all("approximation" in name for name in names)


def test_a_movie_is_followed_frame_by_frame(dock: AfmDock, qtbot: QtBot) -> None:
    movie = np.stack([image(), np.roll(image(), 9, axis=1)])
    dock.viewer.add_layer(heights_layer(movie, name="movie"))
    dock.heights.layer.setCurrentText("movie")
    dock.tip.setValue(CONE)
    tip = tip_of(CONE, PIXEL, float(np.ptp(image())), (40, 48)).heights_nm
    for number in (1, 0):
        dock.viewer.dims.set_current_step(0, number)
        wanted = erode(movie[number], tip)
        qtbot.waitUntil(partial(is_shown, dock, wanted), timeout=30_000)
    dock.reconstruct()
    run(dock, qtbot)
    assert dock.viewer.layers["movie surface"].data.shape == movie.shape


def test_nonsense_is_told_in_the_dock(dock: AfmDock, qtbot: QtBot, tmp_path: Path) -> None:
    viewer = dock.viewer

    def said(layer: Image, **state: Any) -> str:
        viewer.add_layer(layer)
        dock.heights.layer.setCurrentText(layer.name)
        if state:
            dock.heights.show_known(**state)
        dock.reconstruct()
        return dock.running.state.text()

    bad = image()
    bad[3, 3] = np.nan
    assert "1 of 1920 heights are NaN" in said(
        heights_layer(bad, name="holes", contrast_limits=(0, 1))
    )
    assert "picture in colours" in said(
        Image(np.zeros((20, 20, 3), np.uint8), name="shot"), unit="nm", pixel_nm=PIXEL
    )
    assert "Nothing says the unit" in said(Image(image(), name="plain"))
    assert "Nothing says the pixel size" in said(
        Image(image(), name="bare"), unit="nm", pixel_nm=None
    )
    metres = heights_layer(image() * 1e-9, name="metres")
    assert "in metres" in said(metres)
    dock.heights.layer.setCurrentText("pillars")
    peak = np.full((5, 5), -1.0)
    peak[2, 2] = 0
    write_heights(tmp_path / "coarse.gwy", HeightMap(peak, (3.0, 3.0)))
    dock.tip.setValue(TipFile(str(tmp_path / "coarse.gwy")))
    dock.reconstruct()
    assert "pixels of 3 x 3 nm" in dock.running.state.text()
    wide = np.full((61, 61), -1.0)
    wide[30, 30] = 0
    write_heights(tmp_path / "large.gwy", HeightMap(wide, PIXEL))
    dock.tip.setValue(TipFile(str(tmp_path / "large.gwy")))
    dock.reconstruct()
    assert "larger than the image" in dock.running.state.text()
    dock.tip.setValue(TipFile(str(tmp_path / "none.gwy")))
    dock.reconstruct()
    assert "no file" in dock.running.state.text()


def test_what_cannot_be_done_yet_is_not_offered_and_says_why(dock: AfmDock, qtbot: QtBot) -> None:
    buttons = (dock.features.measure_button, dock.convolution_button, dock.keep.export_button)
    for button in buttons:
        assert not button.isEnabled()
        assert button.toolTip() == "Reconstruct first: there is no surface yet"
    dock.tip.setValue(CONE)
    qtbot.waitUntil(lambda: dock.keep.tip_button.isEnabled(), timeout=30_000)
    dock.running.run_button.click()
    assert dock.tip.estimate_button.toolTip() == BUSY
    run(dock, qtbot)
    assert all(button.isEnabled() for button in buttons)
    assert dock.features.measure_button.toolTip().startswith("Measure the objects")
    dock.viewer.layers.clear()
    for button in (dock.running.run_button, dock.tip.estimate_button):
        assert not button.isEnabled()
        assert button.toolTip() == "Open an image of heights first"
    assert dock.told.text() == "<b>Open an image of heights first</b>"


def test_a_refusal_goes_when_it_is_mended(dock: AfmDock, qtbot: QtBot) -> None:
    dock.viewer.add_layer(Image(image(), name="plain"))
    dock.heights.layer.setCurrentText("plain")
    dock.running.run_button.click()
    assert "Nothing says the unit" in dock.running.state.text()
    dock.heights.unit.setCurrentText("nm")
    assert dock.running.state.text() == ""


def test_a_run_is_cancelled_and_shows_nothing(dock: AfmDock, qtbot: QtBot) -> None:
    big = np.random.default_rng(0).random((400, 400)) * 50
    dock.viewer.add_layer(heights_layer(big, name="big"))
    dock.heights.layer.setCurrentText("big")
    dock.tip.setValue(SphereCone(40.0, 60.0))
    dock.reconstruct()
    dock.cancel()
    run(dock, qtbot)
    assert dock.running.state.text() == "cancelled"
    assert "big surface" not in dock.viewer.layers


def test_the_sample_opens_with_its_surface_and_tip(viewer: Any, qtbot: QtBot) -> None:
    for data, state, _kind in simulated_afm():
        viewer.add_layer(Image(data, **state))
    widget = AfmDock(viewer)
    qtbot.addWidget(widget)
    assert widget.tip.layer.count() == 1
    widget.tip.setValue(TipLayer(widget.tip.layer.itemText(0)))
    widget.reconstruct()
    run(widget, qtbot)
    assert widget.made is not None
    truth = viewer.layers["simulated AFM surface"].data
    raw = np.sqrt(np.square(widget.source.layer().data - truth).mean())
    found = np.sqrt(np.square(widget.made.surface.heights_nm - truth).mean())
    assert found < 0.7 * raw
    widget.stop()
    qtbot.waitUntil(lambda: not widget.live.running, timeout=30_000)


def test_a_file_of_heights_opens_with_scale_and_unit(tmp_path: Path) -> None:
    write_heights(tmp_path / "a.gwy", HeightMap(image(), PIXEL, "a", "Height"))
    reader = get_heights_reader(str(tmp_path / "a.gwy"))
    assert reader is not None
    ((data, state, kind),) = reader("")
    assert kind == "image"
    np.testing.assert_allclose(data, image(), atol=1e-9)
    assert tuple(state["scale"]) == pytest.approx(PIXEL)
    assert state["units"] == ("nm", "nm")
    assert state["metadata"]["z_unit"] == "nm"
    assert get_heights_reader([str(tmp_path / "a.gwy")]) is None


EVERY = (
    Paraboloid(7.0),
    EllipticParaboloid(4.0, 15.0, 30.0),
    SphereCone(6.0, 18.0),
    SpherePyramid(6.0, 18.0, 3, 20.0),
    Delta(),
    BlindTip((9, 11), "partial", 0.5),
    GradientTip((9, 11), symmetric=True),
    TipFile("tip.gwy"),
)


@pytest.mark.parametrize("tip", EVERY)
def test_the_panel_shows_and_returns_every_tip(tip: Any, qtbot: QtBot) -> None:
    panel = TipPanel()
    qtbot.addWidget(panel)
    panel.setValue(tip)
    assert panel.value() == tip
    assert SurfaceRecipe.from_json(SurfaceRecipe(tip).to_json()).tip == tip


def test_every_kind_of_tip_has_a_value_or_a_sentence(qtbot: QtBot) -> None:
    panel = TipPanel()
    qtbot.addWidget(panel)
    for kind in tip_panel.KINDS[:-2]:
        panel.kind.setCurrentText(kind)
        assert panel.value() is not None
    for kind in tip_panel.KINDS[-2:]:
        panel.kind.setCurrentText(kind)
        with pytest.raises(InputError):
            panel.value()


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Level(3),),
        (Rows(),),
        (Level(1), Rows(), Level(1)),
        (Scars(), Denoise("total variation", 2.0)),
    ],
)
def test_the_panel_shows_and_returns_every_step(steps: Any, qtbot: QtBot) -> None:
    panel = PreparingPanel()
    qtbot.addWidget(panel)
    panel.setValue(steps)
    assert panel.value() == steps


def test_an_empty_table_offers_no_export(qtbot: QtBot) -> None:
    table = FeatureTable()
    qtbot.addWidget(table)
    assert not table.export_button.isEnabled()
    assert table.chosen_labels() is None


def test_pixels_of_metadata_are_taken(viewer: Any) -> None:
    layer = Image(image(), metadata={"px2nm": 2.5, "z_unit": "um"})
    assert pixel_nm_of(layer) == (2.5, 2.5)
    assert z_unit_of(layer) == "um"
    assert pixel_nm_of(Image(image())) is None


def test_profile_and_sweep_are_drawn(qtbot: QtBot) -> None:
    profile, sweep = TipProfile(), SweepView()
    for view in (profile, sweep):
        qtbot.addWidget(view)
        view.resize(300, 120)
    empty = [view.grab().toImage() for view in (profile, sweep)]
    profile.setValue(tip_of(CONE, PIXEL, 6.0, (40, 48)), "cone")
    sweep.setValue((0.1, 0.2, 0.4), (3.0, 0.5, 0.4), 0.2)
    assert [view.grab().toImage() for view in (profile, sweep)] != empty
    assert profile.grab().toImage() != empty[0]
    assert sweep.grab().toImage() != empty[1]
