"""The grid: where voxels become micrometres, and where `pixel` does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_deconv.imaging.grid import MICROMETRES, Grid
from napari_deconv.imaging.value import InputError


@pytest.mark.parametrize("count", [2, 3])
def test_axes_follow_from_the_spacing(count: int) -> None:
    grid = Grid(spacing_um=(3.0, 2.0, 1.0)[-count:])
    assert (grid.ndim, grid.axes) == (count, "ZYX"[-count:])


@pytest.mark.parametrize("spacing", [(), (1,), (1, 1, 1, 1), 0.1, None, "0.1", {"x": 1, "y": 1}])
def test_two_or_three_numbers_are_needed(spacing: Any) -> None:
    with pytest.raises(InputError, match=r"A voxel size has two or three numbers"):
        Grid(spacing_um=spacing)


@pytest.mark.parametrize(("place", "axis"), [(0, "z"), (1, "y"), (2, "x")])
@pytest.mark.parametrize("bad", [0, -0.1, math.nan, math.inf, "a", None, [0.1], True])
def test_the_sentence_names_the_axis(place: int, axis: str, bad: Any) -> None:
    spacing: list[Any] = [0.3, 0.1, 0.1]
    spacing[place] = bad
    with pytest.raises(InputError, match=rf"^The {axis} spacing in um must be"):
        Grid(spacing_um=tuple(spacing))


def test_spacings_become_a_tuple_of_floats() -> None:
    spacing: Any = [2, 1]
    grid = Grid(spacing_um=spacing)
    assert grid.spacing_um == (2.0, 1.0)
    assert [type(step) for step in grid.spacing_um] == [float, float]
    assert hash(grid) == hash(Grid(spacing_um=(2.0, 1.0)))


@pytest.mark.parametrize(
    ("unit", "spacing"),
    [
        ("nm", (300, 100)),
        ("nanometer", (300, 100)),
        ("µm", (0.3, 0.1)),
        ("μm", (0.3, 0.1)),
        ("micron", (0.3, 0.1)),
        ("mm", (3e-4, 1e-4)),
        ("Å", (3000, 1000)),
        ("m", (3e-7, 1e-7)),
        (["nm", "um"], (300, 0.1)),
    ],
)
def test_lengths_become_micrometres(unit: str | list[str], spacing: tuple[float, ...]) -> None:
    assert Grid.from_units(spacing, unit).spacing_um == (0.3, 0.1)


@pytest.mark.parametrize("unit", ["pixel", "px", "", "second", "NM", ["um", "pixel"]])
def test_what_is_no_length_is_refused(unit: str | list[str]) -> None:
    with pytest.raises(InputError, match="is not a length; give the voxel size in um"):
        Grid.from_units((1, 1), unit)


def test_units_must_be_one_or_one_each() -> None:
    with pytest.raises(InputError, match="3 spacings have 2 units"):
        Grid.from_units((1, 1, 1), ["um", "um"])


@given(st.floats(1e-3, 1e3), st.sampled_from(sorted(MICROMETRES)))
def test_a_unit_and_its_inverse_cancel(step_um: float, unit: str) -> None:
    grid = Grid.from_units((step_um / MICROMETRES[unit],) * 3, unit)
    assert grid.spacing_um == pytest.approx((step_um,) * 3, rel=1e-14)


def test_a_person_reads_four_digits() -> None:
    assert Grid(spacing_um=(1 / 3, 0.10151)).describe() == "0.3333 x 0.1015 um"
