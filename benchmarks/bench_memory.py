"""Peak memory of each method in float32 volumes of its work shape, beside what it predicts.

Run as it stands: `python benchmarks/bench_memory.py`. Each method runs in a process of its
own, so that one peak does not hide another.
"""

from __future__ import annotations

import math
import subprocess
import sys

SHAPE, SIDE = (96, 320, 320), 31


def methods() -> dict[str, object]:
    from napari_deconv import RichardsonLucy, Wiener

    return {
        "plain": RichardsonLucy(3, acceleration="none"),
        "heavy-ball": RichardsonLucy(3),
        "biggs-andrews": RichardsonLucy(4, acceleration="biggs-andrews"),
        "total-variation": RichardsonLucy(3, tv_weight=0.002),
        "wiener": Wiener(),
    }


def measure(name: str) -> None:
    """Run one method and print its peak, what it predicts, and their ratio."""
    import numpy as np

    from napari_deconv import Psf, open_engine
    from napari_deconv.engines.memory import peak_memory_bytes
    from napari_deconv.restoration.restorer import observe

    method = methods()[name]
    image = np.random.default_rng(0).poisson(30, SHAPE).astype(np.uint16)
    psf, engine = Psf(np.ones((SIDE,) * 3)), open_engine("cpu")
    # The first transform loads the library; that is no part of a method.
    list(method.steps(observe(image[:8, :8, :8], psf), engine))  # type: ignore[attr-defined]
    before = peak_memory_bytes()
    list(method.steps(observe(image, psf), engine))  # type: ignore[attr-defined]
    shape = method.work_shape(SHAPE, psf.shape)  # type: ignore[attr-defined]
    measured = (peak_memory_bytes() - before) / (4 * math.prod(shape))
    predicted = method.volumes  # type: ignore[attr-defined]
    print(f"{name:16} {measured:5.1f} measured, {predicted:5.1f} predicted")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for method_name in methods():
            subprocess.run([sys.executable, __file__, method_name], check=True)
