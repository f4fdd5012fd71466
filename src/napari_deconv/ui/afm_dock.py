"""The dock "AFM": heights, how they are prepared, the tip, the surface under them, and numbers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.afm.tips import Tip, centred_tip
from napari_deconv.imaging.value import InputError, require
from napari_deconv.restoration.restorer import Step
from napari_deconv.surfaces import (
    AnyTip,
    Surface,
    SurfaceRecipe,
    TipFile,
    fitted_tip,
    read_tip,
)

from . import height_layers
from .afm_keep import AfmKeepPanel
from .afm_keeping import AfmKeeping
from .afm_live import Live, LiveSurface, Wish, hide_live, show_live
from .afm_runs import Estimate, as_convolutions, estimating, measuring, reconstructing
from .afm_source import AfmSource
from .column import ScrollingColumn
from .dock import Dock
from .exchange import AFM, exchange_of
from .feature_table import FeatureTable
from .heights_panel import HeightsPanel, PreparingPanel
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
        self.job, self.live = Job(self), Latest(0, self)
        self.watched = Watched(self)
        self.take_along(self.job)
        self.made: Surface | None = None
        self._surface = LiveSurface()
        self._then: Callable[[Any], None] | None = None
        self.heights, self.preparing, self.tip = HeightsPanel(), PreparingPanel(), TipPanel()
        self.source = AfmSource(napari_viewer, self.heights)
        self.profile, self.sweep, self.told = TipProfile(), SweepView(), QLabel()
        self.running, self.features, self.keep = RunPanel(), FeatureTable(), AfmKeepPanel()
        self.keeping = AfmKeeping(self.keep, self.features, self._made, self.profile.value, self)
        self._lay_out()
        self._connect()
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
        comparing = QWidget()
        row = QHBoxLayout(comparing)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.convolution_button)
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
            folded("Compare", comparing),
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
        self.job.stepped.connect(self.running.show_step)
        self.job.finished.connect(self._finished)
        self.job.failed.connect(self._ended)
        self.job.cancelled.connect(lambda: self._ended("cancelled"))
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

    def known_tip(self) -> Any:
        """Return the shape, or the tip of a layer or a file; None where it is to be estimated.

        Raises
        ------
        InputError
            If there is no such layer or file, or it holds no tip.
        """
        value = self.tip.value()
        if isinstance(value, TipLayer):
            require(value.name in self.viewer.layers, f"There is no layer {value.name!r} any more")
            layer = self.viewer.layers[value.name]
            pixel = height_layers.pixel_nm_of(layer) or self.heights.value().pixel_nm
            return centred_tip(height_layers.tip_of_layer(layer), pixel)
        if isinstance(value, TipFile):
            return read_tip(value.path)
        return value if self.tip.is_shape else None

    # -- live -----------------------------------------------------------------------------

    def _changed(self, event: object = None) -> None:
        """Ask for the surface as things stand, or say why there is none."""
        try:
            key, heights = self.source.frame()
            wish = Wish(key, heights, self.preparing.value(), self.known_tip())
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
        self._say(live.note or f"noise {live.noise_nm:.2g} nm")
        shown = live.surface if live.surface is not None else live.prepared
        show_live(self.viewer, self.source.layer(), shown)

    def _say(self, sentence: str) -> None:
        self.told.setText(sentence)

    # -- runs -----------------------------------------------------------------------------

    def reconstruct(self) -> None:
        """Reconstruct all frames with the tip as it stands."""

        def begin() -> None:
            tip, source = self.known_tip(), self.source.layer()
            heights = self.source.height_map()
            given = fitted_tip(tip, heights) if isinstance(tip, Tip) else None
            unit = self.heights.unit.currentText()
            recipe = SurfaceRecipe(self._named_tip(), self.preparing.value(), z_unit=unit)
            then = partial(self._reconstructed, source)
            self._start(partial(reconstructing, heights, recipe, given), then)

        self._told(begin)

    def _named_tip(self) -> AnyTip:
        """Return the tip as a recipe names it: of a layer, how it was estimated, or its name."""
        value = self.tip.value()
        if not isinstance(value, TipLayer):
            return value
        how = height_layers.origin_of_tip(self.viewer.layers[value.name])
        return TipFile(f"layer {value.name}") if how is None else SurfaceRecipe.from_dict(how).tip

    def _reconstructed(self, source: Image, made: Surface) -> None:
        self.made = made
        results = {"surface": made.surface.heights_nm, "residual": made.residual_nm}
        if made.recipe.steps:
            results["prepared"] = made.prepared.heights_nm
        entry = {"recipe": made.recipe.to_dict()}
        self._lay(source, {**results, "certain": made.certain}, entry)
        self.profile.setValue(made.tip, self.tip.kind.currentText())
        self._say("; ".join([*made.notes, f"{made.certain.mean():.0%} of it is certain"]))
        self._ended("done", complete=True)

    def _lay(self, source: Image, results: dict[str, Any], entry: dict[str, Any]) -> None:
        """Lay results over the layer that they are of; those of an earlier run give way."""
        for layer in height_layers.result_layers(source, source.name, results, entry):
            if layer.name in self.viewer.layers:
                self.viewer.layers.remove(layer.name)
            self.viewer.add_layer(layer)

    def estimate(self) -> None:
        """Estimate the tip from all frames, and take it from then on."""

        def begin() -> None:
            recipe = SurfaceRecipe(self._named_tip(), self.preparing.value())
            then = partial(self._estimated, self.source.layer().name)
            self._start(partial(estimating, self.source.height_map(), recipe), then)

        self._told(begin)

    def _estimated(self, source: str, found: Estimate) -> None:
        name = f"tip of {source}"
        if name in self.viewer.layers:
            self.viewer.layers.remove(name)
        tip, how = found.tip, found.recipe.to_dict()
        layer = height_layers.tip_layer(tip.heights_nm, tip.pixel_nm, name, how)
        layer.visible = False
        self.viewer.add_layer(layer)
        if found.sweep is not None:
            depths = [-height for height in found.sweep.heights_nm]
            self.sweep.setValue(found.sweep.thresholds_nm, depths, found.sweep.threshold_nm)
        self.sweep.setVisible(found.sweep is not None)
        self.tip.setValue(TipLayer(name))
        self._ended(found.words, complete=True)

    def measure(self) -> None:
        """Measure the objects with the tip of the last reconstruction."""

        def begin() -> None:
            made = self._made("objects are measured in the surface")
            name = self.features.chosen_labels()
            marked = None
            if name is not None:
                require(name in self.viewer.layers, f"There is no layer {name!r} any more")
                marked = np.asarray(self.viewer.layers[name].data)
            self._start(partial(measuring, made, marked), self._measured)

        self._told(begin)

    def _measured(self, found: Any) -> None:
        self.features.setValue(found)
        self._ended(f"{len(found)} objects measured", complete=True)

    def compare(self) -> None:
        """Restore as if the tip had blurred the heights, for comparison."""

        def begin() -> None:
            made = self._made("its tip is taken for a PSF")
            then = partial(self._compared, self.source.layer())
            self._start(partial(as_convolutions, made), then)

        self._told(begin)

    def _compared(self, source: Image, results: dict[str, Any]) -> None:
        self._lay(source, results, {})
        self._ended("restored as convolutions: approximations, for comparison", complete=True)

    def _made(self, why: str) -> Surface:
        """Return what the last run made; `InputError` where there was none."""
        if self.made is None:
            raise InputError(f"Reconstruct first: {why}")
        return self.made

    def _told(self, begin: Callable[[], None]) -> None:
        try:
            begin()
        except InputError as error:
            self._ended(str(error))

    def _start(
        self, work: Callable[[], Generator[Step, None, Any]], then: Callable[[Any], None]
    ) -> None:
        if not self.job.running:
            self._then = then
            self.job.start(work)
            self.running.set_running(True)

    def _finished(self, result: Any) -> None:
        if self._then is not None:
            self._told(partial(self._then, result))

    def cancel(self) -> None:
        """Stop what runs, at its next step, and show nothing of it."""
        self.running.state.setText("cancelling")
        self.job.cancel()

    def _ended(self, sentence: str, *, complete: bool = False) -> None:
        self.running.show_end(sentence, complete=complete)

    # -- layers ---------------------------------------------------------------------------

    def _layers_changed(self, event: object = None) -> None:
        """Offer the layers there are; renamed ones keep what they are."""
        there = newest_first(self.viewer)
        self.tip.set_layers([layer.name for layer in there if height_layers.is_tip(layer)])
        self.features.set_layers([layer.name for layer in there if isinstance(layer, Labels)])
        self.heights.set_layers(
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
        self.made = None
        self.features.setValue(())
        self.heights.show_known(unit, pixel)

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
            self.made = None  # of other pixels
            self.features.setValue(())
            self.heights.show_known(None if unit == "?" else unit, pixel)

    def stop(self) -> None:
        """Stop what still runs, and listen no longer."""
        self.job.cancel()
        self.live.stop()
        self.watched.follow(None)
        hide_live(self.viewer)
        for event in self._events:
            event.disconnect(self._layers_changed)
        self._events = []
        self.viewer.dims.events.current_step.disconnect(self._changed)
        self.exchange.leave(self)
