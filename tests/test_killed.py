"""A whole run that SIGKILL ends at any moment goes on to the very files of an undisturbed one.

The runs are forked from one process that has imported everything, so that twenty of them take
seconds; this module is its program, too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deconv.files import pyramid
from napari_deconv.files.export import write_stack
from napari_deconv.files.recipe import Recipe
from napari_deconv.files.work_folder import WorkFolder
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.tile_task import FINISHED_BEFORE
from napari_deconv.tiling import SPARE_BYTES
from napari_deconv.volumes import Finished, restoring_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

#: Enough for tiles of a fraction of the image.
MEMORY, SHAPE = SPARE_BYTES + 200_000, (2, 8, 72, 80)
KILLS = 20
#: A smaller pyramid than this has no levels to be killed in.
SMALL_ENOUGH = 8


def run_of(image: Path, output: Path) -> Generator[Step, None, Finished]:
    z, y, x = np.ogrid[-1:2, -2:3, -2:3]
    psf = Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 2))
    method = RichardsonLucy(12, acceleration="none")
    recipe = Recipe(psf, method, background=2.0, engine="cpu")
    return restoring_file(image, output, recipe, memory_bytes=MEMORY)


def serve() -> None:
    """Run [image, output, steps, seconds] of each line, killed so long after so many steps."""
    pyramid.SMALL_ENOUGH = SMALL_ENOUGH
    for line in sys.stdin:
        image, output, steps, seconds = json.loads(line)
        child, progress = forked(run_of(Path(image), Path(output)))
        started, times = time.perf_counter(), [0.0]
        while (steps is None or len(times) <= steps) and os.read(progress, 1):
            times.append(time.perf_counter() - started)
        if steps is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)  # not waited for yet, so that its number is its own
        _, status = os.waitpid(child, 0)
        os.close(progress)
        times.append(time.perf_counter() - started)
        print(json.dumps([os.waitstatus_to_exitcode(status), times]), flush=True)


def forked(run: Generator[Step, None, Finished]) -> tuple[int, int]:
    """Let a child do the run; return its number, and where a byte can be read for each step."""
    progress, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        return child, progress
    code = 1
    try:
        for _ in run:
            os.write(told, b".")
        code = 0
    finally:
        os._exit(code)


class Runs:
    """Runs in processes of their own."""

    def __init__(self, server: subprocess.Popen[str], image: Path) -> None:
        self.server, self.image = server, image

    def undisturbed(self, output: Path) -> list[float]:
        """Do a run to its end; return when it began, when each step was done, and the end."""
        code, times = self._asked(output, None, 0.0)
        assert code == 0
        return times

    def was_killed(self, output: Path, steps: int, seconds: float) -> bool:
        """Begin a run, and kill it unless it has ended before."""
        code, _ = self._asked(output, steps, seconds)
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def _asked(self, output: Path, steps: int | None, seconds: float) -> tuple[int, list[float]]:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps([str(self.image), str(output), steps, seconds]), file=self.server.stdin)
        self.server.stdin.flush()
        code, times = json.loads(self.server.stdout.readline())
        return code, times


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    counts = rng.poisson(np.where(rng.random(SHAPE) > 0.99, 300, 6)).astype(np.uint16)
    path = tmp_path / "image.ome.zarr"
    write_stack(path, Stack(counts, "CZYX", Grid(spacing_um=(0.3, 0.1, 0.1))), dtype="uint16")
    return path


@pytest.fixture
def runs(image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    monkeypatch.setattr(pyramid, "SMALL_ENOUGH", SMALL_ENOUGH)
    command, pipe = [sys.executable, __file__], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        yield Runs(server, image)
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(60) == 0


def files_of(folder: Path) -> dict[str, Any]:
    """Return what is in each file; of the group's metadata, not what tells of the one process."""
    found: dict[str, Any] = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    group = json.loads(found["zarr.json"])
    told = group["attributes"]["napari_deconv"]
    told["record"] = told["record"]["blocks"]
    del told["versions"]  # of the packages that the process had imported
    return {**found, "zarr.json": group}


def gone_on(image: Path, output: Path) -> int:
    """Go on with a run to its end in this process; return how many tiles were finished before."""
    lock = WorkFolder.of(output).lock
    if lock.is_file() and not lock.read_bytes():
        os.utime(lock, (1, 1))  # killed as it wrote its name: taken over when it is old
    steps = list(run_of(image, output))
    return sum(step.note.endswith(FINISHED_BEFORE) for step in steps)


def moments(times: list[float], count: int) -> Iterator[tuple[int, float]]:
    """Yield random moments, one in each of so many equal parts of a run that took `times`.

    Each as the steps that are done by then and the seconds since, so that a run which the machine
    is slower with is met at the same place.
    """
    rng = random.Random(11)
    for part in range(count):
        moment = (part + rng.random()) / count * times[-1]
        steps = bisect_right(times, moment) - 1
        yield steps, moment - times[steps]


def test_a_run_killed_at_any_moment_goes_on_to_the_same_files(
    runs: Runs, image: Path, tmp_path: Path
) -> None:
    """Assert equal files after each kill, most of them amid a run, from its tiles to its end."""
    steps_seen = list(run_of(image, tmp_path / "undisturbed.ome.zarr"))
    tiles = sum(step.place is not None for step in steps_seen)
    assert tiles > 10
    wanted = files_of(tmp_path / "undisturbed.ome.zarr")
    assert {name.split("/")[0] for name in wanted} == {"0", "1", "2", "3", "4", "zarr.json"}
    runs.undisturbed(tmp_path / "first.ome.zarr")
    times = runs.undisturbed(tmp_path / "second.ome.zarr")
    before = []
    for number, (steps, seconds) in enumerate(moments(times, KILLS)):
        output = tmp_path / f"{number}.ome.zarr"
        killed = runs.was_killed(output, steps, seconds)
        if output.exists():
            with pytest.raises(InputError, match="exists already"):
                next(run_of(image, output))  # which tidies up
        else:
            assert killed
            before.append(gone_on(image, output))
        assert files_of(output) == wanted, f"killed {seconds:.4f} s after step {steps}"
    assert len(before) >= KILLS // 2
    assert len([done for done in before if 0 < done < tiles]) >= KILLS // 10
    assert tiles in before  # while it finished


def test_what_a_run_killed_right_after_its_move_has_left_is_removed(
    image: Path, tmp_path: Path
) -> None:
    """Assert that the next run refuses the output as it is, and leaves no marks of tiles in it."""
    output = tmp_path / "out.ome.zarr"
    list(run_of(image, output))
    wanted = files_of(output)
    (output / "unfinished" / "done").mkdir(parents=True)
    (output / "unfinished" / "done" / "0-0.json").write_text("{}")
    with pytest.raises(InputError, match="exists already"):
        next(run_of(image, output))
    assert files_of(output) == wanted
    assert not (output / "unfinished").exists()


@pytest.mark.parametrize(
    ("name", "inside"), [("out.ome.zarr", "thesis.txt"), ("b.unfinished.ome.zarr", "identity.json")]
)
def test_what_a_run_has_not_left_stays(image: Path, tmp_path: Path, name: str, inside: str) -> None:
    """Assert that neither somebody else's files nor the state of another run are removed."""
    file = tmp_path / name / "unfinished" / inside
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    with pytest.raises(InputError, match="exists already"):
        next(run_of(image, tmp_path / name))
    assert file.is_file()


if __name__ == "__main__":
    serve()
