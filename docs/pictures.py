"""Make every picture of the docs again; `make pictures` runs this.

`figures.py` draws what needs no viewer. `dock_pictures.py`, where it is there, opens the
docks in napari and takes their pictures; it needs a screen, real or in memory.
"""

from __future__ import annotations

import runpy
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the two scripts beside this one."""
    for name in ("figures.py", "dock_pictures.py"):
        script = HERE / name
        if script.exists():
            runpy.run_path(str(script), run_name="__main__")
        else:
            print(f"{name} is not there; its pictures stay as they are")


if __name__ == "__main__":
    main()
