"""Blurred again, a result must miss its data by the noise, where it is right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from napari_deconv.engines import open_engine
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.misfit import misfit_of
from napari_deconv.restoration.observing import observe

CAMERA, BACKGROUND = Camera(2.0, 100.0, 1.0), 110.0


@pytest.fixture(scope="module")
def psf() -> Psf:
    z, y, x = np.ogrid[-3:4, -5:6, -5:6]
    return Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 6))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(rng.random((16, 64, 64)) > 0.995, 9000.0, 0.0).astype(np.float32)


@pytest.fixture(scope="module")
def counts(truth: np.ndarray, psf: Psf) -> np.ndarray:
    light = np.maximum(fftconvolve(truth, psf.samples, mode="same"), 0)
    rng = np.random.default_rng(1)
    dark = (BACKGROUND - CAMERA.offset) / CAMERA.gain
    caught = rng.poisson(light / CAMERA.gain + dark) + rng.normal(0, CAMERA.read_noise, light.shape)
    return np.rint(CAMERA.offset + CAMERA.gain * caught).astype(np.float32)


@pytest.mark.parametrize("engine", ["cpu", "torch", "opencl"])
def test_the_truth_misses_the_data_by_the_noise(
    counts: np.ndarray, truth: np.ndarray, psf: Psf, engine: str
) -> None:
    opened = open_engine(engine)
    found = misfit_of(observe(counts, psf, BACKGROUND), truth, CAMERA, opened)
    opened.release()
    assert found.chi_squared == pytest.approx(1, abs=0.02)
    assert found.map.shape == counts.shape
    told = ~np.isnan(found.map)
    assert told[3:-3, 5:-5, 5:-5].all()
    assert told.sum() == 10 * 54 * 54
    assert 0.5 < np.nanmin(found.map) < 1 < np.nanmax(found.map) < 2


def test_what_a_result_lacks_stands_out_where_it_is(
    counts: np.ndarray, truth: np.ndarray, psf: Psf
) -> None:
    z, y, x = (int(i) for i in np.argwhere(truth[4:12, 10:50, 10:50] > 0)[0] + (4, 10, 10))
    without = truth.copy()
    without[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 0
    found = misfit_of(observe(counts, psf, BACKGROUND), without, CAMERA, open_engine("cpu"))
    brightest = np.unravel_index(int(np.nanargmax(found.map)), found.map.shape)
    assert np.abs(np.subtract(brightest, (z, y, x))).max() <= 2
    assert np.nanmax(found.map) > 5


def test_fractions_of_counts_are_missed_by_the_noise_of_their_photons(
    counts: np.ndarray, truth: np.ndarray, psf: Psf
) -> None:
    part = np.float32(1e-5)
    camera = Camera(CAMERA.gain * 1e-5, CAMERA.offset * 1e-5, CAMERA.read_noise)
    seen = observe(counts * part, psf, BACKGROUND * 1e-5)
    found = misfit_of(seen, truth * part, camera, open_engine("cpu"))
    assert found.chi_squared == pytest.approx(1, abs=0.02)


def test_whole_counts_are_rounded_however_small_the_gain(psf: Psf) -> None:
    """Of photons of a tenth of a count the rounding is most of the noise there is."""
    rng = np.random.default_rng(2)
    light = np.full((16, 40, 40), 50.0)
    counts = np.rint(0.1 * rng.poisson(light)).astype(np.float32)
    flat, camera = np.full(light.shape, 5.0, np.float32), Camera(0.1, 0.0, 0.0)
    found = misfit_of(observe(counts, psf, 0.0), flat, camera, open_engine("cpu"))
    assert found.chi_squared == pytest.approx(1, abs=0.1)


def test_a_result_of_another_shape_is_refused(counts: np.ndarray, psf: Psf) -> None:
    with pytest.raises(InputError, match="The result has the shape"):
        misfit_of(observe(counts, psf), counts[:3], CAMERA, open_engine("cpu"))


def test_of_hardly_more_planes_than_those_of_the_psf_a_quarter_is_looked_at(
    counts: np.ndarray, truth: np.ndarray, psf: Psf
) -> None:
    tall = Psf(np.pad(psf.samples, ((4, 4), (0, 0), (0, 0))))  # 15 planes, under 16
    found = misfit_of(observe(counts, tall, BACKGROUND), truth, CAMERA, open_engine("cpu"))
    assert (~np.isnan(found.map)).any(axis=(1, 2)).sum() == 4
