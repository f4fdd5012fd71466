"""Pictures of a tip: its profile, and how its estimate depends on a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_deconv.afm.tip_fit import profile
from napari_deconv.afm.tips import Tip, reflected

from .colors import AMBER

MARGIN, TEXT = 8, 15


class TipProfile(QWidget):
    """Draws a tip from the side, as it stands above the sample: along x, and along y dotted."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tip: Tip | None = None
        self._title = ""
        self.setMinimumHeight(120)
        self.setToolTip(
            "The tip from the side, heights and widths to one scale where they fit: along x "
            "(amber) and along y (dotted). Above the sample it stands the other way round than "
            "the array that is stored, which is reflected through the apex"
        )

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(280, 130)

    def value(self) -> Tip | None:
        """Return the tip that is shown."""
        return self._tip

    def setValue(self, tip: Tip | None, title: str = "") -> None:
        """Show a tip and a word about it."""
        self._tip, self._title = tip, title
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw both profiles, and how wide and high the picture is."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        painter.setPen(QPen(text, 1))
        if self._tip is None:
            painter.drawText(self.rect().adjusted(4, 4, -4, -4), 0, "profile of the tip")
            painter.end()
            return
        standing = reflected(self._tip)
        lines = [(at, -heights) for at, heights in (profile(standing, axis) for axis in "yx")]
        wide = max(float(np.abs(at).max()) for at, _ in lines) or 1.0
        high = max(float(depth.max()) for _, depth in lines) or 1.0
        box = QRectF(MARGIN, TEXT + 2, self.width() - 2 * MARGIN, self.height() - 2 * TEXT - 6)
        for (at, depth), pen in zip(
            lines, (QPen(text, 1, Qt.PenStyle.DotLine), QPen(QColor(AMBER), 2)), strict=True
        ):
            painter.setPen(pen)
            painter.drawPolyline(
                QPolygonF(
                    [
                        QPointF(
                            box.center().x() + box.width() / 2 * float(x) / wide,
                            box.bottom() - box.height() * float(z) / high,
                        )
                        for x, z in zip(at, depth, strict=True)
                    ]
                )
            )
        painter.setPen(QPen(text, 1))
        painter.drawText(MARGIN, TEXT - 3, self._title)
        told = f"{2 * wide:.3g} nm wide, {high:.3g} nm high"
        advance = painter.fontMetrics().horizontalAdvance(told)
        painter.drawText(self.width() - MARGIN - advance, self.height() - 4, told)
        painter.end()


class SweepView(QWidget):
    """Draws how blunt tips are near their apex, by threshold, and the one that was taken."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._thresholds: tuple[float, ...] = ()
        self._depths: tuple[float, ...] = ()
        self._chosen: float | None = None
        self.setMinimumHeight(90)
        self.setToolTip(
            "For each threshold a tip is estimated: the curve tells how far it rises near its "
            "apex. Where the threshold is too low it falls to a needle, for noise reads as "
            "sharpness. The line marks the threshold that was taken, above that fall"
        )

    def sizeHint(self) -> QSize:
        """Return the size it likes."""
        return QSize(280, 100)

    def value(self) -> tuple[tuple[float, ...], tuple[float, ...], float | None]:
        """Return what is shown."""
        return self._thresholds, self._depths, self._chosen

    def setValue(
        self, thresholds: Sequence[float], depths: Sequence[float], chosen: float | None
    ) -> None:
        """Show depths near the apex by threshold, both in nm."""
        self._thresholds, self._depths = tuple(thresholds), tuple(depths)
        self._chosen = chosen
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the curve and the line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        painter.setPen(QPen(text, 1))
        if len(self._thresholds) < 2:
            painter.drawText(
                self.rect().adjusted(4, 4, -4, -4), 0, "depth near the apex, by threshold"
            )
            painter.end()
            return
        low, high = self._thresholds[0], self._thresholds[-1]
        most = max(*self._depths, 1e-12)
        width, height = self.width() - 2 * MARGIN, self.height() - 2 * TEXT - 6

        def place(threshold: float, depth: float) -> QPointF:
            across = (threshold - low) / max(high - low, 1e-12)
            return QPointF(MARGIN + width * across, TEXT + 2 + height * (1 - depth / most))

        painter.drawText(MARGIN, TEXT - 3, f"depth near the apex, up to {most:.3g} nm")
        told = f"thresholds {low:.3g} to {high:.3g} nm"
        if self._chosen is not None:
            told += f", taken {self._chosen:.3g} nm"
            line = QPen(text, 1, Qt.PenStyle.DashLine)
            painter.setPen(line)
            painter.drawLine(place(self._chosen, 0), place(self._chosen, most))
            painter.setPen(QPen(text, 1))
        advance = painter.fontMetrics().horizontalAdvance(told)
        painter.drawText(self.width() - MARGIN - advance, self.height() - 4, told)
        painter.setPen(QPen(QColor(AMBER), 2))
        points = [place(t, r) for t, r in zip(self._thresholds, self._depths, strict=True)]
        painter.drawPolyline(QPolygonF(points))
        painter.end()
