"""Panel for the channels and times of a stack: which are restored, and what each channel emits."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import InputError, require

from .optics_fields import folded


@dataclass(frozen=True)
class Chosen:
    """Channels and times to restore, counted from 0, empty for all; and each channel's optics.

    `optics` is empty where one PSF serves all channels.
    """

    channels: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    optics: tuple[KnownOptics, ...] = ()


class ChannelsPanel(QWidget):
    """Edits `Chosen`, where the stack has channels or times; both are typed counted from 1."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fields = {"C": QLineEdit(), "T": QLineEdit()}
        self.own = QCheckBox()
        self.own.setChecked(True)
        self.own.setToolTip(
            "Each channel gets the PSF of its own wavelengths, as the file tells them; "
            "otherwise the PSF below serves all channels"
        )
        # The wavelengths of many channels must not widen the dock.
        self.own.setMinimumWidth(60)
        self.own.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._counts: dict[str, int] = {}
        self._known: tuple[KnownOptics, ...] = ()
        page = QWidget()
        self._form = QFormLayout(page)
        self._form.setContentsMargins(0, 0, 0, 0)
        for (axis, field), words in zip(self.fields.items(), WORDS.values(), strict=True):
            field.setToolTip(f"{words} to restore, as 1, 3-5, counted from 1; empty: all")
            field.editingFinished.connect(self._edited)
            self._form.addRow(words, field)
            self._counts[axis] = 1
        self._form.addRow(self.own)
        self.own.toggled.connect(self.valueChanged)
        self.section = folded("Channels and times", page)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.section)
        self._told = ("", "")
        self.show_axes({})

    def value(self) -> Chosen:
        """Return what is chosen; `InputError` where a text is no list of numbers that are there."""
        channels, times = (
            numbers_of(field.text(), self._counts[axis], WORDS[axis])
            for axis, field in self.fields.items()
        )
        return Chosen(channels, times, self.known if self.own.isChecked() else ())

    @property
    def known(self) -> tuple[KnownOptics, ...]:
        """What the file says of each channel; empty where it does not, or there is but one."""
        return self._known if len(self._known) == self._counts["C"] > 1 else ()

    def setValue(self, value: Chosen) -> None:
        """Show `value`; what the file says of the optics stays."""
        for axis, numbers in (("C", value.channels), ("T", value.times)):
            self.fields[axis].setText(text_of(numbers))
        self.own.setChecked(bool(value.optics))
        self._edited()

    def show_axes(self, counts: dict[str, int]) -> None:
        """Offer the channels and times that there are, by their letters; new counts: all."""
        for axis, field in self.fields.items():
            count = counts.get(axis, 1)
            if count != self._counts[axis] or count == 1:
                field.clear()  # with one there is nothing to choose, and nothing to see of it
            self._counts[axis] = count
            field.setPlaceholderText(f"all of 1-{count}")
            self._form.setRowVisible(field, count > 1)
        self._told = (self.fields["C"].text(), self.fields["T"].text())
        self.setVisible(max(self._counts.values()) > 1)
        self._show_own()

    def show_known(self, known: tuple[KnownOptics, ...]) -> None:
        """Say what each channel emits, where the file knows it."""
        self._known = known if all(k.emission_nm for k in known) else ()
        self.own.setChecked(True)
        self._show_own()

    def _show_own(self) -> None:
        waves = ", ".join(f"{k.emission_nm:g}" for k in self.known)
        self.own.setText(f"emission {waves} nm (from the file)")
        self._form.setRowVisible(self.own, bool(self.known))
        if self.known:
            self.section.expand(animate=False)

    def _edited(self) -> None:
        """Tell of a new text; a field that was merely left says so as well."""
        texts = (self.fields["C"].text(), self.fields["T"].text())
        if texts != self._told:
            self._told = texts
            self.valueChanged.emit()


WORDS = {"C": "Channels", "T": "Times"}


def numbers_of(text: str, count: int, what: str) -> tuple[int, ...]:
    """Return the numbers, counted from 0, in a text that counts from 1; empty for all.

    Raises
    ------
    InputError
        If it is no list of numbers and ranges, or one is not there.

    Examples
    --------
    >>> numbers_of("1, 3-5", 6, "Times")
    (0, 2, 3, 4)
    """
    found: set[int] = set()
    for part in text.replace(";", ",").split(","):
        if not part.strip():
            continue
        try:
            ends = [int(end) for end in part.split("-")]
            first, last = ends if len(ends) == 2 else (*ends, *ends)
        except ValueError:
            raise InputError(
                f"{what}: write numbers and ranges, as 1, 3-5, not {part.strip()!r}"
            ) from None
        require(
            1 <= first <= last <= count,
            f"{what} are counted from 1 to {count}; {part.strip()} is not among them",
        )
        found |= set(range(first - 1, last))
    return () if len(found) == count else tuple(sorted(found))


def text_of(numbers: tuple[int, ...]) -> str:
    """Return numbers counted from 0 as a text that counts from 1.

    Examples
    --------
    >>> text_of((0, 2, 3, 4))
    '1, 3-5'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a + 1}" if a == b else f"{a + 1}-{b + 1}" for a, b in runs)
