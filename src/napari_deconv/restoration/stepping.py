"""What is done with generators of steps: to the end, passed on, or counted among others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TypeVar

from .engine import Float
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


def estimated(steps: Iterator[Step]) -> Generator[Step, None, Float]:
    """Return the estimate of the last step; yield all of them."""
    estimate = None
    for step in steps:
        estimate = step.estimate
        yield step
    assert estimate is not None  # of the last step
    return estimate


def counted(
    steps: Generator[Step, None, Result], total: int, done: int = 0
) -> Generator[Step, None, Result]:
    """Pass the steps on, counted among all; what they estimate and miss is not the result's."""
    numbers = itertools.count(done + 1)

    def among_all(step: Step) -> Step:
        at = min(next(numbers), total - 1)
        return replace(step, done=at, total=total, estimate=None, divergence=None)

    return passed_on(steps, among_all)
