"""The first iterations with an unmatched back projector, and when they end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.restoration.back_projectors import (
    directions,
    masked_wiener,
    rim_of,
    wiener_butterworth,
)
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Observation
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.unmatched import MOST, UnmatchedRun

SHAPE = (16, 40, 36)


def gaussian(sigmas: tuple[float, ...], sides: tuple[int, ...]) -> Psf:
    at = np.meshgrid(*(np.arange(n) - n // 2 for n in sides), indexing="ij")
    return Psf(np.exp(-sum((x / s) ** 2 for x, s in zip(at, sigmas, strict=True)) / 2))


PSF = gaussian((1.5, 1.8, 1.8), (9, 13, 13))


def balls(photons: float) -> tuple[Observation, Any]:
    """Return small balls that are imaged, and the balls; the brightest voxel of so many photons."""
    rng = np.random.default_rng(5)
    truth = np.zeros(SHAPE)
    truth[tuple(rng.integers(4, n - 4, 25) for n in SHAPE)] = rng.uniform(0.3, 1, 25)
    truth = gaussian_filter(truth, 1)
    transfer = transfer_function(PSF.samples, SHAPE)
    blurred = np.fft.irfftn(np.fft.rfftn(truth) * transfer, SHAPE, range(3))
    scale = photons / blurred.max()
    counts = rng.poisson(np.maximum(blurred, 0) * scale + 2)
    return observe(counts, PSF, 2.0), truth * scale


def likeness(method: RichardsonLucy, observation: Observation, truth: Any, cpu: Engine) -> float:
    *_, last = method.steps(observation, cpu)
    assert last.estimate is not None
    return float(np.corrcoef(last.estimate.ravel(), truth.ravel())[0, 1])


def test_three_iterations_are_worth_twice_as_many_plain_ones(cpu: Engine) -> None:
    observation, truth = balls(1000)
    sharp = likeness(RichardsonLucy(3, "wiener-butterworth"), observation, truth, cpu)
    assert sharp > likeness(RichardsonLucy(6, "none"), observation, truth, cpu)
    assert sharp > likeness(RichardsonLucy(4), observation, truth, cpu)


def test_it_is_left_when_the_likelihood_falls_which_then_rises(cpu: Engine) -> None:
    """Few photons and many iterations: what is left converges as the nu-method does."""
    observation, _ = balls(30)
    run = UnmatchedRun(RichardsonLucy(40, "wiener-butterworth"), observation, cpu)
    divergences = np.array([run.update() for _ in range(40)])
    assert run.back is None
    assert 0 < run.done <= MOST
    ahead = divergences[: run.done]
    assert (np.diff(ahead) < 0).all()
    *_, usual = RichardsonLucy(40).steps(observation, cpu)
    assert usual.divergence is not None
    assert divergences[-1] < 1.02 * usual.divergence
    assert np.diff(divergences[run.done + 1 :]).max() < 1e-3 * divergences[-1]


def test_pieces_leave_it_where_the_whole_does(cpu: Engine) -> None:
    observation, _ = balls(100)
    method = RichardsonLucy(12, "wiener-butterworth")
    assert method.halo(PSF) is None
    settled = method.settled([observation], cpu)
    run = UnmatchedRun(method, observation, cpu)
    for _ in range(12):
        run.update()
    assert settled.unmatched == run.done
    assert settled.halo(PSF) is not None
    *_, expected = method.steps(observation, cpu)
    *_, found = settled.steps(observation, cpu)
    assert np.array_equal(found.estimate, expected.estimate)  # type: ignore[arg-type]


def test_a_given_number_is_kept_whatever_the_likelihood_does(cpu: Engine) -> None:
    observation, _ = balls(30)
    for count in (0, 2, MOST + 3):
        method = RichardsonLucy(20, "wiener-butterworth", unmatched=count)
        run = UnmatchedRun(method, observation, cpu)
        for _ in range(20):
            run.update()
        assert run.done == count


def test_smoothing_takes_the_heavy_ball(cpu: Engine) -> None:
    observation, _ = balls(100)
    *_, found = RichardsonLucy(6, "wiener-butterworth", tv_weight=0.01).steps(observation, cpu)
    *_, expected = RichardsonLucy(6, "heavy-ball", tv_weight=0.01).steps(observation, cpu)
    assert np.array_equal(found.estimate, expected.estimate)  # type: ignore[arg-type]


def test_the_filter_undoes_the_blur_up_to_the_resolution() -> None:
    transfer = wiener_butterworth(PSF.samples, (18, 45, 48))
    otf = np.fft.rfftn(np.pad(PSF.samples, [(0, 9), (0, 32), (0, 35)]))
    gain = np.abs(otf * transfer)
    assert gain.flat[0] == pytest.approx(1, abs=1e-6)
    assert gain[0, 0].max() < 1.001
    # In x: half of the resolution, and twice that.
    width = 2.3548 * 1.8
    near, far = (round(48 * part / width) for part in (0.5, 2.0))
    power = np.abs(otf[0, 0]) ** 2
    wiener = 1.1 * power / (power + 0.1)
    assert gain[0, 0, near] == pytest.approx(wiener[near], rel=1e-3)
    assert gain[0, 0, far] < 1e-3


def sheet(tilt: float) -> Psf:
    """Return a PSF that passes frequencies along a tilted line far, and little beside it."""
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (21, 25, 27)), indexing="ij")
    along, across = np.cos(tilt) * z + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * z
    return Psf(np.exp(-((along / 1.0) ** 2 + (across / 3.0) ** 2 + (x / 2.0) ** 2) / 2))


@pytest.mark.parametrize("tilt", [0.0, 0.6, -0.6])
def test_the_mask_follows_what_is_passed(tilt: float) -> None:
    """Also where that lies across the axes, which no widths along them tell."""
    psf, shape = sheet(tilt).samples, (40, 48, 50)
    transfer = masked_wiener(psf, shape)
    assert transfer.flat[0] == pytest.approx(1, abs=1e-5)
    z, y = np.meshgrid(np.fft.fftfreq(40), np.fft.fftfreq(48), indexing="ij")
    along, across = np.cos(tilt) * z + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * z
    kept = np.abs(transfer[..., 0]) > 0
    # A Gaussian passes to the inverse of its width, so to three times as far along the line.
    reach_along, reach_across = (np.abs(way[kept]).max() for way in (along, across))
    assert reach_along > 2 * reach_across
    assert kept[(np.abs(along) < 0.1) & (np.abs(across) < 0.03)].all()
    assert not kept[np.abs(across) > 0.25].any()


def test_the_mask_leaves_out_what_does_not_hang_together_with_it() -> None:
    """A ripple is as strong as what the PSF passes, and far from it."""
    ripple = 3e-4 * np.cos(2 * np.pi * 5 / 13 * np.arange(13)).astype(np.float32)
    rippled = PSF.samples + ripple
    strength = np.abs(np.fft.fftn(rippled))
    assert strength[0, 0, 5] > np.quantile(strength, 0.95)
    expected, faces = rim_of(PSF.samples)
    found, _ = rim_of(rippled)
    assert faces.shape == (63, 3)
    assert found == pytest.approx(expected)


def test_directions_are_spread_over_half_a_sphere() -> None:
    for axes in (2, 3):
        ways = directions(axes)
        assert np.linalg.norm(ways, axis=1) == pytest.approx(1)
        cosines = np.abs(ways @ ways.T) - np.eye(len(ways))
        assert cosines.max() < np.cos(np.radians(8))
        random = np.random.default_rng(0).normal(size=(500, axes))
        random /= np.linalg.norm(random, axis=1)[:, None]
        # Nowhere is the next one far.
        assert np.abs(random @ ways.T).max(1).min() > np.cos(np.radians(20))


@pytest.mark.parametrize("count", [-1, 1.5, "three"])
def test_a_number_of_iterations_is_whole(count: Any) -> None:
    with pytest.raises(InputError, match="unmatched back projector must be a whole number"):
        RichardsonLucy(unmatched=count)
