"""What viewer tests share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from pytestqt.qtbot import QtBot

from napari_deconv.ui.deconvolve_dock import DeconvolveDock

UM = ("um", "um", "um")


@pytest.fixture(scope="session", autouse=True)
def modules_left_out_of_collections() -> Iterator[None]:
    """With each viewer napari collects garbage; most of what there is modules hold, and is none."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[[], Any]) -> Any:
    """Return an open viewer, as plugins see it."""
    return make_napari_viewer_proxy()


@pytest.fixture
def blobs() -> Image:
    """Return a small stack with everything a result must keep."""
    rng = np.random.default_rng(3)
    data = rng.poisson(20, (6, 24, 22)).astype(np.uint16)
    data[3, 10:13, 9:12] += 400
    return Image(
        data,
        name="blobs",
        scale=(0.3, 0.1, 0.1),
        translate=(5.0, 6.0, 7.0),
        units=UM,
        axis_labels=("z", "y", "x"),
        colormap="magma",
        metadata={"mine": 1},
    )


@pytest.fixture
def dock(viewer: Any, blobs: Image, qtbot: QtBot) -> Iterator[DeconvolveDock]:
    """Return the dock in a viewer with `blobs`; nothing of it runs on afterwards."""
    viewer.add_layer(blobs)
    widget = DeconvolveDock(viewer)
    viewer.window.add_dock_widget(widget, name="Deconvolve")
    yield widget
    widget.close()
    qtbot.waitUntil(
        lambda: (
            not widget.job.running
            and not widget.latest.running
            and not widget.headers.running
            and not widget.live.running
        ),
        timeout=20_000,
    )
