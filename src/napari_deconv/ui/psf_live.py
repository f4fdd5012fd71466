"""A PSF that follows the sliders: its planes at once, the whole of it after a rest.

The planes of most optics take a few milliseconds and are computed where the slider is served.
Where they turn out slower, a thread computes them and the viewer stays responsive.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import nyquist_um
from napari_deconv.imaging.value import InputError

from .jobs import Latest
from .psf_report import Report, report_on
from .psf_views import Planes

#: Milliseconds between two pictures, and of quiet before the whole PSF is computed.
FRAME_MS, VOLUME_DELAY_MS = 16, 150
#: Planes that take longer are computed in a thread.
SLOW_S = 0.03

#: The picture: pixels to each side, Nyquist steps to each side in z but at most so many
#: planes. Of a close-up, Nyquist steps to each side. Pixels do not follow the optics, as
#: then all positions of a slider share what `compute_psf` prepares for a shape.
HALF_PIXELS, REACH, MOST_HALF_PLANES = 40, 24.0, 64
CLOSE_AXIAL, CLOSE_LATERAL = 6.0, 10.0


def planes_of(optics: Optics, grid: Grid) -> Planes:
    """Return the planes of a PSF through its centre, computed without the rest of it.

    Raises
    ------
    InputError
        If the optics or the voxel size are refused.
    """
    axial, lateral = nyquist_um(optics)
    close_um = (CLOSE_AXIAL * axial, max(CLOSE_LATERAL * lateral, CLOSE_AXIAL * axial / 2))
    n = 2 * HALF_PIXELS + 1
    if grid.ndim == 2:
        psf = compute_psf(optics, grid, (n, n))
        return Planes(psf.samples, None, None, (1.0, *grid.spacing_um[-2:]), close_um)
    z_um, y_um, x_um = grid.spacing_um
    half = min(math.ceil(REACH * axial / z_um), MOST_HALF_PLANES)
    xy = compute_psf(optics, grid, (1, n, n)).samples[0]
    xz = compute_psf(optics, grid, (2 * half + 1, 1, n)).samples[:, 0, :]
    # Only aberrations and oblong pixels make the two sides differ.
    alike = y_um == x_um and not any(optics.zernike_rad)
    yz = xz if alike else compute_psf(optics, grid, (2 * half + 1, n, 1)).samples[:, :, 0]
    # Each has a sum of one by itself: the line that two of them share brings them together.
    centre = n // 2
    xz = xz * (xy[centre].sum() / xz[half].sum())
    yz = yz * (xy[:, centre].sum() / yz[half].sum())
    return Planes(xy, xz.astype(np.float32), yz.astype(np.float32), (z_um, y_um, x_um), close_um)


@dataclass(frozen=True)
class _Answer:
    """What came of a wish or why nothing did, which wish it was, and how long it took."""

    outcome: Planes | Report | InputError
    serial: int
    seconds: float


def _answer(
    make: Callable[[Optics, Grid], Planes | Report], optics: Optics, grid: Grid, serial: int
) -> _Answer:
    # The thread's own time: beside a busy viewer, the clock tells of the viewer.
    started = time.thread_time()
    outcome: Planes | Report | InputError
    try:
        outcome = make(optics, grid)
    except InputError as error:
        outcome = error
    return _Answer(outcome, serial, time.thread_time() - started)


class LivePsf(QObject):
    """Follows optics and voxel size; the newest wins.

    Signals: `planesReady(Planes)` for the picture, `reportReady(Report)` for the whole PSF,
    `refused(sentence)` where there is none.
    """

    planesReady = Signal(object)
    reportReady = Signal(object)
    refused = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._wish: tuple[Optics, Grid] | None = None
        # Wishes are counted; the last one shown and the last one reported on.
        self._serial = self._shown = self._reported = 0
        # The first picture is slow: it also imports what computes it.
        self._is_slow, self._is_computing = True, False
        self._last = 0.0
        self._frame = QTimer(self)
        self._frame.setSingleShot(True)
        self._frame.timeout.connect(self._draw)
        self._slow, self._volume = Latest(0, self), Latest(VOLUME_DELAY_MS, self)
        self._slow.ready.connect(self._slow_ready)
        self._volume.ready.connect(self._volume_ready)

    @property
    def running(self) -> bool:
        """Whether an answer is still to come, or a thread still at work."""
        answered = min(self._shown, self._reported) >= self._serial
        return not answered or self._slow.running or self._volume.running

    def show(self, optics: Optics, grid: Grid) -> None:
        """Follow these; what was wished before is forgotten."""
        self._wish = (optics, grid)
        self._serial += 1
        self._volume.request(partial(_answer, report_on, optics, grid, self._serial))
        if self._frame.isActive():
            return
        left_ms = FRAME_MS - 1000 * (time.monotonic() - self._last)
        if left_ms > 0:
            self._frame.start(math.ceil(left_ms))
        else:
            self._draw()  # At once: slider and picture are then painted together.

    def forget(self) -> None:
        """Give no answer to what was wished: it holds no longer."""
        self._wish = None
        self._serial += 1
        self._shown = self._reported = self._serial
        self._frame.stop()

    def stop(self) -> None:
        """Stop what still runs, at its next step."""
        self.forget()
        self._is_computing = False
        self._slow.stop()
        self._volume.stop()

    def _draw(self) -> None:
        if self._wish is None or self._shown == self._serial:
            return
        work = partial(_answer, planes_of, *self._wish, self._serial)
        if not self._is_slow:
            self._show(work())
        elif not self._is_computing:  # else the next picture begins when this one is done
            self._is_computing = True
            self._slow.request(work)

    def _slow_ready(self, result: _Answer | InputError) -> None:
        self._is_computing = False
        if isinstance(result, InputError):  # It failed unexpectedly: no wish is answered.
            result = _Answer(result, self._serial, math.inf)
        if result.serial > self._shown:
            self._show(result)
        self._draw()

    def _show(self, answer: _Answer) -> None:
        self._shown, self._last = answer.serial, time.monotonic()
        self._is_slow = answer.seconds > SLOW_S
        if isinstance(answer.outcome, InputError):
            self.refused.emit(str(answer.outcome))
        else:
            self.planesReady.emit(answer.outcome)

    def _volume_ready(self, result: _Answer | InputError) -> None:
        if isinstance(result, InputError):
            result = _Answer(result, self._serial, math.inf)
        if result.serial <= self._reported:
            return
        self._reported = result.serial
        if isinstance(result.outcome, InputError):
            self.refused.emit(str(result.outcome))
        elif result.serial == self._serial:
            self.reportReady.emit(result.outcome)
