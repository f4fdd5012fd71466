"""The options that say how a stack is restored: the image of its PSF, the method, the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import number_or_auto, numbers, without_none

if TYPE_CHECKING:
    from napari_deconv.files.recipe import Method, Recipe

PsfVoxelSize = Annotated[
    str | None, typer.Option(metavar="Z,Y,X", help="Voxel size of the PSF's image in um.")
]
PsfBackground = Annotated[
    str | None, typer.Option(help="Counts under the PSF's image, or auto (the default).")
]

#: Other ways in which people write a method's name.
_SHORT = {
    "rl": "richardson-lucy",
    "richardsonlucy": "richardson-lucy",
    "richardson_lucy": "richardson-lucy",
}


def psf_image_of(voxel_size: str | None, background: str | None) -> dict[str, Any]:
    """Return what was said of the PSF's image: its voxel size and background."""
    return without_none(
        voxel_size_um=numbers(voxel_size, "--psf-voxel-size") if voxel_size else None,
        background=number_or_auto(background, "--psf-background"),
    )


def method_of(name: str | None, wishes: dict[str, Any], base: Method | None) -> Method | None:
    """Return the method of the options; what they leave open is as in the recipe's, `base`."""
    from dataclasses import replace

    from napari_deconv.restoration.richardson_lucy import RichardsonLucy
    from napari_deconv.restoration.wiener import Wiener

    if name is None and not wishes and base is not None:
        return None
    kinds: dict[str, type[Method]] = {"richardson-lucy": RichardsonLucy, "wiener": Wiener}
    usual = "wiener" if "regularization" in wishes else "richardson-lucy"
    chosen = name or next((n for n, kind in kinds.items() if type(base) is kind), usual)
    chosen = _SHORT.get(chosen.lower(), chosen.lower())
    if chosen not in kinds:
        raise InputError(f"The method {name!r} is not known; choose {' or '.join(kinds)}")
    known = set(kinds[chosen].__dataclass_fields__)
    unknown = sorted("--" + wish.replace("_", "-") for wish in set(wishes) - known)
    if unknown:
        raise InputError(f"The method {chosen} has no {', '.join(unknown)}")
    if type(base) is kinds[chosen]:
        return replace(base, **wishes)
    # Who says when to end needs no rehearsal, unless it is asked for as well.
    typed_end = wishes.keys() & {"iterations", "stop_tolerance"}
    if chosen == "richardson-lucy" and wishes.get("automatic_stop", not typed_end):
        return RichardsonLucy.automatic(**wishes)
    return kinds[chosen](**wishes)


def recipe_of(base: Recipe | None, **wishes: Any) -> Recipe:
    """Return the recipe of the file, if any, with the options of the command over it."""
    from dataclasses import replace

    from napari_deconv.files.recipe import Recipe

    changed = without_none(**wishes)
    return Recipe(**changed) if base is None else replace(base, **changed)
