"""Known truths: simulated objects and what a microscope would make of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .psf import Psf

Float = npt.NDArray[np.float32]


def cell_phantom(
    shape: tuple[int, int, int], spacing_um: tuple[float, ...], seed: int = 0
) -> Float:
    """Return shells, filaments and beads in a volume, in arbitrary units up to about 8.

    Parameters
    ----------
    shape : (Z, Y, X)
        Voxels of the volume.
    spacing_um : (z, y, x)
        Voxel size; objects are round in micrometres, not in voxels.
    seed : int
        The same seed gives the same volume.
    """
    rng = np.random.default_rng(seed)
    size = np.array(shape) * spacing_um
    places = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(shape, spacing_um, strict=True)), indexing="ij"
    )
    volume = np.zeros(shape, np.float32)
    for _ in range(3):
        centre, radius = size * rng.uniform(0.3, 0.7, 3), rng.uniform(0.15, 0.3) * size.min()
        distance = np.sqrt(sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)))
        volume += 0.15 * (np.abs(distance - radius) < max(spacing_um) * 0.6)
    for _ in range(8):
        _draw(volume, _walk(rng, size), spacing_um, 1.0)
    for _ in range(40):
        _draw(volume, size * rng.uniform(0.05, 0.95, (1, 3)), spacing_um, rng.uniform(2, 8))
    return volume


def _walk(rng: np.random.Generator, size: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the points of a stiff random walk through a box, (N, 3)."""
    direction = rng.normal(size=(400, 3)).cumsum(0) * 0.1 + rng.normal(size=3)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return size * rng.uniform(0.1, 0.9, 3) + direction.cumsum(0) * 0.05


def _draw(
    volume: Float, points: npt.NDArray[np.float64], spacing_um: tuple[float, ...], value: float
) -> None:
    """Set the voxels nearest to `points` (um) to `value`; points outside are left out."""
    index = np.rint(points / spacing_um).astype(int)
    inside = ((index >= 0) & (index < volume.shape)).all(1)
    volume[tuple(index[inside].T)] = value


def photographed(
    truth: Float, psf: Psf, *, photons: float, background: float, read_noise: float, seed: int = 0
) -> npt.NDArray[np.uint16]:
    """Return the counts that a camera records of `truth` through `psf`.

    Parameters
    ----------
    truth : ndarray, (Z, Y, X)
        The object; nothing lies beyond the volume.
    psf : Psf
        On the voxels of the object.
    photons : float
        Brightest expected count above the background.
    background, read_noise : float
        Counts added everywhere, and the standard deviation of the camera's noise.
    seed : int
        The same seed gives the same noise.
    """
    from scipy.signal import fftconvolve

    rng = np.random.default_rng(seed)
    blurred = np.maximum(fftconvolve(truth, psf.samples, mode="full"), 0)
    # Index n//2 of the PSF is its centre, so the object's voxel 0 lies there in the full result.
    start = [n // 2 for n in psf.shape]
    inside = tuple(slice(s, s + n) for s, n in zip(start, truth.shape, strict=True))
    expected = blurred[inside] * (photons / blurred[inside].max()) + background
    counts = Camera(read_noise=read_noise).recorded(expected, rng)
    digital: npt.NDArray[np.uint16] = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return digital
