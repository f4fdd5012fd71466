"""The dock as a user meets it: run, cancel, run again, export, and nonsense."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QApplication

from napari_deconv import pipeline
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.files.recipe import (
    PsfFile,
    Recipe,
    TrainedModel,
    read_recipe,
    write_recipe,
)
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.library import resolve
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.ui import layers
from napari_deconv.ui.deconvolve_dock import DeconvolveDock
from napari_deconv.ui.method_panel import Settings
from napari_deconv.ui.psf_panel import PsfLayer

#: Its PSF is small, so that a test takes no longer than it must.
OPTICS = Optics(na=1.0, emission_nm=520, immersion_index=1.333, model="gaussian")
#: A network and what it leans on, on a busy machine.
NETWORK_MS = 180_000
SHORT = Settings(RichardsonLucy(4), 0.0, "cpu")
OTHER_PSF = np.exp(-((np.indices((5, 7, 7)) - np.array([2, 3, 3]).reshape(3, 1, 1, 1)) ** 2).sum(0))


def run(dock: DeconvolveDock, qtbot: QtBot) -> Image:
    with qtbot.waitSignal(dock.job.finished, timeout=60_000):
        dock.running.run_button.click()
    result: Image = dock.viewer.layers[-1]
    return result


def told(dock: DeconvolveDock) -> str:
    """Return the last notification."""
    return str(notification_manager.records[-1].message) if notification_manager.records else ""


@pytest.fixture(autouse=True)
def _no_old_notifications() -> None:
    notification_manager.records.clear()


def test_run_gives_a_layer_that_lies_on_its_source(
    dock: DeconvolveDock, blobs: Image, qtbot: QtBot
) -> None:
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    result = run(dock, qtbot)
    assert result.name == "blobs restored"
    assert result.data.shape == blobs.data.shape
    assert result.data.dtype == np.float32
    for name in ("scale", "translate", "units", "axis_labels"):
        assert np.array_equal(getattr(result, name), getattr(blobs, name)), name
    assert result.colormap.name == "magma"
    assert result.metadata["mine"] == 1
    low, high = result.contrast_limits
    assert low <= 0 < high <= result.data.max()
    entry = result.metadata[layers.KEY]
    recipe = Recipe.from_dict(entry["recipe"])
    assert recipe == Recipe(OPTICS, SHORT.method, 0.0, "cpu")
    assert len(entry["record"]["blocks"][0]["divergences"]) == 4
    assert "stopped at the maximum of 4 iterations" in dock.running.state.text()
    assert len(dock.curve.value()) == 4
    stack = layers.stack_of_layer(blobs, "ZYX", Grid(spacing_um=(0.3, 0.1, 0.1)))
    assert np.array_equal(pipeline.restore_stack(stack, recipe).stack.data, result.data)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the iterations begun so far by a Richardson-Lucy that takes its time."""
    iterations: list[int] = []
    whole_steps = RichardsonLucy.steps

    def slow(self: RichardsonLucy, *args: Any) -> Any:
        for step in whole_steps(self, *args):
            iterations.append(step.done)
            time.sleep(0.05)
            yield step

    monkeypatch.setattr(RichardsonLucy, "steps", slow)
    return iterations


def test_cancel_acts_within_one_iteration_and_run_works_again(
    dock: DeconvolveDock, qtbot: QtBot, started: list[int]
) -> None:
    dock.method.setValue(Settings(RichardsonLucy(200), 0.0, "cpu"))
    dock.psf.setValue(OPTICS)
    dock.running.run_button.click()
    qtbot.waitUntil(lambda: len(started) >= 3, timeout=60_000)
    assert not dock.running.run_button.isEnabled()
    before = len(started)
    with qtbot.waitSignal(dock.job.cancelled, timeout=20_000):
        dock.running.cancel_button.click()
    assert len(started) <= before + 2
    assert dock.running.state.text() == "cancelled"
    assert len(dock.viewer.layers) == 1
    assert dock.running.run_button.isEnabled()
    assert not dock.running.cancel_button.isEnabled()
    dock.method.setValue(SHORT)
    assert run(dock, qtbot).name == "blobs restored"


def test_the_viewer_keeps_answering_while_it_runs(dock: DeconvolveDock, qtbot: QtBot) -> None:
    """Events are served during the run: many more than there are iterations."""
    dock.method.setValue(Settings(RichardsonLucy(30), 0.0, "cpu"))
    dock.psf.setValue(OPTICS)
    dock.running.run_button.click()
    served = 0
    while dock.job.running:
        QApplication.processEvents()
        served += 1
    assert served > 30


