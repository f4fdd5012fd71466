"""The figures of the docs that need no viewer, drawn from the package's own results.

    python docs/figures.py [folder]

writes four PNGs into `docs/images`, or into `folder`, and prints the numbers that the docs
quote from them. Everything starts from the bundled samples; nothing is downloaded.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter
from PIL import Image

from napari_deconv import (
    Grid,
    Optics,
    Recipe,
    RichardsonLucy,
    Stack,
    Wiener,
    compute_psf,
    restore_stack,
)
from napari_deconv.files.samples import SIMULATED_OPTICS, real_psf, real_stack, simulated_stack
from napari_deconv.imaging.resolution import fwhm_um
from napari_deconv.restoration.richardson_lucy import ACCELERATIONS

IMAGES = Path(__file__).parent / "images"
ENGINE = "cpu"
DISPLAY_GAMMA = 0.6
Real = npt.NDArray[np.floating[Any]]

plt.rcParams.update({"font.size": 9, "axes.titlesize": 9, "figure.dpi": 110})


def main(folder: Path = IMAGES) -> None:
    """Draw every figure into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stack = real_stack()
    runs = {
        acceleration: restore_stack(
            stack, Recipe(real_psf(), RichardsonLucy(20, acceleration=acceleration), engine=ENGINE)
        )
        for acceleration in ACCELERATIONS
    }
    save(before_after(stack, runs["nu-method"].stack), folder / "before_after.png")
    curves = {name: run.record.blocks[0].divergences for name, run in runs.items()}
    save(how_many(curves), folder / "iterations.png")
    save(point_spread(), folder / "psf.png")
    save(methods(), folder / "methods.png")


def before_after(raw: Stack, restored: Stack) -> plt.Figure:
    """Return brightest-point projections along y and z, raw beside restored."""
    assert raw.grid is not None
    z_um, y_um, x_um = raw.grid.spacing_um
    planes, rows, columns = raw.shape
    heights = (rows * y_um, planes * z_um)
    figure, axes = plt.subplots(
        2, 2, figsize=(6.4, 6.4 * sum(heights) / (2 * columns * x_um) + 0.35), height_ratios=heights
    )
    for column, (stack, title) in enumerate(((raw, "raw"), (restored, "restored"))):
        _projections(axes[:, column], stack, title)
    scale_bar(axes[1, 1], 5.0, columns * x_um)
    figure.tight_layout(pad=0.3)
    return figure


