"""What optics resolve, and how wide a PSF is."""

from __future__ import annotations

import math

import numpy as np

from .optics import Optics
from .psf import Psf
from .value import InputError


def nyquist_um(optics: Optics) -> tuple[float, float]:
    """Return the coarsest voxel that holds all that `optics` resolves, (axial, lateral) in um.

    lambda/(2 n (1 - cos alpha)) and lambda/(4 NA), with sin alpha = NA/n in the immersion. The
    product of excitation and detection passes the frequencies of both together: with them
    1/lambda is 1/excitation + 1/emission, and 2/excitation for two photons. Saturated
    depletion sharpens laterally by sqrt(1 + saturation). A light sheet adds the axial
    frequencies that it passes, up to where its Gaussian falls to 1 %: 1.14/FWHM.

    Examples
    --------
    >>> axial, lateral = nyquist_um(Optics(na=0.6, emission_nm=500, immersion_index=1.0))
    >>> round(axial, 3), round(lateral, 3)
    (1.25, 0.208)
    """
    wavelength_um, n_immersion = optics.finest_nm / 1000, optics.immersion_index
    cosine = math.sqrt(1 - (optics.na / n_immersion) ** 2)
    # n (1 - cos alpha), without the difference that would lose digits at low NA.
    lift = optics.na**2 / (n_immersion * (1 + cosine))
    # A sheet of Gaussian profile passes exp(-(pi f FWHM)^2 / (4 ln 2)).
    sheet = math.sqrt(4 * math.log(2) * math.log(100)) / math.pi / optics.sheet_fwhm_um
    axial_um = 1 / (2 * lift / wavelength_um + 2 * sheet)
    sharper = math.sqrt(1 + optics.saturation) if optics.modality == "effective-sted" else 1.0
    return axial_um, wavelength_um / (4 * optics.na) / sharper


def fwhm_um(psf: Psf) -> tuple[float, ...]:
    """Return the full widths at half maximum of `psf` along the lines through its centre.

    Returns
    -------
    tuple of float
        Micrometres, (z, y, x) or (y, x), between the crossings of a cubic spline; nan where
        the box ends before the profile has fallen to one half.

    Raises
    ------
    InputError
        If the PSF has no voxel size.

    Examples
    --------
    >>> profile = np.exp2(-(np.arange(-8, 9) ** 2) / 9)  # half maximum at 3 pixels
    >>> y, x = fwhm_um(Psf(np.outer(profile, profile), (0.1, 0.2)))
    >>> round(y, 3), round(x, 3)
    (0.6, 1.2)
    """
    from scipy.interpolate import CubicSpline

    if psf.spacing_um is None:
        raise InputError("The PSF has no voxel size, so its width is unknown; give its spacing")
    centre = [slice(n // 2, n // 2 + 1) for n in psf.shape]
    widths = []
    for axis, step in enumerate(psf.spacing_um):
        line = psf.samples[(*centre[:axis], slice(None), *centre[axis + 1 :])].ravel()
        peak, crossings = line.argmax(), np.empty(0)
        if len(line) > 2:
            above = line.astype(np.float64) - line[peak] / 2
            crossings = CubicSpline(np.arange(len(line)), above).roots(extrapolate=False)
        before, after = crossings[crossings < peak], crossings[crossings > peak]
        whole = before.size and after.size
        widths.append(step * float(after.min() - before.max()) if whole else math.nan)
    return tuple(widths)
