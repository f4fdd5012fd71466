"""The one road: a stack and a recipe in, a restored stack and a record out.

`restore` does it for an array in a script. `restoring` does it for a stack, step by step, for
whoever shows progress and wants to cancel; `restore_stack` runs it to its end.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_deconv import engines
from napari_deconv.engines.memory import free_memory_bytes, peak_memory_bytes
from napari_deconv.files.export import Written, write_stack
from napari_deconv.files.reading import read_stack
from napari_deconv.files.recipe import PsfFile, Recipe, digest
from napari_deconv.imaging.grid import Grid
from napari_deconv.imaging.noise import background_level
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf, fitted_to
from napari_deconv.imaging.psf_image import psf_from_image
from napari_deconv.imaging.psf_models import compute_psf
from napari_deconv.imaging.stack import Stack
from napari_deconv.imaging.value import InputError, Value, first_line, require
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import (
    Observation,
    Restorer,
    Step,
    observe,
    require_intensities,
)
from napari_deconv.restoration.richardson_lucy import RichardsonLucy

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BlockRecord(Value):
    """What happened to one block (one channel at one time)."""

    index: tuple[int, ...]
    background: float
    iterations: int
    stop_reason: str
    divergences: tuple[float, ...]


@dataclass(frozen=True)
class Record(Value):
    """What happened in a run: kept with the result, beside its recipe."""

    engine: str
    device: str
    seconds: float
    peak_memory_bytes: int
    psf_shape: tuple[int, ...]
    blocks: tuple[BlockRecord, ...]
    notes: tuple[str, ...]
    version: str


@dataclass(frozen=True, eq=False)
class Restored:
    """The result of a run: the restored stack, the PSF used, the recipe and the record."""

    stack: Stack
    psf: Psf
    recipe: Recipe
    record: Record


def restore(
    image: npt.ArrayLike,
    psf: Psf | npt.ArrayLike,
    /,
    *,
    method: Restorer = RichardsonLucy(),  # noqa: B008 - a frozen value
    background: float = 0.0,
    engine: str = "auto",
) -> Float:
    """Restore one image.

    Parameters
    ----------
    image : array, (Z, Y, X) or (Y, X)
        Measured counts of any real type.
    psf : Psf or array
        Point spread function on the voxels of the image, centre at n//2; scaled to unit sum.
    method : Restorer
        `RichardsonLucy(...)` or `Wiener(...)`.
    background : float
        Counts that are there without light from the sample; not part of the result.
    engine : {"auto", "cpu", "opencl", "torch"}
        Where to run.

    Returns
    -------
    ndarray of float32
        Same shape as `image`, in counts above the background.

    Raises
    ------
    InputError
        If the image, the PSF or an option is not usable.

    Warns
    -----
    UserWarning
        Where the image was changed before use (negative values) or looks odd.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((9, 9)); image[3, 5] = 100
    >>> result = restore(image, np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), engine="cpu")
    >>> round(float(result[3, 5]), 3)
    100.0
    """
    given = psf if isinstance(psf, Psf) else Psf(np.asarray(psf))
    observation = observe(image, given, background)
    for note in observation.notes:
        if note not in given.notes:  # those were there to be read when the PSF was made
            warnings.warn(note, stacklevel=2)
    opened = engines.open_engine(engine)
    try:
        for last in method.steps(observation, opened):  # noqa: B007 - the last is what counts
            pass
    finally:
        opened.release()
    return checked(last)


def restore_stack(stack: Stack, recipe: Recipe) -> Restored:
    """Restore a stack by a recipe, to its end; see `restoring`."""
    return drained(restoring(stack, recipe), lambda step: None)


def drained(run: Generator[Step, None, Restored], show: Callable[[Step], None]) -> Restored:
    """Run what `restoring` gave to its end, each step shown; return its value."""
    try:
        while True:
            show(next(run))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        run.close()


def restoring(
    stack: Stack, recipe: Recipe, *, memory_fraction: float = 1.0
) -> Generator[Step, None, Restored]:
    """Restore a stack by a recipe, step by step.

    Parameters
    ----------
    stack : Stack
        Any axes; each channel and time point is a block, restored in turn.
    recipe : Recipe
        What to do.
    memory_fraction : float
        Part of the free memory that the run may take.

    Yields
    ------
    Step
        Counted over all blocks. To cancel, stop iterating: `close` frees the device.

    Returns
    -------
    Restored
        The value of the generator.

    Raises
    ------
    InputError
        If the stack, the PSF or the recipe is not usable.
    """
    started = time.perf_counter()
    check_stack(stack)
    yield Step(0, 1, "preparing the PSF")
    psf = prepare_psf(recipe.psf, stack)
    yield Step(0, 1, "opening the engine (the first use of a GPU compiles for some seconds)")
    needed = memory_needed_bytes(stack, recipe.method, psf.shape)
    device = OpenedEngine(recipe.engine, lambda: _require_memory(needed, memory_fraction))
    try:
        yield Step(0, 1, f"running on {engines.reason(device.engine, recipe.engine)}")
        data, blocks, notes = yield from _restored_blocks(stack, recipe, psf, device)
        record = Record(
            engine=device.engine.name,
            device=device.engine.device,
            seconds=round(time.perf_counter() - started, 3),
            peak_memory_bytes=peak_memory_bytes(),
            psf_shape=psf.shape,
            blocks=blocks,
            notes=(*psf.notes, *notes, *device.notes),
            version=_version(),
        )
    finally:
        device.engine.release()
    restored = replace(stack, data=data, name=f"{stack.name} restored".strip())
    return Restored(restored, psf, recipe, record)


def _restored_blocks(
    stack: Stack, recipe: Recipe, psf: Psf, device: OpenedEngine
) -> Generator[Step, None, tuple[Float, tuple[BlockRecord, ...], tuple[str, ...]]]:
    """Restore block by block; return the voxels, what happened to each block, and the notes."""
    indices = list(stack.blocks())
    result = np.empty(stack.shape, np.float32)
    backgrounds = _backgrounds(stack, recipe)
    records: list[BlockRecord] = []
    notes: list[str] = []
    for count, index in enumerate(indices):
        level = backgrounds[stack.channel_of(index)]
        observation = observe(np.asarray(stack.data[index]), psf, level)
        notes += [note for note in observation.notes if note not in (*psf.notes, *notes)]
        divergences: list[float] = []
        step = Step(0, 1)
        for step in device.steps(recipe.method, observation):
            if step.divergence is not None:
                # Where the CPU took over, it began again.
                divergences[step.done - 1 :] = [step.divergence]
            yield _counted(step, count, len(indices))
        result[index] = checked(step)
        records.append(BlockRecord(index, level, step.done, step.note, tuple(divergences)))
    return result, tuple(records), tuple(notes)


def export(
    restored: Restored,
    path: str | Path,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    ome_zarr_version: str = "0.5",
) -> Written:
    """Write a result with its recipe and record inside; see `files.export.write_stack`."""
    return write_stack(
        path,
        restored.stack,
        dtype=dtype,
        recipe=restored.recipe.to_dict(),
        record=restored.record.to_dict(),
        overwrite=overwrite,
        ome_zarr_version=ome_zarr_version,
    )


class OpenedEngine:
    """The engine of a run; one that was chosen by itself and fails gives way to the CPU."""

    def __init__(self, asked: str, check_memory: Callable[[], None]) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            self.engine: Engine = engines.open_engine(asked)
        self.notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        self._may_fall_back = asked == "auto" and self.engine.name != "cpu"
        self._check_memory = check_memory
        # A GPU that runs out of memory says so, and the CPU takes over; a CPU does not say so.
        if self.engine.name == "cpu":
            check_memory()

    def steps(self, method: Restorer, observation: Observation) -> Iterator[Step]:
        """Yield the method's steps; where the CPU takes over, they begin again."""
        try:
            yield from method.steps(observation, self.engine)
        except InputError:
            raise
        except Exception as error:
            # Drivers fail in every way there is: out of memory, lost device, bad kernels.
            if not self._may_fall_back:
                raise
            self.notes.append(
                f"{self.engine.device} failed ({first_line(error)}); the CPU took over"
            )
            self.engine.release()
            self.engine, self._may_fall_back = engines.open_engine("cpu"), False
            self._check_memory()
            yield from method.steps(observation, self.engine)


