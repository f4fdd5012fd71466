"""Panel for the likelihood per iteration, as a small curve."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, QSize
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from .colors import AMBER


class CurvePanel(QWidget):
    """Shows the I-divergence of each iteration on a logarithmic axis; lower is closer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._values: tuple[float, ...] = ()
        self.setMinimumHeight(70)
        self.setToolTip(
            "I-divergence per voxel between the data and the blurred result, per iteration: "
            "falls steeply at first; where it is flat, more iterations mostly add noise"
        )

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(280, 70)

    def value(self) -> tuple[float, ...]:
        """Return what is shown."""
        return self._values

    def setValue(self, values: tuple[float, ...]) -> None:
        """Show these values, first iteration first."""
        self._values = tuple(values)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the curve in amber, with its ends as numbers in the theme's colour."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        painter.setPen(QPen(text, 1))
        positive = [value for value in self._values if value > 0]
        if len(positive) < 2:
            painter.drawText(self.rect().adjusted(4, 4, -4, -4), 0, "likelihood per iteration")
            painter.end()
            return
        logs = [math.log10(value) for value in positive]
        low, span = min(logs), max(max(logs) - min(logs), 1e-9)
        width, height, margin = self.width() - 16, self.height() - 34, 17
        points = [
            QPointF(8 + width * i / (len(logs) - 1), margin + height * (1 - (v - low) / span))
            for i, v in enumerate(logs)
        ]
        painter.drawText(8, 13, f"I-divergence {positive[0]:.3g}")
        ending = f"{positive[-1]:.3g} after {len(positive)} iterations"
        painter.drawText(
            self.width() - 8 - painter.fontMetrics().horizontalAdvance(ending),
            self.height() - 4,
            ending,
        )
        painter.setPen(QPen(QColor(AMBER), 2))
        painter.drawPolyline(QPolygonF(points))
        painter.end()
