"""Many files with one recipe: which there are, what is done already, one after the other.

`jobs_of` lists the images of a folder, `examining` says what each is and what is done already,
`running` restores what is not, and goes on where a file fails. A `Job` is one file; whoever
shows a batch follows the events `(index, job, step)`. Run again, a batch goes on where it ended.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from napari_deconv.files.earlier import difference, signed
from napari_deconv.files.export import DTYPES, output_at
from napari_deconv.files.images import SUFFIXES, Sources, images_of, stem_of
from napari_deconv.files.origin import origin_of
from napari_deconv.files.reading import read_header, read_provenance
from napari_deconv.files.recipe import PsfFile, Recipe, TrainedModel
from napari_deconv.files.summary import write_rows
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, Value, first_line, require
from napari_deconv.pipeline import Record
from napari_deconv.restoration.restorer import Step
from napari_deconv.volumes import is_begun_for, restoring_file

State = Literal["waiting", "running", "done", "skipped", "failed"]

RESTORED = "_restored"
DONE_ALREADY = "done already"

#: Of the summary, in this order.
COLUMNS = (
    *("source", "output", "state", "seconds", "message"),
    *("axes", "shape", "engine", "iterations"),
)


@dataclass(frozen=True)
class Job(Value):
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


Event = tuple[int, Job, Step | None]

RestoringFile = Callable[..., Generator[Step, None, Any]]


# -- which files there are -----------------------------------------------------------------


def jobs_of(
    sources: Sources,
    out_folder: str | os.PathLike[str],
    *,
    pattern: str = "*",
    recursive: bool = False,
    suffix: str = ".ome.tif",
) -> tuple[Job, ...]:
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
        Job(
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


def _require_distinct(jobs: Sequence[Job]) -> None:
    """Raise where two images would be written to one output, on a disk that ignores case too."""
    first: dict[str, Job] = {}
    for job in jobs:
        other = first.setdefault(job.output.lower(), job)
        require(
            other is job,
            f"{other.source} and {job.source} would both be written to {job.output}; rename "
            "one of them, or restore them into two folders",
        )


# -- what they are -------------------------------------------------------------------------


def examining(
    jobs: Sequence[Job],
    recipe: Recipe | None = None,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> Generator[Event, None, tuple[Job, ...]]:
    """Look at each file and at its output, without restoring: what would `running` do?

    Parameters
    ----------
    jobs : sequence of Job
        The files.
    recipe : Recipe, optional
        What is to be done; without it, no output counts as done.
    dtype, overwrite
        As for `running`.

    Yields
    ------
    (int, Job, None)
        A file: waiting; skipped, as it is done already; or failed, with the reason.

    Returns
    -------
    tuple of Job
        All of them: the value of the generator.
    """
    now = signed(recipe)[0] if recipe is not None else None
    seen: list[Job] = []
    for index, job in enumerate(jobs):
        seen.append(_examined(job, now, dtype, overwrite=overwrite))
        yield index, seen[-1], None
    return tuple(seen)


def _examined(job: Job, recipe: Recipe | None, dtype: str, *, overwrite: bool) -> Job:
    """Return the job with what its file is; no error leaves this function."""
    job = Job(job.source, job.output)
    try:
        header = read_header(job.source)
        job = replace(job, axes=header.axes, shape=header.shape)
        if recipe is None:
            return job
        _require_psfs(header, recipe)
        output = Path(job.output)
        output_at(output)  # first, as a name that is too long cannot be looked for
        origin = origin_of(job.source)
        differs = difference(output, recipe, origin, dtype)
        if differs is None:
            return _skipped(job, read_provenance(output))
        require(
            overwrite or not differs,
            f"{output.name} exists already and {differs}; choose another folder, or allow "
            "outputs to be overwritten",
        )
        _require_files(header, recipe)
        begun = is_begun_for(output, header, recipe, origin)
    except Exception as error:
        return replace(job, state="failed", message=_in_words(error))
    notes = ("begun; goes on where it ended",) if begun else ()
    return replace(job, message="; ".join((*notes, *header.remarks)))


def _skipped(job: Job, made: Plain | None) -> Job:
    """Return a job that is done already, with what its output says of how it was made."""
    job = replace(job, state="skipped", message=DONE_ALREADY)
    with suppress(InputError):  # the record of a later version
        record = Record.from_dict((made or {}).get("record"))
        notes = dict.fromkeys((DONE_ALREADY, *record.notes))
        return replace(_recorded(job, record, record.seconds), message="; ".join(notes))
    return job


def _require_psfs(header: Stack, recipe: Recipe) -> None:
    channels, psfs = header.channel_count(), len(recipe.channel_psfs)
    require(
        psfs in (0, channels),
        f"It has {_counted(channels, 'channel')}, the recipe {_counted(psfs, 'PSF')}; use a "
        "recipe with one PSF a channel, or with one for all",
    )


def _require_files(header: Stack, recipe: Recipe) -> None:
    """Raise where a file is gone that the recipe needs for this image."""
    channels = recipe.channels or range(header.channel_count())
    for source in (*map(recipe.psf_of, channels), recipe.method):
        require(
            not isinstance(source, PsfFile | TrainedModel)
            or Path(source.path).expanduser().exists(),
            f"The recipe needs the file {getattr(source, 'path', '')}, which is not there; put it "
            "there, or use another recipe",
        )


# -- restoring them ------------------------------------------------------------------------


def running(
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    memory_bytes: int | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
    summary: str | os.PathLike[str] | None = None,
    restoring_file: RestoringFile = restoring_file,
) -> Generator[Event, None, tuple[Job, ...]]:
    """Restore one file after the other; where one fails, the others go on.

    Parameters
    ----------
    jobs : sequence of Job
        The files. Each is looked at anew, whatever its state.
    recipe : Recipe
        What to do with all of them.
    memory_bytes : int, optional
        What a file may take; larger ones are restored in tiles.
    dtype : {"float32", "uint16"}
        Type of the outputs.
    overwrite : bool
        Whether outputs that were made otherwise are replaced. What is done already is not
        done again.
    summary : str or path, optional
        A table that is written anew after each file; see `write_summary`.
    restoring_file : callable, optional
        What restores a file; see `volumes.restoring_file`.

    Yields
    ------
    (int, Job, Step or None)
        A file that is running, with its step, or that has ended, without. To stop, stop
        iterating: what is finished of the running file is kept, and the next run goes on
        from there.

    Returns
    -------
    tuple of Job
        All of them: the value of the generator.

    Raises
    ------
    InputError
        If the type is not known or the summary cannot be written, before anything is done.
    """
    require(dtype in DTYPES, f"The type {dtype!r} is not written; choose {' or '.join(DTYPES)}")
    recipe, changes = signed(recipe)
    all_jobs = [Job(job.source, job.output) for job in jobs]
    if summary is not None:
        write_summary(summary, all_jobs)
    options = {"memory_bytes": memory_bytes, "dtype": dtype, "overwrite": overwrite}
    axes = ""
    for index, job in enumerate(all_jobs):
        run = _running_one(job, recipe, restoring_file, options)
        try:
            while True:
                now, step = next(run)
                yield index, now, step
        except StopIteration as end:
            all_jobs[index] = _with_notes(end.value, axes, changes)
        finally:
            run.close()
            _keep(summary, all_jobs)
        axes = axes or all_jobs[index].axes
        yield index, all_jobs[index], None
    if summary is not None:
        write_summary(summary, all_jobs)
    return tuple(all_jobs)


def _running_one(
    job: Job, recipe: Recipe, restore: RestoringFile, options: dict[str, Any]
) -> Generator[tuple[Job, Step], None, Job]:
    """Restore one file; return the job as it ended, whatever came in between."""
    started = time.perf_counter()
    job = _examined(job, recipe, options["dtype"], overwrite=options["overwrite"])
    if job.state != "waiting":
        return job
    now = replace(job, state="running")
    try:
        yield now, Step(0, 1, job.message or "reading")
        _make_folder(Path(job.output).parent)
        steps = restore(Path(job.source), Path(job.output), recipe, **options)
        try:
            while True:
                yield now, next(steps)
        except StopIteration as end:
            return _finished(job, end.value, time.perf_counter() - started)
        finally:
            steps.close()
    except Exception as error:
        seconds = round(time.perf_counter() - started, 3)
        return replace(job, state="failed", message=_in_words(error), seconds=seconds)


def _finished(job: Job, finished: Any, seconds: float) -> Job:
    """Return the job with what is worth knowing of its result."""
    notes = dict.fromkeys((*finished.record.notes, *finished.written.notes))
    return replace(_recorded(job, finished.record, seconds), state="done", message="; ".join(notes))


def _recorded(job: Job, record: Record, seconds: float) -> Job:
    """Return the job with what computed it, and for how long."""
    return replace(
        job,
        seconds=round(seconds, 3),
        engine=f"{record.engine}: {record.device}",
        iterations=max((block.iterations for block in record.blocks), default=None),
    )


def _with_notes(job: Job, axes: str, changes: Sequence[str]) -> Job:
    """Return a finished job that says where its axes are not the first's, and what changed."""
    if job.state != "done":
        return job
    odd = f"its axes are {job.axes}, those of the first file {axes}"
    notes = (odd if axes not in ("", job.axes) else "", *changes, job.message)
    return replace(job, message="; ".join(note for note in notes if note))


