"""PSFs as samples: checked, cropped, kept as JSON; and made from the image of a bead."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf, fitted_to, psf_distance
from napari_deconv.imaging.psf_image import psf_from_image
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.value import InputError

Array = npt.NDArray[np.float64]
VOLUME = Grid(spacing_um=(0.2, 0.1, 0.1))

#: Width of the simulated bead, um, (z, y, x).
SIGMA = (0.6, 0.2, 0.25)


def bead(
    shape: tuple[int, ...],
    centre: tuple[float, ...],
    spacing: tuple[float, ...] = VOLUME.spacing_um,
    *,
    peak: float = 1000,
    background: float = 100,
    seed: int | None = 0,
) -> Array:
    """Return a Gaussian bead of `SIGMA` with photon noise, without it if `seed` is None."""
    sigma = [s / step for s, step in zip(SIGMA[-len(shape) :], spacing, strict=True)]
    places = np.indices(shape, dtype=float)
    r2 = sum(((p - c) / s) ** 2 for p, c, s in zip(places, centre, sigma, strict=True))
    expected: Array = background + peak * np.exp(-np.asarray(r2, dtype=np.float64) / 2)
    if seed is None:
        return expected
    return np.random.default_rng(seed).poisson(expected).astype(np.float64)


def moments(psf: Psf) -> tuple[list[float], list[float]]:
    """Return how far the centroid is off n//2, and the standard deviation, in voxels."""
    samples = psf.samples.astype(float)
    places = np.indices(psf.shape, dtype=float)
    centroid = [float((p * samples).sum()) for p in places]
    spread = [
        math.sqrt(float(((p - c) ** 2 * samples).sum()))
        for p, c in zip(places, centroid, strict=True)
    ]
    return [c - n // 2 for c, n in zip(centroid, psf.shape, strict=True)], spread


# -- the value -------------------------------------------------------------------------


def test_samples_are_float32_of_unit_sum_and_read_only() -> None:
    psf = Psf(np.arange(12, dtype=np.uint16).reshape(3, 4))
    assert psf.samples.dtype == np.float32
    assert psf.samples.sum(dtype=np.float64) == pytest.approx(1, abs=1e-7)
    assert psf.samples[2, 3] == pytest.approx(11 / 66)
    with pytest.raises(ValueError, match="read-only"):
        psf.samples[0, 0] = 1


def test_the_image_given_is_not_touched() -> None:
    samples = np.full((3, 3), 7.0)
    Psf(samples)
    psf_from_image(samples + np.eye(3), None, None, background=0)
    assert (samples == 7).all()


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.ones((3, 3)) * 1j, r"The PSF is complex; give its intensity, \|amplitude\|\^2"),
        (np.array([["a", "b"]]), "The PSF is no image of numbers but of"),
        (np.ones(5), r"A PSF has two or three dimensions, not the shape \(5,\)"),
        (np.ones((2, 2, 2, 2)), "A PSF has two or three dimensions"),
        (np.ones((0, 3, 3)), "A PSF has two or three dimensions"),
        (np.array([[1, np.nan]]), "The PSF holds NaN or infinite values"),
        (np.array([[1, np.inf]]), "The PSF holds NaN or infinite values"),
        (np.zeros((3, 3)), "The PSF sums to zero: it holds no light"),
        (-np.ones((3, 3)), "The PSF sums to zero: it holds no light"),
        (np.array([[10, -0.1]]), "The PSF has negative values"),
    ],
)
def test_samples_that_are_no_psf_are_refused(samples: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Psf(samples)


def test_the_rounding_of_a_transform_is_forgiven() -> None:
    assert Psf(np.array([[1, -1e-6], [0.5, 0]])).samples.min() == 0


def test_the_voxel_size_must_fit() -> None:
    with pytest.raises(InputError, match="of 3 numbers does not fit a PSF of 2 dimensions"):
        Psf(np.ones((3, 3)), (1, 1, 1))
    with pytest.raises(InputError, match="The y spacing in um must be greater than 0"):
        Psf(np.ones((3, 3)), (0, 1))


@pytest.mark.parametrize("spacing", [None, (0.3, 0.1, 0.1)])
def test_json_both_ways_to_the_last_bit(spacing: tuple[float, ...] | None) -> None:
    samples = np.random.default_rng(0).random((3, 4, 5)) ** 8
    psf = Psf(samples, spacing, ("one note", "another é"))
    again = Psf.from_json(psf.to_json())
    assert np.array_equal(again.samples, psf.samples)
    assert (again.spacing_um, again.notes) == (psf.spacing_um, psf.notes)
    assert again.to_json() == psf.to_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"samples": "not base64 é"},
        {"samples": base64.b64encode(b"not deflated").decode()},
        {"samples": base64.b64encode(zlib.compress(b"12345")).decode()},
        {"samples": base64.b64encode(zlib.compress(b"\0" * 36)).decode()},
        {"samples": None},
        {"samples": [1, 2]},
        {"shape": [3, 4]},
        {"shape": "33"},
        {"shape": None},
        {"shape": [9]},
        {"shape": [1.5, 6]},
        {"spacing_um": 1},
        {"spacing_um": "ab"},
        {"spacing_um": [1]},
        {"spacing_um": [1, "a"]},
        {"spacing_um": [[1], 1]},
        {"notes": "a note"},
        {"notes": [1]},
        {"notes": None},
    ],
    ids=str,
)
def test_json_that_is_no_psf_is_refused(changed: dict[str, Any]) -> None:
    data = Psf(np.ones((3, 3))).to_dict()
    with pytest.raises(InputError):
        Psf.from_json(json.dumps({**data, **changed}))
    with pytest.raises(InputError):
        Psf.from_dict({key: value for key, value in data.items() if key not in changed} | changed)


