"""The dock "Learn" as a user meets it: train, watch, stop, restore, and nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from pytestqt.qtbot import QtBot

from napari_deconv import learning, recordings
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.learned import trainer, training
from napari_deconv.learned.trainer import Schedule
from napari_deconv.restoration.misfit import Misfit
from napari_deconv.ui.layers import KEY
from napari_deconv.ui.learn_dock import LearnDock
from napari_deconv.ui.learn_panel import LearnChoice, LearnPanel
from napari_deconv.ui.learn_runs import Judgement
from napari_deconv.ui.learn_views import Losses, LossView, Pictures, PicturesView
from napari_deconv.ui.pairs_panel import PairsPanel
from napari_deconv.ui.source_panel import AGAIN, HALVES, LAYER, SourceChoice

SPACING, UM = (0.2, 0.1, 0.1), ("um", "um", "um")
SMALL = Schedule(pairs=2, left_out=1, shape=(6, 24, 24), patch=(4, 16, 16), batch=1, steps=40)


@pytest.fixture
def dock(
    viewer: Any, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LearnDock]:
    """Return the dock in a viewer with a cell and a bead, and a short training."""
    monkeypatch.setattr(training, "PRESETS", {"quick": SMALL})
    monkeypatch.setattr(trainer, "LOOK_EVERY", 2)
    monkeypatch.setattr(recordings, "HALVES", 2)
    z, y, x = np.ogrid[-2:3, -4:5, -4:5]
    bead = np.exp(-(z**2 + y**2 + x**2) / 3)
    rng = np.random.default_rng(0)
    light = np.full((8, 32, 64), 5.0)
    light[2:6, 6:26, 8:56] = np.linspace(20, 300, 48)
    counts = (100 + 2 * rng.poisson(light)).astype(np.uint16)
    viewer.add_layer(Image(bead, name="bead", scale=SPACING, units=UM))
    viewer.add_layer(Image(counts, name="cell", scale=SPACING, units=UM, translate=(1, 2, 3)))
    widget = LearnDock(viewer)
    viewer.window.add_dock_widget(widget, name="Learn")
    widget.image.choose("cell")
    widget.psf.source.setCurrentIndex(1)
    widget.psf.layer.setCurrentText("bead")
    widget.panel.setValue(LearnChoice(path=str(tmp_path / "cell.safetensors")))
    yield widget
    widget.close()
    settle(widget, qtbot)


def settle(dock: LearnDock, qtbot: QtBot) -> None:
    qtbot.waitUntil(
        lambda: not (dock.busy or dock.latest.running or dock.image.headers.running),
        timeout=120_000,
    )


def promised(dock: LearnDock, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: "takes about" in dock.running.forecast.text(), timeout=120_000)


def test_what_was_open_before_the_dock_is_taken_over(
    viewer: Any, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "a_cell.safetensors").touch()
    known = {"optics": KnownOptics(na=1.27, immersion_index=1.33).to_dict()}
    image = np.random.default_rng(0).poisson(9.0, (8, 32, 32)).astype(np.uint16)
    viewer.add_layer(Image(image, name="a cell", scale=SPACING, units=UM, metadata={KEY: known}))
    widget = LearnDock(viewer)
    qtbot.addWidget(widget)
    assert widget.panel.path.text() == str(tmp_path / "a_cell1.safetensors")
    assert widget.psf.optics.value().na == 1.27
    widget.close()
    settle(widget, qtbot)


def test_it_says_what_a_training_will_be(dock: LearnDock, qtbot: QtBot) -> None:
    promised(dock, qtbot)
    assert dock.panel.told.text().startswith("Light: ")
    assert "counts a photon above an offset of" in dock.panel.told.text()
    assert dock.panel.gain.value() == pytest.approx(2, rel=0.3)
    assert not dock.panel.gain.isEnabled()
    assert dock.running.run_button.isEnabled()
    assert not dock.restore_button.isEnabled()


def test_a_network_is_trained_and_restores_beside_richardson_lucy(
    dock: LearnDock, qtbot: QtBot
) -> None:
    assert dock.pictures.isHidden()
    dock.running.run_button.click()
    assert not dock.pictures.isHidden()
    assert not dock.running.run_button.isEnabled()
    settle(dock, qtbot)
    path = Path(dock.panel.path.text())
    assert path.is_file()
    assert dock.running.state.text() == f"trained in 6 steps; kept as {path.name}"
    assert "cell: 6 steps" in dock.verdict.text()
    losses = dock.losses.value()
    assert len(losses.learned) == 6
    assert [step for step, _ in losses.left_out] == [1, 2, 4, 6]  # what it starts from first
    shown = dock.pictures.value()
    assert [title for title, _ in shown] == ["raw", "Richardson-Lucy", "network"]
    assert {plane.shape for _, plane in shown} == {(32, 64)}

    assert dock.restore_button.isEnabled()
    dock.restore_button.click()
    qtbot.waitUntil(lambda: "to compare" in dock.running.state.text(), timeout=120_000)
    network, twin = (dock.viewer.layers[f"cell {name}"] for name in ("network", "Richardson-Lucy"))
    for layer in (network, twin):
        assert layer.data.shape == (8, 32, 64)
        assert tuple(layer.scale) == SPACING
        assert tuple(layer.translate) == (1, 2, 3)
        assert np.isfinite(layer.data).all()
    assert not np.array_equal(network.data, twin.data)
    assert "Blurred again, they miss the data by chi²" in dock.verdict.text()
    assert "One pass of the network" in dock.verdict.text()
    misfit = dock.viewer.layers["cell misfit of the network"]
    assert misfit.data.shape == (8, 32, 64)
    assert np.isnan(misfit.data).any()
    assert tuple(misfit.translate) == (1, 2, 3)
    assert not misfit.visible
    # A second network does not replace the first.
    dock.running.run_button.click()
    settle(dock, qtbot)
    assert dock.running.state.text().startswith("cell.safetensors exists already")


def test_to_stop_keeps_the_best(
    dock: LearnDock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(SMALL, steps=100_000, patience=10**6)
    monkeypatch.setattr(training, "PRESETS", {"quick": long})
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: len(dock.losses.value().left_out) > 0, timeout=120_000)
    dock.running.cancel_button.click()
    settle(dock, qtbot)
    assert Path(dock.panel.path.text()).is_file()
    assert dock.running.state.text().startswith("trained in ")


def test_to_stop_before_anything_was_learned_keeps_nothing(dock: LearnDock, qtbot: QtBot) -> None:
    dock.running.run_button.click()
    dock.running.cancel_button.click()
    settle(dock, qtbot)
    assert dock.running.state.text() == "cancelled"
    assert not Path(dock.panel.path.text()).exists()


def test_nonsense_is_told_in_a_sentence(dock: LearnDock, qtbot: QtBot, tmp_path: Path) -> None:
    for path, sentence in (
        ("", "Choose the file that the trained network is to be kept in"),
        (str(tmp_path / "a.pt"), "The model's file must end in .safetensors"),
        (str(tmp_path / "no" / "a.safetensors"), "There is no folder"),
    ):
        dock.panel.setValue(LearnChoice(path=path))
        dock.running.run_button.click()
        settle(dock, qtbot)
        assert sentence in dock.running.state.text()
    dock.panel.setValue(LearnChoice(path=str(tmp_path / "a.safetensors")))
    assert dock.running.state.text() == ""
    assert "There is no trained network in this file yet" in dock.restore_button.toolTip()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing")
    dock.panel.path.setText(str(bad))
    dock.panel.modelChosen.emit(str(bad))
    assert "is no safetensors file" in dock.verdict.text()
    dock.panel.valueChanged.emit()
    dock.restore_button.click()
    settle(dock, qtbot)
    assert "is no safetensors file" in dock.running.state.text()
    dock.viewer.layers.clear()
    assert "Open or choose an image layer first" in dock.running.forecast.text()
    assert "Open or choose an image layer first" in dock.restore_button.toolTip()
    assert not dock.running.run_button.isEnabled()


def test_the_panel_gives_back_what_it_is_given(qtbot: QtBot) -> None:
    panel = LearnPanel()
    qtbot.addWidget(panel)
    for choice in (
        LearnChoice(path="a.safetensors"),
        LearnChoice("standard", None, "", "care"),
        LearnChoice(source=SourceChoice(LAYER, "truth", more=(("b", "truth of b"), ("", "c")))),
        LearnChoice(source=SourceChoice(AGAIN, "", 2, True)),
        LearnChoice("thorough", Camera(2.5, 99.0, 1.5), "b.safetensors"),
    ):
        panel.setValue(choice)
        assert panel.value() == choice
    panel.show_camera(Camera(3.0, 50.0))
    assert panel.value().camera == Camera(2.5, 99.0, 1.5)  # typed: it stays


def test_the_panel_shows_the_camera_of_an_image_of_fractions(qtbot: QtBot) -> None:
    panel = LearnPanel()
    qtbot.addWidget(panel)
    panel.show_camera(Camera(1.53e-5, 0.0015))
    assert (panel.gain.value(), panel.offset.value()) == pytest.approx((1.53e-5, 0.0015))
    assert panel.gain.text() == "0.0000153 counts a photon"
    panel.automatic.setChecked(False)
    camera = panel.value().camera
    assert camera is not None
    assert camera.gain == pytest.approx(1.53e-5)


def test_pairs_are_added_and_removed_by_hand(qtbot: QtBot) -> None:
    panel = PairsPanel()
    qtbot.addWidget(panel)
    panel.set_layers(["a", "b", "c"])
    for _ in range(2):
        with qtbot.waitSignal(panel.valueChanged):
            panel.add_button.click()
    assert panel.value() == (("", ""), ("", ""))
    with qtbot.waitSignal(panel.valueChanged):
        panel.rows[1].image.setCurrentText("a")
    panel.rows[1].other.setCurrentText("b")
    panel.set_layers(["a", "d"])
    assert panel.rows[1].image.toolTip().startswith("a: An image as it was recorded")
    assert panel.value() == (("", ""), ("a", "b"))  # none takes the place of what is gone
    box = panel.rows[1].other
    assert [box.itemText(i) for i in range(box.count())] == ["a", "d", "b"]
    with qtbot.waitSignal(panel.valueChanged):
        panel.rows[0].remove_button.click()
    assert panel.value() == (("a", "b"),)


def test_losses_follow_and_are_painted(qtbot: QtBot) -> None:
    losses = Losses()
    for step in range(1, 5):
        losses = losses.followed_by(step, 1.0 if step < 3 else 0.5, 0.7 if step > 1 else None)
    assert losses.learned == pytest.approx((1, 1, 0.975, 0.95125))
    assert losses.left_out == ((2, 0.7),)
    view, pictures = LossView(), PicturesView()
    for widget in (view, pictures):
        qtbot.addWidget(widget)
        widget.resize(320, 140)
    empty = view.grab().toImage()
    view.setValue(losses)
    assert view.grab().toImage() != empty
    volume = np.zeros((3, 8, 9))
    volume[1, 4, 4] = 1
    pictures.setValue(Pictures((("raw", volume), ("network", 2 * volume))))
    assert [plane.max() for _, plane in pictures.value()] == [1, 2]
    assert not pictures.grab().toImage().isNull()


def test_half_the_width_of_an_interval_is_a_layer_of_its_own(dock: LearnDock, qtbot: QtBot) -> None:
    dock.running.run_button.click()
    settle(dock, qtbot)
    dock.restore_button.click()
    qtbot.waitUntil(lambda: "to compare" in dock.running.state.text(), timeout=120_000)
    width = dock.viewer.layers["cell half width of the 90 % interval"]
    assert width.data.shape == (8, 32, 64)
    assert tuple(width.translate) == (1, 2, 3)
    assert (width.data > 0).mean() > 0.9
    assert not width.visible
    assert "refer " in dock.verdict.text()  # which of the two to prefer


def test_how_far_answers_lie_apart_is_a_layer_where_there_are_several(
    dock: LearnDock, qtbot: QtBot
) -> None:
    dock.running.run_button.click()
    settle(dock, qtbot)
    dock.panel.setValue(replace(dock.panel.value(), is_sure=False, shows_apart=True))
    dock.restore_button.click()
    assert "disagrees with nothing" in dock.running.state.text()
    dock.panel.setValue(replace(dock.panel.value(), mirrored=True))
    dock.restore_button.click()
    qtbot.waitUntil(lambda: "to compare" in dock.running.state.text(), timeout=120_000)
    apart = dock.viewer.layers["cell disagreement of the network"]
    assert apart.data.shape == (8, 32, 64)
    assert (apart.data >= 0).all()
    assert apart.data.max() > 0


@pytest.mark.parametrize("source", [HALVES, LAYER, AGAIN])
def test_a_network_learns_from_what_was_recorded(
    dock: LearnDock, qtbot: QtBot, source: str
) -> None:
    second = np.asarray(dock.viewer.layers["cell"].data)[..., ::-1].copy()
    dock.viewer.add_layer(Image(second, name="again", scale=SPACING, units=UM))
    choice = replace(dock.panel.value(), source=SourceChoice(source, "again"))
    dock.panel.setValue(choice)
    assert dock.panel.source.layer.isEnabled() == (source != HALVES)
    dock.running.run_button.click()
    settle(dock, qtbot)
    assert dock.running.state.text().startswith("trained in "), dock.running.state.text()


def test_a_model_that_is_opened_goes_on_in_a_file_beside_it(dock: LearnDock, qtbot: QtBot) -> None:
    dock.running.run_button.click()
    settle(dock, qtbot)
    choice = dock.panel.value()
    dock.panel.setValue(replace(choice, source=SourceChoice(goes_on=True)))
    dock.running.run_button.click()
    settle(dock, qtbot)
    assert dock.running.state.text().endswith("kept as cell_tuned.safetensors")
    assert Path(choice.path).with_name("cell_tuned.safetensors").is_file()


def test_layers_that_do_not_belong_together_are_told(dock: LearnDock, qtbot: QtBot) -> None:
    other = np.ones((4, 9, 9), np.uint16)
    dock.viewer.add_layer(Image(other, name="other", scale=SPACING, units=UM))
    dock.panel.setValue(replace(dock.panel.value(), source=SourceChoice(LAYER, "other")))
    dock.running.run_button.click()
    settle(dock, qtbot)
    assert "cell and other must be of one shape, not (8, 32, 64) and (4, 9, 9)" in (
        dock.running.state.text()
    )


@pytest.fixture
def learned_from(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a table that is filled with what the training is given."""
    found: dict[str, Any] = {}
    train = learning.train

    def noted(*values: Any, **named: Any) -> Any:
        found.update(named)
        return train(*values, **named)

    monkeypatch.setattr(learning, "train", noted)
    return found


