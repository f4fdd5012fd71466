"""The element-wise expressions of methods as machine code, each a single pass over memory.

numpy would do them operator by operator, and its threads wait for Python's lock at each. Here the
text becomes a loop that numba compiles when it is first asked for, which takes seconds, and keeps
beside this file or in the user's cache. It rounds as numpy does, but for the logarithm.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from numba import float32, float64, intp, njit, types

from napari_deconv.restoration.engine import Float

from .expression import parsed

OPERATORS = {"Add": "+", "Sub": "-", "Mult": "*", "Div": "/"}
#: A row is made apart and then stored: operands may lie where it goes, which a compiler must fear.
LOOP = """
def {name}(shape, {arguments}):
    planes, rows, length = shape
    row = empty(length, float32)
    total = 0.0
    for p in range(planes):
        for r in range(rows):
            {rows}
            for i in range(length):
                row[i] = {value}
            {use}
    return total
"""
ROW = "row_{0} = row_of(memory_{0}, pitches_{0}, p, r, length)"
STORE = f"""{ROW.format("out")}
            for i in range(length):
                row_out[i] = row[i]"""
#: Division by zero gives what it gives in numpy.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def fmax(a, b):  # type: ignore[no-untyped-def]
    """Return the larger one, that which is a number if the other is not."""
    return a if a >= b or b != b else b


@njit(**OPTIONS)
def fmin(a, b):  # type: ignore[no-untyped-def]
    """Return the smaller one, that which is a number if the other is not."""
    return a if a <= b or b != b else b


@njit(**OPTIONS)
def log(x):  # type: ignore[no-untyped-def]
    """Return the logarithm, good to a unit in the last place (Moshier's Cephes, logf).

    The system's would be called voxel by voxel; this is done for as many as a register holds.
    """
    one, zero = float32(1), float32(0)
    is_tiny = x < float32(1.17549435e-38)
    bits = np.float32(x * float32(2**24) if is_tiny else x).view(np.int32) - np.int32(0x3F3504F3)
    exponent = float32(bits >> np.int32(23)) - (float32(24) if is_tiny else zero)
    # From the root of a half to that of two, less 1.
    m = np.int32((bits & np.int32(0x7FFFFF)) + np.int32(0x3F3504F3)).view(np.float32) - one
    p = float32(7.0376836292e-2)
    p = p * m - float32(1.1514610310e-1)
    p = p * m + float32(1.1676998740e-1)
    p = p * m - float32(1.2420140846e-1)
    p = p * m + float32(1.4249322787e-1)
    p = p * m - float32(1.6668057665e-1)
    p = p * m + float32(2.0000714765e-1)
    p = p * m - float32(2.4999993993e-1)
    p = p * m + float32(3.3333331174e-1)
    low = m * (m * m) * p - exponent * float32(2.12194440e-4) - float32(0.5) * (m * m)
    found = m + low + exponent * float32(0.693359375)
    found = found if x < float32(np.inf) else x
    return found if x > zero else (float32(np.nan) if x != zero else float32(-np.inf))


@njit(**OPTIONS)
def row_of(memory, pitches, plane, row, length):  # type: ignore[no-untyped-def]
    """Return a row of a volume."""
    start = plane * pitches[0] + row * pitches[1]
    return memory[start : start + length]


@njit(fastmath={"reassoc"}, **OPTIONS)
def summed(row):  # type: ignore[no-untyped-def]
    """Return the sum of a row, in float64 and in whatever order."""
    total = 0.0
    for i in range(row.size):
        total += float64(row[i])
    return total


@dataclass(frozen=True)
class Loop:
    """An expression as a loop over rows.

    Parameters
    ----------
    volumes, numbers : tuple of str
        The names in it, in the order of the arguments of `run`.
    run : callable
        Takes a shape, memory and pitches of what it writes to, unless it sums, and of each volume,
        and the numbers; returns the sum where it sums.
    """

    volumes: tuple[str, ...]
    numbers: tuple[str, ...]
    run: Callable[..., float]

    def __call__(
        self, operands: Mapping[str, Float | np.float32], out: Float | None = None
    ) -> float:
        """Evaluate into `out`, which may be an operand; or return the sum of what sums."""
        arrays = [np.asarray(operands[name]) for name in self.volumes]
        shapes = {array.shape for array in (*arrays, *(() if out is None else (out,)))}
        # A loop does not look where memory ends.
        if len(shapes) > 1:
            raise ValueError(f"The operands of an expression have different shapes: {shapes}")
        rows = [part for array in arrays for part in _rows(array)]
        into = () if out is None else _rows(out)
        shape = (1, *arrays[0].shape)[-3:]
        return self.run(shape, *into, *rows, *(operands[name] for name in self.numbers))


@cache
def loop_of(
    expression: str, volumes: tuple[str, ...], numbers: tuple[str, ...], *, sums: bool = False
) -> Loop:
    """Return an expression of ours as a loop that writes its values, or sums them."""
    operands = {name: f"row_{name}[i]" for name in volumes} | {n: f"number_{n}" for n in numbers}
    names = [*(() if sums else ("out",)), *volumes]
    pairs = [f"memory_{name}, pitches_{name}" for name in names]
    name = "loop_" + sha256(repr((expression, volumes, numbers, sums)).encode()).hexdigest()[:12]
    source = LOOP.format(
        name=name,
        arguments=", ".join([*pairs, *(operands[n] for n in numbers)]),
        rows="\n            ".join(ROW.format(volume) for volume in volumes),
        value=_text(parsed(expression).body, operands),
        use="total += summed(row)" if sums else STORE,
    )
    pitches = types.UniTuple(intp, 2)
    memory = [types.Array(float32, 1, "C", readonly=True), pitches]
    written = [] if sums else [float32[::1], pitches]
    shape = types.UniTuple(intp, 3)
    kinds = [shape, *written, *(memory * len(volumes)), *([float32] * len(numbers))]
    return Loop(volumes, numbers, _compiled(source, name, float64(*kinds)))


def _compiled(source: str, name: str, signature: Any) -> Callable[..., float]:
    """Return a function as machine code."""
    space = {"empty": np.empty, "float32": float32, "sqrt": np.sqrt, "__name__": __name__}
    space |= {"fmax": fmax, "fmin": fmin, "log": log, "summed": summed, "row_of": row_of}
    # As if it stood in this file: beside that numba keeps it, until the file changes.
    exec(compile(source, __file__, "exec"), space)
    try:
        made = njit(signature, cache=True, **OPTIONS)(space[name])
    except RuntimeError:  # no folder where what was compiled could be kept
        made = njit(signature, **OPTIONS)(space[name])
    run: Callable[..., float] = made
    return run


def _text(node: ast.expr, operands: Mapping[str, str]) -> str:
    """Return a part of an expression in Python, on the voxel `i`."""
    match node:
        case ast.Name(id=name):
            return operands[name]
        case ast.Constant(value=float(number)):
            return f"float32({number!r})"
        case ast.BinOp(left=left, op=op, right=right) if type(op).__name__ in OPERATORS:
            sign = OPERATORS[type(op).__name__]
            return f"({_text(left, operands)} {sign} {_text(right, operands)})"
        case ast.Call(func=ast.Name(id=("fmax" | "fmin" | "log" | "sqrt") as name), args=parts):
            return f"{name}({', '.join(_text(part, operands) for part in parts)})"
    raise ValueError(f"An expression may not hold {ast.dump(node)}")


def _rows(array: Float) -> tuple[Float, tuple[int, int]]:
    """Return memory that holds an array, and how far apart its planes and rows lie in it."""
    if array.strides[-1] != 4 or min(array.strides) < 0 or not array.flags.aligned:
        array = array.copy()
    plane, row = (0, *(stride // 4 for stride in array.strides[:-1]))[-2:]
    if array.flags.c_contiguous:
        return array.reshape(-1), (plane, row)
    planes, rows, length = (1, *array.shape)[-3:]
    size = (planes - 1) * plane + (rows - 1) * row + length
    return np.lib.stride_tricks.as_strided(array, (size,), (4,)), (plane, row)
