"""A whole run in tiles takes the memory that its plan says, and never more than it may.

Each run is a process of its own, which this module is the program of: from an image that would
take several times the budget in one piece into an OME-Zarr, its pyramid included. What counts is
the most that the process ever holds, by the system's account, less what it holds once it has
imported the package, and compiled the few loops that it keeps.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_deconv.engines import open_engine
from napari_deconv.files.export import write_stack
from napari_deconv.files.recipe import Recipe
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener
from napari_deconv.tiling import ROUNDING_UP, SPARE_BYTES, Work
from napari_deconv.volumes import Finished, restoring_file

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not tell the peak of a single process"
)

BUDGET = 500_000_000
SHAPE = (128, 752, 752)
METHODS: dict[str, RichardsonLucy | Wiener] = {
    "Richardson-Lucy": RichardsonLucy(2),
    "Wiener": Wiener(0.01),
}
#: What is read in chunks, mapped, and read strip by strip.
ZARR, MAPPED, COMPRESSED = "image.ome.zarr", "mapped.tif", "compressed.tif"
RUNS = [
    ("Richardson-Lucy", ZARR),
    ("Wiener", ZARR),
    ("Richardson-Lucy", MAPPED),
    ("Richardson-Lucy", COMPRESSED),
]


def psf() -> Psf:
    z, y, x = np.ogrid[-4:5, -7:8, -7:8]
    return Psf(np.exp(-((z / 1.5) ** 2 + y**2 + x**2) / 8))


def write_image(path: Path) -> None:
    """Write dots on a dim ground: one block, again and again, which is quick to store."""
    rng = np.random.default_rng(0)
    block = rng.poisson(np.where(rng.random((32, 80, 80)) > 0.999, 500, 5)).astype(np.uint16)
    counts = np.tile(block, [-(-n // side) for n, side in zip(SHAPE, block.shape, strict=True)])
    counts = counts[tuple(slice(n) for n in SHAPE)]
    if path.name == ZARR:
        write_stack(path, Stack(counts, "ZYX", Grid(spacing_um=(0.3, 0.1, 0.1))), dtype="uint16")
    else:
        tifffile.imwrite(path, counts, compression="zlib" if path.name == COMPRESSED else None)


def restored(image: Path, output: Path, method: Restorer, memory_bytes: int) -> Finished:
    run = restoring_file(
        image,
        output,
        Recipe(psf(), method, background=1.0, engine="cpu"),  # type: ignore[arg-type]
        memory_bytes=memory_bytes,
    )
    try:
        while True:
            next(run)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def measure(image: Path, method: Restorer) -> dict[str, Any]:
    """Return by how much this process grows at the most while it restores, and its record."""
    # The compiled loops of the engine are code as well, though it is loaded when first needed; so
    # is dask, which brings xarray and pandas where these are installed.
    import dask.array  # noqa: F401

    tiny = observe(np.ones((2, 4, 4), np.float32), psf(), 0.0)
    list(RichardsonLucy(2).steps(tiny, open_engine("cpu")))
    footprint = held("VmRSS")
    with tempfile.TemporaryDirectory(dir=image.parent) as folder:
        record = restored(image, Path(folder) / "out.ome.zarr", method, BUDGET).record
    return {
        "peak": held("VmHWM") - footprint,
        "predicted": record.predicted_bytes,
        "tiles": record.blocks[0].tiles,
    }


def held(what: str) -> int:
    """Return what the system says of this process: VmRSS is what it holds, VmHWM the most yet."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{what}:"))
    return 1024 * int(line.split()[1])


@dataclass(frozen=True)
class Measured:
    """What a run took, and the most voxels that one of its tiles works on."""

    peak: int
    predicted: int
    tiles: int
    work: Work

    @property
    def volume(self) -> int:
        """Bytes of the largest float32 volume."""
        tiles = self.work.plan(BUDGET, 1e-3).tiles()
        return 4 * max(math.prod(self.work.work_shape(tile.read.shape)) for tile in tiles)


@pytest.fixture(scope="module", params=RUNS, ids=" of ".join)
def measured(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Measured:
    method, name = request.param
    image = tmp_path_factory.mktemp("memory") / name
    write_image(image)
    command = [sys.executable, __file__, str(image), method]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return Measured(work=Work(SHAPE, 2, (psf(),), (METHODS[method],)), **json.loads(said))


def test_a_run_takes_what_its_plan_says_and_never_more_than_it_may(measured: Measured) -> None:
    """Assert that the peak is within 15 % of what was predicted, and below it and the budget."""
    assert measured.work.whole_bytes > 3 * BUDGET / 2
    assert measured.tiles == len(measured.work.plan(BUDGET, 1e-3)) > 1
    assert measured.peak <= measured.predicted <= BUDGET
    assert measured.peak >= 0.85 * measured.predicted


def test_a_tile_takes_no_more_volumes_than_its_method_announces(measured: Measured) -> None:
    """Assert it beside what is spared for code, files and pages; of Richardson-Lucy, five."""
    (method,) = measured.work.methods
    assert method.volumes == (5 if isinstance(method, RichardsonLucy) else 3)
    volumes = method.volumes * measured.volume
    assert measured.peak - SPARE_BYTES - (ROUNDING_UP - 1) * volumes <= volumes


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), METHODS[sys.argv[2]])))
