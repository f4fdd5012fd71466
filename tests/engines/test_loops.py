"""Expressions as compiled loops, against numpy's own operators."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.engines.loops import loop_of
from napari_deconv.restoration.engine import Float

SPECIAL = (0.0, -1.0, np.nan, np.inf, -np.inf, 1e-40, 1e-45, 1.0, 3e38)


def evaluated(expression: str, out: Float | None = None, **volumes: Float) -> Float:
    """Return an expression of volumes, in `out` where given."""
    result = np.empty_like(next(iter(volumes.values()))) if out is None else out
    loop_of(expression, tuple(volumes), ())(volumes, result)
    return result


def test_it_rounds_as_numpy_does_and_keeps_the_operands() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 3, 5, 37), np.float32) + 1
    before = x.copy(), y.copy()
    found = np.empty_like(x)
    loop = loop_of("fmax(x - 0.5f * y, k) / (y + 2.0f) + fmin(sqrt(x), 1.1f)", ("x", "y"), ("k",))
    loop({"x": x, "y": y, "k": np.float32(0.4)}, found)
    half, k, two, most = np.array([0.5, 0.4, 2, 1.1], np.float32)
    expected = np.fmax(x - half * y, k) / (y + two) + np.fmin(np.sqrt(x), most)
    assert np.array_equal(found, expected)
    assert np.array_equal((x, y), before)


@pytest.mark.parametrize("expression", ["x * x + x", "x", "1.0f / x - 2.0f * x"])
def test_it_may_write_into_an_operand(expression: str) -> None:
    x = np.random.default_rng(0).random((4, 35), np.float32) + 1
    expected = evaluated(expression, x=x)
    assert np.array_equal(evaluated(expression, x, x=x), expected)


def test_rows_may_lie_apart_in_memory_turned_repeated_or_not_to_be_written_to() -> None:
    x = np.random.default_rng(0).random((4, 6, 9), np.float32)
    fixed = x.copy()
    fixed.setflags(write=False)
    out = np.zeros((5, 7, 11), np.float32)
    for y in (x[..., ::-1], x[::-1], x[:1, :, :1] + 0 * x[:1, :1], fixed, x.copy("F")):
        there = np.broadcast_to(y, x.shape)
        evaluated("x + y", out[:4, 1:, 1:10], x=x, y=there)
        assert np.array_equal(out[:4, 1:, 1:10], x + there)
    assert not out[4:].any()
    assert not out[:, :1].any()
    assert not out[..., 10:].any()


def test_it_sums_in_double_precision() -> None:
    x = np.full((3, 200, 1000), np.float32(0.1))
    found = loop_of("", ("x",), ("k",), summed="x * k")({"x": x, "k": np.float32(1)})
    assert found == pytest.approx(x.size * float(np.float32(0.1)), rel=1e-12)


def test_it_sums_what_was_there_before_it_writes() -> None:
    x = np.random.default_rng(0).random((3, 4, 50), np.float32)
    before = x.copy()
    total = loop_of("x + 1.0f", ("x",), (), summed="x * x")({"x": x}, x)
    assert np.array_equal(x, before + np.float32(1))
    assert total == pytest.approx(float((before.astype(np.float64) ** 2).sum()), rel=1e-6)


def test_the_logarithm_is_good_to_its_last_place() -> None:
    powers = np.random.default_rng(0).uniform(-87, 88, (100, 1000))
    x = np.exp(powers).astype(np.float32)
    x[0, :200] = np.linspace(0.9, 1.1, 200, dtype=np.float32)
    expected = np.log(x.astype(np.float64))
    places = np.spacing(np.abs(expected).astype(np.float32))
    assert (np.abs(evaluated("log(x)", x=x) - expected) <= places).all()


def test_special_values_are_numpys() -> None:
    x = np.array([SPECIAL], np.float32)
    y = x[:, ::-1].copy()
    with np.errstate(all="ignore"):
        log, ratio = np.log(x), x / y
    assert np.allclose(evaluated("log(x)", x=x), log, rtol=1e-6, equal_nan=True)
    assert np.array_equal(evaluated("x / y", x=x, y=y), ratio, equal_nan=True)
    assert np.array_equal(evaluated("fmax(x, y)", x=x, y=y), np.fmax(x, y), equal_nan=True)
    assert np.array_equal(evaluated("fmin(x, y)", x=x, y=y), np.fmin(x, y), equal_nan=True)


def test_operands_of_other_shapes_are_refused() -> None:
    x = np.ones((4, 5), np.float32)
    with pytest.raises(ValueError, match="different shapes"):
        evaluated("x + y", x=x, y=x[:, 1:])
    with pytest.raises(ValueError, match="different shapes"):
        evaluated("x + 1.0f", x[1:], x=x)


@pytest.mark.parametrize(
    "expression", ["x ** 2.0f", "exp(x)", "x[0]", "x if x else x", "2 * x", "y"]
)
def test_other_notations_are_refused(expression: str) -> None:
    """Engines share no more than `restoration.engine` names; whole numbers are others in C."""
    with pytest.raises((ValueError, KeyError)):
        loop_of(expression, ("x",), ())
