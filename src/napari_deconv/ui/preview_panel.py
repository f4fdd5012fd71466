"""Panel for the live preview: on or off, and what is seen; a line through it is put elsewhere."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QWidget

from .preview import KEY
from .preview_stages import Shown
from .profile_panel import ProfilePanel

#: Lines of text beside the check.
NOTE_LINES = 2


class PreviewPanel(QWidget):
    """Edits whether a region is restored as the settings change.

    It is one row, to stay in sight; the dock places its `profile` where there is more room.
    """

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.check = QCheckBox("Live preview")
        self.check.setToolTip(
            "Restore a region as the settings change; click into the image to move it, or move "
            "its rectangle"
        )
        self.note = QLabel()
        self.note.setWordWrap(True)
        # Of one height for most notes: what is above must not move as they change.
        self.note.setMinimumHeight(NOTE_LINES * self.fontMetrics().lineSpacing())
        self.profile = ProfilePanel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.check)
        row.addWidget(self.note, 1)
        self._switched(False)
        self.check.toggled.connect(self._switched)

    def value(self) -> bool:
        """Return whether the preview is on."""
        return self.check.isChecked()

    def setValue(self, value: bool) -> None:
        """Switch the preview on or off."""
        self.check.setChecked(value)

    def say(self, note: str) -> None:
        """Show what is seen, or why nothing is."""
        self.note.setText(note)

    def show_line(self, shown: Shown) -> None:
        """Show the counts along x through the middle of the region."""
        if shown.restored is not None:
            self.profile.setValue(shown.raw, shown.restored, shown.step_um)

    def _switched(self, on: bool) -> None:
        self.note.setText(f"hold {KEY} for the raw image; click to move" if on else "")
        self.note.setVisible(on)
        self.profile.setVisible(on)
        self.valueChanged.emit()
