"""A volume that is larger than memory: what a run of it takes, held against what it may.

    python benchmarks/large_volume.py [--gib 16] [--memory 2GiB] [--method richardson-lucy]
        [--iterations 2] [--folder DIR] [--keep]

Writes an OME-Zarr of so many GiB of uint16, a chunk at a time, and a PSF; restores it with the
command `napari-deconv restore ... --memory ...` in a process of its own; and looks at that
process's memory five times a second. What counts is the most that it holds less what a process
holds that has imported the package. Exits with 1 if that is more than the budget, or if the
output is not whole.

The disk holds the output as well: twice the volume's size, and a third of that for its pyramid.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from napari_deconv.cli.arguments import bytes_of
from napari_deconv.files.chunk_places import ChunkPlaces
from napari_deconv.files.export import write_stack
from napari_deconv.files.metadata import shadow
from napari_deconv.files.ome_zarr_output import attributes, create, create_level
from napari_deconv.files.pyramid import level_factors, level_shape
from napari_deconv.files.reading import read_pyramid
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack

GRID = Grid(spacing_um=(0.3, 0.1, 0.1))
CHUNK, PLANES = (32, 256, 256), 128
BACKGROUND, OFFSETS = 10, 8
EVERY_S = 0.2
IMPORTS = (
    "import napari_deconv.cli.restore_file, napari_deconv.volumes, "
    "napari_deconv.engines.cpu_engine, dask.array, scipy.fft, tifffile, zarr, psutil; "
    "print(psutil.Process().memory_info().rss)"
)


def shape_of(gib: float) -> tuple[int, int, int]:
    """Return the shape of so many GiB of uint16, deeper where it is large."""
    voxels = gib * 2**30 / 2
    planes = PLANES if voxels < 2**31 else 2 * PLANES
    side = max(round(math.sqrt(voxels / planes) / 64), 4) * 64
    return planes, side, side


def psf() -> np.ndarray[Any, np.dtype[np.float32]]:
    z, y, x = np.ogrid[-7:8, -15:16, -15:16]
    return np.asarray(np.exp(-((z / 1.5) ** 2 + y**2 + x**2) / 8), np.float32)


def spots() -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return one chunk of blurred spots that repeats itself without a seam."""
    from scipy.fft import irfftn, rfftn

    rng = np.random.default_rng(0)
    kernel = np.zeros(CHUNK, np.float32)
    kernel[:15, :31, :31] = psf() / psf().sum()
    points = np.where(rng.random(CHUNK) > 0.999, rng.gamma(2, 20_000, CHUNK), 0)
    blurred = irfftn(rfftn(points) * rfftn(kernel), CHUNK)
    return np.rint(blurred).clip(0, 60_000).astype(np.uint16)


def write_volume(path: Path, shape: tuple[int, ...]) -> None:
    """Write the spots into each chunk, each on a ground of its own."""
    header, block = Stack(shadow(shape, "uint16"), "ZYX", GRID), spots()
    group = create(path, "0.5")
    array = create_level(group, 0, shape, header, "uint16", CHUNK)
    for number, place in enumerate(ChunkPlaces(shape, CHUNK).each()):
        part = block[tuple(slice(s.stop - s.start) for s in place)]
        array[place] = part + np.uint16(BACKGROUND + number % OFFSETS)
    group.attrs.update(attributes(header, version="0.5", window=(0.0, 1.0)))


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def footprint() -> int:
    """Return what a process holds that has imported the package."""
    return int(subprocess.run([sys.executable, "-c", IMPORTS], stdout=-1, check=True).stdout)


def held(process: psutil.Process) -> int:
    """Return the most that a process is known to have held, or what it holds now."""
    status = Path(f"/proc/{process.pid}/status")
    if status.is_file():
        peaks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if peaks:
            return 1024 * int(peaks[0].split()[1])
    return int(process.memory_info().rss)


def watched(command: list[str], log: Path) -> tuple[int, int, float, str]:
    """Run a command; return its code, the most it held, its seconds, and what it printed."""
    started, most = time.perf_counter(), 0
    with (
        log.open("w") as told,
        log.with_suffix(".json").open("w+") as said,
        subprocess.Popen(command, stdout=said, stderr=told) as child,
    ):
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                most = max(most, held(process))
            except (psutil.Error, OSError):  # it has just ended
                break
            time.sleep(EVERY_S)
        code = child.wait()
        seconds = time.perf_counter() - started
        said.seek(0)
        return code, most, seconds, said.read()


