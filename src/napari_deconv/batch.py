"""Many files with one recipe, one after the other: what is done already, and what is not.

`examining` says what each file of some `jobs` is and what is done already, `running` restores what
is not, and goes on where a file fails. Whoever shows a batch follows the events
`(index, job, step)`. Run again, a batch goes on where it ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_deconv.file_jobs import DONE_ALREADY, FileJob, counted, make_folder, write_summary
from napari_deconv.files.earlier import difference, signed
from napari_deconv.files.export import DTYPES
from napari_deconv.files.names import output_at
from napari_deconv.files.origin import origin_of
from napari_deconv.files.reading import read_header, read_provenance
from napari_deconv.files.recipe import PsfFile, Recipe, TrainedModel
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Plain, in_a_sentence, require
from napari_deconv.pipeline import Record
from napari_deconv.restoration.restorer import Step
from napari_deconv.volumes import is_begun_for, restoring_file

Event = tuple[int, FileJob, Step | None]

RestoringFile = Callable[..., Generator[Step, None, Any]]


# -- what they are -------------------------------------------------------------------------


def examining(
    jobs: Sequence[FileJob],
    recipe: Recipe | None = None,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
) -> Generator[Event, None, tuple[FileJob, ...]]:
    """Look at each file and at its output, without restoring: what would `running` do?

    Parameters
    ----------
    jobs : sequence of FileJob
        The files.
    recipe : Recipe, optional
        What is to be done; without it, no output counts as done.
    dtype, overwrite
        As for `running`.

    Yields
    ------
    (int, FileJob, None)
        A file: waiting; skipped, as it is done already; or failed, with the reason.

    Returns
    -------
    tuple of FileJob
        All of them: the value of the generator.
    """
    now = signed(recipe)[0] if recipe is not None else None
    seen: list[FileJob] = []
    for index, job in enumerate(jobs):
        seen.append(_examined(job, now, dtype, overwrite=overwrite))
        yield index, seen[-1], None
    return tuple(seen)


def _examined(job: FileJob, recipe: Recipe | None, dtype: str, *, overwrite: bool) -> FileJob:
    """Return the job with what its file is; no error leaves this function."""
    job = FileJob(job.source, job.output)
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
        return replace(job, state="failed", message=in_a_sentence(error))
    notes = ("begun; goes on where it ended",) if begun else ()
    return replace(job, message="; ".join((*notes, *header.remarks)))


def _skipped(job: FileJob, made: Plain | None) -> FileJob:
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
        f"It has {counted(channels, 'channel')}, the recipe {counted(psfs, 'PSF')}; use a "
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
    jobs: Sequence[FileJob],
    recipe: Recipe,
    *,
    memory_bytes: int | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
    summary: str | os.PathLike[str] | None = None,
    restoring_file: RestoringFile = restoring_file,
) -> Generator[Event, None, tuple[FileJob, ...]]:
    """Restore one file after the other; where one fails, the others go on.

    Parameters
    ----------
    jobs : sequence of FileJob
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
    (int, FileJob, Step or None)
        A file that is running, with its step, or that has ended, without. To stop, stop
        iterating: the files that are done stay, and of the running one the finished tiles, where
        it goes in tiles (see `volumes.restoring_file`); the next run goes on from there.

    Returns
    -------
    tuple of FileJob
        All of them: the value of the generator.

    Raises
    ------
    InputError
        If the type is not known or the summary cannot be written, before anything is done.
    """
    require(dtype in DTYPES, f"The type {dtype!r} is not written; choose {' or '.join(DTYPES)}")
    recipe, changes = signed(recipe)
    all_jobs = [FileJob(job.source, job.output) for job in jobs]
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
    job: FileJob, recipe: Recipe, restore: RestoringFile, options: dict[str, Any]
) -> Generator[tuple[FileJob, Step], None, FileJob]:
    """Restore one file; return the job as it ended, whatever came in between."""
    started = time.perf_counter()
    job = _examined(job, recipe, options["dtype"], overwrite=options["overwrite"])
    if job.state != "waiting":
        return job
    now = replace(job, state="running")
    try:
        yield now, Step(0, 1, job.message or "reading")
        make_folder(Path(job.output).parent)
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
        return replace(job, state="failed", message=in_a_sentence(error), seconds=seconds)


def _finished(job: FileJob, finished: Any, seconds: float) -> FileJob:
    """Return the job with what is worth knowing of its result."""
    notes = dict.fromkeys((*finished.record.notes, *finished.written.notes))
    return replace(_recorded(job, finished.record, seconds), state="done", message="; ".join(notes))


def _recorded(job: FileJob, record: Record, seconds: float) -> FileJob:
    """Return the job with what computed it, and for how long."""
    return replace(
        job,
        seconds=round(seconds, 3),
        engine=f"{record.engine}: {record.device}",
        iterations=max((block.iterations for block in record.blocks), default=None),
    )


def _with_notes(job: FileJob, axes: str, changes: Sequence[str]) -> FileJob:
    """Return a finished job that says where its axes are not the first's, and what changed."""
    if job.state != "done":
        return job
    odd = f"its axes are {job.axes}, those of the first file {axes}"
    notes = (odd if axes not in ("", job.axes) else "", *changes, job.message)
    return replace(job, message="; ".join(note for note in notes if note))


def _keep(summary: str | os.PathLike[str] | None, jobs: Sequence[FileJob]) -> None:
    """Write the summary as it stands; a spreadsheet may hold it open, which the end tells."""
    if summary is not None:
        with suppress(InputError):
            write_summary(summary, jobs)
