"""The scripts and commands in the tutorials run as they stand, with a shorter training."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from pathlib import Path

import pytest

from napari_deconv import cli
from napari_deconv.learned import training
from napari_deconv.learned.trainer import Schedule

DOCS = Path(__file__).parent.parent / "docs"
SHORT = Schedule(pairs=2, left_out=1, shape=(12, 32, 32), patch=(8, 24, 24), batch=1, steps=27)


def test_a_network_for_your_own_psf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(training.PRESETS, "quick", SHORT)
    text = (DOCS / "tutorial_learned.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    exec(compile("\n".join(blocks), "tutorial_learned.md", "exec"), {})
    said = capsys.readouterr().out
    assert "1.01 counts a photon above an offset of 94.7" in said
    assert "4 steps in " in said
    assert re.search(r"network: chi\^2 \d", said)
    assert re.search(r"Richardson-Lucy: chi\^2 \d", said)
    assert (tmp_path / "cell.safetensors").is_file()


def test_from_a_raw_file_to_corrected_widths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "tutorial_afm.md").read_text(encoding="utf-8")
    for kind, block in re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL):
        if kind == "python":
            exec(compile(block, "tutorial_afm.md", "exec"), {})
            continue
        for line in block.strip().splitlines():
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert not ended.value.code, line
    with Path("widths.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    true = float(re.findall(r"width is ([\d.]+) nm", text)[0])
    assert true == pytest.approx(2 * (10**2 - 7.5**2) ** 0.5, abs=0.05)
    assert len(rows) == 4
    for row in rows:
        assert float(row["raw_width_nm"]) > true + 2
        # The least that it can be: the tip is the bluntest that noise allows.
        assert true - 0.5 < float(row["corrected_width_nm"]) < true + 0.1
    said = capsys.readouterr()
    assert said.out.count("nm corrected") == 4
    assert re.search(r"radius [34]\.\d+ \+- .* half angle 2[4-7]", said.err)
