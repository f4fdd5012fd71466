"""The figures of the docs about the PSF, drawn from the package's own results.

    python docs/psf_figures.py [folder]

writes five PNGs into `docs/images`, or into `folder`, and prints the numbers that the docs
quote from them. Everything starts from the bundled samples; nothing is downloaded.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from figures import ENGINE, IMAGES, correlation, save, scale_bar, show

from napari_deconv import (
    Grid,
    Optics,
    Psf,
    Recipe,
    RichardsonLucy,
    compute_psf,
    measure_psf,
    restore_stack,
)
from napari_deconv.files.samples import (
    SIMULATED_GRID,
    SIMULATED_OPTICS,
    confocal_beads,
    confocal_grid,
    simulated_stack,
)
from napari_deconv.imaging.resolution import fwhm_um, nyquist_um

#: Fine voxels, for the eye, and half of what is drawn, (z, y, x) um.
FINE, HALF_UM = Grid(spacing_um=(0.05, 0.025, 0.025)), (1.5, 0.75, 0.75)
#: One objective for all: 1.2, water.
COMMON: dict[str, Any] = {"na": 1.2, "emission_nm": 520, "immersion_index": 1.333}
#: What nobody has written down of the bundled beads, and one would guess.
GUESS = Optics("confocal", na=1.3, emission_nm=520, excitation_nm=488)


def main(folder: Path = IMAGES) -> None:
    """Draw every figure into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save(modalities(), folder / "modalities.png")
    save(aberrations(), folder / "aberrations.png")
    beads = confocal_beads()
    measured = measure_psf(beads.data, beads.grid).psf
    assert beads.grid is not None
    save(bead_beside_model(measured, beads.grid), folder / "bead_psf.png")
    save(grid_restored(measured), folder / "grid_restored.png")
    save(wrong_psfs(), folder / "wrong_psf.png")


def modalities() -> plt.Figure:
    """Return xy and xz planes of the PSFs of one objective in six microscopes."""
    cases = {
        "widefield": Optics(**COMMON),
        "spinning disk": Optics("spinning-disk", excitation_nm=488, **COMMON),
        "confocal, 1 AU": Optics("confocal", excitation_nm=488, **COMMON),
        "two-photon, 920 nm": Optics("two-photon", excitation_nm=920, **COMMON),
        "light sheet, 1 um": Optics("light-sheet", sheet_um=1.0, **COMMON),
        "STED, saturation 10": Optics("effective-sted", excitation_nm=488, **COMMON),
    }
    for name, optics in cases.items():
        limits = " and ".join(f"{1000 * limit:.0f}" for limit in nyquist_um(optics))
        print(f"{name}: Nyquist {limits} nm in z and across")
    return _in_a_row(cases)


def aberrations() -> plt.Figure:
    """Return xy and xz planes of PSFs with one aberration each."""
    terms = {"none": 0, "astigmatism (5)": 5, "coma x (8)": 8, "trefoil x (9)": 9}
    terms["spherical (12)"] = 12
    return _in_a_row(
        {
            name: Optics(**COMMON, zernike_rad=(*(0.0,) * index, 1.0 if index else 0.0))
            for name, index in terms.items()
        }
    )


def _in_a_row(cases: dict[str, Optics]) -> plt.Figure:
    figure, axes = plt.subplots(
        2, len(cases), figsize=(1.4 * len(cases), 4.5), height_ratios=(HALF_UM[1], HALF_UM[0])
    )
    shape = tuple(2 * round(h / s) + 1 for h, s in zip(HALF_UM, FINE.spacing_um, strict=True))
    for column, (name, optics) in zip(axes.T, cases.items(), strict=True):
        psf = compute_psf(optics, FINE, shape)
        title = name if " (" not in name else name.replace(" (", "\n(")
        _planes(column, psf, title)
        print(f"{name}: FWHM {_widths(psf)}")
    scale_bar(axes[1, -1], 0.5, 2 * HALF_UM[2])
    figure.tight_layout(pad=0.4)
    return figure


