"""What a run of the dock does in its thread: from the wishes in the panels to a layer.

The generators here are made for `jobs.Job`: they yield `Step` and return a `Restored` and the
layer that shows it. Nothing here touches the viewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_deconv import pipeline, volumes
from napari_deconv.engines.memory import free_memory_bytes
from napari_deconv.files.reading import read_pyramid, read_voxels
from napari_deconv.files.recipe import PsfFile, Recipe, TrainedModel, digest
from napari_deconv.files.work_folder import WorkFolder
from napari_deconv.imaging.optics import Optics
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.psf_image import psf_from_image
from napari_deconv.imaging.stack import KnownOptics, Stack
from napari_deconv.imaging.value import InputError
from napari_deconv.planning import Plan, plan
from napari_deconv.restoration.restorer import Step

from . import layers
from .channels_panel import Chosen
from .filling import Canvas
from .method_panel import Settings

Source = Optics | PsfFile | Psf | Stack
Result = tuple[pipeline.Restored, layers.LayerTuple]
Work = Callable[[], Generator[Step, None, Result]]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the panels describe: the image, its PSF, the method, and which parts of it.

    Parameters
    ----------
    stack : Stack
        All that is in the layer.
    source : Optics, PsfFile, Psf or Stack
        Where the PSF comes from; a stack is the image of a bead.
    settings : Settings
        Method, background and engine.
    chosen : Chosen
        Channels and times, and the optics of each channel.
    channel_psfs : tuple
        Of a recipe that was loaded, in place of what `chosen` says of the optics.
    seam_tolerance : float
        As in the recipe.
    """

    stack: Stack
    source: Source
    settings: Settings
    chosen: Chosen = Chosen()  # noqa: RUF009 - a frozen value
    channel_psfs: tuple[Optics | PsfFile | Psf, ...] = ()
    seam_tolerance: float = Recipe.seam_tolerance

    def recipe(self) -> Recipe:
        """Return the recipe; a bead in a layer becomes a PSF on the voxels of the image."""
        source, stack, settings = self.source, self.stack, self.settings
        if isinstance(source, Stack):
            spacing = source.grid.spacing_um if source.grid else None
            source = psf_from_image(np.asarray(source.data), spacing, stack.grid)
        psfs = self.channel_psfs
        if not psfs and isinstance(source, Optics):
            psfs = psfs_of_channels(source, self.chosen.optics)
        return Recipe(
            psfs[0] if psfs else source,
            settings.method,
            settings.background,
            settings.engine,
            channel_psfs=psfs,
            channels=self.chosen.channels,
            times=self.chosen.times,
            seam_tolerance=self.seam_tolerance,
        )

    def signed(self) -> Recipe:
        """Return a recipe to keep: it knows its files by their content."""
        recipe = self.recipe()
        psfs = tuple(map(_signed, recipe.channel_psfs))
        method = _signed(recipe.method)
        return replace(recipe, psf=_signed(recipe.psf), method=method, channel_psfs=psfs)

    @property
    def header(self) -> Stack:
        """The restored stack, without its voxels."""
        chosen = {"C": self.chosen.channels, "T": self.chosen.times}
        shape = tuple(
            len(chosen.get(axis, ())) or n
            for axis, n in zip(self.stack.axes, self.stack.shape, strict=True)
        )
        return Stack(
            np.broadcast_to(np.float32(0), shape), self.stack.axes, self.stack.grid, self.stack.name
        )

    @property
    def result_bytes(self) -> int:
        """What the restored stack takes."""
        return 4 * math.prod(self.header.shape)


def psfs_of_channels(optics: Optics, known: tuple[KnownOptics, ...]) -> tuple[Optics, ...]:
    """Return the optics with the wavelengths of each channel; nothing where they are the same.

    Raises
    ------
    InputError
        If a channel's wavelengths do not go with the microscope.
    """
    found = []
    for number, channel in enumerate(known, start=1):
        waves = {"emission_nm": channel.emission_nm}
        if optics.excitation_nm is not None:  # of a microscope where it matters
            waves["excitation_nm"] = channel.excitation_nm
        try:
            given = {name: value for name, value in waves.items() if value is not None}
            found.append(replace(optics, **given))  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(f"Channel {number}: {error}") from error
    return tuple(found) if any(psf != optics for psf in found) else ()


