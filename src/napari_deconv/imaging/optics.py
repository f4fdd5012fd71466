"""The microscope, as far as the point spread function depends on it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from .value import Value, require, require_number

MODALITIES = ("widefield",)


@dataclass(frozen=True)
class Optics(Value):
    """A microscope objective, its immersion, and where in the sample the emitter is.

    Parameters
    ----------
    modality : {"widefield"}
        How the light is excited and detected.
    na : float
        Numerical aperture of the objective; below `immersion_index`.
    emission_nm : float
        Wavelength of the detected light in vacuum, nanometres.
    immersion_index : float
        Refractive index of the immersion medium (air 1.0, water 1.333, glycerol 1.46,
        oil 1.515).
    sample_index : float, optional
        Refractive index of the sample's medium; that of the immersion when not given.
    depth_um : float
        Depth of the emitter below the coverslip, micrometres.
    coverslip_index, coverslip_um : float
        Refractive index and thickness of the coverslip in use; those that the objective
        was designed for are taken to be the same.

    Raises
    ------
    InputError
        If a value is not physical, with a sentence that says which and why.

    Examples
    --------
    >>> Optics(na=1.4, emission_nm=520, immersion_index=1.515).describe()
    'widefield, NA 1.4, 520 nm, immersion 1.515, sample 1.515, depth 0 um'
    """

    modality: str = "widefield"
    _: KW_ONLY
    na: float
    emission_nm: float
    immersion_index: float = 1.515
    sample_index: float | None = None
    depth_um: float = 0.0
    coverslip_index: float = 1.5255
    coverslip_um: float = 170.0

    def __post_init__(self) -> None:
        require(
            self.modality in MODALITIES,
            f"The modality {self.modality!r} is not known; choose {' or '.join(MODALITIES)}",
        )
        require_number("The NA", self.na, above=0)
        require_number("The emission wavelength in nm", self.emission_nm, least=100)
        require(
            self.emission_nm <= 3000,
            f"The emission wavelength {self.emission_nm:g} nm is not one of visible or "
            "near-infrared light; give nanometres between 100 and 3000",
        )
        for name in ("immersion_index", "sample_index", "coverslip_index"):
            index = getattr(self, name)
            if index is not None or name != "sample_index":
                label = name.replace("_index", "").capitalize()
                require_number(f"{label}: the refractive index", index, least=1)
                require(index <= 3, f"{label}: a refractive index of {index:g} is above 3")
        require(
            self.na < self.immersion_index,
            f"NA {self.na:g} is not below the refractive index of the immersion medium, "
            f"{self.immersion_index:g}: no such objective exists. Correct the NA or the immersion",
        )
        require_number("The depth in um", self.depth_um, least=0)
        require_number("The coverslip thickness in um", self.coverslip_um, least=0)

    @property
    def medium_index(self) -> float:
        """Refractive index of the sample's medium: `sample_index`, else the immersion's."""
        return self.immersion_index if self.sample_index is None else self.sample_index

    def describe(self) -> str:
        """Return the optics in one line."""
        return (
            f"{self.modality}, NA {self.na:g}, {self.emission_nm:g} nm, immersion "
            f"{self.immersion_index:g}, sample {self.medium_index:g}, depth {self.depth_um:g} um"
        )
