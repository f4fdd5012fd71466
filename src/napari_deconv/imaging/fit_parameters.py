"""The parameters of `Optics` that may be fitted to a measured PSF: `FREE`, name -> `Freedom`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .optics import EXCITED, MOST_ZERNIKE, Optics
from .psf import Psf
from .value import require

#: More at once are slow and hardly told apart.
MOST_FREE = 10

#: NA is looked for up to this part of the lower index: beyond, light stays at the coverslip.
NA_CAP = 0.999


@dataclass(frozen=True)
class Freedom:
    """What is known of a parameter that may be fitted.

    Parameters
    ----------
    label, unit : str
        For the user.
    scale : float
        An error above it makes the value useless. A tenth of it is a step of the differences.
    bounds : callable
        The range in which a fit from the given optics looks.
    serves : callable
        Whether the PSF of the given optics may depend on the parameter.
    planar : bool
        Whether one plane, without its neighbours, tells something of it.
    """

    label: str
    unit: str
    scale: float
    bounds: Callable[[Optics], tuple[float, float]]
    serves: Callable[[Optics], bool] = lambda optics: True
    planar: bool = False


def na_cap(optics: Optics) -> float:
    """Return the highest NA that a fit from `optics` considers."""
    return NA_CAP * min(optics.immersion_index, optics.medium_index)


def _na_bounds(optics: Optics) -> tuple[float, float]:
    cap = na_cap(optics)
    return 0.5 * min(optics.na, cap), min(1.5 * optics.na, cap)


def _depth_bounds(optics: Optics) -> tuple[float, float]:
    return 0.0, max(20.0, 2 * optics.depth_um)


def _sample_bounds(optics: Optics) -> tuple[float, float]:
    # From water to beyond oil; from air where that is what the start says.
    index = optics.medium_index
    return min(1.3, max(1.0, index - 0.05)), max(1.6, index + 0.05)


def _immersion_bounds(optics: Optics) -> tuple[float, float]:
    index = optics.immersion_index
    return max(1.0, optics.na / NA_CAP, index - 0.1), index + 0.1


def _emission_bounds(optics: Optics) -> tuple[float, float]:
    least = (optics.excitation_nm or 100) if _excited_below(optics) else 100
    return max(0.8 * optics.emission_nm, least), min(1.25 * optics.emission_nm, 3000)


def _excitation_bounds(optics: Optics) -> tuple[float, float]:
    excitation = optics.excitation_nm or math.nan
    most = optics.emission_nm if _excited_below(optics) else 3000
    return max(0.8 * excitation, 100), min(1.25 * excitation, most)


def _pinhole_bounds(optics: Optics) -> tuple[float, float]:
    return 0.0, max(5.0, 2 * optics.pinhole_au)


def _coverslip_bounds(optics: Optics) -> tuple[float, float]:
    return max(0.0, optics.coverslip_um - 50), optics.coverslip_um + 50


def _sheet_bounds(optics: Optics) -> tuple[float, float]:
    thickness = optics.sheet_um or math.nan
    return 0.2 * thickness, 5 * thickness


def _excited_below(optics: Optics) -> bool:
    """Return whether the excitation must be shorter than the emission."""
    return optics.modality in EXCITED and optics.modality != "two-photon"


def _is_emitted(optics: Optics) -> bool:
    return optics.modality != "two-photon"


def _is_excited(optics: Optics) -> bool:
    by_sheet = optics.modality == "light-sheet" and optics.sheet_um is None
    return optics.modality in EXCITED or by_sheet


def _has_pinhole(optics: Optics) -> bool:
    return optics.modality in ("confocal", "effective-sted")


def _has_sheet(optics: Optics) -> bool:
    return optics.modality == "light-sheet" and optics.sheet_um is not None


def _zernike(index: int) -> Freedom:
    def bounds(optics: Optics) -> tuple[float, float]:
        value = value_of(optics, f"zernike_{index}")
        return min(-2.0, value - 1), max(2.0, value + 1)

    return Freedom(f"Zernike {index}", "rad", 0.5, bounds)


#: Zernike terms from 3 on: piston does nothing, tilt is the offset that is fitted anyway.
FREE: dict[str, Freedom] = {
    "na": Freedom("NA", "", 0.05, _na_bounds, planar=True),
    "depth_um": Freedom("depth", "um", 1.0, _depth_bounds),
    "sample_index": Freedom("sample index", "", 0.02, _sample_bounds),
    "immersion_index": Freedom("immersion index", "", 0.02, _immersion_bounds),
    "emission_nm": Freedom("emission", "nm", 20, _emission_bounds, _is_emitted, planar=True),
    "excitation_nm": Freedom("excitation", "nm", 20, _excitation_bounds, _is_excited, planar=True),
    "pinhole_au": Freedom("pinhole", "AU", 0.5, _pinhole_bounds, _has_pinhole, planar=True),
    "coverslip_um": Freedom("coverslip", "um", 10, _coverslip_bounds),
    "sheet_um": Freedom("sheet", "um", 1.0, _sheet_bounds, _has_sheet),
    **{f"zernike_{index}": _zernike(index) for index in range(3, MOST_ZERNIKE)},
}


def value_of(optics: Optics, name: str) -> float:
    """Return the value of a parameter of `FREE`."""
    if name == "sample_index":
        return optics.medium_index
    if name.startswith("zernike_"):
        return dict(enumerate(optics.zernike_rad)).get(_term(name), 0.0)
    return float(getattr(optics, name))


def with_values(optics: Optics, values: dict[str, float]) -> Optics:
    """Return `optics` with `values` by name; where two are at odds, the first gives way.

    Examples
    --------
    >>> optics = Optics(na=1.2, emission_nm=520)
    >>> with_values(optics, {"zernike_4": 0.5, "na": 1.1}).zernike_rad
    (0.0, 0.0, 0.0, 0.0, 0.5)
    """
    terms = {_term(name): value for name, value in values.items() if name.startswith("zernike_")}
    fields: dict[str, Any] = {k: v for k, v in values.items() if not k.startswith("zernike_")}
    if terms:
        terms = dict(enumerate(optics.zernike_rad)) | terms
        fields["zernike_rad"] = tuple(terms.get(index, 0.0) for index in range(max(terms) + 1))
    if "na" in values and "immersion_index" in values:
        fields["na"] = min(values["na"], NA_CAP * values["immersion_index"])
    if "excitation_nm" in values and "emission_nm" in values and _excited_below(optics):
        fields["excitation_nm"] = min(values["excitation_nm"], values["emission_nm"])
    return replace(optics, **fields)


def _term(name: str) -> int:
    return int(name.removeprefix("zernike_"))


def names_of(free: Sequence[str], psf: Psf, start: Optics) -> tuple[str, ...]:
    """Return the names of what is free, once each.

    Raises
    ------
    InputError
        If there are none, if one is unknown, if `psf` cannot tell one or tell two apart.
    """
    names = tuple(dict.fromkeys([free] if isinstance(free, str) else free))
    known = ", ".join(name for name in FREE if not name.startswith("zernike_"))
    known += f", zernike_3 ... zernike_{MOST_ZERNIKE - 1}"
    require(len(names) > 0, f"Nothing is free to be fitted; choose from {known}")
    require(
        len(names) <= MOST_FREE,
        f"{len(names)} parameters are too many for one PSF; free at most {MOST_FREE}",
    )
    require(
        psf.spacing_um is not None,
        "The PSF has no voxel size, and without one it fits any optics; give its spacing",
    )
    require(
        min(psf.shape[-2:]) >= 5,
        f"A PSF of {psf.shape[-2]} x {psf.shape[-1]} pixels is too small to be fitted; take a "
        "larger image around the point",
    )
    for name in names:
        require(name in FREE, f"{name!r} is nothing that can be fitted; choose from {known}")
        label = FREE[name].label
        require(
            FREE[name].serves(start),
            f"The PSF of this {start.modality} microscope does not depend on {name}; "
            "leave it out of the fit",
        )
        require(
            FREE[name].planar or (1, *psf.shape)[-3] > 1,
            f"A single plane of a PSF does not tell the {label}; take a stack of planes",
        )
    for name in ("sample_index", "immersion_index"):
        require(
            name not in names or "depth_um" not in names,
            f"The {FREE[name].label} and the depth change a PSF in the same way (correlation "
            "0.98): fit one of them, and give the other",
        )
    return names
