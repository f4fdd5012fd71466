"""Panel for the live preview: on or off, what is seen, and a line through it."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from .preview import KEY, Shown
from .profile_panel import ProfilePanel


class PreviewPanel(QWidget):
    """Edits whether a region is restored as the settings change."""

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
        self.profile = ProfilePanel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.check, self.note, self.profile):
            layout.addWidget(widget)
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
