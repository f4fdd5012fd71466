"""Training: it learns, the same each time, goes on from a checkpoint, and ends in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_deconv.imaging.brightness import brightness_of
from napari_deconv.imaging.camera import Camera
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.structures import OF_CELLS
from napari_deconv.imaging.thinning import thinned
from napari_deconv.imaging.value import InputError
from napari_deconv.learned import trainer as module
from napari_deconv.learned import training as module_of_training
from napari_deconv.learned.designs import inverse_design
from napari_deconv.learned.inputs import INVERSE_CHANNELS
from napari_deconv.learned.lessons import Lessons
from napari_deconv.learned.losses import loss_of
from napari_deconv.learned.model_file import Model
from napari_deconv.learned.nets import half_precision
from napari_deconv.learned.pairs import (
    Light,
    Pair,
    pieces_of,
    simulated_pair,
    simulated_pairs,
    twin_of,
)
from napari_deconv.learned.samples import Sample, Shelf, batch_of, sample_of, symmetric_axes
from napari_deconv.learned.trainer import Schedule
from napari_deconv.learned.training import TrainingStep, training
from napari_deconv.library_words import loss_in_words
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.observing import observe
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended

SHORT = Schedule(
    pairs=3, left_out=1, shape=(6, 24, 24), patch=(4, 16, 16), batch=2, steps=12, seed=3
)
LIGHT = Light(photons=(50.0, 200.0), background=(5.0, 10.0))


@pytest.fixture
def psf() -> Psf:
    z, y, x = np.ogrid[-1:2, -3:4, -3:4]
    return Psf(np.exp(-(z**2 + y**2 + (x - 0.3) ** 2) / 3), (0.2, 0.1, 0.1))


def run(psf: Psf, engine: Engine, schedule: Schedule, **more: Any) -> Generator[Step, Any, Model]:
    design = inverse_design(psf, first=4, laplace=more.pop("laplace", False))
    return training(Lessons([psf], LIGHT), design, schedule, engine, **more)


def weights(model: Model) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.network.state_dict().values()])


def followed(steps: Generator[Step, Any, Model]) -> tuple[list[Step], Model]:
    seen = []
    try:
        while True:
            seen.append(next(steps))
    except StopIteration as end:
        return seen, end.value


def left_out_losses(steps: list[Step]) -> list[float]:
    taught = [step for step in steps if isinstance(step, TrainingStep)]
    return [step.left_out_loss for step in taught if step.left_out_loss is not None]


def test_a_pair_is_blurred_truth_with_its_photons(psf: Psf) -> None:
    light = Light(photons=(1e6, 1e6), background=(0.0, 0.0), read_noise=0.0)
    pair = simulated_pair((8, 40, 40), psf, light, np.random.default_rng(1))
    assert pair.counts.max() == pytest.approx(1e6, rel=0.01)
    inner = np.s_[1:-1, 3:-3, 3:-3]
    from scipy.ndimage import convolve

    blurred = convolve(pair.truth, psf.samples, mode="constant")
    assert np.abs(blurred - pair.counts)[inner].max() < 0.01 * 1e6


def test_pairs_do_not_depend_on_how_many_there_are(psf: Psf) -> None:
    few, many = (list(simulated_pairs(range(n), (4, 9, 9), [psf], LIGHT, 7)) for n in (2, 4))
    for one, other in zip(few, many, strict=False):
        assert np.array_equal(one.counts, other.counts)
    assert not np.array_equal(many[0].counts, many[1].counts)


@pytest.mark.parametrize(
    ("light", "sentence"),
    [
        ({"photons": (9.0, 3.0)}, "The range of the photons must be two numbers from 0.001 on"),
        ({"background": (-1.0, 3.0)}, "The range of the background must be two numbers from 0 on"),
        ({"read_noise": -1.0}, "The read noise"),
        ({"kinds": ("trees",)}, "The structure 'trees' is not known; choose of shells,"),
    ],
)
def test_light_is_checked(light: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Light(**light)


def test_a_network_sees_channels_of_one_scale(psf: Psf, engine: Engine) -> None:
    design = inverse_design(psf)
    (pair,) = simulated_pairs(range(1), (6, 24, 24), [psf], LIGHT, 0)
    sample = sample_of(pair, psf, design, engine)
    assert sample.channels.shape == (len(INVERSE_CHANNELS), 6, 24, 24)
    image = sample.channels[INVERSE_CHANNELS.index("image")]
    assert brightness_of(image) == pytest.approx(1, rel=1e-5)
    assert sample.bright == pytest.approx(brightness_of(pair.counts) - pair.background, rel=1e-4)
    noise = sample.channels[INVERSE_CHANNELS.index("noise")]
    assert np.ptp(noise) == 0


def test_fractions_of_a_count_are_seen_as_counts(psf: Psf, engine: Engine) -> None:
    (pair,) = simulated_pairs(range(1), (6, 24, 24), [psf], LIGHT, 0)
    part = 1e-5
    counts, truth = (np.float32(part) * values for values in (pair.counts, pair.truth))
    told = replace(pair, counts=counts, truth=truth, background=part * pair.background)
    seen, as_counts = (
        sample_of(one, psf, inverse_design(psf), engine, gain)
        for one, gain in ((told, part), (pair, 1.0))
    )
    np.testing.assert_allclose(seen.channels, as_counts.channels, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(seen.truth, as_counts.truth, rtol=1e-3, atol=1e-4)


def test_it_learns(psf: Psf, engine: Engine) -> None:
    """What was left out is restored better than by what the network starts from."""
    schedule = Schedule(pairs=20, left_out=4, shape=(8, 40, 40), patch=(8, 24, 24), steps=150)
    design, light = inverse_design(psf, first=6), replace(LIGHT, photons=(10.0, 20.0))
    steps, model = followed(training(Lessons([psf], light), design, schedule, engine))
    losses = left_out_losses(steps)
    assert model.card.validation == pytest.approx(min(losses))
    pairs = list(simulated_pairs(range(24), schedule.shape, [psf], light, schedule.seed))[20:]
    before = np.mean([_loss_before(sample_of(pair, psf, design, engine)) for pair in pairs])
    assert model.card.validation < 0.95 * before


def _loss_before(sample: Sample) -> float:
    first, truth = torch.tensor(sample.channels[None, :1]), torch.tensor(sample.truth[None, None])
    return float(loss_of(first, truth, error=torch.tensor([sample.error])))


@pytest.mark.parametrize("laplace", [False, True])
def test_the_same_seed_gives_the_same_weights(psf: Psf, engine: Engine, laplace: bool) -> None:
    first, again = (ended(run(psf, engine, SHORT, laplace=laplace)) for _ in range(2))
    assert torch.equal(weights(first), weights(again))
    other = ended(run(psf, engine, replace(SHORT, seed=4), laplace=laplace))
    assert not torch.equal(weights(first), weights(other))


def test_an_ended_training_goes_on_as_if_it_had_not_been(
    psf: Psf, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_of_training, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(module, "LOOK_EVERY", 3)
    whole = ended(run(psf, engine, SHORT))
    path = tmp_path / "training.safetensors"
    steps = run(psf, engine, SHORT, checkpoint=path)
    while next(steps).done < 8:
        pass
    steps.close()  # the last step is kept
    seen, resumed = followed(run(psf, engine, SHORT, checkpoint=path))
    assert min(step.done for step in seen if step.done) == 9
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.card.validation == whole.card.validation
    with pytest.raises(InputError, match=r"training\.safetensors is of a training with other sett"):
        ended(run(psf, engine, replace(SHORT, steps=13), checkpoint=path))


@pytest.mark.parametrize("where", ["forward", "look"])
def test_what_is_interrupted_keeps_whole_steps_alone(
    psf: Psf, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """In the middle of a step the state is that of the step before; in a look it is of none."""
    monkeypatch.setattr(module, "LOOK_EVERY", 4)
    whole, path = ended(run(psf, engine, SHORT)), tmp_path / "c.safetensors"
    steps = run(psf, engine, SHORT, checkpoint=path)
    assert next(steps).done == 0
    while next(steps).done < 3:
        pass
    with monkeypatch.context() as patch:
        if where == "forward":
            patch.setattr(module, "loss_of", _interrupted)
        else:
            patch.setattr(module.Trainer, "_look", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(steps)
    assert path.exists() == (where == "forward")
    seen, resumed = followed(run(psf, engine, SHORT, checkpoint=path))
    assert min(step.done for step in seen if step.done) == (4 if where == "forward" else 1)
    assert torch.equal(weights(resumed), weights(whole))


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_ended_as_pairs_are_made_keeps_nothing(
    psf: Psf, engine: Engine, tmp_path: Path
) -> None:
    steps = run(psf, engine, SHORT, checkpoint=tmp_path / "c.safetensors")
    next(steps)
    steps.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_ended_as_intervals_are_read_has_learned_all(
    psf: Psf, engine: Engine, tmp_path: Path
) -> None:
    path, schedule = tmp_path / "c.safetensors", replace(SHORT, unseen=3)
    steps = run(psf, engine, schedule, checkpoint=path)
    while "reading intervals" not in next(steps).note:
        pass
    steps.close()
    seen, resumed = followed(run(psf, engine, schedule, checkpoint=path))
    assert not any(isinstance(step, TrainingStep) for step in seen)
    assert torch.equal(weights(resumed), weights(ended(run(psf, engine, schedule))))


def test_a_checkpoint_of_another_psf_is_told(
    psf: Psf, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_of_training, "KEEP_EVERY_S", 0.0)
    checkpoint = tmp_path / "c.safetensors"
    followed(run(psf, engine, replace(SHORT, steps=2), checkpoint=checkpoint))
    other = Psf(np.roll(psf.samples, 1, axis=1), psf.spacing_um)
    with pytest.raises(InputError, match="of a training with other settings"):
        followed(run(other, engine, replace(SHORT, steps=2), checkpoint=checkpoint))


def test_to_stop_keeps_the_best(psf: Psf, engine: Engine) -> None:
    steps = run(psf, engine, SHORT)
    while next(steps).done < 4:
        pass
    with pytest.raises(StopIteration) as end:
        steps.send(True)
    assert end.value.value.card.steps == 4


def test_intervals_are_read_off_pairs_that_nobody_has_seen(psf: Psf, engine: Engine) -> None:
    """The weights are those of a training without; who stops on the way keeps what was read."""
    _, without = followed(run(psf, engine, SHORT))
    steps, model = followed(run(psf, engine, replace(SHORT, unseen=5)))
    read = [step for step in steps if "reading intervals" in step.note]
    assert [step.done for step in read] == [SHORT.steps] * 5
    assert read[-1].note == "reading intervals off pair 6 of 6"
    assert torch.equal(weights(model), weights(without))
    assert model.card.calibration is not None
    assert without.card.calibration is not None
    assert len(model.card.calibration.photons) == 0
    assert model.card.calibration.half != without.card.calibration.half
    assert len(model.card.calibration.coverage) == 2
    assert without.card.calibration.coverage == ()
    stopped = stopped_at(
        run(psf, engine, replace(SHORT, unseen=50)), "reading intervals off pair 6"
    )
    assert stopped.card.calibration == model.card.calibration
    early = stopped_at(run(psf, engine, replace(SHORT, unseen=50)), "loss")
    assert early.card.calibration is not None
    assert early.card.calibration.coverage == ()


def test_the_seconds_of_a_training_are_all_of_them(
    psf: Psf, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in which intervals are read off, too."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slowly() -> Generator[Step, Any, Model]:
        steps = run(psf, engine, replace(SHORT, unseen=3))
        try:
            while True:
                step = next(steps)
                now[0] += 100.0 if "reading intervals" in step.note else 0.0
                yield step
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    _, model = followed(slowly())
    assert model.card.seconds == 300.0


def stopped_at(steps: Generator[Step, Any, Model], note: str) -> Model:
    """Return what is kept where a training is told to stop as it tells a note."""
    step = next(steps)
    while note not in step.note:
        step = next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(True)
    model: Model = end.value.value
    return model


def test_it_stops_where_it_gets_no_better(
    psf: Psf, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 1)
    monkeypatch.setattr(module, "loss_of", _worse_each_time())
    steps, model = followed(run(psf, engine, replace(SHORT, patience=3)))
    assert steps[-1].note == "stopped: no better since 3 steps"
    assert left_out_losses(steps) == [2, 4, 6, 8]  # between them it learned from 1, 3, 5 and 7
    assert [step.loss for step in steps if isinstance(step, TrainingStep)] == [1, 3, 5, 7]
    assert model.card.steps == 4


def _worse_each_time() -> Callable[..., torch.Tensor]:
    values = iter(range(1, 1000))

    def loss(out: torch.Tensor, *others: object) -> torch.Tensor:
        return out.sum() * 0 + float(next(values))

    return loss


def test_a_loss_that_is_no_number_is_told(
    psf: Psf, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 1)
    losses = iter([1.0, 1.0, 1.0, 1.0, math.nan])
    monkeypatch.setattr(module, "loss_of", lambda out, *_: out.sum() * 0 + next(losses))
    steps, model = followed(run(psf, engine, SHORT))
    assert steps[-1].note.startswith("the loss is no number any more: stopped, the best before")
    assert isinstance(steps[-1], TrainingStep)
    assert math.isnan(steps[-1].loss)
    assert model.card.steps == 2
    monkeypatch.setattr(module, "loss_of", lambda out, *_: out.sum() * math.nan)
    with pytest.raises(InputError, match="The loss is no number before anything was learned"):
        ended(run(psf, engine, SHORT))


def test_a_patch_must_fit() -> None:
    with pytest.raises(InputError, match=r"A patch of .* does not fit into a pair of"):
        Schedule(shape=(8, 8, 8), patch=(9, 8, 8))


def test_patches_are_mirrored_where_the_psf_is_its_mirror_image(psf: Psf, engine: Engine) -> None:
    """The PSF of these tests is symmetric along z and y, and shifted along x."""
    assert symmetric_axes(psf.samples) == (0, 1)
    (pair,) = simulated_pairs(range(1), SHORT.shape, [psf], LIGHT, 0)
    sample = sample_of(pair, psf, inverse_design(psf, first=4), engine)
    shelf, ways = Shelf([sample], torch.device("cpu")), set()
    for seed in range(40):
        batch = shelf.patches([0], SHORT.shape, np.random.default_rng(seed))
        truth, channels = batch.truth[0, 0].numpy(), batch.channels[0].numpy()
        (way,) = [w for w in [(), (0,), (1,), (0, 1)] if _is(np.flip(sample.truth, w), truth)]
        assert _is(np.flip(sample.channels, tuple(axis + 1 for axis in way)), channels)
        ways.add(way)
    assert ways == {(), (0,), (1,), (0, 1)}


def _is(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other))


def test_a_region_is_shown_on_the_way(psf: Psf, engine: Engine) -> None:
    counts = np.random.default_rng(0).poisson(30, (5, 20, 20)).astype(np.float32)
    steps = run(psf, engine, replace(SHORT, steps=50), shown=observe(counts, psf, 5.0))
    shown = []
    try:
        while True:
            step = next(steps)
            if step.peek is not None:
                shown.append((step.done, step.peek()))
    except StopIteration:
        pass
    ((done, region),) = shown
    assert done == 50
    assert region.shape == counts.shape
    assert region.min() >= 0
    assert np.isfinite(region).all()


def test_counts_of_a_camera_hold_its_photons(psf: Psf) -> None:
    """Twice the gain, the same photons: twice the counts above the offset, and their noise."""
    light = replace(LIGHT, background=(110.0, 110.0), gain=2.0, offset=100.0, read_noise=0.0)
    pair = simulated_pair((6, 64, 64), psf, light, np.random.default_rng(0), photons=80)
    caught = (pair.counts - 100) / 2
    assert np.allclose(caught, np.rint(caught), atol=1e-4)
    plain = replace(light, background=(5.0, 5.0), gain=1.0, offset=0.0)
    same = simulated_pair((6, 64, 64), psf, plain, np.random.default_rng(0), photons=80)
    assert np.allclose(caught, same.counts, atol=1e-4)
    assert np.allclose(pair.truth, 2 * same.truth, rtol=1e-5)


def test_recordings_in_halves_teach_without_a_truth(psf: Psf, engine: Engine) -> None:
    """From nothing but photons dealt out to two: nearer to the truth than what it starts from."""
    light = replace(LIGHT, photons=(40.0, 40.0), background=(5.0, 5.0), read_noise=0.0)
    camera = Camera(read_noise=0.0)
    shape = (8, 40, 40)
    pairs = list(simulated_pairs(range(10), shape, [psf], light, 11))
    twins = []
    for number, pair in enumerate(pairs[:8]):
        halves = thinned(pair.counts, camera, random=np.random.default_rng(number))
        twins.append(twin_of(*halves, 2.5, 2.5, camera))
    design = inverse_design(psf, first=6)
    schedule = Schedule(shape=shape, patch=(8, 32, 32), steps=100, learning_rate=2e-3)
    lessons = Lessons([psf], light, twins=twins, only_twins=True)
    steps, model = followed(training(lessons, design, schedule, engine))
    assert model.card.calibration is None
    assert steps[0].note == "undoing the blur of recording 1 of 8"
    torch.manual_seed(0)
    before: list[float] = []
    after: list[float] = []
    for pair in pairs[8:]:
        sample = sample_of(pair, psf, design, engine)
        batch = batch_of([sample], torch.device("cpu"))
        with torch.no_grad():
            for found, net in ((before, design.network()), (after, model.network)):
                found.append(float(loss_of(net(batch.channels, batch.psf), batch.truth)))
    assert np.mean(after) < 0.97 * np.mean(before)


def test_a_trained_network_goes_on(psf: Psf, engine: Engine) -> None:
    first = ended(run(psf, engine, SHORT))
    again = ended(run(psf, engine, replace(SHORT, steps=1, learning_rate=1e-9), start=first))
    assert torch.allclose(weights(again), weights(first), atol=1e-6)
    other = inverse_design(psf, first=5)
    with pytest.raises(InputError, match="The network to start from is another one"):
        ended(training(Lessons([psf], LIGHT), other, SHORT, engine, start=first))


def test_a_start_that_nothing_beats_is_kept(psf: Psf, engine: Engine) -> None:
    first = ended(run(psf, engine, SHORT))
    assert first.card.start_validation is None
    assert not first.card.is_as_before
    schedule = replace(SHORT, steps=1, learning_rate=0.1)
    worse = ended(run(psf, engine, schedule, start=first))
    assert torch.equal(weights(worse), weights(first))
    assert worse.card.validation == worse.card.start_validation
    assert "which no step made better" in loss_in_words(worse.card)
    card = ended(run(psf, engine, replace(SHORT, steps=40), start=first)).card
    assert card.start_validation == worse.card.start_validation > card.validation
    assert loss_in_words(card).endswith(f", {card.start_validation:.3g} where it started")


def test_an_ensemble_that_was_ended_goes_on(
    psf: Psf, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that is trained is not trained again."""
    monkeypatch.setattr(module_of_training, "KEEP_EVERY_S", 0.0)
    two, path = replace(SHORT, members=2), tmp_path / "c.safetensors"
    whole = ended(run(psf, engine, two))
    assert not torch.equal(
        *(torch.cat([v.flatten() for v in net.state_dict().values()]) for net in whole.networks)
    )
    steps = run(psf, engine, two, checkpoint=path)
    while next(steps).done < SHORT.steps + 3:
        pass
    steps.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2.c.safetensors", "c.safetensors"]
    seen, resumed = followed(run(psf, engine, two, checkpoint=path))
    assert min(step.done for step in seen if step.done) == SHORT.steps + 4
    for one, other in zip(resumed.networks, whole.networks, strict=True):
        for key, values in one.state_dict().items():
            assert torch.equal(values, other.state_dict()[key])


