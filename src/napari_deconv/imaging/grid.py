"""The voxel grid: the one place where voxels become micrometres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .value import InputError, Value, require, require_number

#: Length units as files and viewers spell them, in micrometres. `pixel` is absent on
#: purpose: it means "unknown" and must never be taken for a length.
MICROMETRES: dict[str, float] = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "Å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "um": 1.0,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 25400.0,
}


@dataclass(frozen=True)
class Grid(Value):
    """Voxel spacing of the spatial axes.

    Parameters
    ----------
    spacing_um : tuple of float
        Distance between voxel centres in micrometres, (z, y, x) or (y, x).

    Raises
    ------
    InputError
        If there are not two or three spacings, or one is not a positive finite number.

    Examples
    --------
    >>> Grid(spacing_um=(0.3, 0.1, 0.1)).axes
    'ZYX'
    >>> Grid.from_units((300, 100, 100), "nm")
    Grid(spacing_um=(0.3, 0.1, 0.1))
    """

    spacing_um: tuple[float, ...]

    def __post_init__(self) -> None:
        require(
            isinstance(self.spacing_um, (tuple, list)) and len(self.spacing_um) in (2, 3),
            f"A voxel size has two or three numbers, (z, y, x) or (y, x), not {self.spacing_um!r}",
        )
        for axis, step in zip("ZYX"[-len(self.spacing_um) :], self.spacing_um, strict=True):
            require_number(f"The {axis.lower()} spacing in um", step, above=0)
        object.__setattr__(self, "spacing_um", tuple(float(step) for step in self.spacing_um))

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return len(self.spacing_um)

    @property
    def axes(self) -> str:
        """The spatial axes: 'ZYX' or 'YX'."""
        return "ZYX"[-self.ndim :]

    @classmethod
    def from_units(cls, spacing: Sequence[float], unit: str | Sequence[str]) -> Grid:
        """Return the grid of `spacing` given in `unit` (one for all axes, or one each).

        Raises
        ------
        InputError
            If a unit is not a length; `pixel` is not one.
        """
        units = [unit] * len(spacing) if isinstance(unit, str) else list(unit)
        require(
            len(units) == len(spacing),
            f"{len(spacing)} spacings have {len(units)} units; give one unit, or one each",
        )
        try:
            factors = [MICROMETRES[str(name)] for name in units]
        except KeyError as error:
            raise InputError(
                f"The unit {error.args[0]!r} is not a length; give the voxel size in um"
            ) from None
        # Rounded to 15 digits, so that 300 nm reads 0.3 um and not 0.30000000000000004.
        steps = (float(f"{s * f:.15g}") for s, f in zip(spacing, factors, strict=True))
        return cls(spacing_um=tuple(steps))

    def describe(self) -> str:
        """Return the spacing as a person writes it.

        Examples
        --------
        >>> Grid(spacing_um=(0.3, 0.1015, 0.1015)).describe()
        '0.3 x 0.1015 x 0.1015 um'
        """
        return " x ".join(f"{step:.4g}" for step in self.spacing_um) + " um"
