"""Gwyddion files: units, sizes, titles, movies, and damage that gwyfile would not notice."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gwyfile.objects import GwyContainer, GwyDataField, GwyObject

from napari_deconv.files import gwy
from napari_deconv.files.gwy import Channel
from napari_deconv.imaging.value import InputError

MINIMAL = Path(__file__).parent / "data" / "minimal.gwy"
ROWS, COLUMNS = 5, 8


def values(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(100.0, 20.0, (ROWS, COLUMNS))


def field(data: Any, z: str | None = "m", xy: str | None = "m", **size: Any) -> GwyDataField:
    size = {"xreal": 1.6e-6, "yreal": 2.5e-6, **size}
    return GwyDataField(data, si_unit_z=z, si_unit_xy=xy, **size)


def container(path: Path, **fields: GwyDataField) -> Path:
    """Write a Gwyddion file as other programs do, a field for each title, in this order."""
    body = GwyContainer()
    for number, (title, entry) in enumerate(fields.items()):
        body[f"/{number}/data"] = entry
        body[f"/{number}/data/title"] = title
        body.typecodes[f"/{number}/data/title"] = "s"
    with path.open("wb") as file:
        body.tofile(file)
    return path


def test_the_file_of_others_is_read_and_has_no_units() -> None:
    (found,) = gwy.read(MINIMAL)
    assert (found.name, found.unit, found.pixel_nm, found.is_main) == ("Test", "", None, False)
    assert found.values.shape == (128, 128)
    assert (found.values.min(), found.values.max()) == (0.0, 0.001)
    assert found.values[0, 0] != found.values[0, 1]
    assert gwy.recipe_in(MINIMAL) is None


@pytest.mark.parametrize(
    ("xy", "factor"), [("m", 1.0), ("um", 1e6), ("µm", 1e6), ("nm", 1e9), (" mm", 1e3)]
)
def test_a_pixel_is_the_size_of_its_axis_divided(tmp_path: Path, xy: str, factor: float) -> None:
    size: Any = {"xreal": 1.6e-6 * factor, "yreal": 2.5e-6 * factor}
    (found,) = gwy.read(container(tmp_path / "a.gwy", Height=field(values(), xy=xy, **size)))
    assert found.pixel_nm == pytest.approx((500.0, 200.0), rel=1e-12)
    np.testing.assert_array_equal(found.values, values())


@pytest.mark.parametrize("xy", [None, "", "s", "px"])
def test_a_size_that_is_no_length_is_none(tmp_path: Path, xy: str | None) -> None:
    (found,) = gwy.read(container(tmp_path / "a.gwy", Height=field(values(), xy=xy)))
    assert found.pixel_nm is None


def test_an_offset_of_the_scan_does_not_change_its_pixels(tmp_path: Path) -> None:
    entry = field(values(), xoff=3e-6, yoff=-1e-6)
    (found,) = gwy.read(container(tmp_path / "a.gwy", Height=entry))
    assert found.pixel_nm == pytest.approx((500.0, 200.0), rel=1e-12)


def test_images_come_in_the_order_of_their_numbers_each_name_once(tmp_path: Path) -> None:
    body = GwyContainer()
    for number in (10, 2, 3):
        body[f"/{number}/data"] = field(np.full((ROWS, COLUMNS), float(number)))
        body[f"/{number}/data/title"] = "H"
        body.typecodes[f"/{number}/data/title"] = "s" if number != 3 else "c"
    body["/4/data"] = field(values())
    body["/5/data"] = GwyObject("GwyBrick", {"xres": 3})
    body["/6/mask"] = field(values())
    path = tmp_path / "a.gwy"
    with path.open("wb") as file:
        body.tofile(file)
    found = gwy.read(path)
    assert [entry.name for entry in found] == ["H", "H (2)", "channel 4", "H (3)"]
    assert [entry.values[0, 0] for entry in (*found[:2], found[3])] == [2.0, 3.0, 10.0]


@pytest.mark.parametrize(
    ("unit", "is_length"),
    [("m", True), ("nm", True), ("V", False), ("deg", False), ("Hz", False), ("A", False)],
)
def test_a_unit_is_one_of_length_or_not(unit: str, is_length: bool) -> None:
    assert Channel("a", values(), unit).is_length is is_length


# -- round trips -----------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "metres"), [("nm", 1e-9), ("um", 1e-6), ("inch", 0.0254)])
def test_lengths_are_written_in_metres(tmp_path: Path, unit: str, metres: float) -> None:
    path = tmp_path / "a.gwy"
    gwy.write(path, [Channel("Height", values(), unit, (20.0, 7.5))])
    (found,) = gwy.read(path)
    assert (found.unit, found.is_main) == ("m", True)
    assert found.pixel_nm == pytest.approx((20.0, 7.5), rel=1e-14)
    np.testing.assert_allclose(found.values, values() * metres, rtol=1e-15)


def test_more_images_keep_unit_shape_and_order(tmp_path: Path) -> None:
    path = tmp_path / "a.gwy"
    sure = np.arange(6.0).reshape(2, 3) > 2
    gwy.write(
        path,
        [
            Channel("Z", values(), "nm", (20.0, 7.5)),
            Channel("Phase", values(1), "deg", (20.0, 7.5)),
            Channel("sure", sure, "", (20.0, 7.5)),
        ],
        recipe='{"kind": "Erosion"}',
    )
    found = gwy.read(path)
    assert [(c.name, c.unit, c.is_main) for c in found] == [
        ("Z", "m", True),
        ("Phase", "deg", False),
        ("sure", "", False),
    ]
    np.testing.assert_array_equal(found[1].values, values(1))
    np.testing.assert_array_equal(found[2].values, sure)
    assert gwy.recipe_in(path) == '{"kind": "Erosion"}'
    # One letter is a text all the same; Gwyddion expects one there.
    assert b"napari-deconv channel\0sZ\0" in path.read_bytes()
    assert b"/0/data/title\0sZ\0" in path.read_bytes()


def test_a_movie_comes_back_as_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "a.gwy"
    movie = np.stack([values(n) for n in range(3)])
    more = Channel("other", values(9), "nm", (20.0, 7.5))
    gwy.write(path, [Channel("Height", movie, "nm", (20.0, 7.5), 0.25), more])
    found, other = gwy.read(path)
    assert (found.name, found.frame_s, found.is_main) == ("Height", 0.25, True)
    assert (other.name, other.is_main) == ("other", False)
    np.testing.assert_allclose(found.values, movie * 1e-9, rtol=1e-15)


def test_a_movie_that_lost_a_frame_is_images(tmp_path: Path) -> None:
    path = tmp_path / "a.gwy"
    gwy.write(path, [Channel("Height", np.stack([values(n) for n in range(3)]), "nm")])
    body = gwy._container(path)
    left = GwyContainer({k: v for k, v in body.items() if not k.startswith("/1/")})
    left.typecodes.update({f"/{n}/data/title": "s" for n in (0, 2)})
    with path.open("wb") as file:
        left.tofile(file)
    assert [(c.name, c.values.ndim) for c in gwy.read(path)] == [
        ("Height 0001", 2),
        ("Height 0003", 2),
    ]


def test_a_long_movie_is_sent_to_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gwy, "MOST_FRAMES", 2)
    movie = np.zeros((4, ROWS, COLUMNS))
    with pytest.raises(InputError, match=r"4 images .* write the movie as \.ome\.tif"):
        gwy.write(tmp_path / "a.gwy", [Channel("Height", movie, "nm")])
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gwy"
    gwy.write(path, [Channel("Height", values(), "nm", (1.0, 1.0))])
    before = path.read_bytes()

    def full(self: Any, file: Any) -> None:
        file.write(b"GWYP half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GwyObject, "tofile", full)
    with pytest.raises(InputError, match="is too full"):
        gwy.write(path, [Channel("Height", values(1), "nm", (1.0, 1.0))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.999, 0.8, 0.4, 0.1, 0.001, 0.0])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "cut.gwy"
    whole = MINIMAL.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    for read in (gwy.read, gwy.recipe_in):
        with pytest.raises(InputError, match=r"^cut\.gwy [^\n]*$"):
            read(path)


def test_a_text_without_an_end_is_refused_and_not_read_for_ever(tmp_path: Path) -> None:
    part = b"title\0sno end"
    path = tmp_path / "a.gwy"
    path.write_bytes(b"GWYPGwyContainer\0" + struct.pack("<I", len(part)) + part)
    with pytest.raises(InputError, match="it ends within a text"):
        gwy.read(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"xres\0i\x80", b"xres\0i\x81", "damaged or not complete"),
        (b"xres\0i", b"xres\0?", "a type that is not known"),
        (b"data\0D\x00\x40", b"data\0D\x00\x41", "it ends within"),
        (b"xres\0i", b"xrex\0i", "xres"),
    ],
)
def test_damage_inside_is_one_sentence(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    whole = MINIMAL.read_bytes()
    assert whole.count(old) == 1
    path = tmp_path / "bad.gwy"
    path.write_bytes(whole.replace(old, new))
    with pytest.raises(InputError, match=rf"^bad\.gwy cannot be read[^\n]*{reason}[^\n]*$"):
        gwy.read(path)


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gwy"
    path.write_bytes(MINIMAL.read_bytes() + b"more")
    with pytest.raises(InputError, match="more follows than it announces"):
        gwy.read(path)


def test_another_file_and_one_without_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gwy"
    path.write_bytes(b"II*\0 this is another file")
    with pytest.raises(InputError, match=r"a\.gwy is not a Gwyddion file"):
        gwy.read(path)
    with pytest.raises(InputError, match=r"a\.gwy holds no image"):
        gwy.read(container(path))
    with pytest.raises(InputError, match=r"none\.gwy cannot be read \(No such file"):
        gwy.read(tmp_path / "none.gwy")
