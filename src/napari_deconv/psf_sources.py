"""Where the PSFs of a recipe come from: optics, a file or samples, on the voxels of a stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import PsfFile, PsfSource, Recipe, digest
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf, fitted_to
from napari_deconv.imaging.psf_image import psf_from_image
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require


def prepare_psf(source: PsfSource, stack: Stack) -> Psf:
    """Return the PSF of a recipe on the voxels of a stack.

    Raises
    ------
    InputError
        If the voxel size that it needs is not known, or the PSF is not usable.
    """
    grid = stack.grid
    ndim = len(stack.spatial_axes)
    if isinstance(source, Optics):
        require(
            grid is not None,
            "The voxel size of the image is unknown, so no PSF can be computed; give it "
            "(--voxel-size of the command for one image, the field of the image in the dock), or "
            "write it into the file" + (f". {stack.unknown_grid}" if stack.unknown_grid else ""),
        )
        return compute_psf(source, grid)  # type: ignore[arg-type]
    if isinstance(source, PsfFile):
        return _noted(fitted_to(psf_of_file(source, grid), ndim), grid)
    if grid is None:
        return _noted(fitted_to(source, ndim), grid)
    if source.spacing_um is None or _same(source.spacing_um, grid):
        return fitted_to(source, ndim)
    return fitted_to(psf_from_image(source.samples, source.spacing_um, grid, background=0.0), ndim)


def _noted(psf: Psf, grid: Grid | None) -> Psf:
    """Return a PSF with a note where its voxel size is known, and that of the image is not."""
    if grid is not None or psf.spacing_um is None:
        return psf
    size = Grid(spacing_um=psf.spacing_um).describe()
    return psf.with_notes(
        f"PSF: the voxel size of the image is unknown, taken to be the PSF's, {size}; give it "
        "where it is another"
    )


def prepare_psfs(recipe: Recipe, stack: Stack) -> tuple[Psf, ...]:
    """Return the PSF of each channel that the recipe chooses; see `prepare_psf`."""
    chosen = recipe.channels or range(stack.channel_count())
    if recipe.channel_psfs:
        require(
            len(recipe.channel_psfs) == stack.channel_count(),
            f"The recipe has PSFs for {len(recipe.channel_psfs)} channels, but the stack has "
            f"{stack.channel_count()}; give one for each, or one for all",
        )
    made: dict[int, Psf] = {}
    for channel in chosen:
        source = recipe.psf_of(channel)
        if id(source) not in made:
            made[id(source)] = prepare_psf(source, stack)
    return tuple(made[id(recipe.psf_of(channel))] for channel in chosen)


def _same(spacing_um: tuple[float, ...], grid: Grid) -> bool:
    wanted = grid.spacing_um[-len(spacing_um) :]
    return len(spacing_um) == len(wanted) and np.allclose(spacing_um, wanted, rtol=1e-3)


def psf_of_file(source: PsfFile, grid: Grid | None) -> Psf:
    """Return the PSF in an image file on the voxels of `grid`; see `psf_from_image`."""
    found = read_stack(source.path)
    require(
        found.axes in ("ZYX", "YX"),
        f"The PSF {Path(source.path).name} has the axes {found.axes}; "
        "give one with z, y and x alone (one channel, one time point)",
    )
    spacing = source.voxel_size_um or (found.grid.spacing_um if found.grid else None)
    psf = psf_from_image(found.data, spacing, grid, background=source.background)
    if source.sha256 and digest(Path(source.path)) != source.sha256:
        return psf.with_notes("PSF: the file has changed since the recipe was written")
    return psf
