"""What every method must obey, on every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.blur import Edges
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation, Restorer
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Wiener

from . import reference

Array = npt.NDArray[np.float64]
MakePsf = Callable[[tuple[int, ...]], Array]
MakeImage = Callable[[tuple[int, ...]], Array]

METHODS: list[Restorer] = [
    RichardsonLucy(12, acceleration="none"),
    RichardsonLucy(12, acceleration="heavy-ball"),
    RichardsonLucy(12, acceleration="biggs-andrews"),
    RichardsonLucy(12, acceleration="wiener-butterworth"),
    RichardsonLucy(12, acceleration="otf-masked-wiener"),
    RichardsonLucy(12, tv_weight=0.002),
    RichardsonLucy(12, edges="circular"),
    RichardsonLucy(12, read_noise=2.0),
    Wiener(),
    Wiener(regularization=0.01, edges="circular"),
]
#: Those that sums over the whole image steer, until they are settled.
STEERED: list[Restorer] = [
    RichardsonLucy(20, stop_tolerance=0.02),
    RichardsonLucy(20, acceleration="biggs-andrews", stop_tolerance=0.02),
    RichardsonLucy(20, automatic_stop=True),
]
#: Those that reach the input at once: smoothing never does, and with read noise the steps
#: towards a dim voxel become small.
EXACT = [
    method
    for method in METHODS
    if not getattr(method, "tv_weight", 0) and not getattr(method, "read_noise", 0)
]
#: One shape for most tests: a driver that compiles its transforms does so for each new one.
SHAPE, PSF_SHAPE = (9, 12, 15), (3, 5, 4)
CIRCULAR = [
    RichardsonLucy(12, acceleration="none", edges="circular"),
    RichardsonLucy(12, edges="circular"),
    RichardsonLucy(12, acceleration="biggs-andrews", edges="circular"),
    Wiener(regularization=0.01, edges="circular"),
]


def run(
    method: Restorer, image: npt.NDArray[Any], psf: Array, engine: Engine, background: float = 0.0
) -> npt.NDArray[np.float32]:
    *_, last = method.steps(observe(image, Psf(psf), background), engine)
    assert last.estimate is not None
    return last.estimate


@pytest.mark.parametrize("method", EXACT, ids=str)
@pytest.mark.parametrize(
    ("shape", "side"),
    [(SHAPE, 1), (SHAPE, 3), ((8, 16, 10), 1), ((14, 9), 1), ((15, 13), 3)],
)
def test_identity_psf_returns_the_input(
    method: Restorer,
    shape: tuple[int, ...],
    side: int,
    engine: Engine,
    photons: MakeImage,
) -> None:
    image = photons(shape)
    delta = np.zeros((side,) * len(shape))
    delta[(side // 2,) * len(shape)] = 1
    result = run(method, image, delta, engine)
    assert np.abs(result - image).max() < 2e-6 * image.max()


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("background", [0.0, 3.0])
@pytest.mark.parametrize("shape", [(14, 20, 17), (24, 31), (6, 20, 18)])
def test_richardson_lucy_agrees_with_float64(
    engine: Engine,
    asymmetric_psf: MakePsf,
    photons: MakeImage,
    circular: bool,
    background: float,
    shape: tuple[int, ...],
) -> None:
    """The last shape is thinner than the PSF."""
    image, psf = photons(shape), asymmetric_psf((9, 7, 8)[-len(shape) :])
    edges: Edges = "circular" if circular else "non-circulant"
    method = RichardsonLucy(20, acceleration="none", edges=edges)
    found = run(method, image, psf, engine, background)
    expected = reference.richardson_lucy(image, psf, 20, background=background, circular=circular)
    tolerance = 1e-5 if engine.name == "cpu" else 1e-4
    assert np.abs(found - expected).max() < tolerance * expected.max()


def test_wiener_agrees_with_float64(
    engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    found = run(Wiener(regularization=0.01, edges="circular"), image, psf, engine)
    expected = reference.wiener(image, psf, 0.01)
    assert np.abs(found - expected).max() < 1e-5 * expected.max()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_engines_agree(
    method: Restorer, engine: Engine, cpu: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image, psf = photons(SHAPE), asymmetric_psf(PSF_SHAPE)
    found, expected = run(method, image, psf, engine), run(method, image, psf, cpu)
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("shape", [SHAPE, (8, 16, 10), (14, 9), (1, 14, 9)])
def test_shape_dtype_and_input_are_kept(
    method: Restorer,
    shape: tuple[int, ...],
    engine: Engine,
    asymmetric_psf: MakePsf,
    photons: MakeImage,
) -> None:
    image = photons(shape).astype(np.uint16)
    before = image.copy()
    result = run(method, image, asymmetric_psf(PSF_SHAPE[-len(shape) :]), engine)
    assert result.shape == shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert np.array_equal(image, before)


@pytest.mark.parametrize("method", CIRCULAR, ids=str)
def test_flux_is_kept(
    method: Restorer, engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image = photons(SHAPE)
    result = run(method, image, asymmetric_psf(PSF_SHAPE), engine)
    assert result.sum(dtype=np.float64) == pytest.approx(image.sum(), rel=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("shape", [(15, 21, 19), (16, 20, 18)])
def test_centroid_of_a_symmetric_object_is_kept(
    method: Restorer, shape: tuple[int, ...], engine: Engine
) -> None:
    places = np.indices(shape, dtype=float)
    centre = [(n - 1) / 2 for n in shape]
    r2 = sum((place - c) ** 2 for place, c in zip(places, centre, strict=True))
    image = 500 * np.exp(-np.asarray(r2) / 8)
    kernel = np.indices((7,) * len(shape), dtype=float) - 3
    psf = np.exp(-(kernel**2).sum(0) / 3)
    result = run(method, image, psf, engine)
    found = [float((p * result).sum() / result.sum()) for p in places]
    assert found == pytest.approx(centre, abs=0.01)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_point_is_restored_where_it_was(
    method: Restorer, engine: Engine, asymmetric_psf: MakePsf
) -> None:
    """Blur a point with the asymmetric PSF by its definition; the peak must come back."""
    psf = asymmetric_psf(PSF_SHAPE)
    image = np.zeros(SHAPE)
    place = (4, 7, 8)
    for index in np.ndindex(psf.shape):
        image[tuple(p + i - n // 2 for p, i, n in zip(place, index, psf.shape, strict=True))] += (
            1000 * psf[index]
        )
    result = run(method, image, psf, engine)
    assert result[place] == result.max()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_zeros_stay_zeros(method: Restorer, engine: Engine, asymmetric_psf: MakePsf) -> None:
    assert not run(method, np.zeros((7, 8, 9)), asymmetric_psf((3, 3, 3)), engine).any()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_constant_stays_constant(
    method: Restorer, engine: Engine, asymmetric_psf: MakePsf
) -> None:
    """No rim: light is neither lost at the edges nor gathered there."""
    result = run(method, np.full(SHAPE, 50.0), asymmetric_psf(PSF_SHAPE), engine)
    assert np.abs(result - 50).max() < 1e-4 * 50


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_psf_larger_than_the_image(
    method: Restorer, engine: Engine, asymmetric_psf: MakePsf, photons: MakeImage
) -> None:
    image = photons((4, 9, 10))
    result = run(method, image, asymmetric_psf((9, 15, 15)), engine)
    assert result.shape == image.shape
    assert np.isfinite(result).all()
    assert result.max() > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_refused(bad: float) -> None:
    image = np.ones((5, 6, 7))
    image[2, 3, 4] = bad
    with pytest.raises(InputError, match="1 NaN or infinite"):
        observe(image, Psf(np.ones((1, 1, 1))))


def test_negative_values_are_clipped_counted_and_said() -> None:
    image = np.ones((5, 6, 7))
    image[0, 0, :3] = -2
    seen = observe(image, Psf(np.ones((1, 1, 1))))
    assert seen.image.min() == 0
    assert "3 negative values" in seen.notes[0]


@pytest.mark.parametrize("method", [*METHODS, *STEERED], ids=str)
def test_a_piece_with_its_halo_is_restored_as_in_the_whole(
    method: Restorer, engine: Engine, asymmetric_psf: MakePsf
) -> None:
    """To a thousandth of the maximum: tiles leave no seams."""
    rng = np.random.default_rng(5)
    image = rng.poisson(np.where(rng.random((6, 24, 160)) > 0.98, 900, 30)).astype(np.float32)
    psf = Psf(asymmetric_psf(PSF_SHAPE))
    seen = observe(image, psf, 10.0)
    settled = method.settled([seen], engine)
    halo = settled.halo(psf)
    assert halo is not None
    start, stop = 60, 90
    read = slice(start - halo[-1], stop + halo[-1])
    assert read.start >= 0
    assert read.stop <= 160
    piece = observe(image[..., read], psf, 10.0, whole_mean=float(image.mean()))
    whole, part = _estimate(settled, seen, engine), _estimate(settled, piece, engine)
    error = np.abs(part[..., halo[-1] : -halo[-1]] - whole[..., start:stop]).max()
    assert error < 1e-3 * whole.max()


def _estimate(
    method: Restorer, observation: Observation, engine: Engine
) -> npt.NDArray[np.float32]:
    *_, last = method.steps(observation, engine)
    assert last.estimate is not None
    return last.estimate
