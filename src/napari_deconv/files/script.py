"""A recipe as a Python script and as a command line, to repeat it elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import fields

from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf

from .recipe import PsfFile, Recipe

_SCRIPT = """from napari_deconv import {names}

recipe = {recipe}
stack = read_stack({source!r})
restored = restore_stack(stack, recipe)
write_stack({target!r}, restored.stack, recipe=recipe.to_dict(), record=restored.record.to_dict())
"""


def as_python(recipe: Recipe, source: str, target: str = "restored.ome.tif") -> str:
    """Return a script that restores the file `source` by `recipe` into `target`.

    A PSF given as samples does not fit into a script; it then reads `recipe.json`, as written
    by `files.recipe.write_recipe`.
    """
    names = {"read_stack", "restore_stack", "write_stack"}
    if isinstance(recipe.psf, Psf):
        text = "read_recipe('recipe.json')"
        header = "from napari_deconv.files.recipe import read_recipe\n"
    else:
        text, header = repr(recipe), ""
        values = (recipe, recipe.psf, recipe.method)
        names |= {type(value).__name__ for value in values}
    return header + _SCRIPT.format(
        names=", ".join(sorted(names)), recipe=text, source=source, target=target
    )


def as_command(recipe: Recipe, source: str, target: str = "restored.ome.tif") -> str:
    """Return the command line that restores the file `source` by `recipe` into `target`.

    What has no option of its own (a PSF given as samples) is taken from `recipe.json`, as in
    `as_python`.
    """
    words = ["napari-deconv", "restore", source, "-o", target]
    psf = recipe.psf
    if isinstance(psf, PsfFile):
        words += ["--psf", psf.path, "--psf-background", str(psf.background)]
        if psf.voxel_size_um:
            words += ["--psf-voxel-size", ",".join(map(str, psf.voxel_size_um))]
    elif isinstance(psf, Optics):
        words += _optics_options(psf)
    else:
        return shlex.join([*words, "--recipe", "recipe.json"])
    method = recipe.method
    kind = {"RichardsonLucy": "richardson-lucy", "Wiener": "wiener"}[type(method).__name__]
    words += ["--method", kind, *_options(method, tuple(f.name for f in fields(method)))]
    words += ["--background", str(recipe.background), "--engine", recipe.engine]
    return shlex.join(words)


#: Optics that a file may know: the command says them, so that the file's do not come in.
_SAID = ("na", "emission_nm", "excitation_nm", "immersion_index", "depth_um")


def _optics_options(optics: Optics) -> list[str]:
    """Return the options of all that is not as it is by default."""
    usual = {field.name: field.default for field in fields(optics)}
    apart = ("modality", "sample_index", "zernike_rad")
    told = [
        name
        for name, value in usual.items()
        if name not in apart and (name in _SAID or getattr(optics, name) != value)
    ]
    words = ["--microscope", optics.modality, *_options(optics, tuple(told))]
    words += ["--sample-index", str(optics.medium_index)]
    terms = [f"{index}:{value}" for index, value in enumerate(optics.zernike_rad) if value]
    return [*words, "--zernike", ",".join(terms)] if terms else words


def _options(value: object, names: tuple[str, ...]) -> list[str]:
    given = [(name, getattr(value, name)) for name in names]
    return [
        word
        for name, setting in given
        if setting is not None
        for word in ("--" + name.replace("_", "-"), str(setting))
    ]
