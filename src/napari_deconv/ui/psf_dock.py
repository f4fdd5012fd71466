"""The dock "PSF": joins the optics to a live picture, a layer, and the deconvolution."""

from __future__ import annotations

from napari.viewer import Viewer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError

from . import layers
from .colors import AMBER
from .column import ScrollingColumn
from .dock import Dock
from .exchange import BEADS, FIT, PSF, exchange_of, open_dock, wish_optics
from .headers import Headers
from .optics_panel import OpticsPanel
from .psf_layer import psf_layer, show_psf_layer
from .psf_live import LivePsf
from .psf_report import Report
from .psf_views import Planes, PsfViews
from .voxel_panel import ASSUMED, VoxelPanel
from .watching import Watched

#: Lines of text in sight; more of them scroll.
TOLD_LINES = 6


class PsfDock(Dock):
    """Tune a PSF by its optics, see it at once, and use it."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.exchange = exchange_of(napari_viewer)
        self.views, self.voxels, self.optics = PsfViews(), VoxelPanel(), OpticsPanel()
        self.live, self.headers = LivePsf(self), Headers(napari_viewer, self)
        self.watched = Watched(self)
        self.report: Report | None = None
        self._lay_out()
        self._connect()
        self._layers_changed()
        self._changed()

    def _lay_out(self) -> None:
        self.told = QLabel()
        self.told.setWordWrap(True)
        self.make_button = QPushButton("Make layer")
        self.make_button.setToolTip("Show the whole PSF as the layer PSF, with its voxel size")
        self.use_button = QPushButton("Use for deconvolution")
        self.use_button.setCheckable(True)
        self.use_button.setToolTip("Let the dock Deconvolve follow these optics while pressed")
        self.follow = QCheckBox("keep the layer up to date")
        self.follow.setToolTip("Let the layer PSF follow these settings")
        # Of one height, whatever it tells: the sliders above must not move below the mouse.
        telling = ScrollingColumn(self.told)
        telling.setFixedHeight(TOLD_LINES * self.fontMetrics().lineSpacing())
        self.beads_button = QPushButton("From beads...")
        self.beads_button.setToolTip("Measure the PSF on a stack of beads, in a dock of its own")
        self.fit_button = QPushButton("Fit to measured...")
        self.fit_button.setToolTip("Find the optics that reproduce a measured PSF")
        buttons, others = QHBoxLayout(), QHBoxLayout()
        for button in (self.make_button, self.use_button):
            buttons.addWidget(button)
        for button in (self.beads_button, self.fit_button):
            others.addWidget(button)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(4, 0, 4, 4)
        # The picture stays in sight while the settings scroll.
        outer.addWidget(self.views, 3)
        outer.addWidget(ScrollingColumn(self.voxels, self.optics), 4)
        outer.addWidget(telling)
        outer.addWidget(self.follow)
        outer.addLayout(buttons)
        outer.addLayout(others)

    def _connect(self) -> None:
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self._layers_changed)
        self.voxels.layerChosen.connect(self._layer_chosen)
        self.watched.changed.connect(self._scale_changed)
        self.voxels.valueChanged.connect(self._changed)
        self.optics.valueChanged.connect(self._changed)
        self.headers.found.connect(self._show_header)
        self.live.planesReady.connect(self._show_planes)
        self.live.reportReady.connect(self._show_report)
        self.live.refused.connect(self._refuse)
        self.make_button.clicked.connect(self.make_layer)
        self.use_button.toggled.connect(self._use)
        self.beads_button.clicked.connect(lambda: open_dock(self.viewer, BEADS))
        self.fit_button.clicked.connect(lambda: open_dock(self.viewer, FIT))
        self.exchange.editWished.connect(self.edit)
        self.exchange.announce(PSF, self)

    # -- settings -------------------------------------------------------------------------

    def edit(self, optics: Optics, grid: Grid | None) -> None:
        """Edit these optics of the dock "Deconvolve", which follows."""
        if grid is not None:
            self.voxels.setValue(grid)
        self.optics.setValue(optics)
        self.use_button.setChecked(True)

    def _layers_changed(self, event: object = None) -> None:
        found = layers.newest_first(self.viewer)
        names = [layer.name for layer in found if layers.may_be_restored(layer)]
        self.voxels.layer.set_layers(names)
        self.follow.setEnabled(psf_layer(self.viewer) is not None)

    def _layer_chosen(self, name: str) -> None:
        """Take over what the chosen layer knows of its voxels and optics."""
        if name not in self.viewer.layers:
            self.voxels.show_grid(ASSUMED, "assumed")
            return
        layer = self.viewer.layers[name]
        try:
            axes = layers.axes_of(layer)
        except InputError as error:
            self._refuse(str(error))
            return
        self.watched.follow(layer)
        self.optics.show_known(layers.known_optics(layer))
        grid = layers.grid_of(layer, axes)
        self.voxels.show_grid(grid, ndim=3 if "Z" in axes else 2)
        if grid is None or layers.known_optics(layer) is None:
            self.headers.ask(layer)

    def _scale_changed(self) -> None:
        """Show the voxels that the layer has now, unless the user said others."""
        name = self.voxels.layer.currentText()
        if self.voxels.row.is_marked and name in self.viewer.layers:
            layer = self.viewer.layers[name]
            axes = layers.axes_of(layer)
            grid = layers.grid_of(layer, axes)
            if grid is not None:
                self.voxels.show_grid(grid, ndim=3 if "Z" in axes else 2)

    def _show_header(self, name: str, header: Stack, axes: str) -> None:
        """Fill in what the layer's file knows and its reader did not pass on."""
        layer = self.viewer.layers[name]
        if name != self.voxels.layer.currentText():
            return
        if layers.grid_of(layer, axes) is None and header.grid is not None:
            self.voxels.show_grid(header.grid, "file")
        if header.channel_optics and layers.known_optics(layer) is None:
            self.optics.show_known(header.channel_optics[0])

    def _changed(self) -> None:
        try:
            optics, grid = self.optics.value(), self.voxels.value()
        except InputError as error:
            self.live.forget()
            self._refuse(str(error))
            return
        self.live.show(optics, grid)

    # -- what comes of them ---------------------------------------------------------------

    def _show_planes(self, planes: Planes) -> None:
        self.views.setValue(planes)
        if self.use_button.isChecked():
            self.exchange.opticsWished.emit(self.optics.value())

    def _show_report(self, report: Report) -> None:
        self.report = report
        dot = f'<span style="color:{AMBER}">●</span> '
        lines = [*report.numbers(), *(dot + sentence for sentence in report.warnings())]
        self.told.setText("<br>".join(lines))
        if self.follow.isChecked() and psf_layer(self.viewer) is not None:
            self.make_layer()

    def _refuse(self, sentence: str) -> None:
        """Say why there is no PSF; the last good one stays in sight."""
        self.told.setText(f"<b>{sentence}</b>")

    def make_layer(self) -> None:
        """Show the whole PSF as the layer "PSF"."""
        if self.report is not None:
            show_psf_layer(self.viewer, self.report.psf, self.report.optics)

    def _use(self, pressed: bool) -> None:
        try:
            if pressed:
                wish_optics(self.viewer, self.optics.value())
        except InputError as error:
            self.use_button.setChecked(False)
            self._refuse(str(error))

    # -- the end --------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop what still runs."""
        self.live.stop()
        self.headers.stop()
        self.watched.follow(None)
        self.exchange.leave(self)
