"""The U-Net of CARE, in 2D and 3D by one code.

With one channel, depth 2, 32 first channels and kernels of 3 it has the layers of CSBDeep's
(Weigert et al. 2018, doi 10.1038/s41592-018-0216-7); with linear upsampling it has those of
CAREamics. Pooling may leave z as it is, for stacks whose planes lie farther apart than their
pixels, and any size from one voxel on is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import require

from .blurring import inside
from .convolving import Conv3d, Convolved, Waiting, Windows
from .inputs import LIGHT_UNIT
from .nets import Net, layout_of

#: How a level is brought back to the size of the finer one.
Upsampling = Literal["nearest", "linear"]

#: Steps of an axis up to so many times those of the finest count as the same.
SAME = 1.25
#: Square roots of photons are seen in this unit; and what is added is in so many deviations of the
#: noise of the estimates.
STABLE_UNIT, NOISES = 0.3, 4.0
#: Bytes of the first level's channels of the rows that are taken at once: what is larger a CPU
#: fetches from afar, and asks the system for anew each time. CUDA needs more to be at work.
ROWS_BYTES, ROWS_BYTES_ON_CUDA = 8 << 20, 64 << 20
#: So many times those rows, and so many times as far as a voxel looks, are kept at once; measured,
#: with what is freed but not given back.
ROWS_KEPT, HALOS_KEPT = 16, 2
#: Smallest scale of a Laplace distribution that the second output gives.
LEAST_SCALE = 1e-3


def pools_for(spacing_um: Sequence[float], depth: int) -> tuple[tuple[int, ...], ...]:
    """Return by how much each level pools each axis: an axis only while it is not coarser.

    Examples
    --------
    >>> pools_for((0.3, 0.1, 0.1), 2)
    ((1, 2, 2), (1, 2, 2))
    >>> pools_for((0.2, 0.1, 0.1), 2)
    ((1, 2, 2), (2, 2, 2))
    """
    steps, levels = list(spacing_um), []
    for _ in range(depth):
        pool = tuple(2 if step <= SAME * min(steps) else 1 for step in steps)
        levels.append(pool)
        steps = [step * by for step, by in zip(steps, pool, strict=True)]
    return tuple(levels)


class UNet(Net):
    """Channels in, one restored image out: the first channel and what the network adds to it.

    Parameters
    ----------
    pools : sequence of tuple of int
        By how much each level pools each axis; as many as the depth.
    channels : int
        That go in.
    first : int
        Channels of the first level; each level has twice as many as the one before.
    kernel : int
        Odd side of the convolutions.
    laplace : bool
        Whether a second output gives the scale of a Laplace distribution around the first.
    mixed : int
        So many of the first channels are estimates of the image already. With more than one the
        network mixes them, voxel by voxel, and adds to the mixture.
    residual : bool
        Whether what comes out is added to the first channel; else it is the image.
    upsampling : str
        "nearest" repeats voxels; "linear" interpolates between their centres, as torch does
        without aligned corners.
    stabilized : bool
        Whether the convolutions see square roots of photons, whose noise is the same in dim and
        in bright images (Anscombe 1948), and what they add is in units of that noise. Then the
        last channel tells how much light there is; see `inputs.NOISE`.
    """

    def __init__(
        self,
        pools: Sequence[Sequence[int]],
        *,
        channels: int = 1,
        first: int = 32,
        kernel: int = 3,
        laplace: bool = False,
        mixed: int = 1,
        residual: bool = True,
        upsampling: Upsampling = "nearest",
        stabilized: bool = False,
    ) -> None:
        super().__init__()
        self.pools = tuple(tuple(pool) for pool in pools)
        self.first, self.kernel, self.laplace, self.mixed = first, kernel, laplace, mixed
        self.residual, self.upsampling, self.stabilized = residual, upsampling, stabilized
        ndim, depth = len(self.pools[0]), len(self.pools)
        require(ndim in (2, 3) and kernel % 2 == 1, "A U-Net is 2D or 3D, with odd kernels")
        convolution = {2: nn.Conv2d, 3: Conv3d}[ndim]

        def pair(sizes: Sequence[int]) -> nn.Sequential:
            layers: list[nn.Module] = []
            for before, after in pairwise(sizes):
                layers += [
                    convolution(before, after, kernel, padding=kernel // 2),
                    nn.ReLU(inplace=True),
                ]
            return nn.Sequential(*layers)

        sizes = [first * 2**level for level in range(depth)]
        befores = [channels, *sizes[:-1]]
        self.down = nn.ModuleList(pair((a, b, b)) for a, b in zip(befores, sizes, strict=True))
        self.middle = pair((sizes[-1], 2 * sizes[-1], sizes[-1]))
        self.up = nn.ModuleList(
            pair((2 * size, size, max(size // 2, first))) for size in reversed(sizes)
        )
        shares = mixed if mixed > 1 else 0
        self.last = convolution(first, 1 + laplace + shares, 1)
        for values in self.parameters():
            if values.ndim > 1:
                nn.init.kaiming_normal_(values, nonlinearity="relu")
            else:
                nn.init.zeros_(values)
        # What it adds is nothing at first: it begins where what goes in has come to.
        for values in self.last.parameters():
            nn.init.zeros_(values)

    @property
    def strides(self) -> tuple[int, ...]:
        """Voxels along each axis that make one of the coarsest level: its grid must not move."""
        return tuple(_product(along) for along in zip(*self.pools, strict=True))

    @property
    def halo(self) -> tuple[int, ...]:
        """How far a voxel of the output looks, along each axis."""
        reach, stride = [0] * len(self.strides), [1] * len(self.strides)
        for pool in self.pools:
            for axis, by in enumerate(pool):
                # Two convolutions down and two up at each level; pooling takes what lies beside.
                beside = by - 1
                if self.upsampling == "linear":  # it takes of the next coarse voxel as well
                    beside += by // 2
                reach[axis] += (4 * (self.kernel // 2) + beside) * stride[axis]
                stride[axis] *= by
        return tuple(
            far + 2 * (self.kernel // 2) * step for far, step in zip(reach, stride, strict=True)
        )

    def reach(self, psf: Psf, tail: float) -> tuple[int, ...]:
        """Return how far a voxel of the output looks: nothing beyond counts."""
        return self.halo

    def forward(
        self, x: Tensor, psf: Tensor | None = None, settings: Tensor | None = None
    ) -> Tensor:
        """Return (N, 1 or 2, ...) for channels (N, C, ...): the image, and its Laplace scale."""
        kept, seen = [], _padded(self._seen(x), self.strides)
        for level, pool in zip(self.down, self.pools, strict=True):
            seen = level(seen)
            kept.append(seen)
            seen = _pooled(seen, pool)
        seen = self.middle(seen)
        for level, pool, skip in zip(self.up, reversed(self.pools), reversed(kept), strict=True):
            seen = level(torch.cat([self.grown(seen, pool), skip], dim=1))
        return self._answer(seen, x)

    @torch.inference_mode()
    def in_parts(
        self, x: Tensor, psf: Tensor | None = None, settings: Tensor | None = None
    ) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Yield the output by rows along the longest axis; nothing is computed twice."""
        axis, at_once = self._rows_at_once(x.shape[2:])
        layout = layout_of(self, self.device)
        level, done, count = _Level(self, axis), 0, x.shape[axis]
        for start in range(0, count, at_once):
            rows = x.narrow(axis, start, min(at_once, count - start))
            rows = rows.to(self.device, memory_format=layout)
            rows = _padded(self._seen(rows), self.strides)
            known = level(rows, start + at_once >= count)
            if known is None:
                continue
            more = min(known.shape[axis], count - done)
            part = x.narrow(axis, done, more).to(self.device)
            place = [slice(None)] * x.ndim
            place[axis] = slice(done, done + more)
            yield tuple(place), self._answer(known, part)
            done += more

    def parts(self, shape: Sequence[int]) -> int:
        """Return into how many parts `in_parts` takes an image at the most."""
        axis, at_once = self._rows_at_once(shape)
        return -(-shape[axis - 2] // at_once)

    def room(self, shape: Sequence[int]) -> int:
        """Return the bytes that `in_parts` keeps of an image of a shape, without its results."""
        axis, at_once = self._rows_at_once(shape)
        kept = HALOS_KEPT * self.halo[axis - 2] + ROWS_KEPT * at_once
        return 4 * self.first * kept * math.prod(shape) // shape[axis - 2]

    def _rows_at_once(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return the axis along which rows are taken, and how many: whole cells of the grid."""
        longest = max(range(len(shape)), key=lambda axis: shape[axis])
        stride = self.strides[longest]
        at_once = ROWS_BYTES_ON_CUDA if self.device.type == "cuda" else ROWS_BYTES
        voxels = at_once // (4 * self.first)
        cells = voxels * shape[longest] // (math.prod(shape) * stride)
        return 2 + longest, max(cells, 1) * stride

    def _seen(self, x: Tensor) -> Tensor:
        """Return the channels as the convolutions see them."""
        if not self.stabilized:
            return x
        return torch.cat([_stable(x[:, :-1] * photons_of(x[:, -1:])), x[:, -1:]], dim=1)

    def _answer(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the output for channels, from what the last level makes of them."""
        estimates, photons = x[:, : self.mixed], photons_of(x[:, -1:])
        out = inside(_of_each_voxel(self.last, features), [slice(n) for n in x.shape[2:]])
        out = out.to(estimates.dtype)
        if self.mixed > 1:
            shares = out[:, -self.mixed :].softmax(dim=1)
            estimates = (shares * estimates).sum(dim=1, keepdim=True)
        added = out[:, :1]
        if self.stabilized:
            variance = estimates.abs() / photons + photons.reciprocal().square()
            added = added * NOISES * variance.sqrt()
        image = added + estimates if self.residual else out[:, :1]
        if not self.laplace:
            alone: Tensor = image
            return alone
        scale = functional.softplus(out[:, 1:2]) + LEAST_SCALE
        both: Tensor = torch.cat([image, scale], dim=1)
        return both

    def grown(self, x: Tensor, pool: tuple[int, ...]) -> Tensor:
        """Return a level at the size of the finer one."""
        scales = [float(by) for by in pool]
        if self.upsampling == "nearest":
            return functional.interpolate(x, scale_factor=scales, mode="nearest")
        mode = "bilinear" if len(pool) == 2 else "trilinear"
        return functional.interpolate(x, scale_factor=scales, mode=mode, align_corners=False)


class _Level:
    """A level of a U-Net and all below it, over rows as they come."""

    def __init__(self, net: UNet, axis: int, depth: int = 0) -> None:
        self.net, self.axis, self.pool = net, axis, net.pools[depth]
        deeper = depth + 1 < len(net.pools)
        self.down = Convolved(net.down[depth], axis)  # type: ignore[arg-type]
        self.below: Any = _Level(net, axis, depth + 1) if deeper else Convolved(net.middle, axis)
        self.up = Convolved(net.up[-1 - depth], axis)  # type: ignore[arg-type]
        self.unpooled, self.skipped = Waiting(axis), Waiting(axis)
        # Of voxels repeated nothing beside is seen.
        beside = int(net.upsampling == "linear")
        self.windows = Windows(axis, beside, "replicate") if beside else None

    def __call__(self, rows: Tensor | None, is_last: bool) -> Tensor | None:
        """Return what is known now of the rows of the result; None if there is nothing."""
        rows = self.down(rows, is_last)
        self.skipped.put(rows)
        self.unpooled.put(rows)
        by = self.pool[self.axis - 2]
        whole = self.unpooled.take(self.unpooled.count // by * by)
        pooled = None if whole is None else _pooled(whole, self.pool)
        grown = self._grown(self.below(pooled, is_last), is_last)
        if grown is None:
            return None
        skipped = self.skipped.take(grown.shape[self.axis])
        assert skipped is not None  # what is deeper lags behind
        return self.up(torch.cat([grown, skipped], dim=1), is_last)

    def _grown(self, rows: Tensor | None, is_last: bool) -> Tensor | None:
        if self.windows is None:
            return None if rows is None else self.net.grown(rows, self.pool)
        window = self.windows(rows, is_last)
        if window is None:
            return None
        grown, by = self.net.grown(window, self.pool), self.pool[self.axis - 2]
        return grown.narrow(self.axis, by, grown.shape[self.axis] - 2 * by)


def _of_each_voxel(convolution: Any, x: Tensor) -> Tensor:
    """Return a convolution of kernel 1, as a product of matrices: faster on a CPU."""
    weight = convolution.weight.flatten(1)
    out: Tensor = functional.linear(x.movedim(1, -1), weight, convolution.bias).movedim(-1, 1)
    return out


def photons_of(light: Tensor) -> Tensor:
    """Return the photons of the brightness, from the channel that tells how much light there is."""
    return torch.pow(10.0, LIGHT_UNIT * light)


def _stable(photons: Tensor) -> Tensor:
    """Return photons, also negative ones, on a scale on which their noise is the same."""
    return STABLE_UNIT * photons.sign() * photons.abs().sqrt()


def _pooled(x: Tensor, pool: tuple[int, ...]) -> Tensor:
    pooled = functional.max_pool2d if len(pool) == 2 else functional.max_pool3d
    result: Tensor = pooled(x, pool)
    return result


def _padded(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Return x repeated at its far ends until the strides divide it."""
    ends: list[int] = []
    for n, stride in zip(reversed(x.shape[2:]), reversed(strides), strict=True):
        ends += [0, -n % stride]
    padded: Tensor = functional.pad(x, ends, mode="replicate") if any(ends) else x
    return padded


def _product(numbers: Sequence[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
