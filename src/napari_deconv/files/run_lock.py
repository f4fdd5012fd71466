"""One run at a time in a folder: a lock that names its process, and ends with it."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_deconv.imaging.value import InputError

#: A lock without a name is one that is just being written, for so long.
NAMELESS_S = 10.0

#: The system tells the start of one process to about a second.
_SAME_START_S = 2.0

#: Locks that this process holds: one with its number that is not among them is left over.
_HELD: set[Path] = set()


def acquire(lock: Path, what: str) -> None:
    """Take the lock, also from a process that has ended; `what` names what is locked.

    Raises
    ------
    InputError
        If another run holds it.
    OSError
        If it cannot be written.
    """
    # All that takes time is known before: a run that is killed leaves no lock without a name.
    owner = json.dumps({"pid": os.getpid(), "host": platform.node(), "started": _started()})
    for _ in range(5):
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            text = _text(lock)
            _require_left_over(lock, text, what)
            _take_away(lock, text)
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(owner)
        _HELD.add(lock)
        return
    raise InputError(f"{what} is being taken up by another run; wait for it, or try again")


def release(lock: Path) -> None:
    """Give the lock back where this process holds it."""
    if lock in _HELD:
        _HELD.discard(lock)
        with suppress(OSError):
            lock.unlink(missing_ok=True)


def _require_left_over(lock: Path, text: str | None, what: str) -> None:
    """Raise unless whoever wrote the lock has ended."""
    try:
        owner: dict[str, Any] = json.loads(text or "")
        pid, host = int(owner["pid"]), str(owner["host"])
    except (ValueError, KeyError, TypeError):
        with suppress(OSError):
            if time.time() - lock.stat().st_mtime < NAMELESS_S:
                raise InputError(
                    f"{what} is being taken up by another run; wait for it, or try again"
                ) from None
        return
    if host != platform.node():
        raise InputError(
            f"{what} is being written by a run on {host} (process {pid}); wait for it, or, if it "
            f"has ended, delete {lock}"
        )
    mine = pid == os.getpid()
    if lock in _HELD if mine else _is_running(pid, owner.get("started")):
        who = "this program" if mine else f"process {pid}"
        raise InputError(
            f"{what} is being written by another run ({who}); wait for it, stop it, or choose "
            "another output"
        )


def _take_away(lock: Path, text: str | None) -> None:
    """Remove the lock that says `text`; one that another run wrote meanwhile is put back."""
    aside = lock.with_name(f"{lock.name}.{uuid.uuid4().hex[:8]}.part")
    with suppress(FileNotFoundError):
        lock.rename(aside)
        if _text(aside) != text:
            aside.rename(lock)
        aside.unlink(missing_ok=True)


def _text(lock: Path) -> str | None:
    try:
        return lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _started() -> float:
    import psutil

    return float(psutil.Process().create_time())


def _is_running(pid: int, started: Any) -> bool:
    """Return whether the process is still the one that began then: numbers are used again."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # it has ended; nobody has asked how
            return False
        return bool(abs(process.create_time() - float(started)) < _SAME_START_S)
    except psutil.NoSuchProcess:
        return False
    except (psutil.AccessDenied, TypeError, ValueError):
        return True
