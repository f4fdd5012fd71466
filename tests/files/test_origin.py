"""A source is known again, and noticed where it has changed."""

from __future__ import annotations

import os
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from napari_deconv.files.origin import PLANES, Origin, origin_of
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError


def test_a_file_is_known_by_its_size_and_its_time(tmp_path: Path) -> None:
    path = tmp_path / "cell.tif"
    path.write_bytes(b"12345")
    os.utime(path, (5, 7.5))
    assert origin_of(path) == Origin("cell.tif", 5, 7.5)
    path.write_bytes(b"123456")
    assert origin_of(path).bytes == 6


def test_a_folder_is_known_by_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "cell.ome.zarr"
    (folder / "0").mkdir(parents=True)
    for name, text, time in (("a", b"12", 9.0), ("0/b", b"345", 4.0)):
        (folder / name).write_bytes(text)
        os.utime(folder / name, (0, time))
    assert origin_of(folder) == Origin("cell.ome.zarr", 5, 9.0)


def test_a_file_that_cannot_be_looked_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cell.tif"
    path.write_bytes(b"1")

    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(InputError, match=r"^cell\.tif cannot be read: Permission denied$"):
        origin_of(path)


def test_a_stack_is_known_by_its_voxels_wherever_they_are() -> None:
    counts = np.random.default_rng(0).integers(0, 99, (2, 5, 8, 9)).astype(np.uint16)
    known = origin_of(Stack(counts, "CZYX", name="cells"))
    assert (known.name, known.bytes, known.modified) == ("cells", 0, 0.0)
    lazy = Stack(da.from_array(counts, chunks=3), "CZYX", name="cells")
    assert origin_of(lazy) == known
    turned = Stack(np.moveaxis(np.moveaxis(counts, 1, 0).copy(), 0, 1), "CZYX", name="cells")
    assert origin_of(turned) == known
    for changed in (counts + (counts == counts.max()), counts.astype(np.int16)):
        assert origin_of(Stack(changed, "CZYX", name="cells")).digest != known.digest
    assert origin_of(Stack(counts, "TZYX", name="cells")).digest != known.digest
    assert origin_of(Stack(counts[0, 0], "YX")).digest != known.digest


def test_no_more_planes_are_read_than_needed() -> None:
    read: list[int] = []

    class Planes:
        shape, ndim, dtype = (1000, 4, 4), 3, np.dtype(np.uint8)

        def __getitem__(self, index: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype]:
            read.append(index[0])
            return np.zeros((4, 4), np.uint8)

    origin_of(Stack(Planes(), "ZYX"))
    assert len(read) == PLANES
    assert read == sorted(read)
    assert read[-1] > 900
