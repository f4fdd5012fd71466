"""What `restore` and `demo` share: a stack and a recipe to a file, with progress and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import require_free
from .terminal import report, run

if TYPE_CHECKING:
    from napari_deconv.files.recipe import Recipe
    from napari_deconv.imaging.stack import Stack


def restore_file(
    stack: Stack,
    output: Path,
    recipe: Recipe,
    *,
    overwrite: bool,
    source: Path | None = None,
    is_header: bool = False,
    save_recipe: Path | None = None,
    as_json: bool = False,
    **how: Any,
) -> None:
    """Restore a stack into a file, show the progress, and say what was done.

    Parameters
    ----------
    stack : Stack
        The image, all of it; the recipe chooses channels and times.
    output : Path
        The file or folder to write.
    recipe : Recipe
        How to restore.
    overwrite : bool
        Whether an existing output, and an existing recipe, may be replaced.
    source : Path, optional
        The file that `stack` was read from.
    is_header : bool
        Whether `stack` is the header alone, and the voxels are to be read from the file.
    save_recipe : Path, optional
        Where to write the recipe after the run.
    as_json : bool
        Whether to print the record on stdout.
    **how
        As `volumes.restoring_file` takes them.
    """
    from napari_deconv.files.export import require_apart
    from napari_deconv.files.recipe import files_read, write_recipe
    from napari_deconv.volumes import restoring_file

    if save_recipe is not None:
        require_free(save_recipe, output, source, *files_read(recipe), overwrite=overwrite)
    require_apart(output, source)
    given = source if is_header and source is not None else stack
    steps = restoring_file(given, output, recipe, overwrite=overwrite, **how)
    finished = run(steps, output)
    if save_recipe is not None:
        write_recipe(save_recipe, recipe)
    report(finished, stack, output, as_json=as_json)
