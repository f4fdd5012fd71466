"""Expressions of methods as C++ for torch's jiterator, which makes one kernel of each.

C++ shares the notation of the expressions, `0.1f` and `fmax` included, so their text is taken as
it is: what there is to write is only what each operand is called.
"""

from __future__ import annotations

from functools import cache

#: As many arrays as a kernel of the jiterator reads.
MOST_ARRAYS = 8
#: What an adjoint does to a spectrum `a`: its product with the conjugate of `h`.
TIMES_CONJUGATE = "a * std::conj(h)"


@cache
def kernel(expression: str, arrays: tuple[str, ...], numbers: tuple[str, ...] = ()) -> str:
    """Return the function that the expression is, of arrays first and then of numbers.

    Examples
    --------
    >>> kernel("fmax(x - k, 0.0f)", ("x",), ("k",))
    'template <typename T> T fused(T x, T k) { return fmax(x - k, 0.0f); }'
    """
    parameters = ", ".join(f"T {name}" for name in arrays + numbers)
    return f"template <typename T> T fused({parameters}) {{ return {expression}; }}"
