"""Wiener: its settings, its automatic regularization, and its smooth continuation."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.noise import Noise, noise_of
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.quality import psnr
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.continued import Continued, continued
from napari_deconv.restoration.engine import Engine, Float
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.pieces import blocks
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.wiener import (
    LEAST,
    MOST,
    SAMPLE,
    Wiener,
    transformed,
)


def gaussian_psf(sigma: float, side: int, ndim: int) -> Psf:
    samples = np.zeros((side,) * ndim)
    samples[(side // 2,) * ndim] = 1
    return Psf(ndimage.gaussian_filter(samples, sigma))


def run(method: Wiener, image: Any, psf: Psf, engine: Engine, background: float = 0) -> Step:
    (step,) = method.steps(observe(image, psf, background), engine)
    return step


def restored(method: Wiener, image: Any, psf: Psf, engine: Engine, background: float = 0) -> Float:
    result = run(method, image, psf, engine, background).estimate
    assert result is not None
    return result


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "none", None, True, [0.1]])
def test_the_regularization_is_positive_or_auto(bad: Any) -> None:
    with pytest.raises(InputError, match=r"^The regularization \(a number, or 'auto'\) must be"):
        Wiener(bad)


def test_the_edges_are_known() -> None:
    with pytest.raises(InputError, match="The edges 'mirror' are not known; choose one of non-c"):
        Wiener(edges="mirror")  # type: ignore[arg-type]


def chosen(image: Any, engine: Engine) -> float:
    """Return the regularization that "auto" says it used."""
    note = run(Wiener(), image, gaussian_psf(1.5, 9, 2), engine).note
    assert note.startswith("one step, regularization ")
    return float(note.split()[-1])


def test_an_automatic_regularization_grows_with_the_noise(cpu: Engine) -> None:
    rng = np.random.default_rng(0)
    signal = ndimage.gaussian_filter(100 * (rng.random((96, 96)) > 0.97), 1.5, mode="wrap")
    noise = rng.normal(size=signal.shape)
    weights = [chosen(signal + 20 + sigma * noise, cpu) for sigma in (0.0, 0.3, 1.0, 3.0)]
    assert weights == sorted(set(weights))
    assert LEAST <= weights[0] < 0.01 < weights[-1] <= MOST


@pytest.mark.parametrize("hot", [0, 30])
def test_photons_in_a_dark_field_are_noise_too(hot: int, cpu: Engine) -> None:
    """Most voxels are equal there, and tell of no noise; a few hot ones tell of more."""
    rng = np.random.default_rng(2)
    psf = gaussian_psf(1.5, 11, 3)
    dots = ndimage.gaussian_filter((rng.random((16, 96, 96)) > 0.999) * 1.0, 1.0)
    blurred = ndimage.convolve(dots, psf.samples / psf.samples.sum(), mode="nearest")
    truth = 50 * dots / blurred.max()
    image = rng.poisson(50 * blurred / blurred.max() + 0.3).astype(np.float32)
    image.flat[rng.choice(image.size, hot, replace=False)] += 200
    last = run(Wiener(), image, psf, cpu, 0.3)
    assert last.estimate is not None

    def alike(found: Any) -> float:
        return float(np.corrcoef(np.asarray(found).ravel(), truth.ravel())[0, 1])

    assert alike(last.estimate) > alike(image)


def test_an_automatic_regularization_stays_within_bounds(cpu: Engine) -> None:
    assert chosen(np.full((32, 36), 5.0), cpu) == pytest.approx(LEAST, rel=0.01)
    noise = np.random.default_rng(0).normal(100, 5, (64, 64))
    assert 0.5 < chosen(noise, cpu) <= MOST


def test_the_step_says_what_was_used(cpu: Engine) -> None:
    step = run(Wiener(0.0125), np.eye(9), gaussian_psf(1, 5, 2), cpu)
    assert (step.done, step.total, step.divergence) == (1, 1, None)
    assert step.note == "one step, regularization 0.0125"


def test_the_mean_is_kept_and_the_background_taken_away(cpu: Engine) -> None:
    image = np.random.default_rng(0).random((24, 30)) * 50 + 100
    method = Wiener(0.05, edges="circular")
    result = restored(method, image, gaussian_psf(1.5, 9, 2), cpu, background=90)
    assert result.mean(dtype=np.float64) == pytest.approx(image.mean() - 90, rel=1e-5)


def test_it_is_linear_in_the_data(cpu: Engine) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 12, 14, 16))
    psf, method = gaussian_psf(1.2, 5, 3), Wiener(0.01)
    both = restored(method, 2 * a + 3 * b, psf, cpu)
    each = 2 * restored(method, a, psf, cpu) + 3 * restored(method, b, psf, cpu)
    assert np.abs(both - each).max() < 1e-4


def test_without_noise_it_undoes_the_blur(cpu: Engine) -> None:
    truth = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 40)), 1.5)
    psf = gaussian_psf(1.0, 11, 2)
    image = ndimage.convolve(truth, psf.samples, mode="wrap")
    result = restored(Wiener(1e-5, edges="circular"), image, psf, cpu)
    assert np.abs(result - truth).max() < 0.05 * np.abs(image - truth).max()


def test_a_bright_border_rings_less_than_with_circular_edges(cpu: Engine) -> None:
    """A ramp jumps where it repeats; continued smoothly it does not."""
    image = np.tile(np.linspace(0, 100, 64), (64, 1))
    psf = gaussian_psf(2.0, 13, 2)

    def ringing(edges: Any) -> float:
        result = restored(Wiener(1e-3, edges=edges), image, psf, cpu)
        return float(np.abs(result - image)[8:-8, 8:-8].max())

    assert ringing("non-circulant") < 0.1 * ringing("circular")


@pytest.mark.parametrize("shape", [(8, 10), (9, 12, 7)])
def test_the_continuation_begins_with_the_image_and_closes_the_circle(
    shape: tuple[int, ...],
) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    larger = tuple(n + 7 for n in shape)
    result = continued(image, larger)
    assert result.shape == larger
    assert result.dtype == np.float32
    assert np.array_equal(result[tuple(slice(n) for n in shape)], image)
    assert result.min() >= image.min() - 1e-6
    assert result.max() <= image.max() + 1e-6


def test_the_continuation_of_a_ramp_has_no_jump() -> None:
    ramp = np.arange(20, dtype=np.float32)[None]
    result = continued(ramp, (1, 40))[0]
    steps = np.abs(np.diff(np.append(result, result[0])))
    assert steps.max() < 2.5
    assert np.array_equal(continued(ramp, (1, 20)), ramp)


def test_the_padding_may_be_longer_than_the_image() -> None:
    result = continued(np.array([[1.0, 2.0]], np.float32), (1, 13))
    assert result.shape == (1, 13)
    assert 1 <= result.min() <= result.max() <= 2


@pytest.mark.parametrize("shape", [(24, 30), (8, 20, 18)])
def test_a_kept_transform_gives_the_same_for_any_psf(shape: tuple[int, ...], cpu: Engine) -> None:
    image = np.random.default_rng(0).poisson(40, shape).astype(np.float32)
    kept = transformed(image, noise_of(image))
    for sigma in (0.8, 1.5):
        psf = gaussian_psf(sigma, 7, len(shape))
        otf = transfer_function(psf.samples, shape)
        step = run(Wiener(edges="circular"), image, psf, cpu)
        weight = kept.weight(otf)
        assert step.note == f"one step, regularization {weight:.3g}"
        assert step.estimate is not None
        assert np.abs(kept.restored(otf, weight) - step.estimate).max() < 1e-5 * image.max()


def test_the_weight_makes_the_blurred_result_miss_the_image_by_the_noise() -> None:
    rng = np.random.default_rng(0)
    signal = ndimage.gaussian_filter(1e4 * (rng.random((90, 96)) > 0.97), 1.5, mode="wrap")
    image = (signal + 20 * rng.normal(size=signal.shape)).astype(np.float32)
    image -= image.mean()
    otf = transfer_function(gaussian_psf(1.5, 13, 2).samples, image.shape)
    kept = transformed(image, Noise(20.0))
    weight = kept.weight(otf)
    restored = kept.restored(otf, weight)
    blurred = np.fft.irfft2(np.fft.rfft2(restored) * otf, s=image.shape)
    missed = float(np.square(blurred - image).mean())
    assert LEAST < weight < MOST
    # The mean over half of the spectrum stands for that over the image.
    assert missed == pytest.approx(20.0**2, rel=0.05)


@pytest.mark.parametrize("regularization", ["auto", 0.01, 1e-5])
def test_the_memory_of_a_run_is_as_said(regularization: Any) -> None:
    """At the peak, in padded volumes, the image included.

    To choose a weight takes some numbers for each frequency of a sample besides, whatever the
    image.
    """
    method = Wiener(regularization)
    image = np.random.default_rng(0).poisson(20, (48, 300, 320)).astype(np.float32)
    observation = observe(image, gaussian_psf(1.5, 9, 3))
    tracemalloc.start()
    try:
        (step,) = method.steps(observation, CpuEngine(2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert step.estimate is not None
    volume = 4 * math.prod(method.work_shape(image.shape, (9, 9, 9)))
    besides = 4 * 6 * SAMPLE if regularization == "auto" else 0
    held = peak + image.nbytes
    assert 0.8 * method.volumes * volume < held < 1.05 * method.volumes * volume + besides


def test_a_piece_of_the_continuation_is_that_of_the_whole() -> None:
    image = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    pieces = Continued(image, (8, 11, 9), background=0.5)
    whole = continued(image, (8, 11, 9)) - 0.5
    for where in blocks(whole.shape, 40):
        assert np.abs(pieces[where] - whole[where]).max() < 1e-6


def test_a_weak_filter_of_a_widefield_psf_has_no_end() -> None:
    """The slowest changes across a plane pass least, and are amplified most."""
    grid = Grid(spacing_um=(0.3, 0.15, 0.15))
    psf = compute_psf(Optics(na=1.2, emission_nm=520, immersion_index=1.33), grid, (15, 41, 41))
    assert Wiener(3e-4).reaches_beyond_tiles(psf)
    assert Wiener(0.01).reaches_beyond_tiles(psf)
    assert not Wiener(0.2).reaches_beyond_tiles(psf)
    assert not Wiener(3e-4).reaches_beyond_tiles(gaussian_psf(1.5, 15, 3))
    assert not Wiener().reaches_beyond_tiles(psf)  # nothing is known of it yet


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_weight_does_not_depend_on_the_size_of_counts(scale: float, cpu: Engine) -> None:
    """Also where a float32 does not hold the squares of a spectrum."""
    counts = np.random.default_rng(0).poisson(50, (8, 20, 24)).astype(float)
    counts[3, 6:12, 5:15] += 400
    kernel = np.exp(-((np.indices((5, 7, 7)) - [[[[2]]], [[[3]]], [[[3]]]]) ** 2).sum(0) / 4)
    found, expected = (
        list(Wiener().steps(observe(unit * counts, Psf(kernel)), cpu))[-1] for unit in (scale, 1.0)
    )
    assert found.estimate is not None
    assert expected.estimate is not None
    assert found.estimate / scale == pytest.approx(expected.estimate, rel=1e-3, abs=0.1)


def test_noise_that_neighbours_share_is_not_taken_for_little(cpu: Engine) -> None:
    """As a filter leaves it: by its finest detail alone the result would be noise."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:12, :96, :96]
    truth = ((z - 6) ** 2 / 9 + (y - 48) ** 2 / 400 + (x - 48) ** 2 / 400 < 1).astype(float)
    psf = gaussian_psf(1.6, 11, 3)
    counts = rng.poisson(4 + 20 * ndimage.gaussian_filter(truth, 1.6))
    filtered = ndimage.gaussian_filter(counts.astype(np.float32), (0, 0.7, 0.7))
    methods = [Wiener(), *map(Wiener, (1e-3, 1e-2, 1e-1))]
    automatic, *given = (
        psnr(restored(method, filtered, psf, cpu, 4.0), truth, fit=True) for method in methods
    )
    assert max(given) - min(given) > 3
    assert automatic > max(given) - 1.5
