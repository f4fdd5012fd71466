"""Panel for what a network learns from, and from where it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSpinBox, QWidget

from .choices import NARROW
from .pairs_panel import Names, PairBox, PairsPanel

#: What can be learned from, as the panel offers it.
SIMULATED, HALVES, LAYER, AGAIN = "simulated", "halves", "layer", "again"
SOURCES = {
    SIMULATED: "pairs simulated with the PSF",
    HALVES: "and from the photons of this stack",
    LAYER: "a layer that holds the truth",
    AGAIN: "and from a layer recorded once more",
}
#: What becomes of recorded volumes.
PARTS = (
    "One volume is cut into pairs; where there are several, of other times, channels or layers, "
    "each is a pair"
)
HINTS = {
    SIMULATED: "Random structures, blurred with the PSF, with the noise of the camera",
    HALVES: "Beside simulated pairs: the photons of the stack are dealt out to two images, and "
    "what becomes of one, blurred again, must meet the other",
    LAYER: f"The same sample, recorded far better. {PARTS}",
    AGAIN: "Beside simulated pairs: the same sample recorded twice; what becomes of one, blurred "
    f"again, must meet the other. {PARTS}",
}
MOST_MEMBERS = 8


@dataclass(frozen=True)
class SourceChoice:
    """What a network learns from.

    Parameters
    ----------
    source : str
        One of `SOURCES`.
    layer : str
        Name of the layer that holds the truth, or the second recording.
    members : int
        Networks that are trained, and answer together.
    goes_on : bool
        Whether training starts from the weights of the model that is chosen.
    more : tuple of (str, str)
        Names of further pairs of layers: an image, and its truth or second recording. The first
        pair is the image that is chosen, and `layer`.
    """

    source: str = SIMULATED
    layer: str = ""
    members: int = 1
    goes_on: bool = False
    more: tuple[Names, ...] = ()


class SourcePanel(QWidget):
    """Edits a `SourceChoice`."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = QComboBox()
        for name, title in SOURCES.items():
            self.source.addItem(title, name)
            self.source.setItemData(self.source.count() - 1, HINTS[name], 3)  # its tool tip
        self.source.setSizeAdjustPolicy(NARROW)
        self.layer = PairBox("choose a layer", "What belongs to the image that is chosen above")
        self.more = PairsPanel()
        for box in (self.source, self.layer):
            box.currentIndexChanged.connect(self._changed)
        self.more.valueChanged.connect(self.valueChanged)
        self.members = QSpinBox()
        self.members.setRange(1, MOST_MEMBERS)
        self.members.setToolTip(
            "Several networks, one trained after the other, answer together; where they disagree, "
            "none is to be believed. Each takes the time of one"
        )
        self.members.valueChanged.connect(self.valueChanged)
        self.goes_on = QCheckBox("from the model that is opened")
        self.goes_on.setToolTip(
            "Fine-tuning: training begins with the weights of that model, and the result is kept "
            "in a new file beside it"
        )
        self.goes_on.toggled.connect(self.valueChanged)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("From", self.source)
        form.addRow("Layer", self.layer)
        form.addRow("More pairs", self.more)
        form.addRow("Start", self.goes_on)
        form.addRow("Members", self.members)
        self._changed()

    def _changed(self) -> None:
        source = self.source.currentData()
        self.source.setToolTip(HINTS[source])
        for widget in (self.layer, self.more):
            widget.setEnabled(source in (LAYER, AGAIN))
        self.valueChanged.emit()

    def set_layers(self, names: Sequence[str]) -> None:
        """Offer layers, and keep those that are chosen."""
        self.layer.set_layers(names)
        self.more.set_layers(names)

    def value(self) -> SourceChoice:
        """Return what is chosen."""
        source = self.source.currentData()
        members, goes_on = self.members.value(), self.goes_on.isChecked()
        if source not in (LAYER, AGAIN):
            return SourceChoice(source, "", members, goes_on)
        return SourceChoice(source, self.layer.currentText(), members, goes_on, self.more.value())

    def setValue(self, value: SourceChoice) -> None:
        """Show what is chosen."""
        self.blockSignals(True)
        self.source.setCurrentIndex(self.source.findData(value.source))
        self.layer.choose(value.layer)
        self.more.setValue(value.more)
        self.members.setValue(value.members)
        self.goes_on.setChecked(value.goes_on)
        self.blockSignals(False)
        self.valueChanged.emit()
