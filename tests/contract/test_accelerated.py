"""Momentum, total variation, stopping and the reported likelihood, against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import uniform_filter

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.richardson_lucy import ACCELERATIONS, RichardsonLucy
from napari_deconv.restoration.running import Run

from . import reference

Array = npt.NDArray[np.float64]
MakePsf = Callable[[tuple[int, ...]], Array]
MakeImage = Callable[[tuple[int, ...]], Array]

#: One shape, which the other contract tests use as well: OpenCL compiles for each new one.
SHAPE, PSF_SHAPE = (9, 12, 15), (3, 5, 4)
SPACING = (0.3, 0.1, 0.15)

RUNS: list[dict[str, Any]] = [
    {"acceleration": "nu-method"},
    {"acceleration": "nu-method", "tv_weight": 0.002},
    {"acceleration": "wiener-butterworth"},
    {"acceleration": "otf-masked-wiener"},
    {"acceleration": "heavy-ball"},
    {"acceleration": "biggs-andrews"},
    {"acceleration": "none", "tv_weight": 0.01},
    {"acceleration": "heavy-ball", "tv_weight": 0.002},
    {"acceleration": "biggs-andrews", "read_noise": 2.0},
]


@pytest.fixture(params=["cpu", "torch"])
def swift(request: pytest.FixtureRequest) -> Engine:
    """The engines that compile nothing, for many shapes and long runs."""
    return open_engine(request.param)


def steps_of(
    method: RichardsonLucy,
    image: Array,
    psf: Array,
    engine: Engine,
    background: float = 0.0,
    spacing: tuple[float, ...] | None = None,
) -> list[Step]:
    return list(method.steps(observe(image, Psf(psf, spacing), background), engine))


def estimate_of(steps: list[Step]) -> npt.NDArray[np.float32]:
    assert steps[-1].estimate is not None
    return steps[-1].estimate


def divergences_of(steps: list[Step]) -> list[float]:
    found = [step.divergence for step in steps if step.divergence is not None]
    assert len(found) == len(steps)
    return found


def assert_agrees(
    engine: Engine,
    image: Array,
    psf: Array,
    options: dict[str, Any],
    background: float,
    spacing: tuple[float, ...],
) -> None:
    """Compare twelve iterations with the reference, at 1e-4 of its maximum (CPU 2e-5)."""
    steps = steps_of(RichardsonLucy(12, **options), image, psf, engine, background, spacing)
    relative = tuple(step / min(spacing) for step in spacing)
    expected = reference.accelerated(
        image, psf, 12, background=background, spacing=relative, **options
    )
    tolerance = 2e-5 if engine.name == "cpu" else 1e-4
    found = estimate_of(steps)
    assert np.abs(found - expected.estimate).max() < tolerance * expected.estimate.max()
    assert divergences_of(steps) == pytest.approx(expected.divergences, rel=1e-4)


@pytest.mark.parametrize("options", RUNS, ids=str)
def test_accelerated_and_smoothed_runs_agree_with_float64(
    engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage, options: dict[str, Any]
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    assert_agrees(engine, image, psf, options, 3.0, SPACING)


@pytest.mark.parametrize("background", [0.0, 3.0])
@pytest.mark.parametrize("shape", [(24, 31), (6, 20, 18)])
@pytest.mark.parametrize("options", RUNS, ids=str)
def test_they_agree_in_2d_and_where_the_stack_is_thinner_than_the_psf(
    swift: Engine,
    asymmetric_psf: MakePsf,
    photons: MakeImage,
    options: dict[str, Any],
    shape: tuple[int, ...],
    background: float,
) -> None:
    image, psf = photons(shape), asymmetric_psf((9, 7, 8)[-len(shape) :])
    assert_agrees(swift, image, psf, options, background, SPACING[-len(shape) :])


@pytest.mark.parametrize("background", [0.0, 3.0])
@pytest.mark.parametrize("options", RUNS, ids=str)
def test_rounding_does_not_grow_where_the_image_ends(
    swift: Engine,
    asymmetric_psf: MakePsf,
    photons: MakeImage,
    options: dict[str, Any],
    background: float,
) -> None:
    """Voxels beyond the image that it hardly sees must not disturb those that it sees."""
    image, psf = photons((6, 20, 18)), asymmetric_psf((9, 7, 8))
    made = RichardsonLucy(20, **options)
    found = estimate_of(steps_of(made, image, psf, swift, background))
    expected = reference.accelerated(image, psf, 20, background=background, **options).estimate
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


@pytest.mark.parametrize("ground", [0, 150])
@pytest.mark.parametrize("acceleration", ["none", "heavy-ball", "nu-method"])
def test_strong_smoothing_does_not_overshoot(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage, acceleration: Any, ground: float
) -> None:
    """Else rounding would decide which way neighbours swing, and grow to a tenth of the maximum."""
    psf = asymmetric_psf(PSF_SHAPE)
    image = photons(SHAPE) + np.random.default_rng(0).poisson(ground, SHAPE)
    options: dict[str, Any] = {"acceleration": acceleration, "tv_weight": 0.1}
    expected = reference.accelerated(image, psf, 50, spacing=(3.0, 1.0, 1.5), **options)
    steps = steps_of(RichardsonLucy(50, **options), image, psf, cpu, spacing=(0.3, 0.1, 0.15))
    assert np.abs(estimate_of(steps) - expected.estimate).max() < 1e-4 * expected.estimate.max()
    assert divergences_of(steps) == pytest.approx(expected.divergences, rel=1e-4)


@pytest.mark.parametrize("weight", [0.01, 0.05])
@pytest.mark.parametrize("acceleration", ["none", "heavy-ball"])
def test_the_last_digit_of_an_image_does_not_decide_what_smoothing_makes_of_it(
    cpu: Engine, acceleration: Any, weight: float
) -> None:
    """Bright parts on dark ground, many times their mean, are where neighbours would swing."""
    rng = np.random.default_rng(0)
    profile = np.exp(-(np.arange(-4, 5) ** 2) / 4.0)
    psf = np.multiply.outer(np.multiply.outer(profile, profile), profile)
    lit = uniform_filter((rng.random((16, 48, 48)) < 0.002) * 1e5, 5)
    image = rng.poisson(10 + lit).astype(float)
    near = image * (1 + 1e-6 * rng.normal(size=image.shape))
    method = RichardsonLucy(30, acceleration, tv_weight=weight)
    first, second = (estimate_of(steps_of(method, each, psf, cpu, 10.0)) for each in (image, near))
    assert np.abs(first - second).max() < 1e-4 * first.max()


def test_smoothing_that_raises_the_divergence_is_no_reason_to_restart(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    runs: list[Run] = []
    method = RichardsonLucy(40, tv_weight=0.1)
    steps = list(method._steps(observe(image, Psf(psf)), cpu, runs))
    assert max(np.diff(divergences_of(steps))) > 0
    assert runs[0].weights == pytest.approx([(k - 1) / (k + 2) for k in range(1, 41)])


def test_the_references_curvature_is_minus_the_gradient_of_total_variation() -> None:
    x = np.random.default_rng(4).random((5, 4, 6)) + 1
    found = reference.tv_curvature(x, (3.0, 1.0, 1.5), 0.05)
    assert np.abs(found - reference.curvature(x, (3.0, 1.0, 1.5), 0.05)).max() < 1e-5


def test_without_momentum_both_references_are_one(
    asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    plain = reference.richardson_lucy(image, psf, 15, background=2.0, circular=False)
    run = reference.accelerated(image, psf, 15, acceleration="none", background=2.0)
    assert np.abs(plain - run.estimate).max() < 1e-9 * plain.max()


@pytest.mark.parametrize("acceleration", ACCELERATIONS)
def test_circular_flux_is_that_of_the_data_less_the_background(
    engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage, acceleration: Any
) -> None:
    """Without background each update keeps the flux exactly (Lucy 1974)."""
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    method = RichardsonLucy(15, acceleration=acceleration, edges="circular")
    result = estimate_of(steps_of(method, image, psf, engine))
    assert result.sum(dtype=np.float64) == pytest.approx(image.sum(), rel=1e-5)


@pytest.mark.parametrize("background", [0.0, 3.0])
@pytest.mark.parametrize("edges", ["non-circulant", "circular"])
def test_the_likelihood_never_falls_without_momentum(
    swift: Engine, asymmetric_psf: MakePsf, photons: MakeImage, edges: Any, background: float
) -> None:
    method = RichardsonLucy(60, acceleration="none", edges=edges)
    steps = steps_of(method, photons(SHAPE), asymmetric_psf(PSF_SHAPE), swift, background)
    divergences = divergences_of(steps)
    assert (np.diff(divergences) < 1e-6 * divergences[0]).all()
    assert divergences[-1] < 0.5 * divergences[0]


@pytest.mark.parametrize("acceleration", ["nu-method", "heavy-ball", "biggs-andrews"])
def test_momentum_reaches_a_lower_divergence_at_equal_iterations(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage, acceleration: Any
) -> None:
    image, psf = photons((14, 20, 17)), asymmetric_psf((7, 7, 7))

    def last(method: RichardsonLucy) -> float:
        return divergences_of(steps_of(method, image, psf, cpu, 2.0))[-1]

    plain = last(RichardsonLucy(25, acceleration="none"))
    assert last(RichardsonLucy(25, acceleration=acceleration)) < 0.95 * plain


@pytest.mark.parametrize("background", [0.0, 5.0])
def test_the_nu_method_comes_as_far_in_three_quarters_of_the_iterations(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage, background: float
) -> None:
    image, psf = photons((14, 20, 17)) + background, asymmetric_psf((7, 7, 7))

    def divergences(method: RichardsonLucy) -> list[float]:
        return divergences_of(steps_of(method, image, psf, cpu, background))

    usual = divergences(RichardsonLucy(60, acceleration="heavy-ball"))
    fast = divergences(RichardsonLucy(45))
    assert fast[44] < usual[59]
    assert fast[23] < usual[31]


def test_all_accelerations_converge_to_one_likelihood(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons((6, 10, 9)), asymmetric_psf((3, 5, 4))
    nu, ball, plain = (
        divergences_of(steps_of(method, image, psf, cpu, 2.0))
        for method in (
            RichardsonLucy(400),
            RichardsonLucy(600, "heavy-ball"),
            RichardsonLucy(20_000, "none"),
        )
    )
    # Of the way from the start, all but a thousandth.
    for fast in (nu, ball):
        assert fast[-1] - plain[-1] < 1e-3 * (plain[0] - plain[-1])


@pytest.mark.parametrize(("background", "read_noise"), [(0.0, 0.0), (3.0, 0.0), (3.0, 2.5)])
def test_the_reported_divergence_is_that_of_the_definition(
    engine: Engine,
    asymmetric_psf: MakePsf,
    photons: MakeImage,
    background: float,
    read_noise: float,
) -> None:
    """Of the estimate that an iteration started from: so of n iterations by the n + 1st."""
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    made: dict[str, Any] = {"acceleration": "none", "edges": "circular", "read_noise": read_noise}
    estimate = estimate_of(
        steps_of(RichardsonLucy(7, **made), image, psf, engine, background)
    ).astype(float)
    kernel = reference.centred(psf / psf.sum(), SHAPE)
    blurred = np.fft.ifftn(np.fft.fftn(estimate) * np.fft.fftn(kernel)).real
    variance = read_noise**2
    expected = reference.i_divergence(image + variance, blurred + background + variance)
    reported = divergences_of(steps_of(RichardsonLucy(8, **made), image, psf, engine, background))
    assert reported[7] == pytest.approx(expected, rel=1e-4)


def test_a_perfect_start_has_no_divergence(cpu: Engine) -> None:
    steps = steps_of(RichardsonLucy(2), np.full(SHAPE, 40.0), np.ones((1, 1, 1)), cpu)
    assert divergences_of(steps) == pytest.approx([0.0, 0.0], abs=1e-5)


# -- stopping --------------------------------------------------------------------------


def test_it_stops_where_the_likelihood_stands_still(
    engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    steps = steps_of(RichardsonLucy(300, stop_tolerance=1e-2), image, psf, engine)
    history, n = divergences_of(steps), len(steps)
    assert 3 <= n < 300
    change = [abs(a - b) / abs(b) for a, b in pairwise(history)]
    assert change[-1] <= 1e-2
    assert all(value > 1e-2 for value in change[1:-1])
    assert steps[-1].note == (
        f"stopped after {n} iterations: the likelihood changed by less than 1 %"
    )
    assert [step.estimate is None for step in steps] == [True] * (n - 1) + [False]


def test_it_respects_the_maximum_and_says_so(
    engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    steps = steps_of(RichardsonLucy(4, stop_tolerance=1e-9), image, psf, engine)
    assert [(step.done, step.total) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [step.note for step in steps] == [""] * 3 + ["stopped at the maximum of 4 iterations"]


def test_a_tolerance_of_zero_never_stops_early(cpu: Engine) -> None:
    """A constant through a delta stands still from the start."""
    steps = steps_of(RichardsonLucy(9), np.full((4, 5, 6), 8.0), np.ones((1, 1, 1)), cpu)
    assert len(steps) == 9


def test_a_change_needs_two_iterations_and_the_start_to_be_judged(cpu: Engine) -> None:
    method = RichardsonLucy(9, stop_tolerance=0.5)
    assert len(steps_of(method, np.full((4, 5, 6), 8.0), np.ones((1, 1, 1)), cpu)) == 3


def test_stopping_early_gives_the_estimate_of_that_iteration(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    stopped = steps_of(RichardsonLucy(300, stop_tolerance=1e-2), image, psf, cpu)
    counted = steps_of(RichardsonLucy(len(stopped)), image, psf, cpu)
    assert np.array_equal(estimate_of(stopped), estimate_of(counted))


def test_each_step_is_taken_only_when_asked_for(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    """Cancelling is not asking again: ten million iterations cost nothing."""
    observation = observe(photons(SHAPE), Psf(asymmetric_psf(PSF_SHAPE)))
    run: Iterator[Step] = RichardsonLucy(10_000_000).steps(observation, cpu)
    assert [next(run).done, next(run).done] == [1, 2]


# -- background and read noise ---------------------------------------------------------


@pytest.mark.parametrize("acceleration", ACCELERATIONS)
def test_a_background_is_modelled_and_not_restored(
    swift: Engine, asymmetric_psf: MakePsf, photons: MakeImage, acceleration: Any
) -> None:
    """Light of 40 on a camera's offset of 100 comes back as 40."""
    psf = asymmetric_psf(PSF_SHAPE)
    image = np.full(SHAPE, 140.0)
    method = RichardsonLucy(15, acceleration=acceleration)
    result = estimate_of(steps_of(method, image, psf, swift, background=100.0))
    assert np.abs(result - 40).max() < 0.01 * 40


def test_read_noise_shifts_data_and_background_alike(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    """Snyder et al. 1993: y + s^2 is Poisson of H x + b + s^2."""
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    given = steps_of(RichardsonLucy(10, read_noise=3.0), image, psf, cpu, 2.0)
    shifted = steps_of(RichardsonLucy(10), image + 9.0, psf, cpu, 11.0)
    assert np.array_equal(estimate_of(given), estimate_of(shifted))


def test_smoothing_lowers_the_total_variation(
    cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)

    def roughness(weight: float) -> float:
        result = estimate_of(steps_of(RichardsonLucy(30, tv_weight=weight), image, psf, cpu))
        return float(sum(np.abs(np.diff(result, axis=axis)).sum() for axis in range(3)))

    assert roughness(0.01) < roughness(0.002) < roughness(0.0)
