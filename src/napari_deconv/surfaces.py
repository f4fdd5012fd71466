"""From raw heights to the surface under them: the road of the dock "AFM", of `afm` and of scripts.

A recipe names how the heights are prepared and what the tip is; `reconstruction` carries it out:
prepared heights, tip, surface, what the tip leaves unexplained, and where the surface is certain.
The raw heights are not changed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from napari_deconv.afm import blind_tip, gradient_tip
from napari_deconv.afm.blind_tip import BlindTip
from napari_deconv.afm.gradient_tip import GradientTip
from napari_deconv.afm.height_map import HeightMap
from napari_deconv.afm.morphology import (
    SAME_HEIGHT,
    certain,
    dilation,
    erosion,
    tip_for,
)
from napari_deconv.afm.preparing import Denoise, Preparation, noise_nm, prepared
from napari_deconv.afm.tips import (
    SAME_PIXEL,
    Delta,
    EllipticParaboloid,
    Paraboloid,
    SphereCone,
    SpherePyramid,
    Tip,
    centred_tip,
)
from napari_deconv.imaging.value import Value, require, require_number
from napari_deconv.restoration.restorer import Step
from napari_deconv.restoration.stepping import ended

Double = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

#: Heights that differ by less than so many deviations of the noise are the same to the map of
#: what is certain.
CERTAIN_SIGMAS = 1.0
#: Part of the noise that denoising leaves: 0.29 and 0.31 on simulated frames of known truth.
REMAINS = 0.3
#: How deep the floor of a tip in a file lies, in depths of the tip: below what is known of it.
BELOW = 1.01
SHAPES = (Paraboloid, EllipticParaboloid, SphereCone, SpherePyramid, Delta)


@dataclass(frozen=True)
class TipFile(Value):
    """A tip in a file, wherever its apex lies there.

    Parameters
    ----------
    path : str
        TIFF or .gwy: heights in nm or with their unit, reflected through the apex as all tips are.
    """

    path: str


AnyTip: TypeAlias = (
    Paraboloid
    | EllipticParaboloid
    | SphereCone
    | SpherePyramid
    | Delta
    | BlindTip
    | GradientTip
    | TipFile
)


@dataclass(frozen=True)
class SurfaceRecipe(Value):
    """All that is needed to make a surface of raw heights again.

    Parameters
    ----------
    tip : AnyTip
        A shape, a file, or how it is estimated from the heights themselves.
    steps : tuple of Preparation
        What is done to the heights before, in this order.
    noise_nm : float, optional
        Standard deviation of the prepared heights' noise; estimated where not given.
    channel, z_unit : str
        What was read of the file, and the unit of its heights where the file does not tell.
    """

    tip: AnyTip = SphereCone()  # noqa: RUF009 - a frozen value
    steps: tuple[Preparation, ...] = ()
    noise_nm: float | None = None
    channel: str = ""
    z_unit: str = ""

    def __post_init__(self) -> None:
        if self.noise_nm is not None:
            require_number("The noise of the heights in nm", self.noise_nm, least=0)


@dataclass(frozen=True, eq=False)
class Surface:
    """What was made of heights.

    Parameters
    ----------
    prepared, surface : HeightMap
        The heights that the tip was held against, and the surface under them.
    tip : Tip
    residual_nm : ndarray of float64, (Y, X) or (T, Y, X)
        The prepared heights less those that the tip would make of the surface: 0 or more.
    certain : ndarray of uint8
        1 where the surface is certain.
    noise_nm : float
        Of the prepared heights, as estimated or given.
    recipe : SurfaceRecipe
    notes : tuple of str
        What the user should know, in sentences.
    """

    prepared: HeightMap
    surface: HeightMap
    tip: Tip
    residual_nm: Double
    certain: Labels
    noise_nm: float
    recipe: SurfaceRecipe
    notes: tuple[str, ...] = ()


def reconstruct_surface(heights: HeightMap, recipe: SurfaceRecipe) -> Surface:
    """Return the surface under heights; see `reconstruction`."""
    return ended(reconstruction(heights, recipe))


def reconstruction(
    heights: HeightMap, recipe: SurfaceRecipe, *, tip: Tip | None = None
) -> Generator[Step, None, Surface]:
    """Prepare heights, find the tip, and erode by it.

    Parameters
    ----------
    heights : HeightMap
        Raw, in nm; an image or a movie.
    recipe : SurfaceRecipe
    tip : Tip, optional
        At hand already, in place of the one that the recipe names.

    Yields
    ------
    Step
        Counted anew in each stage, which its note names.

    Returns
    -------
    Surface
        The value of the generator.

    Raises
    ------
    InputError
        If the tip does not fit the heights, or its file is none.
    """
    found = yield from prepared_heights(heights, recipe)
    flat, noise = found.heights, found.noise_nm
    values = flat.heights_nm
    shape = recipe.tip if tip is None and isinstance(recipe.tip, SHAPES) else None
    if tip is None:
        tip = yield from found_tip(found, recipe)
    else:
        tip = fitted_tip(tip, flat)
    surface = yield from erosion(values, tip, shape)
    again = yield from dilation(surface, tip, shape)
    residual = values - again
    # What rounding leaves is nothing.
    residual[residual < SAME_HEIGHT * max(flat.range_nm, 1e-300)] = 0.0
    sure = yield from certain(again, surface, tip.heights_nm, CERTAIN_SIGMAS * noise)
    return Surface(
        flat,
        replace(flat, heights_nm=surface),
        tip,
        residual,
        sure,
        noise,
        recipe,
        _notes(residual, noise, tip),
    )


@dataclass(frozen=True, eq=False)
class Prepared:
    """Heights after the steps of a recipe.

    Parameters
    ----------
    heights : HeightMap
    noise_nm : float
        Standard deviation of their noise. After denoising it cannot be seen any more, while edges
        and tops are still as wrong as it made them: then it is the part of the noise before that
        is known to remain.
    noisy : HeightMap
        The same before denoising; the heights themselves where there was none.
    noisy_nm : float
        Of those.
    """

    heights: HeightMap
    noise_nm: float
    noisy: HeightMap
    noisy_nm: float


def prepared_heights(heights: HeightMap, recipe: SurfaceRecipe) -> Generator[Step, None, Prepared]:
    """Return heights after the steps of a recipe; the value of the generator."""
    steps = recipe.steps
    first = next((n for n, step in enumerate(steps) if isinstance(step, Denoise)), len(steps))
    values = heights.heights_nm
    if steps[:first]:
        values = yield from prepared(values, steps[:first])
    noisy = replace(heights, heights_nm=values)
    told = noise_nm(values) if recipe.noise_nm is None else recipe.noise_nm
    if not steps[first:]:
        return Prepared(noisy, told, noisy, told)
    values = yield from prepared(values, steps[first:])
    remaining = max(REMAINS * told, noise_nm(values)) if recipe.noise_nm is None else told
    return Prepared(replace(heights, heights_nm=values), remaining, noisy, told)


def found_tip(flat: Prepared, recipe: SurfaceRecipe) -> Generator[Step, None, Tip]:
    """Return the tip of a recipe on the pixels of prepared heights; the value of the generator.

    Raises
    ------
    InputError
        If it cannot be estimated, or its file has other pixels.
    """
    values, pixel_nm = flat.heights.heights_nm, flat.heights.pixel_nm
    if isinstance(recipe.tip, BlindTip):
        return (yield from blind_tip.estimated(values, pixel_nm, recipe.tip, flat.noise_nm))
    if isinstance(recipe.tip, GradientTip):
        # It knows what noise does, and not what denoising does.
        noisy = flat.noisy.heights_nm
        return (yield from gradient_tip.estimated(noisy, pixel_nm, recipe.tip, flat.noisy_nm))
    yield Step(0, 1, "placing the tip on the pixels")
    if isinstance(recipe.tip, TipFile):
        return fitted_tip(read_tip(recipe.tip.path), flat.heights)
    return tip_for(recipe.tip, values, pixel_nm)


def fitted_tip(tip: Tip, heights: HeightMap) -> Tip:
    """Return a tip that fits heights, or say why it does not.

    Raises
    ------
    InputError
        If it has pixels of another size, or more of them than the heights.
    """
    alike = np.allclose(tip.pixel_nm, heights.pixel_nm, rtol=SAME_PIXEL, atol=0)
    sizes = [" x ".join(f"{step:.4g}" for step in p) for p in (tip.pixel_nm, heights.pixel_nm)]
    require(
        bool(alike),
        f"The tip has pixels of {sizes[0]} nm, the heights of {sizes[1]} nm; resample one of them",
    )
    sides = [" x ".join(map(str, s)) for s in (tip.shape, heights.heights_nm.shape[-2:])]
    require(
        all(n <= m for n, m in zip(tip.shape, heights.heights_nm.shape[-2:], strict=True)),
        f"The tip, {sides[0]} pixels, is larger than the image, {sides[1]}; crop the tip",
    )
    return tip


def read_tip(path: str | os.PathLike[str]) -> Tip:
    """Return the tip in a file, centred on its apex.

    Where it ends in a floor nothing is known of it: the floor only says how high the image was that
    it comes from, and on a higher one it would reach too far down.

    Raises
    ------
    InputError
        If the file cannot be read or holds no tip.
    """
    from napari_deconv.files.heights import read_heights

    found = read_heights(path)
    require(
        not found.is_movie,
        f"{Path(path).name} holds {len(found.frames)} frames; a tip is one image",
    )
    tip = centred_tip(found.heights_nm, found.pixel_nm)
    return replace(tip, heights_nm=_without_floor(tip.heights_nm))


def _without_floor(heights: Double) -> Double:
    """Return heights of a tip, its apex at 0, without a floor that lies as `write_tip` lays it."""
    depths = np.unique(heights[np.isfinite(heights)])
    if len(depths) < 2 or not np.isclose(depths[0], BELOW * depths[1], rtol=1e-4, atol=0):
        return heights
    return np.where(heights == depths[0], -np.inf, heights)


def write_tip(path: str | os.PathLike[str], tip: Tip, *, overwrite: bool = False) -> Path:
    """Write a tip as TIFF or .gwy; where there is no tip it gets a floor, which `read_tip` knows.

    Parameters
    ----------
    path : str or path
    tip : Tip
    overwrite : bool
        Whether a file of this name is replaced.

    Raises
    ------
    InputError
        If the file cannot be written, or the tip is a point, whose file would be that of a plate.
    """
    from napari_deconv.files.heights import write_heights

    there = np.isfinite(tip.heights_nm)
    floor_nm = BELOW * float(tip.heights_nm[there].min())
    require(
        floor_nm < 0 or bool(there.all()),
        "A tip that is a point has no heights to write; where a tip is asked for, choose the shape "
        "delta in the place of a file",
    )
    values = np.where(there, tip.heights_nm, floor_nm)
    heights = HeightMap(values, tip.pixel_nm, "tip", "Tip")
    return write_heights(path, heights, overwrite=overwrite)


def write_surface(path: str | os.PathLike[str], made: Surface, *, overwrite: bool = False) -> Path:
    """Write a surface as TIFF or .gwy, with its recipe; a .gwy gets all that was made.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from napari_deconv.files.heights import write_heights

    others = [
        ("Prepared heights", made.prepared.heights_nm, "nm"),
        ("Residual", made.residual_nm, "nm"),
        ("Certain", made.certain.astype(np.float64), ""),
    ]
    surface = replace(made.surface, channel=f"{made.surface.channel} surface".strip())
    is_gwy = Path(path).suffix.lower() == ".gwy"
    return write_heights(
        path,
        surface,
        recipe=made.recipe.to_json(),
        others=others if is_gwy else (),
        overwrite=overwrite,
    )


def _notes(residual_nm: Double, noise: float, tip: Tip) -> tuple[str, ...]:
    """Return what to say of a tip that explains the image badly, or does nothing."""
    left = float(np.sqrt(np.square(residual_nm).mean()))
    notes = [f"the tip leaves {left:.3g} nm RMS of the heights unexplained; noise {noise:.3g} nm"]
    if noise > 0 and left > 2 * noise:
        notes.append(
            "that is more than noise: the tip is too blunt for this image, or the heights need "
            "levelling, or scars and rows are left in them"
        )
    if np.isfinite(tip.heights_nm).sum() == 1:
        notes.append("the tip has no width: the surface is the image")
    return tuple(notes)
