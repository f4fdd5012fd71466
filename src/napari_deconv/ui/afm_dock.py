"""The dock "AFM": heights, how they are prepared, the tip, the surface under them, and numbers."""

from __future__ import annotations

from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.imaging.value import InputError
from napari_deconv.surfaces import Surface, SurfaceRecipe

from . import height_layers
from .afm_keep import AfmKeepPanel
from .afm_keeping import NO_TIP, AfmKeeping
from .afm_live import Live, LiveSurface, Wish, hide_live, show_live
from .afm_running import AfmRunning
from .afm_runs import Estimate
from .afm_source import AfmSource, TipSource
from .column import ScrollingColumn
from .dock import BUSY, Dock, allow
from .exchange import AFM, exchange_of
from .feature_table import FeatureTable
from .heights_panel import NO_HEIGHTS, HeightsPanel, PreparingPanel
from .jobs import Job, Latest
from .layers import newest_first
from .optics_fields import folded
from .run_panel import RunPanel
from .tip_panel import TipLayer, TipPanel
from .tip_views import SweepView, TipProfile
from .watching import Watched


class AfmDock(Dock):
    """Tune or estimate a tip, see the surface follow, reconstruct, measure, export."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.live, self.watched = Latest(0, self), Watched(self)
        self._surface = LiveSurface()
        self.heights, self.preparing, self.tip = HeightsPanel(), PreparingPanel(), TipPanel()
        self.source = AfmSource(napari_viewer, self.heights)
        self.tip_source = TipSource(napari_viewer, self.tip, self.heights)
        self.runs = AfmRunning(napari_viewer, self.source, self.tip_source, self.preparing, self)
        self.take_along(self.job)
        self.profile, self.sweep, self.told = TipProfile(), SweepView(), QLabel()
        self.running, self.features, self.keep = RunPanel(), FeatureTable(), AfmKeepPanel()
        self.keeping = AfmKeeping(
            self.keep, self.features, self.runs.surface, self.profile.value, self
        )
        self._lay_out()
        self._connect()
        self._changed()
        self._layers_changed()

    def _lay_out(self) -> None:
        self.told.setWordWrap(True)
        self.running.run_button.setText("Reconstruct")
        self.running.run_button.setToolTip(
            "The surface of all frames, what the tip leaves unexplained, and where it is certain"
        )
        self.running.forecast.hide()
        self.running.file_button.hide()
        self.convolution_button = QPushButton("Restore as a convolution")
        self.convolution_button.setToolTip(
            "For comparison only: Richardson-Lucy, Wiener and blind Richardson-Lucy with the shape "
            "of the tip for a PSF. An image of heights is no convolution: this is an approximation"
        )
        self.sweep.hide()
        self.objects = folded("Objects", self.features)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        self.column = ScrollingColumn(
            self.heights,
            self.preparing,
            self.tip,
            self.profile,
            self.sweep,
            self.told,
            self.objects,
            folded("Compare", self.convolution_button),
        )
        outer.addWidget(self.column, 1)
        outer.addWidget(self.running)
        outer.addWidget(self.keep)

    def _connect(self) -> None:
        events = self.viewer.layers.events
        self._events = [getattr(events, n) for n in ("inserted", "removed", "renamed")]
        for event in self._events:
            event.connect(self._layers_changed)
        self.viewer.dims.events.current_step.connect(self._changed)
        self.heights.layerChosen.connect(self._layer_chosen)
        self.watched.changed.connect(self._scale_changed)
        for panel in (self.heights, self.preparing, self.tip):
            panel.valueChanged.connect(self._changed)
        self.tip.estimateAsked.connect(self.estimate)
        self.running.runAsked.connect(self.reconstruct)
        self.running.cancelAsked.connect(self.cancel)
        self.convolution_button.clicked.connect(self.compare)
        self.features.measureAsked.connect(self.measure)
        self.live.ready.connect(self._show_live)
        self.runs.started.connect(self._started)
        self.runs.stepped.connect(self.running.show_step)
        self.runs.ended.connect(self._ended)
        self.runs.refused.connect(self._refused)
        self.runs.reconstructed.connect(self._reconstructed)
        self.runs.estimated.connect(self._estimated)
        self.runs.measured.connect(self.features.setValue)
        self.keeping.recipe, self.keeping.show = self.recipe, self.show_recipe
        self.keeping.read_from = self._read_from
        self.exchange.announce(AFM, self)

    # -- what goes in ---------------------------------------------------------------------

    def recipe(self) -> SurfaceRecipe:
        """Return the recipe as it stands; a tip of a layer is none that a recipe can hold.

        Raises
        ------
        InputError
            If the tip is that of a layer, or not usable.
        """
        tip = self.tip.value()
        if isinstance(tip, TipLayer):
            raise InputError(
                f"The tip is that of the layer {tip.name!r}, which a recipe cannot name: save the "
                "tip, and choose its file"
            )
        unit = self.heights.unit.currentText()
        return SurfaceRecipe(tip, self.preparing.value(), z_unit="" if unit == "?" else unit)

    def show_recipe(self, recipe: SurfaceRecipe) -> None:
        """Show how a recipe prepares heights, and its tip."""
        self.preparing.setValue(recipe.steps)
        self.tip.setValue(recipe.tip)

    # -- live -----------------------------------------------------------------------------

    def _changed(self, event: object = None) -> None:
        """Ask for the surface as things stand, or say why there is none."""
        self.running.mended()
        self._offer()
        try:
            key, heights = self.source.frame()
            wish = Wish(key, heights, self.preparing.value(), self.tip_source.known())
        except InputError as error:
            self.live.stop()
            self._say(f"<b>{error}</b>")
            return
        if self.live.running or not self._surface.is_quick(wish):
            self.live.request(lambda: self._surface(wish))
            return
        self.live.stop()  # what was asked before is not to come after this
        try:
            self.live.ready.emit(self._surface(wish))
        except InputError as error:
            self.live.ready.emit(error)

    def _show_live(self, live: Live | InputError) -> None:
        if isinstance(live, InputError):
            self._say(f"<b>{live}</b>")
            return
        if live.tip is not None:
            self.profile.setValue(live.tip, self.tip.kind.currentText())
            self._offer()
        self._say(live.note or f"noise {live.noise_nm:.2g} nm")
        shown = live.surface if live.surface is not None else live.prepared
        show_live(self.viewer, self.source.layer(), shown)

    def _say(self, sentence: str) -> None:
        self.told.setText(sentence)

    # -- runs -----------------------------------------------------------------------------

    @property
    def job(self) -> Job:
        """What runs now."""
        return self.runs.job

    @property
    def made(self) -> Surface | None:
        """What the last reconstruction made."""
        return self.runs.made

    def reconstruct(self) -> None:
        """Reconstruct all frames with the tip as it stands."""
        self.runs.reconstruct()

    def _reconstructed(self, made: Surface) -> None:
        self.profile.setValue(made.tip, self.tip.kind.currentText())
        self._say("; ".join([*made.notes, f"{made.certain.mean():.0%} of it is certain"]))

    def estimate(self) -> None:
        """Estimate the tip from all frames, and take it from then on."""
        self.runs.estimate()

    def _estimated(self, found: Estimate, name: str) -> None:
        if found.sweep is not None:
            depths = [-height for height in found.sweep.heights_nm]
            self.sweep.setValue(found.sweep.thresholds_nm, depths, found.sweep.threshold_nm)
        self.sweep.setVisible(found.sweep is not None)
        self.tip.setValue(TipLayer(name))

    def measure(self) -> None:
        """Measure the objects with the tip of the last reconstruction."""
        self.runs.measure(self.features.chosen_labels())

    def compare(self) -> None:
        """Restore as if the tip had blurred the heights, for comparison."""
        self.runs.compare()

    def cancel(self) -> None:
        """Stop what runs, at its next step, and show nothing of it."""
        self.running.state.setText("cancelling")
        self.runs.cancel()

    def _started(self) -> None:
        self.running.set_running(True)
        self._offer()

    def _ended(self, sentence: str, complete: bool = False) -> None:
        self.running.show_end(sentence, complete=complete)
        self._offer()

    def _refused(self, sentence: str) -> None:
        self._ended(sentence)
        self.running.refuse(sentence)

    def _offer(self) -> None:
        """Offer what can be done now.

        What the fields lack is told by a run: a number or path that is being typed is taken over
        as its button is pressed.
        """
        busy = BUSY if self.job.running else ""
        no_image = "" if self.heights.layer.currentText() else NO_HEIGHTS
        made = "" if self.made is not None else "Reconstruct first: there is no surface yet"
        tip = "" if self.profile.value() is not None else NO_TIP
        for button in (self.running.run_button, self.tip.estimate_button):
            allow(button, busy or no_image)
        for button in (self.features.measure_button, self.convolution_button):
            allow(button, busy or made)
        allow(self.keep.export_button, made)
        allow(self.keep.tip_button, tip)

    # -- layers ---------------------------------------------------------------------------

    def _layers_changed(self, event: object = None) -> None:
        """Offer the layers there are; renamed ones keep what they are."""
        there = newest_first(self.viewer)
        self.tip.set_layers([layer.name for layer in there if height_layers.is_tip(layer)])
        self.features.set_layers([layer.name for layer in there if isinstance(layer, Labels)])
        self.heights.layer.set_layers(
            [layer.name for layer in there if height_layers.may_be_heights(layer)]
        )

    def _layer_chosen(self, name: str) -> None:
        if name not in self.viewer.layers:
            self.heights.show_known(None, None)
            return
        layer = self.viewer.layers[name]
        unit, pixel = None, None
        try:
            unit, pixel = height_layers.z_unit_of(layer), height_layers.pixel_nm_of(layer)
        except InputError as error:
            self._say(f"<b>{error}</b>")
        self.watched.follow(layer)
        self._forget()
        self.heights.show_known(unit, pixel)

    def _forget(self) -> None:
        """Forget what was made of other heights."""
        self.runs.made = None
        self.features.setValue(())
        self._offer()

    def _read_from(self) -> str | None:
        """Return the file that the chosen layer was read from, if there is one."""
        name = self.heights.layer.currentText()
        return self.viewer.layers[name].source.path if name in self.viewer.layers else None

    def _scale_changed(self) -> None:
        """Show the pixels that the layer has now, unless the user said others."""
        name = self.heights.layer.currentText()
        if self.heights.pixel_row.is_marked and name in self.viewer.layers:
            unit = self.heights.unit.currentText()
            pixel = height_layers.pixel_nm_of(self.viewer.layers[name])
            self._forget()  # what was made of other pixels
            self.heights.show_known(None if unit == "?" else unit, pixel)

    def stop(self) -> None:
        """Stop what still runs, and listen no longer."""
        self.runs.cancel()
        self.live.stop()
        self.watched.follow(None)
        hide_live(self.viewer)
        for event in self._events:
            event.disconnect(self._layers_changed)
        self._events = []
        self.viewer.dims.events.current_step.disconnect(self._changed)
        self.exchange.leave(self)
