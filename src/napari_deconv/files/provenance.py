"""How an exported image was made, kept inside the file: recipe, record, versions.

`provenance` gathers it, the writers of each format store it, `reading.read_provenance` gives
it back. It is a plain dictionary:

- ``software``: "napari-deconv"
- ``recipe``: what repeats the result, or None
- ``record``: what happened when it was made, or None
- ``versions``: of the programs that took part
- ``stored``: axes, type, intensity scale, optics, date and position of the stored image
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError, Plain

SOFTWARE = "napari-deconv"

#: Packages whose version is always named, and those named only where they are in use.
ALWAYS_NAMED = ("napari-deconv", "numpy", "scipy", "dask", "tifffile", "zarr")
NAMED_IN_USE = ("pyclesperanto", "torch", "numba")


def provenance(stack: Stack, *, recipe: Plain | None, record: Plain | None, dtype: str) -> Plain:
    """Return what an exported file says about how it was made.

    Parameters
    ----------
    stack : Stack
        The image that is exported.
    recipe, record : dict, optional
        Plain values, as JSON knows them.
    dtype : str
        Type of the stored voxels. The factor between them and the intensities, 1 here,
        stands in ``["stored"]["scale"]``.

    Raises
    ------
    InputError
        If the recipe or the record cannot be written as JSON.
    """
    optics = [known.to_dict() for known in stack.channel_optics]
    body: Plain = {
        "software": SOFTWARE,
        "recipe": recipe,
        "record": record,
        "versions": _versions(),
        "stored": {
            "axes": stack.axes,
            "channel_optics": optics,
            "dtype": dtype,
            "scale": 1.0,
            # What OME-Zarr has no place for, or none for some units.
            "acquired": stack.acquired,
            "position": {axis: list(place) for axis, place in stack.position.items()},
        },
    }
    try:
        plain: Plain = json.loads(json.dumps(body, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The recipe or the record cannot be written as JSON ({error}); give plain "
            "numbers, texts, lists and dictionaries, without NaN"
        ) from error
    return plain


def stored_optics(body: Mapping[str, Any] | None) -> tuple[KnownOptics, ...]:
    """Return the optics of each channel that the provenance `body` keeps, or nothing."""
    try:
        entries = (body or {})["stored"]["channel_optics"]
        return tuple(KnownOptics.from_dict(entry) for entry in entries)
    except (KeyError, TypeError, InputError):
        return ()


def stored_axes(body: Mapping[str, Any] | None) -> str:
    """Return the axes that the provenance `body` keeps, or nothing."""
    return str(_stored(body).get("axes", ""))


def stored_date(body: Mapping[str, Any] | None) -> str:
    """Return the date of acquisition that the provenance `body` keeps, or nothing."""
    return str(_stored(body).get("acquired", ""))


def stored_position(body: Mapping[str, Any] | None) -> dict[str, tuple[float, str]]:
    """Return the position of the stage that the provenance `body` keeps, or nothing."""
    try:
        entries = dict(_stored(body).get("position", {}))
        return {axis: (float(place), str(unit)) for axis, (place, unit) in entries.items()}
    except (TypeError, ValueError):
        return {}


def _stored(body: Mapping[str, Any] | None) -> dict[str, Any]:
    stored = (body or {}).get("stored")
    return stored if isinstance(stored, dict) else {}


def _versions() -> dict[str, str]:
    in_use = [name for name in NAMED_IN_USE if name in sys.modules]
    versions = {"python": platform.python_version()}
    for name in (*ALWAYS_NAMED, *in_use):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