def _counted(step: Step, block: int, blocks: int) -> Step:
    """Return `step` counted over all blocks, without its estimate."""
    where = f"block {block + 1} of {blocks}" if blocks > 1 else ""
    text = ", ".join(part for part in (where, step.note) if part)
    # A block that stops early counts as done to its end.
    done = step.total if step.estimate is not None else step.done
    return Step(block * step.total + done, blocks * step.total, text, step.divergence)


def checked(last: Step) -> Float:
    """Return the estimate of a run's last step; RuntimeError if it is not finite."""
    if last.estimate is None or not np.isfinite(last.estimate).all():
        raise RuntimeError(
            "The result is not finite: the device computed wrongly. Run again with the engine "
            "'cpu', and report this"
        )
    return last.estimate


def check_stack(stack: Stack) -> None:
    """Raise `InputError` where there is nothing in the stack to restore."""
    require_intensities(np.dtype(stack.data.dtype))
    if isinstance(stack.data, np.ndarray):
        require(
            bool(stack.data.any()),
            "The image is zero everywhere: there is nothing to restore. Check that the right "
            "file, layer or channel was chosen",
        )


def prepare_psf(source: Optics | PsfFile | Psf, stack: Stack) -> Psf:
    """Return the PSF of a recipe on the voxels of a stack.

    Raises
    ------
    InputError
        If the voxel size that it needs is not known, or the PSF is not usable.
    """
    grid = stack.grid
    ndim = len(stack.spatial_axes)
    if isinstance(source, Optics):
        require(
            grid is not None,
            "The voxel size of the image is unknown, so no PSF can be computed; give it "
            "(--voxel-size on the command line, the layer's scale and units in napari)",
        )
        return compute_psf(source, grid)  # type: ignore[arg-type]
    if isinstance(source, PsfFile):
        return fitted_to(psf_of_file(source, grid), ndim)
    if source.spacing_um is None or grid is None or _same(source.spacing_um, grid):
        return fitted_to(source, ndim)
    return fitted_to(psf_from_image(source.samples, source.spacing_um, grid, background=0.0), ndim)


