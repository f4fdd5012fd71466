"""The files of a batch: which there are, what each is called, and what became of it.

`jobs_of` lists the images of a folder, each as a `FileJob`; `write_summary` has a row for each.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from napari_deconv.files.images import Sources, images_of
from napari_deconv.files.names import SUFFIXES, stem_of
from napari_deconv.files.reading import read_provenance
from napari_deconv.files.summary import write_rows
from napari_deconv.imaging.value import InputError, Value, require

State = Literal["waiting", "running", "done", "skipped", "failed"]

RESTORED = "_restored"
DONE_ALREADY = "done already"

#: Of the summary, in this order.
COLUMNS = (
    *("source", "output", "state", "seconds", "message"),
    *("axes", "shape", "engine", "iterations"),
)


@dataclass(frozen=True)
class FileJob(Value):
    """One file of a batch.

    Parameters
    ----------
    source, output : str
        The image, and where the restored one goes.
    state : {"waiting", "running", "done", "skipped", "failed"}
        Skipped is what is done already.
    message : str
        Notes on the result, or why there is none.
    seconds : float, optional
        What it took.
    axes, shape : str, tuple of int
        Of the image, where it could be read.
    engine : str
        What computed.
    iterations : int, optional
        The most that a block took.
    """

    source: str
    output: str
    state: State = "waiting"
    message: str = ""
    seconds: float | None = None
    axes: str = ""
    shape: tuple[int, ...] = ()
    engine: str = ""
    iterations: int | None = None


def jobs_of(
    sources: Sources,
    out_folder: str | os.PathLike[str],
    *,
    pattern: str = "*",
    recursive: bool = False,
    suffix: str = ".ome.tif",
) -> tuple[FileJob, ...]:
    """Return a job for each image, sorted as people count: cell 2 before cell 10.

    Parameters
    ----------
    sources : str or path, or several
        A folder, a file, or a pattern such as ``day1/*.tif`` or ``**/*.ome.tif``; see
        `images_of`. What a batch has written, there or into `out_folder`, does not count.
    out_folder : str or path
        Where the restored images go, as ``<name>_restored<suffix>``; those of folders inside
        a folder, or of a pattern, into folders of the same names.
    pattern : str
        What the names of the images in a folder must match.
    recursive : bool
        Whether to look into the folders inside a folder.
    suffix : str
        Format of the outputs: ".ome.tif" or ".ome.zarr".

    Raises
    ------
    InputError
        If nothing is found, or two images would be written to one output.
    """
    require(
        suffix in SUFFIXES,
        f"The suffix {suffix!r} does not say which format to write; choose .ome.tif or .ome.zarr",
    )
    out = Path(out_folder).expanduser()
    jobs = tuple(
        FileJob(
            str(path),
            str(out / path.parent.relative_to(folder) / f"{stem_of(path)}{RESTORED}{suffix}"),
        )
        for path, folder in images_of(sources, pattern=pattern, recursive=recursive)
        if not _is_output(path, out)
    )
    require(
        bool(jobs), "All images there are outputs of a batch; choose the folder of the originals"
    )
    _require_distinct(jobs)
    return jobs


def _is_output(path: Path, out: Path) -> bool:
    """Return whether a file is the result of a batch: by its place, or by what it says itself."""
    if not stem_of(path).endswith(RESTORED):
        return False
    if path.resolve().is_relative_to(out.resolve()):
        return True
    with suppress(InputError):  # what is no image is told when it is looked at
        return bool((read_provenance(path) or {}).get("recipe"))
    return False


def _require_distinct(jobs: Sequence[FileJob]) -> None:
    """Raise where two images would be written to one output, on a disk that ignores case too."""
    first: dict[str, FileJob] = {}
    for job in jobs:
        other = first.setdefault(job.output.lower(), job)
        require(
            other is job,
            f"{other.source} and {job.source} would both be written to {job.output}; rename "
            "one of them, or restore them into two folders",
        )


def stopped(jobs: Sequence[FileJob]) -> tuple[FileJob, ...]:
    """Return the jobs of a batch that was stopped: what was running waits again."""
    return tuple(
        replace(job, state="waiting", message="stopped; run again to go on")
        if job.state == "running"
        else job
        for job in jobs
    )


def in_words(jobs: Sequence[FileJob]) -> str:
    """Return how many files there are, and what became of them.

    Examples
    --------
    >>> in_words([FileJob(name, name, state) for name, state in [("a", "done"), ("b", "failed")]])
    '2 files: 1 done, 1 failed'
    """
    states = Counter(job.state for job in jobs)
    order: tuple[State, ...] = ("done", "skipped", "failed", "running", "waiting")
    words = {"skipped": DONE_ALREADY}
    parts = [f"{states[state]} {words.get(state, state)}" for state in order if states[state]]
    return f"{counted(len(jobs), 'file')}: {', '.join(parts)}"


def counted(number: int, what: str) -> str:
    """Return a number of things: 1 file, 3 files."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def write_summary(path: str | os.PathLike[str], jobs: Sequence[FileJob]) -> None:
    """Write one row a file, as CSV, or as JSON where the name ends so; whole or not at all.

    An earlier summary there is replaced.

    Raises
    ------
    InputError
        If another file is there, or it cannot be written.
    """
    make_folder(Path(path).expanduser().parent)
    write_rows(path, COLUMNS, [{name: getattr(job, name) for name in COLUMNS} for job in jobs])


def make_folder(folder: Path) -> None:
    """Make a folder and those it lies in; InputError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another"
        ) from error
