"""A recipe as a Python script and as a command line, to repeat it elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import fields

from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

from .recipe import Method, PsfFile, Recipe, TrainedModel

#: What says how iterations went elsewhere: no command line does.
GIVEN = ("momentum", "unmatched")

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
    psfs = (recipe.psf, *recipe.channel_psfs)
    if any(isinstance(psf, Psf) for psf in psfs):
        text = "read_recipe('recipe.json')"
        header = "from napari_deconv.files.recipe import read_recipe\n"
    else:
        text, header = repr(recipe), ""
        names |= {type(value).__name__ for value in (recipe, recipe.method, *psfs)}
    return header + _SCRIPT.format(
        names=", ".join(sorted(names)), recipe=text, source=source, target=target
    )


def as_command(recipe: Recipe, source: str, target: str = "restored.ome.tif") -> str:
    """Return the command line that restores the file `source` by `recipe` into `target`.

    What has no option of its own (a PSF given as samples, channels whose optics differ in more
    than the wavelengths, a trained network, a given course of iterations) is taken from
    `recipe.json`, as in `as_python`.
    """
    words = ["napari-deconv", "restore", source, "-o", target]
    psf_words, method_words = _psf_options(recipe), _method_options(recipe.method)
    if psf_words is None or method_words is None:
        return shlex.join([*words, "--recipe", "recipe.json"])
    words += [*psf_words, *method_words]
    words += ["--background", str(recipe.background), "--engine", recipe.engine]
    for option, chosen in (("--channels", recipe.channels), ("--times", recipe.times)):
        words += [option, _indices(chosen)] if chosen else []
    if recipe.seam_tolerance != Recipe.seam_tolerance:
        words += ["--seam", str(recipe.seam_tolerance)]
    return shlex.join(words)


def _method_options(method: Method) -> list[str] | None:
    """Return the options of the method; None where it is a network or its course is given."""
    if isinstance(method, TrainedModel):
        return None
    if isinstance(method, RichardsonLucy) and (method.momentum or method.unmatched is not None):
        return None
    kind = {"RichardsonLucy": "richardson-lucy", "Wiener": "wiener"}[type(method).__name__]
    names = tuple(field.name for field in fields(method) if field.name not in GIVEN)
    return ["--method", kind, *_options(method, names)]


def _indices(chosen: tuple[int, ...]) -> str:
    """Return indices as the command takes them: a range where they are many and evenly apart."""
    if len(chosen) > 2:
        step = chosen[1] - chosen[0]
        even = range(chosen[0], chosen[-1] + 1, step)
        if tuple(even) == chosen:
            return f"{even.start}:{even.stop}" + (f":{step}" if step > 1 else "")
    return ",".join(map(str, chosen))


def _psf_options(recipe: Recipe) -> list[str] | None:
    """Return the options of the PSF, of all channels; None where they cannot say it."""
    psfs = recipe.channel_psfs or (recipe.psf,)
    images = [psf for psf in psfs if isinstance(psf, PsfFile)]
    optics = [psf for psf in psfs if isinstance(psf, Optics)]
    if len(images) == len(psfs):
        return _image_options(images)
    return _optics_options(optics) if len(optics) == len(psfs) else None


def _image_options(psfs: list[PsfFile]) -> list[str] | None:
    """Return the options of images, one a channel; None where they are not described alike."""
    first = psfs[0]
    about = {(psf.voxel_size_um, psf.background) for psf in psfs}
    words = [word for psf in psfs for word in ("--psf", psf.path)]
    words += ["--psf-background", str(first.background)]
    if first.voxel_size_um:
        words += ["--psf-voxel-size", ",".join(map(str, first.voxel_size_um))]
    return words if len(about) == 1 else None


#: Optics that a file may know: the command says them, so that the file's do not come in.
_SAID = ("na", "immersion_index", "depth_um")

#: What may differ between the channels.
_WAVES = ("emission_nm", "excitation_nm")


def _optics_options(psfs: list[Optics]) -> list[str] | None:
    """Return the options of all that is not as it is by default.

    None where channels differ in more than their wavelengths, or not all have an excitation.
    """
    first, waves = psfs[0], _wave_options(psfs)
    usual = {field.name: field.default for field in fields(first) if field.name not in _WAVES}
    alike = all(getattr(psf, name) == getattr(first, name) for psf in psfs for name in usual)
    if waves is None or not alike:
        return None
    apart = ("modality", "sample_index", "zernike_rad")
    told = [
        name
        for name, value in usual.items()
        if name not in apart and (name in _SAID or getattr(first, name) != value)
    ]
    words = ["--microscope", first.modality, *waves, *_options(first, tuple(told))]
    words += ["--sample-index", str(first.medium_index)]
    terms = [f"{index}:{value}" for index, value in enumerate(first.zernike_rad) if value]
    return [*words, "--zernike", ",".join(terms)] if terms else words


def _wave_options(psfs: list[Optics]) -> list[str] | None:
    """Return the wavelengths, one for all or one a channel; None where some lack one."""
    words = []
    for name in _WAVES:
        waves = [getattr(psf, name) for psf in psfs]
        if None in waves and any(waves):
            return None
        if any(waves):
            said = waves if len(set(waves)) > 1 else waves[:1]
            words += ["--" + name.replace("_", "-"), ",".join(map(str, said))]
    return words


def _options(value: object, names: tuple[str, ...]) -> list[str]:
    given = [(name.replace("_", "-"), getattr(value, name)) for name in names]
    words: list[str] = []
    for name, setting in given:
        if isinstance(setting, bool):
            words.append(f"--{name}" if setting else f"--no-{name}")
        elif setting is not None:
            words += [f"--{name}", str(setting)]
    return words
