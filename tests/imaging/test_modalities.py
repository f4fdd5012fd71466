"""Every modality against its formula by brute force, and against first principles."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.interpolate import make_interp_spline

from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.modalities import focal_shift_um
from napari_deconv.imaging.optics import MODALITIES, Optics
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.resolution import fwhm_um, nyquist_um

from .psf_reference import brute_force

Array = npt.NDArray[np.float64]

OIL: dict[str, Any] = {"na": 1.4, "emission_nm": 520, "excitation_nm": 488}
DEEP: dict[str, Any] = {**OIL, "sample_index": 1.333, "depth_um": 8}
LOW: dict[str, Any] = {
    "na": 0.5,
    "emission_nm": 600,
    "excitation_nm": 561,
    "immersion_index": 1.0,
}


def samples_of(optics: Optics, spacing: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    return compute_psf(optics, Grid(spacing_um=spacing), shape).samples.astype(np.float64)


class Brute:
    """Profiles of one microscope in float64, on radii so dense that a spline adds nothing."""

    def __init__(self, optics: Optics, heights: Array, reach_um: float) -> None:
        self.optics, self.heights = optics, heights
        self.radii = np.arange(0, reach_um, 0.012 * optics.emission_nm / 520 / optics.na)

    def of(self, wavelength_nm: float, turn: int = 0) -> Any:
        """Return the spline of the intensity over the radius, (R, Z)."""
        optics = replace(self.optics, modality="widefield", emission_nm=wavelength_nm)
        values = brute_force(optics, self.heights, self.radii, panels=16, turn=turn)
        both = np.concatenate((values[:, :0:-1], values), axis=1)
        radii = np.concatenate((-self.radii[:0:-1], self.radii))
        return make_interp_spline(radii, both.T, k=7)

    def over_disk(
        self, profile: Any, radius_um: float, r: Array, density: Any = np.ones_like
    ) -> Array:
        """Return the mean of a profile over disks around the radii r, by polar quadrature."""
        if radius_um == 0:
            return np.asarray(profile(r))
        node, weight = np.polynomial.legendre.leggauss(20)
        s, share = radius_um * (node + 1) / 2, weight * (node + 1) / 2
        share = share * density(s / radius_um)
        phi = np.pi * (np.arange(36) + 0.5) / 36
        place = np.sqrt(
            r[:, None, None] ** 2
            + s[:, None] ** 2
            + 2 * r[:, None, None] * s[:, None] * np.cos(phi)
        )
        return np.asarray(np.einsum("rspz,s->rz", profile(place), share) / 36)


def _confocal(brute: Brute, r: Array) -> Array:
    optics = brute.optics
    radius = optics.pinhole_au * 0.61 * optics.emission_nm / 1000 / optics.na
    detected = brute.over_disk(brute.of(optics.emission_nm), radius, r)
    return np.asarray(brute.of(float(optics.excitation_nm or 0))(r) * detected)


def _overlap(part: Array) -> Array:
    """Return the part of a disk that another covers, `part` of two radii away."""
    return np.asarray(2 / np.pi * (np.arccos(part) - part * np.sqrt(1 - part**2)))


def _spinning_disk(brute: Brute, r: Array) -> Array:
    """Sum over pinholes: light excited through any of them, seen through its own."""
    optics = brute.optics
    excitation = float(optics.excitation_nm or 0)
    radius = optics.pinhole_um / 2 / optics.magnification
    cell = math.sqrt(3) / 2 * (optics.pinhole_spacing_um / optics.magnification) ** 2
    profile = brute.of(excitation)
    own: Array = brute.over_disk(profile, 2 * radius, r, _overlap) * 4
    whole = _plane_light(replace(optics, modality="widefield", emission_nm=excitation))
    around = brute.over_disk(profile, math.sqrt(cell / math.pi), r)
    return np.asarray(brute.of(optics.emission_nm)(r) * (own + whole / cell - around))


def _plane_light(optics: Optics) -> float:
    """All the light of a plane, by Parseval, of matched media."""
    ni, na, k = optics.immersion_index, optics.na, 2000 * np.pi / optics.emission_nm
    node, weight = np.polynomial.legendre.leggauss(400)
    theta = math.asin(na / ni) * (node + 1) / 2
    s, c = np.sin(theta), np.cos(theta)
    glass = np.sqrt(optics.coverslip_index**2 - (ni * s) ** 2)
    t_s = 4 * ni * c * glass / (ni * c + glass) ** 2
    ng = optics.coverslip_index
    t_p = 4 * ni * c * glass / ((ng * c + ni / ng * glass) * (ni / ng * glass + ng * c))
    power = (t_s + t_p * c) ** 2 + 2 * (t_p * s) ** 2 + (t_s - t_p * c) ** 2
    density = c * s**2 * power / (k * ni * s * k * ni * c)
    return float(2 * np.pi * (density * weight).sum() * math.asin(na / ni) / 2)


def _two_photon(brute: Brute, r: Array) -> Array:
    return np.asarray(brute.of(float(brute.optics.excitation_nm or 0))(r) ** 2)


def _light_sheet(brute: Brute, r: Array) -> Array:
    optics = brute.optics
    distance = brute.heights - optics.depth_um - focal_shift_um(optics)
    return np.asarray(
        brute.of(optics.emission_nm)(r)
        * np.exp2(-((2 * distance / float(optics.sheet_um or 0)) ** 2))
    )


def _sted(brute: Brute, r: Array) -> Array:
    optics = brute.optics
    doughnut = brute.of(optics.depletion_nm, turn=1)
    plain = replace(optics, modality="widefield", emission_nm=optics.depletion_nm)
    focus = np.array([optics.depth_um + focal_shift_um(plain)])
    ring = brute_force(plain, focus, np.linspace(0.1, 0.4, 601), turn=1).max()
    return np.asarray(_confocal(brute, r) / (1 + optics.saturation * doughnut(r) / ring))


CASES: dict[str, tuple[Optics, Any]] = {
    "confocal, 1 AU": (Optics("confocal", **OIL), _confocal),
    "confocal, no pinhole": (Optics("confocal", pinhole_au=0, **OIL), _confocal),
    "confocal, 3.3 AU, deep": (Optics("confocal", pinhole_au=3.3, **DEEP), _confocal),
    "confocal, 0.2 AU, low NA": (Optics("confocal", pinhole_au=0.2, **LOW), _confocal),
    "spinning disk": (Optics("spinning-disk", **OIL), _spinning_disk),
    "spinning disk, wide pinholes": (
        Optics("spinning-disk", pinhole_um=70, pinhole_spacing_um=150, magnification=60, **OIL),
        _spinning_disk,
    ),
    "two-photon, deep": (Optics("two-photon", **{**DEEP, "excitation_nm": 920}), _two_photon),
    "light sheet, deep": (Optics("light-sheet", sheet_um=1.5, **DEEP), _light_sheet),
    "STED, strong, deep": (Optics("effective-sted", saturation=40, **DEEP), _sted),
}


@pytest.mark.parametrize("case", CASES)
def test_within_1e_4_of_its_formula(case: str) -> None:
    optics, formula = CASES[case]
    step, pixel = (0.2, 0.06) if optics.na > 1 else (1.0, 0.15)
    if optics.modality == "effective-sted":
        pixel = 0.02
    shape = (9, 32, 33)
    centre = np.array(shape) // 2
    planes = np.array([0, 3, 4, 8])
    pixels = np.array([[0, 0], [0, 1], [1, 1], [2, 5], [9, 4], [14, 12]])
    heights = optics.depth_um + focal_shift_um(optics) + (planes - centre[0]) * step
    node, weight = np.polynomial.legendre.leggauss(6)
    y, x = (pixels[:, axis, None, None] for axis in (0, 1))
    r = pixel * np.hypot(y + node[:, None] / 2, x + node / 2).ravel()
    brute = Brute(optics, heights, float(r.max()) + 2.2 / optics.na)
    fine = formula(brute, r).reshape(len(pixels), 6, 6, len(planes))
    expected = np.einsum("pyxz,y,x->zp", fine, weight, weight)
    samples = samples_of(optics, (step, pixel, pixel), shape)
    found = samples[planes[:, None], centre[1] - pixels[:, 0], centre[2] - pixels[:, 1]]
    error = found / found[2, 0] - expected / expected[2, 0]
    assert np.abs(error).max() < 1e-4


# --- first principles ---------------------------------------------------------------------

FINE, SHAPE = (0.05, 0.02, 0.02), (25, 33, 33)


def test_a_closed_pinhole_gives_the_product_and_an_open_one_the_excitation() -> None:
    excitation = samples_of(Optics(na=1.4, emission_nm=488), FINE, SHAPE)
    emission = samples_of(Optics(na=1.4, emission_nm=520), FINE, SHAPE)
    closed = samples_of(Optics("confocal", pinhole_au=1e-3, **OIL), FINE, SHAPE)
    product = excitation * emission
    # The mean over a pixel of a product is not the product of the means: pixels of 20 nm.
    np.testing.assert_allclose(closed, product / product.sum(), rtol=0, atol=6e-3 * closed.max())
    errors = []
    for pinhole in (5, 10, 20):
        opened = samples_of(Optics("confocal", pinhole_au=pinhole, **OIL), FINE, SHAPE)
        errors.append(np.abs(opened / opened.max() - excitation / excitation.max()).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03


@pytest.mark.parametrize(
    ("pinhole_au", "axial_um", "lateral_um"), [(0, 0.354, 0.147), (1, 0.389, 0.188)]
)
def test_confocal_widths_are_the_known_ones(
    pinhole_au: float, axial_um: float, lateral_um: float
) -> None:
    psf = compute_psf(
        Optics("confocal", pinhole_au=pinhole_au, **OIL), Grid(spacing_um=FINE), SHAPE
    )
    z, y, x = fwhm_um(psf)
    assert z == pytest.approx(axial_um, abs=0.002)
    assert (y, x) == pytest.approx((lateral_um, lateral_um), abs=0.002)


def test_a_thin_sheet_cuts_the_axis_and_a_thick_one_changes_nothing() -> None:
    widefield = samples_of(
        Optics(na=0.8, emission_nm=520, immersion_index=1.333), (0.2, 0.1, 0.1), (33, 25, 25)
    )
    sheet = Optics("light-sheet", na=0.8, emission_nm=520, immersion_index=1.333, sheet_um=1e4)
    np.testing.assert_allclose(
        samples_of(sheet, (0.2, 0.1, 0.1), (33, 25, 25)),
        widefield,
        rtol=0,
        atol=1e-6 * widefield.max(),
    )
    thin = compute_psf(
        replace(sheet, sheet_um=0.5), Grid(spacing_um=(0.05, 0.1, 0.1)), (41, 25, 25)
    )
    assert fwhm_um(thin)[0] == pytest.approx(0.5, rel=0.05)


def test_saturation_narrows_by_the_square_root() -> None:
    widths = []
    for saturation in (0, 8, 80):
        optics = Optics("effective-sted", saturation=saturation, **OIL)
        widths.append(
            fwhm_um(compute_psf(optics, Grid(spacing_um=(0.2, 0.01, 0.01)), (3, 65, 65)))[2]
        )
    confocal = compute_psf(
        Optics("confocal", **OIL), Grid(spacing_um=(0.2, 0.01, 0.01)), (3, 65, 65)
    )
    assert widths[0] == pytest.approx(fwhm_um(confocal)[2], rel=1e-6)
    # Far into saturation d ~ 1/sqrt(1 + S) (Hell and Wichmann's scaling).
    assert widths[1] / widths[2] == pytest.approx(3, rel=0.12)


def test_nyquist_knows_the_modality() -> None:
    axial, lateral = nyquist_um(Optics(na=1.4, emission_nm=520))
    both = 1 / (1 + 520 / 488)
    assert nyquist_um(Optics("confocal", **OIL)) == pytest.approx((axial * both, lateral * both))
    two = Optics("two-photon", **{**OIL, "excitation_nm": 1040})
    assert nyquist_um(two) == pytest.approx((axial, lateral))
    thick, thin = (nyquist_um(Optics("light-sheet", sheet_um=w, **OIL)) for w in (1e6, 1e-3))
    assert thick == pytest.approx((axial, lateral))
    # Far below the detection's own depth of field the sheet alone decides.
    assert thin == pytest.approx((1e-3 / 2.275, lateral), rel=0.01)
    sted = nyquist_um(Optics("effective-sted", saturation=15, **OIL))
    assert sted == pytest.approx((axial * both, lateral * both / 4))


@pytest.mark.parametrize("modality", ["widefield", "confocal", "two-photon"])
def test_the_gaussian_model_has_the_curvature_of_the_peak(modality: str) -> None:
    exact, gaussian = (
        samples_of(
            Optics(modality, model=model, pinhole_au=0, **OIL), (0.01, 0.005, 0.005), (5, 5, 5)
        )
        for model in ("vectorial", "gaussian")
    )
    drop = [
        (s[2, 2, 2] - np.array((s[4, 2, 2], s[2, 2, 4]))) / s[2, 2, 2] for s in (exact, gaussian)
    ]
    # The field's smaller parts, |I1| and |I2|, fill in around the axis.
    assert drop[1][0] == pytest.approx(drop[0][0], rel=0.15)
    assert drop[0][1] < drop[1][1] < 1.5 * drop[0][1]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("shape", [(7, 32, 33), (8, 33, 32)])
def test_every_modality_is_centred_finite_and_of_unit_sum(
    modality: str, shape: tuple[int, ...]
) -> None:
    sheet: dict[str, Any] = {"sheet_um": 1.0} if modality == "light-sheet" else {}
    for optics in (Optics(modality, **OIL, **sheet), Optics(modality, **DEEP, **sheet)):
        psf = compute_psf(optics, Grid(spacing_um=(0.15, 0.05, 0.05)), shape)
        assert np.unravel_index(psf.samples.argmax(), shape) == tuple(n // 2 for n in shape)
        assert psf.samples.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        paired = psf.samples[:, 1 - shape[1] % 2 :, 1 - shape[2] % 2 :].astype(np.float64)
        np.testing.assert_array_equal(paired, paired[:, ::-1, ::-1])


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_chosen_box_tells_how_much_light_it_keeps(modality: str) -> None:
    sheet: dict[str, Any] = {"sheet_um": 1.0} if modality == "light-sheet" else {}
    optics = Optics(
        modality, na=0.8, emission_nm=520, excitation_nm=488, immersion_index=1.0, **sheet
    )
    psf = compute_psf(optics, Grid(spacing_um=(0.5, 0.15, 0.15)))
    assert psf.light_kept is not None
    assert all(n % 2 for n in psf.shape)
    assert psf.light_kept >= 0.95 or any("last plane keeps" in note for note in psf.notes)
    small = compute_psf(optics, Grid(spacing_um=(0.5, 0.15, 0.15)), (9, 11, 11))
    wide = compute_psf(optics, Grid(spacing_um=(0.5, 0.15, 0.15)), (9, 301, 301))
    last = wide.samples[0].astype(np.float64)
    assert small.light_kept == pytest.approx(last[145:156, 145:156].sum() / last.sum(), abs=0.02)
