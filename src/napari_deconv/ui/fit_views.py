"""A measured PSF beside its fitted model, to one contrast, and what the fit leaves over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

from napari_deconv.imaging.fitting import OpticsFit
from napari_deconv.imaging.psf import Psf

from .psf_views import brightness, color_map, picture

Plane = npt.NDArray[np.floating[Any]]

#: What is left over is shown in full colour from this part of the peak on: too little of the
#: model in orange, too much in blue.
FULL = 0.1
LESS, MORE = (86, 180, 233), (230, 159, 0)
TITLES = ("measured", "model", f"left over, ±{100 * FULL:.0f} %")
GAP, HEAD = 4, 18
#: Most that is shown across, part of the height of the stack.
ASPECT = 0.7


@dataclass(frozen=True, eq=False)
class Comparison:
    """A measured PSF and its model, in units of the model's peak.

    Parameters
    ----------
    measured, model : ndarray, (Z, Y, X) or (Y, X)
        Both without the fitted background.
    spacing_um : tuple of float
        Voxel size.
    """

    measured: Plane
    model: Plane
    spacing_um: tuple[float, ...]

    @classmethod
    def of(cls, psf: Psf, fit: OpticsFit) -> Comparison:
        """Return the comparison of a PSF with what was fitted to it."""
        peak = fit.amplitude * float(fit.model.samples.max())
        measured = (psf.samples - fit.background) / peak
        model = fit.amplitude / peak * fit.model.samples
        return cls(measured, model, psf.spacing_um or (1.0,) * psf.samples.ndim)

    def planes(self) -> list[tuple[str, Plane, Plane, float, float]]:
        """Return name, measured and model plane, and extent, (rows, columns) in um, of each view.

        The planes are those through the brightest voxel of the model.
        """
        middle = [int(i) for i in np.unravel_index(int(np.argmax(self.model)), self.model.shape)]
        sizes = [n * step for n, step in zip(self.model.shape, self.spacing_um, strict=True)]
        if self.model.ndim == 2:
            return [("xy", self.measured, self.model, sizes[0], sizes[1])]
        # Nothing but dark lies further from the axis.
        half = [max(round(ASPECT * sizes[0] / step / 2), 4) for step in self.spacing_um[1:]]
        window = [slice(max(m - h, 0), m + h + 1) for m, h in zip(middle[1:], half, strict=True)]
        planes: tuple[tuple[int | slice, ...], ...]
        planes = ((middle[0], *window), (slice(None), middle[1], window[1]))
        high, wide = (
            len(range(n)[w]) * step
            for n, w, step in zip(self.model.shape[1:], window, self.spacing_um[1:], strict=True)
        )
        return [
            (name, self.measured[plane], self.model[plane], rows, wide)
            for name, plane, rows in zip(("xy", "xz"), planes, (high, sizes[0]), strict=True)
        ]


def signed(part: Plane) -> npt.NDArray[np.uint8]:
    """Return signed values as colours, (Y, X, 3): black at 0, full from `FULL` on.

    Examples
    --------
    >>> signed(np.array([[-0.1, 0.0, 0.05]])).tolist()
    [[[86, 180, 233], [0, 0, 0], [115, 80, 0]]]
    """
    strength = np.clip(np.abs(part) / FULL, 0, 1)[..., None]
    colors = np.where((part < 0)[..., None], LESS, MORE)
    levels: npt.NDArray[np.uint8] = np.rint(strength * colors).astype(np.uint8)
    return levels


class FitViews(QWidget):
    """Shows a `Comparison`: xy above, xz below; measured, model, left over."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumSize(320, 300)
        self.setToolTip(
            "Planes through the brightest voxel, square root of the intensity; at the right what "
            "the model lacks (orange) and has too much (blue), part of the peak"
        )
        self._comparison: Comparison | None = None

    def value(self) -> Comparison | None:
        """Return what is shown, None before anything is."""
        return self._comparison

    def setValue(self, value: Comparison) -> None:
        """Show a comparison."""
        self._comparison = value
        self.update()

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(340, 320)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint the planes as large as they fit, all to one scale."""
        if self._comparison is None:
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        views = self._comparison.planes()
        width = (self.width() - 2 * GAP) / 3
        rows_um, columns_um = sum(view[3] for view in views), views[0][4]
        zoom = min(width / columns_um, (self.height() - HEAD - GAP * len(views)) / rows_um)
        for column, title in enumerate(TITLES):
            head = QRectF(column * (width + GAP), 0, width, HEAD)
            painter.drawText(head, int(Qt.AlignmentFlag.AlignCenter), title)
        top = float(HEAD)
        for name, measured, model, high_um, wide_um in views:
            pictures = (_colored(measured), _colored(model), signed(measured - model))
            for column, colors in enumerate(pictures):
                left = column * (width + GAP) + (width - zoom * wide_um) / 2
                place = QRectF(left, top, zoom * wide_um, zoom * high_um)
                painter.drawImage(place, picture(colors))
                if column == 0:
                    _write(painter, place, name)
            top += zoom * high_um + GAP
        painter.end()


def _colored(part: Plane) -> npt.NDArray[np.uint8]:
    return color_map()[brightness(part, 1.0, "gamma 0.5")]


def _write(painter: QPainter, place: QRectF, text: str) -> None:
    """Write on a plane: its corner is dark, whatever the theme."""
    pen = painter.pen()
    painter.setPen(Qt.GlobalColor.white)
    corner = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    painter.drawText(place.adjusted(4, 2, 0, 0), corner, text)
    painter.setPen(pen)
