"""What every Engine must obey."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.engines import self_test
from napari_deconv.restoration import pieces
from napari_deconv.restoration.blur import Share, transfer_function
from napari_deconv.restoration.engine import Engine, Float
from napari_deconv.restoration.pieces import Where

from . import reference

Array = npt.NDArray[np.float64]
SHAPES = [(9, 12, 15), (8, 16, 10), (1, 14, 9), (6, 1, 8), (17, 12), (11, 13)]


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_the_convolution_and_its_adjoint_the_correlation(
    engine: Engine, asymmetric_psf: Callable[[tuple[int, ...]], Array], shape: tuple[int, ...]
) -> None:
    psf = asymmetric_psf(tuple(min(n, 5) for n in shape))
    rng = np.random.default_rng(1)
    x, y = rng.random(shape), rng.random(shape)
    blur = engine.filter(transfer_function(psf.astype(np.float32), shape), shape)
    hx = engine.pull(blur.forward(engine.push(x.astype(np.float32), shape)), shape)
    hty = engine.pull(blur.adjoint(engine.push(y.astype(np.float32), shape)), shape)
    otf = np.fft.fftn(reference.centred(psf, shape))
    assert np.abs(hx - np.fft.ifftn(np.fft.fftn(x) * otf).real).max() < 1e-6
    assert np.abs(hty - np.fft.ifftn(np.fft.fftn(y) * otf.conj()).real).max() < 1e-6
    forward, backward = float((hx * y).sum()), float((x * hty).sum())
    assert abs(forward - backward) < 1e-5 * abs(forward)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_crops_the_blur_and_pads_its_adjoint(
    engine: Engine, asymmetric_psf: Callable[[tuple[int, ...]], Array], shape: tuple[int, ...]
) -> None:
    psf = asymmetric_psf(tuple(min(n, 5) for n in shape)).astype(np.float32)
    window = tuple(max(n - 3, 1) for n in shape)
    inside = tuple(slice(n) for n in window)
    rng = np.random.default_rng(1)
    x, y = rng.random(shape, np.float32), rng.random(window, np.float32)
    padded = np.zeros(shape)
    padded[inside] = y
    otf = np.fft.fftn(reference.centred(psf.astype(float), shape))
    blur = engine.filter(transfer_function(psf, shape), shape, window)
    pushed = engine.push(x, shape)
    for _ in range(2):  # The memory that a filter works in is used again.
        seen = blur.forward(pushed)
        expected = np.fft.ifftn(np.fft.fftn(x) * otf).real[inside]
        assert np.abs(engine.pull(seen, window) - expected).max() < 1e-6
        swapped = engine.evaluate("0.0f * f + y", out=seen, f=seen, y=engine.hold(y))
        back = engine.pull(blur.adjoint(swapped), shape)
        expected = np.fft.ifftn(np.fft.fftn(padded) * otf.conj()).real
        assert np.abs(back - expected).max() < 1e-6
    assert np.array_equal(engine.pull(pushed, shape), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_push_pads_at_the_far_end_and_pull_crops(engine: Engine, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    image = rng.random(shape, dtype=np.float32)
    larger = tuple(n + 3 for n in shape)
    whole = engine.pull(engine.push(image, larger), larger)
    inside = tuple(slice(n) for n in shape)
    assert np.array_equal(whole[inside], image)
    assert whole.sum(dtype=np.float64) == pytest.approx(image.sum(dtype=np.float64))
    assert np.array_equal(engine.pull(engine.push(image, larger), shape), image)


def test_evaluate_and_total_follow_the_expression(engine: Engine) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((40, 50, 60), np.float32), rng.random((40, 50, 60), np.float32)
    x, y = engine.push(a, a.shape), engine.push(b, b.shape)
    expression = "fmax(x - 0.5f * y, k) + sqrt(x) * log(y + 1.0f)"
    expected = np.fmax(a - 0.5 * b, 0.1) + np.sqrt(a) * np.log(b + 1.0)
    found = engine.pull(engine.evaluate(expression, x=x, y=y, k=0.1), a.shape)
    assert np.abs(found - expected).max() < 1e-6
    total = engine.total(expression, x=x, y=y, k=0.1)
    assert total == pytest.approx(expected.sum(dtype=np.float64), rel=1e-6)


class Ramp:
    """Values made where they are asked for."""

    shape = (6, 7, 8)

    def __getitem__(self, where: Where) -> Float:
        z, y, x = np.ogrid[where]
        values: Float = (100 * z + 10 * y + x).astype(np.float32)
        return values


def test_held_values_are_read_as_arrays_are(engine: Engine) -> None:
    places = np.indices(Ramp.shape)
    expected = 100 * places[0] + 10 * places[1] + places[2]
    ramp = engine.hold(Ramp())
    x = engine.push(np.ones(Ramp.shape, np.float32), Ramp.shape)
    found = engine.evaluate("x + 2.0f * r", x=x, r=ramp)
    assert np.array_equal(engine.pull(found, Ramp.shape), 1 + 2 * expected)
    assert engine.total("x * r", x=x, r=ramp) == pytest.approx(expected.sum())
    flat = np.ones((6, 7, 5), np.complex64)
    blur = engine.filter(flat, Ramp.shape)
    assert np.abs(engine.pull(blur.forward(ramp), Ramp.shape) - expected).max() < 1e-3


def test_engines_say_what_they_hold_more_than_the_cpu(engine: Engine) -> None:
    assert (engine.extra_volumes == 0) == (engine.name == "cpu")
    assert 0 <= engine.extra_volumes < 10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sides", [(3, 4, 5), (7, 20, 13)])
def test_a_blur_is_the_filter_of_its_transfer_function(
    engine: Engine,
    asymmetric_psf: Callable[[tuple[int, ...]], Array],
    shape: tuple[int, ...],
    sides: tuple[int, ...],
) -> None:
    """Also by a PSF that reaches around the ends, and where it is its own mirror image."""
    window = tuple(max(n - 2, 1) for n in shape)
    comet = asymmetric_psf(sides[-len(shape) :]).astype(np.float32)
    x = np.random.default_rng(4).random(shape, np.float32)
    for psf in (comet, np.full([2 * (n // 2) + 1 for n in comet.shape], 1e-3, np.float32)):
        expected = engine.filter(transfer_function(psf, shape), shape, window)
        blur = engine.blur(psf, shape, window)
        for filtered, size in (("forward", window), ("adjoint", shape)):
            found, wanted = (
                engine.pull(getattr(made, filtered)(engine.push(x, shape)), size)
                for made in (blur, expected)
            )
            assert np.abs(found - wanted).max() < 1e-6 * max(1, wanted.max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [1, 3, 12])
def test_a_share_is_held_as_it_is_made(engine: Engine, shape: tuple[int, ...], side: int) -> None:
    psf = np.random.default_rng(5).random([side] * len(shape)).astype(np.float32)
    padded = tuple(n + side // 2 + 1 for n in shape)
    share = Share(psf / psf.sum(), shape, padded)
    expected = share[tuple(slice(0, n) for n in padded)]
    ones = engine.push(np.ones(padded, np.float32), padded)
    found = engine.evaluate("x * s", x=ones, s=engine.hold(share))
    assert np.array_equal(engine.pull(found, padded), expected)


def test_one_number_is_pushed_as_a_volume_of_it(engine: Engine) -> None:
    for shape in ((4, 5, 6), (6, 7, 8)):
        pushed = engine.push(np.broadcast_to(np.float32(2.5), (4, 5, 6)), shape)
        found = engine.pull(pushed, shape)
        assert (found[:4, :5, :6] == 2.5).all()
        assert found.sum() == 2.5 * 4 * 5 * 6


def test_evaluate_may_write_into_an_operand(engine: Engine) -> None:
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    x = engine.push(a, a.shape)
    assert engine.evaluate("2.0f * x", out=x, x=x) is x
    assert np.array_equal(engine.pull(x, a.shape), 2 * a)


#: The last are so large that the CPU engine cuts them into groups of planes.
FILTERED = [
    ((5, 6, 7), (5, 6, 7)),
    ((6, 9, 8), (4, 7, 5)),
    ((9, 8), (6, 8)),
    ((21, 240, 251), (17, 200, 211)),
    ((2100, 640), (2000, 600)),
]


@pytest.mark.parametrize(("shape", "window"), FILTERED)
def test_expressions_between_filters_are_steps_one_after_the_other(
    engine: Engine, shape: tuple[int, ...], window: tuple[int, ...]
) -> None:
    """Whether what a filter has returned is read in between, or not."""
    rng = np.random.default_rng(6)
    x, q, y = (rng.random(s, np.float32) for s in (shape, shape, window))
    transfer = np.fft.rfftn(rng.random(shape) / math.prod(shape)).astype(np.complex64)

    def turned(*, one_by_one: bool) -> tuple[list[np.ndarray], float]:
        blur = engine.filter(transfer, shape, window)
        a, b, counts = engine.push(x, shape), engine.push(q, shape), engine.hold(y)
        seen = blur.forward(a)
        if one_by_one:
            total = engine.total("y * f", y=counts, f=seen)
            made = engine.evaluate("y - k * f", out=seen, y=counts, f=seen, k=0.5)
            back = blur.adjoint(made)
            after = engine.evaluate("a * (1.0f + c) - b", out=b, a=a, b=b, c=back)
            again = blur.forward(after)
        else:
            back, total = blur.adjoint_of(
                "y - k * f", "y * f", {"y": counts, "f": seen, "k": 0.5}, out=seen
            )
            again = blur.forward_of("a * (1.0f + c) - b", {"a": a, "b": b, "c": back}, out=b)
        kept = [engine.pull(again, window), engine.pull(b, shape), engine.pull(a, shape)]
        return kept, total

    expected, sum_expected = turned(one_by_one=True)
    found, total = turned(one_by_one=False)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
    assert total == pytest.approx(sum_expected, rel=1e-9)
    assert np.array_equal(found[2], x)


@pytest.mark.parametrize(("shape", "window"), FILTERED)
def test_a_filter_may_begin_with_the_adjoint_of_an_expression(
    engine: Engine, shape: tuple[int, ...], window: tuple[int, ...]
) -> None:
    """With numbers where arrays come later; what it returns goes on as what it returns later."""
    rng = np.random.default_rng(7)
    x, y = rng.random(shape, np.float32), rng.random(window, np.float32)
    transfer = np.fft.rfftn(rng.random(shape) / math.prod(shape)).astype(np.complex64)
    summed = "f - y * log(fmax(f + b, least))"
    numbers = {"f": 3.0, "b": 0.5, "least": 0.1}
    blur = engine.filter(transfer, shape, window)
    operands = {"y": engine.hold(y), **numbers}
    back, total = blur.adjoint_of("y / fmax(f + b, least)", summed, operands, out=None)
    point = engine.push(x, shape)
    after = blur.forward_of("p * c", {"p": point, "c": back}, out=point)

    whole = np.zeros(shape)
    whole[tuple(slice(n) for n in window)] = y / 3.5
    axes = range(len(shape))
    expected_back = np.fft.irfftn(np.fft.rfftn(whole) * transfer.conj(), shape, axes)
    expected = np.fft.irfftn(np.fft.rfftn(x * expected_back) * transfer, shape, axes)
    inside = expected[tuple(slice(n) for n in window)]
    assert total == pytest.approx(float((3 - y.astype(float) * math.log(3.5)).sum()), rel=1e-5)
    assert np.abs(engine.pull(after, window) - inside).max() < 1e-5 * inside.max()


@pytest.mark.parametrize("shape", [(5, 4, 6), (7, 6), (1, 5, 6)])
def test_curvature_is_minus_the_gradient_of_total_variation(
    engine: Engine, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(4).random(shape) + 1
    spacing = (3.0, 1.0, 1.5)[-len(shape) :]
    pushed = engine.push(x.astype(np.float32), shape)
    bend = engine.evaluate("1.0f * k", k=engine.curvature(pushed, spacing, 0.05))
    found = engine.pull(bend, shape)
    assert np.abs(found - reference.curvature(x, spacing, 0.05)).max() < 2e-4


def test_curvature_in_pieces_is_that_of_the_whole(cpu: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr(pieces, "LEAST", 1)
    x = np.random.default_rng(4).random((19, 11, 13)) + 1
    spacing = (3.0, 1.0, 1.5)
    bend = cpu.curvature(cpu.push(x.astype(np.float32), x.shape), spacing, 0.05)
    found = cpu.evaluate("1.0f * k", k=bend)
    assert np.abs(found - reference.tv_curvature(x, spacing, 0.05)).max() < 1e-5


def test_self_test_sees_a_working_engine(engine: Engine) -> None:
    assert self_test(engine) < 1e-6


def test_engines_side_by_side_answer_as_the_one_that_they_are_of(
    engine: Engine, asymmetric_psf: Callable[[tuple[int, ...]], Array]
) -> None:
    shape = (9, 12, 15)
    psf, x = asymmetric_psf((5, 5, 5)).astype(np.float32), np.random.default_rng(1).random(shape)

    def blurred(engine: Engine) -> Float:
        pushed = engine.push(x.astype(np.float32), shape)
        return engine.pull(engine.blur(psf, shape).forward(pushed), shape)

    others = engine.side_by_side()
    assert others
    for other in others:
        np.testing.assert_allclose(blurred(other), blurred(engine), rtol=1e-6)
