"""What must be the same for a run to go on, and the words for what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_deconv.imaging.value import InputError, Plain

#: Differences that a sentence names.
MOST_NAMED = 3


def as_plain(identity: Plain) -> Plain:
    """Return an identity as it comes back from JSON: tuples become lists.

    Raises
    ------
    InputError
        If it cannot be written as JSON.
    """
    try:
        plain: Plain = json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"What identifies a run cannot be written as JSON ({error}); give plain numbers, "
            "texts, lists and dictionaries"
        ) from error
    return plain


def require_same(begun: Plain, now: Plain, folder: Path) -> None:
    """Raise unless a folder was begun for what it is to be used for now.

    Parameters
    ----------
    begun, now : dict
        Plain values in parts, such as {"recipe": ..., "input": ...}.
    folder : Path
        The folder that was begun.

    Raises
    ------
    InputError
        If they differ; the sentence names the parts, and in each what it was and is now.
    """
    parts = [part for part in {**begun, **now} if begun.get(part) != now.get(part)]
    if not parts:
        return
    words = [_told(part, begun.get(part), now.get(part)) for part in parts]
    raise InputError(
        f"{folder.name} was begun with another {' and another '.join(words)}; go back to what it "
        f"was, choose another output, or delete the folder {folder} to begin anew"
    )


def _told(part: str, begun: Any, now: Any) -> str:
    """Return a part with its differences: recipe (method.iterations was 30 and is now 50)."""
    found = [
        f"{' '.join([*name, 'was'])} {_shown(a)} and is now {_shown(b)}"
        for name, a, b in _differences(begun, now, ())
    ]
    more = [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    return f"{part} ({', '.join([*found[:MOST_NAMED], *more])})"


def _differences(
    begun: Any, now: Any, name: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield where two plain values differ: a dotted name, or none, and both values."""
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in {**begun, **now}:
            if begun.get(key) != now.get(key):
                inner = (".".join([*name, str(key)]),)
                yield from _differences(begun.get(key), now.get(key), inner)
    else:
        yield name, begun, now


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
