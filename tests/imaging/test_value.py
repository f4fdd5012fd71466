"""What every value must obey: frozen, strict JSON both ways, one sentence where it is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_deconv.block_records import BlockRecord
from napari_deconv.files.recipe import PsfFile, Recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import KnownOptics
from napari_deconv.imaging.value import InputError, Value, require, require_number
from napari_deconv.pipeline import Record
from napari_deconv.planning import Forecast
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

OPTICS = Optics(na=1.2, emission_nm=520, immersion_index=1.333, sample_index=1.38, depth_um=4.5)
BLOCK = BlockRecord((0, 1), 99.5, 30, "stopped at the maximum", (1.5, 1.25))
PSF = Psf(np.arange(1, 28).reshape(3, 3, 3), (0.3, 0.1, 0.1), ("a note",))

#: Compared by their fields; a Psf compares by identity, and has its own tests.
VALUES: list[Value] = [
    Grid(spacing_um=(0.3, 0.1015, 0.1)),
    Grid(spacing_um=(2, 1)),
    OPTICS,
    Optics(na=0.4, emission_nm=600.5, immersion_index=1.0),
    KnownOptics(),
    KnownOptics(1.4, None, 461.0),
    PsfFile("bead.tif"),
    PsfFile("/data/bead é.tif", (0.2, 0.1, 0.1), 100.5, "0" * 64),
    RichardsonLucy(),
    RichardsonLucy(7, "biggs-andrews", 0.01, "circular", 2.5, 1e-4),
    Wiener(),
    Wiener(0.125, "circular"),
    Recipe(OPTICS),
    Recipe(PsfFile("bead.tif"), Wiener("auto"), 12.5, "opencl"),
    BLOCK,
    BlockRecord((), 0.0, 1, "", ()),
    Record("cpu", "CPU, 2 cores", 1.25, 10**10, (5, 7, 7), (BLOCK, BLOCK), ("n",), "0.1.0"),
    Forecast((10, 20), 3, 400, 4000, 1.5),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_json_both_ways(value: Value) -> None:
    for indent in (None, 2):
        text = value.to_json(indent=indent)
        again = type(value).from_json(text)
        assert again == value
        assert again.to_json(indent=indent) == text
    assert json.loads(value.to_json()) == value.to_dict()
    assert type(value).from_dict(value.to_dict()) == value
    assert hash(type(value).from_dict(value.to_dict())) == hash(value)


@pytest.mark.parametrize("value", [*VALUES, PSF], ids=lambda value: type(value).__name__)
def test_values_are_frozen(value: Value) -> None:
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)


@pytest.mark.parametrize("value", [*VALUES, PSF], ids=lambda value: type(value).__name__)
def test_unknown_fields_are_refused_by_name(value: Value) -> None:
    with pytest.raises(InputError, match=r"has no field 'iteratoins'; it knows .*Correct the name"):
        type(value).from_dict({**value.to_dict(), "iteratoins": 3})


@pytest.mark.parametrize("value", [*VALUES, PSF], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", ["Gird", "", None, 3, ["Grid"], {"kind": "Grid"}])
def test_another_kind_is_refused(value: Value, kind: object) -> None:
    with pytest.raises(InputError, match=rf"Expected {type(value).__name__}, but"):
        type(value).from_dict({**value.to_dict(), "kind": kind})


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_kind_may_be_left_out(value: Value) -> None:
    data = value.to_dict()
    del data["kind"]
    assert type(value).from_dict(data) == value


@pytest.mark.parametrize(
    ("kind", "field"),
    [(Grid, "spacing_um"), (Optics, "na"), (Recipe, "psf"), (BlockRecord, "index")],
)
def test_missing_fields_are_named(kind: type[Value], field: str) -> None:
    complete = next(value for value in VALUES if type(value) is kind).to_dict()
    del complete[field]
    with pytest.raises(InputError, match=rf"{kind.__name__} cannot be read: missing .*'{field}'"):
        kind.from_dict(complete)


@pytest.mark.parametrize("kind", [Grid, Optics, Psf, PsfFile, Recipe, RichardsonLucy, Record])
@pytest.mark.parametrize("text", ["null", "3", "[]", '"Grid"', "[{}]", "true", "NaN"])
def test_json_that_is_no_object_is_refused(kind: type[Value], text: str) -> None:
    with pytest.raises(InputError, match=f"{kind.__name__} is written as a JSON object, not as"):
        kind.from_json(text)


@pytest.mark.parametrize(
    "text", ["", "{", "{'kind': 'Grid'}", "GIF89a", "[" * 100_000, "9" * 5000], ids=lambda t: t[:9]
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="This is not JSON"):
        Grid.from_json(text)


#: A field, and what JSON may hold there that is not of its type.
WRONG: list[tuple[Value, str, list[Any]]] = [
    (VALUES[0], "spacing_um", ["abc", None, 1, {}, [[1, 1]], ["a", 1], [None, 1], [True, 1]]),
    (OPTICS, "modality", [None, 1, ["widefield"], {}, "confocal"]),
    (OPTICS, "na", ["1.2", None, [1.2], {"a": 1}, True, math.nan, math.inf, 10**400]),
    (OPTICS, "sample_index", ["water", [1.3], False]),
    (OPTICS, "immersion_index", [None, "oil"]),
    (VALUES[4], "na", ["abc", [1], {}, True, math.nan]),
    (VALUES[6], "path", [None, 3, ["a"], "", {}]),
    (VALUES[6], "voxel_size_um", ["abc", 1, [1], [0, 1, 1], ["a", 1], [[1], 1], {"a": 1}]),
    (VALUES[6], "background", ["none", None, [1], math.inf]),
    (VALUES[6], "sha256", [3, [], {}]),
    (VALUES[8], "iterations", ["ten", None, 2.5, True, [1, 2], {"n": 1}, 0, -3]),
    (VALUES[8], "acceleration", [None, 1, ["none"], "fast"]),
    (VALUES[8], "tv_weight", ["0.1", None, [0.1], -0.1, 0.2]),
    (VALUES[8], "edges", ["mirror", None]),
    (VALUES[8], "read_noise", [-1, "2", None]),
    (VALUES[8], "stop_tolerance", [-1e-9, math.nan, "0"]),
    (VALUES[10], "regularization", [0, -1, "none", None, [0.1], math.inf]),
    (VALUES[12], "psf", [None, "bead.tif", [1], {}, {"kind": "Grid"}, {"kind": []}]),
    (VALUES[12], "method", [None, "wiener", [], {"kind": "Optics"}, {"kind": None}]),
    (VALUES[12], "background", ["dark", None, True, math.nan]),
    (VALUES[12], "engine", [None, 1, ["cpu"]]),
    (BLOCK, "index", ["0", 0, [0.5], [None], None]),
    (BLOCK, "divergences", [1.0, ["a"], [math.nan], [[1.0]]]),
    (VALUES[16], "blocks", [{}, [{}], ["a"], [[1]], [None], None]),
    (VALUES[16], "notes", ["a note", [1], [["a"]]]),
    (VALUES[16], "seconds", ["1", None]),
]


@pytest.mark.parametrize(
    ("value", "field", "wrong"),
    [(value, field, wrong) for value, field, wrongs in WRONG for wrong in wrongs],
    ids=lambda item: str(item)[:24] if not isinstance(item, Value) else type(item).__name__,
)
def test_fields_of_the_wrong_type_are_refused_in_one_sentence(
    value: Value, field: str, wrong: object
) -> None:
    text = json.dumps({**value.to_dict(), field: wrong})
    with pytest.raises(InputError) as caught:
        type(value).from_json(text)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 300


def test_the_sentence_names_the_field_and_what_it_wants() -> None:
    with pytest.raises(InputError, match="RichardsonLucy: iterations must be a whole number, not"):
        RichardsonLucy.from_dict({"iterations": "ten"})
    with pytest.raises(InputError, match="sha256 must be a text or null, not 3"):
        PsfFile.from_dict({"path": "a", "sha256": 3})
    with pytest.raises(InputError, match="method must be an object of kind RichardsonLucy or an"):
        Recipe.from_dict({"psf": OPTICS.to_dict(), "method": "wiener"})
    with pytest.raises(InputError, match="Unknown kind 'CARE'; expected one of RichardsonLucy, Wi"):
        Recipe.from_dict({"psf": OPTICS.to_dict(), "method": {"kind": "CARE"}})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["kind", "na", "path", "psf", "x"]), inner, max_size=3
            )
        ),
        max_leaves=6,
    ),
    st.sampled_from([*VALUES, PSF]),
    st.data(),
)
def test_whatever_json_holds_is_a_value_or_an_input_error(
    anything: object, value: Value, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(sorted(value.to_dict())))
    text = json.dumps({**value.to_dict(), field: anything})
    try:
        made = type(value).from_json(text)
    except InputError:
        return
    assert type(value).from_json(made.to_json()).to_dict() == made.to_dict()


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=3), st.floats(1e-3, 1.3))
def test_floats_come_back_as_they_were(spacing: list[float], na: float) -> None:
    grid = Grid(spacing_um=tuple(spacing))
    assert Grid.from_json(grid.to_json()) == grid
    optics = Optics(na=na, emission_nm=520, immersion_index=1.4)
    assert Optics.from_json(optics.to_json()) == optics


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    method = RichardsonLucy(np.int64(5), tv_weight=np.float32(0.5) / 8)  # type: ignore[arg-type]
    assert json.loads(method.to_json())["tv_weight"] == 0.0625
    assert RichardsonLucy.from_json(method.to_json()).iterations == 5


def test_not_a_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        KnownOptics(na=math.nan).to_json()


def test_one_kind_of_value_needs_no_kind_inside_another() -> None:
    record = VALUES[16].to_dict()
    for block in record["blocks"]:
        del block["kind"]
    assert Record.from_dict(record) == VALUES[16]


def test_require_says_its_sentence() -> None:
    require(True, "never said")
    with pytest.raises(InputError, match=r"^said$"):
        require(False, "said")


@pytest.mark.parametrize("good", [1, 0.5, np.float32(0.5), np.int16(3), 1e300])
def test_numbers_of_any_kind_are_numbers(good: object) -> None:
    require_number("It", good, above=0, least=0.5)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (True, "It must be a finite number, not True"),
        ("1", "It must be a finite number, not '1'"),
        (None, "It must be a finite number, not None"),
        (math.nan, "It must be a finite number, not nan"),
        (-math.inf, "It must be a finite number, not -inf"),
        (1j, "It must be a finite number, not 1j"),
        (np.ones(3), r"It must be a finite number, not array\(\[1., 1., 1.\]\)"),
        (10**400, r"It must be a finite number, not 10000.*\.\.\.$"),
        (0, "It must be greater than 0, not 0"),
        (0.25, "It must be at least 0.5, not 0.25"),
    ],
)
def test_numbers_out_of_range_are_told(bad: object, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        require_number("It", bad, above=0, least=0.5)
