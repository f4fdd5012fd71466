"""The picture of a PSF: the right planes, to one scale, as bright as they are."""

from __future__ import annotations

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.ui.psf_live import planes_of
from napari_deconv.ui.psf_report import Report, report_on
from napari_deconv.ui.psf_views import Planes, PsfViews, brightness, color_map

WATER = Optics(na=1.2, emission_nm=520, immersion_index=1.333)
OIL = Optics(na=1.4, emission_nm=520, immersion_index=1.515, sample_index=1.33, depth_um=2)


def test_planes_of_a_psf_are_its_middle() -> None:
    samples = np.random.default_rng(1).random((5, 6, 7)).astype(np.float32)
    psf = Psf(samples, (0.3, 0.1, 0.2))
    planes = Planes.of(psf)
    assert planes.xz is not None
    assert planes.yz is not None
    assert np.array_equal(planes.xy, psf.samples[2])
    assert np.array_equal(planes.xz, psf.samples[:, 3, :])
    assert np.array_equal(planes.yz, psf.samples[:, :, 3])
    assert planes.size_um() == pytest.approx((1.5, 0.6, 1.4))
    flat = Planes.of(Psf(samples[0], (0.1, 0.2)))
    assert flat.xz is None
    assert flat.size_um() == pytest.approx((0, 0.6, 1.4))


@pytest.mark.parametrize(
    ("optics", "spacing"),
    [
        (OIL, (0.2, 0.1, 0.1)),
        (OIL, (0.2, 0.08, 0.12)),
        (
            Optics("confocal", na=1.2, emission_nm=520, excitation_nm=488, immersion_index=1.333),
            (0.2, 0.1, 0.1),
        ),
        (
            Optics(na=1.2, emission_nm=520, immersion_index=1.333, zernike_rad=(0,) * 7 + (0.5,)),
            (0.2, 0.1, 0.1),
        ),
    ],
    ids=["square", "oblong", "confocal", "coma"],
)
def test_live_planes_are_those_of_the_whole_psf(optics: Optics, spacing: tuple[float, ...]) -> None:
    """Computed alone, each plane has a sum of its own; here they must share one scale."""
    grid = Grid(spacing_um=spacing)
    live = planes_of(optics, grid)
    assert live.xz is not None
    assert live.yz is not None
    planes, (rows, columns) = live.xz.shape[0], live.xy.shape
    whole = Planes.of(compute_psf(optics, grid, (planes, rows, columns)))
    peak = live.xy.max() / whole.xy.max()
    for name in ("xy", "xz", "yz"):
        found, expected = getattr(live, name), getattr(whole, name) * peak
        # 1e-3 of the peak: far below what a screen of 256 colours shows.
        assert np.abs(found - expected).max() < 1e-3 * live.xy.max(), name


def test_brightness() -> None:
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None]
    for scale in ("linear", "gamma 0.5", "log"):
        levels = brightness(ramp, 1.0, scale).astype(int)
        assert (np.diff(levels) >= 0).all()
        assert (levels[0, 0], levels[0, -1]) == (0, 255)
    assert not brightness(np.zeros((2, 2)), 0.0, "log").any()


def test_the_colours_get_evenly_brighter() -> None:
    luma = color_map().astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(luma) > -0.5).all()
    assert luma[0] < 5
    assert luma[-1] > 240


def painted(views: PsfViews) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return where the canvas shows the colour of the peak."""
    image = views.canvas.grab().toImage()
    peak = tuple(int(c) for c in color_map()[255])
    return np.array(
        [
            [image.pixelColor(x, y).getRgb()[:3] == peak for x in range(image.width())]
            for y in range(image.height())
        ]
    )


def test_all_planes_are_painted_to_one_scale(qtbot: QtBot) -> None:
    """Uniform planes of 2 x 4 x 3 um: the areas of the peak's colour are rectangles of these."""
    views = PsfViews()
    qtbot.addWidget(views)
    views.resize(300, 330)
    views.reach.setCurrentText("wide")
    views.setValue(Psf(np.ones((4, 8, 30)), (0.5, 0.5, 0.1)))
    views.show()
    area = painted(views)
    zoom = min((views.canvas.width() - 4) / (3 + 2), (views.canvas.height() - 4) / (4 + 2))
    rows, columns = area.sum(axis=1), area.sum(axis=0)
    # Between the ticks: xy and yz, side by side; then xz, alone but for the colour bar.
    assert rows[round(1.7 * zoom)] == pytest.approx((3 + 2) * zoom, abs=3)
    assert rows[round(5.6 * zoom)] == pytest.approx(3 * zoom, abs=3)
    left = int(np.flatnonzero(columns)[0])
    assert columns[left + round(1.3 * zoom)] == pytest.approx((4 + 2) * zoom, abs=3)
    assert columns[left + round(3.7 * zoom)] == pytest.approx(4 * zoom, abs=3)


