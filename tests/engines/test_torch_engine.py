"""Expressions as kernels of a GPU, and filters on one; each device of this machine against numpy.

What is compiled for a GPU runs here as well: a stand-in for torch's compiler reads the C++ that it
is given.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.cuda import jiterator

from napari_deconv.engines import fused, self_test
from napari_deconv.engines.cpu_engine import CpuEngine
from napari_deconv.engines.expression import compiled
from napari_deconv.engines.fused import MOST_ARRAYS, TIMES_CONJUGATE, code_of
from napari_deconv.engines.torch_engine import (
    TorchEngine,
    torch_devices,
)
from napari_deconv.engines.torch_filter import CudaFilter, TorchFilter
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.engine import Float
from napari_deconv.restoration.momentum import EXTRAPOLATE, LEAP, PLAIN
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.running import ENTROPY, RATIO, VARYING
from napari_deconv.restoration.unmatched import CORRECTION, MISFIT

#: What methods evaluate, the arrays in it, and the numbers.
EXPRESSIONS: dict[str, tuple[str, str]] = {
    RATIO: ("y f", "v b least"),
    MISFIT: ("y f", "v b least"),
    VARYING: ("f y", "v b least"),
    ENTROPY: ("y", "v least"),
    "c / fmax(1.0f - t * k, 0.1f)": ("c k", "t"),
    "y / fmax(s * f, least)": ("y f", "s least"),
    "fmax(p * c, 0.0f)": ("p c", ""),
    "(n - p) * h": ("n p h", ""),
    "n": ("n", ""),
    "a + 2.0f * b": ("a b", ""),
    EXTRAPOLATE: ("x q", "a"),
    PLAIN: ("p c w", "u"),
    LEAP: ("x q c w", "o a r u"),
    CORRECTION: ("c w", "u s"),
}
#: A row of a volume on a GPU is longer than that of its window.
SHAPE, WINDOW = (9, 12, 15), (7, 10, 12)
INSIDE = tuple(slice(n) for n in WINDOW)
RUNS: list[dict[str, Any]] = [
    {},
    {"edges": "circular"},
    {"acceleration": "biggs-andrews", "read_noise": 2.0},
    {"acceleration": "heavy-ball", "tv_weight": 0.002},
]


def psf_of(kind: str) -> Float:
    at = np.indices((5, 5, 5)) - 2
    psf = np.exp(-(at**2).sum(0) / 3.0)
    if kind == "asymmetric":
        psf[0] *= 1.5
    made: Float = (psf / psf.sum()).astype(np.float32)
    return made


def operands_of(expression: str, rng: np.random.Generator) -> dict[str, Any]:
    arrays, numbers = EXPRESSIONS[expression]
    volumes = {name: rng.random(WINDOW, np.float32) + 0.5 for name in arrays.split()}
    return volumes | {name: rng.uniform(0.1, 1.0) for name in numbers.split()}


def evaluated(expression: str, operands: dict[str, Any]) -> Float:
    """Return an expression by numpy."""
    functions = {"fmax": np.fmax, "fmin": np.fmin, "log": np.log, "sqrt": np.sqrt}
    found: Float = np.asarray(eval(compiled(expression), functions, operands), np.float32)
    return found


def expected_of(expression: str, operands: dict[str, Any]) -> Float:
    return evaluated(expression, {k: np.asarray(v, np.float32) for k, v in operands.items()})


def stand_in(code: str, **defaults: float) -> Callable[..., torch.Tensor]:
    """Return what torch's compiler would, by the notation that numpy's expressions have as well."""
    found = re.fullmatch(r"template <typename T> T fused\((.+?)\) \{ return (.+); \}", code)
    assert found is not None
    names = [parameter.removeprefix("T ") for parameter in found[1].split(", ")]

    def run(*tensors: torch.Tensor, **numbers: float) -> torch.Tensor:
        assert len(tensors) <= MOST_ARRAYS
        assert all(type(value) is float for value in numbers.values())
        if found[2] == TIMES_CONJUGATE:
            return tensors[0] * tensors[1].conj()
        values: list[Any] = [*tensors, *(defaults | numbers).values()]
        given = {k: np.asarray(v, np.float32) for k, v in zip(names, values, strict=True)}
        return torch.from_numpy(np.array(evaluated(found[2], given)))

    return run


@pytest.fixture
def fusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[TorchEngine]:
    """An engine on the CPU that works as on CUDA."""
    monkeypatch.setattr(jiterator, "_create_jit_fn", stand_in)
    fused.kernel_of.cache_clear()
    engine = TorchEngine("cpu")
    engine._fuses = True
    yield engine
    fused.kernel_of.cache_clear()


@pytest.fixture(scope="module", params=torch_devices())
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    """One for each device of torch on this machine."""
    return TorchEngine(request.param)


# -- the text of a kernel --------------------------------------------------------------


def test_a_kernel_takes_arrays_and_then_numbers() -> None:
    expected = (
        "template <typename T> T fused(T y, T f, T v, T least) { return (y + v) / fmax(f, least); }"
    )
    assert code_of("(y + v) / fmax(f, least)", ("y", "f"), ("v", "least")) == expected


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_cpp_reads_numbers_as_float32(expression: str) -> None:
    """`0.1` without an f would be a double, which fmax does not take beside a float."""
    numbers = re.findall(r"(?<![\w.])\d[\d.]*\w*", expression)
    assert all(re.fullmatch(r"\d+\.\d+f", number) for number in numbers)


# -- evaluate and total ----------------------------------------------------------------


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_device_follows_the_expressions(engine: TorchEngine, expression: str) -> None:
    assert_follows(engine, expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_kernels_follow_the_expressions(fusing: TorchEngine, expression: str) -> None:
    assert_follows(fusing, expression)


def assert_follows(engine: TorchEngine, expression: str) -> None:
    """Assert it for arrays of their own, for windows, and in the place of an operand."""
    operands = operands_of(expression, np.random.default_rng(0))
    expected = expected_of(expression, operands)
    whole = {k: v for k, v in operands.items() if isinstance(v, np.ndarray)}
    windows = {k: engine.push(v, SHAPE)[INSIDE] for k, v in whole.items()}
    held = {k: engine.hold(v) for k, v in whole.items()}
    for name in whole:
        mixed = operands | held | {name: windows[name]}
        found = engine.pull(engine.evaluate(expression, **mixed), WINDOW)
        assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()
        total = expected.sum(dtype=np.float64)
        assert engine.total(expression, **mixed) == pytest.approx(total, rel=1e-6, abs=1e-4)
    for name in whole:
        place = engine.push(whole[name], SHAPE)[INSIDE]
        result = engine.evaluate(expression, out=place, **(operands | held | {name: place}))
        assert result is place
        assert np.abs(engine.pull(place, WINDOW) - expected).max() <= 2e-6 * np.abs(expected).max()
    for name, values in whole.items():
        assert np.array_equal(engine.pull(held[name], WINDOW), values)


def test_numbers_may_be_of_numpy_or_take_the_place_of_an_array(fusing: TorchEngine) -> None:
    x = fusing.hold(np.full((3, 4), 2, np.float32))
    for number in (3, np.float32(3), np.float64(3), np.int64(3)):
        found = fusing.evaluate("x * w", x=x, w=number)
        assert (fusing.pull(found, (3, 4)) == 6).all()
    assert (fusing.pull(fusing.evaluate("x * w", x=x, w=x), (3, 4)) == 4).all()


def test_more_arrays_than_a_kernel_takes_are_evaluated_as_elsewhere(fusing: TorchEngine) -> None:
    names = [f"x{i}" for i in range(MOST_ARRAYS + 1)]
    arrays = {name: fusing.hold(np.ones((2, 3), np.float32)) for name in names}
    found = fusing.evaluate(" + ".join(names), out=arrays["x0"], **arrays)
    assert found is arrays["x0"]
    assert (fusing.pull(found, (2, 3)) == len(names)).all()


def test_each_expression_is_compiled_once(
    fusing: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(code: str, **numbers: float) -> Any:
        made.append(code)
        return stand_in(code, **numbers)

    monkeypatch.setattr(jiterator, "_create_jit_fn", counted)
    x = fusing.hold(np.ones((2, 3), np.float32))
    for weight in (1.0, 2.0, x, x):
        fusing.evaluate("x * w", x=x, w=weight)
    assert len(made) == 2


def test_a_place_gives_its_memory_up(fusing: TorchEngine) -> None:
    """Of the volume that a window was cut from nothing is held."""
    flat = np.ones((*SHAPE[:-1], SHAPE[-1] // 2 + 1), np.complex64)
    blur = CudaFilter(fusing, torch.from_numpy(flat), SHAPE, WINDOW, fuses=True)
    window = blur.forward(fusing.push(np.ones(SHAPE, np.float32), SHAPE))
    assert not window.is_contiguous()
    assert window._base is None
    assert window.untyped_storage().nbytes() == 4 * np.prod(SHAPE)
    fusing.evaluate("2.0f * x", out=window, x=window)
    assert window.untyped_storage().nbytes() == 4 * np.prod(WINDOW)
    assert (fusing.pull(window, WINDOW) == 2).all()


@pytest.mark.parametrize("acceleration", ["nu-method", "none"])
def test_a_correction_makes_room_for_the_next_transform(
    fusing: TorchEngine, monkeypatch: pytest.MonkeyPatch, acceleration: Any
) -> None:
    corrections: list[weakref.ref[torch.Tensor]] = []
    held: list[bool] = []
    forward, adjoint = TorchFilter.forward, TorchFilter.adjoint

    def watched(blur: TorchFilter, x: torch.Tensor) -> torch.Tensor:
        held.extend(correction() is not None for correction in corrections)
        return forward(blur, x)

    def noted(blur: TorchFilter, x: torch.Tensor) -> torch.Tensor:
        found = adjoint(blur, x)
        corrections.append(weakref.ref(found))
        return found

    monkeypatch.setattr(TorchFilter, "forward", watched)
    monkeypatch.setattr(TorchFilter, "adjoint", noted)
    observation = observe(np.ones((4, 9, 8), np.float32), Psf(psf_of("symmetric")))
    list(RichardsonLucy(4, acceleration).steps(observation, fusing))
    assert len(corrections) == 4
    assert not any(held)


# -- whether kernels are compiled at all -----------------------------------------------


def test_a_gpu_compiles_and_nothing_else(engine: TorchEngine) -> None:
    is_nvidia = engine._target.type == "cuda" and torch.version.hip is None
    assert engine._fuses or not is_nvidia
    assert engine._target.type == "cuda" or not engine._fuses


def test_it_is_tried_before(fusing: TorchEngine) -> None:
    assert fused.compiles.__wrapped__("cpu")


def absent(code: str, **numbers: float) -> Any:
    raise RuntimeError("nvrtc: error: failed to open nvrtc-builtins64_130.dll")


def wrong(code: str, **numbers: float) -> Any:
    return lambda *tensors, **numbers: tensors[0]


@pytest.mark.parametrize("compiler", [absent, wrong, None])
def test_without_a_compiler_all_works_as_elsewhere(
    fusing: TorchEngine, monkeypatch: pytest.MonkeyPatch, compiler: Any
) -> None:
    if compiler is None:
        monkeypatch.delattr(jiterator, "_create_jit_fn")
    else:
        monkeypatch.setattr(jiterator, "_create_jit_fn", compiler)
    assert not fused.compiles.__wrapped__("cpu")


# -- filters ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_each_device_filters_as_numpy_does(engine: TorchEngine, kind: str) -> None:
    transfer = transfer_function(psf_of(kind), SHAPE)
    assert_filters(engine, engine.filter(transfer, SHAPE, WINDOW), transfer)


@pytest.mark.parametrize("fuses", [True, False])
@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_the_filter_of_cuda_filters_as_numpy_does(
    fusing: TorchEngine, kind: str, fuses: bool
) -> None:
    transfer = transfer_function(psf_of(kind), SHAPE)
    factors = torch.from_numpy(transfer.real.copy() if kind == "symmetric" else transfer)
    # In an order that is none of the spectrum's: it has to be laid out anew.
    factors = factors.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert_filters(fusing, CudaFilter(fusing, factors, SHAPE, WINDOW, fuses=fuses), transfer)


def assert_filters(engine: TorchEngine, blur: TorchFilter, transfer: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(SHAPE, np.float32), rng.random(WINDOW, np.float32)
    padded = np.zeros(SHAPE)
    padded[INSIDE] = y
    factors = transfer.astype(np.complex128)
    axes = (0, 1, 2)
    for _ in range(2):
        seen = np.fft.irfftn(np.fft.rfftn(x.astype(float)) * factors, s=SHAPE, axes=axes)[INSIDE]
        back = np.fft.irfftn(np.fft.rfftn(padded) * factors.conj(), s=SHAPE, axes=axes)
        pushed = engine.push(x, SHAPE)
        assert np.abs(engine.pull(blur.forward(pushed), WINDOW) - seen).max() < 1e-6
        assert np.array_equal(engine.pull(pushed, SHAPE), x)
        assert np.abs(engine.pull(blur.adjoint(engine.hold(y)), SHAPE) - back).max() < 1e-6


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_cuda_keeps_a_real_transfer_function_real(engine: TorchEngine, kind: str) -> None:
    blur = engine.filter(transfer_function(psf_of(kind), SHAPE), SHAPE)
    is_cuda = engine._target.type == "cuda"
    assert isinstance(blur, CudaFilter) == is_cuda
    assert blur._transfer.is_complex() != (is_cuda and kind == "symmetric")


# -- whole runs, and what they begin and end with --------------------------------------


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("settings", RUNS)
def test_each_device_restores_as_the_cpu_engine_does(
    engine: TorchEngine, settings: dict[str, Any], kind: str
) -> None:
    assert_restores(engine, settings, kind)


@pytest.mark.parametrize("settings", RUNS)
def test_kernels_restore_as_the_cpu_engine_does(
    fusing: TorchEngine, settings: dict[str, Any]
) -> None:
    assert_restores(fusing, settings, "asymmetric")


def assert_restores(engine: TorchEngine, settings: dict[str, Any], kind: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.poisson(np.where(rng.random((11, 18, 17)) > 0.98, 900.0, 9.0))
    observation = observe(image.astype(np.float32), Psf(psf_of(kind)), 1.0)
    method = RichardsonLucy(20, **settings)
    *_, expected = method.steps(observation, CpuEngine())
    *_, found = method.steps(observation, engine)
    assert expected.estimate is not None
    assert found.estimate is not None
    largest = np.abs(expected.estimate).max()
    # Biggs and Andrews weigh by differences of sums: there rounding grows.
    assert np.abs(found.estimate - expected.estimate).max() < 5e-5 * largest
    assert found.divergence == pytest.approx(expected.divergence, rel=1e-5)


def test_one_number_is_pushed_as_a_volume_of_it(engine: TorchEngine) -> None:
    flat = np.broadcast_to(np.float32(0.1), WINDOW)
    pushed = engine.pull(engine.push(flat, SHAPE), SHAPE)
    assert (pushed[INSIDE] == np.float32(0.1)).all()
    assert pushed.sum() == pytest.approx(0.1 * np.prod(WINDOW))


def test_what_is_pulled_is_a_copy(engine: TorchEngine) -> None:
    x = engine.push(np.ones(WINDOW, np.float32), SHAPE)
    pulled = engine.pull(x, WINDOW)
    pulled[...] = 7
    assert pulled.flags.c_contiguous
    assert (engine.pull(x, WINDOW) == 1).all()


def test_the_self_test_sees_that_each_device_works(engine: TorchEngine) -> None:
    assert self_test(engine) < 1e-6
