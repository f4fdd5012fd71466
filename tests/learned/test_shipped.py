"""A training starts from the network of the package whose PSF is nearest, if one is of its kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_deconv import learning
from napari_deconv.engines import open_engine
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.learned.designs import DESIGNS, UNetDesign
from napari_deconv.learned.pairs import Light
from napari_deconv.learned.shipped import fits, nearest_shipped
from napari_deconv.learned.trainer import Schedule
from napari_deconv.restoration.stepping import ended

GRID, SIDES = Grid(spacing_um=(0.2, 0.1, 0.1)), (15, 15, 15)
WIDEFIELD = Optics(na=1.3, emission_nm=580, immersion_index=1.46)
CONFOCAL = Optics("confocal", na=1.3, emission_nm=580, excitation_nm=561, immersion_index=1.46)


def blob(spacing: tuple[float, ...]) -> Psf:
    at = np.indices((3, 5, 5)[-len(spacing) :])
    middle = np.array(at.shape[1:]).reshape(-1, *(1,) * len(spacing)) // 2
    return Psf(np.exp(-((at - middle) ** 2).sum(0) / 2.0), spacing)


@pytest.mark.parametrize(
    ("optics", "name"), [(WIDEFIELD, "widefield_inverse"), (CONFOCAL, "confocal_inverse")]
)
def test_the_nearest_is_that_of_the_microscope(optics: Optics, name: str) -> None:
    psf = compute_psf(optics, GRID, SIDES)
    found = nearest_shipped(DESIGNS["inverse"](psf), psf)
    assert found is not None
    assert found.card.name == name


def test_there_is_none_of_another_kind() -> None:
    plane, volume = blob((0.1, 0.1)), blob((0.2, 0.1, 0.1))
    assert learning.usual_start(plane) is None
    assert learning.usual_start(volume, "care") is None
    assert learning.usual_start(volume) is not None


def test_weights_do_not_know_how_a_network_pools() -> None:
    one = DESIGNS["inverse"](blob((0.2, 0.1, 0.1)))
    other = DESIGNS["inverse"](blob((0.1, 0.1, 0.1)))
    assert isinstance(one, UNetDesign)
    assert isinstance(other, UNetDesign)
    assert one.pools != other.pools
    assert fits(one, other)
    assert not fits(one, replace(other, first=8))
    assert not fits(one, replace(other, pools=other.pools[:1]))
    assert not fits(one, DESIGNS["wiener"](blob((0.2, 0.1, 0.1))))


def test_a_training_starts_from_its_weights() -> None:
    """On voxels of other sides as well; before a step it is as good as it was."""
    psf, light = blob((0.1, 0.1, 0.1)), Light((50.0, 100.0))
    sides = {"shape": (8, 24, 24), "patch": (8, 16, 16)}
    schedule = Schedule(pairs=2, left_out=4, batch=1, steps=1, learning_rate=1e-9, **sides)  # type: ignore[arg-type]
    losses = []
    for start in (learning.usual_start(psf), None):
        run = learning.train(psf, light, schedule, open_engine("cpu"), start=start)
        losses.append(ended(run).card.validation)
    assert losses[0] < 0.9 * losses[1]
