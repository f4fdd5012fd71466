"""Loops compiled when they are first called, and kept for the next time where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(loop: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a loop as machine code: it lets other threads run, and rounds as numpy does."""
    options: dict[str, Any] = {"nogil": True}
    try:
        made = njit(cache=True, **options)(loop)
    except RuntimeError:  # no folder where what was compiled could be kept
        made = njit(**options)(loop)
    return cast(Callable[Arguments, Result], made)
