"""The verbs `afm ...`: heights of an atomic force microscope, its tip, and the surface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .afm_options import Heights, Preparing, TipWish, with_afm_options
from .arguments import require_free
from .terminal import followed, say

if TYPE_CHECKING:
    from napari_deconv.afm.tips import Tip
    from napari_deconv.surfaces import Surface

afm = typer.Typer(
    no_args_is_help=True, help="Atomic force microscopy: the tip, and the surface under it."
)

Source = Annotated[
    Path, typer.Argument(metavar="INPUT", help="Heights: TIFF, .gwy, or a microscope's own file.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="TIFF (.ome.tif) or .gwy.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")]
STOPPED = "Stopped; nothing was written."
#: What a recipe says beside how heights are prepared.
_OF_THE_TIP = ("tip", "noise_nm")


@afm.command("channels")
def list_channels(source: Source) -> None:
    """List the channels of heights in a file, the one that is read by itself first."""
    from napari_deconv.files.heights import height_channels

    for name in height_channels(source):
        print(name)


@afm.command()
@with_afm_options
def prepare(
    source: Source,
    output: Output,
    *,
    heights: Heights,
    preparing: Preparing,
    overwrite: Overwrite = False,
) -> None:
    """Level heights, align rows, take out scars and noise; write them."""
    from napari_deconv.files.heights import write_heights
    from napari_deconv.surfaces import prepared_heights

    _require_places(source, output, overwrite=overwrite)
    raw, recipe = heights.read(source), preparing.recipe(heights)
    made = followed(prepared_heights(raw, recipe), STOPPED).heights
    # What was done and no more: a tip and a noise had no part in it.
    done = {name: how for name, how in recipe.to_dict().items() if name not in _OF_THE_TIP}
    say(f"Wrote {write_heights(output, made, recipe=json.dumps(done), overwrite=overwrite)}")


@afm.command()
@with_afm_options
def reconstruct(
    source: Source,
    output: Output,
    *,
    heights: Heights,
    preparing: Preparing,
    wish: TipWish,
    certain: Annotated[
        Path | None, typer.Option(help="Write where the surface is certain (1) here, TIFF or .gwy.")
    ] = None,
    residual: Annotated[
        Path | None, typer.Option(help="Write what the tip leaves unexplained here, nm.")
    ] = None,
    save_tip: Annotated[Path | None, typer.Option(help="Write the tip here.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the surface under an image: erode it by the tip."""
    from dataclasses import replace

    import numpy as np

    from napari_deconv.files.heights import write_heights
    from napari_deconv.surfaces import reconstruction, write_surface, write_tip

    _require_places(source, output, certain, residual, save_tip, overwrite=overwrite)
    recipe = wish.added_to(preparing.recipe(heights))
    made = followed(reconstruction(heights.read(source), recipe), STOPPED)
    _say_tip(made.tip)
    for note in made.notes:
        say(f"Note        {note}")
    write_surface(output, made, overwrite=overwrite)
    others = (
        (certain, made.certain.astype(np.float64), "certain"),
        (residual, made.residual_nm, "residual"),
    )
    for path, values, name in others:
        if path is not None:
            map_of = replace(made.prepared, heights_nm=values, channel=name)
            write_heights(path, map_of, overwrite=overwrite)
    if save_tip is not None:
        write_tip(save_tip, made.tip, overwrite=overwrite)
    share = float(made.certain.mean())
    say(f"Certain     {share:.0%} of the surface")
    say(f"Wrote {output}")
    if as_json:
        print(json.dumps({"output": str(output), "certain": share, **_figures(made)}))


