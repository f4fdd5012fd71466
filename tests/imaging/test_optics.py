"""The microscope's values: what is not physical is refused in one sentence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.value import InputError

GOOD: dict[str, Any] = {"na": 1.2, "emission_nm": 520, "immersion_index": 1.333}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"modality": "confocl"},
            "The modality 'confocl' is not known; choose widefield, confocal, ",
        ),
        ({"modality": "confocal"}, "The PSF of a confocal microscope depends on the excitation"),
        (
            {"modality": "confocal", "excitation_nm": 560},
            "The excitation, 560 nm, is longer than the emission, 520 nm: they seem",
        ),
        ({"modality": "light-sheet"}, "The PSF of a light-sheet microscope depends on the sheet"),
        (
            {"modality": "light-sheet", "sheet_um": 1, "sheet_na": 0.1},
            "The PSF of a light-sheet microscope depends on the sheet; give its thickness, "
            "sheet_um, or its NA, sheet_na, not both",
        ),
        ({"modality": "light-sheet", "sheet_na": 0.1}, "The NA of the sheet gives its thickness"),
        ({"pinhole_au": -1}, "The pinhole in Airy units must be at least 0"),
        ({"pinhole_um": 300}, "Pinholes of 300 um, 250 um apart, overlap"),
        (
            {"model": "exact"},
            "The model 'exact' is not known; choose vectorial, scalar or gaussian",
        ),
        ({"zernike_rad": 0.5}, "The aberrations are up to 66 numbers"),
        ({"zernike_rad": (0, 0, 0, 0, "a")}, "The aberration of OSA/ANSI index 4 in radians RMS"),
        ({"zernike_rad": (0, 0, 0, 30.0)}, "Aberrations of 30 rad RMS leave no focus"),
        ({"modality": None}, "The modality None is not known"),
        ({"na": 0}, "The NA must be greater than 0, not 0"),
        ({"na": -0.5}, "The NA must be greater than 0"),
        ({"na": math.nan}, "The NA must be a finite number, not nan"),
        ({"na": "1.2"}, "The NA must be a finite number, not '1.2'"),
        (
            {"na": 1.49},
            "NA 1.49 is not below the refractive index of the immersion medium, 1.333: no such "
            "objective exists. Correct the NA or the immersion",
        ),
        ({"na": 1.333}, "NA 1.333 is not below the refractive index"),
        (
            {"emission_nm": 0.52},
            "The emission wavelength of 0.52 nm seems to be in micrometres; give nanometres, 520",
        ),
        ({"emission_nm": 520_000}, "The emission wavelength 520000 nm is not one of visible or"),
        ({"emission_nm": None}, "The emission wavelength in nm must be a finite number"),
        ({"immersion_index": 0.9}, "Immersion: the refractive index must be at least 1, not 0.9"),
        ({"immersion_index": None}, "Immersion: the refractive index must be a finite number"),
        ({"immersion_index": 4}, "Immersion: a refractive index of 4 is above 3"),
        ({"sample_index": 0}, "Sample: the refractive index must be at least 1, not 0"),
        ({"sample_index": 5.0}, "Sample: a refractive index of 5 is above 3"),
        ({"coverslip_index": math.inf}, "Coverslip: the refractive index must be a finite number"),
        ({"coverslip_index": None}, "Coverslip: the refractive index must be a finite number"),
        ({"depth_um": -1}, "The depth in um must be at least 0, not -1"),
        ({"coverslip_um": "thick"}, "The coverslip in um must be a finite number"),
    ],
)
def test_what_is_not_physical_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        Optics(**{**GOOD, **changed})
    assert str(caught.value).startswith(sentence)


def test_the_sample_is_in_the_immersion_medium_where_not_said() -> None:
    assert Optics(**GOOD).medium_index == 1.333
    assert Optics(**GOOD, sample_index=1.4).medium_index == 1.4


def test_the_modality_is_the_only_field_by_place() -> None:
    with pytest.raises(TypeError):
        Optics("widefield", 1.2, 520)  # type: ignore[call-arg]


def test_a_person_reads_one_line() -> None:
    described = Optics(**GOOD, sample_index=1.38, depth_um=3.25).describe()
    assert described == "widefield, NA 1.2, 520 nm, immersion 1.333, sample 1.38, depth 3.25 um"
