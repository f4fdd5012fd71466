"""The dock "Deconvolve": joins the panels to the pipeline, and shows what it does."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_error, show_warning
from napari.viewer import Viewer
from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from napari_deconv import pipeline
from napari_deconv.files.recipe import PsfFile, Recipe, digest
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_image import psf_from_image
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, require
from napari_deconv.planning import Plan, plan
from napari_deconv.restoration.restorer import Step

from . import layers
from .column import ScrollingColumn
from .curve_panel import CurvePanel
from .dock import Dock
from .exchange import DECONVOLVE, exchange_of, wish_edit
from .headers import Headers
from .image_panel import ImageChoice, ImagePanel
from .jobs import Job, Latest
from .keep_panel import KeepPanel
from .keeping import Keeping, told
from .method_panel import MethodPanel, Settings
from .preferences import read_preferences
from .preview import LivePreview, Shown, Wish
from .preview_panel import PreviewPanel
from .psf_panel import PsfLayer, PsfPanel
from .run_panel import RunPanel, duration

#: Milliseconds of quiet after which the forecast follows the settings.
FORECAST_DELAY_MS = 300

Source = Optics | PsfFile | Psf | Stack


class DeconvolveDock(Dock):
    """Restore an image layer: choose, run, cancel, judge, export."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        self.exchange = exchange_of(napari_viewer)
        self.preferences = read_preferences()
        self._recipe_psf: Psf | None = None
        self._divergences: list[float] = []
        self.job = Job(self)
        self.latest, self.headers = Latest(FORECAST_DELAY_MS, self), Headers(napari_viewer, self)
        self.image, self.psf, self.method = ImagePanel(), PsfPanel(), MethodPanel()
        self.curve, self.running, self.keep = CurvePanel(), RunPanel(), KeepPanel()
        self.keeping = Keeping(self.keep, self.recipe, self._source, self.show_recipe, self)
        self.preview, self.live = PreviewPanel(), LivePreview(napari_viewer, self)
        self._lay_out()
        self._connect()
        self.method.setValue(Settings(engine=self.preferences.engine))
        self._layers_changed()

    # -- laying out -----------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.judgement = QLabel()
        self.judgement.setWordWrap(True)
        settings = (self.image, _line(), QLabel("<b>PSF</b>"), self.psf, _line(), self.method)
        # What one presses stays in sight, however small the window; the rest scrolls.
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        seen = (_line(), self.preview.profile, self.curve, self.judgement)
        outer.addWidget(ScrollingColumn(*settings, *seen), 1)
        for pressed in (self.preview, self.running, self.keep):
            outer.addWidget(pressed)

    def _connect(self) -> None:
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._layers_changed)
        self.image.layerChosen.connect(self._layer_chosen)
        self.image.valueChanged.connect(self._settings_changed)
        self.psf.valueChanged.connect(self._psf_changed)
        self.psf.editAsked.connect(self._edit_psf)
        self.method.valueChanged.connect(self._settings_changed)
        self.preview.valueChanged.connect(self._preview_switched)
        self.live.said.connect(self.preview.say)
        self.live.shown.connect(self._preview_shown)
        self.live.closed.connect(lambda: self.preview.setValue(False))
        self.latest.ready.connect(self._show_plan)
        self.headers.found.connect(self._show_header)
        self.running.runAsked.connect(self.run)
        self.running.cancelAsked.connect(self.job.cancel)
        self.job.stepped.connect(self._stepped)
        self.job.finished.connect(self._finished)
        self.job.failed.connect(self._failed)
        self.job.cancelled.connect(lambda: self.running.show_end("cancelled"))
        self.exchange.opticsWished.connect(self.psf.setValue)
        self.exchange.psfLayerWished.connect(self._use_psf_layer)
        self.exchange.announce(DECONVOLVE, self)

    # -- layers and settings --------------------------------------------------------------

    def _layers_changed(self, event: object = None) -> None:
        found = list(self.viewer.layers)
        images = [layer for layer in found if isinstance(layer, Image)]
        self.psf.set_layers([layer.name for layer in images if not layers.is_preview(layer)])
        names = [layer.name for layer in found if layers.may_be_restored(layer)]
        # The newest layer is on top: offer that first.
        self.image.set_layers(names[::-1])
        self.running.run_button.setEnabled(bool(names) and not self.job.running)
        if not names:
            self.running.forecast.setText("Open an image to begin.")

    def _layer(self, name: str) -> Image:
        require(name in self.viewer.layers, "Open or choose an image layer first")
        layer: Image = self.viewer.layers[name]
        return layer

    def _layer_chosen(self, name: str) -> None:
        """Show what the chosen layer knows; without a name, its voxel size for other axes."""
        chosen = name or self.image.layer.currentText()
        if chosen not in self.viewer.layers:
            return
        layer = self._layer(chosen)
        try:
            if name:
                choices = layers.axes_choices(layer.ndim)
                self.image.show_layer(layer.data.shape, choices, layers.axes_of(layer))
                self.psf.show_known(layers.known_optics(layer))
            grid = layers.grid_of(layer, self.image.axes.currentText())
            # Other axes of the same layer: what was typed or read from its file still holds.
            if name or grid is not None:
                self.image.show_grid(grid)
            if name and (grid is None or layers.known_optics(layer) is None):
                self.headers.ask(layer)
        except InputError as error:
            self.running.forecast.setText(str(error))

    def _show_header(self, name: str, header: Stack, axes: str) -> None:
        """Fill in what the layer's file knows and its reader did not pass on."""
        if name != self.image.layer.currentText():
            return
        layer = self._layer(name)
        if layers.grid_of(layer, axes) is None:
            self.image.show_layer(layer.data.shape, layers.axes_choices(layer.ndim), axes)
            if header.grid is not None:
                self.image.show_grid(header.grid, "from the file")
        if header.channel_optics and layers.known_optics(layer) is None:
            self.psf.show_known(header.channel_optics[0])

    def _psf_changed(self) -> None:
        self._recipe_psf = None
        self._settings_changed()

    def _use_psf_layer(self, name: str) -> None:
        self.psf.setValue(PsfLayer(name))

    def _edit_psf(self) -> None:
        """Show the optics in the dock "PSF", which this one then follows."""
        told(lambda: wish_edit(self.viewer, self.psf.optics.value(), self.image.value().grid))

    def _settings_changed(self) -> None:
        try:
            stack, source, settings = self._wishes()
        except (InputError, KeyError) as error:
            self.latest.stop()
            self.running.forecast.setText(str(error))
            return
        self.latest.request(lambda: plan(stack, _recipe(stack, source, settings)))
        if self.preview.value():
            choice = self.image.value()
            make = partial(_recipe, stack, source, settings)
            self.live.follow(Wish(self._layer(choice.name), choice.axes, stack, make))

    def _preview_switched(self) -> None:
        if self.preview.value():
            self._settings_changed()
        else:
            self.live.stop()

    def _preview_shown(self, shown: Shown) -> None:
        self.preview.show_line(shown)
        if not self.job.running:
            self.curve.setValue(shown.frame.divergences)

    def _wishes(self) -> tuple[Stack, Source, Settings]:
        """Return the image, the PSF's source and the settings as they stand in the panels."""
        choice: ImageChoice = self.image.value()
        stack = layers.stack_of_layer(self._layer(choice.name), choice.axes, choice.grid)
        source: Source
        if self._recipe_psf is not None:
            source = self._recipe_psf
        else:
            wish = self.psf.value()
            is_layer = isinstance(wish, PsfLayer)
            source = layers.psf_stack(self._layer(wish.name)) if is_layer else wish  # type: ignore
        return stack, source, self.method.value()

    def _show_plan(self, made: Plan | InputError) -> None:
        if isinstance(made, InputError):
            self.running.forecast.setText(str(made))
            return
        self.running.show_forecast(made)
        self.psf.show_summary(made.psf)

    # -- running --------------------------------------------------------------------------

    def run(self) -> None:
        """Start restoring the chosen layer."""
        try:
            stack, source, settings = self._wishes()
            layer = self._layer(self.image.value().name)
            placement = layers.Placement.of(layer, self.image.value().axes)
        except InputError as error:
            show_error(str(error))
            return
        self._divergences = []
        self.running.set_running(True)
        fraction = self.preferences.memory_fraction

        def work() -> Generator[Step, None, Any]:
            yield Step(0, 1, "preparing the PSF")
            recipe = _signed(_recipe(stack, source, settings))
            restored = yield from pipeline.restoring(stack, recipe, memory_fraction=fraction)
            return restored, layers.result_layer(restored, placement)

        self.job.start(work)

    def _stepped(self, step: Step) -> None:
        self.running.show_step(step)
        if step.divergence is not None:
            self._divergences.append(step.divergence)
            self.curve.setValue(tuple(self._divergences))

    def _finished(self, result: tuple[pipeline.Restored, layers.LayerTuple]) -> None:
        restored, (data, state, _) = result
        record = restored.record
        reason = record.blocks[0].stop_reason
        self.running.show_end(f"done in {duration(record.seconds)}, {reason}", complete=True)
        self.viewer.add_layer(Image(data, **state))
        self.keeping.take(restored)
        self.judgement.setText("<br>".join([_fit_in_words(restored), *record.notes]))
        for note in record.notes:
            if not note.startswith(("PSF:", "The PSF")):
                show_warning(note)

    def _failed(self, sentence: str) -> None:
        self.running.show_end(sentence)
        show_error(sentence)

    # -- keeping --------------------------------------------------------------------------

    def recipe(self) -> Recipe:
        """Return the recipe that the panels describe; `InputError` where it is not usable."""
        return _signed(_recipe(*self._wishes()))

    def show_recipe(self, recipe: Recipe) -> None:
        """Show a recipe in the panels."""
        self.method.setValue(Settings(recipe.method, recipe.background, recipe.engine))
        if isinstance(recipe.psf, Psf):
            self._recipe_psf = recipe.psf
            self._settings_changed()
        else:
            self.psf.setValue(recipe.psf)

    def _source(self) -> str:
        """Return the path of the chosen image, or a name for it."""
        name = self.image.value().name
        return self._layer(name).source.path or f"{name}.ome.tif"

    def stop(self) -> None:
        """Stop what still runs, at its next step."""
        self.job.cancel()
        self.live.stop()
        self.latest.stop()
        self.headers.stop()
        self.exchange.leave(self)


def _recipe(stack: Stack, source: Source, settings: Settings) -> Recipe:
    """Return the recipe; a bead in a layer becomes a PSF on the voxels of `stack`."""
    if isinstance(source, Stack):
        spacing = source.grid.spacing_um if source.grid else None
        source = psf_from_image(np.asarray(source.data), spacing, stack.grid)
    return Recipe(source, settings.method, settings.background, settings.engine)


def _signed(recipe: Recipe) -> Recipe:
    """Return a recipe to keep: it knows its PSF's file by its content."""
    psf = recipe.psf
    if isinstance(psf, PsfFile) and psf.sha256 is None:
        return replace(recipe, psf=replace(psf, sha256=digest(Path(psf.path))))
    return recipe


def _fit_in_words(restored: pipeline.Restored) -> str:
    """Return the last I-divergence in words."""
    last = [block.divergences[-1] for block in restored.record.blocks if block.divergences]
    if not last:
        return "One step; no likelihood to follow."
    return (
        f"I-divergence {last[0]:.3g} per voxel (about 0.5 is photon noise alone, "
        "for data in photons)"
    )


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line
