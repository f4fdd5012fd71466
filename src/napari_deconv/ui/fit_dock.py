"""The dock "Fit optics": finds the optics with which the model reproduces a measured PSF."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.viewer import Viewer
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.imaging.fit_parameters import with_values
from napari_deconv.imaging.fitting import OpticsFit, fitting
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError, require
from napari_deconv.restoration.restorer import Step

from . import layers
from .block_panel import Block, BlockPanel
from .column import ScrollingColumn
from .dock import BUSY, Dock, allow
from .exchange import FIT, exchange_of, wish_edit
from .fit_panel import FitTable, FreePanel
from .fit_views import Comparison, FitViews
from .jobs import Job
from .measured_psf import optics_at_hand, reveal, show_measured
from .optics_fields import folded
from .optics_panel import OpticsPanel
from .run_panel import RunPanel

#: An image with more shows more than one point, and its fit would take hours.
MOST_VOXELS = 4_000_000
EDITED, ASSUMED = "as entered here", "assumed: describe the microscope"


@dataclass(frozen=True, eq=False)
class Result:
    """A fit, and what was fitted to what."""

    block: Block
    psf: Psf
    light: float
    start: Optics
    fit: OpticsFit


class FitDock(Dock):
    """Fit the optics to a measured PSF: choose what is free, fit, judge, apply."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.result: Result | None = None
        self.job = Job(self)
        self.take_along(self.job)
        self.image = BlockPanel(napari_viewer, lambda layer: True)
        self.optics, self.free = OpticsPanel(), FreePanel()
        self.table, self.views, self.running = FitTable(), FitViews(), RunPanel()
        self._origin = ASSUMED
        self._lay_out()
        self._connect()
        self.take_start()
        self._layer_chosen()
        self._show_state()

    def _lay_out(self) -> None:
        self.image.layer.setToolTip("The image of one point, best as it was taken")
        self.start_label, self.told = QLabel(), QLabel()
        for label in (self.start_label, self.told):
            label.setWordWrap(True)
        self.take_button = QPushButton("Take from the dock PSF")
        self.take_button.setToolTip("Start from the optics of the dock PSF, else of Deconvolve")
        self.running.run_button.setText("Fit")
        self.running.forecast.hide()
        self.running.file_button.hide()
        self.apply_button = QPushButton("Apply to optics")
        self.apply_button.setToolTip("Edit the optics with the ticked values in the dock PSF")
        self.make_button = QPushButton("Make layer")
        self.make_button.setToolTip("Show the fitted model as a layer on the measured PSF")
        buttons = QHBoxLayout()
        buttons.addWidget(self.apply_button)
        buttons.addWidget(self.make_button)
        start = (self.start_label, self.take_button, folded("Edit the start", self.optics))
        free = (QLabel("<b>Free</b>"), self.free)
        self.column = ScrollingColumn(self.image, *start, *free, *self._outcome())
        # What one presses stays in sight, however small the window; the rest scrolls.
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        outer.addWidget(self.column, 1)
        outer.addWidget(self.running)
        outer.addLayout(buttons)

    def _outcome(self) -> tuple[QWidget, ...]:
        return self.table, self.told, self.views

    def _connect(self) -> None:
        self.image.layerChosen.connect(self._layer_chosen)
        self.image.valueChanged.connect(self._changed)
        self.optics.valueChanged.connect(self._edited)
        self.take_button.clicked.connect(self._take_asked)
        self.free.valueChanged.connect(self._changed)
        self.running.runAsked.connect(self.fit)
        self.running.cancelAsked.connect(self.cancel)
        self.job.stepped.connect(self.running.show_step)
        self.job.finished.connect(self._fitted)
        self.job.failed.connect(self._refused)
        self.job.cancelled.connect(lambda: self._ended("cancelled"))
        self.table.valueChanged.connect(self._changed)
        self.apply_button.clicked.connect(self.apply)
        self.make_button.clicked.connect(self.make_layer)
        self.exchange.fitWished.connect(self.choose)
        self.exchange.announce(FIT, self)

    # -- the start ------------------------------------------------------------------------

    def choose(self, name: str) -> None:
        """Choose a layer by name, and start from the optics that another dock has now."""
        self.image.choose(name)
        self.take_start()

    def take_start(self) -> bool:
        """Start from the optics of another dock; return whether one tells them."""
        found = optics_at_hand(self.viewer)
        if found is None:
            return False
        with QSignalBlocker(self.optics):
            self.optics.setValue(found[0])
        self._origin = f"from the dock {found[1]}"
        self._show_start()
        self._changed()
        return True

    def _take_asked(self) -> None:
        if not self.take_start():
            self._refused("Open the dock PSF first, and describe the microscope there")

    def _layer_chosen(self, name: str = "") -> None:
        """Take over what the layer's file knows of its optics."""
        chosen = name or self.image.value().name
        if chosen in self.viewer.layers and self._origin == ASSUMED:
            with QSignalBlocker(self.optics):
                self.optics.show_known(layers.known_optics(self.viewer.layers[chosen]))
        self._show_start()

    def _edited(self) -> None:
        self._origin = EDITED
        self._show_start()
        self._changed()

    def _show_start(self) -> None:
        try:
            optics = self.optics.value()
        except InputError as error:
            self.start_label.setText(f"<b>{error}</b>")
            return
        self.start_label.setText(f"Start: {optics.describe()} <i>({self._origin})</i>")
        self.free.show_optics(optics, 3 if "Z" in self.image.value().axes else 2)

    # -- fitting --------------------------------------------------------------------------

    def fit(self) -> None:
        """Fit what is free to the chosen PSF."""
        try:
            block, start, free = self.image.block(), self.optics.value(), self.free.value()
        except InputError as error:
            self._refused(str(error))
            return

        def work() -> Generator[Step, None, Result | None]:
            yield Step(0, 1, "looking at starts")
            require(
                block.data.size <= MOST_VOXELS,
                f"{' x '.join(map(str, block.data.shape))} voxels are too many for the image of "
                "one point; crop it around the point, or average beads in the dock PSF from beads",
            )
            data = np.asarray(block.data)
            grid, fit = block.choice.grid, None
            psf = Psf(data, grid.spacing_um if grid else None)
            for step in fitting(psf, start, free=free):
                yield Step(step.done, step.total, step.note)
                fit = step.fit
            light = float(data.sum(dtype=np.float64))
            return Result(block, psf, light, start, fit) if fit is not None else None

        self.job.start(work)
        self.running.set_running(True)
        self._show_state()

    def _fitted(self, result: Result) -> None:
        self.result = result
        self.table.show_fit(result.fit, result.start)
        self.views.setValue(Comparison.of(result.psf, result.fit))
        fit = result.fit
        # The parameters stand in the table.
        lines = list(fit.describe()[len(fit.parameters) :])
        lines += [note.removeprefix("Fit: ") for note in fit.notes]
        self.told.setText("<br>".join(f"{line[:1].upper()}{line[1:]}" for line in lines))
        self._ended("fitted", complete=True)
        reveal(self.column, self.table)

    def cancel(self) -> None:
        """Stop the fit when its present start is through."""
        self.running.state.setText("cancelling when the present start is through")
        self.job.cancel()

    def _ended(self, sentence: str, *, complete: bool = False) -> None:
        self.running.show_end(sentence, complete=complete)
        self._show_state()

    def _refused(self, sentence: str) -> None:
        self._ended(sentence)
        self.running.refuse(sentence)

    # -- what comes of it -----------------------------------------------------------------

    def fitted_optics(self) -> Optics | None:
        """Return the start with the values that are ticked; None before a fit."""
        if self.result is None:
            return None
        return with_values(self.result.start, self.table.value())

    def apply(self) -> None:
        """Edit the fitted optics in the dock "PSF"."""
        try:
            optics = self.fitted_optics()
        except InputError as error:
            self._refused(str(error))
            return
        if optics is not None and self.result is not None:
            wish_edit(self.viewer, optics, self.result.block.choice.grid)

    def make_layer(self) -> None:
        """Show the model as a layer on the measured one, in its counts."""
        if self.result is None:
            return
        fit, block = self.result.fit, self.result.block
        counts = self.result.light * (fit.amplitude * fit.model.samples + fit.background)
        names = ("scale", "translate", "rotate", "shear", "units", "axis_labels", "affine")
        keep = [axis in block.axes for axis in block.choice.axes]
        place = _spatial({name: block.placement.layer[name] for name in names}, keep)
        entry = {"image": block.choice.name, "optics": fit.optics.to_dict()}
        show_measured(self.viewer, f"{block.choice.name} model", counts, place, entry)

    # -- state ----------------------------------------------------------------------------

    def _changed(self) -> None:
        self.running.mended()
        self._show_state()

    def _show_state(self) -> None:
        """Offer what can be done now."""
        busy = BUSY if self.job.running else ""
        free = "" if self.free.value() else "Tick what the fit is free to change"
        allow(self.running.run_button, busy or self.image.refusal() or free)
        self.running.cancel_button.setEnabled(bool(busy))
        for widget in self._outcome():
            widget.setVisible(self.result is not None)
        self.make_button.setEnabled(self.result is not None)
        self.apply_button.setEnabled(bool(self.table.value()))

    # -- the end --------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop what still runs."""
        self.job.cancel()
        self.image.stop()
        self.exchange.leave(self)


def _spatial(place: dict[str, Any], keep: list[bool]) -> dict[str, Any]:
    """Return the transforms of a layer's spatial axes alone."""
    if all(keep):
        return place
    kept = [i for i, spatial in enumerate(keep) if spatial]
    return {
        name: [place[name][i] for i in kept]
        for name in ("scale", "translate", "units", "axis_labels")
    }
