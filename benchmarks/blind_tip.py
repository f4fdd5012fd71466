"""How near the tip by gradient descent comes to the true one, and how long that takes.

    python benchmarks/blind_tip.py [single_tip.npz] [--kind single|double|all] [--draws 10]

Of each draw, 20 frames are taken at random and a tip is estimated from them alone. The figure is
the error of the surface that it reconstructs, RMSE, as a part of that with the true tip; the best
is taken over moves of the surface by up to a pixel, which no image tells. With a file
(images and surfaces in angstrom, pixels of 1.5 nm) its frames are used; else blobs and filaments.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv.afm.gradient_tip import GradientTip, gradient_tip
from napari_deconv.afm.morphology import dilate, erode

PIXEL, FRAMES, SIDE = 1.5, 20, 15


def parabola(shape: int, first: float, second: float, skew: float = 0.0) -> Any:
    """Return a tip with two radii in nm, and a tilt that makes it asymmetric."""
    y, x = (np.mgrid[:shape, :shape] - shape // 2) * PIXEL
    return np.minimum(-(y**2) / (2 * first) - x**2 / (2 * second) - skew * np.maximum(x, 0), 0.0)


def pyramid(shape: int) -> Any:
    """Return a tip of four sides, each of another slope."""
    y, x = (np.mgrid[:shape, :shape] - shape // 2) * PIXEL
    return -np.max([1.5 * x, -2.5 * x, 2.0 * y, -3.0 * y], axis=0)


def double(tip: Any) -> Any:
    """Return a tip with a second apex beside it, 0.8 nm higher above the sample."""
    moved = np.full_like(tip, -1e3)
    moved[2:, 3:] = tip[:-2, :-3] - 0.8
    return np.maximum(tip, moved)


def surfaces(kind: str, rng: np.random.Generator, count: int, side: int = 30) -> Any:
    """Return blobs or filaments on flat ground, up to 7 nm high."""
    y, x = np.mgrid[:side, :side].astype(float)
    made = np.zeros((count, side, side))
    for frame in made:
        for _ in range(4):
            at, angle = rng.uniform(5, side - 5, 2), rng.uniform(0, np.pi)
            if kind == "filaments":
                far = np.abs((y - at[0]) * np.cos(angle) - (x - at[1]) * np.sin(angle))
            else:
                far = np.hypot(y - at[0], x - at[1])
            size = rng.uniform(1, 3)
            top = rng.uniform(3, 7) * np.sqrt(np.maximum(1 - (far / size) ** 2, 0))
            np.maximum(frame, top, out=frame)
    return made


def error(images: Any, tip: Any, truth: Any) -> float:
    """Return the RMSE in nm of the reconstruction, the best of those moved by up to a pixel."""
    found = erode(images, tip)
    errors = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            rest = (np.roll(found, (dy, dx), (1, 2)) - truth)[:, 1:-1, 1:-1]
            errors.append(np.sqrt((rest**2).mean()))
    return float(min(errors))


def drawn(kind: str, file: Path | None, noise: float, rng: np.random.Generator) -> Any:
    """Return frames, their surfaces and the tip that made them."""
    if file is None:
        surface = surfaces("filaments" if kind == "elliptic" else "blobs", rng, FRAMES)
        tip = {
            "single": parabola(SIDE, 2.0, 2.0),
            "double": double(parabola(SIDE, 2.0, 2.0)),
            "pyramid": pyramid(SIDE),
            "elliptic": parabola(SIDE, 2.0, 6.0, 0.3),
        }[kind]
        return dilate(surface, tip) + noise * rng.standard_normal(surface.shape), surface, tip
    data = np.load(file)
    chosen = rng.choice(len(data["images"]), FRAMES, replace=False)
    images, surface = (data[name][chosen].astype(float) / 10 for name in ("images", "surfaces"))
    tip = np.full((SIDE, SIDE), -1e3)
    tip[1:, 1:] = data["tip"] / 10
    if kind == "single":
        return images, surface, tip
    tip = double(tip) if kind == "double" else pyramid(SIDE)
    return dilate(surface, tip) + noise * rng.standard_normal(surface.shape), surface, tip


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", nargs="?", type=Path)
    arguments.add_argument("--kind", default="all")
    arguments.add_argument("--draws", type=int, default=10)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--noise", type=float, default=0.3)
    given = arguments.parse_args()
    kinds = ["single", "double"] if given.file else ["single", "double", "pyramid", "elliptic"]
    print(
        f"{'kind':10}{'draw':>5}{'raw':>8}{'true':>8}{'found':>8}{'ratio':>8}{'s':>7}{'cpu s':>7}"
    )
    for kind in kinds if given.kind == "all" else [given.kind]:
        ratios = []
        for draw in range(given.first, given.first + given.draws):
            rng = np.random.default_rng(draw)
            images, surface, tip = drawn(kind, given.file, given.noise, rng)
            started, working = time.perf_counter(), time.process_time()
            found = gradient_tip(images, (PIXEL, PIXEL), GradientTip(), given.noise).heights_nm
            took = time.perf_counter() - started
            worked = time.process_time() - working
            limit, reached = error(images, tip, surface), error(images, found, surface)
            raw = float(np.sqrt(((images - surface) ** 2).mean()))
            ratios.append(reached / max(limit, 1e-9))
            line = f"{kind:10}{draw:5d}{raw:8.3f}{limit:8.3f}{reached:8.3f}{ratios[-1]:8.3f}"
            print(f"{line}{took:7.1f}{worked:7.1f}", flush=True)
        within = [sum(ratio <= most for ratio in ratios) for most in (1.10, 1.15)]
        print(f"{kind}: within 1.10 {within[0]}, within 1.15 {within[1]} of {len(ratios)}")


if __name__ == "__main__":
    main()
