"""Files that come whole or not at all, and the sentences for what the system refuses.

What is written stands under another name beside the output until it is complete, and is then
moved there: neither a full disk nor an interruption leaves half a file, or harms an older one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_deconv.imaging.value import InputError, require
from napari_deconv.imaging.whole_file import hidden_name, replacing

#: What the name of a folder ends in while another takes its place.
REPLACED = ".old"


def require_new(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise `InputError` where a file is there already and may not be replaced."""
    require(
        overwrite or not Path(path).exists(),
        f"{Path(path).name} exists already; choose another name, or allow it to be overwritten "
        "(--overwrite on the command line)",
    )


def write_whole(path: str | os.PathLike[str], body: bytes, what: str) -> None:
    """Write the bytes of a small file; `what` names it in the sentence of a failure.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    try:
        with replacing(Path(path)) as part:
            part.write_bytes(body)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be written: {error.strerror}") from error


def write_lasting(target: Path, body: bytes) -> None:
    """Write a small file that is there, and whole, even after a power failure.

    Raises
    ------
    OSError
        If the system refuses; then nothing stays behind.
    """
    with replacing(target) as part, part.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def settled(file: Path) -> None:
    """See that a file outlives a power failure, where there is one."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def hidden_beside(target: Path, suffix: str) -> Iterator[Path]:
    """Yield a hidden name beside `target`, and remove what is left there in the end."""
    part = hidden_name(target, suffix)
    try:
        yield part
    finally:
        remove(part)


def move(part: Path, target: Path) -> None:
    """Put the finished `part` in the place of `target`; a folder makes room first."""
    old = replaced_by(part)
    if target.is_dir():
        remove(old)
        target.replace(old)
    try:
        part.replace(target)
    except BaseException:
        if old.is_dir():
            old.replace(target)
        raise
    remove(old)


def replaced_by(part: Path) -> Path:
    """Return where the folder that `part` replaces lies while they change places."""
    return part.with_name(part.name + REPLACED)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def told(error: OSError, target: Path, nbytes: int) -> InputError:
    """Return the sentence for what the system refused while `target` was written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(disk_full(target.parent, nbytes, shutil.disk_usage(target.parent).free))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(
            f"The folder {target.parent} may not be written to; choose another, or ask for the "
            "permission"
        )
    return InputError(
        f"{target.name} could not be written ({error.strerror or error}); choose another place"
    )


def disk_full(folder: Path, nbytes: int, free: int) -> str:
    """Return the sentence for a disk on which `nbytes` do not fit."""
    return (
        f"The disk of {folder} is too full: {_amount(nbytes)} are needed and {_amount(free)} are "
        "free; make room, or choose another disk"
    )


def _amount(nbytes: int) -> str:
    """Return a number of bytes, finely enough to tell what is needed from what is free."""
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 1e7 else f"{nbytes / 1e3:,.0f} kB"
