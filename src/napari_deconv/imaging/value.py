"""Frozen values: checked when they are made, written as JSON and read back.

Every value of the project (`Grid`, `Optics`, `RichardsonLucy`, `Recipe`, ...) is a frozen
dataclass that inherits from `Value`. Reading is strict: an unknown or missing field, or a
field of the wrong type, is an `InputError` with one sentence, because a recipe that is
half understood repeats a result that never was.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np

Plain = dict[str, Any]


class InputError(ValueError):
    """Bad input, told to the user in one sentence: what is wrong, why, and what to do."""


def first_line(error: BaseException) -> str:
    """Return what an error of another library says, cut to a line; its name if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_a_sentence(error: BaseException) -> str:
    """Return an error as a sentence for the user.

    Examples
    --------
    >>> in_a_sentence(InputError("Give a PSF")), in_a_sentence(ValueError("lost"))
    ('Give a PSF', 'This failed unexpectedly (ValueError: lost)')
    """
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this; close other programs or crop the stack"
    return f"This failed unexpectedly ({type(error).__name__}: {first_line(error)})"


def percent(part: float) -> str:
    """Return a part of a whole in percent, with two digits, and never as a power of ten.

    Examples
    --------
    >>> [percent(part) for part in (1, 0.996, 0.123, 0.0033, 2e-7, 0)]
    ['100 %', '99.6 %', '12 %', '0.33 %', 'less than 0.01 %', '0 %']
    """
    share = 100 * part
    if 0 < share < 0.01:
        return "less than 0.01 %"
    return f"{share:.3g} %" if share >= 99 else f"{share:.2g} %"


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError` with `sentence` unless `condition` holds."""
    if not condition:
        raise InputError(sentence)


def require_number(
    name: str, value: object, *, above: float = -math.inf, least: float = -math.inf
) -> None:
    """Raise `InputError` unless `value` is a finite number > `above` and >= `least`."""
    numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(
        value, bool
    )
    if not numeric or not _is_finite(value):
        raise InputError(f"{name} must be a finite number, not {_shown(value)}")
    if value <= above:  # type: ignore[operator]
        raise InputError(f"{name} must be greater than {above:g}, not {value}")
    if value < least:  # type: ignore[operator]
        raise InputError(f"{name} must be at least {least:g}, not {value}")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Value:
    """Base of the frozen dataclasses: `to_dict`, `from_dict`, `to_json`, `from_json`."""

    def to_dict(self) -> Plain:
        """Return the value as plain lists, numbers, strings and dictionaries."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        body = {field.name: _plain(getattr(self, field.name)) for field in fields}
        return {"kind": type(self).__name__, **body}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Build the value from what `to_dict` gave; `InputError` where it does not fit."""
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        hints = get_type_hints(cls)
        rebuilt = {
            name: _rebuilt(hints[name], value, f"{cls.__name__}: {name}")
            for name, value in cls._fields_in(data, known).items()
        }
        try:
            return cls(**rebuilt)
        except TypeError as error:
            raise InputError(f"{cls.__name__} cannot be read: {_missing(error)}") from error

    @classmethod
    def _fields_in(cls, data: object, known: list[str]) -> Plain:
        """Return the fields of a JSON object of this kind; `InputError` if it is another."""
        kind = cls.__name__
        if not isinstance(data, dict):
            raise InputError(f"{kind} is written as a JSON object, not as {_shown(data)}")
        fields = dict(data)
        if fields.pop("kind", kind) != kind:
            raise InputError(f"Expected {kind}, but the JSON describes {_shown(data['kind'])}")
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise InputError(
                f"{kind} has no field {', '.join(map(repr, unknown))}; "
                f"it knows {', '.join(known)}. Correct the name or remove it"
            )
        return fields

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the value as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build the value from a JSON text; `InputError` where it does not fit."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"This is not JSON: {error}") from error
        return cls.from_dict(data)


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _rebuilt(hint: Any, value: Any, name: str) -> Any:
    """Return `value`, as JSON gave it, as the type `hint` of the field `name` asks for."""
    members = _members(hint)
    tuples = [member for member in members if get_origin(member) is tuple]
    classes = [
        member for member in members if isinstance(member, type) and issubclass(member, Value)
    ]
    if isinstance(value, list) and tuples:
        return tuple(_rebuilt(get_args(tuples[0])[0], item, name) for item in value)
    if isinstance(value, dict) and classes:
        return _of_kind(classes, value)
    if not any(_fits(member, value) for member in members):
        wanted = " or ".join(dict.fromkeys(_in_words(member) for member in members))
        raise InputError(f"{name} must be {wanted}, not {_shown(value)}")
    return value


def _of_kind(classes: list[type[Value]], data: Plain) -> Value:
    by_kind = {member.__name__: member for member in classes}
    if len(classes) == 1 and "kind" not in data:
        return classes[0].from_dict(data)
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in by_kind:
        raise InputError(f"Unknown kind {_shown(kind)}; expected one of {', '.join(by_kind)}")
    return by_kind[kind].from_dict(data)


def _fits(hint: Any, value: Any) -> bool:
    """Return whether a plain value is of the type `hint`; which words are known is not asked."""
    if hint is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str if get_origin(hint) is Literal else get_origin(hint) or hint)


def _in_words(hint: Any) -> str:
    plain = {float: "a finite number", int: "a whole number", str: "a text", type(None): "null"}
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list"
    return plain.get(hint) or f"an object of kind {hint.__name__}"


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = get_origin(hint) in (Union, types.UnionType)
    return get_args(hint) if is_union else (hint,)


def _missing(error: TypeError) -> str:
    return str(error).split("__init__() ")[-1]
