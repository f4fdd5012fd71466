"""The CPU engine's filters: a transfer function that is real is kept as such."""

from __future__ import annotations

import numpy as np
import pytest

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.engine import Float

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
