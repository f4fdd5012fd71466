"""Make every picture of the docs again; `make pictures` runs this.

Those named figures draw what needs no viewer. Those named pictures, where they are there, open
the docks in napari and take their pictures; they need a screen, real or in memory.
"""

from __future__ import annotations

import runpy
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    "figures.py",
    "psf_figures.py",
    "dock_pictures.py",
    "batch_pictures.py",
    "psf_pictures.py",
    "beads_pictures.py",
    "learn_pictures.py",
    "afm_figure.py",
    "afm_pictures.py",
)


def main() -> None:
    """Run the scripts beside this one."""
    for name in SCRIPTS:
        script = HERE / name
        if script.exists():
            runpy.run_path(str(script), run_name="__main__")
        else:
            print(f"{name} is not there; its pictures stay as they are")


if __name__ == "__main__":
    main()
