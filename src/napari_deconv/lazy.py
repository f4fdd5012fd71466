"""Restore a dask array without computing anything yet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_deconv.engines import ENGINES, is_out_of_memory
from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.imaging.background import background_level
from napari_deconv.imaging.psf import Psf, fitted_to
from napari_deconv.imaging.region import Region
from napari_deconv.imaging.value import Value, require, require_number
from napari_deconv.restoration.lattice import Lattice
from napari_deconv.restoration.observing import observe, require_finite, require_intensities
from napari_deconv.restoration.restorer import Restorer, finite_estimate
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import LEAST, Wiener
from napari_deconv.restoration.wiener_in_tiles import WienerInTiles, for_tiles
from napari_deconv.surveying import regions_of_background, sample_regions
from napari_deconv.tiles.lazy import in_tiles
from napari_deconv.tiling import Work
from napari_deconv.worker import ONE_AT_A_TIME, device_of, here

Float = npt.NDArray[np.float32]
Voxels = npt.NDArray[Any]

#: Part of this machine's free memory for a tile, where the caller does not say.
PART_OF_FREE = 0.5
#: What the hungriest engine holds beside the method: a worker's may be another than here.
MOST_EXTRA_VOLUMES = 7.0


@dataclass(frozen=True)
class Decided(Value):
    """What all tiles are restored by; see `Observation` for the mean and the background."""

    mean: float
    background: float
    method: Restorer


def restore_lazy(
    image: Any,
    psf: Psf | npt.ArrayLike,
    /,
    *,
    method: Restorer = RichardsonLucy.automatic(),  # noqa: B008 - a frozen value
    background: float | str = 0.0,
    engine: str = "auto",
    memory: int | None = None,
    seam_tolerance: float = 1e-3,
) -> Any:
    """Restore one image as a dask array: nothing is read or computed before it is asked for.

    Parameters
    ----------
    image : dask array, (Z, Y, X) or (Y, X)
        Measured counts of any real type.
    psf : Psf or array
        Point spread function on the voxels of the image, centre at n//2; scaled to unit sum.
    method : Restorer
        `RichardsonLucy(...)` or `Wiener(...)`; the former, which stops by itself, if not given.
    background : float or "auto"
        Counts that are there without light from the sample; "auto" estimates them.
    engine : {"auto", "cpu", "opencl", "torch"}
        Where a tile runs, on the machine that computes it.
    memory : int, optional
        Bytes that a tile may take; half of what is free here if not given. On a cluster give
        what the smallest worker has.
    seam_tolerance : float
        How much the tiles may differ from the whole, as a part of its maximum.

    Returns
    -------
    dask array of float32
        Shape of `image`, in counts above the background; its chunks are the tiles.

    Raises
    ------
    InputError
        If the image, the PSF or an option is not usable, or no tile fits into the memory.
        Voxels that cannot be read, or are not finite, are told when they are computed.

    Notes
    -----
    The image is computed twice, once for the mean that all tiles start from. In each process
    one tile at a time is restored, with all its cores.

    Examples
    --------
    >>> import dask.array as da
    >>> image = da.zeros((9, 9), chunks=4); image[3, 5] = 100
    >>> result = restore_lazy(image, np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), engine="cpu")
    >>> result.dtype, round(float(result[3, 5].compute(scheduler="threads")), 3)
    (dtype('float32'), 100.0)
    """
    _check(image, background, engine, seam_tolerance)
    require(
        isinstance(method, RichardsonLucy | Wiener),
        f"restore_lazy restores by RichardsonLucy or Wiener, not by {type(method).__name__}; "
        "restore_stack takes the others",
    )
    given = fitted_to(psf if isinstance(psf, Psf) else Psf(np.asarray(psf)), image.ndim)
    extra = 0.0 if engine == "cpu" else MOST_EXTRA_VOLUMES
    farthest = for_tiles(_farthest_looking(method), given, image.shape, seam_tolerance)
    work = Work(image.shape, image.dtype.itemsize, (given,), (farthest,), extra)
    budget = int(PART_OF_FREE * free_memory_bytes()) if memory is None else memory
    plan = work.plan(budget, seam_tolerance)
    tiled = len(plan) > 1
    samples = sample_regions(image.shape) if tiled and method.halo(given) is None else []
    dark = regions_of_background(image.shape) if background == "auto" else []
    through = farthest if tiled and isinstance(farthest, WienerInTiles) else None
    decide = partial(
        _decided,
        background=background,
        method=method,
        through=through,
        tiled=tiled,
        dark=len(dark),
        engine=engine,
    )
    return in_tiles(
        image,
        given,
        plan,
        regions=[*dark, *samples],
        decide=decide,
        restore_tile=partial(_restored, engine=engine),
        part=partial(_gathered, lattice=through.lattice(given)) if through else None,
    )


def _check(image: Any, background: float | str, engine: str, seam_tolerance: float) -> None:
    require(
        hasattr(image, "dask"),
        f"restore_lazy takes a dask array, not a {type(image).__name__}; use restore, or "
        "dask.array.from_array",
    )
    require_intensities(np.dtype(image.dtype))
    require(
        image.ndim in (2, 3) and math.isfinite(math.prod(image.shape)) and 0 not in image.shape,
        f"One block to restore has two or three dimensions, (Z, Y, X) or (Y, X), all known, "
        f"not the shape {image.shape}; choose one channel and time point",
    )
    if background != "auto":
        require_number("The background (a number, or 'auto')", background)
    require(
        engine in ENGINES,
        f"The engine {engine!r} is not known; choose one of {', '.join(ENGINES)}",
    )
    require_number("The tolerance of a seam, a part of the maximum,", seam_tolerance, above=0)


def _farthest_looking(method: Restorer) -> Restorer:
    """Return the method as it reaches farthest, whatever the data will decide."""
    match method:
        case Wiener(regularization="auto"):
            return replace(method, regularization=LEAST)
        case RichardsonLucy():
            return method.as_if_settled()
    return method


def _decided(
    mean: float,
    voxels: list[Voxels],
    gathered: Float | None,
    psf: Psf,
    *,
    background: float | str,
    method: Restorer,
    through: WienerInTiles | None,
    tiled: bool,
    dark: int,
    engine: str,
) -> Decided:
    """Decide what holds for all tiles; the first `dark` of the voxels are for the background."""
    mean = float(mean)
    require_finite(mean)
    if background == "auto":
        background = background_level(np.concatenate(voxels[:dark]))
    level = float(background)
    samples = [observe(block, psf, level, whole_mean=mean) for block in voxels[dark:]]
    if tiled:
        with ONE_AT_A_TIME:
            method = method.settled(samples, device_of(engine, here()).engine)
    if through is not None and gathered is not None and isinstance(method, Wiener):
        through = replace(through, regularization=float(method.regularization))
        method = through.knowing(np.array(gathered), psf, level)
    return Decided(mean, level, method)


def _gathered(voxels: Voxels, region: Region, *, lattice: Lattice) -> Float:
    """Return what a part of the image comes to at the nodes of a lattice over the whole."""
    nodes = np.zeros(lattice.node_shape, np.float32)
    lattice.gather(np.maximum(voxels, 0), region, nodes)
    return nodes


def _restored(
    block: Voxels, start: tuple[int, ...], psf: Psf, decided: Decided, *, engine: str
) -> Float:
    """Restore the voxels that a tile reads, which begin at `start`."""
    level, mean = decided.background, decided.mean
    observation = observe(block, psf, level, whole_mean=mean, start=start)
    with ONE_AT_A_TIME:
        try:
            *_, last = device_of(engine, here()).steps(decided.method, observation)
        except Exception as error:
            # The chunks of the result are fixed: smaller tiles cannot be taken any more.
            if engine != "auto" or not is_out_of_memory(error):
                raise
            *_, last = device_of("cpu", here()).steps(decided.method, observation)
    return finite_estimate(last)
