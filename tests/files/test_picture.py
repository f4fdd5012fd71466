"""The before/after picture: a PNG that others can read, with both stacks in it."""

from __future__ import annotations

import errno
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from napari_deconv.files.picture import GAP, write_comparison
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError

GRID = Grid(spacing_um=(0.3, 0.1, 0.1))


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    """Read an 8-bit grey PNG without filters by the W3C specification, checksums included."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 0, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def point(place: tuple[int, int, int], grid: Grid | None = GRID) -> Stack:
    data = np.zeros((5, 20, 24), np.float32)
    data[place] = 100
    return Stack(data, "ZYX", grid)


def test_before_is_left_and_after_right_with_z_below(tmp_path: Path) -> None:
    write_comparison(tmp_path / "a.png", point((1, 6, 7)), point((4, 15, 20)))
    image = pixels(tmp_path / "a.png")
    # Five planes of 0.3 um are as high as fifteen rows of 0.1 um.
    assert image.shape == (20 + GAP + 15, 24 + GAP + 24)
    assert np.argwhere(image[:20, :24] == 255).tolist() == [[6, 7]]
    assert np.argwhere(image[:20, 24 + GAP :] == 255).tolist() == [[15, 20]]
    below = image[20 + GAP :]
    assert np.argwhere(below[:, :24] == 255).tolist() == [[3, 7], [4, 7], [5, 7]]
    assert np.argwhere(below[:, 24 + GAP :] == 255).tolist() == [[12, 20], [13, 20], [14, 20]]
    assert (image[20 : 20 + GAP] == 255).all()
    assert (image[:, 24 : 24 + GAP] == 255).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("axes", ["YX", "CYX", "TZYX", "TCZYX"])
def test_of_more_axes_the_first_volume_is_shown(tmp_path: Path, axes: str) -> None:
    sizes = {"T": 2, "C": 2, "Z": 3, "Y": 10, "X": 12}
    data = np.zeros([sizes[axis] for axis in axes], np.uint16)
    first = data[(0,) * sum(axis in "TC" for axis in axes)]
    first[..., 4, 5] = 1000
    write_comparison(tmp_path / "a.png", Stack(data, axes), Stack(data, axes))
    image = pixels(tmp_path / "a.png")
    assert image.shape == (10 + GAP + (3 if "Z" in axes else 1), 12 + GAP + 12)
    assert np.argwhere(image[:10, :12] == 255).tolist() == [[4, 5]]


def test_each_side_has_its_own_range(tmp_path: Path) -> None:
    dim, bright = point((1, 6, 7)), point((1, 6, 7))
    bright.data[...] *= 1000
    write_comparison(tmp_path / "a.png", dim, bright)
    image = pixels(tmp_path / "a.png")
    assert np.array_equal(image[:, :24], image[:, 24 + GAP :])


def test_a_constant_is_a_picture_too(tmp_path: Path) -> None:
    flat = Stack(np.full((2, 5, 6), 7.0), "ZYX")
    write_comparison(tmp_path / "a.png", flat, flat)
    assert pixels(tmp_path / "a.png").shape == (5 + GAP + 2, 12 + GAP)


@pytest.mark.parametrize("place", ["missing/a.png", "file/a.png"])
def test_where_nothing_can_be_written_it_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^The picture .*a\.png cannot be written: \w"):
        write_comparison(tmp_path / place, point((1, 2, 3)), point((1, 2, 3)))


def test_a_full_disk_leaves_the_older_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"older")

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_comparison(path, point((1, 2, 3)), point((1, 2, 3)))
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"older"]
