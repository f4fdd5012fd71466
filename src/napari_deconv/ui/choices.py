"""Boxes to choose from: as narrow as the dock allows, and true to what was chosen."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox

#: A long name must not widen the dock.
NARROW = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon


def offer(box: QComboBox, names: list[str]) -> bool:
    """Offer these names, silently; return whether the one that was chosen is still there."""
    kept = box.currentText()
    box.blockSignals(True)
    box.clear()
    box.addItems(names)
    if kept in names:
        box.setCurrentText(kept)
    box.blockSignals(False)
    return box.currentText() == kept
