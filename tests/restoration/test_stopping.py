"""The automatic stop: halves of the photons, the rehearsal, and how near to the best it stops."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import median_filter

from napari_deconv.engines import open_engine
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.quality import psnr
from napari_deconv.imaging.structures import structures
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration import looking, stopping
from napari_deconv.restoration.halves import dealt
from napari_deconv.restoration.looking import brightest_part, camera_seen
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.rehearsal import Likeness, imaged_again
from napari_deconv.restoration.restorer import Observation, Step
from napari_deconv.restoration.richardson_lucy import AUTOMATIC_MOST, RichardsonLucy
from napari_deconv.restoration.running import Run

Double = npt.NDArray[np.float64]
SHAPE, BACKGROUND = (12, 40, 44), 10.0
EDGES = RichardsonLucy.automatic().edges


def gaussian_psf(sigma: float = 1.6, side: int = 11) -> Psf:
    at = np.indices((7, side, side)) - np.array([3, side // 2, side // 2]).reshape(3, 1, 1, 1)
    return Psf(np.exp(-(at**2).sum(0) / (2 * sigma**2)))


def simulated(
    kind: str,
    photons: float,
    seed: int,
    gain: float = 1.0,
    offset: float = 0.0,
    shape: tuple[int, ...] = SHAPE,
) -> tuple[Double, Observation]:
    """Return an object and what a camera records of it."""
    from scipy.signal import fftconvolve

    random = np.random.default_rng(seed)
    truth = structures(shape, (0.2, 0.1, 0.1), random, [kind]).astype(np.float64)
    psf = gaussian_psf()
    blurred = np.maximum(fftconvolve(truth, psf.samples, mode="same"), 0)
    expected = blurred * (photons / blurred.max()) + BACKGROUND
    counts = offset + gain * random.poisson(expected)
    return truth, observe(counts.astype(np.float32), psf, offset + gain * BACKGROUND)


def seen(step: Step) -> npt.NDArray[np.float32]:
    found = step.estimate if step.peek is None else step.peek()
    assert found is not None
    return found


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (4.0, 100.0)])
def test_photons_are_dealt_out_to_two_images_of_one_object(gain: float, offset: float) -> None:
    random = np.random.default_rng(1)
    light = np.linspace(5, 60, SHAPE[2]) * np.ones(SHAPE)
    counts = (offset + gain * random.poisson(light)).astype(np.float32)
    seen = observe(counts, gaussian_psf(), offset)
    halves = dealt(seen, camera_seen(seen))
    columns = (0, 1)
    parts = [half.image - half.background for half in halves]
    for part in parts:
        wanted = gain * light.mean(columns) / 2
        np.testing.assert_allclose(part.mean(columns), wanted, rtol=0.1, atol=0.6 * gain)
    # Their noise is independent.
    noise = [part - part.mean(columns) for part in parts]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    again = dealt(seen, camera_seen(seen))
    np.testing.assert_array_equal(again[0].image, halves[0].image)


@pytest.mark.parametrize(
    ("kind", "photons", "gain", "offset"),
    [
        ("dots", 300, 1.0, 0.0),
        ("filaments", 100, 1.0, 0.0),
        ("shells", 300, 4.0, 100.0),
        ("lines", 1000, 1.0, 0.0),
    ],
)
def test_it_stops_near_the_best(kind: str, photons: float, gain: float, offset: float) -> None:
    truth, observation = simulated(kind, photons, 3, gain, offset, shape=(16, 72, 72))
    engine = open_engine("cpu")
    values = [
        psnr(seen(step), truth, fit=True)
        for step in RichardsonLucy(AUTOMATIC_MOST, edges=EDGES).steps(observation, engine)
    ]
    *_, last = RichardsonLucy.automatic().steps(observation, engine)
    assert 1 < last.done <= AUTOMATIC_MOST
    assert psnr(seen(last), truth, fit=True) > max(values) - 0.7
    # Not by chance: to stop much earlier, or never, costs more than that.
    assert min(values[last.done // 3], values[-1]) < max(values) - 0.7


def test_more_light_lets_it_go_further() -> None:
    counts = []
    for photons in (10, 100, 1000):
        _, observation = simulated("shells", photons, 5)
        *_, last = RichardsonLucy.automatic().steps(observation, open_engine("cpu"))
        counts.append(last.done)
    assert counts[0] < counts[1] < counts[2]


def test_what_is_found_is_run_with_all_photons() -> None:
    _, observation = simulated("filaments", 100, 7)
    engine = open_engine("cpu")
    steps = list(RichardsonLucy.automatic().steps(observation, engine))
    before = [step for step in steps if step.done == 0]
    last = steps[-1]
    assert len(before) > last.done
    assert all("looking when to stop" in step.note for step in before)
    assert f"stopped after {last.done} iterations" in last.note
    *_, plain = RichardsonLucy(last.done, edges=EDGES).steps(observation, engine)
    np.testing.assert_array_equal(last.estimate, plain.estimate)


def test_it_is_settled_for_tiles() -> None:
    _, observation = simulated("filaments", 100, 7)
    engine, method = open_engine("cpu"), RichardsonLucy.automatic()
    assert method.halo(observation.psf) is None
    settled = method.settled([observation], engine)
    *_, last = method.steps(observation, engine)
    assert settled == RichardsonLucy(last.done, edges=EDGES)
    assert settled.halo(observation.psf) is not None


def test_where_more_would_be_better_it_says_so() -> None:
    _, observation = simulated("lines", 1000, 3)
    *_, last = RichardsonLucy.automatic(iterations=4).steps(observation, open_engine("cpu"))
    assert last.done == 4
    assert "more may be better" in last.note


def test_of_a_large_image_the_brightest_part_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looking, "MOST_VOXELS", 12 * 20 * 22)
    image = np.ones(SHAPE, np.float32)
    image[:, 22:38, 4:18] = 50
    part = brightest_part(observe(image, gaussian_psf(), 0.0))
    assert part.image.shape == (12, 20, 22)
    assert part.start is not None
    assert part.start[1:] == (20, 0)


@pytest.mark.parametrize("image", [np.zeros((6, 9, 9)), np.full((6, 9, 9), 3.0), np.ones((9, 8))])
def test_images_without_structure_come_through(image: Double) -> None:
    psf = Psf(np.ones((3,) * image.ndim))
    *_, last = RichardsonLucy.automatic().steps(observe(image, psf, 0.0), open_engine("cpu"))
    assert last.estimate is not None
    assert last.estimate.shape == image.shape
    assert np.isfinite(last.estimate).all()


def test_the_automatic_stop_is_on_or_off() -> None:
    with pytest.raises(InputError, match="on or off"):
        RichardsonLucy(automatic_stop=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1.0, 1e-3, 250.0])
def test_the_unit_of_an_image_changes_nothing(scale: float) -> None:
    _, observation = simulated("filaments", 100, 7)
    scaled = observe(
        observation.image * np.float32(scale), observation.psf, observation.background * scale
    )
    counts = [
        list(RichardsonLucy.automatic().steps(seen, open_engine("cpu")))[-1].done
        for seen in (observation, scaled)
    ]
    assert abs(counts[0] - counts[1]) <= 0.2 * counts[0]


def test_an_image_of_fractions_without_noise_is_taken_for_bright() -> None:
    image = np.zeros((6, 12, 12), np.float32)
    image[2:4, 4:8, 5:9] = 0.7
    seen = observe(image, Psf(np.ones((1, 1, 1))), 0.0)
    first, second = dealt(seen, camera_seen(seen))
    assert np.abs(first.image - second.image).max() < 0.1


@pytest.mark.parametrize("gain", [0.01, 1.0, 30.0])
def test_all_noise_of_fractions_is_taken_for_that_of_photons(gain: float) -> None:
    """Also where too few voxels tell of a line, or all are equally bright."""
    random = np.random.default_rng(0)
    for shape in ((30, 32), (12, 60, 64)):
        image = gain * random.normal(40, np.sqrt(40), shape).astype(np.float32)
        found = camera_seen(observe(image, Psf(np.ones((1, 1))), 0.0)).gain
        assert found == pytest.approx(gain, rel=0.15)


def test_a_small_image_whose_counts_may_be_photons_is_taken_for_one_of_them() -> None:
    random = np.random.default_rng(3)
    light = np.linspace(5, 200, 64) * np.ones((64, 1))
    for gain, expected in ((1.0, 1.0), (1.4, 1.0), (5.0, 5.0)):
        image = np.rint(gain * random.poisson(light)).astype(np.float32)
        found = camera_seen(observe(image, Psf(np.ones((1, 1))), 0.0)).gain
        assert found == pytest.approx(expected, rel=0.35 if expected > 1 else 1e-6)


@pytest.mark.parametrize(("gain", "offset", "read"), [(1.0, 0.0, 0.0), (4.0, 90.0, 2.0)])
def test_an_image_is_made_again_with_the_noise_of_its_camera(
    gain: float, offset: float, read: float
) -> None:
    expected = np.full((40, 50, 60), offset + gain * 30.0, np.float32)
    seen_once = observe(expected, gaussian_psf(), offset)
    again = imaged_again(seen_once, expected, Camera(gain, offset, read))
    assert again.image.mean() == pytest.approx(offset + gain * 30, rel=0.01)
    assert again.image.var() == pytest.approx(gain**2 * (30 + read**2), rel=0.03)
    assert again.psf is seen_once.psf
    assert again.background == offset


def test_what_an_object_does_not_explain_is_in_the_copy_mirrored() -> None:
    """In the plane; noise is not taken over."""
    random = np.random.default_rng(0)
    expected = np.full((12, 60, 64), 100, np.float32)
    light = np.zeros(expected.shape)
    light[:, 5:20, 40:60] = 50
    observation = observe(random.poisson(expected + light), gaussian_psf(), 0.0)
    again = imaged_again(observation, expected, Camera(1.0, 0.0, 0.0)).image
    # Less the rim of the light, as it is averaged.
    assert again[:, 44:51, 8:20].mean() == pytest.approx(150, abs=3)
    far = np.zeros(expected.shape, bool)
    far[:, :20, 30:] = True
    assert again[far].mean() == pytest.approx(100, abs=1)
    assert again[far].var() == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("answers", "known", "last"),
    [
        ([11, 99], [10], 11),
        ([20, 30, 33, 99], [10, 20, 30], 33),
        ([20, 10, 20, 10, 99], [10, 20, 10, 20], 10),
    ],
)
def test_it_is_rehearsed_until_the_number_stays(
    answers: list[int], known: list[int], last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not for ever."""
    given = iter(answers)
    asked: list[int] = []

    def agreed(*_: Any) -> Generator[Step, None, int]:
        yield Step(0, 80, "halves")
        return 10

    def rehearsed(scene: Any, count: int) -> Generator[Step, None, tuple[int, float]]:
        asked.append(count)
        yield Step(0, 80, "rehearsing")
        return next(given), 0.9

    monkeypatch.setattr(stopping, "_agreed", agreed)
    monkeypatch.setattr(stopping, "_rehearsed", rehearsed)
    _, observation = simulated("shells", 100, 3)
    *_, step = RichardsonLucy.automatic().steps(observation, open_engine("cpu"))
    assert asked == known
    assert step.done == last


