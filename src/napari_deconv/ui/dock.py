"""What all docks share: they end with the window, and when napari takes them out of it."""

from __future__ import annotations

from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QPushButton, QWidget

from .canvas import survive_removals
from .jobs import Job

#: Property of a button that keeps its tip while the tip says why it cannot be pressed.
USUAL_TIP = "usual tip"
#: Why a button cannot be pressed during a run.
BUSY = "Something runs already: wait for its end, or cancel it"


class Dock(QWidget):
    """A dock that stops what it started when it goes.

    Parameters
    ----------
    viewer : Viewer
    parent : QWidget, optional
    """

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        survive_removals(viewer)

    def take_along(self, *jobs: Job) -> None:
        """Cancel these when the window closes: it takes its docks along, and tells them nothing."""
        for job in jobs:
            self.destroyed.connect(job.cancel)

    def stop(self) -> None:
        """Stop what still runs, at its next step, and listen no longer."""
        raise NotImplementedError

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Stop when the window closes."""
        self.stop()
        super().closeEvent(event)

    def changeEvent(self, event: QEvent | None) -> None:
        """Stop when napari removes the dock: it then loses its parent."""
        lost = event is not None and event.type() == QEvent.Type.ParentChange
        if lost and self.parent() is None:
            self.stop()
        super().changeEvent(event)


def allow(button: QPushButton, refusal: str) -> None:
    """Let a button be pressed, unless there is a refusal: its tip then says that."""
    if button.property(USUAL_TIP) is None:
        button.setProperty(USUAL_TIP, button.toolTip())
    button.setEnabled(not refusal)
    button.setToolTip(refusal or button.property(USUAL_TIP))
