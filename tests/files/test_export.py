"""Exports: what comes back, what the file says, and what a failure leaves behind."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_deconv.files import ome_zarr, tiff
from napari_deconv.files.export import check_writable, write_stack
from napari_deconv.files.intensities import Range, uint16_factor
from napari_deconv.files.reading import read_provenance, read_stack
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError

SIZES = {"T": 3, "C": 2, "Z": 5, "Y": 6, "X": 7}
EVERY_AXES = ("YX", "ZYX", "CZYX", "TZYX", "TCZYX", "CYX", "TYX", "TCYX")
OUTPUTS = (("a.ome.tif", "0.5"), ("a.tiff", "0.5"), ("a.ome.zarr", "0.5"), ("a.zarr", "0.4"))
NAMESPACE = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def stack_of(axes: str, **changes: Any) -> Stack:
    shape = tuple(SIZES[axis] for axis in axes)
    channels = SIZES["C"] if "C" in axes else 1
    spacing = (0.3, 0.11, 0.1015) if "Z" in axes else (0.11, 0.1015)
    optics = (
        KnownOptics(1.4, 1.515, 461.0, 405.0, "confocal"),
        KnownOptics(1.2, 1.333, None, None, "light-sheet"),
    )
    fields: dict[str, Any] = {
        "data": np.random.default_rng(0).random(shape, dtype=np.float32),
        "axes": axes,
        "grid": Grid(spacing_um=spacing),
        "name": "cell",
        "channel_names": ("DAPI", "GFP <é & µ>")[:channels],
        "channel_optics": optics[:channels],
        "time_step_s": 2.5 if "T" in axes else None,
        "channel_colours": ("0000FF", "FF8000")[:channels],
        "position": {a: (n, "µm") for a, n in (("Z", -12.5), ("Y", 0.0), ("X", 1e4)) if a in axes},
        "acquired": "2026-11-27T12:30:00",
    }
    return Stack(**{**fields, **changes})


def assert_same(found: Stack, wanted: Stack) -> None:
    np.testing.assert_array_equal(np.asarray(found.data), np.asarray(wanted.data))
    for name in (
        "axes",
        "grid",
        "channel_names",
        "channel_optics",
        "time_step_s",
        "channel_colours",
        "acquired",
    ):
        assert getattr(found, name) == getattr(wanted, name), name
    assert in_um(found.position) == in_um(wanted.position)


def in_um(position: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    """Return a position in micrometres, however its unit is spelled."""
    spelled = {"micrometer": "µm"}
    return {axis: (place, spelled.get(unit, unit)) for axis, (place, unit) in position.items()}


# -- round trips -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "version"), OUTPUTS)
@pytest.mark.parametrize("axes", EVERY_AXES)
def test_what_was_written_is_read(tmp_path: Path, axes: str, name: str, version: str) -> None:
    stack = stack_of(axes)
    written = write_stack(tmp_path / name, stack, ome_zarr_version=version)
    assert (written.dtype, written.scale, written.notes) == ("float32", 1.0, ())
    found = read_stack(written)
    assert found.data.dtype == np.float32
    assert found.name == "a"
    assert_same(found, stack)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("name", "version"), OUTPUTS)
def test_what_is_not_known_stays_unknown(tmp_path: Path, name: str, version: str) -> None:
    stack = Stack(stack_of("TCZYX").data, "TCZYX")
    assert_same(read_stack(write_stack(tmp_path / name, stack, ome_zarr_version=version)), stack)


@pytest.mark.parametrize(("name", "version"), OUTPUTS)
def test_a_position_in_the_units_of_the_stage_is_kept_as_it_is(
    tmp_path: Path, name: str, version: str
) -> None:
    stack = stack_of("ZYX", position={"Y": (7.5, "reference frame"), "X": (-3.0, "mm")})
    found = read_stack(write_stack(tmp_path / name, stack, ome_zarr_version=version)).position
    assert found.get("X") in ((-3.0, "mm"), (-3000.0, "micrometer"))
    if name.endswith((".tif", ".tiff")):
        assert found["Y"] == (7.5, "reference frame")


def test_a_position_is_written_in_the_units_of_ome(tmp_path: Path) -> None:
    position = {"Z": (-5.0, "micrometer"), "Y": (2.0, "millimeter"), "X": (7.0, "furlong")}
    path = write_stack(tmp_path / "a.ome.tif", stack_of("ZYX", position=position)).path
    wanted = {"Z": (-5.0, "µm"), "Y": (2000.0, "µm"), "X": (7.0, "reference frame")}
    assert read_stack(path).position == wanted


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_level_of_a_pyramid_lies_at_the_centre_of_its_means(
    tmp_path: Path, version: str
) -> None:
    data = np.ones((4, 1100, 1100), np.float32)
    stack = Stack(data, "ZYX", Grid(spacing_um=(1.0, 0.5, 0.5)), position={"X": (3.0, "mm")})
    write_stack(tmp_path / "a.zarr", stack, ome_zarr_version=version)
    attrs = dict(zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs)
    image: Any = attrs.get("ome", attrs)
    (multiscale,) = image["multiscales"]
    first, second = (
        {c["type"]: c[c["type"]] for c in level["coordinateTransformations"]}
        for level in multiscale["datasets"][:2]
    )
    assert first == {"scale": [1.0, 0.5, 0.5], "translation": [0.0, 0.0, 3000.0]}
    assert second == {"scale": [1.0, 1.0, 1.0], "translation": [0.0, 0.25, 3000.25]}


@pytest.mark.parametrize(("name", "version"), OUTPUTS)
def test_a_volume_of_one_plane_stays_a_volume(tmp_path: Path, name: str, version: str) -> None:
    for grid in (None, Grid(spacing_um=(0.3, 0.1, 0.1))):
        stack = Stack(np.ones((1, 6, 7), np.float32), "ZYX", grid)
        path = write_stack(tmp_path / name, stack, ome_zarr_version=version, overwrite=True)
        assert_same(read_stack(path), stack)


def fifteen_digits(value: float) -> float:
    """Return `value` as units of a file are converted: to fifteen digits."""
    return float(f"{value:.15g}")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    axes=st.sampled_from(EVERY_AXES),
    spacing=st.tuples(*[st.floats(1e-4, 1e3).map(fifteen_digits)] * 3),
    name=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1),
    na=st.floats(0.1, 1.7),
    emission_nm=st.floats(300, 900),
    time_step_s=st.floats(1e-6, 1e6).map(fifteen_digits),
)
def test_any_metadata_comes_back_from_tiff(
    tmp_path: Path,
    axes: str,
    spacing: tuple[float, float, float],
    name: str,
    na: float,
    emission_nm: float,
    time_step_s: float,
) -> None:
    channels = SIZES["C"] if "C" in axes else 1
    stack = stack_of(
        axes,
        grid=Grid(spacing_um=spacing if "Z" in axes else spacing[1:]),
        channel_names=(name,) * channels,
        channel_optics=(KnownOptics(na, None, emission_nm),) * channels,
        time_step_s=time_step_s if "T" in axes else None,
    )
    assert_same(read_stack(write_stack(tmp_path / "a.ome.tif", stack, overwrite=True)), stack)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float64", "bool", ">f4"])
def test_other_types_are_written_as_float32(tmp_path: Path, dtype: str) -> None:
    data = (np.arange(30).reshape(5, 6) % 2).astype(dtype)
    found = read_stack(write_stack(tmp_path / "a.tif", Stack(data, "YX"))).data
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, data.astype(np.float32))


@pytest.mark.parametrize(("name", "version"), OUTPUTS)
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_each_lazy_block_is_computed_once(
    tmp_path: Path, name: str, version: str, dtype: str
) -> None:
    stack = stack_of("TCZYX")
    calls: list[tuple[int, ...]] = []

    def counted(block: Any) -> Any:
        calls.append(block.shape)
        return block * 1000

    source = da.from_array(stack.data, chunks=(1, 1, 2, 6, 7))
    lazy = source.map_blocks(counted, meta=np.empty((0,) * 5, np.float32))
    given_stack = Stack(lazy, "TCZYX", stack.grid)
    written = write_stack(tmp_path / name, given_stack, ome_zarr_version=version, dtype=dtype)
    assert len(calls) == 3 * 2 * 3
    wanted = stack.data * 1000 * written.scale
    np.testing.assert_allclose(
        read_stack(written).data, wanted, atol=0.51 if dtype == "uint16" else 0, rtol=1e-6
    )


@pytest.mark.parametrize("chunks", [(3, 2, 5, 6, 7), (2, 2, 2, 3, 4), (1, 2, 5, 6, 3)])
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_lazy_chunks_of_any_shape_land_in_their_place(
    tmp_path: Path, name: str, chunks: tuple[int, ...]
) -> None:
    stack = stack_of("TCZYX")
    lazy = Stack(da.from_array(stack.data, chunks=chunks), "TCZYX")
    np.testing.assert_array_equal(read_stack(write_stack(tmp_path / name, lazy)).data, stack.data)


def test_a_file_can_be_replaced_by_what_is_computed_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_stack(tmp_path / "a.zarr", stack_of("ZYX")).path
    monkeypatch.setattr(ome_zarr, "LOADED_UP_TO_BYTES", 0)
    lazy = read_stack(path)
    write_stack(path, Stack(lazy.data + 1, "ZYX"), overwrite=True)
    np.testing.assert_array_equal(read_stack(path).data, stack_of("ZYX").data + 1)


# -- uint16 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0, 3, 65535], 1.0),  # counts that fit
        ([0, 1, 2], 1.0),  # few counts, but counts
        ([0, 0.25, 1.0], 50000.0),  # fractions
        ([0, 0.5, 2000.4], 1.0),  # fractions below the noise of such counts
        ([0, 7, 131070], 0.5),  # too many counts
        ([0, 0, 0], 1.0),
    ],
)
def test_uint16_keeps_intensities_with_a_factor_that_is_kept(
    tmp_path: Path, name: str, lazy: bool, values: list[float], scale: float
) -> None:
    plane = np.array([values, values], np.float32)
    data = da.from_array(plane, chunks=(1, 3)) if lazy else plane
    written = write_stack(tmp_path / name, Stack(data, "YX"), dtype="uint16")
    assert written.scale == scale
    assert bool(written.notes) == (scale != 1)
    found = read_stack(written).data
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.rint(plane.astype(float) * scale))
    kept = read_provenance(written)
    assert kept is not None
    assert kept["stored"]["scale"] == scale


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_integer_counts_are_stored_as_they_are(tmp_path: Path, dtype: str) -> None:
    data = np.arange(12).reshape(3, 4).astype(dtype)
    written = write_stack(tmp_path / "a.tif", Stack(data, "YX"), dtype="uint16")
    assert written.scale == 1
    np.testing.assert_array_equal(read_stack(written).data, data)


def test_negative_values_become_zero_and_this_is_said(tmp_path: Path) -> None:
    data = np.array([[-5.0, 0.4], [1200.6, 3]])
    written = write_stack(tmp_path / "a.tif", Stack(data, "YX"), dtype="uint16")
    np.testing.assert_array_equal(read_stack(written).data, [[0, 0], [1201, 3]])
    assert "values below zero (down to -5)" in written.notes[0]


def test_nan_does_not_fit_integers(tmp_path: Path) -> None:
    stack = Stack(np.array([[np.nan, 1.0]]), "YX")
    with pytest.raises(InputError, match="NaN or infinite"):
        write_stack(tmp_path / "a.tif", stack, dtype="uint16")
    assert list(tmp_path.iterdir()) == []
    for name in ("a.tif", "a.zarr"):
        assert np.isnan(read_stack(write_stack(tmp_path / name, stack)).data[0, 0])


@given(st.floats(1e-30, 1e30))
def test_the_factor_uses_the_range_and_never_leaves_it(highest: float) -> None:
    factor = uint16_factor(Range(0.0, highest, whole=False))
    assert highest * factor <= 65535
    assert highest * factor >= (1000 if factor == 1 else 65535 / 2.5 * 0.999)


# -- provenance and metadata -----------------------------------------------------------


@pytest.mark.parametrize(("name", "version"), OUTPUTS)
def test_recipe_and_record_come_back(tmp_path: Path, name: str, version: str) -> None:
    recipe = {"kind": "Recipe", "text": "µ <&> \"'\n", "steps": [1, 2.5, None, True]}
    record = {"seconds": 0.1, "engine": "cpu"}
    written = write_stack(
        tmp_path / name, stack_of("CZYX"), recipe=recipe, record=record, ome_zarr_version=version
    )
    kept = read_provenance(written)
    assert kept is not None
    assert kept["software"] == "napari-deconv"
    assert (kept["recipe"], kept["record"]) == (recipe, record)
    assert {"python", "numpy", "scipy", "tifffile"} <= set(kept["versions"])
    assert kept["stored"]["dtype"] == "float32"


def test_a_recipe_that_is_not_json_is_refused_before_any_work(tmp_path: Path) -> None:
    for recipe in ({"psf": np.ones(3)}, {"value": float("nan")}):
        with pytest.raises(InputError, match="cannot be written as JSON"):
            write_stack(tmp_path / "a.tif", stack_of("YX"), recipe=recipe)
    assert list(tmp_path.iterdir()) == []


def test_the_ome_xml_is_what_the_schema_asks_for(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.ome.tif", stack_of("TCZYX"), recipe={"a": 1}).path
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].kind == "ome"
        assert (tif.series[0].axes, len(tif.pages)) == ("TCZYX", 30)
        root = ElementTree.fromstring(tif.ome_metadata)
    order = [child.tag.removeprefix(NAMESPACE) for child in root]
    assert order == ["Instrument", "Image", "StructuredAnnotations"]
    image = root.find(f"{NAMESPACE}Image")
    assert image is not None
    order = [child.tag.removeprefix(NAMESPACE) for child in image]
    references = ["InstrumentRef", "ObjectiveSettings", "Pixels", "AnnotationRef"]
    assert order == ["AcquisitionDate", *references]
    pixels = image.find(f"{NAMESPACE}Pixels")
    assert pixels is not None
    inside = [child.tag.removeprefix(NAMESPACE) for child in pixels]
    assert inside == ["Channel", "Channel", "TiffData", "Plane"]
    told = {
        "Type": "float",
        "DimensionOrder": "XYZCT",
        "SizeT": "3",
        "SizeC": "2",
        "PhysicalSizeZ": "0.3",
        "PhysicalSizeZUnit": "µm",
        "PhysicalSizeX": "0.1015",
        "PhysicalSizeXUnit": "µm",
        "TimeIncrement": "2.5",
        "TimeIncrementUnit": "s",
    }
    assert told.items() <= pixels.attrib.items()
    channel = pixels.find(f"{NAMESPACE}Channel")
    assert channel is not None
    assert channel.get("EmissionWavelength") == "461.0"
    objective = root.find(f"{NAMESPACE}Instrument/{NAMESPACE}Objective")
    assert objective is not None
    assert (objective.get("LensNA"), objective.get("Immersion")) == ("1.4", "Oil")


def test_the_pixel_size_is_also_told_to_readers_of_plain_tiff(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.tif", stack_of("YX")).path
    with tifffile.TiffFile(path) as tif:
        pixels, lengths = tif.pages[0].tags["XResolution"].value
        assert pixels / lengths == pytest.approx(1e4 / 0.1015)
        assert tif.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER


def test_files_beyond_4_gib_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "CLASSIC_LIMIT_BYTES", 100)
    written = write_stack(tmp_path / "a.tif", stack_of("ZYX"))
    with tifffile.TiffFile(written.path) as tif:
        assert tif.is_bigtiff
    assert_same(read_stack(written), stack_of("ZYX"))


def test_ome_zarr_0_5_as_specified(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.ome.zarr", stack_of("TCZYX")).path
    group = json.loads((path / "zarr.json").read_text())
    assert (group["zarr_format"], group["node_type"]) == (3, "group")
    ome = group["attributes"]["ome"]
    assert ome["version"] == "0.5"
    multiscale = ome["multiscales"][0]
    assert multiscale["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    scale = {"type": "scale", "scale": [2.5, 1.0, 0.3, 0.11, 0.1015]}
    place = {"type": "translation", "translation": [0.0, 0.0, -12.5, 0.0, 10000.0]}
    assert multiscale["datasets"] == [{"path": "0", "coordinateTransformations": [scale, place]}]
    labels = [channel["label"] for channel in ome["omero"]["channels"]]
    assert labels == ["DAPI", "GFP <é & µ>"]
    assert set(ome["omero"]["channels"][0]["window"]) == {"min", "max", "start", "end"}
    array = json.loads((path / "0" / "zarr.json").read_text())
    assert array["dimension_names"] == ["t", "c", "z", "y", "x"]
    assert array["chunk_grid"]["configuration"]["chunk_shape"] == [1, 1, 5, 6, 7]


def test_ome_zarr_0_4_as_specified(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.zarr", stack_of("CZYX"), ome_zarr_version="0.4").path
    assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
    attributes = json.loads((path / ".zattrs").read_text())
    assert attributes["multiscales"][0]["version"] == "0.4"
    assert [axis["name"] for axis in attributes["multiscales"][0]["axes"]] == ["c", "z", "y", "x"]
    array = json.loads((path / "0" / ".zarray").read_text())
    assert (array["dimension_separator"], array["dtype"]) == ("/", "<f4")
    assert not (path / "zarr.json").exists()


# -- what is refused, and what a failure leaves behind ---------------------------------


@pytest.mark.parametrize("name", ["a.png", "a", "a.npy", "a.zarr.zip"])
def test_an_unknown_suffix_names_those_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.ome\.tif, .*\.ome\.zarr or \.zarr"):
        write_stack(tmp_path / name, stack_of("YX"))


@pytest.mark.parametrize(
    ("stack", "options", "sentence"),
    [
        (stack_of("YX"), {"dtype": "uint8"}, "choose float32 or uint16"),
        (stack_of("YX"), {"ome_zarr_version": "0.3"}, "choose 0.4 or 0.5"),
        (Stack(np.ones((2, 2), complex), "YX"), {}, "only real numbers"),
        (Stack(np.ones((0, 2)), "YX"), {}, "no voxels"),
    ],
)
def test_what_cannot_be_written_is_said(
    tmp_path: Path, stack: Stack, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        write_stack(tmp_path / "a.tif", stack, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_or_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("none", "file"):
        with pytest.raises(InputError, match="There is no folder"):
            check_writable(tmp_path / folder / "a.tif", nbytes=1)


def test_an_existing_output_is_kept_unless_overwriting_is_wished(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.tif", stack_of("YX")).path
    with pytest.raises(InputError, match=r"a\.tif exists already"):
        write_stack(path, stack_of("ZYX"))
    assert read_stack(path).axes == "YX"
    write_stack(path, stack_of("ZYX"), overwrite=True)
    assert read_stack(path).axes == "ZYX"


def test_only_an_output_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("years of work")
    (tmp_path / "b.tif").mkdir()
    (tmp_path / "c.zarr").write_text("")
    for name in ("a.zarr", "b.tif", "c.zarr"):
        with pytest.raises(InputError, match="choose another name"):
            write_stack(tmp_path / name, stack_of("YX"), overwrite=True)
    assert (tmp_path / "a.zarr" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(**_: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="may not be written to"):
        check_writable(tmp_path / "a.tif", nbytes=1)


def test_a_full_disk_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    check_writable(tmp_path / "a.tif", nbytes=9 * 10**8)
    with pytest.raises(InputError, match=r"2,001\.0 MB are needed and 1,000\.0 MB are free"):
        check_writable(tmp_path / "a.tif", nbytes=2 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_100_000))
    with pytest.raises(InputError, match="1,149 kB are needed and 1,100 kB are free"):
        check_writable(tmp_path / "a.tif", nbytes=100_000)
    assert list(tmp_path.iterdir()) == []


def failing_after(count: int, error: BaseException) -> Any:
    """Return a lazy stack that fails after `count` of its five planes."""
    done: Iterator[int] = iter(range(count))

    def compute(block: Any) -> Any:
        if next(done, None) is None:
            raise error
        return block

    source = da.ones((5, 6, 7), chunks=(1, 6, 7), dtype=np.float32)
    return source.map_blocks(compute, meta=np.empty((0, 0, 0), np.float32))


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "no space"), InputError),
        (OSError(errno.EIO, "broken disk"), InputError),
        (RuntimeError("a bug"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failure_leaves_nothing_and_keeps_the_older_file(
    tmp_path: Path,
    name: str,
    dtype: str,
    older: bool,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    if older:
        write_stack(tmp_path / name, stack_of("YX"))
    stack = Stack(failing_after(3, error), "ZYX")
    with pytest.raises(raised):
        write_stack(tmp_path / name, stack, overwrite=older, dtype=dtype)
    assert [entry.name for entry in tmp_path.iterdir()] == ([name] if older else [])
    if older:
        assert_same(read_stack(tmp_path / name), stack_of("YX"))


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_move_that_fails_puts_the_older_output_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_stack(tmp_path / name, stack_of("YX")).path
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name.startswith(".") and self.suffix != ".old":
            raise OSError(errno.EACCES, "refused")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError, match="may not be written to"):
        write_stack(path, stack_of("ZYX"), overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert_same(read_stack(path), stack_of("YX"))


def test_a_link_is_replaced_and_what_it_points_to_is_kept(tmp_path: Path) -> None:
    real = write_stack(tmp_path / "real.zarr", stack_of("YX")).path
    link = tmp_path / "link.zarr"
    link.symlink_to(real, target_is_directory=True)
    write_stack(link, stack_of("ZYX"), overwrite=True)
    assert read_stack(link).axes == "ZYX"
    assert read_stack(real).axes == "YX"
    assert {entry.name for entry in tmp_path.iterdir()} == {"link.zarr", "real.zarr"}
