"""Files of the makers of microscopes, by a module that answers as AFMReader 0.0.7 does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_deconv.files.heights import height_channels, read_height_recipe, read_heights
from napari_deconv.imaging.value import InputError

ROWS = 5
PIXEL = (20.0, 7.5)
IMAGE = np.arange(float(ROWS * ROWS)).reshape(ROWS, ROWS)


def refused(path: Path, sentence: str, **options: Any) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_heights(path, **options)
    assert "\n" not in str(caught.value)


def fake(monkeypatch: pytest.MonkeyPatch, module: str, function: str, load: Any) -> None:
    found = ModuleType(f"AFMReader.{module}")
    setattr(found, function, load)
    monkeypatch.setitem(sys.modules, "AFMReader", ModuleType("AFMReader"))
    monkeypatch.setitem(sys.modules, f"AFMReader.{module}", found)
    loguru = ModuleType("loguru")
    loguru.logger = SimpleNamespace(disable=lambda name: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "loguru", loguru)


def with_channels(images: dict[str, Any], missing: str, *more: Any) -> Any:
    def load(path: Path, channel: str) -> tuple[Any, ...]:
        if channel not in images:
            raise ValueError(missing.format(channel))
        return images[channel], 2.5, *more

    return load


@pytest.mark.parametrize(
    ("suffix", "module", "function", "names", "missing", "default"),
    [
        (
            ".spm",
            "spm",
            "load_spm",
            ("Phase", "Height Sensor"),
            "'{}' not in .spm channel list: ['Phase', 'Height Sensor']",
            "Height Sensor",
        ),
        (
            ".001",
            "spm",
            "load_spm",
            ("Height", "Phase"),
            "'{}' not in .001 channel list: ['Height', 'Phase']",
            "Height",
        ),
        (
            ".jpk",
            "jpk",
            "load_jpk",
            ("height_retrace", "height_trace", "error_trace"),
            "'{}' not in .jpk channel list: {{'height_retrace': 1, 'height_trace': 2, "
            "'error_trace': 3}}",
            "height_trace",
        ),
        (
            ".ibw",
            "ibw",
            "load_ibw",
            ("HeightTracee", "PhaseTrace"),
            "'{}' not in .ibw channel list: ['HeightTracee', 'PhaseTrace']",
            "HeightTracee",
        ),
    ],
)
def test_an_image_of_a_maker(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    module: str,
    function: str,
    names: tuple[str, ...],
    missing: str,
    default: str,
) -> None:
    images = {name: IMAGE + n for n, name in enumerate(names)}
    fake(monkeypatch, module, function, with_channels(images, missing))
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(b"\\*File list\r\n\\*File list end\r\n")
    found = read_heights(path)
    assert (found.channel, found.pixel_nm, found.frame_s) == (default, (2.5, 2.5), None)
    np.testing.assert_array_equal(found.heights_nm, images[default])
    heights = {name for name in names if name.lower().startswith("height")}
    assert set(height_channels(path)) == heights
    assert height_channels(path)[0] == default
    assert read_height_recipe(path) is None
    assert read_heights(path, z_unit="um").heights_nm.max() == images[default].max()
    assert read_heights(path, pixel_nm=PIXEL).pixel_nm == PIXEL
    refused(path, "has no channel 'Foo'; its channels of heights are", channel="Foo")
    for other in set(names) - heights:
        refused(path, f"has no heights in '{other}'", channel=other)
        told = read_heights(path, channel=other, z_unit="um").heights_nm
        np.testing.assert_allclose(told, images[other] * 1e3, rtol=1e-14)


def test_a_high_speed_movie_knows_both_sides_of_a_pixel_and_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = np.stack([IMAGE[:3], IMAGE[1:4]])
    header = {"x_nm": 50, "x_pixels": 5, "y_nm": 60, "y_pixels": 3, "frame_time": 120.0}
    missing = "'{}' not found .asd channel list: TP, PH"
    images = {"TP": movie, "PH": movie}
    fake(monkeypatch, "asd", "load_asd", with_channels(images, missing, header))
    path = tmp_path / "a.asd"
    path.touch()
    found = read_heights(path)
    assert (found.channel, found.pixel_nm, found.frame_s) == ("TP", (20.0, 10.0), 0.12)
    np.testing.assert_array_equal(found.heights_nm, movie)
    assert height_channels(path) == ("TP",)


@pytest.mark.parametrize("frames", [1, 2])
def test_frames_of_h5_jpk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    times = {f"frame {n}": 1.5 * n for n in range(frames)}
    movie = np.stack([IMAGE, IMAGE + 1])[:frames]
    missing = "'{}' not found. Available channels: ['height_trace', 'error_trace']"
    load = with_channels({"height_trace": movie}, missing, times)
    fake(monkeypatch, "h5_jpk", "load_h5jpk", load)
    path = tmp_path / "a.h5-jpk"
    path.touch()
    found = read_heights(path)
    assert (found.is_movie, found.frame_s) == ((True, 1.5) if frames == 2 else (False, None))
    assert found.frames.shape == (frames, ROWS, ROWS)


@pytest.mark.parametrize(
    ("told", "range_nm"), [("12.75 nm", 12.75), ("0.5 µm", 500.0), ("80 Å", 8.0)]
)
def test_wsxm_has_the_range_that_its_header_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, range_nm: float
) -> None:
    fake(monkeypatch, "top", "load_top", lambda path: (IMAGE / 2, 2.5))  # 12, cut off
    path = tmp_path / "a.top"
    path.write_bytes(f"WSxM file\r\n    Z Amplitude: {told}\r\n".encode("latin-1"))
    found = read_heights(path)
    assert found.range_nm == pytest.approx(range_nm)
    assert (found.channel, found.heights_nm[0, 0]) == ("Height", 0.0)
    path.write_bytes(b"WSxM file")
    refused(path, r"The range of heights in a\.top cannot be told")


def test_an_ibw_of_other_sides_asks_for_its_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "'{}' not in .ibw channel list: ['HeightTrace']"
    fake(monkeypatch, "ibw", "load_ibw", with_channels({"HeightTrace": IMAGE[:3]}, missing))
    path = tmp_path / "a.ibw"
    path.touch()
    refused(path, "does not say the size of its pixels")
    assert read_heights(path, pixel_nm=PIXEL).pixel_nm == PIXEL


def test_a_maker_without_afmreader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "AFMReader", None)
    path = tmp_path / "a.spm"
    path.write_bytes(b"\\*File list end\r\n")
    refused(path, r'needs one more package to be read; run \'pip install "napari-deconv\[afm\]"\'')
    with pytest.raises(InputError, match="needs one more package"):
        height_channels(path)


@pytest.mark.parametrize("error", [ValueError("odd\nheader"), KeyError("x"), RuntimeError("odd")])
def test_what_afmreader_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(path: Path, channel: str) -> None:
        raise error

    fake(monkeypatch, "spm", "load_spm", load)
    path = tmp_path / "a.spm"
    path.write_bytes(b"\\*File list end\r\n")
    refused(path, r"a\.spm cannot be read, it is damaged or of a version that AFMReader")


def test_what_is_not_of_bruker_never_comes_to_the_library_that_would_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, "spm", "load_spm", with_channels({"Height": IMAGE}, "{}: channel list: "))
    path = tmp_path / "a.003"
    path.write_bytes(b"\\*File list\r\n cut off")
    refused(path, r"a\.003 is not a file of Bruker, or is cut off")
