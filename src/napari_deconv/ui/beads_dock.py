"""The dock "PSF from beads": finds beads, lets the user choose, and averages them to a PSF."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.viewer import Viewer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_deconv.files.bead_report import (
    theory_fwhm_um,
    write_bead_picture,
    write_bead_table,
)
from napari_deconv.imaging.beads import Bead, MeasuredPsf, find_beads, measure_psf
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.restorer import Step

from . import layers
from .beads_panel import MeasuredPanel, MeasurementPanel
from .beads_points import BeadPoints
from .beads_table import BeadTable
from .block_panel import Block, BlockPanel
from .column import ScrollingColumn
from .dock import BUSY, Dock, allow
from .exchange import BEADS, exchange_of, wish_fit, wish_psf_layer
from .jobs import Job, Latest
from .measured_psf import optics_at_hand, reveal, show_measured
from .psf_views import Planes
from .run_panel import RunPanel

NO_BEAD = (
    "No bead found: nothing stands above the noise. Check that this is the stack of beads, and "
    "its channel"
)
#: Milliseconds of quiet after which the widths in theory follow the optics.
THEORY_DELAY_MS = 300
#: What a close-up shows to each side of the centre, in widths of the PSF.
AXIAL, LATERAL = 2.0, 3.0
FIND_FIRST = "Find the beads first"
CHANGED = "The image or its voxel size has changed: find the beads again."

Theory = tuple[Optics, str, tuple[float | None, ...] | str]


class BeadsDock(Dock):
    """Measure the PSF on an image of beads: find, choose, average, use."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.block: Block | None = None
        self.measured: MeasuredPsf | None = None
        self._theory: Theory | None = None
        self.finding, self.averaging, self.exporting = Job(self), Job(self), Job(self)
        self.take_along(self.finding, self.averaging)
        self.theory = Latest(THEORY_DELAY_MS, self)
        self.image = BlockPanel(napari_viewer, layers.may_be_restored)
        self.settings, self.beads, self.result = MeasurementPanel(), BeadTable(), MeasuredPanel()
        self.points = BeadPoints(napari_viewer, self)
        self.running = RunPanel()
        self._lay_out()
        self._connect()
        self._show_state()

    def _lay_out(self) -> None:
        self.image.layer.setToolTip("The image of the beads")
        self.find_button = QPushButton("Find beads")
        self.find_button.setToolTip("Find the beads, and say which of them can be used")
        self.running.run_button.setText("Average")
        self.running.run_button.setToolTip("Make one PSF of the beads that are used")
        self.running.forecast.hide()
        self.running.file_button.hide()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        self.column = ScrollingColumn(
            self.image, self.settings, self.find_button, self.beads, self.result
        )
        # What one presses stays in sight, however small the window; the rest scrolls.
        outer.addWidget(self.column, 1)
        outer.addWidget(self.running)
        outer.addWidget(self.result.buttons)

    def _connect(self) -> None:
        for panel in (self.image, self.settings):
            panel.valueChanged.connect(self._changed)
        self.find_button.clicked.connect(self.look_for_beads)
        self.beads.valueChanged.connect(self._beads_changed)
        self.beads.selected.connect(self.points.select)
        self.points.picked.connect(self.beads.select)
        self.points.removed.connect(self._points_removed)
        self.running.runAsked.connect(self.average)
        self.running.cancelAsked.connect(self.cancel)
        for job in (self.finding, self.averaging):
            job.stepped.connect(self.running.show_step)
            job.failed.connect(self._refused)
            job.cancelled.connect(lambda: self._ended("cancelled"))
        self.finding.finished.connect(self._found)
        self.averaging.finished.connect(self._averaged)
        self.exporting.finished.connect(self.running.state.setText)
        self.exporting.failed.connect(self.running.refuse)
        self.theory.ready.connect(self._show_theory)
        self.exchange.opticsWished.connect(self._ask_theory)
        self.result.makeAsked.connect(self.make_layer)
        self.result.useAsked.connect(self.use)
        self.result.fitAsked.connect(self.fit)
        self.result.tableAsked.connect(self.export_table)
        self.result.pictureAsked.connect(self.export_picture)
        self.exchange.announce(BEADS, self)

    # -- finding --------------------------------------------------------------------------

    def look_for_beads(self) -> None:
        """Find the beads of the chosen image."""
        try:
            block = self.image.block()
        except InputError as error:
            self._refused(str(error))
            return
        box = self.settings.value().box(block.data.ndim)

        def work() -> Generator[Step, None, Any]:
            yield Step(0, 1, "looking for beads")
            found = find_beads(np.asarray(block.data), block.choice.grid, box_um=box)
            yield Step(1, 1)
            return block, found

        self._start(self.finding, work)

    def _found(self, result: tuple[Block, tuple[Bead, ...]]) -> None:
        self.block, beads = result
        self._forget()
        self.beads.setValue(beads)
        if beads:
            self._ended("choose, then average", complete=True)
        else:
            self._refused(NO_BEAD)
        self.beads.select(0)

    def _beads_changed(self) -> None:
        if self.block is not None:
            self.points.show(self.block, self.beads.value())
        self._changed()

    def _points_removed(self, indices: Sequence[int]) -> None:
        """Leave out the beads whose points the user deleted; the points come back."""
        beads = self.beads.value()
        for index in indices:
            if index < len(beads) and beads[index].fate == "used":
                self.beads.toggle(index)
        self._beads_changed()

    # -- averaging ------------------------------------------------------------------------

    def average(self) -> None:
        """Measure the PSF on the beads that are used."""
        if self.block is None:
            self._refused(FIND_FIRST)
            return
        block, beads, settings = self.block, self.beads.value(), self.settings.value()

        def work() -> Generator[Step, None, Any]:
            yield Step(0, 1, "aligning and averaging")
            measured = measure_psf(
                np.asarray(block.data),
                block.choice.grid,
                beads=beads,
                box_um=settings.box(block.data.ndim),
                bead_diameter_um=settings.bead_diameter_um,
                radial_average=settings.radial_average,
            )
            yield Step(1, 1)
            return measured

        self._start(self.averaging, work)

    def _averaged(self, measured: MeasuredPsf) -> None:
        self.measured, self._theory = measured, None
        self.beads.setValue(measured.beads)
        self.result.views.setValue(_planes(measured))
        self.result.notes.setText("<br>".join(n.removeprefix("PSF: ") for n in measured.notes))
        self._ended("averaged", complete=True)
        self._ask_theory()
        reveal(self.column, self.result)

    def _ask_theory(self, optics: object = None) -> None:
        """Compute the widths in theory, where another dock tells the optics."""
        found, measured = optics_at_hand(self.viewer), self.measured
        if found is None:
            self._theory = None
        self._show_widths()
        if found is not None and measured is not None:
            self.theory.request(lambda: _theory(measured, *found))

    def _show_theory(self, theory: Theory | InputError) -> None:
        if not isinstance(theory, InputError):
            self._theory = theory
            self._show_widths()

    def _show_widths(self) -> None:
        if self.measured is None:
            self.result.widths.clear()
            return
        axes = ", ".join("zyx"[-len(self.measured.fwhm_um) :])
        lines = [f"<b>FWHM {axes}: {_widths(self.measured.fwhm_um)}</b>"]
        if self._theory is None:
            lines.append("theory: open the dock PSF and describe the microscope there")
        else:
            optics, dock, widths = self._theory
            shown = widths if isinstance(widths, str) else _widths(widths)
            lines.append(f"theory: {shown} <i>({optics.describe()}; dock {dock})</i>")
        self.result.widths.setText("<br>".join(lines))

    # -- what comes of it -----------------------------------------------------------------

    def make_layer(self) -> str | None:
        """Show the PSF as a layer, centred at the world's origin; return its name."""
        if self.measured is None or self.block is None:
            return None
        psf, name = self.measured.psf, self.block.choice.name
        entry = {"image": name, "notes": list(self.measured.notes)}
        return show_measured(
            self.viewer, f"PSF of {name}", psf.samples, layers.centred_at(psf), entry
        )

    def use(self) -> None:
        """Let the dock "Deconvolve" take its PSF from the layer."""
        name = self.make_layer()
        if name is not None:
            wish_psf_layer(self.viewer, name)

    def fit(self) -> None:
        """Open the dock "Fit optics" on the layer."""
        name = self.make_layer()
        if name is not None:
            wish_fit(self.viewer, name)

    def export_table(self, path: str, overwrite: bool = False) -> None:
        """Write what became of each bead as CSV."""
        found = optics_at_hand(self.viewer)
        optics = found[0] if found else None
        self._export(path, lambda done: write_bead_table(path, done, optics, overwrite=overwrite))

    def export_picture(self, path: str, overwrite: bool = False) -> None:
        """Write the PSF and its beads as PNG."""
        data = self.block.data if self.block is not None else None
        self._export(
            path, lambda done: write_bead_picture(path, done, np.asarray(data), overwrite=overwrite)
        )

    def _export(self, path: str, write: Callable[[MeasuredPsf], None]) -> None:
        measured = self.measured
        if measured is None:
            return

        def work() -> Generator[Step, None, str]:
            yield Step(0, 1)
            write(measured)
            return f"wrote {Path(path).name}"

        self.exporting.start(work)

    # -- state ----------------------------------------------------------------------------

    def _start(self, job: Job, work: Callable[[], Generator[Step, None, Any]]) -> None:
        if self.finding.running or self.averaging.running:
            return
        job.start(work)
        self.running.set_running(True)
        self._show_state()

    def cancel(self) -> None:
        """Stop what runs, at its next step, and show nothing of it."""
        self.running.state.setText("cancelling")
        self.finding.cancel()
        self.averaging.cancel()

    def _ended(self, sentence: str, *, complete: bool = False) -> None:
        self.running.show_end(sentence, complete=complete)
        self._show_state()

    def _refused(self, sentence: str) -> None:
        self._ended(sentence)
        self.running.refuse(sentence)

    def _forget(self) -> None:
        """Forget the PSF of other beads."""
        self.measured = self._theory = None
        self.result.notes.clear()
        self._show_widths()

    def _is_stale(self) -> bool:
        """Return whether the beads are those of another image, or of other voxels."""
        if self.block is None or not self.beads.value():
            return False
        return self.image.value() != self.block.choice

    def _changed(self) -> None:
        """Say that the beads are stale; what else was refused may be mended."""
        self._show_state()
        if self._is_stale():
            self.running.refuse(CHANGED)
        else:
            self.running.mended()

    def _show_state(self) -> None:
        """Offer what can be done now."""
        busy = BUSY if self.finding.running or self.averaging.running else ""
        beads = bool(self.beads.value())
        allow(self.find_button, busy or self.image.refusal())
        self.beads.setVisible(beads)
        refusal = CHANGED if self._is_stale() else "" if beads else FIND_FIRST
        allow(self.running.run_button, busy or refusal)
        self.running.cancel_button.setEnabled(bool(busy))
        self.result.setVisible(self.measured is not None)
        self.result.buttons.setEnabled(self.measured is not None)

    # -- the end --------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Compare with what the other docks say now."""
        super().showEvent(event)
        if self.measured is not None:
            self._ask_theory()

    def stop(self) -> None:
        """Stop what still runs."""
        for job in (self.finding, self.averaging, self.exporting):
            job.cancel()
        self.theory.stop()
        self.image.stop()
        self.points.leave()
        self.exchange.leave(self)


def _planes(measured: MeasuredPsf) -> Planes:
    """Return the planes of the PSF; a close-up shows a few widths of it."""
    widths = [math.inf if width is None else width for width in (None, *measured.fwhm_um)[-3:]]
    return replace(Planes.of(measured.psf), close_um=(AXIAL * widths[0], LATERAL * widths[-1]))


def _theory(measured: MeasuredPsf, optics: Optics, dock: str) -> Theory:
    """Return the widths in theory, or why there are none."""
    try:
        return optics, dock, theory_fwhm_um(measured, optics)
    except InputError as error:
        return optics, dock, str(error)


def _widths(widths: Sequence[float | None]) -> str:
    """Return widths as a person writes them.

    Examples
    --------
    >>> _widths((0.6, None))
    '0.60 x ? um'
    """
    return " x ".join("?" if width is None else f"{width:.2f}" for width in widths) + " um"