def test_the_checkpoint_of_a_member_is_looked_at_before_any_work(
    psf: Psf, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_of_training, "KEEP_EVERY_S", 0.0)
    one, path = replace(SHORT, steps=2), tmp_path / "c.safetensors"
    ended(run(psf, engine, one, checkpoint=path))
    path.rename(tmp_path / "2.c.safetensors")  # that of a network with another seed
    with pytest.raises(InputError, match=r"2\.c\.safetensors is of a training with other settings"):
        next(run(psf, engine, replace(one, members=2), checkpoint=path))


@pytest.mark.parametrize(("loss", "rate"), [("amounts", "plateau"), ("structure", "cosine")])
def test_other_losses_and_rates_learn(psf: Psf, engine: Engine, loss: str, rate: Any) -> None:
    schedule = Schedule(
        pairs=8, left_out=2, shape=(8, 32, 32), patch=(8, 24, 24), steps=100, loss=loss, rate=rate
    )
    light, design = replace(LIGHT, kinds=OF_CELLS), inverse_design(psf, first=4)
    steps, _ = followed(training(Lessons([psf], light), design, schedule, engine))
    losses = left_out_losses(steps)
    pairs = list(simulated_pairs(range(10), schedule.shape, [psf], light, 0))[8:]
    before = []
    for pair in pairs:
        batch = batch_of([sample_of(pair, psf, design, engine)], torch.device("cpu"))
        with torch.no_grad():
            out = design.network()(batch.channels, batch.psf)
        before.append(float(loss_of(out, batch.truth, loss, batch.error)))
    assert min(losses) < 0.97 * np.mean(before)


