"""What a network is built of: values that a card keeps, and the networks they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Literal, get_args

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import Value, require, require_number

from .inputs import (
    BACKGROUND,
    BRIGHTNESS,
    ESTIMATES,
    IMAGE,
    INVERSE_CHANNELS,
    NOISE,
    Normalization,
    require_numbers,
    undoings,
)
from .nets import Net
from .unet import UNet, Upsampling, pools_for
from .unrolled import UnrolledGradient, UnrolledRichardsonLucy
from .wiener_filter import WienerFilter

#: What networks that hold the blur themselves are given.
PLAIN_CHANNELS = (IMAGE, NOISE, BACKGROUND)
#: What no network here has more of: a card that says so is damaged, and memory would not do.
MOST_FIRST, MOST_KERNEL, MOST_LEVELS, MOST_POOLED = 4096, 31, 10, 16
MOST_STAGES, MOST_INNER = 100, 1000

#: What is unrolled.
Iteration = Literal["richardson-lucy", "gradient"]
ITERATIONS = get_args(Iteration)


@dataclass(frozen=True)
class UNetDesign(Value):
    """A U-Net and what goes into it.

    Parameters
    ----------
    channels : tuple of str
        See `learned.inputs`; what the network adds is added to the first of them.
    pools : tuple of tuple of int
        By how much each level pools each axis.
    first, kernel : int
        Channels of the first level, and the side of its convolutions.
    laplace : bool
        Whether it says how sure it is.
    mixed : int
        So many of the first channels are mixed, voxel by voxel; of one the network starts.
    residual : bool
        Whether it adds to the first channel; else what comes out is the image.
    upsampling : str
        "nearest", or "linear" as in CAREamics.
    stabilized : bool
        Whether the network sees square roots of photons.
    normalization : str
        What is done to the image before, and undone after; see `inputs.Normalization`.
    numbers : tuple of float
        Of the normalization.
    """

    channels: tuple[str, ...]
    pools: tuple[tuple[int, ...], ...]
    first: int = 12
    kernel: int = 3
    laplace: bool = False
    mixed: int = 1
    residual: bool = True
    upsampling: Upsampling = "nearest"
    stabilized: bool = False
    normalization: Normalization = "brightness"
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.channels) and bool(self.pools), "A network needs channels and levels")
        _require_pools(self.pools)
        _require_count("channels of the first level", self.first, MOST_FIRST)
        _require_count("voxels along a kernel", self.kernel, MOST_KERNEL)
        require(self.kernel % 2 == 1, f"The side of a kernel is odd, not {self.kernel}")
        undoings(self.channels)  # which refuses those that are not known
        require(
            1 <= self.mixed <= len(self.channels),
            f"Of {len(self.channels)} channels, {self.mixed} cannot be mixed",
        )
        require(
            self.residual or self.mixed == 1,
            "A network that mixes its channels adds to the mixture: it must be residual",
        )
        require(
            self.upsampling in get_args(Upsampling),
            f"The upsampling {self.upsampling!r} is not known; choose 'nearest' or 'linear'",
        )
        require(
            not self.stabilized or (self.residual and self.channels[-1] == NOISE),
            f"To see square roots of photons a network is residual, and its last channel {NOISE!r}",
        )
        require_numbers(self.normalization, self.numbers)
        require(
            self.normalization == BRIGHTNESS or self.channels == (IMAGE,),
            f"The normalization {self.normalization!r} is that of a network that is given the "
            f"image alone, not {len(self.channels)} channels",
        )

    @property
    def title(self) -> str:
        """What people call it."""
        return "Inverse + U-Net" if self.mixed > 1 else "U-Net"

    def network(self) -> UNet:
        """Return the network with new weights, drawn by torch's generator."""
        return UNet(
            self.pools,
            channels=len(self.channels),
            first=self.first,
            kernel=self.kernel,
            laplace=self.laplace,
            mixed=self.mixed,
            residual=self.residual,
            upsampling=self.upsampling,
            stabilized=self.stabilized,
        )


@dataclass(frozen=True)
class WienerDesign(Value):
    """A deep Wiener-Kolmogorov filter, WF-K; see `learned.wiener_filter`.

    Parameters
    ----------
    ndim : int
        2 or 3.
    predicted : bool
        Whether the filters follow from the image: WF-KPN.
    """

    #: What goes in, that it does not say how sure it is, and that it mixes nothing.
    channels: ClassVar[tuple[str, ...]] = PLAIN_CHANNELS
    laplace: ClassVar[bool] = False
    mixed: ClassVar[int] = 1
    ndim: int
    predicted: bool = False

    def __post_init__(self) -> None:
        require(self.ndim in (2, 3), f"A filter is 2D or 3D, not {self.ndim}D")

    @property
    def title(self) -> str:
        """What people call it."""
        return "Wiener-Kolmogorov, predicted filters" if self.predicted else "Wiener-Kolmogorov"

    def network(self) -> WienerFilter:
        """Return the filter as it starts."""
        return WienerFilter(self.ndim, predicted=self.predicted)