def _signed(value: Any) -> Any:
    if isinstance(value, PsfFile | TrainedModel) and value.sha256 is None:
        return replace(value, sha256=digest(Path(value.path)))
    return value


@dataclass(frozen=True, eq=False)
class Promise:
    """What a run will take.

    Parameters
    ----------
    plan : Plan
        Of the run, with the part of the free memory that it may use.
    result_bytes : int
        What the result takes.
    fits : bool
        Whether the result fits in memory beside the run; else it must go into a file.
    """

    plan: Plan
    result_bytes: int
    fits: bool


def promised(wanted: Wanted, fraction: float) -> Promise:
    """Return what a run will take; nothing is run.

    Raises
    ------
    InputError
        If neither a run in memory nor one into a file would work.
    """
    budget, result, recipe = budget_bytes(fraction), wanted.result_bytes, wanted.recipe()
    planned = partial(plan, wanted.stack, recipe, memory_bytes=budget)
    if result < budget:
        try:
            return Promise(planned(), result, fits=True)
        except InputError:
            pass  # Perhaps it works with the result in a file; else that says why not.
    return Promise(planned(into_file=True), result, fits=False)


def budget_bytes(fraction: float) -> int:
    """Return the memory that a run may take: a part of what is free."""
    return int(fraction * free_memory_bytes())


def in_memory(wanted: Wanted, placement: layers.Placement, fraction: float) -> tuple[Canvas, Work]:
    """Return what is seen of a run while it goes on, and its work: the result is in memory."""
    sink = pipeline.ArraySink(wanted.header.shape)

    def work() -> Generator[Step, None, Result]:
        yield Step(0, 1, "preparing the PSF")
        restored = yield from pipeline.restoring(
            wanted.stack, wanted.signed(), memory_bytes=budget_bytes(fraction), sink=sink
        )
        return restored, layers.result_layer(restored, placement)

    return Canvas.whole(sink.array, placement), work


def into_file(
    wanted: Wanted, placement: layers.Placement, fraction: float, path: Path
) -> tuple[Canvas, Work]:
    """Return what is seen of a run while it goes on, and its work: the result is in a file.

    The work reads each finished tile back, in its thread, for an overview.
    """
    canvas = Canvas.overview(wanted.header, placement)

    def work() -> Generator[Step, None, Result]:
        yield Step(0, 1, "preparing the PSF")
        steps = volumes.restoring_file(
            wanted.stack, path, wanted.signed(), memory_bytes=budget_bytes(fraction)
        )
        finished = yield from _drawn(steps, canvas, path, wanted.stack.axes)
        levels = read_pyramid(finished.written.path)
        header = wanted.stack.selected(wanted.chosen.channels, wanted.chosen.times)
        whole = levels[0].data.reshape(wanted.header.shape)
        restored = pipeline.Restored(
            replace(header, data=whole, name=f"{header.name} restored"),
            finished.psf,
            finished.recipe,
            finished.record,
        )
        return restored, layers.pyramid_layer(restored, levels, placement)

    return canvas, work


def _drawn(
    steps: Generator[Step, None, volumes.Finished], canvas: Canvas, path: Path, axes: str
) -> Generator[Step, None, volumes.Finished]:
    """Pass steps on, each finished tile drawn before; return what they return."""
    folder = WorkFolder.of(path)
    try:
        while True:
            step = next(steps)
            if step.place is not None:
                canvas.add(step.place, read_voxels(folder.voxels(axes), step.place, path.name))
            yield step
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def fit_in_words(restored: pipeline.Restored) -> str:
    """Return the last I-divergence in words."""
    last = [block.divergences[-1] for block in restored.record.blocks if block.divergences]
    if not last:
        return "One step; no likelihood to follow."
    return (
        f"I-divergence {last[0]:.3g} per voxel (about 0.5 is photon noise alone, "
        "for data in photons)"
    )