@afm.command()
@with_afm_options
def tip(
    source: Source,
    output: Output,
    *,
    heights: Heights,
    preparing: Preparing,
    wish: TipWish,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Estimate the tip from images, fit a radius and an angle to it, and write it.

    Without --tip it is the blind estimate of Villarrubia; with the name of a shape, that shape.
    """
    from napari_deconv.surfaces import found_tip, prepared_heights, write_tip

    _require_places(source, output, overwrite=overwrite)
    recipe = wish.added_to(preparing.recipe(heights), usual="blind")
    flat = followed(prepared_heights(heights.read(source), recipe), STOPPED)
    say(f"Noise       {flat.noise_nm:.3g} nm")
    made = followed(found_tip(flat, recipe), STOPPED)
    told = _say_tip(made)
    write_tip(output, made, overwrite=overwrite)
    say(f"Wrote {output}")
    if as_json:
        print(json.dumps({"output": str(output), "noise_nm": flat.noise_nm, "fit": told}))


@afm.command()
@with_afm_options
def image(
    source: Source,
    output: Output,
    *,
    heights: Heights,
    preparing: Preparing,
    wish: TipWish,
    overwrite: Overwrite = False,
) -> None:
    """Simulate the image that a tip makes of a surface: dilate it."""
    from dataclasses import replace

    from napari_deconv.afm.morphology import dilated
    from napari_deconv.files.heights import write_heights
    from napari_deconv.surfaces import found_tip, prepared_heights

    _require_places(source, output, overwrite=overwrite)
    recipe = wish.added_to(preparing.recipe(heights))
    flat = followed(prepared_heights(heights.read(source), recipe), STOPPED)
    made = followed(found_tip(flat, recipe), STOPPED)
    seen = followed(dilated(flat.heights.heights_nm, made.heights_nm), STOPPED)
    image = replace(flat.heights, heights_nm=seen)
    say(f"Wrote {write_heights(output, image, overwrite=overwrite)}")


@afm.command()
@with_afm_options
def measure(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table (.csv).")],
    *,
    heights: Heights,
    preparing: Preparing,
    wish: TipWish,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels of the objects (TIFF); those above a level where not given."),
    ] = None,
    level_nm: Annotated[
        float | None, typer.Option(help="Height of that level in nm; Otsu's where not given.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure objects: heights, widths and areas without what the tip has added, with errors."""
    from napari_deconv.afm.features import features_csv, measured, segmented
    from napari_deconv.files.whole import write_whole
    from napari_deconv.surfaces import reconstruction

    require_free(output, source, overwrite=overwrite)
    recipe = wish.added_to(preparing.recipe(heights))
    made = followed(reconstruction(heights.read(source), recipe), STOPPED)
    if made.prepared.is_movie:
        raise InputError("Objects are measured in one image; save a frame as a file of its own")
    values = made.prepared.heights_nm
    marked = _labels(labels) if labels is not None else segmented(values, level_nm)
    found = followed(
        measured(values, marked, made.tip, noise_nm=made.noise_nm, certainty=made.certain), STOPPED
    )
    write_whole(output, features_csv(found).encode(), "The table")
    _say_tip(made.tip)
    say(f"Wrote {output}: {len(found)} objects")


def _require_places(source: Path, *outputs: Path | None, overwrite: bool) -> None:
    """Raise `InputError` where heights could not be written later, or over one another."""
    from napari_deconv.files.heights import check_height_file

    written = [path for path in outputs if path is not None]
    for number, path in enumerate(written):
        require_free(path, source, *written[:number], overwrite=overwrite)
        check_height_file(path, overwrite=overwrite)


def _labels(path: Path) -> Any:
    from napari_deconv.files.reading import read_stack, read_voxels

    stack = read_stack(path)
    return read_voxels(stack.data, (slice(None),) * stack.data.ndim, path.name, axes=stack.axes)


def _say_tip(tip: Tip) -> dict[str, Any] | None:
    """Say radius and angle of a tip, where a cone fits; return them."""
    from napari_deconv.afm.tip_fit import fit_tip

    sides = " x ".join(map(str, tip.shape))
    try:
        found = fit_tip(tip)
    except InputError:
        say(f"Tip         {sides} pixels")
        return None
    say(f"Tip         {sides} pixels; {found.in_words()}")
    return found.to_dict()


def _figures(made: Surface) -> dict[str, Any]:
    left = float((made.residual_nm**2).mean() ** 0.5)
    return {"noise_nm": made.noise_nm, "residual_rms_nm": left, "recipe": made.recipe.to_dict()}
