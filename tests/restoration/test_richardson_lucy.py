"""Richardson-Lucy's settings: what is refused, and what a run is said to take."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from napari_deconv.engines import open_engine
from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.blur import EDGES
from napari_deconv.restoration.engine import Engine, Filter, Float
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import ACCELERATIONS, RichardsonLucy


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"iterations": 0}, "The number of iterations must be a whole number of at least 1, not 0"),
        ({"iterations": -5}, "must be a whole number of at least 1, not -5"),
        ({"iterations": 2.0}, r"must be a whole number of at least 1, not 2\.0"),
        ({"iterations": True}, "must be a whole number of at least 1, not True"),
        ({"iterations": "ten"}, "must be a whole number of at least 1, not 'ten'"),
        ({"iterations": None}, "must be a whole number of at least 1, not None"),
        (
            {"acceleration": "fast"},
            "The acceleration 'fast' is not known; choose one of nu-method, heavy-ball, biggs-andr",
        ),
        ({"acceleration": None}, "The acceleration None is not known"),
        (
            {"edges": "mirror"},
            "The edges 'mirror' are not known; choose one of non-circulant, two-",
        ),
        ({"tv_weight": -1e-3}, "The weight of the total variation must be at least 0"),
        ({"tv_weight": 0.2}, "A total variation weight of 0.2 flattens everything; choose one fr"),
        ({"tv_weight": math.nan}, "The weight of the total variation must be a finite number"),
        ({"read_noise": -1}, "The read noise must be at least 0, not -1"),
        ({"read_noise": "2"}, "The read noise must be a finite number, not '2'"),
        ({"stop_tolerance": -1e-6}, "The stop tolerance must be at least 0"),
        ({"stop_tolerance": math.inf}, "The stop tolerance must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RichardsonLucy(**changed)


@pytest.mark.parametrize("name", ["cpu", "torch", "opencl"])
@pytest.mark.parametrize("edges", EDGES)
def test_plain_iterations_go_on_from_where_others_have_ended(name: str, edges: Any) -> None:
    """They remember nothing but what they have come to, beyond the image, too."""
    rng = np.random.default_rng(4)
    image = rng.poisson(np.linspace(40, 90, 30) * np.ones((9, 24, 1))).astype(np.float32)
    psf, engine = gaussian(1.0, 1.5, 1.5), open_engine(name)
    observation = observe(image, psf, 5.0)

    def after(iterations: int, start: Float | None = None) -> Float:
        method = RichardsonLucy(iterations, "none", edges=edges)
        *_, last = method.steps(observation, engine, start, beyond=True)
        assert last.estimate is not None
        assert last.estimate.shape == method.work_shape(image.shape, psf.shape)
        return last.estimate

    whole, in_two = after(5), after(2, after(3))
    assert in_two == pytest.approx(whole, rel=1e-3, abs=1e-3 * float(whole.mean()))
    assert after(1, np.zeros_like(whole)).min() > 0  # what was 0 does not stay it
    engine.release()


def gaussian(*sigmas: float) -> Psf:
    axes = [np.arange(-math.ceil(4 * s), math.ceil(4 * s) + 1) / s for s in sigmas]
    squares = np.square(np.stack(np.meshgrid(*axes, indexing="ij"))).sum(axis=0)
    return Psf(np.exp(-squares / 2))


def test_the_halo_follows_the_core_the_iterations_and_the_tolerance() -> None:
    """For a Gaussian: 2 sigmas times the root of the iterations, and a share of its light."""
    psf = gaussian(1.5, 3.0)
    usual = RichardsonLucy(49).halo(psf)
    assert usual is not None
    box = [n // 2 for n in psf.cropped(0.9).shape]
    expected = [2.0 * 7 * s + 2.4 * half for s, half in zip((1.5, 3.0), box, strict=True)]
    assert usual == pytest.approx(expected, abs=1.5)  # the core's width is read off its samples
    halos = [
        RichardsonLucy(49, "none").halo(psf),
        RichardsonLucy(49, "heavy-ball").halo(psf),
        RichardsonLucy(25).halo(psf),
        RichardsonLucy(49).halo(psf, 1e-2),
    ]
    assert all(halo is not None and halo < usual for halo in halos)
    of_a_plane = RichardsonLucy(9).halo(Psf(np.ones((1, 3, 3))))
    assert of_a_plane is not None
    assert of_a_plane[0] == 0


@pytest.mark.parametrize(
    "method",
    [RichardsonLucy(9, "biggs-andrews"), RichardsonLucy(9, stop_tolerance=1e-3)],
)
def test_what_sums_over_the_image_steer_depends_on_all_of_it(method: RichardsonLucy) -> None:
    psf = gaussian(1.0, 1.0)
    assert method.halo(psf) is None
    image = np.random.default_rng(0).poisson(50, (30, 30)).astype(np.float32)
    settled = method.settled([observe(image, psf)], open_engine("cpu"))
    assert settled.halo(psf) is not None


@pytest.mark.parametrize(
    "method", [RichardsonLucy(25, "biggs-andrews"), RichardsonLucy(90, stop_tolerance=2e-3)]
)
def test_settled_on_an_image_it_does_there_what_it_did_before(method: RichardsonLucy) -> None:
    psf = gaussian(1.5, 1.5)
    image = np.random.default_rng(0).poisson(50, (40, 44)).astype(np.float32)
    seen, cpu = observe(image, psf), open_engine("cpu")
    settled = method.settled([seen], cpu)
    *_, expected = method.steps(seen, cpu)
    *_, found = settled.steps(seen, cpu)
    assert settled.stop_tolerance == 0
    assert found.done == expected.done
    assert np.array_equal(found.estimate, expected.estimate)  # type: ignore[arg-type]


def test_circular_edges_work_on_the_image_itself() -> None:
    assert RichardsonLucy(edges="circular").work_shape((7, 11), (5, 5)) == (7, 11)
    assert RichardsonLucy().work_shape((7, 11), (5, 5)) == (9, 16)


class Counting:
    """An engine that counts the transforms that its filters take."""

    def __init__(self) -> None:
        self._engine = open_engine("cpu")
        self.transforms = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def filter(self, *args: Any) -> Filter:
        return self._counted(self._engine.filter(*args))

    def blur(self, *args: Any) -> Filter:
        return self._counted(self._engine.blur(*args))

    def _counted(self, made: Filter) -> Filter:
        counted = self
        self.transforms += 1  # the transfer function's own

        class Counted:
            def forward(self, x: Float) -> Float:
                counted.transforms += 2
                result: Float = made.forward(x)
                return result

            def adjoint(self, x: Float) -> Float:
                counted.transforms += 2
                result: Float = made.adjoint(x)
                return result

            def forward_of(self, *args: Any, **more: Any) -> Float:
                counted.transforms += 2
                result: Float = made.forward_of(*args, **more)
                return result

            def adjoint_of(self, *args: Any, **more: Any) -> tuple[Float, float]:
                counted.transforms += 2
                return made.adjoint_of(*args, **more)

        return Counted()


@pytest.mark.parametrize("acceleration", ACCELERATIONS)
@pytest.mark.parametrize("iterations", [1, 6])
def test_the_transforms_of_a_run_are_as_said(acceleration: Any, iterations: int) -> None:
    engine = Counting()
    method = RichardsonLucy(iterations, acceleration)
    observation = observe(np.ones((6, 7, 8)), Psf(np.ones((3, 3, 3))))
    list(method.steps(observation, engine))
    assert engine.transforms == method.transforms


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0])
def test_smoothing_holds_for_counts_of_any_size(scale: float) -> None:
    """Also where all lies below the background, and next to nothing is left of the object."""
    counts = scale * np.random.default_rng(0).poisson(5, (6, 9, 8))
    for background in (0.0, 100 * scale):
        observation = observe(counts, Psf(np.ones((3, 3, 3))), background)
        *_, last = RichardsonLucy(4, tv_weight=0.01).steps(observation, CpuEngine(1))
        assert last.estimate is not None
        assert np.isfinite(last.estimate).all()
        assert (last.estimate >= 0).all()


def test_momentum_and_smoothing_need_more_memory() -> None:
    volumes = [RichardsonLucy(acceleration=a).volumes for a in ("none", "heavy-ball")]
    assert volumes[0] < volumes[1] < RichardsonLucy(acceleration="biggs-andrews").volumes
    assert RichardsonLucy(tv_weight=0.01).volumes > RichardsonLucy().volumes


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("tv_weight", [0.0, 0.01])
@pytest.mark.parametrize("acceleration", ACCELERATIONS)
def test_the_memory_of_a_run_is_as_said(acceleration: Any, tv_weight: float, edges: Any) -> None:
    """At the peak, in padded volumes, the image included; blocks on the way are as good as 0."""
    method = RichardsonLucy(3, acceleration, tv_weight=tv_weight, edges=edges)
    image = np.random.default_rng(0).poisson(20, (40, 220, 240)).astype(np.float32)
    observation = observe(image, Psf(np.ones((9, 11, 13))))
    list(method.steps(observe(image[:2, :8, :8], observation.psf), CpuEngine(2)))
    tracemalloc.start()
    try:
        *_, last = method.steps(observation, CpuEngine(2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert last.estimate is not None
    volume = 4 * math.prod(method.work_shape(image.shape, (9, 11, 13)))
    held, blocks = peak + image.nbytes, 1 << 21
    assert 0.8 * method.volumes * volume < held < 1.05 * method.volumes * volume + blocks


def test_an_image_of_zeros_counts_to_the_same_total(cpu: Engine) -> None:
    """So that progress over several blocks does not jump where one is empty."""
    observation = observe(np.zeros((6, 7, 8)), Psf(np.ones((3, 3, 3))))
    (step,) = RichardsonLucy(20).steps(observation, cpu)
    assert (step.done, step.total, step.divergence) == (1, 20, 0.0)
    assert step.note == "the image is zero everywhere"
    assert step.estimate is not None
    assert not step.estimate.any()
    assert not np.shares_memory(step.estimate, observation.image)


@pytest.mark.parametrize("acceleration", ACCELERATIONS)
def test_a_run_can_be_looked_at_before_its_end(acceleration: Any, cpu: Engine) -> None:
    """After each iteration the estimate is that of a run of so many, and the run goes on."""
    image = np.random.default_rng(0).poisson(30, (6, 9, 8))
    observation = observe(image, Psf(np.ones((3, 3, 3))))

    def result(iterations: int) -> Float:
        *_, last = RichardsonLucy(iterations, acceleration).steps(observation, cpu)
        assert last.peek is None
        assert last.estimate is not None
        return last.estimate

    seen = []
    for step in RichardsonLucy(5, acceleration).steps(observation, cpu):
        assert (step.peek is None) == (step.done == 5)
        seen.append(step.peek() if step.peek else step.estimate)
    for iterations, estimate in enumerate(seen, start=1):
        assert np.array_equal(estimate, result(iterations))  # type: ignore[arg-type]


def test_a_piece_starts_where_the_whole_does(cpu: Engine) -> None:
    """A flat piece of an image that is brighter elsewhere: one plain step takes it from there."""
    piece, psf = np.full((6, 7), 10.0), Psf(np.ones((1, 1)))
    for whole_mean, level in ((None, 8), (34.0, 32)):
        observation = observe(piece, psf, 2.0, whole_mean=whole_mean)
        assert observation.level == pytest.approx(level)
        (step,) = RichardsonLucy(1, "none").steps(observation, cpu)
        # x y / (x + b) with x the level, y = 10 and b = 2
        assert step.estimate == pytest.approx(np.full((6, 7), level * 10 / (level + 2)), rel=1e-6)


def test_light_from_beyond_both_ends_needs_a_padding_for_each(cpu: Engine) -> None:
    """A PSF as long as the stack, and bright planes just above and below it, of other patterns."""
    from scipy.signal import fftconvolve

    random = np.random.default_rng(0)
    shape, beyond = (12, 30, 30), 6
    truth = np.zeros((shape[0] + 2 * beyond, *shape[1:]))
    truth[beyond - 3, 4:14, 5:25] = 1
    truth[-beyond + 2, 16:26, 5:25] = 1
    truth[beyond + 6, 10:20, 10:20] = 1
    at = np.indices((13, 9, 9)) - np.array([6, 4, 4]).reshape(3, 1, 1, 1)
    widths = 0.8 + 0.25 * np.abs(at[0])
    psf = np.exp(-(at[1] ** 2 + at[2] ** 2) / (2 * widths**2)) / widths**2
    psf /= psf.sum()
    blurred = np.maximum(fftconvolve(truth, psf, mode="same"), 0)[beyond:-beyond]
    counts = random.poisson(2000 * blurred / blurred.max() + 5)
    seen = observe(counts, Psf(psf), 5.0)

    def last(edges: Any) -> tuple[float, float]:
        *_, step = RichardsonLucy(40, edges=edges).steps(seen, cpu)
        assert step.estimate is not None
        assert step.divergence is not None
        wanted = truth[beyond:-beyond]
        return step.divergence, float(np.corrcoef(step.estimate.ravel(), wanted.ravel())[0, 1])

    (shared, worse), (apart, better) = last("non-circulant"), last("two-sided")
    assert apart < 0.7 * shared
    assert better > worse
