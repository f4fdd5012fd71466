"""Files of other programs, made with tifffile and zarr: what is read, and what is refused."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import psutil
import pytest
import tifffile
import zarr
from tests.ome_sets import OME, image_in_two_files, uuids, write_set

from napari_deconv.files import ome_zarr, reading, tiff
from napari_deconv.files.export import write_stack
from napari_deconv.files.reading import (
    files_of,
    read_header,
    read_provenance,
    read_stack,
    read_voxels,
)
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError

SIZES = {"T": 3, "C": 2, "Z": 5, "Y": 6, "X": 7}


def voxels(axes: str, dtype: str = "uint16") -> np.ndarray[Any, np.dtype[Any]]:
    shape = tuple(SIZES[axis] for axis in axes)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def ome_tiff(path: Path, pixels: str, before: str = "", inside: str = "") -> Path:
    """Write five planes with hand-made OME-XML: `before` the image and `inside` it."""
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}">{before}'
        f'<Image ID="Image:0">{inside}<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="7" SizeY="6" SizeZ="5" SizeC="1" SizeT="1" {pixels}<TiffData/></Pixels></Image>'
        "</OME>"
    )
    tifffile.imwrite(
        path,
        voxels("ZYX"),
        photometric="minisblack",
        description=xml.encode(),
        metadata=None,
        ome=False,
    )
    return path


def ome_group(path: Path, axes: list[dict[str, str]], scale: list[float], **more: Any) -> Path:
    """Write an OME-Zarr 0.5 with `axes`, all of size five."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = group.create_array("0", shape=(5,) * len(axes), dtype="uint16", chunks=(5,) * len(axes))
    array[...] = 7
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    multiscale = {"axes": axes, "datasets": [level], **more}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def space(*names: str, unit: str = "nanometer") -> list[dict[str, str]]:
    return [{"name": name, "type": "space", "unit": unit} for name in names]


# -- TIFF ------------------------------------------------------------------------------


