"""Panel for pairs of layers: a row for each, and a button for one more."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QToolButton, QVBoxLayout, QWidget

from .choices import NARROW

#: Two layers by their names: an image, and its truth or its second recording.
Names = tuple[str, str]


class PairBox(QComboBox):
    """Offers layers by name, none of them at first.

    What was chosen stays where its layer is gone: another one must not take its place unasked.
    """

    def __init__(self, placeholder: str, tip: str) -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.setSizeAdjustPolicy(NARROW)
        self._tip = tip
        self.currentTextChanged.connect(self._tell)
        self._tell("")

    def _tell(self, name: str) -> None:
        """Tell the whole name, of which a narrow box shows the beginning."""
        self.setToolTip(f"{name}: {self._tip}" if name else self._tip)

    def showPopup(self) -> None:
        """Offer the names as wide as they are."""
        view = self.view()
        if view is not None:
            bar = view.verticalScrollBar()
            beside = bar.sizeHint().width() if bar is not None else 0
            view.setMinimumWidth(view.sizeHintForColumn(0) + beside)
        super().showPopup()

    def set_layers(self, names: Sequence[str]) -> None:
        """Offer layers, silently."""
        kept = self.currentText()
        self.blockSignals(True)
        self.clear()
        self.addItems(list(names))
        self.choose(kept)
        self.blockSignals(False)

    def choose(self, name: str) -> None:
        """Choose a layer, also one that is not offered; none by an empty name."""
        if name and self.findText(name) < 0:
            self.addItem(name)
        self.setCurrentIndex(self.findText(name) if name else -1)


class PairsPanel(QWidget):
    """Edits pairs of layers, a tuple of `Names`."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._names: tuple[str, ...] = ()
        self.rows: list[PairRow] = []
        self.add_button = QPushButton("Add pair")
        self.add_button.setToolTip("Learn from two more layers")
        self.add_button.clicked.connect(self._add_asked)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.add_button)

    def set_layers(self, names: Sequence[str]) -> None:
        """Offer layers in each row."""
        self._names = tuple(names)
        for row in self.rows:
            row.set_layers(self._names)

    def value(self) -> tuple[Names, ...]:
        """Return the names of the layers; an empty one where none is chosen yet."""
        return tuple(row.value() for row in self.rows)

    def setValue(self, value: Sequence[Names]) -> None:
        """Show pairs."""
        for row in tuple(self.rows):
            self._take_away(row)
        for names in value:
            self._add(names)
        self.valueChanged.emit()

    def _add_asked(self) -> None:
        self._add(("", ""))
        self.valueChanged.emit()

    def _add(self, names: Names) -> None:
        row = PairRow(names)
        row.set_layers(self._names)
        row.valueChanged.connect(self.valueChanged)
        row.remove_button.clicked.connect(lambda: self._remove_asked(row))
        self._column.insertWidget(len(self.rows), row)
        self.rows.append(row)

    def _remove_asked(self, row: PairRow) -> None:
        self._take_away(row)
        self.valueChanged.emit()

    def _take_away(self, row: PairRow) -> None:
        self.rows.remove(row)
        self._column.removeWidget(row)
        row.hide()
        row.deleteLater()


class PairRow(QWidget):
    """Edits the `Names` of one pair."""

    valueChanged = Signal()

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.image = PairBox("image", "An image as it was recorded, blurred by the same PSF")
        self.other = PairBox("second layer", "Its truth, or the same sample recorded once more")
        self.remove_button = QToolButton()
        self.remove_button.setText("×")
        self.remove_button.setToolTip("Remove this pair")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for box, name in zip((self.image, self.other), names, strict=True):
            box.choose(name)
            box.currentIndexChanged.connect(self.valueChanged)
            row.addWidget(box, 1)
        row.addWidget(self.remove_button)

    def set_layers(self, names: Sequence[str]) -> None:
        """Offer layers, silently."""
        for box in (self.image, self.other):
            box.set_layers(names)

    def value(self) -> Names:
        """Return the names of both layers."""
        return self.image.currentText(), self.other.currentText()