def _keep(summary: str | os.PathLike[str] | None, jobs: Sequence[Job]) -> None:
    """Write the summary as it stands; a spreadsheet may hold it open, which the end tells."""
    if summary is not None:
        with suppress(InputError):
            write_summary(summary, jobs)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another"
        ) from error


def _in_words(error: Exception) -> str:
    """Return an error as a sentence for the user."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this; close other programs or crop the stack"
    return f"This failed unexpectedly ({type(error).__name__}: {first_line(error)})"


# -- what came of them ---------------------------------------------------------------------


def stopped(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs of a batch that was stopped: what was running waits again."""
    return tuple(
        replace(job, state="waiting", message="stopped; run again to go on")
        if job.state == "running"
        else job
        for job in jobs
    )


def in_words(jobs: Sequence[Job]) -> str:
    """Return how many files there are, and what became of them.

    Examples
    --------
    >>> in_words([Job("a", "b", "done"), Job("c", "d", "failed"), Job("e", "f", "done")])
    '3 files: 2 done, 1 failed'
    """
    states = Counter(job.state for job in jobs)
    order: tuple[State, ...] = ("done", "skipped", "failed", "running", "waiting")
    words = {"skipped": DONE_ALREADY}
    parts = [f"{states[state]} {words.get(state, state)}" for state in order if states[state]]
    return f"{_counted(len(jobs), 'file')}: {', '.join(parts)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def write_summary(path: str | os.PathLike[str], jobs: Sequence[Job]) -> None:
    """Write one row a file, as CSV, or as JSON where the name ends so; whole or not at all.

    An earlier summary there is replaced.

    Raises
    ------
    InputError
        If another file is there, or it cannot be written.
    """
    _make_folder(Path(path).expanduser().parent)
    write_rows(path, COLUMNS, [{name: getattr(job, name) for name in COLUMNS} for job in jobs])