def with_points(count: int, photons: float, background: float) -> tuple[Double, Observation]:
    """Return a few points in a dark volume and what a camera records of them."""
    from scipy.ndimage import gaussian_filter
    from scipy.signal import fftconvolve

    random = np.random.default_rng(count)
    truth = np.zeros((16, 96, 96))
    for place in zip(*(random.integers(3, n - 3, count) for n in truth.shape), strict=True):
        truth[place] += random.uniform(0.5, 1)
    truth, psf = gaussian_filter(truth, 0.7), gaussian_psf(1.3)
    blurred = np.maximum(fftconvolve(truth, psf.samples, mode="same"), 0)
    scale = photons / blurred.max()
    counts = random.poisson(scale * blurred + background).astype(np.float32)
    return scale * truth, observe(counts, psf, background)


@pytest.mark.parametrize(
    ("count", "photons", "background"), [(1, 10, 10), (1, 20, 30), (8, 20, 30)]
)
def test_a_few_dim_points_come_out(count: int, photons: float, background: float) -> None:
    """Halves of the photons agree on nothing, and a rehearsal of that finds nothing again."""
    truth, observation = with_points(count, photons, background)
    engine = open_engine("cpu")
    worth = [
        psnr(seen(step), truth, fit=True)
        for step in RichardsonLucy(60, edges=EDGES).steps(observation, engine)
    ]
    *_, last = RichardsonLucy.automatic(iterations=60).steps(observation, engine)
    assert max(worth) - worth[0] > 1.5
    assert max(worth) - worth[last.done - 1] < 0.8


