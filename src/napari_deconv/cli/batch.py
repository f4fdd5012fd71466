"""The verb `batch`: many files with one recipe, a line for each, a table at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import bytes_of, require_written
from .terminal import fail, say

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_deconv.batch import Event
    from napari_deconv.file_jobs import FileJob
    from napari_deconv.restoration.restorer import Step


def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Folders, files, or patterns in quotes ('day*/*.ome.tif')."
        ),
    ],
    recipe: Annotated[Path, typer.Option(help="Recipe (JSON), or an image exported with one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the restored images.")],
    summary: Annotated[
        Path | None, typer.Option(help="Table with a row for each file (.csv or .json).")
    ] = None,
    suffix: Annotated[
        str, typer.Option(help="Format of the outputs: .ome.tif or .ome.zarr.")
    ] = ".ome.tif",
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Look into the folders inside a folder.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Memory to use, such as 2GiB; larger files go in tiles.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of the outputs: float32 or uint16.")] = "float32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that were made otherwise.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """Restore many files with one recipe; what is done already is skipped."""
    from napari_deconv.batch import examining, running
    from napari_deconv.file_jobs import in_words, jobs_of
    from napari_deconv.files.recipe import read_recipe

    require_written(dtype)
    chosen = read_recipe(recipe)
    memory_bytes = bytes_of(memory) if memory is not None else None
    jobs = jobs_of(sources, output, recursive=recursive, suffix=suffix)
    how = {"dtype": dtype, "overwrite": overwrite}
    if dry_run:
        ended = _followed(examining(jobs, chosen, **how), jobs)  # type: ignore[arg-type]
        say(f"Would do    {in_words(ended)}")
    else:
        run = running(jobs, chosen, memory_bytes=memory_bytes, summary=summary, **how)  # type: ignore[arg-type]
        ended = _followed(run, jobs)
        say(f"Batch       {in_words(ended)}")
        if summary is not None:
            say(f"Summary     {summary}")
    if any(job.state == "failed" for job in ended):
        raise typer.Exit(1)


def _followed(
    run: Generator[Event, None, tuple[FileJob, ...]], jobs: tuple[FileJob, ...]
) -> tuple[FileJob, ...]:
    """Run a batch to its end, a line for each file; Ctrl-C ends it with a word."""
    from napari_deconv.file_jobs import in_words, stopped

    now = list(jobs)
    try:
        while True:
            index, now[index], step = next(run)
            if step is not None:
                _show_step(index, now, step)
            else:
                _say_file(index, now)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        # Told here: the parser of the command line would end without a word.
        fail(
            f"Stopped; {in_words(stopped(now))}. Run the same command again to go on from there.",
            130,
        )
    finally:
        run.close()


def _show_step(index: int, jobs: list[FileJob], step: Step) -> None:
    """Show how far a file is in one moving line, where there is a terminal."""
    if sys.stderr.isatty():
        name = Path(jobs[index].source).name
        text = f"[{index + 1}/{len(jobs)}] {name[:30]} {step.done}/{step.total} {step.note}"
        print(f"\r{text[:78]:78}", end="", file=sys.stderr, flush=True)


def _say_file(index: int, jobs: list[FileJob]) -> None:
    job = jobs[index]
    if sys.stderr.isatty():
        print(f"\r{'':78}\r", end="", file=sys.stderr)
    took = f"{job.seconds:.1f} s" if job.seconds is not None and job.state == "done" else ""
    shape = f"{job.axes} {' x '.join(map(str, job.shape))}" if job.shape else ""
    text = ", ".join(part for part in (shape, took, job.message) if part)
    place = f"{index + 1:>{len(str(len(jobs)))}}/{len(jobs)}"
    say(f"{place} {job.state:8} {Path(job.source).name}{': ' if text else ''}{text}")
