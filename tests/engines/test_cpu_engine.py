"""The CPU engine's filters: what they keep, and the passes over memory that they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.engine import Float
from napari_deconv.restoration.fourier import Room
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

SHAPE = (12, 15, 16)


def psf_of(name: str) -> Float:
    at = np.indices((5, 7, 7)) - np.array([2, 3, 3]).reshape(3, 1, 1, 1)
    psf = np.exp(-(at**2).sum(0) / 3.0)
    if name == "asymmetric":
        psf[0] *= 1 + 1e-3
    made: Float = (psf / psf.sum()).astype(np.float32)
    return made


@pytest.mark.parametrize("name", ["symmetric", "asymmetric"])
def test_a_real_transfer_function_is_kept_real_and_no_other(name: str) -> None:
    transfer = transfer_function(psf_of(name), SHAPE)
    expected = transfer.astype(np.complex128)
    engine = CpuEngine(2)
    blur = engine.filter(transfer, SHAPE)
    assert np.iscomplexobj(blur._transfer) == (name == "asymmetric")
    x = np.random.default_rng(0).random(SHAPE, np.float32)
    spectrum = np.fft.rfftn(x.astype(float))
    for found, factors in (
        (engine.pull(blur.forward(x), SHAPE), expected),
        (engine.pull(blur.adjoint(x.copy()), SHAPE), expected.conj()),
    ):
        wanted = np.fft.irfftn(spectrum * factors, s=SHAPE, axes=(0, 1, 2))
        assert np.abs(found - wanted).max() < 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("acceleration", ["nu-method", "none"])
def test_no_pass_is_taken_to_read_what_is_filtered_again(
    acceleration: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless somebody looks at the estimate on the way, who finds the same."""
    passes: list[tuple[int, ...]] = []
    leave = Room.leave

    def counted(room: Room, window: tuple[int, ...]) -> Float:
        passes.append(window)
        return leave(room, window)

    monkeypatch.setattr(Room, "leave", counted)
    image = np.random.default_rng(0).poisson(20, (24, 90, 100)).astype(np.float32)
    observation, engine = observe(image, Psf(psf_of("asymmetric"))), CpuEngine(2)
    steps = RichardsonLucy(6, acceleration).steps(observation, engine)
    *_, unseen = steps
    assert len(passes) == 1  # in the end
    for step in RichardsonLucy(6, acceleration).steps(observation, engine):
        seen = step.peek() if step.peek is not None else step.estimate
    assert len(passes) > 6
    assert seen is not None
    assert unseen.estimate is not None
    assert np.array_equal(seen, unseen.estimate)
