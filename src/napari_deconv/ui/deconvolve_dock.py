"""The dock "Deconvolve": joins the panels to the pipeline, and shows what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari.layers import Image
from napari.utils.notifications import show_error, show_warning
from napari.viewer import Viewer
from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from napari_deconv.files.recipe import PsfSource, Recipe
from napari_deconv.files.work_folder import WorkFolder
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, require
from napari_deconv.restoration.restorer import Step

from . import layers, runs
from .channels_panel import ChannelsPanel, Chosen
from .column import ScrollingColumn
from .curve_panel import CurvePanel
from .dock import Dock
from .exchange import DECONVOLVE, exchange_of, wish_edit
from .file_facts import with_header
from .filling import Filling
from .headers import Headers
from .image_panel import ImageChoice, ImagePanel
from .jobs import Job, Latest
from .keep_panel import KeepPanel
from .keeping import Keeping
from .method_panel import MethodPanel, Settings
from .preferences import read_preferences
from .preview import LivePreview
from .preview_panel import PreviewPanel
from .preview_stages import Shown, Wish
from .psf_panel import PsfLayer, PsfPanel
from .run_panel import RunPanel, duration

#: Milliseconds of quiet after which the forecast follows the settings.
FORECAST_DELAY_MS = 300


class DeconvolveDock(Dock):
    """Restore an image layer: choose, run, cancel, judge, export."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self._recipe_psfs: tuple[PsfSource, ...] = ()
        self._seam_tolerance = Recipe.seam_tolerance
        self._divergences: list[float] = []
        self.job = Job(self)
        self.take_along(self.job)
        self.latest, self.headers = Latest(FORECAST_DELAY_MS, self), Headers(napari_viewer, self)
        self._header: Stack | None = None  # of the image's file
        self.image, self.channels = ImagePanel(), ChannelsPanel()
        self.psf, self.method = PsfPanel(), MethodPanel()
        self.curve, self.running, self.keep = CurvePanel(), RunPanel(), KeepPanel()
        self.keeping = Keeping(self.keep, self.recipe, self._source, self.show_recipe, self)
        self.preview, self.live = PreviewPanel(), LivePreview(napari_viewer, self)
        self.filling, self._file = Filling(napari_viewer, self), ""
        self._read_from: str | None = None  # the file of the image that was run
        self._lay_out()
        self._connect()
        self.method.setValue(Settings(engine=read_preferences().engine))
        self._layers_changed()

    # -- laying out -----------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.judgement = QLabel()
        self.judgement.setWordWrap(True)
        image = (self.image, self.channels, _line())
        settings = (*image, QLabel("<b>PSF</b>"), self.psf, _line(), self.method)
        # What one presses stays in sight, however small the window; the rest scrolls.
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        seen = (_line(), self.preview.profile, self.curve, self.judgement)
        outer.addWidget(ScrollingColumn(*settings, *seen), 1)
        for pressed in (self.preview, self.running, self.keep):
            outer.addWidget(pressed)

    def _connect(self) -> None:
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self._layers_changed)
        self.image.layerChosen.connect(self._layer_chosen)
        self.image.valueChanged.connect(self._image_changed)
        self.channels.valueChanged.connect(self._settings_changed)
        self.psf.valueChanged.connect(self._psf_changed)
        self.psf.editAsked.connect(
            lambda optics: wish_edit(self.viewer, optics, self.image.value().grid)
        )
        self.method.valueChanged.connect(self._settings_changed)
        self.preview.valueChanged.connect(self._preview_switched)
        self.live.said.connect(self.preview.say)
        self.live.shown.connect(self._preview_shown)
        self.live.closed.connect(lambda: self.preview.setValue(False))
        self.latest.ready.connect(self._show_plan)
        self.headers.found.connect(self._show_header)
        self.running.runAsked.connect(self.run)
        self.running.fileRunAsked.connect(self.run)
        self.running.cancelAsked.connect(self.job.cancel)
        self.job.stepped.connect(self._stepped)
        self.job.finished.connect(self._finished)
        self.job.failed.connect(self._failed)
        self.job.cancelled.connect(lambda: self._ended("cancelled"))
        self.exchange.opticsWished.connect(self.psf.setValue)
        self.exchange.psfLayerWished.connect(self._use_psf_layer)
        self.exchange.announce(DECONVOLVE, self)

    # -- layers and settings --------------------------------------------------------------

    def _layers_changed(self, event: object = None) -> None:
        found = list(self.viewer.layers)
        images = [layer for layer in found if isinstance(layer, Image)]
        self.psf.set_layers([layer.name for layer in images if not layers.is_preview(layer)])
        offered = layers.newest_first(self.viewer)
        names = [layer.name for layer in offered if layers.may_be_restored(layer)]
        self.image.layer.set_layers(names)
        self.running.set_runnable(bool(names))
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
            self.image.show_nothing()
            return
        layer = self._layer(chosen)
        try:
            if name:
                self._header = None
                self.image.watched.follow(layer)
                choices = layers.axes_choices(layer.ndim)
                self.image.show_layer(layer.data.shape, choices, layers.axes_of(layer))
                self.psf.show_known(layers.known_optics(layer))
                self.channels.show_known(())
            grid = layers.grid_of(layer, self.image.axes.currentText())
            # Other axes of the same layer: what was typed or read from its file still holds.
            if name or grid is not None:
                self.image.show_grid(grid)
            if name and (grid is None or layers.known_optics(layer) is None):
                self.headers.ask(layer)
        except InputError as error:
            self.image.show_nothing(layer.data.shape, str(error))

    def _show_header(self, name: str, header: Stack, axes: str) -> None:
        """Fill in what the layer's file knows and its reader did not pass on."""
        if name != self.image.layer.currentText():
            return
        layer = self._layer(name)
        self._header = header
        if layers.grid_of(layer, axes) is None:
            self.image.show_layer(layer.data.shape, layers.axes_choices(layer.ndim), axes)
            if header.grid is not None or header.unknown_grid:
                self.image.show_grid(header.grid, "from the file", why_unknown=header.unknown_grid)
        if header.channel_optics and layers.known_optics(layer) is None:
            self.channels.show_known(header.channel_optics)
            self.psf.show_known(header.channel_optics[0])

    def _image_changed(self) -> None:
        name, axes = self.image.layer.currentText(), self.image.axes.currentText()
        if name in self.viewer.layers and len(axes) == len(self._layer(name).data.shape):
            counts = dict(zip(axes, self._layer(name).data.shape, strict=True))
            self.channels.show_axes(counts)
        self._settings_changed()

    def _psf_changed(self) -> None:
        self._recipe_psfs = ()
        self._settings_changed()

    def _use_psf_layer(self, name: str) -> None:
        self.psf.setValue(PsfLayer(name))

    def _settings_changed(self) -> None:
        try:
            wanted = self._wanted()
        except (InputError, KeyError) as error:
            self.latest.stop()
            self.running.forecast.setText(str(error))
            return
        fraction = read_preferences().memory_fraction
        self.latest.request(lambda: runs.promised(wanted, fraction))
        if self.preview.value():
            choice = self.image.value()
            # The preview follows the slice that is shown, chosen or not.
            make = replace(wanted, chosen=Chosen()).recipe
            self.live.follow(Wish(self._layer(choice.name), choice.axes, wanted.stack, make))

    def _preview_switched(self) -> None:
        if self.preview.value():
            self._settings_changed()
        else:
            self.live.stop()

    def _preview_shown(self, shown: Shown) -> None:
        self.preview.show_line(shown)
        if not self.job.running:
            self.curve.setValue(shown.frame.divergences)

    def _wanted(self) -> runs.Wanted:
        """Return the image, the PSF's source and the settings as they stand in the panels."""
        choice: ImageChoice = self.image.value()
        stack = layers.stack_of_layer(self._layer(choice.name), choice.axes, choice.grid)
        if self._header is not None:
            stack = with_header(stack, self._header)
        chosen, settings = self.channels.value(), self.method.value()
        seam = self._seam_tolerance
        if self.channels.known:
            stack = replace(stack, channel_optics=self.channels.known)
        if self._recipe_psfs:
            first, own = self._recipe_psfs[0], self._recipe_psfs[1:]
            return runs.Wanted(stack, first, settings, chosen, own, seam_tolerance=seam)
        wish = self.psf.value()
        source = layers.psf_stack(self._layer(wish.name)) if isinstance(wish, PsfLayer) else wish
        return runs.Wanted(stack, source, settings, chosen, seam_tolerance=seam)

    def _show_plan(self, made: runs.Promise | InputError) -> None:
        if isinstance(made, InputError):
            self.running.forecast.setText(str(made))
            return
        self.running.show_forecast(made.plan, 0 if made.fits else made.result_bytes)
        self.psf.show_summary(made.plan.psf)

    # -- running --------------------------------------------------------------------------

    def run(self, path: str = "") -> None:
        """Start restoring the chosen layer, into memory or into the OME-Zarr at `path`."""
        try:
            wanted = self._wanted()
            layer = self._layer(self.image.value().name)
            place = layers.Placement.of(layer, self.image.value().axes).selected(
                wanted.chosen.channels, wanted.chosen.times
            )
        except InputError as error:
            show_error(str(error))
            return
        self._divergences, self._file = [], path
        self._read_from = layer.source.path
        self.running.set_running(True)
        fraction = read_preferences().memory_fraction
        if path:
            canvas, work = runs.into_file(wanted, place, fraction, Path(path))
        else:
            canvas, work = runs.in_memory(wanted, place, fraction)
        self.filling.begin(canvas)
        self.job.start(work)

    def _stepped(self, step: Step) -> None:
        self.running.show_step(step)
        if step.place is not None:
            self.filling.tile_finished(step.place)
            self._divergences = []  # each tile has a curve of its own
        elif step.divergence is not None:
            self._divergences.append(step.divergence)
            self.curve.setValue(tuple(self._divergences))

    def _finished(self, result: runs.Result) -> None:
        restored, (data, state, _) = result
        record = restored.record
        reason = record.blocks[0].stop_reason
        self.curve.setValue(record.blocks[0].divergences)
        self.running.show_end(f"done in {duration(record.seconds)}, {reason}", complete=True)
        self.filling.complete(data, state)
        self.keeping.take(restored, self._read_from)
        self.judgement.setText("<br>".join([runs.fit_in_words(restored), *record.notes]))
        for note in record.notes:
            if not note.startswith(("PSF:", "The PSF")):
                show_warning(note)

    def _failed(self, sentence: str) -> None:
        self._ended(sentence)
        show_error(sentence)

    def _ended(self, how: str) -> None:
        """Show how a run ended before its end, and what is left of it."""
        kept = self.filling.leave_off()
        if self._file and (folder := WorkFolder.of(self._file)).path.is_dir():
            kept = f"what is finished stays in {folder.name}; run into the same file to go on"
        elif kept:
            kept = f"{kept} kept"
        self.running.show_end("; ".join(part for part in (how, kept) if part))

    # -- keeping --------------------------------------------------------------------------

    def recipe(self) -> Recipe:
        """Return the recipe that the panels describe; `InputError` where it is not usable."""
        return self._wanted().signed()

    def show_recipe(self, recipe: Recipe) -> None:
        """Show a recipe in the panels."""
        self._seam_tolerance = recipe.seam_tolerance
        self.method.setValue(Settings(recipe.method, recipe.background, recipe.engine))
        self.channels.setValue(Chosen(recipe.channels, recipe.times))
        if not isinstance(recipe.psf, Psf):
            self.psf.setValue(recipe.psf)
        if isinstance(recipe.psf, Psf) or recipe.channel_psfs:
            self._recipe_psfs = (recipe.psf, *recipe.channel_psfs)
        self._settings_changed()

    def _source(self) -> str:
        """Return the path of the chosen image, or a name for it."""
        name = self.image.value().name
        return self._layer(name).source.path or f"{name}.ome.tif"

    def stop(self) -> None:
        """Stop what still runs, at its next step."""
        self.job.cancel()
        self.filling.stop()
        self.live.stop()
        self.latest.stop()
        self.headers.stop()
        self.image.watched.follow(None)
        self.exchange.leave(self)


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line
