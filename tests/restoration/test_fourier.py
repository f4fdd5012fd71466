"""Transforms in place, against numpy's in float64."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.restoration import fourier
from napari_deconv.restoration.fourier import Room, columns_of
from napari_deconv.restoration.pieces import Cores, Float, Where
from napari_deconv.restoration.transforms import (
    CHOICE,
    Complex,
    DuccTransforms,
    ScipyTransforms,
    Transforms,
    transforms,
)

SHAPES = [(6, 8, 10), (5, 7, 9), (1, 8, 9), (6, 1, 8), (4, 5, 1), (12, 7), (1, 10), (3, 1, 1)]


@pytest.fixture(params=["whole", "cut"], autouse=True)
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as small volumes are transformed, and once in pieces of a row or two."""
    if request.param == "cut":
        monkeypatch.setattr(fourier, "SMALL", 0)
        monkeypatch.setattr(fourier, "PIECE", 20)


def library(name: str) -> Transforms:
    return ScipyTransforms() if name == "scipy" else DuccTransforms(import_module("ducc0").fft)


@pytest.fixture(params=["scipy", "ducc0"], autouse=True)
def with_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fourier, "transforms", lambda: library(request.param))


def noise(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectrum_is_numpys(shape: tuple[int, ...]) -> None:
    x = noise(shape)
    room = Room(shape, Cores(2))
    expected = np.fft.rfftn(x.astype(float))
    assert np.abs(room.forward(x) - expected).max() < 1e-6 * np.abs(expected).max()
    assert room.spectrum.shape == expected.shape
    # ... and once more from the room itself.
    room.real[...] = x
    assert np.abs(room.forward(room.real) - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("less", [0, 1, 3])
def test_a_filter_sees_zeros_beyond_its_input_and_gives_a_window(
    shape: tuple[int, ...], less: int
) -> None:
    window = tuple(max(n - less, 1) for n in shape)
    inside = tuple(slice(n) for n in window)
    padded, x = np.zeros(shape), noise(window)
    padded[inside] = x
    response = np.fft.rfftn(np.random.default_rng(1).random(shape))
    factors = columns_of(response.astype(np.complex64))

    def multiply(piece: Complex, columns: slice) -> None:
        piece *= factors[:, columns]

    expected = np.fft.irfftn(np.fft.rfftn(padded) * response, s=shape, axes=range(len(shape)))
    room = Room(shape, Cores(2))
    room.spectrum[...] = np.nan  # what was there does not matter
    before = x.copy()
    found = room.filter(x, multiply, window)
    assert found.shape == window
    assert np.abs(found - expected[inside]).max() < 1e-6 * np.abs(expected).max()
    assert np.array_equal(x, before)
    # In place: the input lies where the result will.
    found[...] = x
    found = room.filter(found, multiply, shape)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("less", [0, 1])
def test_what_leaves_may_enter_again_changed(shape: tuple[int, ...], less: int) -> None:
    """In one pass as in two, box by box."""
    window = tuple(max(n - less, 1) for n in shape)
    rooms = [Room(shape, Cores(2)) for _ in range(2)]
    for room in rooms:
        room.enter(noise(shape))
        room.change(lambda piece, columns: None)

    class Halved:
        """Half of what has just left."""

        shape = window

        def __getitem__(self, where: Where) -> Float:
            return rooms[0].real[where] / np.float32(2)

    rooms[0].turn(Halved())
    rooms[1].enter(rooms[1].leave(window) / np.float32(2))
    assert np.array_equal(rooms[0].spectrum, rooms[1].spectrum)


def test_the_spectrum_may_be_changed_and_transformed_back() -> None:
    x = noise((6, 8, 9))
    kept = columns_of(Room(x.shape, Cores(1)).forward(x))

    def fill(piece: Complex, columns: slice) -> None:
        piece[...] = 2 * kept[:, columns]

    found = Room(x.shape, Cores(2)).inverse(fill, (5, 8, 7))
    assert np.abs(found - 2 * x[:5, :, :7]).max() < 1e-6


def test_a_transform_that_does_not_answer_in_place_is_put_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def elsewhere(x: Any, **_: Any) -> Any:
        return 2 * x

    monkeypatch.setattr("scipy.fft.fft", elsewhere)
    x = np.ones((3, 4), np.complex64)
    ScipyTransforms().along(x, 0, inverse=False, threads=1)
    assert (x == 2).all()


def test_the_faster_library_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    transforms.cache_clear()
    assert isinstance(transforms(), ScipyTransforms)  # which the tests ask for
    transforms.cache_clear()
    monkeypatch.delenv(CHOICE)
    assert isinstance(transforms(), DuccTransforms)
    transforms.cache_clear()
    monkeypatch.setattr("napari_deconv.restoration.transforms.find_spec", lambda name: None)
    assert isinstance(transforms(), ScipyTransforms)
    transforms.cache_clear()
