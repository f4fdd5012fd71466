"""Draw what erosion and deconvolutions make of one simulated image, with the distance from truth.

python docs/afm_figure.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from napari_deconv.afm.as_convolution import blind_as_convolution, restored_as_convolution
from napari_deconv.afm.morphology import erode
from napari_deconv.afm.simulated import sample_afm
from napari_deconv.engines import open_engine
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    image, surface, tip = sample_afm()
    heights, engine = image.heights_nm, open_engine("cpu")
    sides = tuple(n - 1 + n % 2 for n in tip.shape)
    shown = {
        "surface": surface,
        "image": heights,
        "eroded by the tip": erode(heights, tip.heights_nm),
        "Richardson-Lucy, 10": restored_as_convolution(heights, tip, RichardsonLucy(10), engine),
        "Wiener, 0.1": restored_as_convolution(heights, tip, Wiener(0.1), engine),
        "blind Richardson-Lucy": blind_as_convolution(heights, sides, 30, engine)[0],
    }
    figure, axes = plt.subplots(2, 3, figsize=(8, 5.8), layout="constrained")
    for axis, (name, values) in zip(axes.flat, shown.items(), strict=True):
        axis.imshow(values, cmap="copper", vmin=surface.min(), vmax=surface.max())
        apart = np.sqrt(np.square(values - surface).mean())
        print(f"{name}: {apart:.2f} nm")
        axis.set_title(name if values is surface else f"{name}: {apart:.1f} nm", fontsize=10)
        axis.set_axis_off()
    figure.savefig(IMAGES / "afm_convolution.png", dpi=110)


if __name__ == "__main__":
    main()