def test_an_imagej_hyperstack_brings_axes_spacing_and_time(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    told = {"axes": "TZCYX", "unit": "\\u00B5m", "spacing": 0.38, "finterval": 2.5}
    data = voxels("TZCYX")
    tifffile.imwrite(path, data, imagej=True, resolution=(1 / 0.1015, 1 / 0.11), metadata=told)
    stack = read_stack(path)
    assert stack.axes == "TCZYX"
    assert stack.grid == Grid(spacing_um=(0.38, 0.11, 0.1015))
    assert stack.time_step_s == 2.5
    assert stack.name == "cells"
    np.testing.assert_array_equal(stack.data, data.swapaxes(1, 2))


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "\\u03BCm"])
def test_imagej_spellings_of_the_micrometre(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "a.tif"
    told = {"axes": "ZYX", "unit": unit, "spacing": 0.3}
    tifffile.imwrite(path, voxels("ZYX"), imagej=True, resolution=(10, 10), metadata=told)
    assert read_stack(path).grid == Grid(spacing_um=(0.3, 0.1, 0.1))


@pytest.mark.parametrize(
    ("told", "resolution"),
    [
        ({"spacing": 0.3}, (10, 10)),  # no unit
        ({"spacing": 0.3, "unit": "pixel"}, (10, 10)),
        ({"spacing": 0.3, "unit": "inch"}, (72, 72)),  # dots of a print
        ({"spacing": 0.3, "unit": "cm"}, (28, 28)),
        ({"unit": "um"}, (10, 10)),  # no spacing in z
        ({"spacing": 0.3, "unit": "um"}, None),  # no spacing in y and x
    ],
)
def test_an_incomplete_imagej_scale_is_no_voxel_size(
    tmp_path: Path, told: dict[str, Any], resolution: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, voxels("ZYX"), imagej=True, resolution=resolution, metadata={"axes": "ZYX", **told}
    )
    stack = read_stack(path)
    assert stack.grid is None
    # Where the file says something of it, the user is told why it does not suffice.
    assert bool(stack.unknown_grid) == (told.get("unit") in ("inch", "cm", "um"))


@pytest.mark.parametrize("mapped_from", [2**30, 0])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_numbers_with_a_sign_of_imagej_are_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byteorder: Any, mapped_from: int
) -> None:
    """ImageJ keeps them above zero, and says by how much."""
    monkeypatch.setattr(tiff, "MAPPED_FROM_BYTES", mapped_from)
    path = tmp_path / "signed.tif"
    wanted = voxels("ZYX").astype(np.int16) - 7
    told = {"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0}
    stored = (wanted.astype(np.int32) + 32768).astype(np.uint16)
    tifffile.imwrite(path, stored, imagej=True, metadata=told, byteorder=byteorder)
    stack = read_stack(path)
    assert (np.dtype(stack.data.dtype).kind, stack.remarks) == ("i", ())
    np.testing.assert_array_equal(np.asarray(stack.data), wanted)
    assert np.dtype(read_header(path).data.dtype).kind == "i"


def test_another_calibration_of_imagej_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    told = {"axes": "ZYX", "cf": 0, "c0": 5.0, "c1": 0.5}
    tifffile.imwrite(path, voxels("ZYX"), imagej=True, metadata=told)
    stack = read_stack(path)
    np.testing.assert_array_equal(stack.data, voxels("ZYX"))
    (remark,) = stack.remarks
    assert "5 + 0.5 x the stored value" in remark


def test_imagej_labels_of_channels_are_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    told = {"axes": "CYX", "Labels": ["DAPI", "GFP"]}
    tifffile.imwrite(path, voxels("CYX"), imagej=True, metadata=told)
    assert read_stack(path).channel_names == ("DAPI", "GFP")


def test_the_colours_of_imagej_are_those_of_its_lookup_tables(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)
    tables = [np.stack([ramp, 0 * ramp, ramp]), np.stack([0 * ramp, ramp, 0 * ramp])]
    for mode, colours in (("composite", ("FF00FF", "00FF00")), ("grayscale", ())):
        path = tmp_path / f"{mode}.tif"
        told = {"axes": "CYX", "LUTs": tables, "mode": mode}
        tifffile.imwrite(path, voxels("CYX"), imagej=True, metadata=told)
        assert read_stack(path).channel_colours == colours


@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER"])
def test_a_plain_tiff_of_three_axes_is_a_stack_in_z_without_a_scale(
    tmp_path: Path, unit: str
) -> None:
    path = tmp_path / "plain.tif"
    data = voxels("ZYX", "float32")
    tifffile.imwrite(path, data, resolution=(72, 72), resolutionunit=unit)
    stack = read_stack(path)
    assert (stack.axes, stack.grid) == ("ZYX", None)
    np.testing.assert_array_equal(stack.data, data)


def test_pages_without_any_metadata_are_planes_of_z(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in voxels("ZYX"):
            writer.write(plane, contiguous=False, metadata=None)
    assert read_stack(path).axes == "ZYX"


def test_a_plain_tiff_of_four_axes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, voxels("CZYX"))
    with pytest.raises(InputError, match="does not say what its 4 axes are"):
        read_stack(path)


def test_an_axis_that_is_no_image_axis_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phases.tif"
    tifffile.imwrite(path, voxels("CZYX"), metadata={"axes": "PZYX"})
    with pytest.raises(InputError, match="P is none of T, C, Z, Y, X"):
        read_stack(path)


def test_ome_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "plane.ome.tif"
    told = {"axes": "TCZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(path, voxels("YX")[None, None, None], metadata=told)
    stack = read_stack(path)
    assert (stack.axes, stack.grid) == ("YX", Grid(spacing_um=(0.1, 0.1)))
    assert stack.name == "plane"


def test_ome_units_wavelength_and_objective(tmp_path: Path) -> None:
    path = ome_tiff(
        tmp_path / "a.ome.tif",
        'PhysicalSizeX="100" PhysicalSizeXUnit="nm" PhysicalSizeY="0.1" PhysicalSizeZ="3e-7" '
        'PhysicalSizeZUnit="m"><Channel ID="Channel:0:0" Name="GFP" SamplesPerPixel="1" '
        'EmissionWavelength="0.52" EmissionWavelengthUnit="µm" ExcitationWavelength="488" '
        'AcquisitionMode="LaserScanningConfocalMicroscopy"/>',
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="0.3"/>'
        '<Objective ID="Objective:1" LensNA="1.4" Immersion="Oil"/></Instrument>',
        '<ObjectiveSettings ID="Objective:1" RefractiveIndex="1.518"/>',
    )
    stack = read_stack(path)
    assert stack.grid == Grid(spacing_um=(0.3, 0.1, 0.1))
    assert stack.channel_names == ("GFP",)
    assert stack.channel_optics == (KnownOptics(1.4, 1.518, 520.0, 488.0, "confocal"),)
    assert read_provenance(path) is None


@pytest.mark.parametrize(
    ("medium", "index"),
    [("Oil", 1.515), ("Water", 1.333), ("WaterDipping", 1.333), ("Air", 1.0), ("Glycerol", 1.46)],
)
def test_the_only_objective_gives_na_and_immersion_by_name(
    tmp_path: Path, medium: str, index: float
) -> None:
    path = ome_tiff(
        tmp_path / "a.ome.tif",
        '><Channel ID="Channel:0:0" SamplesPerPixel="1"/>',
        f'<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="0.8" '
        f'Immersion="{medium}"/></Instrument>',
    )
    assert read_stack(path).channel_optics == (KnownOptics(0.8, index, None),)


@pytest.mark.parametrize(
    "pixels",
    [
        'PhysicalSizeX="0.1" PhysicalSizeY="0.1">',  # no z
        'PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel" '
        'PhysicalSizeZ="1" PhysicalSizeZUnit="pixel">',
        'PhysicalSizeX="0" PhysicalSizeY="0.1" PhysicalSizeZ="0.3">',
    ],
)
def test_an_incomplete_ome_scale_is_no_voxel_size(tmp_path: Path, pixels: str) -> None:
    stack = read_stack(ome_tiff(tmp_path / "a.ome.tif", pixels))
    assert (stack.grid, stack.channel_optics) == (None, ())


def test_the_full_resolution_of_a_pyramid_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(voxels("ZYX"), subifds=1, metadata={"axes": "ZYX"})
        writer.write(voxels("ZYX")[:, ::2, ::2], subfiletype=1)
    assert read_stack(path).shape == (5, 6, 7)


def two_files(folder: Path) -> tuple[Path, Path]:
    """Write the channels of `voxels`, a file each."""
    paths = folder / "m0.ome.tif", folder / "m1.ome.tif"
    return image_in_two_files(paths, "C", list(voxels("CZYX")))


def test_several_files_of_one_image_are_joined(tmp_path: Path) -> None:
    stack = read_stack(two_files(tmp_path)[0])
    assert stack.axes == "CZYX"
    np.testing.assert_array_equal(stack.data, voxels("CZYX"))
    assert stack.remarks == ("m0.ome.tif and m1.ome.tif are one image, which is read as a whole",)


def test_the_files_of_a_set_are_told_and_those_of_other_images_are_not(tmp_path: Path) -> None:
    set_of_two = two_files(tmp_path)
    assert [files_of(path) for path in set_of_two] == [set_of_two] * 2
    for position in two_positions(tmp_path):
        assert files_of(position) == (position,)
    assert files_of(tmp_path / "missing.tif") == (tmp_path / "missing.tif",)


def two_positions(folder: Path) -> tuple[Path, Path]:
    """Write two files of one set, each with one image, and both described in both."""
    paths = folder / "pos0.ome.tif", folder / "pos1.ome.tif"
    ids = uuids(2)
    images = "".join(
        f'<Image ID="Image:{n}"><AcquisitionDate>2026-11-2{n}</AcquisitionDate>'
        f'<Pixels ID="Pixels:{n}" DimensionOrder="XYZCT" Type="uint16" SizeX="7" SizeY="6" '
        f'SizeZ="5" SizeC="1" SizeT="1" PhysicalSizeX="0.{n + 1}" PhysicalSizeY="0.2" '
        f'PhysicalSizeZ="0.3"><Channel ID="Channel:{n}:0" Color="-16776961"/><TiffData IFD="0" '
        f'PlaneCount="5"><UUID FileName="{paths[n].name}">{ids[n]}</UUID></TiffData>'
        f'<Plane TheZ="1" TheC="0" TheT="0" PositionX="5"/><Plane TheZ="0" TheC="0" TheT="0" '
        f'PositionX="{n}" PositionY="-2.5" PositionYUnit="mm"/></Pixels></Image>'
        for n in (0, 1)
    )
    write_set(paths, ids, images, list(voxels("CZYX")))
    return paths


@pytest.mark.parametrize("mapped_from", [2**30, 0])
def test_a_file_of_a_set_of_positions_is_read_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped_from: int
) -> None:
    monkeypatch.setattr(tiff, "MAPPED_FROM_BYTES", mapped_from)
    for number, path in enumerate(two_positions(tmp_path)):
        stack = read_stack(path)
        np.testing.assert_array_equal(np.asarray(stack.data), voxels("CZYX")[number])
        assert stack.grid == Grid(spacing_um=(0.3, 0.2, (0.1, 0.2)[number]))
        assert stack.position == {"X": (float(number), "reference frame"), "Y": (-2.5, "mm")}
        assert stack.acquired == f"2026-11-2{number}"
        assert stack.channel_colours == ("FF0000",)
        (remark,) = stack.remarks
        assert f"{path.name} holds 2 images" in remark


def test_a_missing_file_of_several_is_no_black_channel(tmp_path: Path) -> None:
    kept, lost = two_files(tmp_path)
    lost.unlink()
    with pytest.raises(InputError, match="5 of its planes lie in files that are not there"):
        read_stack(kept)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_large_tiff_is_mapped_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byteorder: str
) -> None:
    monkeypatch.setattr(tiff, "MAPPED_FROM_BYTES", 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels("ZYX"), byteorder=byteorder)
    stack = read_stack(path)
    assert isinstance(stack.data, np.memmap)
    np.testing.assert_array_equal(stack.data, voxels("ZYX"))