def test_words_of_a_schedule_are_checked() -> None:
    with pytest.raises(InputError, match="The loss 'luck' is not known; choose squares, amounts"):
        Schedule(loss="luck")
    with pytest.raises(InputError, match="The rate 'luck' is not known; choose cosine or plateau"):
        Schedule(rate="luck")  # type: ignore[arg-type]


def test_a_loss_that_is_one() -> None:
    """The SSIM of an image with itself is 1, and less the more it is changed."""
    truth = torch.rand(2, 1, 4, 16, 16)
    assert float(loss_of(truth, truth, "structure")) == pytest.approx(0, abs=1e-5)
    little, much = (
        float(loss_of(truth + by * torch.randn_like(truth), truth, "structure"))
        for by in (0.05, 0.5)
    )
    assert 0 < little < much
    with pytest.raises(InputError, match="needs a network that says how sure it is"):
        loss_of(truth, truth, "laplace")


def test_a_large_pair_is_cut_into_several() -> None:
    rng = np.random.default_rng(0)
    pair = Pair(rng.random((3, 40, 100), np.float32), rng.random((3, 40, 100), np.float32), 1.0, 9)
    pieces = pieces_of(pair)
    assert len(pieces) == 3
    assert np.array_equal(np.concatenate([piece.truth for piece in pieces], axis=2), pair.truth)
    with pytest.raises(InputError, match="too small to learn from one part and to look at another"):
        pieces_of(Pair(pair.counts[..., :40], pair.truth[..., :40], 1.0, 9))


