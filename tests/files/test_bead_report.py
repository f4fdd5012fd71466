"""The report on beads: a table that a spreadsheet reads, and a picture of the PSF."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_deconv.files.bead_report import theory_fwhm_um, write_bead_picture, write_bead_table
from napari_deconv.files.picture import GAP
from napari_deconv.imaging.beads import Bead, MeasuredPsf
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import fwhm_um
from napari_deconv.imaging.value import InputError

OPTICS = Optics(na=0.5, emission_nm=520, immersion_index=1.0)
GRID = Grid(spacing_um=(1.0, 0.25, 0.25))


def measured() -> MeasuredPsf:
    samples = np.zeros((5, 9, 11))
    samples[2, 4, 5] = 1
    beads = (
        Bead((4.25, 20.0, 30.5), "used", "", 1234.5678, 100.0, 80.25, (2.5, 0.5, 0.625)),
        Bead((0.0, 8.0, 9.0), "clipped", 'Its focus is "out", alas', 50, 99, 12, (None, 0.5, 0.5)),
    )
    return MeasuredPsf(Psf(samples, GRID.spacing_um), beads, (2.5, 0.5, None), ())


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_table_has_a_row_a_bead_and_one_for_the_mean(tmp_path: Path) -> None:
    write_bead_table(tmp_path / "beads.csv", measured())
    head, first, second, mean = rows(tmp_path / "beads.csv")
    by_name = dict(zip(head, first, strict=True))
    assert by_name == {
        "bead": "1",
        "z_voxel": "4.25",
        "y_voxel": "20",
        "x_voxel": "30.5",
        "z_um": "4.25",
        "y_um": "5",
        "x_um": "7.625",
        "fate": "used",
        "reason": "",
        "peak_counts": "1234.6",
        "background_counts": "100",
        "snr": "80.25",
        "fwhm_z_um": "2.5",
        "fwhm_y_um": "0.5",
        "fwhm_x_um": "0.625",
    }
    assert second[7:9] == ["clipped", 'Its focus is "out", alas']
    assert second[-3:] == ["", "0.5", "0.5"]
    assert [mean[0], *mean[-3:]] == ["mean of the used", "2.5", "0.5", ""]
    assert {len(row) for row in (first, second, mean)} == {len(head)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["beads.csv"]


def test_the_theory_is_the_last_row(tmp_path: Path) -> None:
    write_bead_table(tmp_path / "beads.csv", measured(), OPTICS)
    last = rows(tmp_path / "beads.csv")[-1]
    assert last[0] == f"theory: {OPTICS.describe()}"
    expected = fwhm_um(compute_psf(OPTICS, GRID))
    assert [float(width) for width in last[-3:]] == pytest.approx(expected, rel=1e-3)
    assert theory_fwhm_um(measured(), OPTICS) == expected


def test_a_plane_has_no_z(tmp_path: Path) -> None:
    flat = MeasuredPsf(Psf(np.ones((3, 3)), (0.25, 0.25)), (Bead((3.0, 4.0)),), (0.5, 0.5), ())
    write_bead_table(tmp_path / "beads.csv", flat)
    head, row, _ = rows(tmp_path / "beads.csv")
    assert head[:5] == ["bead", "y_voxel", "x_voxel", "y_um", "x_um"]
    assert row[-2:] == ["", ""]
    write_bead_picture(tmp_path / "beads.png", flat, np.ones((8, 8)))


def shape_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert zlib.crc32(data[12:29]) == int.from_bytes(data[29:33], "big")
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def test_the_picture_shows_the_psf_and_the_used_beads(tmp_path: Path) -> None:
    write_bead_picture(tmp_path / "psf.png", measured())
    # Five planes of 1 um are as high as twenty rows of 0.25 um.
    assert shape_of(tmp_path / "psf.png") == (9 + GAP + 20, 11)
    image = np.random.default_rng(0).poisson(9, (6, 30, 33))
    write_bead_picture(tmp_path / "both.png", measured(), image)
    assert shape_of(tmp_path / "both.png") == (9 + GAP + 20, 11 + GAP + 11)


Writer = Callable[..., None]


@pytest.mark.parametrize("writer", [write_bead_table, write_bead_picture])
def test_nothing_is_overwritten_unasked(tmp_path: Path, writer: Writer) -> None:
    path = tmp_path / "report.png"
    path.write_bytes(b"older")
    with pytest.raises(InputError, match=r"report\.png exists already; choose another name"):
        writer(path, measured())
    assert path.read_bytes() == b"older"
    writer(path, measured(), overwrite=True)
    assert path.read_bytes() != b"older"


@pytest.mark.parametrize("writer", [write_bead_table, write_bead_picture])
def test_where_nothing_can_be_written_it_is_told(tmp_path: Path, writer: Writer) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file"):
        writer(tmp_path / "missing" / "report.png", measured())
    assert not list(tmp_path.iterdir())
