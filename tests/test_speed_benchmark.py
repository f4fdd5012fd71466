"""The speed benchmark on a tiny case: what it measures, what it writes, and whom it leaves out."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MODULES = ("speed_cases", "speed_contenders", "speed_one", "speed_tables", "speed_figures", "speed")
ITERATIONS = 12


@dataclass(frozen=True)
class Suite:
    cases: ModuleType
    contenders: ModuleType
    one: ModuleType
    tables: ModuleType
    figures: ModuleType
    speed: ModuleType


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    before = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    yield Suite(*map(importlib.import_module, MODULES))
    sys.path[:] = before
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tiny(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a case as a user would write one, whose lengths all take for fast ones."""
    case = suite.cases.simulated("confocal-dense-200-16x49x48")
    path = tmp_path_factory.mktemp("case") / "tiny.npz"
    # Without the name, which a user does not write.
    told = {name: value for name, value in vars(case).items() if name not in ("name", "other")}
    np.savez(path, **told)
    return path


@pytest.fixture(scope="module")
def folder(suite: Suite, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a run of three contenders over two rounds wrote."""
    folder = tmp_path_factory.mktemp("docs")
    chosen = ["--contenders", "plain*", "heavy-ball@cpu", "automatic@cpu"]
    more = ["--iterations", str(ITERATIONS), "--rounds", "2", "--psnr", "1"]
    suite.speed.main(["--npz", str(tiny), *chosen, *more, "--folder", str(folder)])
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_curve_rises_in_seconds(suite: Suite, folder: Path) -> None:
    curves = suite.tables.grouped(suite.tables.read_curves(folder / "speed" / "speed_curves.csv"))
    for key in ("plain@scipy", "heavy-ball@cpu"):
        curve = curves["tiny"][key]
        assert all(a.seconds < b.seconds for a, b in pairwise(curve))
        assert all(a.iteration < b.iteration for a, b in pairwise(curve))
        assert curve[0].seconds > 0
    assert len(curves["tiny"]["automatic@cpu"]) == 1


def test_the_tables_hold_what_was_asked(suite: Suite, folder: Path) -> None:
    curves = rows(folder / "speed" / "speed_curves.csv")
    assert tuple(curves[0]) == suite.tables.COLUMNS
    assert {row["contender"] for row in curves} == {"plain", "heavy-ball", "automatic"}
    assert max(float(row["iteration"]) for row in curves if row["contender"] == "plain") == 12
    for row in curves:
        assert float(row["psnr"]) > 10
        assert 0.1 < float(row["divergence"]) < 10
        assert 0 < float(row["fsc_um"]) < 2
        assert float(row["peak_volumes"]) > 0
    ours = next(row for row in curves if row["contender"] == "heavy-ball")
    assert ours["reported_divergence"]
    told = {row["contender"]: row for row in rows(folder / "speed" / "speed_summary.csv")}
    assert float(told["plain"]["times_faster_to_divergence"]) == pytest.approx(1, abs=0.2)
    assert float(told["heavy-ball"]["seconds_to_divergence"]) > 0
    assert float(told["plain"]["seconds_to_1_dB"]) > 0
    case = rows(folder / "speed" / "speed_cases.csv")[0]
    assert (case["image"], case["plain_iterations"]) == ("16 x 49 x 48", "12")


def test_the_machine_and_the_figure_are_there(folder: Path) -> None:
    text = (folder / "speed" / "machine.txt").read_text(encoding="utf-8")
    assert "processor" in text
    assert "numpy" in text
    assert (folder / "images" / "speed_own.png").stat().st_size > 5000


def test_a_missing_peer_is_named_and_not_run(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = suite.contenders.PEERS["scikit-image"]
    missing = replace(known, name="missing", package="no_such_package", install="pip install it")
    program = replace(known, name="lost", program="no-such-program")
    monkeypatch.setattr(suite.contenders, "PEERS", {"missing": missing, "lost": program})
    found, absent = suite.contenders.contenders(all_engines=False)
    assert not {"missing", "lost"} & {contender.name for contender in found}
    assert "missing: not installed (pip install it)" in absent
    assert "lost: no program no-such-program on the PATH" in absent
    assert "not run       lost: no program" in suite.tables.machine(1, absent)


def test_who_fails_is_noted_and_left_out(suite: Suite, tiny: Path) -> None:
    broken = replace(suite.contenders.PLAIN, name="broken")
    notes: list[str] = []
    assert suite.speed.measure(suite.cases.opened(tiny), [broken], 1, 2, notes) == []
    assert notes[0].startswith("broken@scipy on tiny: failed, KeyError")


def test_the_plain_loop_is_richardson_lucy(suite: Suite, tiny: Path) -> None:
    case = suite.cases.opened(tiny)
    observation = case.observations()[0]
    *_, plain = suite.contenders.plain_scipy(observation, 5)
    *_, ours = suite.contenders.ours("none", "cpu").moments(observation, 5)
    found, expected = ours.estimate(), plain.estimate()
    # Both with the padding, which explains the counts at the border.
    assert found.shape == expected.shape == case.work_shape
    # Far beyond the image, whose counts say nothing about what is there, ours stays as it was.
    inside = tuple(slice(n) for n in case.image.shape)
    assert np.abs(found - expected)[inside].max() < 1e-4 * expected[inside].max()


def test_the_divergence_is_the_one_that_is_reported(suite: Suite, tiny: Path) -> None:
    case = suite.cases.opened(tiny)
    judge = suite.cases.Judge(case)
    moments = suite.contenders.ours("none", "cpu").moments(case.observations()[0], 4)
    before, after = islice(moments, 2, None)
    scores = judge.scores(0, 0, suite_estimate(suite, case, 3), shifted=False)
    assert before.reported > after.reported
    # A method reports the divergence of what an iteration starts from.
    assert scores.divergence == pytest.approx(after.reported, rel=1e-3)


def suite_estimate(suite: Suite, case: object, iterations: int) -> np.ndarray:
    *_, last = suite.contenders.plain_scipy(case.observations()[0], iterations)  # type: ignore[attr-defined]
    return np.asarray(last.estimate())


def test_a_psnr_does_not_see_scale_and_offset_and_best_shift(suite: Suite) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((16, 49, 48)).astype(np.float32)
    noisy = truth + rng.normal(0, 0.01, truth.shape).astype(np.float32)
    expected = 20 * np.log10(np.percentile(truth[2:14, 6:42, 6:42], 99.9) / 0.01)
    assert suite.cases.psnr_of(3 * noisy + 7, truth) == pytest.approx(expected, abs=0.1)
    moved = np.roll(noisy, (1, -1, 1), (0, 1, 2))
    assert suite.cases.psnr_of(moved, truth) < expected - 20
    back = suite.cases.aligned(moved, truth)
    assert suite.cases.psnr_of(back, truth) == pytest.approx(expected, abs=0.1)


def test_halves_of_the_photons_are_scored_together(suite: Suite, tiny: Path) -> None:
    whole = replace(suite.cases.opened(tiny), truth=None)
    case = suite.cases.dealt(whole)
    points = suite.one.curve(suite.contenders.PLAIN, case, 3, suite.cases.Judge(case))
    assert [point.iteration for point in points] == [1, 2, 3]
    assert points[-1].scores.psnr is None
    assert points[-1].scores.fsc_um > 0
    assert points[-1].scores.divergence < points[0].scores.divergence
    # The other half has other noise.
    assert points[-1].scores.held_out_divergence > points[-1].scores.divergence


def test_when_a_value_is_reached(suite: Suite) -> None:
    known = {"case": "case", "contender": "a", "engine": "cpu", "iteration": 1, "seconds": 1.0}
    blank = dict.fromkeys(suite.tables.COLUMNS)
    row = suite.tables.Row(**{**blank, **known, "psnr": 20.0, "divergence": 2.0})
    curve = [row, replace(row, iteration=3, seconds=3.0, psnr=24.0, divergence=1.0)]
    to = suite.tables.seconds_to
    assert to(curve, "psnr", 22.0) == pytest.approx(2.0, abs=0.01)
    assert to(curve, "divergence", 1.25) == pytest.approx(2.5, abs=0.01)
    assert to(curve, "psnr", 15.0) == 1.0
    assert to(curve, "psnr", 25.0) is None
    plain = replace(row, contender="plain", engine="scipy", seconds=8.0, psnr=22.0, divergence=1.25)
    told = suite.tables.summary(suite.tables.grouped([plain, *curve]))
    assert told[1]["times_faster_to_psnr"] == pytest.approx(4.0, abs=0.02)
    assert told[1]["times_faster_to_divergence"] == pytest.approx(3.2, abs=0.02)


def test_the_bound_holds_each_acceleration_against_its_transforms(suite: Suite) -> None:
    found = suite.speed.bound([(8, 24, 24)], 1)
    assert [row["acceleration"] for row in found] == list(suite.contenders.ACCELERATIONS)
    for row in found:
        assert row["times_filter"] == pytest.approx(row["iteration_s"] / row["filter_s"])
        assert min(row["scipy_s"], row["engine_s"], row["filter_s"]) > 0
