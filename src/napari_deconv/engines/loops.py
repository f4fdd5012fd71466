"""The element-wise expressions of methods as machine code, each a single pass over memory.

numpy would do them operator by operator, and its threads wait for Python's lock at each. Here the
text becomes a loop that numba compiles when it is first asked for, which takes seconds, and keeps
beside this file or in the user's cache. It rounds as numpy does, but for the logarithm.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import float32, float64, intp, njit, types

from napari_deconv.restoration.engine import Float
from napari_deconv.restoration.pieces import Rows

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
            {work}
    return total
"""
ROW = "row_{0} = row_of(memory_{0}, planes_{0}, rows_{0}, p, r, length)"
MADE = """for i in range(length):
                row[i] = {0}
            """
SUM = "total += summed(row)\n            "
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
def row_of(memory, planes, rows, plane, row, length):  # type: ignore[no-untyped-def]
    """Return a row of a volume."""
    start = planes[plane] + rows[row]
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
        Takes a shape, the `Rows` of what it writes to, if it does, and of each volume, and the
        numbers; returns the sum of what is to be summed.
    """

    volumes: tuple[str, ...]
    numbers: tuple[str, ...]
    run: Callable[..., float]

    def __call__(self, operands: Mapping[str, Any], out: Float | None = None) -> float:
        """Evaluate arrays, rows and numbers into `out`; return the sum of what is summed.

        `out` may be one of the arrays.
        """
        arrays: list[Any] = [operands[name] for name in self.volumes]
        if out is not None:
            arrays.insert(0, out)
        shape = arrays[-1].shape
        # A loop does not look where memory ends.
        if any(array.shape != shape for array in arrays):
            shapes = {array.shape for array in arrays}
            raise ValueError(f"The operands of an expression have different shapes: {shapes}")
        rows = [_rows_of(array) for array in arrays]
        told = [part for some in rows for part in (some.memory, some.planes, some.rows)]
        return self.run((1, *shape)[-3:], *told, *(operands[name] for name in self.numbers))


@cache
def loop_of(
    expression: str, volumes: tuple[str, ...], numbers: tuple[str, ...], *, summed: str = ""
) -> Loop:
    """Return expressions of ours as a loop: it writes the values of the first, and sums another.

    Of one that is empty nothing is made.
    """
    operands = {name: f"row_{name}[i]" for name in volumes} | {n: f"number_{n}" for n in numbers}
    names = [*(("out",) if expression else ()), *volumes]
    told = [f"memory_{name}, planes_{name}, rows_{name}" for name in names]
    name = "loop_" + sha256(repr((expression, volumes, numbers, summed)).encode()).hexdigest()[:12]

    def made(text: str) -> str:
        return MADE.format(_text(parsed(text).body, operands))

    source = LOOP.format(
        name=name,
        arguments=", ".join([*told, *(operands[n] for n in numbers)]),
        rows="\n            ".join(ROW.format(volume) for volume in volumes),
        work=(made(summed) + SUM if summed else "")
        + (made(expression) + STORE if expression else ""),
    )
    starts = types.Array(intp, 1, "C", readonly=True)
    read = [types.Array(float32, 1, "C", readonly=True), starts, starts]
    written = [float32[::1], starts, starts] if expression else []
    shape = types.UniTuple(intp, 3)
    kinds = [shape, *written, *(read * len(volumes)), *([float32] * len(numbers))]
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


def _rows_of(array: Float | Rows) -> Rows:
    """Return where the rows of an array begin in memory; of rows themselves that is known."""
    if isinstance(array, Rows):
        return array
    if array.strides[-1] != 4 or min(array.strides) < 0 or not array.flags.aligned:
        array = array.copy()
    plane, row = (0, *(stride // 4 for stride in array.strides[:-1]))[-2:]
    planes, rows, length = (1, *array.shape)[-3:]
    starts = _starts(planes, plane), _starts(rows, row)
    if array.flags.c_contiguous:
        return Rows(array.reshape(-1), *starts, array.shape)
    size = (planes - 1) * plane + (rows - 1) * row + length
    return Rows(np.lib.stride_tricks.as_strided(array, (size,), (4,)), *starts, array.shape)


@lru_cache(maxsize=256)
def _starts(count: int, pitch: int) -> npt.NDArray[np.intp]:
    starts: npt.NDArray[np.intp] = np.arange(count) * pitch
    starts.setflags(write=False)
    return starts