def test_with_little_memory_a_small_file_is_left_on_disk(tmp_path: Path) -> None:
    counts = voxels("ZYX")
    mapped, compressed, zarr = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.ome.zarr"
    tifffile.imwrite(mapped, counts)
    tifffile.imwrite(compressed, counts, compression="zlib")
    write_stack(zarr, Stack(counts, "ZYX"), dtype="uint16")
    for path in (mapped, compressed, zarr):
        enough = round(counts.nbytes / reading.LOADED_PART)
        assert type(read_stack(path, memory_bytes=enough).data) is np.ndarray
        left = read_stack(path, memory_bytes=enough - 32).data
        assert isinstance(left, np.memmap) or hasattr(left, "dask")
        np.testing.assert_array_equal(np.asarray(left), counts)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what is resident")
def test_of_a_map_no_pages_are_held_but_those_of_a_plane(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    np.ones((16, 1024, 1024), np.uint8).tofile(path)
    mapped = np.memmap(path, np.uint8, "r", shape=(16, 1024, 1024))
    before = psutil.Process().memory_info().shared
    block = read_voxels(mapped, (slice(1, 15),), "a.raw")
    assert psutil.Process().memory_info().shared - before < 2**21
    np.testing.assert_array_equal(block, mapped[1:15])
    assert type(block) is np.ndarray


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_was_written_into_a_map_is_read(tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "a.raw"
    np.zeros((4, 64, 64), np.uint8).tofile(path)
    mapped = np.memmap(path, np.uint8, mode, shape=(4, 64, 64))
    mapped[2] = 7
    for _ in range(2):
        assert read_voxels(mapped, (slice(1, 4),), "a.raw")[1].min() == 7


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "pages", "imagej", "ome", "zlib", "big"])
@pytest.mark.parametrize("part", [0.99, 0.8, 0.4, 0.1, 0.0])
def test_a_tiff_that_was_cut_off_is_never_read_as_a_part(
    tmp_path: Path, kind: str, part: float
) -> None:
    path = tmp_path / "a.tif"
    data = np.random.default_rng(3).integers(0, 4096, (5, 32, 32)).astype("uint16")
    choices: dict[str, dict[str, Any]] = {
        "plain": {},
        "pages": {"metadata": None, "contiguous": False},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
        "zlib": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
        "big": {"bigtiff": True},
    }
    options = choices[kind]
    of_file = {k: options.pop(k) for k in ("imagej", "ome", "bigtiff") if k in options}
    with tifffile.TiffWriter(path, **of_file) as writer:
        for block in data if kind == "pages" else [data]:
            writer.write(block, **options)
    assert read_stack(path).shape == data.shape
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match=r"a\.tif") as caught:
        read_stack(path)
    assert "\n" not in str(caught.value)


