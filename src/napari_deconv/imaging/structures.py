"""Kinds of structure for training and for tests: what cells are made of, drawn at random.

Each kind is a function (volume, spacing, random generator) that adds to a volume, in arbitrary
units around 1. All measures are micrometres, so that round things are round whatever the voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from .value import require

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Random = np.random.Generator
Spacing = tuple[float, ...]


def structures(
    shape: tuple[int, ...],
    spacing_um: Spacing,
    random: Random,
    kinds: Sequence[str] | None = None,
) -> Float:
    """Return a volume of one to three kinds of structure, its brightest voxel 1.

    Parameters
    ----------
    shape : (Z, Y, X) or (Y, X)
        Voxels of the volume.
    spacing_um : tuple of float
        Voxel size, one an axis.
    random : numpy.random.Generator
        The same state gives the same volume.
    kinds : sequence of str, optional
        Of `KINDS`; all of them if not given.

    Raises
    ------
    InputError
        If a kind is not known.
    """
    names = tuple(kinds) if kinds else tuple(KINDS)
    for name in names:
        require(name in KINDS, f"The structure {name!r} is not known; choose of {', '.join(KINDS)}")
    volume = np.zeros(shape, np.float32)
    count = min(len(names), int(random.integers(1, 4)))
    chosen = random.choice(len(names), size=count, replace=False)
    for index in chosen:
        layer = np.zeros(shape, np.float32)
        KINDS[names[index]](layer, spacing_um, random)
        if names[index] in THIN:
            layer = _thickened(layer, spacing_um, random)
        brightest = float(layer.max())
        if brightest > 0:
            volume += layer * (random.uniform(0.3, 1.0) / brightest)
    brightest = float(volume.max())
    return volume / brightest if brightest > 0 else volume


def shells(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add hollow spheres, as membranes are, about a voxel thick."""
    for _ in range(random.integers(1, 5)):
        distance, radius = _from_a_centre(volume.shape, spacing, random)
        thickness = random.uniform(0.6, 1.2) * min(spacing)
        # No thinner than the steps between planes, or it would come and go.
        wall = max(thickness, 0.5 * max(spacing))
        volume += random.uniform(0.3, 1) * np.exp(-0.5 * ((distance - radius) / wall) ** 2)


def balls(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add filled spheres with soft edges, as nuclei and vesicles are."""
    for _ in range(random.integers(1, 7)):
        distance, radius = _from_a_centre(volume.shape, spacing, random)
        edge = np.clip((radius - distance) / min(spacing) + 0.5, 0, 1)
        volume += random.uniform(0.2, 1) * edge


def filaments(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add stiff random walks, as microtubules are."""
    size = np.array(volume.shape) * spacing
    step = 0.4 * min(spacing)
    for _ in range(random.integers(3, 16)):
        bends = random.normal(size=(1500, volume.ndim)).cumsum(0) * random.uniform(0.02, 0.15)
        direction = bends + random.normal(size=volume.ndim) * 3
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        points = size * random.uniform(0, 1, volume.ndim) + direction.cumsum(0) * step
        splat(volume, points / spacing, random.uniform(0.3, 1))


def dots(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add points, as single molecules and small vesicles are."""
    count = int(random.integers(5, 200))
    places = random.uniform(0, 1, (count, volume.ndim)) * np.array(volume.shape)
    splat(volume, places, random.exponential(1.0, count) + 0.1)


def lines(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add straight rods."""
    size, step = np.array(volume.shape) * spacing, 0.4 * min(spacing)
    for _ in range(random.integers(3, 20)):
        direction = random.normal(size=volume.ndim)
        direction /= np.linalg.norm(direction)
        along = np.arange(0, random.uniform(0.1, 0.8) * size.max(), step)[:, None]
        start = size * random.uniform(0, 1, volume.ndim)
        splat(volume, (start + along * direction) / spacing, random.uniform(0.3, 1))


def textures(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add a cloud with soft patches, as cytoplasm and chromatin are."""
    from scipy.ndimage import gaussian_filter

    width_um = random.uniform(1.5, 6) * min(spacing)
    noise = random.normal(size=volume.shape).astype(np.float32)
    cloud = gaussian_filter(noise, [width_um / step for step in spacing], mode="reflect")
    cloud /= max(float(cloud.std()), 1e-12)
    volume += np.clip(cloud - random.uniform(-0.5, 1.0), 0, None)


#: By the names that users choose them by.
KINDS: dict[str, Callable[[Float, Spacing, Random], None]] = {
    "shells": shells,
    "balls": balls,
    "filaments": filaments,
    "dots": dots,
    "lines": lines,
    "textures": textures,
}


#: Drawn as points, and then given some thickness: no camera's pixel holds less.
THIN = ("filaments", "dots", "lines")


def _thickened(volume: Float, spacing: Spacing, random: Random) -> Float:
    from scipy.ndimage import gaussian_filter

    width_um = random.uniform(0.5, 1.0) * min(spacing)
    thick: Float = gaussian_filter(volume, [width_um / step for step in spacing])
    return thick


def splat(volume: Float, places: Double, values: float | Double) -> None:
    """Add values at places between voxels, shared among the voxels around each.

    Parameters
    ----------
    volume : ndarray of float32
        Changed.
    places : ndarray, (N, number of axes)
        In voxels; what lies outside is left out.
    values : float or ndarray, (N,)
    """
    below = np.floor(places).astype(np.intp)
    part = places - below
    amounts = np.broadcast_to(np.asarray(values, np.float64), len(places))
    for corner in np.ndindex((2,) * volume.ndim):
        index = below + corner
        weight = np.prod(np.where(corner, part, 1 - part), axis=1) * amounts
        inside = ((index >= 0) & (index < volume.shape)).all(1)
        np.add.at(volume, tuple(index[inside].T), weight[inside].astype(np.float32))


def _from_a_centre(shape: tuple[int, ...], spacing: Spacing, random: Random) -> tuple[Float, float]:
    """Return the distance of each voxel from a random centre, and a radius, both in um."""
    size = np.array(shape) * spacing
    centre = size * random.uniform(0.05, 0.95, len(shape))
    squares = [
        (np.arange(n, dtype=np.float32) * step - middle) ** 2
        for n, step, middle in zip(shape, spacing, centre, strict=True)
    ]
    total = squares[0]
    for along in squares[1:]:
        total = np.add.outer(total, along)
    lateral = float(size[-2:].min())
    return np.sqrt(total).astype(np.float32), float(random.uniform(0.04, 0.35)) * lateral
