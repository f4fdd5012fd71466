"""How long a PSF takes from new optics, beside psfmodels where it is installed.

In each group the slower one's ratio to the faster one is the figure to read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf

SHAPES = [(64, 128, 128), (128, 256, 256)]
STEP_UM, PIXEL_UM, DEPTH_UM = 0.2, 0.1, 10.0
GRID = Grid(spacing_um=(STEP_UM, PIXEL_UM, PIXEL_UM))
MODALITIES: dict[str, dict[str, Any]] = {
    "widefield": {},
    "confocal": {},
    "spinning-disk": {},
    "two-photon": {"excitation_nm": 920},
    "light-sheet": {"sheet_um": 2.0},
    "effective-sted": {},
}


def moved(shape: tuple[int, ...], modality: str, **fields: Any) -> Callable[[], object]:
    """Return what a slider of the depth does: each call has other optics than the one before."""
    depths = itertools.cycle(DEPTH_UM + 0.01 * step for step in range(100))

    def once() -> object:
        given = {"na": 1.4, "emission_nm": 520, "excitation_nm": 488, "sample_index": 1.33}
        optics = Optics(modality, **{**given, "depth_um": next(depths), **fields})
        return compute_psf(optics, GRID, shape)

    return once


@pytest.mark.parametrize("shape", SHAPES)
def test_widefield(benchmark: Any, shape: tuple[int, int, int]) -> None:
    benchmark.group = f"PSF {shape}, {DEPTH_UM:g} um deep: beside psfmodels"
    once = moved(shape, "widefield")
    once()  # the pixel map of a shape is kept
    benchmark(once)


@pytest.mark.parametrize("shape", SHAPES)
def test_psfmodels(benchmark: Any, shape: tuple[int, int, int]) -> None:
    psfmodels = pytest.importorskip("psfmodels")
    planes, _, pixels = shape
    optics = {"NA": 1.4, "ns": 1.33, "ni": 1.515, "ni0": 1.515, "ng": 1.5255, "ng0": 1.5255}
    heights = [STEP_UM * (plane - planes // 2) + DEPTH_UM for plane in range(planes)]
    benchmark.group = f"PSF {shape}, {DEPTH_UM:g} um deep: beside psfmodels"
    benchmark.pedantic(
        psfmodels.vectorial_psf,
        args=(heights,),
        kwargs={
            "nx": pixels,
            "dxy": PIXEL_UM,
            "pz": DEPTH_UM,
            "wvl": 0.52,
            "params": {**optics, "sf": 3},
        },
        rounds=3,
    )


@pytest.mark.parametrize("modality", MODALITIES)
def test_modalities(benchmark: Any, modality: str) -> None:
    shape = (128, 256, 256)
    benchmark.group = f"PSF {shape}, {DEPTH_UM:g} um deep: modalities"
    once = moved(shape, modality, **MODALITIES[modality])
    once()
    benchmark(once)


@pytest.mark.parametrize("terms", [(), (0,) * 12 + (0.5,), (0,) * 7 + (0.5, 0.5)])
def test_aberrations(benchmark: Any, terms: tuple[float, ...]) -> None:
    shape = (64, 128, 128)
    benchmark.group = f"PSF {shape}: none, spherical, coma"
    once = moved(shape, "widefield", zernike_rad=terms)
    once()
    benchmark.pedantic(once, rounds=5)
