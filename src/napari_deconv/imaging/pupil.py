"""The pupil of an objective: what it adds up to in the sample, in polar coordinates.

`pupil_of` lays the pupil on quadrature nodes that follow its phase; `intensity` carries it to
heights and radii by matrix products. Both know the wavelength they are for, not what the
microscope does with the light: `modalities` puts them together.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import aberrations
from .blas import product
from .optics import Optics

Real = npt.NDArray[np.floating[Any]]
Complex = npt.NDArray[np.complex128]

#: Gauss nodes of a panel of the pupil, and the phase (rad, to each side of its middle) that
#: they carry: n nodes are exact to degree 2n - 1; the series of w rad ends soon after w.
PANEL_NODES, PANEL_PHASE = 48, 64.0
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(PANEL_NODES)

#: The field's parts: which amplitude of the pupil, its turn of phase along the azimuth, and
#: its weight. Light of no polarization has both senses of each turn; without aberrations they
#: are the same. The doughnut is circularly polarized and turns by one more.
UNPOLARIZED = ((0, 0, 1.0), (1, 1, 1.0), (1, -1, 1.0), (2, 2, 0.5), (2, -2, 0.5))
SYMMETRIC = ((0, 0, 1.0), (1, 1, 2.0), (2, 2, 1.0))
DOUGHNUT = ((0, 1, 1.0), (1, 2, 2.0), (2, 3, 1.0))
Parts = tuple[tuple[int, int, float], ...]


@dataclass(frozen=True, eq=False)
class Pupil:
    """The pupil on Q nodes, with the weights of the quadrature within the amplitudes."""

    axial: Real  # wave vector in the immersion, rad/um, (Q,)
    lateral: Real  # (Q,)
    amplitudes: Complex  # of I0, I1 and I2 (vectorial) or of I0 alone (scalar), (1 or 3, Q)
    orders: tuple[int, ...]  # of the aberration along the azimuth
    series: Complex  # its factors, (M, Q)
    light: float  # of any one plane

    @property
    def angles(self) -> int:
        """Directions that hold the intensity: 1 where it is symmetric about the axis.

        Six samples a period of its fastest harmonic, the span of the field's; powers of two,
        so that a slider meets few different numbers.
        """
        span = max(self.orders) - min(self.orders)
        return 2 ** math.ceil(math.log2(6 * span)) if span else 1


def pupil_of(optics: Optics, wavelength_nm: float, heights: Real, radius: float) -> Pupil:
    """Return the pupil on nodes dense enough for `heights` (Z,) and radii up to `radius`, um."""
    angles, weights = _nodes(optics, wavelength_nm, heights, radius)
    sine, cosine = np.sin(angles), np.cos(angles)
    field = _field(optics, angles) * np.exp(1j * _path_phase(optics, wavelength_nm, angles))
    orders, series = _aberration(optics, wavelength_nm, angles)
    wavenumber = 2000 * math.pi * optics.immersion_index / wavelength_nm
    axial, lateral = wavenumber * cosine, wavenumber * sine
    # Parseval for the Hankel transforms, with d lateral = axial d angle.
    power = np.array((1, 2, 1)[: len(field)]) @ np.abs(field) ** 2
    light = 2 * math.pi * float(power @ (weights / (axial * lateral)))
    return Pupil(axial, lateral, weights * field, orders, series, light)


def _field(optics: Optics, angles: Real) -> Complex:
    """Return the amplitudes of I0, I1, I2 (or of the scalar wave) without phases, (3 or 1, Q)."""
    sine, cosine = np.sin(angles), np.cos(angles)
    if optics.model == "scalar":
        # Constant over the pupil's area, d(sine^2).
        return (cosine * sine)[None].astype(np.complex128)
    n_immersion, n_sample = optics.immersion_index, optics.medium_index
    n_glass = optics.coverslip_index
    sample, glass = (_cosine_in(n, optics, angles) for n in (n_sample, n_glass))
    through = 4 * n_immersion * cosine * glass
    s_wave = through / ((n_immersion * cosine + glass) * (glass + sample))
    p_wave = through / (
        (n_glass * cosine + n_immersion / n_glass * glass)
        * (n_sample / n_glass * glass + n_glass / n_sample * sample)
    )
    p_lateral, p_axial = p_wave * sample / n_sample, p_wave * n_immersion / n_sample * sine
    field = np.stack((s_wave + p_lateral, p_axial, s_wave - p_lateral))
    return field * np.sqrt(cosine) * sine


def _cosine_in(index: float, optics: Optics, angles: Real) -> Complex:
    """Return index * cos(angle in that medium), +i |.| where the wave is evanescent."""
    square = index**2 - (optics.immersion_index * np.sin(angles)) ** 2
    return np.sqrt(square.astype(np.complex128))


def _path_phase(optics: Optics, wavelength_nm: float, angles: Real) -> Complex:
    """Return k W at the nominal focus, 0 on the axis."""
    n_immersion = optics.immersion_index
    n_design = optics.design_immersion_index or n_immersion
    glass = (optics.coverslip_um, optics.coverslip_index)
    design_glass = (optics.design_coverslip_um, optics.design_coverslip_index)
    layers = [(1, optics.depth_um, optics.medium_index)]
    if glass != design_glass:
        layers += [(1, *glass), (-1, *design_glass)]
    if n_design != n_immersion:
        layers += [(-1, optics.working_distance_um, n_design)]
    path = np.zeros(np.shape(angles), np.complex128)
    for sign, thickness_um, index in layers:
        if thickness_um:
            # The immersion makes room for the layer: what counts is the difference to it.
            lift = n_immersion**2 / index * (1 - np.cos(angles))
            path += sign * thickness_um * (_cosine_in(index, optics, angles) - index + lift)
    return 2000 * math.pi / wavelength_nm * path


def _aberration(
    optics: Optics, wavelength_nm: float, angles: Real
) -> tuple[tuple[int, ...], Complex]:
    """Return the aberration along the azimuth: a path, so a phase that goes with 1/lambda."""
    scale = optics.emission_nm / wavelength_nm
    rho = optics.immersion_index * np.sin(angles) / optics.na
    return aberrations.harmonics(tuple(scale * value for value in optics.zernike_rad), rho)


def _nodes(optics: Optics, wavelength_nm: float, heights: Real, radius: float) -> tuple[Real, Real]:
    """Return the angles (Q,) and weights (Q,) of the quadrature over the pupil.

    The integrand has square roots at the critical angles of sample and glass and at 90
    degrees. Between two of them, L and R, angle = L + (R - L) sin^2 u makes it smooth, also
    where the aperture ends shortly before one. In u come panels of Gauss nodes.
    """
    aperture = math.asin(optics.na / optics.immersion_index)
    sines = (n / optics.immersion_index for n in (optics.medium_index, optics.coverslip_index))
    edges = sorted({0.0, math.pi / 2} | {math.asin(sine) for sine in sines if sine < 1})
    angles, weights = [], []
    for left, right in itertools.pairwise(edges):
        if left >= aperture:
            break
        width = right - left
        end = math.asin(math.sqrt((min(right, aperture) - left) / width))
        trial = left + width * np.sin(np.linspace(0, end, 257)) ** 2
        steepest = 256 * _phase_steps(optics, wavelength_nm, heights, radius, trial).max()
        panels = max(1, math.ceil(steepest / 2 / PANEL_PHASE))
        u = end / panels * (np.arange(panels)[:, None] + (_NODE + 1) / 2)
        angles.append((left + width * np.sin(u) ** 2).ravel())
        weights.append((end / panels / 2 * _WEIGHT * width * np.sin(2 * u)).ravel())
    return np.concatenate(angles), np.concatenate(weights)


def _phase_steps(
    optics: Optics, wavelength_nm: float, heights: Real, radius: float, trial: Real
) -> Real:
    """Return the most that the phase changes between neighbours of `trial`."""
    wavenumber = 2000 * math.pi * optics.immersion_index / wavelength_nm
    defocus = np.outer((heights.min(), heights.max()), np.diff(wavenumber * np.cos(trial)))
    steps: Real = np.abs(np.diff(_path_phase(optics, wavelength_nm, trial)) - defocus).max(axis=0)
    if any(optics.zernike_rad):
        rho = optics.immersion_index * np.sin(trial) / optics.na
        turned = aberrations.phase(optics.zernike_rad, rho[:, None], np.arange(8) * np.pi / 4)
        steps = steps + optics.emission_nm / wavelength_nm * np.abs(np.diff(turned.T)).max(axis=0)
    return steps + radius * np.diff(wavenumber * np.sin(trial))


def intensity(
    pupil: Pupil, heights: Real, radii: Real, angles: int = 1, parts: Parts = UNPOLARIZED
) -> Real:
    """Return the intensity on polar coordinates.

    Parameters
    ----------
    pupil : Pupil
        Made for these heights and radii.
    heights : ndarray, (Z,)
        Focus from the nominal one, um, deeper in the sample positive.
    radii : ndarray, (R,)
        Distance from the axis, um.
    angles : int
        Directions A, evenly spaced from x towards y; 1 where the pupil is symmetric.
    parts : tuple
        `UNPOLARIZED` or `DOUGHNUT`.

    Returns
    -------
    ndarray, (Z, R, A)
        float32; float64 on a few radii, where an axial profile is searched.
    """
    if len(pupil.orders) == 1 and parts is UNPOLARIZED:
        parts = SYMMETRIC
    # Rounding of float32, 1e-7 of the field, is far below what a PSF needs.
    kind = np.float32 if len(radii) > 64 else np.float64
    waves = np.exp(-1j * np.outer(heights, pupil.axial))
    blocks = []
    size = max(1, 2_000_000 // len(pupil.axial))  # bounds the memory of wide boxes
    for start in range(0, len(radii), size):
        phase = np.maximum(np.outer(pupil.lateral, radii[start : start + size]), 1e-30)
        bessel = _Bessel(phase, kind)
        total: Any = 0
        for number, turn, share in parts:
            if number < len(pupil.amplitudes):
                field = _turned(pupil, waves * pupil.amplitudes[number], turn, bessel, angles)
                total = total + share * field
        blocks.append(total)
    return np.concatenate(blocks, axis=1)


def _turned(pupil: Pupil, waves: Complex, turn: int, bessel: _Bessel, angles: int) -> Real:
    """Return |sum over the orders m of (-i)^m e^(i m phi) int waves c_m J_(m + turn)|^2."""
    if len(pupil.orders) == 1:
        wave = waves * pupil.series[0]
        real, imaginary = _product(wave, bessel.of(pupil.orders[0] + turn))
        return (real**2 + imaginary**2)[..., None]
    spectrum = np.zeros((len(waves), bessel.phase.shape[1], angles), np.complex64)
    for order, factor in zip(pupil.orders, pupil.series, strict=True):
        real, imaginary = _product(waves * factor, bessel.of(order + turn))
        spectrum[..., order % angles] = (-1j) ** (order % 4) * (real + 1j * imaginary)
    from scipy.fft import ifft

    field = ifft(spectrum, axis=-1, norm="forward", workers=-1, overwrite_x=True)
    return field.real**2 + field.imag**2


def _product(waves: Complex, bessel: Real) -> tuple[Real, Real]:
    """Return real and imaginary part of waves @ bessel by one real product."""
    parts = product(np.concatenate((waves.real, waves.imag)).astype(bessel.dtype), bessel)
    return parts[: len(waves)], parts[len(waves) :]


class _Bessel:
    """Bessel functions of one phase, (Q, R), each order computed once."""

    def __init__(self, phase: Real, kind: type[np.floating[Any]]) -> None:
        from scipy import special

        self.phase, self.kind = phase, kind
        zeroth, first = special.j0(phase), special.j1(phase)
        self._exact = [zeroth, first, 2 * first / phase - zeroth]
        self._known: dict[int, Real] = {}

    def of(self, order: int) -> Real:
        """Return J_order(phase) in the working precision."""
        if abs(order) not in self._known:
            self._known[abs(order)] = self._computed(abs(order)).astype(self.kind)
        known = self._known[abs(order)]
        return -known if order < 0 and order % 2 else known

    def _computed(self, order: int) -> Real:
        """Return J_order(phase): by recurrence, which is stable where the phase exceeds it."""
        from scipy import special

        while len(self._exact) <= order:
            n = len(self._exact)
            higher = 2 * (n - 1) / self.phase * self._exact[-1] - self._exact[-2]
            small = self.phase < n
            higher[small] = special.jv(n, self.phase[small])
            self._exact.append(higher)
        return self._exact[order]


def ray_foci_um(optics: Optics) -> tuple[float, float]:
    """Return where the rays come to a focus: the least and the greatest height, um.

    Up to 0.85 of the aperture that enters the sample: the last rays carry little light far.
    """
    usable = 0.85 * min(optics.na, optics.medium_index, optics.coverslip_index)
    angles = np.linspace(1e-3, 1, 64) * math.asin(usable / optics.immersion_index)
    phase = _path_phase(optics, optics.emission_nm, angles).real
    wavenumber = 2000 * math.pi * optics.immersion_index / optics.emission_nm
    foci = np.diff(phase) / np.diff(wavenumber * np.cos(angles))
    return float(foci.min()), float(foci.max())


def gaussian_widths_um(pupil: Pupil) -> tuple[float, float]:
    """Return the standard deviations, (z, r) in um, of the Gaussian that fits the peak.

    Near the focus the intensity falls as 1 - <lateral^2> r^2/2 - var(axial) z^2, the means
    weighted by the amplitude of I0.
    """
    weight = np.abs(pupil.amplitudes[0])
    weight = weight / weight.sum()
    spread = weight @ pupil.axial**2 - (weight @ pupil.axial) ** 2
    return math.sqrt(0.5 / spread), math.sqrt(1 / (weight @ pupil.lateral**2))
