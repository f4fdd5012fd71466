"""A region restored while the user looks on: a quick guess at once, then what a run would give.

`Preview` keeps what stays the same while sliders move. `Preview.frames` restores a region with
one PSF and one method, in up to three stages:

1. Wiener on a small part around the region: one division of a transform that is kept.
2. Richardson-Lucy on the same small part, a few iterations; or a trained network on it.
3. The method as set, on as much of the block as the region depends on: the run's own result.

In the first two the block ends nearby and is continued smoothly, which is what makes them
quick and not exact. To cancel, stop iterating.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.engines.opened import OpenedEngine
from napari_deconv.imaging.noise import noise_of
from napari_deconv.imaging.psf import Psf, fitted_to
from napari_deconv.imaging.region import Region
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import require, require_number
from napari_deconv.restoration.blur import transfer_function
from napari_deconv.restoration.continued import continued
from napari_deconv.restoration.observing import observe, require_intensities
from napari_deconv.restoration.restorer import Observation, Restorer, finite_estimate
from napari_deconv.restoration.richardson_lucy import RichardsonLucy
from napari_deconv.restoration.wiener import Transformed, Wiener, transformed
from napari_deconv.surveying import background_of, facts_of

Float = npt.NDArray[np.float32]
Kind = Literal["wiener", "refining", "full"]

#: Voxels that the small part has more than the region, half of them on each side. Measured for
#: widefield PSFs of NA 1.2 and 1.4: 20 iterations then correlate by 0.99 with the run's.
MARGIN = (16, 32, 32)
#: Most iterations on the small part.
QUICK_ITERATIONS = 20
#: A weight chosen by the noise shows more detail and more noise than Richardson-Lucy does after
#: some 20 iterations; times this, the two correlate best (0.91 to 0.97 in three simulated cases,
#: from 50 to 2000 photons, where the raw image does by 0.53 to 0.85).
CALMER = 30.0
#: Bisections for such a weight, which is none to be exact about: within 8 %.
ROUGHLY = 6
#: Seconds between two pictures of one stage.
PERIOD = 0.2


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment of a preview.

    Parameters
    ----------
    region : Region
        What is shown.
    data : ndarray of float32, the region's shape, or None
        The restored region, in counts above the background; None where there is no new picture.
    kind : {"wiener", "refining", "full"}
        The first guess, on the way, or what a run gives there.
    iterations : int
        Iterations done in this stage.
    divergences : tuple of float
        I-divergence per voxel at each of them, of the part of the block that was looked at.
    note : str
        What is seen, for the user.
    """

    region: Region
    data: Float | None
    kind: Kind
    iterations: int
    divergences: tuple[float, ...]
    note: str


@dataclass(frozen=True, eq=False)
class _View:
    """A part of the block as the methods see it; a small one continued to repeat smoothly."""

    region: Region
    part: Region
    counts: Float
    image: Float
    is_exact: bool

    def cut(self, restored: Float) -> Float:
        """Return the region as an array of its own."""
        return restored[self.region.within(self.part)].copy()


def needed_part(
    region: Region, block_shape: tuple[int, ...], halo: tuple[int, ...] | None
) -> Region:
    """Return the part of a block that a region's restoration depends on.

    Parameters
    ----------
    region : Region
        What is wanted.
    block_shape : tuple of int
        Shape of the block, (Z, Y, X) or (Y, X).
    halo : tuple of int or None
        As `Restorer.halo` gives it.

    Notes
    -----
    All planes, as a widefield microscope does not tell them apart where the sample has no
    detail in them. An axis is taken whole, too, where the halo reaches one of its ends: light
    from beyond the image may stand for either end (`restoration.blur`).

    Examples
    --------
    >>> needed_part(Region((8, 90, 0), (8, 20, 20)), (64, 200, 200), (10, 30, 30))
    Region(start=(0, 60, 0), shape=(64, 80, 200))
    """
    everything = Region.whole(block_shape)
    if halo is None:
        return everything
    grown = region.grown(halo, block_shape)
    starts, sizes = list(grown.start), list(grown.shape)
    for axis, (h, most) in enumerate(zip(halo, block_shape, strict=True)):
        at_an_end = starts[axis] == 0 or starts[axis] + sizes[axis] == most
        is_depth = axis == len(block_shape) - 3
        if h > 0 and (at_an_end or is_depth):
            starts[axis], sizes[axis] = 0, most
    return Region(tuple(starts), tuple(sizes))


