"""What the user typed, as the values that the pipeline takes; nonsense ends in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deconv.imaging.value import InputError

from .terminal import say

if TYPE_CHECKING:
    from napari_deconv.files.recipe import Method, Recipe
    from napari_deconv.imaging.optics import Optics
    from napari_deconv.imaging.stack import Stack


def read_image(source: Path, voxel_size: str | None) -> Stack:
    """Read the image and say what it is and where its voxel size comes from."""
    from dataclasses import replace

    from napari_deconv.files.reading import read_stack
    from napari_deconv.imaging.grid import Grid

    stack = read_stack(source)
    if voxel_size is None:
        where = "from the file" if stack.grid else "unknown"
    else:
        stack = replace(stack, grid=Grid(spacing_um=numbers(voxel_size, "--voxel-size")))
        where = "as given"
    grid = stack.grid.describe() if stack.grid else "voxel size"
    say(f"Image       {source.name}: {stack.axes} {stack.shape}, {grid} ({where})")
    return stack


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Return '0.3,0.1,0.1' as numbers."""
    try:
        return tuple(float(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise InputError(
            f"{option} {text!r} is not a list of numbers such as 0.3,0.1,0.1"
        ) from None


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return '21,31,31' as whole numbers."""
    found = numbers(text, option)
    if not all(number.is_integer() for number in found):
        raise InputError(f"{option} {text!r} is not a list of whole numbers such as 21,31,31")
    return tuple(int(number) for number in found)


def require_written(dtype: str, ome_zarr_version: str) -> None:
    """Raise `InputError` where no such type or version is written."""
    from napari_deconv.files.export import DTYPES
    from napari_deconv.files.ome_zarr import VERSIONS

    if dtype not in DTYPES:
        raise InputError(f"The type {dtype!r} is not written; choose {' or '.join(DTYPES)}")
    if ome_zarr_version not in VERSIONS:
        raise InputError(
            f"OME-Zarr {ome_zarr_version!r} is not written; choose {' or '.join(VERSIONS)}"
        )


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` where a small file could not be written later."""
    if path.exists() and not overwrite:
        raise InputError(f"{path.name} exists already; choose another name, or give --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}; create it, or choose another")


def number_or_auto(text: str | None, option: str) -> float | str | None:
    """Return a number, 'auto', or None where the option was not given."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is neither a number nor 'auto'") from None


def without_none(**values: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def optics_of(given: dict[str, Any]) -> Optics:
    """Return the optics of the options; `InputError` names those that are missing."""
    from napari_deconv.imaging.optics import Optics

    missing = [name for name in ("na", "emission_nm") if name not in given]
    if missing:
        options = " and ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(
            f"A PSF is needed: give its image with --psf FILE, or the optics; {options} missing"
        )
    return Optics(**given)


def psf_of(
    stack: Stack,
    path: Path | None,
    image: dict[str, Any],
    optics: dict[str, Any],
    *,
    required: bool,
) -> Any:
    """Return the PSF of the options, else what the file knows, else None where a recipe has it."""
    from napari_deconv.files.recipe import PsfFile

    if path is not None:
        if optics:
            raise InputError("Give either the PSF's image (--psf) or optics (--na ...), not both")
        return PsfFile.of(path, **image)
    if image:
        raise InputError("--psf-voxel-size and --psf-background belong to an image: give --psf too")
    if not optics and not required:
        return None
    known = stack.channel_optics[0] if stack.channel_optics else None
    from_file = (
        without_none(**{k: v for k, v in known.to_dict().items() if k != "kind"}) if known else {}
    )
    described = optics_of(from_file | optics)
    taken = [name for name in from_file if name not in optics]
    say(f"PSF         {described.describe()}")
    if taken:
        say(f"            from the file: {', '.join(taken)}")
    assumed = {"immersion_index", "sample_index", "depth_um"} - set(optics) - set(taken)
    if assumed:
        say(f"            assumed: {', '.join(sorted(assumed))}")
    return described


def psf_image_of(voxel_size: str | None, background: str | None) -> dict[str, Any]:
    """Return what was said of the PSF's image: its voxel size and background."""
    return without_none(
        voxel_size_um=numbers(voxel_size, "--psf-voxel-size") if voxel_size else None,
        background=number_or_auto(background, "--psf-background"),
    )


#: Other ways in which people write a method's name.
_SHORT = {
    "rl": "richardson-lucy",
    "richardsonlucy": "richardson-lucy",
    "richardson_lucy": "richardson-lucy",
}


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
    return replace(base, **wishes) if type(base) is kinds[chosen] else kinds[chosen](**wishes)


def recipe_of(base: Recipe | None, **wishes: Any) -> Recipe:
    """Return the recipe of the file, if any, with the options of the command over it."""
    from dataclasses import replace

    from napari_deconv.files.recipe import Recipe

    changed = without_none(**wishes)
    return Recipe(**changed) if base is None else replace(base, **changed)
