"""A PSF on screen: its xy, xz and yz planes, painted to one scale in micrometres."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QFont, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_deconv.imaging.psf import Psf

Plane = npt.NDArray[np.floating[Any]]

#: How intensities become brightness; log over this many decades.
SCALES = ("linear", "gamma 0.5", "log")
DECADES = 4
#: The views in full, or the middle of them.
CLOSE, WIDE = "close-up", "wide"
#: From black through violet and orange to a light yellow, evenly brighter.
_STOPS = ((0, 0, 4), (60, 15, 110), (140, 40, 105), (210, 75, 55), (250, 150, 20), (252, 255, 200))
GAP = 4.0
#: A close-up stays as it is until another is wished that is this many times larger or smaller.
#: What changes while a slider is dragged is then the PSF and not the scale.
STAYS = 1.7


@dataclass(frozen=True, eq=False)
class Planes:
    """The planes through the centre of a PSF.

    Parameters
    ----------
    xy : ndarray, (Y, X)
        Intensity in the focal plane.
    xz, yz : ndarray, (Z, X) and (Z, Y), or None for a PSF of one plane
        On the scale of `xy`.
    spacing_um : tuple of float
        Voxel size, (z, y, x).
    close_um : tuple of float
        What a close-up should show to each side of the centre, (axial, lateral).
    """

    xy: Plane
    xz: Plane | None
    yz: Plane | None
    spacing_um: tuple[float, ...]
    close_um: tuple[float, float] = (math.inf, math.inf)

    @classmethod
    def of(cls, psf: Psf) -> Planes:
        """Return the planes of a PSF; without a voxel size, as if it were a cube of 1 um."""
        z, y, x = (1.0, *(psf.spacing_um or (1.0,) * psf.samples.ndim))[-3:]
        if psf.samples.ndim == 2:
            return cls(psf.samples, None, None, (z, y, x))
        middle = [n // 2 for n in psf.shape]
        samples = psf.samples
        xz, yz = samples[:, middle[1], :], samples[:, :, middle[2]]
        return cls(samples[middle[0]], xz, yz, (z, y, x))

    def cropped(self) -> Planes:
        """Return the part that a close-up shows."""
        z_um, y_um, x_um = self.spacing_um
        axial, lateral = self.close_um
        xy = _middle(self.xy, lateral / y_um, lateral / x_um)
        if self.xz is None or self.yz is None:
            return Planes(xy, None, None, self.spacing_um)
        xz = _middle(self.xz, axial / z_um, lateral / x_um)
        yz = _middle(self.yz, axial / z_um, lateral / y_um)
        return Planes(xy, xz, yz, self.spacing_um)

    def size_um(self) -> tuple[float, float, float]:
        """Return the extent, (z, y, x), micrometres; no z for a PSF of one plane."""
        z, y, x = self.spacing_um
        planes = 0 if self.xz is None else self.xz.shape[0]
        return planes * z, self.xy.shape[0] * y, self.xy.shape[1] * x


def steady(shown: tuple[float, float] | None, wished: tuple[float, float]) -> tuple[float, float]:
    """Return the extent of the next close-up: the one shown where it is near the wished one.

    Examples
    --------
    >>> steady((2.0, 1.0), (3.0, 1.2)), steady((2.0, 1.0), (4.0, 1.2))
    ((2.0, 1.0), (4.0, 1.2))
    """
    if shown is None or not all(map(math.isfinite, shown + wished)):
        return wished
    ratios = [new / old for new, old in zip(wished, shown, strict=True)]
    return shown if all(1 / STAYS <= ratio <= STAYS for ratio in ratios) else wished


def _middle(plane: Plane, rows: float, columns: float) -> Plane:
    window = []
    for n, half in zip(plane.shape, (rows, columns), strict=True):
        kept = min(max(math.ceil(half), 2), n // 2) if math.isfinite(half) else n // 2
        window.append(slice(n // 2 - kept, min(n // 2 + kept + 1, n)))
    return plane[window[0], window[1]]


def color_map() -> npt.NDArray[np.uint8]:
    """Return the colours of brightness 0 to 255, (256, 3)."""
    place = np.linspace(0, len(_STOPS) - 1, 256)
    stops = np.array(_STOPS, float)
    channels = [np.interp(place, np.arange(len(_STOPS)), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def picture(colors: npt.NDArray[np.uint8]) -> QImage:
    """Return colours, (Y, X, 3), as an image to paint."""
    rows, columns, _ = colors.shape
    kept = np.ascontiguousarray(colors).tobytes()
    image = QImage(kept, columns, rows, 3 * columns, QImage.Format.Format_RGB888)
    return image.copy()  # The copy owns its pixels.


def brightness(plane: Plane, peak: float, scale: str) -> npt.NDArray[np.uint8]:
    """Return a plane as brightness, 255 at `peak`, on one of `SCALES`.

    Examples
    --------
    >>> brightness(np.array([[0, 1e-4, 0.01, 1]]), 1.0, "log").tolist()
    [[0, 0, 128, 255]]
    >>> brightness(np.array([[0, 0.25, 1]]), 1.0, "gamma 0.5").tolist()
    [[0, 128, 255]]
    """
    part = np.clip(plane / (peak or 1.0), 0, 1)
    if scale == "log":
        part = 1 + np.log10(np.maximum(part, 10.0**-DECADES)) / DECADES
    elif scale != "linear":
        part = np.sqrt(part)
    levels: npt.NDArray[np.uint8] = np.rint(255 * part).astype(np.uint8)
    return levels


def scale_bar_um(extent_um: float) -> float:
    """Return a round length that is a quarter to a half of an extent.

    Examples
    --------
    >>> [scale_bar_um(extent) for extent in (1.0, 2.1, 5.0, 30.0)]
    [0.5, 1.0, 2.0, 10.0]
    """
    power = 10 ** math.floor(math.log10(extent_um / 2))
    return float(max(step * power for step in (1, 2, 5) if step * power <= extent_um / 2))


class PsfViews(QWidget):
    """Shows `Planes` and lets the user choose how: brightness, and how closely."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.canvas = _Canvas()
        self.scale, self.reach = QComboBox(), QComboBox()
        self.scale.addItems(list(SCALES))
        self.scale.setCurrentText("gamma 0.5")
        self.scale.setToolTip(f"How intensity becomes brightness; log covers {DECADES} decades")
        self.reach.addItems([CLOSE, WIDE])
        self.reach.setToolTip("The middle of the PSF, or all that is computed for the picture")
        row = QHBoxLayout()
        row.addWidget(QLabel("Brightness"))
        for box in (self.scale, self.reach):
            box.currentIndexChanged.connect(self._show)
            row.addWidget(box, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas, 1)
        layout.addLayout(row)
        self._planes: Planes | None = None
        self._close_um: tuple[float, float] | None = None

    def value(self) -> Planes | None:
        """Return what is shown, None before anything is."""
        return self._planes

    def setValue(self, value: Planes | Psf) -> None:
        """Show a PSF, or its planes."""
        self._planes = Planes.of(value) if isinstance(value, Psf) else value
        self._close_um = steady(self._close_um, self._planes.close_um)
        self._show()

    def _show(self) -> None:
        if self._planes is None or self._close_um is None:
            return
        planes = self._planes
        if self.reach.currentText() == CLOSE:
            planes = replace(planes, close_um=self._close_um).cropped()
        self.canvas.show_planes(planes, self.scale.currentText())


