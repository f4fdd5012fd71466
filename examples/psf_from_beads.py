"""From beads to a PSF that can be trusted: measure, compare with a model, fit, restore.

python examples/psf_from_beads.py [folder]
"""

import sys
import tempfile
from pathlib import Path

from napari_deconv import (
    Optics,
    Psf,
    Recipe,
    RichardsonLucy,
    compute_psf,
    fit_optics,
    measure_psf,
    restore_stack,
    write_stack,
)
from napari_deconv.files.bead_report import write_bead_table
from napari_deconv.files.samples import confocal_beads, confocal_grid, widefield_psf
from napari_deconv.imaging.resolution import fwhm_um

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)


def in_words(widths):
    return " x ".join(f"{width:.3f}" for width in widths) + " um (z, y, x)"


# Measure: beads are found, judged, aligned and averaged.
beads = confocal_beads()
measured = measure_psf(beads.data, beads.grid)
write_bead_table(folder / "beads.csv", measured, overwrite=True)
print(*measured.notes, f"measured FWHM {in_words(measured.fwhm_um)}", sep="\n")

# Compare: nobody wrote these optics down, they are a guess.
guess = Optics("confocal", na=1.3, emission_nm=520, excitation_nm=488)
model = compute_psf(guess, beads.grid, measured.psf.shape)
print(f"computed FWHM {in_words(fwhm_um(model))}: {guess.describe()}")

# Fit: what the model would have to be, and what it cannot explain.
fit = fit_optics(measured.psf, guess, free=["na"])
print("Beads:", *fit.describe(), *fit.notes, sep="\n  ")

# The same on a bead of which the optics are known: NA 0.85 in air, 520 nm. As it was taken:
# the background is fitted.
bead = widefield_psf()
start = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
fit = fit_optics(Psf(bead.data, bead.grid.spacing_um), start, free=["na"])
print("Bead of NA 0.85:", *fit.describe(), *fit.notes, sep="\n  ")

# Restore what was taken with the same microscope, with the PSF of the beads.
restored = restore_stack(confocal_grid(), Recipe(measured.psf, RichardsonLucy(15)))
print(*restored.record.notes, sep="\n")
written = write_stack(folder / "grid_restored.ome.tif", restored.stack, overwrite=True)
print("Wrote", written.path, "and", folder / "beads.csv")
