"""A cautious network: by the light, part of the result is that of Richardson-Lucy."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.learned.calibration import EDGES, Calibration
from napari_deconv.learned.caution import (
    GONE_ON,
    GONE_ON_OF_POINTS,
    NETWORK,
    NETWORK_OF_POINTS,
    OF_A_FILTER,
    PHOTONS,
    PHOTONS_OF_POINTS,
    Leaning,
    compared,
    going_on,
    points_in,
)
from napari_deconv.learned.designs import UNetDesign
from napari_deconv.learned.inputs import INVERSE_CHANNELS, brightness
from napari_deconv.learned.model_file import Card, Model, write_model
from napari_deconv.learned.network import DISAGREEMENT, HALF_90, Learned
from napari_deconv.learned.pairs import Light
from napari_deconv.methods import about_settled
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.misfit import misfit_of
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

POOLS = ((1, 2, 2), (2, 2, 2))


def seen(psf: Psf, shape: tuple[int, ...] = (9, 30, 40)) -> Observation:
    rng = np.random.default_rng(5)
    image = rng.poisson(np.where(rng.random(shape) > 0.98, 900, 30)).astype(np.float32)
    return observe(image, psf, 10.0)


def written(path: Path, psf: Psf, channels: tuple[str, ...] = INVERSE_CHANNELS) -> str:
    """Return a model with random weights."""
    torch.manual_seed(0)
    design = UNetDesign(channels, POOLS, first=3)
    network = design.network()
    for values in network.parameters():
        torch.nn.init.normal_(values, 0, 0.2)
    count = len(EDGES) + 1
    found = Calibration((1.0,) * count, (2.0,) * count)
    card = Card("test", design, Light(), psf.spacing_um, calibration=found)
    return str(write_model(path / "m.safetensors", Model(card, (network,), (psf,))))


def run(method: Learned | RichardsonLucy, observation: Observation, engine: Engine) -> np.ndarray:
    *_, last = method.steps(observation, engine)
    assert last.estimate is not None
    assert last.done == last.total or isinstance(method, RichardsonLucy)
    return last.estimate


def test_the_result_is_the_mixture(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    path, observation = written(tmp_path, psf), seen(psf)
    alone = run(Learned(path), observation, engine)
    usual = RichardsonLucy.automatic().settled([observation], engine)
    *_, last = usual.steps(observation, engine, beyond=True)
    start = last.estimate
    assert start is not None
    inside = tuple(slice(n) for n in alone.shape)
    theirs, start[inside] = start[inside].copy(), alone
    *_, last = going_on(usual).steps(observation, engine, start)
    gone_on = last.estimate
    assert gone_on is not None
    network, further = Leaning(brightness(observation), 1.0, 1.0).shares
    mixed = run(Learned(path, cautious=True), observation, engine)
    expected = network * alone + further * gone_on + (1 - network - further) * theirs
    assert mixed == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(alone.max()))
    assert not np.allclose(mixed, alone, rtol=0.01)


def test_its_progress_does_not_go_back(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method = Learned(written(tmp_path, psf), cautious=True)
    done = [step.done for step in method.steps(seen(psf), engine)]
    assert done == sorted(done)


def test_it_goes_on_for_most_of_the_usual_iterations() -> None:
    assert going_on(RichardsonLucy(40)).iterations == 30
    assert going_on(RichardsonLucy(1)).iterations == 1


def test_how_much_either_misses_is_their_chi_squared(psf: Psf, engine: Engine) -> None:
    observation, camera = seen(psf), Camera(read_noise=Light().read_noise)
    images = [np.full(observation.image.shape, level, np.float32) for level in (20.0, 30.0)]
    expected = [misfit_of(observation, x, camera, engine).chi_squared for x in images]
    assert compared(observation, images[0], images[1], camera, engine)[:2] == pytest.approx(
        expected
    )


def test_it_is_said_how_much_is_mixed_in(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method = Learned(written(tmp_path, psf), cautious=True, compared=(2.0, 1.0, 0.0))
    *_, last = method.steps(seen(psf), engine)
    assert "of the network" in last.note
    assert "of Richardson-Lucy that has gone on from it" in last.note
    told = "blurred again, the network misses the data by a chi² 2.00 times that of Richardson-Lucy"
    assert f"outside its training: {told}" in last.note
    *_, last = replace(method, compared=(1.0, 1.0, 0.0)).steps(seen(psf), engine)
    assert "outside its training: blurred" not in last.note


def test_an_interval_around_the_mixture_holds_the_networks(
    tmp_path: Path, psf: Psf, engine: Engine
) -> None:
    path, observation = written(tmp_path, psf), seen(psf)
    alone, mixed = (
        run(Learned(path, cautious=cautious), observation, engine) for cautious in (False, True)
    )
    narrow, wide = (
        run(Learned(path, HALF_90, cautious=cautious), observation, engine)
        for cautious in (False, True)
    )
    rounding = 1e-4 * float(alone.max())
    assert (mixed + wide >= alone + narrow - rounding).all()
    assert (mixed - wide <= alone - narrow + rounding).all()


def test_a_piece_is_mixed_as_in_the_whole(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method = Learned(written(tmp_path, psf), cautious=True)
    observation = seen(psf, (9, 24, 400))
    assert method.halo(psf) is None
    settled = method.settled([observation], engine)
    assert settled.usual is not None
    assert not settled.usual.automatic_stop
    halo = settled.halo(psf)
    assert halo is not None
    begin, end = 180 - halo[-1], 220 + halo[-1]
    assert begin > 0
    piece = observe(
        observation.image[..., begin:end],
        psf,
        10.0,
        whole_mean=float(observation.image.mean()),
        start=(0, 0, begin),
    )
    whole = run(settled, observation, engine)[..., 183:220]
    part = run(settled, piece, engine)[..., 183 - begin : 220 - begin]
    assert float(np.abs(part - whole).max()) < 1e-3 * float(whole.max())


def test_only_what_undoes_a_blur_leans(tmp_path: Path, psf: Psf) -> None:
    path = written(tmp_path, psf)
    assert Learned(path).leans_on is None
    assert Learned(path, cautious=True).leans_on == RichardsonLucy.automatic()
    assert Learned(path, DISAGREEMENT, mirrored=True, cautious=True).leans_on is None
    (tmp_path / "care").mkdir()
    care = written(tmp_path / "care", psf, ("image",))
    assert Learned(care, cautious=True).leans_on is None


def test_it_plans_for_both(tmp_path: Path, psf: Psf) -> None:
    alone = Learned(written(tmp_path, psf))
    both = replace(alone, cautious=True)
    assert both.transforms > alone.transforms
    assert both.fixed_bytes > alone.fixed_bytes
    assert both.volumes >= alone.volumes
    planned = about_settled(both)
    assert planned.halo(psf) is not None


@pytest.mark.parametrize("channels", [("heavy-ball 2", "image"), INVERSE_CHANNELS])
def test_the_memory_of_a_run_is_as_said(
    tmp_path: Path, psf: Psf, cpu: Engine, channels: tuple[str, ...]
) -> None:
    """At the peak, in padded volumes, whether the channels need the most or what comes after."""
    usual = RichardsonLucy(3, edges=RichardsonLucy.automatic().edges)
    method = Learned(written(tmp_path, psf, channels), cautious=True, usual=usual)
    observation = seen(psf, (20, 160, 160))
    run(method, observation, cpu)
    tracemalloc.start()
    try:
        run(method, observation, cpu)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    shape = method.work_shape(observation.image.shape, psf.shape)
    held = (peak + observation.image.nbytes) / (4 * math.prod(shape))
    assert 0.75 * method.volumes < held < 1.05 * method.volumes


@pytest.mark.parametrize("is_filter", [False, True])
def test_the_shares_go_by_the_light(is_filter: bool) -> None:
    part = OF_A_FILTER if is_filter else 1.0
    for photons, network, gone_on in zip(PHOTONS, NETWORK, GONE_ON, strict=True):
        shares = Leaning(photons, 1.3, 1.0, 0.0, is_filter).shares
        assert shares == pytest.approx((part * network, part * gone_on))
        assert sum(shares) < 1
    darkest, brightest = (Leaning(photons, 1.0, 1.0, 0.0, is_filter) for photons in (0.0, 1e6))
    assert darkest.shares == pytest.approx((part * NETWORK[0], part * GONE_ON[0]))
    assert brightest.shares == pytest.approx((part * NETWORK[-1], part * GONE_ON[-1]))
    between = Leaning(55.0, 1.0, 1.0, 0.0, is_filter).shares[0]
    assert part * NETWORK[1] < between < part * NETWORK[0]


def test_of_points_hardly_anything_is_the_networks() -> None:
    for photons, network, gone_on in zip(
        PHOTONS_OF_POINTS, NETWORK_OF_POINTS, GONE_ON_OF_POINTS, strict=True
    ):
        assert Leaning(photons, 1.0, 1.0, 1.0).shares == pytest.approx((network, gone_on))
    half = Leaning(100.0, 1.0, 1.0, 0.5).shares
    assert half == pytest.approx((NETWORK[1] / 2, (GONE_ON[1] + GONE_ON_OF_POINTS[1]) / 2))
    assert Leaning(1e4, 1.0, 1.0, 1.0).shares == (NETWORK_OF_POINTS[1], GONE_ON_OF_POINTS[1])


@pytest.mark.parametrize("shape", [(12, 40, 50), (40, 50), (1, 40, 50), (3, 40, 50)])
def test_points_are_told_from_lines_and_planes(shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.float32)
    assert points_in(image) == 0
    image[(shape[0] // 2,) * (len(shape) - 2)][5::9, 5::9] = 7
    assert points_in(image) == 1
    line = np.zeros(shape, np.float32)
    line[(shape[0] // 2,) * (len(shape) - 2)][20] = 7
    assert points_in(line) < 0.1
    assert points_in(np.ones(shape, np.float32)) == 0
    assert 0 < points_in(image + 3 * np.roll(image, 1, -1) + np.roll(image, 1, -2)) < 1


@pytest.mark.parametrize(
    ("photons", "chi", "told"),
    [
        (20.0, 1.05, "20 photons do not tell"),
        (20.0, 1.15, "outside its training"),
        (100.0, 1.05, ""),
        (100.0, 1.15, "outside its training"),
        (1000.0, 1.45, ""),
        (1000.0, 1.55, "outside its training"),
    ],
)
def test_what_it_has_hardly_seen_is_told_or_that_nothing_tells_it(
    photons: float, chi: float, told: str
) -> None:
    """The more light, the more does what is wrong by a part stand out."""
    mixed, *more = Leaning(photons, chi, 1.0).told()
    assert "of Richardson-Lucy alone" in mixed
    assert len(more) == bool(told)
    assert told in "".join(more)
