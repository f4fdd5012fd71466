"""Panel for the optics, shared by the docks: what a microscopist knows of the microscope."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_deconv.imaging.catalogue import DYES, IMMERSIONS, MEDIA, Objective, nearest_dye
from napari_deconv.imaging.optics import EXCITED, MODELS, Optics
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import InputError

from .choices import NARROW
from .objectives import ObjectiveBox
from .optics_fields import (
    OTHER,
    AberrationFields,
    IndexBox,
    Marked,
    folded,
    number,
    show_number,
    slider,
)

#: What the fields show before anything is known: a common water objective, marked as assumed.
ASSUMED = Optics(na=1.2, emission_nm=520, immersion_index=1.333, sample_index=1.333)
#: Those of its values that shape the PSF, so that the user should see that nobody gave them.
UNCERTAIN = ("modality", "na", "immersion_index", "emission_nm", "sample_index", "depth_um")

#: The microscopes as the panel names them.
MICROSCOPES = {
    "widefield": "widefield",
    "confocal": "confocal",
    "spinning disk": "spinning-disk",
    "two-photon": "two-photon",
    "light sheet": "light-sheet",
    "STED (effective)": "effective-sted",
}
THICKNESS, SHEET_NA = "thickness", "NA"
#: Assumed where a microscope needs it and nobody gave it.
SHEET_UM, SHEET_NA_ASSUMED, TWO_PHOTON_NM = 2.0, 0.1, 920.0


@dataclass(frozen=True)
class Number:
    """A number among the values of `Optics`, and how it is edited."""

    name: str
    label: str
    low: float
    high: float
    decimals: int
    tip: str
    is_slider: bool = True

    def field(self) -> Any:
        """Return the widget that edits it."""
        make = slider if self.is_slider else number
        return make(self.low, self.high, self.decimals, self.tip)


NA = Number("na", "NA", 0.05, 1.7, 2, "Numerical aperture of the objective")
LIGHT = (
    Number("emission_nm", "Emission nm", 350, 850, 0, "Wavelength of the detected light"),
    Number("excitation_nm", "Excitation nm", 350, 1300, 0, "Wavelength of the exciting laser"),
    Number("pinhole_au", "Pinhole AU", 0, 5, 2, "Diameter of the pinhole, 1 = one Airy disk"),
    Number("pinhole_um", "Pinhole um", 1, 500, 1, "Diameter of a pinhole on the disk", False),
    Number("pinhole_spacing_um", "Spacing um", 1, 5000, 1, "Distance of pinholes, disk", False),
    Number("magnification", "Magnification", 1, 400, 1, "Magnification, sample to disk", False),
)
SHEET = (
    Number("sheet_um", "Sheet um", 0.2, 20, 2, "Full width of the sheet at half its intensity"),
    Number("sheet_na", "Sheet NA", 0.01, 0.6, 3, "Numerical aperture of a Gaussian sheet"),
)
STED = (
    Number("depletion_nm", "Depletion nm", 400, 1100, 0, "Wavelength of the doughnut", False),
    Number("saturation", "Saturation", 0, 100, 1, "Doughnut's peak over what halves the light"),
)
DEPTH = Number("depth_um", "Depth um", 0, 200, 1, "Depth of the object below the coverslip")
GLASS = (
    Number("coverslip_um", "Coverslip um", 0, 2000, 0, "Thickness of that in use", False),
    Number("coverslip_index", "Coverslip index", 1, 2, 4, "Refractive index of that in use", False),
    Number("design_coverslip_um", "Made for um", 0, 2000, 0, "Coverslip by design", False),
    Number("design_coverslip_index", "Made for index", 1, 2, 4, "Coverslip by design", False),
    Number("design_immersion_index", "Made for immersion", 1, 2, 3, "By design", False),
    Number("working_distance_um", "Working dist. um", 0, 30000, 0, "Free, by design", False),
)
#: Rows that only some microscopes have.
ONLY: dict[str, tuple[str, ...]] = {
    "pinhole_au": ("confocal", "effective-sted"),
    "pinhole_um": ("spinning-disk",),
    "pinhole_spacing_um": ("spinning-disk",),
    "magnification": ("spinning-disk",),
    "sheet": ("light-sheet",),
    "depletion_nm": ("effective-sted",),
    "saturation": ("effective-sted",),
}


class OpticsPanel(QWidget):
    """Edits `Optics`; shows what the microscope at hand has, and keeps the rest."""

    valueChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._values: dict[str, Any] = {}
        self._showing = False
        self.rows: dict[str, Marked] = {}
        self.fields: dict[str, Any] = {}
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self._make_boxes()
        self._add_rows()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self.form)
        for title, page in (
            ("Aberrations, rad RMS", self.aberrations),
            ("Coverslip, model", self._glass_page()),
        ):
            layout.addWidget(folded(title, page))
        self._show(_values_of(ASSUMED), dict.fromkeys(UNCERTAIN, "assumed"))
        self._connect()

    # -- laying out -----------------------------------------------------------------------

    def _make_boxes(self) -> None:
        self.modality = _box([*MICROSCOPES], "The kind of microscope")
        self.objective = ObjectiveBox()
        self.immersion = IndexBox(IMMERSIONS, "What is between objective and coverslip")
        self.dye = _box([OTHER, *DYES], "Sets the emission, and the laser line that excites")
        self.sheet = _box([THICKNESS, SHEET_NA], "How the thickness of the sheet is given")
        self.sample = IndexBox(MEDIA, "What the object lies in")
        self.model = _box([*MODELS], "Vectorial is exact; the others are for comparison")
        self.aberrations = AberrationFields()

    def _add_rows(self) -> None:
        self._add("modality", "Microscope", self.modality)
        self._add("objective", "Objective", self.objective)
        self._add_number(NA)
        self._add("immersion_index", "Immersion", self.immersion)
        self._add("dye", "Dye", self.dye)
        for spec in LIGHT:
            self._add_number(spec)
        self._add("sheet", "Sheet by", self.sheet)
        for spec in (*SHEET, *STED):
            self._add_number(spec)
        self._add("sample_index", "Sample", self.sample)
        self._add_number(DEPTH)

    def _add(self, name: str, label: str, field: QWidget) -> None:
        self.rows[name] = Marked(field)
        self.form.addRow(label, self.rows[name])

    def _add_number(self, spec: Number) -> None:
        self.fields[spec.name] = spec.field()
        self._add(spec.name, spec.label, self.fields[spec.name])

    def _glass_page(self) -> QWidget:
        page = QWidget()
        form = QFormLayout(page)
        form.setContentsMargins(0, 0, 0, 0)
        for spec in GLASS:
            self.fields[spec.name] = spec.field()
            form.addRow(spec.label, self.fields[spec.name])
        form.addRow("Model", self.model)
        return page

    def _connect(self) -> None:
        self.modality.currentTextChanged.connect(self._modality_chosen)
        self.objective.chosen.connect(self._objective_chosen)
        self.objective.saveAsked.connect(self._save_objective)
        self.dye.currentTextChanged.connect(self._dye_chosen)
        self.sheet.currentTextChanged.connect(self._sheet_chosen)
        self.model.currentTextChanged.connect(lambda text: self._edited(model=text))
        self.immersion.indexChanged.connect(lambda value: self._edited(immersion_index=value))
        self.sample.indexChanged.connect(lambda value: self._edited(sample_index=value))
        self.aberrations.valueChanged.connect(
            lambda: self._edited(zernike_rad=self.aberrations.value())
        )
        for name, field in self.fields.items():
            field.valueChanged.connect(partial(self._number_edited, name))

    # -- the value ------------------------------------------------------------------------

    def value(self) -> Optics:
        """Return the optics; `InputError` where the values do not go together."""
        return Optics(**self._values)

    def setValue(self, value: Optics) -> None:
        """Show `value` as the user's own."""
        self._show(_values_of(value), {})
        self.valueChanged.emit()

    def show_known(self, known: KnownOptics | None) -> None:
        """Fill in what the image's file says of its optics, and mark it; the rest stays."""
        entries = known.to_dict() if known else {}
        told = {k: v for k, v in entries.items() if v is not None and k != "kind"}
        if not told:
            return
        origins = dict(self._origins)
        try:
            values = self._values | told
            Optics(**(values | _needed(values)))
        except InputError:
            # The file's values do not go with what was typed before: begin anew from them.
            values = _values_of(_around(told))
            origins = dict.fromkeys(UNCERTAIN, "assumed")
        needed = _needed(values)
        origins |= dict.fromkeys(needed, "assumed") | dict.fromkeys(told, "file")
        self._show(values | needed, origins)
        self.valueChanged.emit()

    # -- what the user edits --------------------------------------------------------------

    def _edited(self, **values: Any) -> None:
        """Take values as the user's own, and what the microscope needs beside them."""
        if self._showing:
            return
        needed = _needed(self._values | values)
        origins = {k: v for k, v in self._origins.items() if k not in values}
        origins |= dict.fromkeys(needed, "assumed")
        self._show(self._values | values | needed, origins)
        self.valueChanged.emit()

    def _number_edited(self, name: str, value: float) -> None:
        self._edited(**{name: round(value, self.fields[name].decimals())})

    def _modality_chosen(self, text: str) -> None:
        modality, excitation = MICROSCOPES[text], self._values["excitation_nm"]
        # The laser of two-photon excitation is none of the others', and the reverse.
        two_photon = excitation is not None and excitation > self._values["emission_nm"]
        other = two_photon != (modality == "two-photon")
        self._edited(modality=modality, excitation_nm=None if other else excitation)

    def _objective_chosen(self, objective: Objective) -> None:
        self._edited(**{k: v for k, v in objective.to_dict().items() if k != "kind"})

    def _save_objective(self, name: str) -> None:
        try:
            self.objective.save(name, _objective_in(self._values))
        except InputError as error:
            self.objective.tell(str(error))

    def _dye_chosen(self, name: str) -> None:
        if name in DYES and not self._showing:
            dye = DYES[name].to_dict()
            # A dye's line is of one photon; the laser of two-photon excitation stays.
            lines = () if self._values["modality"] == "two-photon" else ("excitation_nm",)
            self._edited(**{k: dye[k] for k in ("emission_nm", *lines)})

    def _sheet_chosen(self, by: str) -> None:
        thick = by == THICKNESS
        self._edited(
            sheet_um=SHEET_UM if thick else None, sheet_na=None if thick else SHEET_NA_ASSUMED
        )

    # -- what is shown --------------------------------------------------------------------

    def _show(self, values: dict[str, Any], origins: dict[str, str]) -> None:
        """Show values, and of each where it comes from."""
        self._showing = True
        self._values, self._origins = values, origins
        names = {modality: name for name, modality in MICROSCOPES.items()}
        self.modality.setCurrentText(names[values["modality"]])
        self.model.setCurrentText(values["model"])
        self.sheet.setCurrentText(THICKNESS if values["sheet_na"] is None else SHEET_NA)
        self.immersion.setValue(values["immersion_index"])
        # Where none is given, sample and design have the immersion in use.
        for name in ("sample_index", "design_immersion_index"):
            values = values | {name: values[name] or values["immersion_index"]}
        self.sample.setValue(values["sample_index"])
        for name, field in self.fields.items():
            # A text where an index should be stays in the box where it was typed.
            if isinstance(values[name], (int, float)):
                show_number(field, values[name])
        self.aberrations.setValue(values["zernike_rad"])
        self._show_dye(values["emission_nm"])
        self._show_objective()
        self._show_rows(values["modality"])
        self._showing = False

    def _show_dye(self, emission_nm: float) -> None:
        chosen = DYES.get(self.dye.currentText())
        # Two dyes may share an emission: the one that was chosen stays.
        if chosen is None or chosen.emission_nm != emission_nm:
            names = (name for name, dye in DYES.items() if dye.emission_nm == emission_nm)
            self.dye.setCurrentText(next(names, OTHER))

    def _show_objective(self) -> None:
        try:
            self.objective.show_objective(_objective_in(self._values))
        except InputError:
            self.objective.names.setCurrentText(OTHER)

    def _show_rows(self, modality: str) -> None:
        by_na = self._values["sheet_na"] is not None
        for name, row in self.rows.items():
            shown = modality in ONLY.get(name, (modality,))
            if name in ("emission_nm", "dye"):
                shown = modality != "two-photon"
            if name == "excitation_nm":
                shown = modality in EXCITED or (modality == "light-sheet" and by_na)
            if name in ("sheet_um", "sheet_na"):
                shown = modality == "light-sheet" and by_na == (name == "sheet_na")
            if self.form.isRowVisible(row) != shown:
                self.form.setRowVisible(row, shown)
            row.mark(self._origins.get(name, ""))


