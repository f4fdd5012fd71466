"""Sample stacks: bundled real ones with their beads, and a simulated one with known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.phantoms import cell_phantom, photographed
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import KnownOptics, Stack

from .reading import read_stack
from .recipe import PsfFile

DATA = Path(__file__).parent.parent / "data"
CELL_PATH = DATA / "lightsheet_cell.ome.tif"
BEAD_PATH = DATA / "lightsheet_bead.ome.tif"
CONFOCAL_BEADS_PATH = DATA / "confocal_beads.ome.tif"
CONFOCAL_GRID_PATH = DATA / "confocal_grid.ome.tif"
WIDEFIELD_PSF_PATH = DATA / "widefield_psf.ome.tif"

SIMULATED_OPTICS = Optics(na=1.2, emission_nm=520, immersion_index=1.333, sample_index=1.333)
SIMULATED_GRID = Grid(spacing_um=(0.25, 0.1, 0.1))


def real_stack() -> Stack:
    """Return the bundled light-sheet stack of a cell, (Z, Y, X) uint16."""
    return replace(read_stack(CELL_PATH), name="light-sheet cell")


def real_bead() -> Stack:
    """Return the bundled image of a bead, the PSF of `real_stack`, (Z, Y, X) uint16."""
    return replace(read_stack(BEAD_PATH), name="light-sheet bead (PSF)")


def real_psf() -> PsfFile:
    """Return the bead's file as the PSF of a recipe."""
    return PsfFile.of(BEAD_PATH)


def confocal_beads() -> Stack:
    """Return the bundled confocal stack of four beads, (Z, Y, X) uint8."""
    return replace(read_stack(CONFOCAL_BEADS_PATH), name="confocal beads")


def confocal_grid() -> Stack:
    """Return the bundled confocal stack of a line grid, taken as `confocal_beads`, uint8."""
    return replace(read_stack(CONFOCAL_GRID_PATH), name="confocal grid")


def widefield_psf() -> Stack:
    """Return the bundled image of one bead, NA 0.85 in air at 520 nm, (Z, Y, X) uint16."""
    return replace(read_stack(WIDEFIELD_PSF_PATH), name="widefield bead (NA 0.85)")


def simulated_stack(shape: tuple[int, int, int] = (40, 128, 128)) -> tuple[Stack, Stack]:
    """Return a simulated widefield stack and its truth, (Z, Y, X) uint16 and float32."""
    spacing = SIMULATED_GRID.spacing_um
    truth = cell_phantom(shape, spacing)
    psf = compute_psf(SIMULATED_OPTICS, SIMULATED_GRID)
    counts = photographed(truth, psf, photons=300, background=20, read_noise=2)
    known = KnownOptics(
        SIMULATED_OPTICS.na, SIMULATED_OPTICS.immersion_index, SIMULATED_OPTICS.emission_nm
    )
    stack = Stack(
        counts, "ZYX", SIMULATED_GRID, "simulated widefield cell", channel_optics=(known,)
    )
    return stack, Stack(truth, "ZYX", SIMULATED_GRID, "simulated truth")
