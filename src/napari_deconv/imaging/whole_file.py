"""A file that comes whole or not at all: written under a hidden name, and then put in its place."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def hidden_name(target: Path, suffix: str) -> Path:
    """Return a name beside `target` that nothing else has, however long that of `target` is."""
    return target.parent / f".napari-deconv-{uuid.uuid4().hex[:12]}{suffix}"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a hidden name to write a file to, which then takes the place of `target`.

    If writing fails or is interrupted, nothing of it stays, and `target` is as it was.

    Raises
    ------
    OSError
        If the system refuses.
    """
    part = hidden_name(target, ".part")
    try:
        yield part
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink()
