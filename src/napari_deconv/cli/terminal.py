"""What the terminal shows: progress, a report, one sentence when something fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from napari_deconv.files.recipe import Recipe
    from napari_deconv.imaging.stack import Stack
    from napari_deconv.restoration.restorer import Step
    from napari_deconv.volumes import Finished


Value = TypeVar("Value")


def fail(sentence: str, code: int) -> NoReturn:
    """Say in one sentence what is wrong, and exit."""
    print(f"napari-deconv: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    print(text, file=sys.stderr)


def run(steps: Generator[Step, None, Finished], output: Path) -> Finished:
    """Run to the end with progress on stderr; Ctrl-C ends it after the iteration."""
    return followed(steps, lambda: _stopped(output))


def followed(steps: Generator[Step, Any, Value], stopped: Callable[[], str] | str) -> Value:
    """Run to the end with progress on stderr; return the value. Ctrl-C ends it with a word."""
    try:
        with _progress() as show, closing(steps):
            while True:
                show(next(steps))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    except KeyboardInterrupt:
        # Told here: the parser of the command line would end without a word.
        fail(stopped if isinstance(stopped, str) else stopped(), 130)


def _stopped(output: Path) -> str:
    """Return what a run that was stopped left behind, and how it goes on."""
    from napari_deconv.files.work_folder import WorkFolder

    folder = WorkFolder.of(output)
    kept = len(folder.marks.names())
    if not kept:
        return "Stopped; nothing was written."
    tiles = "1 finished tile is" if kept == 1 else f"{kept} finished tiles are"
    return (
        f"Stopped; {tiles} kept in {folder.name}, and the same command goes on from there; "
        "delete that folder to begin anew."
    )


@contextmanager
def _progress() -> Iterator[Callable[[Step], None]]:
    """Yield a function that shows a step: one moving line on a terminal, few lines elsewhere."""
    moving = sys.stderr.isatty()
    clock = _Clock()
    last: tuple[int, str] | None = None

    def show(step: Step) -> None:
        nonlocal last
        tenth = 10 * step.done // step.total
        # Before anything is done, and after all is, what goes on is news, its numbers are not.
        told = step.note if step.done in (0, step.total) else ""
        news = tenth, re.sub("[0-9.]+", "", told)
        text = f"{step.done}/{step.total}{clock.left(step)} {step.note}"
        if moving:
            filled = 20 * step.done // step.total
            line = f"[{'#' * filled}{'-' * (20 - filled)}] {text}"
            columns = shutil.get_terminal_size().columns - 1
            print(f"\r{line:{columns}.{columns}}", end="", file=sys.stderr, flush=True)
        elif news != last:
            say(f"Progress    {text}")
        last = news

    try:
        yield show
    finally:
        if moving:
            print(file=sys.stderr)


class _Clock:
    """Tells how long a run still takes, by what it has done since it was first looked at."""

    def __init__(self) -> None:
        self._since: tuple[float, int, int] | None = None

    def left(self, step: Step) -> str:
        """Return ', about 3 min left', or nothing as long as that cannot be said."""
        now = time.monotonic()
        if self._since is None or self._since[2] != step.total:
            # Neither what prepares a run nor what an earlier one has done tells how fast it is.
            self._since = (now, step.done, step.total)
        started, done_before, _ = self._since
        elapsed, done = now - started, step.done - done_before
        if elapsed < 2 or done <= 0 or step.done >= step.total:
            return ""
        return f", about {_in_words(elapsed / done * (step.total - step.done))} left,"


def _in_words(seconds: float) -> str:
    """Return seconds as a person says them.

    Examples
    --------
    >>> _in_words(42), _in_words(200), _in_words(9000)
    ('42 s', '3 min', '2 h 30 min')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def report(finished: Finished, stack: Stack, output: Path, *, as_json: bool) -> None:
    """Say what was done to (a part of) `stack`, and print it as JSON where asked."""
    record, recipe = finished.record, finished.recipe
    for note in (*finished.written.notes, *record.notes):
        if note not in stack.remarks:  # said when it was read
            say(f"Note        {note}")
    sources = (psf.to_dict() for psf in recipe.channel_psfs or (recipe.psf,))
    names = dict.fromkeys(Path(source.get("path") or "computed").name for source in sources)
    say(f"Engine      {record.device}")
    say(f"Voxel size  {stack.grid.describe() if stack.grid else 'unknown'}")
    say(f"PSF         {', '.join(names)}, {' x '.join(map(str, record.psf_shape))} voxels")
    for block in record.blocks:
        index = _index(block.index, recipe, stack.axes)
        say(f"Iterations  {index}{block.stop_reason}; background {block.background:.4g}")
    say(f"Time        {record.seconds:.1f} s")
    say(f"Memory      {record.peak_memory_bytes / 1e9:.2f} GB at the peak")
    say(f"Output      {output}")
    if as_json:
        print(
            json.dumps(
                {"output": str(output), "recipe": recipe.to_dict(), "record": record.to_dict()}
            )
        )


def _index(block: tuple[int, ...], recipe: Recipe, axes: str) -> str:
    """Return which block it is, as it is counted in the stack and not among the chosen ones."""
    chosen = {"T": recipe.times, "C": recipe.channels}
    kept = [chosen[axis] for axis in axes if axis in chosen]
    numbers = [entry[i] if entry else i for i, entry in zip(block, kept, strict=True)]
    return f"block {numbers}: " if numbers else ""


def open_viewer(*paths: Path) -> None:
    """Open napari on the files, in a process of its own: this one stays free of the viewer."""
    command = [sys.executable, "-m", "napari_deconv.ui", *map(str, paths)]
    if subprocess.run(command, check=False).returncode != 0:
        say("The viewer could not be opened; the files are written all the same")


def has_display() -> bool:
    """Return whether a window can be opened."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
