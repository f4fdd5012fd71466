"""Height maps of every format: what is read, what is asked for, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from gwyfile.objects import GwyContainer, GwyDataField

from napari_deconv.afm.height_map import HeightMap
from napari_deconv.files.export import write_stack
from napari_deconv.files.heights import (
    height_channels,
    read_height_recipe,
    read_heights,
    write_heights,
)
from napari_deconv.files.reading import read_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError

MINIMAL = Path(__file__).parent / "data" / "minimal.gwy"
ROWS, COLUMNS, FRAMES = 5, 8, 3
PIXEL = (20.0, 7.5)
RECIPE = json.dumps({"kind": "TipRecipe", "radius_nm": 8.25, "steps": [1, 2], "note": "µ"})


def map_of(ndim: int = 2, **changes: Any) -> HeightMap:
    shape = (FRAMES, ROWS, COLUMNS)[-ndim:]
    heights = np.random.default_rng(ndim).normal(100.0, 20.0, shape)
    given: dict[str, Any] = {"channel": "ZSensor", "frame_s": 0.25 if ndim == 3 else None}
    return HeightMap(heights, PIXEL, **{**given, **changes})


def plain(path: Path, values: Any, **options: Any) -> Path:
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    return path


def imagej(path: Path, values: Any, axes: str = "YX", **told: Any) -> Path:
    told = {"axes": axes, "unit": "nm", **told}
    tifffile.imwrite(path, values, imagej=True, resolution=(1 / 7.5, 1 / 20.0), metadata=told)
    return path


def gwyddion(path: Path, fields: dict[str, tuple[Any, str, str]]) -> Path:
    """Write a file with, for each title, values, their unit and the unit of the axes."""
    body = GwyContainer()
    for number, (title, (values, z, xy)) in enumerate(fields.items()):
        rows, columns = values.shape
        size = {"xreal": 7.5e-9 * columns, "yreal": 20e-9 * rows}
        body[f"/{number}/data"] = GwyDataField(values, si_unit_z=z, si_unit_xy=xy, **size)
        body[f"/{number}/data/title"] = title
    with path.open("wb") as file:
        body.tofile(file)
    return path


def refused(path: Path, sentence: str, **options: Any) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_heights(path, **options)
    assert "\n" not in str(caught.value)


# -- round trips -----------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", ["a.gwy", "a.ome.tif", "a.tif", "a.TIFF"])
def test_what_was_written_needs_no_hint_to_be_read(tmp_path: Path, name: str, ndim: int) -> None:
    heights = map_of(ndim)
    path = write_heights(tmp_path / name, heights, recipe=RECIPE)
    found = read_heights(path)
    assert path == tmp_path / name
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert found.pixel_nm == pytest.approx(PIXEL, rel=1e-14)
    assert (found.name, found.channel, found.frame_s) == ("a", "ZSensor", heights.frame_s)
    exact = 1e-15 if name == "a.gwy" else 1e-7
    np.testing.assert_allclose(found.heights_nm, heights.heights_nm, rtol=exact)
    assert read_height_recipe(path) == RECIPE
    assert height_channels(path) == ("ZSensor",)


@pytest.mark.parametrize("name", ["a.gwy", "a.ome.tif"])
def test_a_movie_of_one_frame_stays_a_movie(tmp_path: Path, name: str) -> None:
    heights = HeightMap(map_of().heights_nm[None], PIXEL)
    found = read_heights(write_heights(tmp_path / name, heights))
    assert (found.heights_nm.shape, found.channel) == ((1, ROWS, COLUMNS), "Height")


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", ["a.gwy", "a.ome.tif"])
def test_other_images_come_along_and_the_main_one_is_first(
    tmp_path: Path, name: str, ndim: int
) -> None:
    heights = map_of(ndim, channel="reconstructed")
    image = heights.heights_nm + 50
    others = [("Height", image, "nm"), ("sure", image > 150, ""), ("Phase", image, "deg")]
    path = write_heights(tmp_path / name, heights, others=others)
    assert height_channels(path) == ("reconstructed", "Height", "sure")
    found = read_heights(path)
    assert found.channel == "reconstructed"
    np.testing.assert_allclose(found.heights_nm, heights.heights_nm, rtol=1e-7)
    np.testing.assert_allclose(read_heights(path, channel="height").heights_nm, image, rtol=1e-7)
    refused(path, "has no heights in 'Phase'; its channels of heights are", channel="Phase")
    refused(path, "does not say the unit of its sure", channel="sure")
    assert read_height_recipe(path) is None


@pytest.mark.parametrize(("ndim", "axes"), [(2, "YX"), (3, "TYX")])
def test_a_tiff_of_heights_is_an_image_of_the_right_size(
    tmp_path: Path, ndim: int, axes: str
) -> None:
    stack = read_stack(write_heights(tmp_path / "a.ome.tif", map_of(ndim)))
    assert (stack.axes, stack.grid) == (axes, Grid(spacing_um=(0.02, 0.0075)))
    assert (stack.channel_names, stack.data.dtype) == (("ZSensor",), np.float32)


def test_a_tip_of_another_size_fits_into_gwyddion_and_not_into_tiff(tmp_path: Path) -> None:
    others = [("Tip", np.zeros((3, 2)), "nm")]
    path = write_heights(tmp_path / "a.gwy", map_of(), others=others)
    assert read_heights(path, channel="Tip").heights_nm.shape == (3, 2)
    with pytest.raises(InputError, match=r"'Tip' of shape \(3, 2\) does not fit into one TIFF"):
        write_heights(tmp_path / "a.tif", map_of(), others=others)


@pytest.mark.parametrize("name", ["a.gwy", "a.tif"])
def test_an_older_file_is_replaced_only_where_it_is_allowed(tmp_path: Path, name: str) -> None:
    path = write_heights(tmp_path / name, map_of())
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_heights(path, map_of(3))
    assert path.read_bytes() == before
    write_heights(path, map_of(3), overwrite=True)
    assert read_heights(path).is_movie
    with pytest.raises(InputError, match="There is no folder"):
        write_heights(tmp_path / "none" / name, map_of())


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("a.png", {}, r"'a\.png' does not say which format to write"),
        ("a.ome.zarr", {}, "does not say which format to write"),
        ("a.gwy", {"recipe": "{"}, "The recipe is not JSON"),
        ("a.tif", {"recipe": "[1]"}, "The recipe is no JSON object"),
        ("a.gwy", {"others": [("ZSensor", np.zeros((2, 2)), "nm")]}, "give each its own name"),
        ("a.gwy", {"others": [("x", np.zeros(4), "nm")]}, r"'x' is float64 of shape \(4,\)"),
        ("a.gwy", {"others": [("x", np.full((2, 2), -np.inf), "nm")]}, "'x' holds NaN or inf"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(
    tmp_path: Path, name: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        write_heights(tmp_path / name, map_of(), **options)
    assert not list(tmp_path.iterdir())


# -- Gwyddion --------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "factor"), [("m", 1e-9), ("um", 1e-3), ("µm", 1e-3), ("nm", 1)])
def test_units_and_offsets_of_gwyddion(tmp_path: Path, unit: str, factor: float) -> None:
    heights = map_of().heights_nm - 3000.0
    path = gwyddion(tmp_path / "a.gwy", {"Topography": (heights * factor, unit, "m")})
    found = read_heights(path)
    np.testing.assert_allclose(found.heights_nm, heights, rtol=1e-12)
    assert found.pixel_nm == pytest.approx(PIXEL, rel=1e-12)


def test_the_default_channel_is_of_heights_and_of_the_way_forth(tmp_path: Path) -> None:
    heights = map_of().heights_nm * 1e-9
    titles = ["Amplitude", "Phase", "Height Retrace", "Height", "ZSensor", "Current", "Error"]
    units = ["m", "deg", "m", "m", "m", "A", "V"]
    path = gwyddion(
        tmp_path / "a.gwy",
        {
            t: (heights * (n + 1), u, "m")
            for n, (t, u) in enumerate(zip(titles, units, strict=True))
        },
    )
    assert height_channels(path) == ("Height", "ZSensor", "Height Retrace", "Amplitude")
    assert read_heights(path).channel == "Height"
    np.testing.assert_allclose(read_heights(path).heights_nm, heights * 4e9, rtol=1e-12)
    assert read_heights(path, channel="zsensor").channel == "ZSensor"
    refused(path, "has no heights in 'Error'; .* 'Height', 'ZSensor'", channel="Error")
    refused(path, "has no channel 'Z'; its channels of heights are 'Height'", channel="Z")


def test_no_channel_of_heights_or_several_without_a_known_name(tmp_path: Path) -> None:
    values = map_of().heights_nm * 1e-9
    path = gwyddion(tmp_path / "a.gwy", {"Phase": (values, "deg", "m"), "I": (values, "A", "m")})
    refused(path, "has no channel of heights; its channels are 'Phase', 'I'")
    assert height_channels(path) == ()
    path = gwyddion(tmp_path / "b.gwy", {"left": (values, "m", "m"), "right": (values, "m", "m")})
    refused(path, "cannot be told; say it .*: 'left', 'right'")
    path = gwyddion(tmp_path / "c.gwy", {"left": (values, "m", "m")})
    assert read_heights(path).channel == "left"


def test_the_file_of_others_asks_for_what_it_does_not_say() -> None:
    refused(MINIMAL, r"minimal\.gwy does not say the unit of its Test; say it .*--z-unit")
    refused(MINIMAL, "does not say the size of its pixels", z_unit="um")
    found = read_heights(MINIMAL, z_unit="um", pixel_nm=(3.0, 2.0))
    assert found.range_nm == pytest.approx(1.0)
    assert found.pixel_nm == (3.0, 2.0)
    assert (found.name, found.channel) == ("minimal", "Test")
    refused(MINIMAL, "are not in m; give their unit", z_unit="m", pixel_nm=(3.0, 2.0))


def test_a_unit_in_the_file_is_not_overruled_for_gwyddion(tmp_path: Path) -> None:
    heights = map_of().heights_nm
    path = gwyddion(tmp_path / "a.gwy", {"Height": (heights * 1e-9, "m", "m")})
    found = read_heights(path, z_unit="nm", pixel_nm=(1.0, 2.0))
    np.testing.assert_allclose(found.heights_nm, heights, rtol=1e-12)
    assert found.pixel_nm == (1.0, 2.0)


# -- TIFF ------------------------------------------------------------------------------


def test_a_plain_tiff_asks_for_unit_and_pixel(tmp_path: Path) -> None:
    heights = map_of().heights_nm
    path = plain(tmp_path / "a.tif", heights * 1e-3)
    refused(path, "does not say the unit of its Height; say it")
    refused(path, "does not say the size of its pixels; say it in nm", z_unit="um")
    found = read_heights(path, z_unit="um", pixel_nm=PIXEL)
    np.testing.assert_allclose(found.heights_nm, heights, rtol=1e-14)
    assert (found.pixel_nm, found.name, found.is_movie) == (PIXEL, "a", False)
    refused(path, "pixel size in nm must be greater than 0", z_unit="um", pixel_nm=(1.0, 0.0))
    refused(
        path, "The unit of the heights is 'volt', which is no length", z_unit="Volt", pixel_nm=PIXEL
    )


def test_three_axes_of_a_plain_tiff_are_frames(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.tif", map_of(3).heights_nm)
    found = read_heights(path, z_unit="nm", pixel_nm=PIXEL)
    np.testing.assert_array_equal(found.heights_nm, map_of(3).heights_nm)
    assert found.frame_s is None


@pytest.mark.parametrize("told", [{"vunit": "um"}, {"zunit": "\\u00B5m"}])
def test_imagej_tells_pixel_time_and_unit(tmp_path: Path, told: dict[str, str]) -> None:
    values = (map_of(3).heights_nm * 1e-3).astype("float32")
    path = imagej(tmp_path / "a.tif", values, "TYX", finterval=0.5, **told)
    found = read_heights(path)
    assert (found.pixel_nm, found.frame_s) == (PIXEL, 0.5)
    np.testing.assert_allclose(found.heights_nm, map_of(3).heights_nm, rtol=1e-6)
    told_nm = read_heights(path, z_unit="nm").heights_nm
    np.testing.assert_allclose(told_nm, map_of(3).heights_nm * 1e-3, rtol=1e-6)


def test_imagej_maps_counts_to_heights_by_a_line(tmp_path: Path) -> None:
    counts = np.arange(ROWS * COLUMNS, dtype="uint16").reshape(ROWS, COLUMNS)
    line: dict[str, Any] = {"cf": 0, "c0": -5.0, "c1": 0.25, "vunit": "nm"}
    found = read_heights(imagej(tmp_path / "a.tif", counts, **line))
    np.testing.assert_allclose(found.heights_nm, counts * 0.25 - 5.0)
    refused(imagej(tmp_path / "b.tif", counts, **{**line, "cf": 3}), "by a curve; apply it there")
    refused(imagej(tmp_path / "c.tif", counts, vunit="Gray Value"), "does not say the unit")


def test_channels_of_a_tiff_are_chosen_by_name(tmp_path: Path) -> None:
    data = np.stack([map_of().heights_nm + n for n in range(2)]).astype("float32")
    stack = Stack(data, "CYX", Grid(spacing_um=(0.02, 0.0075)), channel_names=("Phase", "Height"))
    path = tmp_path / "a.ome.tif"
    write_stack(path, stack)
    found = read_heights(path, z_unit="nm")
    np.testing.assert_array_equal(found.heights_nm, data[1])
    assert height_channels(path) == ("Height", "Phase")
    path = plain(tmp_path / "b.tif", data, metadata={"axes": "CYX"})
    refused(path, "cannot be told; say it .*: 'channel 1', 'channel 2'", z_unit="nm")
    found = read_heights(path, z_unit="nm", pixel_nm=PIXEL, channel="channel 2")
    np.testing.assert_array_equal(found.heights_nm, data[1])


def test_ome_zarr_is_read(tmp_path: Path) -> None:
    data = map_of(3).heights_nm.astype("float32")
    path = tmp_path / "a.ome.zarr"
    write_stack(path, Stack(data, "TYX", Grid(spacing_um=(0.02, 0.0075))))
    np.testing.assert_array_equal(read_heights(path, z_unit="nm").heights_nm, data)
    zarr.open_group(str(tmp_path / "bare.zarr"), mode="w")
    refused(tmp_path / "bare.zarr", "no 'multiscales'")


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((ROWS, COLUMNS, 3), {"photometric": "rgb"}),
        ((ROWS, COLUMNS, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ((3, ROWS, COLUMNS), {"photometric": "minisblack"}),
        ((4, ROWS, COLUMNS), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        ((ROWS, COLUMNS, 3), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
)
def test_a_screenshot_is_no_map_of_heights(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, np.zeros(shape, "uint8"), **options)
    refused(path, r"photo\.tif is a picture, not heights", z_unit="nm", pixel_nm=PIXEL)
    with pytest.raises(InputError, match="is a picture, not heights"):
        height_channels(path)


def test_a_png_a_text_and_nothing_are_refused(tmp_path: Path) -> None:
    for name in ("shot.PNG", "shot.jpeg"):
        (tmp_path / name).write_bytes(b"\x89PNG")
        refused(tmp_path / name, "is a picture, not heights")
    (tmp_path / "a.xyz").write_text("1 2 3")
    refused(tmp_path / "a.xyz", r"a\.xyz is of no format that is read here.* \.gwy, \.spm")
    refused(tmp_path / "none.gwy", "There is no file")
    refused(tmp_path, "is a folder, not a file of heights")
    (tmp_path / "a.tif").write_bytes(b"no TIFF at all")
    refused(tmp_path / "a.tif", "is not a TIFF image")
    (tmp_path / "a.gwy").write_bytes(MINIMAL.read_bytes()[:5000])
    refused(tmp_path / "a.gwy", "damaged or not complete")


def test_heights_that_cannot_be(tmp_path: Path) -> None:
    heights = map_of().heights_nm
    path = plain(tmp_path / "metres.tif", heights * 1e-9)
    refused(path, "in metres, say that their unit is m", z_unit="nm", pixel_nm=PIXEL)
    np.testing.assert_allclose(
        read_heights(path, z_unit="m", pixel_nm=PIXEL).heights_nm, heights, rtol=1e-12
    )
    heights = heights.copy()
    heights[1, 2] = np.nan
    path = plain(tmp_path / "nan.tif", heights)
    refused(path, "1 of 40 heights are NaN or inf", z_unit="nm", pixel_nm=PIXEL)
    path = plain(tmp_path / "both.tif", np.zeros((2, 3, 5, 6), "f4"), metadata={"axes": "TZYX"})
    refused(path, "has the axes TZYX; heights are YX, or TYX", z_unit="nm", pixel_nm=PIXEL)
