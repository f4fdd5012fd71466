"""What a measurement of beads found: a table for a spreadsheet, and a picture."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.beads import Bead, MeasuredPsf
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import fwhm_um
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require

from .picture import beside, views, write_grey
from .whole import require_new, write_whole

#: Beads shown beside their mean.
MOST_SHOWN = 6

Widths = tuple[float | None, ...]


def theory_fwhm_um(measured: MeasuredPsf, optics: Optics) -> Widths:
    """Return the full widths at half maximum of the computed PSF on the voxels of the beads."""
    computed = compute_psf(optics, _grid(measured))
    return tuple(None if math.isnan(width) else width for width in fwhm_um(computed))


def write_bead_table(
    path: str | os.PathLike[str],
    measured: MeasuredPsf,
    optics: Optics | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write what became of each bead as CSV, one row a bead, then their mean.

    Parameters
    ----------
    path : str or path
        CSV to write: comma, decimal point, UTF-8, beads numbered from 1.
    measured : MeasuredPsf
        What `measure_psf` gave.
    optics : Optics, optional
        Adds a last row with the widths in theory.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the file exists or cannot be written.
    """
    axes = _grid(measured).axes.lower()
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(
        [
            "bead",
            *(f"{axis}_voxel" for axis in axes),
            *(f"{axis}_um" for axis in axes),
            "fate",
            "reason",
            "peak_counts",
            "background_counts",
            "snr",
            *(f"fwhm_{axis}_um" for axis in axes),
        ]
    )
    for number, bead in enumerate(measured.beads, start=1):
        table.writerow([number, *_row(bead, _grid(measured))])
    rows = [("mean of the used", measured.fwhm_um)]
    if optics is not None:
        rows.append((f"theory: {optics.describe()}", theory_fwhm_um(measured, optics)))
    for name, widths in rows:
        table.writerow([name, *[""] * (2 * len(axes) + 5), *map(_shown, widths)])
    require_new(path, overwrite=overwrite)
    write_whole(path, text.getvalue().encode(), "The table")


def write_bead_picture(
    path: str | os.PathLike[str],
    measured: MeasuredPsf,
    image: npt.ArrayLike | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the measured PSF, and up to six of its beads to the right of it, as PNG.

    Parameters
    ----------
    path : str or path
        PNG to write: brightest-point projections, along y above, along z below.
    measured : MeasuredPsf
        What `measure_psf` gave.
    image : array, (Z, Y, X) or (Y, X), optional
        The image that was measured; without it the PSF is shown alone.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the file exists or cannot be written.
    """
    grid = _grid(measured)
    require_new(path, overwrite=overwrite)
    blocks = [measured.psf.samples]
    if image is not None:
        used = [bead for bead in measured.beads if bead.fate == "used"]
        brightest = sorted(used, key=lambda bead: -bead.peak)[:MOST_SHOWN]
        blocks += [_around(np.asarray(image), bead, measured.psf.shape) for bead in brightest]
    write_grey(path, beside([views(Stack(block, grid.axes, grid)) for block in blocks]))


def _grid(measured: MeasuredPsf) -> Grid:
    require(measured.psf.spacing_um is not None, "The measured PSF has no voxel size")
    return Grid(spacing_um=measured.psf.spacing_um or ())


def _row(bead: Bead, grid: Grid) -> Iterator[str]:
    yield from map(_shown, bead.position)
    yield from (_shown(p * s) for p, s in zip(bead.position, grid.spacing_um, strict=True))
    yield bead.fate
    yield bead.reason
    yield from map(_shown, (bead.peak, bead.background, bead.snr))
    widths = bead.fwhm_um or (None,) * grid.ndim
    yield from map(_shown, widths)


def _shown(value: float | None) -> str:
    """Return a number with the digits that were measured; nothing where there is none."""
    return "" if value is None else f"{value:.5g}"


def _around(
    image: npt.NDArray[np.generic], bead: Bead, shape: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Return the box of `shape` around a bead; beyond the image its border goes on."""
    places = [
        np.clip(round(p) + np.arange(n) - n // 2, 0, size - 1)
        for p, n, size in zip(bead.position, shape, image.shape, strict=True)
    ]
    return image[np.ix_(*places)].astype(np.float32)
