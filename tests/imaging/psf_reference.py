"""The PSF by brute force: double precision, very many nodes, no interpolation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy import special

from napari_deconv.imaging.optics import Optics

Array = npt.NDArray[np.float64]


def _dense_angles(optics: Optics, panels: int) -> tuple[Array, Array]:
    """Panels of 20 Gauss nodes, crowded towards aperture and critical angles."""
    ni = optics.immersion_index
    indices = (optics.medium_index, optics.coverslip_index, optics.design_coverslip_index)
    kinks = {n for n in indices if n < optics.na}
    edges = sorted({0.0, math.asin(optics.na / ni), *(math.asin(n / ni) for n in kinks)})
    crowded = np.linspace(0, 1, panels + 1)
    for _ in range(2):
        crowded = np.sin(np.pi / 2 * crowded) ** 2
    cuts = [a + (b - a) * crowded for a, b in itertools.pairwise(edges)]
    node, weight = np.polynomial.legendre.leggauss(20)
    low = np.concatenate([cut[:-1] for cut in cuts])[:, None]
    width = np.concatenate([np.diff(cut) for cut in cuts])[:, None]
    return (low + width * (node + 1) / 2).ravel(), (width / 2 * weight).ravel()


def brute_force(
    optics: Optics, heights: Array, radii: Array, panels: int = 40, turn: int = 0
) -> Array:
    """Intensity, (Z, R), at `heights` of the stage, 0 for the glass surface in focus.

    With a `turn` of 1 it is that of a circularly polarized doughnut.
    """
    ni, ns, ng = optics.immersion_index, optics.medium_index, optics.coverslip_index
    ni0 = optics.design_immersion_index or ni
    ng0, tg0 = optics.design_coverslip_index, optics.design_coverslip_um
    tg, ti0 = optics.coverslip_um, optics.working_distance_um
    depth, k = optics.depth_um, 2 * np.pi / (optics.emission_nm * 1e-3)
    theta, weight = _dense_angles(optics, panels)
    s, c = np.sin(theta), np.cos(theta)
    gs, gg, gg0, gi0 = (np.sqrt(n**2 - (ni * s) ** 2 + 0j) for n in (ns, ng, ng0, ni0))
    # Fresnel, interface by interface, as in a text on optics.
    t_s = 2 * gs / (gs + gg) * 2 * gg / (gg + ni * c) * ni * c / gs
    t_p = 2 * ns * gs / (ng**2 * gs / ns + ns * gg) * 2 * ng * gg / (ni * gg + ng**2 * c)
    t_p *= ni * c / gs * ng / ns
    factors = (t_s + t_p * gs / ns, t_p * ni / ns * s, t_s - t_p * gs / ns)
    argument = np.outer(k * ni * s, radii)
    bessels = [_bessel(order + turn, argument) for order in (0, 1, 2)]
    result = np.zeros((len(heights), len(radii)))
    for row, z in zip(result, heights, strict=True):
        constant = depth * (1 - ni / ns) + ni * (tg0 / ng0 + ti0 / ni0 - tg / ng)
        path = (constant - z) * ni * c + depth * gs + tg * gg - tg0 * gg0 - ti0 * gi0
        wave = weight * np.sqrt(c) * s * np.exp(1j * k * (path - depth * ns))
        for share, factor, bessel in zip((1, 2, 1), factors, bessels, strict=True):
            row += share * np.abs((wave * factor) @ bessel) ** 2
    return result


def _bessel(order: int, argument: Array) -> Array:
    quick = {0: special.j0, 1: special.j1}
    return np.asarray(quick[order](argument) if order in quick else special.jv(order, argument))


def brute_pixels(
    optics: Optics, heights: Array, pixels: npt.NDArray[np.int64], size: tuple[float, float]
) -> Array:
    """Means over `pixels` (P, 2), (y, x) from the axis, by 10 x 10 Gauss points or more."""
    points = 10 + math.ceil(4 * max(size) * optics.na * 1000 / optics.emission_nm)
    node, weight = np.polynomial.legendre.leggauss(points)
    y = (pixels[:, 0, None, None] + node[:, None] / 2) * size[0]
    x = (pixels[:, 1, None, None] + node[None, :] / 2) * size[1]
    fine = brute_force(optics, heights, np.hypot(y, x).ravel())
    fine = fine.reshape(len(heights), len(pixels), points, points)
    means: Array = np.einsum("zpyx,y,x->zp", fine, weight, weight) / 4
    return means