def test_recordings_that_do_not_belong_together_are_told() -> None:
    image = np.full((3, 8, 8), 9.0, np.float32)
    with pytest.raises(InputError, match="must be of one shape, not"):
        twin_of(image, image[1:], 1.0, 1.0, Camera())
    with pytest.raises(InputError, match="darker than its background: there is nothing to learn"):
        twin_of(image, image, 1.0, 20.0, Camera())
    twin = twin_of(image, image + 1, 1.0, 1.0, Camera())
    with pytest.raises(InputError, match="One twin is not enough"):
        Lessons([Psf(np.ones((1, 1, 1)))], LIGHT, twins=[twin])


def test_volumes_and_planes_are_not_learned_from_together() -> None:
    image = np.random.default_rng(0).random((3, 8, 8), np.float32)
    volume, plane = (Pair(v, v, 0.0, 1.0) for v in (image, image[0]))
    with pytest.raises(InputError, match="must be volumes or planes, not some of each"):
        Lessons([Psf(np.ones((1, 1, 1)))], LIGHT, pairs=[volume, plane])


def test_a_decibel_counts_alike_in_bright_and_in_dim_pairs() -> None:
    """An error is held against that of the best state that went in, where there is one."""
    truth = torch.rand(2, 1, 4, 8, 8)
    out = truth + torch.tensor([0.1, 0.001]).reshape(2, 1, 1, 1, 1)
    error = torch.tensor([1e-2, 1e-6])
    alike = [
        float(loss_of(out[n : n + 1], truth[n : n + 1], error=error[n : n + 1])) for n in (0, 1)
    ]
    assert alike == pytest.approx([math.log(2)] * 2, rel=0.15)
    unknown = float(loss_of(out[1:], truth[1:], error=torch.tensor([math.nan])))
    assert unknown == pytest.approx(float(loss_of(out[1:], truth[1:])))


def test_thin_patches_are_not_convolved_in_short_numbers(psf: Psf) -> None:
    """There, gradients came from memory that nobody wrote."""
    network = inverse_design(psf, first=4).network()
    for sides, is_short in (((16, 48, 48), True), ((4, 48, 48), False), ((16, 12, 48), False)):
        schedule = Schedule(shape=sides, patch=sides)
        trainer = module.Trainer(network, schedule, [], [], torch.device("cpu"))
        short = trainer._half()
        assert short == (half_precision(torch.device("cpu")) if is_short else None)
