"""What the dock "AFM" runs on a wish, one at a time, and where the results are laid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_deconv.afm.tips import Tip
from napari_deconv.imaging.value import InputError, require
from napari_deconv.surfaces import Surface, SurfaceRecipe, fitted_tip

from . import height_layers
from .afm_runs import Estimate, as_convolutions, estimating, measuring, reconstructing
from .afm_source import AfmSource, TipSource
from .heights_panel import PreparingPanel
from .jobs import Job, Work


@dataclass(frozen=True, eq=False)
class Run:
    """What is done in the thread, and what then becomes of its result."""

    work: Work
    then: Callable[[Any], None]


class AfmRunning(QObject):
    """Reconstructs, estimates, measures and compares; results lie over the layer they are of.

    Signals: `started()`, `stepped(Step)` and `ended(sentence, complete)` of each run, or
    `refused(sentence)`; and what came of it: `reconstructed(Surface)`, `estimated(Estimate,
    name)` with the name of the tip's layer, `measured(features)`.
    """

    started = Signal()
    stepped = Signal(object)
    ended = Signal(str, bool)
    refused = Signal(str)
    reconstructed = Signal(object)
    estimated = Signal(object, str)
    measured = Signal(object)

    def __init__(
        self,
        viewer: Viewer,
        source: AfmSource,
        tip: TipSource,
        preparing: PreparingPanel,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer, self.source, self.tip, self.preparing = viewer, source, tip, preparing
        #: What the last reconstruction made; None once other heights are chosen.
        self.made: Surface | None = None
        self.job = Job(self)
        self._then: Callable[[Any], None] | None = None
        self.job.stepped.connect(self.stepped)
        self.job.finished.connect(self._finished)
        self.job.failed.connect(self.refused)
        self.job.cancelled.connect(lambda: self.ended.emit("cancelled", False))

    def reconstruct(self) -> None:
        """Reconstruct all frames with the tip as it stands."""
        self._start(self._reconstruction)

    def estimate(self) -> None:
        """Estimate the tip from all frames."""
        self._start(self._estimation)

    def measure(self, labels: str | None) -> None:
        """Measure the objects of a labels layer, or those above a level, in the surface."""
        self._start(lambda: self._measurement(labels))

    def compare(self) -> None:
        """Restore as if the tip had blurred the heights, for comparison."""
        self._start(self._comparison)

    def cancel(self) -> None:
        """Stop what runs, at its next step, and show nothing of it."""
        self.job.cancel()

    def surface(self, why: str) -> Surface:
        """Return what the last reconstruction made; `InputError` where there was none."""
        if self.made is None:
            raise InputError(f"Reconstruct first: {why}")
        return self.made

    # -- one at a time --------------------------------------------------------------------

    def _start(self, prepared: Callable[[], Run]) -> None:
        try:
            run = prepared()
        except InputError as error:
            self.refused.emit(str(error))
            return
        if not self.job.running:
            self._then = run.then
            self.job.start(run.work)
            self.started.emit()

    def _finished(self, result: Any) -> None:
        if self._then is None:
            return
        try:
            self._then(result)
        except InputError as error:
            self.refused.emit(str(error))

    # -- each of them ---------------------------------------------------------------------

    def _reconstruction(self) -> Run:
        tip, layer = self.tip.known(), self.source.layer()
        heights = self.source.height_map()
        given = fitted_tip(tip, heights) if isinstance(tip, Tip) else None
        unit = self.source.panel.value().unit
        recipe = SurfaceRecipe(self.tip.named(), self.preparing.value(), z_unit=unit)
        work = partial(reconstructing, heights, recipe, given)
        return Run(work, partial(self._reconstructed, layer))

    def _reconstructed(self, source: Image, made: Surface) -> None:
        self.made = made
        results = {"surface": made.surface.heights_nm, "residual": made.residual_nm}
        if made.recipe.steps:
            results["prepared"] = made.prepared.heights_nm
        entry = {"recipe": made.recipe.to_dict()}
        self._lay(source, {**results, "certain": made.certain}, entry)
        self.reconstructed.emit(made)
        self.ended.emit("done", True)

    def _estimation(self) -> Run:
        recipe = SurfaceRecipe(self.tip.named(), self.preparing.value())
        name = f"tip of {self.source.layer().name}"
        work = partial(estimating, self.source.height_map(), recipe)
        return Run(work, partial(self._estimated, name))

    def _estimated(self, name: str, found: Estimate) -> None:
        tip, how = found.tip, found.recipe.to_dict()
        layer = height_layers.tip_layer(tip.heights_nm, tip.pixel_nm, name, how)
        layer.visible = False
        self._put(layer)
        self.estimated.emit(found, name)
        self.ended.emit(found.words, True)

    def _measurement(self, labels: str | None) -> Run:
        made = self.surface("objects are measured in the surface")
        if labels is None:
            return Run(partial(measuring, made, None), self._measured)
        require(labels in self.viewer.layers, f"There is no layer {labels!r} any more")
        marked = np.asarray(self.viewer.layers[labels].data)
        return Run(partial(measuring, made, marked), self._measured)

    def _measured(self, found: Any) -> None:
        self.measured.emit(found)
        self.ended.emit(f"{len(found)} objects measured", True)

    def _comparison(self) -> Run:
        made = self.surface("its tip is taken for a PSF")
        then = partial(self._compared, self.source.layer())
        return Run(partial(as_convolutions, made), then)

    def _compared(self, source: Image, results: dict[str, Any]) -> None:
        self._lay(source, results, {})
        self.ended.emit("restored as convolutions: approximations, for comparison", True)

    def _lay(self, source: Image, results: dict[str, Any], entry: dict[str, Any]) -> None:
        """Lay results over the layer that they are of."""
        for layer in height_layers.result_layers(source, source.name, results, entry):
            self._put(layer)

    def _put(self, layer: Any) -> None:
        """Add a layer; that of an earlier run gives way."""
        if layer.name in self.viewer.layers:
            self.viewer.layers.remove(layer.name)
        self.viewer.add_layer(layer)
