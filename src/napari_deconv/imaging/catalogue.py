"""What a microscopist picks by name: immersions, mounting media, dyes, objectives, aberrations.

Plain tables of typical values, to begin from: a lens has its own working distance, and a
mounting medium its own index once it has cured. The number that the user gives counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from .optics import Optics
from .value import Value, require_number

#: Refractive index at 23 degrees in yellow light of what is between objective and coverslip.
IMMERSIONS: dict[str, float] = {
    "air": 1.0,
    "water": 1.333,
    "silicone oil": 1.406,
    "glycerol": 1.46,
    "oil": 1.515,
}

#: Refractive index of what the object lies in.
MEDIA: dict[str, float] = {
    "water": 1.333,
    "PBS, culture medium": 1.337,
    "cells, tissue": 1.38,
    "Vectashield": 1.45,
    "RIMS (CLARITY)": 1.46,
    "ProLong Gold": 1.465,
    "glycerol": 1.47,
    "CUBIC": 1.48,
    "Mowiol": 1.49,
    "TDE 97 %": 1.515,
    "ProLong Glass": 1.52,
    "BABB, ECi": 1.56,
}


@dataclass(frozen=True)
class Dye(Value):
    """A fluorophore: the laser line that commonly excites it, and the peak of its emission."""

    excitation_nm: float
    emission_nm: float


#: By emission. The excitation is a laser line and not the absorption peak: the PSF sees the laser.
DYES: dict[str, Dye] = {
    "mTagBFP2": Dye(405, 454),
    "DAPI": Dye(405, 461),
    "Hoechst 33342": Dye(405, 461),
    "mTurquoise2": Dye(445, 474),
    "ECFP": Dye(445, 477),
    "EGFP": Dye(488, 509),
    "mNeonGreen": Dye(488, 517),
    "Alexa Fluor 488": Dye(488, 519),
    "FITC": Dye(488, 519),
    "EYFP": Dye(514, 527),
    "Cy3": Dye(561, 570),
    "Alexa Fluor 546": Dye(561, 573),
    "tdTomato": Dye(561, 581),
    "Alexa Fluor 568": Dye(561, 603),
    "mCherry": Dye(561, 610),
    "Alexa Fluor 594": Dye(594, 617),
    "STAR 635P": Dye(640, 651),
    "ATTO 647N": Dye(640, 664),
    "Alexa Fluor 647": Dye(640, 668),
    "Cy5": Dye(640, 670),
    "SiR": Dye(640, 674),
}


@dataclass(frozen=True)
class Objective(Value):
    """An objective, as far as the point spread function depends on it.

    Parameters
    ----------
    magnification : float
        Its nominal magnification.
    na : float
        Numerical aperture.
    immersion_index : float
        Refractive index of the immersion that it is made for.
    working_distance_um : float
        Thickness of the immersion between it and the coverslip.

    Raises
    ------
    InputError
        If no such objective can exist.

    Examples
    --------
    >>> OBJECTIVES["60x/1.40 oil"].na
    1.4
    """

    magnification: float
    na: float
    immersion_index: float
    working_distance_um: float = 150.0

    def __post_init__(self) -> None:
        require_number("The magnification", self.magnification, above=0)
        # All else is checked where it is used: by the optics with this objective.
        Optics(
            na=self.na,
            emission_nm=520,
            immersion_index=self.immersion_index,
            working_distance_um=self.working_distance_um,
        )


#: Common objectives, by magnification.
OBJECTIVES: dict[str, Objective] = {
    "10x/0.30 air": Objective(10, 0.3, IMMERSIONS["air"], 5200),
    "20x/0.80 air": Objective(20, 0.8, IMMERSIONS["air"], 550),
    "25x/1.05 water": Objective(25, 1.05, IMMERSIONS["water"], 2000),
    "30x/1.05 silicone": Objective(30, 1.05, IMMERSIONS["silicone oil"], 800),
    "40x/0.95 air": Objective(40, 0.95, IMMERSIONS["air"], 250),
    "40x/1.30 oil": Objective(40, 1.3, IMMERSIONS["oil"], 210),
    "60x/1.20 water": Objective(60, 1.2, IMMERSIONS["water"], 280),
    "60x/1.30 silicone": Objective(60, 1.3, IMMERSIONS["silicone oil"], 300),
    "60x/1.40 oil": Objective(60, 1.4, IMMERSIONS["oil"], 130),
    "63x/1.30 glycerol": Objective(63, 1.3, IMMERSIONS["glycerol"], 280),
    "63x/1.40 oil": Objective(63, 1.4, IMMERSIONS["oil"], 190),
    "100x/1.35 silicone": Objective(100, 1.35, IMMERSIONS["silicone oil"], 200),
    "100x/1.45 oil": Objective(100, 1.45, IMMERSIONS["oil"], 130),
}

#: The aberrations that are offered, by OSA/ANSI index: below are piston and tilt, which only
#: move the image, above those that a microscope seldom has.
ABERRATIONS: dict[int, str] = {
    3: "oblique astigmatism",
    4: "defocus",
    5: "vertical astigmatism",
    6: "vertical trefoil",
    7: "vertical coma",
    8: "horizontal coma",
    9: "oblique trefoil",
    10: "oblique quadrafoil",
    11: "oblique second astigmatism",
    12: "spherical",
    13: "vertical second astigmatism",
    14: "vertical quadrafoil",
}


def name_of(index: float, table: dict[str, float]) -> str | None:
    """Return the name under which a refractive index stands in a table, None if in none.

    Examples
    --------
    >>> name_of(1.515, IMMERSIONS), name_of(1.4321, MEDIA)
    ('oil', None)
    """
    return next((name for name, value in table.items() if abs(value - index) < 5e-4), None)


def nearest_dye(emission_nm: float) -> Dye:
    """Return the dye of the table whose emission is closest.

    Examples
    --------
    >>> nearest_dye(512).excitation_nm
    488
    """
    require_number("The emission wavelength in nm", emission_nm, above=0)
    return min(DYES.values(), key=lambda dye: abs(dye.emission_nm - emission_nm))