def test_an_imagej_file_with_one_directory_that_was_cut_off(tmp_path: Path) -> None:
    # Above 4 GiB ImageJ writes one directory, in front, for all planes.
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels("YX"), imagej=True, metadata={"axes": "YX"})
    whole = path.read_bytes()
    assert whole.count(b"images=1\n") == 1
    path.write_bytes(whole.replace(b"images=1\n", b"images=9\n"))
    with pytest.raises(InputError, match="holds 1 of the 9 planes"):
        read_stack(path)


def test_a_text_named_tif_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.tif"
    path.write_text("these are no voxels")
    with pytest.raises(InputError, match=r"notes\.tif is not a TIFF image"):
        read_stack(path)


def test_noise_after_a_tiff_header_is_refused_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noise.tif"
    path.write_bytes(b"II*\x00\x08\x00\x00\x00" + bytes(range(256)))
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match=r"noise\.tif"):
        read_stack(path)
    assert not [record for record in caplog.records if record.name == "tifffile"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 7, 3), {"photometric": "rgb"}),
        ((6, 7, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ((5, 6, 7, 3), {"photometric": "rgb"}),
        ((3, 6, 7), {"photometric": "rgb", "planarconfig": "separate"}),
        ((6, 7, 2), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
)
def test_a_colour_picture_is_refused(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, np.zeros(shape, "uint8"), **options)
    with pytest.raises(InputError, match=r"photo\.tif is a colour picture"):
        read_stack(path)


def test_complex_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, np.zeros((5, 6, 7), "complex64"))
    with pytest.raises(InputError, match="holds complex64 values"):
        read_stack(path)


def test_a_missing_file_and_a_folder_without_an_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_stack(tmp_path / "none.tif")
    with pytest.raises(InputError, match="There is no file"):
        read_provenance(tmp_path / "none.tif")
    with pytest.raises(InputError, match="is a folder but no OME-Zarr image"):
        read_stack(tmp_path)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError("no"), "may not be read"),
        (MemoryError(), "does not fit in memory"),
        (ValueError("LZW requires the 'imagecodecs' package"), "pip install imagecodecs"),
        (RuntimeError("two\nlines"), r"\(two lines\)"),
    ],
)
def test_whatever_the_reader_raises_becomes_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels("ZYX"))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(tiff, "_voxels", fail)
    with pytest.raises(InputError, match=sentence):
        read_stack(path)