class Preview:
    """One block of a stack, ready to be restored region by region.

    Parameters
    ----------
    stack : Stack
        Any axes; of a lazy stack, only what is needed is read.
    block : tuple of int
        Which channel and time point, as `Stack.blocks` counts them.
    background : float or "auto"
        As in the recipe.
    engine : str
        As in the recipe; opened when Richardson-Lucy first runs.

    Raises
    ------
    InputError
        If the stack has no such block, or does not hold intensities.

    Notes
    -----
    The stack must not change meanwhile. `close` frees the engine.
    """

    def __init__(
        self,
        stack: Stack,
        block: tuple[int, ...] = (),
        *,
        background: float | Literal["auto"] = "auto",
        engine: str = "auto",
    ) -> None:
        require_intensities(np.dtype(stack.data.dtype))
        if background != "auto":
            require_number("The background (a number, or 'auto')", background)
        require(block in stack.blocks(), f"The stack {stack.axes} has no block {block}")
        self._stack, self._index = stack, block
        self._asked_background, self._asked_engine = background, engine
        self._view: _View | None = None
        self._transformed: tuple[_View, Transformed] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block, (Z, Y, X) or (Y, X)."""
        return self._stack.spatial_shape

    @cached_property
    def background(self) -> float:
        """Background of the block, in counts."""
        return background_of(self._stack, self._index, self._asked_background)

    @cached_property
    def mean(self) -> float:
        """Mean of the block, in counts, negative ones taken as 0; where a run starts."""
        *_, facts = facts_of(self._stack, self._index)
        assert facts is not None  # of the last piece
        return facts.mean

    @cached_property
    def _engine(self) -> OpenedEngine:
        return OpenedEngine(self._asked_engine)

    def close(self) -> None:
        """Free the engine and what was kept; a later call opens and reads them again."""
        self._view = self._transformed = None
        if "_engine" in self.__dict__:
            self._engine.engine.release()
            del self._engine

    def frames(self, region: Region, psf: Psf, method: Restorer) -> Iterator[Frame]:
        """Restore a region, ever better; the last frame is what a run gives there.

        Parameters
        ----------
        region : Region
            What is shown.
        psf : Psf
            On the voxels of the stack; see `psf_sources.prepare_psf`.
        method : Restorer
            As in the recipe.

        Yields
        ------
        Frame
            The first is Wiener's; then one an iteration, most without a picture, so that the
            iteration can be stopped at any time.

        Raises
        ------
        InputError
            If the region does not lie in the block, or its voxels are not finite.

        Notes
        -----
        These are `first_frame`, `quick_frames` and then, unless those end in the full result,
        `exact_frames`. Where the free memory is too small for those, the last frame says so.
        """
        self._require_within(region)
        return self._frames(region, psf, method)

    def _frames(self, region: Region, psf: Psf, method: Restorer) -> Iterator[Frame]:
        yield self.first_frame(region, psf, method)
        done = 0
        for frame in self.quick_frames(region, psf, method):
            yield frame
            if frame.kind == "full":
                return
            done = frame.iterations
        yield from self.exact_frames(region, psf, method, done)

    def first_frame(self, region: Region, psf: Psf, method: Restorer) -> Frame:
        """Return Wiener's frame; in the place of another method, calmer and not negative."""
        psf = self._fitted(region, psf)
        view = self._quick_view(region, psf, method)
        stands_in = not isinstance(method, Wiener)
        edges = method.edges if isinstance(method, RichardsonLucy) else Wiener().edges
        wiener = method if isinstance(method, Wiener) else Wiener(edges=edges)
        if not view.is_exact:
            wiener = replace(wiener, edges="circular")
        image = self._kept_transform(view, wiener.work_shape(view.image.shape, psf.shape))
        otf = transfer_function(psf.samples, image.shape)
        weight = wiener.regularization
        if weight == "auto":
            weight = CALMER * image.weight(otf, ROUGHLY) if stands_in else image.weight(otf)
        data = view.cut(image.restored(otf, weight))
        if stands_in:
            np.maximum(data, 0, out=data)
        note = f"a first look: Wiener, regularization {weight:.2g}"
        return Frame(view.region, data, "wiener", 1, (), note)

    def quick_frames(self, region: Region, psf: Psf, method: Restorer) -> Iterator[Frame]:
        """Yield some iterations on a small part; none for Wiener, whose first frame shows as much.

        Where the region needs no more around it, they are the run's own, and the last frame is
        the full result.
        """
        psf = self._fitted(region, psf)
        view = self._quick_view(region, psf, method)
        if view.is_exact:
            yield from self._refined(view, psf, method)
        elif isinstance(method, RichardsonLucy):
            most = min(method.iterations, QUICK_ITERATIONS)
            yield from self._refined(
                view, psf, replace(method, edges="circular", iterations=most, automatic_stop=False)
            )
        elif not isinstance(method, Wiener):
            yield from self._refined(view, psf, method)

    def exact_frames(
        self, region: Region, psf: Psf, method: Restorer, seen: int = 0
    ) -> Iterator[Frame]:
        """Yield what a run goes through, from the picture after `seen` iterations on."""
        psf = self._fitted(region, psf)
        part = needed_part(region, self.shape, method.halo(psf))
        voxels = math.prod(method.work_shape(part.shape, psf.shape))
        missing = 4 * method.volumes * voxels - free_memory_bytes()
        if missing > 0:
            note = f"the full result here takes {missing / 1e9:.1f} GB more memory than is free"
            yield Frame(region, None, "refining", seen, (), note)
            return
        yield from self._refined(self._exact_view(region, part), psf, method, seen)

    def _fitted(self, region: Region, psf: Psf) -> Psf:
        self._require_within(region)
        return fitted_to(psf, len(self.shape))

    def _require_within(self, region: Region) -> None:
        inside = len(region.shape) == len(self.shape) and all(
            s + n <= most for s, n, most in zip(region.start, region.shape, self.shape, strict=True)
        )
        require(
            inside,
            f"The region of {region.shape} voxels from {region.start} on does not lie in the "
            f"image of {self.shape} voxels",
        )

    def _quick_view(self, region: Region, psf: Psf, method: Restorer) -> _View:
        """Return the view of the first frames: exact where that is as quick."""
        part = needed_part(region, self.shape, method.halo(psf))
        voxels = math.prod(method.work_shape(part.shape, psf.shape))
        is_exact = voxels <= math.prod(_small_shape(region))
        return self._kept_view(region, part if is_exact else None)

    def _kept_view(self, region: Region, part: Region | None) -> _View:
        """Return the exact view on `part`, or that on the small part; the last one is kept."""
        kept, is_exact = self._view, part is not None
        if part is None:
            part = region.grown([n // 2 for n in _margin(region)], self.shape)
        if kept is None or (kept.region, kept.part, kept.is_exact) != (region, part, is_exact):
            kept = self._exact_view(region, part)
            if not is_exact:
                image = continued(kept.counts, _small_shape(region))
                kept = replace(kept, image=image, is_exact=False)
            self._view = kept
        return kept

    def _exact_view(self, region: Region, part: Region) -> _View:
        counts = np.asarray(self._stack.data[self._index][part.slices])
        checked_counts = observe(counts, Psf(np.ones((1,) * counts.ndim))).image
        return _View(region, part, checked_counts, checked_counts, is_exact=True)

    def _kept_transform(self, view: _View, shape: tuple[int, ...]) -> Transformed:
        """Return the transform of a view's image on `shape`; the last one is kept."""
        kept = self._transformed
        if kept is None or kept[0] is not view or kept[1].shape != shape:
            image = view.image - np.float32(self.background)
            kept = view, transformed(continued(image, shape), noise_of(view.counts))
            self._transformed = kept
        return kept[1]

    def _refined(self, view: _View, psf: Psf, method: Restorer, seen: int = 0) -> Iterator[Frame]:
        """Run the method on a view; pictures after no more than `seen` iterations are left out."""
        observation = Observation(view.image, psf, self.background, whole_mean=self.mean)
        divergences: list[float] = []
        word = "iteration" if isinstance(method, RichardsonLucy) else "step"
        shown = time.perf_counter()
        for step in self._engine.steps(method, observation):
            if step.divergence is not None:
                # Where the CPU took over, it began again.
                divergences[step.done - 1 :] = [step.divergence]
            is_full = view.is_exact and step.estimate is not None
            note = step.note if is_full else f"{word} {step.done} of {step.total}"
            data = None
            if step.estimate is not None:
                data = view.cut(finite_estimate(step))
            elif (
                step.peek is not None and step.done > seen and time.perf_counter() - shown >= PERIOD
            ):
                data, shown = view.cut(step.peek()), time.perf_counter()
            kind: Kind = "full" if is_full else "refining"
            yield Frame(view.region, data, kind, step.done, tuple(divergences), note)


def _margin(region: Region) -> tuple[int, ...]:
    return MARGIN[-len(region.shape) :]


def _small_shape(region: Region) -> tuple[int, ...]:
    """Return the shape that the first stages work on."""
    from scipy.fft import next_fast_len

    wanted = zip(region.shape, _margin(region), strict=True)
    return tuple(next_fast_len(n + more, real=True) for n, more in wanted)