@pytest.mark.parametrize("field", ["samples", "shape"])
def test_json_without_a_field_is_refused(field: str) -> None:
    data = Psf(np.ones((3, 3))).to_dict()
    del data[field]
    with pytest.raises(InputError, match=f"This is not a PSF written by napari-deconv.*{field}"):
        Psf.from_dict(data)


# -- cropping and fitting --------------------------------------------------------------


@pytest.mark.parametrize("shape", [(41, 31, 33), (40, 30, 32), (30, 41)])
@pytest.mark.parametrize("energy", [0.9, 0.999])
def test_a_crop_is_odd_centred_and_keeps_the_light(shape: tuple[int, ...], energy: float) -> None:
    centre = tuple(n // 2 for n in shape)
    psf = Psf(bead(shape, centre, VOLUME.spacing_um[-len(shape) :], background=0, seed=None))
    cropped = psf.cropped(energy)
    assert all(n % 2 for n in cropped.shape)
    assert cropped.shape < psf.shape
    halves = [n // 2 for n in cropped.shape]
    window = tuple(slice(c - h, c + h + 1) for c, h in zip(centre, halves, strict=True))
    assert psf.samples[window].sum() >= energy
    assert cropped.samples.sum() == pytest.approx(1, abs=1e-6)
    assert np.unravel_index(cropped.samples.argmax(), cropped.shape) == tuple(
        n // 2 for n in cropped.shape
    )


def test_a_smaller_box_would_lose_too_much() -> None:
    psf = Psf(bead((31, 31), (15, 15), (0.1, 0.1), background=0, seed=None))
    rows = psf.samples.sum(1, dtype=np.float64)
    half = psf.cropped(0.99).shape[0] // 2
    assert rows[15 - half : 16 + half].sum() >= 0.995
    assert rows[16 - half : 15 + half].sum() < 0.995


def test_light_at_the_far_end_of_an_even_box_is_not_lost() -> None:
    """The first voxel of an even axis has no partner: a centred odd box would leave it out."""
    samples = np.full((4, 5), 1e-6)
    samples[0, 2], samples[2, 2] = 1, 1
    assert Psf(samples).cropped().shape[0] == 4


def test_a_volume_on_a_plane_is_its_focal_plane() -> None:
    samples = np.random.default_rng(0).random((5, 4, 3))
    plane = fitted_to(Psf(samples, (0.3, 0.2, 0.1), ("before",)), 2)
    assert np.allclose(plane.samples, samples[2] / samples[2].sum())
    assert plane.spacing_um == (0.2, 0.1)
    assert plane.notes[0] == "before"
    assert "its focal plane is used on the two-dimensional image" in plane.notes[1]


def test_a_plane_on_a_volume_restores_each_plane_by_itself() -> None:
    volume = fitted_to(Psf(np.ones((3, 3)), (0.1, 0.1)), 3)
    assert volume.shape == (1, 3, 3)
    assert volume.spacing_um is None
    assert "each plane of the stack is restored by itself" in volume.notes[0]


def test_what_fits_stays_as_it_is() -> None:
    psf = Psf(np.ones((3, 3)))
    assert fitted_to(psf, 2) is psf


# -- measured --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(41, 32, 33), (40, 33, 34)])
def test_a_noisy_bead_comes_back_centred_and_of_its_width(
    shape: tuple[int, ...], seed: int
) -> None:
    """Within 0.05 voxel and 3 %, wherever it lay between the voxels."""
    offset = np.random.default_rng(seed).uniform(-1.5, 1.5, 3)
    centre = tuple(float(n // 2 + o) for n, o in zip(shape, offset, strict=True))
    psf = psf_from_image(bead(shape, centre, peak=5000, seed=seed), VOLUME.spacing_um, VOLUME)
    off, width = moments(psf)
    assert max(map(abs, off)) < 0.05
    assert np.multiply(width, VOLUME.spacing_um) == pytest.approx(SIGMA, rel=0.03)
    assert all(n % 2 for n in psf.shape)
    assert psf.samples.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert psf.spacing_um == VOLUME.spacing_um


def test_without_noise_centring_is_exact_to_a_hundredth() -> None:
    image = bead((41, 32, 33), (19.3, 16.4, 15.75), background=0, seed=None)
    off, width = moments(psf_from_image(image, VOLUME.spacing_um, VOLUME, background=0))
    assert max(map(abs, off)) < 0.01
    assert np.multiply(width, VOLUME.spacing_um) == pytest.approx(SIGMA, rel=0.01)


@pytest.mark.parametrize("background", [7.0, 100.0, 1000.0])
def test_the_background_is_removed_and_said(background: float) -> None:
    image = bead((41, 32, 33), (20, 16, 16), background=background)
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME)
    said = [float(note.split()[3]) for note in psf.notes if "counts removed" in note]
    assert said == pytest.approx([background], rel=0.01, abs=0.3)
    # A pedestal of a hundredth of the peak would widen it by a factor.
    assert moments(psf)[1][0] * 0.2 == pytest.approx(SIGMA[0], rel=0.05)


def test_in_a_tight_box_the_bead_itself_is_not_taken_for_background() -> None:
    """Here the median of all voxels would be 116."""
    image = bead((21, 15, 17), (10, 7, 8), peak=5000)
    assert np.median(image) > 115
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME)
    level = float(psf.notes[0].split()[3])
    assert level == pytest.approx(100, abs=4)
    assert np.multiply(moments(psf)[1], VOLUME.spacing_um) == pytest.approx(SIGMA, rel=0.025)


def test_a_given_background_is_taken() -> None:
    image = bead((41, 32, 33), (20, 16, 16), seed=None)
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME, background=100)
    assert psf.notes == ("PSF: background of 100 counts removed",)
    assert np.multiply(moments(psf)[1], VOLUME.spacing_um) == pytest.approx(SIGMA, rel=0.02)
    with pytest.raises(InputError, match="The PSF's background must be a finite number"):
        psf_from_image(image, None, None, background=math.nan)


@pytest.mark.parametrize("scaled", ["sum", "peak"])
def test_a_computed_psf_is_not_touched(scaled: str) -> None:
    """Its rings are light and no background: neither level nor rings are removed."""
    optics = Optics(na=0.8, emission_nm=520, immersion_index=1.0)
    computed = compute_psf(optics, VOLUME, (31, 41, 41)).samples.astype(np.float64)
    computed /= computed.sum() if scaled == "sum" else computed.max()
    psf = psf_from_image(computed, VOLUME.spacing_um, VOLUME, energy=1.0)
    assert psf.notes == ()
    assert psf.shape == computed.shape
    assert np.abs(psf.samples - computed / computed.sum()).max() < 1e-8


@pytest.mark.parametrize(
    "target",
    [
        (0.1, 0.1, 0.1),
        (0.2, 0.2, 0.2),
        (0.35, 0.1, 0.1),
        (0.2, 0.07, 0.16),
        (0.3, 0.1015, 0.1015),
        (0.05, 0.05, 0.05),
    ],
)
def test_the_width_in_micrometres_survives_other_voxels(target: tuple[float, ...]) -> None:
    image = bead((41, 33, 34), (20.3, 16.2, 16.7), background=0, seed=None)
    psf = psf_from_image(image, VOLUME.spacing_um, Grid(spacing_um=target), background=0)
    off, width = moments(psf)
    assert max(map(abs, off)) < 0.05
    # A larger pixel averages over its side, which adds its side squared / 12 to the variance.
    side = [0.0, *(step if step > 0.15 else 0.0 for step in target[1:])]
    expected = [math.hypot(s, a / math.sqrt(12)) for s, a in zip(SIGMA, side, strict=True)]
    assert np.multiply(width, target) == pytest.approx(expected, rel=0.01)
    assert psf.spacing_um == target
    assert psf.samples.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_a_pixel_three_times_as_large_gathers_the_light_of_nine() -> None:
    """As a camera does: the average over the pixel, not the value in its middle."""
    fine = bead((41, 41), (20, 20), (0.1, 0.1), background=0, seed=None)
    coarse = psf_from_image(fine, (0.1, 0.1), Grid(spacing_um=(0.3, 0.3)), background=0)
    binned = fine[1:40, 1:40].reshape(13, 3, 13, 3).sum((1, 3))
    middle = binned[tuple(slice(6 - n // 2, 7 + n // 2) for n in coarse.shape)]
    assert np.abs(coarse.samples - middle / middle.sum()).max() < 1e-6


@pytest.mark.parametrize(
    ("spacing", "target", "notes"),
    [
        (
            (0.5, 0.1, 0.1),
            (0.25, 0.1, 0.1),
            ["its voxels in z (0.5 um) are coarser than the data's (0.25 um)"],
        ),
        (
            (0.2, 0.2, 0.2),
            (0.2, 0.1, 0.1),
            [
                "its voxels in y (0.2 um) are coarser than the data's (0.1 um)",
                "its voxels in x (0.2 um) are coarser than the data's (0.1 um)",
            ],
        ),
        ((0.1, 0.1, 0.1), (0.3, 0.1, 0.1), ["resampled in z from 0.1 to 0.3 um"]),
        ((0.2, 0.1, 0.1), (0.2, 0.1, 0.1), []),
    ],
)
def test_other_voxels_are_said(
    spacing: tuple[float, ...], target: tuple[float, ...], notes: list[str]
) -> None:
    image = bead((41, 33, 33), (20, 16, 16), spacing, background=0, seed=None)
    psf = psf_from_image(image, spacing, Grid(spacing_um=target), background=0)
    assert len(psf.notes) == len(notes)
    for found, wanted in zip(psf.notes, notes, strict=True):
        assert wanted in found


def test_an_unknown_voxel_size_is_taken_from_the_data_and_said() -> None:
    image = bead((41, 33, 33), (20, 16, 16), background=0, seed=None)
    psf = psf_from_image(image, None, VOLUME, background=0)
    assert psf.notes == ("PSF: voxel size unknown, taken to be the data's, 0.2 x 0.1 x 0.1 um",)
    assert psf.spacing_um == VOLUME.spacing_um
    assert np.array_equal(
        psf.samples, psf_from_image(image, VOLUME.spacing_um, VOLUME, background=0).samples
    )


def test_without_any_voxel_size_the_voxels_stay() -> None:
    image = bead((41, 33, 33), (20, 16, 16), background=0, seed=None)
    psf = psf_from_image(image, None, None, background=0)
    assert psf.spacing_um is None
    assert psf.notes == ()


def test_the_crop_keeps_the_light_that_is_asked_for() -> None:
    image = bead((61, 61, 61), (30, 30, 30), background=0, seed=None)
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME, background=0)
    window = tuple(slice(30 - n // 2, 31 + n // 2) for n in psf.shape)
    assert image[window].sum() >= 0.999 * image.sum()
    assert psf.samples.size < 0.2 * image.size


def test_off_centre_is_said_with_its_direction() -> None:
    psf = psf_from_image(bead((41, 33, 33), (18, 17.5, 16), seed=None), VOLUME.spacing_um, VOLUME)
    assert "PSF: was off its centre by (-2.00, +1.50, +0.00) voxels, centred" in psf.notes


@pytest.mark.parametrize(
    ("centre", "lost"), [((2, 3, 3), 30), ((39, 31, 31), 30), ((20, 2, 16), 10)]
)
def test_a_bead_at_the_border_is_centred_and_its_loss_said(
    centre: tuple[float, ...], lost: float
) -> None:
    psf = psf_from_image(bead((41, 33, 33), centre), VOLUME.spacing_um, VOLUME)
    off, _ = moments(psf)
    assert max(map(abs, off)) < 0.3
    (said,) = [note for note in psf.notes if "near the border" in note]
    assert float(said.split("that ")[1].split(" %")[0]) > lost
    assert said.endswith("Take a larger image around it")


def test_a_bead_amid_its_image_loses_nothing() -> None:
    psf = psf_from_image(bead((41, 33, 33), (20.4, 16.3, 15.8)), VOLUME.spacing_um, VOLUME)
    assert not any("border" in note for note in psf.notes)


def test_a_saturated_bead_is_centred_and_said() -> None:
    image = np.minimum(bead((41, 33, 33), (20.3, 15.6, 16.2)), 600).astype(np.uint16)
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME)
    assert max(map(abs, moments(psf)[0])) < 0.05
    (said,) = [note for note in psf.notes if "saturated" in note]
    assert f"{np.count_nonzero(image == 600)} voxels share the highest value, 600" in said


def test_a_symmetric_peak_on_an_even_box_is_not_called_saturated() -> None:
    image = np.rint(bead((40, 32, 32), (19.5, 15.5, 15.5), seed=None)).astype(np.uint16)
    assert np.count_nonzero(image == image.max()) == 8
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME)
    assert not any("saturated" in note for note in psf.notes)
    assert max(map(abs, moments(psf)[0])) < 0.05


def test_a_second_bead_is_left_out() -> None:
    shape = (41, 33, 63)
    image = bead(shape, (20, 16, 16), peak=5000) + bead(shape, (20, 16, 50), peak=3000) - 100
    psf = psf_from_image(image, VOLUME.spacing_um, VOLUME)
    off, width = moments(psf)
    assert max(map(abs, off)) < 0.05
    assert width[2] * 0.1 == pytest.approx(SIGMA[2], rel=0.05)


def test_a_plane_makes_a_plane() -> None:
    grid = Grid(spacing_um=(0.1, 0.1))
    image = bead((33, 34), (16.3, 17.2), (0.1, 0.1), peak=5000)
    for given in (image, image[None]):
        psf = psf_from_image(given, (0.1, 0.1), grid)
        off, width = moments(psf)
        assert max(map(abs, off)) < 0.05
        assert np.multiply(width, 0.1) == pytest.approx(SIGMA[1:], rel=0.03)


def test_one_plane_with_the_voxel_size_of_a_volume_is_a_plane() -> None:
    image = bead((1, 33, 33), (0, 16, 16))
    psf = psf_from_image(image, (0.3, 0.1, 0.1), VOLUME)
    assert len(psf.shape) == 2
    assert psf.spacing_um == (0.1, 0.1)


@pytest.mark.parametrize("spacing", [(0.2, 0.1, 0.1), None])
def test_a_volume_for_a_plane_keeps_its_own_planes(spacing: tuple[float, ...] | None) -> None:
    image = bead((41, 33, 33), (20, 16, 16), background=0, seed=None)
    psf = psf_from_image(image, spacing, Grid(spacing_um=(0.1, 0.1)), background=0)
    assert len(psf.shape) == 3
    assert moments(psf)[1][0] == pytest.approx(3.0, rel=0.02)


def test_whatever_type_the_camera_has() -> None:
    image = bead((41, 33, 33), (20, 16, 16), peak=120, background=10)
    expected = psf_from_image(image, VOLUME.spacing_um, VOLUME)
    for dtype in (np.uint8, np.int16, np.uint32, np.float32, ">u2"):
        found = psf_from_image(image.astype(dtype), VOLUME.spacing_um, VOLUME)
        assert np.array_equal(found.samples, expected.samples)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((5, 5, 5), np.nan), "The PSF holds NaN or infinite values; mend or crop it"),
        (np.array([[1.0, 5, 1], [1, np.inf, 1]]), "The PSF holds NaN or infinite values"),
        (np.zeros((5, 5, 5)), "The PSF sums to zero: it holds no light"),
        (-np.ones((5, 5, 5)), "The PSF sums to zero: it holds no light"),
        (np.ones((5, 5, 5)) * 1j, "The PSF is complex; give its intensity"),
        (np.array([["a", "b"], ["c", "d"]]), "The PSF is no image of numbers"),
        (np.ones(5), "A PSF has two or three dimensions, not the shape"),
        (np.ones((5, 1, 1)), "A PSF has two or three dimensions, not the shape"),
        (np.ones((2, 3, 4, 5)), "A PSF has two or three dimensions, not the shape"),
        (np.ones((0, 4, 5)), "A PSF has two or three dimensions, not the shape"),
        (np.full((9, 9, 9), 7), "The PSF image shows no point above its background"),
    ],
)
def test_images_of_no_point_are_refused(image: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        psf_from_image(image, None, None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(20, 40, 40), (64, 64)])
def test_noise_alone_is_no_point(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for image in (rng.poisson(100, shape), rng.normal(0, 3, shape)):
        with pytest.raises(InputError, match="shows no point above its background"):
            psf_from_image(image, None, None)


@pytest.mark.parametrize(
    ("spacing", "sentence"),
    [
        ((0.1, 0.1), "The PSF image has 3 dimensions, its voxel size 2"),
        ((0.0, 0.1, 0.1), "The z spacing in um must be greater than 0"),
        ((0.1, math.nan, 0.1), "The y spacing in um must be a finite number"),
        (("a", 0.1, 0.1), "The z spacing in um must be a finite number"),
    ],
)
def test_voxel_sizes_that_are_none_are_refused(spacing: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        psf_from_image(bead((41, 33, 33), (20, 16, 16)), spacing, VOLUME)


def test_how_far_out_a_psf_was_cut_off_is_no_difference() -> None:
    """A widefield PSF has as much light in its last plane as in its first."""
    optics, grid = Optics(na=1.2, emission_nm=520), Grid(spacing_um=(0.2, 0.1, 0.1))
    near, far = (compute_psf(optics, grid, sides).samples for sides in ((9, 15, 15), (31, 41, 43)))
    assert psf_distance(near, far) < 1e-4
    assert psf_distance(far, near) < 1e-4
    blunt = compute_psf(replace(optics, na=0.8), grid, (21, 31, 31)).samples
    assert psf_distance(far, blunt) > 0.1
