"""Objectives by name: those of the catalogue, and the user's own in a file of the settings."""

from __future__ import annotations

import json
from pathlib import Path

from qtpy.QtCore import QStandardPaths, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_deconv.imaging.catalogue import OBJECTIVES, Objective
from napari_deconv.imaging.value import InputError, first_line, require
from napari_deconv.imaging.whole_file import replacing

from .choices import NARROW, offer
from .optics_fields import OTHER


def presets_file() -> Path:
    """Return the file of the user's objectives: beside napari's own settings."""
    from napari.settings import get_settings

    settings = get_settings().config_path
    place = QStandardPaths.StandardLocation.GenericConfigLocation
    folder = Path(settings).parent if settings else Path(QStandardPaths.writableLocation(place))
    return folder / "napari-deconv" / "objectives.json"


def read_objectives(path: Path) -> dict[str, Objective]:
    """Return the user's objectives by name, none where there is no file.

    Raises
    ------
    InputError
        If the file cannot be read or does not hold objectives.
    """
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        require(isinstance(data, dict), "it is no list of names")
        return {name: Objective.from_dict(entry) for name, entry in data.items()}
    except (OSError, ValueError) as error:
        raise InputError(
            f"The file of your objectives cannot be used ({first_line(error)}); mend or remove "
            f"{path}"
        ) from error


def write_objectives(path: Path, objectives: dict[str, Objective]) -> None:
    """Replace the file of the user's objectives, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    plain = {name: objective.to_dict() for name, objective in objectives.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps(plain, indent=2, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The objective cannot be kept in {path} ({first_line(error)}); check the folder"
        ) from error


class _Names(QComboBox):
    """Tells that it opens: another dock may have kept a preset meanwhile."""

    opened = Signal()

    def showPopup(self) -> None:
        """Open."""
        self.opened.emit()
        super().showPopup()


class ObjectiveBox(QWidget):
    """Offers objectives by name; keeps those that the user names, and removes them.

    `chosen` tells the objective that was picked, `saveAsked` the name under which the one that
    is shown is to be kept.
    """

    chosen = Signal(object)
    saveAsked = Signal(str)

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self._path = path or presets_file()
        self.names = _Names()
        self.names.setSizeAdjustPolicy(NARROW)
        self.names.setToolTip("Sets NA, immersion, magnification and working distance")
        self.name = QLineEdit()
        self.name.setPlaceholderText("name of the preset, then Enter")
        self.name.hide()
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.hide()
        row = QHBoxLayout()
        row.addWidget(self.names, 1)
        row.addWidget(self._menu_button())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.name)
        layout.addWidget(self.problem)
        self.names.opened.connect(self._read)
        self.names.textActivated.connect(self._picked)
        self.name.returnPressed.connect(lambda: self.saveAsked.emit(self.name.text().strip()))
        self._read()

    def _menu_button(self) -> QPushButton:
        self.menu = QMenu(self)
        self.menu.addAction("Save as preset...", self._ask_name)
        self.menu.addAction("Delete preset", self.delete)
        button = QPushButton("...")
        button.setFixedWidth(28)
        button.setToolTip("Keep this objective under a name of your own, or delete such a one")
        button.clicked.connect(
            lambda: self.menu.popup(button.mapToGlobal(button.rect().bottomLeft()))
        )
        return button

    def show_objective(self, objective: Objective) -> None:
        """Show the name of an objective, if it has one."""
        known = OBJECTIVES | self._own
        if known.get(self.names.currentText()) != objective:
            named = next((name for name, entry in known.items() if entry == objective), OTHER)
            self.names.setCurrentText(named)

    def save(self, name: str, objective: Objective) -> None:
        """Keep an objective under a name; a refusal is shown in place."""
        try:
            own = read_objectives(self._path)
            require(bool(name) and name != OTHER, "Give the preset a name, then press Enter")
            require(
                name not in OBJECTIVES and name not in own,
                f"There is a preset {name!r} already; give another name, or delete that one first",
            )
            write_objectives(self._path, own | {name: objective})
        except InputError as error:
            self.tell(str(error))
            return
        self.name.hide()
        self._read()
        self.names.setCurrentText(name)

    def delete(self) -> None:
        """Remove the user's own preset that is shown; a refusal is shown in place."""
        try:
            own = read_objectives(self._path)
            name = self.names.currentText()
            require(name in own, f"{name!r} is not one of your own presets; it stays")
            del own[name]
            write_objectives(self._path, own)
        except InputError as error:
            self.tell(str(error))
            return
        self._read()

    def _read(self) -> None:
        """Offer what there is; a file that cannot be read is told and left as it is."""
        self._own: dict[str, Objective] = {}
        sentence = ""
        try:
            # The catalogue's names stand for the catalogue's lenses, whatever the file says.
            found = read_objectives(self._path)
            self._own = {name: entry for name, entry in found.items() if name not in OBJECTIVES}
        except InputError as error:
            sentence = str(error)
        offer(self.names, [OTHER, *self._own, *OBJECTIVES])
        self.tell(sentence)

    def _ask_name(self) -> None:
        self.name.clear()
        self.name.show()
        self.name.setFocus()

    def _picked(self, name: str) -> None:
        objective = (OBJECTIVES | self._own).get(name)
        if objective is not None:
            self.chosen.emit(objective)

    def tell(self, sentence: str) -> None:
        """Show why something was refused; nothing where nothing was."""
        self.problem.setText(sentence)
        self.problem.setVisible(bool(sentence))