def add_mirrored(dock: LearnDock, name: str, data: Any) -> None:
    """Add a layer, and what stands for its truth, or for a second recording: its mirror image."""
    scale, units = (1.0, *SPACING)[-data.ndim :], ("pixel", *UM)[-data.ndim :]
    for called, values in ((name, data), (f"{name} again", data[..., ::-1].copy())):
        dock.viewer.add_layer(Image(values, name=called, scale=scale, units=units))


@pytest.mark.parametrize(("source", "name"), [(LAYER, "pairs"), (AGAIN, "twins")])
def test_several_layers_are_pairs_of_any_shapes(
    dock: LearnDock, qtbot: QtBot, learned_from: dict[str, Any], source: str, name: str
) -> None:
    cell = dock.viewer.layers["cell"].data
    add_mirrored(dock, "first", cell)
    add_mirrored(dock, "smaller", cell[1:7, 3:31, 10:43])
    add_mirrored(dock, "two", np.stack([cell, cell[:, ::-1]]))
    more = (("smaller", "smaller again"), ("two", "two again"))
    dock.image.choose("first")
    chosen = SourceChoice(source, "first again", more=more)
    dock.panel.setValue(replace(dock.panel.value(), source=chosen))
    assert dock.panel.source.value() == chosen
    dock.running.run_button.click()
    settle(dock, qtbot)
    assert dock.running.state.text().startswith("trained in "), dock.running.state.text()
    shapes = [one.counts.shape for one in learned_from[name]]
    assert shapes == [(8, 32, 64), (6, 28, 33), (8, 32, 64), (8, 32, 64)]


