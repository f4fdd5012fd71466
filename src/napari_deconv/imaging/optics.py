"""The microscope, as far as the point spread function depends on it."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from .value import Value, require, require_number

Modality = Literal[
    "widefield", "confocal", "spinning-disk", "two-photon", "light-sheet", "effective-sted"
]
Model = Literal["vectorial", "scalar", "gaussian"]
MODALITIES: tuple[str, ...] = get_args(Modality)
MODELS: tuple[str, ...] = get_args(Model)

#: Modalities whose PSF depends on the wavelength that excites; in two-photon on that alone.
EXCITED = ("confocal", "spinning-disk", "two-photon", "effective-sted")

#: Terms of the highest Zernike order that is offered, the 10th.
MOST_ZERNIKE = 66


@dataclass(frozen=True)
class Optics(Value):
    """A microscope, its immersion, and where in the sample the emitter is.

    Parameters
    ----------
    modality : str
        "widefield", "confocal", "spinning-disk", "two-photon", "light-sheet", or
        "effective-sted" (a confocal PSF narrowed by a saturated doughnut).
    na : float
        Numerical aperture of the objective; below `immersion_index`.
    emission_nm : float
        Wavelength of the detected light in vacuum, nanometres.
    excitation_nm : float, optional
        Wavelength of the exciting light; needed by confocal, spinning disk, two-photon (the
        laser's, about twice the absorbed one) and STED.
    immersion_index : float
        Refractive index of the immersion medium (air 1.0, water 1.333, glycerol 1.46,
        oil 1.515).
    sample_index : float, optional
        Refractive index of the sample's medium; that of the immersion when not given.
    depth_um : float
        Depth of the emitter below the coverslip, micrometres.
    pinhole_au : float
        Diameter of a confocal pinhole in Airy units of 1.22 lambda/NA; STED too.
    pinhole_um, pinhole_spacing_um, magnification : float
        Spinning disk: diameter of its pinholes and the distance between two on the disk, and
        the magnification from the sample to the disk.
    sheet_um : float, optional
        Light sheet: full width of the sheet at half its intensity.
    sheet_na : float, optional
        Light sheet: numerical aperture of a Gaussian sheet, in the place of `sheet_um`; needs
        `excitation_nm`.
    depletion_nm, saturation : float
        STED: wavelength of the doughnut, and its brightest intensity over the one that
        halves the fluorescence.
    coverslip_index, coverslip_um : float
        Refractive index and thickness of the coverslip in use.
    design_coverslip_index, design_coverslip_um, design_immersion_index : float
        Those that the objective is made for (a correction collar changes them); the design
        immersion is the one in use when not given.
    working_distance_um : float
        Thickness of the design immersion between objective and coverslip.
    zernike_rad : tuple of float
        Aberrations by OSA/ANSI index 0, 1, 2, ...: radians RMS at the emission wavelength.
    model : {"vectorial", "scalar", "gaussian"}
        Vectorial by default; the others are approximations, for comparison.

    Raises
    ------
    InputError
        If a value is not physical, with a sentence that says which and why.

    Examples
    --------
    >>> Optics(na=1.4, emission_nm=520, immersion_index=1.515).describe()
    'widefield, NA 1.4, 520 nm, immersion 1.515, sample 1.515, depth 0 um'
    >>> confocal = Optics("confocal", na=1.2, emission_nm=520, excitation_nm=488)
    >>> round(confocal.pinhole_radius_um, 3)
    0.264
    """

    modality: str = "widefield"
    _: KW_ONLY
    na: float
    emission_nm: float
    excitation_nm: float | None = None
    immersion_index: float = 1.515
    sample_index: float | None = None
    depth_um: float = 0.0
    pinhole_au: float = 1.0
    pinhole_um: float = 50.0
    pinhole_spacing_um: float = 250.0
    magnification: float = 100.0
    sheet_um: float | None = None
    sheet_na: float | None = None
    depletion_nm: float = 592.0
    saturation: float = 10.0
    coverslip_index: float = 1.5255
    coverslip_um: float = 170.0
    design_coverslip_index: float = 1.5255
    design_coverslip_um: float = 170.0
    design_immersion_index: float | None = None
    working_distance_um: float = 150.0
    zernike_rad: tuple[float, ...] = ()
    model: str = "vectorial"

    def __post_init__(self) -> None:
        _require_one_of("modality", self.modality, MODALITIES)
        _require_one_of("model", self.model, MODELS)
        require_number("The NA", self.na, above=0)
        self._require_wavelengths()
        self._require_indices()
        require(
            self.na < self.immersion_index,
            f"NA {self.na:g} is not below the refractive index of the immersion medium, "
            f"{self.immersion_index:g}: no such objective exists. Correct the NA or the immersion",
        )
        require_number("The depth in um", self.depth_um, least=0)
        for name in ("coverslip_um", "design_coverslip_um", "working_distance_um"):
            require_number(f"The {_in_words(name)}", getattr(self, name), least=0)
        self._require_illumination()
        self._require_zernike()

    def _require_wavelengths(self) -> None:
        _require_wavelength("The emission wavelength", self.emission_nm)
        if self.excitation_nm is not None:
            _require_wavelength("The excitation wavelength", self.excitation_nm)
        require(
            self.excitation_nm is not None or self.modality not in EXCITED,
            f"The PSF of a {self.modality} microscope depends on the excitation; give its "
            "wavelength, excitation_nm (488 for EGFP, for instance)",
        )
        if self.modality in ("confocal", "spinning-disk", "effective-sted"):
            require(
                (self.excitation_nm or 0) <= self.emission_nm,
                f"The excitation, {self.excitation_nm:g} nm, is longer than the emission, "
                f"{self.emission_nm:g} nm: they seem to be exchanged",
            )
        _require_wavelength("The depletion wavelength", self.depletion_nm)

    def _require_indices(self) -> None:
        for name in ("immersion", "sample", "coverslip", "design_coverslip", "design_immersion"):
            index = getattr(self, f"{name}_index")
            if index is not None or name not in ("sample", "design_immersion"):
                label = _in_words(name).capitalize()
                require_number(f"{label}: the refractive index", index, least=1)
                require(index <= 3, f"{label}: a refractive index of {index:g} is above 3")

    def _require_illumination(self) -> None:
        require_number("The pinhole in Airy units", self.pinhole_au, least=0)
        require(self.pinhole_au <= 100, "A pinhole of more than 100 Airy units is none; take 100")
        for name in ("pinhole_um", "pinhole_spacing_um", "magnification"):
            require_number(f"The {_in_words(name)}", getattr(self, name), above=0)
        require(
            self.pinhole_um < self.pinhole_spacing_um,
            f"Pinholes of {self.pinhole_um:g} um, {self.pinhole_spacing_um:g} um apart, overlap; "
            "give the diameter of one and the distance between two on the disk",
        )
        require_number("The saturation", self.saturation, least=0)
        if self.sheet_um is not None:
            require_number("The thickness of the sheet in um", self.sheet_um, above=0)
        if self.sheet_na is not None:
            require_number("The NA of the sheet", self.sheet_na, above=0)
        if self.modality != "light-sheet":
            return
        given = [value is not None for value in (self.sheet_um, self.sheet_na)]
        require(
            sum(given) == 1,
            "The PSF of a light-sheet microscope depends on the sheet; give its thickness, "
            "sheet_um, or its NA, sheet_na" + (", not both" if all(given) else ""),
        )
        require(
            self.sheet_na is None or self.excitation_nm is not None,
            "The NA of the sheet gives its thickness only with the wavelength; give excitation_nm",
        )

    def _require_zernike(self) -> None:
        require(
            isinstance(self.zernike_rad, (tuple, list)) and len(self.zernike_rad) <= MOST_ZERNIKE,
            f"The aberrations are up to {MOST_ZERNIKE} numbers, one an OSA/ANSI index from 0 on, "
            f"not {self.zernike_rad!r}",
        )
        for index, value in enumerate(self.zernike_rad):
            require_number(f"The aberration of OSA/ANSI index {index} in radians RMS", value)
        total = math.hypot(*self.zernike_rad[1:])
        require(
            total <= 10,
            f"Aberrations of {total:.3g} rad RMS leave no focus; give radians RMS, below 10 in all",
        )
        object.__setattr__(self, "zernike_rad", tuple(float(v) for v in self.zernike_rad))

    @property
    def medium_index(self) -> float:
        """Refractive index of the sample's medium: `sample_index`, else the immersion's."""
        return self.immersion_index if self.sample_index is None else self.sample_index

    @property
    def finest_nm(self) -> float:
        """Wavelength at which a widefield microscope would pass the same frequencies.

        The product of two intensities is as fine as both together.
        """
        excitation_nm = self.excitation_nm or self.emission_nm
        if self.modality == "two-photon":
            return excitation_nm / 2
        if self.modality in EXCITED:
            return 1 / (1 / excitation_nm + 1 / self.emission_nm)
        return self.emission_nm

    @property
    def pinhole_radius_um(self) -> float:
        """Radius of the pinhole in the sample, micrometres; 0 where there is none."""
        if self.modality == "spinning-disk":
            return self.pinhole_um / 2 / self.magnification
        if self.modality in ("confocal", "effective-sted"):
            return 0.61 * self.pinhole_au * self.emission_nm / 1000 / self.na
        return 0.0

    @property
    def sheet_fwhm_um(self) -> float:
        """Full width of the light sheet at half its intensity; infinite where there is none.

        A Gaussian sheet of numerical aperture N has its waist at lambda/(pi N), where the
        intensity is 1/e^2; the full width at half maximum is sqrt(2 ln 2) of that waist.
        """
        if self.modality != "light-sheet":
            return math.inf
        if self.sheet_um is not None:
            return self.sheet_um
        excitation_um = (self.excitation_nm or math.nan) / 1000
        return math.sqrt(2 * math.log(2)) * excitation_um / (math.pi * (self.sheet_na or math.nan))

    def describe(self) -> str:
        """Return the optics in one line."""
        return ", ".join(
            (
                self.modality if self.model == "vectorial" else f"{self.modality} ({self.model})",
                f"NA {self.na:g}",
                *self._light(),
                f"immersion {self.immersion_index:g}",
                f"sample {self.medium_index:g}",
                f"depth {self.depth_um:g} um",
                *(
                    [f"{math.hypot(*self.zernike_rad):.2g} rad of aberrations"]
                    * any(self.zernike_rad)
                ),
            )
        )

    def _light(self) -> list[str]:
        """Return the wavelengths, and what shapes the illumination, in words."""
        if self.modality == "two-photon":
            return [f"{self.excitation_nm:g} nm"]
        excitation = f"{self.excitation_nm:g}/" if self.modality in EXCITED else ""
        words = [f"{excitation}{self.emission_nm:g} nm"]
        if self.modality in ("confocal", "effective-sted"):
            words.append(f"pinhole {self.pinhole_au:g} AU")
        if self.modality == "spinning-disk":
            words.append(f"pinholes {self.pinhole_um:g} um at {self.magnification:g} x")
        if self.modality == "effective-sted":
            words.append(f"saturation {self.saturation:g}")
        if self.modality == "light-sheet":
            words.append(f"sheet {self.sheet_fwhm_um:.3g} um")
        return words


def _in_words(name: str) -> str:
    return name.replace("_um", " in um").replace("_", " ")


def _require_one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    names = f"{', '.join(known[:-1])} or {known[-1]}"
    require(value in known, f"The {what} {value!r} is not known; choose {names}")


def _require_wavelength(what: str, value: float) -> None:
    """Raise `InputError` unless `value` can be a wavelength in nanometres."""
    require_number(f"{what} in nm", value, above=0)
    require(
        not 0.1 <= value <= 3,
        f"{what} of {value:g} nm seems to be in micrometres; give nanometres, {1000 * value:g}",
    )
    require(
        100 <= value <= 3000,
        f"{what} {value:g} nm is not one of visible or near-infrared light; give nanometres "
        "between 100 and 3000",
    )
