"""The samples: real ones with what their files know, and a simulated one with its truth."""

from __future__ import annotations

import numpy as np

from napari_deconv.files.recipe import digest
from napari_deconv.files.samples import (
    BEAD_PATH,
    CELL_PATH,
    CONFOCAL_BEADS_PATH,
    CONFOCAL_GRID_PATH,
    SIMULATED_GRID,
    SIMULATED_OPTICS,
    WIDEFIELD_PSF_PATH,
    confocal_beads,
    confocal_grid,
    real_bead,
    real_psf,
    real_stack,
    simulated_stack,
    widefield_psf,
)
from napari_deconv.imaging.grid import Grid
from napari_deconv.psf_sources import psf_of_file


def test_the_real_stack_knows_its_voxel_size() -> None:
    stack = real_stack()
    assert (stack.axes, stack.shape, stack.data.dtype) == ("ZYX", (56, 180, 206), np.uint16)
    assert stack.grid == Grid(spacing_um=(0.3, 0.1015, 0.1015))
    assert stack.name == "light-sheet cell"


def test_the_real_bead_is_its_psf() -> None:
    bead = real_bead()
    assert (bead.axes, bead.shape, bead.data.dtype) == ("ZYX", (61, 64, 64), np.uint16)
    assert bead.grid == Grid(spacing_um=(0.1, 0.101, 0.101))
    assert bead.name == "light-sheet bead (PSF)"
    source = real_psf()
    assert source.path == str(BEAD_PATH)
    assert source.sha256 == digest(BEAD_PATH)
    psf = psf_of_file(source, real_stack().grid)
    assert psf.samples.max() == psf.samples[tuple(n // 2 for n in psf.shape)]
    assert any("background" in note for note in psf.notes)
    assert any("resampled in z from 0.1 to 0.3 um" in note for note in psf.notes)
    assert not any("saturated" in note or "border" in note for note in psf.notes)


def test_the_samples_are_small_enough_to_ship() -> None:
    beads = (BEAD_PATH, CONFOCAL_BEADS_PATH, CONFOCAL_GRID_PATH, WIDEFIELD_PSF_PATH)
    assert sum(path.stat().st_size for path in (CELL_PATH, *beads)) < 5_000_000


def test_the_beads_to_measure_know_their_voxel_sizes() -> None:
    beads, grid, bead = confocal_beads(), confocal_grid(), widefield_psf()
    assert (beads.axes, beads.shape, beads.data.dtype) == ("ZYX", (41, 150, 150), np.uint8)
    assert (grid.axes, grid.shape, grid.data.max()) == ("ZYX", (21, 150, 150), 8)
    assert beads.grid == grid.grid == Grid(spacing_um=(0.125, 0.022, 0.022))
    assert (bead.axes, bead.shape, bead.data.dtype) == ("ZYX", (25, 72, 72), np.uint16)
    assert bead.grid == Grid(spacing_um=(0.3, 0.13, 0.13))


def test_the_simulated_stack_comes_with_its_truth_and_optics() -> None:
    stack, truth = simulated_stack((10, 40, 44))
    assert stack.shape == truth.shape == (10, 40, 44)
    assert (stack.axes, truth.axes) == ("ZYX", "ZYX")
    assert stack.data.dtype == np.uint16
    assert truth.data.dtype == np.float32
    assert stack.grid == truth.grid == SIMULATED_GRID
    (known,) = stack.channel_optics
    assert (known.na, known.immersion_index) == (
        SIMULATED_OPTICS.na,
        SIMULATED_OPTICS.immersion_index,
    )
    assert known.emission_nm == SIMULATED_OPTICS.emission_nm


def test_the_simulated_stack_is_its_truth_blurred_and_the_same_each_time() -> None:
    stack, truth = simulated_stack((10, 40, 44))
    again, _ = simulated_stack((10, 40, 44))
    assert np.array_equal(stack.data, again.data)
    assert 300 < stack.data.max() < 420
    assert np.percentile(stack.data, 5) > 10
    matching = np.corrcoef(stack.data.ravel(), truth.data.ravel())[0, 1]
    mirrored = np.corrcoef(stack.data.ravel(), truth.data[:, ::-1, ::-1].ravel())[0, 1]
    assert matching > mirrored + 0.2