def is_whole(output: Path, shape: tuple[int, ...]) -> bool:
    """Return whether an output has its levels in their shapes, and voxels at both its ends."""
    levels = read_pyramid(output)
    factors = level_factors(Stack(shadow(shape, "float32"), "ZYX", GRID))
    found, wanted = [level.shape for level in levels], [level_shape(shape, f) for f in factors]
    print(f"levels             {', '.join(' x '.join(map(str, level)) for level in found)}")
    voxels = levels[0].data
    ends = [np.asarray(voxels[-8:, s, s]) for s in (slice(64), slice(-64, None))]
    lit = all(bool(np.isfinite(end).all() and end.any()) for end in ends)
    return found == wanted and voxels.dtype == np.float32 and lit


def command_of(options: argparse.Namespace, folder: Path) -> list[str]:
    how = ["--method", options.method, "--background", str(BACKGROUND), "--engine", "cpu"]
    if options.method == "wiener":
        how += ["--regularization", "0.01"]
    else:
        how += ["--iterations", str(options.iterations)]
    files = [str(folder / name) for name in ("input.ome.zarr", "output.ome.zarr", "psf.ome.tif")]
    start = "from napari_deconv.cli import main; main()"
    command = [sys.executable, "-c", start, "restore", files[0], "--output", files[1]]
    command += ["--psf", files[2], "--psf-background", "0", *how]
    return [*command, "--memory", options.memory, "--json"]


def report(options: argparse.Namespace, folder: Path) -> bool:
    """Do all of it and print what is found; return whether it is as it should be."""
    shape, budget = shape_of(options.gib), bytes_of(options.memory)
    voxels, memory = math.prod(shape), psutil.virtual_memory().total
    cores = f"{psutil.cpu_count()} cores, {memory / 1e9:.1f} GB"
    print(f"machine            {platform.machine()}, {cores}")
    print(f"load before        {psutil.getloadavg()[0]:.1f}")
    print(f"volume             {' x '.join(map(str, shape))} uint16, {2 * voxels / 2**30:.2f} GiB")
    started = time.perf_counter()
    write_volume(folder / "input.ome.zarr", shape)
    write_stack(folder / "psf.ome.tif", Stack(psf(), "ZYX", GRID))
    seconds, size = time.perf_counter() - started, on_disk(folder)
    print(f"written            {seconds:.0f} s, {size / 2**30:.2f} GiB on disk")
    base = footprint()
    print(f"footprint          {base / 2**20:.0f} MiB, a process that has imported the package")
    command = command_of(options, folder)
    print(f"command            napari-deconv {' '.join(command[3:])}")
    code, most, seconds, said = watched(command, folder / "run.log")
    lines = [line.strip() for line in (folder / "run.log").read_text().splitlines()]
    if code:
        print("\n".join(["failed", *lines[-5:]]))
        return False
    for line in dict.fromkeys(line for line in lines if " tiles of " in line):
        print(f"plan               {line.removeprefix('Progress    0/1').strip()}")
    record = json.loads(said)["record"]
    tiles, predicted = record["blocks"][0]["tiles"], record["predicted_bytes"]
    print(f"plan               {tiles} tiles, {predicted / 2**20:.0f} MiB predicted")
    taken = most - base
    print(f"peak               {most / 2**20:.0f} MiB")
    part = f"{taken / budget:.1%} of the budget, {taken / predicted:.1%} of what was predicted"
    print(f"beside footprint   {taken / 2**20:.0f} MiB of {budget / 2**20:.0f} MiB: {part}")
    print(f"tiles              {record['seconds']:.0f} s")
    print(
        f"whole run          {seconds:.0f} s, {voxels / seconds / 1e6:.2f} million voxels a second"
    )
    whole = is_whole(folder / "output.ome.zarr", shape)
    print(f"output             {'as it should be' if whole else 'WRONG'}")
    print(f"budget             {'kept' if taken <= budget else 'PASSED'}")
    return whole and taken <= budget


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gib", type=float, default=16.0, help="size of the volume in GiB")
    parser.add_argument("--memory", default="2GiB", help="what the run may take")
    parser.add_argument(
        "--method", default="richardson-lucy", choices=["richardson-lucy", "wiener"]
    )
    parser.add_argument("--iterations", type=int, default=2, help="of Richardson-Lucy")
    parser.add_argument("--folder", type=Path, help="where there is room on disk")
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    folder = Path(tempfile.mkdtemp(prefix="large-volume-", dir=options.folder))
    try:
        return 0 if report(options, folder) else 1
    finally:
        if options.keep:
            print(f"kept               {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