def test_each_time_of_a_hyperstack_is_a_pair(
    dock: LearnDock, qtbot: QtBot, learned_from: dict[str, Any]
) -> None:
    cell = dock.viewer.layers["cell"].data
    add_mirrored(dock, "movie", np.stack([cell, cell[:, ::-1]]))
    dock.image.choose("movie")
    dock.panel.setValue(replace(dock.panel.value(), source=SourceChoice(LAYER, "movie again")))
    dock.running.run_button.click()
    settle(dock, qtbot)
    assert dock.running.state.text().startswith("trained in "), dock.running.state.text()
    first, second = learned_from["pairs"]
    assert np.array_equal(first.counts, cell)
    assert np.array_equal(second.counts, cell[:, ::-1])


def test_layers_that_are_no_pairs_are_told(dock: LearnDock, qtbot: QtBot) -> None:
    cell = dock.viewer.layers["cell"].data
    add_mirrored(dock, "b", cell)
    add_mirrored(dock, "movie", np.stack([cell, cell]))
    dock.viewer.add_layer(Image(cell[1:], name="less", scale=SPACING, units=UM))
    dock.viewer.add_points(np.zeros((1, 3)), name="dots")

    def choose(*more: tuple[str, str], layer: str = "b again") -> None:
        source = SourceChoice(LAYER, layer, more=more)
        dock.panel.setValue(replace(dock.panel.value(), source=source))

    for layer, pair, sentence in (
        ("", ("b", "less"), "Choose the layer to learn from, beside the image"),
        ("cell", ("b", "less"), "A pair is two layers; choose another one beside cell"),
        ("b again", ("b", ""), "Choose both layers of each pair, or remove it"),
        ("b again", ("b", "gone"), "There is no layer 'gone' to learn from; choose another one"),
        ("b again", ("b", "dots"), "The layer 'dots' holds no image to learn from"),
        ("b again", ("b again", "cell"), "b again and cell are a pair twice; remove one"),
        ("b again", ("b", "movie"), "b and movie must be of one shape, not (8, 32, 64) and (2, 8,"),
    ):
        choose(pair, layer=layer)
        assert sentence in dock.running.forecast.text()
        assert not dock.running.run_button.isEnabled()
    choose(("b", "less"))
    dock.running.run_button.click()
    settle(dock, qtbot)
    sentence = "b and less must be of one shape, not (8, 32, 64) and (7, 32, 64); crop or register"
    assert sentence in dock.running.state.text()


def test_a_layer_that_is_gone_ends_no_restoration(dock: LearnDock, qtbot: QtBot) -> None:
    add_mirrored(dock, "b", dock.viewer.layers["cell"].data)
    dock.panel.setValue(replace(dock.panel.value(), source=SourceChoice(LAYER, "b again")))
    Path(dock.panel.path.text()).touch()
    dock.viewer.layers.remove("b again")
    assert dock.running.forecast.text().startswith("There is no layer 'b again' to learn from")
    assert not dock.running.run_button.isEnabled()
    assert dock.restore_button.isEnabled()


def test_advice_follows_light_doubt_and_misfit() -> None:
    good, bad = (Misfit(chi, np.zeros((2, 2), np.float32)) for chi in (1.0, 2.0))
    assert "prefer the network" in Judgement(good, good, 40.0, False).advice
    assert "With about 5000 photons in the brightest voxels both" in (
        Judgement(good, good, 5000.0, False).advice
    )
    assert "the network leaves out or invents" in Judgement(bad, good, 40.0, False).advice
    assert "not of the kind the network has learned" in Judgement(good, good, 40.0, True).advice
    assert "does not tell" in Judgement(good, good, 40.0, False, hidden=True).advice
