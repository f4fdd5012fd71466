"""A training that is killed (kill -9) goes on from its checkpoint, to the same network."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from napari_deconv.learned.model_file import read_model

#: The command, with a short training that is kept after each step and takes its time.
SCRIPT = """
import sys, time
from napari_deconv import cli
from napari_deconv.learned import trainer, training
training.KEEP_EVERY_S, trainer.LOOK_EVERY = 0.0, 5
training.PRESETS["quick"] = trainer.Schedule(
    pairs=3, left_out=2, shape=(4, 24, 24), patch=(4, 16, 16), batch=1, steps=200
)
keep = trainer.Trainer.keep
def slowly(self, path, key):
    keep(self, path, key)
    time.sleep({pause})
trainer.Trainer.keep = slowly
sys.argv = ["napari-deconv", "train", "-o", "{name}.safetensors", "--voxel-size", "0.6,0.2,0.2",
    "--na", "0.8", "--emission-nm", "520", "--immersion-index", "1.0", "--model", "gaussian",
    "--engine", "cpu", "--checkpoint", "{name}.checkpoint.safetensors"]
cli.main()
"""


def started(folder: Path, name: str, pause: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT.format(name=name, pause=pause)]
    return subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)


def test_killed_it_goes_on_to_the_same_network(tmp_path: Path) -> None:
    whole = started(tmp_path, "whole", 0.0)
    _, said = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    run = started(tmp_path, "killed", 0.2)
    checkpoint = tmp_path / "killed.checkpoint.safetensors"
    until = time.monotonic() + 300
    while not checkpoint.exists() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.7)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert checkpoint.exists()
    assert not (tmp_path / "killed.safetensors").exists()
    again = started(tmp_path, "killed", 0.0)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    one, other = (read_model(tmp_path / f"{name}.safetensors") for name in ("whole", "killed"))
    assert one.card.validation == other.card.validation
    assert one.card.steps == other.card.steps == 30
    for key, values in one.network.state_dict().items():
        assert torch.equal(values, other.network.state_dict()[key])
