"""Expressions of methods as kernels of a GPU, by torch's jiterator, which takes C++.

C++ shares the notation of the expressions, `0.1f` and `fmax` included, so their text is taken as
it is: what there is to write is only what each operand is called.
"""

from __future__ import annotations

from functools import cache
from typing import Any

#: As many arrays as a kernel of the jiterator reads.
MOST_ARRAYS = 8
#: What an adjoint does to a spectrum `a`: its product with the conjugate of `h`.
TIMES_CONJUGATE = "a * std::conj(h)"


@cache
def code_of(expression: str, arrays: tuple[str, ...], numbers: tuple[str, ...] = ()) -> str:
    """Return the function that the expression is, of arrays first and then of numbers.

    Examples
    --------
    >>> code_of("fmax(x - k, 0.0f)", ("x",), ("k",))
    'template <typename T> T fused(T x, T k) { return fmax(x - k, 0.0f); }'
    """
    parameters = ", ".join(f"T {name}" for name in arrays + numbers)
    return f"template <typename T> T fused({parameters}) {{ return {expression}; }}"


@cache
def kernel_of(expression: str, arrays: tuple[str, ...], numbers: tuple[str, ...] = ()) -> Any:
    """Return what runs an expression on a GPU; it is compiled when it is first called."""
    from torch.cuda import jiterator

    code = code_of(expression, arrays, numbers)
    return jiterator._create_jit_fn(code, **dict.fromkeys(numbers, 0.0))


@cache
def compiles(target: str) -> bool:
    """Return whether torch can compile kernels for a GPU, which is tried once.

    The jiterator is in beta: another version may be without it, and its compiler (NVRTC, or that
    of ROCm) may be missing. All works without it, in more passes over memory.
    """
    import torch

    x, z = torch.full((2,), 4.0, device=target), torch.full((2,), 1 + 2j, device=target)
    try:
        root = kernel_of("fmax(sqrt(x) - k, 0.1f)", ("x",), ("k",))(x, k=1.5)
        square = kernel_of(TIMES_CONJUGATE, ("a", "h"))(z, z)
    except (AttributeError, AssertionError, ImportError, OSError, RuntimeError, TypeError):
        return False
    return bool((root == 0.5).all()) and bool((square == 5).all())