# -- OME-Zarr --------------------------------------------------------------------------


def test_an_ome_zarr_brings_axes_scale_and_channels(tmp_path: Path) -> None:
    axes = [
        {"name": "t", "type": "time", "unit": "millisecond"},
        {"name": "c", "type": "channel"},
        *space("z", "y", "x"),
    ]
    path = ome_group(tmp_path / "a.ome.zarr", axes, [500, 1, 300, 100, 100])
    group = zarr.open_group(str(path))
    ome: Any = dict(group.attrs)["ome"]
    names = [f"channel {n}" for n in range(5)]
    group.attrs["ome"] = {**ome, "omero": {"channels": [{"label": name} for name in names]}}
    stack = read_stack(path)
    assert (stack.axes, stack.time_step_s, stack.name) == ("TCZYX", 0.5, "a")
    assert stack.grid == Grid(spacing_um=(0.3, 0.1, 0.1))
    assert stack.channel_names == tuple(names)


def test_scales_of_level_and_image_are_multiplied_and_axes_put_in_order(tmp_path: Path) -> None:
    more = {"coordinateTransformations": [{"type": "scale", "scale": [2.0, 2.0, 2.0]}]}
    path = ome_group(tmp_path / "a.zarr", space("x", "y", "z"), [100, 110, 300], **more)
    stack = read_stack(path)
    assert (stack.axes, stack.grid) == ("ZYX", Grid(spacing_um=(0.6, 0.22, 0.2)))


@pytest.mark.parametrize("unit", ["", "pixel"])
def test_an_ome_zarr_without_a_unit_has_no_voxel_size(tmp_path: Path, unit: str) -> None:
    axes = [*space("z", unit=unit), *space("y", "x")]
    assert read_stack(ome_group(tmp_path / "a.zarr", axes, [1, 1, 1])).grid is None


def test_a_large_ome_zarr_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ome_group(tmp_path / "a.zarr", space("z", "y", "x"), [1, 1, 1])
    assert isinstance(read_stack(path).data, np.ndarray)
    monkeypatch.setattr(ome_zarr, "LOADED_UP_TO_BYTES", 0)
    lazy = read_stack(path).data
    assert hasattr(lazy, "dask")
    assert int(np.asarray(lazy).sum()) == 7 * 5**3


