"""Kinds of structure for training and for tests: what cells are made of, and what is not of cells.

Drawn at random, also bodies with flat faces: what a network has never seen, it does not restore.

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
        if brightest > FAINTEST:
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
        volume += random.uniform(0.2, 1) * _filled(radius - distance, spacing)


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


def points(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add single voxels, few as often as many: no light of a molecule lies outside of its voxel."""
    count = _number(2, 200, random)
    places = [random.integers(0, n, count) for n in volume.shape]
    volume[tuple(places)] = random.uniform(0.1, 1, count)


def fibres(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add straight fibres, a voxel thick, from border to border: a few, or a mesh of them."""
    size = np.array(volume.shape) * spacing
    reach, step = 1.5 * size.max(), 0.75 * min(spacing)
    along = np.arange(-reach, reach, step)[:, None]
    for _ in range(_number(2, 60, random)):
        direction = random.normal(size=volume.ndim)
        middle = size * random.uniform(0, 1, volume.ndim)
        way = middle + along * direction / np.linalg.norm(direction)
        places = np.floor(way / spacing).astype(np.intp)
        inside = places[((places >= 0) & (places < volume.shape)).all(1)]
        volume[tuple(inside.T)] = random.uniform(0.3, 1)


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
    cloud = _cloud(volume.shape, spacing, random.uniform(1.5, 6) * min(spacing), random)
    volume += np.clip(cloud - random.uniform(-0.5, 1.0), 0, None)


def solids(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add boxes, bars and other bodies with flat faces, some of them hollow."""
    for _ in range(random.integers(1, 12)):
        inside = _body(volume.shape, spacing, random)
        wall = random.uniform(1.0, 3.0) * min(spacing)
        filled = _filled(inside, spacing)
        if random.uniform() < 0.4:
            filled -= _filled(inside - wall, spacing)
        volume += random.uniform(0.2, 1) * filled


def walls(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add flat sheets: alone, one beside the other at even distances, or crossing as a lattice."""
    size = np.array(volume.shape) * spacing
    for _ in range(random.integers(1, 4)):
        axes = np.eye(volume.ndim) if random.uniform() < 0.5 else _rotation(volume.ndim, random)
        crossing = int(random.integers(1, volume.ndim + 1)) if random.uniform() < 0.4 else 1
        period = random.uniform(4, 24) * min(spacing) if random.uniform() < 0.6 else np.inf
        wall = random.uniform(0.5, 2.0) * min(spacing)
        sheets = np.zeros_like(volume)
        for direction in random.permutation(axes)[:crossing]:
            through = float(direction @ (size * random.uniform(0.1, 0.9, volume.ndim)))
            away = _along(volume.shape, spacing, direction) - np.float32(through)
            if np.isfinite(period):
                away = (away + period / 2) % period - period / 2
            sheets += _filled(wall - np.abs(away), spacing)
        if random.uniform() < 0.5:  # they end somewhere
            sheets *= _filled(_body(volume.shape, spacing, random, larger=3), spacing)
        volume += random.uniform(0.3, 1) * sheets


def patches(volume: Float, spacing: Spacing, random: Random) -> None:
    """Fill the volume with bodies, one covering the other, each as bright as it happens to be."""
    volume += random.uniform(0, 0.5)
    for number in range(random.integers(8, 30)):
        if number % 2:
            distance, radius = _from_a_centre(volume.shape, spacing, random)
            inside = radius - distance
        else:
            inside = _body(volume.shape, spacing, random, larger=2)
        share = _filled(inside, spacing)
        light = max(random.uniform(-0.5, 1), 0)
        volume += share * (np.float32(light) - volume)


def membranes(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add sheets without edges, or branched tubes: where one or two clouds pass a level."""
    width_um = random.uniform(3, 12) * min(spacing)
    clouds = [_cloud(volume.shape, spacing, width_um, random) for _ in range(2)]
    away = np.abs(clouds[0]) if random.uniform() < 0.5 else np.hypot(*clouds)
    # From how far a cloud is from its level to how far a voxel is from the sheet.
    distance = away * np.float32(width_um)
    wall = random.uniform(0.7, 2.5) * min(spacing)
    volume += np.exp(-np.square(distance / np.float32(wall)))


def grains(volume: Float, spacing: Spacing, random: Random) -> None:
    """Add something of another kind, stained unevenly, in grains down to a voxel; or them alone."""
    fine, coarse = random.uniform(0.5, 1.5), random.uniform(2, 8)
    exponent = sum(
        random.uniform(0, 1) * _cloud(volume.shape, spacing, width * min(spacing), random)
        for width in (fine, coarse)
    )
    stain = np.exp(exponent)
    others = [name for name in KINDS if name != "grains"]
    name = others[int(random.integers(len(others)))]
    if random.uniform() < 0.3:
        volume += stain
        return
    drawn = np.zeros_like(volume)
    KINDS[name](drawn, spacing, random)
    volume += stain * (_thickened(drawn, spacing, random) if name in THIN else drawn)


def _number(least: int, most: int, random: Random) -> int:
    """Return a number from one to another, few as often as many."""
    return int(np.exp(random.uniform(np.log(least), np.log(most + 1))))


def _cloud(shape: tuple[int, ...], spacing: Spacing, width_um: float, random: Random) -> Float:
    """Return a smooth random field of mean 0 and standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    noise = random.normal(size=shape).astype(np.float32)
    field: Float = gaussian_filter(noise, [width_um / step for step in spacing], mode="reflect")
    field /= max(float(field.std()), 1e-12)
    return field


def _body(shape: tuple[int, ...], spacing: Spacing, random: Random, larger: float = 1) -> Float:
    """Return how far inside a body with flat faces each voxel lies, in um; negative outside."""
    ndim, size = len(shape), np.array(shape) * spacing
    centre = size * random.uniform(0.05, 0.95, ndim)
    lateral = float(size[-2:].min())
    if random.uniform() < 0.6:
        axes = np.eye(ndim) if random.uniform() < 0.5 else _rotation(ndim, random)
        normals = np.concatenate([axes, -axes])
        # One side for both faces of an axis: bars and plates as well as cubes.
        reach = np.tile(np.exp(random.uniform(np.log(0.02), np.log(0.25), ndim)), 2)
    else:
        normals = random.normal(size=(int(random.integers(ndim + 2, 13)), ndim))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        reach = random.uniform(0.05, 0.2) * random.uniform(0.6, 1.4, len(normals))
    inside = np.full(shape, np.inf, np.float32)
    for normal, far in zip(normals, reach * lateral * larger, strict=True):
        face = far + float(normal @ centre)
        np.minimum(inside, np.float32(face) - _along(shape, spacing, normal), out=inside)
    return inside


def _rotation(ndim: int, random: Random) -> Double:
    """Return directions at right angles."""
    turned: Double = np.linalg.qr(random.normal(size=(ndim, ndim)))[0]
    return turned


def _along(shape: tuple[int, ...], spacing: Spacing, direction: Double) -> Float:
    """Return how far each voxel lies in a direction, in um."""
    total: Float = np.zeros((), np.float32)
    for n, step, part in zip(shape, spacing, direction, strict=True):
        total = np.add.outer(total, np.arange(n, dtype=np.float32) * np.float32(step * part))
    return total


def _filled(inside: Float, spacing: Spacing) -> Float:
    """Return the part of each voxel that lies inside, from how far it does."""
    part: Float = np.clip(inside / np.float32(min(spacing)) + np.float32(0.5), 0, 1)
    return part


#: By the names that users choose them by.
KINDS: dict[str, Callable[[Float, Spacing, Random], None]] = {
    "shells": shells,
    "balls": balls,
    "filaments": filaments,
    "dots": dots,
    "lines": lines,
    "textures": textures,
    "solids": solids,
    "walls": walls,
    "patches": patches,
    "membranes": membranes,
    "grains": grains,
    "points": points,
    "fibres": fibres,
}


#: Those that cells are made of.
OF_CELLS = ("shells", "balls", "filaments", "dots", "lines", "textures")
#: Of structures around 1 so little is in a volume that they lie outside of it.
FAINTEST = 1e-6
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
