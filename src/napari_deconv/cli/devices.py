"""The verb `devices`: what this machine can compute on."""

from __future__ import annotations

import json
from typing import Any

from .options import AsJson


def devices(as_json: AsJson = False) -> None:
    """List what this machine can compute on, with memory and the result of a self-test."""
    from napari_deconv.engines import devices as list_devices
    from napari_deconv.engines import open_engine, tried

    rows: list[dict[str, Any]] = []
    for device in list_devices():
        _, verdict = tried(device)
        rows.append(
            {
                "engine": device.engine,
                "device": device.name,
                "gpu": device.is_gpu,
                "memory_bytes": device.memory_bytes,
                "self_test": verdict,
            }
        )
    chosen = open_engine("auto")
    if as_json:
        print(json.dumps({"devices": rows, "auto": chosen.device}))
        return
    for row in rows:
        memory = f"{row['memory_bytes'] / 1e9:.1f} GB" if row["memory_bytes"] else "memory unknown"
        print(f"{row['engine']:7} {row['device']}, {memory}: {row['self_test']}")
    for name, extra in (("opencl", "opencl"), ("torch", "learned")):
        if not any(row["engine"] == name for row in rows):
            print(f'{name:7} nothing found; pip install "napari-deconv[{extra}]", and a driver')
    print(f"auto    would use {chosen.device}")
