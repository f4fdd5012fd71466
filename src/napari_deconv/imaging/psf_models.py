"""Optics -> Psf: the vectorial widefield model of Gibson and Lanni on the voxels of a grid.

`compute_psf` is the model: the pupil is laid on quadrature nodes (`_pupil`), matrix products
carry it to the intensity over height and radius (`_intensity`), and a sparse matrix, kept
between calls, averages that over pixels (`_pixel_map`). `focal_shift_um` says what the optics
do to the focus.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .optics import Optics
from .psf import Psf
from .resolution import nyquist_um
from .value import require

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Real = npt.NDArray[np.floating[Any]]
Complex = npt.NDArray[np.complex128]

#: Gauss nodes of a panel of the pupil, and the phase (rad, to each side of its middle) that
#: they carry: n nodes are exact to degree 2n - 1; the series of w rad ends soon after w.
PANEL_NODES, PANEL_PHASE = 48, 64.0

#: Radial samples per lambda/NA, and the points of the Lagrange interpolation between them.
RADIAL_SAMPLES, STENCIL = 16, 6

#: Part of the light that the automatic box keeps in its last plane, and in the focal plane.
LAST_PLANE_KEEPS, FOCAL_PLANE_KEEPS = 0.95, 0.99

#: The automatic box reaches at most this often lambda/(n (1 - cos)) and lambda/NA to each
#: side, or that many pixels if more: NA 1.4, 520 nm, 0.2/0.1 um give 63 x 101 x 101 voxels.
AXIAL_REACH, LATERAL_REACH, PIXEL_REACH = 11.0, 13.4, 50
MOST_PLANES, MOST_PIXELS = 63, 101  # but never more to each side than these

#: Times Nyquist from where voxels earn a note, and where pixels must be a wrong unit.
UNDERSAMPLED, MEANINGLESS = 1.5, 32.0


def compute_psf(
    optics: Optics, grid: Grid, shape: tuple[int, ...] | None = None, *, focus_um: float = 0.0
) -> Psf:
    """Return the widefield point spread function of `optics` on the voxels of `grid`.

    Parameters
    ----------
    optics : Optics
        The microscope, and the depth of the emitter.
    grid : Grid
        Voxel size in micrometres; (y, x) alone gives the plane of best focus.
    shape : tuple of int, optional
        (Z, Y, X) or (Y, X), as the grid. By default odd sizes that keep 95 % of the light of
        the last plane, as far as practical for deconvolution.
    focus_um : float
        By how much the middle plane is focused deeper than the brightest one.

    Returns
    -------
    Psf
        float32, unit sum, brightest at n//2 of each axis; planes ascend as the stage focuses
        deeper. `notes` tell the focal shift removed, light outside the box, coarse voxels.

    Raises
    ------
    InputError
        If the shape does not fit the grid, or the pixels are absurdly coarse.

    Notes
    -----
    An isotropic dipole at depth d below the coverslip has, with the focus z deeper than
    nominal and at radius r, the intensity |I0|^2 + 2 |I1|^2 + |I2|^2, where

    Im = int_0^asin(NA/ni) sqrt(cos t) sin t a_m(t) J_m(k ni r sin t) exp(i k W) dt,
    W = d (Cs - ni^2/ns cos t) - z ni cos t,  Cs = sqrt(ns^2 - (ni sin t)^2),

    a_0, a_2 = ts +- tp Cs/ns, a_1 = tp ni/ns sin t, with Fresnel's transmissions ts, tp from
    sample to coverslip to immersion (Gibson and Lanni 1991, doi:10.1364/JOSAA.8.001601;
    Aguet et al. 2009, doi:10.1364/OE.17.006829; Richards and Wolf 1959,
    doi:10.1098/rspa.1959.0200). Beyond the critical angle Cs is imaginary: that light fades
    with depth. Coverslip and immersion are those of the objective's design: their thickness
    does not matter. Light is averaged over the pixel and sampled in z, as camera and stack
    do. `focal_shift_um` is removed, so that restored objects stay in their planes. The
    error, against dense double quadrature, is below 1e-4 of the peak.

    Examples
    --------
    >>> optics = Optics(na=1.4, emission_nm=520, immersion_index=1.515)
    >>> compute_psf(optics, Grid(spacing_um=(0.2, 0.1, 0.1)), (9, 31, 32)).shape
    (9, 31, 32)
    """
    _require_sane(optics, grid, shape)
    box = _affordable_box(optics, grid) if shape is None else tuple(map(int, shape))
    planes, rows, columns = (1, *box)[-3:]
    step_um, *pixel_um = (0.0, *grid.spacing_um)[-3:]
    shift = focal_shift_um(optics)
    heights = shift + focus_um + step_um * (np.arange(planes) - planes // 2)
    # Steps that divide the pixel: few pixel maps serve all positions of a slider.
    resolved = max(pixel_um) * optics.na * 1000 / optics.emission_nm
    radial_um = max(pixel_um) / math.ceil(RADIAL_SAMPLES * resolved)
    points = 3 + math.ceil(3 * resolved)
    pixel_map = _pixel_map((rows, columns), (pixel_um[0], pixel_um[1]), radial_um, points)
    # The innermost stencil reaches to the left of 0, where the profile is mirrored.
    radii = radial_um * np.abs(np.arange(pixel_map.shape[1]) - STENCIL // 2 + 1)
    pupil = _pupil(optics, heights, radii[-1])
    pixels = (pixel_map @ _intensity(pupil, heights, radii).T).T
    quadrant = pixels.reshape(planes, rows // 2 + 1, columns // 2 + 1)
    mirrored_y, mirrored_x = (np.abs(np.arange(n) - n // 2) for n in (rows, columns))
    samples = quadrant.take(mirrored_y, axis=1).take(mirrored_x, axis=2)
    light = samples[[0, -1]].sum(axis=(1, 2), dtype=np.float64) * math.prod(pixel_um)
    notes = _notes(optics, grid, shift, float(light.min()) / pupil.light)
    return Psf(samples.reshape(box), grid.spacing_um, notes)


@lru_cache(maxsize=64)
def focal_shift_um(optics: Optics) -> float:
    """Return how far from the nominal (paraxial) focus the PSF is brightest on its axis.

    Returns
    -------
    float
        Micrometres of stage movement, positive for a focus deeper in the sample; 0 for
        matched media or an emitter at the coverslip.

    Notes
    -----
    For small NA it tends to d (ni/ns) (ni^2/ns^2 - 1) NA^2/(4 ni^2), half the shift of the
    marginal rays; for large NA the profile has several maxima: the highest is taken.

    Examples
    --------
    >>> oil_into_water = Optics(na=1.2, emission_nm=520, sample_index=1.33, depth_um=2)
    >>> round(focal_shift_um(oil_into_water), 2)
    0.24
    """
    n_immersion, n_sample = optics.immersion_index, optics.medium_index
    if optics.depth_um == 0 or n_immersion == n_sample:
        return 0.0
    # Between the paraxial focus and that of the rays at 0.85 of the usable aperture.
    aperture = 0.85 * min(optics.na, n_sample)
    refraction = math.sqrt((n_immersion**2 - aperture**2) / (n_sample**2 - aperture**2))
    ray_focus = optics.depth_um * (refraction - n_immersion / n_sample)
    length = 2 * nyquist_um(optics)[0]
    first, last, step = min(ray_focus, 0) - 2 * length, max(ray_focus, 0) + 2 * length, length / 12
    heights = np.arange(first, last, step)
    pupil = _pupil(optics, heights, 0.0)
    best = 0.0
    while step > 1e-6:
        # On the axis only I0 is left.
        waves = np.exp(-1j * np.outer(heights, pupil.axial)) @ pupil.amplitudes[0]
        best = float(heights[np.abs(waves).argmax()])
        heights, step = best + step * np.linspace(-1, 1, 25), step / 12
    return best


@dataclass(frozen=True, eq=False)
class _Pupil:
    """The pupil on Q nodes, with the weights of the quadrature within the amplitudes."""

    axial: Real  # wave vector in the immersion, rad/um, (Q,)
    lateral: Real  # (Q,)
    amplitudes: Complex  # of I0, I1 and I2 at the nominal focus, (3, Q)
    light: float  # of any one plane


def _pupil(optics: Optics, heights: Real, radius: float) -> _Pupil:
    """Return the pupil on nodes dense enough for `heights` (Z,) and radii up to `radius`."""
    n_immersion, n_sample = optics.immersion_index, optics.medium_index
    n_glass = optics.coverslip_index
    angles, weights = _nodes(optics, heights, radius)
    sine, cosine = np.sin(angles), np.cos(angles)
    sample, glass = _cosine_in(n_sample, optics, angles), _cosine_in(n_glass, optics, angles)
    through = 4 * n_immersion * cosine * glass
    s_wave = through / ((n_immersion * cosine + glass) * (glass + sample))
    p_wave = through / (
        (n_glass * cosine + n_immersion / n_glass * glass)
        * (n_sample / n_glass * glass + n_glass / n_sample * sample)
    )
    p_lateral, p_axial = p_wave * sample / n_sample, p_wave * n_immersion / n_sample * sine
    field = np.stack((s_wave + p_lateral, p_axial, s_wave - p_lateral))
    field *= np.sqrt(cosine) * sine * np.exp(1j * _depth_phase(optics, angles))

    wavenumber = 2000 * math.pi * n_immersion / optics.emission_nm
    axial, lateral = wavenumber * cosine, wavenumber * sine
    # Parseval for the Hankel transforms, with d lateral = axial d angle.
    light = 2 * math.pi * np.dot((1, 2, 1), np.abs(field) ** 2 @ (weights / (axial * lateral)))
    return _Pupil(axial, lateral, weights * field, float(light))


def _cosine_in(index: float, optics: Optics, angles: Real) -> Complex:
    """Return index * cos(angle in that medium), +i |.| where the wave is evanescent."""
    square = index**2 - (optics.immersion_index * np.sin(angles)) ** 2
    return np.sqrt(square.astype(np.complex128))


def _depth_phase(optics: Optics, angles: Real) -> Complex:
    """Return k W at the nominal focus, 0 on the axis."""
    n_sample = optics.medium_index
    path = _cosine_in(n_sample, optics, angles) - n_sample
    path += optics.immersion_index**2 / n_sample * (1 - np.cos(angles))
    return 2000 * math.pi / optics.emission_nm * optics.depth_um * path


def _nodes(optics: Optics, heights: Real, radius: float) -> tuple[Real, Real]:
    """Return the angles (Q,) and weights (Q,) of the quadrature over the pupil.

    The integrand has square roots at the critical angles of sample and glass and at 90
    degrees. Between two of them, L and R, angle = L + (R - L) sin^2 u makes it smooth, also
    where the aperture ends shortly before one. In u come panels of Gauss nodes.
    """
    aperture = math.asin(optics.na / optics.immersion_index)
    wavenumber = 2000 * math.pi * optics.immersion_index / optics.emission_nm
    sines = (n / optics.immersion_index for n in (optics.medium_index, optics.coverslip_index))
    edges = sorted({0.0, math.pi / 2} | {math.asin(sine) for sine in sines if sine < 1})
    node, weight = np.polynomial.legendre.leggauss(PANEL_NODES)
    angles, weights = [], []
    for left, right in itertools.pairwise(edges):
        if left >= aperture:
            break
        width = right - left
        end = math.asin(math.sqrt((min(right, aperture) - left) / width))
        trial = left + width * np.sin(np.linspace(0, end, 257)) ** 2
        # The most that the phase steps along `trial`, over all heights and radii.
        defocus = np.outer((heights.min(), heights.max()), np.diff(wavenumber * np.cos(trial)))
        steps = np.abs(np.diff(_depth_phase(optics, trial)) - defocus)
        steepest = 256 * (steps + radius * np.diff(wavenumber * np.sin(trial))).max()
        panels = max(1, math.ceil(steepest / 2 / PANEL_PHASE))
        u = end / panels * (np.arange(panels)[:, None] + (node + 1) / 2)
        angles.append((left + width * np.sin(u) ** 2).ravel())
        weights.append((end / panels / 2 * weight * width * np.sin(2 * u)).ravel())
    return np.concatenate(angles), np.concatenate(weights)


def _intensity(pupil: _Pupil, heights: Real, radii: Real) -> Real:
    """Return the intensity, (Z, R), at `heights` (Z,) from the nominal focus and `radii` (R,)."""
    from scipy.special import j0, j1

    waves = pupil.amplitudes[:, None] * np.exp(-1j * np.outer(heights, pupil.axial))
    # Real and imaginary parts one below the other: one real product for both, in float32,
    # whose rounding, 1e-7 of the field, is far below 1e-4.
    parts = np.concatenate((waves.real, waves.imag), axis=1).astype(np.float32)
    blocks = []
    size = max(1, 2_000_000 // len(pupil.axial))  # bounds the memory of wide boxes
    for start in range(0, len(radii), size):
        phase = np.maximum(np.outer(pupil.lateral, radii[start : start + size]), 1e-30)
        zeroth, first = j0(phase), j1(phase)
        orders = zip((1, 2, 1), parts, (zeroth, first, 2 * first / phase - zeroth), strict=True)
        squares = sum(g * (part @ bessel.astype(np.float32)) ** 2 for g, part, bessel in orders)
        blocks.append(squares[: len(heights)] + squares[len(heights) :])
    return np.concatenate(blocks, axis=1)


@lru_cache(maxsize=8)
def _pixel_map(
    shape: tuple[int, int], pixel_um: tuple[float, float], radial_um: float, points: int
) -> csr_array[np.float32]:
    """Return the matrix from a radial profile to the means over the pixels of a quadrant.

    Its rows are the pixels (y, x) from the centre on, (Y//2 + 1) (X//2 + 1) of them; its
    columns the radial samples, of which each row takes one run of neighbours.
    """
    from scipy.sparse import csr_array

    rows, columns = shape[0] // 2 + 1, shape[1] // 2 + 1
    pixel_y, pixel_x = pixel_um[0] / radial_um, pixel_um[1] / radial_um
    node, weight = np.polynomial.legendre.leggauss(points)
    share = np.tile(np.repeat(np.outer(weight, weight) / 4, STENCIL), columns)
    lagrange = np.linalg.inv(np.vander(np.arange(STENCIL) - STENCIL // 2 + 1, STENCIL))
    inside_y, inside_x = np.repeat(node / 2, points), np.tile(node / 2, points)
    run = STENCIL + 1 + math.ceil(math.hypot(pixel_y, pixel_x))
    data = np.empty((rows, columns, run), np.float32)
    first = np.empty((rows, columns, 1), np.int32)
    across = pixel_x * (np.arange(columns)[:, None] + inside_x)
    for row in range(rows):
        radius = np.hypot(pixel_y * (row + inside_y), across)
        cell = np.floor(radius).astype(np.int32)
        first[row] = cell.min(axis=1, keepdims=True)
        place = cell - first[row] + run * np.arange(columns)[:, None]
        target = (place[..., None] + np.arange(STENCIL)).ravel()
        shares = (np.vander((radius - cell).ravel(), STENCIL) @ lagrange).ravel() * share
        data[row] = np.bincount(target, shares, columns * run).reshape(columns, run)
    indices = (first + np.arange(run, dtype=np.int32)).ravel()
    starts = np.arange(0, indices.size + 1, run)
    return csr_array((data.ravel(), indices, starts), shape=(rows * columns, indices.max() + 1))


def _affordable_box(optics: Optics, grid: Grid) -> tuple[int, ...]:
    """Return odd sizes that hold the light of the last plane as far as that is practical."""
    length, width = 2 * nyquist_um(optics)[0], 4 * nyquist_um(optics)[1]
    step_um, *pixels_um = (math.inf, *grid.spacing_um)[-3:]
    half_planes = min(math.ceil(AXIAL_REACH * length / step_um), MOST_PLANES)
    half_um = half_planes * step_um if half_planes else 0.0
    reach = max(LATERAL_REACH * width, PIXEL_REACH * max(pixels_um))
    # The radius that holds enough light of the outermost planes and of the focal plane.
    heights = focal_shift_um(optics) + np.array((-half_um, 0, half_um))
    radii = np.linspace(0, reach, 1 + math.ceil(RADIAL_SAMPLES * reach / width))
    pupil = _pupil(optics, heights, reach)
    rings = 2 * math.pi * radii * radii[1] * _intensity(pupil, heights, radii)
    wanted = np.array((LAST_PLANE_KEEPS, FOCAL_PLANE_KEEPS, LAST_PLANE_KEEPS)) * pupil.light
    inside = (rings.cumsum(axis=1) < wanted[:, None]).sum(axis=1).max()
    needed = radii[min(inside, len(radii) - 1)] - 1e-9
    halves = [min(math.ceil(needed / pixel), MOST_PIXELS) for pixel in pixels_um]
    return tuple(2 * half + 1 for half in (half_planes, *halves)[-grid.ndim :])


def _require_sane(optics: Optics, grid: Grid, shape: object) -> None:
    """Raise `InputError` for pixels of a wrong unit and for a shape that does not fit."""
    require(optics.modality == "widefield", "Only the widefield PSF is computed so far")
    pixel, finest = max(grid.spacing_um[-2:]), nyquist_um(optics)[1]
    require(
        pixel <= MEANINGLESS * finest,
        f"A pixel of {pixel:g} um is more than {MEANINGLESS:g} times what NA {optics.na:g} at "
        f"{optics.emission_nm:g} nm asks for, {finest:.3g} um; check the voxel size and its unit",
    )
    sizes = shape if isinstance(shape, (tuple, list)) else ()
    whole = [isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes]
    require(
        shape is None or (len(sizes) == grid.ndim and all(whole) and min(sizes) > 0),
        f"The shape of a PSF on a {grid.axes} grid is {grid.ndim} positive whole numbers, "
        f"not {shape!r}",
    )


def _notes(optics: Optics, grid: Grid, shift: float, kept: float) -> tuple[str, ...]:
    """Return sentences on the focal shift, the light outside the box, and coarse voxels."""
    notes = []
    if abs(shift) >= 0.005:
        notes.append(f"PSF: brightest {shift:+.2f} um from nominal focus, centred there")
    if kept < LAST_PLANE_KEEPS:
        notes.append(f"PSF: the last plane keeps {100 * kept:.0f} % of its light in the box")
    steps = (max(grid.spacing_um[-2:]), *grid.spacing_um[:-2])
    for axes, step, limit in zip(("y, x", "z"), steps, nyquist_um(optics)[::-1], strict=False):
        if step > UNDERSAMPLED * limit:
            notes.append(
                f"PSF: the voxels in {axes} ({step:.3g} um) are {step / limit:.1f} times Nyquist's "
                f"{limit:.3g} um; detail between the two is lost to the sampling"
            )
    return tuple(notes)
