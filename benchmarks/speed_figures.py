"""The figures of the speed benchmark: quality and likelihood against seconds, a row a case.

    python benchmarks/speed_figures.py speed_curves.csv [folder]

draws them again from the table of all curves.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image
from speed_cases import MICROSCOPES, REAL
from speed_tables import Curves, Row, grouped, read_curves

from napari_deconv.restoration.richardson_lucy import ACCELERATIONS

#: One color a contender, one kind of line an engine.
COLORS = {
    "plain": "black",
    "none": "C0",
    "heavy-ball": "C1",
    "biggs-andrews": "C2",
    "automatic": "C3",
    "Wiener": "C4",
    "Wiener start": "#00a3a3",
    "scikit-image": "C5",
    "RedLionfish": "C6",
    "clij2-fft": "C7",
    "pyclesperanto": "C8",
    "deconwolf": "C9",
}
#: For accelerations that are not named above, one after the other.
OTHERS = ("#d6278a", "#8c6d31", "#1a5276", "#7fb800")
LINES = {"torch": "--", "opencl": ":"}
#: Points of others, who run whole, and those of what ends by itself.
MARKERS = {"automatic": "*", "Wiener": "D"}
FEW = 4
#: Least excess of a divergence that is drawn, as a part of the largest one.
FLOOR = 1e-4


def draw(curves: Curves, folder: Path) -> list[str]:
    """Draw a figure for each microscope, for the real stack, and for others; return the names."""
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[str]] = {}
    for case in curves:
        kind = case.partition("-")[0]
        groups.setdefault(kind if kind in (*MICROSCOPES, REAL) else "own", []).append(case)
    names = []
    for kind, cases in groups.items():
        names.append(f"speed_{kind}.png")
        save(figure_of({case: curves[case] for case in cases}), folder / names[-1])
    return names


def figure_of(curves: Curves) -> Figure:
    """Return a row of two panels for each case, with one legend."""
    height = 2.5 * len(curves) + 0.8
    figure, axes = plt.subplots(
        len(curves), 2, figsize=(7.6, height), squeeze=False, layout="constrained"
    )
    lines: dict[str, Any] = {}
    for (left, right), (case, by_key) in zip(axes, curves.items(), strict=True):
        found = list(by_key.values())
        lines |= quality(left, case, found)
        likelihood(right, case, found)
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=3, frameon=False)
    return figure


def quality(axis: Any, case: str, curves: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Draw PSNR, or without a truth how the other half is explained; return the lines."""
    known = any(row.psnr is not None for curve in curves for row in curve)
    lines = {}
    for curve in curves:
        values = [row.psnr if known else row.held_out_divergence for row in curve]
        lines[label(curve[0])] = line(axis, curve, values)
    axis.set_ylabel("PSNR, dB" if known else "I-divergence from the other half", fontsize=8)
    seconds_along(axis, case)
    return lines


def likelihood(axis: Any, case: str, curves: Sequence[Sequence[Row]]) -> None:
    """Draw by how much the I-divergence exceeds the least of the case."""
    values = [row.divergence for curve in curves for row in curve if row.divergence is not None]
    if not values:
        return
    least = min(values)
    floor = FLOOR * (max(values) - least)
    for curve in curves:
        excess = [row.divergence and max(row.divergence - least, floor) for row in curve]
        line(axis, curve, excess)
    axis.set(yscale="log")
    axis.set_ylabel("I-divergence above the least", fontsize=8)
    seconds_along(axis, case)


def seconds_along(axis: Any, case: str) -> None:
    axis.set(title=case, xscale="log", xlabel="seconds")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def line(axis: Any, curve: Sequence[Row], values: Sequence[float | None]) -> Any:
    first = curve[0]
    marker = MARKERS.get(first.contender, "o" if len(curve) <= FEW else None)
    (drawn,) = axis.plot(
        [row.seconds for row in curve],
        values,
        LINES.get(first.engine, "-"),
        color=color_of(first.contender),
        marker=marker,
        markersize=7 if first.contender in MARKERS else 4,
        linewidth=1.8 if first.contender == "plain" else 1.2,
    )
    return drawn


def color_of(contender: str) -> str:
    if contender in COLORS:
        return COLORS[contender]
    new = [name for name in ACCELERATIONS if name not in COLORS]
    return OTHERS[new.index(contender) % len(OTHERS)] if contender in new else OTHERS[-1]


def label(row: Row) -> str:
    return row.contender if row.engine in ("cpu", "scipy") else f"{row.contender}, {row.engine}"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of few colours, so that the repository stays small."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(96).save(path, optimize=True)


def main() -> None:
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path.cwd()
    print(", ".join(draw(grouped(read_curves(Path(sys.argv[1]))), folder)))


if __name__ == "__main__":
    main()