def _box(names: list[str], tip: str) -> QComboBox:
    box = QComboBox()
    box.addItems(names)
    box.setSizeAdjustPolicy(NARROW)
    box.setToolTip(tip)
    return box


def _values_of(optics: Optics) -> dict[str, Any]:
    return {field.name: getattr(optics, field.name) for field in dataclasses.fields(optics)}


def _objective_in(values: dict[str, Any]) -> Objective:
    return Objective(**{field.name: values[field.name] for field in dataclasses.fields(Objective)})


def _needed(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the microscope needs and nobody gave."""
    needed: dict[str, Any] = {}
    modality, emission = values["modality"], values["emission_nm"]
    by_na = modality == "light-sheet" and values["sheet_na"] is not None
    if modality == "light-sheet" and values["sheet_um"] is None and not by_na:
        needed["sheet_um"] = SHEET_UM
    if values["excitation_nm"] is None and (modality in EXCITED or by_na):
        two_photon = max(TWO_PHOTON_NM, emission + 100)
        needed["excitation_nm"] = two_photon if modality == "two-photon" else _line_below(emission)
    return needed


def _line_below(emission_nm: float) -> float:
    """Return the laser line that commonly excites what emits here."""
    return min(nearest_dye(emission_nm).excitation_nm, emission_nm - 10)


def _around(told: dict[str, Any]) -> Optics:
    """Return optics with the values a file told, an immersion that allows its NA where needed."""
    for index in (ASSUMED.immersion_index, *sorted(IMMERSIONS.values()), 2.0):
        values = _values_of(ASSUMED) | {"immersion_index": index} | told
        try:
            return Optics(**(values | _needed(values)))
        except InputError:
            continue
    return ASSUMED
