"""Expressions evaluated step by step, against numpy's own operators."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.engines.expression import evaluated


def test_it_follows_the_expression_and_keeps_the_operands() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 5, 6), np.float32) + 1
    before = x.copy(), y.copy()
    found = evaluated(
        "fmax(x - 0.5f * y, k) / (y + 2.0f) + fmin(sqrt(x), 1.1f) * log(y)",
        {"x": x, "y": y, "k": np.float32(0.4)},
    )
    expected = np.fmax(x - 0.5 * y, 0.4) / (y + 2) + np.fmin(np.sqrt(x), 1.1) * np.log(y)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6
    assert np.array_equal((x, y), before)


@pytest.mark.parametrize("expression", ["x * x + x", "x", "1.0f / x - 2.0f * x"])
def test_it_may_write_into_an_operand(expression: str) -> None:
    x = np.random.default_rng(0).random((4, 5), np.float32) + 1
    expected = evaluated(expression, {"x": x}).copy()
    out = evaluated(expression, {"x": x}, out=x)
    assert out is x
    assert np.array_equal(x, expected)


@pytest.mark.parametrize("expression", ["x ** 2.0f", "exp(x)", "x[0]", "x if x else x", "2 * x"])
def test_other_notations_are_refused(expression: str) -> None:
    """Engines share no more than `restoration.engine` names; whole numbers are others in C."""
    with pytest.raises((ValueError, KeyError)):
        evaluated(expression, {"x": np.ones(3, np.float32)})
