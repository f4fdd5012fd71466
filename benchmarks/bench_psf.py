"""How long a widefield PSF takes, beside psfmodels where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf, focal_shift_um

SHAPES = [(64, 128, 128), (128, 256, 256)]
STEP_UM, PIXEL_UM = 0.2, 0.1


@pytest.mark.parametrize("depth_um", [0, 10])
@pytest.mark.parametrize("shape", SHAPES)
def test_compute_psf(benchmark: Any, shape: tuple[int, int, int], depth_um: float) -> None:
    optics = Optics(na=1.4, emission_nm=520, sample_index=1.33, depth_um=depth_um)
    grid = Grid(spacing_um=(STEP_UM, PIXEL_UM, PIXEL_UM))

    def once() -> object:
        # As when the depth is moved: the focus is searched anew, the pixel map is kept.
        focal_shift_um.cache_clear()
        return compute_psf(optics, grid, shape)

    benchmark.group = f"PSF {shape}, {depth_um} um deep"
    benchmark(once)


@pytest.mark.parametrize("shape", SHAPES)
def test_psfmodels(benchmark: Any, shape: tuple[int, int, int]) -> None:
    psfmodels = pytest.importorskip("psfmodels")
    planes, _, pixels = shape
    heights = STEP_UM * (np.arange(planes) - planes // 2) + 10
    index = {"NA": 1.4, "ns": 1.33, "ni": 1.515, "ni0": 1.515, "ng": 1.5255, "ng0": 1.5255}
    benchmark.group = f"PSF {shape}, 10 um deep"
    benchmark.pedantic(
        psfmodels.vectorial_psf,
        args=(heights,),
        kwargs={"nx": pixels, "dxy": PIXEL_UM, "pz": 10, "wvl": 0.52, "params": index},
        rounds=2,
    )
