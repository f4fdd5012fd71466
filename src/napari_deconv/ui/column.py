"""A column of widgets that scrolls up and down, never sideways."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget


class ScrollingColumn(QScrollArea):
    """Stacks widgets, and stays as wide as the widest of them needs."""

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 4, 4, 0)
        for widget in widgets:
            column.addWidget(widget)
        column.addStretch()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)
        content.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the content's width: it changes with the theme's style and what is shown."""
        content, bar = self.widget(), self.verticalScrollBar()
        if event is not None and event.type() == QEvent.Type.LayoutRequest and content and bar:
            self.setMinimumWidth(content.minimumSizeHint().width() + bar.sizeHint().width())
        return super().eventFilter(watched, event)