def how_many(curves: dict[str, tuple[float, ...]]) -> plt.Figure:
    """Return the likelihood of the accelerations, and the error that it does not see."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 2.9))
    for name, values in curves.items():
        left.semilogy(range(1, len(values) + 1), values, label=name)
    left.set(
        title="light-sheet stack: fit to the data",
        xlabel="iteration",
        ylabel="I-divergence per voxel",
    )
    _plain_log(left)
    left.legend(frameon=False)

    stack, truth = simulated_stack((24, 96, 96))
    counts = (2, 5, 10, 20, 40, 80, 160, 320)
    runs = [
        restore_stack(stack, Recipe(SIMULATED_OPTICS, RichardsonLucy(n), engine=ENGINE))
        for n in counts
    ]
    likeness = [correlation(run.stack, truth) for run in runs]
    fit = runs[-1].record.blocks[0].divergences
    right.plot(counts, likeness, "o-", color="C2", label="correlation")
    right.set(
        title="simulated stack: truth known",
        xlabel="iterations",
        ylabel="correlation with the truth",
        xscale="log",
    )
    right.set_xticks(counts, [str(n) for n in counts], minor=False)
    right.minorticks_off()
    below = right.twinx()
    below.plot(range(2, len(fit) + 1), fit[1:], color="0.6", label="I-divergence")
    below.set(ylabel="I-divergence per voxel", yscale="log")
    _plain_log(below)
    lines = right.lines + below.lines
    right.legend(
        lines,
        [line.get_label() for line in lines],
        frameon=False,
        loc="center right",
        bbox_to_anchor=(1, 0.28),
    )
    best = counts[int(np.argmax(likeness))]
    print(f"simulated stack: best correlation {max(likeness):.3f} at {best} of {counts} iterations")
    figure.tight_layout()
    return figure


def point_spread() -> plt.Figure:
    """Return xy and xz planes of a PSF in matched media, and deep in water under oil."""
    grid = Grid(spacing_um=(0.1, 0.05, 0.05))
    cases = {
        "oil, in oil": Optics(na=1.4, emission_nm=520, immersion_index=1.515),
        "oil, 10 um deep in water": Optics(
            na=1.4, emission_nm=520, immersion_index=1.515, sample_index=1.333, depth_um=10
        ),
    }
    figure, axes = plt.subplots(1, 4, figsize=(7.6, 3.7))
    for pair, (name, optics) in zip((axes[:2], axes[2:]), cases.items(), strict=True):
        psf = compute_psf(optics, grid, (51, 61, 61))
        middle_z, middle_y = psf.shape[0] // 2, psf.shape[1] // 2
        show(pair[0], psf.samples[middle_z], (0.05, 0.05), f"{name}\nxy")
        show(pair[1], psf.samples[:, middle_y], (0.1, 0.05), "\nxz")
        print(f"PSF, {name}: FWHM {' x '.join(f'{w:.3f}' for w in fwhm_um(psf))} um")
    scale_bar(axes[3], 1.0, 61 * 0.05)
    figure.tight_layout(pad=0.4)
    return figure


def methods() -> plt.Figure:
    """Return the simulated stack raw, by Wiener, by Richardson-Lucy, and its truth."""
    raw, truth = simulated_stack()
    assert raw.grid is not None
    results = {"raw": raw}
    for name, method in {
        "Wiener, auto": Wiener(),
        "Wiener, 0.001": Wiener(0.001),
        "RL": RichardsonLucy(40),
        # Smoothed, it goes by shorter steps.
        "RL, tv 0.002": RichardsonLucy(64, tv_weight=0.002),
    }.items():
        recipe = Recipe(SIMULATED_OPTICS, method, engine=ENGINE)
        results[name] = restore_stack(raw, recipe).stack
    z_um, y_um, x_um = raw.grid.spacing_um
    planes, rows, columns = raw.shape
    heights = (rows * y_um, planes * z_um)
    figure, axes = plt.subplots(
        2,
        6,
        figsize=(7.6, 7.6 * sum(heights) / (6 * columns * x_um) + 0.5),
        height_ratios=heights,
    )
    for column, (name, stack) in enumerate(results.items()):
        likeness = correlation(stack, truth)
        _projections(axes[:, column], stack, f"{name}\nr = {likeness:.2f}")
        print(f"simulated stack, {name}: correlation with the truth {likeness:.3f}")
    _projections(axes[:, 5], truth, "truth\n")
    scale_bar(axes[1, 5], 5.0, columns * x_um)
    figure.tight_layout(pad=0.3)
    return figure


def correlation(stack: Stack, truth: Stack) -> float:
    """Return Pearson's correlation of two stacks: blind to scale and offset."""
    a, b = np.asarray(stack.data, float).ravel(), np.asarray(truth.data, float).ravel()
    return float(np.corrcoef(a, b)[0, 1])


def _projections(axes: Any, stack: Stack, title: str) -> None:
    """Draw brightest-point projections: along z above, along y below, z downwards."""
    assert stack.grid is not None
    z_um, y_um, x_um = stack.grid.spacing_um
    volume = np.asarray(stack.data, dtype=float)
    low, high = np.percentile(volume, (1, 99.95))
    scaled = np.clip((volume - low) / (high - low), 0, 1)
    show(axes[0], scaled.max(axis=0), (y_um, x_um), title)
    show(axes[1], scaled.max(axis=1), (z_um, x_um), "")


def show(axis: Any, image: Real, pixel_um: tuple[float, float], title: str) -> None:
    height, width = image.shape[0] * pixel_um[0], image.shape[1] * pixel_um[1]
    axis.imshow(
        np.clip(image / image.max(), 0, 1) ** DISPLAY_GAMMA,
        cmap="gray",
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    axis.set(title=title, xticks=[], yticks=[])


def scale_bar(axis: Any, length_um: float, width_um: float) -> None:
    end, bottom = 0.95 * width_um, axis.get_ylim()[0]
    outline = [withStroke(linewidth=3, foreground="black")]
    axis.plot([end - length_um, end], [0.95 * bottom] * 2, color="white", linewidth=2.5)
    axis.text(
        end - length_um / 2,
        0.93 * bottom,
        f"{length_um:g} um",
        color="white",
        ha="center",
        va="bottom",
        path_effects=outline,
    )


def _plain_log(axis: Any) -> None:
    """Label a logarithmic y axis with plain numbers."""
    plain = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    axis.yaxis.set_major_formatter(plain)
    axis.yaxis.set_minor_formatter(plain)
    axis.tick_params(axis="y", which="both", labelsize=7)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as a PNG of few colours, so that the repository stays small."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(96).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
