"""Panel for the counts along a line, raw and restored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from .colors import AMBER

Line = npt.NDArray[np.float32]


class ProfilePanel(QWidget):
    """Draws two lines of counts over one another, each from 0 to its own maximum."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._raw: Line = np.zeros(0, np.float32)
        self._restored: Line = np.zeros(0, np.float32)
        self._step_um: float | None = None
        self.setMinimumHeight(84)
        self.setToolTip(
            "Counts along x through the middle of the region: raw less background (dotted) and "
            "restored (amber), each scaled to its own maximum"
        )

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(280, 84)

    def value(self) -> tuple[Line, Line, float | None]:
        """Return what is shown: raw, restored, and the pixel in um."""
        return self._raw, self._restored, self._step_um

    def setValue(self, raw: Line, restored: Line, step_um: float | None) -> None:
        """Show two lines of the same pixels."""
        self._raw, self._restored, self._step_um = raw, restored, step_um
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw both lines, raw in the theme's colour, with their maxima and the length."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        painter.setPen(QPen(text, 1))
        if len(self._restored) < 2:
            painter.drawText(self.rect().adjusted(4, 4, -4, -4), 0, "counts along x")
            painter.end()
            return
        length = len(self._restored) * (self._step_um or 1.0)
        unit = "um" if self._step_um else "pixels"
        raw, restored = float(self._raw.max()), float(self._restored.max())
        maxima = f"raw to {raw:.3g} (dotted), restored to {restored:.3g} (amber)"
        painter.drawText(8, 13, maxima)
        ending = f"counts along x, {length:.3g} {unit}"
        advance = painter.fontMetrics().horizontalAdvance(ending)
        painter.drawText(self.width() - 8 - advance, self.height() - 4, ending)
        painter.setPen(QPen(text, 1, Qt.PenStyle.DotLine))
        painter.drawPolyline(self._polygon(self._raw))
        painter.setPen(QPen(QColor(AMBER), 2))
        painter.drawPolyline(self._polygon(self._restored))
        painter.end()

    def _polygon(self, line: Line) -> QPolygonF:
        top = max(float(line.max()), 1e-30)
        width, height = self.width() - 16, self.height() - 38
        return QPolygonF(
            [
                QPointF(8 + width * i / (len(line) - 1), 19 + height * (1 - max(float(v), 0) / top))
                for i, v in enumerate(line)
            ]
        )
