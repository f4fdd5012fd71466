"""What is done with generators of steps: to the end, or passed on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from .restorer import Step

Result = TypeVar("Result")


def ended(steps: Generator[Step, None, Result]) -> Result:
    """Run what yields steps to its end; return its value."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: Result = end.value
        return value


def passed_on(
    steps: Generator[Step, None, Result], change: Callable[[Step], Step]
) -> Generator[Step, None, Result]:
    """Yield steps as part of something larger, each changed; return their value."""
    try:
        while True:
            yield change(next(steps))
    except StopIteration as end:
        value: Result = end.value
        return value
    finally:
        steps.close()
