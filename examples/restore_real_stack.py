"""Restore the bundled light-sheet stack with its bead, and repeat the result by its recipe.

python examples/restore_real_stack.py [folder]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from napari_deconv import Recipe, RichardsonLucy, read_stack, restore_stack, write_stack
from napari_deconv.files.reading import read_provenance
from napari_deconv.files.samples import real_psf, real_stack

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
output = folder / "restored.ome.tif"

stack = real_stack()  # your own: read_stack("cell.ome.tif")
recipe = Recipe(psf=real_psf(), method=RichardsonLucy(iterations=10))
restored = restore_stack(stack, recipe)
record = restored.record
write_stack(
    output, restored.stack, recipe=recipe.to_dict(), record=record.to_dict(), overwrite=True
)
print(f"{stack.axes} {stack.shape}, {stack.grid.describe()}, on {record.device}")
print(*record.notes, record.blocks[0].stop_reason, f"Wrote {output}", sep="\n")

# Everything that is needed to do it again is inside the file.
again = restore_stack(stack, Recipe.from_dict(read_provenance(output)["recipe"]))
difference = np.abs(again.stack.data - read_stack(output).data).max()
print(f"Repeated by the recipe in the file: largest difference {difference:g} counts")
