"""A cautious network: by the light, part of the result is that of Richardson-Lucy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.learned.calibration import EDGES, Calibration
from napari_deconv.learned.caution import (
    BELIEVED_SHARES,
    FILTER_SHARES,
    PHOTONS,
    SHARES,
    Leaning,
    excess_around,
    looks,
    squares_of,
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


def leaning_of(path: str, observation: Observation, engine: Engine) -> Leaning:
    """Return what the data tell of a network alone."""
    alone = run(Learned(path), observation, engine)
    usual = run(RichardsonLucy.automatic(), observation, engine)
    camera = Camera(read_noise=Light().read_noise)
    ours, theirs = (misfit_of(observation, x, camera, engine) for x in (alone, usual))
    squares = squares_of(observation, alone, usual, camera, engine)
    around = excess_around(squares, observation.psf)
    return Leaning(brightness(observation), ours.chi_squared, theirs.chi_squared, around)


def test_the_result_is_the_mixture(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    path, observation = written(tmp_path, psf), seen(psf)
    alone = run(Learned(path), observation, engine)
    usual = run(RichardsonLucy.automatic(), observation, engine)
    leaning = leaning_of(path, observation, engine)
    assert SHARES[-1] < leaning.share < SHARES[0]
    assert leaning.shares.min() >= np.float32(leaning.share)
    assert leaning.shares.max() > leaning.share + 0.1
    mixed = run(Learned(path, cautious=True), observation, engine)
    expected = leaning.shares * alone + (1 - leaning.shares) * usual
    assert mixed == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(alone.max()))
    assert not np.allclose(mixed, alone, rtol=0.01)


def test_it_is_said_how_much_is_mixed_in(tmp_path: Path, psf: Psf, engine: Engine) -> None:
    method = Learned(written(tmp_path, psf), cautious=True, missed=(2.0, 1.0))
    *_, last = method.steps(seen(psf), engine)
    told = "blurred again, the network misses the data by a chi² 2.00 times that of Richardson-Lucy"
    assert f"% of Richardson-Lucy mixed in, as {told}" in last.note
    assert f"outside its training: {told}" in last.note
    *_, last = replace(method, missed=(1.0, 1.0)).steps(seen(psf), engine)
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
    assert both.volumes > alone.volumes
    planned = about_settled(both)
    assert planned.halo(psf) is not None


@pytest.mark.parametrize(("chi", "shares"), [(0.9, (1, 1, 1)), (1.5, SHARES)])
def test_what_misses_no_more_is_believed(chi: float, shares: tuple[float, ...]) -> None:
    found = [Leaning(photons, chi, 1.0).share for photons in PHOTONS]
    assert found == pytest.approx(shares)


def test_it_leans_where_it_misses(psf: Psf) -> None:
    """There no less than its share as a whole, elsewhere less."""
    right = np.ones((20, 60, 200), np.float32)
    ours = right.copy()
    ours[..., :50] = 2.0
    around = excess_around((ours, right), psf)
    shares = Leaning(1000.0, 1.25, 1.0, around).shares
    far = looks(psf)[-1] - psf.shape[-1] // 2
    assert shares[..., : 50 - far] == pytest.approx(SHARES[-1])
    assert shares[..., 50 + far :] == pytest.approx(BELIEVED_SHARES[-1])
    assert (np.diff(shares[0, 0]) >= 0).all()
    image, usual = np.full_like(right, 3.0), right
    leaning = Leaning(1000.0, 1.25, 1.0, around)
    assert leaning.mixed(image, usual)[..., -1] == pytest.approx(1 + 2 * BELIEVED_SHARES[-1])
    assert leaning.mixed(image, usual)[..., 0] == pytest.approx(1 + 2 * SHARES[-1])
    wider = 1 + 2 * (1 - BELIEVED_SHARES[-1])
    assert leaning.widened(right, image, usual)[..., -1] == pytest.approx(wider)
    assert leaning.widened(right, image, usual)[..., 0] == pytest.approx(1 + 2 * (1 - SHARES[-1]))


def test_what_is_right_as_a_whole_is_believed_everywhere(psf: Psf) -> None:
    ours = np.ones((20, 60, 60), np.float32)
    ours[..., :9] = 2.0
    around = excess_around((ours, np.ones_like(ours)), psf)
    assert (Leaning(1000.0, 1.0, 1.0, around).shares == 1).all()


def test_the_share_falls_with_the_light_and_with_what_is_missed() -> None:
    assert Leaning(0.0, 2.0, 1.0).share == SHARES[0]
    assert Leaning(1e6, 2.0, 1.0).share == SHARES[-1]
    shares = [Leaning(100.0, chi, 1.0).share for chi in (1.0, 1.01, 1.02, 1.03, 9.0)]
    assert shares == sorted(shares, reverse=True)
    assert Leaning(100.0, 0.0, 0.0).share == 1


def test_a_filter_is_hardly_believed_whatever_it_misses() -> None:
    around = np.linspace(-0.5, 0.5, 24, dtype=np.float32).reshape(2, 3, 4)
    for photons, most in zip(PHOTONS, FILTER_SHARES, strict=True):
        leaning = Leaning(photons, 0.9, 1.0, around, is_filter=True)
        assert leaning.share == pytest.approx(most)
        assert leaning.shares == pytest.approx(most)
        assert "mixed in, as a filter alone is mostly behind it" in leaning.told()[0]


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
    assert "of Richardson-Lucy mixed in" in mixed
    assert len(more) == bool(told)
    assert told in "".join(more)