@pytest.mark.parametrize("level", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("shape", [(16, 96, 96), (128, 128)])
def test_where_there_is_but_noise_it_is_left_blurred(shape: tuple[int, ...], level: float) -> None:
    for seed in range(2):
        counts = np.random.default_rng(seed).poisson(level, shape).astype(np.float32)
        observation = observe(counts, gaussian_psf(1.3), level)
        *_, last = RichardsonLucy.automatic().steps(observation, open_engine("cpu"))
        assert last.done <= 3
        assert last.note.endswith("nothing stands out from the noise")


def test_points_beside_the_part_that_is_looked_at_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of parts without light the brightest is one by chance."""
    monkeypatch.setattr(looking, "MOST_VOXELS", 16 * 96 * 48)
    truth, observation = with_points(1, 20, 30)
    half = 48 if np.argmax(truth.max((0, 2))) < 48 else 0
    observation.image[:, half : half + 48] += 0.5  # too little to be seen by itself
    assert not looking.stands_out(brightest_part(observation).image, camera_seen(observation))
    *_, last = RichardsonLucy.automatic().steps(observation, open_engine("cpu"))
    assert last.done > 5


def test_of_samples_one_that_shows_something_decides() -> None:
    _, points = with_points(8, 20, 30)
    noise = np.random.default_rng(0).poisson(40, points.image.shape)
    empty = observe(noise.astype(np.float32), points.psf, 30.0)
    method, engine = RichardsonLucy.automatic(iterations=60), open_engine("cpu")
    assert method.settled([empty], engine).iterations <= 3
    assert method.settled([empty, points], engine) == method.settled([points], engine)
    assert method.settled([points], engine).iterations > 5


def test_a_likeness_does_not_depend_on_scale_and_offset() -> None:
    known = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    noise = np.random.default_rng(1).random((5, 6, 7)).astype(np.float32)
    likeness = Likeness(known)
    for part in (1.0, 0.1, 0.5, 0.6, 0.7, 0.8):
        likeness.look([3 * known + 3 * np.float32(part) * noise + 8])
    assert likeness.best == 2
    assert likeness.values[0] == pytest.approx(
        np.corrcoef((known + noise).ravel(), known.ravel())[0, 1], rel=1e-5
    )
    assert likeness.is_over


def test_the_likeness_of_several_copies_is_their_mean() -> None:
    known, noise = np.random.default_rng(0).random((2, 5, 6, 7)).astype(np.float32)
    alone = []
    for estimate in (known + noise, known - noise):
        likeness = Likeness(known)
        likeness.look([estimate])
        alone.append(likeness.values[0])
    both = Likeness(known)
    both.look([known + noise, known - noise])
    assert both.values == pytest.approx([np.mean(alone)])


@pytest.mark.parametrize(("side", "copies"), [(24, 3), (200, 1)])
def test_small_images_are_rehearsed_on_several_copies(side: int, copies: int) -> None:
    _, observation = simulated("dots", 100, 7, shape=(4, side, side))
    method, begun = RichardsonLucy(3), []

    def runs(seen: Observation, other: np.ndarray | None) -> Run:
        begun.append(seen.image)
        return Run(method, seen, open_engine("cpu"), other)

    list(stopping.stop_for(observation, 3, runs))
    # Two halves of the photons; then an object and its copies, until a number is found again.
    objects = [image for image in begun[2:] if np.array_equal(image, begun[2])]
    assert len(begun) == 2 + len(objects) * (1 + copies)


@pytest.mark.parametrize("how", [{}, {"automatic_stop": False, "stop_tolerance": 1e-3}])
def test_samples_without_light_decide_nothing(how: dict[str, Any]) -> None:
    """Tiles elsewhere may have some: they are not to end after one iteration."""
    method = RichardsonLucy.automatic(iterations=30, **how)
    dark = observe(np.zeros((8, 32, 32)), Psf(np.ones((3, 3, 3))))
    assert method.settled([dark], open_engine("cpu")).iterations == 30


@pytest.mark.parametrize("kind", ["shells", "textures"])
def test_an_image_that_was_filtered_is_not_restored_to_noise(kind: str) -> None:
    """Of its noise, from pixel to pixel little is left, and most beneath."""
    truth, recorded = simulated(kind, 60.0, 1, gain=1.7, offset=100, shape=(16, 72, 72))
    filtered = replace(recorded, image=median_filter(recorded.image, (1, 3, 3)))
    engine = open_engine("cpu")
    worth = [
        psnr(seen(step), truth, fit=True)
        for step in RichardsonLucy(60, edges=EDGES).steps(filtered, engine)
    ]
    *_, last = RichardsonLucy.automatic(iterations=60).steps(filtered, engine)
    assert max(worth) - worth[-1] > 2
    assert max(worth) - worth[last.done - 1] < 1
    assert last.note.endswith(stopping.SHARED)