def test_bioformats2raw_puts_images_in_numbered_groups(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for number in "01":
        ome_group(tmp_path / "a.zarr" / number, space("z", "y", "x"), [300, 100, 100])
    (tmp_path / "a.zarr" / "OME").mkdir()
    (tmp_path / "a.zarr" / "OME" / "METADATA.ome.xml").write_text(
        f'<OME xmlns="{OME}"><Image ID="Image:0"><Pixels ID="Pixels:0"><Channel '
        'ID="Channel:0:0" EmissionWavelength="520"/></Pixels></Image></OME>'
    )
    stack = read_stack(tmp_path / "a.zarr")
    assert stack.grid == Grid(spacing_um=(0.3, 0.1, 0.1))
    assert stack.channel_optics == (KnownOptics(emission_nm=520),)
    (remark,) = stack.remarks
    assert "a.zarr holds 2 images" in remark


def test_zarr_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = ome_group(tmp_path / "a.zarr", space("z", "y", "x"), [1, 1, 1])
    with pytest.raises(InputError, match="one array inside an OME-Zarr"):
        read_stack(path / "0")
    odd = ome_group(tmp_path / "odd.zarr", space("z", "angle", "x"), [1, 1, 1])
    with pytest.raises(InputError, match="one of t, c, z, y, x is needed"):
        read_stack(odd)
    group = zarr.open_group(str(tmp_path / "bare.zarr"), mode="w")
    with pytest.raises(InputError, match="no 'multiscales'"):
        read_stack(tmp_path / "bare.zarr")
    group.attrs["ome"] = {"plate": {}}
    with pytest.raises(InputError, match="is a plate or a well"):
        read_stack(tmp_path / "bare.zarr")


@pytest.mark.parametrize("damage", ["half", "level"])
def test_a_damaged_ome_zarr_is_refused(tmp_path: Path, damage: str) -> None:
    path = ome_group(tmp_path / "a.zarr", space("z", "y", "x"), [1, 1, 1])
    if damage == "half":
        text = (path / "zarr.json").read_text()
        (path / "zarr.json").write_text(text[: len(text) // 2])
    else:
        (path / "0" / "zarr.json").unlink()
    with pytest.raises(InputError, match=r"a\.zarr cannot be read"):
        read_stack(path)


def test_an_older_ome_zarr_names_axes_by_letters_only(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "old.zarr"), mode="w", zarr_format=2)
    group.create_array("s0", shape=(2, 3, 4), dtype="uint8")
    multiscale: Any = {"version": "0.3", "axes": ["z", "y", "x"], "datasets": [{"path": "s0"}]}
    group.attrs["multiscales"] = [multiscale]
    assert json.loads((tmp_path / "old.zarr" / ".zattrs").read_text())
    stack = read_stack(tmp_path / "old.zarr")
    assert (stack.axes, stack.shape, stack.grid) == ("ZYX", (2, 3, 4), None)


def test_nothing_heavy_is_imported_before_a_file_is_read() -> None:
    code = (
        "import sys, napari_deconv.files.export, napari_deconv.files.reading;"
        "sys.exit(bool({'tifffile', 'zarr', 'dask', 'torch', 'napari'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_a_header_is_the_stack_without_its_voxels(tmp_path: Path, name: str) -> None:
    grid = Grid(spacing_um=(0.4, 0.2, 0.2))
    known = (KnownOptics(na=1.2), KnownOptics(emission_nm=600))
    stack = Stack(voxels("TCZYX"), "TCZYX", grid, "a", ("DAPI", "GFP"), known, 2.5)
    whole = read_stack(write_stack(tmp_path / name, stack, dtype="uint16"))
    header = read_header(tmp_path / name)
    for field in ("shape", "axes", "grid", "channel_names", "channel_optics", "time_step_s"):
        assert getattr(header, field) == getattr(whole, field), field
    assert header.data.dtype == whole.data.dtype
    assert set(header.data.strides) == {0}
    with pytest.raises(InputError, match="no file"):
        read_header(tmp_path / "none.tif")


# -- voxels that stay on disk ------------------------------------------------------------

LARGE_TIFF: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 16, "compression": "zlib"},
    "planes": {"compression": "zlib"},
    "tiles": {"tile": (16, 16), "compression": "zlib"},
    "pieces": {"tile": (16, 16)},
}


def large_tiff(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> tuple[Stack, np.ndarray[Any, np.dtype[Any]]]:
    monkeypatch.setattr(tiff, "MAPPED_FROM_BYTES", 0)
    monkeypatch.setattr(tiff, "PIECE_SIDE", 32)
    data = np.random.default_rng(2).integers(0, 4096, (2, 5, 70, 61)).astype("uint16")
    tifffile.imwrite(
        path,
        data[None],
        ome=True,
        photometric="minisblack",
        metadata={"axes": "TCZYX"},
        **LARGE_TIFF[kind],
    )
    return read_stack(path), data


@pytest.mark.parametrize("kind", LARGE_TIFF)
def test_a_large_tiff_that_cannot_be_mapped_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stack, data = large_tiff(tmp_path / "a.ome.tif", monkeypatch, kind)
    assert (stack.axes, stack.data.dtype) == ("CZYX", np.uint16)
    assert hasattr(stack.data, "dask")
    assert stack.data.chunksize[:2] == (1, 1)
    np.testing.assert_array_equal(read_voxels(stack.data, (slice(None),) * 4, "a"), data)
    travelled = pickle.loads(pickle.dumps(stack.data))
    place = (1, slice(1, 3), slice(20, 60), slice(3, 50))
    np.testing.assert_array_equal(read_voxels(travelled, place, "a"), data[place])
    (tmp_path / "a.ome.tif").unlink()
    with pytest.raises(InputError, match=r"a\.ome\.tif: .*it is not there any more"):
        read_voxels(stack.data, place, "a")


def test_a_plane_of_a_large_tiff_that_is_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ome.tif"
    stack, data = large_tiff(path, monkeypatch, "planes")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[7]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    raw = bytearray(path.read_bytes())
    raw[start + 2 : start + count] = b"\x55" * (count - 2)
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_voxels(stack.data, (0,), "a"), data[0])
    with pytest.raises(InputError, match=r"a\.ome\.tif: the voxels c 1, z 2, y 0-69, x 0-60"):
        read_voxels(stack.data, (1, slice(1, 4)), "a")


def test_a_mapped_tiff_that_is_cut_off_later_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To touch what is beyond the end of a mapped file would end the process (SIGBUS).
    monkeypatch.setattr(tiff, "MAPPED_FROM_BYTES", 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels("ZYX"))
    stack = read_stack(path)
    place = (slice(0, 2), slice(0, 6), slice(0, 7))
    np.testing.assert_array_equal(read_voxels(stack.data, place, "a"), voxels("ZYX")[:2])
    with path.open("r+b") as file:
        file.truncate(300)
    with pytest.raises(InputError, match=r"cells: the voxels z 0-1, y 0-5, x 0-6 .*was cut off"):
        read_voxels(stack.data, place, "cells")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_chunk_is_named_and_a_missing_one_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, compressed: bool
) -> None:
    monkeypatch.setattr(ome_zarr, "LOADED_UP_TO_BYTES", 0)
    path = ome_group(tmp_path / "a.zarr", space("z", "y", "x"), [1, 1, 1])
    data = np.arange(5**3, dtype="uint16").reshape(5, 5, 5) + 1
    group = zarr.open_group(str(path))
    array = group.create_array(
        "0",
        shape=(5, 5, 5),
        dtype="uint16",
        chunks=(2, 3, 5),
        overwrite=True,
        compressors="auto" if compressed else None,
    )
    array[...] = data
    stack = read_stack(path)
    chunk = path / "0" / "c" / "1" / "1" / "0"
    whole = chunk.read_bytes()
    if damage == "noise":
        chunk.write_bytes(whole[::-1] if compressed else whole + b"more")
    else:
        chunk.write_bytes(whole[:9] if damage == "cut" else b"")
    np.testing.assert_array_equal(read_voxels(stack.data, (slice(0, 2),), "a"), data[:2])
    with pytest.raises(InputError, match=r"a\.zarr: the voxels z 2-3, y 3-4, x 0-4 cannot be") as c:
        read_voxels(stack.data, (slice(0, 5), slice(2, 5)), "a")
    assert "\n" not in str(c.value)
    chunk.unlink()
    assert read_voxels(stack.data, (3, 4, 4), "a") == 0


