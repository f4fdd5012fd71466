"""What is observed: checked once, before any method sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.observing import observe

DELTA = Psf(np.ones((1, 1, 1)))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.ones((3, 4, 5)) * 1j, r"The image is complex; give its intensity, \|amplitude\|\^2"),
        (np.array([["a"]]), "The image is not made of numbers but of <U1"),
        (np.array([[None]]), "The image is not made of numbers but of object"),
        (np.ones(4), r"two or three dimensions, \(Z, Y, X\) or \(Y, X\), not the shape \(4,\)"),
        (np.ones((2, 3, 4, 5)), r"not the shape \(2, 3, 4, 5\)"),
        (np.ones((0, 4)), r"not the shape \(0, 4\)"),
        (5.0, r"not the shape \(\)"),
        (np.array([[np.nan, np.inf, -np.inf, 1]]), "The image holds 3 NaN or infinite values; rep"),
        (
            np.array([[1e39, 1]]),
            "The image holds values up to 1e\\+39, more than can be worked with",
        ),
    ],
)
def test_what_cannot_be_restored_is_refused(image: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        observe(image, DELTA)


@pytest.mark.parametrize("background", ["auto", None, np.nan, np.inf, True])
def test_the_background_is_a_number(background: Any) -> None:
    with pytest.raises(InputError, match="The background must be a finite number"):
        observe(np.ones((3, 4)), DELTA, background)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "uint16", "int16", ">u2", "uint32", "int64", "f2", "f4", "f8"],
)
def test_every_real_type_becomes_float32(dtype: str) -> None:
    image = (np.arange(60).reshape(3, 4, 5) % 2).astype(dtype)
    seen = observe(image, DELTA)
    assert seen.image.dtype == np.float32
    assert np.array_equal(seen.image, image.astype(np.float64))
    assert not np.shares_memory(seen.image, image)


def test_a_list_is_an_image_too() -> None:
    assert observe([[1, 2], [3, 4]], DELTA).image.shape == (2, 2)


def test_negative_values_are_counted_and_the_image_given_is_kept() -> None:
    image = np.full((4, 5, 10), 3.0)
    image[0, 0, :5] = -1e-3
    seen = observe(image, DELTA)
    assert seen.notes == (
        "5 negative values (2.5 % of the image) were set to 0: photon counts are not negative",
    )
    assert seen.image.min() == 0
    assert image.min() == -1e-3
    assert "(100 % of the image)" in observe(-np.ones((4, 5, 6)), DELTA).notes[0]


def test_what_looks_odd_is_said() -> None:
    assert "zero everywhere" in observe(np.zeros((3, 4)), DELTA).notes[-1]
    assert "one plane: only y and x" in observe(np.ones((1, 4, 5)), DELTA).notes[-1]
    assert (
        "(1, 9, 1) is larger than the image (3, 4, 5)"
        in (observe(np.ones((3, 4, 5)), Psf(np.ones((1, 9, 1)))).notes[-1])
    )
    assert observe(np.ones((3, 4, 5)), Psf(np.ones((3, 3, 3)))).notes == ()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_saturated_voxels_are_counted_and_said(bits: int) -> None:
    image = np.full((4, 5, 10), 3, np.uint16)
    image[0, 0, :9] = 2**bits - 1
    assert observe(image, DELTA).notes == ()  # so few may have come about by themselves
    image[1, 0, 0] = 2**bits - 1
    (note,) = observe(image, DELTA).notes
    assert note.startswith(
        f"10 voxels (5 % of the image) are at {2**bits - 1}, the most that {bits}"
    )
    assert observe(image.astype(np.float32), DELTA).notes == ()  # values that no camera wrote
    image[2, 0, 0] = 2**bits - 2
    image[image == 2**bits - 1] -= 2
    assert observe(image, DELTA).notes == ()


def test_a_background_above_the_image_is_said() -> None:
    (note,) = observe(np.full((3, 30, 40), 7), DELTA, 7.5).notes
    assert note.startswith("The background, 7.5, is not below the brightest voxel, 7:")
    assert observe(np.full((3, 30, 40), 8), DELTA, 7.5).notes == ()


@pytest.mark.parametrize("highest", [2e18, 1e38, 1e300])
def test_values_too_large_to_work_with_are_refused(highest: float) -> None:
    with pytest.raises(InputError, match="more than can be worked with"):
        observe(np.full((3, 4), highest), DELTA)


def test_the_psf_is_fitted_to_the_image() -> None:
    seen = observe(np.ones((4, 5)), Psf(np.ones((3, 3, 3)), notes=("measured",)))
    assert seen.psf.shape == (3, 3)
    assert seen.notes[0] == "measured"
    assert "focal plane" in seen.notes[1]
    assert observe(np.ones((3, 4, 5)), Psf(np.ones((3, 3)))).psf.shape == (1, 3, 3)


def test_the_spacing_is_relative_to_the_finest() -> None:
    psf = Psf(np.ones((3, 3, 3)), (0.3, 0.1, 0.2))
    assert observe(np.ones((4, 5, 6)), psf).spacing == pytest.approx((3, 1, 2))
    assert observe(np.ones((4, 5, 6)), DELTA).spacing == (1, 1, 1)
