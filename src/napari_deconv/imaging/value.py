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
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

import numpy as np

Plain = dict[str, Any]


class InputError(ValueError):
    """Bad input, told to the user in one sentence: what is wrong, why, and what to do."""


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
    if not numeric or not math.isfinite(value):  # type: ignore[arg-type]
        raise InputError(f"{name} must be a finite number, not {value!r}")
    if value <= above:  # type: ignore[operator]
        raise InputError(f"{name} must be greater than {above:g}, not {value}")
    if value < least:  # type: ignore[operator]
        raise InputError(f"{name} must be at least {least:g}, not {value}")


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
        kind = cls.__name__
        if not isinstance(data, dict):
            raise InputError(f"{kind} is written as a JSON object, not as {data!r}")
        fields = dict(data)
        if fields.pop("kind", kind) != kind:
            raise InputError(f"Expected {kind}, but the JSON describes {data['kind']}")
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise InputError(
                f"{kind} has no field {', '.join(map(repr, unknown))}; "
                f"it knows {', '.join(known)}. Correct the name or remove it"
            )
        hints = get_type_hints(cls)
        try:
            return cls(**{name: _rebuilt(hints[name], value) for name, value in fields.items()})
        except TypeError as error:
            raise InputError(f"{kind} cannot be read: {_missing(error)}") from error

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the value as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build the value from a JSON text; `InputError` where it does not fit."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
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


def _rebuilt(hint: Any, value: Any) -> Any:
    """Return `value`, as JSON gave it, in the shape that the type `hint` asks for."""
    if isinstance(value, list):
        item_hints = [hint for hint in _members(hint) if get_origin(hint) is tuple]
        item_hint = get_args(item_hints[0])[0] if item_hints else Any
        return tuple(_rebuilt(item_hint, item) for item in value)
    if isinstance(value, dict):
        classes = [
            member
            for member in _members(hint)
            if isinstance(member, type) and issubclass(member, Value)
        ]
        by_kind = {member.__name__: member for member in classes}
        chosen = by_kind.get(str(value.get("kind", "")))
        if chosen is None and len(classes) == 1 and "kind" not in value:
            chosen = classes[0]
        if chosen is None:
            raise InputError(
                f"Unknown kind {value.get('kind')!r}; expected one of {', '.join(by_kind)}"
            )
        return chosen.from_dict(value)
    return value


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = get_origin(hint) in (Union, types.UnionType)
    return get_args(hint) if is_union else (hint,)


def _missing(error: TypeError) -> str:
    return str(error).split("__init__() ")[-1]
