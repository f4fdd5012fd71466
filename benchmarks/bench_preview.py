"""How long a preview takes from a new PSF to its first picture, and to 20 iterations.

A region of 32 x 128 x 128 voxels inside 64 x 256 x 256, PSFs on the box that `compute_psf`
chooses; both come from sliding the NA, so that no PSF is the one before. What a stack needs
once (its background, its mean, the transform of the region) is there already. Computing the
PSF and drawing the picture come on top of these times.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.phantoms import cell_phantom, photographed
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.region import region_around
from napari_deconv.imaging.stack import Stack
from napari_deconv.previewing import QUICK_ITERATIONS, Preview
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHAPE, GRID = (64, 256, 256), Grid(spacing_um=(0.2, 0.1, 0.1))
#: Steps of the slider down from the NA; the box of the PSF changes with some of them.
STEPS = np.arange(5) * 0.01


@pytest.fixture(scope="module", params=[(1.2, 1.333), (1.4, 1.515)], ids=["water", "oil"])
def slider(request: pytest.FixtureRequest) -> Any:
    """Return a preview that has been used once, and PSFs without end."""
    na, index = request.param
    psfs = [
        compute_psf(Optics(na=na - step, emission_nm=520, immersion_index=index), GRID)
        for step in STEPS
    ]
    truth = cell_phantom(SHAPE, GRID.spacing_um)
    counts = photographed(truth, psfs[0], photons=200, background=100, read_noise=2)
    preview = Preview(Stack(counts, "ZYX", GRID), engine="cpu")
    region = region_around((32, 128, 128), SHAPE)
    next(preview.frames(region, psfs[0], RichardsonLucy()))
    assert preview.mean > preview.background
    return preview, region, itertools.cycle(psfs)


def report(capsys: Any, benchmark: Any, words: str) -> None:
    median = 1000 * float(benchmark.stats.stats.median)
    with capsys.disabled():
        print(f"\n{words}: {median:.0f} ms (median)")


def test_first_picture(benchmark: Any, capsys: Any, slider: Any) -> None:
    preview, region, psfs = slider
    benchmark.group = "Preview, from a new PSF to the first picture"

    def once() -> None:
        assert next(preview.frames(region, next(psfs), RichardsonLucy())).data is not None

    benchmark.pedantic(once, rounds=40, warmup_rounds=2)
    report(capsys, benchmark, "First picture")


def test_twenty_iterations(benchmark: Any, capsys: Any, slider: Any) -> None:
    preview, region, psfs = slider
    benchmark.group = f"Preview, from a new PSF to {QUICK_ITERATIONS} iterations"

    def once() -> None:
        for frame in preview.frames(region, next(psfs), RichardsonLucy(30)):
            if frame.iterations == QUICK_ITERATIONS:
                assert frame.data is not None
                break

    benchmark.pedantic(once, rounds=7, warmup_rounds=1)
    report(capsys, benchmark, f"{QUICK_ITERATIONS} iterations")