def test_an_ome_zarr_that_went_away_is_no_darkness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Zarr takes every chunk of a folder that is gone, say with its disk, for zeros.
    monkeypatch.setattr(ome_zarr, "LOADED_UP_TO_BYTES", 0)
    path = ome_group(tmp_path / "a.zarr", space("z", "y", "x"), [1, 1, 1])
    stack = read_stack(path)
    assert read_voxels(stack.data, (0, 0, 0), "a") == 7
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"a\.zarr: .*it is not there any more"):
        read_voxels(stack.data, (0, 0, 0), "a")
    with pytest.raises(InputError, match=r"a\.zarr: .*it is not there any more"):
        write_stack(tmp_path / "b.tif", stack)


def test_voxels_of_any_array_are_read_or_named() -> None:
    data = voxels("CYX")
    place = (1, slice(2, 4), slice(None))
    np.testing.assert_array_equal(read_voxels(data, place, "a"), data[place])
    lazy = da.from_array(data, chunks=(1, 3, 4))
    np.testing.assert_array_equal(read_voxels(lazy, place, "a"), data[place])

    def fail(_: Any) -> Any:
        raise OSError("the camera\nis gone")

    broken = lazy.map_blocks(fail, meta=np.empty((0, 0, 0), data.dtype))
    with pytest.raises(InputError, match=r"cells: the voxels c 1, y 2-3, all of x .*the camera\)"):
        read_voxels(broken, place, "cells", axes="CYX")


