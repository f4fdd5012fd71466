"""Whether torch is there, which nearly all of this folder needs; this module does not."""

from __future__ import annotations

from importlib.util import find_spec

from napari_deconv.imaging.value import require


def require_torch() -> None:
    """Raise `InputError` where torch is not installed."""
    require(
        find_spec("torch") is not None,
        "Trained networks need the package torch, which is not installed; run: "
        'pip install "napari-deconv[learned]"',
    )
