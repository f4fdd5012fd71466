"""The scripts in the tutorials run as they stand, with a shorter training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from napari_deconv.learned import training
from napari_deconv.learned.trainer import Schedule

DOCS = Path(__file__).parent.parent / "docs"
SHORT = Schedule(pairs=2, left_out=1, shape=(12, 32, 32), patch=(8, 24, 24), batch=1, steps=4)


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
    assert "1.06 counts a photon above an offset of 96.6" in said
    assert "4 steps in " in said
    assert re.search(r"network: chi\^2 \d", said)
    assert re.search(r"Richardson-Lucy: chi\^2 \d", said)
    assert (tmp_path / "cell.safetensors").is_file()
