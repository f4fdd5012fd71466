"""Random images, PSFs and settings, sensible or not: a valid result or a sentence, never less."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Restorer
from napari_deconv.restoration.richardson_lucy import ACCELERATIONS, RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

Random = np.random.Generator
Double = npt.NDArray[np.float64]
#: Cases of a test, and tests: a thousand in all.
CASES, TESTS = 50, 20
SHAPES = ((7, 12, 10), (1, 9, 14), (16, 13), (5, 5), (1, 1, 1), (24, 3), (4, 20, 11))


def image_of(shape: tuple[int, ...], random: Random) -> Double:
    scale = 10 ** random.uniform(-6, 9)
    kinds = (
        lambda: random.poisson(random.uniform(0, 50), shape).astype(np.float64),
        lambda: random.random(shape),
        lambda: np.full(shape, random.uniform(0, 2)),
        lambda: np.zeros(shape),
        lambda: (random.random(shape) < 0.05) * 10 ** random.uniform(0, 8, shape),
        lambda: 10 ** random.uniform(-20, 6, shape),
        lambda: random.normal(size=shape),
    )
    return np.asarray(kinds[random.integers(len(kinds))]() * scale)


def psf_of(ndim: int, random: Random) -> Double:
    shape = tuple(int(n) for n in random.integers(1, 16, ndim))
    kinds = (
        lambda: random.random(shape),
        lambda: np.ones(shape),
        lambda: 10 ** random.uniform(-12, 0, shape),
        lambda: np.eye(1, int(np.prod(shape)), int(random.integers(np.prod(shape)))).reshape(shape),
        lambda: random.normal(size=shape),
        lambda: np.zeros(shape),
    )
    return np.asarray(kinds[random.integers(len(kinds))]())


def method_of(random: Random) -> Restorer:
    edges: Any = random.choice(["non-circulant", "two-sided", "circular"])
    if random.random() < 0.25:
        weights: tuple[Any, ...] = ("auto", 1e-8, 1e-3, 10.0)
        return Wiener(weights[random.integers(len(weights))], edges)
    acceleration: Any = random.choice(ACCELERATIONS)
    return RichardsonLucy(
        int(random.integers(1, 16)),
        acceleration,
        tv_weight=float(random.choice([0, 1e-4, 0.01, 0.1])),
        edges=edges,
        read_noise=float(random.choice([0, 1, 1e3])),
        stop_tolerance=float(random.choice([0, 1e-3, 0.5])),
        automatic_stop=bool(random.random() < 0.3),
    )


@pytest.mark.parametrize("seed", range(TESTS))
def test_whatever_goes_in_something_valid_or_a_sentence_comes_out(seed: int) -> None:
    random, engine, restored = np.random.default_rng((77, seed)), open_engine("cpu"), 0
    sentences: list[str] = []
    for _ in range(CASES):
        shape = SHAPES[random.integers(len(SHAPES))]
        image, samples = image_of(shape, random), psf_of(len(shape), random)
        background = float(random.choice([0, 0, 1, image.mean(), 2 * np.abs(image).max()]))
        method = method_of(random)
        try:
            observation = observe(image, Psf(samples), background)
            *_, last = method.steps(observation, engine)
        except InputError as error:
            sentences.append(str(error))
            continue
        told = f"{method} on {shape} with a PSF of {samples.shape} and background {background}"
        assert last.estimate is not None, told
        assert last.estimate.shape == shape, told
        assert last.estimate.dtype == np.float32, told
        assert np.isfinite(last.estimate).all(), told
        if isinstance(method, RichardsonLucy):
            assert (last.estimate >= 0).all(), told
        restored += 1
    assert restored > CASES / 4
    assert all(said and "\n" not in said for said in sentences)