def test_a_close_up_shows_the_middle(qtbot: QtBot) -> None:
    views = PsfViews()
    qtbot.addWidget(views)
    assert views.value() is None
    planes = planes_of(WATER, Grid(spacing_um=(0.2, 0.1, 0.1)))
    views.setValue(planes)
    assert views.value() is planes
    near = planes.cropped()
    assert near.xy.shape[0] < planes.xy.shape[0] / 2
    assert near.xy.max() == planes.xy.max()
    assert near.xy[near.xy.shape[0] // 2, near.xy.shape[1] // 2] == planes.xy.max()
    close = views.canvas.grab().toImage()
    views.reach.setCurrentText("wide")
    assert views.canvas.grab().toImage() != close
    wide = views.canvas.grab().toImage()
    views.scale.setCurrentText("log")
    assert views.canvas.grab().toImage() != wide


def shown_um(views: PsfViews) -> tuple[float, float, float]:
    """Return the extent that the canvas shows, (z, y, x)."""
    assert views.canvas._planes is not None
    return views.canvas._planes.size_um()


def test_a_close_up_keeps_its_extent_while_a_slider_is_dragged(qtbot: QtBot) -> None:
    """Nyquist's steps go as 1 / NA across and faster along: small steps keep, a large one not."""
    views = PsfViews()
    qtbot.addWidget(views)
    grid = Grid(spacing_um=(0.1, 0.05, 0.05))

    def look(na: float) -> tuple[float, float, float]:
        views.setValue(planes_of(Optics(na=na, emission_nm=520, immersion_index=1.333), grid))
        return shown_um(views)

    first = look(1.0)
    assert look(1.1) == first
    assert look(0.9) == first
    wide = look(0.6)
    # What is shown next is what these optics ask for, as if they had been the first.
    fresh = planes_of(Optics(na=0.6, emission_nm=520, immersion_index=1.333), grid).cropped()
    assert wide == fresh.size_um()
    assert wide[0] > first[0]
    # The way back has its own threshold: nothing flickers where the first one was crossed.
    assert look(0.65) == wide


def test_a_measured_psf_is_shown_in_full(qtbot: QtBot) -> None:
    """It wishes no close-up; what was shown before must not cut it, nor it what follows."""
    views = PsfViews()
    qtbot.addWidget(views)
    computed = planes_of(WATER, Grid(spacing_um=(0.2, 0.1, 0.1)))
    views.setValue(computed)
    views.setValue(Psf(np.ones((41, 61, 61)), (0.2, 0.1, 0.1)))
    assert shown_um(views) == pytest.approx((8.2, 6.1, 6.1))
    views.setValue(computed)
    assert shown_um(views) == computed.cropped().size_um()


def test_the_words_of_both_boxes_are_in_sight_in_a_narrow_dock(qtbot: QtBot) -> None:
    views = PsfViews()
    qtbot.addWidget(views)
    views.resize(310, 300)
    views.show()
    for box in (views.scale, views.reach):
        assert box.width() >= box.sizeHint().width()


def test_one_plane_is_painted_alone(qtbot: QtBot) -> None:
    views = PsfViews()
    qtbot.addWidget(views)
    views.setValue(planes_of(WATER, Grid(spacing_um=(0.1, 0.1))))
    assert not views.canvas.grab().isNull()


def test_the_report_says_what_matters() -> None:
    report = report_on(OIL, Grid(spacing_um=(0.5, 0.1, 0.1)))
    numbers = "\n".join(report.numbers())
    assert "um in x, y, " in numbers
    # lambda/(4 NA) = 93 nm; lambda/(2 n (1 - cos alpha)) = 278 nm for 68 degrees in oil.
    assert "Nyquist 93 nm in x, y, 278 nm in z: pixel a little coarse, z step too coarse" in numbers
    assert f"Focal shift {report.focal_shift_um:+.2f} um" in numbers
    warnings = "\n".join(report.warnings())
    assert "light beyond NA 1.33 fades" in warnings
    assert "holds at 2 um only" in warnings
    assert "times Nyquist's" in warnings
    assert "nominal focus" not in warnings


def test_a_good_report_has_no_warning() -> None:
    psf = Psf(np.ones((3, 3, 3)), (0.1, 0.08, 0.08))
    nan = float("nan")
    report = Report(WATER, Grid(spacing_um=(0.1, 0.08, 0.08)), psf, (nan, 0.2, 0.2), (0.3, 0.1), 0)
    assert report.warnings() == []
    assert report.numbers() == [
        "FWHM 0.2 um in x, y, ? um in z",
        "Nyquist 100 nm in x, y, 300 nm in z: voxels fine enough",
    ]
