"""Convolutions of a network, of a whole piece or of rows as they come.

Rows that come one part after the other need of those before only what a kernel reaches: kept, it
need not be computed again, and all that is in the air at once is small enough to stay near the
processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

#: What lies beyond the ends of an axis.
Beyond = Literal["constant", "replicate"]


class Conv3d(nn.Conv3d):
    """A convolution that keeps the shape, and that oneDNN does on a CPU wherever it can.

    torch (2.13) leaves some of those of a single image to a routine three times as slow.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution, with zeros beyond the edges."""
        return self.over(input, [side // 2 for side in self.kernel_size])

    def over(self, input: Tensor, beyond: Sequence[int]) -> Tensor:
        """Return the convolution, with so many zeros beyond the edges of each axis."""
        is_traced = torch._C._get_tracing_state() is not None
        is_plain = not torch.is_grad_enabled() and not is_traced
        on_cpu = input.device.type == "cpu" and input.dtype == torch.float32
        if not (is_plain and on_cpu and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
            return functional.conv3d(input, self.weight, self.bias, padding=tuple(beyond))
        ones = (1, 1, 1)
        return torch.mkldnn_convolution(input, self.weight, self.bias, beyond, ones, ones, 1)


class Windows:
    """Rows as they come, together with so many beside each as something looks at.

    Parameters
    ----------
    axis : int
        Along which the rows come.
    beside : int
        Rows on either side of each.
    beyond : str
        What is before the first row and after the last: zeros ("constant"), or that row again.
    """

    def __init__(self, axis: int, beside: int, beyond: Beyond = "constant") -> None:
        self.axis, self.beside, self.beyond = axis, beside, beyond
        self.kept: Tensor | None = None

    def __call__(self, rows: Tensor | None, is_last: bool) -> Tensor | None:
        """Return the rows that can be looked at now, and those beside; None if there are none."""
        if rows is None and not is_last:
            return None
        known = [part for part in (self.kept, rows) if part is not None]
        window = torch.cat(known, self.axis) if len(known) > 1 else known[0]
        ends = self.beside * (self.kept is None), self.beside * is_last
        if any(ends):
            window = functional.pad(window, self._pads(window, ends), mode=self.beyond)
        count, again = window.shape[self.axis], 2 * self.beside
        first = max(count - again, 0)
        self.kept = window.narrow(self.axis, first, count - first).clone()
        return window if count > again else None

    def _pads(self, window: Tensor, ends: tuple[int, int]) -> list[int]:
        """Return the widths as torch takes them, the last axis first."""
        widths = [ends if axis == self.axis else (0, 0) for axis in range(2, window.ndim)]
        return [width for pair in reversed(widths) for width in pair]


class Convolved:
    """Layers of a network, one after the other, over rows as they come."""

    def __init__(self, layers: nn.Sequential, axis: int) -> None:
        self.axis = axis
        self.layers: list[tuple[Any, Windows | None]] = [
            (layer, Windows(axis, layer.kernel_size[axis - 2] // 2))
            if isinstance(layer, (nn.Conv2d, nn.Conv3d))
            else (layer, None)
            for layer in layers
        ]

    def __call__(self, rows: Tensor | None, is_last: bool) -> Tensor | None:
        """Return what is known now of the rows of the result; None if there is nothing."""
        for layer, windows in self.layers:
            if windows is not None:
                window = windows(rows, is_last)
                rows = None if window is None else self._convolved(layer, window)
            elif rows is not None:
                rows = layer(rows)
        return rows

    def _convolved(self, layer: Any, window: Tensor) -> Tensor:
        beyond = [side // 2 for side in layer.kernel_size]
        beyond[self.axis - 2] = 0
        if isinstance(layer, Conv3d):
            return layer.over(window, beyond)
        result: Tensor = functional.conv2d(window, layer.weight, layer.bias, padding=beyond)
        return result


class Waiting:
    """Rows in a queue."""

    def __init__(self, axis: int) -> None:
        self.axis, self.count = axis, 0
        self.rows: deque[Tensor] = deque()

    def put(self, rows: Tensor | None) -> None:
        """Add rows at the end."""
        if rows is not None:
            self.rows.append(rows)
            self.count += rows.shape[self.axis]

    def take(self, count: int) -> Tensor | None:
        """Return so many of the first; None for 0."""
        self.count -= count
        taken: list[Tensor] = []
        while count:
            part = self.rows.popleft()
            more = part.shape[self.axis] - count
            if more > 0:
                self.rows.appendleft(part.narrow(self.axis, count, more))
                part = part.narrow(self.axis, 0, count)
            taken.append(part)
            count -= part.shape[self.axis]
        if not taken:
            return None
        return torch.cat(taken, self.axis) if len(taken) > 1 else taken[0]
