"""PSFs from beads: found without a threshold, judged with a reason, averaged to a known truth."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import center_of_mass
from scipy.optimize import curve_fit

from napari_deconv.files.samples import confocal_beads, widefield_psf
from napari_deconv.imaging.bead_average import ball_transform, radial_mean, without_ball
from napari_deconv.imaging.bead_image import shifted
from napari_deconv.imaging.beads import (
    FATES,
    Bead,
    MeasuredPsf,
    find_beads,
    measure_psf,
    with_fate,
)
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import fwhm_um
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]

OPTICS = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
GRID = Grid(spacing_um=(0.4, 0.15, 0.15))
SHAPE = (24, 96, 96)
#: Far enough from each other and from the borders.
PLACES = ((11.3, 22.2, 23.7), (12.8, 25.6, 72.1), (10.6, 72.9, 22.4), (13.1, 74.3, 73.6))


@cache
def truth() -> Array:
    """Return the PSF that the simulated beads are made of, brightest 1."""
    samples = compute_psf(OPTICS, GRID, (41, 61, 61)).samples.astype(np.float64)
    peak: Array = samples / samples.max()
    return peak


def placed(block: Array, places: Any, heights: Any, shape: tuple[int, ...] = SHAPE) -> Array:
    """Return `block` at places between voxels of an image, each at its height."""
    margin = np.array(block.shape)
    image = np.zeros(np.array(shape) + 2 * margin)
    for place, height in zip(places, heights, strict=True):
        whole = np.rint(place).astype(int)
        start = whole + margin - margin // 2
        window = tuple(slice(s, s + n) for s, n in zip(start, block.shape, strict=True))
        image[window] += height * by_phase(block, np.array(place) - whole)
    return image[tuple(slice(m, m + n) for m, n in zip(margin, shape, strict=True))]


def by_phase(block: Array, by: Array) -> Array:
    """Move a block by a phase in Fourier space; it is dark at its borders."""
    spectrum = np.fft.fftn(block)
    for axis, step in enumerate(by):
        phase = np.exp(-2j * np.pi * np.fft.fftfreq(block.shape[axis]) * step)
        spectrum *= phase.reshape([-1 if a == axis else 1 for a in range(block.ndim)])
    moved: Array = np.fft.ifftn(spectrum).real
    return moved


def counted(image: Array, background: float = 20.0, seed: int = 0) -> npt.NDArray[np.uint16]:
    counts = np.random.default_rng(seed).poisson(np.maximum(image + background, 0))
    return counts.astype(np.uint16)


def fates(beads: tuple[Bead, ...]) -> dict[str, int]:
    return dict(Counter(bead.fate for bead in beads))


def nearest(beads: tuple[Bead, ...], place: Any) -> Bead:
    return min(beads, key=lambda bead: math.dist(bead.position, place))


def correlation(measured: MeasuredPsf, wanted: Array) -> float:
    """Return the correlation with the truth, cut to the measured box."""
    shape = measured.psf.shape
    window = tuple(
        slice(n // 2 - m // 2, n // 2 + m // 2 + 1)
        for n, m in zip(wanted.shape, shape, strict=True)
    )
    return float(np.corrcoef(measured.psf.samples.ravel(), wanted[window].ravel())[0, 1])


# The known truth --------------------------------------------------------------------------


def test_the_mean_of_noisy_beads_is_the_psf() -> None:
    image = counted(placed(truth(), PLACES, (1500, 2500, 2000, 3000)))
    measured = measure_psf(image, GRID)
    assert fates(measured.beads) == {"used": 4}
    assert measured.psf.spacing_um == GRID.spacing_um
    assert measured.psf.samples.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    wanted = fwhm_um(Psf(truth(), GRID.spacing_um))
    # 1 % of noise at half maximum moves a crossing by about 1 % of the width.
    assert measured.fwhm_um == pytest.approx(wanted, rel=0.03)
    assert correlation(measured, truth()) > 0.99
    for place in PLACES:
        found = nearest(measured.beads, place).position
        assert found == pytest.approx(place, abs=0.1)


def test_what_is_as_narrow_as_hot_pixels_is_told() -> None:
    image = np.zeros(SHAPE)
    for place in PLACES:
        z, y, x = (round(p) for p in place)
        image[z : z + 2, y : y + 2, x] = 900
    assert "look whether what was found are beads" in measure_psf(counted(image), GRID).notes[-1]
    wide = measure_psf(counted(placed(truth(), PLACES, [900, 800, 1000, 700])), GRID)
    assert not any("look whether" in note for note in wide.notes)


def test_light_that_is_seen_on_one_side_alone_is_not_guessed_on_the_other() -> None:
    places = [(12, y, x) for y in (12, 30, 48, 66, 84) for x in (48, 66, 84)]
    y, x = (np.arange(n) - n // 2 for n in SHAPE[-2:])
    bump = 100 * np.exp(-np.add.outer(y**2, x**2) / 2 / 60**2)
    seen = placed(truth(), places, [900.0] * len(places)) + bump
    found = measure_psf(counted(seen, background=100), GRID)
    assert found.fwhm_um[-1] == pytest.approx(0.39, rel=0.15)


@pytest.mark.parametrize("light", ["bump", "vignetting"])
def test_uneven_light_is_no_part_of_the_psf(light: str) -> None:
    y, x = (np.arange(n) - n // 2 for n in SHAPE[-2:])
    r2 = np.add.outer(y**2, x**2)
    image = placed(truth(), PLACES, [900, 800, 1000, 700])
    if light == "bump":
        seen = image + 100 * np.exp(-r2 / 2 / 40**2)
    else:
        seen = (image + 300) * (1 - 0.3 * r2 / r2.max()) - 300
    wanted, found = (measure_psf(counted(i, background=400), GRID) for i in (image, seen))
    assert correlation(found, truth()) > correlation(wanted, truth()) - 0.01
    for plain, uneven in zip(wanted.fwhm_um, found.fwhm_um, strict=True):
        assert uneven == pytest.approx(plain, rel=0.08)
    # What is uneven would be more light than the bead's own, spread over its box.
    lit = [m.psf.samples.sum() / m.psf.samples.max() for m in (wanted, found)]
    assert lit[1] == pytest.approx(lit[0], rel=0.3)


def test_the_centre_is_at_half_the_shape() -> None:
    measured = measure_psf(counted(placed(truth(), PLACES, (3000,) * 4)), GRID)
    samples = measured.psf.samples.astype(np.float64)
    middle = tuple(n // 2 for n in samples.shape)
    assert np.unravel_index(samples.argmax(), samples.shape) == middle
    core = np.maximum(samples - samples.max() / 2, 0)
    assert center_of_mass(core) == pytest.approx(middle, abs=0.1)


def test_noise_leaves_no_pedestal() -> None:
    measured = measure_psf(counted(placed(truth(), PLACES, (3000,) * 4), 200.0), GRID)
    samples = measured.psf.samples
    # In focus no light is beyond ten pixels but rings below 1e-3 of the peak.
    plane = samples[samples.shape[0] // 2]
    y, x = (np.arange(n) - n // 2 for n in plane.shape)
    far = np.hypot(y[:, None], x) > 10
    assert plane[far].mean() < 1e-3 * plane.max() if far.any() else True
    assert samples.shape[1] < 2 * 40


# As wide as the PSF, and wider than its image.
@pytest.mark.parametrize(("diameter", "within"), [(0.4, 0.03), (0.5, 0.04)])
def test_the_diameter_of_the_beads_is_divided_out(diameter: float, within: float) -> None:
    ball = ball_transform(truth().shape, GRID.spacing_um, diameter)
    blurred = np.fft.irfftn(np.fft.rfftn(truth()) * ball, truth().shape, axes=(0, 1, 2))
    image = counted(placed(blurred, PLACES, (20000 / blurred.max(),) * 4))
    wanted = np.array(fwhm_um(Psf(truth(), GRID.spacing_um)))
    left_in = measure_psf(image, GRID)
    assert left_in.fwhm_um[2] is not None
    assert left_in.fwhm_um[2] > 1.05 * wanted[2]
    divided = measure_psf(image, GRID, bead_diameter_um=diameter)
    assert divided.fwhm_um == pytest.approx(tuple(wanted), rel=within)
    assert correlation(divided, truth()) > correlation(left_in, truth())
    assert any(f"{diameter:g} um was divided out" in note for note in divided.notes)


def test_the_balls_transform_is_that_of_a_drawn_ball() -> None:
    grid, diameter = (0.05, 0.04, 0.05), 0.6
    shape = (64, 72, 60)
    fine = 3
    places = [
        (np.arange(n * fine) - n * fine // 2) * s / fine for n, s in zip(shape, grid, strict=True)
    ]
    square = np.asarray(sum(p**2 for p in np.ix_(*places)))
    inside = (square <= (diameter / 2) ** 2).astype(float)
    drawn = inside.reshape(64, fine, 72, fine, 60, fine).sum(axis=(1, 3, 5))
    spectrum = np.abs(np.fft.rfftn(drawn)) / drawn.sum()
    # A ball of steps is a ball to about a step over its radius; the voxel itself blurs a little.
    low = (slice(0, 8), slice(0, 8), slice(0, 8))
    expected = np.abs(ball_transform(shape, grid, diameter))
    assert np.abs(spectrum - expected)[low].max() < 0.03


def test_dividing_is_exact_without_noise_and_stable_with_it() -> None:
    ball = ball_transform(truth().shape, GRID.spacing_um, 0.3)
    blurred = np.fft.irfftn(np.fft.rfftn(truth()) * ball, truth().shape, axes=(0, 1, 2))
    back = without_ball(blurred, GRID.spacing_um, 0.3)
    assert np.abs(back - truth()).max() < 0.01
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, truth().shape)
    # A ball so large that its transform passes zero: noise must not grow there.
    amplified = without_ball(noise, GRID.spacing_um, 1.0)
    assert amplified.std() < noise.std()


def test_the_radial_mean_keeps_what_is_round_and_rounds_what_is_not() -> None:
    round_one = truth()[15:26, 10:51, 10:51]
    assert np.abs(radial_mean(round_one, GRID.spacing_um) - round_one).max() < 0.01
    y, x = np.indices((41, 41)) - 20.0
    tilted = np.exp(-(x**2 / 18 + y**2 / 50))
    mean = radial_mean(tilted, (0.15, 0.15))
    assert mean[20, 25] == pytest.approx(mean[25, 20], rel=1e-6)
    assert tilted[20, 25] < mean[20, 25] < tilted[25, 20]
    # Pixels of two sides: round in um, not in pixels.
    stretched = np.exp(-((y * 0.2) ** 2 + (x * 0.1) ** 2) / 0.5)
    assert np.abs(radial_mean(stretched, (0.2, 0.1)) - stretched).max() < 0.01


def test_a_radial_average_is_noted() -> None:
    image = counted(placed(truth(), PLACES, (2000,) * 4))
    measured = measure_psf(image, GRID, radial_average=True)
    assert any("averaged around" in note for note in measured.notes)
    middle = measured.psf.samples[measured.psf.shape[0] // 2]
    assert middle[middle.shape[0] // 2 + 2, middle.shape[1] // 2] == pytest.approx(
        middle[middle.shape[0] // 2, middle.shape[1] // 2 + 2], rel=0.02
    )


@pytest.mark.parametrize("n", [8, 9])
def test_a_shift_is_that_of_the_function(n: int) -> None:
    x = np.arange(4 * n)
    wave = np.exp(-((x - 2 * n) ** 2) / 8.0)
    expected = np.exp(-((x - 2 * n - 0.37) ** 2) / 8.0)
    assert shifted(wave, [0.37]) == pytest.approx(expected, abs=1e-6)
    # A slope has no jump at its ends, and comes back as it was.
    slope = np.linspace(0, 1, n)
    assert np.abs(shifted(slope, [0.5]) - slope).max() < 1.5 / n


# Fates --------------------------------------------------------------------------------------


def test_each_bad_bead_has_its_reason_and_harms_no_other() -> None:
    places = (*PLACES, (12.0, 48.0, 48.0), (12.0, 48.0, 52.0), (12.0, 46.0, 1.0))
    heights = (1500.0, 1500.0, 1500.0, 1500.0, 1500.0, 1500.0, 1500.0)
    image = counted(placed(truth(), places, heights))
    beads = find_beads(image, GRID)
    assert fates(beads) == {"used": 4, "doubled": 2, "clipped": 1}
    pair = nearest(beads, (12, 48, 48))
    assert (pair.fate, pair.reason[:16]) == ("doubled", "Another bead is ")
    assert nearest(beads, (12, 46, 1)).reason == (
        "Its core is too near the border of the image in x"
    )
    assert all(nearest(beads, place).fate == "used" for place in PLACES)
    assert all(bool(bead.reason) != (bead.fate == "used") for bead in beads)


def test_a_flat_top_is_saturated() -> None:
    image = np.minimum(counted(placed(truth(), PLACES, (900, 9000, 900, 900))), 4095)
    beads = find_beads(image, GRID)
    assert (fates(beads)["used"], fates(beads)["saturated"]) == (3, 1)
    flat = nearest(beads, PLACES[1])
    assert flat.fate == "saturated"
    assert "have the highest value, 4095" in flat.reason
    eight_bit = np.minimum(counted(placed(truth(), PLACES, (150, 400, 150, 150))), 255)
    assert nearest(find_beads(eight_bit.astype(np.uint8), GRID), PLACES[1]).fate == "saturated"


def test_few_counts_are_no_saturation() -> None:
    # Peaks of ten counts: many voxels share the highest one, by rounding.
    wide = Grid(spacing_um=(0.2, 0.05, 0.05))
    psf = compute_psf(OPTICS, wide, (41, 61, 61)).samples.astype(np.float64)
    image = counted(placed(psf / psf.max(), PLACES[:1], (10,)), 1.0).astype(np.uint8)
    bead = find_beads(image, wide)[0]
    assert bead.fate == "used"
    assert bead.peak < 25


def test_a_dim_bead_is_left() -> None:
    # Of white noise s, a bead of height a and shape g stands out by a/s sqrt(sum g^2): 8 +- 1.
    energy = float((truth() ** 2).sum())
    clear = placed(truth(), PLACES, (8 * 5 / math.sqrt(energy), 400, 400, 400)) + 100
    seen = []
    for seed in range(4):
        beads = find_beads(clear + np.random.default_rng(seed).normal(0, 5, SHAPE), GRID)
        assert sum(bead.fate == "used" for bead in beads) == 3
        seen += [bead for bead in beads if math.dist(bead.position, PLACES[0]) < 2]
    # What is below 7.5 is not called a bead at all.
    assert seen
    for bead in seen:
        assert bead.fate == "dim"
        assert bead.snr == pytest.approx(8, abs=2)
        assert bead.reason.endswith("is below 10")


def test_hot_pixels_are_no_beads_and_are_mended() -> None:
    image = counted(placed(truth(), PLACES, (1500,) * 4))
    clean = measure_psf(image, GRID)
    hot = image.copy()
    hot[5, 48, 48] = hot[20, 10, 48] = 60000
    hot[:, 90, 48] = 30000  # in every plane, as a camera has them
    hot[11, 26, 28] = 9000  # in the halo of a bead
    measured = measure_psf(hot, GRID)
    assert fates(measured.beads) == {"used": 4}
    assert measured.fwhm_um == pytest.approx(clean.fwhm_um, rel=0.01)
    assert any("27 hot pixels" in note for note in measured.notes)


def test_a_gradient_is_no_bead_and_does_no_harm() -> None:
    slope = np.linspace(0, 300, SHAPE[2])
    image = counted(placed(truth(), PLACES, (3000,) * 4) + slope)
    measured = measure_psf(image, GRID)
    assert fates(measured.beads) == {"used": 4}
    assert measured.fwhm_um == pytest.approx(fwhm_um(Psf(truth(), GRID.spacing_um)), rel=0.04)


def test_a_few_planes_do_not_lose_the_beads() -> None:
    image = counted(
        placed(truth(), [(7, *place[1:]) for place in PLACES], (3000,) * 4, (15, 96, 96))
    )
    measured = measure_psf(image, GRID)
    assert fates(measured.beads) == {"used": 4}
    assert measured.psf.shape[0] <= 15
    wanted = fwhm_um(Psf(truth(), GRID.spacing_um))
    assert measured.fwhm_um == pytest.approx(wanted, rel=0.04)


def test_a_bead_with_its_focus_outside_is_clipped() -> None:
    places = [*PLACES[:3], (-1.0, 74, 74)]
    beads = find_beads(counted(placed(truth(), places, (3000,) * 4)), GRID)
    assert nearest(beads, places[3]).fate == "clipped"
    assert "focus is too near the border of the image in z" in nearest(beads, places[3]).reason
    assert fates(beads)["used"] == 3


def test_two_beads_in_one_are_left_out_and_never_the_majority() -> None:
    places = [(12, y, x) for y in (16, 48, 80) for x in (16, 48, 80)]
    single = placed(truth(), places, (2000,) * 9)
    merged = single + placed(truth(), [(12, 48, 50.4)], (2000,))
    measured = measure_psf(counted(merged), GRID)
    odd = nearest(measured.beads, (12, 48, 49))
    assert odd.fate in ("doubled", "left out")
    assert odd.reason
    assert fates(measured.beads)["used"] == 8


def test_beads_that_all_differ_are_not_all_left_out() -> None:
    rng = np.random.default_rng(1)
    image = np.zeros(SHAPE)
    for place in PLACES:
        y, x = np.indices((21, 21)) - 10.0
        blob = np.exp(
            -(y**2) / (2 * rng.uniform(1, 2.5) ** 2) - x**2 / (2 * rng.uniform(1, 2.5) ** 2)
        )
        image += placed(
            np.exp(-((np.arange(21) - 10.0) ** 2) / 8)[:, None, None] * blob, [place], [2000]
        )
    measured = measure_psf(counted(image), GRID)
    assert fates(measured.beads)["used"] >= 3


def test_out_of_focus_spots_do_not_set_the_width() -> None:
    places = [(15.0, y, x) for y in (25.0, 60.0, 95.0) for x in (25.0, 60.0, 95.0)]
    y, x = np.indices((61, 61)) - 30.0
    plane = truth()[20]
    image = placed(plane, [p[1:] for p in places], (3000,) * 9, (120, 120))
    image += placed(np.exp(-(y**2 + x**2) / 72), [(42.0, 43.0)], (300,), (120, 120))
    beads = find_beads(counted(image), Grid(spacing_um=GRID.spacing_um[1:]))
    assert nearest(beads, (42, 43)).fate != "used"
    assert fates(beads)["used"] == 9


# Two dimensions, and what the user decides --------------------------------------------------


def test_an_image_of_two_dimensions_gives_a_psf_of_two() -> None:
    grid = Grid(spacing_um=GRID.spacing_um[1:])
    plane = truth()[20]
    image = counted(placed(plane, [p[1:] for p in PLACES], (3000,) * 4, (120, 120)))
    measured = measure_psf(image, grid)
    assert measured.psf.samples.ndim == 2
    assert measured.fwhm_um == pytest.approx(fwhm_um(Psf(plane, grid.spacing_um)), rel=0.03)


def test_the_user_decides() -> None:
    image = counted(placed(truth(), PLACES, (2000, 2200, 2400, 2600)))
    beads = find_beads(image, GRID)
    one = beads
    for index in (1, 2, 3):
        one = with_fate(one, index, "left out")
    measured = measure_psf(image, GRID, beads=one)
    assert fates(measured.beads) == {"used": 1, "left out": 3}
    assert measured.beads[1].reason == "Marked by hand"
    assert measured.notes[:2] == (
        "PSF: mean of 1 of 4 beads, 3 left out",
        "PSF: measured on one bead alone; the mean of several has less noise",
    )
    assert with_fate(one, 1, "used")[1].reason == ""
    with pytest.raises(InputError, match="There is no bead 4"):
        with_fate(beads, 4, "used")
    with pytest.raises(InputError, match="'gone' is not one of used"):
        with_fate(beads, 0, "gone")
    assert FATES[0] == "used"


def test_a_bead_added_by_hand_needs_its_position_alone() -> None:
    image = counted(placed(truth(), PLACES, (2000,) * 4))
    by_hand = [Bead((round(z), round(y), round(x))) for z, y, x in PLACES]
    measured = measure_psf(image, GRID, beads=by_hand)
    assert fates(measured.beads) == {"used": 4}
    assert measured.fwhm_um == pytest.approx(measure_psf(image, GRID).fwhm_um, rel=0.01)
    for bead, place in zip(measured.beads, PLACES, strict=True):
        assert bead.position == pytest.approx(place, abs=0.1)
        assert bead.snr > 100
    dark = counted(np.zeros(SHAPE))
    dark[8:17, 44:53, 44:53] = 0  # a hole in the background
    with pytest.raises(InputError, match=r"There is no light at \(12, 48, 48\)"):
        measure_psf(dark, GRID, beads=[Bead((12, 48, 48))])


def test_a_bead_is_written_and_read() -> None:
    bead = Bead((1.5, 2.0), "dim", "Too dim", 10.0, 2.0, 5.0, (None, 0.3))
    assert Bead.from_json(bead.to_json()) == bead


def test_the_box_is_as_asked() -> None:
    image = counted(placed(truth(), PLACES, (5000,) * 4))
    measured = measure_psf(image, GRID, box_um=(4.0, 3.0, 3.0))
    assert all(n <= m for n, m in zip(measured.psf.shape, (11, 21, 21), strict=True))
    huge = measure_psf(image, GRID, box_um=500.0)
    assert huge.fwhm_um == pytest.approx(measured.fwhm_um, rel=0.03)
    with pytest.raises(InputError, match="cuts the beads, which measure"):
        measure_psf(image, GRID, box_um=0.3)
    with pytest.raises(InputError, match="has 3 sizes in um"):
        measure_psf(image, GRID, box_um=(3.0, 3.0))


# Sentences ----------------------------------------------------------------------------------


def test_bad_images_end_in_a_sentence() -> None:
    image = counted(placed(truth(), PLACES, (2000,) * 4))
    with pytest.raises(InputError, match="voxel size of the bead image is unknown"):
        measure_psf(image, None)
    with pytest.raises(InputError, match="the PSF along z cannot be measured"):
        measure_psf(image[:1], GRID)
    with pytest.raises(InputError, match="2 numbers does not fit an image of 3"):
        measure_psf(image, Grid(spacing_um=(0.1, 0.1)))
    with pytest.raises(InputError, match="holds NaN"):
        measure_psf(np.where(image > 1000, np.nan, image), GRID)
    with pytest.raises(InputError, match="choose one channel"):
        measure_psf(image[None], GRID)
    with pytest.raises(InputError, match="diameter of the beads in um must be at least 0"):
        measure_psf(image, GRID, bead_diameter_um=-1)
    with pytest.raises(InputError, match=r"Beads of 1 um are too large: their image is 0\.3"):
        measure_psf(image, GRID, bead_diameter_um=1.0)


def test_without_beads_it_is_said() -> None:
    noise = np.random.default_rng(0).poisson(30, SHAPE)
    for empty in (noise, np.zeros(SHAPE), np.full(SHAPE, 7.0)):
        assert find_beads(empty, GRID) == ()
        with pytest.raises(InputError, match="No bead stands above the noise"):
            measure_psf(empty, GRID)


def test_when_all_are_rejected_the_reason_is_counted_with_advice() -> None:
    image = np.minimum(counted(placed(truth(), PLACES, (30000,) * 4)), 4095)
    with pytest.raises(InputError) as told:
        measure_psf(image, GRID)
    assert str(told.value) == (
        "None of the 4 beads can be used (4 saturated); take the beads again with less light or "
        "a shorter exposure"
    )


def test_beads_of_another_image_are_refused() -> None:
    image = counted(placed(truth(), PLACES, (2000,) * 4))
    beads = find_beads(image, GRID)
    with pytest.raises(InputError, match="beads are those of another image"):
        measure_psf(image, GRID, beads=(*beads, replace(beads[0], position=(99.0, 5.0, 5.0))))
    with pytest.raises(InputError, match="beads are those of another image"):
        measure_psf(image[0], Grid(spacing_um=(0.1, 0.1)), beads=beads)


# Real beads ---------------------------------------------------------------------------------


def test_the_four_confocal_beads_are_used() -> None:
    stack = confocal_beads()
    measured = measure_psf(stack.data, stack.grid)
    assert fates(measured.beads) == {"used": 4}
    # Seen by eye in the stack, (y, x).
    for place in ((23.5, 82, 75), (23.5, 73, 29), (23.5, 111, 44), (23.5, 36, 125)):
        assert math.dist(nearest(measured.beads, place).position, place) < 1.5
    widths = np.array([bead.fwhm_um for bead in measured.beads], float)
    assert measured.fwhm_um == pytest.approx(tuple(widths.mean(axis=0)), rel=0.05)


def test_the_width_of_a_real_psf_is_that_of_a_gaussian_fit() -> None:
    stack = widefield_psf()
    measured = measure_psf(stack.data, stack.grid)
    (bead,) = (bead for bead in measured.beads if bead.fate == "used")
    data = np.asarray(stack.data, float)
    z, y, x = (round(p) for p in bead.position)
    assert stack.grid is not None
    lines = (data[:, y, x], data[z, :, x], data[z, y, :])
    for line, centre, step, width in zip(
        lines, (z, y, x), stack.grid.spacing_um, measured.fwhm_um, strict=True
    ):
        # The core alone: a Gaussian knows no rings.
        near = np.arange(max(centre - 4, 0), centre + 5)
        (_, _, sigma, _), _ = curve_fit(
            lambda i, a, c, s, b: a * np.exp(-((i - c) ** 2) / (2 * s**2)) + b,
            near,
            line[near],
            (np.ptp(line), centre, 1.5, line.min()),
        )
        assert width == pytest.approx(2.3548 * abs(float(sigma)) * step, rel=0.05)
