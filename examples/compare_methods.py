"""Compare methods on a simulated stack whose truth is known.

python examples/compare_methods.py [folder]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from napari_deconv import Recipe, RichardsonLucy, Wiener, restore_stack
from napari_deconv.files.picture import write_comparison
from napari_deconv.files.samples import SIMULATED_OPTICS, simulated_stack

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)

methods = {
    "Wiener, automatic": Wiener(),
    "Wiener, 0.001": Wiener(regularization=0.001),
    "Richardson-Lucy, 30 plain": RichardsonLucy(30, acceleration="none"),
    "Richardson-Lucy, 30 accelerated": RichardsonLucy(30),
    "the same with total variation": RichardsonLucy(30, tv_weight=0.002),
}
stack, truth = simulated_stack((24, 96, 96))
print(f"{'raw':32} r = {np.corrcoef(stack.data.ravel(), truth.data.ravel())[0, 1]:.3f}")
for name, method in methods.items():
    restored = restore_stack(stack, Recipe(SIMULATED_OPTICS, method))
    # Pearson's correlation with the truth: blind to scale and offset.
    likeness = np.corrcoef(restored.stack.data.ravel(), truth.data.ravel())[0, 1]
    print(f"{name:32} r = {likeness:.3f}, {restored.record.blocks[0].stop_reason}")
    write_comparison(
        folder / f"{name.replace(', ', '_').replace(' ', '_')}.png", truth, restored.stack
    )
print("Pictures, truth left and result right:", folder)