@dataclass(frozen=True)
class UnrolledDesign(Value):
    """Iterations with the true blur and learned steps between them; see `learned.unrolled`.

    Parameters
    ----------
    iteration : str
        "richardson-lucy", or "gradient", which is WF-UNet.
    pools : tuple of tuple of int
        By how much each level of the U-Net pools each axis; of Richardson-Lucy only as many
        numbers as axes count.
    stages, inner : int
        Learned steps, and iterations before each.
    first : int
        Channels of what is learned.
    """

    #: What goes in, that it does not say how sure it is, and that it mixes nothing.
    channels: ClassVar[tuple[str, ...]] = PLAIN_CHANNELS
    laplace: ClassVar[bool] = False
    mixed: ClassVar[int] = 1
    iteration: Iteration
    pools: tuple[tuple[int, ...], ...]
    stages: int = 3
    inner: int = 4
    first: int = 12

    def __post_init__(self) -> None:
        require(
            self.iteration in ITERATIONS,
            f"The iteration {self.iteration!r} is not known; choose {' or '.join(ITERATIONS)}",
        )
        require(bool(self.pools), "An unrolled network needs levels")
        _require_pools(self.pools)
        _require_count("stages", self.stages, MOST_STAGES)
        _require_count("inner iterations", self.inner, MOST_INNER)
        _require_count("channels of the first level", self.first, MOST_FIRST)

    @property
    def title(self) -> str:
        """What people call it."""
        is_gradient = self.iteration == "gradient"
        return "Unrolled gradient + U-Net" if is_gradient else "Unrolled Richardson-Lucy"

    def network(self) -> Net:
        """Return the network with new weights, drawn by torch's generator."""
        if self.iteration == "gradient":
            return UnrolledGradient(self.pools, self.stages, self.inner, self.first)
        return UnrolledRichardsonLucy(len(self.pools[0]), self.stages, self.inner, self.first)


Design = UNetDesign | WienerDesign | UnrolledDesign


def inverse_design(psf: Psf, *, first: int = 16, depth: int = 2, laplace: bool = True) -> Design:
    """Return the U-Net that cleans up what Richardson-Lucy has undone."""
    pools = pools_for(_spacing(psf), depth)
    return UNetDesign(
        INVERSE_CHANNELS,
        pools,
        first=first,
        laplace=laplace,
        mixed=len(ESTIMATES),
        stabilized=True,
    )


def care_design(psf: Psf, *, first: int = 32, depth: int = 2, laplace: bool = True) -> Design:
    """Return the U-Net of CARE: it sees the image alone, and knows the PSF from its pairs only."""
    return UNetDesign((IMAGE,), pools_for(_spacing(psf), depth), first=first, laplace=laplace)


def wiener_design(psf: Psf) -> Design:
    """Return WF-K."""
    return WienerDesign(psf.samples.ndim)


def kpn_design(psf: Psf) -> Design:
    """Return WF-KPN."""
    return WienerDesign(psf.samples.ndim, predicted=True)


def gradient_design(psf: Psf) -> Design:
    """Return WF-UNet."""
    return UnrolledDesign("gradient", pools_for(_spacing(psf), 2), stages=6, inner=1, first=8)


def unrolled_design(psf: Psf) -> Design:
    """Return unrolled Richardson-Lucy."""
    return UnrolledDesign("richardson-lucy", pools_for(_spacing(psf), 1))


#: By the names that users choose them by.
DESIGNS = {
    "inverse": inverse_design,
    "care": care_design,
    "wiener": wiener_design,
    "wiener-kpn": kpn_design,
    "wiener-unet": gradient_design,
    "unrolled-rl": unrolled_design,
}


def _spacing(psf: Psf) -> tuple[float, ...]:
    return psf.spacing_um or (1.0,) * psf.samples.ndim


def _require_count(what: str, count: int, most: int) -> None:
    """Raise `InputError` unless a network may have so many."""
    name = f"The number of {what}"
    require_number(name, count, least=1)
    require(count <= most, f"{name} must be at most {most}, not {count}")


def _require_pools(pools: Sequence[Sequence[int]]) -> None:
    """Raise `InputError` unless each level pools the same two or three axes."""
    require(
        len({len(pool) for pool in pools}) == 1 and len(pools[0]) in (2, 3),
        "Each level of a network pools the same two or three axes",
    )
    _require_count("levels", len(pools), MOST_LEVELS)
    for by in chain(*pools):
        _require_count("voxels that are pooled", by, MOST_POOLED)
