"""Restore a stack with a PSF computed from the optics; watch the run step by step.

python examples/restore_with_optics.py [folder]
"""

import sys
import tempfile
from pathlib import Path

from napari_deconv import Optics, Recipe, RichardsonLucy, write_stack
from napari_deconv.files.samples import simulated_stack
from napari_deconv.imaging.resolution import fwhm_um, nyquist_um
from napari_deconv.pipeline import restoring

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)

stack, _ = simulated_stack((24, 96, 96))  # a widefield stack of 0.25 x 0.1 x 0.1 um
optics = Optics(na=1.2, emission_nm=520, immersion_index=1.333)
print(optics.describe())
print("coarsest voxel that holds it all, z and xy in um:", nyquist_um(optics))

run = restoring(stack, Recipe(optics, RichardsonLucy(20, stop_tolerance=1e-3)))
while True:
    try:
        step = next(run)  # to cancel, stop here: run.close() frees the device
    except StopIteration as end:
        restored = end.value
        break
    if step.divergence is not None:
        print(f"{step.done}/{step.total}: I-divergence {step.divergence:.3f} {step.note}")

print("PSF", restored.psf.shape, "FWHM z, y, x in um:", fwhm_um(restored.psf))
print(*restored.record.notes, sep="\n")
print("Wrote", write_stack(folder / "restored.ome.zarr", restored.stack, overwrite=True).path)
