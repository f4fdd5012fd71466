"""Preparing heights: tilts, rows, scars and noise that are known are taken out, and no more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.afm.levelling import Level, RowMethod, Rows, background_of, row_offsets
from napari_deconv.afm.preparing import (
    Denoise,
    DenoiseMethod,
    Preparation,
    Scars,
    noise_nm,
    prepare,
    prepared,
)
from napari_deconv.imaging.value import InputError, Value

Double = npt.NDArray[np.float64]

NOISE = 0.3
EVERY_STEP: list[Preparation] = [
    Level(),
    Level(0),
    Level(4, mask_high=False),
    Rows(),
    Rows("median"),
    Rows(mask_high=False),
    Rows("median", mask_high=False),
    Scars(),
    Denoise(),
    Denoise("non-local means"),
]


def bumps(
    rows: int = 96, columns: int = 128, *, many: int = 14, width: float = 5, seed: int = 0
) -> Double:
    """Return smooth bumps of some nm, most of them at low x and y: they pull at a plane."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    heights = np.zeros((rows, columns))
    for _ in range(many):
        place = rng.uniform(0, 0.7, 2) * (rows, columns)
        size = width * rng.uniform(0.7, 1.3)
        away = (y - place[0]) ** 2 + (x - place[1]) ** 2
        heights += rng.uniform(4, 10) * np.exp(-away / (2 * size**2))
    return heights


def noise(like: Double, sigma: float = NOISE, seed: int = 1) -> Double:
    return np.random.default_rng(seed).normal(0, sigma, like.shape)


def plane(like: Double, along_y: float = -0.08, along_x: float = 0.05, at: float = 40) -> Double:
    y, x = np.mgrid[: like.shape[0], : like.shape[1]]
    return np.asarray(at + along_y * y + along_x * x)


def slopes(fit: Double) -> tuple[float, float]:
    return float(np.diff(fit, axis=0).mean()), float(np.diff(fit, axis=1).mean())


