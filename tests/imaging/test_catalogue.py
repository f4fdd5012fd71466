"""The tables agree with physics, with their own names, and with what files write."""

from __future__ import annotations

import math

import pytest

from napari_deconv.files.metadata import IMMERSION_INDEX
from napari_deconv.imaging.catalogue import (
    ABERRATIONS,
    DYES,
    IMMERSIONS,
    MEDIA,
    OBJECTIVES,
    Objective,
    name_of,
    nearest_dye,
)
from napari_deconv.imaging.value import InputError


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_what_its_name_says(name: str) -> None:
    lens = OBJECTIVES[name]
    magnification, rest = name.split("x/")
    na, medium = rest.split(maxsplit=1)
    assert lens.magnification == float(magnification)
    assert lens.na == float(na)
    named = {"silicone": "silicone oil"}.get(medium, medium)
    assert lens.immersion_index == IMMERSIONS[named]
    assert Objective.from_json(lens.to_json()) == lens


def test_impossible_objectives_are_refused() -> None:
    with pytest.raises(InputError, match="no such objective exists"):
        Objective(60, 1.4, 1.333)
    with pytest.raises(InputError, match="magnification"):
        Objective(0, 1.4, 1.515)


def test_dyes_emit_redder_than_they_are_excited() -> None:
    emissions = [dye.emission_nm for dye in DYES.values()]
    assert emissions == sorted(emissions)
    assert all(350 < dye.excitation_nm < dye.emission_nm < 800 for dye in DYES.values())


@pytest.mark.parametrize("table", [IMMERSIONS, MEDIA], ids=["immersions", "media"])
def test_indices_ascend_and_have_names(table: dict[str, float]) -> None:
    indices = list(table.values())
    assert indices == sorted(set(indices))
    assert indices[0] >= 1
    assert indices[-1] < 1.6
    assert all(name_of(index, table) == name for name, index in table.items())
    assert name_of(1.2345, table) is None


def test_an_immersion_that_a_file_names_has_that_name_here() -> None:
    for name, index in IMMERSION_INDEX.items():
        assert name_of(index, IMMERSIONS) == name.removesuffix("dipping")


def test_aberrations_are_named_by_their_order() -> None:
    """OSA/ANSI: j = (n (n + 2) + m)/2; the azimuthal order |m| says what kind it is."""
    kinds = {1: "coma", 2: "astigmatism", 3: "trefoil", 4: "quadrafoil"}
    for index, name in ABERRATIONS.items():
        n = math.ceil((-3 + math.sqrt(9 + 8 * index)) / 2)
        m = 2 * index - n * (n + 2)
        if m == 0:
            assert name == {2: "defocus", 4: "spherical"}[n]
        else:
            assert kinds[abs(m)] in name
            # A sine lies obliquely, unless the order is odd: then upright.
            is_sine = m < 0
            if abs(m) % 2 == 0:
                assert name.startswith("oblique" if is_sine else "vertical")
            assert ("second" in name) == (n == 4 and abs(m) == 2)


def test_the_nearest_dye() -> None:
    assert nearest_dye(461) == DYES["DAPI"]
    assert nearest_dye(2000) == DYES["SiR"]
    with pytest.raises(InputError):
        nearest_dye(-1)
