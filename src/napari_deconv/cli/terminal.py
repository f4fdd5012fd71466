"""What the terminal shows: progress, a report, one sentence when something fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from napari_deconv.files.recipe import Recipe
    from napari_deconv.imaging.stack import Stack
    from napari_deconv.pipeline import Restored
    from napari_deconv.restoration.restorer import Step


def fail(sentence: str, code: int) -> NoReturn:
    """Say in one sentence what is wrong, and exit."""
    print(f"napari-deconv: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    print(text, file=sys.stderr)


def run(stack: Stack, recipe: Recipe) -> Restored:
    """Run to the end with progress on stderr; Ctrl-C ends it after the iteration."""
    from napari_deconv.pipeline import drained, restoring

    try:
        with _progress() as show:
            return drained(restoring(stack, recipe), show)
    except KeyboardInterrupt:
        # Told here: the parser of the command line would end without a word.
        fail("Stopped; nothing was written.", 130)


@contextmanager
def _progress() -> Iterator[Callable[[Step], None]]:
    """Yield a function that shows a step: one moving line on a terminal, few lines elsewhere."""
    moving = sys.stderr.isatty()
    last = -1

    def show(step: Step) -> None:
        nonlocal last
        tenth = 10 * step.done // step.total
        text = f"{step.done}/{step.total} {step.note}"
        if moving:
            filled = 30 * step.done // step.total
            bar = "#" * filled + "-" * (30 - filled)
            print(f"\r[{bar}] {text[:60]:60}", end="", file=sys.stderr, flush=True)
        elif tenth != last or step.done == 0:
            say(f"Progress    {text}")
        last = tenth

    yield show
    if moving:
        print(file=sys.stderr)


def write(restored: Restored, output: Path, **how: Any) -> None:
    """Write the result with its recipe and record, and say what became of its intensities."""
    from napari_deconv.pipeline import export

    written = export(restored, output, **how)
    for note in written.notes:
        say(note)


def report(restored: Restored, output: Path, *, as_json: bool) -> None:
    """Say what was done, and print it as JSON where asked."""
    record, recipe = restored.record, restored.recipe
    for note in record.notes:
        say(f"Note        {note}")
    grid = restored.stack.grid
    psf_source = recipe.psf.to_dict()
    described = psf_source.get("path") or "computed"
    say(f"Engine      {record.device}")
    say(f"Voxel size  {grid.describe() if grid else 'unknown'}")
    say(f"PSF         {Path(described).name}, {' x '.join(map(str, record.psf_shape))} voxels")
    for block in record.blocks:
        index = f"block {list(block.index)}: " if block.index else ""
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
