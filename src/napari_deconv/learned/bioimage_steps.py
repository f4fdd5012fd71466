"""Steps of bioimage.io before and after a network, and the normalization of a design.

To divide by the brightness of an image is none of the steps that bioimage.io knows: a network that
is given that has no steps, and its documentation says what is to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import InputError, require

from .designs import Design
from .inputs import BRIGHTNESS, PERCENTILES, STANDARD, Normalization

Float = npt.NDArray[np.float32]
Tree = dict[str, Any]

#: As bioimage.io's, against a division by nothing.
EPS = 1e-6
RANGE, MEASURED, FIXED, LINEAR = (
    "scale_range",
    "zero_mean_unit_variance",
    "fixed_zero_mean_unit_variance",
    "scale_linear",
)
#: What changes no value of what we read, which is float32.
NOTHING = ("ensure_dtype",)


def normalization_of(design: Design) -> tuple[Normalization, tuple[float, ...]]:
    """Return the normalization of a design, and its numbers; of most designs, the brightness."""
    return getattr(design, "normalization", BRIGHTNESS), getattr(design, "numbers", ())


def steps_before(design: Design) -> list[Tree]:
    """Return what bioimage.io is to do before the network."""
    normalization, numbers = normalization_of(design)
    axes = ["channel", *"zyx"[-ndim_of(design) :]]
    if normalization == PERCENTILES:
        low, high = numbers
        return [_step(RANGE, axes=axes, min_percentile=low, max_percentile=high)]
    if normalization == STANDARD and numbers:
        return [_step(FIXED, mean=numbers[0], std=numbers[1])]
    return [_step(MEASURED, axes=axes)] if normalization == STANDARD else []


def steps_after(design: Design) -> list[Tree]:
    """Return what bioimage.io is to do after the network: what is known of an image undoes itself.

    What is measured on each image cannot be undone by its steps.
    """
    normalization, numbers = normalization_of(design)
    if normalization != STANDARD or not numbers or design.laplace:
        return []
    mean, std = numbers[-2:]
    return [_step(LINEAR, gain=std, offset=mean)]


def applied(steps: Sequence[Tree], values: Float) -> Float:
    """Return values after steps.

    Raises
    ------
    InputError
        If a step is not known.
    """
    for step in steps:
        name, kwargs = step.get("id"), step.get("kwargs") or {}
        if name == RANGE:
            ends = (kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0))
            low, high = np.percentile(values, ends)
            values = (values - low) / (high - low + kwargs.get("eps", EPS))
        elif name == MEASURED:
            values = (values - values.mean()) / (values.std() + kwargs.get("eps", EPS))
        elif name == FIXED:
            values = (values - _number(kwargs, "mean")) / _number(kwargs, "std")
        elif name == LINEAR:
            values = values * _number(kwargs, "gain", 1.0) + _number(kwargs, "offset", 0.0)
        elif name not in NOTHING:
            raise InputError(
                f"The step {str(name)[:40]!r} of a model of bioimage.io is not known here; there "
                f"are {RANGE}, {MEASURED}, {FIXED} and {LINEAR}"
            )
    return np.asarray(values, np.float32)


def normalization_in(
    before: Sequence[Tree], after: Sequence[Tree]
) -> tuple[Normalization, tuple[float, ...]]:
    """Return the normalization that steps amount to.

    Raises
    ------
    InputError
        If there is none.
    """
    told = [step for step in before if step.get("id") not in NOTHING]
    back = [step for step in after if step.get("id") not in NOTHING]
    measured = [step for step in told if step.get("id") in (RANGE, MEASURED)]
    if measured and len(told) == 1 and not back:
        kwargs = told[0].get("kwargs") or {}
        if told[0].get("id") == MEASURED:
            return STANDARD, ()
        ends = kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0)
        return PERCENTILES, (float(ends[0]), float(ends[1]))
    require(
        not measured and all(step.get("id") in (FIXED, LINEAR) for step in (*told, *back)),
        "What is done before and after this network is more than one normalization, which is not "
        "known here: " + (", ".join(str(step.get("id"))[:40] for step in (*told, *back)) or "-"),
    )
    # Lines are told by two of their points.
    (zero, one), (dark, light) = (_ends(steps) for steps in (told, back))
    require(one > zero, "What is done before this network turns bright into dark")
    unit = 1 / (one - zero)
    return STANDARD, (-zero * unit, unit, dark, light - dark)


def _ends(steps: Sequence[Tree]) -> tuple[float, float]:
    """Return what becomes of 0 and 1."""
    zero, one = applied(steps, np.array([0.0, 1.0], np.float32))
    return float(zero), float(one)


def ndim_of(design: Design) -> int:
    """Return the dimensions of the images of a design."""
    pools = getattr(design, "pools", None)
    return len(pools[0]) if pools else int(getattr(design, "ndim", 3))


def _step(name: str, **kwargs: Any) -> Tree:
    return {"id": name, "kwargs": kwargs}


def _number(kwargs: Tree, name: str, default: float | None = None) -> float:
    """Return a number of a step; a list of one, along an axis, is that one."""
    value = kwargs.get(name, default)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"The {name} of a step is no number but {str(value)[:40]!r}")
    return float(value)