class _Canvas(QWidget):
    """Paints xy, right of it yz, below it xz; in the corner a scale bar and the colours."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(320, 200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip("The planes through the centre, as sampled by the voxels; z points away")
        self._colors = [0xFF000000 | int(r) << 16 | int(g) << 8 | int(b) for r, g, b in color_map()]
        self._bar = self._image(np.tile(np.arange(256, dtype=np.uint8), (1, 1)))
        self._planes: Planes | None = None
        self._images: list[QImage] = []
        self._scale = SCALES[0]

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(320, 300)

    def show_planes(self, planes: Planes, scale: str) -> None:
        """Show these planes with this brightness."""
        peak = max(float(p.max()) for p in (planes.xy, planes.xz) if p is not None)
        shown = [planes.xy]
        if planes.xz is not None and planes.yz is not None:
            shown += [planes.yz.T, planes.xz]
        self._images = [self._image(brightness(plane, peak, scale)) for plane in shown]
        self._planes, self._scale = planes, scale
        self.update()

    def _image(self, levels: npt.NDArray[np.uint8]) -> QImage:
        kept = np.ascontiguousarray(levels)
        rows, columns = kept.shape
        image = QImage(kept.tobytes(), columns, rows, columns, QImage.Format.Format_Indexed8)
        image.setColorTable(self._colors)
        return image.copy()  # The copy owns its pixels.

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint the planes as large as they fit, all to one scale."""
        if self._planes is None:
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        z_um, y_um, x_um = self._planes.size_um()
        gap = GAP if z_um else 0.0
        zoom = min((self.width() - gap) / (x_um + z_um), (self.height() - gap) / (y_um + z_um))
        left = (self.width() - gap - zoom * (x_um + z_um)) / 2
        right, below = left + zoom * x_um + gap, zoom * y_um + gap
        places = (
            QRectF(left, 0, zoom * x_um, zoom * y_um),
            QRectF(right, 0, zoom * z_um, zoom * y_um),
            QRectF(left, below, zoom * x_um, zoom * z_um),
        )
        for image, place in zip(self._images, places, strict=False):
            painter.drawImage(place, image)
        painter.setFont(self._small())
        names = ("xy", "yz", "xz")
        for name, place in zip(names[: len(self._images)], places, strict=False):
            _write(painter, place.topLeft() + QPointF(4, 14), name)
            _paint_axes(painter, place, zoom, scale_bar_um(min(x_um, y_um)))
        if z_um:
            corner = QRectF(right, below, zoom * z_um, zoom * z_um)
            self._paint_legend(painter, corner, zoom)
        painter.end()

    def _small(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(max(font.pointSizeF() - 1, 7))
        return font

    def _paint_legend(self, painter: QPainter, corner: QRectF, zoom: float) -> None:
        """Paint what tells lengths and intensities: theme colours on the dock's ground."""
        length_um = scale_bar_um(corner.width() / zoom)
        x, y = corner.left() + 6, corner.top() + 18
        painter.setPen(QPen(self.palette().color(self.foregroundRole()), 3))
        painter.drawLine(QPointF(x, y), QPointF(x + zoom * length_um, y))
        painter.drawText(QPointF(x, y - 6), f"{length_um:g} um")
        if corner.height() < 70:
            return
        bar = QRectF(x, y + 12, corner.width() - 12, 8)
        painter.drawImage(bar, self._bar)
        ends = (f"1e-{DECADES}" if self._scale == "log" else "0", "peak")
        for end, side in zip(ends, ("AlignLeft", "AlignRight"), strict=True):
            flag = getattr(Qt.AlignmentFlag, side)
            painter.drawText(bar.translated(0, 10).adjusted(0, 0, 0, 8), int(flag), end)


def _paint_axes(painter: QPainter, place: QRectF, zoom: float, step_um: float) -> None:
    """Mark micrometres from the centre along the lower and the left side of a plane."""
    centre, pen = place.center(), painter.pen()
    painter.setPen(Qt.GlobalColor.white)
    for lower, side, middle, end in (
        (True, place.width(), centre.x(), place.bottom()),
        (False, place.height(), centre.y(), place.left()),
    ):
        most = int(side / 2 / zoom / step_um)
        for tick in range(-most, most + 1):
            at = middle + tick * step_um * zoom
            inner = QPointF(at, end - 5) if lower else QPointF(end + 5, at)
            painter.drawLine(QPointF(at, end - 1) if lower else QPointF(end, at), inner)
        if lower:
            _number_axis(painter, place, middle, zoom, step_um)
    painter.setPen(pen)


def _number_axis(
    painter: QPainter, place: QRectF, middle: float, zoom: float, step_um: float
) -> None:
    """Write the first step below its mark, and 0 where that leaves room."""
    metrics, base = painter.fontMetrics(), place.bottom() - 7
    text = f"{step_um:g} um"
    first = min(middle + step_um * zoom - 4, place.right() - metrics.horizontalAdvance(text) - 1)
    painter.drawText(QPointF(first, base), text)
    if middle + metrics.horizontalAdvance("0") + 2 < first:
        painter.drawText(QPointF(middle - 4, base), "0")


def _write(painter: QPainter, place: QPointF, text: str) -> None:
    """Write on a plane: its corner is dark, whatever the theme."""
    pen = painter.pen()
    painter.setPen(Qt.GlobalColor.white)
    painter.drawText(place, text)
    painter.setPen(pen)
