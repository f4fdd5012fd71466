"""The options that describe the optics, shared by the verbs that need them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_deconv.imaging.value import InputError

from .arguments import numbers

if TYPE_CHECKING:
    from napari_deconv.imaging.optics import Optics

#: One option a field of `Optics`; a verb gets those that were typed as one dictionary.
_OPTIONS: dict[str, tuple[type, str]] = {
    "microscope": (
        str,
        "widefield (the default), confocal, spinning-disk, two-photon, light-sheet or "
        "effective-sted.",
    ),
    "na": (float, "Numerical aperture."),
    "emission_nm": (str, "Emission wavelength in nm; of several channels, such as 520,610."),
    "excitation_nm": (str, "Excitation wavelength in nm; of several channels, such as 488,561."),
    "immersion_index": (float, "Refractive index of the immersion."),
    "sample_index": (float, "Refractive index of the sample."),
    "depth_um": (float, "Depth below the coverslip in um."),
    "pinhole_au": (float, "Confocal: diameter of the pinhole in Airy units."),
    "pinhole_um": (float, "Spinning disk: diameter of a pinhole in um."),
    "pinhole_spacing_um": (float, "Spinning disk: distance between two pinholes in um."),
    "magnification": (float, "Spinning disk: magnification from the sample to the disk."),
    "sheet_um": (float, "Light sheet: full width at half maximum in um."),
    "sheet_na": (float, "Light sheet: its numerical aperture, instead of its width."),
    "depletion_nm": (float, "STED: wavelength of the doughnut in nm."),
    "saturation": (float, "STED: brightest intensity over the one that halves the light."),
    "coverslip_um": (float, "Thickness of the coverslip in um."),
    "coverslip_index": (float, "Refractive index of the coverslip."),
    "design_coverslip_um": (float, "Thickness that the objective is made for, in um."),
    "design_coverslip_index": (float, "Coverslip index that the objective is made for."),
    "design_immersion_index": (float, "Immersion index that the objective is made for."),
    "working_distance_um": (float, "Working distance of the objective in um."),
    "zernike": (str, "Aberrations as INDEX:RADIANS, such as 5:0.3,12:-0.5 (OSA/ANSI, RMS)."),
    "model": (str, "vectorial (the default), scalar or gaussian."),
}

#: The fields of `Optics` that differ between channels, and their options.
WAVELENGTHS = {"emission_nm": "--emission-nm", "excitation_nm": "--excitation-nm"}

#: The microscopes that an option is for, where it is not for all.
_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "pinhole_au": ("confocal", "effective-sted"),
    "pinhole_um": ("spinning-disk",),
    "pinhole_spacing_um": ("spinning-disk",),
    "magnification": ("spinning-disk",),
    "sheet_um": ("light-sheet",),
    "sheet_na": ("light-sheet",),
    "depletion_nm": ("effective-sted",),
    "saturation": ("effective-sted",),
}

#: Other ways in which people write a microscope's name.
_SHORT = {"sted": "effective-sted", "2-photon": "two-photon", "lightsheet": "light-sheet"}


def in_options(sentence: str) -> str:
    """Return a sentence that names fields of the optics with the options in their place.

    Examples
    --------
    >>> in_options("give its wavelength, excitation_nm")
    'give its wavelength, --excitation-nm'
    """
    names = "|".join(name for name in _OPTIONS if "_" in name)
    return re.sub(
        rf"(?<![\w-])({names})(?!\w)", lambda found: "--" + found[1].replace("_", "-"), sentence
    )


def with_optics(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of the optics, in the place of its parameter `optics`."""
    own = inspect.signature(command, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if name == "optics":
            parameters += _parameters()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_options(**options: Any) -> None:
        typed = {name: options.pop(name) for name in _OPTIONS}
        command(**options, optics=_fields(typed))

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def _parameters() -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(
            name, kind, default=None, annotation=Annotated[of | None, typer.Option(help=words)]
        )
        for name, (of, words) in _OPTIONS.items()
    ]


def _fields(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `Optics` that were typed; of several wavelengths, all of them."""
    given = {name: value for name, value in typed.items() if value is not None}
    for name, option in WAVELENGTHS.items():
        if name in given:
            values = numbers(given[name], option, "520 or 520,610")
            given[name] = values[0] if len(values) == 1 else values
    if "microscope" in given:
        name = given.pop("microscope").lower().replace("_", "-").replace(" ", "-")
        given["modality"] = _SHORT.get(name, name)
    if "zernike" in given:
        given["zernike_rad"] = _zernike(given.pop("zernike"))
    return given


def _zernike(text: str) -> tuple[float, ...]:
    """Return '5:0.3,12:-0.5' as one number an index."""
    from napari_deconv.imaging.optics import MOST_ZERNIKE

    try:
        terms = dict(part.split(":") for part in text.split(","))
        values = {int(index): float(value) for index, value in terms.items()}
    except ValueError:
        raise InputError(
            f"--zernike {text!r} is not a list of INDEX:RADIANS such as 5:0.3,12:-0.5"
        ) from None
    if not all(0 <= index < MOST_ZERNIKE for index in values):
        raise InputError(f"--zernike knows the OSA/ANSI indices 0 to {MOST_ZERNIKE - 1}")
    return tuple(values.get(index, 0.0) for index in range(max(values) + 1))


def optics_of(
    given: dict[str, Any], what: str = "A PSF", image: str = "its image with --psf FILE"
) -> Optics:
    """Return the optics of the options; `InputError` names those that are missing.

    `what` is needed, and could be given as an `image` as well.
    """
    from napari_deconv.imaging.optics import Optics

    for name, option in WAVELENGTHS.items():
        if isinstance(given.get(name), tuple):
            raise InputError(f"{option} takes one wavelength here, not {len(given[name])}")

    missing = [name for name in ("na", "emission_nm") if name not in given]
    if missing:
        options = " and ".join("--" + name.replace("_", "-") for name in missing)
        raise InputError(f"{what} is needed: give {image}, or the optics; {options} missing")
    _require_used(given, given.get("modality", Optics.modality))
    return Optics(**given)


def _require_used(typed: dict[str, Any], modality: str) -> None:
    """Raise `InputError` where an option was typed that this microscope has no use for."""
    for name in typed:
        microscopes = _ONLY_FOR.get(name, (modality,))
        if modality not in microscopes:
            raise InputError(
                f"--{name.replace('_', '-')} is for {' or '.join(microscopes)}, and the microscope "
                f"is {modality}; leave it out, or give --microscope"
            )
