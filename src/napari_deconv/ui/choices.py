"""Boxes to choose from: as narrow as the dock allows, and true to what was chosen."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QWidget

#: A long name must not widen the dock.
NARROW = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon


def offer(box: QComboBox, names: list[str], *, another: bool = True) -> bool:
    """Offer these names, silently; return whether what was chosen is still there.

    Where just one name is new in place of another, that is a new name for the same. With
    `another`, the first gives way for what is gone; without it, nothing is chosen then.
    """
    before, kept = [box.itemText(i) for i in range(box.count())], box.currentText()
    gone, new = set(before) - set(names), set(names) - set(before)
    renamed = len(gone) == len(new) == 1 and len(before) == len(names) and kept in gone
    wanted = new.pop() if renamed else kept
    was_none = bool(before) and box.currentIndex() < 0
    box.blockSignals(True)
    box.clear()
    box.addItems(names)
    if wanted in names:
        box.setCurrentText(wanted)
    elif not another and (kept or was_none):
        box.setCurrentIndex(-1)
    box.blockSignals(False)
    return box.currentText() == wanted


class LayerBox(QComboBox):
    """Offers layers by name; `currentTextChanged` tells of another one."""

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(NARROW)
        self.setToolTip(tip)

    def set_layers(self, names: list[str]) -> None:
        """Offer these layers; one that is gone gives way to the first."""
        if not offer(self, names):
            self.currentTextChanged.emit(self.currentText())