def _same(spacing_um: tuple[float, ...], grid: Grid) -> bool:
    wanted = grid.spacing_um[-len(spacing_um) :]
    return len(spacing_um) == len(wanted) and np.allclose(spacing_um, wanted, rtol=1e-3)


def psf_of_file(source: PsfFile, grid: Grid | None) -> Psf:
    """Return the PSF in an image file on the voxels of `grid`; see `psf_from_image`."""
    found = read_stack(source.path)
    require(
        found.axes in ("ZYX", "YX"),
        f"The PSF {Path(source.path).name} has the axes {found.axes}; "
        "give one with z, y and x alone (one channel, one time point)",
    )
    spacing = source.voxel_size_um or (found.grid.spacing_um if found.grid else None)
    psf = psf_from_image(found.data, spacing, grid, background=source.background)
    if source.sha256 and digest(Path(source.path)) != source.sha256:
        return psf.with_notes("PSF: the file has changed since the recipe was written")
    return psf


def _backgrounds(stack: Stack, recipe: Recipe) -> list[float]:
    return [
        background_of(stack, channel, recipe.background) for channel in range(stack.channel_count())
    ]


def background_of(stack: Stack, channel: int, background: float | str) -> float:
    """Return the background of a channel in counts: one decision for all its time points.

    Parameters
    ----------
    stack : Stack
        What is restored.
    channel : int
        0 where the stack has no channels.
    background : float or "auto"
        As in the recipe; "auto" estimates it on the first time point.
    """
    if background != "auto":
        return float(background)
    first = next(index for index in stack.blocks() if stack.channel_of(index) == channel)
    return background_level(np.nan_to_num(np.asarray(stack.data[first])))


def memory_needed_bytes(stack: Stack, method: Restorer, psf_shape: tuple[int, ...]) -> int:
    """Return what a run needs at its peak: the volumes of the method, and the result."""
    volume = math.prod(method.work_shape(stack.spatial_shape, psf_shape))
    return int(4 * (method.volumes * volume + math.prod(stack.shape)))


def _require_memory(needed_bytes: int, fraction: float) -> None:
    free = int(fraction * free_memory_bytes())
    require(
        needed_bytes <= free,
        f"Restoring needs about {needed_bytes / 1e9:.1f} GB of memory, but "
        f"{free / 1e9:.1f} GB may be used; close other programs or crop the stack",
    )


def _version() -> str:
    from napari_deconv import __version__

    return __version__
