"""A stack: voxels, the names of their axes, and what the file or viewer knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from .grid import Grid
from .value import Value, require

AXES = "TCZYX"


@dataclass(frozen=True)
class KnownOptics(Value):
    """What a file says of one channel's optics; None where it says nothing."""

    na: float | None = None
    immersion_index: float | None = None
    emission_nm: float | None = None
    excitation_nm: float | None = None
    modality: str | None = None


@dataclass(frozen=True, eq=False)
class Stack:
    """An image with its axes and voxel size.

    Parameters
    ----------
    data : array, shape as in `axes`
        Voxels; numpy or dask, any real type.
    axes : str
        A subset of "TCZYX" in that order, ending in "YX"; one letter an axis of `data`.
    grid : Grid, optional
        Voxel size of the spatial axes; None means unknown, never one micrometre.
    name : str
        What to call the stack: the file's or the layer's name.
    channel_names : tuple of str
        One name a channel, or empty.
    channel_optics : tuple of KnownOptics
        One entry a channel, or empty where the file says nothing.
    time_step_s : float, optional
        Seconds between two time points.

    Raises
    ------
    InputError
        If the axes do not fit the data or the grid.
    """

    data: Any
    axes: str
    grid: Grid | None = None
    name: str = ""
    channel_names: tuple[str, ...] = ()
    channel_optics: tuple[KnownOptics, ...] = ()
    time_step_s: float | None = None

    def __post_init__(self) -> None:
        ordered = "".join(axis for axis in AXES if axis in self.axes)
        require(
            self.axes == ordered and self.axes.endswith("YX"),
            f"The axes {self.axes!r} are not a subset of TCZYX in that order, ending in YX",
        )
        require(
            len(self.axes) == self.data.ndim,
            f"The axes {self.axes} do not fit an image of {self.data.ndim} dimensions",
        )
        require(
            self.grid is None or self.grid.axes == self.spatial_axes,
            f"A voxel size of {self.grid.ndim if self.grid else 0} numbers does not fit the "
            f"axes {self.spatial_axes}",
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all axes."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def spatial_axes(self) -> str:
        """'ZYX' or 'YX'."""
        return "ZYX" if "Z" in self.axes else "YX"

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the spatial axes, (Z, Y, X) or (Y, X)."""
        return self.shape[-len(self.spatial_axes) :]

    def channel_count(self) -> int:
        """Number of channels; 1 without a channel axis."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else 1

    def blocks(self) -> Iterator[tuple[int, ...]]:
        """Yield the index of each spatial block: all of T and C, in order."""
        leading = self.shape[: len(self.axes) - len(self.spatial_axes)]
        yield from product(*(range(n) for n in leading))

    def channel_of(self, block: tuple[int, ...]) -> int:
        """Return the channel that a block index of `blocks` belongs to."""
        return block[self.axes.index("C")] if "C" in self.axes else 0
