"""What is seen of a training: its two losses as curves, and a region raw, restored, and learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from .colors import AMBER
from .psf_views import brightness, color_map, picture

Plane = npt.NDArray[np.floating[Any]]

#: Part of the way that the shown loss goes towards the loss of each new step: one batch is not all.
FOLLOWS = 0.05
GAP, HEAD = 4, 18
#: Brightest part of a plane that may be clipped, in percent.
CLIPPED = 0.2


@dataclass(frozen=True)
class Losses:
    """The losses so far.

    Parameters
    ----------
    learned : tuple of float
        Of each step, smoothed.
    left_out : tuple of (int, float)
        Step and loss of each look at the pairs that were left out.
    """

    learned: tuple[float, ...] = ()
    left_out: tuple[tuple[int, float], ...] = ()

    def followed_by(self, step: int, loss: float, left_out: float | None) -> Losses:
        """Return the losses after one more step."""
        before = self.learned[-1] if self.learned else loss
        learned = (*self.learned, before + FOLLOWS * (loss - before))
        is_new = left_out is not None and (not self.left_out or self.left_out[-1][1] != left_out)
        looks = (*self.left_out, (step, float(left_out or 0))) if is_new else self.left_out
        return Losses(learned, looks)


class LossView(QWidget):
    """Shows `Losses` on a logarithmic axis: of what it learns from, and of what is left out."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._losses = Losses()
        self.setMinimumHeight(90)
        self.setToolTip(
            "Loss per step: thin on what the network learns from, amber on pairs that it never "
            "learns from. Where the amber line no longer falls, more steps do not help"
        )

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(300, 100)

    def value(self) -> Losses:
        """Return what is shown."""
        return self._losses

    def setValue(self, value: Losses) -> None:
        """Show these losses."""
        self._losses = value
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint both curves to one scale."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        painter.setPen(QPen(text, 1))
        learned, looks = self._losses.learned, self._losses.left_out
        values = [value for value in (*learned, *(v for _, v in looks)) if value > 0]
        if len(values) < 2:
            painter.drawText(self.rect().adjusted(4, 4, -4, -4), 0, "loss per step")
            painter.end()
            return
        low, high = math.log10(min(values)), math.log10(max(values))
        box = QRectF(8, 17, self.width() - 16, self.height() - 34)

        def point(step: float, value: float) -> QPointF:
            along = (step - 1) / max(len(learned) - 1, 1)
            down = (high - math.log10(max(value, 1e-12))) / max(high - low, 1e-9)
            return QPointF(box.left() + box.width() * along, box.top() + box.height() * down)

        stride = max(len(learned) // max(int(box.width()), 1), 1)
        curve = [point(i + 1, learned[i]) for i in range(0, len(learned), stride)]
        painter.drawPolyline(QPolygonF(curve))
        painter.drawText(8, 13, f"loss {learned[-1]:.3g} after {len(learned)} steps")
        painter.setPen(QPen(QColor(AMBER), 2))
        painter.drawPolyline(QPolygonF([point(step, value) for step, value in looks]))
        if looks:
            ending = f"left out {looks[-1][1]:.3g}, best {min(v for _, v in looks):.3g}"
            width = painter.fontMetrics().horizontalAdvance(ending)
            painter.drawText(self.width() - 8 - width, self.height() - 4, ending)
        painter.end()


@dataclass(frozen=True, eq=False)
class Pictures:
    """A region in several states, each of the same shape.

    Parameters
    ----------
    named : tuple of (str, ndarray)
        Title and voxels, (Z, Y, X) or (Y, X); shown is the plane that is brightest in the last.
    """

    named: tuple[tuple[str, Plane], ...]

    def planes(self) -> tuple[tuple[str, Plane], ...]:
        """Return the plane of each, all of one height: the one with the brightest detail."""
        last = self.named[-1][1]
        if last.ndim == 2:
            return self.named
        index = int(np.argmax(last.max(axis=(1, 2))))
        return tuple((name, volume[index]) for name, volume in self.named)


class PicturesView(QWidget):
    """Shows `Pictures` side by side, each to its own brightest voxels."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._planes: tuple[tuple[str, Plane], ...] = ()
        self.setMinimumSize(320, 130)
        self.setToolTip(
            "One plane of the region around what the viewer shows: as recorded, restored by "
            "Richardson-Lucy with an automatic stop, and by the network as it is now"
        )

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(340, 140)

    def value(self) -> tuple[tuple[str, Plane], ...]:
        """Return the titles and planes that are shown."""
        return self._planes

    def setValue(self, value: Pictures) -> None:
        """Show these."""
        self._planes = value.planes()
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint the planes as large as they fit."""
        if not self._planes:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self.palette().color(self.foregroundRole()))
        width = (self.width() - GAP * (len(self._planes) - 1)) / len(self._planes)
        for column, (title, plane) in enumerate(self._planes):
            left = column * (width + GAP)
            head = QRectF(left, 0, width, HEAD)
            painter.drawText(head, int(Qt.AlignmentFlag.AlignCenter), title)
            rows, columns = plane.shape
            zoom = min(width / columns, (self.height() - HEAD) / rows)
            place = QRectF(left + (width - zoom * columns) / 2, HEAD, zoom * columns, zoom * rows)
            low, peak = float(np.median(plane)), float(np.percentile(plane, 100 - CLIPPED))
            levels = brightness(np.maximum(plane - low, 0), max(peak - low, 1e-9), "gamma 0.5")
            painter.drawImage(place, picture(color_map()[levels]))
        painter.end()
