"""A small PSF off its centre, and an engine, for what runs a network."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.engine import Engine


@pytest.fixture
def engine() -> Engine:
    return open_engine("cpu")


@pytest.fixture
def psf() -> Psf:
    z, y, x = np.ogrid[-1:2, -2:3, -2:3]
    return Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 2), (0.2, 0.1, 0.1))