def test_export_keeps_voxels_scale_and_recipe(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    result = run(dock, qtbot)
    for name, version in (("a.ome.tif", "0.5"), ("b.ome.zarr", "0.5"), ("c.ome.zarr", "0.4")):
        path = tmp_path / name
        with qtbot.waitSignal(dock.keeping.exporting.finished, timeout=60_000):
            dock.keeping.export(str(path), version=version)
        assert (path / ".zattrs").exists() == (version == "0.4")
        back = read_stack(path)
        assert np.array_equal(back.data, result.data)
        assert back.grid == Grid(spacing_um=(0.3, 0.1, 0.1))
        made_by = read_provenance(path)
        assert made_by is not None
        assert Recipe.from_dict(made_by["recipe"]).psf == OPTICS


def test_export_that_fails_says_so_and_leaves_nothing(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    dock.keeping.export(str(tmp_path / "early.ome.tif"))
    assert "no result" in told(dock)
    dock.method.setValue(SHORT)
    run(dock, qtbot)
    with qtbot.waitSignal(dock.keeping.exporting.failed, timeout=60_000):
        dock.keeping.export(str(tmp_path / "missing" / "out.ome.tif"))
    assert "no folder" in told(dock)
    assert list(tmp_path.iterdir()) == []
    there = tmp_path / "there.ome.tif"
    there.write_text("precious")
    with qtbot.waitSignal(dock.keeping.exporting.failed, timeout=60_000):
        dock.keeping.export(str(there))
    assert "exists already" in told(dock)
    assert there.read_text() == "precious"
    with qtbot.waitSignal(dock.keeping.exporting.finished, timeout=60_000):
        dock.keeping.export(str(there), overwrite=True)
    assert read_stack(there).shape == (6, 24, 22)


def test_an_export_does_not_replace_the_image(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "cell.ome.tif"
    data = np.random.default_rng(0).poisson(9, (5, 16, 17)).astype(np.uint16)
    write_stack(path, Stack(data, "ZYX", Grid(spacing_um=(0.3, 0.1, 0.1))))
    dock.viewer.open(str(path), plugin="napari-deconv")
    dock.image.layer.setCurrentText(dock.viewer.layers[-1].name)
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    run(dock, qtbot)
    with qtbot.waitSignal(dock.keeping.exporting.failed, timeout=60_000):
        dock.keeping.export(str(path), overwrite=True)
    assert "would replace cell.ome.tif" in told(dock)
    assert np.array_equal(read_stack(path).data, data)


def test_a_renamed_image_stays_the_one_that_is_chosen(dock: DeconvolveDock, blobs: Image) -> None:
    dock.viewer.add_layer(Image(np.ones((4, 8, 9)), name="other"))
    dock.image.layer.setCurrentText("blobs")
    blobs.name = "cell 7"
    assert dock.image.value().name == "cell 7"


def test_a_psf_layer_is_followed_and_never_replaced_by_another(
    dock: DeconvolveDock, qtbot: QtBot
) -> None:
    bead = dock.viewer.add_layer(
        Image(OTHER_PSF, name="bead", scale=(0.3, 0.1, 0.1), units=("um",) * 3)
    )
    dock.image.layer.setCurrentText("blobs")
    dock.method.setValue(SHORT)
    dock.psf.setValue(PsfLayer("bead"))
    bead.name = "bead 2"
    assert dock.psf.value() == PsfLayer("bead 2")
    dock.viewer.layers.remove("bead 2")
    sentence = "The layer that held the PSF is gone"
    assert sentence in dock.running.forecast.text()
    dock.running.run_button.click()
    assert sentence in told(dock)
    assert not dock.job.running
    dock.viewer.add_layer(Image(OTHER_PSF, name="new"))  # which was not chosen either
    assert sentence in dock.running.forecast.text()


def test_a_scale_that_changes_is_taken_over_unless_one_was_typed(
    dock: DeconvolveDock, blobs: Image
) -> None:
    blobs.scale = (0.5, 0.2, 0.2)
    assert dock.image.value().grid == Grid(spacing_um=(0.5, 0.2, 0.2))
    blobs.units = ("nm",) * 3
    assert dock.image.value().grid == Grid(spacing_um=(5e-4, 2e-4, 2e-4))
    blobs.units, blobs.scale = ("um",) * 3, (0.3, 0.1, 0.1)
    dock.image.steps[0].setValue(0.4)
    blobs.scale = (0.5, 0.2, 0.2)
    assert dock.image.value().grid == Grid(spacing_um=(0.4, 0.1, 0.1))


def test_voxel_size_and_time_step_keep_all_their_digits(dock: DeconvolveDock, qtbot: QtBot) -> None:
    data = np.random.default_rng(0).poisson(9, (2, 4, 16, 17)).astype(np.uint16)
    scale = (2500.0, 0.29876543, 0.10833333, 0.10833333)
    dock.viewer.add_layer(Image(data, name="movie", scale=scale, units=("ms", "um", "um", "um")))
    dock.image.layer.setCurrentText("movie")
    dock.image.axes.setCurrentText("TZYX")
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    run(dock, qtbot)
    assert dock.keeping.restored is not None
    kept = dock.keeping.restored.stack
    assert kept.grid == Grid(spacing_um=scale[1:])
    assert kept.time_step_s == 2.5
    dock.image.steps[0].setValue(0.5)  # the others keep theirs
    assert dock.image.value().grid == Grid(spacing_um=(0.5, 0.10833333, 0.10833333))


def test_a_recipe_for_more_channels_does_not_lock_the_dock(dock: DeconvolveDock) -> None:
    recipe = replace(dock.recipe(), channels=(1,))
    dock.show_recipe(recipe)
    dock.viewer.add_layer(Image(np.ones((4, 8, 9)), name="other", scale=(0.3, 0.1, 0.1)))
    dock.image.layer.setCurrentText("other")
    dock.image.layer.setCurrentText("blobs")
    assert dock.recipe().channels == ()


def test_psf_from_a_layer_and_from_a_file(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    bead = np.zeros((7, 9, 9), np.uint16)
    bead[3, 4, 4], bead[3, 4, 3] = 1000, 300
    dock.viewer.add_layer(Image(bead, name="bead", scale=(0.3, 0.1, 0.1), units=["um"] * 3))
    dock.image.layer.setCurrentText("blobs")
    dock.method.setValue(SHORT)
    dock.psf.setValue(PsfLayer("bead"))
    from_layer = run(dock, qtbot)
    path = tmp_path / "bead.ome.tif"
    tifffile.imwrite(
        path,
        bead,
        metadata={"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.3},
    )
    dock.psf.source.setCurrentIndex(2)
    dock.psf.path.setText(str(path))
    dock.image.layer.setCurrentText("blobs")
    from_file = run(dock, qtbot)
    assert np.array_equal(from_layer.data, from_file.data)
    recipe = Recipe.from_dict(from_layer.metadata[layers.KEY]["recipe"])
    assert isinstance(recipe.psf, Psf)
    recipe = Recipe.from_dict(from_file.metadata[layers.KEY]["recipe"])
    assert recipe.psf == PsfFile.of(path)


def test_the_forecast_is_shown_before_the_run(dock: DeconvolveDock, qtbot: QtBot) -> None:
    dock.psf.setValue(OPTICS)
    dock.method.setValue(SHORT)
    with qtbot.waitSignal(dock.latest.ready, timeout=60_000):
        dock._settings_changed()
    text = dock.running.forecast.text()
    assert text.startswith("CPU")
    assert "; in one piece; " in text
    assert " GB memory; " in text
    assert " s at most" in text
    assert "FWHM" in dock.psf.summary.text()


def test_time_and_channels_are_restored_one_by_one(
    dock: DeconvolveDock, blobs: Image, qtbot: QtBot
) -> None:
    movie = np.stack([blobs.data, blobs.data[::-1]])
    labels = ("t", "z", "y", "x")
    units = ("s", "um", "um", "um")
    dock.viewer.add_layer(
        Image(movie, name="movie", scale=(2, 0.3, 0.1, 0.1), units=units, axis_labels=labels)
    )
    dock.image.layer.setCurrentText("movie")
    assert dock.image.value().axes == "TZYX"
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    result = run(dock, qtbot)
    assert result.data.shape == movie.shape
    assert result.scale.tolist() == [2, 0.3, 0.1, 0.1]
    dock.image.layer.setCurrentText("blobs")
    alone = run(dock, qtbot)
    assert np.array_equal(result.data[0], alone.data)


def test_nonsense_gets_one_sentence_in_a_notification(dock: DeconvolveDock, qtbot: QtBot) -> None:
    dock.psf.setValue(OPTICS)
    dock.method.setValue(SHORT)
    cases = {
        "zeros": (np.zeros((4, 9, 9)), "zero everywhere"),
        "nan": (np.full((4, 9, 9), np.nan), "NaN"),
    }
    for name, (data, words) in cases.items():
        dock.viewer.add_layer(
            Image(data, name=name, scale=(0.3, 0.1, 0.1), units=["um"] * 3, contrast_limits=(0, 1))
        )
        dock.image.layer.setCurrentText(name)
        count = len(dock.viewer.layers)
        with qtbot.waitSignal(dock.job.failed, timeout=60_000) as signal:
            dock.running.run_button.click()
        assert words in signal.args[0]
        assert words in told(dock)
        assert "Traceback" not in told(dock)
        assert len(dock.viewer.layers) == count


def test_wrong_settings_are_told_without_a_run(dock: DeconvolveDock) -> None:
    dock.psf.setValue(OPTICS)
    dock.psf.optics.fields["na"].setValue(1.5)
    dock.running.run_button.click()
    assert "NA 1.5 is not below" in told(dock)
    assert "NA 1.5 is not below" in dock.running.forecast.text()
    assert not dock.job.running


def test_an_unknown_voxel_size_is_asked_for(
    dock: DeconvolveDock, blobs: Image, qtbot: QtBot
) -> None:
    dock.viewer.add_layer(Image(blobs.data, name="pixels"))
    dock.image.layer.setCurrentText("pixels")
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    assert "unknown" in dock.image.origin.text()
    with qtbot.waitSignal(dock.job.failed, timeout=60_000) as signal:
        dock.running.run_button.click()
    assert "voxel size" in signal.args[0]
    for step, size in zip(dock.image.steps, (0.3, 0.1, 0.1), strict=True):
        step.setValue(size)
    result = run(dock, qtbot)
    assert result.scale.tolist() == [1, 1, 1]
    assert [str(unit) for unit in result.units] == ["pixel"] * 3


def test_what_the_file_knows_is_filled_in_where_its_reader_did_not(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    """napari's own reader keeps neither voxel size, axes nor optics."""
    path = tmp_path / "cells.ome.tif"
    data = np.random.default_rng(0).poisson(9, (2, 3, 5, 16, 17)).astype(np.uint16)
    grid = Grid(spacing_um=(0.4, 0.2, 0.2))
    known = (KnownOptics(na=0.9, immersion_index=1.0, emission_nm=600),) * 3
    position, colours = {"Y": (2.5, "mm"), "X": (-1.0, "mm")}, ("FF0000", "00FF00", "0000FF")
    stack = Stack(
        data, "TCZYX", grid, channel_optics=known, position=position, channel_colours=colours
    )
    write_stack(path, stack, dtype="uint16")
    with qtbot.waitSignal(dock.headers.found, timeout=60_000):
        dock.viewer.open(path, plugin="napari")
        dock.image.layer.setCurrentText(dock.viewer.layers[-1].name)
    choice = dock.image.value()
    assert (choice.axes, choice.grid) == ("TCZYX", grid)
    assert "from the file" in dock.image.origin.text()
    optics = dock.psf.value()
    assert isinstance(optics, Optics)
    assert (optics.na, optics.immersion_index, optics.emission_nm) == (0.9, 1.0, 600)
    dock.image.axes.setCurrentText("CTZYX")
    qtbot.wait(300)
    choice = dock.image.value()
    assert (choice.axes, choice.grid) == ("CTZYX", grid)
    dock.image.axes.setCurrentText("TCZYX")
    dock.method.setValue(SHORT)
    result = run(dock, qtbot)
    assert result.data.shape == data.shape
    assert result.scale.tolist() == [1] * 5
    assert dock.keeping.restored is not None
    kept = dock.keeping.restored.stack
    assert (kept.grid, kept.position, kept.channel_colours) == (grid, position, colours)


def test_without_layers_nothing_can_be_run(viewer: Any, qtbot: QtBot) -> None:
    widget = DeconvolveDock(viewer)
    qtbot.addWidget(widget)
    assert not widget.running.run_button.isEnabled()
    assert "Open an image" in widget.running.forecast.text()
    viewer.add_layer(Image(np.ones((3, 8, 8)), name="new"))
    assert widget.running.run_button.isEnabled()
    assert widget.image.value().name == "new"
    viewer.layers.clear()
    assert not widget.running.run_button.isEnabled()
    widget.close()


def test_recipes_go_out_and_come_back(dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path) -> None:
    dock.method.setValue(Settings(RichardsonLucy(9, "none", tv_weight=0.004), 7.0, "cpu"))
    dock.psf.setValue(OPTICS)
    recipe = dock.recipe()
    write_recipe(tmp_path / "recipe.json", recipe)
    dock.method.setValue(Settings())
    dock.psf.setValue(Optics(na=0.5, emission_nm=700, immersion_index=1.0))
    dock.keeping.load_recipe(str(tmp_path / "recipe.json"))
    assert dock.recipe() == recipe
    for method in (
        RichardsonLucy(2, "biggs-andrews", momentum=(0.25, 0.5)),
        RichardsonLucy(5, "wiener-butterworth", unmatched=2),
        Wiener(0.0123456),
    ):
        # What has no field here, or not as many digits, is kept while it is not changed.
        loaded = replace(recipe, method=method, seam_tolerance=1e-2)
        dock.show_recipe(loaded)
        assert dock.recipe() == loaded
    dock.method.regularization.setValue(-3)
    assert dock.recipe().method == Wiener(0.001)
    samples = Recipe(Psf(np.ones((3, 3, 3)), (0.3, 0.1, 0.1)), SHORT.method, 0.0, "cpu")
    dock.show_recipe(samples)
    assert run(dock, qtbot).metadata[layers.KEY]["recipe"] == samples.to_dict()
    with pytest.raises(InputError):
        read_recipe(tmp_path / "none.json")


def test_a_trained_network_restores_here_as_well(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path
) -> None:
    """In the preview, into memory, into a file, and from a recipe, which knows its content."""
    network = TrainedModel(str(resolve("widefield_inverse")))
    dock.method.setValue(Settings(network, 0.0, "cpu"))
    dock.psf.setValue(OPTICS)
    with qtbot.waitSignal(dock.latest.ready, timeout=NETWORK_MS):
        dock.method.mirrored.setChecked(True)
    dock.method.mirrored.setChecked(False)
    dock.preview.setValue(True)
    with qtbot.waitSignal(
        dock.live.shown,
        timeout=NETWORK_MS,
        check_params_cb=lambda shown: shown.frame.kind == "full",
    ):
        dock.live.move_to((3.0, 12.0, 11.0))
    assert "one pass of the network" in dock.preview.note.text()
    dock.preview.setValue(False)
    result = run(dock, qtbot)
    assert "one pass of the network 'widefield_inverse'" in dock.running.state.text()
    assert dock.curve.value() == ()
    recipe = dock.recipe()
    assert recipe.method == TrainedModel.of(network.path)
    assert result.metadata[layers.KEY]["recipe"] == recipe.to_dict()
    assert np.array_equal(dock.viewer.layers["blobs restored"].data, result.data)
    write_recipe(tmp_path / "recipe.json", recipe)
    dock.method.setValue(Settings())
    dock.keeping.load_recipe(str(tmp_path / "recipe.json"))
    assert dock.recipe() == recipe
    path = tmp_path / "restored.ome.zarr"
    with qtbot.waitSignal(dock.job.finished, timeout=NETWORK_MS):
        dock.run(str(path))
    assert np.array_equal(read_stack(path).data, result.data)


def test_a_closed_dock_takes_its_run_along(
    viewer: Any, blobs: Image, qtbot: QtBot, started: list[int]
) -> None:
    viewer.add_layer(blobs)
    widget = DeconvolveDock(viewer)
    frame = viewer.window.add_dock_widget(widget, name="Deconvolve")
    widget.psf.setValue(OPTICS)
    widget.method.setValue(Settings(RichardsonLucy(2000), 0.0, "cpu"))
    widget.running.run_button.click()
    qtbot.waitUntil(lambda: len(started) >= 2, timeout=60_000)
    viewer.window.remove_dock_widget(frame)
    del widget, frame
    qtbot.wait(500)
    before = len(started)
    qtbot.wait(500)
    assert len(started) <= before + 1


def test_copied_python_repeats_the_result(
    dock: DeconvolveDock, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.method.setValue(SHORT)
    dock.psf.setValue(OPTICS)
    result = run(dock, qtbot)
    source = tmp_path / "blobs.ome.tif"
    tifffile.imwrite(
        source,
        dock.viewer.layers["blobs"].data,
        metadata={"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.3},
    )
    menu, clipboard = dock.keep.menu, QApplication.clipboard()
    assert clipboard is not None
    next(a for a in menu.actions() if a.text() == "Copy as Python").trigger()
    text = clipboard.text()
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "copied", "exec"), {})
    assert np.array_equal(read_stack(tmp_path / "restored.ome.tif").data, result.data)
