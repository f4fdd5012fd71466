"""The tables of the speed benchmark: curves, when each reaches what the plain loop does."""

from __future__ import annotations

import csv
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from speed_cases import Case
from speed_contenders import PLAIN

from napari_deconv.engines import devices
from napari_deconv.restoration.pieces import available_cores

#: What counts as reached: so near in dB, and within such a part of the divergence. Float32 rounds.
NEAR_DB, NEAR_PART = 0.005, 3e-5
PACKAGES = (
    "napari-deconv",
    "numpy",
    "scipy",
    "ducc0",
    "torch",
    "pyclesperanto",
    "scikit-image",
    "redlionfish",
    "clij2-fft",
)


@dataclass(frozen=True)
class Row:
    """One point of a curve, as the table of all curves has it.

    `divergence` is computed alike for all; `reported_divergence` is what a method itself says, of
    the point that the iteration started from. `held_out_divergence` is that from the other half of
    the photons, where there is no truth.
    """

    case: str
    contender: str
    engine: str
    iteration: float
    seconds: float
    psnr: float | None
    divergence: float | None
    reported_divergence: float | None
    held_out_divergence: float | None
    peak_volumes: float | None
    fsc_um: float | None

    @property
    def key(self) -> str:
        """Contender and engine."""
        return f"{self.contender}@{self.engine}"


COLUMNS = tuple(field.name for field in fields(Row))
Curves = dict[str, dict[str, list[Row]]]


def grouped(rows: Iterable[Row]) -> Curves:
    """Return the curves by case and contender."""
    found: Curves = {}
    for row in rows:
        found.setdefault(row.case, {}).setdefault(row.key, []).append(row)
    return found


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([written(row[name]) for name in columns] for row in rows)


def written(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def write_curves(path: Path, rows: Iterable[Row]) -> None:
    write_csv(path, COLUMNS, (vars(row) for row in rows))


def read_curves(path: Path) -> list[Row]:
    """Return what `write_curves` wrote."""
    texts = ("case", "contender", "engine")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{k: v if k in texts else float(v) if v else None for k, v in line.items()})  # type: ignore[arg-type]
            for line in csv.DictReader(file)
        ]


# -- when what is reached ---------------------------------------------------------------


def seconds_to(curve: Sequence[Row], name: str, target: float) -> float | None:
    """Return when a curve first reaches a value, linear between its points; None if never.

    Parameters
    ----------
    name : {"psnr", "divergence"}
        The larger, or the smaller the better.
    """
    sign = -1.0 if name == "divergence" else 1.0
    near = NEAR_PART * target if name == "divergence" else NEAR_DB
    wanted = sign * target - near
    found = [(row.seconds, getattr(row, name)) for row in curve]
    values = [(s, sign * float(value)) for s, value in found if value is not None]
    if not values or max(value for _, value in values) < wanted:
        return None
    if values[0][1] >= wanted:
        return values[0][0]
    for (before, low), (after, high) in pairwise(values):
        if high >= wanted:
            # Iterations take equally long: linear in them is linear in the seconds.
            return before + (after - before) * (wanted - low) / (high - low)
    return None


def yardsticks(curves: Curves, cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Return a row a case: its sizes, and what the plain loop reaches in all of its iterations."""
    rows = []
    for name, case in cases.items():
        plain = curves.get(name, {}).get(PLAIN.key)
        last = plain[-1] if plain else None
        rows.append(
            {
                "case": name,
                "image": sides(case.image.shape),
                "psf": sides(case.psf.shape),
                "padded": sides(case.work_shape),
                "plain_iterations": last and int(last.iteration),
                "plain_seconds": last and last.seconds,
                "psnr": last and last.psnr,
                "divergence": last and last.divergence,
                "fsc_um": last and last.fsc_um,
            }
        )
    return rows


def sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def summary(curves: Curves, psnr: float | None = None) -> list[dict[str, Any]]:
    """Return a row a curve: its best, and when it reaches what the plain loop does in the end.

    Parameters
    ----------
    psnr : float, optional
        And when it reaches this one.
    """
    rows = []
    for case, by_key in curves.items():
        plain = by_key.get(PLAIN.key)
        for curve in by_key.values():
            row: dict[str, Any] = {
                "case": case,
                "contender": curve[0].contender,
                "engine": curve[0].engine,
                **_best(curve),
            }
            for name in ("psnr", "divergence"):
                target = getattr(plain[-1], name) if plain else None
                found = None if target is None else seconds_to(curve, name, target)
                row[f"seconds_to_{name}"] = found
                times = plain[-1].seconds / found if plain and found else None
                row[f"times_faster_to_{name}"] = times
            if psnr is not None:
                row[f"seconds_to_{psnr:g}_dB"] = seconds_to(curve, "psnr", psnr)
            row["peak_volumes"] = curve[0].peak_volumes
            rows.append(row)
    return rows


def _best(curve: Sequence[Row]) -> dict[str, Any]:
    """Return the best PSNR, when it was there, and the shortest period of the shell correlation.

    Without a truth the best is where the other half of the photons is explained best.
    """

    def good(row: Row) -> float:
        return row.psnr if row.psnr is not None else -(row.held_out_divergence or 0.0)

    scored = [r for r in curve if (r.psnr, r.held_out_divergence) != (None, None)]
    best = max(scored, key=good) if scored else None
    periods = [row.fsc_um for row in curve if row.fsc_um is not None]
    return {
        "best_psnr": best and best.psnr,
        "best_held_out": best and best.held_out_divergence,
        "best_iteration": best and best.iteration,
        "best_seconds": best and best.seconds,
        "best_fsc_um": min(periods, default=None),
    }


def printed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table to be read in a terminal."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_short(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


# -- the machine ------------------------------------------------------------------------


def machine(rounds: int, notes: Iterable[str]) -> str:
    """Return what the figures were measured on, and what was not."""
    memory = psutil.virtual_memory().total / 1e9
    found = [device.name for name in ("cpu", "torch", "opencl") for device in devices(name)]
    lines = [
        f"processor     {processor()}",
        f"cores         {available_cores()} for this run, of {psutil.cpu_count()}",
        f"memory        {memory:.1f} GB",
        f"system        {platform.system()}, {platform.machine()}",
        f"Python        {platform.python_version()}",
        *(f"{name:13} {told}" for name in PACKAGES if (told := _version(name))),
        f"devices       {'; '.join(found)}",
        f"rounds        {rounds}, medians of their seconds",
        *(f"not run       {note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
