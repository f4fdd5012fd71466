"""Simulated surfaces and their images: truths to learn from, to test on, and to show.

All measures are nanometres, so that round things are round whatever the pixels. The same state of
the random generator gives the same surface.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from napari_deconv.imaging.value import require, require_number

from .height_map import HeightMap
from .morphology import dilate
from .tips import SphereCone, Tip

Double = npt.NDArray[np.float64]
Random = np.random.Generator
Shape = tuple[int, int]
Pixel = tuple[float, float]

#: Area in nm^2 that one particle has to itself, on average, and places tried for it.
PARTICLE_AREA, TRIES = 1500.0, 30
#: Tallest and lowest particle, and filament, in nm: proteins and colloids; DNA and actin.
PARTICLES, FILAMENTS = (3.0, 15.0), (2.0, 7.0)

#: Of `sample_afm`: pixels, their size in nm, and the noise in nm.
SAMPLE_SHAPE, SAMPLE_PIXEL, SAMPLE_NOISE = (128, 128), (1.0, 1.0), 0.2
#: The tip, and its second apex: how far from the first, (y, x), and how much higher, in nm.
SAMPLE_TIP = SphereCone(radius_nm=4.0, half_angle_deg=18.0)
SECOND_APEX, SECOND_HIGHER = (3.0, -7.0), 2.5


def surface_of(kind: str, shape: Shape, pixel_nm: Pixel, random: Random) -> Double:
    """Return a surface of a kind.

    Parameters
    ----------
    kind : str
        Of `KINDS`: "particles", "filaments", "steps", "pores" or "rough".
    shape : tuple of int, (Y, X)
    pixel_nm : tuple of float, (y, x)
    random : numpy.random.Generator

    Returns
    -------
    ndarray of float64, (Y, X)
        Heights in nm, 0 at the lowest.

    Raises
    ------
    InputError
        If the kind is not known, or a pixel or the image has no size.
    """
    require(kind in KINDS, f"The surface {kind!r} is not known; choose of {', '.join(KINDS)}")
    require(
        len(shape) == 2 and all(n >= 1 for n in shape),
        f"A surface has rows and columns, not the shape {shape}",
    )
    for axis, step in zip("yx", pixel_nm, strict=True):
        require_number(f"The {axis} pixel size in nm", step, above=0)
    heights = KINDS[kind](shape, pixel_nm, random)
    return np.asarray(heights - heights.min(), np.float64)


def imaged(
    surface: npt.ArrayLike,
    tip: Tip,
    noise_nm: float,
    random: Random,
    row_noise_nm: float = 0.0,
    tilt: tuple[float, float] = (0.0, 0.0),
) -> Double:
    """Return the image that a microscope makes of a surface.

    Parameters
    ----------
    surface : array, (Y, X)
        Heights in nm.
    tip : Tip
        On the pixels of the surface.
    noise_nm : float
        Standard deviation of the height of each pixel.
    random : numpy.random.Generator
    row_noise_nm : float
        Standard deviation of the height of each row as a whole.
    tilt : tuple of float, (y, x)
        Slope of the image: nm up per nm along each axis.

    Returns
    -------
    ndarray of float64, (Y, X)
        In nm.

    Raises
    ------
    InputError
        If the tip is larger than the surface, or a noise is negative.
    """
    require_number("The noise in nm", noise_nm, least=0)
    require_number("The noise of rows in nm", row_noise_nm, least=0)
    image = dilate(surface, tip.heights_nm)
    rows, columns = image.shape[-2:]
    y, x = _places((rows, columns), tip.pixel_nm)
    image += tilt[0] * y + tilt[1] * x
    image += random.normal(0, 1, image.shape) * noise_nm
    image += random.normal(0, 1, (*image.shape[:-1], 1)) * row_noise_nm
    return image


def sample_afm() -> tuple[HeightMap, Double, Tip]:
    """Return a simulated image to try things on, its true surface, and the tip.

    Returns
    -------
    image : HeightMap
        128 x 128 pixels of 1 nm, with noise of 0.2 nm: particles on crossing filaments.
    surface : ndarray of float64, (128, 128)
        True heights in nm.
    tip : Tip
        With a second apex, so that it matters which way round it is.
    """
    random = np.random.default_rng(11)
    filaments = surface_of("filaments", SAMPLE_SHAPE, SAMPLE_PIXEL, random)
    particles = surface_of("particles", SAMPLE_SHAPE, SAMPLE_PIXEL, random)
    surface = np.maximum(filaments, particles)
    tip = _double_tip(float(np.ptp(surface)))
    heights = imaged(surface, tip, SAMPLE_NOISE, random)
    image = HeightMap(heights, SAMPLE_PIXEL, "Simulated particles and filaments", "Height")
    return image, surface, tip


def particles(shape: Shape, pixel_nm: Pixel, random: Random) -> Double:
    """Return balls that lie on flat ground, beside each other where there is room."""
    heights = np.zeros(shape)
    y, x = _places(shape, pixel_nm)
    size, apart = np.array(shape) * pixel_nm, 2 * max(pixel_nm)
    there: list[tuple[Double, float]] = []
    for _ in range(max(round(float(size.prod()) / PARTICLE_AREA), 1)):
        radius = random.uniform(*PARTICLES) / 2
        for _ in range(TRIES):
            at = random.uniform(0, 1, 2) * (size - pixel_nm)
            if all(np.hypot(*(at - other)) > radius + r + apart for other, r in there):
                there.append((at, radius))
                ball = _ball(np.hypot(y - at[0], x - at[1]), radius)
                np.maximum(heights, ball, out=heights)
                break
    return heights


def filaments(shape: Shape, pixel_nm: Pixel, random: Random) -> Double:
    """Return bent cylinders on flat ground; where two cross, one lies on the other."""
    from scipy.spatial import cKDTree

    heights = np.zeros(shape)
    y, x = np.broadcast_arrays(*_places(shape, pixel_nm))
    places = np.stack([y.ravel(), x.ravel()], 1)
    size = np.array(shape) * pixel_nm
    step = min(pixel_nm) / 2
    for _ in range(int(random.integers(3, 7))):
        radius = random.uniform(*FILAMENTS) / 2
        count = int(2 * np.hypot(*size) / step)
        # Directions of a stiff chain: they forget themselves after some 50 nm, as DNA's do.
        turns = random.normal(0, np.sqrt(step / 50), count).cumsum() + random.uniform(0, 2 * np.pi)
        chain = np.stack([np.sin(turns), np.cos(turns)], 1).cumsum(0) * step
        chain += random.uniform(0.1, 0.9, 2) * size - chain[count // 2]
        across, _nearest = cKDTree(chain).query(places, distance_upper_bound=radius)
        heights += _ball(np.asarray(across).reshape(shape), radius)
    return heights


def steps(shape: Shape, pixel_nm: Pixel, random: Random) -> Double:
    """Return terraces with wavy edges, as crystals have them."""
    y, x = _places(shape, pixel_nm)
    angle = random.uniform(0, 2 * np.pi)
    up, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wave = random.uniform(1, 6) * np.sin(2 * np.pi * (along / random.uniform(40, 120)))
    width, height = random.uniform(15, 40), random.uniform(0.3, 3.0)
    return np.asarray(height * np.floor((up + wave) / width + random.uniform()))


def pores(shape: Shape, pixel_nm: Pixel, random: Random) -> Double:
    """Return a flat film with round holes on a hexagonal lattice."""
    y, x = _places(shape, pixel_nm)
    pitch = random.uniform(20, 40)
    radius, depth = pitch * random.uniform(0.2, 0.35), random.uniform(3, 10)
    row = pitch * np.sqrt(3) / 2
    at_y, at_x = random.uniform(0, row), random.uniform(0, pitch)
    across = np.full(shape, np.inf)
    # The next row of the lattice below and above, each shifted by half a hole from the other.
    for offset in (0, 1):
        number = 2 * np.round(((y - at_y) / row - offset) / 2) + offset
        beside = x - at_x - offset * pitch / 2
        beside = beside - pitch * np.round(beside / pitch)
        across = np.minimum(across, np.hypot(y - at_y - number * row, beside))
    return np.where(across < radius, 0.0, depth)


def rough(shape: Shape, pixel_nm: Pixel, random: Random) -> Double:
    """Return normally distributed heights that neighbours share, as evaporated films have."""
    from scipy.ndimage import gaussian_filter

    length, rms = random.uniform(3, 10), random.uniform(0.5, 3.0)
    noise = random.normal(size=shape)
    heights = gaussian_filter(noise, [length / step for step in pixel_nm], mode="wrap")
    return np.asarray(heights * (rms / max(float(heights.std()), 1e-12)))


#: By the names that `surface_of` takes.
KINDS: dict[str, Callable[[Shape, Pixel, Random], Double]] = {
    "particles": particles,
    "filaments": filaments,
    "steps": steps,
    "pores": pores,
    "rough": rough,
}


def _double_tip(depth_nm: float) -> Tip:
    y, x = _places((61, 61), SAMPLE_PIXEL)
    first, second = (
        SAMPLE_TIP.depth_nm(y - 30 - at_y, x - 30 - at_x) + higher
        for (at_y, at_x), higher in (((0.0, 0.0), 0.0), (SECOND_APEX, SECOND_HIGHER))
    )
    depth = np.minimum(first, second)
    reaches = depth <= depth_nm
    half = int(np.abs(np.argwhere(reaches) - 30).max())
    keep = slice(30 - half, 31 + half)
    return Tip(np.where(reaches, -depth, -np.inf)[keep, keep], SAMPLE_PIXEL)


def _places(shape: Shape, pixel_nm: Pixel) -> tuple[Double, Double]:
    """Return y and x of all pixels in nm, from the first, to be broadcast."""
    y, x = (np.arange(n, dtype=np.float64) * step for n, step in zip(shape, pixel_nm, strict=True))
    return y[:, None], x[None, :]


def _ball(across: Double, radius: float) -> Double:
    """Return the top of a ball, or of a lying cylinder, on the ground; 0 beside it."""
    inside = across < radius
    square = np.where(inside, radius**2 - np.where(inside, across, 0.0) ** 2, 0.0)
    return np.where(inside, radius + np.sqrt(square), 0.0)
