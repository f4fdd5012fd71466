"""A stack: voxels, the names of their axes, and what the file or viewer knows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

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
    channel_colours : tuple of str
        How each channel is shown, as "RRGGBB" ("" where nothing is said), or empty.
    position : mapping of str to (float, str)
        Where the stage stood: for each of "Z", "Y", "X" that is known, the place of the first
        voxel and its unit, as the file gives them.
    acquired : str
        When the image was taken, as the file gives it.
    remarks : tuple of str
        What the user should know of how the file was read, in sentences.
    unknown_grid : str
        Why the voxel size is unknown, in a sentence, where the file tells a part of it.

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
    channel_colours: tuple[str, ...] = ()
    position: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    acquired: str = ""
    remarks: tuple[str, ...] = ()
    unknown_grid: str = ""

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

    def selected(self, channels: Sequence[int] = (), times: Sequence[int] = ()) -> Stack:
        """Return the stack of some channels and time points.

        Parameters
        ----------
        channels, times : sequence of int
            Which to keep, counted from 0, in the order of the stack; empty keeps all.

        Returns
        -------
        Stack
            The same axes; names, colours and optics are those of the channels kept, and the time
            step is None where the times kept are not evenly apart. Dask stays lazy. numpy is
            seen through a view, but for an uneven choice, which copies what is kept.

        Raises
        ------
        InputError
            If one of them is not there, or the stack has no such axis.

        Examples
        --------
        >>> import numpy as np
        >>> movie = Stack(np.zeros((9, 2, 8, 8)), "TCYX", time_step_s=0.5)
        >>> part = movie.selected(channels=[1], times=range(0, 9, 4))
        >>> part.axes, part.shape, part.time_step_s
        ('TCYX', (3, 1, 8, 8), 2.0)
        """
        chosen_channels = self.chosen("C", channels)
        chosen_times = self.chosen("T", times)
        data = self.data
        for axis, chosen in (("C", chosen_channels), ("T", chosen_times)):
            if chosen:
                place = (slice(None),) * self.axes.index(axis)
                data = data[(*place, _as_slice(chosen) or list(chosen))]
        step_s = self.time_step_s
        if step_s is not None and chosen_times:
            even = _as_slice(chosen_times)
            step_s = step_s * even.step if even else None
        return replace(
            self,
            data=data,
            channel_names=_of(self.channel_names, chosen_channels),
            channel_optics=_of(self.channel_optics, chosen_channels),
            channel_colours=_of(self.channel_colours, chosen_channels),
            time_step_s=step_s,
        )

    def chosen(self, axis: str, wanted: Sequence[int]) -> tuple[int, ...]:
        """Return indices along "C" or "T" in the order of the stack, each once.

        Raises
        ------
        InputError
            If one of them is not there, or the stack has no such axis.
        """
        word = {"C": "channel", "T": "time"}[axis]
        if not len(wanted):
            return ()
        require(axis in self.axes, f"This stack has no {word}s to choose from; choose none")
        count = self.shape[self.axes.index(axis)]
        there = ("0 alone", "0 and 1")[count - 1] if count < 3 else f"0 to {count - 1}"
        for number in wanted:
            require(
                isinstance(number, (int, np.integer)) and not isinstance(number, bool),
                f"A {word} is a whole number from 0 on, not {number!r}",
            )
            require(
                0 <= number < count,
                f"This stack has {count} {word}{'s' * (count > 1)}, {there}; {number} is not there",
            )
        return tuple(sorted({int(number) for number in wanted}))


def _as_slice(chosen: tuple[int, ...]) -> slice | None:
    """Return rising indices as a slice; None where they are not evenly apart."""
    step = chosen[1] - chosen[0] if len(chosen) > 1 else 1
    even = range(chosen[0], chosen[-1] + 1, step)
    return slice(even.start, even.stop, step) if tuple(even) == chosen else None


def _of(entries: tuple[Any, ...], chosen: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(entries[number] for number in chosen) if entries and chosen else entries
