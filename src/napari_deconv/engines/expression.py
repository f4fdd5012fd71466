"""The element-wise expressions of methods, for the engines that evaluate them in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from types import CodeType
from typing import Any

import numpy as np

from napari_deconv.restoration.engine import Float

_UFUNCS: dict[str, np.ufunc] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mult": np.multiply,
    "Div": np.divide,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "log": np.log,
    "sqrt": np.sqrt,
}


@cache
def compiled(expression: str) -> CodeType:
    """Compile an expression of ours."""
    return compile(parsed(expression), expression, "eval")


@cache
def parsed(expression: str) -> ast.Expression:
    """Parse an expression of ours; OpenCL's float literals (`0.1f`) become Python's."""
    return ast.parse(re.sub(r"(\d\.\d*)f\b", r"\1", expression), mode="eval")


def evaluated(
    expression: str, operands: Mapping[str, Float | np.float32], out: Float | None = None
) -> Float:
    """Return an expression of ours on numpy arrays and numbers, in `out` where given.

    Each step writes to where an earlier one has left what is not needed any more, so that few
    arrays are made. `out` may be an operand.
    """
    result: Float = _step(parsed(expression).body, operands, out)[0]
    if out is None or result is out:
        return result
    out[...] = result
    return out


def _step(
    node: ast.expr, operands: Mapping[str, Float | np.float32], out: Float | None = None
) -> tuple[Any, bool]:
    """Return the value of a part of an expression, and whether it may be written to."""
    match node:
        case ast.Name(id=name):
            return operands[name], False
        case ast.Constant(value=float(number)):
            return np.float32(number), False
        case ast.BinOp(left=left, op=op, right=right):
            ufunc, parts = _UFUNCS[type(op).__name__], [left, right]
        case ast.Call(func=ast.Name(id=name), args=parts):
            ufunc = _UFUNCS[name]
        case _:
            raise ValueError(f"An expression may not hold {ast.dump(node)}")
    values = [_step(part, operands) for part in parts]
    places = [value for value, is_free in values if is_free]
    place = out if out is not None else next(iter(places), None)
    result = ufunc(*(value for value, _ in values), out=place)
    return result, isinstance(result, np.ndarray)