def islands(like: Double) -> Double:
    """Return flat islands, 20 nm high, on 30 % of a frame, all in one corner of it."""
    result = np.zeros_like(like)
    result[: int(0.6 * len(like)), : like.shape[1] // 2] = 20
    return result


def rmse(a: Double, b: Double) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


# -- levelling --------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", ["bumps", "islands", "nothing"])
def test_a_plane_under_objects_is_found(objects: str) -> None:
    true = bumps()
    true = {"bumps": true, "islands": islands(true), "nothing": 0 * true}[objects]
    image = true + plane(true) + noise(true)
    fit, background = background_of(image, 1)
    assert slopes(fit) == pytest.approx((-0.08, 0.05), rel=0.01)
    assert (fit - plane(true)).mean() == pytest.approx(0, abs=0.2 * NOISE)
    assert background[true < 1e-6].mean() > 0.95
    assert not background[true > 10 * NOISE].any()


def test_pits_do_not_pull_the_background_down() -> None:
    true = islands(bumps())
    true[np.random.default_rng(2).random(true.shape) < 0.03] -= 5
    fit, _ = background_of(true + plane(true) + noise(true), 1)
    assert slopes(fit) == pytest.approx((-0.08, 0.05), rel=0.01)
    assert (fit - plane(true)).mean() == pytest.approx(0, abs=0.2 * NOISE)


def test_without_a_mask_it_is_least_squares() -> None:
    image = bumps() + plane(bumps())
    levelled = prepare(image, [Level(mask_high=False)])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    terms = np.stack([np.ones(image.size), y.ravel(), x.ravel()], 1)
    best = terms @ np.linalg.lstsq(terms, image.ravel(), rcond=None)[0]
    assert np.allclose(levelled, image - best.reshape(image.shape), atol=1e-10)
    # And the objects do pull at it, so that the mask is of use.
    assert abs(slopes(image - levelled)[0] + 0.08) > 0.008


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_a_background_of_its_degree_goes_to_0(degree: int) -> None:
    true = islands(bumps())
    y, x = (np.linspace(-1, 1, n) for n in true.shape)
    bow = sum(
        3 * (-1) ** i * np.outer(y**i, x**j)
        for i in range(degree + 1)
        for j in range(degree + 1 - i)
    )
    levelled = prepare(true + bow + noise(true, 0.1), [Level(degree)])
    assert levelled[true == 0].mean() == pytest.approx(0, abs=0.02)
    assert levelled[true == 0].std() == pytest.approx(0.1, rel=0.03)
    assert levelled[true > 0].mean() == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("step", [Level(), Level(3), Level(2, mask_high=False)])
def test_a_plane_more_changes_nothing_when_levelled(step: Level) -> None:
    image = bumps() + noise(bumps())
    more = image + plane(image, 0.7, -0.4, at=-300)
    assert np.allclose(prepare(more, [step]), prepare(image, [step]), rtol=0, atol=1e-9)


# -- rows -------------------------------------------------------------------------------------


def straightened(offsets: Double) -> Double:
    """Return offsets less a straight line, which belongs to the tilt."""
    line = np.arange(len(offsets))
    return np.asarray(offsets - np.polyval(np.polyfit(line, offsets, 1), line))


def with_rows(true: Double, sigma: float, spread: float) -> tuple[Double, Double]:
    """Return an image with offsets of rows, and the offsets without mean and slope."""
    offsets = np.random.default_rng(5).normal(0, spread, len(true))
    level = straightened(offsets)
    return true + level[:, None] + noise(true, sigma), level


@pytest.mark.parametrize("by", ["median of differences", "median"])
@pytest.mark.parametrize("objects", ["bumps", "islands", "nothing"])
def test_offsets_of_rows_are_found(by: RowMethod, objects: str) -> None:
    true = bumps()
    true = {"bumps": true, "islands": islands(true), "nothing": 0 * true}[objects]
    image, offsets = with_rows(true, NOISE, 1.0)
    found = row_offsets(image + plane(true), by, mask_high=True)
    assert straightened(found - offsets).std() < 0.2 * NOISE


def test_a_wide_object_leaves_no_band() -> None:
    true = np.zeros((64, 128))
    true[20:40, 10:115] = 8  # more than half of its rows
    image, _ = with_rows(true, NOISE, 0.5)
    aligned = prepare(image, [Rows()])
    beside = aligned[:, 116:].mean(axis=1)
    assert abs(beside[20:40].mean() - np.r_[beside[:20], beside[40:]].mean()) < 0.2 * NOISE
    naive = prepare(image, [Rows("median", mask_high=False)])[:, 116:].mean(axis=1)
    assert abs(naive[20:40].mean() - np.r_[naive[:20], naive[40:]].mean()) > 2


def test_offsets_larger_than_the_objects_are_found() -> None:
    image, offsets = with_rows(bumps(), NOISE, 30.0)
    found = row_offsets(image, "median of differences", mask_high=True)
    assert straightened(found - offsets).std() < 0.2 * NOISE


def test_errors_do_not_add_up_row_by_row() -> None:
    flat = np.zeros((512, 64))
    image = flat + noise(flat)
    ends = row_offsets(image, "median of differences", mask_high=True)
    adds_up = row_offsets(image, "median of differences", mask_high=False)
    assert ends.std() < 0.2 * NOISE < adds_up.std()


@pytest.mark.parametrize("by", ["median of differences", "median"])
@pytest.mark.parametrize("mask_high", [True, False])
def test_rows_keep_a_tilt(by: RowMethod, mask_high: bool) -> None:
    image = plane(np.zeros((40, 50)), 0.3, -0.2)
    assert np.allclose(prepare(image, [Rows(by, mask_high)]), image, atol=1e-9)


def test_level_rows_level_gives_the_truth_back() -> None:
    true = bumps()
    offsets = np.random.default_rng(5).normal(0, 1, len(true))
    image = true + plane(true) + offsets[:, None] + noise(true, 0.1)
    ready = prepare(image, [Level(), Rows(), Level()])
    assert rmse(ready, true) < 0.15


# -- scars ------------------------------------------------------------------------------------


def with_scars(image: Double, step: float) -> tuple[Double, npt.NDArray[np.bool_]]:
    """Return scars of 1 to 3 rows on an image, up and down, and where they are."""
    scarred, where = image.copy(), np.zeros(image.shape, bool)
    for n, row in enumerate(range(6, image.shape[0] - 6, 9)):
        start, length = (17 * n) % 70, 15 + 4 * n
        place = (slice(row, row + 1 + n % 3), slice(start, start + length))
        scarred[place] += step * (-1) ** n
        where[place] = True
    return scarred, where


@pytest.mark.parametrize("smooth", [True, False])
def test_scars_are_replaced_and_nothing_else(smooth: bool) -> None:
    true = bumps(width=8)
    clean = true + (0 if smooth else noise(true, 0.1))
    scarred, where = with_scars(clean, 4.0)
    ready = prepare(scarred, [Scars()])
    changed = ready != scarred
    assert changed[where].mean() > 0.97
    assert changed[~where].mean() < 0.001
    assert rmse(ready[where], clean[where]) < rmse(scarred[where], clean[where]) / 5
    assert np.array_equal(changed, Scars().marked(scarred))


def test_what_is_no_scar_stays() -> None:
    for true in (bumps(), bumps(many=60, width=3), islands(bumps()), plane(bumps())):
        for image in (true, true + noise(true, 0.02), true + noise(true)):
            assert not Scars().marked(image).any()


def test_a_scar_is_as_long_as_told_and_no_higher() -> None:
    flat = noise(np.zeros((32, 64)), 0.05)
    short, high = flat.copy(), flat.copy()
    short[9, 20:27] += 5
    high[9:13, 20:50] += 5
    assert not Scars(length_px=8).marked(short).any()
    assert Scars(length_px=7).marked(short).sum() == 7
    assert not Scars(rows_px=3).marked(high).any()
    assert Scars(rows_px=4).marked(high).sum() == 120


# -- noise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_noise_is_found_under_structure(sigma: float) -> None:
    true = bumps() + islands(bumps()) + plane(bumps())
    offsets = np.random.default_rng(3).normal(0, 2, len(true))
    assert noise_nm(true + offsets[:, None] + noise(true, sigma)) == pytest.approx(sigma, rel=0.1)
    movie = np.stack([true + noise(true, sigma, seed=n) for n in range(4)])
    assert noise_nm(movie) == pytest.approx(sigma, rel=0.1)


def test_where_there_is_no_noise_it_is_0() -> None:
    assert noise_nm(np.full((9, 9), 7.7)) == 0
    assert noise_nm(np.full((1, 1), 7.7)) == 0
    assert noise_nm(plane(np.zeros((20, 20)))) < 1e-12
    column = np.random.default_rng(0).normal(0, 1, (2000, 1))
    assert noise_nm(column) == pytest.approx(1, rel=0.1)
    assert noise_nm(column.T) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("by", ["total variation", "non-local means"])
@pytest.mark.parametrize("given", [None, NOISE])
def test_denoising_comes_nearer_to_the_truth(by: DenoiseMethod, given: float | None) -> None:
    for true in (bumps(), islands(bumps())):
        image = true + noise(true)
        ready = prepare(image, [Denoise(by, sigma_nm=given)])
        assert rmse(ready, true) < rmse(image, true) / 1.5
        shift = (ready - image).mean()
        assert abs(shift) < (1e-9 if by == "total variation" else 0.05 * NOISE)


@pytest.mark.parametrize("by", ["total variation", "non-local means"])
def test_a_stronger_one_changes_more(by: DenoiseMethod) -> None:
    image = bumps() + noise(bumps())
    changes = [rmse(prepare(image, [Denoise(by, strength)]), image) for strength in (0.3, 1, 2)]
    assert changes == sorted(changes)
    assert changes[0] < 0.9 * changes[-1]


def test_total_variation_of_a_step_is_as_worked_out_by_hand() -> None:
    """Each side of an edge across a frame moves by the weight over its width."""
    step = np.zeros((4, 20))
    step[:, 8:] = 50
    ready = prepare(step, [Denoise(sigma_nm=1.0)])
    wanted = np.where(step > 0, 50 - 0.9 / 12, 0.9 / 8)
    assert np.allclose(ready, wanted, atol=0.01)


# -- all of them ------------------------------------------------------------------------------


def sample() -> Double:
    image, _ = with_rows(bumps(40, 48, many=5), NOISE, 0.5)
    return with_scars(image + plane(image), 5.0)[0]


@pytest.mark.parametrize("step", EVERY_STEP, ids=str)
def test_an_offset_and_a_unit_change_nothing(step: Preparation) -> None:
    image = sample()
    usual, span = prepare(image, [step]), float(np.ptp(image))
    levels = isinstance(step, Level)
    moved = prepare(image + 123.4, [step]) - (0 if levels else 123.4)
    assert np.abs(moved - usual).max() < 1e-9 * span
    assert np.abs(prepare(image * 1e-3, [step]) * 1e3 - usual).max() < 1e-9 * span


@pytest.mark.parametrize("step", EVERY_STEP, ids=str)
def test_each_frame_is_for_itself_and_the_data_stay(step: Preparation) -> None:
    movie = np.stack([sample(), bumps(40, 48, seed=4) + noise(sample()), 0 * sample()])
    before = movie.copy()
    ready = prepare(movie, [step])
    assert np.array_equal(movie, before)
    assert ready.dtype == np.float64
    for frame, alone in zip(ready, movie, strict=True):
        assert np.array_equal(frame, prepare(alone, [step]))


@pytest.mark.parametrize("step", EVERY_STEP, ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (2, 40), (3, 40), (2, 1, 5)]
)
def test_small_and_constant_frames(step: Preparation, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(0, 1, shape)
    ready = prepare(image, [step])
    assert ready.shape == shape
    assert np.isfinite(ready).all()
    flat = prepare(np.full(shape, 7.7), [step])
    assert np.allclose(flat, 0 if isinstance(step, Level) else 7.7, atol=1e-12)


def test_steps_are_told_frame_by_frame() -> None:
    movie = np.stack([sample()] * 2)
    told = list(prepared(movie, [Level(), Scars()]))
    assert [(step.done, step.total) for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[1].note == "levelling frame 2 of 2"
    assert next(prepared(movie[0], [Rows()])).note == "aligning the rows of the image"
    assert np.array_equal(prepare(movie, []), movie)
    assert not np.shares_memory(prepare(movie, []), movie)


@pytest.mark.parametrize("step", [*EVERY_STEP, Denoise(sigma_nm=0.2), Scars(3, 9, 2)], ids=str)
def test_a_step_is_json_both_ways(step: Value) -> None:
    assert type(step).from_json(step.to_json()) == step


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Level(5), "degree of a levelling"),
        (lambda: Level(1.0), "degree of a levelling"),  # type: ignore[arg-type]
        (lambda: Level(True), "degree of a levelling"),
        (lambda: Level(1, mask_high=1), "true or false"),  # type: ignore[arg-type]
        (lambda: Rows("mean"), "Rows are aligned by 'median of differences' or 'median'"),  # type: ignore[arg-type]
        (lambda: Scars(threshold=0), "threshold of scars"),
        (lambda: Scars(length_px=0), "length of scars"),
        (lambda: Scars(rows_px=1.5), "height of scars"),  # type: ignore[arg-type]
        (lambda: Denoise("median"), "denoised by 'total variation' or 'non-local means'"),  # type: ignore[arg-type]
        (lambda: Denoise(strength=0), "strength of denoising"),
        (lambda: Denoise(sigma_nm=0), "noise in nm"),
        (lambda: prepare(np.zeros(3), [Level()]), "Heights are"),
        (lambda: prepare([[0, np.nan]], []), "NaN"),
    ],
)
def test_bad_input_is_told(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=says):
        make()
