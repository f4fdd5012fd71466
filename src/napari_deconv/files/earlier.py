"""What an earlier run has made: the same as what is asked for now, or something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_deconv.imaging.value import InputError

from .origin import Origin
from .reading import read_provenance
from .recipe import PsfFile, PsfSource, Recipe, digest


def difference(output: Path, recipe: Recipe, origin: Origin, dtype: str) -> str | None:
    """Return how an output differs from what a run would make; None if it does not.

    Parameters
    ----------
    output : Path
        What is there, or not.
    recipe : Recipe
        What would be done, with the digests of its PSFs; see `signed`.
    origin : Origin
        Of the source; an output keeps it as ``record["source"]``.
    dtype : str
        Type of the voxels that would be stored.

    Returns
    -------
    str or None
        The end of a sentence, such as "was made with another recipe"; empty where there is no
        output.
    """
    if not output.exists():
        return ""
    try:
        made = read_provenance(output) or {}
    except InputError:  # its own sentence would be about an image to restore
        return "cannot be read, it is damaged or not complete"
    record, stored = made.get("record") or {}, made.get("stored") or {}
    if made.get("recipe") is None:
        return "was not made with a recipe"
    if not _is_same(made["recipe"], recipe):
        return "was made with another recipe"
    if record.get("source") != origin.to_dict():
        return "was made from another image, or from one that has changed since"
    if stored.get("dtype") != dtype:
        return f"is stored as {stored.get('dtype')}"
    return None


def _is_same(kept: object, recipe: Recipe) -> bool:
    try:
        return Recipe.from_dict(kept).to_json() == recipe.to_json()
    except InputError:  # of a later version
        return False


def signed(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """Return a recipe that knows the files of its PSFs as they are now, by their content.

    Returns
    -------
    Recipe
        With the digest of each file that is there.
    tuple of str
        A note for each file that has changed since the recipe was written.
    """
    notes: list[str] = []

    def now(psf: PsfSource) -> PsfSource:
        if not isinstance(psf, PsfFile):
            return psf
        found = digest(Path(psf.path)) or psf.sha256
        if psf.sha256 not in (None, found):
            notes.append(f"PSF: {Path(psf.path).name} has changed since the recipe was written")
        return replace(psf, sha256=found)

    psf, *channel_psfs = (now(source) for source in (recipe.psf, *recipe.channel_psfs))
    return replace(recipe, psf=psf, channel_psfs=tuple(channel_psfs)), tuple(dict.fromkeys(notes))