def _planes(column: Any, psf: Psf, title: str) -> None:
    """Draw the xy plane of a PSF above its xz plane."""
    assert psf.spacing_um is not None
    z_um, y_um, x_um = psf.spacing_um
    z, y, _ = (n // 2 for n in psf.shape)
    show(column[0], psf.samples[z], (y_um, x_um), title)
    show(column[1], psf.samples[:, y], (z_um, x_um), "")


def bead_beside_model(measured: Psf, grid: Grid) -> plt.Figure:
    """Return the PSF measured on the bundled beads beside the computed one, and profiles."""
    model = compute_psf(GUESS, grid, measured.shape)
    pair = {"measured": measured, "computed": model}
    figure, axes = plt.subplots(
        2, 3, figsize=(7.6, 4.5), width_ratios=(1, 1, 1.8), height_ratios=(0.6, 1)
    )
    for column, (name, psf) in zip(axes.T, pair.items(), strict=False):
        print(f"beads, {name}: FWHM {_widths(psf)}")
        z, y, x = (n // 2 for n in psf.shape)
        near = psf.samples[z - 8 : z + 9, y - 27 : y + 28, x - 27 : x + 28]
        _planes(column, Psf(near, psf.spacing_um), name)
    scale_bar(axes[1, 1], 0.5, grid.spacing_um[2] * 55)
    z, y, x = (n // 2 for n in measured.shape)
    for axis, line, along in ((axes[0, 2], (z, slice(None), x), "y"), (axes[1, 2], (z, y), "x")):
        for name, psf in pair.items():
            profile = psf.samples[line] / psf.samples.max()
            place = grid.spacing_um[1] * (np.arange(len(profile)) - len(profile) // 2)
            axis.plot(place, profile, label=name)
        axis.set(title=f"through the centre along {along}, um", xlim=(-0.6, 0.6))
    axes[1, 2].legend(frameon=False)
    figure.tight_layout(pad=0.5)
    return figure


def grid_restored(measured: Psf) -> plt.Figure:
    """Return the bundled grid raw, with the computed PSF, and with the measured one."""
    raw = confocal_grid()
    method = RichardsonLucy(15)
    results = {"raw": raw}
    for name, psf in (("computed PSF", GUESS), ("measured PSF", measured)):
        restored = restore_stack(raw, Recipe(psf, method, engine=ENGINE))
        results[name] = restored.stack
        print(f"grid, {name}: I-divergence {restored.record.blocks[0].divergences[-1]:.3f}")
    assert raw.grid is not None
    z_um, y_um, x_um = raw.grid.spacing_um
    figure, axes = plt.subplots(
        2, 3, figsize=(7.2, 4.8), height_ratios=(raw.shape[1] * y_um, raw.shape[0] * z_um)
    )
    for column, (name, stack) in zip(axes.T, results.items(), strict=True):
        volume = np.asarray(stack.data, float)
        show(column[0], volume[raw.shape[0] // 2], (y_um, x_um), name)
        show(column[1], volume.mean(axis=1), (z_um, x_um), "")
    scale_bar(axes[1, 2], 1.0, raw.shape[2] * x_um)
    figure.tight_layout(pad=0.4)
    return figure


def wrong_psfs() -> plt.Figure:
    """Return a simulated widefield stack restored with right and with wrong PSFs."""
    raw, truth = simulated_stack((32, 128, 128))
    right = compute_psf(SIMULATED_OPTICS, SIMULATED_GRID)
    shifted = replace(right, samples=np.roll(right.samples, (0, 0, 3), axis=(0, 1, 2)))
    psfs = {
        "right": right,
        "too wide:\nNA 0.8": replace(SIMULATED_OPTICS, na=0.8),
        "too narrow:\nconfocal": replace(SIMULATED_OPTICS, modality="confocal", excitation_nm=488),
        "shifted:\n3 pixels in x": shifted,
    }
    results = {"raw": raw}
    for name, psf in psfs.items():
        run = restore_stack(raw, Recipe(psf, RichardsonLucy(40), engine=ENGINE))
        results[name] = run.stack
        fit = run.record.blocks[0].divergences[-1]
        title = name.replace("\n", " ")
        print(f"{title}: I-divergence {fit:.3f}, r = {correlation(run.stack, truth):.3f}")
    results["truth"] = truth
    figure, axes = plt.subplots(2, len(results), figsize=(8.4, 3.0), height_ratios=(128 * 0.1, 8.0))
    for column, (name, stack) in zip(axes.T, results.items(), strict=True):
        volume = np.asarray(stack.data, float)
        top = np.percentile(volume, 99.9)
        low = np.percentile(volume, 1)
        scaled = np.clip((volume - low) / (top - low), 0, 1)
        title = name if "\n" in name else f"{name}\n"
        show(column[0], scaled.max(axis=0), (0.1, 0.1), title)
        show(column[1], scaled.max(axis=1), (0.25, 0.1), "")
    scale_bar(axes[1, -1], 3.0, 12.8)
    figure.tight_layout(pad=0.3)
    return figure


def _widths(psf: Psf) -> str:
    return " x ".join(f"{width:.3f}" for width in fwhm_um(psf)) + " um"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