@pytest.mark.parametrize(
    ("marker", "body", "sentence"),
    [
        ("zarr.json", {"zarr_format": 4, "node_type": "group"}, "in format 4 of Zarr"),
        (".zgroup", {"zarr_format": 1}, "in format 1 of Zarr"),
    ],
)
def test_an_unknown_format_of_zarr_is_said(
    tmp_path: Path, marker: str, body: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / marker).write_text(json.dumps(body))
    with pytest.raises(InputError, match=sentence):
        read_stack(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", ["0.9", "0.6.dev1", "1.0"])
def test_an_unknown_version_of_ome_zarr_is_said(tmp_path: Path, version: str) -> None:
    path = ome_group(tmp_path / "a.zarr", space("z", "y", "x"), [1, 1, 1])
    group = zarr.open_group(str(path))
    ome: Any = dict(group.attrs)["ome"]
    group.attrs["ome"] = {**ome, "version": version}
    with pytest.raises(InputError, match=f"written in version {version} of OME-Zarr, and versions"):
        read_stack(path)


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", None])
def test_every_older_version_is_read(tmp_path: Path, version: str | None) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=(2, 1, 3, 4, 5), dtype="uint8")
    multiscale: dict[str, Any] = {"datasets": [{"path": "0"}]}
    if version:
        multiscale["version"] = version
    if version == "0.3":
        multiscale["axes"] = list("tczyx")
    group.attrs["multiscales"] = [multiscale]
    stack = read_stack(tmp_path / "a.zarr")
    assert (stack.axes, stack.shape) == ("TZYX", (2, 3, 4, 5))


def test_a_time_point_in_a_file_that_is_missing_is_said(tmp_path: Path) -> None:
    paths = [tmp_path / f"t{t}.ome.tif" for t in range(3)]
    parts = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{z}" PlaneCount="1"><UUID '
        f'FileName="{path.name}">urn:uuid:{t}1111111-1111-1111-1111-111111111111</UUID></TiffData>'
        for t, path in enumerate(paths)
        for z in range(5)
    )
    for t, path in enumerate(paths):
        xml = (
            f'<OME xmlns="{OME}" UUID="urn:uuid:{t}1111111-1111-1111-1111-111111111111"><Image '
            'ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="7" '
            f'SizeY="6" SizeZ="5" SizeC="1" SizeT="3">{parts}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            path,
            voxels("TZYX")[t],
            photometric="minisblack",
            description=xml,
            metadata=None,
            ome=False,
        )
    stack = read_stack(paths[0])
    assert stack.axes == "TZYX"
    np.testing.assert_array_equal(stack.data, voxels("TZYX"))
    paths[1].unlink()
    with pytest.raises(InputError, match="5 of its planes lie in files that are not there"):
        read_stack(paths[2])
    with pytest.raises(InputError, match="5 of its planes lie in files that are not there"):
        read_header(paths[0])
